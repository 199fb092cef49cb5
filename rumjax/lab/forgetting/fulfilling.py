"""The story of requests to be forgotten: read this first.

    requests ─► batch ─► candidates within a budget ─► evidence ─► gate ─► certificate

The log says what became of each request. Everything that it speaks of is written before the line
that does, so that whoever kills the program finds a log, a model and a certificate that agree; the
same command goes on where it stopped. What was forgotten once is retained by no later batch.
"""

import datetime

from rich.console import Console

from rumjax.lab import files
from rumjax.lab.experiment import Run
from rumjax.lab.forgetting import canonical, delivering, gate, signing
from rumjax.lab.forgetting.bench import read
from rumjax.lab.forgetting.candidates import check_written
from rumjax.lab.forgetting.carrying import EXACT, Carrier, carrier, digest, is_there, load
from rumjax.lab.forgetting.choosing import Choice
from rumjax.lab.forgetting.describing import Delivery, Outcome
from rumjax.lab.forgetting.ledger import Entry
from rumjax.lab.forgetting.office import (
    Office,
    check_parts,
    forgotten_before,
    open_office,
    say,
    start_of,
)
from rumjax.lab.forgetting.receiving import (
    Batch,
    batch_to_finish,
    check_coins,
    receive,
    refused_before,
    unfulfilled,
    warn,
)
from rumjax.lab.forgetting.records import CopiesRecord
from rumjax.lab.forgetting.requests import copies_left, locate, read_requests
from rumjax.lab.workdir import WorkDirectory

REFUSED = 3
"""The exit status where the gate lets no model pass."""


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
    if run.config.sisa is None:
        check_written(run, work)
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

    if digest(outcome.model) == digest(start):
        say(office, f"{choice.name} has changed nothing: the model is the one before, bit by bit")

    # Say what was held against what, and how measures did on what no model has seen.
    for bound in outcome.gate.bounds:
        say(office, f"  {bound.name}: {bound.value:.4g}, {bound.rule} {bound.bound:g}")
    for check in outcome.evidence.calibration:
        say(office, f"  {check['name']}: distance {check['statistic']:.3f}; {check['note']}")

    # Deliver the model with its certificate, or keep the old one and say by what it failed.
    case = Delivery(
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
    office.log.append(
        "verified",
        number,
        batch.deletion.requests,
        model=digest(outcome.model),
        certificate=document["content_sha256"],
        signed_by=signing.signer(document),
        level=document["level"],
        files=delivering.files_of_model(place, number),
    )
    delivering.reconcile(place, office.log)
    page = place.path / files.of_batch(number, files.CERTIFICATE_PAGE)
    say(office, f"batch {number} is done by {choice.name}; see {page}")
    return 0


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


def weigh(office: Office, way: Carrier, choice: Choice) -> Outcome:
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
    evidence = read(kept["evidence"])
    verdict = gate.judge(office.run.config.forgetting, evidence, exact=choice.name in EXACT)
    return Outcome(model, evidence, verdict, kept["time"])


def copies(office: Office, batch: Batch, outcome: Outcome) -> CopiesRecord:
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
