"""Results that stages leave for each other and for the report: rows, and the forget set."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rumjax.data import hashes as data_hashes
from rumjax.forget_sets import ForgetSet
from rumjax.lab import files
from rumjax.lab.workdir import WorkDirectory
from rumjax.listings import OF_RUN
from rumjax.types import PARTS, Dataset, Splits


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


def write_forget_set(place: WorkDirectory, forget_set: ForgetSet, data: Splits) -> None:
    """Writes the forget set to `forget_sets.npz`, and as a table to `forget_sets.csv`.

    The archive has S as "forget", R as "retain", the parts of S, and what the source calls the
    examples of D, see `source_arrays`, with the SHA-256 of those of S.
    """
    # The table has a line for each example, in the words of the source.
    origin, forget = data.origin("train"), forget_set.forget
    hashes = data_hashes(Dataset(data.train.images[forget], data.train.labels[forget]))
    hash_of = dict(zip(forget.tolist(), hashes.tolist(), strict=True))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["part", "row", "name", "class", "sha256"])
    for name, part in forget_set.parts.items():
        for position in part.tolist():
            row = int(origin.rows[position])
            called = "" if origin.names is None else origin.names[row]
            of_class = data.class_names[int(data.train.labels[position])]
            writer.writerow([name, row, called, of_class, hash_of[position]])
    place.write_text(files.FORGET_TABLE, table.getvalue())

    # The archive comes last, since it says that S is chosen.
    whole = {"forget": forget, "retain": forget_set.retain, "forget_sha256": hashes}
    place.write_arrays(files.FORGET_SETS, whole | source_arrays(data) | forget_set.parts)


def source_arrays(data: Splits) -> dict[str, np.ndarray]:
    """Returns what the source calls the examples of D, so that indices can be understood.

    These are "source", the name of the data set; "source_rows", int64[N], rows of the source's
    training images; and "source_names", str[N], their files or ids if they have any.
    """
    origin = data.origin("train")
    arrays = {"source": np.array(data.name), "source_rows": origin.rows}
    if origin.names is not None:
        arrays["source_names"] = origin.names[origin.rows]
    return arrays


def write_examples(work: WorkDirectory, data: Splits) -> None:
    """Writes where every example of D, V and T comes from, to `examples.npz`.

    For each of "train", "validation" and "test" these are its rows in the source, int64[N]; the
    part of the source that rows are counted in; SHA-256, uint8[N, 32], see `rumjax.data.hashes`;
    and its names, str[N], if it has any.
    """
    arrays: dict[str, Any] = {}
    for part in PARTS:
        origin, hashes = data.origin(part), data_hashes(getattr(data, part))
        digests = np.frombuffer(bytes.fromhex("".join(hashes.tolist())), np.uint8)
        arrays[f"{part}_rows"] = origin.rows
        arrays[f"{part}_rows_of"] = np.array(origin.part)
        arrays[f"{part}_sha256"] = digests.reshape(-1, 32)
        if origin.names is not None:
            arrays[f"{part}_names"] = origin.names[origin.rows]
    work.write_arrays(files.EXAMPLES, arrays)


def has_diverged(place: WorkDirectory, name: str, seed: int) -> bool:
    """Says whether the model that a row of the results is about has diverged.

    Raises:
      WorkDirectoryError: the file is damaged.
    """
    return bool(read_row(place, name, seed).get("diverged"))


def read_forget_set(place: WorkDirectory) -> ForgetSet | None:
    """Reads S, R and the parts of S from `forget_sets.npz`; None before they are chosen.

    Raises:
      WorkDirectoryError: the file is damaged.
    """
    if not place.has(files.FORGET_SETS):
        return None
    arrays = place.read_arrays(files.FORGET_SETS, keys=("forget", "retain"))
    parts = {name: array for name, array in arrays.items() if name not in OF_RUN}
    return ForgetSet(parts, arrays["forget"], arrays["retain"])
