"""Forget sets: levels, classes, random ones and requests, whatever the ties."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from rumjax import forget_sets
from rumjax.errors import InvalidInputError
from rumjax.forget_sets import ForgetSet
from rumjax.types import Scores

few = hypothesis.settings(deadline=None, max_examples=25)


def scores(values):
    return Scores(np.asarray(values, np.float32))


def lists(parts):
    return {name: part.tolist() for name, part in parts.items()}


@st.composite
def scored(draw, *, distinct=False):
    size = draw(st.integers(1, 6))
    count = draw(st.integers(3 * size + 1, 3 * size + 15))
    values = draw(
        st.lists(
            st.integers(0, 10**4 if distinct else 4),
            min_size=count,
            max_size=count,
            unique=distinct,
        )
    )
    return np.array(values) / 5000, size


@few
@hypothesis.given(scored(), st.integers(0, 3), st.sampled_from([0.5, "median"]))
def test_levels_are_disjoint_and_of_the_right_size_whatever_the_ties(problem, seed, center):
    values, size = problem
    parts = forget_sets.by_score(scores(values), size, seed=seed, center=center)
    assert list(parts) == ["low", "medium", "high"]
    for part in parts.values():
        assert part.dtype == np.int32
        assert (np.diff(part) > 0).all()
        assert len(part) == size
    assert len(ForgetSet.of(parts, len(values)).forget) == 3 * size
    assert values[parts["low"]].max() <= np.delete(values, parts["low"]).min()
    assert values[parts["high"]].min() >= np.delete(values, parts["high"]).max()


@few
@hypothesis.given(scored(distinct=True), st.sampled_from([0.3, "median"]))
def test_distinct_scores_leave_nothing_to_choose(problem, center):
    values, size = problem
    order = sorted(range(len(values)), key=lambda i: values[i])
    between = order[size:-size]
    exact = np.float32(values).astype(float)
    middle = np.median(exact) if center == "median" else center
    found = lists(forget_sets.by_score(scores(values), size, center=center))
    assert found["low"] == sorted(order[:size])
    assert found["high"] == sorted(order[-size:])
    distance = np.abs(exact - middle)
    others = [i for i in between if i not in found["medium"]]
    assert set(found["medium"]) <= set(between)
    assert not others or max(distance[found["medium"]]) <= min(distance[others])


@few
@hypothesis.given(scored(distinct=True), st.randoms(use_true_random=False))
def test_renaming_examples_renames_the_forget_sets(problem, random):
    values, size = problem
    # Odd values keep every example at its own distance from the center.
    values = np.float32(values) ** 2 + 0.01
    permutation = list(range(len(values)))
    random.shuffle(permutation)
    permutation = np.array(permutation)
    parts = forget_sets.by_score(scores(values), size, center=0.0)
    renamed = forget_sets.by_score(scores(values[permutation]), size, center=0.0)
    for level, part in parts.items():
        assert sorted(permutation[renamed[level]]) == part.tolist()


def test_levels_by_hand():
    values = [0.9, 0.1, 0.5, 0.45, 0.0, 1.0, 0.2, 0.7]
    parts = forget_sets.by_score(scores(values), 2)
    assert lists(parts) == {"low": [1, 4], "medium": [2, 3], "high": [0, 5]}
    assert lists(forget_sets.by_score(scores(values), 2, levels=("high",))) == {"high": [0, 5]}


def test_ties_are_broken_by_the_seed_alone():
    values = scores(np.repeat([0.0, 1.0], 30))
    drawn = [lists(forget_sets.by_score(values, 5, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (4, {}, "three levels of 4 leave nothing of 12"),
        (0, {}, "size: wanted a whole number of at least 1"),
        (1.5, {}, "size: wanted a whole number"),
        (2, {"levels": ("low", "highest")}, "highest"),
    ],
)
def test_impossible_levels_are_refused(size, options, message):
    with pytest.raises(InvalidInputError, match=message):
        forget_sets.by_score(scores(np.arange(12)), size, **options)


def ring(count, seed=0):
    """Embeddings at distances 0, 1, 2… from a mean of exactly 0, in random order."""
    distance = np.repeat(np.arange(count // 2), 2)
    sign = np.tile([1, -1], count // 2)
    embeddings = np.stack([distance * sign, np.zeros(count)], axis=1)
    return embeddings[np.random.default_rng(seed).permutation(count)]


def test_far_from_the_mean_embedding_is_low_entanglement():
    embeddings = ring(150)
    parts = forget_sets.by_entanglement(embeddings, 10)
    distance = np.abs(embeddings[:, 0])
    # 150 examples are 15 groups of 10, or of distances 5g…5g+4; the groups asked for are exact.
    for level, group in (("low", 14), ("medium", 12), ("high", 3)):
        assert sorted(distance[parts[level]]) == np.repeat(5 * group + np.arange(5), 2).tolist()


@few
@hypothesis.given(st.integers(1, 20), st.integers(0, 3))
def test_entanglement_levels_are_disjoint_runs_of_the_ranking(size, seed):
    embeddings = ring(300, seed)
    parts = forget_sets.by_entanglement(embeddings, size, seed=seed)
    joined = ForgetSet.of(parts, 300).forget
    assert len(joined) == 3 * size
    distance = np.abs(embeddings[:, 0])
    for part in parts.values():
        assert len(part) == size
        outside = np.delete(distance, part)
        low, high = distance[part].min(), distance[part].max()
        assert not ((outside > low) & (outside < high)).any()
    assert distance[parts["high"]].mean() < distance[parts["medium"]].mean()
    assert distance[parts["medium"]].mean() < distance[parts["low"]].mean()


@few
@hypothesis.given(st.integers(1, 10), st.integers(0, 5))
def test_renaming_examples_renames_the_entanglement_levels(size, seed):
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(150, 3))
    permutation = random.permutation(150)
    parts = forget_sets.by_entanglement(embeddings, size)
    renamed = forget_sets.by_entanglement(embeddings[permutation], size)
    for level, part in parts.items():
        assert sorted(permutation[renamed[level]]) == part.tolist()


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (60, {}, "overlap or run out of 150 examples"),
        (200, {}, "overlap or run out of 150 examples"),
        (5, {"centers": (15, 12, 3)}, "group 15 is outside 0…14"),
        (5, {"centers": (14, 12, -1)}, "group -1 is outside 0…14"),
        (0, {}, "size: wanted a whole number"),
    ],
)
def test_impossible_entanglement_levels_are_refused(size, options, message):
    with pytest.raises(InvalidInputError, match=message):
        forget_sets.by_entanglement(ring(150), size, **options)


@few
@hypothesis.given(st.integers(2, 50), st.data())
def test_random_forget_sets_are_distinct_and_of_the_right_size(count, data):
    size = data.draw(st.integers(1, count - 1))
    (part,) = forget_sets.at_random(count, size, seed=1).values()
    assert len(part) == len(np.unique(part)) == size
    assert 0 <= part.min() <= part.max() < count
    assert part.tolist() == forget_sets.at_random(count, size, seed=1)["random"].tolist()


def test_random_forget_sets_reach_every_example_alike():
    drawn = [forget_sets.at_random(10, 4, seed=seed)["random"] for seed in range(500)]
    counts = np.bincount(np.concatenate(drawn), minlength=10)
    # Six standard deviations of a binomial count.
    assert np.abs(counts - 200).max() < 6 * np.sqrt(500 * 0.4 * 0.6)


@pytest.mark.parametrize("size", [0, 10, 11])
def test_random_forget_sets_leave_something_and_take_something(size):
    with pytest.raises(InvalidInputError, match="size"):
        forget_sets.at_random(10, size)


LABELS = np.array([0, 1, 1, 1, 1, 2, 0])


def test_whole_classes_and_parts_of_them():
    assert lists(forget_sets.by_class(LABELS, [0, 2])) == {"class_0": [0, 6], "class_2": [5]}
    half = forget_sets.by_class(LABELS, [1, 2], fraction=0.5)
    assert {name: len(part) for name, part in half.items()} == {"class_1": 2, "class_2": 1}
    assert (LABELS[half["class_1"]] == 1).all()


@pytest.mark.parametrize(
    ("classes", "fraction", "message"),
    [([3], 1.0, "no example has label 3"), ([0], 0.0, "fraction"), ([0], 1.1, "fraction")],
)
def test_impossible_classes_are_refused(classes, fraction, message):
    with pytest.raises(InvalidInputError, match=message):
        forget_sets.by_class(LABELS, classes, fraction=fraction)


def test_classes_are_named_as_well_as_numbered():
    names = ["ant", "bee", "cat"]
    assert lists(forget_sets.by_class(LABELS, ["cat", 0], class_names=names)) == {
        "class_2": [5],
        "class_0": [0, 6],
    }
    assert lists(forget_sets.by_class(LABELS, "cat", class_names=names)) == {"class_2": [5]}
    with pytest.raises(InvalidInputError, match="did you mean 'bee'"):
        forget_sets.by_class(LABELS, ["bees"], class_names=names)
    with pytest.raises(InvalidInputError, match="class 2 is given twice"):
        forget_sets.by_class(LABELS, [2, "cat"], class_names=names)
    with pytest.raises(InvalidInputError, match="there is none"):
        forget_sets.by_class(LABELS, [], class_names=names)


def test_a_number_that_means_two_classes_means_none():
    names = ["1", "2", "3"]  # folders that are counted from 1
    with pytest.raises(InvalidInputError, match="class called 1, whose label is 0, or label 1"):
        forget_sets.by_class(LABELS, [1], class_names=names)
    assert list(forget_sets.by_class(LABELS, ["1"], class_names=names)) == ["class_0"]
    assert list(forget_sets.by_class(LABELS, [1], class_names=["0", "1", "2"])) == ["class_1"]


def test_the_union_is_ascending():
    parts = {"a": np.array([5, 1]), "b": np.array([3])}
    assert ForgetSet.of(parts, 6).forget.tolist() == [1, 3, 5]


def test_a_forget_set_knows_its_parts_and_what_it_leaves():
    parts = {"a": np.array([5, 1], np.int32), "b": np.array([3], np.int32)}
    chosen = forget_sets.ForgetSet.of(parts, 6)
    assert chosen.parts is parts
    assert chosen.forget.tolist() == [1, 3, 5]
    assert chosen.retain.tolist() == [0, 2, 4]
    assert chosen.forget.dtype == chosen.retain.dtype == np.int32
    assert chosen.size == 6


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"a": [0, 1], "b": [1]}, "1 duplicated indices, the first is 1"),
        ({"a": [0, 0]}, "part a: 1 duplicated"),
        ({"a": [0], "b": []}, "part b: no indices"),
        ({"a": [3]}, "part a: 1 of 1 indices are outside 0…2"),
        ({"a": [0], "b": [1, 2]}, "it covers all 3 examples"),
        ({}, "no indices"),
    ],
)
def test_impossible_unions_are_refused(parts, message):
    with pytest.raises(InvalidInputError, match=message):
        forget_sets.ForgetSet.of({name: np.array(part, int) for name, part in parts.items()}, 3)
