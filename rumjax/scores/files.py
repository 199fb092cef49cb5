"""Memorization scores from files, yours or those that come with rumjax. NumPy on the host."""

import importlib.resources
import io
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rumjax.archives import SINGLE, open_arrays, write_whole
from rumjax.data.origins import HASH, NAME, ROW, Register, as_examples, hashed_images
from rumjax.errors import InvalidInputError, check_choice
from rumjax.listings import CLASS, COLUMNS
from rumjax.types import Scores, Splits

PUBLISHED = importlib.resources.files("rumjax.scores") / "published"
KEYS = ("memorization", "tr_mem")
"""Keys of scores in an .npz, by default; see `load_scores`."""
LABELS = ("tr_labels", "train_labels", "y_train", *COLUMNS[CLASS])
"""Keys of the labels of examples in an .npz."""


def load_scores(
    path: str | os.PathLike[str],
    key: str | None = None,
    *,
    size: int | None = None,
    data: Splits | None = None,
) -> Scores:
    """Reads scores from an .npz, by any key, or from an .npy; larger must mean more memorized.

    With `data`, the scores are matched to its training images D, whatever was held out. A file that
    names its examples is matched by these names: `scores.npz` of a run by its "source_rows", others
    by "filenames", "sha256" or another word of `rumjax.listings.COLUMNS`. Any other must have a
    score for every training image of the source, in the source's order; where it has "tr_labels" or
    "labels" too, they must be those of the images.

    The files of Feldman & Zhang (NeurIPS 2020) are read as they are: `cifar100_infl_matrix.npz` has
    the memorization of CIFAR-100's 50 000 training examples as `tr_mem`, in the order of the data
    set's own files, to which its `tr_labels` belong; `imagenet_index.npz` has `tr_mem` in the order
    of its `tr_filenames`. Neither has standard errors.

    Args:
      path: of the file.
      key: of the array in an .npz; by default one of `KEYS`, or else the only array of floats in
        one dimension. Standard errors may be under the same key with "_se" at its end.
      size: N, the number of scores there must be without `data`; by default any.
      data: from `rumjax.data.load`.

    Returns:
      Scores of the examples of D, or all as they are in the file without `data`.

    Raises:
      InvalidInputError: the file cannot be read, has no such key, holds other than so many finite
        numbers, or is in another order than the data; names the keys that there are.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(f"{folder}/mine.npz", memorization=np.array([0.1, 0.7]))
      ...     load_scores(f"{folder}/mine.npz", size=2).values
      array([0.1, 0.7], dtype=float32)
    """
    # An .npy has a single array, an .npz one under the key and perhaps its standard errors.
    with open_arrays(path, "scores") as held:
        if SINGLE in held and key:
            raise InvalidInputError(
                f"scores: {path} is a single array without keys; leave out {key!r}"
            )
        if SINGLE not in held:
            key = key or _only_key(path, held)
            check_choice(f"key in {path}", key, held)
        values, error = held[key or SINGLE], held.get(f"{key}_se")
        where = f"scores: {path}{f', {key}' if key else ''}"
        if data is None:
            return _checked(where, values, error, size)
        if not isinstance(data, Splits):
            raise InvalidInputError(f"{where}: data: wanted the data set of rumjax.data.load")
        rows, size = _rows_in_file(where, held, np.size(values), data)
        scores = _checked(where, values, error, size)
    own_error = scores.standard_error
    return Scores(scores.values[rows], None if own_error is None else own_error[rows])


def _rows_in_file(
    where: str, held: Mapping[str, np.ndarray], length: int, data: Splits
) -> tuple[np.ndarray, int]:
    """Returns where in a file the examples of D are, and how many scores it must have.

    Raises:
      InvalidInputError: examples of D that it does not have or has twice, arrays that may name them
        otherwise, or labels that are others.
    """
    # A file that names its examples has them in any order.
    origin = data.origin("train")
    arrays = {name: held[name] for name in held}
    alike = {name: array.ravel() for name, array in arrays.items() if array.size == length > 1}
    names = _names_among(where, alike)
    if names is None:
        listed = list(range(origin.size))
    else:
        register = Register(data.train, origin)
        examples = as_examples(where, alike[names[0]])
        found = [register.find(example, names[1]) for example in examples]
        listed = [int(origin.rows[places[0]]) if places else -1 for places in found]

    # Each example of D has one score.
    places: dict[int, list[int]] = {}
    for place, row in enumerate(listed):
        places.setdefault(row, []).append(place)
    if missing := [row for row in origin.rows.tolist() if row not in places]:
        raise InvalidInputError(
            f"{where}: no score for {len(missing)} of {len(origin.rows)} training images, the "
            f"first is row {missing[0]}; it was made for other data, or with others held out"
        )
    if twice := [row for row in origin.rows.tolist() if len(places[row]) > 1]:
        raise InvalidInputError(f"{where}: row {twice[0]} has {len(places[twice[0]])} scores")
    rows = np.array([places[row][0] for row in origin.rows.tolist()])

    # Labels of the file would show another order.
    for name, labels in alike.items():
        if name not in LABELS or labels.dtype.kind not in "iuf":
            continue
        others = np.flatnonzero(labels[rows] != np.asarray(data.train.labels))
        if others.size:
            raise InvalidInputError(
                f"{where}: its {name} are others than those of {others.size} of {len(rows)} "
                f"training images, the first is row {origin.rows[others[0]]}; the file is in "
                "another order, so give the scores in the order of the data, or with filenames"
            )
    return rows, len(listed)


def _names_among(where: str, arrays: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
    """Returns the array that names the examples of scores, with its kind, or None.

    Raises:
      InvalidInputError: several may, or one that is called as if it did.
    """
    named = [(name, kind) for name in arrays for kind in (ROW, NAME, HASH) if name in COLUMNS[kind]]
    if ("source_rows", ROW) in named:
        return "source_rows", ROW
    if len(named) > 1:
        raise InvalidInputError(
            f"{where}: {' and '.join(name for name, _ in named)} may all name the examples; leave "
            "one of them"
        )
    # Text is of names, whatever it is called.
    strange = [name for name, array in arrays.items() if array.dtype.kind in "US"]
    strange = [name for name in strange if name not in LABELS and (name, NAME) not in named]
    if not named and strange:
        raise InvalidInputError(
            f"{where}: {strange[0]} may name the examples; call it filenames or sha256, or leave "
            "it out"
        )
    return named[0] if named else None


def _only_key(file: str | os.PathLike[str], archive: Mapping[str, np.ndarray]) -> str:
    """Returns one of `KEYS`, or the key of the only array of floats besides standard errors."""
    if usual := [key for key in KEYS if key in archive]:
        return usual[0]
    # Arrays of floats in one dimension that are no standard errors of others.
    arrays = {name: archive[name] for name in archive}
    floats = [name for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind == "f"]
    errors = [f"{name}_se" for name in floats]
    scores = [name for name in floats if name not in errors]
    if len(scores) != 1:
        raise InvalidInputError(
            f"scores: {file} holds {', '.join(arrays) or 'nothing'}; say which with a key"
        )
    return scores[0]


def _checked(what: str, values: np.ndarray, error: np.ndarray | None, size: int | None) -> Scores:
    """Returns arrays as `Scores`, if they are so many finite numbers."""
    wanted = (len(np.atleast_1d(values)) if size is None else size,)
    for array in (values,) if error is None else (values, error):
        real = array.dtype.kind in "fiu"
        if array.shape != wanted or not real or not np.isfinite(array).all():
            raise InvalidInputError(
                f"{what}: wanted {wanted[0]} finite numbers, one for each training example "
                f"in the order of the data, got {array.dtype}{list(array.shape)}"
            )
    return Scores(values.astype(np.float32), None if error is None else error.astype(np.float32))


def published() -> list[str]:
    """Returns the names of the scores that come with rumjax.

    Examples:
      >>> all(about_published(name)["data"] for name in published())
      True
    """
    files = (file.name for file in PUBLISHED.iterdir()) if PUBLISHED.is_dir() else ()
    return sorted(name.removesuffix(".npz") for name in files if name.endswith(".npz"))


def load_published(name: str, images: np.ndarray) -> dict[str, Scores]:
    """Returns published scores of these very images, whatever their order and split.

    Images are looked up by their content: identical images all get the scores of the first.

    Args:
      name: of `published`.
      images: uint8[N, H, W, C].

    Returns:
      `memorization` with its standard error, and `c_proxy` if that was published.

    Raises:
      InvalidInputError: no such scores, or images that have none.

    Examples:
      >>> images = np.zeros((1, 28, 28, 1), np.uint8)
      >>> load_published("nowhere", images)  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: unknown published scores 'nowhere'. There are: ...
    """
    # The place of every image among those that have scores.
    archive = _read_published(name)
    rows = places(image_hashes(images), archive["hashes"])
    if missing := int(np.sum(rows < 0)):
        about = json.loads(str(archive["about"]))
        raise InvalidInputError(
            f"published scores {name!r}: {missing} of {len(images)} images are none of theirs; "
            f"they are of {about['data']}; rumjax.scores.has_published tells which to keep in D"
        )

    # The scores at those places.
    scores = {
        "memorization": Scores(archive["memorization"][rows], archive["memorization_se"][rows])
    }
    if "c_proxy" in archive:
        scores["c_proxy"] = Scores(archive["c_proxy"][rows])
    return scores


def has_published(name: str, images: np.ndarray) -> np.ndarray:
    """Says which images have published scores, bool[N].

    `rumjax.data.load` keeps these in D by `keep=lambda source: has_published(NAME,
    source.data.images)`, whatever the order of the files.

    Args:
      name: of `published`.
      images: uint8[N, H, W, C].

    Raises:
      InvalidInputError: no such scores.

    Examples:
      >>> images = np.zeros((1, 28, 28, 1), np.uint8)
      >>> has_published(published()[0], images)
      array([False])
    """
    return places(image_hashes(images), _read_published(name)["hashes"]) >= 0


def about_published(name: str) -> dict[str, Any]:
    """Returns what published scores were made with: data, model, training, bank, accuracies.

    Raises:
      InvalidInputError: no such scores.

    Examples:
      >>> {"data", "model"} <= set(about_published(published()[0])) if published() else True
      True
    """
    about: dict[str, Any] = json.loads(str(_read_published(name)["about"]))
    return about


def _read_published(name: str) -> dict[str, np.ndarray]:
    """Reads the arrays of a published file."""
    check_choice("published scores", name, published())
    with (PUBLISHED / f"{name}.npz").open("rb") as opened, np.load(opened) as archive:
        return dict(archive)


def publish(
    path: str | os.PathLike[str],
    images: np.ndarray,
    index: np.ndarray,
    scores: Mapping[str, Scores],
    about: Mapping[str, Any],
) -> None:
    """Writes a file in the form that `load_published` reads.

    Args:
      path: of the .npz.
      images: uint8[N, H, W, C] that the scores are of; only their hashes are kept.
      index: int32[N], the places of the images in the data set's own training files.
      scores: `memorization`, with a standard error, and perhaps `c_proxy`.
      about: what the scores were made with, as JSON has it; must have the key "data".

    Raises:
      InvalidInputError: scores or an entry missing, or other than N of something.

    Examples:
      >>> import tempfile
      >>> images = np.zeros((2, 4, 4, 1), np.uint8)
      >>> scores = {"memorization": Scores(np.array([0.1, 0.7]), np.array([0.0, 0.1]))}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     publish(f"{folder}/mine.npz", images, np.arange(2), scores, {"data": "black"})
      ...     sorted(np.load(f"{folder}/mine.npz"))
      ['about', 'hashes', 'index', 'memorization', 'memorization_se']
    """
    # There must be scores, and the name of the data.
    check_choice("score to publish", "memorization", scores)
    if "data" not in about:
        raise InvalidInputError("scores to publish: `about` must name the data set as 'data'")

    # One number of every kind for every image.
    memorization, c_proxy = scores["memorization"], scores.get("c_proxy")
    arrays: dict[str, Any] = {
        "hashes": image_hashes(images),
        "index": np.asarray(index, np.int32),
        "memorization": np.asarray(memorization.values, np.float32),
        "memorization_se": np.asarray(memorization.standard_error, np.float32),
    }
    if c_proxy is not None:
        arrays["c_proxy"] = np.asarray(c_proxy.values, np.float32)
    for name, array in arrays.items():
        if array.shape != (len(images),):
            raise InvalidInputError(
                f"scores to publish: wanted {name} of {len(images)} images, got {list(array.shape)}"
            )
    file = io.BytesIO()
    np.savez_compressed(file, **arrays, about=np.array(json.dumps(dict(about))))
    write_whole(path, file.getvalue())


def places(wanted: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the first place of every wanted hash among the others, or -1; int64[N].

    Examples:
      >>> places(np.array([7, 5, 9]), np.array([5, 7, 7]))
      array([ 1,  0, -1])
    """
    # A search among the sorted hashes; a place beyond the last one stands for nothing.
    hashes, first = np.unique(others, return_index=True)
    return np.where(
        np.isin(wanted, hashes), np.append(first, -1)[np.searchsorted(hashes, wanted)], -1
    )


def image_hashes(images: np.ndarray) -> np.ndarray:
    """Returns hashes by which images are looked up, uint64[N].

    A hash is the first 8 bytes, the lowest first, of the SHA-256 of "(H, W, C)" in digits and the
    H·W·C bytes of the image, row by row, the channels of a pixel together.

    Args:
      images: uint8[N, H, W, C].

    Raises:
      InvalidInputError: another dtype or number of dimensions.

    Examples:
      >>> hashes = image_hashes(np.zeros((2, 4, 4, 1), np.uint8))
      >>> hashes.dtype, bool(hashes[0] == hashes[1])
      (dtype('uint64'), True)
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise InvalidInputError(
            f"images: wanted uint8[N, H, W, C], got {images.dtype}{list(images.shape)}"
        )
    digests = (hashed.digest()[:8] for hashed in hashed_images(images))
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
