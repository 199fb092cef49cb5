"""The results as tables: rows per seed, means over seeds, and the files that hold them."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rumjax.lab.experiment import Experiment
from rumjax.lab.workdir import WorkDirectory
from rumjax.metrics import mean_and_half_width

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
ORIGINAL = ("original", "vanilla")
REFERENCE = ("retrain", "reference")
SECOND = ("retrain", "second")
CALIBRATION = (ORIGINAL, REFERENCE, SECOND)


class Line(NamedTuple):
    """What a line of the summary is about."""

    name: str
    """what its files are called: a key of the configuration's methods"""
    method: str
    strategy: str
    note: str = ""
    """its name, where method and strategy alone would not tell it from another line"""

    @property
    def is_calibration(self) -> bool:
        """Whether it is there to be compared with: the original model or a retrained one."""
        return (self.method, self.strategy) in CALIBRATION


class Interval(NamedTuple):
    """A mean over seeds and the half-width of its 95 % Student-t interval, NaN for one seed."""

    mean: float
    half_width: float


class Summary(NamedTuple):
    """A line's measures over its seeds."""

    line: Line
    rows: tuple[Row, ...]
    measures: Mapping[str, Interval]


class Results(NamedTuple):
    """All that is known of a run."""

    rows: list[Row]
    summaries: list[Summary]
    measures: tuple[str, ...]
    """the names of all measures, in the order of the columns"""
    missing: list[tuple[Line, int]]
    """lines and seeds without a row"""

    @property
    def methods(self) -> list[Summary]:
        """The summaries of unlearning methods, without the calibration."""
        return [each for each in self.summaries if not each.line.is_calibration]

    def calibration(self, which: tuple[str, str]) -> Summary | None:
        """One of the calibration lines, `ORIGINAL`, `REFERENCE` or `SECOND`, if there is one."""
        found = [each for each in self.summaries if tuple(each.line[1:3]) == which]
        return found[0] if found else None


def lines(experiment: Experiment) -> list[Line]:
    """The lines of an experiment: the calibration, then methods as they are configured."""
    found = [Line("_".join(each), *each) for each in (REFERENCE, SECOND)]
    pairs = [(method.algorithm, method.strategy) for method in experiment.methods]
    for method, pair in zip(experiment.methods, pairs, strict=True):
        found.append(Line(method.name, *pair, method.name if pairs.count(pair) > 1 else ""))
    return sorted(found, key=_rank)


def _rank(line: Line) -> int:
    pair = (line.method, line.strategy)
    return CALIBRATION.index(pair) if pair in CALIBRATION else len(CALIBRATION)


def collect(work: WorkDirectory, experiment: Experiment) -> tuple[Results, list[Row]]:
    """Reads the rows of an experiment, and the curves of its runs.

    Rows of other seeds and of methods no longer configured are left alone.

    Returns:
      The results, and a row per epoch for `metrics.jsonl`.

    Raises:
      WorkDirectoryError: a file is damaged.
    """
    rows: list[Row] = []
    epochs: list[Row] = []
    missing = []
    for line in lines(experiment):
        for seed in experiment.seeds:
            piece = work.read_json(f"rows/{line.name}_seed{seed}.json")
            if piece is None:
                missing.append((line, seed))
                continue
            about = {"method": line.method, "strategy": line.strategy, "seed": seed}
            rows.append({**piece["row"], **about, "name": line.name})
            epochs += [{**about, "name": line.name, **epoch} for epoch in piece["curve"]]
    names = ordered_columns(rows)[3:-1]
    return Results(rows, summarize(rows, lines(experiment), names), tuple(names), missing), epochs


def forget_sets(work: WorkDirectory) -> dict[str, np.ndarray]:
    """`forget_sets.npz`: S as "forget", R as "retain", and the parts of S; empty before."""
    return work.read_arrays("forget_sets.npz") if work.has("forget_sets.npz") else {}


def parts(work: WorkDirectory) -> dict[str, np.ndarray]:
    """The parts of S alone; empty before."""
    found = forget_sets(work).items()
    return {name: part for name, part in found if name not in ("forget", "retain")}


def original_epochs(work: WorkDirectory, seeds: Iterable[int]) -> list[Row]:
    """The losses of the original models' own training, a row per epoch."""
    found: list[Row] = []
    for seed in seeds:
        if not work.has(f"dynamics/seed{seed}.npz"):
            continue
        losses = work.read_arrays(f"dynamics/seed{seed}.npz")["loss"]
        about = {"method": "original", "strategy": "training", "seed": seed, "name": "original"}
        found += [
            {**about, "part": "D", "epoch": epoch, "loss": float(loss)}
            for epoch, loss in enumerate(losses, start=1)
        ]
    return found


def ordered_columns(rows: Sequence[Row]) -> list[str]:
    """The columns of `results.csv`: `FIRST`, others as they come up, and `name` at the end."""
    found = dict.fromkeys(key for row in rows for key in row)
    others = [key for key in found if key not in FIRST and key != "name"]
    return [*FIRST, *others, "name"]


def summarize(rows: Sequence[Row], lines: Sequence[Line], measures: Sequence[str]) -> list[Summary]:
    """Means over seeds of the lines that have rows; a measure that no row has is left out."""
    found = []
    for line in lines:
        own = tuple(row for row in rows if row["name"] == line.name)
        values = {name: [row[name] for row in own if name in row] for name in measures}
        intervals = {name: interval(each) for name, each in values.items() if each}
        if own:
            found.append(Summary(line, own, intervals))
    return found


def interval(values: Sequence[float]) -> Interval:
    """The mean and the half-width of its 95 % interval; NaN if a value is not finite."""
    if not np.isfinite(values).all():
        return Interval(math.nan, math.nan)
    mean, half_width = mean_and_half_width(np.asarray(values, np.float64))
    return Interval(float(mean), float(half_width))


def paired(one: Summary, other: Summary, measure: str) -> Interval | None:
    """The difference of two lines, over the seeds that both have; None if there are none."""
    values = {row["seed"]: row[measure] for row in other.rows if measure in row}
    differences = [
        row[measure] - values[row["seed"]]
        for row in one.rows
        if measure in row and row["seed"] in values
    ]
    return interval(differences) if differences else None


def results_csv(results: Results) -> str:
    """`results.csv`: a row per method, strategy and seed; empty where a measure does not apply."""
    return to_csv(ordered_columns(results.rows), results.rows)


def summary_csv(results: Results) -> str:
    """`summary.csv`: for every measure its mean and half-width over `seeds` seeds."""
    columns = [both for name in results.measures for both in (name, f"{name}_half_width")]
    rows = []
    for line, own, measures in results.summaries:
        row: Row = {"method": line.method, "strategy": line.strategy, "name": line.name}
        row["seeds"] = len(own)
        for name, (mean, half_width) in measures.items():
            row |= {name: mean, f"{name}_half_width": half_width}
        rows.append(row)
    return to_csv(["method", "strategy", "seeds", *columns, "name"], rows)


def to_csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Rows as CSV; numbers so that they are read back exactly."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: repr(each) if isinstance(each, float) else each for key, each in row.items()}
        )
    return file.getvalue()


def to_jsonl(rows: Iterable[Row]) -> str:
    """A JSON object a line; null for what is not finite, which JSON has no numbers for."""
    return "".join(
        json.dumps(
            {
                key: None if isinstance(each, float) and not math.isfinite(each) else each
                for key, each in row.items()
            }
        )
        + "\n"
        for row in rows
    )
