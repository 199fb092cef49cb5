"""An audit reserve: examples of D that fair coins put in or leave out before anything is trained.

Only who trains can toss the coins. Whether an unlearned model still tells the examples that were in
from those that were out bounds from below how much it remembers; see
`rumjax.evidence.epsilon_lower_bound`.
"""

from typing import NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError, WorkDirectoryError
from rumjax.lab import files
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Dataset, Splits


class Reserve(NamedTuple):
    """The examples of a reserve, and how their coins fell."""

    inside_rows: np.ndarray
    """int64[k], rows in the source of the examples that were put in"""
    outside: Dataset
    """the examples that were left out, which no model is trained on"""
    outside_rows: np.ndarray
    """int64[m - k], their rows in the source"""

    @property
    def size(self) -> int:
        """The number m of coins."""
        return len(self.inside_rows) + len(self.outside_rows)

    def inside(self, splits: Splits) -> np.ndarray:
        """Returns the positions in D of the examples that were put in and are still there."""
        return np.flatnonzero(np.isin(splits.origin("train").rows, self.inside_rows))


def toss(splits: Splits, size: int, seed: int) -> tuple[Splits, Reserve]:
    """Draws a reserve from D, tosses a coin for each of its examples, and leaves some out of D.

    Args:
      splits: the data; the same data and seed give the same coins.
      size: m, how many examples coins are tossed for.
      seed: of the draw and of the coins.

    Returns:
      The data without the examples that were left out, and the reserve.

    Raises:
      InvalidInputError: the reserve is more than half of D.
    """
    train, origin = splits.train, splits.origin("train")
    count = len(train.labels)
    if 2 * size > count:
        raise InvalidInputError(
            f"reserve: wanted at most half of the {count} training examples, got {size}"
        )
    random = np.random.default_rng([seed, size])
    drawn = np.sort(random.choice(count, size, replace=False))
    coins = random.random(size) < 0.5
    left_out = drawn[~coins]
    reserve = Reserve(
        inside_rows=origin.rows[drawn[coins]],
        outside=Dataset(train.images[left_out], train.labels[left_out]),
        outside_rows=origin.rows[left_out],
    )
    return without(splits, left_out), reserve


def keep(work: WorkDirectory, reserve: Reserve) -> None:
    """Records how the coins of a run fell; once models are trained by them, there are no others.

    Raises:
      WorkDirectoryError: others are recorded, since the data or the seed were changed.
    """
    rows = {"inside_rows": reserve.inside_rows, "outside_rows": reserve.outside_rows}
    if work.has(files.RESERVE):
        recorded = work.read_arrays(files.RESERVE, keys=tuple(rows))
        if any(not np.array_equal(recorded[name], rows[name]) for name in rows):
            raise WorkDirectoryError(
                f"reserve: the coins in {work.path / files.RESERVE} fell otherwise, since reserve, "
                "seed or the training images were others; what a model is asked about coins is "
                "true of its own alone: put them back, or choose another --workdir"
            )
    work.write_arrays(files.RESERVE, rows)


def without(splits: Splits, positions: np.ndarray) -> Splits:
    """Returns the data without some examples of D, which are named by their positions."""
    train, origin = splits.train, splits.origin("train")
    kept = np.setdiff1d(np.arange(len(train.labels)), positions)
    data = Dataset(np.asarray(train.images)[kept], np.asarray(train.labels)[kept])
    origins = {**splits.origins, "train": origin._replace(rows=origin.rows[kept])}
    return splits._replace(train=data, origins=origins)
