"""The log of requests: what became of each, in lines of which each has the hash of the one before.

A line that was changed, taken out, put in or moved breaks the chain. Lines taken from the end do
not: whoever keeps the hash of a line, as a certificate does, finds that as well. The chain shows
what happened to the log after the hash was kept; it cannot show that a log was honest before.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

from rumjax.errors import DamagedFileError, InvalidInputError, WorkDirectoryError, check_choice
from rumjax.lab import files
from rumjax.lab.forgetting import canonical
from rumjax.lab.workdir import WorkDirectory

LOG = f"{files.REQUESTS}/{files.LOG}"
"""The file, a line an entry."""
STATES = ("received", "unlearned", "verified", "failed", "superseded", "purged")
"""What requests may be in, in the order in which they are."""
BEGINNING = "0" * 64
"""Stands for the hash of a line before the first."""
MOST_LISTED = 10
"""Problems of a chain that are listed, at most."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the log."""

    number: int
    """from 1"""
    time: str
    """when it was written, ISO 8601 in UTC"""
    state: str
    batch: int
    requests: tuple[str, ...]
    """their ids"""
    details: dict[str, Any]
    previous: str
    """the hash of the line before"""
    hash: str
    """SHA-256 of all else in this line, as `canonical.written` has it"""

    def line(self) -> str:
        """Returns the line, without its end."""
        return canonical.written(self)


class Ledger:
    """Reads the log of a work directory, and adds to it.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, WorkDirectory(folder) as work:
      ...     ledger = Ledger(work)
      ...     entry = ledger.append("received", 1, ["r1", "r2"], count=3)
      ...     entry.number, Ledger(work).of_request("r2") == entry
      (1, True)
    """

    def __init__(self, work: WorkDirectory) -> None:
        """Reads the log, which need not be there yet.

        Raises:
          DamagedFileError: the chain is broken; names the first line at which it is.
        """
        self._work = work
        content = work.read_bytes(LOG)
        if problems := check_chain(content):
            raise DamagedFileError(
                f"{work.path / LOG} is not what was written: {problems[0]}; put back the file as "
                "it was, from a backup; it is not made anew"
            )
        self._text = content.decode()
        self.entries: list[Entry] = [
            _entry(canonical.parsed(line)) for line in self._text.split("\n")[:-1]
        ]

    @property
    def head(self) -> str:
        """The hash of the last line, to be kept elsewhere."""
        return self.entries[-1].hash if self.entries else BEGINNING

    @property
    def open_batch(self) -> int | None:
        """The batch that was begun and neither finished nor refused, if there is one."""
        last = max((entry.batch for entry in self.entries), default=0)
        states = {entry.state for entry in self.entries if entry.batch == last}
        return None if not last or states & {"verified", "failed", "superseded"} else last

    def append(self, state: str, batch: int, requests: Sequence[str], **details: Any) -> Entry:
        """Adds a line; the file has it whole, or not at all.

        Args:
          state: that requests are in from now on, one of `STATES`.
          batch: its number, which requests that are carried out together share.
          requests: their ids.
          **details: what else is to be remembered, JSON-like.

        Raises:
          InvalidInputError: an unknown state, no requests, one that was never received, or details
            that JSON cannot say.
          WorkDirectoryError: somebody else has written the log meanwhile, or it cannot be written.
        """
        # What may be added.
        check_choice("state", state, STATES)
        if not requests or isinstance(requests, str):
            raise InvalidInputError(f"log: wanted the ids of requests, got {requests!r}")
        if state != STATES[0]:
            received = {name for entry in self.entries for name in entry.requests}
            if strange := [name for name in requests if name not in received]:
                raise InvalidInputError(
                    f"log: request {strange[0]!r} cannot be {state}: it was never received"
                )
        if self._work.read_bytes(LOG) != self._text.encode():
            raise WorkDirectoryError(
                f"{self._work.path / LOG} was changed since it was read; start again"
            )

        # The line, which says what came before it.
        entry = _sealed(
            number=len(self.entries) + 1,
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            state=state,
            batch=canonical.plain(batch, "log: batch"),
            requests=canonical.plain(list(requests), "log: requests"),
            details=canonical.plain(details, "log"),
            previous=self.head,
        )
        text = f"{self._text}{entry.line()}\n"
        if problems := check_chain(text):
            raise InvalidInputError(f"log: {problems[0]}")
        self._work.write_text(LOG, text)
        self._text = text
        self.entries.append(entry)
        return entry

    def of_request(self, name: str) -> Entry | None:
        """Returns the last line on a request."""
        return next((entry for entry in reversed(self.entries) if name in entry.requests), None)

    def of_batch(self, batch: int) -> list[Entry]:
        """Returns all lines on a batch."""
        return [entry for entry in self.entries if entry.batch == batch]

    def last(self, state: str) -> Entry | None:
        """Returns the last line of a state."""
        return next((entry for entry in reversed(self.entries) if entry.state == state), None)


def check_chain(text: str | bytes, head: str | None = None) -> list[str]:
    r"""Lists what is wrong with the text of a log; never raises.

    Args:
      text: of the file.
      head: the hash of a line that was once in it, as a certificate has one; finds that lines were
        taken from the end.

    Returns:
      Sentences, the first on the first bad line; none if the chain holds.

    Examples:
      >>> check_chain("")
      []
      >>> check_chain("{}\n")
      ['line 1: its fields are not those of an entry']
    """
    try:
        text = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        return [f"line {number}: it is no UTF-8"]
    *lines, rest = text.split("\n")
    problems = [] if not rest else [f"line {len(lines) + 1}: it was cut off"]
    previous, hashes = BEGINNING, set()
    for number, line in enumerate(lines, 1):
        problem, own = _problem(number, line, previous)
        if problem:
            problems.append(f"line {number}: {problem}")
        hashes.add(own)
        previous = own
    if head is not None and head not in {BEGINNING, *hashes}:
        problems.append(f"the line of hash {head} is not in the log: lines were taken out")
    return sorted(problems, key=_line_number)[:MOST_LISTED]


def _problem(number: int, line: str, previous: str) -> tuple[str, str]:
    """Says what is wrong with a line, if anything, and returns the hash that it claims to have."""
    try:
        fields = canonical.parsed(line)
        is_canonical = canonical.written(fields) == line
    except (ValueError, RecursionError):
        return "it is no JSON", ""
    types = {"number": int, "batch": int, "requests": list, "details": dict}
    names = [field.name for field in dataclasses.fields(Entry)]
    if not isinstance(fields, dict) or sorted(fields) != sorted(names):
        return "its fields are not those of an entry", ""
    wrong = [name for name in names if type(fields[name]) is not types.get(name, str)]
    if wrong or not all(isinstance(name, str) for name in fields["requests"]):
        return f"its {[*wrong, 'requests'][0]} has another type", ""

    # The content first, then its place in the chain.
    content = {name: value for name, value in fields.items() if name != "hash"}
    if canonical.sha256(content) != fields["hash"] or not is_canonical:
        problem = "it was changed: its hash is of other contents"
    elif fields["previous"] != previous:
        problem = "it does not follow the line before: lines were taken out, put in or moved"
    elif fields["number"] != number:
        problem = f"it says that it is line {fields['number']}"
    elif fields["state"] not in STATES or not fields["requests"]:
        problem = "it has no known state, or no request"
    else:
        problem = ""
    return problem, fields["hash"]


def _line_number(problem: str) -> float:
    """Returns the line that a problem is about, the last of all if it is about none."""
    words = problem.partition(":")[0].split()
    return float(words[1]) if words[0] == "line" else float("inf")


def _sealed(**content: Any) -> Entry:
    """Returns an entry of this content, with its hash."""
    return _entry(content | {"hash": canonical.sha256(content)})


def _entry(fields: dict[str, Any]) -> Entry:
    """Returns the entry of a line."""
    return Entry(**(fields | {"requests": tuple(fields["requests"])}))
