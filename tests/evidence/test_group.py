"""Whether S as a whole is known, among retrained models and among shadows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.errors import InvalidInputError
from rumjax.evidence import (
    group_statistic_p_value,
    shadow_group_p_value,
    shadow_group_test,
)
from rumjax.evidence.group import PRIOR, VARIANCE_FLOOR
from tests.references import evidence as slow


def test_a_statistic_is_ranked_among_those_of_retrained_models():
    others = np.arange(19.0)
    assert group_statistic_p_value(19.0, others, alternative="greater") == 1 / 20
    assert group_statistic_p_value(19.0, others, alternative="less") == 1
    assert group_statistic_p_value(19.0, others) == group_statistic_p_value(-1.0, others) == 0.1
    assert group_statistic_p_value(9.0, others) == 1
    assert group_statistic_p_value(18.0, others, alternative="greater") == 2 / 20


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_p_values_among_retrained_models_are_uniform(alternative):
    random = np.random.default_rng(0)
    p_values = [
        group_statistic_p_value(values[0], values[1:], alternative=alternative)
        for values in random.normal(size=(400, 20))
    ]
    step = 0.1 if alternative == "two-sided" else 0.05
    assert stats.kstest(slow.continuous(p_values, step, random), "uniform").pvalue > 0.01


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(3, 6), st.integers(2, 5))
def test_the_statistics_of_shadows_are_what_loops_find(seed, models, examples):
    margins, shadows, shadow_in = slow.made(
        np.random.default_rng(seed), models, examples, share=0.3
    )
    enough = np.sum(~shadow_in, axis=0) >= 2
    if not enough.any() or shadow_in[:, enough].all(axis=1).any():
        return
    found = shadow_group_test(margins, shadows, shadow_in)
    values = slow.group_statistics(
        margins[enough],
        shadows[:, enough],
        shadow_in[:, enough],
        prior=PRIOR,
        floor=VARIANCE_FLOOR,
    )
    assert found.value == pytest.approx(values[0])
    assert found.null == pytest.approx(values[1:].mean())
    assert (found.count, found.models) == (enough.sum(), models)

    # The order of shadows and examples is nothing, nor is a shift or a scale of an example.
    order = np.random.default_rng(seed).permutation(examples)
    moved = shadow_group_test(margins[order], shadows[::-1, order], shadow_in[::-1, order])
    np.testing.assert_allclose(moved, found)
    shift = np.arange(examples)
    np.testing.assert_allclose(
        shadow_group_test(margins + shift, shadows + shift, shadow_in), found
    )
    np.testing.assert_allclose(
        shadow_group_test(1000 * margins, 1000 * shadows, shadow_in), found, rtol=1e-3
    )


def test_what_shadows_were_trained_on_does_not_count():
    random = np.random.default_rng(1)
    margins, shadows, shadow_in = slow.made(random, 12, 20)
    changed = np.where(shadow_in, 1e6 * random.normal(size=shadows.shape), shadows)
    found = shadow_group_test(margins, shadows, shadow_in)
    np.testing.assert_allclose(shadow_group_test(margins, changed, shadow_in), found)


@pytest.mark.parametrize(
    ("models", "examples", "common", "share"),
    [(19, 40, 0.3, 0.5), (19, 40, 0.0, 0.5), (39, 10, 0.1, 0.7), (9, 200, 1.0, 0.5)],
)
def test_p_values_of_a_model_that_never_saw_s_are_uniform(models, examples, common, share):
    random = np.random.default_rng(2)
    p_values = [
        shadow_group_p_value(*slow.made(random, models, examples, common=common, share=share))
        for _ in range(400)
    ]
    spread = slow.continuous(p_values, 1 / (models + 1), random)
    assert stats.kstest(spread, "uniform").pvalue > 0.01
    low, high = stats.binom.interval(0.999, len(spread), 0.05)
    assert low <= np.sum(spread <= 0.05) <= high


def test_a_model_that_still_knows_s_is_found():
    random = np.random.default_rng(3)
    found = [
        shadow_group_test(*slow.made(random, 39, 100, common=0.1, residue=1.0)) for _ in range(50)
    ]
    assert np.mean([test.p_value <= 0.05 for test in found]) > 0.9
    assert np.mean([test.value for test in found]) > 0.3
    # One that fits S less well than models that lack it is not "fitted too well".
    less = [slow.made(random, 39, 100, common=0.1, residue=-1.0) for _ in range(10)]
    assert min(shadow_group_p_value(*each) for each in less) > 0.5


def test_examples_and_shadows_that_tell_nothing_are_left_out():
    random = np.random.default_rng(4)
    margins, shadows, shadow_in = slow.made(random, 8, 10, share=0.4)
    shadow_in[:7, 3], shadow_in[7, 3] = True, False
    shadow_in[5] = True
    found = shadow_group_test(margins, shadows, shadow_in)
    assert (found.count, found.models) == (np.sum(np.sum(~shadow_in, axis=0) >= 2), 7)
    nothing = shadow_group_test(margins, shadows, np.ones_like(shadow_in))
    assert np.isnan(nothing[:4]).all()
    assert nothing[4:] == (0, 0)


def test_models_that_are_all_alike_are_no_evidence():
    shadows = np.zeros((9, 5))
    assert shadow_group_p_value(np.zeros(5), shadows, np.zeros((9, 5), bool)) == 1.0


def test_statistics_that_are_none_are_refused():
    for value, others in ((np.nan, [0.0]), (0.0, []), (0.0, [np.inf]), ([1.0, 2.0], [0.0])):
        with pytest.raises(InvalidInputError):
            group_statistic_p_value(value, np.array(others))
    with pytest.raises(InvalidInputError, match="alternative"):
        group_statistic_p_value(0.0, np.array([1.0]), alternative="both")
    with pytest.raises(InvalidInputError, match="shadow"):
        shadow_group_p_value(np.zeros(2), np.zeros((3, 4)), np.zeros((3, 4), bool))
