"""Populations: margins of models, and which examples each model has seen or forgotten."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from rumjax.audits.population import (
    FORGOTTEN,
    IN,
    OUT,
    Population,
    check_population,
    margins,
    worlds_of_task,
)
from rumjax.errors import InvalidInputError


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.integers(2, 5))
def test_a_margin_is_the_logit_of_the_true_labels_probability(seed, classes):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (7, classes)).astype(np.float32)
    labels = random.integers(0, classes, 7)
    found = margins(logits, labels)
    assert found.dtype == np.float32
    wanted = softmax(logits.astype(float), axis=1)[np.arange(7), labels]
    np.testing.assert_allclose(expit(found.astype(float)), wanted, rtol=1e-4)


def test_margins_of_saturated_models_keep_their_digits():
    found = margins(np.array([[80.0, 0.0, -3.0]], np.float32), np.array([0]))
    assert found[0] == pytest.approx(80 - np.log1p(np.exp(-3)))


def test_the_logits_are_left_as_they_are():
    logits = np.ones((2, 3), np.float32)
    margins(logits, np.array([0, 1]))
    assert (logits == 1).all()


def test_worlds_of_a_task_are_those_of_what_is_forgotten_kept_and_never_seen():
    found = worlds_of_task(2, np.array([1, 3]), 4, 6)
    assert found.tolist() == [[IN, FORGOTTEN, IN, FORGOTTEN, OUT, OUT]] * 2
    oracles = worlds_of_task(1, np.array([1]), 3, 3, world=OUT)
    assert oracles.tolist() == [[IN, OUT, IN]]


def test_parts_of_a_population_keep_what_belongs_together():
    random = np.random.default_rng(0)
    whole = Population(random.normal(size=(4, 5)), random.integers(0, 3, (4, 5)), np.eye(4, 5) > 0)
    part = whole.of(np.array([2, 0])).at(np.array([4, 1, 1]))
    for field in range(3):
        np.testing.assert_array_equal(part[field], whole[field][[2, 0]][:, [4, 1, 1]])
    assert whole._replace(correct=None).of(np.array([1])).correct is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margins": np.zeros(3)}, r"\[models, examples\]"),
        ({"margins": np.zeros((0, 3)), "worlds": np.zeros((0, 3))}, "at least one"),
        ({"worlds": np.zeros((2, 4))}, "both|all must be"),
        ({"correct": np.zeros((3, 3), bool)}, "all must be"),
        ({"worlds": np.full((2, 3), 5)}, "OUT, IN or FORGOTTEN"),
        ({"margins": np.array([[0.0, 1, 2], [0, np.nan, np.inf]])}, "2 margins.*model 1's on ex"),
    ],
)
def test_populations_that_are_none_are_refused(change, message):
    fine = Population(np.zeros((2, 3)), np.zeros((2, 3), np.int8))
    check_population("mine", fine)
    with pytest.raises(InvalidInputError, match=f"mine: .*(?:{message})"):
        check_population("mine", fine._replace(**change))
