"""The stages of a run, each from and to the work directory: the file to read first.

    images ─► original θo ─► scores ─► forget set S ─► oracle θr ─► unlearned θu ─► report

A run can be killed at any moment. Every stage looks first for what it has already made; a piece is
a model, a chunk of the bank, or a row of the results, and is written whole or not at all.
"""

import functools
import platform
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import rumjax
from rumjax import bank, ensemble, forget_sets, metrics, progress, report, scores, stages
from rumjax.bank import ModelBank
from rumjax.checkpoint import WorkDirectory
from rumjax.cluster import ALONE, Process
from rumjax.errors import DivergenceError
from rumjax.experiment import SCORES, Experiment, Method, forget_parts, refinement
from rumjax.models import Model, predict, require_embeddings
from rumjax.rum import Parts, rum
from rumjax.types import Array, Dataset, Key, Scores, Variables, task
from rumjax.unlearn import Step, chain

MMD_SAMPLES = 4000


class Context(NamedTuple):
    """What every stage needs."""

    experiment: Experiment
    work: WorkDirectory
    console: Console
    data: Dataset
    """D and then T, on the device; indices below N are D's"""

    @property
    def size(self) -> int:
        """N, the number of examples of D."""
        return len(self.experiment.data.train.labels)


class Predictions(NamedTuple):
    """Softmax probabilities on D and on T, on the host."""

    train: np.ndarray
    """float32[N, K]"""
    test: np.ndarray
    """float32[T, K]"""


def run_experiment(
    experiment: Experiment,
    work: WorkDirectory,
    *,
    console: Console | None = None,
    recompute: Sequence[str] = (),
    process: Process = ALONE,
) -> list[dict[str, Any]]:
    """Everything from images to the report; returns the rows of `results.csv`.

    Args:
      experiment: from `rumjax.experiment.build`.
      work: the run's directory; what is already in it is not made again.
      console: where progress is shown.
      recompute: stages to make anew, with those after them; see `rumjax.stages.claim`.
      process: the first of so many, if others train shares of the bank; see `train_share`.

    Raises:
      RumjaxError: with what went wrong and what to do about it.
    """
    context = open_context(experiment, work, console or Console(), recompute)
    train_originals(context)
    score = score_examples(context, process)
    parts = choose_forget_set(context, score)
    for method in experiment.methods:  # finds mistakes before anything more is trained
        steps_of(context, method, score, parts, experiment.seeds[0])
    train_oracles(context, parts)
    unlearn_all(context, score, parts)
    return report.write(context.work, experiment, context.console)


def train_share(
    experiment: Experiment, work: WorkDirectory, process: Process, *, console: Console | None = None
) -> None:
    """What processes other than the first do for a run: train their share of its bank.

    Args:
      experiment: the same as the first process's.
      work: the run's directory, opened under a name of this process's own.
      process: which of how many processes this is.
      console: where progress is shown.

    Raises:
      RumjaxError: with what went wrong and what to do about it.
    """
    check(experiment)
    if experiment.needs_bank and not work.has("scores.npz"):
        train_bank(on_device(experiment, work, console or Console()), process)


def open_context(
    experiment: Experiment, work: WorkDirectory, console: Console, recompute: Sequence[str] = ()
) -> Context:
    """Claims the directory for this configuration and puts the images on the device."""
    check(experiment)
    stages.claim(work, experiment, recompute)
    work.write_json("config.json", experiment.config)
    work.write_json("environment.json", environment())
    return on_device(experiment, work, console)


def on_device(experiment: Experiment, work: WorkDirectory, console: Console) -> Context:
    """The images on the device, with the rest that stages need."""
    train, test = experiment.data.train, experiment.data.test
    data = Dataset(
        jnp.asarray(np.concatenate([train.images, test.images])),
        jnp.asarray(np.concatenate([train.labels, test.labels])),
    )
    return Context(experiment, work, console, data)


def check(experiment: Experiment) -> None:
    """Finds out before anything is trained what would go wrong after hours of training.

    Raises:
      InvalidInputError: a model that does not fit the images, a bank too small to see every example
        and leave it out, a forget set that cannot be made of this data.
    """
    train = experiment.data.train
    images, size = train.images[:1], len(train.labels)
    like = jax.eval_shape(experiment.model.init, jax.random.key(0), images)
    outputs = jax.eval_shape(functools.partial(predict, experiment.model), like, images)
    if experiment.needs_bank:
        options = experiment.config["bank"]
        subsets = (
            scores.random_subset(options["seed"], model, size, options["fraction"])
            for model in range(options["models"])
        )
        seen = (np.bincount(subset, minlength=size).astype(bool) for subset in subsets)
        scores.memorization_of(scores.tally(((each, each) for each in seen), size))
    # Which examples are chosen depends on scores; whether there are enough does not.
    nothing = Scores(np.zeros(size, np.float32))

    def embeddings() -> np.ndarray:
        return np.zeros((size, require_embeddings(outputs).shape[1]), np.float32)

    forget_parts(experiment, dict.fromkeys(SCORES, nothing), embeddings)


# Original models


def train_originals(context: Context) -> None:
    """θo of every seed, with the training dynamics that proxies are made from."""
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
        for name, seen in zip(done.names, done.watched, strict=True):
            dynamics[name].add(seen[: context.size])

    watch = watcher(experiment.model)
    with progress.stage(context.console, "Original models", epochs_of(jobs), "epochs") as advance:
        for job, made in make(context, jobs, advance, watch=watch, on_epoch=on_epoch):
            proxies = {name: score.values for name, score in dynamics[job.name].scores().items()}
            losses = np.array([each["loss"] for each in made.curve])
            work.write_arrays(f"dynamics/seed{job.seed}.npz", loss=losses, **proxies)
            work.save_model(f"original_seed{job.seed}", made.variables)


# Scores


def score_examples(context: Context, process: Process = ALONE) -> dict[str, Scores]:
    """Memorization by the bank, and its proxies from the first original model, in `scores.npz`."""
    experiment, work = context.experiment, context.work
    if work.has("scores.npz"):
        found = work.read_arrays("scores.npz")
    else:
        dynamics = work.read_arrays(f"dynamics/seed{experiment.seeds[0]}.npz")
        found = {name: dynamics[name] for name in scores.PROXIES}
        if experiment.needs_bank:
            found |= bank_scores(context, process)
        work.write_arrays("scores.npz", **found)
    standard_error = {"memorization": found.get("memorization_se")}
    return {name: Scores(found[name], standard_error.get(name)) for name in SCORES if name in found}


def train_bank(context: Context, process: Process = ALONE) -> tuple[ModelBank, float]:
    """The bank of models trained on random subsets of D, and the seconds of compilation.

    Args:
      context: the run's.
      process: which of how many processes this is; each returns when the bank is complete.
    """
    experiment, options = context.experiment, context.experiment.config["bank"]
    found = ModelBank(context.work, stages.bank_header(experiment))
    for model in found.discard_damaged():
        context.console.print(f"the row of model {model} of the bank is damaged: it is made anew")
    total = options["models"]
    lacking = total - sum(model < total for model in found.done())
    with progress.stage(context.console, "Bank", lacking, "models") as advance:

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
            checkpoints=options.get("checkpoints", False),
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
    part = config["forget"].get("size", found.size // 20)
    stability = found.stability(max(1, min(part, found.size // 4)), models=len(models))
    context.work.write_json("bank/stability.json", stability)
    memorization = found.memorization(models)
    return {
        "memorization": memorization.values,
        "memorization_se": np.asarray(memorization.standard_error),
        "bank_seconds": np.asarray(sum(row.seconds for row in found.rows(models))),
        "bank_seconds_compiling": np.asarray(compile_seconds),
    }


# Forget set


def choose_forget_set(context: Context, named: Mapping[str, Scores]) -> Parts:
    """S as named parts, from `forget_sets.npz`, where S itself and R are kept too."""
    work = context.work
    if work.has("forget_sets.npz"):
        found = work.read_arrays("forget_sets.npz")
    else:
        parts = forget_parts(context.experiment, named, lambda: first_embeddings(context))
        forget = forget_sets.union(parts, context.size)
        retain = np.setdiff1d(np.arange(context.size), forget).astype(np.int32)
        found = {"forget": forget, "retain": retain, **parts}
        work.write_arrays("forget_sets.npz", **found)
    parts = {name: part for name, part in found.items() if name not in ("forget", "retain")}
    if not work.has("forget_sets.json"):
        work.write_json("forget_sets.json", describe(context, named, found["forget"], parts))
    return parts


def first_embeddings(context: Context) -> np.ndarray:
    """Embeddings of D by the first seed's original model, float32[N, E]."""
    variables = require_model(context, f"original_seed{context.experiment.seeds[0]}")
    images = context.data.images[: context.size]
    return np.asarray(_predict(context.experiment.model, variables, images).embeddings)


def describe(
    context: Context, named: Mapping[str, Scores], forget: np.ndarray, parts: Parts
) -> dict[str, dict[str, Any]]:
    """How hard S ("all") and its parts are: mean scores, and entanglement with the rest of D.

    Embeddings are those of the first seed's original model. MMD² is taken with γ by the median
    heuristic, and with at most `MMD_SAMPLES` random examples of the rest.
    """
    embeddings = first_embeddings(context)
    random = np.random.default_rng(0)
    found: dict[str, dict[str, Any]] = {}
    for name, part in {"all": forget, **parts}.items():
        rest = np.setdiff1d(np.arange(context.size), part)
        row = {key: float(score.values[part].mean()) for key, score in named.items()}
        if embeddings.shape[1]:
            sample = random.permutation(rest)[:MMD_SAMPLES]
            row["entanglement_score"] = scores.entanglement_score(embeddings, part, rest)
            row["mmd_squared"] = scores.mmd_squared(embeddings, part, sample, gamma="median")
        found[name] = {"size": len(part), **row}
    return found


# Oracles


def train_oracles(context: Context, parts: Parts) -> None:
    """Two independent oracles of every seed: the reference, and a second one to calibrate with."""
    experiment, work = context.experiment, context.work
    steps = chain(task(forget_sets.union(parts, context.size), context.size), experiment.recipe)
    # All references first: the second ones are held against them.
    jobs = [
        Job(seed, stage_key(seed, f"oracle_{which}"), steps, which=which)
        for which in ("reference", "second")
        for seed in experiment.seeds
        if not (
            work.has_model(f"oracle_{which}_seed{seed}")
            and work.has(f"rows/retrain_{which}_seed{seed}.json")
        )
    ]
    with progress.stage(context.console, "Oracles", epochs_of(jobs), "epochs") as advance:
        for job, made in make(context, jobs, advance):
            work.save_model(f"oracle_{job.which}_seed{job.seed}", made.variables)
            measured = measure(context, parts, job.seed, made.variables)
            first = job.which == "reference"
            reference = measured if first else measure_oracle(context, parts, job.seed)
            row = metrics.compare(measured, reference) | made.times | {"rte": 1.0}
            labels = f"retrain_{job.which}", "retrain", job.which
            write_row(work, *labels, job.seed, row, made.curve)


# Unlearning


def unlearn_all(context: Context, named: Mapping[str, Scores], parts: Parts) -> None:
    """Every method on every seed, each judged against its seed's reference oracle."""
    experiment, work = context.experiment, context.work
    missing = [
        (method, seed)
        for method in experiment.methods
        for seed in experiment.seeds
        if not work.has(f"rows/{method.name}_seed{seed}.json")
    ]

    def job(method: Method, seed: int) -> Job:
        steps = steps_of(context, method, named, parts, seed)
        key = stage_key(seed, f"unlearn/{method.name}")
        original = require_model(context, f"original_seed{seed}")
        return Job(seed, key, steps, original)

    oracles = functools.cache(lambda seed: measure_oracle(context, parts, seed))
    bank_seconds = float(work.read_arrays("scores.npz").get("bank_seconds", 0.0))
    total = sum(method.epochs for method, _ in missing)
    with progress.stage(context.console, "Unlearning", total, "epochs") as advance:
        for method in experiment.methods:
            jobs = [job(each, seed) for each, seed in missing if each is method]
            name = f"{method.algorithm} {method.strategy}"
            for done, made in make(context, jobs, advance, name):
                row = work.read_json(f"rows/retrain_reference_seed{done.seed}.json")["row"]
                scored = bank_seconds if method.refine == "memorization" else 0.0
                measured = measure(context, parts, done.seed, made.variables)
                seconds = made.times["seconds"]
                relative = {
                    "rte": seconds / row["seconds"],
                    "rte_with_scores": (seconds + scored) / row["seconds"],
                }
                found = metrics.compare(measured, oracles(done.seed)) | made.times | relative
                labels = method.name, method.algorithm, method.strategy
                write_row(work, *labels, done.seed, found, made.curve)


def steps_of(
    context: Context, method: Method, named: Mapping[str, Scores], parts: Parts, seed: int
) -> tuple[Step, ...]:
    """A method's steps on the run's forget set."""
    forget = forget_sets.union(parts, context.size)
    return rum(
        forget,
        np.setdiff1d(np.arange(context.size), forget),
        refine=refinement(method, named, np.asarray(context.experiment.data.train.labels), seed),
        select=method.select,
        order=method.order,
    )


# What the stages share


class Job(NamedTuple):
    """A model to be made."""

    seed: int
    key: Key
    steps: tuple[Step, ...]
    variables: Variables | None = None
    """to start from; None before training from scratch"""
    which: str = ""
    """of several of one seed"""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"seed {self.seed}, {self.which}" if self.which else f"seed {self.seed}"


class Made(NamedTuple):
    """A model, once made."""

    variables: Variables
    times: dict[str, float]
    """`seconds` that it took, and `seconds_compiling` before it and others like it"""
    curve: list[dict[str, Any]]
    """its metrics, epoch by epoch"""


def epochs_of(jobs: Sequence[Job]) -> int:
    """Epochs of all their steps."""
    return sum(step.unlearner.epochs for job in jobs for step in job.steps)


def make(
    context: Context,
    jobs: Sequence[Job],
    advance: progress.Advance,
    name: str = "",
    *,
    watch: ensemble.Read = ensemble.nothing,
    on_epoch: Callable[[ensemble.Epoch], None] | None = None,
) -> Iterator[tuple[Job, Made]]:
    """Makes models of several seeds at the same time, as many as suit the devices.

    Args:
      context: the run's.
      jobs: all of the same steps, up to the examples in their tasks.
      advance: called after every epoch of every model.
      name: what messages call them all.
      watch: of every model after every epoch; see `rumjax.ensemble.run`.
      on_epoch: called after every epoch too.

    Raises:
      DivergenceError: a loss or a parameter is not finite.
    """
    if not jobs:
        return
    most = context.experiment.config["bank"]["per_device"]
    devices, per_device = ensemble.fitting(len(jobs), most=most)
    size = len(devices) * per_device
    groups = [jobs[first : first + size] for first in range(0, len(jobs), size)]
    works = (
        ensemble.together(
            [job.name for job in group],
            jnp.stack([job.key for job in group]),
            [job.steps for job in group],
            [job.variables for job in group],
        )
        for group in groups
    )

    def after_epoch(done: ensemble.Epoch) -> None:
        if on_epoch is not None:
            on_epoch(done)
        for each in done.names:
            advance(f"{name} {each}".strip())

    chunks = ensemble.run(
        works,
        context.data,
        read=ensemble.whole,
        devices=devices,
        per_device=per_device,
        watch=watch,
        on_epoch=after_epoch,
    )
    try:
        for group, made in zip(groups, chunks, strict=True):
            for position, job in enumerate(group):
                variables = jax.tree.map(lambda leaf: leaf[position], made.read)  # noqa: B023
                times = {"seconds": made.seconds, "seconds_compiling": made.compile_seconds}
                yield job, Made(variables, times, made.curves[position])
    except DivergenceError as error:
        raise DivergenceError(f"{name}: {error}" if name else str(error)) from error


@functools.cache
def watcher(model: Model) -> ensemble.Read:
    """Softmax probabilities on D and T of a model in training, float32[N + T, K]."""

    def watch(variables: Variables, data: Dataset) -> Array:
        return jax.nn.softmax(predict(model, variables, data.images).logits)

    return watch


def measure(context: Context, parts: Parts, seed: int, variables: Variables) -> metrics.Measured:
    """What the measures need of a model; `seed` is that of the attack's sample of R."""
    train, test = context.experiment.data.train, context.experiment.data.test
    found = probabilities(context, variables)
    return metrics.measure(
        metrics.Predictions(found.train, np.asarray(train.labels)),
        metrics.Predictions(found.test, np.asarray(test.labels)),
        parts,
        samples=context.experiment.config["attack"]["samples"],
        seed=seed,
    )


def measure_oracle(context: Context, parts: Parts, seed: int) -> metrics.Measured:
    """The same of a seed's reference oracle."""
    return measure(context, parts, seed, require_model(context, f"oracle_reference_seed{seed}"))


_predict = jax.jit(predict, static_argnums=0)


def probabilities(context: Context, variables: Variables) -> Predictions:
    """A model's softmax probabilities on D and T."""
    logits = _predict(context.experiment.model, variables, context.data.images).logits
    everything = np.asarray(jax.nn.softmax(logits))
    return Predictions(everything[: context.size], everything[context.size :])


def stage_key(seed: int, name: str) -> Key:
    """The key of a stage: of its seed and name alone, so that adding others changes nothing."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def require_model(context: Context, name: str) -> Variables:
    """A model that an earlier stage has saved."""
    data = context.data
    like = jax.eval_shape(context.experiment.model.init, jax.random.key(0), data.images[:1])
    return context.work.load_model(name, like)


def write_row(
    work: WorkDirectory,
    name: str,
    algorithm: str,
    strategy: str,
    seed: int,
    measured: Mapping[str, float],
    curve: Sequence[Mapping[str, Any]],
) -> None:
    """Keeps one line of the results, and the curve of the run that it is about."""
    row = {"method": algorithm, "strategy": strategy, "seed": seed, **measured}
    work.write_json(f"rows/{name}_seed{seed}.json", {"row": row, "curve": list(curve)})


def environment() -> dict[str, Any]:
    """What the run ran on."""
    devices = jax.local_devices()
    return {
        "rumjax": rumjax.__version__,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
    }
