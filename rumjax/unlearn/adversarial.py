"""AMUN: fine-tuning on images that are so near to the forget set that the model errs on them."""

import math
from typing import Any, NamedTuple, Unpack

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, count_leaf, number_leaf, sgd_fields
from rumjax.errors import check_choice
from rumjax.gradients import for_each
from rumjax.models import Model
from rumjax.sampling import union
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
from rumjax.unlearn.cards import card

VARIANTS = ("full", "without_retain", "adversarial_only")


class Adversaries(NamedTuple):
    """An image near each example of S that the attacked model takes for another class."""

    pixels: Array
    """float32[capacity, H·W·C], in 0…1, and never rounded to whole steps of 1/255"""
    labels: Array
    """int32[capacity], the class that the model sees; where `found`, not the example's own"""
    found: Array
    """bool[capacity], False for padding and where no radius was enough"""


@record
class Amun(Sgd):
    """Minimizes CE on R ∪ S ∪ A, A being adversarial images of S, labelled as θo sees them."""

    variant: str = static()
    radius: Array
    steps: Array
    radii: Array
    decay: Array
    decay_every: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Makes A by the model as it was given, and keeps it."""
        made = adversaries(
            self.model,
            variables,
            data,
            task.forget,
            radius=self.radius,
            steps=self.steps,
            radii=self.radii,
            batch_size=self.batch_size,
        )
        return super().init(key, variables, data, task)._replace(memory=made)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R, S and A, or over two of them; A is not augmented."""
        made: Adversaries = state.memory
        size = len(data.labels)

        # Example N + i is the i-th adversary.
        chosen = Subset(
            size + jnp.argsort(~made.found).astype(jnp.int32),
            jnp.sum(made.found, dtype=jnp.int32),
        )
        if self.variant != "adversarial_only":
            chosen = union(task.forget, chosen)
        if self.variant != "without_retain":
            chosen = union(task.retain, chosen)
        labels = jnp.concatenate([jnp.asarray(data.labels), made.labels])

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            return self.cross_entropy(variables, mixed(batch, made.pixels, batch.indices - size))

        factor = self.decay ** (state.epoch // self.decay_every).astype(jnp.float32)
        state, metrics = self.descend(
            state, Dataset(data.images, labels), (chosen,), loss, rate=lambda progress: factor
        )
        return state, {**metrics, "adversaries": jnp.sum(made.found, dtype=jnp.int32)}

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts those of passes, and those of the attack as if one radius were enough for all.

        How many the attack takes is known afterwards only: one if the model errs on the example
        already, up to `radii` times as many as are counted if it resists.
        """
        natural = {"full": retain + forget, "without_retain": forget, "adversarial_only": retain}
        return int(self.steps) * forget + self.epochs * (natural[self.variant] + forget)


def mixed(batch: Batch, pixels: Array, rows: Array) -> Batch:
    """Returns a batch of float images, some of which are taken from elsewhere.

    Args:
      batch: of D, augmented.
      pixels: float32[M, H·W·C], in 0…1.
      rows: int32[B], which of them replace the images; where below 0, an image stays as it is.

    Returns:
      The batch with float32[B, H, W, C] images.
    """
    chex.assert_rank([pixels, rows], [2, 1])
    taken = pixels[jnp.clip(rows, 0, len(pixels) - 1)].reshape(batch.images.shape)
    replaced = (rows >= 0)[:, None, None, None]
    return batch._replace(images=jnp.where(replaced, taken, as_floats(batch.images)))


def as_floats(images: Array) -> Array:
    """Returns images as float32, those of uint8 divided by 255."""
    scale = 255.0 if images.dtype == jnp.uint8 else 1.0
    return images.astype(jnp.float32) / scale


def margin(logits: Array, labels: Array) -> Array:
    """Returns log Σ_{k≠y} exp z_k − z_y of float32[B, K] logits, float32[B].

    CE is log(1 + exp(margin)), so it rises in the same direction; but where p_y rounds to 1, the
    gradient of CE lacks y's part or is 0, and this one is right.
    """
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
    return others - jnp.sum(jnp.where(own, logits, 0.0), axis=-1)


def uphill(model: Model, variables: Variables, images: Array, labels: Array) -> tuple[Array, Array]:
    """Returns the gradient of the margin with respect to float images, like them, and logits.

    The model predicts, with the running statistics of batch norm.
    """

    def total(images: Array) -> tuple[Array, Array]:
        outputs, _ = model.apply(variables, images, train=False)
        return jnp.sum(margin(outputs.logits, labels)), outputs.logits

    return jax.grad(total, has_aux=True)(images)


def adversaries(
    model: Model,
    variables: Variables,
    data: Dataset,
    chosen: Subset,
    *,
    radius: ArrayLike,
    steps: ArrayLike,
    radii: ArrayLike,
    batch_size: int,
) -> Adversaries:
    """Attacks every example of a subset by projected gradients, `batch_size` at a time.

    Steps of a tenth of the radius along the unit gradient of CE, each projected on the ball round
    the image and on 0…1, end at the first point that the model takes for another class than the
    example's. If there is none, it begins again at the image with twice the radius. An example
    that the model errs on already is its own adversary.

    Args:
      model: the architecture.
      variables: of the model that is attacked, which predicts, as with `train=False`.
      data: all examples.
      chosen: the subset.
      radius: the first radius, L2 of pixels in 0…1.
      steps: at most so many for each radius.
      radii: how many radii are tried.
      batch_size: how many examples are attacked at a time.
    """

    def attack(images: Array, labels: Array, wanted: Array) -> Adversaries:
        points, seen, found = _attack(
            model, variables, as_floats(images), labels, wanted, radius, steps, radii
        )
        return Adversaries(points.reshape(len(points), -1), seen, found)

    capacity, width = chosen.indices.shape[0], math.prod(data.images.shape[1:])
    none = Adversaries(
        jnp.zeros((capacity, width), jnp.float32),
        jnp.zeros(capacity, jnp.int32),
        jnp.zeros(capacity, bool),
    )
    return for_each(attack, none, data, chosen, batch_size)


def _attack(
    model: Model,
    variables: Variables,
    images: Array,
    labels: Array,
    wanted: Array,
    radius: ArrayLike,
    steps: ArrayLike,
    radii: ArrayLike,
) -> tuple[Array, Array, Array]:
    """Attacks float images; see `adversaries`.

    Returns:
      Points like the images; the classes that the model sees there, int32[B]; and where it errs,
      bool[B], nowhere but where `wanted`.
    """

    def goes_on(carry: Any) -> Array:
        turn, _, _, _, trying = carry
        return jnp.any(trying) & (turn < radii * (steps + 1))

    def step(carry: Any) -> Any:
        # Who is taken for another class stays where it is, whatever the others do.
        turn, reach, points, seen, trying = carry
        gradient, logits = uphill(model, variables, points, labels)
        seen = jnp.where(trying, jnp.argmax(logits, axis=-1).astype(jnp.int32), seen)
        trying = trying & (seen == labels)

        # The others go uphill, or begin again with twice the radius.
        length = jnp.maximum(_norm(gradient), 1e-30)
        moved = points + reach / 10 * gradient / length - images
        moved = moved * jnp.minimum(1.0, reach / jnp.maximum(_norm(moved), 1e-30))
        inside = jnp.clip(images + moved, 0.0, 1.0)
        exhausted = turn % (steps + 1) == steps
        further = jnp.where(exhausted, images, inside)
        points = jnp.where(trying[:, None, None, None], further, points)
        return turn + 1, jnp.where(exhausted, 2 * reach, reach), points, seen, trying

    start = (jnp.int32(0), jnp.float32(radius), images, labels.astype(jnp.int32), wanted)
    _, _, points, seen, trying = jax.lax.while_loop(goes_on, step, start)
    return points, seen, wanted & ~trying


def _norm(images: Array) -> Array:
    """Returns the L2 norm of each image, float32[B, 1, 1, 1]."""
    return jnp.sqrt(jnp.sum(images**2, axis=(1, 2, 3), keepdims=True))


@card(
    "CE on R ∪ S ∪ A, A being adversarial images of S with the labels that θo gives them",
    "Ebrahimpour-Boroojeny et al., ICML 2025",
    ("S", "R"),
)
def amun(
    model: Model,
    *,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    variant: str = "full",
    radius: ArrayLike = 0.04,
    steps: int = 50,
    radii: int = 12,
    decay: ArrayLike = 0.1,
    decay_every: int = 1,
    **options: Unpack[SgdOptions],
) -> Amun:
    """Makes AMUN, which minimizes CE on R ∪ S ∪ A, A being adversarial images of S.

    (Ebrahimpour-Boroojeny et al., ICML 2025.) For each example of S, A has an image
    near it that the original model takes for another class, with that class as its label. A is made
    once, by L2 projected gradient ascent, and stays in float32. It was made for examples. Without
    R it works as well, see `variant`. If S is empty, it is `finetune` with a decaying rate.

    The published code doubles the radius until it succeeds; here an example that resists all radii
    is left out of A, and a run reports how many `adversaries` there are. ReGUn's version of AMUN
    begins at .1, doubles 6 times at most, and does not decay the rate.

    Args:
      model: the architecture of the original model.
      epochs: passes over the sets; the AMUN paper uses 10.
      learning_rate: at the start; the AMUN paper searches 1e-5–.1.
      variant: "full", R ∪ S ∪ A with S's true labels; "without_retain", S ∪ A; or
        "adversarial_only", R ∪ A.
      radius: the first one of the attack, L2 of pixels in 0…1.
      steps: of the attack, at most so many for each radius.
      radii: how many radii are tried, each twice the one before.
      decay: factor of the learning rate after every `decay_every` epochs.
      decay_every: the AMUN paper searches 1, 5 and 10.
      **options: see `SgdOptions`; by default 128 examples per step and attacked at a time, as in
        the AMUN paper, which takes 256 on Tiny-ImageNet.

    Raises:
      InvalidInputError: an unknown variant, or a number out of range.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = amun(Model(Cnn(10)), variant="without_retain", radius=0.1)
      >>> unlearner.variant, unlearner.batch_size, round(float(unlearner.radius), 3)
      ('without_retain', 128, 0.1)
    """
    defaults: SgdOptions = {"batch_size": 128}
    return Amun(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(defaults | options)),
        variant=check_choice("variant", variant, VARIANTS),
        radius=number_leaf("radius", radius, least=1e-6),
        steps=count_leaf("steps", steps),
        radii=count_leaf("radii", radii),
        decay=number_leaf("decay", decay, most=1.0),
        decay_every=count_leaf("decay_every", decay_every),
    )
