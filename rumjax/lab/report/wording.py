"""How a report words what it shows: numbers, intervals, names, lists and verdicts."""

import math
from collections.abc import Iterable, Mapping

from rumjax.lab.report.claims import Claim, Effect, Verdict
from rumjax.lab.report.tables import Line
from rumjax.metrics import Interval, Trend

NOTHING = "–"
"""stands where there is no number"""
STRATEGIES = {"vanilla": "vanilla", "shuffle": "shuffle", "rum_f": "RUM^F", "rum": "RUM"}

VERDICTS = {
    Verdict.HIGHER: "higher",
    Verdict.LOWER: "lower",
    Verdict.LEVEL: "level",
    Verdict.UNDECIDED: "undecided (one seed)",
}
CERTAINTIES = {
    Verdict.HIGHER: "more than chance explains: the 95 % interval leaves out zero",
    Verdict.LOWER: "more than chance explains: the 95 % interval leaves out zero",
    Verdict.LEVEL: "which chance could explain: the 95 % interval holds zero",
    Verdict.UNDECIDED: "which a single seed cannot tell from chance",
}
HOLDS = {True: "holds", False: "does not hold", None: "is not shown"}

# Numbers


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Writes a number with so many digits after the point, and a dash where there is none.

    Examples:
      >>> number(-0.5), number(0.25, 2, signed=True), number(float("nan"))
      ('−0.500', '+0.25', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING

    # Adding 0.0 makes a zero of what was rounded to −0.0.
    rounded = round(float(value), digits) + 0.0
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def compact(value: float) -> str:
    """Writes a number of any size: three digits after the point, or three significant ones."""
    if not math.isfinite(value) or value == 0 or 0.001 <= abs(value) < 1000:
        return number(value)
    digits = f"{abs(value):.3g}"
    return f"−{digits}" if value < 0 else digits


def rough(value: float) -> str:
    """Writes two significant digits."""
    return f"{value:.2g}"


def interval(value: Interval | None, *, bounds: bool = False, signed: bool = False) -> str:
    """Writes a number with its interval, as far as there are any.

    Args:
      value: None is written as a dash.
      bounds: whether to write both ends, as of a bootstrap, or else a half-width, as of Student's
        t, whose ends lie around the number alike.
      signed: whether to write a plus, as of a difference.

    Examples:
      >>> interval(Interval(0.5, 0.4, 0.6)), interval(Interval(0.5, 0.4, 0.6), bounds=True)
      ('0.500 ± 0.100', '0.500 [0.400, 0.600]')
    """
    if value is None or not math.isfinite(value.value):
        return NOTHING

    # A single seed has a mean and no interval.
    words = number(value.value, signed=signed)
    if not math.isfinite(value.low) or not math.isfinite(value.high):
        return words
    if bounds:
        return f"{words} [{number(value.low)}, {number(value.high)}]"
    return f"{words} ± {number(value.half_width)}"


def p_value(p: float) -> str:
    """Writes a p-value, in running text."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def effect(value: Effect) -> str:
    """Writes an effect with its sign, and its interval or p-value."""
    if isinstance(value, Trend):
        return f"{number(value.effect, 2, signed=True)} ({p_value(value.p_value)})"
    return interval(value, signed=True)


def counts(claim: Claim) -> str:
    """Counts the methods for which a claim on ToW is right beyond chance, wrong, and neither."""
    right, wrong, all_of_them = len(claim.supporting), len(claim.contradicting), len(claim.effects)
    words, against = "higher", "lower"
    if claim.expected is Verdict.LOWER:
        words, against = against, words
    return (
        f"a {words} ToW beyond chance for {right} of {all_of_them} methods, a {against} one for "
        f"{wrong}, and for {all_of_them - right - wrong} a difference that chance could explain"
    )


# Lists


def listing(words: Iterable[str]) -> str:
    """Joins words by commas and a last "and"; says "none" if there are none."""
    *most, last = [*words] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def effects(values: Mapping[str, Effect]) -> str:
    """Lists effects by subject, each with its interval or p-value."""
    return ", ".join(f"{name} {effect(value)}" for name, value in values.items())


# Names


def arrows(text: str) -> str:
    """Writes what stands in sequence with arrows."""
    return text.replace(">", " → ")


def runs(line: Line) -> str:
    """Says what a line runs: its algorithms, one after another, and its strategy.

    Examples:
      >>> runs(Line("mixed", "original>finetune", "rum"))
      'original → finetune, RUM'
    """
    return f"{arrows(line.method)}, {STRATEGIES.get(line.strategy, line.strategy)}"


def described(line: Line) -> str:
    """Names a line in running text, with what it runs.

    Examples:
      >>> described(Line("tuned", "finetune", "rum_f"))
      'tuned (finetune, RUM^F)'
    """
    return f"{line.name} ({runs(line)})"
