"""Trends over ordered groups and rank correlations, against all permutations."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.errors import InvalidInputError
from rumjax.metrics import jonckheere, least_p_value, overlap, rank_correlation, trends

GROUPS = st.lists(
    st.lists(st.integers(0, 5), min_size=1, max_size=3), min_size=2, max_size=3
).filter(lambda groups: sum(map(len, groups)) >= 3)


def counted(groups):
    """Rises less falls over all pairs from different groups, one by one."""
    return sum(
        np.sign(y - x)
        for first, second in itertools.combinations(groups, 2)
        for x in first
        for y in second
    )


def permuted(groups):
    """The p-value by every permutation of the values themselves."""
    values, ends = np.concatenate(groups), np.cumsum([len(group) for group in groups])[:-1]
    found = abs(counted(groups))
    each = [
        abs(counted(np.split(np.array(order), ends))) >= found
        for order in itertools.permutations(values)
    ]
    return np.mean(each)


@given(GROUPS)
@settings(deadline=None, max_examples=15)
def test_the_trend_and_its_p_value_are_those_of_all_permutations(groups):
    if sum(map(len, groups)) > 7:
        groups = [group[:2] for group in groups]
    found = jonckheere([np.array(group) for group in groups])
    pairs = sum(len(a) * len(b) for a, b in itertools.combinations(groups, 2))
    assert found.effect == pytest.approx(counted(groups) / pairs)
    assert found.p_value == pytest.approx(permuted(groups))


def test_a_perfect_trend_of_three_threes_is_two_in_1680():
    groups = np.arange(9.0).reshape(3, 3)
    assert jonckheere(groups) == (1.0, pytest.approx(2 / 1680))
    assert jonckheere(groups[::-1]) == (-1.0, pytest.approx(2 / 1680))


@pytest.mark.parametrize("sizes", [(1, 1), (1, 1, 1), (2, 3), (3, 3, 3)])
def test_no_trend_has_a_p_value_below_that_of_a_perfect_one(sizes):
    perfect = np.split(np.arange(float(sum(sizes))), np.cumsum(sizes)[:-1])
    assert jonckheere(perfect).p_value == pytest.approx(least_p_value(sizes))


def test_levels_that_are_all_alike_have_no_trend():
    assert jonckheere([np.ones(3)] * 3) == (0.0, 1.0)


@pytest.mark.parametrize("ties", [False, True])
def test_many_values_are_compared_with_the_normal_distribution(monkeypatch, ties):
    random = np.random.default_rng(0)
    groups = [random.normal(0.3 * level, 1, 12) for level in range(3)]
    groups = [np.round(group) for group in groups] if ties else groups
    exact = permutations_of(groups)
    monkeypatch.setattr(trends, "MOST_ARRANGEMENTS", 0)
    approximate = jonckheere(groups)
    assert approximate.p_value == pytest.approx(exact, abs=0.05)


def permutations_of(groups):
    random, values = np.random.default_rng(1), np.concatenate(groups)
    ends = np.cumsum([len(group) for group in groups])[:-1]
    found = abs(counted(groups))
    each = [abs(counted(np.split(random.permutation(values), ends))) for _ in range(2000)]
    return np.mean(np.array(each) >= found)


def test_between_two_groups_it_is_the_rank_sum_test():
    random = np.random.default_rng(2)
    first, second = random.normal(size=5), random.normal(0.8, 1, 6)
    expected = stats.mannwhitneyu(first, second, method="exact").pvalue
    assert jonckheere([first, second]).p_value == pytest.approx(expected)


@pytest.mark.parametrize("groups", [[], [[1.0]], [[1.0], []], [[1.0], [np.nan]]])
def test_groups_that_are_none_are_refused(groups):
    with pytest.raises(InvalidInputError, match="trend"):
        jonckheere([np.array(group) for group in groups])


@pytest.mark.parametrize(
    ("kind", "expected"), [("spearman", stats.spearmanr), ("kendall", stats.kendalltau)]
)
def test_the_interval_of_a_rank_correlation_holds_it_and_narrows(kind, expected):
    random = np.random.default_rng(0)
    x = random.normal(size=400)
    y = x + random.normal(size=400)
    widths = []
    for count in (50, 400):
        found = rank_correlation(x[:count], y[:count], kind=kind)
        assert found.value == pytest.approx(expected(x[:count], y[:count]).statistic)
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    # As one over the square root of the examples, up to chance.
    assert 1.5 < widths[0] / widths[1] < 6


def test_a_constant_score_is_correlated_with_nothing():
    assert rank_correlation(np.ones(9), np.arange(9.0)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("first", "second"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([1, 2, np.inf], [1, 2, 3])]
)
def test_scores_that_cannot_be_ranked_together_are_refused(first, second):
    with pytest.raises(InvalidInputError, match="rank correlation"):
        rank_correlation(np.array(first, float), np.array(second, float))


def test_overlap_is_the_share_that_two_sets_have_in_common():
    assert overlap(np.array([1, 2, 3, 4]), np.array([3, 4, 5, 6])) == 0.5
    assert overlap(np.array([1]), np.array([1])) == 1.0
    with pytest.raises(InvalidInputError, match="overlap"):
        overlap(np.array([]), np.array([1]))
