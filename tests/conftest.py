"""Eight virtual CPU devices for every test, and small models and data that many tests share."""

import os

os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # tests keep no compiled programs, and use none

import jax

jax.config.update("jax_num_cpu_devices", 8)

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.models import Model
from rumjax.types import Dataset, Outputs, task
from rumjax.unlearn import chain, retrain, run
from tests import tiny

CLASSES = 3


class Network(nn.Module):
    """A hidden layer, with batch norm if asked: small, and with every kind of variable."""

    batch_norm: bool = True

    @nn.compact
    def __call__(self, images, train):
        hidden = nn.Dense(8)(images.reshape(images.shape[0], -1))
        if self.batch_norm:
            hidden = nn.BatchNorm(use_running_average=not train, momentum=0.9)(hidden)
        hidden = nn.relu(hidden)
        return Outputs(nn.Dense(CLASSES)(hidden), hidden)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the data and the configuration of `tests.tiny`."""
    folder = tmp_path_factory.mktemp("place")
    tiny.write_data(folder / "data.npz")
    tiny.write_config(folder)
    return folder


@pytest.fixture(scope="session")
def data():
    """60 noisy images of three prototypes, uint8[60, 4, 4, 1]."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, 60).astype(np.int32)
    prototypes = random.integers(0, 256, (CLASSES, 4, 4, 1))
    images = prototypes[labels] + random.normal(0, 60, (60, 4, 4, 1))
    return Dataset(jnp.asarray(np.clip(images, 0, 255).astype(np.uint8)), jnp.asarray(labels))


@pytest.fixture(scope="session")
def model():
    return Model(Network())


@pytest.fixture(scope="session")
def plain_model():
    """Without batch norm."""
    return Model(Network(batch_norm=False))


@pytest.fixture(scope="session")
def original(model, data):
    """The variables of a model trained on all the data."""
    recipe = retrain(model, epochs=4, batch_size=16, learning_rate=0.1)
    return run(jax.random.key(0), chain(task([], 60), recipe), None, data)


@pytest.fixture(scope="session")
def plain_original(plain_model, data):
    recipe = retrain(plain_model, epochs=4, batch_size=16, learning_rate=0.1)
    return run(jax.random.key(0), chain(task([], 60), recipe), None, data)
