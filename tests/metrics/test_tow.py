"""Tug of war against its formula, and what follows from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.errors import InvalidInputError
from rumjax.metrics import Accuracies, tug_of_war, tug_of_war_mia

fraction = st.floats(0, 1, width=32)
accuracies = st.builds(Accuracies, fraction, fraction, fraction)
slow = settings(deadline=None, max_examples=50)


@slow
@given(accuracies, accuracies)
def test_it_is_the_product_of_what_the_differences_leave(ours, theirs):
    wanted = np.prod(1 - np.abs(np.subtract(ours, theirs)))
    assert tug_of_war(ours, theirs) == pytest.approx(wanted)
    assert 0 <= tug_of_war(ours, theirs) <= 1
    assert tug_of_war(ours, theirs) == tug_of_war(theirs, ours)


@slow
@given(accuracies)
def test_it_is_one_for_equal_models_only(ours):
    assert tug_of_war(ours, ours) == 1
    other = ours._replace(test=ours.test + 0.1 if ours.test < 0.5 else ours.test - 0.1)
    assert tug_of_war(ours, other) < 1


@slow
@given(accuracies, accuracies, fraction, fraction)
def test_with_the_attack_it_looks_at_s_through_the_attack_alone(ours, theirs, mia, other):
    wanted = (1 - abs(mia - other)) * tug_of_war(
        ours._replace(forget=0.0), theirs._replace(forget=0.0)
    )
    assert tug_of_war_mia(ours, theirs, mia, other) == pytest.approx(wanted)


def test_a_case_by_hand():
    ours, theirs = Accuracies(0.9, 1.0, 0.8), Accuracies(0.5, 0.9, 0.9)
    assert tug_of_war(ours, theirs) == pytest.approx(0.6 * 0.9 * 0.9)
    assert tug_of_war_mia(ours, theirs, 0.2, 0.5) == pytest.approx(0.7 * 0.9 * 0.9)


@pytest.mark.parametrize("place", Accuracies._fields)
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), 93.0])
def test_what_is_no_fraction_is_refused_by_name(place, value):
    good = Accuracies(0.5, 0.5, 0.5)
    with pytest.raises(InvalidInputError, match=f"accuracy on {place}"):
        tug_of_war(good._replace(**{place: value}), good)
