"""How far unlearned models drift from retrained ones as requests keep coming."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from rumjax.lab.report import drawing, wording
from rumjax.lab.report.claims import Claim, Comparison, Verdict
from rumjax.lab.report.drawing import CEILING, FLOOR, PALE, Drawn, Look, Picture
from rumjax.lab.report.exports import Table
from rumjax.lab.report.pages import Page
from rumjax.lab.report.studies.base import (
    FLOOR_AND_CEILING,
    MEASURES,
    Case,
    Study,
    difference,
    mean_of,
    summary_of,
)
from rumjax.lab.report.tables import Calibration, Row, seed_interval
from rumjax.metrics import Interval

DRAWN = ("tow", "tow_mia", "test_accuracy")


def page(study: Study, figures: bool) -> Page:
    """Answers how the gap to the oracle grows; cases are requests in order of arrival."""
    cases = ordered_cases(study)
    names = [method.line.name for method in cases[0].results.methods] if cases else []
    comparisons = pairs(cases, study.options.get("pairs", {}))
    answers = [say_growth(growth_claim(cases, names))]
    answers += [say_pair(comparison) for comparison in comparisons]

    # The first table also holds the slopes.
    tables = [measure_table(cases, names, measure) for measure in (*DRAWN, "mia_gap")]
    tables[0] = with_slopes(tables[0], cases, names)
    question = (
        "When requests to forget arrive one after another and each method goes on from its own "
        "last result, does the gap to retraining grow?"
    )
    pictures = [draw(cases, names)] if figures else []
    return Page("Repeated requests", question, answers, tables, pictures)


def ordered_cases(study: Study) -> list[Case]:
    """Sorts cases by how many requests they have seen; those not run yet come last."""
    return sorted(study.cases.values(), key=lambda case: len(case.parts) or math.inf)


# Claims


def slope(cases: list[Case], line: str | Calibration) -> Interval | None:
    """Computes by how much ToW changes per request: the mean over each seed's own slope.

    Returns:
      None before there are two requests, or if a ToW is not finite.
    """
    # The course of each seed.
    points: dict[int, list[tuple[int, float]]] = {}
    for number, case in enumerate(cases, start=1):
        summary = summary_of(case, line)
        if summary is not None:
            for row in summary.rows:
                points.setdefault(row["seed"], []).append((number, row.get("tow", math.nan)))

    # A line through each course, and the mean of their slopes.
    slopes = []
    for own in points.values():
        if len(own) > 1:
            requests, tow = zip(*own, strict=True)
            slopes.append(float(stats.linregress(requests, tow).slope))
    return seed_interval(slopes) if slopes and np.isfinite(slopes).all() else None


def growth_claim(cases: list[Case], names: list[str]) -> Claim:
    """Claims that the gap to the oracle grows: that ToW falls with requests."""
    slopes = {name: slope(cases, name) for name in names}
    effects = {name: change for name, change in slopes.items() if change is not None}
    missing = [name for name, change in slopes.items() if change is None]
    return Claim("ToW by requests", Verdict.LOWER, effects, missing)


def pairs(cases: list[Case], names: Mapping[str, str]) -> list[Comparison]:
    """Compares, at the last request, methods whose scores are made anew with their like.

    Args:
      cases: in order of arrival.
      names: methods with scores made anew, by those with scores that are kept.
    """
    if not cases:
        return []

    # Scores that are kept are oldest at the last request.
    comparisons = []
    last = cases[-1]
    for kept, anew in names.items():
        gain = difference(last, anew, kept, "tow")
        if gain is not None:
            tow, kept_tow = mean_of(last, anew, "tow"), mean_of(last, kept, "tow")
            comparisons.append(Comparison(anew, kept, tow, kept_tow, gain))
    return comparisons


# Sentences


def say_growth(claim: Claim) -> str:
    """Says for which methods ToW falls with requests."""
    if not claim.effects:
        return "There are no results of two requests yet."
    sentence = (
        f"The gap to the oracle grows with every request for {len(claim.supporting)} of "
        f"{len(claim.effects)} methods, beyond chance. Change of ToW per request: "
        f"{wording.effects(claim.effects)}."
    )
    if claim.missing:
        sentence += f" There is no slope for {wording.listing(claim.missing)}."
    return sentence


def say_pair(comparison: Comparison) -> str:
    """Says whether scores made anew serve better than those that are kept."""
    return (
        "Making scores anew for each request leaves ToW "
        f"{wording.VERDICTS[comparison.verdict]} after the last: "
        f"{wording.interval(comparison.value)} against {wording.interval(comparison.other_value)} "
        "with scores that are kept (difference "
        f"{wording.interval(comparison.difference, signed=True)})."
    )


# Tables


def all_lines(names: list[str]) -> dict[str, str | Calibration]:
    """Returns floor, ceiling and methods, by what they are called."""
    return {**FLOOR_AND_CEILING, **{name: name for name in names}}


def measure_table(cases: list[Case], names: list[str], measure: str) -> Table:
    """Makes a table of a measure of every method after each request."""
    return Table(
        f"requests_{measure}",
        f"{MEASURES[measure]} after each request",
        ("Method", *(str(number) for number in range(1, len(cases) + 1))),
        [
            (label, *(mean_of(case, line, measure) for case in cases))
            for label, line in all_lines(names).items()
        ],
    )


def with_slopes(table: Table, cases: list[Case], names: list[str]) -> Table:
    """Adds to a table of ToW a column with the slopes of methods; the calibration has none."""
    rows = []
    for row, line in zip(table.rows, all_lines(names).values(), strict=True):
        change = None if isinstance(line, Calibration) else slope(cases, line)
        rows.append((*row, change))
    return table._replace(columns=(*table.columns, "Change per request"), rows=rows)


# The figure


@drawing.forgiving
def draw(cases: list[Case], names: list[str]) -> Picture:
    """Draws measures over the number of requests."""
    return Picture(
        "requests",
        "Measures by number of requests",
        f"Means over the seeds and 95 % intervals. {drawing.SEEDS_SHOWN} "
        "Each method goes on from its own result of the request before; the oracles are retrained "
        "without all that was asked for so far. Black and solid is a second oracle; dotted is the "
        "original model.",
        draw_lines(cases, names),
    )


def draw_lines(cases: list[Case], names: list[str]) -> Drawn:
    """Draws a panel for each measure, with a line for each method."""
    # Methods are told apart by color and marker, the calibration is black.
    looks = {"original": FLOOR, "oracle again": CEILING}
    looks |= {name: drawing.look(n) for n, name in enumerate(names)}
    lines = all_lines(names)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    panels = drawing.grid(figure, len(DRAWN), len(DRAWN))
    data: list[Row] = []
    for panel, measure in zip(panels, DRAWN, strict=True):
        for position, (label, line) in enumerate(lines.items()):
            means = {
                number: mean
                for number, case in enumerate(cases, start=1)
                if (mean := mean_of(case, line, measure)) is not None
            }
            # Lines are drawn side by side, so that error bars do not hide each other.
            shift = 0.03 * (position - len(lines) / 2)
            _draw_line(panel, measure, means, shift, label, looks[label])
            for number, case in enumerate(cases, start=1):
                summary = summary_of(case, line)
                seeds = [] if summary is None else summary.seeds(measure)
                look = looks[label]
                drawing.draw_seeds(panel, seeds, number + shift, look.color, horizontal=False)
            data += [
                {
                    "method": line.key if isinstance(line, Calibration) else line,
                    "request": number,
                    "measure": measure,
                    "mean": mean.value,
                    "half_width": mean.half_width,
                }
                for number, mean in means.items()
            ]
        panel.set(title=MEASURES[measure], xlabel="requests")
        panel.set_xticks(range(1, len(cases) + 1))
        panel.grid(axis="y", color=PALE)

    # One legend for all panels.
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return drawing.render(figure, data)


def _draw_line(
    panel: Axes, measure: str, means: Mapping[int, Interval], shift: float, label: str, look: Look
) -> None:
    x = [number + shift for number in means]
    cut = (drawing.cut(measure, mean) or mean for mean in means.values())
    bars = np.array([drawing.error_bar(mean) for mean in cut]).reshape(-1, 2)
    panel.errorbar(
        x,
        [mean.value for mean in means.values()],
        bars.T,
        color=look.color,
        ls=look.style,
        marker=look.marker,
        label=drawing.label(label),
        elinewidth=0.7,
        ms=5,
    )
