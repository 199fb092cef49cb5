"""Sizes of data that is not read: they are those that reading gives."""

import gzip

import numpy as np
import pytest
from PIL import Image

from rumjax import data
from rumjax.data.shapes import Sizes, shaped, sizes
from rumjax.errors import InvalidInputError


def same_as_loaded(options):
    ours, theirs = shaped(options), data.load(**options)
    assert ours.num_classes == theirs.num_classes
    for part in ("train", "validation", "test"):
        one, other = getattr(ours, part), getattr(theirs, part)
        assert one.images.shape == other.images.shape
        assert one.images.dtype == other.images.dtype
        assert one.labels.shape == other.labels.shape
        assert one.labels.dtype == other.labels.dtype


@pytest.fixture
def arrays():
    images = np.arange(40 * 64, dtype=np.int64).reshape(40, 8, 8) % 256
    return images.astype(np.uint8), np.arange(40, dtype=np.uint8) % 4


def test_the_embedded_images_also_with_a_limit():
    same_as_loaded({"name": "fashion_mnist_mini"})
    same_as_loaded({"name": "fashion_mnist_mini", "limit": 50})


def test_an_npz_file(tmp_path, arrays):
    images, labels = arrays
    file = tmp_path / "mine.npz"
    np.savez(file, x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    same_as_loaded({"name": "npz", "data_dir": str(file), "validation_fraction": 0.2})
    np.savez(file, x_train=images, y_train=labels)
    with pytest.raises(InvalidInputError, match=r"no \.npz with train_images"):
        sizes({"name": "npz", "data_dir": str(file)})


def test_files_of_mnist(tmp_path, arrays):
    for split, count in (("train", 40), ("t10k", 8)):
        for kind, array in zip(("images-idx3", "labels-idx1"), arrays, strict=True):
            part = array[:count]
            head = bytes([0, 0, 8, part.ndim])
            head += b"".join(n.to_bytes(4, "big") for n in part.shape)
            content = gzip.compress(head + part.tobytes())
            (tmp_path / f"{split}-{kind}-ubyte.gz").write_bytes(content)
    same_as_loaded({"name": "idx", "data_dir": str(tmp_path)})


@pytest.mark.parametrize("others", [("test",), ("val",), ("val", "test")])
def test_folders(tmp_path, arrays, others):
    for split in ("train", *others):
        for label in range(2):
            folder = tmp_path / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(6 if split == "train" else 2):
                Image.fromarray(arrays[0][number]).save(folder / f"{number}.png")
    same_as_loaded({"name": "image_folder", "data_dir": str(tmp_path), "image_size": 6})


def test_published_sizes_take_no_memory():
    splits = shaped({"name": "tiny_imagenet"})
    assert splits.train.images.shape == (90_000, 64, 64, 3)
    assert splits.train.images.strides == (0, 0, 0, 0)


def test_unknown_sizes_are_asked_for():
    with pytest.raises(InvalidInputError, match=r"'mine:read' are not known.*--data\.shape"):
        sizes({"name": "mine:read"})
    with pytest.raises(InvalidInputError, match="not known"):
        sizes({"name": "cifar10", "train_split": "train[:50%]"})
    given = Sizes(100, 20, (16, 16, 1), 5)
    assert shaped({"name": "mine:read"}, given).train.images.shape == (90, 16, 16, 1)
