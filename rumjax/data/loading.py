"""`load`: a data set by name, whatever its source, checked and split into three."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from rumjax.data import folders, idx, sources, tfds
from rumjax.data.sources import EMBEDDED, PathLike, Source
from rumjax.data.splits import check_same_shape, checked, stratified_split
from rumjax.errors import InvalidInputError, check_count
from rumjax.registry import is_import_path, resolve
from rumjax.types import Dataset, Splits

SOURCES: dict[str, Callable[..., Source]] = {
    EMBEDDED: sources.embedded,
    "npz": sources.npz,
    "idx": idx.read,
    "image_folder": folders.image_folder,
    "tiny_imagenet": folders.tiny_imagenet,
}
"""The sources that are not TFDS; each takes those of `load`'s options that it reads."""


def load(
    name: str,
    *,
    data_dir: PathLike | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    train_split: str = "train",
    test_split: str = "test",
    image_size: int | None = None,
    limit: int | None = None,
) -> Splits:
    """Loads a data set: training, validation and test images, uint8 on the host.

    Args:
      name: one of
        "fashion_mnist_mini": 6 000, 1 000 and 2 000 images that come with the package;
        "npz": `data_dir` is an .npz file, see `rumjax.data.sources.npz`;
        "idx": `data_dir` holds MNIST's four files, see `rumjax.data.idx.read`;
        "image_folder": `data_dir` holds train/CLASS/IMAGE and test/CLASS/IMAGE, or val/ where
        there is no test/;
        "tiny_imagenet": `data_dir` is the folder tiny-imagenet-200, whose official validation set
        becomes the test set;
        "package.module:function" for a source of your own: the function is called with those of
        `data_dir`, `image_size`, `train_split` and `test_split` that it takes, and returns a
        `rumjax.data.Source`, or anything else with its four attributes;
        or any image-classification data set of TFDS, "cifar10" for example, prepared under
        `data_dir` as array_record.
      data_dir: where the data is; TFDS has a default.
      validation_fraction: of every class's training examples, held out, see `stratified_split`.
        Ignored where the source has a validation set of its own: "fashion_mnist_mini", and an
        "npz" with validation_images.
      seed: of what is held out, and of what `limit` keeps.
      train_split: TFDS's name of the training split.
      test_split: TFDS's name of the test split.
      image_size: for "image_folder", the height and width to resize to.
      limit: keep only so many examples of each split, drawn at random, for a trial run.

    Returns:
      Images uint8[N, H, W, C], of one shape in all splits, and labels int32[N] below `num_classes`.

    Raises:
      InvalidInputError: the data is not there, is damaged, or is no image classification; an
        option that the source does not have.

    Examples:
      >>> splits = load("fashion_mnist_mini", limit=100)
      >>> splits.train.images.shape, splits.class_names[:2]
      ((100, 28, 28, 1), ('T-shirt/top', 'Trouser'))
    """
    # The source reads its images, with the options that it takes.
    read = _reader(name)
    options = _options_for(
        name,
        read,
        data_dir=data_dir or None,
        image_size=image_size,
        train_split=train_split if train_split != "train" else None,
        test_split=test_split if test_split != "test" else None,
    )
    source = read(**options)
    if is_import_path(name):
        source = _checked_source(name, source)

    # Where there is no validation set, a part of every class is held out.
    train, validation, test = source.train, source.validation, source.test
    if validation is None:
        stays, held_out = stratified_split(np.asarray(train.labels), validation_fraction, seed=seed)
        train, validation = _take(train, stays), _take(train, held_out)
    check_same_shape(f"data: {name!r}", train=train, validation=validation, test=test)

    if limit is not None:
        # At random, since files come class by class.
        random = np.random.default_rng(check_count("seed", seed, least=0))
        count = check_count("limit", limit)
        train, validation, test = (
            _take(part, np.sort(random.permutation(len(part.labels))[:count]))
            for part in (train, validation, test)
        )
    return Splits(name, len(source.class_names), source.class_names, train, validation, test)


def _reader(name: str) -> Callable[..., Any]:
    """Returns the function that reads a source."""
    if name in SOURCES or is_import_path(name):
        return resolve("data source", name, SOURCES, wanted="a function")
    return partial(tfds.read, name, others=tuple(SOURCES))


def _options_for(name: str, read: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Returns the options that were given, and None for `data_dir` where there is no default.

    Raises:
      InvalidInputError: an option was given that the function does not take.
    """
    parameters = inspect.signature(read).parameters
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    given = {option: value for option, value in options.items() if value is not None}
    surplus = [option for option in given if option not in parameters and not takes_all]
    if surplus:
        raise InvalidInputError(f"data: {name!r} has no {', '.join(surplus)}; leave that out")
    data_dir = parameters.get("data_dir")
    if data_dir is not None and data_dir.default is inspect.Parameter.empty:
        given.setdefault("data_dir", None)
    try:
        inspect.signature(read).bind(**given)
    except TypeError as error:
        raise InvalidInputError(f"data: {name!r}: {error}; it is given data_dir alone") from error
    return given


def _checked_source(name: str, source: Any) -> Source:
    """Returns what a function of the user's has returned, as a `Source`, once it is in order.

    Raises:
      InvalidInputError: an attribute is missing, there are no class names, or a part is refused by
        `checked`.
    """
    missing = [field for field in ("class_names", "train", "test") if not hasattr(source, field)]
    if missing:
        raise InvalidInputError(
            f"data: {name!r} returned {type(source).__name__} without {', '.join(missing)}; wanted "
            "a rumjax.data.Source: class_names, train, validation (or None) and test"
        )

    # Names of two classes or more, and parts whose labels are among them.
    names = tuple(map(str, source.class_names))
    if len(names) < 2 or len(set(names)) < len(names):
        raise InvalidInputError(f"data: {name!r} names the classes {names}; wanted two or more")
    parts: dict[str, Dataset | None] = {}
    for part in ("train", "validation", "test"):
        pair = getattr(source, part, None)
        where = f"data: {name!r}, {part}"
        if pair is None and part == "validation":
            parts[part] = None
        elif not isinstance(pair, tuple) or len(pair) != 2:
            raise InvalidInputError(
                f"{where}: wanted a rumjax.Dataset of images and labels, got {type(pair).__name__}"
            )
        else:
            parts[part] = checked(where, *pair, len(names))
    return Source(names, **parts)  # type: ignore[arg-type]


def _take(data: Dataset, indices: np.ndarray) -> Dataset:
    return Dataset(data.images[indices], data.labels[indices])
