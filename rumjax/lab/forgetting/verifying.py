"""Checks a certificate against the directory that it speaks of, down to the bits of the model."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rich.console import Console

from rumjax.data import hashes
from rumjax.errors import InvalidInputError, RumjaxError
from rumjax.lab import experiment, files
from rumjax.lab.bringing import content
from rumjax.lab.context import context_of
from rumjax.lab.experiment import Run
from rumjax.lab.forgetting import canonical, certificate, delivering
from rumjax.lab.forgetting.carrying import carrier, digest, is_there, load
from rumjax.lab.forgetting.fulfilling import Office, batch_of, normalized, start_of
from rumjax.lab.forgetting.ledger import LOG, Ledger, check_chain
from rumjax.lab.workdir import WorkDirectory


class Check(NamedTuple):
    """One thing that was checked."""

    name: str
    problem: str | None
    """What is wrong, or None."""
    skipped: str | None = None
    """Why it could not be checked, or None."""


def directory_of(path: str) -> pathlib.Path:
    """Returns the work directory that a certificate lies in.

    Raises:
      InvalidInputError: the certificate lies elsewhere, or there is none.
    """
    file = pathlib.Path(path).expanduser().absolute()
    if not file.is_file():
        raise InvalidInputError(f"--verify: there is no file {path}")
    if len(file.parents) < 3 or file.parents[1].name != files.REQUESTS:
        raise InvalidInputError(
            f"--verify: {path} does not lie in a work directory, in "
            f"{files.REQUESTS}/{files.batch_folder('NNNN')}; name the directory by --workdir"
        )
    return file.parents[2]


def verify(path: str, work: WorkDirectory, console: Console) -> list[Check]:
    """Checks a certificate, and prints what came of each check.

    Args:
      path: of the certificate.
      work: the directory that it speaks of.
      console: where the checks are printed.

    Returns:
      The checks, of which some may have been skipped.

    Raises:
      InvalidInputError: the file is no certificate.
    """
    try:
        document = certificate.read(pathlib.Path(path).expanduser().read_text())
        number = int(document["batch"])
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"--verify: {path} is no certificate ({error})") from error
    checks = []
    for check in _checks(document, number, work):
        said = check.problem or (f"not checked: {check.skipped}" if check.skipped else "holds")
        console.print(f"{check.name}: {said}", markup=False, highlight=False, soft_wrap=True)
        checks.append(check)
    return checks


def _checks(document: dict[str, Any], number: int, work: WorkDirectory) -> Iterator[Check]:
    """Yields the checks one by one, those that cost little first."""
    # The document, and the log that it is a part of.
    own = certificate.problems(document)
    yield Check("certificate", "; ".join(own) or None)
    head = document.get("log_head")
    broken = check_chain(work.read_bytes(LOG), head=head if isinstance(head, str) else None)
    yield Check("log", "; ".join(broken) or None)
    if own or broken:
        return
    log, place = Ledger(work), work.below(files.REQUESTS)
    yield _checked("entry in the log", lambda: _entry(document, number, log))
    yield _checked("examples", lambda: _examples(document, number, place))
    yield _checked("model in its own format", lambda: _exported(number, log, place))

    # The configuration of the batch, without which there is neither a network nor images.
    try:
        config = place.read_json(files.of_batch(number, "config.json"), missing={}, keys=("data",))
        run = normalized(experiment.build(config), place)
    except RumjaxError as error:
        yield Check("images and network", None, skipped=str(error))
        return
    yield _checked("delivered model", lambda: _delivered(document, number, run, place))
    yield _checked("model before", lambda: _before(document, number, run, work))
    if document["versions"] != delivering.versions():
        yield Check("model made again", None, skipped="other versions than when it was made")
    elif document["hardware"] != canonical.plain(delivering.hardware()):
        yield Check("model made again", None, skipped="another machine than it was made on")
    else:
        yield _checked("model made again", lambda: _again(document, number, run, work))


def _checked(name: str, look: Callable[[], str | None]) -> Check:
    """Returns a check, whose problem may be an error that it raises."""
    try:
        said = look()
    except RumjaxError as error:
        said = str(error)
    if said is not None and said.startswith(SKIPPED):
        return Check(name, None, skipped=said.removeprefix(SKIPPED))
    return Check(name, said)


SKIPPED = "skipped: "


def _entry(document: dict[str, Any], number: int, log: Ledger) -> str | None:
    """Looks for the line that says that the certificate was written."""
    entries = [entry for entry in log.of_batch(number) if entry.state in ("verified", "failed")]
    if not entries:
        return f"the log says nothing of a result of batch {number}"
    kept = entries[-1].details["certificate"]
    return None if kept == document["content_sha256"] else "the log speaks of another certificate"


def _examples(document: dict[str, Any], number: int, place: WorkDirectory) -> str | None:
    """Compares the salted hashes with those of the examples that were named."""
    received = place.read_json(files.of_batch(number, "requests.json"), keys=("sha256",))
    salt = delivering.salt_of(place)
    named = [certificate.salted(value, salt) for value in received["sha256"]]
    written = [value for request in document["requests"] for value in request["examples"]]
    if sorted(named) != sorted(written):
        return "they are not those of the requests"
    return None


def _delivered(document: dict[str, Any], number: int, run: Run, place: WorkDirectory) -> str | None:
    """Compares the digest of the model that was delivered."""
    if document["candidate"] is not None:
        return f"{SKIPPED}the model was refused, and the one before stays"
    if not is_there(place, files.delivered(number)):
        return "it is not there"
    found = digest(load(run, place, files.delivered(number)))
    return None if found == document["delivered"]["digest"] else "its bytes are others"


def _before(document: dict[str, Any], number: int, run: Run, work: WorkDirectory) -> str | None:
    """Compares the digest of the model that the batch began with."""
    office = _office(run, work)
    try:
        found = digest(start_of(office, number))
    except RumjaxError:
        return f"{SKIPPED}it is not there any more, or was changed"
    return None if found == document["original"]["digest"] else "its bytes are others"


def _exported(number: int, log: Ledger, place: WorkDirectory) -> str | None:
    """Compares the model in the format of the checkpoint that it came in."""
    entry = next((one for one in log.of_batch(number) if one.state == "verified"), None)
    if entry is None or entry.details["exported"] is None:
        return f"{SKIPPED}there is none"
    written = delivering.exported(pathlib.Path(place.path) / files.batch_folder(number))
    if written is None:
        return "it is not there"
    return None if content(str(written)) == entry.details["exported"] else "its bytes are others"


def _again(document: dict[str, Any], number: int, run: Run, work: WorkDirectory) -> str | None:
    """Makes the model once more, and compares it bit by bit."""
    office = _office(run, work)
    try:
        start = start_of(office, number)
        batch = batch_of(office, number)
    except RumjaxError as error:
        return f"{SKIPPED}{error}"
    way = carrier(office.context, office.place, batch.deletion, start)
    made = document["candidate"] or document["delivered"]
    kept = [files.of_batch(number, name) for name in ("retraining.json", "choice.json")]
    name = kept[0] if document["level"] == "A" and office.place.has(kept[0]) else kept[1]
    choice = office.place.read_json(name, keys=("name", "form"))
    model = way.replay(choice["name"], choice["form"])
    return None if digest(model) == made["digest"] else "its bytes are others"


def _office(run: Run, work: WorkDirectory) -> Office:
    """Opens the directory of requests to be read."""
    context = context_of(run, work, Console(quiet=True))
    place, log = work.below(files.REQUESTS), Ledger(work)
    return Office(context, place, log, hashes(run.data.train), False, None)
