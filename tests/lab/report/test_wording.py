"""How numbers, intervals, names and lists are worded."""

import math

import numpy as np
import pytest

from rumjax.lab.report import wording
from rumjax.lab.report.claims import Verdict
from rumjax.lab.report.tables import Line
from rumjax.metrics import Interval, Trend

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "digits", "signed", "words"),
    [
        (0.12345, 3, False, "0.123"),
        (np.float32(-0.5), 2, False, "−0.50"),
        (0.5, 2, True, "+0.50"),
        (-0.0, 3, False, "0.000"),
        (-0.0001, 3, False, "0.000"),
        (-1e-17, 3, True, "+0.000"),
        (NAN, 3, True, "–"),
        (math.inf, 3, False, "–"),
        (None, 3, False, "–"),
    ],
)
def test_numbers_have_a_minus_that_is_one_and_a_dash_where_there_is_none(
    value, digits, signed, words
):
    assert wording.number(value, digits, signed=signed) == words


@pytest.mark.parametrize(
    ("interval", "options", "words"),
    [
        (Interval(0.12345, 0.11235, 0.13455), {}, "0.123 ± 0.011"),
        (Interval(0.1, 0.0, 0.2), {"signed": True}, "+0.100 ± 0.100"),
        (Interval(0.612, 0.58, 0.7), {"bounds": True}, "0.612 [0.580, 0.700]"),
        (Interval(-0.0, -0.1, 0.2), {"bounds": True}, "0.000 [−0.100, 0.200]"),
        (Interval(-0.5, NAN, NAN), {"bounds": True}, "−0.500"),
        (Interval(0.5, NAN, NAN), {}, "0.500"),
        (Interval(NAN, NAN, NAN), {}, "–"),
        (None, {}, "–"),
    ],
)
def test_intervals_are_worded_as_far_as_there_are_any(interval, options, words):
    assert wording.interval(interval, **options) == words


def test_effects_have_their_intervals_or_p_values():
    effects = {"a": Interval(-0.1, -0.2, 0.0), "b": Trend(-1.0, 0.0001), "c": Trend(0.5, 0.25)}
    assert wording.effects(effects) == "a −0.100 ± 0.100, b −1.00 (p < 0.001), c +0.50 (p = 0.250)"


def test_lists_end_in_and_and_are_none_if_empty():
    assert wording.listing(["a"]) == "a"
    assert wording.listing("abc") == "a, b and c"
    assert wording.listing([]) == "none"


def test_names_of_mixed_methods_and_of_strategies_are_readable():
    assert wording.described(Line("x", "original>scrub", "rum")) == "x (original → scrub, RUM)"
    assert wording.described(Line("y", "scrub", "rum_f")) == "y (scrub, RUM^F)"


def test_every_verdict_has_its_words():
    assert wording.VERDICTS.keys() == wording.CERTAINTIES.keys() == set(Verdict)
    assert "leaves out zero" in wording.CERTAINTIES[Verdict.HIGHER]
    assert "holds zero" in wording.CERTAINTIES[Verdict.LEVEL]
    assert "single seed" in wording.CERTAINTIES[Verdict.UNDECIDED]
