"""Results that stages leave for each other and for the report: rows, and the forget set."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rumjax.forget_sets import ForgetSet
from rumjax.lab import files
from rumjax.lab.workdir import WorkDirectory


class Label(NamedTuple):
    """The model that a row is about."""

    name: str
    """The name of its files: a method's in the configuration, or an oracle's of `files.ORACLES`."""
    algorithm: str
    strategy: str


def oracle_label(which: str) -> Label:
    """Returns the label of an oracle, "reference" or "second"."""
    return Label(files.ORACLES[which], "retrain", which)


def write_row(
    place: WorkDirectory,
    label: Label,
    seed: int,
    measures: Mapping[str, float],
    curve: Sequence[Mapping[str, Any]],
) -> None:
    """Writes one row of the results, and the curve of the model that it is about."""
    row = {"method": label.algorithm, "strategy": label.strategy, "seed": seed, **measures}
    place.write_json(files.row(label.name, seed), {"row": row, "curve": list(curve)})


def read_row(place: WorkDirectory, name: str, seed: int) -> dict[str, Any]:
    """Reads one row of the results.

    Raises:
      WorkDirectoryError: the file is damaged.
    """
    row: dict[str, Any] = place.read_json(files.row(name, seed), keys=("row",))["row"]
    return row


def has_diverged(place: WorkDirectory, name: str, seed: int) -> bool:
    """Says whether the model that a row of the results is about has diverged.

    Raises:
      WorkDirectoryError: the file is damaged.
    """
    return bool(read_row(place, name, seed).get("diverged"))


def write_forget_set(place: WorkDirectory, forget_set: ForgetSet) -> None:
    """Writes S as "forget", R as "retain", and the parts of S, to `forget_sets.npz`."""
    whole = {"forget": forget_set.forget, "retain": forget_set.retain}
    place.write_arrays(files.FORGET_SETS, whole | forget_set.parts)


def read_forget_set(place: WorkDirectory) -> ForgetSet | None:
    """Reads S, R and the parts of S from `forget_sets.npz`; None before they are chosen.

    Raises:
      WorkDirectoryError: the file is damaged.
    """
    if not place.has(files.FORGET_SETS):
        return None
    arrays = place.read_arrays(files.FORGET_SETS, keys=("forget", "retain"))
    forget, retain = arrays.pop("forget"), arrays.pop("retain")
    return ForgetSet(arrays, forget, retain)
