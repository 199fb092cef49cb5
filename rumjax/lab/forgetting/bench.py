"""What evidence consists of, and the looks at two models that it is made from."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rumjax import evidence
from rumjax.lab.answers import answers_on_host
from rumjax.lab.forgetting.chooser import Chooser
from rumjax.lab.forgetting.deletion import Deletion
from rumjax.lab.forgetting.records import EvidenceRecord
from rumjax.lab.measuring import look, probabilities
from rumjax.types import Variables

NEAR = 1e-3
"""The share of V that is as near to R as a near copy is."""
ONE_SIDED = 1.645
"""The normal quantile of 95 %."""


class Look(NamedTuple):
    """What a model says of D, T and V."""

    probabilities: np.ndarray
    """float32[N + T + V], of the true label"""
    margins: np.ndarray
    """float32[N + T + V]"""
    correct: np.ndarray
    """bool[N + T + V]"""
    embeddings: np.ndarray
    """float32[N + T + V, E]"""


class Row(NamedTuple):
    """One line of the evidence."""

    name: str
    about: str
    """A sentence: what was measured, and which way is worse."""
    value: float
    low: float
    high: float
    """The ends of a 95 % interval; NaN where there is none."""
    null: float
    """What a model that never saw S would give."""
    before: float
    """What the model before the batch gives."""
    size: int
    """Of the sample."""
    p_value: float | None = None
    """Of the model that the batch ends with, where this is a test."""
    before_p_value: float | None = None
    least_p_value: float = 0.0
    """The least that the p-value can be."""

    def records(self) -> list[EvidenceRecord]:
        """Returns the row for a certificate, and its p-value as another."""
        ends = (self.low, self.high, self.null, self.before)
        number = EvidenceRecord(self.name, self.value, *ends, self.size, self.about)
        if self.p_value is None:
            return [number]
        name = f"p-value of {self.name}"
        note = "0.5 on average for what was never seen; small where more is remembered"
        tested = (None, None, 0.5, self.before_p_value)
        return [number, EvidenceRecord(name, self.p_value, *tested, self.size, note)]


class Evidence(NamedTuple):
    """All that was measured of a batch."""

    rows: tuple[Row, ...]
    accuracy: dict[str, dict[str, float]]
    """On V, R, S and T, "before" and "after", with the "size" of the set and, as "chance", how much
    of a loss may be that of the examples at hand, one-sided at 95 %."""
    calibration: tuple[dict[str, Any], ...]
    """How measures did on examples that no model has seen."""
    near_copies: int | None
    """Examples of S that are nearer to one of R than images of V are; None without embeddings."""
    not_tested: tuple[str, ...]
    """Sentences on what could not be measured."""

    def named(self, name: str) -> Row | None:
        """Returns the row of a name, where there is one."""
        return next((row for row in self.rows if row.name == name), None)


FLOATS = ("value", "low", "high", "null", "before")
"""The numbers of a row."""


def read(held: Any) -> Evidence:
    """Returns the evidence that a file holds."""
    rows = []
    for row in held["rows"]:
        # Numbers that are not finite are null in JSON.
        unknown = {name: np.nan for name in FLOATS if row[name] is None}
        rows.append(Row(**row | unknown))
    return Evidence(**held | {"rows": tuple(rows)})


class Bench:
    """The objects that all measurements of a batch share."""

    def __init__(self, chooser: Chooser, after: Variables) -> None:
        """Looks at the model before the batch and at the one after it."""
        self.chooser, self.after = chooser, after
        self.run, self.section = chooser.run, chooser.section
        self.forget, self.retain = chooser.deletion.forget, chooser.deletion.retain
        self.unseen = chooser.unseen
        self.models = {"before": chooser.start, "after": after}
        self.looks = {name: self.look(variables) for name, variables in self.models.items()}
        self.calibration: list[dict[str, Any]] = []
        self.not_tested: list[str] = []

    def look(self, variables: Variables) -> Look:
        """Looks at D, T and V with a model."""
        labels = np.asarray(self.chooser.data.labels)
        outputs = look(self.chooser.looking, variables)
        shares = probabilities(outputs)[np.arange(len(labels)), labels]
        margins, correct = map(np.asarray, answers_on_host(outputs.logits, labels))
        return Look(shares, margins, correct, np.asarray(outputs.embeddings))


def accuracies(
    deletion: Deletion, unseen: np.ndarray, correct: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Returns the accuracy on V, R, S and T, before and after, and what chance makes of a loss.

    A loss is the mean over examples of what each was right before and is right after; chance is the
    standard error of that mean, times the quantile. It is small where few answers changed.

    Args:
      deletion: the batch.
      unseen: where V is among D, T and V.
      correct: "before" and "after", bool[N + T + V], which examples a model is right on.
    """
    first = deletion.size
    sets = {
        "V": unseen,
        "R": deletion.retain,
        "S": deletion.forget,
        "T": np.arange(first, unseen[0] if len(unseen) else first),
    }
    found = {}
    for name, indices in sets.items():
        if len(indices):
            before, after = (correct[when][indices].astype(float) for when in ("before", "after"))
            error = float(np.std(before - after)) / len(indices) ** 0.5
            found[name] = {
                "size": len(indices),
                "before": float(before.mean()),
                "after": float(after.mean()),
                "chance": ONE_SIDED * error,
            }
    return found


def near_copies(bench: Bench) -> int | None:
    """Counts the examples of S that are nearer to one of R than all but a thousandth of V is."""
    embeddings = bench.looks["before"].embeddings
    if not embeddings.shape[1]:
        return None
    ours, theirs = (
        evidence.nearest_similarities(embeddings[chosen], embeddings[bench.retain])
        for chosen in (bench.forget, bench.unseen)
    )
    return int(np.sum(ours > np.quantile(theirs, 1 - NEAR)))
