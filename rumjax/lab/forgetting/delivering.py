"""The model that a batch ends with, in the user's format and in Orbax's, and its certificate."""

import pathlib
from typing import Any

import numpy as np

from rumjax import checkpoints
from rumjax.lab import files
from rumjax.lab.bringing import content
from rumjax.lab.forgetting import exact, page, signing
from rumjax.lab.forgetting.carrying import save
from rumjax.lab.forgetting.deletion import received
from rumjax.lab.forgetting.describing import MODEL, Delivery, describe
from rumjax.lab.forgetting.ledger import Ledger
from rumjax.lab.workdir import WorkDirectory
from rumjax.sisa import Ensemble

POINTER = "delivered.json"
"""Which model is the delivered one, for other programs; made of the log."""


def deliver(
    delivery: Delivery, example_hashes: np.ndarray, *, key: str | None = None
) -> dict[str, Any]:
    """Saves the model of a batch, and then writes its certificate; of a refused one, why it is.

    Returns:
      The certificate.
    """
    # The model is there before anything speaks of it. What a start that was stopped has left does
    # not speak of it while it is saved again.
    place, number, passed = delivery.place, delivery.deletion.number, delivery.outcome.gate.passed
    for name in (files.CERTIFICATE_PAGE, files.CERTIFICATE, files.REFUSED_PAGE, files.REFUSED):
        place.delete(files.of_batch(number, name))
    notes: tuple[str, ...] = ()
    if passed:
        save(place, files.delivered(number), delivery.outcome.model)
        notes = export(delivery)

    # Its certificate, as a file and as a page.
    written = exported(delivery.folder) if passed else None
    document = describe(delivery, example_hashes, notes, written)
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
    model = delivery.outcome.model
    if original is None or isinstance(model, Ensemble):
        return ()
    if "://" in str(delivery.place.path):
        return ("The model is in Orbax's format alone, since the directory is in a bucket.",)
    source = pathlib.Path(original.path.partition("#")[0]).expanduser()
    target = delivery.folder / f"{MODEL}{source.suffix if source.is_file() else ''}"
    # What is left of a start that was stopped before the log said so.
    delivery.place.delete(files.of_batch(delivery.deletion.number, f"{MODEL}*"))
    target.parent.mkdir(parents=True, exist_ok=True)
    return checkpoints.save_variables(
        target,
        model,
        like=original.path,
        model=run.model,
        images=run.data.train.images[:1],
        format=original.format,
    )


def exported(delivery_folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the model of a batch in the user's format, if there is one in its folder."""
    written = sorted(delivery_folder.glob(f"{MODEL}*"))
    return written[0] if written else None


def files_of_model(place: WorkDirectory, number: int) -> str | None:
    """Returns a SHA-256 over the files of the model of a batch; None in a bucket."""
    if "://" in str(place.path):
        return None
    return content(pathlib.Path(place.path) / files.checkpoint(files.delivered(number)))


def reconcile(place: WorkDirectory, log: Ledger) -> None:
    """Writes what follows from the log: which model is delivered, and what is forgotten."""
    last = log.last("verified")
    if last is None:
        return
    place.write_json(POINTER, pointer(place, log))
    place.write_text(files.FORGOTTEN.removeprefix(f"{files.REQUESTS}/"), forgotten(place, log))
    place.delete(files.checkpoint(files.candidate(last.batch, "*")))


def pointer(place: WorkDirectory, log: Ledger) -> dict[str, Any] | None:
    """Returns which model is the delivered one; None before the first."""
    last = log.last("verified")
    if last is None:
        return None
    name = files.delivered(last.batch)
    ensemble = place.has(exact.file_of(name))
    model = {exact.NAME: exact.file_of(name)} if ensemble else {"orbax": files.checkpoint(name)}
    written = exported(pathlib.Path(place.path) / files.batch_folder(last.batch))
    if written is not None:
        model["exported"] = files.of_batch(last.batch, written.name)
    return {
        "batch": last.batch,
        "sha256": last.details["model"],
        **model,
        "certificate": files.of_batch(last.batch, files.CERTIFICATE),
    }


def forgotten(place: WorkDirectory, log: Ledger) -> str:
    """Returns the table of all that is forgotten, by SHA-256."""
    numbers = [entry.batch for entry in log.entries if entry.state == "verified"]
    gone = [value for number in numbers for value in received(place, number)["sha256"]]
    return "\n".join(["sha256", *gone, ""])
