"""The model that a batch ends with, in the user's format and in Orbax's, and its certificate."""

import pathlib
import platform
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from rumjax.lab.forgetting.ledger import Ledger

import rumjax
from rumjax import checkpoints
from rumjax.lab import files
from rumjax.lab.context import Context
from rumjax.lab.forgetting import certificate, page, signing
from rumjax.lab.forgetting.choosing import RETRAIN, Choice
from rumjax.lab.forgetting.deletion import Deletion
from rumjax.lab.forgetting.findings import Evidence
from rumjax.lab.forgetting.gate import Bound
from rumjax.lab.workdir import WorkDirectory, digest
from rumjax.types import Variables

MODEL = "model"
"""The file, or folder, of a batch's model in the user's format, but for its ending."""
POINTER = "delivered.json"
"""Which model is the delivered one, for other programs; made of the log."""
NOT_TESTED = (
    "whether an attack that was not run tells S from examples never seen",
    "whether anything else that was made of the examples, a copy of the model elsewhere for "
    "example, still holds them",
    "what the model does on images of another kind than V and T",
)


class Outcome(NamedTuple):
    """What came of a batch."""

    model: Variables
    evidence: Evidence
    bounds: tuple[Bound, ...]
    time: str
    """When it was measured."""

    @property
    def passed(self) -> bool:
        """Says whether all bounds are kept."""
        return all(bound.holds for bound in self.bounds)

    @property
    def missed(self) -> list[str]:
        """The bounds that are not kept, as sentences."""
        return [str(bound) for bound in self.bounds if not bound.holds]


class Delivery(NamedTuple):
    """All that a certificate speaks of."""

    context: Context
    place: WorkDirectory
    log: Ledger
    deletion: Deletion
    received: Mapping[str, Any]
    choice: Choice
    outcome: Outcome
    before: Variables

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the batch."""
        return pathlib.Path(self.place.path) / files.batch_folder(self.deletion.number)


def deliver(
    delivery: Delivery, example_hashes: np.ndarray, *, key: str | None = None
) -> dict[str, Any]:
    """Saves the model of a batch, and then writes its certificate; of a refused one, why it is.

    Returns:
      The certificate.
    """
    # The model is there before anything speaks of it.
    place, number, passed = delivery.place, delivery.deletion.number, delivery.outcome.passed
    notes: tuple[str, ...] = ()
    if passed:
        place.save_model(files.delivered(number), delivery.outcome.model)
        notes = export(delivery)

    # Its certificate, as a file and as a page.
    document = describe(delivery, example_hashes, notes)
    if key is not None:
        document = signing.sign(document, key)
    name, page_name = (
        (files.CERTIFICATE, files.CERTIFICATE_PAGE)
        if passed
        else (files.REFUSED, files.REFUSED_PAGE)
    )
    place.write_json(files.of_batch(number, name), document)
    place.write_text(files.of_batch(number, page_name), page.page(document))
    return document


def export(delivery: Delivery) -> tuple[str, ...]:
    """Writes the model in the format of the checkpoint that it came in; returns what was chosen."""
    original, run = delivery.context.run.config.original, delivery.context.run
    if original is None:
        return ()
    if "://" in str(delivery.place.path):
        return ("The model is in Orbax's format alone, since the directory is in a bucket.",)
    source = pathlib.Path(original.path.partition("#")[0]).expanduser()
    target = delivery.folder / f"{MODEL}{source.suffix if source.is_file() else ''}"
    if target.exists():  # of a start that was stopped before the log said so
        remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    return checkpoints.save_variables(
        target,
        delivery.outcome.model,
        like=original.path,
        model=run.model,
        images=run.data.train.images[:1],
        format=original.format,
    )


def remove(path: pathlib.Path) -> None:
    """Deletes a file or a folder."""
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def describe(
    delivery: Delivery, example_hashes: np.ndarray, notes: tuple[str, ...]
) -> dict[str, Any]:
    """Returns the certificate of a batch."""
    run, deletion, choice = delivery.context.run, delivery.deletion, delivery.choice
    outcome, received = delivery.outcome, delivery.received
    salt = salt_of(delivery.place)
    gone = np.concatenate([deletion.forget, deletion.earlier])
    before = np.setdiff1d(np.arange(deletion.size), deletion.earlier)
    after = np.setdiff1d(before, gone)
    exact = choice.name == RETRAIN
    brought = run.config.original is not None
    return certificate.certificate(
        batch=deletion.number,
        time=outcome.time,
        requests=[
            {
                "id": name,
                "received": received["received"][name],
                "deadline": received["deadlines"][name],
                "examples": received["counts"][name],
            }
            for name in deletion.requests
        ],
        examples=[certificate.salted(value, salt) for value in received["sha256"]],
        data_before=certificate.manifest(example_hashes[before]),
        data_after=certificate.manifest(example_hashes[after]),
        original=digest(delivery.before),
        delivered=digest(outcome.model),
        passed=outcome.passed,
        recipe={
            "known": not brought,
            "about": "the original model was trained elsewhere; the recipe is the one given"
            if brought
            else "the original model was trained by it",
            **run.config.training,
        },
        network=run.config.model,
        steps={"name": choice.name, **choice.options},
        seeds={"seed": run.config.seed, "key": f"forget/{deletion.number}/{choice.name}"},
        versions=versions(),
        hardware=hardware(),
        cost={
            "gradients": choice.gradients,
            "gradients_of_everything_trained": choice.spent,
            "gradients_of_retraining": choice.retraining,
            "share_of_retraining": choice.spent / choice.retraining,
            "seconds": choice.seconds,
        },
        candidates=choice.tried,
        touched=touched(delivery),
        level="A" if exact else "B" if run.config.forgetting.oracles else "C",
        evidence=[row.as_dict() for row in outcome.evidence.rows],
        accuracy=outcome.evidence.accuracy,
        gate=[bound.as_dict() for bound in outcome.bounds],
        notes=[*outcome.evidence.notes, *notes],
        derived=derived(delivery.context.work),
        not_tested=list(NOT_TESTED),
        log_head=delivery.log.head,
    )


def touched(delivery: Delivery) -> dict[str, str]:
    """Says what data the steps have looked at."""
    return {
        "S": f"{len(delivery.deletion.forget)} examples",
        "R": f"{len(delivery.deletion.retain)} examples, trained on",
        "V": "looked at to choose among candidates, and for the evidence",
        "T": "looked at for accuracy, and to calibrate a bank where there is one",
    }


def derived(work: WorkDirectory) -> list[str]:
    """Lists what lies in the directory and has seen the examples, besides models delivered.

    These are models that were trained on D, and what was computed from them.
    """
    patterns = (
        files.checkpoint(files.original("*")),
        files.checkpoint(files.bank_model("*")),
        files.checkpoint(files.oracle("*", "*")),
        files.checkpoint(files.unlearned("*", "*")),
        "bank/*",
        "dynamics/*",
        "margins/*",
        "audit/*",
        "tuning/*",
        files.SCORES,
        files.FORGET_SETS,
        files.EXAMPLES,
    )
    own = [name for pattern in patterns for name in work.names(pattern)]
    own += [f"cases/{name}" for name in ("*",) if work.names(f"cases/{name}")]
    requests = work.below(files.REQUESTS)
    brought = files.checkpoint(files.BROUGHT)
    earlier = [brought, *requests.names(files.checkpoint(files.delivered("[0-9]*")))]
    return own + [f"{files.REQUESTS}/{name}" for name in earlier if requests.has(name)]


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


def salt_of(place: WorkDirectory) -> str:
    """Returns the salt of the directory's hashes, which stays in it."""
    kept = place.read_json(files.SALT)
    if kept is None:
        kept = {"salt": secrets.token_hex(16)}
        place.write_json(files.SALT, kept)
    return str(kept["salt"])


def reconcile(place: WorkDirectory, log: Ledger) -> None:
    """Writes what follows from the log: which model is delivered, and what is forgotten."""
    verified = [entry for entry in log.entries if entry.state == "verified"]
    if not verified:
        return
    last = verified[-1]
    place.write_json(
        POINTER,
        {
            "batch": last.batch,
            "sha256": last.details["model"],
            "orbax": files.checkpoint(files.delivered(last.batch)),
            "certificate": files.of_batch(last.batch, files.CERTIFICATE),
        },
    )
    gone = [
        value
        for entry in verified
        for value in place.read_json(files.of_batch(entry.batch, "requests.json"))["sha256"]
    ]
    name = files.FORGOTTEN.removeprefix(f"{files.REQUESTS}/")
    place.write_text(name, "\n".join(["sha256", *gone, ""]))
