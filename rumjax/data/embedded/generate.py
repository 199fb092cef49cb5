"""Makes the embedded data set from the idx files of Fashion-MNIST.

    python -m rumjax.data.embedded.generate IDX_DIR OUT.npz

IDX_DIR holds the four files of the original release, train-images-idx3-ubyte.gz and so on; Debian's
package `dataset-fashion-mnist` puts them under /usr/share/datasets/fashion-mnist.
"""

import gzip
import pathlib
import sys
from typing import Any

import numpy as np

SIZES = {"train": 6000, "validation": 1000, "test": 2000}
CLASSES = 10


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Reads the array in a gzipped idx file of unsigned bytes."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def choose(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Returns the ascending places of so many random examples of each class."""
    random = np.random.default_rng(seed)
    chosen = [
        random.choice(np.flatnonzero(labels == label), per_class, replace=False)
        for label in range(CLASSES)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def make(idx_dir: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns images, labels and original places of the three splits."""
    # The original files.
    arrays = {
        name: read_idx(idx_dir / f"{name}-ubyte.gz")
        for name in (
            "train-images-idx3",
            "train-labels-idx1",
            "t10k-images-idx3",
            "t10k-labels-idx1",
        )
    }

    # Random places of every class; the validation set is held out of the training images.
    learn = choose(arrays["train-labels-idx1"], (SIZES["train"] + SIZES["validation"]) // 10, 0)
    held_out = choose(arrays["train-labels-idx1"][learn], SIZES["validation"] // 10, 1)
    places = {
        "train": np.delete(learn, held_out),
        "validation": learn[held_out],
        "test": choose(arrays["t10k-labels-idx1"], SIZES["test"] // 10, 2),
    }

    # The images and labels at those places.
    splits = {}
    for split, place in places.items():
        source = "t10k" if split == "test" else "train"
        splits[f"{split}_images"] = arrays[f"{source}-images-idx3"][place]
        splits[f"{split}_labels"] = arrays[f"{source}-labels-idx1"][place]
        splits[f"{split}_places"] = place
    return splits


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m rumjax.data.embedded.generate IDX_DIR OUT.npz")
    arrays: dict[str, Any] = make(pathlib.Path(sys.argv[1]))
    np.savez_compressed(sys.argv[2], **arrays)
