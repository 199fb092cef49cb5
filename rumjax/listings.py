"""Files that say which examples to forget: text, CSV, .npy, .npz, or those of a run.

They speak of rows of the source's training images, of files, or of SHA-256; see
`rumjax.data.locate`. A file that may mean something else is refused.
"""

import csv
import io
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rumjax.archives import MAGIC, SINGLE, read_arrays, reason
from rumjax.data.origins import (
    ANY,
    HASH,
    NAME,
    ROW,
    Example,
    as_examples,
    whole_number,
)
from rumjax.errors import InvalidInputError

UNNAMED = "file"
"""The part of a file that names none."""
PART, CLASS, SPLIT, CHOSEN = "part", "class", "split", "forget"
COLUMNS = {
    ROW: ("row", "rows", "index", "indices", "idx", "source_rows"),
    NAME: (
        *("name", "names", "file", "files", "filename", "filenames", "file_name", "path", "image"),
        *("image_id", "id", "ids", "source_names", "tr_filenames"),
    ),
    HASH: ("sha256", "sha-256", "hash", "hashes"),
    PART: ("part", "parts"),
    CLASS: ("class", "label", "labels", "classes", "target", "targets"),
    SPLIT: ("split", "subset", "set"),
    CHOSEN: ("forget", "delete", "remove"),
}
"""What the columns of a table may be called; where several are of a kind, the first word counts."""
NO_PARTS = ("retain", "train", "test", "val", "valid", "validation", "seed", "y", "x")
"""Names that no part to forget has."""
YES_AND_NO = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
OF_RUN = {"forget", "retain", "forget_sha256", "source", "source_rows", "source_names"}
"""What a run's `forget_sets.npz` holds besides its parts."""


class Listed(NamedTuple):
    """Examples that a file lists, each by a row, a name or a hash, or by several of these."""

    examples: Mapping[str, Sequence[Example]]
    """by the kind of name, of one length: what is at the same place is the same example"""
    mask_size: int | None = None
    """how many examples a mask is of, where the file is one"""
    classes: Sequence[str] = ()
    """the class that the file says each example has, if it does"""


def read_listed(path: str | os.PathLike[str] | None) -> dict[str, Listed]:
    r"""Reads which examples a file lists, by part.

    Args:
      path: an .npz with an array for each part, of rows, names or hashes, or a mask over all rows;
        `forget_sets.npz` of a run; an .npy with one such array; or text. Text has an example a
        line, or columns of `COLUMNS` under a header; lines that begin with # are left out.

    Raises:
      InvalidInputError: the file cannot be read, holds something else, or lists nothing.

    Examples:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
      ...     print("part,row", "easy,7", "hard,3", "hard,5", sep="\n", file=file, flush=True)
      ...     {name: listed.examples["row"] for name, listed in read_listed(file.name).items()}
      {'easy': [7], 'hard': [3, 5]}
    """
    # The content says what kind of file it is, whatever its name.
    try:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise TypeError(f"wanted the path of a file, got {path!r}")
        file = pathlib.Path(path).expanduser()
        with file.open("rb") as opened:
            start = opened.read(max(map(len, MAGIC.values())))
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # no such user is the last
        raise InvalidInputError(
            f"forget set: {path} cannot be read ({reason(error)}); see to forget.path"
        ) from error

    if file.suffix.lower() in MAGIC or start.startswith(tuple(MAGIC.values())):
        arrays = read_arrays(file, "forget set")
        if {"forget", "retain"} <= set(arrays):
            listed = _of_run(file, arrays)
        elif _columns(file, list(arrays)).keys() & {ROW, NAME, HASH}:
            listed = _of_columns(file, arrays)
        else:
            listed = _own(file, arrays)
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
        if array.ndim == 0 or (array.ndim > 1 and array.size != array.shape[0]):
            raise InvalidInputError(
                f"{where}: wanted rows, names or a mask of one dimension, got "
                f"{array.dtype}{list(array.shape)}; leave other arrays out"
            )
        part = UNNAMED if name == SINGLE or list(arrays) == ["forget"] else _part(where, name)
        if array.dtype == bool:
            listed[part] = Listed({ROW: np.flatnonzero(array).tolist()}, mask_size=array.size)
        else:
            kind = ROW if array.dtype.kind in "iuf" else ANY
            listed[part] = Listed({kind: as_examples(where, array)})
    return listed


def _part(where: str, name: str) -> str:
    """Returns the name of a part, unless it is more likely that of something else."""
    word = name.lower()
    if word in COLUMNS[CLASS] or word in NO_PARTS or word.startswith(("train_", "test_", "val")):
        raise InvalidInputError(
            f"{where}: {name!r} is no name of a part to forget; leave it out, or give it another"
        )
    return name


def _of_run(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Listed]:
    """Returns the parts of a run's forget set, in the numbering of its source."""
    if "source_rows" not in arrays or "forget_sha256" not in arrays:
        raise InvalidInputError(
            f"forget set: {file} holds forget and retain, but not source_rows and forget_sha256: "
            "nothing says which images are meant; give an array of rows under another name"
        )
    rows, forget = arrays["source_rows"], arrays["forget"]
    parts = {name: array for name, array in arrays.items() if name not in OF_RUN}
    try:
        hashes = dict(zip(forget.tolist(), arrays["forget_sha256"].tolist(), strict=True))
        return {
            name: Listed(
                {ROW: rows[part].tolist(), HASH: [hashes[position] for position in part.tolist()]}
            )
            for name, part in (parts or {UNNAMED: forget}).items()
        }
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InvalidInputError(
            f"forget set: {file} was changed since a run wrote it: its arrays do not go together; "
            "give an array of rows in a file of its own"
        ) from error


def _of_columns(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Listed]:
    """Returns the parts of arrays that are the columns of a table."""
    columns = _columns(file, list(arrays))
    others = sorted(set(arrays) - {list(arrays)[place] for place in columns.values()})
    lengths = {array.shape for array in arrays.values()}
    if others or len(lengths) > 1 or len(next(iter(lengths))) != 1:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise InvalidInputError(
            f"forget set: {file} holds {shapes}; wanted columns of one length, {ROW}, {NAME}, "
            f"{HASH}, {PART} or {CLASS}, or parts under names of your own"
        )
    rows = [list(map(str, row)) for row in zip(*arrays.values(), strict=True)]
    return _of_table(file, columns, rows)


def _of_text(file: pathlib.Path) -> dict[str, Listed]:
    """Returns the parts of a text with an example a line, or of a table with a header."""
    text = decoded(f"forget set: {file}", file.read_bytes())
    kept = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if kept and kept[0].lower().startswith("sep="):
        del kept[0]  # Excel's own line
    if not kept:
        return {}

    # A header says what the columns are; without one, there is but one column.
    separator = next((mark for mark in ",;\t|" if mark in kept[0]), ",")
    header = [word.strip() for word in _table(file, kept[:1], separator)[0]]
    columns = _columns(file, header)
    if columns:
        left_out = [word for place, word in enumerate(header) if place not in columns.values()]
        if any(left_out):
            logging.getLogger("rumjax").warning(
                "forget set: %s: columns left out: %s", file, ", ".join(filter(None, left_out))
            )
        return _of_table(file, columns, _table(file, kept, separator)[1:])
    if separator in kept[0] and len(kept) > 1:
        raise InvalidInputError(
            f"forget set: {file} has several columns, {kept[0]!r}; say in a first line which is "
            f"the {ROW}, {NAME}, {HASH} or {PART}"
        )
    one_line = len(kept) == 1 and separator in kept[0]
    examples = _table(file, kept, separator)[0] if one_line else list(map(_bare, kept))
    if len(examples) == 1 and all(word.isdecimal() for word in examples[0].split()):
        examples = examples[0].split()
    padded = [word for word in examples if word.isdecimal() and str(int(word)) != word]
    if one_line and padded:
        raise InvalidInputError(
            f"forget set: {file}: {kept[0]!r} may be one number; write a row a line, without "
            "separators of thousands"
        )
    return {UNNAMED: Listed({ANY: as_examples(f"forget set: {file}", examples)})}


def decoded(where: str, content: bytes) -> str:
    """Returns the text of a file, in UTF-8 or as spreadsheets write it.

    Raises:
      InvalidInputError: it is no text, or in another encoding.

    Examples:
      >>> decoded("mine", "row".encode("utf-16"))
      'row'
    """
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{where} cannot be read as text ({reason(error)}); save it as UTF-8"
        ) from error


def _bare(line: str) -> str:
    """Returns a line without quotes around it, or a remark after a row or hash."""
    line = line.strip()
    before, mark, _ = line.partition(" #")
    if mark and (whole_number(before.strip()) is not None or len(before.strip()) == 64):
        line = before.strip()
    quoted = len(line) > 1 and line[0] == line[-1] == '"'
    return line[1:-1].replace('""', '"') if quoted else line


def _table(file: pathlib.Path, lines: Sequence[str], separator: str) -> list[list[str]]:
    """Returns the cells of lines; a quoted cell may have line breaks."""
    text = io.StringIO("\n".join(lines))
    try:
        return list(csv.reader(text, delimiter=separator, strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise InvalidInputError(
            f"forget set: {file} cannot be read as a table ({error}); see to its quotation marks"
        ) from error


def _columns(file: pathlib.Path, header: Sequence[str]) -> dict[str, int]:
    """Returns the places of the columns that a header names; none where it is no header.

    Raises:
      InvalidInputError: two columns may both be the one that counts.
    """
    words = [word.strip().lower() for word in header]
    columns = {}
    for kind, names in COLUMNS.items():
        places = [place for place, word in enumerate(words) if word in names]
        first = [place for place in places if words[place] == names[0]]
        if len(places) > 1 and len(first) != 1:
            named = " and ".join(header[place] for place in places)
            raise InvalidInputError(
                f"forget set: {file}: columns {named} may both be the {kind}; leave one of them, "
                f"or call it {names[0]}"
            )
        if places:
            columns[kind] = (first or places)[0]
    return columns


def _of_table(
    file: pathlib.Path, columns: Mapping[str, int], rows: Sequence[Sequence[str]]
) -> dict[str, Listed]:
    """Returns the parts of a table."""
    # Lines that name an example to forget, or a class; spreadsheets end in empty ones.
    kinds = [kind for kind in (ROW, NAME, HASH) if kind in columns]
    if not kinds and CLASS in columns:
        kinds = [CLASS]
    if not kinds:
        raise InvalidInputError(f"forget set: {file} has no column {ROW}, {NAME} or {HASH}")
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if short := [row for row in rows if len(row) <= max(columns.values())]:
        raise InvalidInputError(f"forget set: {file} has a line with too few columns, {short[0]}")
    rows = [row for row in rows if _is_chosen(file, columns, row)]

    # The columns of every part; a column that is empty throughout says nothing.
    parts: dict[str, list[Sequence[str]]] = {}
    for row in rows:
        name = row[columns[PART]].strip() if PART in columns else ""
        part = _part(f"forget set: {file}", name) if name else UNNAMED
        parts.setdefault(part, []).append(row)
    listed = {}
    for part, own in parts.items():
        cells = {kind: [row[columns[kind]].strip() for row in own] for kind in kinds}
        where = f"forget set: {file}, column"
        examples = {
            kind: _of_column(f"{where} {kind}", kind, texts)
            for kind, texts in cells.items()
            if any(texts)
        }
        if not examples:
            raise InvalidInputError(f"forget set: {file}, part {part!r} names no example")
        says_class = CLASS in columns and CLASS not in kinds
        classes = [row[columns[CLASS]].strip() for row in own] if says_class else []
        listed[part] = Listed(examples, classes=classes)
    return listed


def _is_chosen(file: pathlib.Path, columns: Mapping[str, int], row: Sequence[str]) -> bool:
    """Says whether a line is to be forgotten, by its columns `SPLIT` and `CHOSEN`.

    Raises:
      InvalidInputError: it is of another split than the training set, or says neither yes nor no.
    """
    if SPLIT in columns and row[columns[SPLIT]].strip().lower() not in ("train", "training"):
        raise InvalidInputError(
            f"forget set: {file}: {', '.join(row)!r} is of split {row[columns[SPLIT]]!r}; only "
            "training images can be forgotten, and a column of other sets is called part"
        )
    if CHOSEN not in columns:
        return True
    word = row[columns[CHOSEN]].strip().lower()
    if word not in YES_AND_NO:
        raise InvalidInputError(
            f"forget set: {file}: {', '.join(row)!r} says {word!r} under {CHOSEN}; wanted yes or no"
        )
    return YES_AND_NO[word]


def _of_column(where: str, kind: str, texts: Sequence[str]) -> list[Example]:
    """Returns the examples of a column; rows are numbers, whatever examples are called."""
    examples = as_examples(where, texts)
    if kind != ROW:
        return examples
    rows = [whole_number(str(example)) for example in examples]
    if None in rows:
        raise InvalidInputError(f"{where}: {examples[rows.index(None)]!r} is no row")
    return [row for row in rows if row is not None]
