"""`Source`, the record that every source of images returns, and the two sources of one file."""

import importlib.resources
import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import numpy as np

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
    the classes are those up to the largest training label.

    Raises:
      InvalidInputError: no such file, not an .npz, arrays missing, or see `checked`.
    """
    # The arrays that there are, and that there must be.
    file = existing("npz", data_dir, "the path of an .npz file")
    wanted = ["train_images", "train_labels", "test_images", "test_labels"]
    extra = ["validation_images", "validation_labels"]
    try:
        with file.open("rb") as opened, np.load(opened) as archive:
            held = archive.files
            arrays = {key: archive[key] for key in (*wanted, *extra, "class_names") if key in held}
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise InvalidInputError(
            f"data: {file} cannot be read as .npz: {error}; write it anew with numpy.savez"
        ) from error
    if not arrays.keys().isdisjoint(extra):
        wanted += extra
    if missing := [key for key in wanted if key not in arrays]:
        raise InvalidInputError(
            f"data: {file} lacks {', '.join(missing)}; it holds {', '.join(held) or 'nothing'}"
        )

    # Labels are checked against the class names, or else name the classes themselves.
    names = None
    if "class_names" in arrays:
        names = tuple(map(str, np.atleast_1d(arrays["class_names"]).astype(str)))

    def part(split: str, classes: int | None) -> Dataset:
        where = f"data: {file}, {split}"
        return checked(where, arrays[f"{split}_images"], arrays[f"{split}_labels"], classes)

    train = part("train", len(names) if names else None)
    names = names or tuple(map(str, range(int(train.labels.max()) + 1)))
    validation = part("validation", len(names)) if "validation_images" in arrays else None
    return Source(names, train, validation, part("test", len(names)))


def existing(name: str, path: PathLike | None, what: str) -> pathlib.Path:
    """Returns the path that a source was given, if something is there.

    Args:
      name: the source, for messages.
      path: `data_dir`; a leading ~ is the home directory.
      what: the thing that the path should lead to, for messages.

    Raises:
      InvalidInputError: no path given, or nothing there.
    """
    if not path:
        raise InvalidInputError(f"data: {name!r} needs data_dir, {what}")
    expanded = pathlib.Path(path).expanduser()
    if not expanded.exists():
        raise InvalidInputError(f"data: data_dir {path} does not exist; it should be {what}")
    return expanded


def with_progress(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """Returns the same items; shows a bar with the title `what` if they are many."""
    if total <= SHOW_PROGRESS_ABOVE:
        return items
    from rich.progress import track

    return track(items, what, total=total)
