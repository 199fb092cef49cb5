"""Networks, and `Model`, which wraps them and any Flax module of your own."""

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
    "margins",
    "predict",
    "require_embeddings",
]
