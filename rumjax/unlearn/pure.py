"""Running unlearners as a pure function, to be mapped over keys, settings and tasks."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from rumjax.checks import check_keys
from rumjax.errors import InvalidInputError, shown
from rumjax.types import Array, Dataset, Key, Task, Unlearner, Variables
from rumjax.unlearn.base import all_finite
from rumjax.unlearn.steps import Step, check_steps, check_unlearner

Record = TypeVar("Record", bound=Unlearner[Any])


def run_pure(
    key: Key, steps: Sequence[Step], variables: Variables | None, data: Dataset
) -> Variables:
    """Does what `rumjax.run` does as a pure function, for `jax.jit` and `jax.vmap`.

    The results are those of `run` up to rounding. A pure function cannot raise: where `run` raises
    a `DivergenceError`, all parameters are NaN. Arrays that are mapped or compiled are checked by
    their shapes and dtypes alone.

    Args:
      key: see `rumjax.run`.
      steps: see `rumjax.run`.
      variables: see `rumjax.run`.
      data: see `rumjax.run`.

    Returns:
      The unlearned model's variables.

    Raises:
      InvalidInputError: see `rumjax.run`.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.types import task
      >>> from rumjax.unlearn import chain, retrain
      >>> data = Dataset(jnp.zeros((4, 4, 4, 1), jnp.uint8), jnp.array([0, 1, 0, 1]))
      >>> recipe = retrain(Model(Cnn(2, widths=(), hidden=4)), epochs=1, batch_size=2)
      >>> steps, keys = chain(task([0], 4), recipe), jax.random.split(jax.random.key(0), 3)
      >>> seeds = jax.vmap(lambda key: run_pure(key, steps, None, data))(keys)
      >>> seeds.params["Dense_1"]["kernel"].shape
      (3, 4, 2)
    """
    key = check_keys("run_pure, key", key)
    steps, variables, data = check_steps("run_pure", steps, variables, data)
    data, finite = jax.tree.map(jnp.asarray, data), jnp.array(True)
    for position, step in enumerate(steps):
        task = jax.tree.map(jnp.asarray, step.task)

        # The epochs of a step, which may be as many as a mapped record says.
        def epoch(
            _: Array, carry: tuple[Any, Array], step: Step = step, task: Task = task
        ) -> tuple[Any, Array]:
            state, finite = carry
            state, metrics = step.unlearner.epoch(state, data, task)
            return state, finite & (jnp.asarray(metrics.get("diverged_at", -1)) < 0)

        state = step.unlearner.init(jax.random.fold_in(key, position), variables, data, task)
        state, finite = jax.lax.fori_loop(0, step.unlearner.epochs, epoch, (state, finite))
        variables = step.unlearner.finish(state)

    # A model that has diverged on the way is none.
    finite &= all_finite(variables)
    params = jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.nan), variables.params)
    return Variables(params, variables.batch_stats)


def grid(factory: Callable[..., Record], **values: Sequence[Any]) -> Record:
    """Returns one record of all settings of a grid, to be mapped over by `jax.vmap`.

    Args:
      factory: makes an unlearner of one value of each; `functools.partial(rumjax.finetune, model)`
        for instance, with whatever is the same for all.
      **values: the values of each hyper-parameter.

    Returns:
      A record whose numbers have a leading axis over all combinations, those of the last
      hyper-parameter next to each other.

    Raises:
      InvalidInputError: no values; settings that differ in more than numbers, such as in batch
        size; or a value that the factory refuses.

    Examples:
      >>> from functools import partial
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.unlearn import neggrad_plus
      >>> factory = partial(neggrad_plus, Model(Cnn(10)))
      >>> settings = grid(factory, learning_rate=[0.1, 0.5], beta=[0.75, 0.5, 0.25])
      >>> settings.beta.tolist()
      [0.75, 0.5, 0.25, 0.75, 0.5, 0.25]
    """
    # An unlearner for every combination.
    if not callable(factory):
        raise InvalidInputError(
            "grid: wanted a factory, functools.partial(rumjax.finetune, model) for instance, got "
            f"{shown(factory)}"
        )
    for name, choices in values.items():
        if isinstance(choices, str) or not hasattr(choices, "__len__") or not len(choices):
            raise InvalidInputError(f"grid, {name}: wanted some values, [0.01, 0.1] for instance")
    combinations = itertools.product(*values.values())
    try:
        records = [factory(**dict(zip(values, chosen, strict=True))) for chosen in combinations]
    except TypeError as error:
        raise InvalidInputError(
            f"grid: the factory does not take {', '.join(values)}: {error}"
        ) from error
    for record in records:
        check_unlearner("grid, result of the factory", record)

    # All as one, if the compiler need not tell them apart.
    if len({jax.tree.structure(record) for record in records}) > 1:
        raise InvalidInputError(
            f"grid: the settings differ in more than numbers; {', '.join(values)} must not change "
            "batch sizes, models, or how many numbers there are"
        )
    stacked: Record = jax.tree.map(lambda *leaves: jnp.stack(leaves), *records)
    return stacked
