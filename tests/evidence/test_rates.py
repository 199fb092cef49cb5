"""Shares with intervals: at a false positive rate, of prediction sets, before and after."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.errors import InvalidInputError
from rumjax.evidence import coverage_difference, exposed, more_exposed, proportion
from tests.references import evidence as slow


@pytest.mark.parametrize(("successes", "low", "high"), [(3, 0.0002, 0.0029), (30, 0.0068, 0.0142)])
def test_intervals_are_those_of_clopper_and_pearson(successes, low, high):
    share = proportion(successes, 3000, null=0.01)
    assert (round(share.low, 4), round(share.high, 4)) == (low, high)
    assert share[1:3] == pytest.approx(slow.clopper_pearson(successes, 3000))
    assert (share.value, share.null, share.count) == (successes / 3000, 0.01, 3000)


def test_shares_of_none_and_of_all_have_intervals():
    assert proportion(0, 10, null=0.0)[:3] == (0, 0, pytest.approx(1 - 0.025 ** (1 / 10)))
    assert proportion(1, 1, null=0.0)[:3] == (1, pytest.approx(0.025), 1)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10), st.integers(1, 40), st.booleans())
def test_exposed_examples_are_what_counting_finds(seed, count, others, ties):
    random = np.random.default_rng(seed)
    ours, theirs = random.normal(size=count) + 1, random.normal(size=others)
    if ties:
        ours, theirs = np.round(ours), np.round(theirs)
    for rate in (0.05, 0.1, 0.25):
        found = exposed(ours, theirs, rate)
        assert found.value == pytest.approx(slow.exposed(ours, theirs, rate), nan_ok=True)
        assert (found.null, found.count) == (rate, count)
        assert np.isnan(found.value) == (others < 1 / rate - 1)
        again = exposed(8 * ours[::-1] - 8, 8 * theirs[::-1] - 8, rate)
        np.testing.assert_array_equal(again, found)


def test_examples_that_nobody_saw_are_exposed_as_rarely_as_said():
    random = np.random.default_rng(0)
    count = 250
    hits = sum(
        exposed(random.normal(size=1), random.normal(size=39), 0.1).value for _ in range(count)
    )
    low, high = stats.binom.interval(0.999, count, 0.1)
    assert low <= hits <= high
    assert exposed(random.normal(size=200) + 3, random.normal(size=999), 0.01).low > 0.5


def test_a_v_too_small_for_a_rate_is_told():
    found = exposed(np.zeros(5), np.zeros(98), 0.01)
    assert np.isnan(found[:3]).all()
    assert found[3:] == (0.01, 5)
    assert exposed(np.zeros(5), np.zeros(99), 0.01).value == 0


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.05, 0.1, 0.5, 0.9]))
def test_coverage_is_what_counting_finds(seed, count, alpha):
    random = np.random.default_rng(seed)
    ours, theirs, others = (random.random(size).round(1) for size in (count, count + 2, count + 1))
    found = coverage_difference(ours, theirs, others, alpha)
    wanted = slow.coverage(ours, others, alpha) - slow.coverage(theirs, others, alpha)
    assert found.value == pytest.approx(wanted)
    assert -1 <= found.low <= found.value <= found.high <= 1
    turned = coverage_difference(theirs, ours, others, alpha)
    assert turned[:3] == pytest.approx((-found.value, -found.high, -found.low))


def test_the_interval_of_a_difference_is_newcombes():
    """56 of 70 and 48 of 80: the first example of Newcombe's table II, by method 10."""
    calibration = np.linspace(0.0, 1.0, 99)
    ours, theirs = np.repeat([1.0, 0.0], [56, 14]), np.repeat([1.0, 0.0], [48, 32])
    found = coverage_difference(ours, theirs, calibration)
    assert found.value == pytest.approx(0.2)
    assert found[1:3] == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_coverage_of_unseen_examples_is_as_promised():
    random = np.random.default_rng(1)
    covered = [
        coverage_difference(random.random(1), np.zeros(1), random.random(19), 0.1).value
        for _ in range(400)
    ]
    low, high = stats.binom.interval(0.999, 400, 0.9)
    assert low <= np.sum(covered) <= high
    # So few for calibration that every set holds everything.
    assert coverage_difference(np.zeros(2), np.zeros(2), np.ones(8), 0.1).value == 0


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_examples_that_crossed_a_threshold_are_counted(seed, count):
    random = np.random.default_rng(seed)
    before, after = random.integers(-1, 2, (2, count)).astype(float)
    rose = sum(b <= 0 < a for b, a in zip(before, after, strict=True))
    fell = sum(a <= 0 < b for b, a in zip(before, after, strict=True))
    found = more_exposed(before, after, 0.0)
    assert found.risen[:3] == pytest.approx((rose / count, *slow.clopper_pearson(rose, count)))
    assert (found.fallen.value, found.fallen.null) == (fell / count, rose / count)
    assert found.after.value - found.before.value == pytest.approx((rose - fell) / count)
    assert (found.after.null, found.after.count) == (found.before.value, count)
    assert found.p_value == pytest.approx(slow.mc_nemar(rose, fell) if rose + fell else 1.0)
    turned = more_exposed(after, before, 0.0, alternative="less")
    assert turned.p_value == pytest.approx(found.p_value)


def test_nothing_that_moved_is_no_evidence():
    found = more_exposed(np.zeros(3), np.zeros(3), 1.0)
    assert (found.p_value, found.risen.value) == (1.0, 0.0)
    assert more_exposed([0.0], [2.0], -1.0).before.value == 1.0


def test_what_cannot_be_measured_is_refused():
    some, none, bad = np.array([0.5]), np.array([]), np.array([np.nan])
    for wrong in (none, bad):
        for pair in ((wrong, some), (some, wrong)):
            with pytest.raises(InvalidInputError):
                exposed(*pair)
            with pytest.raises(InvalidInputError):
                more_exposed(*pair, 0.0)
            with pytest.raises(InvalidInputError):
                coverage_difference(*pair, some)
        with pytest.raises(InvalidInputError, match="calibration"):
            coverage_difference(some, some, wrong)
    with pytest.raises(InvalidInputError, match="outside 0…1"):
        coverage_difference(np.array([1.5]), some, some)
    with pytest.raises(InvalidInputError, match="alpha"):
        coverage_difference(some, some, some, 1.0)
    with pytest.raises(InvalidInputError, match="false_positive_rate"):
        exposed(some, some, 0.0)
    with pytest.raises(InvalidInputError, match="after: 2 numbers for 1"):
        more_exposed(some, np.zeros(2), 0.0)
    for threshold in (np.nan, np.inf, [0.0]):
        with pytest.raises(InvalidInputError, match="threshold"):
            more_exposed(some, some, threshold)
    with pytest.raises(InvalidInputError, match="alternative"):
        more_exposed(some, some, 0.0, alternative="both")
