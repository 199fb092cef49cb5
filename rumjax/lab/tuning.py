"""Choosing hyper-parameters, and RUM's algorithms and order, by criteria that are spelled out.

A configuration's section `tuning`:

    seeds      of originals and oracles that are made for this alone; results are reported on others
    grids      for a method, or for all of an algorithm: values to try by option, or by part and
               option; ("log", low, high) and ("uniform", low, high) are ranges to draw from
    settings   how many to draw at random; by default a grid is searched whole
    criterion  of `CRITERIA`; the oracle's by default
    select     for a method of strategy "rum": {"candidates": names of methods, "search": of
               `SEARCHES`, "orders": "all" or "configured", "budget": most settings to try}
    like       methods that take over what is found for another, by name
    adopt      whether the run goes on with what is found, rather than with what is configured

Settings of one algorithm are models of one compiled program, however many there are.
"""

import csv
import functools
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import rankdata

from rumjax import ensemble, forget_sets, metrics
from rumjax.errors import InvalidInputError
from rumjax.lab import bank, progress
from rumjax.lab.context import (
    Context,
    Job,
    require_oracle,
    require_original,
    stage_key,
    steps_of,
    together,
)
from rumjax.lab.experiment import Experiment
from rumjax.lab.methods import Method, build_method, grid_of
from rumjax.lab.scoring import rescored
from rumjax.refine import Parts
from rumjax.types import Dataset, Scores

Setting: TypeAlias = dict[str, dict[str, Any]]
"""Options that differ from the configured ones, by part of the forget set."""
Row: TypeAlias = Mapping[str, np.ndarray]
"""Margins and correctness of a model on all examples, as `rumjax.lab.bank.reader` reads them."""

PATIENCE = 100
"""Draws for each setting that is wanted, after which there are no more."""
BUDGET = 30
"""Settings that a search for a selection may try, unless it is told otherwise."""
HELD = 2**30
"""Bytes of models, with what their unlearning keeps, that a CPU device may hold at a time."""


# What is tried


def settings(
    grid: Mapping[str, Any], order: Sequence[str], *, draw: int | None = None
) -> Iterator[Setting]:
    """The settings of a grid, as options by part of the forget set.

    A grid of plain options holds for all parts alike; one of options by part is searched jointly.

    Args:
      grid: see the top of this file.
      order: the method's parts.
      draw: how many to draw at random, without repetition, the same ones each time; None for all.

    Raises:
      InvalidInputError: a range, which has no end of values, but nothing said of how many to draw.
    """
    nested = bool(grid) and all(isinstance(values, Mapping) for values in grid.values())
    by_part = grid if nested else {"*": grid}
    axes = [(part, key, values) for part in by_part for key, values in by_part[part].items()]

    def setting(combination: Sequence[Any]) -> Setting:
        found: Setting = {}
        for (part, key, _), value in zip(axes, combination, strict=True):
            for each in order if part == "*" else (part,):
                found.setdefault(each, {})[key] = value
        return found

    ranges = [key for _, key, values in axes if is_range(values)]
    if draw is None:
        if ranges:
            raise InvalidInputError(
                f"tuning: {ranges[0]} is a range; say with tuning.settings how many to draw"
            )
        yield from map(setting, itertools.product(*(values for _, _, values in axes)))
        return
    count = draw if ranges else min(draw, int(np.prod([len(values) for *_, values in axes])))
    random = np.random.default_rng(int(fingerprint(grid), 16))
    seen: set[str] = set()
    for _ in range(PATIENCE * count):  # a narrow range may have fewer values than are wanted
        drawn = setting([drawn_from(values, random) for _, _, values in axes])
        if fingerprint(drawn) not in seen and len(seen) < count:
            seen.add(fingerprint(drawn))
            yield drawn


def is_range(values: Any) -> bool:
    """Whether an axis of a grid is ("log", low, high) or ("uniform", low, high)."""
    return len(values) == 3 and values[0] in ("log", "uniform")


def drawn_from(values: Any, random: np.random.Generator) -> Any:
    """A value of an axis, drawn at random; of a range rounded to three digits."""
    if not is_range(values):
        return values[random.integers(len(values))]
    kind, low, high = values
    if kind == "uniform":
        return float(f"{random.uniform(low, high):.3g}")
    return float(f"{np.exp(random.uniform(np.log(low), np.log(high))):.3g}")


def fingerprint(value: Any) -> str:
    """A short name for a JSON-like value, of hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def changed(context: Context, method: Method, setting: Setting) -> Method:
    """The method with other options by part."""
    given = method.options["select"]
    select = {part: {**options, **setting.get(part, {})} for part, options in given.items()}
    return rebuilt(context, method, select, method.order)


def rebuilt(
    context: Context, method: Method, select: Mapping[str, Any], order: Sequence[str]
) -> Method:
    """The method with another unlearner for every part, in another order."""
    built = context.experiment
    options = {**method.options, "select": dict(select), "order": tuple(order)}
    return build_method(method.name, options, built.config, built.model, built.data.num_classes)


# How it is judged


def against_oracle(found: Row, oracle: Row, sets: Mapping[str, np.ndarray]) -> float:
    """ToW against the oracle of the same seed: the paper's way, which takes a retrained model."""

    def accuracies(row: Row) -> metrics.Accuracies:
        return metrics.Accuracies(
            *(float(row["correct"][sets[name]].mean()) for name in ("forget", "retain", "test"))
        )

    return metrics.tug_of_war(accuracies(found), accuracies(oracle))


def on_validation(found: Row, original: Row, sets: Mapping[str, np.ndarray]) -> float:
    """(1 − |a_V − a_V(θo)|)·(1 − 2·|AUC − ½|): what can be known without any retrained model.

    AUC is that of telling S from V by the true label's confidence. At ½ the examples of S look as
    if never seen, as far as they are no harder than those of V: where S is atypical, an oracle
    would be less sure of it than of V, and this criterion stops too early.
    """
    seen, unseen = found["margins"][sets["forget"]], found["margins"][sets["validation"]]
    drop = abs(
        found["correct"][sets["validation"]].mean() - original["correct"][sets["validation"]].mean()
    )
    return float((1 - drop) * (1 - 2 * abs(area_under_curve(seen, unseen) - 0.5)))


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """The probability that one of `positive` exceeds one of `negative`, ties counting half."""
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    above = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))


CRITERIA: dict[str, Callable[[Row, Row, Mapping[str, np.ndarray]], float]] = {
    "oracle": against_oracle,
    "validation": on_validation,
}
REFERENCES = {"oracle": require_oracle, "validation": require_original}
"""The model of a seed that a criterion holds others against."""


class Trial:
    """Tries methods on the tuning seeds; what the directory knows is not tried again."""

    def __init__(self, context: Context, named: Mapping[str, Scores], parts: Parts) -> None:
        """Starts with what the directory knows.

        Args:
          context: of a case, with the tuning seeds for seeds; their models must be there.
          named: scores by name.
          parts: S as named parts.
        """
        self.context, self.named, self.parts = context, named, parts
        self.options = context.experiment.config["tuning"]
        self.criterion = self.options.get("criterion", "oracle")
        train, test = context.size, len(context.experiment.data.test.labels)
        forget = forget_sets.union(parts, context.size)
        self.sets = {
            "forget": forget,
            "retain": np.setdiff1d(np.arange(train), forget),
            "test": np.arange(train, train + test),
        }
        self.data = context.data
        if self.criterion == "validation":
            held = context.experiment.data.validation
            self.data = Dataset(
                jnp.concatenate([context.data.images, jnp.asarray(held.images)]),
                jnp.concatenate([context.data.labels, jnp.asarray(held.labels)]),
            )
            self.sets["validation"] = np.arange(train + test, len(self.data.labels))
        self.read = bank.reader(context.experiment.model)
        self.reference = functools.cache(self._reference)
        self.start = functools.cache(lambda seed: require_original(context, seed))

    def _reference(self, seed: int) -> Row:
        row, _ = jax.jit(self.read)(REFERENCES[self.criterion](self.context, seed), self.data)
        return jax.tree.map(np.asarray, row)

    def scores(self, methods: Sequence[Method], advance: progress.Advance) -> list[float]:
        """The mean of the criterion over the seeds of each method; 0 for a seed where it diverges.

        Methods of the same steps, up to numbers, are one compiled program.
        """
        place = self.context.place
        waiting: dict[Any, list[Method]] = {}
        for method in methods:
            if place.has(self.piece(method)):
                advance(method.name)
            else:
                waiting.setdefault(self.form(method), []).append(method)
        for alike in waiting.values():
            self._try(alike, advance)
        return [place.read_json(self.piece(method))["score"] for method in methods]

    def piece(self, method: Method) -> str:
        """The file that holds what is known of a method."""
        tried = {"options": method.options, "seeds": self.options["seeds"]}
        return f"tuning/{method.name}_{fingerprint(tried | {'criterion': self.criterion})}.json"

    def form(self, method: Method) -> Any:
        """What methods have in common that can be tried in one program."""
        select = (method.select[part] for part in method.order)
        return method.refine, method.parts, *(jax.tree.structure(each) for each in select)

    def _try(self, alike: Sequence[Method], advance: progress.Advance) -> None:
        seeds = self.context.experiment.seeds
        devices = jax.local_devices()
        most = max(1, self.most() * len(devices) // len(seeds))
        size = -(-len(alike) // -(-len(alike) // most))  # chunks of about the same size
        chunks = [alike[first : first + size] for first in range(0, len(alike), size)]
        models = size * len(seeds)

        def work(chunk: Sequence[Method]) -> ensemble.Work:
            return together([self.job(each, seed) for each in chunk for seed in seeds])

        made = ensemble.run(
            map(work, chunks),
            self.data,
            read=self.read,
            devices=devices[:models],
            per_device=-(-models // len(devices)),
            diverging="noted",
        )
        for chunk, found in zip(chunks, made, strict=True):
            rows = iter(zip(_rows(found.read[0], len(found.names)), found.diverged, strict=True))
            for method in chunk:
                by_seed = [self.judge(seed, *next(rows)) for seed in seeds]
                known = {
                    "method": method.name,
                    "algorithm": method.algorithm,
                    "options": method.options,
                    "criterion": self.criterion,
                    "score": float(np.mean(by_seed)),
                    "scores": by_seed,
                    "seconds": found.seconds * len(seeds),
                    "epochs": method.epochs,
                }
                self.context.place.write_json(self.piece(method), known)
                advance(method.name)

    def most(self) -> int:
        """How many models a device is to hold at a time."""
        if ensemble.within_device() == "vmap":
            return int(self.context.experiment.config["bank"]["per_device"])
        leaves = jax.tree.leaves(self.start(self.context.experiment.seeds[0]))
        return max(1, HELD // (4 * sum(leaf.nbytes for leaf in leaves)))

    def job(self, method: Method, seed: int) -> Job:
        """A method on a seed."""
        start = self.start(seed)
        named = rescored(self.context, method, self.named, start, seed)
        steps = steps_of(self.context, method, named, self.parts, seed)
        return Job(seed, stage_key(seed, f"unlearn/{method.name}"), steps, start, method.name)

    def judge(self, seed: int, row: Row, diverged: Exception | None) -> float:
        """The criterion of a model of a seed."""
        if diverged is not None:
            return 0.0
        return CRITERIA[self.criterion](row, self.reference(seed), self.sets)


def _rows(stacked: Row, count: int) -> Iterator[Row]:
    return ({name: values[m] for name, values in stacked.items()} for m in range(count))


# Searching


def best_setting(
    trial: Trial, method: Method, grid: Mapping[str, Any], advance: progress.Advance
) -> tuple[Method, float]:
    """The method with the setting of a grid that scores highest, the first of equals."""
    drawn = settings(grid, method.order, draw=trial.options.get("settings"))
    methods = [changed(trial.context, method, setting) for setting in drawn]
    found = trial.scores(methods, advance)
    best = int(np.argmax(found))
    return methods[best], found[best]


Choice: TypeAlias = tuple[Any, ...]
"""A value for every coordinate."""


def ascend(
    start: Choice,
    values: Sequence[Sequence[Any]],
    evaluate: Callable[[list[Choice]], list[float]],
    budget: int,
) -> tuple[Choice, float]:
    """Coordinate ascent: one coordinate after another is set to its best value, till none helps.

    Args:
      start: where to begin.
      values: those that each coordinate may take.
      evaluate: the scores of some choices, which should remember what it was asked.
      budget: the most choices to ask for.

    Returns:
      The best choice, and its score.
    """
    asked = {start: evaluate([start])[0]}
    best, coordinate, idle = start, 0, 0
    while idle < len(values):
        others = [
            (*best[:coordinate], value, *best[coordinate + 1 :]) for value in values[coordinate]
        ]
        new = [each for each in others if each not in asked][: budget - len(asked)]
        asked |= dict(zip(new, evaluate(new), strict=True)) if new else {}
        winner = max((each for each in (best, *others) if each in asked), key=lambda c: asked[c])
        idle = idle + 1 if asked[winner] <= asked[best] else 0
        best = winner if asked[winner] > asked[best] else best
        coordinate = (coordinate + 1) % len(values)
    return best, asked[best]


def exhaust(
    start: Choice,
    values: Sequence[Sequence[Any]],
    evaluate: Callable[[list[Choice]], list[float]],
    budget: int,
) -> tuple[Choice, float]:
    """Every choice there is; for arguments and result see `ascend`.

    Raises:
      InvalidInputError: there are more than the budget allows.
    """
    del start
    choices = list(itertools.product(*values))
    if len(choices) > budget:
        raise InvalidInputError(
            f"tuning: {len(choices)} selections exceed the budget of {budget}; raise it, name "
            'fewer candidates, or search by "ascent"'
        )
    found = evaluate(choices)
    best = int(np.argmax(found))
    return choices[best], found[best]


SEARCHES = {"ascent": ascend, "exhaustive": exhaust}


def best_selection(
    trial: Trial,
    method: Method,
    tuned: Mapping[str, Method],
    options: Mapping[str, Any],
    advance: progress.Advance,
) -> tuple[Method, float]:
    """The algorithms by part, and the order, with which a RUM scores highest.

    Candidates for a part are what the tuned methods named in `options` do there, on that part or on
    all of S if they have no parts, and doing nothing. The search starts from the first candidate
    everywhere, in the configured order.
    """
    pools = []
    for part in method.parts:
        pool = [
            taken_over(method, tuned[name].options)["select"][part]
            for name in options["candidates"]
        ]
        pool.append({"algorithm": "original"})
        pools.append(list({fingerprint(each): each for each in pool}.items()))
    by_name = {name: each for pool in pools for name, each in pool}

    def built(choice: Choice) -> Method:
        *names, order = choice
        setting = {part: by_name[name] for part, name in zip(method.parts, names, strict=True)}
        return rebuilt(trial.context, method, setting, order)

    def evaluate(choices: list[Choice]) -> list[float]:
        return trial.scores([built(choice) for choice in choices], advance)

    values = [[name for name, _ in pool] for pool in pools]
    fixed = options.get("orders", "all") == "configured"
    orders = [tuple(method.order)] if fixed else list(itertools.permutations(method.parts))
    start = (*(pool[0] for pool in values), tuple(method.order))
    search = SEARCHES[options.get("search", "ascent")]
    best, score = search(start, [*values, orders], evaluate, options.get("budget", BUDGET))
    return built(best), score


def searched(built: Experiment) -> dict[str, int]:
    """The methods for which there is something to search, and how much at most."""
    options = built.config.get("tuning") or {"grids": {}}
    found = {}
    for method in built.methods:
        if method.name in options.get("like", {}):
            continue
        if grid := grid_of(options["grids"], method):
            found[method.name] = len(
                list(settings(grid, method.order, draw=options.get("settings")))
            )
        if selected := options.get("select", {}).get(method.name):
            found[method.name] = found.get(method.name, 0) + selected.get("budget", BUDGET)
    return found


def taken_over(method: Method, other: Mapping[str, Any]) -> dict[str, Any]:
    """The method's options with the unlearners that another was found to do best with, by part.

    Parts that the other has not got, it goes about like the other's first.
    """
    found = other["select"]
    select = {part: found.get(part, next(iter(found.values()))) for part in method.parts}
    return {**method.options, "select": select}


def search(
    trial: Trial, methods: Sequence[Method], advance: progress.Advance
) -> dict[str, tuple[Method, float]]:
    """The best of every method that has a grid or a selection to be made, and its score."""
    found: dict[str, tuple[Method, float]] = {}
    for method in methods:
        if grid := grid_of(trial.options["grids"], method):
            found[method.name] = best_setting(trial, method, grid, advance)
    tuned = {each.name: each for each in trial.context.experiment.methods}
    tuned |= {name: method for name, (method, _) in found.items()}
    for method in methods:
        if options := trial.options.get("select", {}).get(method.name):
            found[method.name] = best_selection(trial, tuned[method.name], tuned, options, advance)
    return found


# What is left of it


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """All that was tried and how it scored, as CSV, the best of each method first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "criterion", "score", "scores", "epochs", "seconds", "select"])
    for row in sorted(rows, key=lambda row: (row["method"], -row["score"])):
        by_seed = " ".join(f"{each:.4f}" for each in row["scores"])
        select = json.dumps(row["options"]["select"])
        about = row["method"], row["criterion"], row["score"], by_seed
        writer.writerow([*about, row["epochs"], row["seconds"], select])
    return text.getvalue()


def fragment(methods: Sequence[Method]) -> str:
    """Methods as Python, to be pasted into a configuration as `config.methods`."""
    lines = ["methods = {"]
    for method in methods:
        lines.append(f'    "{method.name}": {{')
        lines += [f'        "{key}": {value!r},' for key, value in method.options.items()]
        lines.append("    },")
    return "\n".join([*lines, "}"]) + "\n"
