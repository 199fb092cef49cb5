"""RUM: parts, their order, and what still counts as retained at each step."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.models import Cnn, Model
from rumjax.refine import LEVELS, ascending, at_random, by_class, by_score, rum, whole
from rumjax.types import Scores
from rumjax.unlearn import Step, finetune, original, random_label
from tests.references import refinement

few = hypothesis.settings(deadline=None, max_examples=25)
SIZE = 40
NOTHING = original(Model(Cnn(2)))


@st.composite
def problems(draw):
    """S and R, where S is cut into parts, and an order of the parts."""
    count = draw(st.integers(1, 5))
    forgotten = draw(st.integers(count, 12))
    size = forgotten + draw(st.integers(1, 12))
    permutation = np.array(draw(st.permutations(range(size))))
    ends = sorted(
        draw(
            st.sets(st.integers(1, forgotten - 1), min_size=count - 1, max_size=count - 1)
            if count > 1
            else st.just(set())
        )
    )
    order = draw(st.permutations([f"part {i}" for i in range(count)]))
    return permutation[:forgotten], permutation[forgotten:], ends, order


def members(subset):
    return np.asarray(subset.indices)[: int(subset.size)].tolist()


def assert_steps(steps, wanted):
    assert [step.name for step in steps] == [name for name, _, _ in wanted]
    for step, (_, forgotten, retained) in zip(steps, wanted, strict=True):
        assert sorted(members(step.task.forget)) == sorted(forgotten)
        assert members(step.task.retain) == sorted(retained)


@few
@hypothesis.given(problems())
def test_what_is_not_yet_unlearned_still_counts_as_retained(problem):
    forget, retain, ends, order = problem
    split = np.split(forget, ends)
    parts = {f"part {i}": part for i, part in enumerate(split)}
    unlearner = NOTHING
    steps = rum(forget, retain, refine=lambda _: parts, select=unlearner, order=order)
    assert_steps(steps, refinement.steps(parts, order, forget, retain))
    assert all(step.unlearner is unlearner for step in steps)


@few
@hypothesis.given(problems())
def test_every_step_has_room_for_all_so_that_it_shares_a_compilation(problem):
    forget, retain, ends, order = problem
    parts = {f"part {i}": part for i, part in enumerate(np.split(forget, ends))}
    for step in rum(forget, retain, refine=lambda _: parts, select=NOTHING, order=order):
        assert step.task.forget.indices.shape == (len(forget),)
        assert step.task.retain.indices.shape == (len(forget) + len(retain),)
        assert step.task.forget.indices.dtype == step.task.retain.indices.dtype == np.int32


@few
@hypothesis.given(problems(), st.integers(0, 3))
def test_refining_by_score_gives_runs_of_ascending_score(problem, seed):
    forget, retain, ends, _ = problem
    names = [f"part {i}" for i in range(len(ends) + 1)]
    scores = np.random.default_rng(seed).permutation(len(forget) + len(retain))
    parts = by_score(Scores(scores.astype(np.float32)), parts=names)(forget)
    wanted = refinement.thirds(forget, scores, len(names))
    assert list(parts) == names
    assert [list(part) for part in parts.values()] == wanted


def test_the_default_order_is_that_of_the_parts():
    scores = Scores(np.arange(SIZE, dtype=np.float32)[::-1].copy())
    steps = rum(np.arange(6), np.arange(6, SIZE), refine=by_score(scores), select=NOTHING)
    assert [step.name for step in steps] == list(LEVELS)
    assert [sorted(members(step.task.forget)) for step in steps] == [[4, 5], [2, 3], [0, 1]]


def test_ties_depend_on_the_seed_alone():
    values = np.zeros(30)
    assert ascending(values, seed=1).tolist() == ascending(values.copy(), seed=1).tolist()
    assert ascending(values, seed=1).tolist() != ascending(values, seed=2).tolist()
    assert sorted(ascending(values, seed=1)) == list(range(30))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_refining_at_random_deals_the_set_out_whatever_order_it_comes_in(count):
    forget = np.arange(0, 20, 2)
    names = [str(i) for i in range(count)]
    first = at_random(parts=names, seed=4)(forget)
    again = at_random(parts=names, seed=4)(forget[::-1])
    assert all(first[name].tolist() == again[name].tolist() for name in names)
    assert sorted(np.concatenate(list(first.values()))) == forget.tolist()
    lengths = [len(part) for part in first.values()]
    assert max(lengths) - min(lengths) <= 1
    if count > 1:
        other = at_random(parts=names, seed=5)(forget)
        assert any(first[name].tolist() != other[name].tolist() for name in names)


def test_refining_by_class_makes_a_part_of_every_class_there_is():
    labels = np.array([0, 1, 2, 0, 2, 1])
    parts = by_class(labels)(np.array([0, 2, 3, 4]))
    assert {name: part.tolist() for name, part in parts.items()} == {
        "class_0": [0, 3],
        "class_2": [2, 4],
    }


def test_four_strategies_are_four_values_of_the_same_function(model):
    forget, retain = np.arange(0, 18, 2), np.setdiff1d(np.arange(SIZE), np.arange(0, 18, 2))
    scores = Scores(np.random.default_rng(0).normal(size=SIZE).astype(np.float32))
    one = finetune(model)
    each = {"low": original(model), "medium": one, "high": random_label(model, num_classes=3)}
    strategies = {
        "vanilla": rum(forget, retain, refine=whole(), select=one),
        "shuffle": rum(forget, retain, refine=at_random(), select=one),
        "rum_f": rum(forget, retain, refine=by_score(scores), select=one),
        "rum": rum(forget, retain, refine=by_score(scores), select=each),
    }
    assert [len(steps) for steps in strategies.values()] == [1, 3, 3, 3]
    (vanilla,) = strategies["vanilla"]
    assert isinstance(vanilla, Step)
    assert (members(vanilla.task.forget), members(vanilla.task.retain)) == (
        forget.tolist(),
        retain.tolist(),
    )
    for name, steps in strategies.items():
        unlearned = np.concatenate([members(step.task.forget) for step in steps])
        assert np.sort(unlearned).tolist() == forget.tolist()
        assert members(steps[-1].task.retain) == retain.tolist(), name
    for fixed, chosen in zip(strategies["rum_f"], strategies["rum"], strict=True):
        assert members(fixed.task.forget) == members(chosen.task.forget)
        assert fixed.unlearner is one
        assert chosen.unlearner is each[chosen.name]
    shuffled = [members(step.task.forget) for step in strategies["shuffle"]]
    assert shuffled != [members(step.task.forget) for step in strategies["rum_f"]]


FORGET, RETAIN = np.arange(6), np.arange(6, 20)
PARTS = {"a": FORGET[:3], "b": FORGET[3:]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retain": np.arange(5, 20)}, "share 1 examples, the first is 5"),
        ({"forget": []}, "forget set: no indices"),
        ({"retain": []}, "retain set: no indices"),
        ({"forget": [0, 0, 1]}, "1 duplicated indices, the first is 0"),
        ({"retain": [7, 7]}, "1 duplicated indices, the first is 7"),
        ({"forget": [-1, 2]}, "forget set: 1 of 2 indices are outside"),
        ({"forget": [0.5, 2]}, "forget set: wanted integers"),
        ({"refine": lambda _: {"a": FORGET[:4], "b": FORGET[3:]}}, "do not make up"),
        ({"refine": lambda _: {"a": FORGET[:2], "b": FORGET[3:]}}, "do not make up"),
        ({"refine": lambda _: {"a": FORGET[:3], "b": RETAIN[:3]}}, "do not make up"),
        ({"refine": lambda _: {}}, "do not make up"),
        ({"refine": lambda _: {"a": FORGET, "b": FORGET[:0]}}, "part 'b' is empty"),
        ({"refine": at_random(parts=list("abcdefgh"))}, "part 'g' is empty"),
        ({"order": ("a",)}, "order: names a, but the parts are a, b"),
        ({"order": ("a", "b", "b")}, "order: names a, b, b"),
        ({"order": ("a", "c")}, "order: names a, c"),
        ({"select": {"a": object()}}, "select: names a, but the parts are a, b"),
        ({"select": {"a": object(), "b": object(), "c": object()}}, "select: names a, b, c"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    options = {
        "forget": FORGET,
        "retain": RETAIN,
        "refine": lambda _: PARTS,
        "select": object(),
        **changes,
    }
    with pytest.raises(InvalidInputError, match=message):
        rum(options.pop("forget"), options.pop("retain"), **options)


def test_parts_may_be_sets():
    steps = rum([1, 2], [0, 3], refine=lambda _: {"a": {2}, "b": {1}}, select=NOTHING)
    assert [members(step.task.forget) for step in steps] == [[2], [1]]


@pytest.mark.parametrize(
    ("refine", "message"),
    [
        (at_random, "refine: TypeError.*at_random.. for instance"),
        (lambda forget: forget[99], "refine: IndexError"),
        (lambda forget: {0: forget}, "names of parts, got 0"),
        (lambda forget: list(forget), "returned list"),
    ],
)
def test_a_refinement_that_fails_is_named(refine, message):
    with pytest.raises(InvalidInputError, match=message):
        rum([1, 2], [0, 3], refine=refine, select=NOTHING)
