"""Scores of the training examples: memorization by the bank or as given, and its proxies."""

import time
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from rumjax import scores
from rumjax.errors import InvalidInputError
from rumjax.lab import files, progress
from rumjax.lab.bank import ModelBank
from rumjax.lab.context import Context, load_original
from rumjax.lab.dependencies import bank_header
from rumjax.lab.experiment import Run
from rumjax.lab.jobs import Batch
from rumjax.lab.measuring import first_embeddings
from rumjax.lab.methods import SCORES
from rumjax.lab.options import call_with
from rumjax.lab.rescoring import holdout_scores
from rumjax.lab.results import source_arrays
from rumjax.lab.stages.originals import watcher
from rumjax.registry import attempt, resolve
from rumjax.types import Dataset, Scores


def batch(context: Context) -> Batch:
    """Returns what lacks of the scores: all of them, or nothing."""
    missing = [] if context.work.has(files.SCORES) else ["all"]
    return Batch(
        stage="scores",
        context=context,
        names=missing,
        title="Scores",
        total=0,
    )


def make(context: Context, names: Sequence[str], advance: progress.Advance) -> None:
    """Scores the examples of D, by all scores that are cheap or in use.

    `scores.npz` holds the scores, `scores.json` the seconds that each took.
    """
    del names, advance
    values, seconds = compute(context)
    context.work.write_json(files.SCORE_SECONDS, seconds)
    context.work.write_arrays(files.SCORES, values | source_arrays(context.run.data))


def read(context: Context) -> dict[str, Scores]:
    """Reads the scores, by name."""
    values = context.work.read_arrays(files.SCORES)
    errors = {"memorization": values.get("memorization_se")}
    own = context.run.config.own_scores
    names = [name for name in (*SCORES, "entanglement", *own) if name in values]
    return {name: Scores(values[name], errors.get(name)) for name in names}


def compute(context: Context) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Computes the arrays of `scores.npz`, and the seconds of `scores.json`."""
    # Proxies that are averages over training come from the first seed's dynamics.
    config, first_seed = context.run.config, context.run.seeds[0]
    dynamics = context.work.read_arrays(files.dynamics(first_seed))
    values = {name: array for name, array in dynamics.items() if name in SCORES}
    seconds = dict.fromkeys(values, 0.0)

    # Others are made where something uses them.
    if "entanglement" in context.run.on_demand:
        values["entanglement"] = -scores.distances(first_embeddings(context))
    if "holdout_retraining" in context.run.on_demand:
        original = load_original(context, first_seed)
        begin = time.perf_counter()
        values["holdout_retraining"] = holdout_scores(context, original, first_seed).values
        seconds["holdout_retraining"] = time.perf_counter() - begin

    # Memorization comes from the bank, or from elsewhere.
    if context.run.needs_bank:
        values |= bank_scores(context)
        seconds["memorization"] = float(values["bank_seconds"])
    elif config.gives_memorization:
        values |= given_memorization(context.run)

    # Scores of one's own are made of the first seed's model.
    for name in config.own_scores:
        begin = time.perf_counter()
        values[name] = own_score(context, name)
        seconds[name] = time.perf_counter() - begin
    if config.is_proxy_study:
        seconds |= proxy_seconds(context, values)
    return values, seconds


def bank_scores(context: Context) -> dict[str, np.ndarray]:
    """Computes memorization from a bank, and writes how stable it is to `bank/stability.json`.

    Returns:
      `memorization` and `memorization_se`, float32[N]; `bank_seconds`, what training took in all.
    """
    # Stability is that of sets of the size of the first forget set.
    rows = ModelBank(context.work, bank_header(context.run))
    models = range(context.run.config.bank.models)
    sizes = [case.forget.size for case in context.run.cases]
    part = next((size for size in sizes if size), rows.size // 20)
    stability = rows.stability(max(1, min(part, rows.size // 4)), models=len(models))
    context.work.write_json(files.STABILITY, stability)

    # One pass over all rows, which lie in a file each.
    seconds = []

    def correct() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for row in rows.rows(models):
            seconds.append(row.seconds)
            yield row.member, row.correct[: rows.size]

    memorization = scores.memorization_of(scores.tally(correct(), rows.size))
    return {
        "memorization": memorization.values,
        "memorization_se": np.asarray(memorization.standard_error),
        "bank_seconds": np.asarray(sum(seconds)),
    }


def given_memorization(run: Run) -> dict[str, np.ndarray]:
    """Loads memorization that was estimated elsewhere, and its standard error if that is known."""
    images, section = run.data.train.images, run.config.scores
    given = {} if section is None else dict(section.memorization or {})
    if "published" in given:
        loaded = scores.load_published(given["published"], np.asarray(images))["memorization"]
    else:
        loaded = scores.load_scores(given["path"], given["key"], data=run.data)
    if loaded.standard_error is None:
        return {"memorization": loaded.values}
    return {"memorization": loaded.values, "memorization_se": loaded.standard_error}


def own_score(context: Context, name: str) -> np.ndarray:
    """Computes a score of the user's own, float32[N], larger for what is more memorized.

    Its function is called with what it takes of `model`, `variables` (those of the first seed's
    original model) and `data` (D, on the device).

    Raises:
      InvalidInputError: its result is not one finite number for each example of D.
    """
    section, size = context.run.config.scores, context.size
    path = "" if section is None else section.own[name]
    where = f"scores.own.{name}"
    function = resolve(where, path, {})
    variables = load_original(context, context.run.seeds[0])
    data = Dataset(context.data.images[:size], context.data.labels[:size])
    score = call_with(where, function, model=context.run.model, variables=variables, data=data)
    values = attempt(where, np.asarray, {"dtype": np.float32}, score)
    if values.shape != (size,) or not np.isfinite(values).all():
        raise InvalidInputError(
            f"scores.own.{name}: {path} returned {values.dtype}{list(values.shape)}; wanted a "
            f"finite number for each of the {size} training examples"
        )
    return values


def proxy_seconds(context: Context, values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Times the proxies that are averages over training: one look, times the epochs."""
    original = load_original(context, context.run.seeds[0])

    def seconds_of(name: str) -> float:
        watch = jax.jit(watcher(context.run.model, context.size, (name,)))
        jax.block_until_ready(watch(original, context.data))
        begin = time.perf_counter()
        jax.block_until_ready(watch(original, context.data))
        return (time.perf_counter() - begin) * context.run.recipe.epochs

    # Proxies of predictions share one look; each proxy of gradients has its own.
    looks = {name: "probabilities" for name in scores.PROXIES if name in values}
    looks |= {name: name for name in scores.GRADIENT_PROXIES if name in values}
    costs = {look_at: seconds_of(look_at) for look_at in set(looks.values())}
    return {name: costs[look_at] for name, look_at in looks.items()}
