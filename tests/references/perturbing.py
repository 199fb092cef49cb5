"""A convolution, global pooling and a dense layer in NumPy; which entries of a kernel are small."""

import numpy as np

from tests.references.network import softmax


class ConvolutionalNetwork:
    """Logits, and their pullback: 3×3 kernels without a bias, padded by 1, then ReLU and a mean."""

    def __call__(self, params, images):
        kernel, dense = params["Conv_0"]["kernel"], params["Dense_0"]
        height, width = images.shape[1:3]
        padded = np.pad(images / 255, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.stack(
            [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=3
        )
        hidden = np.einsum("bhwtc,tcf->bhwf", windows, kernel.reshape(9, *kernel.shape[2:]))
        pooled = np.maximum(hidden, 0).mean((1, 2))
        logits = pooled @ dense["kernel"] + dense["bias"]

        def pullback(cotangent):
            at_pooled = cotangent @ dense["kernel"].T / (height * width)
            at_hidden = at_pooled[:, None, None] * (hidden > 0)
            slope = np.einsum("bhwtc,bhwf->tcf", windows, at_hidden)
            return {
                "Conv_0": {"kernel": slope.reshape(kernel.shape)},
                "Dense_0": {"kernel": pooled.T @ cotangent, "bias": cotangent.sum(0)},
            }

        return logits, pullback


def mean_gradient(network, params, images, labels):
    """Of the mean cross-entropy."""
    logits, pullback = network(params, images)
    wanted = np.eye(logits.shape[1])[labels]
    return pullback((softmax(logits) - wanted) / len(labels))


def smallest(values, room):
    """True for so many entries of smallest magnitude, the earlier of equals."""
    found = np.zeros(values.size, bool)
    found[np.argsort(np.abs(values).ravel(), kind="stable")[:room]] = True
    return found.reshape(values.shape)
