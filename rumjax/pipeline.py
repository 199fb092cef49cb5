"""The stages of a run, each from and to the work directory: the file to read first.

    images ─► original θo ─► scores ─► forget set S ─► oracle θr ─► unlearned θu ─► report

A run can be killed at any moment. Every stage looks first for what it has already made; a piece is
a model, a chunk of the bank, or a row of the results, and is written whole or not at all.
"""

import functools
import platform
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import rumjax
from rumjax import ensemble, forget_sets, metrics, progress, report, scores, stages
from rumjax.checkpoint import WorkDirectory
from rumjax.errors import DivergenceError
from rumjax.experiment import SCORES, Experiment, Method, forget_parts, refinement
from rumjax.models import Model, predict, require_embeddings
from rumjax.rum import Parts, rum
from rumjax.types import Array, Dataset, Key, Scores, Variables, task
from rumjax.unlearn import OnEpoch, Step, chain, run, warm_up

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
) -> list[dict[str, Any]]:
    """Everything from images to the report; returns the rows of `results.csv`.

    Args:
      experiment: from `rumjax.experiment.build`.
      work: the run's directory; what is already in it is not made again.
      console: where progress is shown.
      recompute: stages to make anew, with those after them; see `rumjax.stages.claim`.

    Raises:
      RumjaxError: with what went wrong and what to do about it.
    """
    context = open_context(experiment, work, console or Console(), recompute)
    train_originals(context)
    score = score_examples(context)
    parts = choose_forget_set(context, score)
    for method in experiment.methods:  # finds mistakes before anything more is trained
        steps_of(context, method, score, parts, experiment.seeds[0])
    train_oracles(context, parts)
    unlearn_all(context, score, parts)
    return report.write(context.work, experiment, context.console)


def open_context(
    experiment: Experiment, work: WorkDirectory, console: Console, recompute: Sequence[str] = ()
) -> Context:
    """Claims the directory for this configuration and puts the images on the device."""
    check(experiment)
    stages.claim(work, experiment, recompute)
    work.write_json("config.json", experiment.config)
    work.write_json("environment.json", environment())
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
        member = members(experiment)[0]
        scores.memorization(member, member)
    # Which examples are chosen depends on scores; whether there are enough does not.
    nothing = Scores(np.zeros(size, np.float32))

    def embeddings() -> np.ndarray:
        return np.zeros((size, require_embeddings(outputs).shape[1]), np.float32)

    forget_parts(experiment, dict.fromkeys(SCORES, nothing), embeddings)


# Original models


def train_originals(context: Context) -> None:
    """θo of every seed, with the training dynamics that proxies are made from."""
    experiment, work = context.experiment, context.work
    missing = [
        seed
        for seed in experiment.seeds
        if not (work.has_model(f"original_seed{seed}") and work.has(f"dynamics/seed{seed}.npz"))
    ]
    steps = chain(task([], context.size), experiment.recipe)
    total = len(missing) * experiment.recipe.epochs
    with progress.stage(context.console, "Original models", total, "epochs") as advance:
        for seed in missing:
            dynamics = scores.TrainingDynamics(np.asarray(experiment.data.train.labels))
            losses: list[float] = []

            def on_epoch(
                done: OnEpoch,
                seed: int = seed,
                dynamics: scores.TrainingDynamics = dynamics,
                losses: list[float] = losses,
            ) -> None:
                dynamics.add(probabilities(context, done.variables).train)
                losses.append(done.metrics["loss"])
                advance(f"seed {seed}, loss {losses[-1]:.3f}")

            key = stage_key(seed, "original")
            variables = run(key, steps, None, context.data, on_epoch=on_epoch)
            proxies = {name: score.values for name, score in dynamics.scores().items()}
            work.write_arrays(f"dynamics/seed{seed}.npz", loss=np.array(losses), **proxies)
            work.save_model(f"original_seed{seed}", variables)


# Scores


def score_examples(context: Context) -> dict[str, Scores]:
    """Memorization by the bank, and its proxies from the first original model, in `scores.npz`."""
    experiment, work = context.experiment, context.work
    if work.has("scores.npz"):
        found = work.read_arrays("scores.npz")
    else:
        dynamics = work.read_arrays(f"dynamics/seed{experiment.seeds[0]}.npz")
        found = {name: dynamics[name] for name in scores.PROXIES}
        if experiment.needs_bank:
            member, correct, seconds = train_bank(context)
            memorization = scores.memorization(member, correct[:, : context.size])
            found["memorization"] = memorization.values
            found["memorization_se"] = np.asarray(memorization.standard_error)
            found["bank_seconds"] = np.asarray(seconds)
        work.write_arrays("scores.npz", **found)
    standard_error = {"memorization": found.get("memorization_se")}
    return {name: Scores(found[name], standard_error.get(name)) for name in SCORES if name in found}


def train_bank(context: Context) -> tuple[np.ndarray, np.ndarray, float]:
    """The bank of models trained on random subsets of D, a chunk at a time.

    Returns:
      member, bool[M, N]; correct, bool[M, N + T]; and the seconds that training took in all.
    """
    work, options = context.work, context.experiment.config["bank"]
    models = options["models"]
    member, subsets = members(context.experiment)
    pieces = [work.read_arrays(name) for name in work.names("bank/*.npz")]
    done = {int(model) for piece in pieces for model in piece["models"]}
    missing = np.array([model for model in range(models) if model not in done], int)
    with progress.stage(context.console, "Bank", missing.size, "models") as advance:
        for piece in train_models(context, missing, subsets):
            first, last = piece["models"][0], piece["models"][-1]
            work.write_arrays(f"bank/models_{first:05d}-{last:05d}.npz", **piece)
            pieces.append(piece)
            for _ in piece["models"]:
                advance(f"{float(piece['seconds']) / len(piece['models']):.1f} s per model")
    correct = np.zeros((models, len(context.data.labels)), bool)
    for piece in pieces:
        wanted = piece["models"] < models
        correct[piece["models"][wanted]] = piece["correct"][wanted]
    return member, correct, float(sum(piece["seconds"] for piece in pieces))


def members(experiment: Experiment) -> tuple[np.ndarray, list[np.ndarray]]:
    """Which examples each model of the bank sees: bool[M, N], and as indices."""
    options, size = experiment.config["bank"], len(experiment.data.train.labels)
    subsets = [
        scores.random_subset(options["seed"], model, size, options["fraction"])
        for model in range(options["models"])
    ]
    member = np.zeros((len(subsets), size), bool)
    for row, subset in zip(member, subsets, strict=True):
        row[subset] = True
    return member, subsets


def train_models(
    context: Context, models: np.ndarray, subsets: Sequence[np.ndarray]
) -> Iterator[dict[str, np.ndarray]]:
    """Trains some models of the bank; yields their `models`, `margins`, `correct`, `seconds`."""
    if not models.size:
        return
    key = stage_key(context.experiment.config["bank"]["seed"], "bank")
    for chunk in ensemble.train(
        context.experiment.recipe,
        jax.vmap(lambda model: jax.random.fold_in(key, model))(jnp.asarray(models)),
        context.data,
        np.stack([subsets[model] for model in models]),
        read=reader(context.experiment.model),
        per_device=context.experiment.config["bank"]["per_device"],
    ):
        seconds = np.asarray(chunk.seconds)
        yield {"models": models[chunk.models], "seconds": seconds, **chunk.read}


@functools.cache
def reader(model: Model) -> Callable[[Variables, Dataset], dict[str, Array]]:
    """What the bank keeps of a trained model, for every example of D and T.

    `correct` is whether the prediction is right, bool[N + T]; `margins` is the true label's logit
    less the logsumexp of the others, float32[N + T].
    """

    def read(variables: Variables, data: Dataset) -> dict[str, Array]:
        logits = predict(model, variables, data.images).logits
        position = jnp.arange(len(data.labels))
        true = logits[position, data.labels]
        others = logits.at[position, data.labels].set(-jnp.inf)
        return {
            "margins": true - jax.nn.logsumexp(others, axis=-1),
            "correct": jnp.argmax(logits, axis=-1) == data.labels,
        }

    return read


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
    forget = forget_sets.union(parts, context.size)
    missing = [
        (seed, which)
        for seed in experiment.seeds
        for which in ("reference", "second")
        if not (
            work.has_model(f"oracle_{which}_seed{seed}")
            and work.has(f"rows/retrain_{which}_seed{seed}.json")
        )
    ]
    steps = chain(task(forget, context.size), experiment.recipe)
    total = len(missing) * experiment.recipe.epochs
    with progress.stage(context.console, "Oracles", total, "epochs") as advance:
        if missing:
            warm_up(steps, None, context.data)
        for seed, which in missing:
            key = stage_key(seed, f"oracle_{which}")
            name = f"seed {seed}, {which}"
            variables, seconds, curve = timed_run(context, key, steps, None, advance, name)
            work.save_model(f"oracle_{which}_seed{seed}", variables)
            measured = measure(context, parts, seed, variables)
            reference = measured if which == "reference" else measure_oracle(context, parts, seed)
            row = metrics.compare(measured, reference) | {"seconds": seconds, "rte": 1.0}
            write_row(work, f"retrain_{which}", "retrain", which, seed, row, curve)


# Unlearning


def unlearn_all(context: Context, named: Mapping[str, Scores], parts: Parts) -> None:
    """Every method on every seed, each judged against its seed's reference oracle."""
    experiment, work = context.experiment, context.work
    missing = [
        (seed, method)
        for seed in experiment.seeds
        for method in experiment.methods
        if not work.has(f"rows/{method.name}_seed{seed}.json")
    ]
    oracles: dict[int, metrics.Measured] = {}
    total = sum(method.epochs for _, method in missing)
    bank_seconds = float(work.read_arrays("scores.npz").get("bank_seconds", 0.0))
    with progress.stage(context.console, "Unlearning", total, "epochs") as advance:
        for seed, method in missing:
            steps = steps_of(context, method, named, parts, seed)
            theta = require_model(context, f"original_seed{seed}")
            if seed not in oracles:
                oracles[seed] = measure_oracle(context, parts, seed)
            warm_up(steps, theta, context.data)
            key = stage_key(seed, f"unlearn/{method.name}")
            name = f"{method.algorithm} {method.strategy}, seed {seed}"
            variables, seconds, curve = timed_run(context, key, steps, theta, advance, name)
            retrained = work.read_json(f"rows/retrain_reference_seed{seed}.json")["row"]["seconds"]
            scored = bank_seconds if method.refine == "memorization" else 0.0
            measured = measure(context, parts, seed, variables)
            row = metrics.compare(measured, oracles[seed]) | {
                "seconds": seconds,
                "rte": seconds / retrained,
                "rte_with_scores": (seconds + scored) / retrained,
            }
            write_row(work, method.name, method.algorithm, method.strategy, seed, row, curve)


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


def timed_run(
    context: Context,
    key: Key,
    steps: Sequence[Step],
    variables: Variables | None,
    advance: progress.Advance,
    name: str,
) -> tuple[Variables, float, list[dict[str, Any]]]:
    """Runs the steps; returns the model, the seconds it took, and the curve of its metrics."""
    curve: list[dict[str, Any]] = []

    def on_epoch(done: OnEpoch) -> None:
        curve.append({"part": done.step.name, "epoch": done.epoch + 1, **done.metrics})
        advance(name)

    begin = time.perf_counter()
    try:
        result = run(key, steps, variables, context.data, on_epoch=on_epoch)
    except DivergenceError as error:
        raise DivergenceError(f"{name}: {error}") from error
    jax.block_until_ready(result)
    return result, time.perf_counter() - begin, curve


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
