"""Residual networks written out in NumPy, from variables as rumjax's modules name them."""

import numpy as np

from tests.references.convolutions import convolution

SAME = ((1, 1), (1, 1))


class Layers:
    """Layers by name; batch norm by the batch if `train`, and what its running means become."""

    def __init__(self, variables, train):
        self.params, self.stats, self.train = variables.params, variables.batch_stats, train
        self.means = {}

    def at(self, *path):
        """The variables of a module."""
        params, stats = self.params, self.stats
        for name in path:
            params, stats = params.get(name, {}), stats.get(name, {})
        return params, stats

    def conv(self, x, *path, stride=1, pads=SAME):
        return convolution(x, self.at(*path)[0]["kernel"], (stride, stride), pads)

    def norm_relu(self, x, *path):
        params, stats = self.at(*path)
        mean, var = stats["mean"], stats["var"]
        if self.train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            self.means[path] = 0.9 * stats["mean"] + 0.1 * mean
        return np.maximum(0, (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"])


def wide_resnet(layers, x, depth):
    """Logits of a wide residual network."""
    x, number = layers.conv(x, "Conv_0"), 0
    for stage in range(3):
        for position in range((depth - 4) // 6):
            block, number = f"PreActivationBlock_{number}", number + 1
            stride = 2 if stage and not position else 1
            active = layers.norm_relu(x, block, "BatchNorm_0")
            y = layers.conv(active, block, "Conv_0", stride=stride)
            y = layers.conv(layers.norm_relu(y, block, "BatchNorm_1"), block, "Conv_1")
            if "Conv_2" in layers.params[block]:
                x = layers.conv(active, block, "Conv_2", stride=stride, pads=((0, 0), (0, 0)))
            x = x + y
    pooled = layers.norm_relu(x, "BatchNorm_0").mean((1, 2))
    last = layers.params["Dense_0"]
    return pooled @ last["kernel"] + last["bias"]


def resnet9(layers, x):
    """Logits of a ResNet-9."""

    def part(x, number, stride=1, pads=SAME):
        y = layers.conv(x, f"Convolved_{number}", "Conv_0", stride=stride, pads=pads)
        return layers.norm_relu(y, f"Convolved_{number}", "BatchNorm_0")

    x = part(part(x, 0), 1, 2, ((2, 2), (2, 2)))
    x = x + part(part(x, 2), 3)
    x = part(x, 4)
    corners = [
        x[:, i::2, j::2][:, : x.shape[1] // 2, : x.shape[2] // 2] for i, j in np.ndindex(2, 2)
    ]
    x = np.max(corners, axis=0)
    x = x + part(part(x, 5), 6)
    x = part(x, 7, pads=((0, 0), (0, 0)))
    return 0.2 * (x.max((1, 2)) @ layers.params["Dense_0"]["kernel"])
