"""Augmentation the slow way: every image that cropping, flipping and cutting out may give."""

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


def possible_cutouts(image, side):
    """An image [H, W, C] with a black square around each of its pixels."""
    height, width, _ = image.shape
    found = []
    for y in range(height):
        for x in range(width):
            cut = image.copy()
            for row in range(max(0, y - side // 2), min(height, y - side // 2 + side)):
                for column in range(max(0, x - side // 2), min(width, x - side // 2 + side)):
                    cut[row, column] = 0
            found.append(cut)
    return found
