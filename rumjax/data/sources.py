"""`Source`, the record that every source of images returns, and the two sources of one file."""

import importlib.resources
import os
import pathlib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from rumjax.archives import SINGLE, open_arrays
from rumjax.data.splits import checked
from rumjax.errors import InvalidInputError
from rumjax.types import Dataset

EMBEDDED = "fashion_mnist_mini"
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
NPZ_KEYS: Mapping[str, Sequence[str]] = {
    "train_images": ("x_train",),
    "train_labels": ("y_train",),
    "validation_images": ("val_images", "x_val", "x_valid"),
    "validation_labels": ("val_labels", "y_val", "y_valid"),
    "test_images": ("x_test",),
    "test_labels": ("y_test",),
}
"""The arrays of an .npz, and what MedMNIST and Keras call them."""
SHOW_PROGRESS_ABOVE = 2000
"""Items of work above which a progress bar is shown."""

Item = TypeVar("Item")
PathLike = str | os.PathLike[str]


class Source(NamedTuple):
    """The images of a source; where `validation` is None, a part of `train` is held out.

    Examples:
      >>> images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1])
      >>> source = Source(("cat", "dog"), Dataset(images, labels), None, Dataset(images, labels))
      >>> source.train.images.shape
      (4, 8, 8, 1)
    """

    class_names: tuple[str, ...]
    train: Dataset
    validation: Dataset | None
    test: Dataset
    names: Mapping[str, Sequence[str]] = types.MappingProxyType({})
    """the names of the examples of "train", "validation" and "test" in their order, where they
    have names: files, or ids"""
    notes: Sequence[str] = ()
    """what was found and left out, a sentence each"""


def embedded() -> Source:
    """Reads the images that come with the package, 6 000, 1 000 and 2 000 of Fashion-MNIST."""
    file = importlib.resources.files("rumjax.data.embedded") / f"{EMBEDDED}.npz"
    with file.open("rb") as opened, np.load(opened) as arrays:
        train, validation, test = (
            checked(EMBEDDED, arrays[f"{split}_images"], arrays[f"{split}_labels"], len(FASHION))
            for split in ("train", "validation", "test")
        )
    return Source(FASHION, train, validation, test)


def npz(data_dir: PathLike | None) -> Source:
    """Reads an .npz file with train_images, train_labels, test_images, test_labels.

    It may hold validation_images with validation_labels, and class_names, as well. Without names
    the classes are those up to the largest training label. The names that MedMNIST (val_images) and
    Keras (x_train, y_train) give to such arrays are taken too.

    Raises:
      InvalidInputError: no such file, not an .npz, arrays missing or there twice, or see `checked`.
    """
    # The arrays that there must be, under any of their names.
    file = existing("npz", data_dir, "the path of an .npz file")
    with open_arrays(file, "data") as archive:
        if SINGLE in archive:
            raise InvalidInputError(f"data: {file} is a single array; write it with numpy.savez")
        keys = {key: _held(file, archive, key, names) for key, names in NPZ_KEYS.items()}
        wanted = [key for key in NPZ_KEYS if not key.startswith("validation")]
        if keys["validation_images"] or keys["validation_labels"]:
            wanted += ["validation_images", "validation_labels"]
        if missing := [key for key in wanted if keys[key] is None]:
            raise InvalidInputError(
                f"data: {file} lacks {', '.join(missing)}; it holds "
                f"{', '.join(archive) or 'nothing'}"
            )
        arrays = {key: archive[str(keys[key])] for key in wanted}
        given_names = archive.get("class_names")
        left_out = sorted(set(archive) - {"class_names", *map(str, keys.values())})

    # Labels are checked against the class names, or else name the classes themselves.
    names = None
    if given_names is not None:
        if given_names.dtype.kind == "S":
            given_names = np.char.decode(given_names, "utf-8", "replace")
        names = tuple(map(str, given_names.ravel()))
        if given_names.ndim > 1 or len(set(names)) < len(names):
            raise InvalidInputError(
                f"data: {file}, class_names: wanted a name for each class, all different, got "
                f"{list(given_names.shape)}: {', '.join(names[:5])}"
            )

    def part(split: str, classes: int | None) -> Dataset:
        where = f"data: {file}, {split}"
        return checked(where, arrays[f"{split}_images"], arrays[f"{split}_labels"], classes)

    train = part("train", len(names) if names else None)
    names = names or tuple(map(str, range(int(train.labels.max()) + 1)))
    validation = part("validation", len(names)) if "validation_images" in arrays else None
    notes = [f"{file} holds {', '.join(left_out)} too, left out"] if left_out else []
    return Source(names, train, validation, part("test", len(names)), notes=notes)


def _held(
    file: pathlib.Path, archive: Mapping[str, np.ndarray], key: str, others: Sequence[str]
) -> str | None:
    """Returns the name under which an archive has an array, or None.

    Raises:
      InvalidInputError: it has several that may be meant.
    """
    held = [name for name in (key, *others) if name in archive]
    if len(held) > 1:
        raise InvalidInputError(f"data: {file} holds {' and '.join(held)}; leave one of them")
    return held[0] if held else None


def existing(name: str, path: PathLike | None, what: str) -> pathlib.Path:
    """Returns the path that a source was given, if something is there.

    Args:
      name: the source, for messages.
      path: `data_dir`; a leading ~ is the home directory.
      what: the thing that the path should lead to, for messages.

    Raises:
      InvalidInputError: no path given, or nothing there.
    """
    if path is None or path == "":
        raise InvalidInputError(f"data: {name!r} needs data_dir, {what}")
    # A folder called 2024 comes as a number from a command line.
    try:
        expanded = pathlib.Path(str(path)).expanduser()
        exists = expanded.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, no such user
        raise InvalidInputError(f"data: data_dir {path!r} is no path: {error}") from error
    if not exists:
        raise InvalidInputError(f"data: data_dir {path} does not exist; it should be {what}")
    return expanded


def with_progress(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """Returns the same items; shows a bar with the title `what` if they are many."""
    if total <= SHOW_PROGRESS_ABOVE:
        return items
    from rich.progress import track

    return track(items, what, total=total)
