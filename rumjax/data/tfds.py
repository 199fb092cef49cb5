"""Image-classification data sets of TensorFlow Datasets, read without TensorFlow."""

import difflib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rumjax.data.sources import PathLike, Source, with_progress
from rumjax.data.splits import checked
from rumjax.errors import InvalidInputError
from rumjax.types import Dataset

NAMES = ("id", "file_name", "filename", "image/filename")
"""Features by which a data set may name its examples."""
READ_AT_ONCE = 100
"""Examples in one call of TFDS, which takes half the time of one example a call."""


def read(
    name: str,
    data_dir: PathLike | None = None,
    train_split: str = "train",
    test_split: str = "test",
    *,
    others: Sequence[str] = (),
) -> Source:
    """Reads a data set of TFDS with features "image" and "label", prepared as array_record.

    Reading needs no TensorFlow; preparing does, and messages say by which command.

    Args:
      name: of TFDS, for example "cifar10".
      data_dir: where data sets are prepared; by default TFDS's own folder, or TFDS_DATA_DIR if that
        is set.
      train_split: as TFDS writes splits, "train[:50%]" for example.
      test_split: likewise.
      others: names that are no TFDS data sets and may have been meant.

    Raises:
      InvalidInputError: TFDS is not installed; an unknown name or split; the data set is not
        prepared, or as TFRecord, or damaged; it is no image classification; its images have
        several shapes.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise InvalidInputError(
            f"data: {name!r} is none of {', '.join(others)}, and so is looked for in "
            "tensorflow-datasets, which is not installed: pip install 'rumjax[tfds]'"
        ) from error

    # The data set, which must be one of image classification, and prepared.
    path = None if data_dir is None else os.path.expanduser(data_dir)
    builder = _builder(tensorflow_datasets, name, path, others)
    features = builder.info.features
    label = features["label"] if "label" in features else None  # noqa: SIM401 (not a dict)
    if "image" not in features or not isinstance(label, tensorflow_datasets.features.ClassLabel):
        raise InvalidInputError(
            f"data: {name!r} is no image classification: wanted a feature 'image' and a class "
            f"'label', got {', '.join(features)}"
        )
    if not builder.is_prepared():
        raise InvalidInputError(
            f"data: {name!r} is not prepared under {builder.data_dir}; prepare it by "
            f"{prepare_command(name, path)}"
        )

    # Both splits, as arrays.
    try:
        splits = [builder.as_data_source(split=split) for split in (train_split, test_split)]
    except ValueError as error:
        raise InvalidInputError(
            f"data: {name!r}, splits {train_split!r} and {test_split!r}: {_reason(error)}"
        ) from error
    except NotImplementedError as error:
        other = f"{path or 'tensorflow_datasets'}_array_record"
        raise InvalidInputError(
            f"data: {name!r} under {builder.data_dir} is prepared in a format without random "
            f"access; prepare it as array_record in another folder, and give that as data_dir: "
            f"{prepare_command(name, other)}"
        ) from error
    ids = next((feature for feature in NAMES if feature in features), None)
    (train, train_names), (test, test_names) = (
        _read_split(f"data: {name!r}, {split}", source, label.num_classes, ids)
        for split, source in zip((train_split, test_split), splits, strict=True)
    )
    names = {"train": train_names, "test": test_names} if ids else {}
    return Source(tuple(label.names), train, None, test, names)


def prepare_command(name: str, path: str | None) -> str:
    """Returns the shell command that downloads a data set and prepares it under `path`."""
    data_dir = "" if path is None else f"data_dir={json.dumps(path)}, "
    return "python -c " + shlex.quote(
        f"import tensorflow_datasets as tfds; tfds.builder({json.dumps(name)}, {data_dir}"
        'file_format="array_record").download_and_prepare()'
    )


def _builder(library: Any, name: str, path: str | None, others: Sequence[str]) -> Any:
    """Returns TFDS's builder of a data set."""
    try:
        return library.builder(name, data_dir=path)
    except library.core.DatasetNotFoundError as error:
        names = [*others, *library.list_builders(with_community_datasets=False)]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(others)} and TFDS's"
        raise InvalidInputError(f"data: unknown data set {name!r}; {hint}") from error
    except Exception as error:  # AssertionError for a version, ImportError for what it needs
        raise InvalidInputError(f"data: TFDS cannot open {name!r}: {_reason(error)}") from error


def _read_split(
    where: str, source: Any, num_classes: int, ids: str | None
) -> tuple[Dataset, list[str]]:
    """Reads a split into arrays, whose size is that of the first image, with the names if any."""
    labels = np.zeros(len(source), np.int64)
    images = np.zeros((0,), np.uint8)
    names: list[str] = []
    for index, example in enumerate(with_progress(_examples(where, source), where, len(source))):
        image = np.asarray(example["image"])
        if index == 0:
            images = np.empty((len(source), *image.shape), image.dtype)
        if image.shape != images.shape[1:]:
            raise InvalidInputError(
                f"{where}: images of several shapes, {list(images.shape[1:])} and "
                f"{list(image.shape)} (example {index}); export them as an image_folder and set "
                "image_size"
            )
        images[index], labels[index] = image, int(example["label"])
        if ids:
            name = example[ids]
            names.append(name.decode() if isinstance(name, bytes) else str(name))
    return checked(where, images, labels, num_classes), names


def _examples(where: str, source: Any) -> Iterator[Mapping[str, Any]]:
    """Yields the examples of a split, read many at a time."""
    for start in range(0, len(source), READ_AT_ONCE):
        try:
            examples = source.__getitems__(range(start, min(start + READ_AT_ONCE, len(source))))
        except Exception as error:  # the reader of records raises RuntimeError, decoders others
            raise InvalidInputError(
                f"{where}: example {start} or one soon after it cannot be read: "
                f"{_reason(error)}; delete the data set and prepare it again"
            ) from error
        yield from examples


def _reason(error: Exception) -> str:
    """Returns the first line of a message: TFDS goes on to list all of its data sets."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
