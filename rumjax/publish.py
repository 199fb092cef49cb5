"""Writes the memorization scores of a run as one small file, for others to use without its bank.

    python -m rumjax.publish --config=difficulty.py:fashion_mnist --workdir=runs/first scores.npz

Images are known by their content, so that whoever has them finds their scores, whatever the order
and split; `rumjax.scores.load_published` reads such a file from rumjax/scores/published.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console

from rumjax import scores
from rumjax.data import idx
from rumjax.errors import InvalidInputError, WorkDirectoryError
from rumjax.lab.bank import ModelBank
from rumjax.lab.experiment import Experiment, build
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import argument_parser, configuration, guarded
from rumjax.types import Scores


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    return guarded(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str], console: Console) -> None:
    parser = argument_parser("python -m rumjax.publish", __doc__ or "")
    parser.add_argument("out", metavar="OUT.npz", help="the file to write")
    parser.add_argument(
        "--files",
        metavar="DIR",
        help="MNIST's kind of files of the same data, in whose order images are numbered; without "
        "it they are numbered in the order of the training set",
    )
    arguments, overrides = parser.parse_known_args(argv)
    built = build(configuration(arguments.config, overrides))
    folder = arguments.workdir or f"runs/{built.name}"
    with WorkDirectory(folder, holder="publish") as work:
        about = publish_scores(built, work, pathlib.Path(arguments.out), arguments.files)
    console.print_json(data=about)


def publish_scores(
    experiment: Experiment, work: WorkDirectory, out: pathlib.Path, files: str | None = None
) -> dict[str, Any]:
    """Writes the scores of a run whose bank is complete; returns what is said about them.

    Raises:
      InvalidInputError: images that are not in the files.
      WorkDirectoryError: the run has no scores yet, or a file is damaged.
    """
    if not work.has("scores.npz"):
        raise WorkDirectoryError(f"{work.path} has no scores yet; finish the run first")
    found = work.read_arrays("scores.npz")
    images = np.asarray(experiment.data.train.images)
    index = np.arange(len(images)) if files is None else places(images, files)
    chosen = {
        "memorization": Scores(found["memorization"], found["memorization_se"]),
        "c_proxy": Scores(found["c_proxy"]),
    }
    config = experiment.config
    about = {
        "data": experiment.data.name,
        "numbered": "as the training set of the run" if files is None else "as the idx files",
        **{section: config[section] for section in ("model", "training", "bank")},
        **bank_accuracies(work, config["bank"]["models"]),
    }
    scores.publish(out, images, index, chosen, about)
    return about


def places(images: np.ndarray, files: str) -> np.ndarray:
    """Where images are among the training images of idx files, int32[N].

    Raises:
      InvalidInputError: some are not there.
    """
    theirs = np.asarray(idx.read(files).train.images)
    found = scores.places(scores.image_hashes(images), scores.image_hashes(theirs))
    if missing := int(np.sum(found < 0)):
        raise InvalidInputError(f"{missing} of {len(images)} images are not among those of {files}")
    return found.astype(np.int32)


def bank_accuracies(work: WorkDirectory, models: int) -> dict[str, float]:
    """Mean accuracies of a bank's models on what they saw, on the rest of D, and on T."""
    bank = ModelBank.open(work)
    seen, unseen, test = [], [], []
    for row in bank.rows(range(models)):
        seen.append(row.correct[: bank.size][row.member].mean())
        unseen.append(row.correct[: bank.size][~row.member].mean())
        test.append(row.correct[bank.size :].mean())
    names = ("accuracy_seen", "accuracy_unseen", "accuracy_test")
    return {
        name: round(float(np.mean(each)), 4)
        for name, each in zip(names, (seen, unseen, test), strict=True)
    }


if __name__ == "__main__":
    sys.exit(main())
