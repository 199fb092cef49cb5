"""What the source of a data set calls its examples: rows, names of files, and hashes.

Loading holds out validation images and may keep only some of the others, so that the position of
an example in D is not its row in the source. People know rows, files and contents; `locate` turns
these into positions.
"""

import collections
import difflib
import functools
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from rumjax.data.splits import checked
from rumjax.errors import InvalidInputError
from rumjax.types import AnyArray, Dataset, Origin, Splits

ROW, NAME, HASH, ANY = "row", "name", "sha256", "any"
"""What an example may be named by."""
Example: TypeAlias = int | str
"""An example as its source names it: its row, its file or id, or its SHA-256."""

SHA256 = re.compile(r"[0-9a-f]{64}")
"""How a SHA-256 is written."""
MOST_CLASSES = 2**31 - 1
"""A number of classes that all labels are below."""
SHOWN = 5
"""Examples that a message names, at most."""
HELD_OUT = (
    "held out for validation: load with keep=..., which holds none of them out, or with "
    "validation_fraction=0"
)


def hashes(data: Dataset) -> np.ndarray:
    """Returns a SHA-256 of every example, str[N] of 64 hexadecimal digits.

    It is of "(H, W, C)" in digits, of the H·W·C bytes of the image, row by row with the channels of
    a pixel together, and of the label in digits. Identical images of one label share it.

    Args:
      data: images and labels in any form that loading takes, see `checked`.

    Raises:
      InvalidInputError: no such images or labels.

    Examples:
      >>> both = hashes(Dataset(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 0])))
      >>> bool(both[0] == both[1]), len(both[0])
      (True, 64)
    """
    if not isinstance(data, tuple) or len(data) != 2:
        raise InvalidInputError(f"hashes: wanted a Dataset, got {type(data).__name__}")
    if not np.size(data[1]):
        return np.empty(0, "<U64")
    images, labels = checked("hashes", *data, MOST_CLASSES)
    hexadecimal = []
    for digest, label in zip(hashed_images(images), labels.tolist(), strict=True):
        digest.update(str(label).encode())
        hexadecimal.append(digest.hexdigest())
    return np.array(hexadecimal, "<U64")


def copies(images: AnyArray, others: AnyArray) -> np.ndarray:
    """Says which images are also among others, pixel by pixel, bool[N].

    Args:
      images: uint8[N, H, W, C].
      others: uint8[M, H, W, C].

    Examples:
      >>> copies(np.zeros((2, 4, 4, 1), np.uint8), np.zeros((1, 4, 4, 1), np.uint8))
      array([ True,  True])
    """
    theirs = {digest.digest() for digest in hashed_images(others)}
    return np.array([digest.digest() in theirs for digest in hashed_images(images)], bool)


class Register:
    """Finds the examples of a data set by what their source calls them."""

    def __init__(self, data: Dataset, origin: Origin) -> None:
        """Makes the register; names and hashes are read once they are asked for."""
        self.data = data
        self.origin = origin
        self.names: list[str] = [] if origin.names is None else origin.names.tolist()
        self._positions = {row: position for position, row in enumerate(origin.rows.tolist())}

    @functools.cached_property
    def _rows_by_file(self) -> dict[str, list[int]]:
        """Rows by the last part of their names, with and without its ending."""
        rows: dict[str, list[int]] = collections.defaultdict(list)
        for row, name in enumerate(self.names):
            file = composed(name).rpartition("/")[2]
            for own in {file, _stem(file)}:
                rows[own].append(row)
        return rows

    @functools.cached_property
    def _by_hash(self) -> dict[str, list[int]]:
        """Positions by SHA-256."""
        positions: dict[str, list[int]] = collections.defaultdict(list)
        for position, value in enumerate(hashes(self.data).tolist()):
            positions[value].append(position)
        return positions

    def find(self, example: Example, kind: str = ANY) -> list[int]:
        """Returns the positions of an example; none, one, or several copies of a hash.

        Args:
          example: to find.
          kind: what it is, `ROW`, `NAME`, `HASH` or `ANY` of them.

        Raises:
          InvalidInputError: see `row_of`.
        """
        row = self.row_of(example, kind)
        if row is not None:
            return [self._positions[row]] if row in self._positions else []
        is_hash = kind in (HASH, ANY) and _is_hash(example)
        return self._by_hash.get(str(example), []) if is_hash else []

    def row_of(self, example: Example, kind: str = ANY) -> int | None:
        """Returns the row that an example is in, whether or not it is in this data set.

        Args:
          example: to find.
          kind: see `find`; where the source has names, what is called a name is never a row.

        Raises:
          InvalidInputError: the end of a path that several files have, or digits that are the name
            of one example and the row of another.
        """
        if kind not in (ROW, ANY):
            return self._row_by_name(str(example)) if kind == NAME else None
        if isinstance(example, int):
            return example
        if kind == ROW or not self.names:
            return whole_number(example)
        by_name = self._row_by_name(example)
        by_digits = whole_number(example)
        if by_name is not None and by_digits not in (None, by_name):
            raise InvalidInputError(
                f"{example!r} is the name of row {by_name} ({self.names[by_name]}), and may mean "
                f"row {by_digits}; give rows in a column row or as an array of numbers, and names "
                "in a column name"
            )
        return by_digits if by_name is None else by_name

    def _row_by_name(self, name: str) -> int | None:
        """Returns the row of a name, in full or by the end that only this one has."""
        path = composed(name).removeprefix("./")
        rows = self._rows_at(path) or self._rows_at(path.replace("\\", "/"))
        if len(rows) > 1:
            names = _listing([f"{self.names[row]} (row {row})" for row in rows])
            raise InvalidInputError(f"{name!r} may mean several examples: {names}")
        return rows[0] if rows else None

    def _rows_at(self, path: str) -> list[int]:
        """Returns the rows whose names a path may mean: exactly, or else by a common end."""
        alike = self._rows_by_file.get(path.rpartition("/")[2], [])
        names = {row: composed(self.names[row]) for row in alike}
        exact = [row for row, name in names.items() if name == path]
        by_end = [
            row
            for row, name in names.items()
            # A longer path ends in a name only if that is a path itself.
            if _is_end_of(path, name) or ("/" in name and _is_end_of(name, path))
        ]
        by_stem = [row for row, name in names.items() if _is_end_of(path, _stem(name))]
        return exact or by_end or by_stem


def locate(
    splits: Splits, examples: Iterable[Any], *, what: str = "examples", kind: str = ANY
) -> np.ndarray:
    """Returns the positions in D of examples that are named as their source names them.

    Args:
      splits: from `rumjax.data.load`.
      examples: for each its row in the source's training images, counted from 0; or its file,
        relative to `data_dir` or any end of its path that no other file has; or its SHA-256, see
        `hashes`, which stands for all copies of the same image and label.
      what: the name used in messages, for example "forget set".
      kind: what all examples are: "row", "name", "sha256", or "any" of these.

    Returns:
      int32[n], ascending.

    Raises:
      InvalidInputError: an example that is named twice, unknown, or not in D because it is held out
        for validation, is a test image, or is left out by `limit`.

    Examples:
      >>> from rumjax.data import load
      >>> locate(load("fashion_mnist_mini"), [50, 3])
      array([ 3, 50], dtype=int32)
    """
    if not isinstance(splits, Splits):
        raise InvalidInputError(
            f"{what}: wanted the data set of rumjax.data.load, got {type(splits).__name__}"
        )
    wanted = as_examples(what, examples)
    once = dict.fromkeys(example for example in wanted if _is_hash(example))
    wanted = [*once, *(example for example in wanted if example not in once)]
    register = Register(splits.train, splits.origin("train"))
    try:
        positions = [register.find(example, kind) for example in wanted]
    except InvalidInputError as error:
        raise InvalidInputError(f"{what}: {error}") from error

    # All of them must be in D.
    missing = [example for example, here in zip(wanted, positions, strict=True) if not here]
    if missing:
        raise InvalidInputError(
            f"{what}: {len(missing)} of {len(wanted)} examples are not among the training images: "
            f"{_reasons(splits, register, missing, kind)}"
        )

    # Each of them once.
    unique, counts = np.unique(np.concatenate([[], *positions]).astype(int), return_counts=True)
    if twice := unique[counts > 1].tolist():
        rows = register.origin.rows[twice[:SHOWN]].tolist()
        raise InvalidInputError(
            f"{what}: {len(twice)} examples are named more than once, the first are rows {rows}"
        )
    return unique.astype(np.int32)


def as_examples(what: str, examples: Any) -> list[Example]:
    """Returns rows as integers and names as strings.

    Args:
      what: the name used in messages.
      examples: a list, an array or anything else that can be gone through.

    Raises:
      InvalidInputError: something that is neither a row nor a name.

    Examples:
      >>> as_examples("mine", np.array([3.0, 5.0])), as_examples("mine", ["a/1.png"])
      ([3, 5], ['a/1.png'])
    """
    if isinstance(examples, str | bytes | os.PathLike) or not isinstance(examples, Iterable):
        raise InvalidInputError(f"{what}: wanted a list of rows or names, got {examples!r}")
    listed = examples.ravel().tolist() if isinstance(examples, np.ndarray) else examples
    return [_example(what, example) for example in listed]


def _example(what: str, example: Any) -> Example:
    """Returns a row as an integer, or a name as a string."""
    if isinstance(example, bytes):
        example = example.decode(errors="replace")
    if isinstance(example, str | os.PathLike):
        name = os.fspath(example).strip()
        return name.lower() if SHA256.fullmatch(name.lower()) else name
    if isinstance(example, bool | np.bool_):
        raise InvalidInputError(f"{what}: wanted rows or names, got {example}")
    try:
        row = int(example)
        whole = row == example
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise InvalidInputError(
            f"{what}: {example!r} is neither a row, a file name nor a SHA-256 of an example"
        )
    return row


def whole_number(text: str) -> int | None:
    """Returns the whole number that a text is, 12 or 12.0 for example."""
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    # Spreadsheets and numpy.savetxt write 12.0 and 1.2e+01.
    matched = re.fullmatch(r"-?\d+\.\d*(e[+-]?\d{1,2})?", text, re.IGNORECASE)
    return int(float(text)) if matched and float(text).is_integer() else None


def _is_hash(example: Example) -> bool:
    """Says whether a text is written as a SHA-256 is."""
    return isinstance(example, str) and SHA256.fullmatch(example) is not None


def composed(name: str) -> str:
    """Returns a name with accents as most systems write them, which look the same otherwise."""
    return unicodedata.normalize("NFC", name)


def _stem(name: str) -> str:
    """Returns a name without the ending of a file."""
    stem, dot, ending = name.rpartition(".")
    return stem if dot and stem and "/" not in ending else name


def _is_end_of(path: str, longer: str) -> bool:
    """Says whether a path is the end of a longer one, or the same."""
    return f"/{longer}".endswith(f"/{path.removeprefix('/')}")


def _reasons(splits: Splits, register: Register, missing: Sequence[Example], kind: str) -> str:
    """Says for each reason which examples are not in D because of it, and what to do."""
    why = Absence(splits, register)
    by_reason: dict[str, list[str]] = collections.defaultdict(list)
    for example in missing:
        by_reason[why.of(example, kind)].append(repr(example))
    return "; ".join(f"{_listing(names)} ({reason})" for reason, names in by_reason.items())


class Absence:
    """Says why examples are not in D."""

    def __init__(self, splits: Splits, register: Register) -> None:
        """Knows where else an example may be; `register` is that of D."""
        self.register = register
        self.held_out = Register(splits.validation, splits.origin("validation"))
        self.tested = Register(splits.test, splits.origin("test"))
        self._hinted = 0

    def of(self, example: Example, kind: str = ANY) -> str:
        """Returns the reason for which an example that `register` does not find is not in D."""
        row = self.register.row_of(example, kind)
        size = self.register.origin.size
        if row is None:
            # To look for names that are alike takes long where there are many.
            self._hinted += 1
            hint = self._hinted <= SHOWN
            parts = self.register, self.held_out, self.tested
            return _reason_of_name(str(example), *parts, hint=hint)
        if not 0 <= row < size:
            return f"outside 0…{size - 1}, the rows of the source's training images"
        if self.held_out.origin.part == "train" and self.held_out.find(row):
            return HELD_OUT
        return "left out by limit"


def _reason_of_name(
    name: str, register: Register, held_out: Register, tested: Register, *, hint: bool
) -> str:
    """Says why an example that is named by its file or hash is not in D."""
    kind = HASH if _is_hash(name) else NAME
    if held_out.find(name, kind):
        return HELD_OUT
    if tested.find(name, kind):
        return "test images, on which no model is trained"
    if _is_hash(name):
        return "the SHA-256 of no image with its label, see rumjax.data.hashes"
    if not register.names:
        return "no row, and this source has no names; rows belong into a column row"
    if not hint:
        return "no such name"
    # A file of that name in other letters, or else a name that is written alike.
    file = name.replace("\\", "/").rpartition("/")[2].casefold()
    near = [own for own in register.names if own.rpartition("/")[2].casefold() == file]
    near = near or difflib.get_close_matches(name, register.names, n=1)
    return f"no such name; did you mean {near[0]!r}?" if near else "no such name"


def _listing(names: Sequence[str]) -> str:
    """Lists the first names, and says how many there are besides."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def hashed_images(images: AnyArray) -> Iterator[Any]:
    """Yields a SHA-256 of every image: of "(H, W, C)" in digits, and of its bytes; to be added to.

    Args:
      images: uint8[N, H, W, C].
    """
    images = np.asarray(images)
    shape = str(images.shape[1:]).encode()
    for image in images:
        yield hashlib.sha256(shape + image.tobytes())
