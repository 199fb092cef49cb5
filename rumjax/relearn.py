"""Relearn time: epochs of fine-tuning on S alone until a model knows S again as it once did.

A model that has forgotten S in name only is quick to learn it again. How quick a model is that has
never seen S, the oracle, is what to hold it against.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rumjax import ensemble
from rumjax.errors import (
    DivergenceError,
    InvalidInputError,
    check_count,
    check_indices,
    check_number,
)
from rumjax.models import Model, predict
from rumjax.training import SgdOptions
from rumjax.types import Array, Dataset, Key, Variables, task
from rumjax.unlearn import chain, finetune

ROUNDING = 1e-6
"""by which an accuracy may fall short: targets may have been kept in float32"""


class Relearned(NamedTuple):
    """How a model has learned S again."""

    epochs: int | None
    """until its accuracy was back; 0 if it was never lost, None if it did not come back in time"""
    accuracies: tuple[float, ...]
    """on S, before the first epoch and after each; they end where the model diverged"""
    diverged: DivergenceError | None = None
    """what went wrong, which is not known of a model that does not relearn"""


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
    target: Sequence[float],
    margin: float = 0.0,
    per_device: int = 1,
    **options: Unpack[SgdOptions],
) -> list[Relearned]:
    """Teaches models S again, and says how many epochs each takes.

    (Golatkar et al., CVPR 2020, arXiv 1911.04933, until the loss is regained; Tarun et al., arXiv
    2111.08947, until the accuracy is.) Of an unlearned model's epochs and the oracle's, the ratio
    is the anamnesis index of Chundawat et al., arXiv 2201.05629.

    Models are as `rumjax.run` leaves them after `finetune` on S, and made many at a time by one
    compiled program, which is compiled anew for another model, batch size or |S| alone.

    Args:
      names: of the m models, all different.
      keys: as `rumjax.run` wants them, [m].
      variables: of each model, left as they are.
      forget: S, indices into `data`, the same for all models.
      data: D, and whatever comes after.
      model: the architecture of all of them.
      learning_rate: of fine-tuning, constant.
      epochs: after which a model that is not there yet has not relearned.
      target: the accuracy on S to regain, of each model, in 0…1: its original model's.
      margin: by which it may fall short.
      per_device: models that a device holds at a time, at most.
      **options: see `SgdOptions`.

    Raises:
      InvalidInputError: no models, two of one name, not as many keys, variables and targets as
        names, S empty or not in D, or a number out of range.
    """
    count = len(names)
    if not count == len(set(names)) == len(keys) == len(variables) == len(target) > 0:
        raise InvalidInputError(
            f"relearn: {len(set(names))} different names of {count}, {len(keys)} keys, "
            f"{len(variables)} models and {len(target)} targets; wanted as many of each, at least 1"
        )
    check_number("target", np.asarray(target, np.float64), most=1.0)
    check_number("margin", margin, most=1.0)
    check_count("per_device", per_device)
    chosen = check_indices("forget set", forget, len(data.labels))
    # By themselves, so that what is compiled does not depend on which examples they are.
    known = Dataset(jnp.asarray(data.images)[chosen], jnp.asarray(data.labels)[chosen])
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
        data=known,
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
            note(name, right)

    # The accuracies before the first epoch, by a run of no steps.
    for job, before in make(starts):
        note(job.name, before.read)
    # Those after every epoch; a model that diverges has none from there on.
    jobs = [job._replace(steps=steps) for job in starts]
    errors = [result.diverged for _, result in make(jobs, on_epoch=note_epoch)]
    return [
        Relearned(first_at(curves[name], goal - margin), tuple(curves[name]), error)
        for name, goal, error in zip(names, target, errors, strict=True)
    ]


def first_at(accuracies: Sequence[float], least: float) -> int | None:
    """The position of the first accuracy that is not below, or None."""
    there = (epoch for epoch, each in enumerate(accuracies) if each >= least - ROUNDING)
    return next(there, None)


@functools.cache
def correct(model: Model) -> ensemble.Read:
    """Reads of how many examples a model's prediction is right; one object for equal models."""

    def right(variables: Variables, data: Dataset) -> Array:
        logits = predict(model, variables, data.images).logits
        return jnp.sum(jnp.argmax(logits, axis=-1) == data.labels)

    return right
