"""Networks of the shipped configurations, traced at full size in training and in every unlearner.

They are traced on their data's shape and classes and not compiled, which would take minutes each on
a CPU.
"""

import jax
import numpy as np
import pytest

from rumjax import launch, models
from rumjax.lab import experiment
from rumjax.models.conv import OVERRIDE
from rumjax.types import Dataset, task
from tests.shipped import LARGER, SHAPES, TRACED, TRAIN, with_images

TRACED_BEFORE = set()
"""unlearners, with their network and the shape of its images, that an earlier configuration had"""


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


MARKS = dict.fromkeys(LARGER, pytest.mark.lengthy)
MARKS["difficulty.py:cifar10"] = pytest.mark.thorough


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS.get(name, ())) for name in (*TRACED, *LARGER)]
)
def test_training_and_every_unlearner_can_be_traced_at_full_size(name, tmp_path, monkeypatch):
    config = launch.configuration(name)
    side, channels, classes = SHAPES[config["data"]["name"]]
    if channels == 3:  # these take an accelerator, on which convolutions are XLA's own
        monkeypatch.setenv(OVERRIDE, "lax")
    built = experiment.build(with_images(config, tmp_path / "data.npz", side, channels, classes))
    images = jax.ShapeDtypeStruct((TRAIN, side, side, channels), np.uint8)
    data = Dataset(images, jax.ShapeDtypeStruct((TRAIN,), np.int32))
    key = jax.random.key(0)
    variables = jax.eval_shape(built.model.init, key, images)
    outputs = jax.eval_shape(lambda v, x: models.predict(built.model, v, x), variables, images)
    assert outputs.logits.shape == (TRAIN, classes)
    assert outputs.embeddings.shape[1] >= 1
    unlearners = {type(each): each for method in built.methods for each in method.select.values()}
    network = str(config["model"]), images.shape
    for unlearner in (built.recipe, *unlearners.values()):
        kind, work = type(unlearner), task(range(6), TRAIN)
        # What differs between configurations of one network is how many classes there are, which
        # training has to fit; what unlearners do besides is the same.
        if unlearner is not built.recipe:
            if (kind, network) in TRACED_BEFORE:
                continue
            TRACED_BEFORE.add((kind, network))
        state = jax.eval_shape(kind.init, unlearner, key, variables, data, work)
        if unlearner.epochs:
            later, metrics = jax.eval_shape(kind.epoch, unlearner, state, data, work)
            assert shapes(later) == shapes(state)
            assert all(value.shape == () for value in metrics.values())
        assert shapes(jax.eval_shape(kind.finish, unlearner, state)) == shapes(variables)
