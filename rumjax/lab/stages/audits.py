"""What audits find of every method, in two populations of models.

One population is that of the run's seeds, which all forget the run's forget set S and have an
oracle each. The other is made of the bank, whose models forget different parts of S.
"""

import functools
from collections.abc import Sequence

import numpy as np

from rumjax import audits
from rumjax.audits import FORGOTTEN, IN, OUT, Audited, Population
from rumjax.errors import InvalidInputError
from rumjax.forget_sets import ForgetSet
from rumjax.lab import answers, files, progress
from rumjax.lab.bank import ModelBank
from rumjax.lab.context import CaseContext
from rumjax.lab.dependencies import bank_header
from rumjax.lab.jobs import Batch
from rumjax.lab.stages import forget_sets
from rumjax.lab.stages.audited_models import Assignment, assign, audited_methods, sound_models

NOTHING = Audited((), {}, np.empty(0, int), {})
"""The findings of an audit of models that have all diverged."""


def batch(context: CaseContext) -> Batch:
    """Returns what lacks of a case's audits: methods that were not audited with as many models."""
    missing = []
    if context.run.config.audit is not None:
        wanted = counts(context)
        missing = [
            name
            for name in labels(context)
            if not wanted.items() <= context.place.read_json(files.audit(name), missing={}).items()
        ]
    return Batch(
        stage="audits",
        context=context,
        names=missing,
        title="Audits",
        total=len(missing),
        unit="methods",
    )


def make(context: CaseContext, names: Sequence[str], advance: progress.Advance) -> None:
    """Audits methods, from what is in the work directory.

    `audit/NAME.json` and `.npz` hold what `rumjax.audits.audit` finds of both populations.
    """
    forget_set, place = forget_sets.read(context), context.place
    populations = Populations(context, forget_set, assign(context, forget_set))
    for name in names:
        algorithm, strategy = labels(context)[name]
        results = populations.audit(name)
        about = {"name": name, "algorithm": algorithm, "strategy": strategy, **counts(context)}
        findings = [finding._asdict() for one in results for finding in one.findings]
        place.write_arrays(files.audit_arrays(name), arrays_of(results, forget_set.forget))
        place.write_json(files.audit(name), {**about, "findings": findings})
        advance(name)


def labels(context: CaseContext) -> dict[str, tuple[str, str]]:
    """Returns algorithm and strategy of all that is audited: retraining, and the methods."""
    methods = {
        method.name: (method.algorithm, method.strategy) for method in audited_methods(context)
    }
    return {files.RETRAIN: (files.RETRAIN, "second"), **methods}


def counts(context: CaseContext) -> dict[str, int]:
    """Returns how many models both populations have."""
    return {"models": len(sound_models(context)), "seeds": len(context.run.seeds)}


def arrays_of(results: Sequence[Audited], forget: np.ndarray) -> dict[str, np.ndarray]:
    """Returns curves, and the values of each example of S, NaN where there is none, by name."""
    arrays = {"examples": forget}
    for result in results:
        position = np.searchsorted(forget, result.examples)
        for name, curve in result.curves.items():
            arrays[f"{name}_fpr"] = curve.false_positive_rate
            arrays[f"{name}_tpr"] = curve.true_positive_rate
        for name, values in result.per_example.items():
            everywhere = np.full(len(forget), np.nan)
            everywhere[position] = values
            arrays[f"{name}_per_example" if name in result.curves else name] = everywhere
    return arrays


class Populations:
    """Reads the populations of a case from its directory."""

    def __init__(
        self, context: CaseContext, forget_set: ForgetSet, assignments: Sequence[Assignment]
    ) -> None:
        """Reads the bank; the populations that all methods are compared with are read once."""
        self.context, self.assignments = context, assignments
        self.forget, self.examples = forget_set.forget, len(context.data.labels)
        rows = ModelBank(context.work, bank_header(context.run)).stack(
            assignment.model for assignment in assignments
        )
        self.worlds = np.stack([one.worlds(self.examples) for one in assignments])
        seen = np.where(self.worlds == OUT, OUT, IN).astype(np.int8)
        self.shadows = Population(rows.margins, seen, rows.correct)
        self.retrained = functools.cache(lambda: self.of_bank(files.RETRAIN))
        self.oracles = functools.cache(lambda: self.of_seeds(files.ORACLES["reference"], OUT))

    def audit(self, name: str) -> tuple[Audited, Audited]:
        """Audits a method in the two populations: the bank's, and the seeds'.

        Retrained models are compared with oracles of their own: another set of them among the
        seeds; in the bank, where one game asks for them, half of the models with the other half.
        """
        is_retrained = name == files.RETRAIN
        unlearned, finite = without_diverged(self.of_bank(name))
        oracles = None if is_retrained else self.retrained()
        by_bank = NOTHING
        if finite.size:
            by_bank = audits.audit(unlearned, oracles, shadows=self.shadows, left_out=finite)
        if is_retrained:
            by_bank = with_halves(by_bank, unlearned)
        row = files.ORACLES["second"] if is_retrained else name
        of_seeds, seeds = without_diverged(self.of_seeds(row))
        return by_bank, audits.audit(of_seeds, self.oracles()) if seeds.size else NOTHING

    def of_bank(self, name: str) -> Population:
        """Returns the models of the bank after a method."""
        if name == files.ORIGINAL:
            return self.shadows._replace(worlds=self.worlds)
        names = [files.audited_answers(name, one.model) for one in self.assignments]
        return self._population(names, self.worlds)

    def of_seeds(self, name: str, world: int = FORGOTTEN) -> Population:
        """Returns the models of the seeds after a method; `world` is what S is to them."""
        seeds, size = self.context.run.seeds, self.context.size
        worlds = audits.worlds_of_task(len(seeds), self.forget, size, self.examples, world=world)
        return self._population([files.answers(name, seed) for seed in seeds], worlds)

    def _population(self, names: Sequence[str], worlds: np.ndarray) -> Population:
        place, count = self.context.place, self.examples
        models = [answers.from_arrays(place.read_arrays(name), count) for name in names]
        margins, correct = answers.stack(models)
        return Population(np.asarray(margins), worlds, np.asarray(correct))


def with_halves(result: Audited, retrained: Population) -> Audited:
    """Adds the game of efficacy between two halves of retrained models.

    Compared with themselves, each model would meet its twin.
    """
    is_even = np.arange(len(retrained.margins)) % 2 == 0
    ours, theirs = (retrained.of(half).at(result.examples) for half in (is_even, ~is_even))
    try:
        game = audits.ruli_efficacy(ours, theirs)
    except InvalidInputError:  # too few models to halve
        return result
    name = "ruli_efficacy"
    return result._replace(
        findings=(*result.findings, *audits.read_game(name, game)),
        curves={**result.curves, name: audits.roc_curve(game)},
    )


def without_diverged(population: Population) -> tuple[Population, np.ndarray]:
    """Returns the models whose margins are finite, and their positions among all."""
    finite = np.flatnonzero(np.isfinite(population.margins).all(axis=1))
    return population.of(finite), finite
