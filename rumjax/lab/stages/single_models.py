"""What audits need of the models of a run's seeds, taken down as each is made.

The answers of each go into a file, so that distributions over the seeds can be compared with the
oracles'. What can be said of one model and its oracle goes into the row of the results.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np

from rumjax import audits, metrics
from rumjax.forget_sets import ForgetSet
from rumjax.lab import files
from rumjax.lab.answers import answers_on_host, lost, to_arrays
from rumjax.lab.context import CaseContext, load_oracle, load_original, stage_key
from rumjax.lab.measuring import look
from rumjax.relearn import relearn_times
from rumjax.types import Outputs, Variables

PROBED_SEEDS = 8
"""How many seeds, the first ones, have models that are probed and relearn S, which is slow."""
RELEARN_EPOCHS = 10
"""Epochs after which an accuracy that is not back counts as never regained."""


class Observation(NamedTuple):
    """The part of a model's outputs that others are compared with."""

    on_forget: np.ndarray
    """float32[S, K], softmax probabilities on S"""
    probe_auc: float
    """the AUC of a linear probe that tells S from T by the embeddings; NaN where there is none"""


class Observer:
    """Observes the models of a case's seeds, for audits."""

    def __init__(self, context: CaseContext, forget_set: ForgetSet) -> None:
        """Prepares to observe; the models that others are compared with are loaded once."""
        self.context, self.forget = context, forget_set.forget
        self.labels = np.asarray(context.data.labels)
        self.oracle = functools.cache(self._oracle)
        self.untrained = functools.cache(self._untrained)
        self.original_accuracy = functools.cache(self._original_accuracy)

    def observe(
        self, name: str, seed: int, variables: Variables, outputs: Outputs
    ) -> dict[str, float]:
        """Writes a model's answers, and measures it against its oracle.

        Args:
          name: the method's name, or that of an oracle's row.
          seed: the model's seed.
          variables: the model.
          outputs: the model's on D and T.

        Returns:
          `zrf`, `js_oracle` (nats) and `activation_distance`. Of the first `PROBED_SEEDS` seeds
          besides `relearn_epochs`: the epochs of fine-tuning on S, at a tenth of the rate of
          training, until the accuracy on S is the original model's again; `RELEARN_EPOCHS` + 1
          stands for "not by then". Where the model has embeddings and T has all classes of S, also
          `probe_auc` and `probe_gap`, its difference from the oracle's.
        """
        # Keep the answers, which audits of all seeds need.
        answers = answers_on_host(np.asarray(outputs.logits), self.labels)
        self.context.place.write_arrays(files.answers(name, seed), to_arrays(answers))

        # Compare the outputs with those of the oracle and of an untrained model.
        model = self._observation(outputs, seed)
        is_oracle = name == files.ORACLES["reference"]
        oracle = model if is_oracle else self.oracle(seed)
        divergence = metrics.jensen_shannon(model.on_forget, oracle.on_forget)
        row = {
            "zrf": metrics.zero_retrain_forgetting(model.on_forget, self.untrained(seed)),
            "js_oracle": float(divergence.mean()),
            "activation_distance": metrics.activation_distance(model.on_forget, oracle.on_forget),
        }

        # Look closer at the models of a few seeds.
        if self._is_probed(seed):
            row["relearn_epochs"] = self._relearn(name, seed, variables)
        if np.isfinite(model.probe_auc):
            row["probe_auc"] = model.probe_auc
            row["probe_gap"] = abs(model.probe_auc - oracle.probe_auc)
        return row

    def note_divergence(self, name: str, seed: int) -> None:
        """Writes that a method diverged on a seed: its margins are not finite."""
        answers = lost(len(self.labels))
        self.context.place.write_arrays(files.answers(name, seed), to_arrays(answers))

    def _is_probed(self, seed: int) -> bool:
        return seed in self.context.run.seeds[:PROBED_SEEDS]

    def _observation(self, outputs: Outputs, seed: int) -> Observation:
        size, embeddings = self.context.size, np.asarray(outputs.embeddings)
        on_forget = np.asarray(jax.nn.softmax(outputs.logits[self.forget]))
        forgotten, unseen = self.labels[self.forget], self.labels[size:]
        comparable = len(forgotten) > 1 and np.isin(forgotten, unseen).all()
        if not (self._is_probed(seed) and embeddings.shape[1] and comparable):
            return Observation(on_forget, float("nan"))
        # The classes of S are no secret, and would give it away: T is matched to them.
        matched = audits.matched(forgotten, unseen, seed=seed)
        probe = audits.probe(embeddings[self.forget], embeddings[size:][matched], seed=seed)
        return Observation(on_forget, probe.auc)

    def _oracle(self, seed: int) -> Observation:
        return self._observation(look(self.context, load_oracle(self.context, seed)), seed)

    def _untrained(self, seed: int) -> np.ndarray:
        """Returns an untrained model's probabilities on S, the "incompetent teacher" of ZRF."""
        key = stage_key(seed, "untrained")
        variables = self.context.run.model.init(key, self.context.data.images[:1])
        logits = look(self.context, variables).logits[self.forget]
        return np.asarray(jax.nn.softmax(logits))

    def _original_accuracy(self, seed: int) -> float:
        """Returns the original model's accuracy on S."""
        logits = look(self.context, load_original(self.context, seed)).logits[self.forget]
        return float(np.mean(logits.argmax(axis=1) == self.labels[self.forget]))

    def _relearn(self, name: str, seed: int, variables: Variables) -> float:
        (relearned,) = relearn_times(
            [f"{name}, seed {seed}"],
            stage_key(seed, f"relearn/{name}")[None],
            [variables],
            self.forget,
            self.context.data,
            model=self.context.run.model,
            epochs=RELEARN_EPOCHS,
            target=[self.original_accuracy(seed)],
            **self.context.run.config.gentle_sgd,
        )
        return float(RELEARN_EPOCHS + 1 if relearned.epochs is None else relearned.epochs)


def is_measured(context: CaseContext, name: str, seed: int) -> bool:
    """Says whether a model's row is there, and its answers too if audits need them."""
    has_row = context.place.has(files.row(name, seed))
    if context.run.config.audit is None:
        return has_row
    return has_row and context.place.has(files.answers(name, seed))
