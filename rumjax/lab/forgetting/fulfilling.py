"""The story of requests to be forgotten: read this first.

    requests ─► batch ─► candidates within a budget ─► evidence ─► gate ─► certificate

The log says what became of each request. Everything that it speaks of is written before the line
that does, so that whoever kills the program finds a log, a model and a certificate that agree; the
same command goes on where it stopped. What was forgotten once is retained by no later batch.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from rumjax.data import hashes
from rumjax.data.origins import Register
from rumjax.errors import DamagedFileError, InvalidInputError
from rumjax.lab import files
from rumjax.lab.bringing import content
from rumjax.lab.context import Context, context_of
from rumjax.lab.experiment import Run
from rumjax.lab.forgetting import (
    canonical,
    certificate,
    delivering,
    exact,
    findings,
    gate,
    signing,
)
from rumjax.lab.forgetting.carrying import (
    EXACT,
    Carrier,
    Model,
    Unlearning,
    begin,
    carrier,
    digest,
    is_there,
    load,
)
from rumjax.lab.forgetting.choosing import Choice, check_budget
from rumjax.lab.forgetting.deletion import REQUESTED, Deletion, received
from rumjax.lab.forgetting.ledger import Entry, Ledger
from rumjax.lab.forgetting.records import CopiesRecord
from rumjax.lab.forgetting.requests import Request, copies_left, locate, read_requests
from rumjax.lab.pipeline import open_context
from rumjax.lab.workdir import WorkDirectory
from rumjax.sisa import Ensemble

REFUSED = 3
"""The exit status where the gate lets no model pass."""


class Batch(NamedTuple):
    """A batch of requests, as it was received."""

    deletion: Deletion
    received: Mapping[str, Any]
    """What its file says; see `receive`."""


@dataclasses.dataclass(frozen=True)
class Office:
    """The objects that the batches of a work directory share."""

    context: Context
    place: WorkDirectory
    """The directory of requests."""
    log: Ledger
    example_hashes: np.ndarray
    """str[N], the SHA-256 of every example of D."""
    or_retrain: bool
    key: str | None
    """The file of the key that certificates are signed with."""

    @property
    def run(self) -> Run:
        """The run whose model is to forget."""
        return self.context.run

    @property
    def console(self) -> Console:
        """Where progress is shown."""
        return self.context.console

    def settings(self) -> dict[str, Any]:
        """Returns what the outcome of a batch depends on besides its requests."""
        settings = {
            "configuration": self.run.config.written,
            "data": [self.run.fingerprint, manifest_of(self.run)],
            "or_retrain": self.or_retrain,
        }
        return dict(canonical.plain(settings))


def fulfil(
    run: Run,
    work: WorkDirectory,
    path: str,
    console: Console,
    *,
    or_retrain: bool = False,
    key: str | None = None,
) -> int:
    """Has forgotten what requests name, and says what became of them.

    Args:
      run: from `rumjax.lab.experiment.build`.
      work: the directory, which keeps the log and every model that was delivered.
      path: of the table of requests.
      console: where progress is shown.
      or_retrain: whether a model that the gate refuses is followed by one that is retrained.
      key: the file of an Ed25519 key that certificates are signed with.

    Returns:
      The exit status: 0, or `REFUSED` where the gate let no model pass.

    Raises:
      RumjaxError: says what went wrong and what to do about it.
    """
    # All requests are read, and all their examples found, before anything is trained.
    requests = read_requests(path)
    check_parts(run)
    if key is not None:
        signing.sign({}, key)  # a key that cannot be used is found out now
    office = open_office(run, work, console, or_retrain=or_retrain, key=key)
    waiting = unfulfilled(office, requests)
    check_coins(office.run, waiting)
    positions = locate(waiting, office.run.data, forgotten_before(office, None))
    warn(office, waiting, positions)

    # A batch that was begun is finished first; then what else has been received is the next one.
    status = 0
    begun = batch_to_finish(office, waiting)
    if begun is not None:
        status = finish(office, begun)
        waiting = [request for request in waiting if request.id not in begun.received["ids"]]
    elif not waiting:
        console.print("all requests are fulfilled already; nothing is to be done")
    if waiting and not status:
        refused = refused_before(office, waiting)
        if refused is not None:
            return say_refused(office, refused)
        status = finish(office, receive(office, waiting, positions))
    return status


def check_parts(run: Run) -> None:
    """Checks that there is validation data, which everything is held against.

    Raises:
      InvalidInputError: there is none.
    """
    if not len(run.data.validation.labels):
        raise InvalidInputError(
            "requests: the model is judged on validation images that it never saw, and there are "
            "none; set data.validation_fraction, with data.validation_from=test for a model that "
            "was trained on all training images"
        )


def check_coins(run: Run, requests: Iterable[Request]) -> None:
    """Checks that no request names an example that a coin has left out of D.

    Raises:
      InvalidInputError: one does.
    """
    if run.reserve is None:
        return
    origin = run.data.origin("train")._replace(rows=run.reserve.outside_rows)
    outside = Register(run.reserve.outside, origin)
    out = [
        f"{example!r} of request {request.id!r}"
        for request in requests
        for kind, example in request.examples
        if outside.find(example, kind)
    ]
    if out:
        raise InvalidInputError(
            f"requests: the coins of the reserve have left out {', '.join(out[:5])}, so that no "
            "model was trained on it and nothing is to be forgotten; take it out of the table"
        )


def open_office(
    run: Run, work: WorkDirectory, console: Console, *, or_retrain: bool, key: str | None
) -> Office:
    """Opens the directory of requests, with the model that is delivered or the one to begin with.

    Raises:
      RumjaxError: the log is damaged, or there is no model to begin with.
    """
    # The first model's images are normalized as they were then, whatever D has lost since.
    place, log = work.below(files.REQUESTS), Ledger(work)
    if not place.has(files.BASE):
        context = open_context(run, work, console)
        begin(context, place)
        base = {
            "mean": run.model.mean,
            "std": run.model.std,
            "validation": manifest_of(run),
            "sisa": exact.shards_of(run),
        }
        place.write_json(files.BASE, base)
    exact.check_same(run, place.read_json(files.BASE, missing={}).get("sisa"))
    run = normalized(run, place)
    check_validation(run, place)
    check_network(run, place, log)
    context = context_of(run, work, console)
    office = Office(context, place, log, hashes(run.data.train), or_retrain, key)
    start = start_of(office)
    if isinstance(start, Ensemble):
        exact.check(run, place, start, earlier_positions(office, None))
    delivering.reconcile(place, log)
    return office


def normalized(run: Run, place: WorkDirectory) -> Run:
    """Returns the run with images normalized as the first model has them."""
    base = place.read_json(files.BASE, missing={}, keys=("mean", "std"))
    model = dataclasses.replace(run.model, mean=tuple(base["mean"]), std=tuple(base["std"]))
    recipe = dataclasses.replace(run.recipe, model=model)
    return dataclasses.replace(run, model=model, recipe=recipe)


def manifest_of(run: Run) -> str:
    """Returns one hash of V, whatever the order of its images."""
    return certificate.manifest(hashes(run.data.validation).tolist())


def check_validation(run: Run, place: WorkDirectory) -> None:
    """Checks that V is the one of the first batch, which the model has not seen.

    Where V is drawn from the training images, it is drawn otherwise once some of them are gone, and
    the model was trained on some of it.

    Raises:
      InvalidInputError: it is another one.
    """
    if place.read_json(files.BASE, keys=("validation",))["validation"] != manifest_of(run):
        raise InvalidInputError(
            f"requests: the validation images are others than when {place.path} was begun, and the "
            "model may have been trained on some; put back what is gone of the images (the model "
            "forgets those of requests whether or not they are there), or start in another "
            "--workdir from the delivered model with validation images that it never saw"
        )


def check_network(run: Run, place: WorkDirectory, log: Ledger) -> None:
    """Checks that the configuration's network is that of the model that is delivered.

    Raises:
      InvalidInputError: it is another one.
    """
    delivered = verified(log)
    name = files.delivered(delivered[-1]) if delivered else files.BROUGHT
    try:
        load(run, place, name)
    except DamagedFileError as error:
        raise InvalidInputError(
            f"requests: the delivered model in {place.path} does not fit the configuration's "
            f"network, or is damaged; the network must be that of the first batch ({error})"
        ) from error


# What was asked for


def unfulfilled(office: Office, requests: Sequence[Request]) -> list[Request]:
    """Returns the requests that no batch has fulfilled.

    Raises:
      InvalidInputError: one that was fulfilled names other examples now.
    """
    done: dict[str, Any] = {}
    for number in verified(office.log):
        done |= received(office.place, number)["named"]
    changed = [
        request.id
        for request in requests
        if request.id in done and done[request.id] != canonical.plain(request.examples)
    ]
    if changed:
        raise InvalidInputError(
            f"requests: {', '.join(changed[:5])} were fulfilled before, and name other examples "
            "now; give what is new an identifier of its own"
        )
    return [request for request in requests if request.id not in done]


def verified(log: Ledger) -> list[int]:
    """Lists the batches that ended with a model that was delivered, in their order."""
    return [entry.batch for entry in log.entries if entry.state == "verified"]


def forgotten_before(office: Office, number: int | None) -> list[str]:
    """Returns the SHA-256 of what was forgotten before a batch, or by now."""
    return [
        value
        for batch in verified(office.log)
        if number is None or batch < number
        for value in received(office.place, batch)["sha256"]
    ]


def earlier_positions(office: Office, number: int | None) -> np.ndarray:
    """Returns the positions in D of what was forgotten before a batch, int32[…], ascending.

    An example whose file is gone has none. Of several copies, it is the one in the row that was
    named, if that is still there.
    """
    rows = {row: i for i, row in enumerate(office.run.data.origin("train").rows.tolist())}
    by_hash: dict[str, list[int]] = {}
    for position, value in enumerate(office.example_hashes.tolist()):
        by_hash.setdefault(value, []).append(position)
    gone: set[int] = set()
    for batch in verified(office.log):
        if number is not None and batch >= number:
            continue
        asked = received(office.place, batch)
        for row, value in zip(asked["rows"], asked["sha256"], strict=True):
            alike = [one for one in by_hash.get(value, []) if one not in gone]
            there = rows.get(row)
            if there in alike:
                gone.add(there)
            elif alike:
                gone.add(alike[0])
    return np.array(sorted(gone), np.int32)


def warn(office: Office, requests: Iterable[Request], positions: Mapping[str, np.ndarray]) -> None:
    """Points out deadlines that have passed, and copies of images that stay in D."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    listed, log = {one.id for one in requests}, office.log
    named = dict.fromkeys(name for entry in log.entries for name in entry.requests)
    last = {name: log.of_request(name) for name in named if name not in listed}
    left_out = [name for name, entry in last.items() if entry and entry.state == "failed"]
    if left_out:
        say(
            office,
            f"{len(left_out)} requests were refused before, and are not in this table: "
            f"{', '.join(left_out[:5])}",
        )
    late = [one.id for one in requests if one.deadline is not None and one.deadline < now]
    if late:
        say(office, f"the deadline of {len(late)} requests has passed: {', '.join(late[:5])}")
    chosen = np.concatenate([np.empty(0, np.int32), *positions.values()])
    every = np.concatenate([chosen, earlier_positions(office, None)])
    left = copies_left(office.run.data, np.unique(every))
    for position, copies in list(left.items())[:5]:
        rows = office.run.data.origin("train").rows
        others = ", ".join(str(row) for row in rows[copies[:5]])
        say(
            office,
            f"row {rows[position]} is to be forgotten, and its image stays in D in rows {others}: "
            "the model goes on learning from it; name those rows too if they are meant",
        )
    if len(left) > 5:
        say(office, f"so it is with {len(left) - 5} others")


def say(office: Office, text: str) -> None:
    """Prints a line as it is."""
    office.console.print(text, markup=False, highlight=False, soft_wrap=True)


def receive(
    office: Office, requests: Sequence[Request], positions: Mapping[str, np.ndarray]
) -> Batch:
    """Makes a batch of requests, and logs that they were received.

    Raises:
      InvalidInputError: with all that was forgotten before, nothing would be retained; or the
        budget allows for no candidate.
    """
    # What coins put in before training goes with the first batch.
    number = max((entry.batch for entry in office.log.entries), default=0) + 1
    forget = np.unique(np.concatenate(list(positions.values())))
    earlier = earlier_positions(office, None)
    if office.run.reserve is not None:
        inside = office.run.reserve.inside(office.run.data)
        forget = np.union1d(forget, np.setdiff1d(inside, earlier))
    size = len(office.example_hashes)
    if len(forget) + len(earlier) >= size:
        raise InvalidInputError(
            f"requests: with them, all {size} examples of D would be forgotten, and nothing "
            "retained; train a model on other data instead"
        )
    ids = [request.id for request in requests]
    deletion = Deletion(number, tuple(ids), forget.astype(np.int32), earlier, size)
    way = carrier(office.context, office.place, deletion, start_of(office))
    if isinstance(way, Unlearning):
        check_budget(way.chooser)
    rows = office.run.data.origin("train").rows
    asked = {
        "number": number,
        "ids": ids,
        "named": {request.id: request.examples for request in requests},
        "received": {request.id: request.received for request in requests},
        "deadlines": {request.id: request.deadline for request in requests},
        "hashes": {name: office.example_hashes[some].tolist() for name, some in positions.items()},
        "rows": rows[forget].tolist(),
        "sha256": office.example_hashes[forget].tolist(),
        "settings": office.settings(),
    }
    asked = dict(canonical.plain(asked))
    config = canonical.plain(office.run.config.written)
    office.place.write_json(files.of_batch(number, REQUESTED), asked)
    office.place.write_json(files.of_batch(number, "config.json"), config)

    # What was refused before is superseded; the log knows the contents of both files.
    refused: dict[int, list[str]] = {}
    for name in ids:
        last = office.log.of_request(name)
        if last is not None and last.state == "failed":
            refused.setdefault(last.batch, []).append(name)
    for batch, names in refused.items():
        office.log.append("superseded", batch, names, by=number)
    contents = {"asked": canonical.sha256(asked), "config": canonical.sha256(config)}
    office.log.append("received", number, ids, examples=len(forget), **contents)
    return batch_of(office, number)


def batch_of(office: Office, number: int) -> Batch:
    """Returns a batch that was received."""
    asked = received(office.place, number)
    rows = {row: i for i, row in enumerate(office.run.data.origin("train").rows.tolist())}
    forget = np.array([rows.get(row, -1) for row in asked["rows"]], np.int32)
    if (forget < 0).any() or (office.example_hashes[forget] != asked["sha256"]).any():
        raise InvalidInputError(
            f"requests: batch {number} was begun with other images in D; put them back until it "
            "is finished"
        )
    earlier = earlier_positions(office, number)
    size = len(office.example_hashes)
    deletion = Deletion(number, tuple(asked["ids"]), np.sort(forget), earlier, size)
    return Batch(deletion, asked)


def batch_to_finish(office: Office, waiting: Sequence[Request]) -> Batch | None:
    """Returns the batch that was begun and neither finished nor refused, if there is one.

    Where the configuration or the images were changed since, what was made of it is of no use: its
    requests are received again.

    Raises:
      InvalidInputError: they would be, but the table has not got all of them.
    """
    number = office.log.open_batch
    if number is None:
        return None
    asked, settings = received(office.place, number), office.settings()
    if all(asked["settings"][name] == settings[name] for name in ("configuration", "data")):
        return batch_of(office, number)
    lacking = set(asked["ids"]) - {request.id for request in waiting}
    if lacking:
        raise InvalidInputError(
            f"requests: batch {number} was begun with another configuration or other images, and "
            f"{', '.join(sorted(lacking)[:5])} of it are not in this table; put them back, or go "
            "on with what it was begun with"
        )
    say(office, f"batch {number} was begun with another configuration or images: it is begun anew")
    models = files.candidate(number, "*"), files.delivered(number)
    office.place.delete(
        files.of_batch(number, "certificate.*"),  # it speaks of the models
        files.of_batch(number, f"{delivering.MODEL}*"),
        *map(files.checkpoint, models),
    )
    office.log.append("superseded", number, asked["ids"], by=number + 1)
    return None


def failed_last(office: Office) -> Entry | None:
    """Returns the line of the last batch, if the gate has refused it."""
    last = max((entry.batch for entry in office.log.entries), default=0)
    entries = office.log.of_batch(last)
    return entries[-1] if entries and entries[-1].state == "failed" else None


def refused_before(office: Office, requests: Sequence[Request]) -> Entry | None:
    """Returns the line of the last batch, if it asked for the same, by the same settings."""
    failed = failed_last(office)
    if failed is None:
        return None
    asked = received(office.place, failed.batch)
    same = set(asked["ids"]) == {request.id for request in requests}
    return failed if same and asked["settings"] == office.settings() else None


# What becomes of it


def finish(office: Office, batch: Batch) -> int:
    """Unlearns a batch, measures what came of it, and delivers it or says why not."""
    number, place = batch.deletion.number, office.place
    say(
        office,
        f"batch {number}: {len(batch.deletion.requests)} requests, {len(batch.deletion.forget)} "
        f"examples to forget, {len(batch.deletion.retain)} retained, "
        f"{len(batch.deletion.earlier)} forgotten before",
    )
    start = start_of(office, number)
    way = carrier(office.context, place, batch.deletion, start)

    # Choose among candidates; where the gate refuses the best, retrain if that is wanted.
    choice = choose_once(office, way, retrain=False)
    outcome = weigh(office, way, choice)
    if not outcome.gate.passed and office.or_retrain and choice.name not in EXACT:
        for line in gate.missed(outcome.gate):
            say(office, f"{choice.name}: {line}")
        say(office, "the model is retrained, as --or-retrain says")
        refused, choice = choice, choose_once(office, way, retrain=True)
        choice = choice.after(refused)
        outcome = weigh(office, way, choice)

    # Deliver the model with its certificate, or keep the old one and say by what it failed.
    case = delivering.Delivery(
        office.context,
        place,
        office.log,
        batch.deletion,
        batch.received,
        choice,
        outcome,
        start,
        copies(office, batch, outcome),
    )
    document = delivering.deliver(case, office.example_hashes, key=office.key)
    if not outcome.gate.passed:
        entry = office.log.append(
            "failed",
            number,
            batch.deletion.requests,
            certificate=document["content_sha256"],
            signed_by=signing.signer(document),
            missed=gate.missed(outcome.gate),
        )
        return say_refused(office, entry)
    exported = delivering.exported(case.folder)
    office.log.append(
        "verified",
        number,
        batch.deletion.requests,
        model=digest(outcome.model),
        certificate=document["content_sha256"],
        signed_by=signing.signer(document),
        level=document["level"],
        exported=None if exported is None else content(str(exported)),
        files=delivering.files_of_model(place, number),
    )
    delivering.reconcile(place, office.log)
    page = place.path / files.of_batch(number, files.CERTIFICATE_PAGE)
    say(office, f"batch {number} is done by {choice.name}; see {page}")
    return 0


def delivered_before(log: Ledger, number: int | None) -> Entry | None:
    """Returns the line on the last batch before one that ended with a model."""
    entries = [entry for entry in log.entries if entry.state == "verified"]
    before = (entry for entry in reversed(entries) if number is None or entry.batch < number)
    return next(before, None)


def start_name(log: Ledger, number: int | None) -> str:
    """Names the model that a batch goes on from."""
    last = delivered_before(log, number)
    return files.BROUGHT if last is None else files.delivered(last.batch)


def start_of(office: Office, number: int | None = None) -> Model:
    """Loads the model that a batch goes on from: the last one that was delivered before it.

    Args:
      office: of the directory.
      number: the batch; by default the next one.

    Raises:
      DamagedFileError: it is not the one that the log speaks of.
    """
    last = delivered_before(office.log, number)
    variables = load(office.run, office.place, start_name(office.log, number))
    if last is not None and digest(variables) != last.details["model"]:
        raise DamagedFileError(
            f"the model of batch {last.batch} in {office.place.path} is not the one that the log "
            "speaks of; put it back from a backup"
        )
    return variables


def choose_once(office: Office, way: Carrier, *, retrain: bool) -> Choice:
    """Chooses how a batch is unlearned, unless that was done before the program was stopped."""
    number = way.deletion.number
    name = files.of_batch(number, "retraining.json" if retrain else "choice.json")
    kept = office.place.read_json(name)
    if kept is not None and is_there(office.place, files.candidate(number, kept["name"])):
        return Choice(**{**kept, "tried": tuple(kept["tried"])})
    choice = way.choose(retrain=retrain)
    office.place.write_json(name, canonical.plain(choice))
    return choice


def weigh(office: Office, way: Carrier, choice: Choice) -> delivering.Outcome:
    """Measures the model that a batch ends with, and holds it against the bounds."""
    number, place = way.deletion.number, office.place
    model = load(office.run, place, files.candidate(number, choice.name))
    of_model = digest(model)
    done = [entry for entry in office.log.of_batch(number) if entry.state == "unlearned"]
    if not done or done[-1].details["model"] != of_model:
        office.log.append(
            "unlearned", number, way.deletion.requests, model=of_model, method=choice.name
        )
    name = files.of_batch(number, f"evidence_{choice.name}.json")
    kept = place.read_json(name)
    if kept is None or kept["model"] != of_model:
        kept = {"model": of_model, "evidence": canonical.plain(way.measure(model))}
        kept["time"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        place.write_json(name, kept)
    evidence = findings.read(kept["evidence"])
    verdict = gate.judge(office.run.config.forgetting, evidence, exact=choice.name in EXACT)
    return delivering.Outcome(model, evidence, verdict, kept["time"])


def copies(office: Office, batch: Batch, outcome: delivering.Outcome) -> CopiesRecord:
    """Counts the images that stay in D although they are like forgotten ones, and says so."""
    left = copies_left(office.run.data, batch.deletion.forget)
    near = outcome.evidence.near_copies
    if near:
        say(
            office,
            f"{near} examples to forget are nearer to one that is retained than images of V are, "
            "in the embeddings of the model before: these may be copies that were cropped or saved "
            "anew",
        )
    note = "" if near is None else "nearest cosine, above all but a thousandth of V"
    return CopiesRecord(len(left), near, note)


def say_refused(office: Office, entry: Entry) -> int:
    """Says which bounds were missed, and returns the exit status."""
    for line in entry.details["missed"]:
        say(office, f"not delivered: {line}")
    page = office.place.path / files.of_batch(entry.batch, files.REFUSED_PAGE)
    advice = (
        "Raise forgetting.budget, name other candidates, set other bounds, or give --or-retrain"
        if office.run.config.sisa is None
        else "An ensemble has no other candidates: set other bounds"
    )
    say(
        office,
        f"the model before batch {entry.batch} stays the delivered one; see {page}. {advice}",
    )
    return REFUSED
