"""Strata of S and V: bins of difficulty within classes, and what is merged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.errors import InvalidInputError
from rumjax.evidence import rank_test, strata


def cubed(values):
    """A monotone transform that treats equal numbers alike, however many there are."""
    return values * values * values


@st.composite
def examples(draw):
    """Classes and difficulties of S and V; S is more difficult."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = draw(st.integers(1, 4))
    sizes = draw(st.integers(1, 20)), draw(st.integers(1, 80))
    labels = [random.integers(0, classes, size) for size in sizes]
    difficulties = [
        random.normal(size=size).round(1) + shift for size, shift in zip(sizes, (1, 0), strict=True)
    ]
    return labels, difficulties


def cut(labels, difficulties, **options):
    return strata(labels[0], difficulties[0], labels[1], difficulties[1], **options)


@settings(deadline=None, max_examples=40)
@given(examples(), st.integers(1, 6), st.integers(1, 8))
def test_strata_are_of_a_class_and_of_neighbours_in_difficulty(both, bins, least):
    labels, difficulties = both
    of_s, of_v = cut(labels, difficulties, bins=bins, least=least)
    stratum, label = np.append(of_s, of_v), np.append(*labels)
    difficulty = np.append(*difficulties)
    supply = {one: np.sum(labels[1] == one) for one in range(4)}
    mixed = [one for one in np.unique(stratum) if len(np.unique(label[stratum == one])) > 1]
    pooled = set(np.unique(label[np.isin(stratum, mixed)])) if mixed else set()

    # Only classes are mixed of which one lacks V; the others are left alone.
    if pooled:
        assert any(supply[one] < least for one in pooled & set(labels[0]))
    for one in set(labels[0]) - pooled:
        assert supply[one] >= least or len(set(label)) == 1 or supply[one] == len(labels[1])

    # Every stratum of S has enough of V, if there is enough.
    for one in np.unique(of_s):
        assert np.sum(of_v == one) >= min(least, len(labels[1]))

    # A stratum is an interval of difficulty within its class.
    for one in np.unique(stratum):
        group = np.isin(label, list(pooled)) if one in mixed else label == label[stratum == one][0]
        inside = difficulty[stratum == one]
        within = group & (difficulty >= inside.min()) & (difficulty <= inside.max())
        assert set(stratum[within]) == {one}
    for one in set(label) - pooled:
        assert len(np.unique(stratum[label == one])) <= bins

    # Only the order of difficulty counts, and the order of examples does not.
    warped = cut(labels, [cubed(each) for each in difficulties], bins=bins, least=least)
    np.testing.assert_array_equal(np.append(*warped), stratum)
    turned = cut(
        [each[::-1] for each in labels],
        [each[::-1] for each in difficulties],
        bins=bins,
        least=least,
    )
    np.testing.assert_array_equal(turned[0][::-1], of_s)
    np.testing.assert_array_equal(turned[1][::-1], of_v)


def test_bins_hold_as_much_of_s_and_v_together_however_many_of_v_there_are():
    ours, theirs = np.arange(100.0) + 0.5, np.arange(0, 100, 0.1)
    of_s, of_v = strata(np.zeros(100, int), ours, np.zeros(1000, int), theirs, bins=4)
    assert np.bincount(of_s).tolist() == [25] * 4
    assert np.bincount(of_v) == pytest.approx([250] * 4, abs=10)
    # S at one end takes half of the edges.
    of_s, of_v = strata(
        np.zeros(100, int), ours + 1000, np.zeros(1000, int), theirs, bins=4, least=1
    )
    assert len(np.unique(of_v)) == 2


def test_a_class_without_v_is_compared_with_the_pool():
    labels_v = np.repeat([0, 1, 2], [40, 30, 6])
    hard_v = np.tile(np.arange(2.0), 38)
    of_s, of_v = strata(np.array([3, 0, 1]), np.array([0.0, 1.0, 0.0]), labels_v, hard_v, bins=2)
    assert not set(of_s[1:]) & set(of_s[:1])
    # The class poorest in V comes to help, and the others keep to themselves.
    assert set(labels_v[of_v == of_s[0]]) == {2}
    assert set(labels_v[of_v == of_s[1]]) == {0}


def test_so_few_of_v_that_all_is_one_stratum():
    of_s, of_v = strata(np.arange(3), np.arange(3.0), np.array([5]), np.array([1.0]))
    assert len(np.unique(np.append(of_s, of_v))) == 1


def test_matching_makes_a_chosen_s_fair():
    """S is the difficult half of what no model saw; within strata it is like V."""
    random = np.random.default_rng(7)
    p_values = []
    for seed in range(100):
        difficulty = random.normal(size=400)
        margins = -np.round(difficulty) + random.normal(size=400)
        chosen = np.zeros(400, bool)
        order = np.argsort(-difficulty + random.normal(size=400))
        chosen[order[:60]] = True
        labels = np.zeros(400, int)
        of_s, of_v = strata(
            labels[chosen],
            np.round(difficulty[chosen]),
            labels[~chosen],
            np.round(difficulty[~chosen]),
        )
        p_values.append(
            rank_test(
                margins[chosen],
                margins[~chosen],
                strata_s=of_s,
                strata_v=of_v,
                alternative="two-sided",
                draws=99,
                seed=seed,
            ).p_value
        )
    assert np.sum(np.array(p_values) <= 0.05) <= stats.binom.ppf(0.999, 100, 0.08)


@pytest.mark.parametrize(
    ("position", "wrong", "message"),
    [
        (0, [0], "labels_s"),
        (0, [-1, 0], "labels_s"),
        (1, [0.0, np.nan], "difficulty_s"),
        (1, [], "difficulty_s: no examples"),
        (2, [0.5, 1.0], "labels_v"),
        (3, [0.0], "labels_v"),
    ],
)
def test_examples_that_cannot_be_cut_are_refused(position, wrong, message):
    given = [[0, 1], [0.0, 1.0], [0, 1], [0.0, 1.0]]
    strata(*map(np.array, given))
    given[position] = wrong
    with pytest.raises(InvalidInputError, match=message):
        strata(*map(np.array, given))
    for option in ({"bins": 0}, {"least": 0}):
        with pytest.raises(InvalidInputError, match=next(iter(option))):
            strata(np.array([0]), np.array([0.0]), np.array([0]), np.array([0.0]), **option)
