"""Training of shards, slice by slice; forgetting is training again from a slice on."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rumjax.checks import check_data, check_keys
from rumjax.descent import Sgd
from rumjax.ensemble import Epoch, Job, make
from rumjax.errors import InvalidInputError, check_indices, shown
from rumjax.sisa.keeping import Ensemble, check_ensemble
from rumjax.sisa.plans import (
    Cost,
    Plan,
    all_forgotten,
    check_left,
    check_plan,
    cost,
    epochs_by_slice,
)
from rumjax.training import Recipe
from rumjax.types import Array, Dataset, Key, Task, TrainState, Variables, record, subset
from rumjax.unlearn.steps import Step

NUMBERS = (
    *("epochs", "batch_size", "learning_rate", "schedule", "milestones", "decay"),
    *("momentum", "weight_decay", "batch_norm", "warm_up", "label_smoothing"),
    *("optimizer", "sharpness", "sharpness_radius", "sharpness_strength"),
)
"""the fields of a recipe that an ensemble remembers"""
LATER = {
    "warm_up": 0.0,
    "label_smoothing": 0.0,
    "optimizer": "sgd",
    "sharpness": "none",
    "sharpness_radius": 0.0,
    "sharpness_strength": 1.0,
}
"""fields that ensembles of earlier versions do not name, and what those were trained by"""


@record
class Slice(Recipe):
    """Training on the first slices of a shard, from the model before the last of them.

    Every slice goes through the whole schedule of the recipe, in the epochs that it has: examples
    of the last slice are learned at full rate too.
    """

    from_scratch: ClassVar[bool] = False

    planned: int
    """the epochs of the recipe"""

    def init(self, key: Key, variables: Variables | None, data: Dataset, task: Task) -> TrainState:
        """Returns the state before the first epoch: the variables given, and no momentum yet."""
        assert variables is not None
        return Sgd.init(self, key, variables, data, task)

    def rate(self, progress: Array) -> ArrayLike:
        """Returns the factor of the learning rate after `progress` epochs on this slice."""
        whole = dataclasses.replace(self, epochs=self.planned)
        return Recipe.rate(whole, progress * self.planned / self.epochs)


class Forgotten(NamedTuple):
    """The result of a request.

    Examples:
      >>> Forgotten(ensemble=None, cost=Cost({2: 1}, 0, 100)).cost.retrained
      {2: 1}
    """

    ensemble: Ensemble
    cost: Cost
    """as it was paid"""


def train(
    key: Key,
    plan: Plan,
    recipe: Recipe,
    data: Dataset,
    *,
    already_forgotten: Any = (),
    per_device: int | str = 1,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Ensemble:
    """Trains a model on every shard, slice by slice; shards are spread over the local devices.

    Args:
      key: of all models.
      plan: of `rumjax.sisa.plan`.
      recipe: of `rumjax.retrain`; for its epochs see `epochs_by_slice`.
      data: all of D.
      already_forgotten: distinct integers below N, which no model sees.
      per_device: models that a device holds at a time, at most, see `rumjax.ensemble.arrange`.
        With more than one, an accelerator trains shards of equal size side by side, and what a
        request leaves equals training from scratch up to rounding, not to the bit.
      on_epoch: called after every epoch, see `rumjax.ensemble.make`.

    Raises:
      InvalidInputError: no plan, recipe or key, a plan for other data, too few epochs for the
        slices, or all examples are forgotten.
      DivergenceError: a model has diverged; names its shard and slice.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.sisa.plans import plan
      >>> from rumjax.unlearn import retrain
      >>> data = Dataset(jnp.zeros((6, 2, 2, 1), jnp.uint8), jnp.array([0, 1] * 3))
      >>> recipe = retrain(Model(Cnn(2, widths=(), hidden=4)), epochs=2, batch_size=2)
      >>> ensemble = train(jax.random.key(0), plan(6, shards=2, slices=2), recipe, data)
      >>> ensemble.checkpoints.params["Dense_1"]["kernel"].shape
      (2, 2, 4, 2)
    """
    # What goes together.
    key, plan = check_keys("sisa, key", key), check_plan(plan)
    data = _checked(plan, recipe, data)
    before = check_indices("already forgotten", already_forgotten, plan.size, allow_empty=True)
    check_left(plan.size, before)

    # Room for all models, which are trained from their first slices on.
    room = jax.tree.map(
        lambda leaf: np.zeros((plan.shards, plan.slices, *leaf.shape), leaf.dtype),
        recipe.model.signature(data.images).variables,
    )
    empty = Ensemble(plan, key, json.dumps(_numbers(recipe)), before, room)
    starts = dict.fromkeys(range(plan.shards), 0)
    return _trained(empty, recipe, data, starts, per_device, on_epoch)[0]


def forget(
    ensemble: Ensemble,
    recipe: Recipe,
    data: Dataset,
    forget: Any,
    *,
    already_forgotten: Any = None,
    per_device: int | str = 1,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Forgotten:
    """Forgets examples: trains the shards that hold them again, from before the earliest slice.

    A shard of which nothing is left has no vote any more, see `rumjax.sisa.models`.

    Args:
      ensemble: of `train` or of the last request; it is left as it is.
      recipe: that it was trained by.
      data: all of D. What is forgotten is never read, so its images may be blank by now.
      forget: distinct integers below N, none of them already forgotten.
      already_forgotten: what the caller's log says was forgotten before, to be compared with
        what the ensemble says; None compares nothing.
      per_device: that it was trained with, see `train`.
      on_epoch: see `train`.

    Raises:
      InvalidInputError: nothing to forget, examples that are out of range, named twice or
        forgotten already, all that is left, another history, another recipe, or other data.
      DivergenceError: a model has diverged; names its shard and slice.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.sisa.plans import plan
      >>> from rumjax.unlearn import retrain
      >>> data = Dataset(jnp.zeros((6, 2, 2, 1), jnp.uint8), jnp.array([0, 1] * 3))
      >>> recipe = retrain(Model(Cnn(2, widths=(), hidden=4)), epochs=2, batch_size=2)
      >>> ensemble = train(jax.random.key(0), plan(6, shards=2, slices=2), recipe, data)
      >>> after = forget(ensemble, recipe, data, [1, 3])
      >>> after.cost.retrained, after.ensemble.forgotten
      ({0: 0, 1: 0}, array([1, 3], dtype=int32))
    """
    # The same recipe, data and history.
    plan, before = check_ensemble(ensemble).plan, ensemble.forgotten
    data = _checked(plan, recipe, data)
    check_recipe(ensemble, recipe)
    if already_forgotten is not None:
        _check_history(plan, before, already_forgotten)

    # Shards that are touched, without what is forgotten now or was before.
    price = cost(plan, int(recipe.epochs), forget, before)
    without = ensemble._replace(forgotten=all_forgotten(plan.size, forget, before))
    after, gradients = _trained(without, recipe, data, price.retrained, per_device, on_epoch)
    return Forgotten(after, price._replace(gradients=gradients))


def _trained(
    ensemble: Ensemble,
    recipe: Recipe,
    data: Dataset,
    starts: Mapping[int, int],
    per_device: int | str,
    on_epoch: Callable[[Epoch], None] | None,
) -> tuple[Ensemble, int]:
    """Trains shards, each from a slice on, without what the ensemble has forgotten.

    Returns:
      The ensemble with their models in the place of others, and how many gradients were taken.
    """
    checkpoints, gradients = jax.tree.map(np.copy, ensemble.checkpoints), 0

    def keep(shard: int, position: int, variables: Variables) -> None:
        for room, leaf in zip(
            jax.tree.leaves(checkpoints), jax.tree.leaves(variables), strict=True
        ):
            room[shard, position] = leaf

    for position in range(ensemble.plan.slices):
        # Shards of one size share a program, and are trained at the same time.
        alike: dict[int, list[Job]] = {}
        for job in _jobs(ensemble, checkpoints, recipe, data, starts, position):
            size = int(job.steps[0].task.retain.size)
            if size:
                alike.setdefault(size, []).append(job)
            else:  # nothing is left of the slices so far
                keep(job.about, position, job.variables)  # type: ignore[arg-type]
        for size, jobs in alike.items():
            made = make(jobs, data, most_per_device=per_device, on_epoch=on_epoch)
            for job, result in made:
                keep(job.about, position, result.read)
                gradients += size * len(result.curve)
    return ensemble._replace(checkpoints=checkpoints), gradients


def _jobs(
    ensemble: Ensemble,
    checkpoints: Variables,
    recipe: Recipe,
    data: Dataset,
    starts: Mapping[int, int],
    position: int,
) -> Iterator[Job]:
    """Yields the training of a slice, for each shard that begins at it or has begun before."""
    plan = ensemble.plan
    epochs = epochs_by_slice(int(recipe.epochs), plan.slices)
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    unlearner = Slice(**fields | {"epochs": epochs[position], "planned": recipe.epochs})
    # The same room for every union, now and after all requests: one compilation.
    capacity = int(np.bincount(plan.shard_of).max())
    for shard in (shard for shard, first in starts.items() if first <= position):
        # The model before, and the examples.
        init_key, slices_key = jax.random.split(jax.random.fold_in(ensemble.key, shard))
        if position:
            before = jax.tree.map(lambda leaf, shard=shard: leaf[shard, position - 1], checkpoints)
        else:
            before = recipe.model.init(init_key, data.images[:1])
        union = plan.union(shard, position, ensemble.forgotten)
        task = Task(subset([]), subset(union, capacity=capacity))
        yield Job(
            f"shard {shard}",
            jax.random.fold_in(slices_key, position),
            (Step(f"slice {position}", unlearner, task),),
            before,
            about=shard,
        )


def _checked(plan: Plan, recipe: Any, data: Any) -> Dataset:
    """Returns data on the device, if plan and recipe suit them.

    Raises:
      InvalidInputError: they do not.
    """
    if type(recipe) is not Recipe:  # what one of another class does is not known
        raise InvalidInputError(
            f"sisa: wanted a recipe, rumjax.retrain(model, epochs=…), got {shown(recipe)}"
        )
    data = check_data("sisa, data", data, recipe.model)
    if len(data.labels) != plan.size:
        raise InvalidInputError(
            f"sisa: the plan is of {plan.size} examples, the data has {len(data.labels)}; plan "
            "once for all of D, and leave forgotten examples in their places, blank if need be"
        )
    epochs_by_slice(recipe.epochs, plan.slices)
    return Dataset(*map(jnp.asarray, data))


def _numbers(recipe: Recipe) -> dict[str, Any]:
    """Returns the numbers of a recipe and of its model, as JSON has them."""
    fields = {name: getattr(recipe, name) for name in NUMBERS}
    fields |= {"mean": recipe.model.mean, "std": recipe.model.std}
    augmentation = str(recipe.augmentation).split(" at 0x")[0]
    # As ensembles of earlier versions have it.
    fields["augmentation"] = augmentation.replace(", cutout=0)", ")")
    plain = {
        name: np.asarray(value).item() if hasattr(value, "dtype") else value
        for name, value in fields.items()
    }
    return dict(json.loads(json.dumps(plain)))


def check_recipe(ensemble: Ensemble, recipe: Recipe) -> None:
    """Checks that a recipe has the numbers of the one that an ensemble was trained by.

    Raises:
      InvalidInputError: it has not; names those that differ.
    """
    trained_by, numbers = LATER | json.loads(ensemble.recipe), _numbers(recipe)
    names = [name for name in numbers if numbers[name] != trained_by.get(name)]
    if names:
        changes = ", ".join(f"{name} {trained_by.get(name)!r}" for name in names)
        raise InvalidInputError(
            f"sisa: the recipe is not that of the ensemble, which has {changes}; only by the same "
            "recipe is forgetting exact"
        )


def _check_history(plan: Plan, forgotten: np.ndarray, given: Any) -> None:
    """Checks that the caller's history is that of the ensemble.

    Raises:
      InvalidInputError: they differ.
    """
    given = check_indices("already forgotten", given, plan.size, allow_empty=True)
    differing = np.setxor1d(given, forgotten)
    if differing.size:
        raise InvalidInputError(
            f"already forgotten: {len(given)} examples are named, and the ensemble has forgotten "
            f"{len(forgotten)}; {differing.size} are in one of the two only, the first is "
            f"{differing[0]}; take the ensemble that the last request left"
        )
