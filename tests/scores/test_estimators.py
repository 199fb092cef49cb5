"""The estimator against the definition.

What is estimated is the definition of memorization for the learner "draw a subset of 6 of the 9
examples, then train": the accuracy on i of models trained on subsets that have i, less that of
models trained on subsets that were drawn from D without i. The learner is deterministic and so
cheap that all subsets can be trained on, which makes the definition a finite sum.
"""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.extra import numpy as arrays

from rumjax.errors import InvalidInputError
from rumjax.scores import influence, memorization, random_subset
from tests.references import neighbors

N, SEEN, MODELS = 9, 6, 2000
few = hypothesis.settings(deadline=None, max_examples=25)


@pytest.fixture(scope="module")
def examples():
    """Two clouds that touch, three of each, and three examples with a label that is not theirs."""
    points = np.array(
        [[0, 0], [1, 0.3], [0.4, 1], [4, 4], [5, 4.2], [4.3, 5], [4.4, 4.1], [0.6, 0.5], [2.4, 2.6]]
    )
    return points, np.array([0, 0, 0, 1, 1, 1, 0, 1, 0])


@pytest.fixture(scope="module")
def exact(examples):
    return neighbors.leave_one_out(*examples, SEEN)


@pytest.fixture(scope="module")
def bank(examples):
    """Membership and correctness of models trained on random subsets."""
    member = np.zeros((MODELS, N), bool)
    for model, row in enumerate(member):
        row[random_subset(7, model, N, SEEN / N)] = True
    return member, np.array([neighbors.correct(*examples, seen) for seen in member])


@st.composite
def banks(draw):
    """Any membership in which every example is in and out, and any correctness."""
    models, count = draw(st.integers(2, 8)), draw(st.integers(1, 5))
    member = draw(arrays.arrays(bool, (models, count)))
    member[0], member[1] = True, False
    return member, draw(arrays.arrays(bool, (models, count)))


def test_over_all_subsets_the_estimator_is_exact_leave_one_out(examples, exact):
    member, correct = neighbors.every_subset(*examples, SEEN)
    np.testing.assert_allclose(memorization(member, correct).values, exact, atol=1e-6)
    assert exact.max() - exact.min() > 0.25


def test_over_random_subsets_the_estimate_is_within_its_own_standard_errors(bank, exact):
    found = memorization(*bank)
    # 4.5 standard errors for nine estimates; an error of 0 is one that only a certain event has.
    assert (np.abs(found.values - exact) <= 4.5 * found.standard_error + 1e-6).all()
    assert found.standard_error.max() < 0.05
    assert np.corrcoef(found.values, exact)[0, 1] > 0.95


def test_the_estimate_grows_better_with_more_models(bank, exact):
    member, correct = bank
    few_models = memorization(member[:40], correct[:40])
    error = [np.abs(each.values - exact).mean() for each in (few_models, memorization(*bank))]
    assert error[1] < error[0]
    spread = memorization(*bank).standard_error.mean() / few_models.standard_error.mean()
    assert spread == pytest.approx(np.sqrt(40 / MODELS), rel=0.3)


def test_the_standard_error_is_that_of_a_bootstrap(bank):
    member, correct = bank
    random = np.random.default_rng(0)
    draws = [
        memorization(member[picked], correct[picked]).values
        for picked in random.integers(0, MODELS, (150, MODELS))
    ]
    # The spread of 150 draws is known to about 1/sqrt(2·150) of itself.
    found = memorization(member, correct).standard_error
    np.testing.assert_allclose(np.std(draws, axis=0), found, rtol=6 / np.sqrt(300), atol=1e-3)


def test_the_standard_error_has_a_closed_form():
    inside, outside = [1, 1, 0, 1], [1, 0, 0, 0, 0]
    member = np.array([[True]] * 4 + [[False]] * 5)
    found = memorization(member, np.array(inside + outside, bool)[:, None])
    assert found.values == pytest.approx([3 / 4 - 1 / 5])
    assert found.standard_error == pytest.approx([np.sqrt(3 / 4 * 1 / 4 / 4 + 1 / 5 * 4 / 5 / 5)])


@few
@hypothesis.given(banks())
def test_memorization_and_influence_are_those_of_a_slow_loop(bank):
    member, correct = bank
    found = influence(member, correct)
    assert found.shape == (member.shape[1], correct.shape[1])
    for i in range(member.shape[1]):
        for j in range(correct.shape[1]):
            seen = [right[j] for model, right in zip(member, correct, strict=True) if model[i]]
            unseen = [
                right[j] for model, right in zip(member, correct, strict=True) if not model[i]
            ]
            wanted = sum(seen) / len(seen) - sum(unseen) / len(unseen)
            assert found[i, j] == pytest.approx(wanted, abs=1e-5)
            if i == j:
                assert memorization(member, correct).values[i] == pytest.approx(wanted, abs=1e-6)


@few
@hypothesis.given(banks(), st.randoms(use_true_random=False))
def test_renaming_examples_renames_their_scores(bank, random):
    member, correct = bank
    order = list(range(member.shape[1]))
    random.shuffle(order)
    found, renamed = (
        memorization(member, correct),
        memorization(member[:, order], correct[:, order]),
    )
    np.testing.assert_array_equal(found.values[order], renamed.values)
    np.testing.assert_array_equal(found.standard_error[order], renamed.standard_error)


def test_influence_on_other_examples_may_have_another_shape(bank):
    member, correct = bank
    assert influence(member, correct[:, :2]).shape == (N, 2)
    np.testing.assert_allclose(
        np.diag(influence(member, correct)), memorization(member, correct).values, atol=1e-5
    )


def test_a_subset_depends_on_seed_and_number_alone():
    subsets = [random_subset(1, model, 20, 0.7) for model in range(50)]
    assert all(len(each) == len(np.unique(each)) == 14 for each in subsets)
    assert all(each.dtype == np.int32 and each.max() < 20 for each in subsets)
    assert np.array_equal(random_subset(1, 3, 20, 0.7), subsets[3])
    assert len({each.tobytes() for each in subsets}) > 45
    assert not np.array_equal(random_subset(2, 3, 20, 0.7), subsets[3])
    counts = np.bincount(np.concatenate(subsets), minlength=20)
    # Six standard deviations of a binomial count.
    assert np.abs(counts - 35).max() < 6 * np.sqrt(50 * 0.7 * 0.3)


@pytest.mark.parametrize("fraction", [0.0, 1.0, 0.01, -0.5, 2.0])
def test_a_subset_leaves_some_in_and_some_out(fraction):
    with pytest.raises(InvalidInputError, match="fraction"):
        random_subset(0, 0, 20, fraction)


SPLIT = np.array([[True, False], [False, True]])


@pytest.mark.parametrize(
    ("function", "member", "correct", "message"),
    [
        (memorization, SPLIT, SPLIT[:, :1], "member is"),
        (memorization, SPLIT | [True, False], SPLIT, "1 examples were seen by all 2 models"),
        (memorization, SPLIT & [True, False], SPLIT, "1 examples were seen by all 2 models or by"),
        (influence, SPLIT, SPLIT[:1], "2 models in member, but 1 in correct"),
        (influence, SPLIT | [True, False], SPLIT, "train more models"),
    ],
)
def test_a_bank_that_cannot_tell_is_refused(function, member, correct, message):
    with pytest.raises(InvalidInputError, match=message):
        function(member, correct)
