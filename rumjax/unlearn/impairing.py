"""UNSIR: noise impairs the classes to be forgotten, and a sample of the others repairs the rest."""

from typing import ClassVar, NamedTuple, Unpack

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, count_leaf, number_leaf, sgd_fields
from rumjax.errors import InvalidInputError, check_count
from rumjax.models import Model
from rumjax.sampling import membership, shuffled, union
from rumjax.types import (
    Array,
    Batch,
    Dataset,
    Key,
    Metrics,
    Subset,
    Task,
    TrainState,
    Variables,
    record,
    static,
)
from rumjax.unlearn.adversarial import mixed
from rumjax.unlearn.cards import card


class Impairment(NamedTuple):
    """What UNSIR makes before the first epoch."""

    pixels: Array
    """float32[M, H·W·C], noise on which θo errs most; not limited to 0…1"""
    labels: Array
    """int32[M], of the classes to be forgotten, in turns"""
    kept: Subset
    """the sample of R"""


@record
class Unsir(Sgd):
    """Minimizes CE on noise labelled with S's classes and on a sample of R, then on the sample."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""
    whole_classes: ClassVar[bool] = True
    """R must have no example of a class of S"""

    noise_images: int = static()
    repeats: int = static()
    noise_steps: Array
    noise_rate: Array
    penalty: Array
    retained: Array
    repair: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Makes the noise by the model as it was given, draws the sample of R, and keeps both."""
        noise_key, sample_key, key = jax.random.split(key, 3)

        # The classes of S, in turns.
        classes = self.model.signature(data.images).num_classes
        labels = jnp.asarray(data.labels)
        inside = membership(task.forget, len(data.labels))
        present = jnp.zeros(classes, bool).at[labels].max(inside)
        order = jnp.argsort(~present).astype(jnp.int32)
        turns = jnp.arange(self.noise_images) % jnp.maximum(jnp.sum(present), 1)
        pixels = self.noise(noise_key, variables, data, order[turns])

        kept = sample_of_each(sample_key, labels, task.retain, self.retained)
        memory = Impairment(pixels, order[turns], kept)
        return super().init(key, variables, data, task)._replace(memory=memory)

    def noise(self, key: Key, variables: Variables, data: Dataset, labels: Array) -> Array:
        """Returns float32[M, H·W·C] images that minimize penalty·mean‖n‖² − CE(n, label) under θo.

        n is what the network is given, after normalization.
        """
        form = (len(labels), *data.images.shape[1:])
        mean = np.asarray(self.model.mean, np.float32).reshape(1, 1, 1, -1)
        std = np.asarray(self.model.std, np.float32).reshape(1, 1, 1, -1)

        def loss(noise: Array) -> Array:
            outputs, _ = self.model.apply(variables, noise * std + mean, train=False)
            losses = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels)
            sizes = jnp.sum(noise**2, axis=(1, 2, 3))
            return jnp.mean(self.penalty * sizes - losses)

        rule = optax.adam(self.noise_rate)

        def step(_: Array, carry: tuple[Array, optax.OptState]) -> tuple[Array, optax.OptState]:
            noise, optimizer = carry
            updates, optimizer = rule.update(jax.grad(loss)(noise), optimizer)
            return noise + updates, optimizer

        noise = jax.random.normal(key, form, jnp.float32)
        noise, _ = jax.lax.fori_loop(0, self.noise_steps, step, (noise, rule.init(noise)))
        return (noise * std + mean).reshape(len(labels), -1)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs a pass over the sample of R, in the first epoch with the noise among it."""
        made: Impairment = state.memory
        size, count = len(data.labels), self.noise_images * self.repeats

        # Example N + i is noise number i mod M; after the first epoch there is none.
        there = jnp.where(state.epoch == 0, jnp.int32(count), 0)
        noise = Subset(size + jnp.arange(count, dtype=jnp.int32), there)
        labels = jnp.concatenate([jnp.asarray(data.labels), jnp.tile(made.labels, self.repeats)])

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            place = batch.indices - size
            rows = jnp.where(place < 0, -1, place % self.noise_images)
            return self.cross_entropy(variables, mixed(batch, made.pixels, rows))

        factor = jnp.where(state.epoch == 0, 1.0, self.repair)
        joined = Dataset(data.images, labels)
        chosen = (union(made.kept, noise),)
        return self.descend(state, joined, chosen, loss, rate=lambda progress: factor)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts those of the noise, and of passes over a sample of R as large as it may be."""
        others = self.model.signature(data.images).num_classes - 1
        kept = min(retain, int(self.retained) * others)
        noise = self.noise_images * (int(self.noise_steps) + self.repeats)
        return noise + self.epochs * kept


def sample_of_each(key: Key, labels: Array, chosen: Subset, most: ArrayLike) -> Subset:
    """Draws at most so many examples of each class of a subset, without replacement.

    Args:
      key: of the draw.
      labels: of all examples, int32[N].
      chosen: drawn from.
      most: how many of a class, int32[].

    Returns:
      A subset of the same capacity.

    Examples:
      >>> whole = Subset(jnp.arange(5), jnp.int32(5))
      >>> drawn = sample_of_each(jax.random.key(0), jnp.array([0, 1, 0, 0, 0]), whole, 2)
      >>> int(drawn.size)
      3
    """
    chex.assert_rank([labels, chosen.indices], 1)
    capacity = chosen.indices.shape[0]
    mixed_up = shuffled(key, chosen)
    inside = jnp.arange(capacity) < chosen.size
    # By class, and within a class in random order; padding is a class after all others.
    own = jnp.where(inside, labels[mixed_up], jnp.iinfo(jnp.int32).max)
    order = jnp.argsort(own, stable=True)
    rank = jnp.arange(capacity) - jnp.searchsorted(own[order], own[order], side="left")
    taken = (rank < most) & inside
    packed = jnp.argsort(~taken, stable=True)
    return Subset(mixed_up[order][packed], jnp.sum(taken, dtype=jnp.int32))


@card(
    "CE on a sample of R, at first along with noise labelled with S's classes",
    "Tarun et al., 2021 (arXiv 2111.08947)",
    ("R",),
    "classes",
)
def unsir(
    model: Model,
    *,
    epochs: int = 2,
    learning_rate: ArrayLike = 0.02,
    repair: ArrayLike = 0.5,
    noise_images: int = 256,
    repeats: int = 20,
    noise_steps: int = 40,
    noise_rate: ArrayLike = 0.1,
    penalty: ArrayLike = 0.1,
    retained: int = 1000,
    **options: Unpack[SgdOptions],
) -> Unsir:
    """Makes UNSIR, which impairs the classes of S by noise, and repairs the others.

    (Tarun et al., 2021.) Noise n is drawn and then moved by Adam to where
    penalty·mean‖n‖² − CE(n, c) is small, c being the class to be forgotten: n is what the original
    model takes least for c. The first epoch minimizes CE on a sample of R and the noise labelled c,
    the later ones on the sample alone. No image of S is looked at. It is for whole classes, and a
    run refuses an S of which R has classes too.

    The published notebook labels all noise 0, and copies use 80 repetitions and Adam at 1e-4. For
    several classes it makes noise for each; here they share `noise_images`.

    Args:
      model: the architecture of the original model.
      epochs: one that impairs and at least one that repairs.
      learning_rate: of the epoch that impairs.
      repair: learning rate of the epochs that repair, in parts of `learning_rate`.
      noise_images: M, different images of noise, made all at a time.
      repeats: how often each of them comes in the first epoch.
      noise_steps: of Adam, that make the noise.
      noise_rate: learning rate of those steps.
      penalty: weight of the noise's squared size, in the network's units.
      retained: the sample of R has at most so many of each class; the paper uses 500–1000.
      **options: see `SgdOptions`.

    Raises:
      InvalidInputError: no epoch is left to repair, or a number out of range.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = unsir(Model(Cnn(10)), noise_images=64)
      >>> unlearner.noise_images, unlearner.epochs
      (64, 2)
    """
    if check_count("epochs", epochs) < 2:
        raise InvalidInputError("epochs: 1 leaves none to repair; raise epochs to 2 or more")
    return Unsir(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        repair=number_leaf("repair", repair),
        noise_images=check_count("noise_images", noise_images),
        repeats=check_count("repeats", repeats),
        noise_steps=count_leaf("noise_steps", noise_steps, least=0),
        noise_rate=number_leaf("noise_rate", noise_rate),
        penalty=number_leaf("penalty", penalty),
        retained=count_leaf("retained", retained),
    )
