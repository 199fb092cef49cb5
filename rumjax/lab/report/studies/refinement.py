"""Whether it pays to refine a forget set, to choose algorithms for its parts, and to order them."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rumjax.lab.report import drawing, wording
from rumjax.lab.report.claims import Claim, Comparison, Verdict
from rumjax.lab.report.drawing import CEILING, COLORS, FLOOR, INK, Drawn, Picture
from rumjax.lab.report.exports import Table
from rumjax.lab.report.pages import Page
from rumjax.lab.report.studies.base import (
    Case,
    Study,
    difference,
    mean_of,
    means_of,
    methods_table,
    summary_of,
)
from rumjax.lab.report.tables import Calibration, Row
from rumjax.metrics import Interval

FORMS = ("vanilla", "shuffle", "rum_f")
MEASURES = {"tow": "ToW", "tow_mia": "ToW-MIA", "mia_gap": "MIA gap"}
GAINS = {
    "RUM^F is ahead of vanilla": ("rum_f", "vanilla", Verdict.HIGHER),
    "RUM^F is ahead of shuffle": ("rum_f", "shuffle", Verdict.HIGHER),
    "Shuffle is behind vanilla": ("shuffle", "vanilla", Verdict.LOWER),
}
"""What is claimed of every algorithm: two of its forms, and how the first is to differ in ToW."""


def page(study: Study, figures: bool) -> Page:
    """Answers what refinement gains; the study has one case."""
    case, options = study.only_case, study.options
    groups = method_groups(study)

    # The sentences: refinement, algorithms for parts, and what else can be chosen.
    claims = gain_claims(case, options["strategies"])
    answers = [say_gain(claim) for claim in claims if claim.effects]
    best = best_single(case, single_methods(options["strategies"]))
    if best is not None:
        answers += [say_mixture(mixture) for mixture in mixtures(case, options["mixed"], best)]
        answers += [say_choice(choice) for choice in choices(case, options["mixed"])]
    answers.append(say_spreads(spreads(case, options["orders"])))
    answers.append(say_ranking("refiner", ranking(case, options["refiners"])))
    answers.append(say_ranking("number of parts", ranking(case, options["parts"])))

    # The tables and figures: one of each for every group of methods.
    tables = [gains_table(case, options["strategies"])]
    tables += [methods_table(case, group.names, key, group.title) for key, group in groups.items()]
    question = (
        "Does unlearning come closer to retraining when the forget set is refined into parts of "
        "like memorization, when each part gets an algorithm of its own, and does the order matter?"
    )
    pictures = [draw(case, key, group) for key, group in groups.items()] if figures else []
    return Page("What refinement gains", question, answers, tables, pictures)


# Methods


class Group(NamedTuple):
    """Methods that are shown together."""

    title: str
    names: Mapping[str, str]
    """names in the configuration, by label"""


def method_groups(study: Study) -> dict[str, Group]:
    """Returns the groups of methods that have a table and a figure, by the names of these."""
    options = study.options
    mixed = with_algorithms(study.only_case, options["mixed"])
    return {
        "strategies": Group("Vanilla, shuffle and RUM^F", single_methods(options["strategies"])),
        "mixed": Group("An algorithm for each part", mixed),
        "orders": Group("Orders of the parts", options["orders"]),
        "refiners": Group("What the parts are refined by", options["refiners"]),
        "parts": Group("How many parts", dict(sorted(options["parts"].items()))),
    }


def single_methods(strategies: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Returns the methods that use one algorithm throughout, by algorithm and form."""
    return {
        f"{algorithm} {wording.STRATEGIES[form]}": names[form]
        for algorithm, names in strategies.items()
        for form in FORMS
    }


def with_algorithms(case: Case, mixed: Mapping[str, str]) -> dict[str, str]:
    """Adds to the labels of mixed RUMs what they turned out to be made of."""
    labelled = {}
    for label, name in mixed.items():
        summary = summary_of(case, name)
        if summary is not None:
            label = f"{label}: {wording.arrows(summary.line.method)}"
        labelled[label] = name
    return labelled


# Claims


def gain_claims(case: Case, strategies: Mapping[str, Mapping[str, str]]) -> list[Claim]:
    """Claims that RUM^F beats vanilla and shuffle, and that shuffle is worse than vanilla."""
    claims = []
    for topic, (one, other, expected) in GAINS.items():
        gains = {
            algorithm: difference(case, names[one], names[other], "tow")
            for algorithm, names in strategies.items()
        }
        effects = {name: gain for name, gain in gains.items() if gain is not None}
        missing = [name for name, gain in gains.items() if gain is None]
        claims.append(Claim(topic, expected, effects, missing))
    return claims


class Best(NamedTuple):
    """The method with the highest ToW among those that use one algorithm throughout."""

    label: str
    name: str
    """in the configuration"""
    tow: Interval


def best_single(case: Case, names: Mapping[str, str]) -> Best | None:
    """Finds the best method by ToW; None before there is any."""
    means = means_of(case, names, "tow")
    if not means:
        return None
    label = max(means, key=lambda label: means[label].value)
    return Best(label, names[label], means[label])


class Mixture(NamedTuple):
    """A RUM with an algorithm for each part, against the best single algorithm."""

    algorithms: str
    comparison: Comparison
    """in ToW"""
    tow_mia: Interval


def mixtures(case: Case, mixed: Mapping[str, str], best: Best) -> list[Mixture]:
    """Compares the mixed RUMs with the best single algorithm."""
    compared = []
    for label, name in mixed.items():
        summary, gain = summary_of(case, name), difference(case, name, best.name, "tow")
        if summary is not None and gain is not None:
            tow, tow_mia = summary.measures["tow"], summary.measures["tow_mia"]
            comparison = Comparison(label, best.label, tow, best.tow, gain)
            compared.append(Mixture(wording.arrows(summary.line.method), comparison, tow_mia))
    return compared


def choices(case: Case, mixed: Mapping[str, str]) -> list[Comparison]:
    """Compares the first way to choose algorithms for parts with all others."""
    comparisons = []
    labels = list(mixed)
    means = {label: mean_of(case, mixed[label], "tow") for label in labels}
    for label in labels[1:]:
        first = labels[0]
        gain = difference(case, mixed[label], mixed[first], "tow")
        if gain is not None:
            comparisons.append(Comparison(label, first, means[label], means[first], gain))
    return comparisons


class Spread(NamedTuple):
    """The spread of a measure over the orders of the parts, and over seeds."""

    measure: str
    size: float
    """the highest mean less the lowest"""
    width: float
    """of an interval over seeds, on average over the orders; NaN for a single seed"""
    best: str
    """order"""

    @property
    def holds(self) -> bool | None:
        """Says whether orders differ by more than seeds do; None for a single seed."""
        return None if math.isnan(self.width) else self.size > self.width


def spreads(case: Case, orders: Mapping[str, str]) -> list[Spread]:
    """Measures how far orders spread ToW and the MIA gap; empty before there are two orders."""
    measured = []
    for measure, choose in (("tow", max), ("mia_gap", min)):
        means = means_of(case, orders, measure)
        if len(means) < 2:
            return []
        values = {order: mean.value for order, mean in means.items()}
        width = 2 * sum(mean.half_width for mean in means.values()) / len(means)
        best = choose(values, key=lambda order: values[order])
        measured.append(Spread(measure, float(np.ptp([*values.values()])), width, best))
    return measured


class Ranking(NamedTuple):
    """Methods by ToW."""

    means: Mapping[str, Interval]
    """by label, the highest first"""
    ends: Comparison | None
    """the first against the last; None if they share no seed, or are one"""


def ranking(case: Case, names: Mapping[str, str]) -> Ranking:
    """Ranks methods by ToW, and compares the first with the last."""
    means = means_of(case, names, "tow")
    ranked = sorted(means, key=lambda label: -means[label].value)

    # The first and the last are the most likely to differ.
    ends = None
    if len(ranked) > 1:
        first, last = ranked[0], ranked[-1]
        gain = difference(case, names[first], names[last], "tow")
        if gain is not None:
            ends = Comparison(first, last, means[first], means[last], gain)
    return Ranking({label: means[label] for label in ranked}, ends)


# Sentences


def say_gain(claim: Claim) -> str:
    """Says for which algorithms a claim about their forms holds."""
    holds = wording.HOLDS[claim.holds]
    if not claim.holds:
        holds += " for all"
    sentence = (
        f"{claim.topic} in ToW: {holds}. Of {len(claim.effects)} algorithms it is so beyond chance "
        f"for {wording.listing(claim.supporting)}, and the other way round for "
        f"{wording.listing(claim.contradicting)}. "
        f"Differences: {wording.effects(claim.effects)}."
    )
    if claim.missing:
        sentence += f" There is no comparison yet for {wording.listing(claim.missing)}."
    return sentence


def say_mixture(mixture: Mixture) -> str:
    """Says how a mixed RUM compares with the best single algorithm."""
    algorithms, comparison, tow_mia = mixture
    return (
        f"The RUM chosen {comparison.one}, {algorithms}, has a ToW of "
        f"{wording.interval(comparison.value)}, {wording.VERDICTS[comparison.verdict]} against the "
        f"best single algorithm, {comparison.other} ({wording.interval(comparison.other_value)}; "
        f"difference {wording.interval(comparison.difference, signed=True)}), and a ToW-MIA of "
        f"{wording.interval(tow_mia)}."
    )


def say_choice(choice: Comparison) -> str:
    """Says how one way to choose the algorithms of a RUM compares with another."""
    return (
        f"Chosen {choice.one}, RUM is {wording.VERDICTS[choice.verdict]} against the choice "
        f"{choice.other}: {wording.interval(choice.difference, signed=True)} in ToW."
    )


def say_spreads(spreads: list[Spread]) -> str:
    """Says how far orders spread ToW and the MIA gap, held against the seeds' own spread."""
    if not spreads:
        return "There are no results of two orders yet."
    clauses = []
    for spread in spreads:
        # Orders matter if they differ by more than seeds do.
        if spread.holds is None:
            against = wording.CERTAINTIES[Verdict.UNDECIDED]
        else:
            more = "more" if spread.holds else "no more"
            width = wording.number(spread.width)
            against = f"{more} than the width of an interval over seeds ({width})"
        measure = "ToW" if spread.measure == "tow" else "the MIA gap"
        clauses.append(
            f"{measure} spreads by {wording.number(spread.size)} over the orders, {against}; the "
            f"best is {wording.arrows(spread.best)}"
        )
    return f"The order of the parts: {'; '.join(clauses)}."


def say_ranking(what: str, ranking: Ranking) -> str:
    """Says which of some methods has the highest ToW, and whether that could be chance."""
    if not ranking.means:
        return f"There are no results by {what} yet."
    means = ", ".join(f"{label} {wording.interval(mean)}" for label, mean in ranking.means.items())
    sentence = f"By {what}, ToW is {means}"
    if ranking.ends is not None:
        sentence += f"; first and last are {_say_ends(ranking.ends)}"
    return f"{sentence}."


def _say_ends(ends: Comparison) -> str:
    if ends.verdict is Verdict.LEVEL:
        return wording.VERDICTS[Verdict.LEVEL]
    apart = f"apart by {wording.interval(ends.difference)}"
    if ends.verdict is Verdict.UNDECIDED:
        apart += f", {wording.CERTAINTIES[Verdict.UNDECIDED]}"
    return apart


# Table and figures


def gains_table(case: Case, strategies: Mapping[str, Mapping[str, str]]) -> Table:
    """Makes a table of what RUM^F gains over vanilla and shuffle, seed by seed."""
    pairs = (("rum_f", "vanilla"), ("rum_f", "shuffle"), ("shuffle", "vanilla"))
    titles = [" − ".join(wording.STRATEGIES[form] for form in pair) for pair in pairs]

    # A row for each algorithm and measure.
    rows = []
    for algorithm, names in strategies.items():
        for measure in ("tow", "tow_mia"):
            gains = [difference(case, names[one], names[other], measure) for one, other in pairs]
            rows.append((algorithm, MEASURES[measure], *gains))
    return Table(
        "gains",
        "Differences over the same seeds",
        ("Algorithm", "Measure", *titles),
        rows,
        "Means and 95 % Student-t half-widths of differences within a seed.",
    )


@drawing.forgiving
def draw(case: Case, key: str, group: Group) -> Picture:
    """Draws ToW, ToW-MIA and the MIA gap of a group of methods."""
    return Picture(
        f"refinement_{key}",
        group.title,
        f"Dots are means over the seeds, bars 95 % intervals. {drawing.SEEDS_SHOWN} "
        "The band is a second oracle, as "
        "good as chance lets a perfect method be; the dotted line the original model.",
        draw_dots(case, group.names),
    )


def draw_dots(case: Case, names: Mapping[str, str]) -> Drawn:
    """Draws a panel for each measure, with a row for each method."""
    figure = Figure(figsize=(10, 1.2 + 0.28 * max(len(names), 3)), layout="constrained")
    panels = drawing.grid(figure, len(MEASURES), len(MEASURES), sharey=True)
    data: list[Row] = []
    for panel, (measure, title) in zip(panels, MEASURES.items(), strict=True):
        # Floor and ceiling are lines across the panel.
        for mark, look in ((Calibration.ORIGINAL, FLOOR), (Calibration.SECOND, CEILING)):
            drawing.draw_mark(panel, drawing.cut(measure, mean_of(case, mark, measure)), look)
        # Methods are dots, one below the other.
        for y, (label, name) in enumerate(names.items()):
            mean = mean_of(case, name, measure)
            if mean is not None:
                _draw_dot(panel, case, name, measure, y)
                row: Row = {"label": label, "name": name, "measure": measure}
                data.append(row | {"mean": mean.value, "half_width": mean.half_width})
        drawing.style_rows(panel, title)

    # The panels share their rows, so that the first one's labels do for all.
    drawing.label_rows(panels[0], [drawing.label(wording.arrows(n)) for n in names])
    return drawing.render(figure, data)


def _draw_dot(panel: Axes, case: Case, name: str, measure: str, y: int) -> None:
    summary, mean = summary_of(case, name), drawing.cut(measure, mean_of(case, name, measure))
    if summary is None or mean is None:
        return
    color = COLORS.get(summary.line.strategy, INK)
    panel.errorbar(mean.value, y, xerr=drawing.error_bar(mean), fmt="o", color=color)
    drawing.draw_seeds(panel, summary.seeds(measure), y, color)
