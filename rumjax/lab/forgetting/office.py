"""The directory of requests: its log, its models, and what was ever forgotten in it."""

import dataclasses
from typing import Any

import numpy as np
from rich.console import Console

from rumjax.data import hashes
from rumjax.errors import DamagedFileError, InvalidInputError
from rumjax.lab import files
from rumjax.lab.context import Context, context_of
from rumjax.lab.experiment import Run
from rumjax.lab.forgetting import canonical, certificate, delivering, exact
from rumjax.lab.forgetting.carrying import Model, begin, digest, load
from rumjax.lab.forgetting.deletion import received
from rumjax.lab.forgetting.ledger import Entry, Ledger
from rumjax.lab.pipeline import open_context
from rumjax.lab.workdir import WorkDirectory
from rumjax.sisa import Ensemble


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


def open_office(
    run: Run, work: WorkDirectory, console: Console, *, or_retrain: bool, key: str | None
) -> Office:
    """Opens the directory of requests, with the model that is delivered or the one to begin with.

    Raises:
      RumjaxError: the log is damaged, or there is no model to begin with.
    """
    # The first model's images are normalized as they were then, whatever D has lost since.
    place, log = work.below(files.REQUESTS), Ledger(work)
    if problem := base_problem(place, log):
        raise DamagedFileError(problem)
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


def base_problem(place: WorkDirectory, log: Ledger) -> str | None:
    """Says what is wrong with what the log knows of the first model, if anything is."""
    lines = [entry for entry in log.entries if entry.state == "received"]
    if not lines:
        return None
    base = place.read_json(files.BASE)
    if base is not None and canonical.sha256(base) == lines[-1].details.get("base"):
        return None
    return (
        f"{place.path / files.BASE} is not what it was when the last batch was received; put it "
        "back from a backup: it says how the model's images are normalized, and which are V's"
    )


def normalized(run: Run, place: WorkDirectory) -> Run:
    """Returns the run with images normalized as the first model has them."""
    base = place.read_json(files.BASE, keys=("mean", "std"))
    if base is None:
        raise DamagedFileError(f"{place.path / files.BASE} is not there; put it back")
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


def say(office: Office, text: str) -> None:
    """Prints a line as it is."""
    office.console.print(text, markup=False, highlight=False, soft_wrap=True)


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
