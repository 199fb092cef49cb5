"""A model that was trained elsewhere, in the place of θo: read, and held against the data."""

import hashlib
import os
import pathlib
from typing import NamedTuple

import numpy as np
from rich.console import Console

from rumjax import checkpoints
from rumjax.errors import InvalidInputError
from rumjax.evidence import rank_test
from rumjax.lab.answers import Answers, read_answers
from rumjax.lab.context import placed
from rumjax.lab.experiment import Run
from rumjax.types import Dataset, Variables

LEVEL = 1e-3
"""The p-value below which a model is better than chance, or has seen V."""


class Brought(NamedTuple):
    """A model as it was read."""

    variables: Variables
    notes: tuple[str, ...]
    """What its reader chose and left unread."""


def content_of_original(checkpoint: str) -> str:
    """Returns a SHA-256 over a checkpoint, whose path may be followed by # and a part of it.

    Raises:
      InvalidInputError: there is no such file or folder.
    """
    name, _, part = checkpoint.partition("#")
    path = pathlib.Path(name).expanduser()
    if not path.exists():
        raise InvalidInputError(f"original.path: there is no file or folder {path}")
    return content(path, part)


def content(path: pathlib.Path, part: str = "") -> str:
    """Returns a SHA-256 over the files below a path and their names, and the name of a part."""
    total = hashlib.sha256(part.encode())
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        total.update(os.fsencode(file.relative_to(path)))
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()


def bring(run: Run, console: Console) -> Brought:
    """Reads the model that the section `original` names, and says how well it knows the data.

    Raises:
      InvalidInputError: the checkpoint does not fit the network; the model is no better than
        chance, or fits V so much better than T that it must have seen it, unless it is accepted.
    """
    original = run.config.original
    if original is None:
        raise InvalidInputError("the configuration has no section original")
    read = checkpoints.read(
        original.path, run.model, run.data.train.images[:1], format=original.format
    )
    console.print(
        f"θo: {original.path}, read as {read.format}", markup=False, highlight=False, soft_wrap=True
    )
    for note in read.notes:
        console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)

    # Weights do not say how images are to be normalized, or what their labels mean.
    means, stds = (
        ", ".join(f"{value:.4g}" for value in values) for values in (run.model.mean, run.model.std)
    )
    told = "as given" if "mean" in run.config.model else "that of D; say model.mean if it differs"
    console.print(f"  images less {means}, by {stds} ({told})", markup=False, highlight=False)
    check_known(run, read.variables, console)
    return Brought(read.variables, read.notes)


def check_known(run: Run, variables: Variables, console: Console) -> None:
    """Prints a model's accuracy on D, V and T, and checks that it is what one would expect.

    Raises:
      InvalidInputError: see `bring`.
    """
    parts = {"D": run.data.train, "V": run.data.validation, "T": run.data.test}
    answers = {
        name: answer(run, variables, part) for name, part in parts.items() if len(part.labels)
    }
    shares = {name: float(np.mean(one.correct)) for name, one in answers.items()}
    listed = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
    console.print(f"  accuracy on {listed}", markup=False, highlight=False)
    if run.config.original is None or run.config.original.accept:
        return

    # Chance is the largest share of a class, which a constant answer reaches.
    from scipy.stats import binomtest

    for name in ("D", "T"):
        if name not in answers:
            continue
        labels, right = np.asarray(parts[name].labels), int(answers[name].correct.sum())
        chance = np.bincount(labels).max() / len(labels)
        if binomtest(right, len(labels), chance, alternative="greater").pvalue > LEVEL:
            raise InvalidInputError(
                f"original: {run.config.original.path} is right on {shares[name]:.3f} of {name}, "
                f"no more than chance ({chance:.3f}); are its normalization (model.mean, model.std "
                "and model.pixels), the order of its classes and the layout of its images those "
                "of the data? --config.original.accept=True takes it as it is"
            )

    # What it was trained on cannot stand for images never seen.
    if not len({"V", "T"} - set(answers)):
        seen = rank_test(*(np.asarray(answers[name].margins) for name in ("V", "T")))
        if seen.p_value < LEVEL:
            raise InvalidInputError(
                f"original: it fits V better than T (area {seen.value:.3f}, p = {seen.p_value:.1g})"
                ", so that it was trained on V, which is drawn from the training images; hold V "
                'out of T by --config.data.validation_from="test", or give images of its own; '
                "--config.original.accept=True goes on with this V"
            )


def answer(run: Run, variables: Variables, part: Dataset) -> Answers:
    """Returns a model's answers on a part of the data, on the host."""
    return read_answers(run.model, variables, placed(part))
