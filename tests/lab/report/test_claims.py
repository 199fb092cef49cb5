"""Verdicts on effects, and when a claim about several subjects holds."""

import math

import pytest

from rumjax.lab.report.claims import Claim, Comparison, Verdict, judge
from rumjax.metrics import Interval, Trend

UP, DOWN = Interval(0.1, 0.05, 0.15), Interval(-0.1, -0.15, -0.05)
WIDE, ALONE = Interval(0.1, -0.1, 0.3), Interval(0.1, math.nan, math.nan)


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (UP, Verdict.HIGHER),
        (DOWN, Verdict.LOWER),
        (WIDE, Verdict.LEVEL),
        (Interval(0.1, 0.0, 0.2), Verdict.LEVEL),
        (Interval(0.0, 0.0, 0.0), Verdict.LEVEL),
        (Interval(0.1, 0.1, 0.1), Verdict.HIGHER),
        (ALONE, Verdict.UNDECIDED),
        (Trend(0.8, 0.049), Verdict.HIGHER),
        (Trend(-0.8, 0.049), Verdict.LOWER),
        (Trend(-0.8, 0.05), Verdict.LEVEL),
    ],
)
def test_a_verdict_needs_an_interval_without_zero_or_a_small_p_value(effect, verdict):
    assert judge(effect) is verdict


@pytest.mark.parametrize(
    ("effects", "missing", "holds"),
    [
        ({"a": UP, "b": UP}, [], True),
        ({"a": UP, "b": UP}, ["c"], None),
        ({"a": UP, "b": WIDE}, [], None),
        ({"a": UP, "b": ALONE}, [], None),
        ({"a": UP, "b": DOWN}, [], False),
        ({"a": DOWN}, ["c"], False),
        ({}, [], None),
    ],
)
def test_a_claim_holds_if_all_support_it_and_fails_if_any_contradicts_it(effects, missing, holds):
    assert Claim("made up", Verdict.HIGHER, effects, missing).holds is holds


def test_subjects_are_sorted_by_what_they_say_of_a_claim():
    claim = Claim("made up", Verdict.LOWER, {"a": UP, "b": DOWN, "c": WIDE, "d": ALONE})
    assert claim.supporting == ["b"]
    assert claim.contradicting == ["a"]
    assert claim.judged(Verdict.LEVEL) == ["c"]
    assert claim.judged(Verdict.UNDECIDED) == ["d"]


def test_without_a_common_seed_a_comparison_is_undecided():
    assert Comparison("a", "b", UP, DOWN, None).verdict is Verdict.UNDECIDED
    assert Comparison("a", "b", UP, DOWN, UP).verdict is Verdict.HIGHER
