"""The stage of audits: many unlearned models, and what `rumjax.audits` finds of them.

Two populations of every method are looked at. One is that of the run's seeds, which all forget the
run's forget set S and have an oracle each. The other is made of the bank: each of its models saw a
random part of D, and is asked to forget a random part of those examples of S that it saw. So every
example of S is forgotten by some models, kept by others, and was never seen by the rest.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from rumjax import audits, forget_sets
from rumjax.audits import FORGOTTEN, IN, OUT, Audited, Population
from rumjax.errors import InvalidInputError
from rumjax.lab import bank, dependencies, progress
from rumjax.lab.bank import ModelBank
from rumjax.lab.cluster import ALONE, Process
from rumjax.lab.context import Context, Job, make, require_of_bank, stage_key
from rumjax.lab.experiment import SHARE
from rumjax.lab.methods import ORACLES, Method, refinement
from rumjax.lab.observing import is_measured, margins_name
from rumjax.lab.scoring import train_bank
from rumjax.refine import Parts, rum
from rumjax.types import Scores, Task, subset
from rumjax.unlearn import Step

GAUGED = 16
"""models of the bank by whose seconds time is estimated"""
RETRAIN = "retrain"
"""What is called after the oracles: they are held to the audits as if they were a method."""


def audited(context: Context) -> tuple[Method, ...]:
    """The methods that are audited; "original" always is, to show what an audit can see."""
    named = context.experiment.config["audit"].get("methods")
    return tuple(
        each
        for each in context.experiment.methods
        if named is None or each.name in ("original", *named)
    )


# The models of the bank, and what they are asked to forget


class Asked(NamedTuple):
    """What becomes of a model of the bank."""

    model: int
    seen: np.ndarray
    """what it was trained on, int32[n]"""
    forget: np.ndarray
    """what it is asked to forget, int32[f]: the same number for all models"""

    @property
    def retain(self) -> np.ndarray:
        """What it keeps, int32[n − f]."""
        return np.setdiff1d(self.seen, self.forget)


def asked(context: Context, parts: Parts) -> list[Asked]:
    """What each model of the bank is asked to forget: some of the examples of S that it saw.

    It depends on the bank's seed, on S and on the model's own number alone, so that an audit can be
    extended to more models.

    Raises:
      InvalidInputError: a model saw fewer of them than it is to forget.
    """
    options, config = context.experiment.config["audit"], context.experiment.config["bank"]
    found = ModelBank(context.work, dependencies.bank_header(context.experiment))
    targets = forget_sets.union(parts, context.size)
    count = round(options.get("share", SHARE) * config["fraction"] * len(targets))
    each = []
    for model in range(options["models"]):
        seen = found.subset(model)
        known = np.intersect1d(seen, targets)
        if not 0 < count <= len(known):
            raise InvalidInputError(
                f"audit.share: each model of the bank is to forget {count} of the {len(targets)} "
                f"examples of S, but model {model} saw {len(known)}; choose another share, or a "
                "larger forget set"
            )
        random = np.random.default_rng((config["seed"], model, 1))
        chosen = random.choice(known, count, replace=False)
        each.append(Asked(model, seen, np.sort(chosen).astype(np.int32)))
    return each


def worlds(context: Context, each: Asked) -> np.ndarray:
    """What a model of the bank has seen of D and T, int8[N + T]."""
    found = np.full(len(context.data.labels), OUT, np.int8)
    found[each.seen] = IN
    found[each.forget] = FORGOTTEN
    return found


def steps_for(
    context: Context, method: Method, named: dict[str, Scores], each: Asked
) -> tuple[Step, ...]:
    """A method's steps on what a model of the bank is asked to forget."""
    labels = np.asarray(context.experiment.data.train.labels)
    return rum(
        each.forget,
        each.retain,
        refine=refinement(method, named, labels, each.model),
        select=method.select,
        order=method.order,
    )


def make_models(context: Context, named: dict[str, Scores], plan: Sequence[Asked]) -> None:
    """What the models of the bank become by retraining and by every method, as margins.

    A file each, `audit/models/NAME/00012.npz`, whole or absent. A model that diverges is kept as
    one whose margins are not finite, and audits leave it out.
    """
    experiment, place = context.experiment, context.place

    def retraining(each: Asked) -> tuple[Step, ...]:
        return (Step(RETRAIN, experiment.recipe, Task(subset(each.forget), subset(each.retain))),)

    kinds: dict[str, Callable[[Asked], tuple[Step, ...]]] = {RETRAIN: retraining}
    for method in audited(context):
        if method.name != "original":  # that is the bank itself
            kinds[method.name] = functools.partial(steps_for, context, method, named)
    missing = {
        name: [each for each in plan if not place.has(row_name(name, each.model))] for name in kinds
    }
    total = sum(
        len(each) * sum(step.unlearner.epochs for step in kinds[name](plan[0]))
        for name, each in missing.items()
    )
    read = bank.reader(experiment.model)
    with progress.stage(context.console, "Audited models", total, "epochs") as advance:
        for name, waiting in missing.items():
            key = stage_key(experiment.config["bank"]["seed"], f"audit/{name}")
            jobs = [
                Job(
                    each.model,
                    jax.random.fold_in(key, each.model),
                    kinds[name](each),
                    None
                    if name == RETRAIN
                    else functools.partial(require_of_bank, context, each.model),
                    what="model",
                )
                for each in waiting
            ]
            for job, made in make(context, jobs, advance, name, read=read, diverging="noted"):
                if made.diverged is not None:
                    context.console.print(f"{made.diverged} Audits leave it out.", markup=False)
                row = made.read[0]
                place.write_arrays(
                    row_name(name, job.seed),
                    margins=np.where(made.diverged is None, row["margins"], np.float32(np.nan)),
                    correct=np.packbits(row["correct"]),
                    seconds=np.asarray(made.times["seconds"]),
                )


def row_name(name: str, model: int) -> str:
    """The file of a model of the bank after a method."""
    return f"audit/models/{name}/{model:05d}.npz"


# What an audit costs


class Count(NamedTuple):
    """Models of one kind that an audit needs."""

    made: int
    """those that it makes"""
    reused: int
    """those that are there already"""
    passes: float
    """over D, that making them takes"""


def census(context: Context) -> dict[str, Count]:
    """The models of a case's audit by kind, to be counted before anything is made."""
    experiment, work, place = context.experiment, context.work, context.place
    models, seeds = range(experiment.config["audit"]["models"]), experiment.seeds
    of_bank = ModelBank(work, dependencies.bank_header(experiment))
    lacking = set(bank.lacking(of_bank, len(models), checkpoints=True))
    epochs, fraction = experiment.recipe.epochs, experiment.config["bank"]["fraction"]
    methods = [each for each in audited(context) if each.name != "original"]

    def count(there: Sequence[tuple[bool, float]]) -> Count:
        passes = sum(each for is_there, each in there if not is_there)
        reused = sum(is_there for is_there, _ in there)
        return Count(len(there) - reused, reused, passes)

    return {
        "original models": count(
            [(work.has_model(f"original_seed{seed}"), epochs) for seed in seeds]
        ),
        "bank": count([(model not in lacking, epochs * fraction) for model in models]),
        "oracles": count(
            [(is_measured(context, name, seed), epochs) for name in ORACLES for seed in seeds]
        ),
        "oracles of the bank": count(
            [(place.has(row_name(RETRAIN, model)), epochs * fraction) for model in models]
        ),
        "unlearned": count(
            [
                (is_measured(context, each.name, seed), each.epochs)
                for each in methods
                for seed in seeds
            ]
        ),
        "unlearned from the bank": count(
            [
                (place.has(row_name(each.name, model)), each.epochs * fraction)
                for each in methods
                for model in models
            ]
        ),
    }


def announce(context: Context) -> dict[str, Count]:
    """Says what is still to be made for a case's audit, and how long that takes.

    The time is known once the bank has models to go by.

    Returns:
      What `census` counts.
    """
    counts = census(context)
    name = f" of {context.experiment.name}" if context.place is not context.work else ""
    made = [f"{count.made} {kind}" for kind, count in counts.items() if count.made]
    reused = sum(count.reused for count in counts.values())
    said = f"Audit{name}: {', '.join(made) or 'no models'} to be made, {reused} are there already."
    of_bank = ModelBank(context.work, dependencies.bank_header(context.experiment))
    done = of_bank.done()
    if made and done:
        options = context.experiment.config
        seconds = np.median([row.seconds for row in of_bank.rows(done[:GAUGED])])
        per_pass = seconds / (context.experiment.recipe.epochs * options["bank"]["fraction"])
        passes = sum(each.passes for each in counts.values())
        said += f" That takes about {progress.duration(passes * per_pass)}, at the bank's speed."
    context.console.print(said, markup=False, highlight=False)
    return counts


# What audits find


def audit(
    context: Context,
    named: dict[str, Scores],
    parts: Parts,
    counts: Mapping[str, Count],
    process: Process = ALONE,
) -> None:
    """Every method's audit, from what is in the work directory or made now.

    `audit/NAME.json` and `.npz` hold what `rumjax.audits.audit` finds of both populations.

    Args:
      context: of a case whose methods have been run on all seeds.
      named: scores by name.
      parts: S as named parts.
      counts: by `census`, before anything was made.
      process: which of how many processes this is, for the bank.
    """
    train_bank(context, process)
    plan = asked(context, parts)
    make_models(context, named, plan)
    names = {RETRAIN: (RETRAIN, "second")} | {
        each.name: (each.algorithm, each.strategy) for each in audited(context)
    }
    place, seeds = context.place, len(context.experiment.seeds)
    counted = {"models": len(plan), "seeds": seeds}
    missing = [
        name
        for name in names
        if not counted.items() <= place.read_json(f"audit/{name}.json", missing={}).items()
    ]
    known = Known(context, parts, plan)
    place.write_json(
        "audit/models.json",
        {
            "trained": {kind: each.made for kind, each in counts.items()},
            "reused": {kind: each.reused for kind, each in counts.items()},
        },
    )
    with progress.stage(context.console, "Audits", len(missing), "methods") as advance:
        for name in missing:
            algorithm, strategy = names[name]
            found = known.judge(name)
            about = {"name": name, "algorithm": algorithm, "strategy": strategy, **counted}
            findings = [each._asdict() for one in found for each in one.findings]
            place.write_arrays(f"audit/{name}.npz", **arrays_of(found, known.forget))
            place.write_json(f"audit/{name}.json", {**about, "findings": findings})
            advance(name)


def arrays_of(found: Sequence[Audited], forget: np.ndarray) -> dict[str, np.ndarray]:
    """Curves, and what is known of each example of S, NaN where nothing is, by name."""
    arrays = {"examples": forget}
    for each in found:
        position = np.searchsorted(forget, each.examples)
        for name, curve in each.curves.items():
            arrays[f"{name}_fpr"] = curve.false_positive_rate
            arrays[f"{name}_tpr"] = curve.true_positive_rate
        for name, values in each.per_example.items():
            everywhere = np.full(len(forget), np.nan)
            everywhere[position] = values
            arrays[f"{name}_per_example" if name in each.curves else name] = everywhere
    return arrays


class Known:
    """The populations of a case."""

    def __init__(self, context: Context, parts: Parts, plan: Sequence[Asked]) -> None:
        """Reads those that all methods are held against."""
        self.context, self.plan = context, plan
        self.forget = forget_sets.union(parts, context.size)
        of_bank = ModelBank(context.work, dependencies.bank_header(context.experiment))
        rows = list(of_bank.rows(each.model for each in plan))
        self.worlds = np.stack([worlds(context, each) for each in plan])
        seen = np.where(self.worlds == OUT, OUT, IN).astype(np.int8)
        self.shadows = Population(
            np.stack([row.margins for row in rows]), seen, np.stack([row.correct for row in rows])
        )
        self.retrained = functools.cache(lambda: self.of_bank(RETRAIN))
        self.oracles = functools.cache(lambda: self.of_seeds("retrain_reference", OUT))

    def judge(self, name: str) -> tuple[Audited, Audited]:
        """What audits find of a method in the two populations: the bank's, and the seeds'.

        Retraining is held against oracles of its own: another set of them among the seeds; in the
        bank, where one game asks for them, half of the models against the other half.
        """
        of_bank, fine = without_diverged(self.of_bank(name))
        oracles = None if name == RETRAIN else self.retrained()
        by_bank = audits.audit(of_bank, oracles, shadows=self.shadows, left_out=fine)
        if name == RETRAIN:
            by_bank = with_halves(by_bank, of_bank)
        of_seeds, _ = without_diverged(self.of_seeds("retrain_second" if name == RETRAIN else name))
        return by_bank, audits.audit(of_seeds, self.oracles())

    def of_bank(self, name: str) -> Population:
        """The models of the bank after a method."""
        if name == "original":
            return self.shadows._replace(worlds=self.worlds)
        rows = [self.context.place.read_arrays(row_name(name, each.model)) for each in self.plan]
        return self._population(rows, self.worlds)

    def of_seeds(self, name: str, world: int = FORGOTTEN) -> Population:
        """The models of the seeds after a method; `world` is what S is to them."""
        seeds, examples = self.context.experiment.seeds, len(self.context.data.labels)
        rows = [self.context.place.read_arrays(margins_name(name, seed)) for seed in seeds]
        size = self.context.size
        seen = audits.worlds_of_task(len(seeds), self.forget, size, examples, world=world)
        return self._population(rows, seen)

    def _population(self, rows: Sequence[Mapping[str, np.ndarray]], seen: np.ndarray) -> Population:
        count = seen.shape[1]
        right = [np.unpackbits(row["correct"], count=count).astype(bool) for row in rows]
        return Population(np.stack([row["margins"] for row in rows]), seen, np.stack(right))


def with_halves(found: Audited, retrained: Population) -> Audited:
    """What was found of retrained models, and the game of efficacy between two halves of them.

    Against themselves, each would find its twin on the other side.
    """
    half = np.arange(len(retrained.margins)) % 2 == 0
    ours, theirs = (retrained.of(each).at(found.examples) for each in (half, ~half))
    try:
        game = audits.ruli_efficacy(ours, theirs)
    except InvalidInputError:  # too few models to halve
        return found
    name = "ruli_efficacy"
    return found._replace(
        findings=(*found.findings, *audits.read_game(name, game)),
        curves={**found.curves, name: audits.roc_curve(game)},
    )


def without_diverged(population: Population) -> tuple[Population, np.ndarray]:
    """The models whose margins are finite, and which of all they are."""
    fine = np.flatnonzero(np.isfinite(population.margins).all(axis=1))
    return population.of(fine), fine
