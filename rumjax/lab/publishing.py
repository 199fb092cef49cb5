"""Writes the memorization scores of a run, or its models, as one small file."""

import pathlib
from typing import Any

import numpy as np
from rich.console import Console

from rumjax import scores
from rumjax.benchmarks import packs
from rumjax.data import idx
from rumjax.errors import InvalidInputError, WorkDirectoryError
from rumjax.lab import dependencies, files
from rumjax.lab.bank import ModelBank
from rumjax.lab.context import context_of, load_oracle, load_original, load_second
from rumjax.lab.experiment import Run
from rumjax.lab.results import read_forget_set, read_row
from rumjax.lab.stages import scores as scores_stage
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Scores

PACKED = ("data", "model", "training", "attack")
"""The sections of a configuration that a pack holds."""
MEASURES = ("tow", "tow_mia", "mia_gap", "forget_accuracy", "retain_accuracy", "test_accuracy")


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


def publish_pack(run: Run, work: WorkDirectory, out: pathlib.Path) -> dict[str, Any]:
    """Writes the models of a finished run, and what they are to forget, as a pack.

    Returns:
      What the file says about them.

    Raises:
      InvalidInputError: a run of several cases, or a file that cannot be written.
      WorkDirectoryError: the run is not finished, or a file is damaged.
    """
    if len(run.cases) != 1:
        raise InvalidInputError(f"--pack: wanted a run of one forget set, got {len(run.cases)}")
    work.claim(dependencies.configurations(run), dependencies.patterns(run))
    context = context_of(run, work, Console(quiet=True))
    (case,) = context.cases
    forget_set = read_forget_set(case.place)
    names = [*files.ORACLES.values(), *(method.name for method in run.cases[0].methods)]
    if forget_set is None or not all(
        case.place.has(files.row(name, seed)) for name in names for seed in run.seeds
    ):
        raise WorkDirectoryError(f"{work.path} is not finished; run it to its report first")

    # Results of the run, the models themselves in float16.
    rows = []
    for name in names:
        for seed in run.seeds:
            row = read_row(case.place, name, seed)
            kept = {key: row[key] for key in (*MEASURES, "rge") if row.get(key) is not None}
            rows.append({"name": name, "seed": seed, **kept})
    about = {
        "name": run.name,
        "seeds": list(run.seeds),
        "rows": rows,
        "budget": run.config.budget,
        **{section: run.config.section(section) for section in PACKED},
    }
    loaded = {
        "original": [load_original(case, seed) for seed in run.seeds],
        "oracle": [load_oracle(case, seed) for seed in run.seeds],
        "second": [load_second(case, seed) for seed in run.seeds],
    }
    memorization = scores_stage.read(case)["memorization"].values
    try:
        packs.save(out, about, run.data, forget_set.parts, memorization, loaded)
    except OSError as error:
        raise InvalidInputError(
            f"{out} cannot be written ({error.strerror}); choose another OUT.safetensors"
        ) from error
    return {**about, "rows": len(rows), "bytes": out.stat().st_size}
