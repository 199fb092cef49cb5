"""Ranks of S among V: areas, p-values and intervals, with strata and without."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from rumjax.errors import InvalidInputError
from rumjax.evidence import rank_p_values, rank_test, ranks
from tests.references import evidence as slow


@st.composite
def sides(draw):
    """Few examples of S and of V with ties, in three strata."""
    sizes = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    margins = [random.integers(-3, 4, size).astype(float) for size in sizes]
    return margins, [random.integers(0, 3, size) for size in sizes]


def cubed(values):
    """A monotone transform that treats equal numbers alike, however many there are."""
    return values * values * values


@settings(deadline=None, max_examples=40)
@given(sides())
def test_areas_and_ranks_are_what_counting_finds(both):
    (ours, theirs), (strata_s, strata_v) = both
    plain = rank_test(ours, theirs, draws=20)
    assert plain.value == pytest.approx(slow.area(ours, theirs))
    member = np.arange(len(ours) + len(theirs)) < len(ours)
    assert plain.value == pytest.approx(roc_auc_score(member, np.append(ours, theirs)))
    assert rank_p_values(ours, theirs) == pytest.approx(
        [(1 + sum(other <= score for other in theirs)) / (1 + len(theirs)) for score in ours]
    )

    stratified = rank_test(ours, theirs, strata_s=strata_s, strata_v=strata_v, draws=20)
    assert stratified.matched == np.isin(strata_s, strata_v).sum()
    if stratified.matched:
        assert stratified.value == pytest.approx(slow.area(ours, theirs, strata_s, strata_v))
        assert 0 < stratified.p_value <= 1
    else:
        assert np.isnan(stratified[:4]).all()


@settings(deadline=None, max_examples=20)
@given(sides(), st.integers(0, 2**32 - 1))
def test_only_order_counts(both, seed):
    (ours, theirs), (strata_s, strata_v) = both
    random = np.random.default_rng(seed)
    names = random.permutation(10)
    one, other = random.permutation(len(ours)), random.permutation(len(theirs))
    np.testing.assert_array_equal(
        rank_p_values(cubed(ours), cubed(theirs)), rank_p_values(ours, theirs)
    )
    found = rank_test(ours, theirs, strata_s=strata_s, strata_v=strata_v, draws=20)
    again = rank_test(cubed(ours), cubed(theirs), strata_s=strata_s, strata_v=strata_v, draws=20)
    np.testing.assert_array_equal(again, found)
    moved = rank_test(
        ours[one],
        theirs[other],
        strata_s=names[strata_s][one],
        strata_v=names[strata_v][other],
        draws=20,
    )
    np.testing.assert_allclose(moved.value, found.value)
    turned = rank_test(-ours, -theirs, strata_s=strata_s, strata_v=strata_v, draws=20)
    np.testing.assert_allclose(turned.value, 1 - found.value)


def test_p_values_are_those_of_every_way_to_choose_s():
    random = np.random.default_rng(0)
    ours, theirs = random.normal(size=5) + 0.8, random.normal(size=6)
    alike = np.zeros(5, int), np.zeros(6, int)
    wanted = slow.rank_p_value(ours, theirs, *alike)
    assert rank_test(ours, theirs).p_value == pytest.approx(wanted)

    # With ties or strata, by permutations drawn at random.
    for rounded, of_s, of_v in (
        (True, *alike),
        (False, [0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]),
        (True, [0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 2]),
    ):
        margins = [np.round(side, 0) if rounded else side for side in (ours, theirs)]
        wanted = slow.rank_p_value(*margins, np.array(of_s), np.array(of_v))
        found = rank_test(
            *margins, strata_s=np.array(of_s), strata_v=np.array(of_v), draws=4000
        ).p_value
        assert found == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / 4000))


def test_the_three_ways_to_a_p_value_agree():
    random = np.random.default_rng(1)
    ours, theirs = random.normal(size=60) + 0.3, random.normal(size=200)
    alike = {"strata_s": np.zeros(60, int), "strata_v": np.zeros(200, int)}
    exact = rank_test(ours, theirs)
    assert rank_test(ours, theirs, **alike).p_value == pytest.approx(exact.p_value, abs=0.02)
    assert rank_test(np.append(ours, 9.0), np.append(theirs, 9.0)).p_value == pytest.approx(
        exact.p_value, abs=0.02
    )
    for alternative in ("less", "greater", "two-sided"):
        found = rank_test(ours, theirs, alternative=alternative).p_value
        again = rank_test(ours, theirs, alternative=alternative, **alike).p_value
        assert found == pytest.approx(again, abs=0.02)
        wanted = stats.mannwhitneyu(ours, theirs, alternative=alternative).pvalue
        assert found == pytest.approx(wanted, abs=0.005)


@pytest.mark.parametrize("ties", [False, True])
def test_p_values_of_a_model_that_never_saw_s_are_uniform(ties):
    """Strata differ in difficulty, and S has more of the difficult ones."""
    random = np.random.default_rng(2)
    strata_s, strata_v = np.repeat([0, 1, 2], [3, 6, 12]), np.repeat([0, 1, 2], [30, 20, 10])
    p_values, plain = [], []
    for seed in range(200):
        ours, theirs = (random.normal(size=len(each)) - each for each in (strata_s, strata_v))
        if ties:
            ours, theirs = np.round(ours, 1), np.round(theirs, 1)
        arguments = {"draws": 99, "seed": seed}
        p_values.append(
            rank_test(ours, theirs, strata_s=strata_s, strata_v=strata_v, **arguments).p_value
        )
        plain.append(rank_test(ours, theirs, alternative="less", draws=2).p_value)
    spread = slow.continuous(p_values, 0.01, random)
    assert stats.kstest(spread, "uniform").pvalue > 0.01
    low, high = stats.binom.interval(0.999, len(spread), 0.05)
    assert low <= np.sum(spread <= 0.05) <= high
    # Without strata, difficulty looks like something it is not.
    assert np.mean(np.array(plain) <= 0.05) > 0.5


def test_p_values_of_single_examples_are_uniform_for_a_random_s():
    random = np.random.default_rng(3)
    p_values = np.concatenate(
        [rank_p_values(random.normal(size=1), random.normal(size=19)) for _ in range(500)]
    )
    assert stats.kstest(slow.continuous(p_values, 0.05, random), "uniform").pvalue > 0.01
    assert rank_p_values(np.array([-9.0]), random.normal(size=19)).tolist() == [0.05]


def test_an_s_that_is_still_known_is_found_within_strata_and_not_without():
    random = np.random.default_rng(4)
    strata_s, strata_v = np.repeat([0, 1], [10, 90]), np.repeat([0, 1], [400, 100])
    ours = random.normal(size=100) - 2 * strata_s + 0.7
    theirs = random.normal(size=500) - 2 * strata_v
    test = rank_test(ours, theirs, strata_s=strata_s, strata_v=strata_v)
    assert test.p_value < 0.01
    assert test.low > 0.5
    assert rank_test(ours, theirs).p_value > 0.5


@pytest.mark.parametrize("stratified", [False, True])
def test_intervals_cover_what_is_true(stratified):
    random = np.random.default_rng(5)
    count = 30
    labels = np.arange(count) // 2, np.arange(6 * count) % (count // 2)
    wanted = stats.norm.cdf(0.7 / np.sqrt(2))
    covered = 0
    for seed in range(100):
        ours, theirs = random.normal(size=count) + 0.7, random.normal(size=6 * count)
        chosen = dict(zip(("strata_s", "strata_v"), labels, strict=True)) if stratified else {}
        test = rank_test(ours, theirs, draws=200, seed=seed, **chosen)
        assert test.low < test.value < test.high
        covered += test.low <= wanted <= test.high
    assert covered >= stats.binom.ppf(0.001, 100, 0.93)


def test_an_s_wholly_above_v_has_an_interval_too():
    test = rank_test(np.arange(10.0) + 50, np.arange(40.0))
    assert (test.value, test.high) == (1.0, 1.0)
    # Ten disjoint pairs all agree with probability .025 if each does with this.
    assert test.low**10 == pytest.approx(0.025)
    turned = rank_test(-np.arange(10.0) - 50, -np.arange(40.0))
    assert (turned.value, turned.low) == (0.0, 0.0)
    assert turned.high == pytest.approx(1 - test.low)


def test_single_examples_have_no_interval_and_strata_without_v_are_counted():
    one = rank_test(np.array([1.0]), np.array([0.0, 2.0, 3.0]))
    assert np.isnan([one.low, one.high]).all()
    assert (one.value, one.p_value) == (pytest.approx(1 / 3), 0.75)
    ours, theirs = np.array([1.0, 5.0, 9.0]), np.array([0.0, 2.0])
    test = rank_test(ours, theirs, strata_s=np.array([0, 0, 7]), strata_v=np.array([0, 0]))
    assert (test.count, test.matched, test.value) == (3, 2, 0.75)
    apart = rank_test(ours, theirs, strata_s=np.array([1, 1, 7]), strata_v=np.array([0, 0]))
    assert apart.matched == 0
    assert np.isnan(apart.value)


def test_draws_depend_on_the_seed_and_not_on_the_size_of_blocks(monkeypatch):
    random = np.random.default_rng(6)
    ours, theirs = random.normal(size=12).round(1), random.normal(size=30).round(1)
    first = [rank_test(ours, theirs, draws=50, seed=seed) for seed in (1, 1, 2)]
    assert first[0] == first[1] != first[2]
    monkeypatch.setattr(ranks, "CELLS", 100)
    again = rank_test(ours, theirs, draws=50, seed=1)
    assert (again.value, again.p_value) == (first[0].value, first[0].p_value)
    assert 0 < again.low < again.value < again.high < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forget_margins": []}, "forget_margins: no examples"),
        ({"unseen_margins": []}, "unseen_margins: no examples"),
        ({"unseen_margins": [np.nan, 0.0]}, "not finite"),
        ({"strata_s": [0, 0]}, "both sides"),
        ({"strata_s": [0], "strata_v": [0, 0]}, "strata_s: wanted integers"),
        ({"strata_s": [0, 0], "strata_v": [0.5, 0.0]}, "strata_v: wanted integers"),
        ({"alternative": "more"}, "alternative"),
        ({"draws": 0}, "draws"),
    ],
)
def test_sides_that_are_none_are_refused(change, message):
    given = {"forget_margins": [0.0, 1.0], "unseen_margins": [0.0, 2.0]}
    rank_test(**given)
    with pytest.raises(InvalidInputError, match=message):
        rank_test(**given | change)


def test_scores_that_are_none_are_refused():
    for ours, theirs in (([], [1.0]), ([1.0], []), ([np.nan], [1.0])):
        with pytest.raises(InvalidInputError):
            rank_p_values(np.array(ours), np.array(theirs))
