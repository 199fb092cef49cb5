"""MNIST's file format: plain, compressed, damaged, and as Debian packs it."""

import gzip
import pathlib
import struct

import numpy as np
import pytest

from rumjax import data
from rumjax.data import idx
from rumjax.errors import InvalidInputError

DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def encoded(array):
    """Two zeros, the code of uint8, the number of dimensions, each of them, and the content."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def arrays():
    """Those of the four files by name: 20 training images and 6 for testing, of 3 classes."""
    random = np.random.default_rng(0)
    return {
        IMAGES: random.integers(0, 256, (20, 3, 5)),
        LABELS: np.arange(20) % 3,
        "t10k-images-idx3-ubyte": random.integers(0, 256, (6, 3, 5)),
        "t10k-labels-idx1-ubyte": np.arange(6) % 2,
    }


@pytest.fixture
def folder(arrays, tmp_path):
    for name, array in arrays.items():
        (tmp_path / name).write_bytes(encoded(array))
    return tmp_path


def compress(file):
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()


def check(source, arrays):
    for part, split in ((source.train, "train"), (source.test, "t10k")):
        np.testing.assert_array_equal(part.images[..., 0], arrays[f"{split}-images-idx3-ubyte"])
        np.testing.assert_array_equal(part.labels, arrays[f"{split}-labels-idx1-ubyte"])
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int32)
        assert part.images.shape[1:] == (3, 5, 1)
    assert source.class_names == ("0", "1", "2")
    assert source.validation is None


def test_plain_and_compressed_files_hold_the_same(folder, arrays):
    check(idx.read(folder), arrays)
    for name in (IMAGES, "t10k-labels-idx1-ubyte"):
        compress(folder / name)
    check(idx.read(str(folder)), arrays)


def test_a_plain_file_goes_before_a_compressed_one(folder, arrays):
    (folder / f"{IMAGES}.gz").write_bytes(b"cut")
    check(idx.read(folder), arrays)


def test_compression_is_known_by_content_not_by_name(folder, arrays):
    (folder / LABELS).rename(folder / f"{LABELS}.gz")
    compressed = gzip.compress((folder / IMAGES).read_bytes())
    (folder / IMAGES).write_bytes(compressed)
    check(idx.read(folder), arrays)


def test_a_point_may_stand_for_the_dash(folder, arrays):
    (folder / IMAGES).rename(folder / "train-images.idx3-ubyte")
    check(idx.read(folder), arrays)


def test_four_dimensions_are_images_with_channels(folder):
    random = np.random.default_rng(1)
    wanted = {}
    for split, count in (("train", 20), ("t10k", 6)):
        wanted[split] = random.integers(0, 256, (count, 2, 4, 3))
        (folder / f"{split}-images-idx3-ubyte").unlink()
        (folder / f"{split}-images-idx4-ubyte").write_bytes(encoded(wanted[split]))
    source = idx.read(folder)
    np.testing.assert_array_equal(source.train.images, wanted["train"])
    np.testing.assert_array_equal(source.test.images, wanted["t10k"])


def test_load_holds_out_a_validation_set(folder, arrays):
    splits = data.load("idx", data_dir=folder, validation_fraction=0.2)
    assert [len(part.labels) for part in (splits.train, splits.validation)] == [17, 3]
    assert splits.num_classes == 3
    held = np.concatenate([splits.train.images, splits.validation.images])
    assert {each.tobytes() for each in held} == {
        each.astype(np.uint8).tobytes() for each in arrays[IMAGES]
    }


@pytest.mark.parametrize("split", ["train", "t10k"])
@pytest.mark.parametrize("what", ["images-idx3", "labels-idx1"])
def test_a_missing_file_is_named(folder, split, what):
    (folder / f"{split}-{what}-ubyte").unlink()
    with pytest.raises(InvalidInputError, match=f"lacks {split}-{what}-ubyte, plain or with"):
        idx.read(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"", f"{IMAGES} is no idx file .* starts with nothing"),
        (IMAGES, b"\x00\x00\x08", "starts with 00 00 08, wanted"),
        (IMAGES, b"\x89PNG" + bytes(9), "starts with 89 50 4e 47, wanted 00 00 08"),
        (LABELS, b"\x00\x00\x0d\x01" + bytes(84), f"{LABELS} is no idx file of unsigned bytes"),
        (IMAGES, encoded(np.zeros((20, 15))), f"{IMAGES} has 2 dimensions, wanted 3 or 4"),
        (LABELS, encoded(np.zeros((20, 3, 5))), f"{LABELS} has 3 dimensions, wanted 1"),
        (LABELS, encoded(np.zeros(20)) + b"\x00", r"has 29 bytes, wanted 28 for \[20\]"),
        (LABELS, b"\x00\x00\x08\x01\xff\xff\xff\xff", r"has 8 bytes, wanted 4294967303"),
        (LABELS, encoded(np.zeros(19)), f"{IMAGES}: 20 images, but 19 labels"),
        (IMAGES, encoded(np.zeros((20, 0, 5))), r"at least one, got \[20, 0, 5"),
        ("t10k-labels-idx1-ubyte", encoded(np.full(6, 3)), "6 labels are outside 0…2"),
    ],
)
def test_files_that_do_not_fit_are_refused(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        idx.read(folder)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_anywhere_is_refused_by_name(folder, compressed):
    file = folder / IMAGES
    if compressed:
        compress(file)
        file = folder / f"{IMAGES}.gz"
    whole = file.read_bytes()
    for length in (0, 3, 9, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(InvalidInputError, match=f"{file.name} "):
            idx.read(folder)


def test_splits_of_several_sizes_are_refused(folder):
    (folder / "t10k-images-idx3-ubyte").write_bytes(encoded(np.zeros((6, 4, 5))))
    with pytest.raises(InvalidInputError, match=r"'idx': wanted images of one shape"):
        data.load("idx", data_dir=folder)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_as_debian_has_it():
    source = idx.read(DEBIAN)
    assert source.train.images.shape == (60_000, 28, 28, 1)
    assert source.test.images.shape == (10_000, 28, 28, 1)
    assert np.bincount(source.train.labels).tolist() == [6_000] * 10
    assert np.bincount(source.test.labels).tolist() == [1_000] * 10
