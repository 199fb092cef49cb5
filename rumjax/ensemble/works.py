"""Models to be made at the same time: as one `Work`, or each as a `Job` of its own."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.checks import check_keys, check_outside
from rumjax.errors import InvalidInputError, as_array, shown
from rumjax.training import Recipe
from rumjax.types import Key, PyTree, Subset, Task, Variables, collections_of
from rumjax.unlearn.steps import Step


class Work(NamedTuple):
    """Some models to be made at the same time, as `rumjax.run` makes one."""

    names: Sequence[str]
    """the m models in messages, "seed 3" for instance"""
    keys: Key
    """as `rumjax.run` takes them, [m]"""
    steps: Sequence[Step]
    """the same for all, up to examples and the unlearners' numbers, which have a leading axis of m;
    every index set of their tasks is int32[m, capacity], its size int32[]"""
    variables: Variables | None
    """to start from, with a leading axis of m; None before training from scratch"""


class Job(NamedTuple):
    """A model to be made.

    Examples:
      >>> Job("seed 3", jax.random.key(3), steps=(), about=3).name
      'seed 3'
    """

    name: str
    """the model in messages, "seed 3" for instance"""
    key: Key
    """as `rumjax.run` takes it"""
    steps: Sequence[Step]
    """to be run in order"""
    variables: Variables | Callable[[], Variables] | None = None
    """to start from, or a function that reads them when the model's turn comes; None before
    training from scratch"""
    about: Any = None
    """anything that the caller wants back with the model; not used"""


def training(recipe: Recipe, names: Sequence[str], keys: Key, subsets: np.ndarray) -> Work:
    """Returns the work of training from scratch, each model on its row of examples.

    Args:
      recipe: of all models.
      names: m of them.
      keys: [m].
      subsets: int32[m, n], distinct indices in every row.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.unlearn import retrain
      >>> keys, subsets = jax.random.split(jax.random.key(0), 2), np.array([[0, 1], [2, 3]])
      >>> work = training(retrain(Model(Cnn(10)), epochs=1), ["a", "b"], keys, subsets)
      >>> work.steps[0].task.retain.indices.shape
      (2, 2)
    """
    subsets = as_array("subsets", subsets)
    if not names:
        raise InvalidInputError("work: there are no models; at least one is needed")
    if subsets.ndim != 2 or subsets.dtype.kind not in "iu" or len(subsets) != len(names):
        raise InvalidInputError(
            f"subsets: wanted indices [{len(names)}, n], a row for each name, got "
            f"{subsets.dtype}{list(subsets.shape)}"
        )
    # Nothing is forgotten, and each model's own row is retained.
    none = np.zeros((len(subsets), 0), np.int32)
    retain = Subset(jnp.asarray(subsets, jnp.int32), jnp.int32(subsets.shape[1]))
    task = Task(forget=Subset(jnp.asarray(none), jnp.int32(0)), retain=retain)
    return Work(names, keys, [Step("training", stacked([recipe] * len(names)), task)], None)


def together(
    names: Sequence[str],
    keys: Key,
    steps: Sequence[Sequence[Step]],
    variables: Sequence[Variables | None],
) -> Work:
    """Returns one work of several models that go through the same steps on tasks of the same sizes.

    Args:
      names: m of them.
      keys: [m].
      steps: of every model; all like the first one's, but for the examples in their tasks and the
        numbers of their unlearners, epochs included: a grid of settings is one work.
      variables: of every model, or None for all before training from scratch.

    Raises:
      InvalidInputError: the steps differ in more than that.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.types import task
      >>> from rumjax.unlearn import chain, finetune
      >>> model, keys = Model(Cnn(10)), jax.random.split(jax.random.key(0), 2)
      >>> steps = [chain(task([1], 9), finetune(model, learning_rate=rate)) for rate in (0.1, 0.5)]
      >>> together(["a", "b"], keys, steps, [None, None]).steps[0].unlearner.learning_rate
      array([0.1, 0.5], dtype=float32)
    """
    # There are models, with as many steps each, of one network.
    names = [str(name) for name in names]
    if not names:
        raise InvalidInputError("work: there are no models; at least one is needed")
    check_outside("ensemble", (steps, variables))
    if len({len(models) for models in steps}) > 1:
        raise InvalidInputError(f"{', '.join(names)}: their steps are not as many")
    for step in (step for models in steps for step in models):
        if not isinstance(step, Step):
            raise InvalidInputError(
                "ensemble: wanted steps of rumjax.rum or rumjax.chain(task, unlearner), got "
                f"{type(step).__name__}"
            )
    if len({jax.tree.structure(one) for one in variables}) > 1:
        raise InvalidInputError(f"{', '.join(names)}: their variables are not of one network")

    # Each step of all models as one.
    alike = [_together(names, models) for models in zip(*steps, strict=True)]
    # Without variables there is nothing to stack, and the result is None.
    return Work(names, keys, alike, stacked(variables))


def _together(names: Sequence[str], steps: Sequence[Step]) -> Step:
    """Returns the same step of all models as one, if they differ in no more than they may."""
    # Sizes and structures are those of all models.
    sizes = {tuple(int(part.size) for part in step.task) for step in steps}
    shapes = {tuple(part.indices.shape for part in step.task) for step in steps}
    if len(sizes) > 1 or len(shapes) > 1:
        raise InvalidInputError(
            f"step {steps[0].name!r}: the tasks of {', '.join(names)} differ in size; run them "
            "one by one"
        )
    if len({jax.tree.structure(step.unlearner) for step in steps}) > 1:
        raise InvalidInputError(
            f"step {steps[0].name!r}: the unlearners of {', '.join(names)} differ in more than "
            "their numbers; run them one by one"
        )

    # Examples and numbers are stacked.
    parts = zip(*(step.task for step in steps), strict=True)
    examples = (Subset(jnp.stack([part.indices for part in same]), same[0].size) for same in parts)
    return Step(steps[0].name, stacked([step.unlearner for step in steps]), Task(*examples))


def check_jobs(jobs: Any) -> list[Job]:
    """Returns jobs as a list, if they are jobs.

    Raises:
      InvalidInputError: a single one, or anything else.
    """
    if isinstance(jobs, Job) or not isinstance(jobs, Iterable):
        raise InvalidInputError(f"ensemble: wanted a list of jobs, got {type(jobs).__name__}")
    listed = list(jobs)
    for job in listed:
        if not isinstance(job, Job) or not isinstance(job.steps, list | tuple):
            raise InvalidInputError(
                "ensemble: wanted jobs, ensemble.Job(name, key, steps, variables), got "
                f"{shown(job)}"
            )
    return listed


def work_of(jobs: Sequence[Job]) -> Work:
    """Returns jobs as one work; reads the variables that are functions.

    Examples:
      >>> job = Job("seed 0", jax.random.key(0), (), Variables({"w": np.zeros(3)}, {}))
      >>> work_of([job]).variables.params["w"].shape
      (1, 3)
    """
    jobs = check_jobs(jobs)
    read = [job.variables() if callable(job.variables) else job.variables for job in jobs]
    return together(
        [job.name for job in jobs],
        jnp.stack([check_keys(f"{job.name}, key", job.key) for job in jobs]),
        [job.steps for job in jobs],
        [one if one is None else collections_of("variables", one) for one in read],
    )


def stacked(trees: Sequence[PyTree]) -> PyTree:
    """Returns trees of one structure as one, whose leaves have a leading axis for them; NumPy.

    Examples:
      >>> stacked([{"rate": 0.25}, {"rate": 0.5}])
      {'rate': array([0.25, 0.5 ])}
    """
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)
