"""Checks a certificate against the directory that it speaks of, down to the bits of the model."""

import fnmatch
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from rumjax.data import hashes
from rumjax.errors import InvalidInputError, RumjaxError
from rumjax.lab import experiment, files
from rumjax.lab.bringing import content
from rumjax.lab.context import context_of
from rumjax.lab.experiment import Run
from rumjax.lab.forgetting import canonical, certificate, delivering, page, signing
from rumjax.lab.forgetting.candidates import check_written
from rumjax.lab.forgetting.carrying import EXACT, Unlearning, carrier, digest, is_there, load
from rumjax.lab.forgetting.deletion import REQUESTED, received
from rumjax.lab.forgetting.describing import MODEL, hardware, salt_of, versions
from rumjax.lab.forgetting.ledger import LOG, Ledger, check_chain
from rumjax.lab.forgetting.office import (
    Office,
    base_problem,
    earlier_positions,
    normalized,
    start_name,
    start_of,
)
from rumjax.lab.forgetting.receiving import batch_of
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


def verify(
    path: str, work: WorkDirectory, console: Console, *, public_key: str | None = None
) -> list[Check]:
    """Checks a certificate, and prints what came of each check.

    Args:
      path: of the certificate.
      work: the directory that it speaks of.
      console: where the checks are printed.
      public_key: of whom it must be signed by, 64 hexadecimal digits; any by default.

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
    for check in _checks(document, number, work, public_key):
        said = check.problem or (f"not checked: {check.skipped}" if check.skipped else "holds")
        console.print(f"{check.name}: {said}", markup=False, highlight=False, soft_wrap=True)
        checks.append(check)
    return checks


def _checks(
    document: dict[str, Any], number: int, work: WorkDirectory, public_key: str | None
) -> Iterator[Check]:
    """Yields the checks one by one, those that cost little first."""
    # The document, and the log that it is a part of.
    own = certificate.problems(document, public_key)
    yield Check("certificate", "; ".join(own) or None)
    head = document.get("log_head")
    broken = check_chain(work.read_bytes(LOG), head=head if isinstance(head, str) else None)
    yield Check("log", "; ".join(broken) or None)
    if own or broken:
        return
    log, place = Ledger(work), work.below(files.REQUESTS)
    yield _checked("entry in the log", lambda: _entry(document, number, log))
    yield _checked("page", lambda: _page(document, number, place))
    yield _checked("requests and configuration", lambda: _asked(number, log, place))
    yield _checked("examples", lambda: _examples(document, number, place))
    yield _checked("what is forgotten", lambda: _forgotten(log, place))
    yield _checked("which model is delivered", lambda: _pointer(log, place))
    yield _checked("model in its own format", lambda: _exported(document, number, log, place))

    # The configuration of the batch, without which there is neither a network nor images.
    base = _checked("first model", lambda: base_problem(place, log))
    if base.problem:
        yield base
        return
    try:
        config = place.read_json(files.of_batch(number, "config.json"), missing={}, keys=("data",))
        run = normalized(experiment.build(config), place)
    except RumjaxError as error:
        yield Check("images and network", None, skipped=str(error))
        return
    yield _checked("images", lambda: _images(document, number, run, work))
    yield _checked("delivered model", lambda: _delivered(document, number, run, log, place))
    yield _checked("model before", lambda: _before(document, number, run, work))
    if document["versions"] != versions():
        yield Check("model made again", None, skipped="other versions than when it was made")
    elif document["hardware"] != canonical.plain(hardware()):
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
    details = entries[-1].details
    if details.get("certificate") != document["content_sha256"]:
        return "the log speaks of another certificate"
    signed_by = details.get("signed_by")
    if signed_by != signing.signer(document):
        return f"the log says that it was signed by {signed_by or 'nobody'}"
    return None


def _page(document: dict[str, Any], number: int, place: WorkDirectory) -> str | None:
    """Compares the page with the document that it shows."""
    refused = document["candidate"] is not None
    name = files.of_batch(number, files.REFUSED_PAGE if refused else files.CERTIFICATE_PAGE)
    if document["versions"] != versions():
        return f"{SKIPPED}other versions than when it was written"
    if not place.has(name):
        return f"{SKIPPED}it is not there"
    same = place.read_bytes(name) == page.page(document).encode(errors="backslashreplace")
    return None if same else "it was changed: it shows something else than the document"


def _asked(number: int, log: Ledger, place: WorkDirectory) -> str | None:
    """Compares what was asked for, and the configuration, with what the log knows of them."""
    lines = [entry for entry in log.of_batch(number) if entry.state == "received"]
    known = lines[-1].details if lines else {}
    config = place.read_json(files.of_batch(number, "config.json"))
    for file, name, value in (
        (REQUESTED, "asked", received(place, number)),
        ("config.json", "config", config),
    ):
        if known.get(name) != canonical.sha256(value):
            return f"{file} was changed: the log speaks of other contents"
    return None


def _forgotten(log: Ledger, place: WorkDirectory) -> str | None:
    """Compares the table of all that is forgotten, which runs keep out of D, with the log."""
    if not any(entry.state == "verified" for entry in log.entries):
        return f"{SKIPPED}nothing is forgotten yet"
    written = place.read_bytes(files.FORGOTTEN.removeprefix(f"{files.REQUESTS}/"))
    same = written == delivering.forgotten(place, log).encode()
    return None if same else f"{files.FORGOTTEN} was changed; the next batch writes it anew"


def _images(document: dict[str, Any], number: int, run: Run, work: WorkDirectory) -> str | None:
    """Compares the manifest of D before the batch."""
    office = _office(run, work)
    salt = salt_of(office.place, new=False)
    earlier = earlier_positions(office, number)
    kept = np.setdiff1d(np.arange(run.size), earlier)
    manifest = certificate.manifest(office.example_hashes[kept].tolist(), salt)
    if manifest != document["data_before"]["manifest"]:
        return f"{SKIPPED}those of D are others than they were then"
    return None


def _examples(document: dict[str, Any], number: int, place: WorkDirectory) -> str | None:
    """Compares the salted hashes with those of the examples that were named."""
    salt = salt_of(place, new=False)
    named = [certificate.salted(value, salt) for value in received(place, number)["sha256"]]
    written = [value for request in document["requests"] for value in request["examples"]]
    if sorted(named) != sorted(written):
        return "they are not those of the requests"
    return None


def _delivered(
    document: dict[str, Any], number: int, run: Run, log: Ledger, place: WorkDirectory
) -> str | None:
    """Compares the digest of the model that was delivered."""
    if document["candidate"] is not None:
        return f"{SKIPPED}the model was refused, and the one before stays"
    if not is_there(place, files.delivered(number)):
        return _gone(files.checkpoint(files.delivered(number)), log)
    found = digest(load(run, place, files.delivered(number)))
    if found != document["delivered"]["digest"]:
        return "its bytes are others"
    lines = [entry.details for entry in log.of_batch(number) if entry.state == "verified"]
    written = lines[-1].get("files") if lines else None
    same = written in (None, delivering.files_of_model(place, number))
    return None if same else "its arrays are the same, but its files were changed"


def _before(document: dict[str, Any], number: int, run: Run, work: WorkDirectory) -> str | None:
    """Compares the digest of the model that the batch began with."""
    office = _office(run, work)
    name = start_name(office.log, number)
    if not is_there(office.place, name):
        return _gone(files.checkpoint(name), office.log)
    found = digest(start_of(office, number))
    return None if found == document["original"]["digest"] else "its bytes are others"


def _pointer(log: Ledger, place: WorkDirectory) -> str | None:
    """Compares the file that other programs read with what the log says is delivered."""
    wanted = delivering.pointer(place, log)
    if wanted is None:
        return f"{SKIPPED}none is yet"
    same = place.read_json(delivering.POINTER) == canonical.plain(wanted)
    return None if same else f"{delivering.POINTER} was changed; the next start writes it anew"


def _exported(
    document: dict[str, Any], number: int, log: Ledger, place: WorkDirectory
) -> str | None:
    """Compares the model in the format of the checkpoint that it came in."""
    if not document["delivered"]["exported"]:
        return f"{SKIPPED}there is none"
    written = delivering.exported(pathlib.Path(place.path) / files.batch_folder(number))
    if written is None:
        return _gone(files.of_batch(number, f"{MODEL}*"), log)
    same = content(written) == document["delivered"]["exported_sha256"]
    return None if same else "its bytes are others"


def _again(document: dict[str, Any], number: int, run: Run, work: WorkDirectory) -> str | None:
    """Makes the model once more, and compares it bit by bit."""
    if _images(document, number, run, work) is not None:
        return f"{SKIPPED}the images of D are others than they were then"
    office = _office(run, work)
    if not is_there(office.place, start_name(office.log, number)):
        return f"{SKIPPED}the model that it was made from is not there"
    start, batch = start_of(office, number), batch_of(office, number)
    way = carrier(office.context, office.place, batch.deletion, start)
    made = document["candidate"] or document["delivered"]
    names = ("retraining.json", "choice.json") if document["level"] == "A" else ("choice.json",)
    written = [office.place.read_json(files.of_batch(number, name)) for name in names]
    choice = next((one for one in written if one is not None), None)
    if choice is None:
        return f"{SKIPPED}{names[-1]} is not there, which says how it was made"
    if isinstance(way, Unlearning) and choice["name"] not in EXACT:
        try:
            check_written(office.run, work)
        except InvalidInputError as error:
            return f"{SKIPPED}{error}"
    model = way.replay(choice["name"], choice["form"])
    return None if digest(model) == made["digest"] else "its bytes are others"


def _gone(name: str, log: Ledger) -> str:
    """Says that a file is not there, which is right where it was purged."""
    purged = [
        path for one in log.entries if one.state == "purged" for path in one.details["deleted"]
    ]
    if fnmatch.filter(purged, f"{files.REQUESTS}/{name}"):
        return f"{SKIPPED}it was purged"
    return "it is not there"


def _office(run: Run, work: WorkDirectory) -> Office:
    """Opens the directory of requests to be read."""
    context = context_of(run, work, Console(quiet=True))
    place, log = work.below(files.REQUESTS), Ledger(work)
    return Office(context, place, log, hashes(run.data.train), False, None)
