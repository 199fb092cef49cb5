"""Tables of requests to be forgotten: who asked when, and for which examples.

A table is CSV or JSON lines. It names examples as their source names them, see
`rumjax.data.locate`. Nothing in it is left out silently: a line that cannot be read stops the run.
"""

import collections
import csv
import datetime
import difflib
import io
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rumjax.archives import reason
from rumjax.data.origins import ANY, HASH, NAME, ROW, SHA256, Example, as_examples, whole_number
from rumjax.errors import InvalidInputError, shown
from rumjax.lab.forgetting.canonical import parsed
from rumjax.listings import COLUMNS, decoded

REQUEST, RECEIVED, DEADLINE, EXAMPLES = "request", "received", "deadline", "examples"
KINDS = (ROW, NAME, HASH, ANY)
"""What a cell may name an example by."""
WORDS = {
    REQUEST: ("request", "request_id", "id"),
    RECEIVED: ("received", "received_at"),
    DEADLINE: ("deadline",),
    ROW: COLUMNS[ROW],
    NAME: (*(word for word in COLUMNS[NAME] if word not in ("id", "ids")), "tfds_id"),
    HASH: COLUMNS[HASH],
    ANY: ("example",),
    EXAMPLES: ("examples",),
}
"""What the columns of a table may be called; a list of examples is of JSON alone."""
MOST_LISTED = 10
"""Lines that a message names, at most."""


class Request(NamedTuple):
    """A request to forget examples.

    Examples:
      >>> Request("r1", "2026-11-26T14:00:00+00:00", None, (("row", 3),)).examples
      (('row', 3),)
    """

    id: str
    received: str
    """when, ISO 8601 in UTC"""
    deadline: str | None
    """until when, or None"""
    examples: tuple[tuple[str, Example], ...]
    """what each example is named by, "row", "name", "sha256" or "any" of these, and the name"""
    same: tuple[tuple[int, ...], ...] = ()
    """places in `examples` that a line gave as names of one example"""

    def named(self) -> list[list[tuple[str, Example]]]:
        """Returns all that is said of each example: one name, or several that must agree."""
        together = {place for group in self.same for place in group}
        alone = [(place,) for place in range(len(self.examples)) if place not in together]
        return [[self.examples[place] for place in group] for group in sorted([*self.same, *alone])]


class _Line(NamedTuple):
    """What a line of a table says."""

    where: str
    request: str
    received: datetime.datetime
    deadline: datetime.datetime | None
    examples: list[list[tuple[str, Example]]]
    """the names of each example"""


def read_requests(path: str | os.PathLike[str]) -> list[Request]:
    r"""Reads a table of requests; lines of one id are one request.

    Args:
      path: CSV with a header, separated by comma, semicolon or tab; or an object of JSON a line, or
        a list of objects. Columns are `WORDS`: a request and when it was received, perhaps a
        deadline, and an example by its row, its file or id, its SHA-256, or any of these under
        "example". In JSON "examples" is a list of such. A time is as in ISO 8601, and in UTC unless
        it says another zone; a deadline without a time of day is the end of the day in UTC.

    Returns:
      Requests in the order in which the table names them first.

    Raises:
      InvalidInputError: the file cannot be read or names no request; or lines without an id, with a
        time that is none, with a deadline before the request, that name no example, or that
        contradict each other: all of them are counted, and the first ten listed.

    Examples:
      >>> import tempfile
      >>> lines = "request,received,file", "r1,2026-11-26,a.png", "r1,2026-11-26,b.png"
      >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
      ...     print(*lines, sep="\n", file=file, flush=True)
      ...     [(request.id, request.examples) for request in read_requests(file.name)]
      [('r1', (('name', 'a.png'), ('name', 'b.png')))]
    """
    # The content says what kind of table it is, whatever its name.
    where = f"requests: {os.fspath(path)}"
    try:
        content = pathlib.Path(path).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # no such user is the last
        raise InvalidInputError(f"{where} cannot be read ({reason(error)})") from error
    text = decoded(where, content)
    if not text.strip():
        raise InvalidInputError(f"{where} is empty; a run needs at least one request")
    is_json = text.lstrip().startswith(("{", "["))
    entries, problems = _of_json(where, text) if is_json else _of_csv(where, text)

    # Each line by itself, then all of a request together.
    total = len(entries) + len(problems)
    lines = []
    for place, cells in entries:
        try:
            lines.append(_line(place, cells))
        except (ValueError, InvalidInputError) as error:
            problems.append(f"{place}: {error}")
    requests, contradictions = _joined(lines)
    problems += contradictions
    if problems:
        problems.sort(key=lambda problem: int(problem.split()[1].rstrip(":")))
        more = f"\n  and {len(problems) - MOST_LISTED} more" if len(problems) > MOST_LISTED else ""
        listed = "".join(f"\n  {problem}" for problem in problems[:MOST_LISTED])
        raise InvalidInputError(
            f"{where}: mistakes in {len(problems)} of {total} lines; mend them, nothing was "
            f"started:{listed}{more}"
        )
    if not requests:
        raise InvalidInputError(f"{where} names no request; there must be a line for each example")
    return requests


# Tables


def _of_csv(where: str, text: str) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """Returns the cells of each line by what they mean, and which lines have no such cells.

    Raises:
      InvalidInputError: no header, unknown columns, or quotation marks that do not go together.
    """
    # The header; Excel may write before it what separates columns.
    text = text.lstrip("\r\n")
    skipped = 0
    if text.lower().startswith("sep="):
        text, skipped = text.partition("\n")[2], 1
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
    )
    entries: list[tuple[str, dict[str, Any]]] = []
    problems: list[str] = []
    try:
        header = next(reader, [])
        kinds = _columns(where, header)
        begin = reader.line_num + skipped
        for row in reader:
            place, begin = f"line {begin + 1}", reader.line_num + skipped
            if not any(cell.strip() for cell in row):
                continue  # spreadsheets end in empty lines
            named = [cell.strip() for cell in row[: len(header)]]
            surplus = [cell for cell in row[len(header) :] if cell.strip()]
            surplus += [cell for kind, cell in zip(kinds, named, strict=False) if not kind and cell]
            if len(row) < len(header) or surplus:
                problems.append(
                    f"{place}: it has {len(row)} cells under {len(list(filter(None, kinds)))} "
                    f"columns; a name with {separator!r} needs quotation marks"
                )
                continue
            cells = {kind: cell for kind, cell in zip(kinds, named, strict=True) if kind}
            entries.append((place, cells))
    except csv.Error as error:
        raise InvalidInputError(
            f"{where} cannot be read as a table (near line {reader.line_num + skipped}: {error}); "
            "see to its quotation marks"
        ) from error
    return entries, problems


def _columns(where: str, header: Sequence[str]) -> list[str]:
    """Returns what each column of a header means, "" for one without a name.

    Raises:
      InvalidInputError: unknown columns, two of one meaning, or needed ones that are absent.
    """
    try:
        kinds = [_kind(word) if word.strip() else "" for word in header]
        _check_once(kinds, header)
    except ValueError as error:
        raise InvalidInputError(f"{where}: {error}") from error
    for needed in (REQUEST, RECEIVED):
        if needed not in kinds:
            raise InvalidInputError(f"{where} has no column {needed} in its first line")
    if EXAMPLES in kinds:
        raise InvalidInputError(f"{where}: write an example a line, under the column {ANY}")
    if not set(kinds) & set(KINDS):
        raise InvalidInputError(
            f"{where} has no column that names examples: index, file, tfds_id, sha256 or example"
        )
    return kinds


def _kind(word: str) -> str:
    """Returns what a column of this name means.

    Raises:
      ValueError: there is no such column; suggests the nearest.
    """
    name = "_".join(word.strip().lower().replace("-", "_").split())
    for kind, words in WORDS.items():
        if name in words or name.replace("_", "-") in words:
            return kind
    known = [known for words in WORDS.values() for known in words]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "leave it out."
    raise ValueError(
        f"unknown column {word.strip()!r}; {hint} There are: request, received, deadline, index, "
        "file, tfds_id, sha256, example"
    )


def _check_once(kinds: Sequence[str], names: Sequence[str]) -> None:
    """Checks that no two columns mean the same.

    Raises:
      ValueError: two do.
    """
    for kind, count in collections.Counter(filter(None, kinds)).items():
        if count > 1:
            alike = [name.strip() for own, name in zip(kinds, names, strict=True) if own == kind]
            raise ValueError(f"columns {' and '.join(alike)} may both be the {kind}; leave one out")


def _of_json(where: str, text: str) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """Returns the cells of each object by what they mean, and which lines are no such objects.

    Raises:
      InvalidInputError: a list that cannot be read.
    """
    # A list or an object over several lines, or else an object a line.
    values: list[tuple[str, Any]] = []
    problems: list[str] = []
    try:
        whole = parsed(text)
        listed = whole if isinstance(whole, list) else [whole]
        values = [(f"entry {number}", value) for number, value in enumerate(listed, 1)]
    except ValueError as error:
        if text.lstrip().startswith("["):
            raise InvalidInputError(f"{where} cannot be read as JSON ({error})") from error
        for number, line in enumerate(text.split("\n"), 1):
            try:
                values += [(f"line {number}", parsed(line))] if line.strip() else []
            except ValueError as reading:
                problems.append(f"line {number}: it is no object of JSON ({reading})")

    # Each by the names of its keys.
    entries = []
    for place, value in values:
        try:
            entries.append((place, _cells(value, (REQUEST, RECEIVED, DEADLINE, EXAMPLES, *KINDS))))
        except ValueError as error:
            problems.append(f"{place}: {error}")
    return entries, problems


def _cells(value: Any, allowed: Sequence[str]) -> dict[str, Any]:
    """Returns what an object says, by what its keys mean.

    Raises:
      ValueError: no object, or keys that are unknown or mean the same.
    """
    if not isinstance(value, dict):
        raise ValueError(f"wanted an object, got {shown(value)}")
    kinds = [_kind(key) for key in value]
    _check_once(kinds, list(value))
    if strange := [key for key, kind in zip(value, kinds, strict=True) if kind not in allowed]:
        raise ValueError(f"{strange[0]!r} does not belong here")
    return dict(zip(kinds, value.values(), strict=True))


# Lines


def _line(where: str, cells: Mapping[str, Any]) -> _Line:
    """Returns what a line says.

    Raises:
      ValueError: it says too little, or something that is no time or example.
    """
    # Who asked, and when.
    request = cells.get(REQUEST)
    if isinstance(request, int) and not isinstance(request, bool):
        request = str(request)
    if not isinstance(request, str) or not request.strip():
        raise ValueError("it has no request id")
    received = _time(RECEIVED, cells.get(RECEIVED), end_of_day=False)
    if received is None:
        raise ValueError("it does not say when the request was received")
    deadline = _time(DEADLINE, cells.get(DEADLINE), end_of_day=True)
    if deadline is not None and deadline < received:
        raise ValueError(f"its deadline {deadline} is before it was received, {received}")

    # What is to be forgotten.
    listed = cells.get(EXAMPLES) or []
    if not isinstance(listed, list):
        raise ValueError(f"examples: wanted a list, got {shown(listed)}")
    named = [one if isinstance(one, dict) else {"example": one} for one in listed]
    examples = [_names(_cells(one, KINDS)) for one in named]
    if own := _names(cells):
        examples.append(own)
    if not examples or not all(examples):
        raise ValueError("it names no example")
    return _Line(where, request.strip(), received, deadline, examples)


def _time(what: str, value: Any, *, end_of_day: bool) -> datetime.datetime | None:
    """Returns a time in UTC, or None if there is none.

    Raises:
      ValueError: it is not written as in ISO 8601.
    """
    if value is None or value == "":
        return None
    hint = f"{what}: {shown(value)} is no time as in ISO 8601, such as 2026-11-26T14:00:00Z"
    if not isinstance(value, str):
        raise ValueError(hint)
    try:
        time = datetime.datetime.fromisoformat(value.strip())
        if end_of_day and len(value.strip()) <= len("2026-11-26"):
            time = datetime.datetime.combine(time, datetime.time(23, 59, 59))
        return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(hint) from error


def _names(cells: Mapping[str, Any]) -> list[tuple[str, Example]]:
    """Returns the names that a line gives an example.

    Raises:
      InvalidInputError: a name of another kind than its column.
    """
    names: list[tuple[str, Example]] = []
    for kind in KINDS:
        value = cells.get(kind)
        if value is None or value == "":
            continue
        if not isinstance(value, str | int | float):
            raise InvalidInputError(f"{kind}: {shown(value)} names no example")
        example = as_examples(kind, [value])[0]
        if kind == ROW:
            row = whole_number(str(example))
            if row is None:
                raise InvalidInputError(f"{example!r} is no row, a whole number from 0")
            example = row
        elif kind == NAME:
            example = str(example)
        elif kind == HASH and not SHA256.fullmatch(str(example)):
            raise InvalidInputError(f"{shown(example)} is no SHA-256 of 64 hexadecimal digits")
        names.append((kind, example))
    return names


def _joined(lines: Sequence[_Line]) -> tuple[list[Request], list[str]]:
    """Makes a request of all lines of one id, and says which of them contradict each other."""
    by_id: dict[str, list[_Line]] = collections.defaultdict(list)
    for line in lines:
        by_id[line.request].append(line)
    requests, problems = [], []
    for name, (first, *others) in by_id.items():
        # One request was received once.
        for other in others:
            for what, own, theirs in (
                (RECEIVED, first.received, other.received),
                (DEADLINE, first.deadline, other.deadline),
            ):
                if own != theirs:
                    problems.append(
                        f"{first.where} and {other.where}: both are of request {name!r}, but say "
                        f"{what} {own or 'nothing'} and {theirs or 'nothing'}"
                    )

        # Each name once, and which of them are of one example.
        groups = [names for line in (first, *others) for names in line.examples]
        examples = list(dict.fromkeys(pair for names in groups for pair in names))
        places = {pair: place for place, pair in enumerate(examples)}
        same = {tuple(places[pair] for pair in names) for names in groups if len(names) > 1}
        deadline = first.deadline.isoformat() if first.deadline else None
        requests.append(
            Request(
                name, first.received.isoformat(), deadline, tuple(examples), tuple(sorted(same))
            )
        )
    return requests, problems
