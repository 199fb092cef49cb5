"""The original model θo of every seed, with the training dynamics that proxies are made from."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from rumjax import ensemble, gradients, scores
from rumjax.lab import files, progress
from rumjax.lab.context import Context, stage_key
from rumjax.lab.making import Job, make
from rumjax.lab.results import write_examples
from rumjax.models import Model, predict
from rumjax.rows import first
from rumjax.types import Array, Dataset, Variables, task
from rumjax.unlearn import chain


class Originals(NamedTuple):
    """The original models, which lie in the work directory."""

    seeds: tuple[int, ...]
    trained: int
    """How many of them were trained now."""


def train(context: Context, *, dynamics: bool = True) -> Originals:
    """Trains the original models that are not there yet.

    Args:
      context: the run's, or a case's with other seeds.
      dynamics: whether the gradients that some proxies need are taken in too, of the first seed's
        model after every epoch; that takes as long as training or longer.
    """
    # Only models that lack their checkpoint or their dynamics are trained.
    run, work = context.run, context.work
    steps = chain(task([], context.size), run.recipe)
    jobs = [
        Job(seed, stage_key(seed, "original"), steps)
        for seed in run.seeds
        if not (work.has_model(files.original(seed)) and work.has(files.dynamics(seed)))
    ]

    # Predictions on D are taken in after every epoch.
    taken_in = {job.name: scores.TrainingDynamics(context.labels) for job in jobs}

    def on_epoch(epoch: ensemble.Epoch) -> None:
        for position, name in enumerate(epoch.names):
            if epoch.epoch == 0:  # maybe of a model that is begun again
                taken_in[name] = scores.TrainingDynamics(context.labels)
            values = {key: array[position] for key, array in epoch.watched.items()}
            taken_in[name].add(values.pop("probabilities"), **values)

    # The first model is trained apart from the others where its gradients are taken in.
    proxies = gradient_proxies(context) if dynamics else ()
    looked_into = [job for job in jobs if proxies and job.seed == run.seeds[0]]
    others = [job for job in jobs if job not in looked_into]
    total = sum(job.epochs for job in jobs)
    with progress.stage(context.console, "Original models", total, "epochs") as advance:
        for group, names in ((looked_into, proxies), (others, ())):
            watch = watcher(run.model, context.size, ("probabilities", *names))
            for made in make(context, group, advance, watch=watch, on_epoch=on_epoch):
                proxy_scores = taken_in[made.job.name].scores()
                values = {name: score.values for name, score in proxy_scores.items()}
                if not work.has(files.EXAMPLES):
                    write_examples(work, run.data)
                losses = np.array([epoch["loss"] for epoch in made.curve])
                work.write_arrays(files.dynamics(made.job.seed), {"loss": losses, **values})
                work.save_model(files.original(made.job.seed), made.model)
    return Originals(run.seeds, len(jobs))


def gradient_proxies(context: Context) -> tuple[str, ...]:
    """Returns the proxies in use that need gradients of the first seed's model in training."""
    in_use = context.run.on_demand
    return tuple(name for name in scores.GRADIENT_PROXIES if name in in_use)


@functools.cache
def watcher(model: Model, size: int, names: tuple[str, ...]) -> ensemble.Read:
    """Returns what reads, of a model in training, the values on D that proxies are averages of.

    Args:
      model: the network.
      size: N, the number of examples of D.
      names: "probabilities", the softmax's, float32[N, K], and names of `GRADIENT_PROXIES`,
        float32[N].
    """

    def watch(variables: Variables, data: Dataset) -> dict[str, Array]:
        images, labels = first(data.images, size), data.labels[:size]
        values = {}
        if "probabilities" in names:
            values["probabilities"] = jax.nn.softmax(predict(model, variables, images).logits)
        for name in scores.GRADIENT_PROXIES:
            if name in names:
                values[name] = getattr(gradients, name)(model, variables, images, labels)
        return values

    return watch
