"""Entanglement and discrepancy of embeddings, against slow references."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.extra import numpy as arrays

from rumjax.errors import InvalidInputError
from rumjax.scores import entanglement_score, mmd_squared

few = hypothesis.settings(deadline=None, max_examples=25)


@st.composite
def embedded(draw):
    count, width = draw(st.integers(2, 9)), draw(st.integers(1, 4))
    values = draw(arrays.arrays(np.int64, (count, width), elements=st.integers(-8, 8)))
    order = draw(st.permutations(range(count)))
    forgotten = draw(st.integers(1, count - 1))
    return values / 4, np.array(order[:forgotten]), np.array(order[forgotten:])


def slow_entanglement(embeddings, forget, retain, grand_mean):
    def mean(indices):
        return sum(embeddings[i] for i in indices) / len(indices)

    centers = {
        "all": mean([*forget, *retain]),
        "unweighted": (mean(forget) + mean(retain)) / 2,
    }
    center = centers[grand_mean]
    within = between = 0.0
    for indices in (forget, retain):
        within += sum(((embeddings[i] - mean(indices)) ** 2).sum() for i in indices) / len(indices)
        between += ((mean(indices) - center) ** 2).sum() / 2
    return within, between


def slow_mmd(embeddings, forget, retain, gamma):
    def mean_kernel(rows, columns):
        total = 0.0
        for i in rows:
            for j in columns:
                total += np.exp(-gamma * ((embeddings[i] - embeddings[j]) ** 2).sum())
        return total / (len(rows) * len(columns))

    return (
        mean_kernel(retain, retain) + mean_kernel(forget, forget) - 2 * mean_kernel(retain, forget)
    )


@few
@hypothesis.given(embedded(), st.sampled_from(["all", "unweighted"]))
def test_the_score_is_that_of_the_slow_twin(problem, grand_mean):
    within, between = slow_entanglement(*problem, grand_mean)
    hypothesis.assume(between > 1e-9)
    found = entanglement_score(*problem, grand_mean=grand_mean)
    assert found == pytest.approx(within / between, rel=1e-9, abs=1e-12)


@few
@hypothesis.given(embedded(), st.sampled_from([0.1, 1.0, 3.0]))
def test_the_discrepancy_is_that_of_the_slow_twin(problem, gamma):
    found = mmd_squared(*problem, gamma=gamma)
    assert found == pytest.approx(slow_mmd(*problem, gamma), abs=1e-12)
    assert found >= -1e-12


def test_the_discrepancy_goes_block_by_block():
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(1200, 2))
    forget, retain = np.arange(100), np.arange(100, 1200)

    def mean_kernel(one, other):
        squared = ((embeddings[one][:, None] - embeddings[other][None]) ** 2).sum(axis=2)
        return np.exp(-squared).mean()

    wanted = mean_kernel(retain, retain) + mean_kernel(forget, forget)
    wanted -= 2 * mean_kernel(retain, forget)
    assert mmd_squared(embeddings, forget, retain) == pytest.approx(wanted, abs=1e-12)


def test_the_median_heuristic_takes_the_median_squared_distance_between_the_sets():
    embeddings = np.array([[0.0], [1.0], [3.0], [6.0]])
    forget, retain = np.array([3]), np.array([0, 1, 2])
    wanted = slow_mmd(embeddings, forget, retain, 1 / 25)
    assert mmd_squared(embeddings, forget, retain, gamma="median") == pytest.approx(wanted)


def test_drawing_the_sets_apart_lowers_the_score_and_raises_the_discrepancy():
    embeddings = np.random.default_rng(0).normal(size=(80, 3))
    forget, retain = np.arange(20), np.arange(20, 80)
    embeddings[forget] -= embeddings[forget].mean(0) - embeddings[retain].mean(0)
    scores, discrepancies = [], []
    for apart in (0.1, 0.5, 1.0, 3.0):
        moved = embeddings.copy()
        moved[forget, 0] += apart
        scores.append(entanglement_score(moved, forget, retain))
        discrepancies.append(mmd_squared(moved, forget, retain, gamma=0.5))
    assert scores == sorted(scores, reverse=True)
    assert discrepancies == sorted(discrepancies)
    # Variance within stays as it is, the one between grows as the square of the distance.
    assert scores[0] / scores[2] == pytest.approx(100, rel=1e-6)


def test_spreading_the_sets_raises_the_score():
    random = np.random.default_rng(1)
    offsets, forget, retain = random.normal(size=(40, 2)), np.arange(10), np.arange(10, 40)
    for part in (forget, retain):
        offsets[part] -= offsets[part].mean(0)
    centers = np.where(np.arange(40)[:, None] < 10, 2.0, 0.0)
    found = [entanglement_score(centers + width * offsets, forget, retain) for width in (1, 2, 4)]
    assert found[1] / found[0] == pytest.approx(4)
    assert found[2] / found[0] == pytest.approx(16)


def test_sets_with_the_same_mean_cannot_be_told_apart():
    embeddings = np.array([[1.0], [-1.0], [2.0], [-2.0]])
    assert entanglement_score(embeddings, np.array([0, 1]), np.array([2, 3])) == np.inf


@pytest.mark.parametrize("function", [entanglement_score, mmd_squared])
@pytest.mark.parametrize(
    ("embeddings", "forget", "retain", "message"),
    [
        (np.ones((4, 2)), [], [0], "no indices"),
        (np.ones((4, 2)), [0], [], "no indices"),
        (np.ones((4, 0)), [0], [1], "penultimate layer"),
        (np.ones(4), [0], [1], r"\[N, E\]"),
        (np.array([[1.0], [np.nan]]), [0], [1], "not finite"),
        (np.array([[1.0], [np.inf]]), [0], [1], "not finite"),
    ],
)
def test_what_has_no_entanglement_is_refused(function, embeddings, forget, retain, message):
    with pytest.raises(InvalidInputError, match=message):
        function(embeddings, np.array(forget, int), np.array(retain, int))


def test_unknown_options_are_refused():
    arguments = (np.ones((2, 1)), np.array([0]), np.array([1]))
    with pytest.raises(InvalidInputError, match="grand mean 'everything'"):
        entanglement_score(*arguments, grand_mean="everything")
    for gamma in (0.0, -1.0, np.nan):
        with pytest.raises(InvalidInputError, match="gamma"):
            mmd_squared(*arguments, gamma=gamma)
    with pytest.raises(InvalidInputError, match="gamma"):
        mmd_squared(*arguments, gamma="mean")
