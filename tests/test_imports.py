"""What `import rumjax` loads, and that the rooms on the host need no device."""

import os
import pathlib
import subprocess
import sys

import pytest

import rumjax

SOURCE = str(pathlib.Path(rumjax.__file__).parents[1])

ON_THE_HOST = """
import numpy as np

from rumjax import audits, errors, forget_sets, metrics, refine, scores
from rumjax.types import Scores

random = np.random.default_rng(0)
values = random.random(40).astype(np.float32)
embeddings = random.normal(size=(40, 3)).astype(np.float32)

# Checks of numbers
assert type(errors.check_number("rate", 1)) is np.float32
assert errors.check_number("rates", [1, 2]).dtype == np.float32

# Scores and forget sets
member, correct = random.random((2, 9, 40)) < 0.5
member[:2] = [[True] * 40, [False] * 40]
memorization = scores.memorization(member, correct)
parts = forget_sets.by_score(memorization, 4)
forget, retain = forget_sets.ForgetSet.of(parts, 40)[1:]
scores.entanglement_score(embeddings, forget, retain)
scores.mmd_squared(embeddings, forget, retain)
refine.by_score(Scores(values))(forget)

# Measures and audits
accuracies = metrics.Accuracies(0.5, 0.9, 0.8)
metrics.tug_of_war(accuracies, accuracies)
metrics.rank_correlation(values, -values, replicates=5)
logits = random.normal(size=(40, 3)).astype(np.float32)
audits.margins(logits, logits.argmax(axis=1))
forget = forget[forget < 30]
worlds = audits.worlds_of_task(6, forget, 30, 40)
unlearned, oracles = (random.normal(size=(6, 40)).astype(np.float32) for _ in range(2))
audits.audit(
    audits.Population(unlearned, worlds),
    audits.Population(oracles, audits.worlds_of_task(6, forget, 30, 40, world=audits.OUT)),
    draws=3,
)
audits.challenge_score(0.5, 1.0, 1.0)
print("done")
"""


def python(code, **environment):
    """What a Python of its own prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": SOURCE} | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


HEAVY = (
    "matplotlib",
    "ml_collections",
    "jinja2",
    "orbax",
    "scipy",
    "sklearn",
    "tensorflow_datasets",
    "PIL",
)
"""packages that are only loaded by what needs them"""


@pytest.fixture(scope="module")
def loaded():
    """Names of the modules that `import rumjax` loads, with the rooms that it leaves out."""
    rooms = "rumjax, rumjax.audits, rumjax.ensemble, rumjax.relearn"
    return set(python(f"import sys, {rooms}; print(*sys.modules, sep='\\n')").splitlines())


@pytest.mark.parametrize("package", HEAVY)
def test_rumjax_loads_heavy_packages_only_where_they_are_used(loaded, package):
    assert "rumjax.audits.suite" in loaded
    assert not [name for name in loaded if f"{name}.".startswith(f"{package}.")]


def test_what_shows_progress_is_not_loaded(loaded):
    # Flax loads rich, but no bars.
    assert "rich.progress" not in loaded


def test_the_rooms_on_the_host_never_make_a_device_array():
    # There is no such platform: whatever asks for a device fails.
    assert python(ON_THE_HOST, JAX_PLATFORMS="nowhere") == "done"
    with pytest.raises(subprocess.CalledProcessError):
        python("import jax.numpy; jax.numpy.zeros(1)", JAX_PLATFORMS="nowhere")
