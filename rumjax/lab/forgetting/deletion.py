"""A batch of requests as sets of examples: what is to be forgotten, and what was before."""

from typing import Any, NamedTuple

import numpy as np

from rumjax.errors import DamagedFileError
from rumjax.forget_sets import ForgetSet
from rumjax.lab import files
from rumjax.lab.workdir import WorkDirectory


class Deletion(NamedTuple):
    """A batch of requests, as positions in D."""

    number: int
    """of the batch, from 1"""
    requests: tuple[str, ...]
    """the identifiers of its requests"""
    forget: np.ndarray
    """S, int32[|S|], ascending: what the requests name, and what of a reserve goes with it"""
    earlier: np.ndarray
    """int32[…], ascending: what earlier batches have had forgotten"""
    size: int
    """N, the number of examples of D"""

    @property
    def retain(self) -> np.ndarray:
        """R, int32[|R|], ascending: the rest of D, without all that was ever forgotten."""
        gone = np.concatenate([self.forget, self.earlier])
        return np.setdiff1d(np.arange(self.size), gone).astype(np.int32)

    @property
    def forget_set(self) -> ForgetSet:
        """S in one part, and R."""
        return ForgetSet({"all": self.forget}, self.forget, self.retain)


def received(place: WorkDirectory, number: int) -> dict[str, Any]:
    """Returns what the file of a batch says was received.

    Args:
      place: the directory of requests.
      number: of a batch that the log speaks of.

    Raises:
      DamagedFileError: it is damaged, or not there.
    """
    name = files.of_batch(number, REQUESTED)
    read: dict[str, Any] | None = place.read_json(name, keys=("ids", "named", "rows", "sha256"))
    if read is None:
        raise DamagedFileError(
            f"{place.path / name} is not there, though the log speaks of batch {number}; put it "
            "back from a backup: without it nobody knows what was forgotten"
        )
    return read


REQUESTED = "requests.json"
"""The file of a batch that says what was received."""
