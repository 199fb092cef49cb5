"""Matching what is predicted of a model without S: outputs of oracles, or of a datamodel."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, StepOptions, number_leaf, sgd_fields
from rumjax.errors import check_choice, check_floats
from rumjax.losses import weighted_mean
from rumjax.models import Model, margins
from rumjax.sampling import sample, union
from rumjax.types import (
    Array,
    Batch,
    Dataset,
    Key,
    Metrics,
    Task,
    TrainState,
    Variables,
    fact,
    record,
)
from rumjax.unlearn.cards import card

DEFAULTS: StepOptions = {"optimizer": "adam", "weight_decay": 0.0}


@record
class Matching(Sgd):
    """Minimizes a distance to given outputs on S ∪ R′, with R′ a sample of R drawn once."""

    ratio: Array
    """|R′| / |S|, as far as R has so many"""

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Draws R′, and keeps S ∪ R′."""
        sample_key, key = jax.random.split(key)
        size = jnp.round(self.ratio * task.forget.size).astype(jnp.int32)
        matched = union(task.forget, sample(sample_key, task.retain, size))
        return super().init(key, variables, data, task)._replace(memory=matched)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over S ∪ R′."""

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            outputs, variables = self.forward(variables, batch)
            return weighted_mean(self.distance(outputs.logits, batch), batch.weights), variables

        return self.descend(state, data, (state.memory,), loss)

    def distance(self, logits: Array, batch: Batch) -> Array:
        """Returns how far the outputs on a batch are from those to be matched, float32[B]."""
        raise TypeError(f"{type(self).__name__} does not define distance")

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over S ∪ R′; those that made the outputs are left out."""
        return self.epochs * (forget + min(round(float(self.ratio) * forget), retain))


@record
class OracleMatching(Matching):
    """Minimizes ‖z_θ − z*‖² on S ∪ R′, both centred, z* the mean logits of oracles."""

    oracle_logits: Array | None = fact(
        "N", "K", about="the mean logits on D of models trained without S"
    )

    def distance(self, logits: Array, batch: Batch) -> Array:
        """Returns the squared distance of logits, of which only differences count."""
        difference = logits - self.oracle_logits[batch.indices]  # type: ignore[index]
        difference -= jnp.mean(difference, axis=-1, keepdims=True)
        return jnp.sum(difference**2, axis=-1)


@record
class DatamodelMatching(Matching):
    """Minimizes (φ_θ − φ*)² on S ∪ R′, φ* the margins that a datamodel predicts without S."""

    datamodel_margins: Array | None = fact(
        "N", about="the margins on D that a datamodel predicts of the model without S"
    )

    def distance(self, logits: Array, batch: Batch) -> Array:
        """Returns the squared distance of margins."""
        wanted = self.datamodel_margins[batch.indices]  # type: ignore[index]
        return (margins(logits, batch.labels) - wanted) ** 2


@card(
    "squared distance to the mean logits of retrained models, on S and a sample of R",
    "Georgiev et al., ICLR 2025",
    ("S", "R", "oracles"),
    "both",
)
def oracle_matching(
    model: Model,
    *,
    epochs: int = 5,
    learning_rate: ArrayLike = 1e-3,
    ratio: ArrayLike = 3.0,
    oracle_logits: ArrayLike | None = None,
    **options: Unpack[StepOptions],
) -> OracleMatching:
    """Makes oracle matching, which minimizes the mean of ‖z_θ(x) − z*(x)‖² over x in S ∪ R′.

    (Georgiev et al., ICLR 2025, "Attribute-to-Delete".) z* are the mean logits of oracles, models
    that were trained without S; R′ is a part of R, drawn once. Logits are centred, since a constant
    in all of them means nothing. It uses oracles, so it is no way to do without retraining: it
    says how well fine-tuning can do at best. No oracle may be the one that judges the result.

    z* are of images as they are, and are matched on those: there is no augmentation. Under RUM,
    every step matches models without all of S. Authors' code was not at hand, so that optimizer,
    rate and the size of R′ are ours. It is made for examples as for classes, and needs S, a part of
    R and oracles; S may be empty, and then nothing changes.

    Args:
      model: the architecture of the original model.
      epochs: passes over S ∪ R′.
      learning_rate: constant.
      ratio: |R′| / |S|; if R has fewer examples, R′ is R.
      oracle_logits: z*, float32[N, K], of all examples of D in their order; runs of configurations
        train models for it, see `bank.matching_oracles`. Only rows in S ∪ R′ are looked at.
      **options: see `SgdOptions`, without `augmentation`; by default Adam without weight decay.

    Raises:
      InvalidInputError: a number out of range, an unknown choice, or logits of other axes.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = oracle_matching(Model(Cnn(10)), ratio=2.0, oracle_logits=jnp.zeros((5, 10)))
      >>> float(unlearner.ratio), unlearner.oracle_logits.shape, unlearner.gradients(1, 4, None)
      (2.0, (5, 10), 15)
    """
    return OracleMatching(
        **_fields(model, epochs, learning_rate, ratio, options),
        oracle_logits=_given("oracle_logits", oracle_logits, "N", "K"),
    )


@card(
    "squared distance to the margins that a datamodel predicts, on S and a sample of R",
    "after Georgiev et al., ICLR 2025 (on margins: ours)",
    ("S", "R", "bank"),
    "both",
)
def datamodel_matching(
    model: Model,
    *,
    epochs: int = 5,
    learning_rate: ArrayLike = 1e-3,
    ratio: ArrayLike = 3.0,
    datamodel_margins: ArrayLike | None = None,
    **options: Unpack[StepOptions],
) -> DatamodelMatching:
    """Makes datamodel matching, which minimizes the mean of (φ_θ(x) − φ*(x))² over S ∪ R′.

    (After Georgiev et al., ICLR 2025, who match logits; that it is margins φ = log p_y / (1 − p_y)
    is ours, since banks keep margins.) φ* = φ_θo + the effect of removing S, as a linear datamodel
    predicts it, see `rumjax.scores.removal_effect`; R′ is a part of R, drawn once. No model is
    retrained for a request, but there must be a bank. In runs of configurations an example's own
    coefficient is not penalized, and errors of the prediction are said beside it: what examples do
    to each other is predicted for small requests only.

    φ* are of images as they are, and are matched on those: there is no augmentation. Authors' code
    was not at hand, so that optimizer, rate and the size of R′ are ours. It is made for examples as
    for classes, and needs S, a part of R and a bank; S may be empty, and then nothing changes.

    Args:
      model: the architecture of the original model.
      epochs: passes over S ∪ R′.
      learning_rate: constant.
      ratio: |R′| / |S|; if R has fewer examples, R′ is R.
      datamodel_margins: φ*, float32[N], of all examples of D in their order; runs of configurations
        predict them from their bank. Only those in S ∪ R′ are looked at.
      **options: see `SgdOptions`, without `augmentation`; by default Adam without weight decay.

    Raises:
      InvalidInputError: a number out of range, an unknown choice, or margins of other axes.

    Examples:
      >>> from rumjax.models import Cnn
      >>> datamodel_matching(Model(Cnn(10)), datamodel_margins=[1.0, -2.0]).datamodel_margins.shape
      (2,)
    """
    return DatamodelMatching(
        **_fields(model, epochs, learning_rate, ratio, options),
        datamodel_margins=_given("datamodel_margins", datamodel_margins, "N"),
    )


def _fields(
    model: Model, epochs: int, learning_rate: ArrayLike, ratio: ArrayLike, options: StepOptions
) -> dict[str, Any]:
    """Returns the validated fields of `Matching`.

    Raises:
      InvalidInputError: a number out of range, an unknown choice or option.
    """
    # `sgd_fields` would take augmentation.
    for name in options:
        check_choice("option", name, ("epochs", "learning_rate", *StepOptions.__annotations__))
    fields = sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(DEFAULTS | options))
    return {**fields, "ratio": number_leaf("ratio", ratio)}


def _given(name: str, values: ArrayLike | None, *axes: str) -> Array | None:
    """Returns a fact as a leaf, if it is given."""
    if values is None or isinstance(values, jax.core.Tracer):
        return values
    return jnp.asarray(check_floats(name, values, *axes), jnp.float32)
