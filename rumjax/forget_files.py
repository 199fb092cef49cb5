"""Files that say which examples to forget: text, CSV, .npy, .npz, or those of a run.

They speak of rows of the source's training images, of files, or of SHA-256; see
`rumjax.data.locate`.
"""

import csv
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rumjax.archives import SINGLE, read_arrays, reason
from rumjax.data.origins import Example, as_examples, locate, whole_number
from rumjax.errors import InvalidInputError
from rumjax.types import Splits

UNNAMED = "file"
"""The part of a file that names none."""
ROW, NAME, HASH, PART = "row", "name", "sha256", "part"
COLUMNS = {
    ROW: ("row", "rows", "index", "indices", "idx"),
    NAME: ("name", "names", "file", "filename", "file_name", "path", "image", "image_id", "id"),
    HASH: ("sha256", "sha-256", "hash"),
    PART: ("part", "set"),
}
"""What the columns of a table may be called."""

OF_RUN = {"forget", "retain", "forget_sha256", "source", "source_rows", "source_names"}
"""What a run's `forget_sets.npz` holds besides its parts."""


class Listed(NamedTuple):
    """Examples that a file lists, each by a row, a name or a hash, or by several of these."""

    examples: Mapping[str, Sequence[Example]]
    """by the kind of name, of one length: what is at the same place is the same example"""
    mask_size: int | None = None
    """how many examples a mask is of, where the file is one"""


def read_listed(path: str | os.PathLike[str]) -> dict[str, Listed]:
    r"""Reads which examples a file lists, by part.

    Args:
      path: an .npz with an array for each part, of rows, names or hashes, or a mask over all rows;
        `forget_sets.npz` of a run; an .npy with one such array; or text. Text has an example a
        line, or columns of `COLUMNS` under a header, and may have empty lines and comments after #.

    Raises:
      InvalidInputError: the file cannot be read, holds something else, or lists nothing.

    Examples:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
      ...     print("part,row", "easy,7", "hard,3", "hard,5", sep="\n", file=file, flush=True)
      ...     {name: listed.examples["row"] for name, listed in read_listed(file.name).items()}
      {'easy': [7], 'hard': [3, 5]}
    """
    file = pathlib.Path(path).expanduser()
    if file.suffix in (".npz", ".npy"):
        arrays = read_arrays(file, "forget set")
        listed = (
            _of_run(file, arrays) if {"forget", "retain"} <= set(arrays) else _own(file, arrays)
        )
    else:
        listed = _of_text(file)
    if not listed:
        raise InvalidInputError(f"forget set: {file} lists no example")
    return listed


def _own(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Listed]:
    """Returns the parts of a user's arrays."""
    listed = {}
    for name, array in arrays.items():
        where = f"forget set: {file}{f', {name}' if name else ''}"
        if array.ndim > 1 and array.size != array.shape[0]:
            raise InvalidInputError(
                f"{where}: wanted rows, names or a mask of one dimension, got "
                f"{array.dtype}{list(array.shape)}"
            )
        part = UNNAMED if name == SINGLE or list(arrays) == ["forget"] else name
        if array.dtype == bool:
            listed[part] = Listed({ROW: np.flatnonzero(array).tolist()}, mask_size=array.size)
        else:
            listed[part] = Listed({ROW: as_examples(where, array)})
    return listed


def _of_run(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Listed]:
    """Returns the parts of a run's forget set, in the numbering of its source."""
    if "source_rows" not in arrays or "forget_sha256" not in arrays:
        raise InvalidInputError(
            f"forget set: {file} holds forget and retain, but not source_rows and forget_sha256: "
            "nothing says which images are meant; give an array of rows under another name"
        )
    rows, forget = arrays["source_rows"], arrays["forget"]
    hashes = dict(zip(forget.tolist(), arrays["forget_sha256"].tolist(), strict=True))
    parts = {name: array for name, array in arrays.items() if name not in OF_RUN}
    return {
        name: Listed(
            {ROW: rows[part].tolist(), HASH: [hashes[position] for position in part.tolist()]}
        )
        for name, part in (parts or {UNNAMED: forget}).items()
    }


def _of_text(file: pathlib.Path) -> dict[str, Listed]:
    """Returns the parts of a text with an example a line, or of a table with a header."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"forget set: {file} cannot be read as text ({reason(error)}); wanted an example a "
            "line, or .csv, .npy or .npz"
        ) from error
    texts = [text for line in lines if (text := line.partition("#")[0].strip())]
    if not texts:
        return {}

    # A header says what the columns are; without one, there is but one column.
    separator = next((mark for mark in ",;\t" if mark in texts[0]), None)
    if separator is None:
        rows = [[text] for text in texts]
    else:
        rows = list(csv.reader(texts, delimiter=separator))
    columns = _columns(rows[0])
    if columns:
        return _of_table(file, columns, rows[1:])
    if separator is not None and len(rows) > 1:
        raise InvalidInputError(
            f"forget set: {file} has several columns, {texts[0]!r}; say in a first line which is "
            f"the {ROW}, {NAME}, {HASH} or {PART}"
        )
    examples = [text for row in rows for text in row if text.strip()]
    return {UNNAMED: Listed({ROW: as_examples(f"forget set: {file}", examples)})}


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Returns the places of the columns that a header names; none where it is no header."""
    words = [word.strip().lower() for word in header]
    columns = {}
    for kind, names in COLUMNS.items():
        places = [place for place, word in enumerate(words) if word in names]
        if places:
            columns[kind] = places[0]
    return columns


def _of_table(
    file: pathlib.Path, columns: Mapping[str, int], rows: Sequence[Sequence[str]]
) -> dict[str, Listed]:
    """Returns the parts of a table."""
    kinds = [kind for kind in columns if kind != PART]
    if not kinds:
        raise InvalidInputError(f"forget set: {file} has no column {ROW}, {NAME} or {HASH}")
    if short := [row for row in rows if len(row) <= max(columns.values())]:
        raise InvalidInputError(f"forget set: {file} has a line with too few columns, {short[0]}")

    # The columns of every part; a column that is empty throughout says nothing.
    parts: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        part = row[columns[PART]].strip() if PART in columns else UNNAMED
        for kind in kinds:
            parts.setdefault(part, {}).setdefault(kind, []).append(row[columns[kind]].strip())
    return {
        part: Listed(
            {
                kind: _of_column(f"forget set: {file}, column {kind}", kind, texts)
                for kind, texts in by_kind.items()
                if any(texts)
            }
        )
        for part, by_kind in parts.items()
    }


def _of_column(where: str, kind: str, texts: Sequence[str]) -> list[Example]:
    """Returns the examples of a column; rows are numbers, whatever examples are called."""
    examples = as_examples(where, texts)
    if kind != ROW:
        return examples
    rows = [whole_number(str(example)) for example in examples]
    if None in rows:
        raise InvalidInputError(f"{where}: {examples[rows.index(None)]!r} is no row")
    return [row for row in rows if row is not None]


def positions(where: str, listed: Listed, data: Splits) -> np.ndarray:
    """Returns the positions in D of the examples that a part of a file lists.

    Raises:
      InvalidInputError: an example that is not in D or listed twice, or a row that holds another
        image than its name or SHA-256 say.
    """
    size = data.origin("train").size
    if listed.mask_size not in (None, size):
        raise InvalidInputError(
            f"{where}: a mask of {listed.mask_size} examples, but the source has {size} training "
            "images"
        )
    by_kind = {
        kind: locate(data, _without_classes(examples, data), what=where)
        for kind, examples in listed.examples.items()
    }

    # Whatever else the file says of an example must agree with its row.
    (first, places), *others = by_kind.items()
    for kind, same in others:
        if not np.isin(places, same).all():
            row = data.origin("train").rows[np.setdiff1d(places, same)[0]]
            raise InvalidInputError(
                f"{where}: row {row} is another image than its {kind} says; the file was made for "
                f"other data, or in another order; leave out the column {first} or {kind}"
            )
    return places


def _without_classes(examples: Sequence[Example], data: Splits) -> list[Example]:
    """Returns examples with the rows of a class in place of its name."""
    origin, labels = data.origin("train"), np.asarray(data.train.labels)
    names = set() if origin.names is None else set(origin.names.tolist())
    rows: list[Example] = []
    for example in examples:
        word = isinstance(example, str) and not example.isdecimal() and example not in names
        if word and example in data.class_names:
            rows += origin.rows[labels == data.class_names.index(str(example))].tolist()
        else:
            rows.append(example)
    return rows
