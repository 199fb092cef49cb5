"""The library where JAX counts in 64 bits by default: float32 stays, and results are the same."""

import functools
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import rumjax
from rumjax import ensemble, gradients
from rumjax.rows import rows_of
from tests.unlearn import test_conformance

SIZE = 24
ARITHMETIC = ("amun", "boundary_expand", "localized_reset", "msg", "sfr_on", "ssd", "unsir")
"""algorithms that make more than gradients"""


def results():
    """What the main calls return, as arrays by name."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, SIZE)
    images = random.integers(0, 256, (SIZE, 4, 4, 1)).astype(np.uint8)
    data = rumjax.Dataset(images, labels)
    model = rumjax.models.build("cnn", 3, options={"widths": (), "hidden": 4})
    options = {"batch_size": 8, "augmentation": rumjax.data.augment.Augmentation(pad=1, flip=True)}
    recipe = rumjax.retrain(model, epochs=2, **options)
    first = rumjax.run(jax.random.key(0), rumjax.chain(rumjax.task([], SIZE), recipe), None, data)

    # Unlearning by steps that draw labels and samples.
    task = rumjax.task([1, 5, 9], SIZE)
    steps = rumjax.chain(
        task,
        rumjax.salun(model, num_classes=3, epochs=1, **options),
        rumjax.influence(model, fisher_examples=8, batch_size=8, micro_batch=4),
    )
    second = rumjax.run(jax.random.key(1), steps, first, data)

    # Models at once, by the algorithm whose numbers change with the epoch.
    sparse = rumjax.chain(task, rumjax.l1_sparse(model, epochs=2, batch_size=8))
    [(_, made)] = ensemble.make([ensemble.Job("one", jax.random.key(2), sparse, first)], data)

    # What is read of a model.
    trees = {
        "trained": first,
        "unlearned": second,
        "made": made.read,
        "outputs": rumjax.models.predict(model, second, images),
        "self_influence": gradients.self_influence(model, second, images, labels),
        "curvature": gradients.loss_curvature(model, second, images, labels),
        "gradient": gradients.mean_gradient(model, second, data, task.forget, batch_size=2),
    }
    return {
        f"{name}{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for name, tree in trees.items()
        for path, leaf in jax.tree.flatten_with_path(tree)[0]
    }


def check_traced():
    """Checks that algorithms, given rows of pixels, returns variables of the types it got."""
    data = rumjax.Dataset(rows_of(np.zeros((36, 4, 4, 1), np.uint8)), np.arange(36) % 3)
    task, model = rumjax.task(np.arange(0, 36, 3), 36), test_conformance.MODEL
    variables = jax.eval_shape(model.init, jax.random.key(0), data.images[:1])
    for name in ARITHMETIC:
        steps = rumjax.chain(task, test_conformance.unlearner(name))
        run = functools.partial(rumjax.run_pure, steps=steps, data=data)
        after = jax.eval_shape(run, jax.random.key(0), variables=variables)
        for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(variables), strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype), name


@pytest.mark.thorough
def test_results_in_64_bits_are_those_in_32(tmp_path):
    path = tmp_path / "results.npz"
    wide = {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.test_x64", path], env=os.environ | wide
    )
    here = results()
    assert process.wait() == 0
    with np.load(path) as archive:
        there = dict(archive)
    assert there.pop("x64")
    assert here.keys() == there.keys()
    for name, values in here.items():
        assert values.dtype == there[name].dtype == np.float32
        np.testing.assert_allclose(values, there[name], rtol=1e-3, atol=1e-4, err_msg=name)
    assert any(values.std() > 0 for values in here.values())


if __name__ == "__main__":
    check_traced()
    np.savez(sys.argv[1], x64=jax.config.jax_enable_x64, **results())
