"""SCRUB that rewinds: which of its models it keeps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import DivergenceError, InvalidInputError
from rumjax.types import task
from rumjax.unlearn import base, chain, run, scrub
from tests.references.teachers import accuracy

KEY = jax.random.key(5)
FORGET = np.arange(0, 60, 5)
TASK = task(FORGET, 60)
RETAIN = np.setdiff1d(np.arange(60), FORGET)
OPTIONS = {
    "epochs": 5,
    "max_epochs": 3,
    "batch_size": 4,
    "temperature": 1.0,
    "learning_rate": 0.1,
    "momentum": 0.5,
}
ALONE = {"beta": 0.0, "gamma": 0.0, "weight_decay": 0.05, "batch_norm": "freeze"}
"""options by which the models depend on S alone; without decay SCRUB would not begin"""


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def walk(unlearner, given, data):
    """States before the first epoch and after each, and metrics of each."""
    state = base._start(unlearner, KEY, given, data, TASK)
    states, metrics = [jax.tree.map(jnp.copy, state)], []
    for _ in range(5):
        state, _, noted = base._advance(unlearner, state, data, TASK)
        states.append(jax.tree.map(jnp.copy, state))
        metrics.append(noted)
    return states, metrics


def rewound(model, reference, **changes):
    return scrub(model, rewind=True, reference_error=reference, **{**OPTIONS, **ALONE, **changes})


def error(variables, data):
    variables = jax.tree.map(lambda leaf: np.array(leaf, float), variables)
    images, labels = np.asarray(data.images, float), np.asarray(data.labels)
    return 1 - accuracy(variables, images[FORGET], labels[FORGET])


@pytest.fixture(scope="module")
def steps(model, original, data):
    """The variables of the start and of every epoch, and the error of each on S."""
    states, metrics = walk(rewound(model, 0.5), original, data)
    variables = [state.variables for state in states]
    errors = [error(each, data) for each in variables]
    np.testing.assert_allclose([each["forget_error"] for each in metrics], errors[1:], atol=1e-6)
    assert len(set(errors)) > 3
    return variables, np.array(errors)


def test_it_keeps_the_model_nearest_to_the_reference_and_of_equals_the_first(
    model, original, data, steps
):
    variables, errors = steps
    kept = set()
    middle = (errors.min() + errors.max()) / 2
    for reference in (*errors, 0.0, 1.0, middle):
        states, metrics = walk(rewound(model, reference), original, data)
        wanted = int(np.argmin(np.round(np.abs(errors - reference), 6)))
        result = rewound(model, reference).finish(states[-1])
        assert bits(result) == bits(variables[wanted])
        assert metrics[-1]["kept_epoch"] == wanted
        assert bits(states[-1].memory.teacher) == bits(original)
        kept.add(wanted)
    assert 0 in kept
    assert len(kept) > 2


def test_its_models_are_those_of_scrub(model, original, data, steps):
    states, _ = walk(scrub(model, **OPTIONS, **ALONE), original, data)
    for state, variables in zip(states, steps[0], strict=True):
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5),
            state.variables,
            variables,
        )


def test_the_choice_never_depends_on_r(model, original, data, steps):
    other = data._replace(
        images=data.images.at[RETAIN].set(255 - data.images[RETAIN]),
        labels=data.labels.at[RETAIN].set((data.labels[RETAIN] + 1) % 3),
    )
    unlearner = rewound(model, steps[1].max())
    results = [unlearner.finish(walk(unlearner, original, seen)[0][-1]) for seen in (data, other)]
    assert bits(results[0]) == bits(results[1])


def test_a_start_that_does_not_move_is_kept(model, original, data):
    states, metrics = walk(rewound(model, 1.0, learning_rate=0.0), original, data)
    assert metrics[-1]["kept_epoch"] == 0
    assert bits(states[-1].memory.variables) == bits(original)


def test_a_model_that_is_not_finite_is_never_kept(model, original, data):
    # All that is NaN is taken for class 0.
    reference = float(np.mean(np.asarray(data.labels)[FORGET] != 0))
    unlearner = rewound(model, reference)
    state = base._start(unlearner, KEY, original, data, TASK)
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), original)
    state, finite, metrics = base._advance(unlearner, state._replace(variables=broken), data, TASK)
    assert metrics["forget_error"] == pytest.approx(reference)
    assert metrics["diverged_at"] == 0
    assert metrics["kept_epoch"] == 0
    assert finite
    assert bits(unlearner.finish(state)) == bits(original)

    # A run that diverges raises all the same.
    diverging = dataclasses.replace(unlearner, learning_rate=jnp.float32(1e30))
    with pytest.raises(DivergenceError, match="Rewound"):
        run(KEY, chain(TASK, diverging), original, data)


def test_the_reference_must_be_found_out(model, original, data):
    with pytest.raises(InvalidInputError, match="needs reference_error"):
        run(KEY, chain(TASK, scrub(model, rewind=True)), original, data)
    with pytest.raises(InvalidInputError, match="without rewind"):
        scrub(model, reference_error=0.5)
