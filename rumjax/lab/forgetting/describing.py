"""What a certificate says of a batch, put together from what was done and measured."""

import dataclasses
import pathlib
import platform
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

import rumjax
from rumjax.errors import DamagedFileError
from rumjax.evidence import proportion
from rumjax.lab import files
from rumjax.lab.bringing import content
from rumjax.lab.context import Context
from rumjax.lab.experiment import Run
from rumjax.lab.forgetting import certificate, exact
from rumjax.lab.forgetting.bench import Evidence
from rumjax.lab.forgetting.carrying import EXACT, Model, digest
from rumjax.lab.forgetting.choosing import Choice
from rumjax.lab.forgetting.deletion import Deletion
from rumjax.lab.forgetting.ledger import Ledger
from rumjax.lab.forgetting.records import (
    CopiesRecord,
    CostRecord,
    DataRecord,
    EvidenceRecord,
    GateRecord,
    ModelRecord,
    RequestRecord,
)
from rumjax.lab.workdir import WorkDirectory
from rumjax.sisa import Ensemble
from rumjax.unlearn import ALGORITHMS, CARDS

MODEL = "model"
"""The file, or folder, of a batch's model in the user's format, but for its ending."""
NOT_TESTED = (
    "attacks that were not run",
    "copies of the examples, of the model and of what was made from them, outside the directory",
    "images of another kind than V and T",
)


class Outcome(NamedTuple):
    """What came of a batch."""

    model: Model
    evidence: Evidence
    gate: GateRecord
    time: str
    """When it was measured."""


class Delivery(NamedTuple):
    """All that a certificate speaks of."""

    context: Context
    place: WorkDirectory
    log: Ledger
    deletion: Deletion
    received: Mapping[str, Any]
    choice: Choice
    outcome: Outcome
    before: Model
    copies: CopiesRecord
    """Images like forgotten ones that stay in D."""

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the batch."""
        return pathlib.Path(self.place.path) / files.batch_folder(self.deletion.number)


def describe(
    delivery: Delivery,
    example_hashes: np.ndarray,
    notes: tuple[str, ...],
    written: pathlib.Path | None,
) -> dict[str, Any]:
    """Returns the certificate of a batch.

    Args:
      delivery: what was done and measured.
      example_hashes: str[N], of D.
      notes: what was chosen where the model was written in the format that it came in.
      written: where that is, if it was.
    """
    # The models, of which the one before stays where the gate has refused the other.
    run, deletion, choice = delivery.context.run, delivery.deletion, delivery.choice
    outcome, evidence = delivery.outcome, delivery.outcome.evidence
    last = delivery.log.last("verified")
    folder = f"{files.REQUESTS}/{files.checkpoint(files.delivered(deletion.number))}"
    about = "; ".join([f"made by {choice.name}", *notes])
    made = ModelRecord(digest(outcome.model), about, folder, kept_as(outcome.model))
    if written is not None:
        name = f"{files.REQUESTS}/{files.of_batch(deletion.number, written.name)}"
        made = dataclasses.replace(made, exported=name, exported_sha256=content(written))
    earlier = "the model before any request" if last is None else "delivered before"
    before = ModelRecord(digest(delivery.before), earlier)

    # Examples go by salted hashes; what else has seen them is listed.
    salt = salt_of(delivery.place, new=last is None)
    kept = np.setdiff1d(np.arange(deletion.size), deletion.earlier)
    current = deletion.number if outcome.gate.passed else last.batch if last else None
    return certificate.certificate(
        batch=deletion.number,
        issued=outcome.time,
        requests=requested(delivery, salt),
        data_before=data_record("D", example_hashes[kept], salt),
        data_after=data_record("R", example_hashes[deletion.retain], salt),
        copies=delivery.copies,
        original=before,
        delivered=made if outcome.gate.passed else before,
        candidate=None if outcome.gate.passed else made,
        recipe=recipe_of(run),
        steps=choice.steps,
        seeds=seeds_of(delivery),
        versions=versions(),
        hardware=hardware(),
        cost=cost_of(run, choice),
        touched=touched(delivery),
        level="A" if choice.name in EXACT else "B" if run.config.forgetting.oracles else "C",
        evidence=[
            *accuracy_records(evidence),
            *(record for row in evidence.rows for record in row.records()),
        ],
        gate=outcome.gate,
        calibration=evidence.calibration,
        derived=[
            {"path": path, "what": what} for path, what in derived(delivery.context.work, current)
        ],
        not_tested=[*evidence.not_tested, *NOT_TESTED],
        log_head=delivery.log.head,
    )


def requested(delivery: Delivery, salt: str) -> list[RequestRecord]:
    """Returns the requests of a batch, and what of a reserve goes with them."""
    received = delivery.received
    records = []
    for name in delivery.deletion.requests:
        examples = tuple(certificate.salted(value, salt) for value in received["hashes"][name])
        times = received["received"][name], received["deadlines"][name]
        records.append(RequestRecord(name, *times, examples, len(examples)))
    own = {value for values in received["hashes"].values() for value in values}
    others = [value for value in received["sha256"] if value not in own]
    if others:
        salted = tuple(certificate.salted(value, salt) for value in others)
        time = min(received["received"].values())
        records.append(RequestRecord("audit reserve", time, None, salted, len(salted)))
    return records


def data_record(name: str, hashes: np.ndarray, salt: str) -> DataRecord:
    """Returns what a certificate says of a set of examples."""
    return DataRecord(name, len(hashes), certificate.manifest(hashes.tolist(), salt))


def kept_as(model: Model) -> str:
    """Names the format that a model is kept in."""
    return exact.NAME if isinstance(model, Ensemble) else "orbax"


def seeds_of(delivery: Delivery) -> dict[str, Any]:
    """Returns the seed, and the name of the key that everything random was drawn by."""
    seed, choice = delivery.context.run.config.seed, delivery.choice
    if choice.name == exact.NAME:  # the key that the first models were trained by
        return {"seed": seed, "key": exact.NAME}
    return {"seed": seed, "key": f"forget/{delivery.deletion.number}/{choice.name}"}


def cost_of(run: Run, choice: Choice) -> CostRecord:
    """Returns what a batch cost."""
    if run.config.sisa is not None:
        return exact.cost_of(choice)
    return CostRecord(
        seconds=choice.seconds,
        share_of_retraining=choice.spent / choice.retraining,
        budget=run.config.forgetting.budget,
        note=f"{choice.spent} gradients of single examples for all that was trained, "
        f"{choice.gradients} of them for the model delivered; retraining takes "
        f"{choice.retraining}; of {len(choice.tried)} candidates",
    )


def recipe_of(run: Run) -> dict[str, Any]:
    """Returns the recipe of the configuration, and whether θo was trained by it."""
    config = run.config
    if config.sisa is not None:
        return exact.recipe_of(run)
    about = "the original model was trained by it"
    if config.original is not None:
        about = "given by the configuration; the original model was trained elsewhere"
    return {"about": about, "model": config.model, **config.training}


def accuracy_records(evidence: Evidence) -> list[EvidenceRecord]:
    """Returns the accuracies as evidence, with Clopper and Pearson's intervals."""
    records = []
    for name, accuracy in evidence.accuracy.items():
        share = proportion(round(accuracy["after"] * accuracy["size"]), int(accuracy["size"]), 0.0)
        ends, size = (share.low, share.high, None, accuracy["before"]), int(accuracy["size"])
        records.append(
            EvidenceRecord(f"accuracy on {name}", accuracy["after"], *ends, size, MEANINGS[name])
        )
    return records


MEANINGS = {
    "V": "validation images, which no model saw",
    "R": "the training images that are retained",
    "S": "the images to be forgotten; a model that never saw them is right on some of them",
    "T": "test images, which no model saw",
}


def touched(delivery: Delivery) -> dict[str, str]:
    """Says what data the steps have looked at."""
    if delivery.context.run.config.sisa is not None:
        return exact.touched(delivery.context.run, delivery.deletion, delivery.choice)
    steps = delivery.choice.steps
    cards = [CARDS[ALGORITHMS[one]] for step in steps if (one := step["algorithm"]) in ALGORITHMS]
    needs = {need for card in cards for need in card.needs}
    learned = ", and learned from" if "V" in needs else ""
    judged = "looked at to choose among candidates, and for the evidence"
    bank = {"bank": "its models' answers were learned from, and judge nothing"}
    return {
        "S": f"{len(delivery.deletion.forget)} examples",
        "R": f"{len(delivery.deletion.retain)} examples, trained on",
        "V": f"{judged}{learned}",
        "T": "looked at for accuracy, and to calibrate a bank where there is one",
        **(bank if "bank" in needs else {}),
    }


def derived(work: WorkDirectory, number: int | None) -> list[tuple[str, str]]:
    """Lists what lies in the directory and has seen the examples, and what it is.

    Args:
      work: the whole directory.
      number: of the batch whose model is the delivered one, which is not listed.
    """
    found = [(name, what) for pattern, what in DERIVED for name in work.names(pattern)]
    requests = work.below(files.REQUESTS)
    own = set()
    if number is not None:
        own = {files.checkpoint(files.delivered(number))}
        own |= set(requests.names(files.checkpoint(files.candidate(number, "*"))))
        own |= set(requests.names(files.of_batch(number, f"{MODEL}*")))
    models = [*requests.names(files.checkpoint("*")), *requests.names(f"batch_*/{MODEL}*")]
    return found + [
        (f"{files.REQUESTS}/{name}", "an earlier model, or a candidate")
        for name in models
        if name not in own
    ]


DERIVED = (
    (files.checkpoint("*"), "a model that was trained on D"),
    ("bank/*", "answers of models that were trained on parts of D"),
    ("dynamics/*", "scores of the original model's training"),
    ("margins/*", "answers of models"),
    ("audit/*", "answers of models, and findings"),
    ("rows/*", "measures of models"),
    ("tuning/*", "settings that were tried"),
    ("cases/*", "forget sets of a study, with their models"),
    (files.SCORES, "scores of D"),
    (files.FORGET_SETS, "forget sets"),
    (files.FORGET_TABLE, "forget sets"),
    (files.HARDNESS, "scores of forget sets"),
    (files.REPORT, "a page that may show images of D"),
    ("audit.*", "pages and findings that may show images of D"),
    ("study.*", "pages that may show images of D"),
    ("figures/*", "figures that may show images of D"),
    (files.EXAMPLES, "names and hashes of D"),
)
"""What a run leaves that was made from D, by pattern."""


def versions() -> dict[str, str]:
    """Returns the versions that the bits of a model depend on."""
    return {
        "rumjax": rumjax.__version__,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
    }


def hardware() -> dict[str, Any]:
    """Returns the machine and its devices."""
    devices = [f"{device.platform}: {device.device_kind}" for device in jax.local_devices()]
    return {"platform": platform.platform(), "machine": platform.machine(), "devices": devices}


def salt_of(place: WorkDirectory, *, new: bool = True) -> str:
    """Returns the salt of the directory's hashes, which stays in it.

    Args:
      place: the directory of requests.
      new: whether one is drawn where there is none yet.

    Raises:
      DamagedFileError: there is none, and none is to be drawn.
    """
    kept = place.read_json(files.SALT, keys=("salt",))
    if kept is None:
        if not new:
            raise DamagedFileError(
                f"{place.path / files.SALT} is not there; put it back from a backup: without it "
                "nobody can tell which examples a certificate is about"
            )
        kept = {"salt": certificate.new_salt()}
        place.write_json(files.SALT, kept)
    return str(kept["salt"])
