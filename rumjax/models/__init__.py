"""Networks, and `Model`, which wraps them and any network of your own."""

import importlib
from typing import Any

from rumjax.models.cnn import Cnn
from rumjax.models.conv import Conv, convolution
from rumjax.models.function_pairs import from_functions
from rumjax.models.model import Model
from rumjax.models.nnx_modules import from_nnx
from rumjax.models.order import Layer, classifier, last_layers, layers_in_order
from rumjax.models.pixels import channel_statistics, normalization_of
from rumjax.models.predictions import margins, predict, require_embeddings
from rumjax.models.resnet import ResNet
from rumjax.models.resnet9 import ResNet9
from rumjax.models.vgg import Vgg16
from rumjax.models.vit import ViT
from rumjax.models.wide_resnet import WideResNet
from rumjax.models.zoo import MODELS, build

__all__ = [
    "MODELS",
    "Cnn",
    "Conv",
    "Layer",
    "Model",
    "ResNet",
    "ResNet9",
    "Vgg16",
    "ViT",
    "WideResNet",
    "build",
    "channel_statistics",
    "classifier",
    "convolution",
    "from_functions",
    "from_nnx",
    "last_layers",
    "layers_in_order",
    "load_variables",
    "margins",
    "normalization_of",
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
