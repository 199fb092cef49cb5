"""Searches over choices find the best, and keep to their budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limited
from hypothesis import strategies as st

from rumjax.errors import InvalidInputError
from rumjax.lab.search import ascend, exhaust


@given(st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=4), min_size=1, max_size=4))
@limited(deadline=None, max_examples=50)
def test_coordinate_ascent_finds_the_best_of_a_sum(gains):
    values = [range(len(each)) for each in gains]
    asked = []

    def evaluate(choices):
        asked.extend(choices)
        return [sum(each[at] for each, at in zip(gains, c, strict=True)) for c in choices]

    start = tuple(0 for _ in gains)
    best, score = ascend(start, values, evaluate, budget=1000)
    everything = exhaust(start, values, evaluate, budget=1000)
    assert score == everything[1] == sum(map(max, gains))
    assert evaluate([best]) == [score]
    few = ascend(start, values, evaluate, budget=3)
    assert evaluate([start])[0] <= few[1] <= score


def test_coordinate_ascent_keeps_to_its_budget_and_asks_for_nothing_twice():
    random, asked = np.random.default_rng(0), []

    def evaluate(choices):
        asked.extend(choices)
        return random.random(len(choices)).tolist()

    ascend((0, 0, 0), [range(5)] * 3, evaluate, budget=17)
    assert len(asked) == len(set(asked)) <= 17


def test_an_exhaustive_search_says_beforehand_that_it_exceeds_its_budget():
    with pytest.raises(InvalidInputError, match=r"125 selections exceed the budget of 100"):
        exhaust((0, 0, 0), [range(5)] * 3, lambda _: pytest.fail("evaluated"), 100)
