"""Relearn time: epochs of fine-tuning on S alone until a model's accuracy on S is back.

A model that has forgotten S in name only is quick to learn it again. Compare it with the oracle, a
model that has never seen S.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rumjax import ensemble
from rumjax.checks import check_data, check_keys
from rumjax.descent import SgdOptions
from rumjax.errors import (
    DivergenceError,
    InvalidInputError,
    check_indices,
    check_most,
    check_scalar,
)
from rumjax.models import Model, predict
from rumjax.types import Array, Dataset, Key, Variables, task
from rumjax.unlearn import chain, finetune

ROUNDING = 1e-6
"""By which an accuracy may fall short: targets may have been kept in float32."""


class Relearned(NamedTuple):
    """The course of a model that learned S again.

    Examples:
      >>> Relearned(epochs=1, accuracies=(0.3, 0.9)).diverged is None
      True
    """

    epochs: int | None
    """until its accuracy was back; 0 if it was never lost, None if it did not come back in time"""
    accuracies: tuple[float, ...]
    """on S, before the first epoch and after each; they end where the model diverged"""
    diverged: DivergenceError | None = None
    """the error, if the model diverged"""


def relearn_times(
    names: Sequence[str],
    keys: Key,
    variables: Sequence[Variables],
    forget: np.ndarray,
    data: Dataset,
    *,
    model: Model,
    learning_rate: ArrayLike,
    epochs: int,
    target: Sequence[float] | float,
    margin: float = 0.0,
    per_device: int | str = "auto",
    **options: Unpack[SgdOptions],
) -> list[Relearned]:
    """Teaches models S again, and counts the epochs that they take.

    (Golatkar et al., CVPR 2020, arXiv 1911.04933, until the loss is regained; Tarun et al., arXiv
    2111.08947, until the accuracy is.) The ratio of an unlearned model's epochs to the oracle's is
    the anamnesis index of Chundawat et al., arXiv 2201.05629.

    Models are trained like those that `rumjax.run` makes by `finetune` on S, many at a time by one
    compiled program, which is compiled anew only for another model, batch size or |S|.

    Args:
      names: of the m models, all different.
      keys: as `rumjax.run` wants them, [m].
      variables: of each model, left as they are.
      forget: S, indices into `data`, the same for all models.
      data: D, and whatever comes after it.
      model: the architecture of all of them.
      learning_rate: of fine-tuning, constant.
      epochs: after which a model that is not there yet has not relearned.
      target: the accuracy on S to regain, of each model, in 0…1: its original model's.
      margin: by which it may fall short.
      per_device: models that a device holds at a time, at most; see `rumjax.ensemble.arrange`.
      **options: see `SgdOptions`.

    Raises:
      InvalidInputError: no models, two of one name, not as many keys, variables and targets as
        names, S empty or not in D, or a number out of range.

    Examples:
      >>> import jax
      >>> from rumjax.models import Cnn
      >>> data = Dataset(jnp.zeros((4, 2, 2, 1), jnp.uint8), jnp.zeros(4, jnp.int32))
      >>> model = Model(Cnn(2, widths=(), hidden=2))
      >>> variables = [model.init(jax.random.key(0), data.images)]
      >>> keys, forget = jax.random.split(jax.random.key(1), 1), np.array([0, 2])
      >>> options = {"model": model, "learning_rate": 0.1, "epochs": 1, "target": [0.0]}
      >>> relearn_times(["fresh"], keys, variables, forget, data, **options)[0].epochs
      0
    """
    # As many of everything, and numbers in range.
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    count = len(names)
    if np.ndim(keys) == 0:
        keys = jnp.reshape(check_keys("relearn, keys", keys), 1)
    goals: list[Any] = [target] * count if np.ndim(target) == 0 else list(target)  # type: ignore[arg-type]
    if not count == len(set(names)) == len(keys) == len(variables) == len(goals) > 0:
        raise InvalidInputError(
            f"relearn: {len(set(names))} different names of {count}, {len(keys)} keys, "
            f"{len(variables)} models and {len(goals)} targets; wanted as many of each, at least 1"
        )
    data, keys = check_data("relearn, data", data, model), check_keys("relearn, keys", keys, count)
    goals = [check_scalar("target", goal, most=1.0) for goal in goals]
    margin = check_scalar("margin", margin, most=1.0)
    per_device = check_most("per_device", per_device)
    chosen = check_indices("forget set", forget, len(data.labels))

    # S by itself, so that the compiled program does not depend on which examples it holds.
    only_forget = Dataset(jnp.asarray(data.images)[chosen], jnp.asarray(data.labels)[chosen])
    steps = chain(
        task([], len(chosen)),
        finetune(model, epochs=epochs, learning_rate=learning_rate, **options),
    )
    starts = [
        ensemble.Job(name, key, (), start)
        for name, key, start in zip(names, keys, variables, strict=True)
    ]
    count_right = correct(model)
    make = functools.partial(
        ensemble.make,
        data=only_forget,
        read=count_right,
        most_per_device=per_device,
        watch=count_right,
        diverging="noted",
    )
    curves: dict[str, list[float]] = {name: [] for name in names}

    def note(name: str, right: np.ndarray) -> None:
        curves[name].append(int(right) / len(chosen))

    def note_epoch(done: ensemble.Epoch) -> None:
        for name, right in zip(done.names, done.watched, strict=True):
            del curves[name][done.epoch + 1 :]  # of models that are begun again
            note(name, right)

    # The accuracies before the first epoch, by a run of no steps.
    for job, before in make(starts):
        note(job.name, before.read)
    # Those after every epoch; a model that diverges has none from there on.
    jobs = [job._replace(steps=steps) for job in starts]
    errors = [result.diverged for _, result in make(jobs, on_epoch=note_epoch)]
    return [
        Relearned(first_at(curves[name], goal - margin), tuple(curves[name]), error)
        for name, goal, error in zip(names, goals, errors, strict=True)
    ]


def first_at(accuracies: Sequence[float], least: float) -> int | None:
    """Returns the position of the first accuracy that is not below a bound, or None.

    Examples:
      >>> first_at([0.3, 0.6, 0.5, 0.7], 0.6)
      1
    """
    reached = (epoch for epoch, value in enumerate(accuracies) if value >= least - ROUNDING)
    return next(reached, None)


@functools.cache
def correct(model: Model) -> ensemble.Read:
    """Returns a function that counts a model's right predictions; one object for equal models.

    Examples:
      >>> from rumjax.models import Cnn
      >>> correct(Model(Cnn(2))) is correct(Model(Cnn(2)))
      True
    """

    def right(variables: Variables, data: Dataset) -> Array:
        logits = predict(model, variables, data.images).logits
        return jnp.sum(jnp.argmax(logits, axis=-1) == data.labels)

    return right
