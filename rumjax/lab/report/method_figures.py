"""The figures of methods: what they reach, between floor and ceiling, and what they cost."""

import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from rumjax.lab.report import drawing, wording
from rumjax.lab.report.drawing import (
    CEILING,
    COLORS,
    FLOOR,
    GRAY,
    MARKERS,
    PALE,
    SEEDS_SHOWN,
    Drawn,
    Picture,
)
from rumjax.lab.report.tables import Calibration, Results, Row, Summary

MOST_PARTS = 5
FLOOR_AND_CEILING = (Calibration.ORIGINAL, Calibration.SECOND)
FLOOR_AND_ORACLE = (Calibration.ORIGINAL, Calibration.REFERENCE)
LOOKS = {
    Calibration.ORIGINAL: FLOOR,
    Calibration.REFERENCE: CEILING,
    Calibration.SECOND: CEILING,
}
LABELS = {
    Calibration.ORIGINAL: "original",
    Calibration.REFERENCE: "retrained",
    Calibration.SECOND: "retrained again",
}


@drawing.forgiving
def tug_of_war(results: Results) -> Picture:
    """Draws ToW and ToW-MIA of every method, between floor and ceiling."""
    measures = {"tow": "ToW", "tow_mia": "ToW-MIA"}
    return Picture(
        "tow",
        "How close to retraining",
        "Further right is better. Dots are means over the seeds, bars 95 % intervals. "
        f"{SEEDS_SHOWN} "
        "The solid line is a second retraining, as good as chance lets a perfect method be; the "
        "dotted line is the original model, which forgets nothing. Compare RUM^F with vanilla and "
        "with shuffle of the same algorithm: a gain over both is due to the refinement by score.",
        _draw_panels(results, measures, FLOOR_AND_CEILING),
    )


@drawing.forgiving
def accuracies(results: Results) -> Picture:
    """Draws the accuracy of every method on S, R and T, against the oracle's."""
    sets = {"forget": "forget set S", "retain": "retain set R", "test": "test set T"}
    measures = {f"{name}_accuracy": f"Accuracy on {words}" for name, words in sets.items()}
    return Picture(
        "accuracy",
        "Accuracy against the oracle’s",
        "The solid line is the retrained model: a method should be on it, neither left of it nor "
        "right. Right of it on S means that not all was forgotten; left of it on S, that more was "
        "than retraining would have; left of it on R or T, that the model was damaged.",
        _draw_panels(results, measures, FLOOR_AND_ORACLE, sharex="none"),
    )


@drawing.forgiving
def by_part(results: Results, measures: Sequence[str]) -> Picture:
    """Draws ToW of every method on each part of S, or on the first five of many.

    Args:
      results: of the run.
      measures: a name for each part, "tow_low" for instance.
    """
    titles = {name: f"ToW, {name.removeprefix('tow_')}" for name in measures[:MOST_PARTS]}
    caption = (
        "ToW with the accuracy on one part in place of that on all of S. A method that is strong "
        "on one part and weak on another is a reason to choose an algorithm for each, as RUM does."
    )
    if len(measures) > MOST_PARTS:
        caption += " The other parts are in results.csv."
    drawn = _draw_panels(results, titles, FLOOR_AND_CEILING)
    return Picture("parts", "ToW by part of the forget set", caption, drawn)


@drawing.forgiving
def costs(results: Results) -> Picture:
    """Draws ToW against what a method costs: gradients, or its time where those are not counted."""
    is_counted = "rge" in results.measures
    measure, unit = ("rge", "gradients") if is_counted else ("rte", "time")
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes: Axes = figure.subplots()

    # Markers tell methods apart, colors their strategies.
    shapes = []
    for summary, marker in zip(results.methods, itertools.cycle(MARKERS), strict=False):
        _draw_cost(axes, summary, measure, marker)
        color, name = COLORS.get(summary.line.strategy, GRAY), _wrapped(summary.line.name, 28)
        shapes.append(Line2D([], [], marker=marker, ls="", color=color, label=name))
    _draw_marks(axes, results, "tow", FLOOR_AND_CEILING, horizontal=True)

    # Costs are on a logarithmic axis, with a line where retraining is.
    axes.axvline(1.0, color=PALE, lw=4, zorder=0)
    axes.set(xscale="log", ylabel="ToW", xlabel=f"{unit} of unlearning / {unit} of retraining")
    left, right = axes.get_xlim()
    subs = (1.0, 2.0, 5.0) if right > 10 * left else tuple(map(float, range(1, 10)))
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid()
    figure.legend(
        handles=[*_legend_handles(results, FLOOR_AND_CEILING), *shapes], loc="outside right center"
    )
    return Picture(
        "time",
        "What it costs",
        "Upper left is best. Right of the gray line, at 1, a method costs more than retraining, "
        "which is exact. Costs are gradients of single examples, or time where an unlearner’s "
        "gradients are not counted. Scores are not counted; results.csv has rte_with_scores too.",
        drawing.render(figure, numbers(results, (measure, "tow"))),
    )


def numbers(results: Results, measures: Iterable[str]) -> list[Row]:
    """Returns the means and half-widths of some measures, a row each."""
    return [
        {
            "name": summary.line.name,
            "method": summary.line.method,
            "strategy": summary.line.strategy,
            "measure": measure,
            "mean": summary.measures[measure].value,
            "half_width": summary.measures[measure].half_width,
        }
        for summary in results.summaries
        for measure in measures
        if measure in summary.measures
    ]


def _draw_panels(
    results: Results,
    titles: Mapping[str, str],
    marks: Sequence[Calibration],
    sharex: Literal["all", "none"] = "all",
) -> Drawn:
    """Draws panels side by side: methods downwards, each with a dot and its interval."""
    height = 1.0 + 0.28 * len(results.methods)
    figure = Figure(figsize=(10, max(height, 2.6)), layout="constrained")
    panels = drawing.grid(figure, len(titles), len(titles), sharex=sharex, sharey=True)

    # A row for each method, by its own name.
    for panel, (measure, title) in zip(panels, titles.items(), strict=True):
        _draw_marks(panel, results, measure, marks)
        for row, summary in enumerate(results.methods):
            _draw_dot(panel, summary, measure, row)
        drawing.style_rows(panel, drawing.label(title))
    names = [_wrapped(summary.line.name, 30) for summary in results.methods]
    drawing.label_rows(panels[0], names)
    handles = _legend_handles(results, marks)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return drawing.render(figure, numbers(results, titles))


def _draw_dot(panel: Axes, summary: Summary, measure: str, y: float) -> None:
    interval = drawing.cut(measure, summary.measures.get(measure))
    if interval is not None:
        color = COLORS.get(summary.line.strategy, GRAY)
        bar = drawing.error_bar(interval)
        panel.errorbar(interval.value, y, xerr=bar, fmt="o", ms=6, color=color)
        drawing.draw_seeds(panel, summary.seeds(measure), y, color)


def _draw_cost(axes: Axes, summary: Summary, measure: str, marker: str) -> None:
    """Draws a method as a dot with two error bars, unless it costs nothing at all."""
    cost = summary.measures.get(measure)
    tow = drawing.cut("tow", summary.measures.get("tow"))
    if cost is None or tow is None or cost.value <= 0:
        return

    # A logarithmic axis has no room for an interval that reaches zero.
    below, above = drawing.error_bar(cost)
    xerr = [[min(below[0], 0.9 * cost.value)], above]
    look: dict[str, Any] = {"color": COLORS.get(summary.line.strategy, GRAY), "fmt": marker}
    look |= {"ms": 8, "mec": "white", "elinewidth": 0.8}
    axes.errorbar(cost.value, tow.value, xerr=xerr, yerr=drawing.error_bar(tow), **look)


def _draw_marks(
    panel: Axes,
    results: Results,
    measure: str,
    marks: Sequence[Calibration],
    *,
    horizontal: bool = False,
) -> None:
    for mark in marks:
        summary = results.calibration(mark)
        if summary is not None:
            interval = drawing.cut(measure, summary.measures.get(measure))
            drawing.draw_mark(panel, interval, LOOKS[mark], horizontal=horizontal)


def _legend_handles(results: Results, marks: Sequence[Calibration]) -> list[Line2D]:
    """Returns the entries of a legend: the strategies and calibration lines that there are."""
    used = {summary.line.strategy for summary in results.methods}
    strategies = [
        Line2D([], [], marker="o", ls="", color=COLORS[name], label=drawing.label(words))
        for name, words in wording.STRATEGIES.items()
        if name in used
    ]

    # Lines of the calibration come last.
    lines = [
        drawing.mark_handle(LABELS[mark], LOOKS[mark])
        for mark in marks
        if results.calibration(mark) is not None
    ]
    return strategies + lines


def _wrapped(name: str, width: int) -> str:
    return drawing.label(textwrap.fill(name, width))
