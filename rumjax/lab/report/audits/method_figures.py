"""The figures of methods under audits."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rumjax.lab.report import drawing
from rumjax.lab.report.audits.base import MIA_GAP, U_LIRA, Audited, Headline, Subject
from rumjax.lab.report.drawing import CEILING, FLOOR, PALE, Look, Picture
from rumjax.lab.report.tables import Row
from rumjax.metrics import Interval

ROC = {"u_lira": "U-LiRA", "ruli_privacy": "RULI privacy", "rmia": "RMIA", "lira": "LiRA"}
LEAST_RATE = 1e-4


def looks(audited: Audited) -> dict[str, Look]:
    """Returns how everyone is drawn, by name."""
    methods = {method.name: drawing.look(n) for n, method in enumerate(audited.ordered)}
    return {**methods, audited.retrained.name: CEILING, audited.original.name: FLOOR}


def label(subject: Subject) -> str:
    """Returns a name in a figure."""
    return drawing.label(subject.title)


# Attacks


def attacks(audited: Audited) -> list[str]:
    """Returns the attacks of `ROC` that there are curves of."""
    return [name for name in ROC if audited.with_array(f"{name}_tpr")]


@drawing.forgiving
def roc(audited: Audited) -> Picture:
    """Draws ROC curves of attacks on single examples, both rates on logarithmic axes."""
    names, styles = attacks(audited), looks(audited)
    figure = Figure(figsize=(10, 4.3 * math.ceil(len(names) / 2)), layout="constrained")
    panels = drawing.grid(figure, len(names), columns=2)
    data: list[Row] = []
    for panel, name in zip(panels, names, strict=True):
        panel.plot([LEAST_RATE, 1], [LEAST_RATE, 1], color=PALE, lw=3, zorder=0)
        for subject in audited.with_array(f"{name}_tpr"):
            data += _draw_curve(panel, subject, name, styles[subject.name])
        panel.set(xscale="log", yscale="log", title=ROC[name])
        panel.set(xlim=(LEAST_RATE, 1), ylim=(LEAST_RATE, 1.1))
        panel.set(xlabel="false positives", ylabel="true positives")
        panel.grid(color=PALE, lw=0.5)

    # One legend for everyone who is in any panel.
    entries: dict[str, Artist] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=4)
    return Picture(
        "audit_roc",
        "Attacks at few false alarms",
        "How often an attack is right about an example that was forgotten, against how often it "
        f"accuses a model that never saw it; rates below {LEAST_RATE:g} are drawn there. The gray "
        "line is guessing. Black is the calibration: solid are retrained models, which leave it by "
        "chance alone; dotted is the original model, which forgets nothing. The nearer a method is "
        "to the solid line, the better it forgets; the left end is what an attacker finds out "
        "beyond doubt.",
        drawing.render(figure, data),
    )


def _draw_curve(panel: Axes, subject: Subject, attack: str, look: Look) -> list[Row]:
    """Draws a curve and returns its points."""
    # Rates of zero have no place on logarithmic axes.
    false, true = subject.array(f"{attack}_fpr"), subject.array(f"{attack}_tpr")
    panel.plot(
        np.maximum(false, LEAST_RATE),
        np.maximum(true, LEAST_RATE),
        color=look.color,
        marker=look.marker,
        ls=look.style,
        markevery=0.12,
        ms=5,
        lw=1.3,
        label=label(subject),
    )

    # The points that are written are the true ones, zeros included.
    points = zip(false.tolist(), true.tolist(), strict=True)
    return [
        {"attack": attack, "method": subject.name, "fpr": round(x, 6), "tpr": round(y, 6)}
        for x, y in points
    ]


# Methods


@drawing.forgiving
def ranking(audited: Audited) -> Picture:
    """Draws every audit's number of every method, in panels."""
    headlines, methods, styles = audited.headlines, audited.ordered, looks(audited)
    height = math.ceil(len(headlines) / 4) * (1.0 + 0.24 * len(methods)) + 0.5
    figure = Figure(figsize=(11, max(height, 2.6)), layout="constrained")
    panels = drawing.grid(figure, len(headlines), columns=4, sharey=True)
    data: list[Row] = []

    # A panel for each audit, with a row for each method.
    for panel, headline in zip(panels, headlines, strict=True):
        _draw_calibration(panel, audited, headline)
        for row, method in enumerate(methods):
            value, look = _cut(method, headline), styles[method.name]
            if value is not None:
                bar = drawing.error_bar(value)
                panel.errorbar(value.value, row, xerr=bar, fmt=look.marker, color=look.color, ms=6)
        drawing.style_rows(panel, headline.title, ticks=4)
        data += _rows(audited.everyone, headline)
    drawing.label_rows(panels[0], [label(method) for method in methods])
    figure.legend(handles=_mark_handles(), loc="outside lower center", ncols=2)
    return Picture(
        "audit_ranking",
        "Every method under every audit",
        "Dots with 95 % intervals, methods in the order of their U-LiRA accuracy. The solid line "
        "and its band are retrained models; the dotted line is the original model. An attack "
        "should find no more than it does of retrained models; KLOM and gaps should be low, scores "
        "high. Where the dotted line is in the band, the audit sees nothing.",
        drawing.render(figure, data),
    )


def compared(audited: Audited) -> list[Subject]:
    """Returns the methods that both attacks have numbers of, by the accuracy of U-LiRA."""
    # Only who has both numbers can be drawn.
    accuracies: dict[str, float] = {}
    for method in audited.ordered:
        accuracy = method.value(U_LIRA)
        if accuracy is not None and method.value(MIA_GAP) is not None:
            accuracies[method.name] = accuracy.value
    methods = [method for method in audited.ordered if method.name in accuracies]
    return sorted(methods, key=lambda method: accuracies[method.name])


@drawing.forgiving
def disagreement(audited: Audited) -> Picture:
    """Draws the population attack's gap against the accuracy of U-LiRA."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes: Axes = figure.subplots()
    _draw_calibration(axes, audited, MIA_GAP)
    _draw_calibration(axes, audited, U_LIRA, horizontal=True)

    # Names stand on the right, one below the other, with a line to their dots.
    methods, styles = compared(audited), looks(audited)
    for position, method in enumerate(methods):
        height = (position + 0.5) / len(methods)
        _draw_method(axes, method, height, styles[method.name])
    axes.set(xlabel="MIA gap (population attack)", ylabel="accuracy of U-LiRA")
    figure.legend(handles=_mark_handles(), loc="outside lower center", ncols=2)
    data = _rows(audited.everyone, MIA_GAP) + _rows(audited.everyone, U_LIRA)
    return Picture(
        "audit_disagreement",
        "Two audits, two ends",
        "Upper left are methods that the population attack calls forgotten while U-LiRA tells "
        "examples that were forgotten from examples that were never seen; lower right, the other "
        "way round. Bars are 95 % intervals. Lines are the calibration, with bands for retrained "
        "models: where the bands cross is what a perfect method has.",
        drawing.render(figure, data),
    )


def _draw_method(axes: Axes, method: Subject, height: float, look: Look) -> None:
    x, y = _cut(method, MIA_GAP), _cut(method, U_LIRA)
    if x is None or y is None:
        return

    # A dot with both its intervals, and a line to its name.
    bars: dict[str, Any] = {"xerr": drawing.error_bar(x), "yerr": drawing.error_bar(y)}
    axes.errorbar(x.value, y.value, **bars, color=look.color, fmt=look.marker, ms=7, elinewidth=0.8)
    axes.annotate(
        label(method),
        (x.value, y.value),
        (1.03, height),
        textcoords="axes fraction",
        va="center",
        arrowprops={"arrowstyle": "-", "color": look.color, "lw": 0.6, "alpha": 0.6},
    )


def _cut(subject: Subject, headline: Headline) -> Interval | None:
    """Returns a number to be drawn, whose interval ends where the values of the audit do."""
    return drawing.cut(headline.measure, subject.value(headline))


def _rows(subjects: Iterable[Subject], headline: Headline) -> list[Row]:
    rows: list[Row] = []
    for subject in subjects:
        value = subject.value(headline)
        if value is not None:
            row: Row = {"audit": headline.title, "method": subject.name}
            rows.append(row | value._asdict())
    return rows


def _draw_calibration(
    panel: Axes, audited: Audited, headline: Headline, *, horizontal: bool = False
) -> None:
    """Draws retrained and original models as lines across a panel."""
    retrained, original = _cut(audited.retrained, headline), _cut(audited.original, headline)
    drawing.draw_mark(panel, retrained, CEILING, horizontal=horizontal)
    drawing.draw_mark(panel, original, FLOOR, horizontal=horizontal)


def _mark_handles() -> list[Line2D]:
    return [drawing.mark_handle("retrained", CEILING), drawing.mark_handle("original", FLOOR)]
