"""P-values of single examples, whether they are calibrated, and margins that are mended."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.errors import InvalidInputError
from rumjax.evidence import (
    calibration,
    example_p_values,
    least_p_value,
    shadow_calibration,
    standardized,
)
from tests.references import evidence as slow

MODELS, EXAMPLES = 20, 400


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5), st.booleans())
def test_p_values_are_what_counting_finds(seed, models, examples, ties):
    margins, shadows, shadow_in = slow.made(np.random.default_rng(seed), models, examples)
    if ties:
        margins, shadows = np.round(margins), np.round(shadows)
    p_values = example_p_values(margins, shadows, shadow_in)
    np.testing.assert_allclose(p_values, slow.example_p_values(margins, shadows, shadow_in))

    # Any monotone transform of the margins, and any order of examples and shadows, is the same.
    np.testing.assert_array_equal(
        example_p_values(8 * margins - 8, 8 * shadows - 8, shadow_in), p_values
    )
    order, others = np.random.default_rng(seed).permutation(examples), slice(None, None, -1)
    moved = example_p_values(margins[order], shadows[others, order], shadow_in[others, order])
    np.testing.assert_array_equal(moved, p_values[order])

    # None is below the least.
    least = least_p_value(shadow_in)
    np.testing.assert_array_equal(np.isnan(least), np.isnan(p_values))
    assert (p_values >= least)[~np.isnan(least)].all()


def test_p_values_of_an_example_that_no_model_saw_are_uniform_and_of_one_still_known_are_low():
    random = np.random.default_rng(0)
    p_values, steps, known = [], [], []
    for _ in range(600):
        margins, shadows, shadow_in = slow.made(random, MODELS, 1)
        p_values += example_p_values(margins, shadows, shadow_in).tolist()
        steps += least_p_value(shadow_in).tolist()
        known += example_p_values(margins + 6, shadows, shadow_in).tolist()
    spread = slow.continuous(p_values, steps, random)
    assert stats.kstest(spread, "uniform").pvalue > 0.01
    low, high = stats.binom.interval(0.999, len(spread), 0.05)
    assert low <= np.sum(spread <= 0.05) <= high
    assert np.mean(np.array(known) <= 0.15) > 0.8


def test_a_shift_is_taken_off_the_margins():
    margins, shadows, shadow_in = slow.made(np.random.default_rng(0), MODELS, EXAMPLES)
    np.testing.assert_array_equal(
        example_p_values(margins + 1.5, shadows, shadow_in, shift=1.5),
        example_p_values(margins, shadows, shadow_in),
    )
    with pytest.raises(InvalidInputError, match="shift"):
        example_p_values(margins, shadows, shadow_in, shift=np.nan)


@pytest.mark.parametrize("least", ["given", None])
def test_the_calibration_of_uniform_p_values_is_uniform_however_coarse_their_grid(least):
    random, steps = np.random.default_rng(1), 5
    checks = [
        calibration(
            random.integers(1, steps + 1, 100) / steps,
            least=1 / steps if least else None,
            seed=seed,
        )
        for seed in range(200)
    ]
    assert stats.kstest([check.p_value for check in checks], "uniform").pvalue > 0.01
    assert np.mean([check.mean for check in checks]) == pytest.approx(0.5, abs=0.01)


def test_the_calibration_finds_a_model_that_fits_everything_better():
    random = np.random.default_rng(2)
    margins, shadows, _ = slow.made(random, MODELS, EXAMPLES, share=0.0, common=0.0)
    nowhere = np.zeros(shadows.shape, bool)
    fair = calibration(example_p_values(margins, shadows, nowhere))
    better = calibration(example_p_values(margins + 1, shadows, nowhere))
    assert fair.p_value > 0.01 > 1e-6 > better.p_value
    assert fair.statistic < better.statistic
    assert better.mean < 0.4 < fair.mean


def test_p_values_that_are_not_there_do_not_count():
    p_values = np.array([0.2, np.nan, 0.4, 1.0])
    assert calibration(p_values) == calibration(p_values[[0, 2, 3]])
    steps = np.array([0.2, np.nan, 0.1, 0.5])
    assert calibration(p_values, least=steps).mean == pytest.approx(np.mean([0.1, 0.35, 0.75]))
    assert calibration(np.array([0.5])).count == 1


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 6), st.booleans())
def test_the_distance_of_models_is_what_counting_finds(seed, models, examples, ties):
    margins, shadows, _ = slow.made(np.random.default_rng(seed), models, examples)
    if ties:
        margins, shadows = np.round(margins), np.round(shadows)
    p_values = slow.shadow_p_values(margins, shadows)
    distances = np.array([slow.grid_distance(each, models + 1) for each in p_values])
    check = shadow_calibration(margins, shadows)
    assert check.statistic == pytest.approx(distances[0])
    assert check.p_value == np.mean(distances >= distances[0] - 1e-9)
    assert check.mean == pytest.approx(p_values[0].mean() - 0.5 / (models + 1))


def test_models_that_are_each_of_a_piece_are_still_exchangeable():
    """An effect common to a model's margins deceives the test of examples, not that of models."""
    random = np.random.default_rng(3)
    p_values, of_examples = [], []
    for _ in range(200):
        margins, shadows, _ = slow.made(random, 19, 97, share=0.0, common=0.5)
        p_values.append(shadow_calibration(margins, shadows).p_value)
        nowhere = np.zeros(shadows.shape, bool)
        of_examples.append(calibration(example_p_values(margins, shadows, nowhere)).p_value)
    spread = slow.continuous(p_values, 0.05, random)
    assert stats.kstest(spread, "uniform").pvalue > 0.01
    assert np.mean(np.array(of_examples) <= 0.05) > 0.3


@pytest.mark.parametrize("robust", [True, False])
def test_a_model_that_is_shifted_and_scaled_is_mended(robust):
    random = np.random.default_rng(4)
    margins, shadows, _ = slow.made(random, 40, 2 * EXAMPLES, share=0.0, common=0.1)
    first, second = np.arange(EXAMPLES), np.arange(EXAMPLES, 2 * EXAMPLES)
    mask = np.arange(2 * EXAMPLES) < EXAMPLES
    mended = standardized(1.5 * margins + 2, first, shadows, robust=robust)
    np.testing.assert_allclose(
        mended, standardized(1.5 * margins + 2, mask, shadows, robust=robust)
    )

    # Whatever the shift and the scale, the same comes out; on other examples it is calibrated.
    np.testing.assert_allclose(mended, standardized(margins, first, shadows, robust=robust))
    nowhere = np.zeros(shadows.shape, bool)[:, second]
    broken = example_p_values(1.5 * margins[second] + 2, shadows[:, second], nowhere)
    healed = example_p_values(mended[second], shadows[:, second], nowhere)
    assert calibration(broken).p_value < 1e-6
    assert calibration(healed).statistic < 0.1 < calibration(broken).statistic


def test_one_example_or_one_shadow_is_enough_where_it_can_be():
    assert example_p_values([1.0], [[2.0]], np.array([[False]])).tolist() == [1.0]
    assert np.isnan(example_p_values([1.0], [[2.0]], np.array([[True]]))).all()
    assert np.isnan(least_p_value(np.array([[True]]))).all()
    assert shadow_calibration([1.0], [[2.0]]).p_value == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margins": []}, "no examples"),
        ({"margins": [0.0, np.nan]}, "not finite"),
        ({"margins": [0.0, 1.0, 2.0]}, r"wanted \[M, n\]"),
        ({"shadow_margins": [[np.inf, 0.0]]}, "not finite"),
        ({"shadow_margins": np.zeros((0, 2)), "shadow_in": np.zeros((0, 2), bool)}, "one shadow"),
        ({"shadow_margins": np.zeros((3, 2))}, r"wanted \[M, n\]"),
        ({"shadow_in": np.zeros((1, 2))}, "booleans"),
    ],
)
def test_shadows_that_are_none_are_refused(change, message):
    given = {
        "margins": [0.0, 1.0],
        "shadow_margins": [[0.0, 1.0]],
        "shadow_in": np.zeros((1, 2), bool),
    }
    example_p_values(**given)
    with pytest.raises(InvalidInputError, match=message):
        example_p_values(**given | change)


def test_p_values_that_are_none_and_margins_that_cannot_be_mended_are_refused():
    for wrong in ([], [np.nan], [0.0, 0.5], [1.5]):
        with pytest.raises(InvalidInputError, match="p_values"):
            calibration(np.array(wrong))
    for least in (-0.1, 0.9, np.nan):
        with pytest.raises(InvalidInputError, match="least"):
            calibration(np.array([0.5]), least=least)
    margins, shadows = np.array([1.0, 1.0, 2.0]), np.zeros((2, 3))
    for unseen, message in (
        ([0, 1], "no spread"),
        ([], "unseen"),
        ([3], "outside"),
        ([0.5], "wanted a mask"),
        ([False] * 3, "no examples"),
        ([True], "wanted a mask"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            standardized(margins, np.array(unseen), shadows)
