"""Random crops the slow way: every image that padding, cropping and flipping may give."""

import numpy as np


def possible_crops(image, pad, flip):
    """All crops of an image [H, W, C] with `pad` zeros around it, and their mirror images."""
    height, width, channels = image.shape
    canvas = np.zeros((height + 2 * pad, width + 2 * pad, channels), image.dtype)
    for row in range(height):
        for column in range(width):
            canvas[pad + row, pad + column] = image[row, column]
    crops = []
    for top in range(2 * pad + 1):
        for left in range(2 * pad + 1):
            crop = canvas[top : top + height, left : left + width]
            crops.append(crop)
            if flip:
                crops.append(np.stack([crop[:, width - 1 - i] for i in range(width)], axis=1))
    return crops
