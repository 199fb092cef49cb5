"""One interface to all audits: populations in, findings with intervals out."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from rumjax.audits.challenge import challenge_score, epsilons, forgetting_quality
from rumjax.audits.games import (
    Curve,
    bootstrap,
    per_example,
    roc_curve,
    true_positive_rate,
)
from rumjax.audits.kl_margins import corrected_klom, klom
from rumjax.audits.likelihood_ratio import lira, offline_lira, unlearning_lira
from rumjax.audits.pairwise_ratio import rmia
from rumjax.audits.population import (
    FORGOTTEN,
    IN,
    OUT,
    Game,
    Population,
    check_examples,
    check_population,
)
from rumjax.audits.ruli import ruli_efficacy, ruli_privacy
from rumjax.errors import InvalidInputError

LEAST = 3
"""models in each world of an example, so that two are left when one is left out"""
RATES = {"tpr_1_percent": 0.01, "tpr_01_percent": 0.001}
GROUPS = 10
"""of models, each of which the jackknife leaves out once"""
LEVEL = 0.95


class Finding(NamedTuple):
    """A number that an audit comes to."""

    audit: str
    measure: str
    value: float
    low: float | None = None
    high: float | None = None
    """the ends of a 95 % interval, where there is one"""


class Audited(NamedTuple):
    """What all audits find of a population."""

    findings: tuple[Finding, ...]
    curves: Mapping[str, Curve]
    """of each attack on single examples"""
    examples: np.ndarray
    """those that were attacked or compared with oracles, int[n]"""
    per_example: Mapping[str, np.ndarray]
    """of each of them, float64[n]: an attack's accuracy; "klom"; "epsilon" """

    def value(self, audit: str, measure: str) -> float:
        """One of the findings.

        Raises:
          KeyError: there is none of that name.
        """
        return {each[:2]: each.value for each in self.findings}[audit, measure]


def audit(
    unlearned: Population,
    oracles: Population | None = None,
    *,
    shadows: Population | None = None,
    left_out: np.ndarray | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Audited:
    """All audits that some models allow for.

    What can be asked depends on what the models have seen:

    - Examples that some models have forgotten and others have never seen are attacked one by one:
      by U-LiRA and RULI's privacy game; with `shadows` by LiRA and RMIA too; with `oracles` that
      have seen what the unlearned models keep, by RULI's game of efficacy.
    - Examples that all models have forgotten and none of the `oracles` has seen are compared with
      the oracles': KLOM, and the score of the NeurIPS 2023 challenge.

    To know what these can tell at all, audit populations of which the answer is known: other
    oracles in place of `unlearned`, for which a perfect audit finds nothing, and original models,
    for which it finds everything.

    Args:
      unlearned: M unlearned models on n examples; see `Population`.
      oracles: models retrained without what is to be forgotten, on the same examples.
      shadows: models that were trained and not unlearned, on the same examples.
      left_out: of each unlearned model, the row of `shadows` that it came from, int[M], −1 for
        none.
      draws: of the bootstrap.
      seed: of the bootstrap.

    Returns:
      Rates have intervals by Clopper and Pearson. Accuracies and areas have those of a bootstrap
      of models and examples together; KLOM and the challenge's score add the variances of a
      jackknife over `GROUPS` groups of models and of a bootstrap of examples.

    Raises:
      InvalidInputError: populations of different examples, margins that are not finite, or none of
        the two situations above.
    """
    everyone = {"unlearned": unlearned, "oracles": oracles, "shadows": shadows}
    for name, each in everyone.items():
        if each is not None:
            check_population(name, each)
            check_examples(name, each, "the unlearned models'", unlearned)
    forgotten, never = ((unlearned.worlds == world).sum(axis=0) for world in (FORGOTTEN, OUT))
    single = np.flatnonzero((forgotten >= LEAST) & (never >= LEAST))
    shared = np.flatnonzero(forgotten == len(unlearned.margins))
    if single.size:
        return _attacks(unlearned, oracles, shadows, left_out, single, draws, seed)
    if shared.size and oracles is not None:
        return _comparisons(unlearned, oracles, shared, draws, seed)
    raise InvalidInputError(
        f"audit: no example is forgotten by {LEAST} models and never seen by {LEAST} others, and "
        "there are no oracles for examples that all models have forgotten"
    )


# Attacks on single examples


def _attacks(
    unlearned: Population,
    oracles: Population | None,
    shadows: Population | None,
    left_out: np.ndarray | None,
    examples: np.ndarray,
    draws: int,
    seed: int,
) -> Audited:
    targets = unlearned.at(examples)
    games = {
        "u_lira": unlearning_lira(targets),
        "ruli_privacy": ruli_privacy(targets),
    }
    if np.min((targets.worlds == IN).sum(axis=0)) >= LEAST:
        games["u_lira_retained"] = unlearning_lira(targets, positive=IN)
    if oracles is not None:
        games["ruli_efficacy"] = ruli_efficacy(targets, oracles.at(examples))
    if shadows is not None:
        known = shadows.at(examples)
        games["lira"] = lira(targets, known, left_out=left_out)
        games["offline_lira"] = offline_lira(targets, known, left_out=left_out)
        unseen = np.flatnonzero(
            np.all(unlearned.worlds == OUT, axis=0) & np.all(shadows.worlds == OUT, axis=0)
        )
        if unseen.size:
            games["rmia"] = rmia(
                targets,
                known,
                unlearned.margins[:, unseen],
                shadows.margins[:, unseen],
                left_out=left_out,
            )
    found = [
        each
        for name, game in games.items()
        for each in read_game(name, game, draws=draws, seed=seed)
    ]
    return Audited(
        tuple(found),
        {name: roc_curve(game) for name, game in games.items()},
        examples,
        {name: per_example(game) for name, game in games.items() if game.threshold is not None},
    )


def read_game(name: str, game: Game, *, draws: int = 200, seed: int = 0) -> list[Finding]:
    """What is said of an attack's answers; arguments and intervals are those of `audit`."""
    measures = {"auc": "auc"}
    if game.threshold is not None:
        measures["accuracy"] = "balanced_accuracy"
    found = [
        Finding(name, measure, *bootstrap(game, function, draws=draws, level=LEVEL, seed=seed))
        for measure, function in measures.items()
    ]
    for measure, rate in RATES.items():
        found.append(Finding(name, measure, *true_positive_rate(game, rate)[:3]))
    return found


# Comparisons with oracles


def _comparisons(
    unlearned: Population, oracles: Population, forget: np.ndarray, draws: int, seed: int
) -> Audited:
    both = np.concatenate([unlearned.worlds, oracles.worlds])
    sets = {
        "forget": forget,
        "retain": np.flatnonzero(np.all(both == IN, axis=0)),
        "test": np.flatnonzero(np.all(both == OUT, axis=0)),
    }
    found, kept = [], {}
    random = np.random.default_rng(seed)
    for name, function in {"klom": klom, "klom_corrected": corrected_klom}.items():
        for where, examples in sets.items():
            if not examples.size:
                continue
            sides = unlearned.margins[:, examples], oracles.margins[:, examples]
            sample = _jackknife(function, *sides)
            if where == "forget":
                kept[name] = sample.values
            for measure, summary in SUMMARIES.items():
                value, low, high = sample.interval(summary, draws, random)
                found.append(Finding(name, f"{where}_{measure}", value, low, high))
    sample = _jackknife(epsilons, unlearned.margins[:, forget], oracles.margins[:, forget])
    kept["epsilon"] = sample.values
    models = min(len(unlearned.margins), len(oracles.margins))
    quality = sample.interval(functools.partial(forgetting_quality, models=models), draws, random)
    found += [
        Finding("challenge", "quality", *quality),
        Finding("challenge", "mean_epsilon", *sample.interval(np.mean, draws, random)),
    ]
    if ratios := _ratios(unlearned, oracles, sets):
        # The ratios of accuracies vary far less from model to model than the quality does.
        found.append(
            Finding("challenge", "score", *(challenge_score(each, *ratios) for each in quality))
        )
    return Audited(tuple(found), {}, forget, kept)


SUMMARIES: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda values: float(np.mean(values)),
    "p95": lambda values: float(np.percentile(values, 95)),
    "p99": lambda values: float(np.percentile(values, 99)),
}


def _ratios(
    unlearned: Population, oracles: Population, sets: Mapping[str, np.ndarray]
) -> tuple[float, ...]:
    """Accuracy on R and T, over the oracles'; empty where it is not known."""
    if unlearned.correct is None or oracles.correct is None:
        return ()
    if not sets["retain"].size or not sets["test"].size:
        return ()
    return tuple(
        float(unlearned.correct[:, sets[name]].mean() / oracles.correct[:, sets[name]].mean())
        for name in ("retain", "test")
    )


class _Sample(NamedTuple):
    """A measure of every example, by all models and with each group of models left out."""

    values: np.ndarray
    """float64[n]"""
    without: np.ndarray
    """float64[GROUPS, n]"""

    def interval(
        self, summary: Callable[[np.ndarray], float], draws: int, random: np.random.Generator
    ) -> tuple[float, float, float]:
        """A summary over the examples, and the ends of its interval."""
        value = float(summary(self.values))
        each = np.array([summary(values) for values in self.without])
        by_models = (len(each) - 1) * np.var(each)
        picked = random.integers(len(self.values), size=(draws, len(self.values)))
        by_examples = np.var([summary(self.values[indices]) for indices in picked])
        half = float(stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(by_models + by_examples))
        return value, value - half, value + half


def _jackknife(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], ours: np.ndarray, theirs: np.ndarray
) -> _Sample:
    """A measure of examples, float[M, n] and float[M', n], as `_Sample`."""
    groups = min(GROUPS, len(ours), len(theirs))
    without = [
        function(*(side[np.arange(len(side)) % groups != group] for side in (ours, theirs)))
        for group in range(groups)
    ]
    return _Sample(function(ours, theirs), np.stack(without))
