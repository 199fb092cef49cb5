"""Eight virtual CPU devices for every test, and small models and data that many tests share."""

import atexit
import os
import shutil
import tempfile

# What one test has compiled no other need compile, in whichever process; it goes with the session.
# Nothing that was compiled before is used, and nothing is left.
if "RUMJAX_TESTS_COMPILED" not in os.environ:
    os.environ["RUMJAX_TESTS_COMPILED"] = tempfile.mkdtemp(prefix="rumjax_tests_")
    atexit.register(shutil.rmtree, os.environ["RUMJAX_TESTS_COMPILED"], ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["RUMJAX_TESTS_COMPILED"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# Programs of tests run once or twice: compiling them takes longer than running them.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.models import Model
from rumjax.types import Dataset, Outputs, task
from rumjax.unlearn import chain, retrain, run
from tests import tiny

CLASSES = 3


THOROUGH = (
    *("test_stopped_requests.py", "test_purged_requests.py", "test_refused_requests.py"),
    *("test_faults.py", "test_conformance.py", "test_audits.py", "test_mesh.py"),
    *("test_config_runs.py", "test_residual.py", "test_ensemble_together.py", "test_conv.py"),
    *("test_nnx_modules.py", "test_layers_of_linen.py", "test_tampering.py", "test_warming.py"),
)
"""files that take long and look at one thing each, all of whose tests are thorough"""
SLOW = (
    *THOROUGH,
    "test_ensemble.py",
    "test_networks.py",
    "test_algorithms.py",
    "test_tuning.py",
    "test_gradients.py",
    "test_mistakes.py",
    "test_pure.py",
    "test_workers.py",
    "test_perturbing.py",
    "test_localizing.py",
    "test_readme.py",
    "test_figures.py",
    "test_dampening.py",
    "test_costs.py",
    "test_audit_page.py",
    "test_newton.py",
)
"""files that take longest, the longest first: whoever is started last is waited for"""
LONGER = {
    "thorough": "checks more of what others check; RUMJAX_THOROUGH=1 runs it, as CI does",
    "lengthy": "takes minutes; RUMJAX_THOROUGH=1 runs it",
}
"""marks of tests that are skipped, unless they are asked for, and why"""


def pytest_configure(config):
    """Keeps pytest-xdist from starting those files first that have the most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Puts slow files first, marks their tests, and leaves longer checks to those who ask."""
    order = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    for item in items:
        if item.path.name in order:
            item.add_marker("slow")
        if item.path.name in THOROUGH:
            item.add_marker("thorough")
        if "RUMJAX_THOROUGH" not in os.environ:
            for mark, reason in LONGER.items():
                if item.get_closest_marker(mark):
                    item.add_marker(pytest.mark.skip(reason=reason))


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
def full_optimization():
    """Compiles as users do, to programs that round otherwise; for files that compare roundings."""
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()


@pytest.fixture(scope="session")
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
