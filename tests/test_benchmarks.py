"""Scripts of benchmarks: each explains itself, and PyTorch's side is the same network as ours."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from rumjax import data, models

FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "argparse" in path.read_text())
OPTIONS = {"cnn": None, "resnet18": {"width": 16}}


def python(*arguments, given=None, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        cwd=FOLDER.parent,
        check=False,
        timeout=100,
    )


@pytest.fixture(scope="module")
def peers():
    """The PyTorch side as a module, where there is PyTorch."""
    pytest.importorskip("torch", reason="PyTorch is only needed by benchmarks")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import peers

        yield peers


def test_there_are_benchmarks():
    assert {path.name for path in SCRIPTS} >= {"bank.py", "convolution.py", "influence.py"}


ASK_EACH = """
import runpy
import sys

for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as left:
        if left.code:
            raise
"""
"""one process for all: importing JAX is what takes time"""


@pytest.mark.thorough
def test_each_says_how_to_use_it_without_pytorch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('PyTorch is not needed for --help')")
    # Found before what is installed.
    found_first = os.pathsep.join(map(str, (tmp_path, FOLDER, FOLDER.parent)))
    done = python("-c", ASK_EACH, *SCRIPTS, PYTHONPATH=found_first)
    assert done.returncode == 0, done.stderr
    assert not [path for path in SCRIPTS if f"benchmarks/{path.name}" not in done.stdout]


@pytest.mark.parametrize("name", list(OPTIONS))
def test_networks_of_both_sides_have_as_many_parameters(peers, name):
    model = models.build(name, 10, options=OPTIONS[name])
    image = jax.ShapeDtypeStruct((1, 28, 28, 1), np.uint8)
    shapes = jax.eval_shape(lambda key: model.init(key, image), jax.random.key(0))
    ours = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    assert peers.parameter_count(getattr(peers, name)()) == ours


def test_the_converted_network_says_the_same(peers):
    images = data.load("fashion_mnist_mini").test.images[:7]
    model = models.build("cnn", 10, mean=(0.3,), std=(0.4,))
    variables, wanted = jax.jit(
        lambda key: (
            variables := model.init(key, images),
            model.apply(variables, images, train=False)[0].logits,
        )
    )(jax.random.key(0))
    network = peers.network_of(peers.from_cnn(variables.params))
    found = network((peers.turned(images) / 255 - 0.3) / 0.4)
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_pytorch_trains_when_told_to(peers, tmp_path):
    train = data.load("fashion_mnist_mini").train
    path = tmp_path / "images.npz"
    np.savez(path, images=train.images[:40], labels=train.labels[:40], mean=[0.3], std=[0.4])
    done = python(FOLDER / "peers.py", "--data", path, "--epochs", 1, given="1\n2\n")
    ready, *answers = map(json.loads, done.stdout.splitlines())
    assert ready["layout"] in ready["epoch_seconds"]
    assert len(answers) == 2
    assert all(answer["seconds"] > 0 for answer in answers)
