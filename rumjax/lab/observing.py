"""What audits need of the models of a run's seeds, taken down as they are made.

Margins go into a file each, from which distributions over the seeds are compared with the oracles';
what can be said of one model and its oracle goes into the row of the results.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np

from rumjax import audits, forget_sets, metrics
from rumjax.lab.context import Context, look, require_oracle, require_original, stage_key
from rumjax.refine import Parts
from rumjax.relearn import relearn_times
from rumjax.types import Outputs, Variables

CLOSELY = 8
"""seeds, the first ones, whose models are probed and relearn S: it takes longer than unlearning"""
RELEARN_EPOCHS = 10
"""after which an accuracy that is not back counts as never regained"""


class Observed(NamedTuple):
    """What is remembered of a model, to hold others against it."""

    on_forget: np.ndarray
    """softmax probabilities on S, float32[|S|, K]"""
    probe_auc: float
    """how well a linear probe tells S from T in its embeddings"""


class Observer:
    """Looks at the models of a case's seeds."""

    def __init__(self, context: Context, parts: Parts) -> None:
        """Makes ready to look; `parts` make up S."""
        self.context, self.forget = context, forget_sets.union(parts, context.size)
        self.oracle = functools.cache(self._oracle)
        self.untrained = functools.cache(self._untrained)
        self.remembered = functools.cache(self._remembered)

    def keep(
        self, name: str, seed: int, variables: Variables, outputs: Outputs
    ) -> dict[str, float]:
        """Keeps a model's margins, and returns what there is to say of it and its oracle.

        Returns:
          `zrf`, `js_oracle` (nats), `activation_distance`; and of the first `CLOSELY` seeds
          `relearn_epochs`, of fine-tuning on S at a tenth of the rate of training until the
          accuracy on S is the original model's again, at most `RELEARN_EPOCHS` + 1, which stands
          for "not by then"; and where the model has embeddings and T has all classes of S
          `probe_auc`, with its difference from the oracle's, `probe_gap`.
        """
        labels = np.asarray(self.context.data.labels)
        logits = np.asarray(outputs.logits)
        right = np.packbits(logits.argmax(axis=1) == labels)
        margins = audits.margins(logits, labels)
        self.context.place.write_arrays(margins_name(name, seed), margins=margins, correct=right)
        observed = self._observe(outputs, seed)
        oracle = observed if name == "retrain_reference" else self.oracle(seed)
        row = {
            "zrf": metrics.zero_retrain_forgetting(observed.on_forget, self.untrained(seed)),
            "js_oracle": float(metrics.jensen_shannon(observed.on_forget, oracle.on_forget).mean()),
            "activation_distance": metrics.activation_distance(
                observed.on_forget, oracle.on_forget
            ),
        }
        if self._closely(seed):
            row["relearn_epochs"] = self._relearn(name, seed, variables)
        if np.isfinite(observed.probe_auc):
            row["probe_auc"] = observed.probe_auc
            row["probe_gap"] = abs(observed.probe_auc - oracle.probe_auc)
        return row

    def lose(self, name: str, seed: int) -> None:
        """Notes that a method diverged on a seed: its margins are not finite."""
        count = len(self.context.data.labels)
        self.context.place.write_arrays(
            margins_name(name, seed),
            margins=np.full(count, np.nan, np.float32),
            correct=np.packbits(np.zeros(count, bool)),
        )

    def _closely(self, seed: int) -> bool:
        """Whether a seed's models are looked at closely."""
        return seed in self.context.experiment.seeds[:CLOSELY]

    def _observe(self, outputs: Outputs, seed: int) -> Observed:
        size, labels = self.context.size, np.asarray(self.context.data.labels)
        on_forget = np.asarray(jax.nn.softmax(outputs.logits[self.forget]))
        embeddings, auc = np.asarray(outputs.embeddings), float("nan")
        of_forget, unseen = labels[self.forget], labels[size:]
        known = len(of_forget) > 1 and np.isin(of_forget, unseen).all()
        if self._closely(seed) and embeddings.shape[1] and known:
            # The classes of S are no secret, and would give it away.
            alike = audits.matched(of_forget, unseen, seed=seed)
            auc = audits.probe(embeddings[self.forget], embeddings[size:][alike], seed=seed).auc
        return Observed(on_forget, auc)

    def _oracle(self, seed: int) -> Observed:
        return self._observe(look(self.context, require_oracle(self.context, seed)), seed)

    def _untrained(self, seed: int) -> np.ndarray:
        """What an untrained model says of S, the "incompetent teacher" of ZRF."""
        key = stage_key(seed, "untrained")
        variables = self.context.experiment.model.init(key, self.context.data.images[:1])
        logits = look(self.context, variables).logits[self.forget]
        return np.asarray(jax.nn.softmax(logits))

    def _remembered(self, seed: int) -> float:
        """The original model's accuracy on S."""
        logits = look(self.context, require_original(self.context, seed)).logits[self.forget]
        labels = np.asarray(self.context.data.labels)[self.forget]
        return float(np.mean(logits.argmax(axis=1) == labels))

    def _relearn(self, name: str, seed: int, variables: Variables) -> float:
        options = self.context.experiment.config["training"]
        (found,) = relearn_times(
            [f"{name}, seed {seed}"],
            stage_key(seed, f"relearn/{name}")[None],
            [variables],
            self.forget,
            self.context.data,
            model=self.context.experiment.model,
            learning_rate=options.get("learning_rate", 0.1) / 10,
            batch_size=options.get("batch_size", 256),
            epochs=RELEARN_EPOCHS,
            target=[self.remembered(seed)],
        )
        return float(RELEARN_EPOCHS + 1 if found.epochs is None else found.epochs)


def margins_name(name: str, seed: int) -> str:
    """The file of the margins of a seed's model after a method."""
    return f"margins/{name}_seed{seed}.npz"


def is_measured(context: Context, name: str, seed: int) -> bool:
    """Whether a model's row is there, and its margins if audits need them."""
    audited = "audit" in context.experiment.config
    return context.place.has(f"rows/{name}_seed{seed}.json") and (
        not audited or context.place.has(margins_name(name, seed))
    )
