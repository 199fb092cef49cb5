"""The page of audits on made-up findings whose answers are known."""

import csv
import io
import math

import numpy as np
import pytest
from PIL import Image

from rumjax.lab.methods import Method
from rumjax.lab.report import audits, exports
from rumjax.lab.report.audits import (
    claims,
    conclusions,
    example_figures,
    method_figures,
    tables,
)
from rumjax.lab.report.audits.base import HEADLINES, MIA_GAP, U_LIRA
from rumjax.lab.report.reported import Reported
from rumjax.lab.sections import Audit
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Dataset, Splits

SEEDS = (0, 1, 2)
HEADLINE = {(each.audit, each.measure): each for each in HEADLINES}
# The accuracy of U-LiRA, and the gap of the population attack.
METHODS = {
    "loud": (0.80, 0.30),
    "sly_rum_f": (0.70, 0.01),
    "fine": (0.49, 0.02),
    "odd": (0.52, 0.25),
}
CALIBRATION = {"original": (0.95, 0.40), "retrain": (0.50, 0.02)}
EXAMPLES = np.arange(0, 60, 2, dtype=np.int32)


def experiment(methods=METHODS, seeds=SEEDS, audit=()):
    config = {
        "name": "made_up",
        "model": {"name": "cnn"},
        "training": {"epochs": 2},
        "bank": {"models": 8},
        "forget": {"by": "memorization", "size": 10},
    }
    random = np.random.default_rng(0)
    train = Dataset(random.integers(0, 256, (60, 8, 8, 1), np.uint8), np.arange(60) % 3)
    data = Splits("tiny", 3, ("shirt", "<b>bag</b>", "boot $5"), train, train, train)
    made = (
        Method(name, name, "vanilla", "whole", ("all",), {}, ("all",), {})
        for name in ("original", *methods)
    )
    return Reported(
        name="made_up",
        data=data,
        methods=tuple(made),
        seeds=seeds,
        written=config,
        model=config["model"],
        training=config["training"],
        forget_by="memorization",
        bank=config["bank"],
        audit=Audit(models=192, command="audit it", **dict(audit)),
    )


def findings(accuracy, half=0.03):
    """Intervals that reach further down than up."""

    def one(audit, measure, value):
        return {
            "audit": audit,
            "measure": measure,
            "value": value,
            "low": value - half,
            "high": value + half / 2,
        }

    found = [one("u_lira", "accuracy", accuracy)]
    for attack in tables.ATTACKS:
        found += [one(attack, "auc", accuracy), one(attack, "tpr_1_percent", accuracy / 9)]
    found.append(one("u_lira_retained", "accuracy", 0.75))
    away = abs(accuracy - 0.5)
    for form, bias in (("klom", 0.4), ("klom_corrected", 0.0)):
        found += [
            one(form, f"{place}_{measure}", away + bias)
            for place in ("forget", "retain", "test")
            for measure in ("mean", "p95", "p99")
        ]
    found += [one("challenge", name, 1 - away) for name in ("quality", "score")]
    return [*found, {"audit": "challenge", "measure": "mean_epsilon", "value": 3, "low": None}]


def write_row(work, name, gap, seed):
    row = {"mia": 0.5, "mia_gap": gap + 0.001 * seed, "tow": 1 - gap - 0.001 * seed, "zrf": 0.8}
    work.write_json(f"rows/{name}_seed{seed}.json", {"row": row, "curve": []})


def write_audit(work, name, accuracy):
    about = {"name": name, "models": 192, "seeds": len(SEEDS), "findings": findings(accuracy)}
    work.write_json(f"audit/{name}.json", about)
    rates = np.linspace(0, 1, 20)
    curves = {f"{attack}_fpr": rates for attack in method_figures.ROC}
    curves |= {f"{attack}_tpr": rates**0.5 for attack in method_figures.ROC}
    each = np.clip(accuracy + np.linspace(-0.2, 0.2, len(EXAMPLES)), 0, 1)
    each[0] = np.nan
    work.write_arrays(f"audit/{name}.npz", examples=EXAMPLES, u_lira_per_example=each, **curves)


def fill(work, methods=METHODS, seeds=SEEDS):
    for name, (accuracy, gap) in (methods | CALIBRATION).items():
        write_audit(work, name, accuracy)
        for seed in seeds:
            write_row(work, "retrain_second" if name == "retrain" else name, gap, seed)
    counts = {"trained": {"bank": 1000, "oracles": 128}, "reused": {"bank": 192}}
    work.write_json("audit/models.json", counts)
    work.write_arrays("scores.npz", memorization=np.linspace(-0.1, 1, 60))
    forget = {"low": EXAMPLES[:15], "high": EXAMPLES[15:]}
    retain = np.setdiff1d(np.arange(60), EXAMPLES)
    work.write_arrays("forget_sets.npz", forget=EXAMPLES, retain=retain, **forget)


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


def collected(work, methods=METHODS, seeds=SEEDS, audit=()):
    return audits.collect(work, experiment(methods, seeds, audit))


def of(page, name):
    return next(table for table in page.tables if table.name == name)


# Ranks


def test_methods_are_ranked_by_how_far_they_are_from_retrained_models(audited):
    assert audited.ranks(U_LIRA) == {"loud": 4, "sly_rum_f": 3, "fine": 1, "odd": 2}
    assert audited.ranks(MIA_GAP) == {"loud": 4, "sly_rum_f": 1, "fine": 2, "odd": 3}
    assert audited.ranks(HEADLINE["", "tow"]) == audited.ranks(MIA_GAP)
    assert [each.name for each in audited.ordered] == ["fine", "odd", "sly_rum_f", "loud"]


def test_methods_as_far_on_both_sides_of_retraining_share_a_rank(fresh):
    methods = {"under": (0.4, 0), "over": (0.6, 0), "far": (0.9, 0)}
    fill(fresh, methods)
    found = collected(fresh, methods)
    assert found.ranks(U_LIRA) == {"under": 1, "over": 1, "far": 3}


def test_only_intervals_that_do_not_meet_tell_a_method_from_retraining(audited):
    detected = {each.name: audited.detects(U_LIRA, each) for each in audited.methods}
    assert detected == {"loud": True, "sly_rum_f": True, "fine": False, "odd": False}
    better = next(each for each in audited.methods if each.name == "sly_rum_f")
    assert audited.detects(MIA_GAP, better) is False  # a gap below the second oracle's
    assert audited.detects(MIA_GAP, audited.original) is True


def test_agreement_is_the_correlation_of_the_ranks(audited):
    differences = np.array([4, 3, 1, 2]) - np.array([4, 1, 2, 3])
    expected = 1 - 6 * np.sum(differences**2) / (4 * 15)
    assert audited.agreement(U_LIRA, MIA_GAP) == pytest.approx(expected)
    assert audited.agreement(U_LIRA, U_LIRA) == pytest.approx(1)
    assert audited._replace(methods=audited.methods[:2]).agreement(U_LIRA, MIA_GAP) is None


def test_what_leaks_most_comes_first_by_the_mean_over_methods_alone(audited):
    found, accuracy = audited.leaks()
    assert found[0] == EXAMPLES[-1]
    assert EXAMPLES[0] not in found  # nobody knows about it
    last = [min(accuracy + 0.2, 1) for accuracy, _ in METHODS.values()]
    assert accuracy[0] == pytest.approx(np.mean(last))
    assert np.all(np.diff(accuracy) <= 0)


# Claims


def test_the_audits_that_detect_a_method_are_counted(audited):
    detections = {each.title: each for each in claims.detections(audited)}
    assert [*detections] == ["fine", "odd", "sly RUM^F", "loud"]
    assert [each.holds for each in detections.values()] == [False, True, True, True]
    assert {each.audits for each in detections.values()} == {10}
    assert (detections["odd"].detecting, detections["loud"].detecting) == (2, 10)


def test_where_the_population_attack_and_u_lira_disagree_is_found(audited):
    judgements = claims.judgements(audited)
    assert len(judgements) == len(METHODS)
    assert [each.title for each in judgements if each.is_missed] == ["sly RUM^F"]
    assert [each.title for each in judgements if each.is_hidden] == ["odd"]
    pairs = claims.rank_pairs(audited)
    assert pairs[0] == ("sly RUM^F", 1, 3)
    assert [each.distance for each in pairs] == [2, 1, 1, 0]


def test_methods_that_both_attacks_judge_alike_are_not_in_disagreement(fresh):
    methods = {"a": (0.50, 0.01), "b": (0.7, 0.2), "c": (0.9, 0.3)}
    fill(fresh, methods)
    alike = collected(fresh, methods)
    judgements = claims.judgements(alike)
    assert not any(each.is_missed or each.is_hidden for each in judgements)
    (sentence,) = conclusions.say_judgements(judgements)
    assert sentence.startswith("There is no method that U-LiRA tells from retraining and the pop")
    assert alike.agreement(U_LIRA, MIA_GAP) == pytest.approx(1)


def test_methods_are_in_the_order_of_an_audit_with_what_it_does_not_detect(audited):
    order = claims.order(audited, U_LIRA)
    assert order.retrained == (0.5, 0.47, 0.515)
    assert order.original.value == 0.95
    assert [*order.values.items()] == [
        ("fine", 0.49),
        ("odd", 0.52),
        ("sly RUM^F", 0.70),
        ("loud", 0.80),
    ]
    assert order.is_ranked
    assert order.undetected == ["fine", "odd"]
    assert next(iter(claims.order(audited, HEADLINE["", "tow"]).values)) == "sly RUM^F"


def test_an_audit_that_does_not_see_the_original_models_is_blind(fresh, audited):
    assert claims.blind_audits(audited) == []
    fill(fresh)
    write_audit(fresh, "original", 0.5)
    blind = claims.blind_audits(collected(fresh))
    assert "U-LiRA accuracy" in blind
    assert "MIA gap" not in blind


def test_what_is_kept_is_held_against_what_was_forgotten(audited):
    keepings = {each.title: each for each in claims.keepings(audited)}
    # Accuracies of 0.49, 0.52 and 0.70, against 0.75
    assert [name for name, each in keepings.items() if each.holds] == ["fine", "odd", "sly RUM^F"]
    assert (keepings["fine"].kept.value, keepings["fine"].forgotten.value) == (0.75, 0.49)


def test_the_models_and_seeds_that_numbers_rest_on_are_counted(audited, fresh):
    assert claims.basis(audited.everyone) == ([192], [3])
    assert claims.basis(collected(fresh).everyone) is None


# Sentences


def test_the_sentences_hold_the_claims(written):
    first, ranks, missed, hidden, by_u_lira, *others = written.answers
    assert first.startswith("Yes, for 3 of 4 methods")
    assert "These are odd (2 of 10 audits)" in first
    assert "No audit tells fine from retraining." in first
    assert "rank 4 methods with Spearman’s ρ = 0.40." in ranks
    assert "ranks of sly RUM^F (1 by MIA gap, 3 by U-LiRA)" in ranks
    assert "does not tell from retraining, with a gap" in missed
    assert "sly RUM^F (MIA gap 0.011 [" in missed
    assert "The other way round" in hidden
    assert "retraining: odd (MIA gap 0.251" in hidden
    assert by_u_lira.startswith(
        "By U-LiRA accuracy (retrained models have 0.500 [0.470, 0.515], the original models "
        "0.950 [0.920, 0.965]), nearest first: fine 0.490, odd 0.520, sly RUM^F 0.700, loud 0.800."
    )
    assert by_u_lira.endswith("Not told from retraining by this audit: fine and odd.")
    rest = " ".join(others)
    assert "U-LiRA AUC 1.00" in rest
    assert "for 3 of 4 methods. U-LiRA’s accuracy on the one against the other: fine 0.750" in rest
    assert "leaks more after none and less after none" in rest
    assert "trained or unlearned 1,128 models and reused 192" in rest
    assert "192 models for each method" in rest
    assert "oracles have 0.400 [0.370, 0.415] on S, and 0.000 [−0.030, 0.015] once" in rest


# Tables


def test_the_best_of_each_audit_is_bold_and_the_calibration_is_on_top(written):
    table = of(written, "audit_ranking")
    names = [row[0] for row in table.rows]
    assert names == ["retrained", "original", "fine", "odd", "sly RUM^F", "loud"]
    best = {table.columns[column]: names[row] for row, column in table.best}
    assert best["U-LiRA accuracy"] == "fine"
    assert best["MIA gap"] == "sly RUM^F"
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
        "There is no audit yet of retrained, original, loud, sly RUM^F, fine and odd."
    )
    assert page.tables == []
    assert page.pictures == []
    assert fresh.has("audit.html")


def test_methods_that_are_not_to_be_audited_are_not_missing(fresh):
    found = collected(fresh, audit={"methods": ("fine",)})
    assert found.missing == ["retrained", "original", "fine"]


def test_without_retrained_models_numbers_are_shown_and_nothing_is_ranked(fresh, drawn):
    write_audit(fresh, "fine", 0.49)
    page = audits.page(collected(fresh), True)
    assert page.answers[0].startswith("It cannot be said yet")
    assert "nothing can be ranked before retrained models are audited: fine 0.490." in " ".join(
        page.answers
    )
    assert of(page, "audit_ranking").best <= {(0, n) for n in range(1, 12)}
    assert len(drawn) == 4  # no disagreement without a run's results


def test_a_single_method_of_one_seed_with_numbers_that_are_none_has_a_page(fresh):
    fill(fresh, {"fine": METHODS["fine"]}, seeds=(0,))
    fresh.delete("scores.npz", "forget_sets.npz", "audit/original.npz", "audit/models.json")
    rates = np.array([0.0, 1.0])
    nothing = np.full(3, np.nan)
    fresh.write_arrays(
        "audit/fine.npz",
        examples=EXAMPLES[:3],
        u_lira_per_example=nothing,
        u_lira_fpr=rates,
        u_lira_tpr=rates,
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
