"""How large a data set is, found out without reading its images, for plans of runs."""

import math
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from rumjax.data import folders
from rumjax.data.idx import _array, _file
from rumjax.data.sources import EMBEDDED, NPZ_KEYS, existing
from rumjax.data.splits import stratified_split
from rumjax.errors import InvalidInputError, check_count
from rumjax.types import PARTS, Dataset, Splits


class Sizes(NamedTuple):
    """The sizes of a data set.

    Examples:
      >>> PUBLISHED["cifar10"].image
      (32, 32, 3)
    """

    train: int
    """training examples, those that are held out for validation included"""
    test: int
    image: tuple[int, ...]
    """height, width and channels"""
    classes: int
    """K"""
    validation: int | None = None
    """None where a part of the training examples is held out"""


PUBLISHED: Mapping[str, Sizes] = {
    EMBEDDED: Sizes(6_000, 2_000, (28, 28, 1), 10, 1_000),
    "cifar10": Sizes(50_000, 10_000, (32, 32, 3), 10),
    "cifar100": Sizes(50_000, 10_000, (32, 32, 3), 100),
    "mnist": Sizes(60_000, 10_000, (28, 28, 1), 10),
    "fashion_mnist": Sizes(60_000, 10_000, (28, 28, 1), 10),
    "kmnist": Sizes(60_000, 10_000, (28, 28, 1), 10),
    "svhn_cropped": Sizes(73_257, 26_032, (32, 32, 3), 10),
    "tiny_imagenet": Sizes(100_000, 10_000, (64, 64, 3), 200),
}
"""The sizes that are published of data sets with a name of their own."""


def sizes(options: Mapping[str, Any]) -> Sizes:
    """Returns the sizes of the data set that options of `rumjax.data.load` name.

    Images are not read: of an .npz and of idx files the headers and the labels are, of an
    image_folder the names of its files and the header of one image.

    Raises:
      InvalidInputError: the sizes cannot be had that way, or files are missing or damaged.

    Examples:
      >>> sizes({"name": "cifar100"}).classes
      100
    """
    name, data_dir = str(options.get("name")), options.get("data_dir")
    whole = options.get("train_split", "train") == "train"
    whole &= options.get("test_split", "test") == "test"
    if name in PUBLISHED and whole:
        return PUBLISHED[name]
    readers = {"npz": _of_npz, "idx": _of_idx, "image_folder": _of_folder}
    if name in readers:
        return readers[name](data_dir, options)
    raise InvalidInputError(
        f"data: the sizes of {name!r} are not known without reading it; give them by --data.shape "
        "(32x32x3 for example), --data.train, --data.test and --data.classes"
    )


def shaped(options: Mapping[str, Any], given: Sizes | None = None) -> Splits:
    """Returns splits of the sizes that `rumjax.data.load` would return, of which all is black.

    Images take no memory, and classes are of equal size.

    Args:
      options: of `rumjax.data.load`.
      given: the sizes, where they are known; by default the result of `sizes`.

    Raises:
      InvalidInputError: see `sizes`; or a fraction or a limit that `load` refuses.

    Examples:
      >>> splits = shaped({"name": "cifar100"})
      >>> splits.train.images.shape, len(splits.validation.labels)
      ((45000, 32, 32, 3), 5000)
    """
    known = sizes(options) if given is None else given
    counts = {"train": known.train, "validation": known.validation, "test": known.test}
    if known.validation is None:
        whole = options.get("validation_from", "train")
        size = known.test if whole == "test" else known.train
        labels = np.arange(size) % known.classes
        fraction = options.get("validation_fraction", 0.1)
        stays, held_out = stratified_split(labels, fraction, seed=0)
        counts |= {whole: len(stays), "validation": len(held_out)}
    limit = options.get("limit")
    if limit is not None:
        limit = check_count("data: limit", limit)

    # An image is repeated without being copied.
    parts = {}
    for part in PARTS:
        count = min(count for count in (counts[part], limit) if count is not None)
        images = np.broadcast_to(np.uint8(0), (count, *known.image))
        parts[part] = Dataset(images, np.arange(count, dtype=np.int32) % known.classes)
    names = tuple(f"class {label}" for label in range(known.classes))
    return Splits(
        str(options.get("name")),
        known.classes,
        names,
        parts["train"],
        parts["validation"],
        parts["test"],
    )


def _of_npz(data_dir: Any, options: Mapping[str, Any]) -> Sizes:
    """Reads the headers of an .npz file's images, and its training labels."""
    del options
    file = existing("npz", data_dir, "the path of an .npz file")
    try:
        with zipfile.ZipFile(file) as archive, np.load(file) as arrays:
            held = {name.removesuffix(".npy"): name for name in archive.namelist()}
            shapes = {}
            for part in PARTS:
                keys = (f"{part}_images", *NPZ_KEYS[f"{part}_images"])
                key = next((key for key in keys if key in held), None)
                if key is not None:
                    with archive.open(held[key]) as opened:
                        shapes[part] = _shape_of(opened)
            keys = ("train_labels", *NPZ_KEYS["train_labels"])
            labels = next(arrays[key] for key in keys if key in held)
            classes = len(arrays["class_names"]) if "class_names" in held else labels.max() + 1
        (train, *image), (test, *_) = shapes["train"], shapes["test"]
    except (OSError, ValueError, KeyError, StopIteration, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            f"data: {file} is no .npz with train_images, train_labels, test_images and "
            f"test_labels: {error}"
        ) from error
    validation = shapes.get("validation", (None,))[0]
    return Sizes(train, test, _with_channel(image), int(classes), validation)


def _shape_of(opened: IO[bytes]) -> tuple[int, ...]:
    """Reads the shape of an array from the header of its file."""
    first = np.lib.format.read_magic(opened) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    return read(opened)[0]


def _of_idx(data_dir: Any, options: Mapping[str, Any]) -> Sizes:
    """Reads the labels of idx files, and the images as far as they are compressed."""
    del options
    root = existing("idx", data_dir, "a folder with MNIST's four files")
    images = _array(_file(root, "train-images"), (3, 4))
    labels = _array(_file(root, "train-labels"), (1,))
    tests = _array(_file(root, "t10k-labels"), (1,))
    image = _with_channel(images.shape[1:])
    return Sizes(len(images), len(tests), image, int(labels.max()) + 1)


def _of_folder(data_dir: Any, options: Mapping[str, Any]) -> Sizes:
    """Counts the files of an image_folder, and reads the header of its first image."""
    from PIL import Image

    root = existing("image_folder", data_dir, "a folder that holds train/ and test/")
    counts: dict[str, int] = {}
    for split in ("train", "test", *folders.VALIDATION):
        if (root / split).is_dir():
            counts[split] = sum(1 for _ in _image_files(root / split))
    held_out = next((counts[name] for name in folders.VALIDATION if name in counts), None)
    test = counts.get("test", held_out)
    first = next(_image_files(root / "train"), None) if "train" in counts else None
    if first is None or not test:
        raise InvalidInputError(f"data: {root} must hold train/ and test/ (or val/), with images")
    try:
        with Image.open(first) as opened:
            channels = 1 if opened.mode in folders.GRAY_MODES else 3
            width, height = opened.size
    except OSError as error:
        raise InvalidInputError(f"data: {first} cannot be read as an image: {error}") from error
    size = options.get("image_size")
    image = (height, width, channels) if size is None else (int(size), int(size), channels)
    classes = sum(path.is_dir() and path.name[0] != "." for path in (root / "train").iterdir())
    return Sizes(counts["train"], test, image, classes, held_out if "test" in counts else None)


def _image_files(folder: pathlib.Path) -> Any:
    """Yields the image files of a folder and its folders."""
    for place, _, names in os.walk(folder, followlinks=True):
        for name in sorted(names):
            if pathlib.Path(name).suffix.lower() in folders.IMAGE_SUFFIXES:
                yield pathlib.Path(place, name)


def _with_channel(image: Any) -> tuple[int, ...]:
    """Returns height, width and channels of images, which may lack the last."""
    shape = (*image, 1) if len(image) == 2 else tuple(image)
    if len(shape) != 3 or math.prod(shape) == 0:
        raise InvalidInputError(f"data: images of shape {list(shape)}; wanted [H, W, C]")
    return tuple(map(int, shape))
