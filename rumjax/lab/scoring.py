"""The first stages of a run: original models, and the scores of their training examples."""

import functools
import time
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rumjax import ensemble, gradients, scores
from rumjax.errors import InvalidInputError
from rumjax.lab import bank, dependencies, progress
from rumjax.lab.bank import ModelBank
from rumjax.lab.cluster import ALONE, Process
from rumjax.lab.context import (
    Context,
    Job,
    epochs_of,
    first_embeddings,
    look,
    make,
    probabilities,
    require_original,
    stage_key,
)
from rumjax.lab.experiment import Experiment
from rumjax.lab.methods import SCORES, Method
from rumjax.models import Model, predict
from rumjax.types import Array, Dataset, Scores, Variables, task
from rumjax.unlearn import chain, finetune, run

# Original models


def train_originals(context: Context, closely: Sequence[str] = ()) -> None:
    """θo of every seed, with the training dynamics that proxies are made from.

    Args:
      context: the run's.
      closely: of `scores.GRADIENT_PROXIES`, what to take in after every epoch of the first seed's
        model besides its predictions; it takes as long as training or longer.
    """
    experiment, work = context.experiment, context.work
    steps = chain(task([], context.size), experiment.recipe)
    jobs = [
        Job(seed, stage_key(seed, "original"), steps)
        for seed in experiment.seeds
        if not (work.has_model(f"original_seed{seed}") and work.has(f"dynamics/seed{seed}.npz"))
    ]
    labels = np.asarray(experiment.data.train.labels)
    dynamics = {job.name: scores.TrainingDynamics(labels) for job in jobs}

    def on_epoch(done: ensemble.Epoch) -> None:
        for position, name in enumerate(done.names):
            seen = {key: values[position] for key, values in done.watched.items()}
            dynamics[name].add(seen.pop("probabilities"), **seen)

    first = [job for job in jobs if closely and job.seed == experiment.seeds[0]]
    others = [job for job in jobs if job not in first]
    with progress.stage(context.console, "Original models", epochs_of(jobs), "epochs") as advance:
        for these, names in ((first, tuple(closely)), (others, ())):
            watch = watcher(experiment.model, context.size, ("probabilities", *names))
            for job, made in make(context, these, advance, watch=watch, on_epoch=on_epoch):
                found = {name: each.values for name, each in dynamics[job.name].scores().items()}
                losses = np.array([each["loss"] for each in made.curve])
                work.write_arrays(f"dynamics/seed{job.seed}.npz", loss=losses, **found)
                work.save_model(f"original_seed{job.seed}", made.read)


def watched(experiment: Experiment) -> tuple[str, ...]:
    """What of the first seed's model must be taken in after every epoch of its training."""
    return tuple(name for name in scores.GRADIENT_PROXIES if name in experiment.on_demand)


@functools.cache
def watcher(model: Model, size: int, names: tuple[str, ...]) -> ensemble.Read:
    """What proxies need of a model in training, on the `size` examples of D, by name.

    It is "probabilities", the softmax's, float32[N, K], and of `scores.GRADIENT_PROXIES`.
    """

    def watch(variables: Variables, data: Dataset) -> dict[str, Array]:
        images, labels = data.images[:size], data.labels[:size]
        found = {}
        if "probabilities" in names:
            found["probabilities"] = jax.nn.softmax(predict(model, variables, images).logits)
        for name in set(names) & set(scores.GRADIENT_PROXIES):
            measure_examples = getattr(gradients, name)
            found[name] = measure_examples(model, variables, images, labels)
        return found

    return watch


# Scores


def score_examples(context: Context, process: Process = ALONE) -> dict[str, Scores]:
    """Memorization by the bank or as given, its proxies from the first original model; in files.

    `scores.npz` holds the scores, `scores.json` the seconds that each took.
    """
    experiment, work = context.experiment, context.work
    if work.has("scores.npz"):
        found = work.read_arrays("scores.npz")
    else:
        dynamics = work.read_arrays(f"dynamics/seed{experiment.seeds[0]}.npz")
        found = {name: values for name, values in dynamics.items() if name in SCORES}
        seconds = dict.fromkeys(found, 0.0)
        if "entanglement" in experiment.on_demand:
            found["entanglement"] = -scores.distances(first_embeddings(context))
        if "holdout_retraining" in experiment.on_demand:
            original = require_original(context, experiment.seeds[0])
            begin = time.perf_counter()
            found["holdout_retraining"] = holdout_scores(
                context, original, experiment.seeds[0]
            ).values
            seconds["holdout_retraining"] = time.perf_counter() - begin
        if experiment.needs_bank:
            found |= bank_scores(context, process)
            seconds["memorization"] = float(found["bank_seconds"])
        elif "scores" in experiment.config:
            found |= given_scores(experiment)
        if experiment.config.get("study", {}).get("kind") == "proxies":
            seconds |= proxy_seconds(context, found)
        work.write_json("scores.json", seconds)
        work.write_arrays("scores.npz", **found)
    standard_error = {"memorization": found.get("memorization_se")}
    names = [name for name in (*SCORES, "entanglement") if name in found]
    return {name: Scores(found[name], standard_error.get(name)) for name in names}


def given_scores(experiment: Experiment) -> dict[str, np.ndarray]:
    """Memorization that was not estimated here, and its standard error if that is known."""
    images, given = experiment.data.train.images, experiment.config["scores"]["memorization"]
    if "published" in given:
        found = scores.load_published(given["published"], np.asarray(images))["memorization"]
    else:
        found = scores.load_scores(given["path"], given["key"], size=len(images))
    if found.standard_error is None:
        return {"memorization": found.values}
    return {"memorization": found.values, "memorization_se": found.standard_error}


def holdout_scores(context: Context, variables: Variables, seed: int) -> Scores:
    """Hold-out retraining: how much a model's predictions on D move when it learns what V holds.

    It is fine-tuned for an epoch with a tenth of the learning rate of training.
    """
    experiment = context.experiment
    options = experiment.config["training"]
    learner = finetune(
        experiment.model,
        epochs=1,
        learning_rate=options.get("learning_rate", 0.1) / 10,
        batch_size=options.get("batch_size", 256),
    )
    held = experiment.data.validation
    if len(held.labels) == 0:
        raise InvalidInputError(
            "hold-out retraining needs validation data, and there is none; set "
            "data.validation_fraction, or refine by another score"
        )
    unseen = Dataset(jnp.asarray(held.images), jnp.asarray(held.labels))
    steps = chain(task([], len(held.labels)), learner)
    after = run(stage_key(seed, "holdout"), steps, variables, unseen)
    before_and_after = (
        probabilities(context, look(context, each)).train for each in (variables, after)
    )
    return scores.holdout_retraining(*before_and_after)


def rescored(
    context: Context, method: Method, named: Mapping[str, Scores], start: Variables, seed: int
) -> Mapping[str, Scores]:
    """The scores, with those that a method has made anew of the model it starts from."""
    if method.refine != "rescored":
        return named
    return {**named, "rescored": holdout_scores(context, start, seed)}


def proxy_seconds(context: Context, found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What the proxies cost that are averaged over training: one look, times the epochs."""
    experiment = context.experiment
    original = require_original(context, experiment.seeds[0])

    def look(name: str) -> float:
        measure_all = jax.jit(watcher(experiment.model, context.size, (name,)))
        jax.block_until_ready(measure_all(original, context.data))
        begin = time.perf_counter()
        jax.block_until_ready(measure_all(original, context.data))
        return (time.perf_counter() - begin) * experiment.recipe.epochs

    dynamic = dict.fromkeys((name for name in scores.PROXIES if name in found), "probabilities")
    closely = {name: name for name in scores.GRADIENT_PROXIES if name in found}
    costs = {name: look(name) for name in {*dynamic.values(), *closely.values()}}
    return {name: costs[what] for name, what in (dynamic | closely).items()}


def train_bank(context: Context, process: Process = ALONE) -> tuple[ModelBank, float]:
    """The bank of models trained on random subsets of D, and the seconds of compilation.

    Args:
      context: the run's.
      process: which of how many processes this is; each returns when the bank is complete.
    """
    experiment, options = context.experiment, context.experiment.config["bank"]
    found = ModelBank(context.work, dependencies.bank_header(experiment))
    for model in found.discard_damaged():
        context.console.print(f"the row of model {model} of the bank is damaged: it is made anew")
    total = options["models"]
    missing = bank.lacking(found, total, checkpoints=experiment.keeps_bank)
    with progress.stage(context.console, "Bank", len(missing), "models") as advance:

        def on_made(made: ensemble.Made) -> None:
            for _ in made.names:
                advance(f"{made.seconds:.1f} s per model")

        compile_seconds = bank.train(
            found,
            experiment.recipe,
            context.data,
            stage_key(options["seed"], "bank"),
            models=total,
            per_device=options["per_device"],
            process=process,
            checkpoints=experiment.keeps_bank,
            on_made=on_made,
        )
    return found, compile_seconds


def bank_scores(context: Context, process: Process = ALONE) -> dict[str, np.ndarray]:
    """What is read of the bank, once it is trained.

    Returns:
      `memorization` and `memorization_se`, float32[N]; `bank_seconds`, what training took in all,
      and `bank_seconds_compiling`. How stable the scores are goes into `bank/stability.json`.
    """
    found, compile_seconds = train_bank(context, process)
    config = context.experiment.config
    models = range(config["bank"]["models"])
    sizes = [case.config["forget"].get("size") for case in context.experiment.each]
    part = next((size for size in sizes if size), found.size // 20)
    stability = found.stability(max(1, min(part, found.size // 4)), models=len(models))
    context.work.write_json("bank/stability.json", stability)
    memorization = found.memorization(models)
    return {
        "memorization": memorization.values,
        "memorization_se": np.asarray(memorization.standard_error),
        "bank_seconds": np.asarray(sum(row.seconds for row in found.rows(models))),
        "bank_seconds_compiling": np.asarray(compile_seconds),
    }
