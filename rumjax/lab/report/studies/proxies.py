"""Which cheap score can stand in for memorization."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rumjax.forget_sets import by_score
from rumjax.lab.report.exports import Table
from rumjax.lab.report.figures import COLORS, INK, Drawn, Picture, render
from rumjax.lab.report.studies.base import (
    Case,
    Page,
    Study,
    difference,
    listed,
    mean_of,
    said,
    verdict,
)
from rumjax.lab.report.tables import Interval, Row
from rumjax.metrics import Correlation, overlap, rank_correlation
from rumjax.refine import LEVELS

SHOWN = {
    "c_proxy": "confidence",
    "max_confidence": "max confidence",
    "entropy": "entropy",
    "binary_accuracy": "binary accuracy",
    "holdout_retraining": "hold-out retraining",
    "loss_curvature": "loss curvature",
    "self_influence": "self-influence",
    "entanglement": "nearness to the mean",
    "memorization": "memorization",
}


def page(study: Study) -> Page:
    """The answer to which proxy will do; the study has one case."""
    (case,) = study.cases.values()
    truth = study.scores["memorization"].values
    names = [name for name in study.scores if name != "memorization"]
    spearman = {name: rank_correlation(study.scores[name].values, truth) for name in names}
    kendall = {
        name: rank_correlation(study.scores[name].values, truth, kind="kendall") for name in names
    }
    names.sort(key=lambda name: -spearman[name].value)
    driven: Mapping[str, str] = study.options["driven"]
    tables = [
        agreement_table(study, names, spearman, kendall),
        driven_table(case, [*names, "memorization"], driven),
    ]
    pictures = [
        Picture(
            "proxies_correlation",
            "Rank correlation with memorization",
            "Spearman’s ρ with 95 % bootstrap intervals over the training examples. At 1 a proxy "
            "ranks examples as memorization does.",
            bars(names, spearman),
        ),
        Picture(
            "proxies_scatter",
            "Proxies and memorization",
            "Each cell counts training examples, on a logarithmic scale, by rank of the proxy.",
            scatter(study, names),
        ),
    ]
    question = (
        "Memorization takes a bank of models to estimate. Which score that takes one model, or a "
        "little more, ranks examples alike, induces the same forget sets, and serves RUM as well?"
    )
    answers = [agreement_answer(study, names, spearman), *driven_answer(case, names, driven)]
    return Page("Proxies of memorization", question, answers, tables, pictures)


def seconds(study: Study, name: str) -> float | None:
    """What a score cost; nearness to the mean takes one look at the embeddings."""
    found = study.score_seconds.get(name)
    return found if found else None


def agreement_table(
    study: Study,
    names: Sequence[str],
    spearman: Mapping[str, Correlation],
    kendall: Mapping[str, Correlation],
) -> Table:
    """Correlations, sets and seconds."""
    size = int(study.options["size"])
    truth = by_score(study.scores["memorization"], size)
    bank = seconds(study, "memorization")
    rows = []
    for name in names:
        sets = by_score(study.scores[name], size, center="median")
        cost = seconds(study, name)
        rows.append(
            (
                SHOWN.get(name, name),
                _with_bounds(spearman[name]),
                _with_bounds(kendall[name]),
                *(overlap(sets[level], truth[level]) for level in LEVELS),
                cost,
                cost / bank if cost and bank else None,
            )
        )
    rows.append((SHOWN["memorization"], "1", "1", 1.0, 1.0, 1.0, bank, 1.0 if bank else None))
    by_chance = size / len(study.labels)
    return Table(
        "proxies",
        "Agreement with memorization, and cost",
        (
            "Score",
            "Spearman ρ",
            "Kendall τ",
            *(f"Same {level}" for level in LEVELS),
            "Seconds",
            "Seconds / bank",
        ),
        rows,
        "In brackets: 95 % bootstrap intervals. Same: the share of examples of a set of "
        f"{size:,} that both scores put there; by chance it would be {by_chance:.3f}.",
    )


def _with_bounds(found: Correlation) -> str:
    return f"{found.value:.3f} ({found.low:.3f}, {found.high:.3f})".replace("-", "−")


def driven_table(case: Case, names: Sequence[str], driven: Mapping[str, str]) -> Table:
    """RUM^F refined by each score, and the difference from that by memorization."""
    rows = []
    calibration = {"original": "original", "oracle again": "retrain_second"}
    others = calibration | {"vanilla": "vanilla", "shuffle": "shuffle"}
    for label, method in others.items():
        values = (mean_of(case, method, measure) for measure in ("tow", "tow_mia", "mia_gap"))
        rows.append((label, *values, difference(case, method, driven["memorization"], "tow")))
    for name in names:
        method = driven.get(name, "")
        found = mean_of(case, method, "tow")
        if found is not None:
            others_of = (mean_of(case, method, measure) for measure in ("tow_mia", "mia_gap"))
            gap = difference(case, method, driven["memorization"], "tow")
            rows.append((f"RUM^F by {SHOWN.get(name, name)}", found, *others_of, gap))
    return Table(
        "driven",
        "RUM^F by what it is refined by",
        ("Method", "ToW", "ToW-MIA", "MIA gap", "ToW − by memorization"),
        rows,
        "The last column: differences over the same seeds.",
    )


def agreement_answer(
    study: Study, names: Sequence[str], spearman: Mapping[str, Correlation]
) -> str:
    """Which proxies rank best, and at which cost."""
    each = ", ".join(f"{SHOWN.get(name, name)} {spearman[name].value:.2f}" for name in names)
    said_so = (
        f"{SHOWN.get(names[0], names[0]).capitalize()} ranks examples most like memorization does, "
        f"with a Spearman correlation of {_with_bounds(spearman[names[0]])}"
    )
    cost, bank = seconds(study, names[0]), seconds(study, "memorization")
    if cost and bank:
        said_so += f", for {100 * cost / bank:.2g} % of the seconds of the bank"
    return f"{said_so}. All of them: {each}.".replace(" -", " −")


def driven_answer(case: Case, names: Sequence[str], driven: Mapping[str, str]) -> list[str]:
    """Whether RUM^F does as well by proxies as by memorization."""
    gaps: dict[str, Interval] = {
        name: gap
        for name in names
        if (gap := difference(case, driven.get(name, ""), driven["memorization"], "tow"))
        is not None
    }
    if not gaps:
        return []
    worse = [SHOWN[name] for name, gap in gaps.items() if verdict(gap) == "lower"]
    better = [SHOWN[name] for name, gap in gaps.items() if verdict(gap) == "higher"]
    each = ", ".join(f"{SHOWN[name]} {said(gap, sign='+')}" for name, gap in gaps.items())
    unknown = [SHOWN.get(name, name) for name in names if name not in gaps]
    rest = f" There is no comparison for {listed(unknown)}." if unknown else ""
    return [
        f"Refined by a proxy, RUM^F has a lower ToW than by memorization, beyond chance, for "
        f"{listed(worse)}, and a higher one for {listed(better)}. Differences: {each}.{rest}"
    ]


def bars(names: Sequence[str], spearman: Mapping[str, Correlation]) -> Drawn:
    """Correlations from the best proxy to the worst."""
    figure = Figure(figsize=(8, 0.9 + 0.34 * len(names)), layout="constrained")
    axes: Axes = figure.subplots()
    data: list[Row] = []
    for y, name in enumerate(names):
        value, low, high = spearman[name]
        axes.barh(y, value, 0.62, color=COLORS["vanilla"])
        axes.plot([low, high], [y, y], color=INK, lw=1.4)
        data.append({"score": name, "spearman": value, "low": low, "high": high})
    axes.set_yticks(range(len(names)), [SHOWN.get(name, name) for name in names])
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="Spearman’s ρ with memorization")
    axes.axvline(0, color=INK, lw=0.8)
    axes.grid(axis="x")
    return render(figure, data)


def scatter(study: Study, names: Sequence[str], *, columns: int = 4) -> Drawn:
    """Memorization by rank of each proxy."""
    truth = study.scores["memorization"].values
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(10, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    data: list[Row] = []
    for panel, name in zip(panels, names, strict=False):
        ranks = np.argsort(np.argsort(study.scores[name].values, kind="stable")) / len(truth)
        panel.hexbin(ranks, truth, gridsize=30, bins="log", mincnt=1, cmap="cividis")
        panel.set_title(SHOWN.get(name, name))
        for decile in range(10):
            inside = (ranks >= decile / 10) & (ranks < (decile + 1) / 10)
            mean = float(truth[inside].mean()) if inside.any() else math.nan
            data.append({"score": name, "decile": decile + 1, "mean_memorization": mean})
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    figure.supxlabel("rank of the proxy, 0 to 1", fontsize=10)
    figure.supylabel("memorization", fontsize=10)
    return render(figure, data)
