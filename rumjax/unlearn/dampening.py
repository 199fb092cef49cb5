"""Selective synaptic dampening: parameters that matter more to S than to D are shrunk, at once."""

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rumjax.descent import number_leaf
from rumjax.errors import check_choice, check_count
from rumjax.gradients import (
    batch_squared_gradient,
    mean_output_sensitivity,
    mean_squared_gradient,
)
from rumjax.models import Model
from rumjax.models.checks import check_model
from rumjax.sampling import share, share_size, shuffled, union
from rumjax.types import (
    Array,
    Dataset,
    Key,
    Metrics,
    PyTree,
    Subset,
    Task,
    Variables,
    record,
    static,
)
from rumjax.unlearn.cards import card
from rumjax.unlearn.one_shot import OneShot
from rumjax.unlearn.ranking import count, largest_rank, magnitude, rank

IMPORTANCES = ("example", "batch")


@record
class Dampening(OneShot):
    """θ_j ← min(λ·I_D[j]/I_S[j], 1)·θ_j where a parameter is selected; I is an importance."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    importance: str = static()
    batch_size: int = static()
    dampening: Array
    """λ"""
    retain_share: Array

    def changed(
        self, key: Key, variables: Variables, data: Dataset, task: Task
    ) -> tuple[PyTree, Metrics]:
        """Shrinks the parameters that are selected."""
        of_forget, of_all = self.importances(key, variables, data, task)
        selected, threshold = self.select(of_forget, of_all, task)
        params, metrics = dampened(variables.params, of_forget, of_all, selected, self.dampening)
        return params, {"alpha": threshold, **metrics}

    def importances(
        self, key: Key, variables: Variables, data: Dataset, task: Task
    ) -> tuple[PyTree, PyTree]:
        """Returns I_S and I_D, both like the parameters."""
        sampling, forgetting = jax.random.split(key)
        if self.importance == "batch":
            # The squares of batches are no means over examples: D is drawn and shuffled as a whole.
            forget = Subset(shuffled(forgetting, task.forget), task.forget.size)
            everything = share(sampling, union(task.forget, task.retain), self.retain_share)
            of_forget, of_all = (
                batch_squared_gradient(
                    self.model, variables, data, chosen, batch_size=self.batch_size
                )
                for chosen in (forget, everything)
            )
            return of_forget, of_all

        # The mean over D is the weighted mean of those over S and R, of which some may do for R.
        of_forget = self.mean(variables, data, task.forget)
        of_retain = self.mean(variables, data, share(sampling, task.retain, self.retain_share))
        weight = forget_share(task)
        return of_forget, jax.tree.map(
            lambda first, second: weight * first + (1 - weight) * second, of_forget, of_retain
        )

    def mean(self, variables: Variables, data: Dataset, chosen: Subset) -> PyTree:
        """Returns the mean importance over the examples of a subset."""
        return mean_squared_gradient(
            self.model, variables, data, chosen, micro_batch=self.micro_batch
        )

    def select(self, of_forget: PyTree, of_all: PyTree, task: Task) -> tuple[PyTree, Array]:
        """Returns which parameters are shrunk, and the α beyond which I_S/I_D makes it so."""
        raise TypeError(f"{type(self).__name__} does not define select")

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts a gradient of each example of S, and of the share of R, or of D for batches."""
        del data
        drawn = retain if self.importance == "example" else forget + retain
        return forget + int(share_size(self.retain_share, drawn))


@record
class SSD(Dampening):
    """Shrinks where I_S > α·I_D, I being the mean squared gradient of CE."""

    alpha: Array

    def select(self, of_forget: PyTree, of_all: PyTree, task: Task) -> tuple[PyTree, Array]:
        """Selects by the α that is given."""
        del task
        above = jax.tree.map(lambda first, second: first > self.alpha * second, of_forget, of_all)
        return above, self.alpha


@record
class LFSSD(SSD):
    """`SSD` without labels: I is the mean magnitude of the gradient of ‖z(x)‖²."""

    def mean(self, variables: Variables, data: Dataset, chosen: Subset) -> PyTree:
        """Returns the mean over the subset of |∂‖z(x)‖²/∂θ|."""
        return mean_output_sensitivity(
            self.model, variables, data, chosen, micro_batch=self.micro_batch
        )


@record
class ASSD(Dampening):
    """`SSD` whose α is a percentile of I_S/I_D that depends on |S|/|D| alone."""

    def select(self, of_forget: PyTree, of_all: PyTree, task: Task) -> tuple[PyTree, Array]:
        """Selects ln(1 + 100·│S│/│D│) % of the parameters, those of the largest I_S/I_D."""
        # Ratios that are no finite numbers are left out of the percentile.
        ratios = jax.tree.map(jnp.divide, of_forget, of_all)
        finite = [jnp.where(jnp.isinf(ratio), jnp.nan, ratio) for ratio in jax.tree.leaves(ratios)]
        ranks = [rank(ratio) for ratio in finite]
        known = count(ranks, lambda part: part > 0)

        # Among n numbers, so many are larger than a percentile that lies between two of them.
        fraction = jnp.log1p(100 * forget_share(task)) / 100
        room = jnp.ceil(fraction * jnp.maximum(known - 1, 0)).astype(jnp.int32)
        threshold = magnitude(largest_rank(ranks, room + 1))
        return jax.tree.map(lambda ratio: ratio > threshold, ratios), threshold


def forget_share(task: Task) -> Array:
    """Returns |S|/|D|; float32[]."""
    # A run that only compiles is of empty sets.
    total = jnp.maximum(task.forget.size + task.retain.size, 1)
    weight: Array = task.forget.size / total
    return weight


def dampened(
    params: PyTree, of_forget: PyTree, of_all: PyTree, selected: PyTree, dampening: ArrayLike
) -> tuple[PyTree, Metrics]:
    """Returns min(λ·I_D/I_S, 1)·θ where parameters are selected, and how many these are.

    Args:
      params: θ.
      of_forget: I_S, like the parameters.
      of_all: I_D.
      selected: booleans; I_S is above 0 where they are True.
      dampening: λ.

    Returns:
      The parameters, bit-identical where they are not selected; and the number that is `selected`,
      its share of all, the largest I_S/I_D, and `unchanged`, which is 1 if no parameter is shrunk.

    Examples:
      >>> params, of_forget = {"w": jnp.array([2.0, 2.0])}, {"w": jnp.array([4.0, 1.0])}
      >>> selected, of_all = {"w": jnp.array([True, False])}, {"w": jnp.array([1.0, 1.0])}
      >>> params, metrics = dampened(params, of_forget, of_all, selected, 1.0)
      >>> params["w"].tolist(), int(metrics["selected"]), int(metrics["unchanged"])
      ([0.5, 2.0], 1, 0)
    """

    def factor(first: Array, second: Array, chosen: Array) -> Array:
        ratio = dampening * second / jnp.where(chosen, first, 1)
        return jnp.where(chosen, jnp.minimum(ratio, 1), 1)

    def ratio(first: Array, second: Array) -> Array:
        return jnp.max(jnp.where(second > 0, first / jnp.where(second > 0, second, 1), 0))

    # What is not selected is not multiplied.
    factors = jax.tree.map(factor, of_forget, of_all, selected)
    after = jax.tree.map(
        lambda old, part, chosen: jnp.where(chosen, part * old, old), params, factors, selected
    )

    # What a reader of the results needs to know of it.
    leaves = jax.tree.leaves(selected)
    number = count(leaves, lambda part: part)
    shrunk = count(jax.tree.leaves(factors), lambda part: part < 1)
    ratios = jax.tree.leaves(jax.tree.map(ratio, of_forget, of_all))
    return after, {
        "selected": number,
        "selected_share": number / np.float32(sum(leaf.size for leaf in leaves)),
        "largest_ratio": jnp.max(jnp.stack(ratios)),
        "unchanged": (shrunk == 0).astype(jnp.int32),
    }


@card(
    "shrinks parameters whose squared gradients on S exceed α times those on S ∪ R",
    "Foster et al., AAAI 2024",
    ("S", "R"),
    "both",
)
def ssd(
    model: Model,
    *,
    alpha: ArrayLike = 10.0,
    dampening: ArrayLike = 1.0,
    importance: Literal["example", "batch"] = "example",
    retain_share: ArrayLike = 1.0,
    batch_size: int = 128,
    micro_batch: int = 32,
) -> SSD:
    """Makes selective synaptic dampening, which takes no step of descent.

    (Foster et al., AAAI 2024.) Where I_S[j] > α·I_D[j], θ_j becomes
    min(λ·I_D[j]/I_S[j], 1)·θ_j, with I_X[j] the mean over X of (∂ CE/∂θ_j)², of each example, at
    the given model with running batch-norm statistics, which stay. D is S ∪ R.

    It may do nothing, and says so: metrics are the number and the share of parameters `selected`,
    the `largest_ratio` I_S/I_D, and `unchanged`, which is 1 if no parameter was shrunk. D includes
    S, so I_S/I_D is at most |D|/|S|, and an α of that much or more selects nothing: the default
    does not where S is a tenth of D, or one of ten classes. Of a random S few ratios are far
    above 1; it was made for classes and subclasses.

    The released code squares the mean gradient of each batch, here `importance="batch"`. Those
    squares have expectation ḡ² + σ²/B: they depend on the batch size and on the order. An S of one
    batch then has ratios far from 1 by chance alone, and large α still select. So values of α do
    not carry over from one importance to the other; published ones were found with batches of 128.

    Args:
      model: the architecture of the original model.
      alpha: α. The authors take 10 for ResNet-18; for ViT-B/16 5 for classes, 25 for subclasses and
        10 for random sets; 50 for faces; all with "batch". With "example", search below |D|/|S|.
      dampening: λ. The authors take 1, for faces .1; a larger one shrinks less.
      importance: "example", the paper's formula, or "batch", the released code's.
      retain_share: share of R whose examples stand for all of R in I_D (with "batch", of D).
      batch_size: examples per square with "batch"; not used otherwise.
      micro_batch: per-example gradients at a time; the result does not depend on it.

    Raises:
      InvalidInputError: a number out of range, or an unknown importance.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = ssd(Model(Cnn(10)), alpha=5)
      >>> float(unlearner.alpha), float(unlearner.dampening), unlearner.importance
      (5.0, 1.0, 'example')
    """
    return SSD(
        **_fields(model, dampening, retain_share, micro_batch, importance, batch_size),
        alpha=number_leaf("alpha", alpha),
    )


@card(
    "the same without labels, by gradients of the squared norm of the logits",
    "Foster et al., ICLR 2024 (Tiny Papers)",
    ("S", "R"),
    "both",
)
def lfssd(
    model: Model,
    *,
    alpha: ArrayLike = 3.5,
    dampening: ArrayLike = 1.0,
    retain_share: ArrayLike = 1.0,
    micro_batch: int = 32,
) -> LFSSD:
    """Makes loss-free dampening, `ssd` with I_X[j] the mean over X of |∂‖z(x)‖²/∂θ_j|.

    (Foster et al., ICLR 2024, Tiny Papers track.) z are the logits; labels are not looked at. It
    reports as `ssd` does whether anything was selected. Its ratios are of magnitudes and not of
    squares, so values of α of `ssd` do not carry over to it. They too are at most |D|/|S|.

    Args:
      model: the architecture of the original model.
      alpha: α. The authors take 3.5 for random sets, 5 or 10 for classes.
      dampening: λ; the authors take 1.
      retain_share: share of R whose examples stand for all of R in I_D.
      micro_batch: per-example gradients at a time; the result does not depend on it.

    Raises:
      InvalidInputError: a number out of range.

    Examples:
      >>> from rumjax.models import Cnn
      >>> float(lfssd(Model(Cnn(10))).alpha)
      3.5
    """
    return LFSSD(
        **_fields(model, dampening, retain_share, micro_batch),
        alpha=number_leaf("alpha", alpha),
    )


@card(
    "the same, for a share of the parameters that follows from the sizes of S and R",
    "Schoepf et al., 2024 (arXiv 2402.10098)",
    ("S", "R"),
    "both",
)
def assd(
    model: Model,
    *,
    dampening: ArrayLike = 1.0,
    importance: Literal["example", "batch"] = "example",
    retain_share: ArrayLike = 1.0,
    batch_size: int = 128,
    micro_batch: int = 32,
) -> ASSD:
    """Makes adaptive dampening, `ssd` with an α that follows from the sizes of S and D.

    (Schoepf, Foster and Brintrup, arXiv 2402.10098, 2024.) α is the P-th percentile of all
    parameters' I_S/I_D, P = 100 − ln(1 + 100·│S│/│D│). So it selects .2 % of the parameters for
    100 examples of 45 000, and 2.4 % for 4500, whether they matter to S or not: it never does
    nothing for want of an α. The metrics are those of `ssd`, and `alpha` the one that was found.

    The authors' notebook takes R in place of D, and squares of batches as that of `ssd`.

    Args:
      model: the architecture of the original model.
      dampening: λ. The authors' notebook has .1, another implementation (SUPREME) 1.
      importance: as that of `ssd`.
      retain_share: as that of `ssd`.
      batch_size: as that of `ssd`.
      micro_batch: as that of `ssd`.

    Raises:
      InvalidInputError: a number out of range, or an unknown importance.

    Examples:
      >>> from rumjax.models import Cnn
      >>> float(assd(Model(Cnn(10)), dampening=0.1).dampening).__round__(3)
      0.1
    """
    return ASSD(**_fields(model, dampening, retain_share, micro_batch, importance, batch_size))


def _fields(
    model: Model,
    dampening: ArrayLike,
    retain_share: ArrayLike,
    micro_batch: int,
    importance: str = "example",
    batch_size: int = 1,
) -> dict[str, Any]:
    """Returns the validated fields of `Dampening`.

    Raises:
      InvalidInputError: a number out of range, or an unknown importance.
    """
    return {
        "model": check_model(model),
        "importance": check_choice("importance", importance, IMPORTANCES),
        "batch_size": check_count("batch_size", batch_size),
        "micro_batch": check_count("micro_batch", micro_batch),
        "dampening": number_leaf("dampening", dampening),
        "retain_share": number_leaf("retain_share", retain_share, most=1.0),
    }
