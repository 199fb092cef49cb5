"""`load`: a data set by name, whatever its source, checked and split into three."""

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from rumjax.data import folders, idx, sources, tfds
from rumjax.data.origins import Example, Register, as_examples, copies
from rumjax.data.sources import EMBEDDED, PathLike, Source
from rumjax.data.splits import check_same_shape, checked, stratified_split
from rumjax.errors import InvalidInputError, check_choice, check_count, check_scalar
from rumjax.registry import attempt, is_import_path, resolve
from rumjax.types import PARTS, Dataset, Origin, Splits

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
    validation_from: str = "train",
    seed: int = 0,
    train_split: str = "train",
    test_split: str = "test",
    image_size: int | None = None,
    limit: int | None = None,
    label_noise: float = 0.0,
    keep: Sequence[Example] | Callable[[Register], np.ndarray] = (),
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
        Ignored where the source has a validation set of its own: "fashion_mnist_mini", an "npz"
        with validation_images, and an "image_folder" with val/ beside test/.
      validation_from: "train", or "test" for a model that was trained on all training images:
        then V is drawn from the test images, and T is the rest of them. It does not matter where
        the source has validation images.
      seed: of what is held out, of what `limit` keeps, and of `label_noise`.
      train_split: TFDS's name of the training split.
      test_split: TFDS's name of the test split.
      image_size: for "image_folder", the height and width to resize to.
      limit: keep only so many examples of each split, drawn at random, for a trial run.
      label_noise: of D, the share of examples that get a label drawn at random among the others, as
        Zhang et al. (ICLR 2017) do to make networks memorize.
      keep: training examples that are neither held out nor left out by `limit`, as those of a
        deletion request: rows, names or hashes, see `locate`; or a function from the source's
        training images to bool[N].

    Returns:
      Images uint8[N, H, W, C], of one shape in all splits, and labels int32[N] below `num_classes`.
      `Splits.origins` says where each example comes from. What was left out, and images that are in
      two splits, are counted in warnings of the logger "rumjax".

    Raises:
      InvalidInputError: the data is not there, is damaged, or is no image classification; an
        option that the source does not have, or has another type; no such example to keep.

    Examples:
      >>> splits = load("fashion_mnist_mini", limit=100)
      >>> splits.train.images.shape, splits.class_names[:2]
      ((100, 28, 28, 1), ('T-shirt/top', 'Trouser'))
    """
    # The source reads its images, with the options that it takes.
    if not isinstance(name, str):
        raise InvalidInputError(f"data: name: wanted text, got {name!r}")
    read = _reader(name)
    options = _options_for(
        name,
        read,
        data_dir=data_dir or None,
        image_size=image_size,
        train_split=train_split if train_split != "train" else None,
        test_split=test_split if test_split != "test" else None,
    )
    if is_import_path(name):
        source = _checked_source(name, attempt(f"data: {name!r} failed", read, options))
    else:
        source = read(**options)

    parts = {part: getattr(source, part) for part in PARTS if getattr(source, part) is not None}
    check_same_shape(f"data: {name!r}", **parts)
    origins = {part: _origin(name, source, part) for part in parts}

    # Where there is no validation set, a part of every class is held out.
    seed = check_count("data: seed", seed, least=0)
    kept = _kept(Register(source.train, origins["train"]), keep)
    chosen = {part: np.arange(origin.size) for part, origin in origins.items()}
    whole = check_choice("data: validation_from", validation_from, ("train", "test"))
    if source.validation is None:
        chosen[whole], chosen["validation"] = stratified_split(
            np.asarray(parts[whole].labels),
            validation_fraction,
            seed=seed,
            keep=kept if whole == "train" else None,
        )
        origins["validation"], parts["validation"] = origins[whole], parts[whole]

    if limit is not None:
        # At random, since files come class by class; those that are kept come first.
        random = np.random.default_rng(seed)
        limit = check_count("data: limit", limit, least=max(1, int(kept.sum())))
        for part, rows in chosen.items():
            shuffled = random.permutation(rows)
            if part == "train":
                shuffled = shuffled[np.argsort(~kept[shuffled], kind="stable")]
            chosen[part] = np.sort(shuffled[:limit])

    # Labels are wrong in D alone.
    taken = {part: _take(parts[part], rows) for part, rows in chosen.items()}
    noise = check_scalar("data: label_noise", label_noise, most=1.0)
    taken["train"] = with_noise(taken["train"], noise, len(source.class_names), seed)

    for note in (*source.notes, *remarks(source)):
        logging.getLogger("rumjax").warning("data: %s", note)
    return Splits(
        name,
        len(source.class_names),
        source.class_names,
        **taken,
        origins={part: origins[part]._replace(rows=rows) for part, rows in chosen.items()},
    )


def with_noise(data: Dataset, share: float, num_classes: int, seed: int) -> Dataset:
    """Replaces the labels of a share of the examples, drawn at random, each by another one.

    Args:
      data: uint8[N, H, W, C] and int32[N].
      share: of the N examples, rounded to a whole number.
      num_classes: K.
      seed: of the examples and their labels.

    Raises:
      InvalidInputError: there is no other class to draw labels from.

    Examples:
      >>> data = Dataset(np.zeros((10, 4, 4, 1), np.uint8), np.zeros(10, np.int32))
      >>> int(np.sum(with_noise(data, 0.3, 5, seed=0).labels > 0))
      3
    """
    if not share:
        return data
    if num_classes < 2:
        raise InvalidInputError("data: label_noise: there is one class, and no other label to draw")
    random = np.random.default_rng((seed, 1))
    chosen = random.permutation(len(data.labels))[: round(share * len(data.labels))]
    labels = np.array(data.labels)
    shifts = random.integers(1, num_classes, len(chosen), dtype=labels.dtype)
    labels[chosen] = (labels[chosen] + shifts) % num_classes
    return data._replace(labels=labels)


def remarks(source: Source) -> list[str]:
    """Says what is unusual about the images of a source, a sentence each.

    These are classes without training images, and images that are in the training set and in
    another, pixel by pixel: accuracies on them say nothing about images never seen.
    """
    counts = np.bincount(source.train.labels, minlength=len(source.class_names))
    absent = [str(source.class_names[label]) for label in np.flatnonzero(counts == 0)]
    sentences = []
    if absent:
        listed = ", ".join(absent[:5])
        sentences.append(f"{len(absent)} classes have no training image, {listed} among them")

    # The training images are hashed once for all that is compared with them.
    others = {"test": source.test, "validation": source.validation}
    given = {part: data for part, data in others.items() if data is not None}
    images = np.concatenate([data.images for data in given.values()])
    ends = np.cumsum([len(data.labels) for data in given.values()])
    found = np.split(copies(images, source.train.images), ends[:-1])
    for part, shared in zip(given, found, strict=True):
        if shared.any():
            sentences.append(
                f"{shared.sum()} of {len(shared)} {part} images are training images too, pixel by "
                "pixel"
            )
    return sentences


def _origin(name: str, source: Source, part: str) -> Origin:
    """Returns where the examples of a part of a source come from.

    Raises:
      InvalidInputError: other than a name for each of them.
    """
    count = len(getattr(source, part).labels)
    names = source.names.get(part)
    if names is not None and len(names) != count:
        raise InvalidInputError(
            f"data: {name!r}, {part}: {count} examples, but {len(names)} names; each needs one"
        )
    text = None if names is None else np.array([str(name) for name in names])
    return Origin(part, count, np.arange(count), text)


def _kept(
    register: Register, keep: Sequence[Example] | Callable[[Register], np.ndarray]
) -> np.ndarray:
    """Returns which training images of a source may not be left out, bool[N].

    Raises:
      InvalidInputError: an example that the source does not have.
    """
    if callable(keep):
        kept = np.asarray(keep(register))
        if kept.dtype != bool or kept.shape != (register.origin.size,):
            raise InvalidInputError(
                f"data: keep: wanted its function to return bool[{register.origin.size}], got "
                f"{kept.dtype}{list(kept.shape)}"
            )
        return kept
    kept = np.zeros(register.origin.size, bool)
    for example in as_examples("data: keep", keep):
        positions = register.find(example)
        if not positions:
            raise InvalidInputError(f"data: keep: there is no training image {example!r}")
        kept[positions] = True
    return kept


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
      InvalidInputError: an attribute is missing or of another type, there are no class names, or a
        part is refused by `checked`.
    """
    where = f"data: {name!r}"
    if isinstance(source, Splits):
        source = _undivided(where, source)
    missing = [field for field in ("class_names", "train", "test") if not hasattr(source, field)]
    if missing:
        raise InvalidInputError(
            f"{where} returned {type(source).__name__} without {', '.join(missing)}; wanted "
            "a rumjax.data.Source: class_names, train, validation (or None) and test"
        )

    # Names of two classes or more, and parts whose labels are among them.
    names = _texts(where, "class_names", source.class_names)
    if len(names) < 2 or len(set(names)) < len(names):
        raise InvalidInputError(f"{where} names the classes {names}; wanted two or more")
    parts: dict[str, Dataset | None] = {}
    for part in PARTS:
        pair = getattr(source, part, None)
        if pair is None and part == "validation":
            parts[part] = None
        elif not isinstance(pair, tuple) or len(pair) != 2:
            raise InvalidInputError(
                f"{where}, {part}: wanted a rumjax.Dataset of images and labels, got "
                f"{type(pair).__name__}"
            )
        else:
            parts[part] = checked(f"{where}, {part}", *pair, len(names))

    # What its examples are called, and what it says besides.
    called = getattr(source, "names", None) or {}
    if not isinstance(called, Mapping) or set(called) - set(PARTS):
        raise InvalidInputError(f"{where}: names: wanted names by {', '.join(PARTS)}")
    own_names = {part: _texts(where, f"names of {part}", texts) for part, texts in called.items()}
    notes = _texts(where, "notes", getattr(source, "notes", None) or ())
    return Source(names, **parts, names=own_names, notes=notes)  # type: ignore[arg-type]


def _texts(where: str, what: str, texts: Any) -> tuple[str, ...]:
    """Returns several texts, if they are that.

    Raises:
      InvalidInputError: they are something else; a single text would become its letters.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise InvalidInputError(f"{where}: {what}: wanted a list of texts, got {texts!r:.80}")
    return tuple(
        text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in texts
    )


def _undivided(where: str, splits: Splits) -> Source:
    """Returns the source of splits that `load` has made, with its rows and names in their order.

    Raises:
      InvalidInputError: some of its training images were left out.
    """
    train, validation = splits.origin("train"), splits.origin("validation")
    data, held_out = splits.train, None if validation.part == "train" else splits.validation
    rows = train.rows
    if held_out is None:
        rows = np.concatenate([train.rows, validation.rows])
        data = Dataset(
            *(np.concatenate(both) for both in zip(splits.train, splits.validation, strict=True))
        )
    if len(rows) != train.size or len(splits.test.labels) != splits.origin("test").size:
        raise InvalidInputError(
            f"{where} returned Splits of which some examples are left out; load them without limit"
        )
    origins = {part: splits.origin(part) for part in PARTS if held_out or part != "validation"}
    names = {part: one.names.tolist() for part, one in origins.items() if one.names is not None}
    return Source(splits.class_names, _take(data, np.argsort(rows)), held_out, splits.test, names)


def _take(data: Dataset, indices: np.ndarray) -> Dataset:
    return Dataset(data.images[indices], data.labels[indices])
