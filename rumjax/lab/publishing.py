"""Writes the memorization scores of a run as one small file."""

import pathlib
from typing import Any

import numpy as np

from rumjax import scores
from rumjax.data import idx
from rumjax.errors import InvalidInputError, WorkDirectoryError
from rumjax.lab import dependencies, files
from rumjax.lab.bank import ModelBank
from rumjax.lab.experiment import Run
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Scores


def publish_scores(
    run: Run, work: WorkDirectory, out: pathlib.Path, folder: str | None = None
) -> dict[str, Any]:
    """Writes the scores of a run whose bank is complete; returns what the file says about them.

    Raises:
      InvalidInputError: images that are not in the files, scores of a run without a bank, or a file
        that cannot be written.
      WorkDirectoryError: the run has no scores yet, or a file is damaged.
    """
    if not work.has(files.SCORES):
        raise WorkDirectoryError(f"{work.path} has no scores yet; finish the run first")

    # They are the scores of this configuration and no other.
    depends = dependencies.configurations(run)
    stages = ("original", "bank", "scores")
    claimed = {stage: value for stage, value in depends.items() if stage in stages}
    work.claim(claimed, dependencies.patterns(run))
    arrays = work.read_arrays(files.SCORES)
    if lacking := {"memorization", "memorization_se", "c_proxy"} - arrays.keys():
        raise InvalidInputError(
            f"{work.path}: its scores lack {', '.join(sorted(lacking))}; publish those of a run "
            "with a bank"
        )
    images = np.asarray(run.data.train.images)
    index = run.data.origin("train").rows if folder is None else places(images, folder)
    chosen = {
        "memorization": Scores(arrays["memorization"], arrays["memorization_se"]),
        "c_proxy": Scores(arrays["c_proxy"]),
    }
    config = run.config
    about = {
        "data": run.data.name,
        "numbered": "as the source of the run" if folder is None else "as the idx files",
        **{section: config.section(section) for section in ("model", "training", "bank")},
        **bank_accuracies(work, config.bank.models),
    }
    try:
        scores.publish(out, images, index, chosen, about)
    except OSError as error:
        raise InvalidInputError(
            f"{out} cannot be written ({error.strerror}); choose another OUT.npz"
        ) from error
    return about


def places(images: np.ndarray, folder: str) -> np.ndarray:
    """Finds where images are among the training images of idx files, int32[N].

    Raises:
      InvalidInputError: some are not there.
    """
    theirs = np.asarray(idx.read(folder).train.images)
    index = scores.places(scores.image_hashes(images), scores.image_hashes(theirs))
    if missing := int(np.sum(index < 0)):
        raise InvalidInputError(
            f"{missing} of {len(images)} images are not among those of {folder}"
        )
    return index.astype(np.int32)


def bank_accuracies(work: WorkDirectory, models: int) -> dict[str, float]:
    """Returns mean accuracies of a bank's models on what they saw, on the rest of D, and on T."""
    bank = ModelBank.open(work)
    seen, unseen, test = [], [], []
    for row in bank.rows(range(models)):
        seen.append(row.correct[: bank.size][row.member].mean())
        unseen.append(row.correct[: bank.size][~row.member].mean())
        test.append(row.correct[bank.size :].mean())
    names = ("accuracy_seen", "accuracy_unseen", "accuracy_test")
    return {
        name: round(float(np.mean(accuracies)), 4)
        for name, accuracies in zip(names, (seen, unseen, test), strict=True)
    }
