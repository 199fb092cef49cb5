"""Checkpoints of every library: read as they were saved, and written for the script that saved."""

import warnings

import jax
import numpy as np
import pytest

from rumjax import checkpoints
from rumjax.models import Model
from tests.checkpoints.scripts import IMAGES, SCRIPTS, Linen, variables

MODEL = Model(Linen())


def assert_same(one, two):
    jax.tree.map(np.testing.assert_array_equal, dict(one), dict(two))


@pytest.fixture(autouse=True)
def _quiet_orbax():
    """Scripts restore as they like, whatever Orbax says to that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_saved_is_read_and_what_is_written_the_script_restores(name, tmp_path):
    script, old = SCRIPTS[name], variables(0)
    script.save(tmp_path / "old", old)

    # Read by rumjax.
    checkpoint = checkpoints.read(tmp_path / "old", MODEL, IMAGES)
    assert checkpoint.format == script.format
    assert_same(checkpoint.variables._asdict(), old)
    form = MODEL.signature(IMAGES).variables
    assert jax.tree.structure(checkpoint.variables) == jax.tree.structure(form)

    # Written by rumjax, restored by the script.
    new = jax.tree.map(lambda leaf: leaf * 2, checkpoint.variables)
    checkpoints.save_variables(
        tmp_path / "new", new, like=tmp_path / "old", model=MODEL, images=IMAGES
    )
    assert_same(script.restore(tmp_path / "new"), new._asdict())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new", "old"]

    # What was imitated is as it was.
    assert_same(script.restore(tmp_path / "old"), old)
