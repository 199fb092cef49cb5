"""The results of a run: rows per seed, means over seeds, and the files that hold them."""

import csv
import enum
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rumjax.lab import files
from rumjax.lab.report.reported import Reported
from rumjax.lab.results import read_forget_set
from rumjax.lab.workdir import WorkDirectory
from rumjax.metrics import Interval, mean_interval

Row = dict[str, Any]
"""One run: `method`, `strategy`, `seed`, its measures, and `name`, its key in the configuration."""

FIRST = [
    "method",
    "strategy",
    "seed",
    "forget_accuracy",
    "retain_accuracy",
    "test_accuracy",
    "mia",
    "mia_gap",
    "tow",
    "tow_mia",
    "disagreement",
    "seconds",
    "rte",
]
"""the columns of `results.csv` that come first"""


TIMES = ("seconds", "seconds_compiling", "rte", "rte_with_scores")
"""measures of time, whose means have no intervals"""
ENOUGH_SEEDS = 5
"""The seeds from which on an interval stands for them; fewer are shown as well."""


class Calibration(enum.Enum):
    """The lines that methods are compared with; a value is a row's `method` and `strategy`."""

    ORIGINAL = ("original", "vanilla")
    """the models before unlearning: the floor"""
    REFERENCE = ("retrain", "reference")
    """the oracles, which are what all others are compared with"""
    SECOND = ("retrain", "second")
    """other oracles, of other random keys: the ceiling"""

    @property
    def key(self) -> str:
        """The name in files; a configuration may name the original models otherwise."""
        return "original" if self is Calibration.ORIGINAL else "_".join(self.value)


class Line(NamedTuple):
    """The identity of a line of the summary."""

    name: str
    """what its files are called: a key of the configuration's methods"""
    method: str
    strategy: str

    @property
    def calibration(self) -> Calibration | None:
        """Which calibration line this is; None for a method."""
        pair = (self.method, self.strategy)
        return next((mark for mark in Calibration if mark.value == pair), None)


NOTES = ("diverged", "unchanged")
"""What a row says of its model that is no measure."""


class Summary(NamedTuple):
    """A line's measures over its seeds: means and their Student-t intervals.

    If a model diverged, there are only those measures that it has too: means over the other seeds
    would make its method look better than it is.
    """

    line: Line
    rows: tuple[Row, ...]
    measures: Mapping[str, Interval]

    def seeds(self, measure: str) -> list[float]:
        """Returns a measure on each seed, to be shown beside an interval; [] of one or of many."""
        values = [row[measure] for row in self.rows if measure in row]
        return values if 1 < len(values) < ENOUGH_SEEDS else []

    @property
    def diverged(self) -> int:
        """Counts its models that diverged."""
        return sum(has_diverged(row) for row in self.rows)

    @property
    def unchanged(self) -> int:
        """Counts its models that are the ones that they started from."""
        return sum(bool(row.get("unchanged")) for row in self.rows)


class Results(NamedTuple):
    """All results of a run."""

    rows: list[Row]
    summaries: list[Summary]
    measures: tuple[str, ...]
    """the names of all measures, in the order of the columns"""
    missing: list[tuple[Line, int]]
    """lines and seeds without a row"""
    chance: float = 0.0
    """the accuracy on T that guessing reaches, at most"""

    @property
    def methods(self) -> list[Summary]:
        """The summaries of unlearning methods, without the calibration."""
        return [summary for summary in self.summaries if summary.line.calibration is None]

    @property
    def fewest_seeds(self) -> int:
        """The smallest number of seeds of any line; 2 where there are fewer."""
        return max(2, min((len(summary.rows) for summary in self.summaries), default=2))

    @property
    def has_learned(self) -> bool:
        """Says whether the original models predict better than guessing, as far as is known."""
        original = self.calibration(Calibration.ORIGINAL)
        accuracy = None if original is None else original.measures.get("test_accuracy")
        return accuracy is None or not accuracy.value <= self.chance

    def calibration(self, mark: Calibration) -> Summary | None:
        """Returns the summary of a calibration line; None before it has rows."""
        lines = (summary for summary in self.summaries if summary.line.calibration is mark)
        return next(lines, None)

    def summary(self, name: str) -> Summary | None:
        """Returns the summary of a method by its name in the configuration; None before."""
        return next((summary for summary in self.summaries if summary.line.name == name), None)


def lines(reported: Reported) -> list[Line]:
    """Returns the lines of an experiment: the calibration, then methods as they are configured."""
    oracles = (Calibration.REFERENCE, Calibration.SECOND)
    unsorted = [Line(oracle.key, *oracle.value) for oracle in oracles]

    unsorted += [Line(each.name, each.algorithm, each.strategy) for each in reported.methods]

    ranks = {mark: rank for rank, mark in enumerate(Calibration)}
    return sorted(
        unsorted,
        key=lambda line: len(ranks) if line.calibration is None else ranks[line.calibration],
    )


def collect(work: WorkDirectory, reported: Reported) -> tuple[Results, list[Row]]:
    """Reads the rows of an reported, and the curves of its runs.

    Rows of other seeds and of methods no longer configured are left alone.

    Returns:
      The results, and a row per epoch for `metrics.jsonl`.

    Raises:
      WorkDirectoryError: a file is damaged.
    """
    rows: list[Row] = []
    epochs: list[Row] = []
    missing = []
    for line in lines(reported):
        for seed in reported.seeds:
            piece = work.read_json(files.row(line.name, seed), keys=("row", "curve"))
            if piece is None:
                missing.append((line, seed))
                continue
            identity = {"method": line.method, "strategy": line.strategy, "seed": seed}
            own = {key: math.nan if cell is None else cell for key, cell in piece["row"].items()}
            rows.append({**own, **identity, "name": line.name})
            epochs += [{**identity, "name": line.name, **epoch} for epoch in piece["curve"]]

    # Measures are all columns but those that say which run a row is about.
    measures = [name for name in ordered_columns(rows)[3:-1] if name not in NOTES]
    summaries = summarize(rows, lines(reported), measures)
    chance = guessing_accuracy(np.asarray(reported.data.test.labels))
    return Results(rows, summaries, tuple(measures), missing, chance), epochs


def guessing_accuracy(labels: np.ndarray) -> float:
    """Returns the accuracy that guessing reaches with labels, but for one time in forty.

    It is the share of the most frequent class, and two standard errors.

    Examples:
      >>> round(guessing_accuracy(np.arange(100) % 2), 3)
      0.6
    """
    share = float(np.bincount(labels).max() / len(labels))
    return share + 2 * math.sqrt(share * (1 - share) / len(labels))


def has_diverged(row: Row) -> bool:
    """Says whether the model that a row is about has diverged."""
    return bool(row.get("diverged"))


def parts(work: WorkDirectory) -> dict[str, np.ndarray]:
    """Reads the parts of S; returns {} before they are chosen."""
    forget_set = read_forget_set(work)
    return {} if forget_set is None else forget_set.parts


def original_epochs(work: WorkDirectory, seeds: Iterable[int]) -> list[Row]:
    """Reads the losses of the original models' own training, a row per epoch."""
    rows: list[Row] = []
    for seed in seeds:
        if not work.has(files.dynamics(seed)):
            continue
        losses = work.read_arrays(files.dynamics(seed), keys=("loss",))["loss"]
        identity = {"method": "original", "strategy": "training", "seed": seed, "name": "original"}
        rows += [
            {**identity, "part": "D", "epoch": epoch, "loss": float(loss)}
            for epoch, loss in enumerate(losses, start=1)
        ]
    return rows


def ordered_columns(rows: Sequence[Row]) -> list[str]:
    """Returns the columns of `results.csv`: `FIRST`, others as they come up, and `name`."""
    keys = dict.fromkeys(key for row in rows for key in row)
    others = [key for key in keys if key not in FIRST and key != "name"]
    return [*FIRST, *others, "name"]


def summarize(rows: Sequence[Row], lines: Sequence[Line], measures: Sequence[str]) -> list[Summary]:
    """Averages over seeds; leaves out lines without rows and measures that no row has."""
    summaries = []
    for line in lines:
        # Some measures do not apply to all lines, and few to a model that diverged.
        own = tuple(row for row in rows if row["name"] == line.name)
        lost = [row for row in own if has_diverged(row)]
        shared = [name for name in measures if all(name in row for row in lost)]
        values = {name: [row[name] for row in own if name in row] for name in shared}
        intervals = {name: seed_interval(some) for name, some in values.items() if some}

        # Seeds that were made together share one time: they say nothing of how it varies.
        intervals |= {
            name: without_interval(intervals[name]) for name in TIMES if name in intervals
        }
        if own:
            summaries.append(Summary(line, own, intervals))
    return summaries


def without_interval(value: Interval) -> Interval:
    """Returns a mean alone."""
    return Interval(value.value, math.nan, math.nan)


def seed_interval(values: Sequence[float]) -> Interval:
    """Computes the mean over seeds and its 95 % interval; NaN if a value is not finite."""
    if not np.isfinite(values).all():
        return Interval(math.nan, math.nan, math.nan)
    return mean_interval(np.asarray(values, np.float64))


def paired_difference(one: Summary, other: Summary, measure: str) -> Interval | None:
    """Computes by how much one line is above another, over the seeds that both have.

    Returns:
      The mean of the differences and its interval; None if the lines share no seed, or a model of
      either diverged.
    """
    if one.diverged or other.diverged:
        return None
    # Only seeds that both lines have are compared.
    values = {row["seed"]: row[measure] for row in other.rows if measure in row}
    differences = [
        row[measure] - values[row["seed"]]
        for row in one.rows
        if measure in row and row["seed"] in values
    ]
    return seed_interval(differences) if differences else None


def results_csv(results: Results) -> str:
    """Returns `results.csv`: a row per method, strategy and seed; empty where nothing applies."""
    return to_csv(ordered_columns(results.rows), results.rows)


def summary_csv(results: Results) -> str:
    """Returns `summary.csv`: for every measure its mean and half-width over `seeds` seeds."""
    columns = [column for name in results.measures for column in (name, f"{name}_half_width")]
    if any(summary.diverged for summary in results.summaries):
        columns.append("diverged")
    rows = []
    for summary in results.summaries:
        line, own, measures = summary
        row: Row = {"method": line.method, "strategy": line.strategy, "name": line.name}
        row["seeds"] = len(own)
        if summary.diverged:
            row["diverged"] = summary.diverged
        for name, interval in measures.items():
            row |= {name: interval.value, f"{name}_half_width": interval.half_width}
        rows.append(row)
    return to_csv(["method", "strategy", "seeds", *columns, "name"], rows)


def to_csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Writes rows as CSV, with numbers so that they are read back exactly."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: repr(cell) if isinstance(cell, float) else cell for key, cell in row.items()}
        )
    return file.getvalue()


def to_jsonl(rows: Iterable[Row]) -> str:
    """Writes a JSON object a line, with null for what is not finite, which JSON cannot say."""
    finite_rows = (
        {
            key: None if isinstance(cell, float) and not math.isfinite(cell) else cell
            for key, cell in row.items()
        }
        for row in rows
    )
    return "".join(json.dumps(row) + "\n" for row in finite_rows)
