"""What the figures say, in sentences."""

import math
from collections.abc import Iterator

from rumjax.lab.report.columns import say_interval, show_line, show_method
from rumjax.lab.report.tables import ORIGINAL, SECOND, Interval, Results, Summary, paired


def answer(results: Results) -> list[str]:
    """Which method is best by ToW, and what RUM gains; the first sentence is the answer."""
    methods = [each for each in results.methods if "tow" in each.measures]
    if not methods:
        return ["There are no results of unlearning methods yet."]
    ranked = sorted(methods, key=lambda each: -each.measures["tow"].mean)
    sentences = [best_sentence(results, ranked[0])]
    if len(ranked) > 1:
        sentences.append(runner_up_sentence(ranked[0], ranked[1]))
    return [*sentences, *refinement_sentence(methods), *mixed_sentences(methods)]


def best_sentence(results: Results, best: Summary) -> str:
    """The best method with its interval, between the floor and the ceiling."""
    tow = say_interval(best.measures["tow"])
    said = f"{show_line(best.line)} comes closest to retraining from scratch: ToW {tow}"
    marks = []
    for which, words in (
        (SECOND, "a second retraining scores"),
        (ORIGINAL, "the original model, which forgets nothing,"),
    ):
        found = results.calibration(which)
        if found and "tow" in found.measures:
            marks.append(f"{words} {say_interval(found.measures['tow'])}")
    if marks:
        said += ", where " + " and ".join(marks)
    if "rte" in best.measures:
        said += f". It takes {best.measures['rte'].mean:.2g} times as long as retraining"
    return said + "."


def runner_up_sentence(best: Summary, second: Summary) -> str:
    """How far ahead the best is, and whether that could be chance."""
    said = f"The next, {show_line(second.line)}, has {say_interval(second.measures['tow'])}"
    gap = paired(best, second, "tow")
    if gap is None:
        return said + "."
    return f"{said}; the best is ahead by {say_interval(gap)}, {_verdict(gap)}."


def refinement_sentence(methods: list[Summary]) -> Iterator[str]:
    """RUM^F against vanilla with the same algorithm, seed by seed."""
    gains: dict[str, Interval] = {}
    vanilla = {each.line.method: each for each in methods if each.line.strategy == "vanilla"}
    for each in methods:
        if each.line.strategy == "rum_f" and each.line.method in vanilla:
            gain = paired(each, vanilla[each.line.method], "tow")
            if gain is not None:
                note = f" ({each.line.note})" if each.line.note else ""
                gains[show_method(each.line) + note] = gain
    if not gains:
        return
    ahead = sum(gain.mean > 0 for gain in gains.values())
    said = f"RUM^F has a higher ToW than vanilla unlearning for {ahead} of {len(gains)} algorithms"
    if all(math.isnan(gain.half_width) for gain in gains.values()):
        said += ", which a single seed cannot tell from chance"
    else:
        above = sum(gain.mean - gain.half_width > 0 for gain in gains.values())
        below = sum(gain.mean + gain.half_width < 0 for gain in gains.values())
        said += (
            f"; the 95 % interval of the difference is above zero for {above}, below for {below}"
        )
    listed = ", ".join(f"{name} {say_interval(gain, sign='+')}" for name, gain in gains.items())
    yield f"{said}. Differences over the same seeds: {listed}."


def mixed_sentences(methods: list[Summary]) -> Iterator[str]:
    """RUM with an algorithm per part against the best vanilla one."""
    vanilla = [each for each in methods if each.line.strategy == "vanilla"]
    if not vanilla:
        return
    best = max(vanilla, key=lambda each: each.measures["tow"].mean)
    for each in methods:
        gain = paired(each, best, "tow") if each.line.strategy == "rum" else None
        if gain is not None:
            yield (
                f"{show_line(each.line)} differs from the best vanilla method, "
                f"{show_method(best.line)}, by {say_interval(gain, sign='+')}, {_verdict(gain)}."
            )


def _verdict(gain: Interval) -> str:
    if math.isnan(gain.half_width):
        return "which a single seed cannot tell from chance"
    if abs(gain.mean) > gain.half_width:
        return "more than chance explains: the 95 % interval leaves out zero"
    return "which chance could explain: the 95 % interval holds zero"
