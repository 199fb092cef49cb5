"""Convolution as its definition has it: a loop over outputs and taps."""

import numpy as np


def convolution(images, kernel, strides, pads):
    """float64[B, H, W, C] by [h, w, C, F] with explicit pads."""
    images = np.pad(np.asarray(images, np.float64), ((0, 0), *pads, (0, 0)))
    kernel = np.asarray(kernel, np.float64)
    height, width = kernel.shape[:2]
    rows = (images.shape[1] - height) // strides[0] + 1
    columns = (images.shape[2] - width) // strides[1] + 1
    found = np.zeros((len(images), rows, columns, kernel.shape[3]))
    for y in range(rows):
        for x in range(columns):
            for i in range(height):
                for j in range(width):
                    pixel = images[:, y * strides[0] + i, x * strides[1] + j]
                    found[:, y, x] += pixel @ kernel[i, j]
    return found
