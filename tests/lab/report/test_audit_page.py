"""The page of audits on made-up findings whose answers are known."""

import csv
import io
import math

import numpy as np
import pytest
from PIL import Image

from rumjax.lab.report import audits, exports
from rumjax.lab.report.audits import example_figures, method_figures, tables
from rumjax.lab.workdir import WorkDirectory
from tests.lab.report.made_up_audits import (
    EXAMPLES,
    METHODS,
    collected,
    experiment,
    fill,
    findings,
    write_audit,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with WorkDirectory(tmp_path_factory.mktemp("audit") / "run") as work:
        fill(work)
        yield work


@pytest.fixture(scope="module")
def written(place):
    return audits.write(place, experiment())


@pytest.fixture(scope="module")
def audited(place):
    return audits.collect(place, experiment())


@pytest.fixture
def fresh(tmp_path):
    with WorkDirectory(tmp_path / "run") as work:
        yield work


def of(page, name):
    return next(table for table in page.tables if table.name == name)


# Sentences


def test_the_sentences_hold_the_claims(written):
    first, *others = written.answers
    assert first.startswith("Yes, for 3 of 4 methods, at 5 % for all 40 comparisons together")
    assert "odd (2 of 10 audits)" in first
    assert first.endswith("no audit tells fine from retraining.")
    rest = " ".join(others)
    assert "trained or unlearned 1,128 models and reused 192" in rest
    assert "192 models for each method" in rest
    assert "oracles have 0.400 [0.370, 0.415] on S, and 0.000 [−0.030, 0.015] once" in rest
    assert len(others) == 4


def test_the_answer_is_a_matrix_of_methods_and_audits(written, place):
    matrix = written.answer
    names = [row[0] for row in matrix.rows]
    assert names == ["fine", "odd", "sly_rum_f", "loud"]
    assert set(matrix.rows[0][1:]) == {"not told"}
    assert set(matrix.rows[3][1:]) == {"told"}
    source = (place.path / "audit.html").read_text()
    assert source.index("Setting") > source.index("sly_rum_f") > source.index("by Holm")
    assert exports.markdown(matrix) in (place.path / "audit.md").read_text()
    assert place.has("tables/audit_matrix.csv")


# Tables


def test_the_best_of_each_audit_is_bold_and_the_calibration_is_on_top(written):
    table = of(written, "audit_ranking")
    names = [row[0] for row in table.rows]
    assert names == ["retrained", "original", "fine", "odd", "sly_rum_f", "loud"]
    best = {table.columns[column]: names[row] for row, column in table.best}
    assert best["U-LiRA accuracy"] == "fine"
    assert best["MIA gap"] == "sly_rum_f"
    ranks = of(written, "audit_ranks")
    assert ranks.rows[0][ranks.columns.index("MIA gap")] == 2


def test_audits_are_exported_with_both_ends_of_their_intervals(written, place):
    path = place.path / "tables/audit_ranking.csv"
    row = next(csv.DictReader(io.StringIO(path.read_text())))
    both = (float(row["U-LiRA accuracy low"]), float(row["U-LiRA accuracy high"]))
    assert both == (0.47, 0.515)
    assert float(row["MIA gap half-width"]) > 0
    rows = list(csv.DictReader(io.StringIO((place.path / "audit.csv").read_text())))
    assert len(rows) == 6 * len(findings(0.5))
    assert {each["low"] for each in rows if each["measure"] == "mean_epsilon"} == {"nan"}


def test_every_attack_has_a_row_for_everyone(written):
    table = of(written, "audit_attacks")
    assert len(table.rows) == len(tables.ATTACKS) * 6
    assert table.rows[0][:2] == ("U-LiRA", "retrained")
    assert table.rows[0][3].value == 0.5
    lira = next(row for row in table.rows if row[0] == "LiRA")
    assert lira[3] is None  # it has no threshold of its own


# The page


def test_the_page_is_written_with_all_that_it_shows(written, place):
    text, source = ((place.path / f"audit.{each}").read_text() for each in ("md", "html"))
    assert len(written.tables) == 8
    assert len(written.pictures) == 5
    for answer in written.answers:
        assert answer in text
    for picture in written.pictures:
        assert f"figures/{picture.name}.png" in text
        assert f'id="{picture.name}"' in source
        for ending in ("png", "pdf", "csv"):
            assert place.has(f"figures/{picture.name}.{ending}")
    for table in written.tables:
        assert exports.markdown(table) in text
        for ending in ("csv", "md", "tex"):
            assert place.has(f"tables/{table.name}.{ending}")
        assert all(len(line) == len(table.columns) for line in table.rows)
    assert "nan" not in text.lower()
    assert "audit it" in source
    assert "<b>0.490 [0.460, 0.505]</b>" in source
    assert "unlearning audit" in source


def test_the_images_are_titled_with_class_part_and_memorization(audited, drawn):
    example_figures.leaks(audited)
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert len(titles) == example_figures.IMAGES
    index = EXAMPLES[-1]
    name, score = audited.scored.class_names[index % 3], audited.scored.values[index]
    assert titles[0].split("\n")[:2] == [name.replace("$", r"\$"), f"high, mem. {score:.2f}"]


def test_the_calibration_is_drawn_like_no_method(audited):
    looks = method_figures.looks(audited)
    assert len({(each.marker, each.style) for each in looks.values()}) == len(METHODS) + 2


def test_the_shares_of_examples_sum_to_one(written):
    picture = next(each for each in written.pictures if each.name == "audit_per_example")
    rows = list(csv.DictReader(io.StringIO(picture.drawn.data)))
    for name in ("retrain", "fine"):
        shares = [float(row["share"]) for row in rows if row["method"] == name]
        assert sum(shares) == pytest.approx(1)


# Partial runs


def test_before_any_audit_there_is_a_page_that_says_so(fresh):
    page = audits.write(fresh, experiment(seeds=(0,)))
    assert page.answers[0] == "There are no audits of unlearning methods yet."
    assert page.answers[-1] == (
        "There is no audit yet of retrained, original, loud, sly_rum_f, fine and odd."
    )
    assert page.tables == []
    assert page.pictures == []
    assert fresh.has("audit.html")


def test_methods_that_are_not_to_be_audited_are_not_missing(fresh):
    audited = collected(fresh, audit={"methods": ("fine",)})
    assert audited.missing == ["retrained", "original", "fine"]


def test_without_retrained_models_numbers_are_shown_and_nothing_is_ranked(fresh, drawn):
    write_audit(fresh, "fine", 0.49)
    page = audits.page(collected(fresh), True)
    assert page.answers[0].startswith("It cannot be said")
    assert page.answer is None
    assert of(page, "audit_ranking").best <= {(0, n) for n in range(1, 12)}
    assert len(drawn) == 4  # no disagreement without a run's results


def test_a_single_method_of_one_seed_with_numbers_that_are_none_has_a_page(fresh):
    fill(fresh, {"fine": METHODS["fine"]}, seeds=(0,))
    fresh.delete("scores.npz", "forget_sets.npz", "audit/original.npz", "audit/models.json")
    rates = np.array([0.0, 1.0])
    nothing = np.full(3, np.nan)
    fresh.write_arrays(
        "audit/fine.npz",
        {
            "examples": EXAMPLES[:3],
            "u_lira_per_example": nothing,
            "u_lira_fpr": rates,
            "u_lira_tpr": rates,
        },
    )
    about = fresh.read_json("audit/fine.json")
    for each in about["findings"]:
        each["value"] = math.nan if each["audit"] == "lira" else each["value"]
        each["low"] = each["value"] + 0.1 if each["audit"] == "rmia" else each["low"]
    fresh.write_json("audit/fine.json", about)
    made = experiment({"fine": ()}, seeds=(0,))
    page = audits.page(audits.collect(fresh, made), True)
    names = {each.name for each in page.pictures}
    assert names == {"audit_ranking", "audit_disagreement", "audit_roc"}
    assert all(Image.open(io.BytesIO(each.drawn.png)).verify() is None for each in page.pictures)
    assert not any("nan" in each.lower() for each in page.answers)
    assert "LiRA AUC" not in of(page, "audit_ranking").columns
    assert not any("population attack" in each for each in page.answers)


def test_the_page_can_do_without_figures(fresh):
    fill(fresh)
    page = audits.write(fresh, experiment(), figures=False)
    assert page.pictures == []
    assert not fresh.names("figures/*")
    assert "<img" not in (fresh.path / "audit.html").read_text()
