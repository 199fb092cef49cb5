"""What the results of a run say: claims that are computed from the numbers, then sentences."""

from collections.abc import Mapping
from typing import NamedTuple

from rumjax.lab.report import wording
from rumjax.lab.report.claims import Claim, Comparison, Verdict
from rumjax.lab.report.tables import Calibration, Line, Results, Summary, paired_difference
from rumjax.metrics import Interval


class Leader(NamedTuple):
    """The method whose ToW is highest, and what its ToW is held against."""

    line: Line
    tow: Interval
    ceiling: Interval | None
    """the ToW of a second retraining"""
    floor: Interval | None
    """the ToW of the original model"""
    cost: Interval | None
    """in gradients, over those of retraining; None where they are not counted"""
    time: Interval | None
    """of unlearning, over that of retraining"""


def conclude(results: Results) -> list[str]:
    """Says which method is best by ToW, and what RUM gains; the first sentence is the answer."""
    if not results.has_learned:
        return [*say_unlearned(results), *say_odd({"": results})]
    best = leader(results)
    if best is None:
        nothing = "There are no results of unlearning methods yet."
        return [nothing, *say_odd({"": results})]
    sentences = [say_leader(best)]
    second = runner_up(results)
    if second is not None:
        sentences.append(say_runner_up(second))
    refinement = refinement_claim(results)
    if refinement.effects:
        sentences.append(say_refinement(refinement))
    sentences += [say_mixture(mixture) for mixture in mixtures(results)]
    return sentences + say_odd({"": results})


# Claims


def measured(results: Results) -> list[Summary]:
    """Returns the methods that have a ToW, as they are configured."""
    return [summary for summary in results.methods if "tow" in summary.measures]


def ranked(results: Results) -> list[Summary]:
    """Returns the methods that have a ToW, the highest first."""
    return sorted(measured(results), key=lambda summary: -summary.measures["tow"].value)


def leader(results: Results) -> Leader | None:
    """Finds the best method, and what floor and ceiling are; None before any has results."""
    methods = ranked(results)
    if not methods:
        return None

    # Floor and ceiling, where there are any.
    marks = {mark: results.calibration(mark) for mark in Calibration}
    tow = {mark: line.measures.get("tow") for mark, line in marks.items() if line is not None}
    best = methods[0]
    return Leader(
        line=best.line,
        tow=best.measures["tow"],
        ceiling=tow.get(Calibration.SECOND),
        floor=tow.get(Calibration.ORIGINAL),
        cost=best.measures.get("rge"),
        time=best.measures.get("rte"),
    )


def runner_up(results: Results) -> Comparison | None:
    """Compares the best method with the next; None if there is no other."""
    methods = ranked(results)
    return _compare(methods[0], methods[1]) if len(methods) > 1 else None


def refinement_claim(results: Results) -> Claim:
    """Claims that RUM^F has a higher ToW than the best vanilla method of the same algorithm."""
    methods = measured(results)
    by_tow = sorted(methods, key=lambda method: method.measures["tow"].value)
    vanilla = {method.line.method: method for method in by_tow if method.line.strategy == "vanilla"}

    # Both strategies share their seeds, and are compared on each.
    gains: dict[str, Interval] = {}
    for refined in methods:
        if refined.line.strategy == "rum_f" and refined.line.method in vanilla:
            gain = paired_difference(refined, vanilla[refined.line.method], "tow")
            if gain is not None:
                gains[refined.line.name] = gain
    return Claim("RUM^F over vanilla", Verdict.HIGHER, gains)


def mixtures(results: Results) -> list[Comparison]:
    """Compares every RUM with an algorithm per part with the best vanilla method."""
    methods = measured(results)
    vanilla = [method for method in methods if method.line.strategy == "vanilla"]
    if not vanilla:
        return []
    best = max(vanilla, key=lambda method: method.measures["tow"].value)
    comparisons = [_compare(method, best) for method in methods if method.line.strategy == "rum"]
    return [each for each in comparisons if each.difference is not None]


def _compare(one: Summary, other: Summary) -> Comparison:
    return Comparison(
        one.line.name,
        other.line.name,
        one.measures["tow"],
        other.measures["tow"],
        paired_difference(one, other, "tow"),
    )


# Sentences


def say_leader(best: Leader) -> str:
    """Says which method is best, between the floor and the ceiling, and what it costs."""
    sentence = (
        f"{wording.described(best.line)} comes closest to retraining from scratch: "
        f"ToW {wording.interval(best.tow)}"
    )

    # What it is held against, as far as that is there.
    marks = []
    if best.ceiling is not None:
        marks.append(f"a second retraining scores {wording.interval(best.ceiling)}")
    if best.floor is not None:
        floor = wording.interval(best.floor)
        marks.append(f"the original model, which forgets nothing, {floor}")
    if marks:
        sentence += ", where " + " and ".join(marks)

    # What it costs.
    costs = []
    if best.cost is not None:
        costs.append(f"{wording.rough(best.cost.value)} times the gradients of retraining")
    if best.time is not None:
        costs.append(f"{wording.rough(best.time.value)} times its time")
    if costs:
        sentence += f". It takes {wording.listing(costs)}"
    return f"{sentence}."


def say_runner_up(second: Comparison) -> str:
    """Says how far ahead the best is, and whether that could be chance."""
    sentence = f"The next, {second.other}, has {wording.interval(second.other_value)}"
    if second.difference is None:
        return f"{sentence}."
    gap, certainty = wording.interval(second.difference), wording.CERTAINTIES[second.verdict]
    return f"{sentence}; the best is ahead by {gap}, {certainty}."


def say_refinement(claim: Claim) -> str:
    """Says for how many methods RUM^F is ahead of vanilla beyond chance, seed by seed."""
    differences = f"Differences over the same seeds: {wording.effects(claim.effects)}."

    # A single seed has no intervals to count.
    if len(claim.judged(Verdict.UNDECIDED)) == len(claim.effects):
        certainty = wording.CERTAINTIES[Verdict.UNDECIDED]
        return f"RUM^F and vanilla unlearning differ in ToW, {certainty}. {differences}"
    return f"RUM^F against vanilla unlearning: {wording.counts(claim)}. {differences}"


def say_mixture(mixture: Comparison) -> str:
    """Says how a RUM with an algorithm per part differs from the best vanilla method."""
    gain = wording.interval(mixture.difference, signed=True)
    return (
        f"{mixture.one} differs from the best vanilla method, {mixture.other}, by {gain}, "
        f"{wording.CERTAINTIES[mixture.verdict]}."
    )


def caveats(results: Mapping[str, Results]) -> list[str]:
    """Warns of models that diverged or are what they were, and of runs not made yet.

    Args:
      results: of a run, or of a study's cases by name; names of cases are only given if there are
        several.
    """
    missing: list[str] = []
    for name, own in results.items():
        lines = dict.fromkeys(line.name for line, _ in own.missing)
        missing += [f"{line}{_place(name, results)}" for line in lines]
    sentences = say_odd(results)
    if missing:
        sentences.append(
            f"This page is partial. Not all seeds have been run of {wording.listing(missing)}."
        )
    return sentences


def say_unlearned(results: Results) -> list[str]:
    """Says that original models have learned nothing that could be forgotten, if that is so."""
    original = results.calibration(Calibration.ORIGINAL)
    if results.has_learned or original is None:
        return []
    accuracy = wording.number(original.measures["test_accuracy"].value)
    return [
        f"Nothing can be said of unlearning: the original models have a test accuracy of "
        f"{accuracy}, and guessing reaches {wording.number(results.chance)}. Train them for more "
        "epochs, at another learning rate, or on more data."
    ]


def say_odd(results: Mapping[str, Results]) -> list[str]:
    """Says which methods have models that diverged, and which have some that are what they were."""
    return [*say_diverged(results), *say_unchanged(results)]


def say_unchanged(results: Mapping[str, Results]) -> list[str]:
    """Says which methods have changed no parameter of some models, in one sentence if any."""
    methods = [
        f"{summary.line.name}{_place(name, results)} ({summary.unchanged} of {len(summary.rows)})"
        for name, own in results.items()
        for summary in own.summaries
        if summary.unchanged
    ]
    if not methods:
        return []
    return [
        "Some models are the ones that they started from, since their algorithm selected no "
        f"parameter or took no step: {wording.listing(methods)}."
    ]


def say_diverged(results: Mapping[str, Results]) -> list[str]:
    """Says which methods have models that diverged, in one sentence if any."""
    methods = [
        f"{summary.line.name}{_place(name, results)} ({summary.diverged} of {len(summary.rows)})"
        for name, own in results.items()
        for summary in own.summaries
        if summary.diverged
    ]
    if not methods:
        return []
    return [
        "Some models diverged, and their methods have no means, since those over the other seeds "
        f"would flatter them: {wording.listing(methods)}."
    ]


def _place(name: str, results: Mapping[str, Results]) -> str:
    return f" on {name}" if len(results) > 1 else ""
