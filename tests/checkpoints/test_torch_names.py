"""Arrays by the names of PyTorch: handed to the layouts that are known, and refused otherwise."""

import types

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from rumjax import checkpoints
from rumjax.checkpoints import reading, writing
from rumjax.errors import InvalidInputError
from rumjax.models import Model
from rumjax.types import Variables
from tests.checkpoints.scripts import IMAGES, Linen, variables

MODEL = Model(Linen(batch_norm=False))
COUNT = np.array(7, np.int64)
NAMES = {"conv": (3, 2, 0, 1), "head": (1, 0)}


def to_torch(given, model, like):
    del model
    arrays = {}
    for layer, axes in NAMES.items():
        kernel = np.asarray(given.params[layer]["kernel"])
        arrays[f"{layer}.weight"] = np.ascontiguousarray(kernel.transpose(axes))
        arrays[f"{layer}.bias"] = np.asarray(given.params[layer]["bias"])
    return {name: arrays.get(name, COUNT) for name in like}


def from_torch(arrays, model, form):
    del model, form
    if "conv.weight" not in arrays:
        return None
    return Variables(
        {
            layer: {
                "kernel": arrays[f"{layer}.weight"].transpose(np.argsort(axes)),
                "bias": arrays[f"{layer}.bias"],
            }
            for layer, axes in NAMES.items()
        },
        {},
    )


@pytest.fixture(autouse=True)
def _layouts(monkeypatch):
    layouts = types.SimpleNamespace(from_torch=from_torch, to_torch=to_torch)
    for module in (reading, writing):
        monkeypatch.setattr(module, "torch_layouts", lambda: layouts)


def test_known_layouts_are_converted_both_ways(tmp_path):
    names = [f"{layer}.{part}" for layer in NAMES for part in ("weight", "bias")] + ["count"]
    given = Variables(variables(batch_norm=False)["params"], {})
    arrays = to_torch(given, MODEL, names)
    safetensors.numpy.save_file(arrays, tmp_path / "old", metadata={"format": "pt"})
    checkpoint = checkpoints.read(tmp_path / "old", MODEL, IMAGES)
    assert checkpoint.format == "safetensors, PyTorch's layout"
    jax.tree.map(np.testing.assert_array_equal, checkpoint.variables.params, given.params)

    new = jax.tree.map(lambda leaf: leaf * 2, checkpoint.variables)
    checkpoints.save_variables(
        tmp_path / "new", new, like=tmp_path / "old", model=MODEL, images=IMAGES
    )
    with safetensors.safe_open(tmp_path / "new", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        for name, array in arrays.items():
            wanted = array if name == "count" else array * 2
            np.testing.assert_array_equal(file.get_tensor(name), wanted, strict=True)


def test_unknown_layouts_are_refused(tmp_path):
    with (tmp_path / "m").open("wb") as file:
        np.savez(file, **{"fc.weight": np.zeros((3, 32))})
    with pytest.raises(InvalidInputError, match="its names are PyTorch's, of no layout"):
        checkpoints.read(tmp_path / "m", MODEL, IMAGES)
