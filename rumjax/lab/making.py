"""How stages make models: jobs of several seeds, as many at a time as suit the devices."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rumjax import ensemble
from rumjax.errors import DivergenceError
from rumjax.forget_sets import ForgetSet
from rumjax.lab import progress
from rumjax.lab.building import steps_on
from rumjax.lab.context import CaseContext, Context
from rumjax.lab.methods import Method
from rumjax.lab.results import read_forget_set
from rumjax.types import Key, Scores, Variables
from rumjax.unlearn import Step


class Job(NamedTuple):
    """A model to be made."""

    seed: int
    """Its seed, or the number of a model of the bank."""
    key: Key
    steps: tuple[Step, ...]
    variables: Variables | Callable[[], Variables] | None = None
    """Where it starts, or a function that loads that; None before training from scratch."""
    which: str = ""
    """Which of several models of this seed, for example "reference"."""
    kind: str = "seed"
    """The word for its number in messages."""

    @property
    def name(self) -> str:
        """The name of the model in messages."""
        numbered = f"{self.kind} {self.seed}"
        return f"{numbered}, {self.which}" if self.which else numbered

    @property
    def epochs(self) -> int:
        """The epochs of all its steps."""
        return sum(step.unlearner.epochs for step in self.steps)

    def for_ensemble(self) -> ensemble.Job:
        """Returns the job as `rumjax.ensemble` takes it."""
        return ensemble.Job(self.name, self.key, self.steps, self.variables, about=self)


class Made(NamedTuple):
    """A model, once it is made."""

    job: Job
    model: Any
    """Its variables, or whatever was to be read of them."""
    times: dict[str, float]
    """`seconds` that it took, and `seconds_compiling` before it and others like it."""
    curve: list[dict[str, Any]]
    """Its metrics, epoch by epoch."""
    diverged: DivergenceError | None
    """The error, where the model diverged and that is noted rather than raised."""


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
) -> Iterator[Made]:
    """Makes models of several seeds at the same time, and yields them one by one.

    Args:
      context: the run's.
      jobs: all of the same steps, up to the examples in their tasks.
      advance: called after every epoch of every model.
      name: the name of them all in messages.
      read: what is read of every model once it is made; see `rumjax.ensemble.run`.
      watch: what is read of every model after every epoch; see `rumjax.ensemble.run`.
      on_epoch: called after every epoch too.
      diverging: whether a model that diverges "stops" them all, or is "noted".

    Raises:
      DivergenceError: a loss or a parameter is not finite, and that stops them all.
    """

    def after_epoch(epoch: ensemble.Epoch) -> None:
        if on_epoch is not None:
            on_epoch(epoch)
        for model in epoch.names:
            advance(f"{name} {model}".strip())

    # `ensemble` gives the job back with each result.
    results = ensemble.make(
        [job.for_ensemble() for job in jobs],
        context.data,
        read=read,
        most_per_device=context.run.config.bank.per_device,
        watch=watch,
        on_epoch=after_epoch,
        diverging=diverging,
    )

    # Errors say which kind of model has diverged.
    try:
        for job, result in results:
            times = {"seconds": result.seconds, "seconds_compiling": result.compile_seconds}
            yield Made(job.about, result.read, times, result.curve, result.diverged)
    except DivergenceError as error:
        raise DivergenceError(f"{name}: {error}" if name else str(error)) from error


def steps_of(
    context: CaseContext,
    method: Method,
    scores: Mapping[str, Scores],
    forget_set: ForgetSet,
    seed: int,
) -> tuple[Step, ...]:
    """Returns a method's steps on what a case adds to the forget set of the case before, if any."""
    forget = np.setdiff1d(forget_set.forget, already_forgotten(context))
    return steps_on(method, forget, forget_set.retain, scores, context.labels, seed)


def sample_steps(
    context: CaseContext, method: Method, scores: Mapping[str, Scores], forget_set: ForgetSet
) -> tuple[Step, ...]:
    """Returns a method's steps as far as all seeds have them in common: unlearners, and sizes."""
    zeros = Scores(np.zeros(context.size, np.float32))
    known = {**scores, "rescored": zeros}
    return steps_of(context, method, known, forget_set, context.run.seeds[0])


def already_forgotten(context: CaseContext) -> np.ndarray:
    """Returns the forget set of the case that this one goes on from; empty where there is none."""
    earlier = None if context.before is None else read_forget_set(context.before.place)
    return np.empty(0, np.int32) if earlier is None else earlier.forget
