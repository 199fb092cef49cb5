"""The page on repeated requests, on made-up results whose answers are known."""

import math

import pytest

from rumjax.lab.report.claims import Verdict
from rumjax.lab.report.studies import requests as requests_page
from rumjax.lab.report.tables import Results
from tests.lab.report.made_up_studies import arrivals, case, page_of, spread, study


def growth(made):
    cases = requests_page.ordered_cases(made)
    names = [each.line.name for each in cases[0].results.methods]
    return requests_page.growth_claim(cases, names)


def test_the_gap_grows_by_the_slope_of_tow():
    made = arrivals(0.05)
    claim = growth(made)
    assert claim.supporting == ["fine"]
    assert claim.effects["fine"].value == pytest.approx(-0.05)
    assert claim.effects["anew"].value == pytest.approx(0)
    cases = requests_page.ordered_cases(made)
    (pair,) = requests_page.pairs(cases, {"fine": "anew"})
    assert pair.verdict is Verdict.HIGHER
    assert pair.difference.value == pytest.approx(0.05)
    page = page_of(made)
    assert "grows with every request for 1 of 2 methods" in page.answers[0]
    assert "fine −0.050 ± 0.000, anew +0.000" in page.answers[0]
    assert "leaves ToW higher after the last: 0.800" in page.answers[1]
    table = page.tables[0]
    assert table.columns == ("Method", "1", "2", "3", "Change per request")
    rows = {line[0]: line for line in table.rows}
    assert [cell.value for cell in rows["fine"][1:4]] == pytest.approx([0.85, 0.8, 0.75])
    assert rows["original"][-1] is None


def test_a_request_still_to_come_is_the_last():
    made = arrivals(0.05)
    waiting = made.cases["request_3"]._replace(results=Results([], [], (), []), parts={})
    made = made._replace(cases={**made.cases, "request_3": waiting})
    assert growth(made).effects["fine"].value == pytest.approx(-0.05)
    page = page_of(made)
    assert len(page.answers) == 1  # kept and made anew are compared at the last
    row = next(line for line in page.tables[0].rows if line[0] == "fine")
    assert [cell.value for cell in row[1:3]] == pytest.approx([0.85, 0.8])
    assert row[3] is None


def test_a_slope_is_not_made_of_the_seeds_that_are_left():
    cases = [
        case(f"request_{n}", {"fine": spread(0.9), "lost": tow}, parts=["a", "b"][:n])
        for n, tow in ((1, spread(0.9)), (2, [0.8, math.nan, 0.8]))
    ]
    claim = growth(study("requests", cases))
    assert (claim.supporting, claim.missing) == ([], ["lost"])
    assert requests_page.say_growth(claim).endswith("There is no slope for lost.")


def test_of_more_methods_than_there_are_colors_all_are_drawn(drawn):
    tow = {f"m{number}": spread(0.8) for number in range(9)}
    cases = [case(f"request_{n}", tow, parts=["a", "b"][:n]) for n in (1, 2)]
    requests_page.draw_lines(cases, [*tow])
    assert len(drawn[0].axes[0].containers) == len(tow) + 2
