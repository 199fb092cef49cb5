"""Writes the images that come with rumjax as a folder of PNG files, to stand for your own.

    python examples/write_images.py images

They are images/train/CLASS/NUMBER.png, and so for val and test; the number is the row among all of
that part, so that requests can name files.
"""

import pathlib
import sys

import numpy as np
from PIL import Image

import rumjax


def main(folder):
    """Writes 9 000 files."""
    splits = rumjax.data.load("fashion_mnist_mini")
    names = [name.replace("/", " or ").replace(" ", "_").lower() for name in splits.class_names]
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        images, labels = map(np.asarray, getattr(splits, part))
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = pathlib.Path(folder, name, f"{label}_{names[label]}")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(place / f"{row:05d}.png")


if __name__ == "__main__":
    main(sys.argv[1])
