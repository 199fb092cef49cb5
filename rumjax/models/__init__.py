"""Networks, and `Model`, which wraps them and any Flax module of your own."""

import importlib
from typing import Any

from rumjax.models.cnn import Cnn
from rumjax.models.conv import Conv, convolution
from rumjax.models.model import Model
from rumjax.models.predictions import margins, predict, require_embeddings
from rumjax.models.resnet import ResNet
from rumjax.models.vgg import Vgg16
from rumjax.models.zoo import MODELS, build, channel_statistics

__all__ = [
    "MODELS",
    "Cnn",
    "Conv",
    "Model",
    "ResNet",
    "Vgg16",
    "build",
    "channel_statistics",
    "convolution",
    "load_variables",
    "margins",
    "predict",
    "require_embeddings",
    "save_variables",
]

_CHECKPOINTS = ("load_variables", "save_variables")
"""Names of `rumjax.checkpoints`, which knows this package and is imported when it is used."""


def __getattr__(name: str) -> Any:
    """Imports what reads and writes checkpoints when it is first used."""
    if name not in _CHECKPOINTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("rumjax.checkpoints"), name)
