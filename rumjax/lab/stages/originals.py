"""The original model θo of every seed, with the training dynamics that proxies are made from."""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from rumjax import ensemble, gradients, scores
from rumjax.lab import files, making, progress
from rumjax.lab.bringing import bring
from rumjax.lab.context import Context, stage_key
from rumjax.lab.jobs import Batch
from rumjax.lab.making import Job
from rumjax.lab.results import write_examples
from rumjax.models import Model, predict
from rumjax.rows import first
from rumjax.types import Array, Dataset, Variables, task
from rumjax.unlearn import chain


def batch(context: Context, seeds: Sequence[int] | None = None) -> Batch:
    """Returns what lacks of the original models: seeds without checkpoint or dynamics.

    Args:
      context: the run's.
      seeds: those of the run by default.
    """
    work, run = context.work, context.run
    missing = [
        seed
        for seed in (run.seeds if seeds is None else seeds)
        if not (work.has_model(files.original(seed)) and work.has(files.dynamics(seed)))
    ]
    return Batch(
        stage="originals",
        context=context,
        names=missing,
        title="Original models",
        total=len(missing) * (1 if run.config.original else run.recipe.epochs),
    )


def make(context: Context, seeds: Sequence[int], advance: progress.Advance) -> None:
    """Trains the original models of some seeds, or takes the one that was trained elsewhere.

    The gradients that some proxies need are taken in too, of the model of the run's first seed
    after every epoch; that takes as long as training or longer.
    """
    run, work = context.run, context.work
    if run.config.original is not None:
        take(context, seeds, advance)
        return
    steps = chain(task([], context.size), run.recipe)
    jobs = [Job(seed, stage_key(seed, "original"), steps) for seed in seeds]

    # Predictions on D are taken in after every epoch.
    taken_in = {job.name: scores.TrainingDynamics(context.labels) for job in jobs}

    def on_epoch(epoch: ensemble.Epoch) -> None:
        for position, name in enumerate(epoch.names):
            if epoch.epoch == 0:  # maybe of a model that is begun again
                taken_in[name] = scores.TrainingDynamics(context.labels)
            values = {key: array[position] for key, array in epoch.watched.items()}
            taken_in[name].add(values.pop("probabilities"), **values)

    # The first model is trained apart from the others where its gradients are taken in.
    proxies = gradient_proxies(context)
    looked_into = [job for job in jobs if proxies and job.seed == run.seeds[0]]
    others = [job for job in jobs if job not in looked_into]
    for group, names in ((looked_into, proxies), (others, ())):
        watch = watcher(run.model, context.size, ("probabilities", *names))
        for made in making.make(context, group, advance, watch=watch, on_epoch=on_epoch):
            proxy_scores = taken_in[made.job.name].scores()
            values = {name: score.values for name, score in proxy_scores.items()}
            if not work.has(files.EXAMPLES):
                write_examples(work, run.data)
            losses = np.array([epoch["loss"] for epoch in made.curve])
            work.write_arrays(files.dynamics(made.job.seed), {"loss": losses, **values})
            work.save_model(files.original(made.job.seed), made.model)


def take(context: Context, seeds: Sequence[int], advance: progress.Advance) -> None:
    """Takes the model that was trained elsewhere for the original model of some seeds.

    Its training cannot be watched: proxies are those of one look at the model as it is.
    """
    run, work = context.run, context.work
    variables = bring(run, context.console).variables
    names = ("probabilities", *gradient_proxies(context))
    watch = jax.jit(watcher(run.model, context.size, names))
    values = jax.tree.map(np.asarray, watch(variables, context.data))
    dynamics = scores.TrainingDynamics(context.labels)
    dynamics.add(values.pop("probabilities"), **values)
    arrays = {name: score.values for name, score in dynamics.scores().items()}
    write_examples(work, run.data)
    for seed in seeds:
        work.write_arrays(files.dynamics(seed), {"loss": np.empty(0, np.float32), **arrays})
        work.save_model(files.original(seed), variables)
        advance(f"seed {seed}")


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
