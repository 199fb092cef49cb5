"""The bank's models as shadows: what models that never saw an example make of it."""

from typing import NamedTuple

import numpy as np

from rumjax import evidence
from rumjax.errors import WorkDirectoryError
from rumjax.lab.bank import ModelBank
from rumjax.lab.context import Context
from rumjax.lab.dependencies import bank_header
from rumjax.lab.experiment import Run
from rumjax.lab.forgetting import canonical
from rumjax.lab.workdir import WorkDirectory

LEAST = 8
"""Models of a bank, below which nothing is compared with it."""


class Shadows(NamedTuple):
    """The answers of a bank's models on D and T."""

    margins: np.ndarray
    """float[M, N + T], of each model so that on T they are like those of all others, see `alike`"""
    inside: np.ndarray
    """bool[M, N + T], which examples each model saw; none of T"""
    size: int
    """N, the number of examples of D"""

    @property
    def tested(self) -> np.ndarray:
        """Indices of T, which no model saw."""
        return np.arange(self.size, self.margins.shape[1])

    def mended(self, margins: np.ndarray) -> np.ndarray:
        """Returns a model's margins on D and T, shifted and scaled to agree with the bank's on T.

        Models of the bank saw fewer examples than one that is to forget some.
        """
        own = margins[: self.margins.shape[1]]
        return evidence.standardized(own, self.tested, self.margins, robust=False)

    def p_values(self, margins: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """Returns the p-value of each example against the models that never saw it, float64[n].

        Args:
          margins: of a model on D and T, see `mended`.
          examples: indices.
        """
        return evidence.example_p_values(
            margins[examples], self.margins[:, examples], self.inside[:, examples]
        )

    def group(self, margins: np.ndarray, examples: np.ndarray) -> evidence.GroupTest:
        """Tests whether examples together are fitted better than by models that never saw them."""
        return evidence.shadow_group_test(
            margins[examples], self.margins[:, examples], self.inside[:, examples]
        )


def bank_of(run: Run, work: WorkDirectory) -> ModelBank | str:
    """Returns the bank of a run that a work directory has, or why it has none."""
    try:
        bank = ModelBank.open(work)
    except WorkDirectoryError:
        return "there is no bank of models"
    if bank.header != canonical.plain(bank_header(run)):
        return "the bank is of other data, or by another recipe"
    return bank


def shadows_of(context: Context) -> Shadows | str:
    """Returns the shadows that a work directory has, or why it has none."""
    bank = bank_of(context.run, context.work)
    if isinstance(bank, str):
        return bank
    rows = [row for row in bank.rows() if np.isfinite(row.margins).all()]
    if len(rows) < LEAST:
        return f"the bank has fewer than {LEAST} models"
    margins = np.stack([row.margins for row in rows])
    inside = np.zeros(margins.shape, bool)
    inside[:, : bank.size] = np.stack([row.member for row in rows])
    return Shadows(alike(margins, bank.size), inside, bank.size)


def alike(margins: np.ndarray, size: int) -> np.ndarray:
    """Returns the models' margins, each model's shifted and scaled to agree with all on T.

    What is compared with them is mended so (`evidence.standardized`); were they not, their values
    would spread by what was taken off its own, and p-values would not be uniform.

    Args:
      margins: float[M, N + T].
      size: N.
    """
    tested = margins[:, size:]
    center, spread = (of(tested, axis=1, dtype=np.float64) for of in (np.mean, np.std))
    scale = np.where(spread > 0, spread.mean() / np.maximum(spread, 1e-12), 1.0)
    shift = center.mean() - center * scale
    return (margins * scale[:, None] + shift[:, None]).astype(margins.dtype)
