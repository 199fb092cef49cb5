"""Fisher forgetting: noise on every parameter, the more the less R depends on it."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from rumjax.descent import number_leaf
from rumjax.errors import InvalidInputError, check_count, check_flag
from rumjax.gradients import true_fisher_diagonal
from rumjax.models import Model, classifier
from rumjax.models.checks import check_model
from rumjax.sampling import share, share_size
from rumjax.types import (
    Array,
    Dataset,
    Key,
    Metrics,
    PyTree,
    Task,
    Variables,
    record,
    static,
)
from rumjax.unlearn.cards import card
from rumjax.unlearn.one_shot import OneShot

FLOOR = 1e-8
"""added to F, so that what R does not depend on has a finite variance"""
ERASED = 1e-4
"""variance of the noise that replaces the weights of a forgotten class"""


@record
class FisherNoise(OneShot):
    """θ_j ← θ_j + ε_j, ε_j normal of variance α·min((F_j + 1e-8)^2p, c), F the Fisher of R."""

    reads_network: ClassVar[bool] = True
    """it may refuse a network"""

    per_unit: bool = static()
    forgotten_class: int | None = static()
    alpha: Array
    exponent: Array
    """p"""
    cap: Array
    """c"""
    retain_share: Array

    def changed(
        self, key: Key, variables: Variables, data: Dataset, task: Task
    ) -> tuple[PyTree, Metrics]:
        """Adds the noise."""
        sampling, drawing, erasing = jax.random.split(key, 3)
        params = variables.params
        fisher = true_fisher_diagonal(
            self.model,
            variables,
            data,
            share(sampling, task.retain, self.retain_share),
            micro_batch=self.micro_batch,
        )
        factors = jax.tree.map(self.factor, fisher)
        noise = normal(drawing, jax.tree.map(lambda part: jnp.sqrt(self.alpha * part), factors))

        # What has no noise keeps its bits: adding +0.0 would turn a parameter of -0.0 into +0.0.
        moved = jax.tree.map(lambda old, by: jnp.where(by == 0, old, old + by), params, noise)
        if self.forgotten_class is not None:
            moved = self.erase(erasing, moved, data, self.forgotten_class)

        capped = [jnp.sum(part >= self.cap) for part in jax.tree.leaves(factors)]
        size = np.float32(sum(leaf.size for leaf in jax.tree.leaves(params)))
        return moved, {"noise_norm": optax.tree.norm(noise), "capped_share": sum(capped) / size}

    def factor(self, fisher: Array) -> Array:
        """Returns the variance of the noise on a leaf, over α; falls with the Fisher."""
        variance = jnp.minimum((fisher + FLOOR) ** (2 * self.exponent), self.cap)
        if self.per_unit and variance.ndim > 1:
            mean = jnp.mean(variance, axis=-2, keepdims=True)
            variance = jnp.broadcast_to(mean, variance.shape)
        return variance

    def erase(self, key: Key, params: PyTree, data: Dataset, label: int) -> PyTree:
        """Replaces the weights of a class in the last layer by noise about 0."""
        classes = self.model.signature(data.images).num_classes
        mask = classifier(self.model, data.images).params
        sizes = {leaf.shape[-1] for leaf in jax.tree.leaves(jax.tree.map(_chosen, params, mask))}
        if sizes != {classes} or label >= classes:
            raise InvalidInputError(
                f"fisher_noise, forgotten_class: {label} of {classes} classes, and a last layer of "
                f"widths {sorted(sizes)}; wanted a class below their number, and as many weights"
            )

        def erased(leaf: Array, last: bool, drawn: Array) -> Array:
            return leaf.at[..., label].set(drawn[..., label]) if last else leaf

        deviations = jax.tree.map(lambda leaf: jnp.full_like(leaf, ERASED**0.5), params)
        return jax.tree.map(erased, params, mask, normal(key, deviations))

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts a gradient of each example drawn of R for each class."""
        del forget
        classes = self.model.signature(data.images).num_classes
        return classes * int(share_size(self.retain_share, retain))


def _chosen(leaf: Array, chosen: bool) -> Array | None:
    """Returns an array, or None if it is not chosen."""
    return leaf if chosen else None


def normal(key: Key, deviations: PyTree) -> PyTree:
    """Returns independent normal numbers of the standard deviations given, of every leaf.

    Examples:
      >>> found = normal(jax.random.key(0), {"a": {"b": jnp.zeros(2)}, "c": jnp.ones(3)})
      >>> bool((found["a"]["b"] == 0).all()), bool((found["c"] == 0).any())
      (True, False)
    """
    leaves, structure = jax.tree.flatten(deviations)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        leaf * jax.random.normal(one, leaf.shape, leaf.dtype)
        for one, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


@card(
    "adds noise to every parameter, the more the less R depends on it",
    "Golatkar et al., CVPR 2020",
    ("R",),
    "both",
)
def fisher_noise(
    model: Model,
    *,
    alpha: ArrayLike = 1e-6,
    exponent: ArrayLike = -0.5,
    cap: ArrayLike = 1e3,
    per_unit: bool = False,
    forgotten_class: int | None = None,
    retain_share: ArrayLike = 1.0,
    micro_batch: int = 32,
) -> FisherNoise:
    """Makes Fisher forgetting, which adds noise to every parameter, once.

    (Golatkar et al., CVPR 2020.) θ_j gets normal noise of standard deviation
    √α·min((F_j + 1e-8)^p, √c), F_j the diagonal of the Fisher at the given model: the mean over R
    of Σ_y p(y|x)·(∂ CE(x, y)/∂θ_j)² with running batch-norm statistics, which stay.

    The paper's standard deviation is (λσ²)^¼·F^(−¼), which is exponent −.25 with α = √(λσ²). Its
    released code has exponent −.5, for which α is published: so this is the default. Besides,
    that code averages variances over the inputs of each unit (`per_unit`), and erases a class from
    the last layer (`forgotten_class`). It also has a cap of 100 in the last layer, and multiplies
    variances there and of biases and scales by 10; neither is done here. Several reimplementations
    take true labels, or square means of batches, which is not the Fisher.

    Metrics are the `noise_norm`, and the share of parameters whose variance is at the cap,
    `capped_share`: if that is near 1, the noise hardly depends on the Fisher.

    Args:
      model: the architecture of the original model.
      alpha: α; the authors take 1e-6 and search 1e-8–1e-5, with exponent −.5. Another exponent
        needs another α.
      exponent: p, in −1…0; the paper's is −.25, its code's −.5.
      cap: c, the largest variance over α; the released code's is 1000.
      per_unit: averages variances over the input axis, the last but one, of kernels.
      forgotten_class: replaces the last layer's weights of this class by noise about 0 of variance
        1e-4, as the released code does where all of a class is forgotten.
      retain_share: share of R, drawn at random, whose examples make F.
      micro_batch: per-example gradients at a time; the result does not depend on it.

    Raises:
      InvalidInputError: a number out of range; or, in a run, a class that the model does not have.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = fisher_noise(Model(Cnn(10)), alpha=1e-4, exponent=-0.25)
      >>> float(unlearner.exponent), float(unlearner.cap)
      (-0.25, 1000.0)
    """
    return FisherNoise(
        model=check_model(model),
        micro_batch=check_count("micro_batch", micro_batch),
        per_unit=check_flag("per_unit", per_unit),
        forgotten_class=(
            None
            if forgotten_class is None
            else check_count("forgotten_class", forgotten_class, least=0)
        ),
        alpha=number_leaf("alpha", alpha),
        exponent=number_leaf("exponent", exponent, least=-1.0, most=0.0),
        cap=number_leaf("cap", cap),
        retain_share=number_leaf("retain_share", retain_share, most=1.0),
    )
