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
from rumjax.lab import files
from rumjax.lab.bank import ModelBank
from rumjax.lab.experiment import Run, build
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import argument_parser, configuration, guarded, parse
from rumjax.types import Scores


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    return guarded(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str], console: Console) -> None:
    parser = argument_parser("python -m rumjax.publish", __doc__ or "")
    parser.add_argument("out", metavar="OUT.npz", help="the file to write")
    parser.add_argument(
        "--files",
        metavar="DIR",
        help="MNIST's kind of files of the same data, in whose order images are numbered; without "
        "it they are numbered as in the source of the data",
    )
    arguments, overrides = parse(parser, argv, console)
    run = build(configuration(arguments.config, overrides))
    folder = arguments.workdir or f"runs/{run.name}"
    with WorkDirectory(folder, holder="publish") as work:
        about = publish_scores(run, work, pathlib.Path(arguments.out), arguments.files)
    console.print_json(data=about)


def publish_scores(
    run: Run, work: WorkDirectory, out: pathlib.Path, folder: str | None = None
) -> dict[str, Any]:
    """Writes the scores of a run whose bank is complete; returns what the file says about them.

    Raises:
      InvalidInputError: images that are not in the files.
      WorkDirectoryError: the run has no scores yet, or a file is damaged.
    """
    if not work.has(files.SCORES):
        raise WorkDirectoryError(f"{work.path} has no scores yet; finish the run first")
    arrays = work.read_arrays(files.SCORES)
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
    scores.publish(out, images, index, chosen, about)
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


if __name__ == "__main__":
    sys.exit(main())
