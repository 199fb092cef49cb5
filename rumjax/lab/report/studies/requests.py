"""How far unlearned models drift from retrained ones as requests keep coming."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from rumjax.lab.report.exports import Table
from rumjax.lab.report.figures import INK, PALE, Drawn, Picture, render
from rumjax.lab.report.studies.base import (
    MEASURES,
    Case,
    Page,
    Study,
    difference,
    in_figure,
    listed,
    mean_of,
    plain,
    said,
    summary_of,
    verdict,
)
from rumjax.lab.report.tables import Interval, Row, interval

CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = "osD^vPX"


def page(study: Study) -> Page:
    """The answer to how the gap to the oracle grows; cases are requests in order of arrival."""
    cases = in_order(study)
    names = [each.line.name for each in cases[0].results.methods] if cases else []
    slopes = {name: slope(cases, name) for name in names}
    shown = ("tow", "tow_mia", "test_accuracy")
    tables = [measure_table(cases, names, measure) for measure in (*shown, "mia_gap")]
    tables[0] = tables[0]._replace(
        columns=(*tables[0].columns, "Change per request"),
        rows=[
            (*row, slopes.get(name))
            for row, name in zip(tables[0].rows, _lines(names), strict=True)
        ],
    )
    picture = Picture(
        "requests",
        "Measures by number of requests",
        "Means over the seeds and 95 % intervals. Each method goes on from its own result of the "
        "request before; the oracles are retrained without all that was asked for so far. Black "
        "and solid is a second oracle; dotted is the original model.",
        lines(cases, names, shown),
    )
    question = (
        "When requests to forget arrive one after another and each method goes on from its own "
        "last result, does the gap to retraining grow?"
    )
    answers = [*growth_answers(names, slopes), *pair_answers(cases, study.options.get("pairs", {}))]
    return Page("Repeated requests", question, answers, tables, [picture])


def _lines(names: Sequence[str]) -> list[str]:
    return ["original", "retrain_second", *names]


def in_order(study: Study) -> list[Case]:
    """Cases by how many requests they have seen; those not run yet come last."""
    return sorted(study.cases.values(), key=lambda case: len(case.parts) or math.inf)


def slope(cases: Sequence[Case], name: str) -> Interval | None:
    """By how much ToW changes per request: the mean over the seeds of each seed's own slope.

    None before there are two requests, or if a ToW is not finite.
    """
    found: dict[int, list[tuple[int, float]]] = {}
    for number, case in enumerate(cases, start=1):
        summary = summary_of(case, name)
        for row in () if summary is None else summary.rows:
            found.setdefault(row["seed"], []).append((number, row["tow"]))
    slopes = [
        float(stats.linregress(*zip(*points, strict=True)).slope)
        for points in found.values()
        if len(points) > 1
    ]
    return interval(slopes) if slopes and np.isfinite(slopes).all() else None


def measure_table(cases: Sequence[Case], names: Sequence[str], measure: str) -> Table:
    """A measure of every method after each request."""
    return Table(
        f"requests_{measure}",
        f"{MEASURES[measure]} after each request",
        ("Method", *(str(number) for number in range(1, len(cases) + 1))),
        [
            (
                plain(name),
                *(mean_of(case, name, measure) for case in cases),
            )
            for name in _lines(names)
        ],
    )


def growth_answers(names: Sequence[str], slopes: Mapping[str, Interval | None]) -> list[str]:
    """For which methods ToW falls with requests."""
    known = {name: each for name in names if (each := slopes[name]) is not None}
    if not known:
        return ["There are no results of two requests yet."]
    falls = [plain(name) for name, each in known.items() if verdict(each) == "lower"]
    told = ", ".join(f"{plain(name)} {said(gain, sign='+')}" for name, gain in known.items())
    grows = f"grows with every request for {len(falls)} of {len(known)} methods, beyond chance"
    unknown = [plain(name) for name in names if name not in known]
    rest = f" There is no slope for {listed(unknown)}." if unknown else ""
    return [f"The gap to the oracle {grows}. Change of ToW per request: {told}.{rest}"]


def pair_answers(cases: Sequence[Case], pairs: Mapping[str, str]) -> list[str]:
    """Whether scores made anew serve better than those that are kept, at the last request."""
    found = []
    for kept, anew in pairs.items():
        gain = difference(cases[-1], anew, kept, "tow") if cases else None
        if gain is not None:
            found.append(
                f"Making scores anew for each request leaves ToW {verdict(gain)} after the last: "
                f"{said(mean_of(cases[-1], anew, 'tow'))} against "
                f"{said(mean_of(cases[-1], kept, 'tow'))} with scores that are kept "
                f"(difference {said(gain, sign='+')})."
            )
    return found


def lines(cases: Sequence[Case], names: Sequence[str], measures: Sequence[str]) -> Drawn:
    """A panel for each measure, a line for each method."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(measures), squeeze=False)[0]
    looks = {"original": (INK, ":", ""), "retrain_second": (INK, "-", "")}
    for name, color, marker in zip(names, CYCLE, MARKERS, strict=False):
        looks[name] = (color, "-", marker)
    data: list[Row] = []
    for panel, measure in zip(panels, measures, strict=True):
        for shift, (name, (color, style, marker)) in enumerate(looks.items()):
            points = [
                (number + 0.03 * (shift - len(looks) / 2), *found)
                for number, case in enumerate(cases, start=1)
                if (found := mean_of(case, name, measure)) is not None
            ]
            x, mean, half = np.array(points).reshape(-1, 3).T
            label = in_figure(name)
            panel.errorbar(
                x, mean, np.nan_to_num(half), color=color, ls=style, marker=marker, label=label,
                elinewidth=0.7, ms=5,
            )  # fmt: skip
            data += [
                {
                    "method": name,
                    "request": round(at),
                    "measure": measure,
                    "mean": m,
                    "half_width": h,
                }
                for at, m, h in points
            ]
        panel.set(title=MEASURES[measure], xlabel="requests")
        panel.set_xticks(range(1, len(cases) + 1))
        panel.grid(axis="y", color=PALE)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return render(figure, data)
