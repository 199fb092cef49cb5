"""What is measured on an accelerator: networks, images, how much of it; and how it is timed."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax import models
from rumjax.types import Dataset

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


class Size(NamedTuple):
    """How a network is trained."""

    images: tuple[int, int, int, int]
    batch: int
    steps: int
    """in an epoch of one model; several models share them"""
    fewest_steps: int
    """in an epoch of each of several models"""
    bank: int
    """examples that a model of a bank is trained on, for epochs per hour"""
    options: dict[str, Any] = {}  # noqa: RUF012 (nobody writes to it)


class Scale(NamedTuple):
    """How much of everything is measured."""

    sizes: dict[str, Size]
    runs: int
    fisher: int
    """examples of the Fisher"""
    gradients: int
    """examples whose gradients are taken one by one"""
    channels: int
    """of the residual block"""


FULL = Scale(
    {
        "resnet18": Size((50_000, 32, 32, 3), 256, 40, 8, 35_000),
        "cnn": Size((6_000, 28, 28, 1), 128, 40, 40, 3_000),
        "resnet50": Size((5_000, 32, 32, 3), 256, 10, 10, 35_000),
        "vgg16": Size((5_000, 64, 64, 3), 256, 10, 10, 35_000),
        "resnet18 16 wide": Size((50_000, 32, 32, 3), 256, 40, 8, 35_000, {"width": 16}),
        "resnet18 32 wide": Size((50_000, 32, 32, 3), 256, 40, 8, 35_000, {"width": 32}),
        "cnn 4 times as wide": Size(
            (6_000, 28, 28, 1), 128, 40, 40, 3_000, {"widths": (64, 128, 256)}
        ),
    },
    runs=5,
    fisher=1000,
    gradients=256,
    channels=64,
)
SMALL = Scale(
    {
        "resnet18": Size((64, 8, 8, 3), 4, 4, 2, 48, {"width": 8, "depths": (1,)}),
        "cnn": Size((256, 28, 28, 1), 16, 8, 8, 128, {"widths": (4, 8, 8), "hidden": 16}),
        "resnet50": Size((64, 8, 8, 3), 4, 2, 2, 48, {"width": 4, "depths": (1,)}),
        "vgg16": Size((64, 32, 32, 3), 4, 2, 2, 48, {"width": 8}),
        "resnet18 16 wide": Size((64, 8, 8, 3), 4, 4, 2, 48, {"width": 4, "depths": (1,)}),
        "resnet18 32 wide": Size((64, 8, 8, 3), 4, 4, 2, 48, {"width": 8, "depths": (1,)}),
        "cnn 4 times as wide": Size((256, 28, 28, 1), 16, 8, 8, 128, {"widths": (8, 8, 16)}),
    },
    runs=2,
    fisher=20,
    gradients=8,
    channels=8,
)


@functools.cache
def images_of(shape):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, shape, np.uint8)
    return images, rng.integers(0, 10, len(images)).astype(np.int32)


@functools.cache
def dataset_of(shape):
    return Dataset(*map(jnp.asarray, images_of(shape)))


def model_of(network, size, precision):
    channels = size.images[-1]
    return models.build(
        network.split()[0],
        10,
        mean=MEAN[:channels],
        std=STD[:channels],
        bfloat16=precision == "bfloat16",
        options=size.options,
    )


def variables_of(model, dataset):
    return jax.jit(lambda key: model.init(key, dataset.images[:1]))(jax.random.key(0))


def digest(seconds, **others):
    """Summarizes the runs of a measurement."""
    return {
        "seconds": float(np.median(seconds)),
        "least": float(np.min(seconds)),
        "most": float(np.max(seconds)),
        "runs": len(seconds),
        **others,
    }


def gibibytes(size):
    return None if size is None else round(size / 2**30, 3)


def memory():
    """Returns the most memory that was in use since the process began; None where unknown."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return {"peak_gib": gibibytes(statistics.get("peak_bytes_in_use"))}


def timed(scale, function, *arguments, per=1):
    """Compiles a function, then times runs of it; seconds are divided by `per`."""
    # Compile, and run once to warm up.
    begin = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - begin
    analysis = compiled.memory_analysis()
    temporary = None if analysis is None else analysis.temp_size_in_bytes
    jax.block_until_ready(compiled(*arguments))

    # Time the runs.
    seconds = []
    for _ in range(scale.runs):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append((time.perf_counter() - begin) / per)
    return digest(
        seconds, compile_seconds=compile_seconds, temporary_gib=gibibytes(temporary), **memory()
    )
