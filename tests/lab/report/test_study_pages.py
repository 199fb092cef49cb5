"""What the pages of all studies have in common: caveats, files, figures or none."""

import math

import pytest

from rumjax.lab.report import conclusions, exports, tables
from rumjax.lab.report.pages import to_html, to_markdown
from rumjax.lab.report.studies import base, write
from rumjax.lab.report.tables import Line
from tests.lab.report.made_up_studies import arrivals, case, difficulty, proxies, refinement, spread


def test_floor_and_ceiling_are_found_whatever_the_original_is_called():
    made = case("run", {"fine": spread(0.8)})
    renamed = [
        each._replace(line=each.line._replace(name="nothing"))
        if each.line.calibration is tables.Calibration.ORIGINAL
        else each
        for each in made.results.summaries
    ]
    made = made._replace(results=made.results._replace(summaries=renamed))
    assert base.mean_of(made, tables.Calibration.ORIGINAL, "tow").value == pytest.approx(0.6)
    assert base.mean_of(made, tables.Calibration.SECOND, "tow").value == pytest.approx(0.97)


def test_runs_that_diverged_or_are_missing_are_told_of(work):
    made = difficulty(finetune=(0.9, 0.8, 0.6), scrub=(0.9, 0.8, 0.0))
    hard = made.cases["memorization_high"]
    for each in hard.results.rows:
        each.update({"diverged": 1.0} if each["name"] == "scrub" and each["seed"] else {})
    line = Line("salun_vanilla", "salun", "vanilla")
    results = hard.results._replace(missing=[(line, 1), (line, 2)])
    cases = {**made.cases, "memorization_high": hard._replace(results=results)}
    page = write(work, made._replace(cases=cases), figures=False)
    diverged, absent = page.answers[-2:]
    assert diverged.endswith("flatter them: scrub on memorization_high (2 of 3).")
    assert absent.endswith("run of salun_vanilla on memorization_high.")
    whole = {name: case.results for name, case in difficulty(scrub=[0.9] * 3).cases.items()}
    assert conclusions.caveats(whole) == []


@pytest.mark.parametrize(
    "made",
    [
        difficulty(finetune=(0.9, 0.8, math.nan), salun=(0.6, 0.8, 0.9)),
        refinement(hand=[math.nan] * 3),
        proxies({"m": spread(0.8)}),
        arrivals(0.1),
    ],
    ids=lambda made: made.kind,
)
def test_every_page_is_written_with_all_that_it_shows(made, work):
    page = write(work, made)
    text, source = to_markdown(made.about, page), to_html(made.about, page)
    for answer in page.answers:
        assert answer in text
    assert page.pictures
    for picture in page.pictures:
        assert f"figures/{picture.name}.png" in text
        assert f'id="{picture.name}"' in source
        for ending in ("png", "pdf", "csv"):
            assert work.has(f"figures/{picture.name}.{ending}")
    for table in page.tables:
        assert exports.markdown(table) in text
        assert work.has(f"tables/{table.name}.csv")
        assert all(len(line) == len(table.columns) for line in table.rows)
    assert "nan" not in text.lower().replace("finance", "")
    assert made.facts["Data"] in source


def test_a_page_can_do_without_figures(work):
    made = arrivals(0.1)
    page = write(work, made, figures=False)
    assert page.pictures == []
    assert not work.names("figures/*")
    assert "Figures" not in to_html(made.about, page)
    assert work.has("study.md")
