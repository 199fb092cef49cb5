"""How hard examples are to a model that has seen neither S nor V, so that like meets like.

A memorized forget set is harder than V: a retrained model is less sure of it. What S should look
like is therefore V of like difficulty. A model that is trained on R for a short while, from
scratch, has seen neither, and tells easy from hard in both by the same measure.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from rumjax import evidence
from rumjax.forget_sets import ForgetSet
from rumjax.lab.answers import read_answers
from rumjax.lab.experiment import Run
from rumjax.types import Dataset, Key, Task, subset
from rumjax.unlearn import chain, run


class Matching(NamedTuple):
    """How hard the examples of S and V are, and which of V are as hard as which of S."""

    forget: np.ndarray
    """int[|S|], the stratum of each example of S"""
    unseen: np.ndarray
    """int[|V|], the stratum of each example of V"""
    forget_difficulty: np.ndarray
    """float[|S|], less the margin of a model that has seen neither"""
    unseen_difficulty: np.ndarray
    """float[|V|]"""

    def residuals(self, forget: np.ndarray, unseen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns margins on S and V less what their difficulty leads one to expect."""
        return evidence.residuals(forget, self.forget_difficulty, unseen, self.unseen_difficulty)

    def test(self, forget: np.ndarray, unseen: np.ndarray) -> evidence.RankTest:
        """Tests whether margins on S are larger than those on V of like difficulty."""
        residuals = self.residuals(forget, unseen)
        return evidence.rank_test(*residuals, strata_s=self.forget, strata_v=self.unseen)

    @property
    def weights(self) -> np.ndarray:
        """float64[|V|], by which the strata of V weigh as those of S do; they add up to 1."""
        count = max(self.forget.max(initial=0), self.unseen.max(initial=0)) + 1
        wanted = np.bincount(self.forget, minlength=count)
        there = np.bincount(self.unseen, minlength=count)
        shares = np.where(there > 0, wanted / np.maximum(there, 1), 0.0)
        weights = shares[self.unseen]
        return weights / weights.sum()


def match(
    run_: Run,
    key: Key,
    data: Dataset,
    forget_set: ForgetSet,
    unseen: np.ndarray,
    *,
    examples: int | None = None,
    bins: int = 5,
) -> Matching:
    """Matches S with V by class and by difficulty, for a model trained on R for an epoch.

    Args:
      run_: the run, whose recipe trains the model.
      key: of the training.
      data: D and whatever comes after it, V among it.
      forget_set: S and R.
      unseen: indices into `data` of V.
      examples: of R that the model is trained on, at most; by default all of them.
      bins: strata of difficulty, by class.
    """
    # Some of R, chosen at random, in an order that says nothing.
    retain = forget_set.retain
    if examples is not None and examples < len(retain):
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        retain = np.sort(random.choice(retain, max(1, examples), replace=False))
    task = Task(subset([], capacity=1), subset(retain, capacity=len(forget_set.retain)))
    short = dataclasses.replace(run_.recipe, epochs=1)
    variables = run(key, chain(task, short), None, data)

    # The margin of such a model is how easy an example is.
    difficulty = -np.asarray(read_answers(run_.model, variables, data).margins)
    labels, forget = np.asarray(data.labels), forget_set.forget
    hard = difficulty[forget], difficulty[unseen]
    alike = evidence.strata(labels[forget], hard[0], labels[unseen], hard[1], bins=bins)
    return Matching(*alike, *hard)
