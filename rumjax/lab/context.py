"""What the stages of a run share: where they are, how they make models, how they measure them."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from rumjax import ensemble, forget_sets, metrics
from rumjax.errors import DivergenceError
from rumjax.lab import progress
from rumjax.lab.bank import checkpoint_of
from rumjax.lab.experiment import Experiment
from rumjax.lab.methods import Method, refinement
from rumjax.lab.workdir import WorkDirectory
from rumjax.models import predict
from rumjax.refine import Parts, rum
from rumjax.types import Dataset, Key, Outputs, Scores, Variables
from rumjax.unlearn import Step


class Context(NamedTuple):
    """What every stage needs."""

    experiment: Experiment
    """the whole run, or one of its cases"""
    work: WorkDirectory
    """original models and scores, which all cases share"""
    place: WorkDirectory
    """forget set, oracles and results of the case; `work` itself where there is but one"""
    console: Console
    data: Dataset
    """D and then T, on the device; indices below N are D's"""

    @property
    def size(self) -> int:
        """N, the number of examples of D."""
        return len(self.experiment.data.train.labels)

    @property
    def cases(self) -> "Iterator[Context]":
        """The context of each case, in order; this one where there is but one."""
        return map(self.at, self.experiment.each)

    @property
    def before(self) -> "Context | None":
        """The case that this one goes on from."""
        after = self.experiment.after
        return None if after is None else self.at(after)

    def at(self, case: Experiment) -> "Context":
        """The context of a case."""
        place = self.work.below(case.folder) if case.folder else self.work
        return self._replace(experiment=case, place=place)


def on_device(experiment: Experiment, work: WorkDirectory, console: Console) -> Context:
    """The images on the device, with the rest that stages need."""
    train, test = experiment.data.train, experiment.data.test
    data = Dataset(
        jnp.asarray(np.concatenate([train.images, test.images])),
        jnp.asarray(np.concatenate([train.labels, test.labels])),
    )
    return Context(experiment, work, work, console, data)


# Making models


class Job(NamedTuple):
    """A model to be made."""

    seed: int
    """or the number of a model of the bank"""
    key: Key
    steps: tuple[Step, ...]
    variables: Variables | Callable[[], Variables] | None = None
    """to start from, or how to read it when its turn comes; None before training from scratch"""
    which: str = ""
    """of several of one seed"""
    what: str = "seed"
    """what the number is of"""

    @property
    def name(self) -> str:
        """What messages call it."""
        numbered = f"{self.what} {self.seed}"
        return f"{numbered}, {self.which}" if self.which else numbered


class Made(NamedTuple):
    """A model, once made."""

    read: Any
    """its variables, or what else was to be read of it"""
    times: dict[str, float]
    """`seconds` that it took, and `seconds_compiling` before it and others like it"""
    curve: list[dict[str, Any]]
    """its metrics, epoch by epoch"""
    diverged: DivergenceError | None
    """what went wrong, if that is to be noted"""


def epochs_of(jobs: Sequence[Job]) -> int:
    """Epochs of all their steps."""
    return sum(step.unlearner.epochs for job in jobs for step in job.steps)


def make(
    context: Context,
    jobs: Sequence[Job],
    advance: progress.Advance,
    name: str = "",
    *,
    read: ensemble.Read = ensemble.whole,
    watch: ensemble.Read = ensemble.nothing,
    on_epoch: Callable[[ensemble.Epoch], None] | None = None,
    diverging: str = "stops",
) -> Iterator[tuple[Job, Made]]:
    """Makes models of several seeds at the same time, as many as suit the devices.

    Args:
      context: the run's.
      jobs: all of the same steps, up to the examples in their tasks.
      advance: called after every epoch of every model.
      name: what messages call them all.
      read: of every model once it is made; see `rumjax.ensemble.run`.
      watch: of every model after every epoch; see `rumjax.ensemble.run`.
      on_epoch: called after every epoch too.
      diverging: whether a model that diverges "stops" them all, or is "noted".

    Raises:
      DivergenceError: a loss or a parameter is not finite, and that stops them all.
    """
    if not jobs:
        return
    most = context.experiment.config["bank"]["per_device"]
    devices, per_device = ensemble.fitting(len(jobs), most=most)
    size = len(devices) * per_device
    groups = [jobs[first : first + size] for first in range(0, len(jobs), size)]

    def after_epoch(done: ensemble.Epoch) -> None:
        if on_epoch is not None:
            on_epoch(done)
        for each in done.names:
            advance(f"{name} {each}".strip())

    chunks = ensemble.run(
        map(together, groups),
        context.data,
        read=read,
        devices=devices,
        per_device=per_device,
        watch=watch,
        on_epoch=after_epoch,
        diverging=diverging,
    )
    try:
        for group, made in zip(groups, chunks, strict=True):
            for position, job in enumerate(group):
                found = jax.tree.map(lambda leaf: leaf[position], made.read)  # noqa: B023
                times = {"seconds": made.seconds, "seconds_compiling": made.compile_seconds}
                yield job, Made(found, times, made.curves[position], made.diverged[position])
    except DivergenceError as error:
        raise DivergenceError(f"{name}: {error}" if name else str(error)) from error


def together(jobs: Sequence[Job]) -> ensemble.Work:
    """Jobs as one work; they may differ in examples and in the unlearners' numbers."""
    return ensemble.together(
        [job.name for job in jobs],
        jnp.stack([job.key for job in jobs]),
        [job.steps for job in jobs],
        [job.variables() if callable(job.variables) else job.variables for job in jobs],
    )


def stage_key(seed: int, name: str) -> Key:
    """The key of a stage: of its seed and name alone, so that adding others changes nothing."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


# Models that are there


def require_original(context: Context, seed: int) -> Variables:
    """θo of a seed."""
    return _require(context, context.work, f"original_seed{seed}")


def require_oracle(context: Context, seed: int) -> Variables:
    """The reference oracle of a seed, for the case's forget set."""
    return _require(context, context.place, f"oracle_reference_seed{seed}")


def require_of_bank(context: Context, model: int) -> Variables:
    """A model of the bank."""
    return _require(context, context.work, checkpoint_of(model))


def require_start(context: Context, method: Method, seed: int) -> Variables:
    """What a method starts from: θo, or its own result of the case before."""
    before = context.before
    if before is None:
        return require_original(context, seed)
    return _require(context, before.place, f"unlearned_{method.name}_seed{seed}")


def _require(context: Context, place: WorkDirectory, name: str) -> Variables:
    """A model that an earlier stage has saved."""
    images = context.data.images[:1]
    like = jax.eval_shape(context.experiment.model.init, jax.random.key(0), images)
    return place.load_model(name, like)


# What a method does


def steps_of(
    context: Context, method: Method, named: Mapping[str, Scores], parts: Parts, seed: int
) -> tuple[Step, ...]:
    """A method's steps on what the case adds to the forget set of the one before, if any."""
    forget = forget_sets.union(parts, context.size)
    labels = np.asarray(context.experiment.data.train.labels)
    return rum(
        np.setdiff1d(forget, already_forgotten(context)),
        np.setdiff1d(np.arange(context.size), forget),
        refine=refinement(method, named, labels, seed),
        select=method.select,
        order=method.order,
    )


def already_forgotten(context: Context) -> np.ndarray:
    """The forget set of the case that this one goes on from; empty if there is none."""
    before = context.before
    return (
        np.empty(0, np.int32)
        if before is None
        else before.place.read_arrays("forget_sets.npz")["forget"]
    )


# Measuring


class Predictions(NamedTuple):
    """Softmax probabilities on D and on T, on the host."""

    train: np.ndarray
    """float32[N, K]"""
    test: np.ndarray
    """float32[T, K]"""


_predict = jax.jit(predict, static_argnums=0)


def look(context: Context, variables: Variables) -> Outputs:
    """What a model says of D and T, on the host."""
    found = _predict(context.experiment.model, variables, context.data.images)
    return jax.tree.map(np.asarray, found)


def probabilities(context: Context, outputs: Outputs) -> Predictions:
    """A model's softmax probabilities on D and T."""
    everything = np.asarray(jax.nn.softmax(outputs.logits))
    return Predictions(everything[: context.size], everything[context.size :])


def first_embeddings(context: Context) -> np.ndarray:
    """Embeddings of D by the first seed's original model, float32[N, E]."""
    variables = require_original(context, context.experiment.seeds[0])
    images = context.data.images[: context.size]
    return np.asarray(_predict(context.experiment.model, variables, images).embeddings)


def measure(context: Context, parts: Parts, seed: int, outputs: Outputs) -> metrics.Measured:
    """What the measures need of a model; `seed` is that of the attack's sample of R."""
    train, test = context.experiment.data.train, context.experiment.data.test
    found = probabilities(context, outputs)
    return metrics.measure(
        metrics.Predictions(found.train, np.asarray(train.labels)),
        metrics.Predictions(found.test, np.asarray(test.labels)),
        parts,
        samples=context.experiment.config["attack"]["samples"],
        seed=seed,
    )


def measure_oracle(context: Context, parts: Parts, seed: int) -> metrics.Measured:
    """The same of a seed's reference oracle."""
    return measure(context, parts, seed, look(context, require_oracle(context, seed)))
