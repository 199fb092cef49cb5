"""The platform that programs are compiled for: the machine's, JAX's default device, or another."""

import contextlib

import jax
import pytest

from rumjax.errors import InvalidInputError
from rumjax.platforms import compiling_for, platform


def test_it_is_the_machine_s_or_that_of_the_default_device(monkeypatch):
    assert platform() == "cpu"
    with jax.default_device("tpu"):
        assert platform() == "tpu"
    with jax.default_device("gpu"):
        assert platform() == "gpu"
    # A device itself, on a machine that would take another.
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert platform() == "tpu"
    with jax.default_device(jax.local_devices()[0]):
        assert platform() == "cpu"


def test_another_is_compiled_for_inside_only_whatever_happens_there():
    with compiling_for("tpu"), jax.default_device("gpu"):
        assert platform() == "tpu"
        with compiling_for("rocm"):
            assert platform() == "gpu"
        with contextlib.suppress(ValueError), compiling_for("cpu"):
            assert platform() == "cpu"
            raise ValueError
        assert platform() == "tpu"
    assert platform() == "cpu"


def test_an_unknown_one_is_refused_and_changes_nothing():
    with pytest.raises(InvalidInputError, match="platform"), compiling_for("npu"):
        pass
    assert platform() == "cpu"
