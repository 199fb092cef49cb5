"""One model on many devices is the model on one: on eight virtual devices, and in two processes."""

import os
import pathlib
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rumjax
from rumjax import mesh
from rumjax.data.augment import Augmentation
from rumjax.errors import InvalidInputError
from rumjax.models import Model, conv
from rumjax.models.conv import OVERRIDE
from rumjax.models.resnet import STAGES, ResNet
from rumjax.types import Dataset, task
from rumjax.unlearn import base, chain, finetune, retrain, run, salun

ROOT = pathlib.Path(rumjax.__file__).parents[1]
BATCH, LOCAL = 16, 4
OPTIONS = {"epochs": 2, "batch_size": BATCH, "learning_rate": 0.05}
UNLEARNERS = {
    "retrain": lambda model: retrain(model, **OPTIONS),
    "finetune": lambda model: finetune(model, augmentation=Augmentation(1, True), **OPTIONS),
    "salun": lambda model: salun(model, num_classes=3, **OPTIONS),
}
TASK = task([3, 14, 15, 27, 40], 60)
"""Of 55 examples, the last of four batches holds 7: some devices have weights of 0 alone."""


def assert_close(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)


def on(devices):
    return mesh.data_parallel(jax.devices()[:devices])


@pytest.mark.parametrize(
    ("name", "counts"),
    [("retrain", (1, 2, 8)), ("finetune", (4,)), ("salun", (4,))],
)
def test_a_model_is_the_same_on_any_number_of_devices(model, original, data, name, counts):
    """With batch norm, whose statistics would otherwise be those of a device's part."""
    steps = chain(TASK, UNLEARNERS[name](model))
    alone = run(jax.random.key(0), steps, original, data)
    for count in counts:
        with on(count):
            found = run(jax.random.key(0), steps, original, data)
        assert_close(found, alone)
        for leaf in jax.tree.leaves(found):
            assert leaf.is_fully_replicated
            assert len(leaf.sharding.device_set) == count
    kernel = alone.params["Dense_0"]["kernel"] - original.params["Dense_0"]["kernel"]
    assert np.abs(kernel).max() > 1e-3


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    return Dataset(jnp.asarray(images), jnp.asarray(random.integers(0, 3, 40).astype(np.int32)))


@pytest.fixture(scope="module")
def epoch_of_resnet(pictures):
    """Trains a small ResNet for an epoch, after the same start; its variables, and the program."""
    recipe = retrain(Model(ResNet(3, (1,), False, 4)), epochs=1, batch_size=BATCH)
    chosen = task([], 40)
    state = base._start(recipe, jax.random.key(0), None, pictures, chosen)

    def once():
        # A function of its own each time, so that none is taken that was compiled for another form.
        epoch = jax.jit(lambda *args: recipe.epoch(*args)[0].variables)
        compiled = epoch.lower(state, pictures, chosen).compile()
        found = compiled(*mesh.replicate((state, pictures, chosen)))
        return found, compiled.as_text().replace(",1,", ",")

    return once


@pytest.fixture(scope="module")
def resnet_on_one_device(epoch_of_resnet):
    with on(1):
        return epoch_of_resnet()


@pytest.mark.parametrize(("form", "group"), [("lax", None), ("dot", None), ("dot", 1)])
def test_convolutions_stay_on_their_device(
    monkeypatch, epoch_of_resnet, resnet_on_one_device, form, group
):
    """Each device convolves its own part of a batch, however large a group might be."""
    monkeypatch.setenv(OVERRIDE, form)
    if group is not None:
        monkeypatch.setattr(conv, "GROUP", group)
    with on(BATCH // LOCAL):
        found, program = epoch_of_resnet()
    assert_close(found, resnet_on_one_device[0])
    assert "all-reduce(" in program
    assert not re.search(r"all-gather|all-to-all|collective-permute", program)
    # Images, and activations as images or rows, those of a whole batch and those of a device.
    for size, text in ((BATCH, resnet_on_one_device[1]), (LOCAL, program)):
        found = set(re.findall(r"u8\[(\d+),8,8,3\]", text))
        assert found - {"40"} == {str(size)}
    whole = re.compile(rf"f32\[({BATCH},8,8|{BATCH * 64}),\d+\]")
    assert whole.search(resnet_on_one_device[1])
    assert not whole.search(program)


def test_a_state_is_donated_and_an_epoch_compiled_once(model, original, data):
    unlearner = finetune(model, epochs=2, batch_size=24, learning_rate=0.05)
    with on(8):
        given = mesh.replicate((original, data, TASK))
        before = base._advance._cache_size()
        state = base._start(unlearner, jax.random.key(0), *given)
        for _ in range(2):
            old = jax.tree.leaves(state.variables)
            state, _, _ = base._advance(unlearner, state, *given[1:])
            assert all(leaf.is_deleted() for leaf in old)
        assert base._advance._cache_size() == before + 1
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(given))


def test_a_copy_lies_on_every_device(data):
    with on(4):
        assert mesh.shared_out()
        copies = mesh.replicate({"data": data, "tied": jax.device_put(3.0, jax.devices()[7])})
    for leaf in jax.tree.leaves(copies):
        assert leaf.is_fully_replicated
        assert leaf.sharding.device_set == set(jax.devices()[:4])
    assert (copies["data"].images == np.asarray(data.images)).all()
    assert copies["data"].images.dtype == jnp.uint8


def test_outside_nothing_is_shared_out(data):
    assert mesh.across_devices(data) is data
    assert not mesh.shared_out()
    with pytest.raises(InvalidInputError, match="inside data_parallel"):
        mesh.replicate(data)


def test_a_batch_that_the_devices_do_not_divide_is_an_error(model, original, data):
    steps = chain(TASK, finetune(model, epochs=1, batch_size=12, learning_rate=0.05))
    with on(8), pytest.raises(InvalidInputError, match=r"12 examples .* a multiple of 8"):
        run(jax.random.key(0), steps, original, data)


def test_a_resnet50_has_a_part_of_each_batch_on_each_device(monkeypatch):
    monkeypatch.setenv(OVERRIDE, "lax")
    depths, bottleneck = STAGES["resnet50"]
    recipe = retrain(Model(ResNet(10, depths, bottleneck)), epochs=1, augmentation=Augmentation(4))
    images = jax.ShapeDtypeStruct((50_000, 32, 32, 3), jnp.uint8)
    cifar = Dataset(images, jax.ShapeDtypeStruct((50_000,), jnp.int32))
    chosen = jax.eval_shape(lambda: task([], 50_000))
    with on(8):
        state = base._start.eval_shape(recipe, jax.random.key(0), None, cifar, chosen)
        text = base._advance.lower(recipe, state, cifar, chosen).as_text()
    assert re.search(
        r'sharding_constraint .*\[\{"data"\}, \{\}, \{\}, \{\}\]> : tensor<256x32x32x3xui8>', text
    )
    assert "tensor<256x4x4x2048xf32>" in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give all three"),
        ({"coordinator": "127.0.0.1:1234"}, "give all three"),
        ({"coordinator": "127.0.0.1:1234", "process": 2, "processes": 2}, "process=2, processes=2"),
        ({"coordinator": "127.0.0.1", "process": 0, "processes": 2}, "HOST:PORT"),
    ],
)
def test_processes_that_cannot_be_joined_are_an_error(monkeypatch, given, message):
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "TPU_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    with pytest.raises(InvalidInputError, match=message):
        mesh.initialize(**given)


def test_joining_after_jax_was_used_is_an_error():
    jax.devices()
    with pytest.raises(InvalidInputError, match="must be called before any JAX"):
        mesh.initialize("127.0.0.1:1234", 0, 2)


PROGRAM = """
import sys
from tests import conftest  # before JAX looks at its devices
import jax, numpy as np
from rumjax import mesh, types, unlearn
from rumjax.models import Model, conv

folder, port, process = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.config.update("jax_num_cpu_devices", 2)
mesh.initialize(f"127.0.0.1:{port}", process, 2)
assert jax.device_count() == 4 and jax.local_device_count() == 2
with np.load(f"{folder}/data.npz") as file:
    data = types.Dataset(file["images"], file["labels"])
recipe = unlearn.retrain(Model(conftest.Network()), epochs=2, batch_size=16, learning_rate=0.05)
with mesh.data_parallel():
    data = mesh.replicate(data)
    steps = unlearn.chain(types.task([3, 14, 15, 27, 40], 60), recipe)
    found = unlearn.run(jax.random.key(0), steps, None, data)
    np.savez(f"{folder}/{process}.npz", *jax.tree.leaves(found))
    try:
        mesh.replicate(np.arange(3) + process)
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_two_processes_train_the_model_of_one(tmp_path, model, data):
    np.savez(tmp_path / "data.npz", images=data.images, labels=data.labels)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), port, str(process)],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]
    try:
        steps = chain(TASK, UNLEARNERS["retrain"](model))
        alone = run(jax.random.key(0), steps, None, data)
        for process in running:
            said, _ = process.communicate(timeout=120)
            assert process.returncode == 0, said
            assert "InvalidInputError replicate: the processes hold different values" in said
    finally:
        for process in running:
            process.kill()
    first, second = (list(np.load(tmp_path / f"{process}.npz").values()) for process in range(2))
    assert_close(first, jax.tree.leaves(alone))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
