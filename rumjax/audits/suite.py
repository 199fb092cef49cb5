"""One interface to all audits: populations in, findings with intervals out."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

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
from rumjax.errors import InvalidInputError, check_count

LEAST = 3
"""Models that each world of an example needs, so that two are left when one is left out."""
RATES = {"tpr_1_percent": 0.01, "tpr_01_percent": 0.001}
"""False positive rates at which true positive rates are read, by the name of the measure."""
GROUPS = 10
"""Groups of models, each of which the jackknife leaves out once."""
LEVEL = 0.95
"""Confidence of all intervals."""


class Finding(NamedTuple):
    """A number that an audit comes to.

    Examples:
      >>> Finding("u_lira", "auc", 0.61, 0.55, 0.67).value
      0.61
    """

    audit: str
    measure: str
    value: float
    low: float | None = None
    high: float | None = None
    """the ends of a 95 % interval, where there is one"""


class Audited(NamedTuple):
    """The result of all audits of a population.

    Examples:
      >>> findings = (Finding("u_lira", "auc", 0.61),)
      >>> Audited(findings, {}, np.arange(5), {}).value("u_lira", "auc")
      0.61
    """

    findings: tuple[Finding, ...]
    curves: Mapping[str, Curve]
    """the curve of every attack on single examples, by name"""
    examples: np.ndarray
    """the examples that were attacked or compared with oracles, int[n]"""
    per_example: Mapping[str, np.ndarray]
    """numbers for every such example, float64[n]: an attack's accuracy; "klom"; "epsilon" """

    def value(self, audit: str, measure: str) -> float:
        """Returns the value of one of the findings.

        Raises:
          KeyError: there is none of that name.
        """
        values = {(finding.audit, finding.measure): finding.value for finding in self.findings}
        return values[audit, measure]


def audit(
    unlearned: Population,
    oracles: Population | None = None,
    *,
    shadows: Population | None = None,
    left_out: np.ndarray | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Audited:
    """Runs all audits that some models allow for, which depends on what they have seen.

    - Examples that some models have forgotten and others have never seen are attacked one by one:
      by U-LiRA and RULI's privacy game; with `shadows` by LiRA and RMIA too; with `oracles` that
      have seen what the unlearned models keep, by RULI's game of efficacy.
    - Examples that all models have forgotten and none of the `oracles` has seen are compared with
      the oracles': KLOM, and the score of the NeurIPS 2023 challenge.

    To see how much an audit can tell at all, run it on populations whose answer is certain: other
    oracles in place of `unlearned`, for which a perfect audit finds nothing, and original models,
    for which it finds everything.

    Args:
      unlearned: M unlearned models on n examples; see `Population`.
      oracles: models retrained without their forget sets, on the same examples.
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

    Examples:
      >>> random = np.random.default_rng(0)
      >>> worlds = np.tile([[OUT], [FORGOTTEN]], (8, 5)).astype(np.int8)
      >>> margins = 6.0 * (worlds == FORGOTTEN) + random.normal(size=worlds.shape)
      >>> audited = audit(Population(margins, worlds), draws=10)
      >>> sorted(audited.curves)
      ['ruli_privacy', 'u_lira']
      >>> audited.value("u_lira", "auc") > 0.9
      True
    """
    # Populations must be in order, and of the same examples.
    unlearned = check_population("unlearned", unlearned)
    if oracles is not None:
        oracles = check_population("oracles", oracles)
        check_examples("oracles", oracles, "the unlearned models'", unlearned)
    if shadows is not None:
        shadows = check_population("shadows", shadows)
        check_examples("shadows", shadows, "the unlearned models'", unlearned)
    draws = check_count("draws", draws)

    # Single examples are attacked where models differ in what they forgot; else sides are compared.
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
    """Attacks single examples by everything that the populations allow for."""
    # Attacks that need no other models than the unlearned ones.
    targets = unlearned.at(examples)
    games = {
        "u_lira": unlearning_lira(targets),
        "ruli_privacy": ruli_privacy(targets),
    }
    if np.min((targets.worlds == IN).sum(axis=0)) >= LEAST:
        games["u_lira_retained"] = unlearning_lira(targets, positive=IN)

    # Attacks that need oracles, or models that were not unlearned.
    if oracles is not None:
        games["ruli_efficacy"] = ruli_efficacy(targets, oracles.at(examples))
    if shadows is not None:
        of_shadows = shadows.at(examples)
        games["lira"] = lira(targets, of_shadows, left_out=left_out)
        games["offline_lira"] = offline_lira(targets, of_shadows, left_out=left_out)
        unseen = np.flatnonzero(
            np.all(unlearned.worlds == OUT, axis=0) & np.all(shadows.worlds == OUT, axis=0)
        )
        if unseen.size:
            games["rmia"] = rmia(
                targets,
                of_shadows,
                unlearned.margins[:, unseen],
                shadows.margins[:, unseen],
                left_out=left_out,
            )

    findings = [
        finding
        for name, game in games.items()
        for finding in read_game(name, game, draws=draws, seed=seed)
    ]
    return Audited(
        tuple(findings),
        {name: roc_curve(game) for name, game in games.items()},
        examples,
        {name: per_example(game) for name, game in games.items() if game.threshold is not None},
    )


def read_game(name: str, game: Game, *, draws: int = 200, seed: int = 0) -> list[Finding]:
    """Reads an attack's answers; arguments and intervals are those of `audit`.

    Examples:
      >>> positive = np.tile([True, False], (6, 4))
      >>> game = Game(positive * 1.0, positive, np.ones((6, 8), bool))
      >>> [finding.measure for finding in read_game("perfect", game, draws=10)]
      ['auc', 'tpr_1_percent', 'tpr_01_percent']
    """
    measures = {"auc": "auc"}
    if game.threshold is not None:
        measures["accuracy"] = "balanced_accuracy"
    findings = [
        Finding(name, measure, *bootstrap(game, function, draws=draws, level=LEVEL, seed=seed))
        for measure, function in measures.items()
    ]
    for measure, rate in RATES.items():
        read = true_positive_rate(game, rate)
        findings.append(Finding(name, measure, read.value, read.low, read.high))
    return findings


# Comparisons with oracles


def _comparisons(
    unlearned: Population, oracles: Population, forget: np.ndarray, draws: int, seed: int
) -> Audited:
    """Compares unlearned models with oracles on S, R and T, by KLOM and the challenge's score."""
    # R and T are the examples that all models of both sides have seen, and that none has.
    both = np.concatenate([unlearned.worlds, oracles.worlds])
    sets = {
        "forget": forget,
        "retain": np.flatnonzero(np.all(both == IN, axis=0)),
        "test": np.flatnonzero(np.all(both == OUT, axis=0)),
    }
    findings, kept = [], {}
    random = np.random.default_rng(seed)

    # KLOM on each of the sets.
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
                findings.append(Finding(name, f"{where}_{measure}", value, low, high))

    # The challenge's score.
    sample = _jackknife(epsilons, unlearned.margins[:, forget], oracles.margins[:, forget])
    kept["epsilon"] = sample.values
    models = min(len(unlearned.margins), len(oracles.margins))
    quality = sample.interval(functools.partial(forgetting_quality, models=models), draws, random)
    findings += [
        Finding("challenge", "quality", *quality),
        Finding("challenge", "mean_epsilon", *sample.interval(np.mean, draws, random)),
    ]
    if ratios := _ratios(unlearned, oracles, sets):
        # The ratios of accuracies vary far less from model to model than the quality does.
        scores = (challenge_score(number, *ratios) for number in quality)
        findings.append(Finding("challenge", "score", *scores))
    return Audited(tuple(findings), {}, forget, kept)


SUMMARIES: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda values: float(np.mean(values)),
    "p95": lambda values: float(np.percentile(values, 95)),
    "p99": lambda values: float(np.percentile(values, 99)),
}
"""Summaries of KLOM over examples, by the name of the measure."""


def _ratios(
    unlearned: Population, oracles: Population, sets: Mapping[str, np.ndarray]
) -> tuple[float, ...]:
    """Returns accuracies on R and T over the oracles'; nothing where they were not measured."""
    if unlearned.correct is None or oracles.correct is None:
        return ()
    if not sets["retain"].size or not sets["test"].size:
        return ()
    return tuple(
        float(unlearned.correct[:, sets[name]].mean() / oracles.correct[:, sets[name]].mean())
        for name in ("retain", "test")
    )


class _Sample(NamedTuple):
    """A measure of every example, by all models and with each group of models left out in turn."""

    values: np.ndarray
    """float64[n]"""
    without: np.ndarray
    """float64[GROUPS, n]"""

    def interval(
        self, summary: Callable[[np.ndarray], float], draws: int, random: np.random.Generator
    ) -> tuple[float, float, float]:
        """Returns a summary over the examples, and the ends of its interval."""
        from scipy import stats

        # The variances of a jackknife over models and of a bootstrap of examples.
        value = float(summary(self.values))
        summaries = np.array([summary(values) for values in self.without])
        by_models = (len(summaries) - 1) * np.var(summaries)
        picked = random.integers(len(self.values), size=(draws, len(self.values)))
        by_examples = np.var([summary(self.values[indices]) for indices in picked])
        half = float(stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(by_models + by_examples))
        return value, value - half, value + half


def _jackknife(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], ours: np.ndarray, theirs: np.ndarray
) -> _Sample:
    """Measures examples, float[M, n] and float[M', n], by all models and without each group."""
    # Models are dealt to the groups in turn.
    groups = min(GROUPS, len(ours), len(theirs))
    without = [
        function(*(side[np.arange(len(side)) % groups != group] for side in (ours, theirs)))
        for group in range(groups)
    ]
    return _Sample(function(ours, theirs), np.stack(without))
