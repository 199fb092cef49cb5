"""The figures of methods under audits."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rumjax.lab.report.audits.base import MIA_GAP, U_LIRA, Audited, Headline, Subject
from rumjax.lab.report.exports import Bounds
from rumjax.lab.report.figures import INK, MARKERS, PALE, Picture, render
from rumjax.lab.report.studies.base import in_figure
from rumjax.lab.report.studies.requests import CYCLE
from rumjax.lab.report.tables import Row

ROC = {"u_lira": "U-LiRA", "ruli_privacy": "RULI privacy", "rmia": "RMIA", "lira": "LiRA"}
LEAST_RATE = 1e-4


class Look(NamedTuple):
    """How a method is drawn: no two are alike even without color."""

    color: str
    marker: str
    style: str


def looks(audited: Audited) -> dict[str, Look]:
    """How everyone is drawn, by name."""
    found = {
        each.name: Look(
            CYCLE[position % len(CYCLE)],
            MARKERS[position % len(MARKERS)],
            "-" if position < len(CYCLE) else "--",
        )
        for position, each in enumerate(audited.ordered)
    }
    found[audited.retrained.name] = Look(INK, "", "-")
    found[audited.original.name] = Look(INK, "", ":")
    return found


def label(subject: Subject) -> str:
    """A name in a figure."""
    return in_figure(subject.shown)


def bars(found: Bounds) -> list[list[float]]:
    """The lengths of an error bar to either side; a bootstrap's need not hold the value."""
    value, low, high = found
    return [[max(np.nan_to_num(value - low), 0.0)], [max(np.nan_to_num(high - value), 0.0)]]


# Attacks


def attacked(audited: Audited) -> list[str]:
    """The attacks of `ROC` that there are curves of."""
    everyone = audited.everyone
    return [name for name in ROC if any(each.known(f"{name}_tpr").size for each in everyone)]


def roc(audited: Audited) -> Picture:
    """ROC curves of attacks on single examples, both rates on logarithmic axes."""
    everyone, shown = audited.everyone, attacked(audited)
    figure = Figure(figsize=(10, 4.3 * math.ceil(len(shown) / 2)), layout="constrained")
    panels = grid(figure, len(shown), columns=2)
    styles, data = looks(audited), list[Row]()
    for panel, name in zip(panels, shown, strict=True):
        panel.plot([LEAST_RATE, 1], [LEAST_RATE, 1], color=PALE, lw=3, zorder=0)
        for each in everyone:
            curve = each.known(f"{name}_fpr"), each.known(f"{name}_tpr")
            if curve[1].size:
                color, marker, style = styles[each.name]
                panel.plot(
                    *(np.maximum(rate, LEAST_RATE) for rate in curve),
                    color=color, marker=marker, ls=style, markevery=0.12, ms=5, lw=1.3,
                    label=label(each),
                )  # fmt: skip
            data += [
                {"attack": name, "method": each.name, "fpr": round(x, 6), "tpr": round(y, 6)}
                for x, y in zip(*(rate.tolist() for rate in curve), strict=True)
            ]
        panel.set(xscale="log", yscale="log", title=ROC[name])
        panel.set(xlim=(LEAST_RATE, 1), ylim=(LEAST_RATE, 1.1))
        panel.set(xlabel="false positives", ylabel="true positives")
        panel.grid(color=PALE, lw=0.5)
    named: dict[str, Artist] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=4)
    return Picture(
        "audit_roc",
        "Attacks at few false alarms",
        "How often an attack is right about an example that was forgotten, against how often it "
        f"accuses a model that never saw it; rates below {LEAST_RATE:g} are drawn there. The gray "
        "line is guessing. Black is the calibration: solid are retrained models, which leave it by "
        "chance alone; dotted is the original model, which forgets nothing. The nearer a method is "
        "to the solid line, the better it forgets; the left end is what an attacker finds out "
        "beyond doubt.",
        render(figure, data),
    )


def grid(figure: Figure, count: int, columns: int, **options: Any) -> list[Axes]:
    """So many panels in rows, filled line by line."""
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    every = figure.subplots(lines, columns, squeeze=False, **options).ravel()
    for rest in every[count:]:
        rest.set_axis_off()
    for last in every[max(count - columns, 0) : count]:
        last.tick_params(labelbottom=True)  # even if there is a panel below that shows nothing
    return list(every[:count])


# Methods


def ranking(audited: Audited) -> Picture:
    """Every audit's number of every method, in panels."""
    shown, methods, styles = audited.headlines, audited.ordered, looks(audited)
    lines = math.ceil(len(shown) / 4)
    height = lines * (1.0 + 0.24 * len(methods)) + 0.5
    figure = Figure(figsize=(11, max(height, 2.6)), layout="constrained")
    data: list[Row] = []
    panels = grid(figure, len(shown), columns=4, sharey=True)
    for panel, headline in zip(panels, shown, strict=True):
        _draw_calibration(audited, headline, panel.axvline, panel.axvspan)
        for row, each in enumerate(methods):
            found = each.bounds(headline)
            if found is not None:
                color, marker, _ = styles[each.name]
                panel.errorbar(found.value, row, xerr=bars(found), fmt=marker, color=color, ms=6)
        panel.set_title(headline.title)
        panel.grid(axis="x")
        panel.margins(x=0.06)
        panel.tick_params(axis="y", length=0)
        panel.locator_params(axis="x", nbins=4)
        data += _rows(audited.everyone, headline)
    panels[0].set_yticks(range(len(methods)), [label(each) for each in methods])
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    figure.legend(handles=_marks(), loc="outside lower center", ncols=2)
    return Picture(
        "audit_ranking",
        "Every method under every audit",
        "Dots with 95 % intervals, methods in the order of their U-LiRA accuracy. The solid line "
        "and its band are retrained models; the dotted line is the original model. An attack "
        "should find no more than it does of retrained models; KLOM and gaps should be low, scores "
        "high. Where the dotted line is in the band, the audit sees nothing.",
        render(figure, data),
    )


def _rows(subjects: Iterable[Subject], headline: Headline) -> list[Row]:
    return [
        {"audit": headline.title, "method": each.name, **found._asdict()}
        for each in subjects
        if (found := each.bounds(headline)) is not None
    ]


def _draw_calibration(
    audited: Audited,
    headline: Headline,
    line: Callable[..., object],
    span: Callable[..., object],
) -> None:
    """Retrained and original models as lines across a panel, by `axvline` and `axvspan`, say."""
    retrained, original = audited.retrained.bounds(headline), audited.original.bounds(headline)
    if retrained is not None:
        line(retrained.value, color=INK, lw=1.2)
        if np.isfinite(retrained).all():
            span(retrained.low, retrained.high, color=PALE, alpha=0.5, lw=0)
    if original is not None:
        line(original.value, color=INK, ls=":", lw=1.4)


def _marks() -> list[Line2D]:
    return [
        Line2D([], [], color=INK, ls="-", label="retrained"),
        Line2D([], [], color=INK, ls=":", label="original"),
    ]


def disagreeing(audited: Audited) -> list[Subject]:
    """Methods that both attacks have numbers of."""
    return [each for each in audited.ordered if each.bounds(MIA_GAP) and each.bounds(U_LIRA)]


def disagreement(audited: Audited) -> Picture:
    """The population attack's gap against the accuracy of U-LiRA."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes: Axes = figure.subplots()
    styles, both = looks(audited), disagreeing(audited)
    _draw_calibration(audited, MIA_GAP, axes.axvline, axes.axvspan)
    _draw_calibration(audited, U_LIRA, axes.axhline, axes.axhspan)
    height = {each.name: bounds.value for each in both if (bounds := each.bounds(U_LIRA))}
    for place, each in enumerate(sorted(both, key=lambda each: height[each.name])):
        x, y = each.bounds(MIA_GAP), each.bounds(U_LIRA)
        if x is None or y is None:
            continue
        color, marker, _ = styles[each.name]
        look: dict[str, Any] = {"color": color, "fmt": marker, "ms": 7, "elinewidth": 0.8}
        axes.errorbar(x.value, y.value, xerr=bars(x), yerr=bars(y), **look)
        axes.annotate(
            label(each),
            (x.value, y.value),
            (1.03, (place + 0.5) / len(both)),
            textcoords="axes fraction",
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.6, "alpha": 0.6},
        )
    axes.set(xlabel="MIA gap (population attack)", ylabel="accuracy of U-LiRA")
    figure.legend(handles=_marks(), loc="outside lower center", ncols=2)
    return Picture(
        "audit_disagreement",
        "Two audits, two ends",
        "Upper left are methods that the population attack calls forgotten while U-LiRA tells "
        "examples that were forgotten from examples that were never seen; lower right, the other "
        "way round. Bars are 95 % intervals. Lines are the calibration, with bands for retrained "
        "models: where the bands cross is what a perfect method has.",
        render(figure, _rows(audited.everyone, MIA_GAP) + _rows(audited.everyone, U_LIRA)),
    )
