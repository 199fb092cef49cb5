"""What makes forgetting hard: a measure by level of difficulty, for every algorithm."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rumjax.metrics import Trend, jonckheere
from rumjax.report.exports import Table
from rumjax.report.figures import INK, SHADES, Drawn, Picture, render
from rumjax.report.studies.base import (
    MEASURES,
    Case,
    Page,
    Study,
    by_seed,
    chance,
    listed,
    mean_of,
)
from rumjax.report.tables import Row

LEVELS = ("low", "medium", "high")
RELABELLING = ("random_label", "salun")


def page(study: Study) -> Page:
    """The answer to what makes forgetting hard; cases are called "AXIS_LEVEL"."""
    axes = dict.fromkeys(name.rpartition("_")[0] for name in study.cases)
    ordered = {case.name: case for axis in axes for case in levels(study, axis)}
    study = study._replace(cases=ordered)
    names = dict.fromkeys(
        each.line.name for case in study.cases.values() for each in case.results.methods
    )
    tables = [sets_table(study)]
    tables += [measure_table(study, axis, [*names], "tow") for axis in axes]
    tables += [measure_table(study, axis, [*names], "tow_mia") for axis in axes]
    tables.append(all_table(study))
    pictures = [
        Picture(
            f"difficulty_{measure}",
            f"{MEASURES[measure]} by level",
            "Bars are means over the seeds, with 95 % intervals: low, medium and high from left to "
            "right. Solid lines are a second oracle, as good as chance lets a perfect method be; "
            "dotted lines the original model, which forgets nothing.",
            bars(study, [*axes], [*names], measure),
        )
        for measure in ("tow", "tow_mia")
    ]
    return Page(
        "What makes forgetting hard",
        "Is a forget set harder to unlearn the more entangled it is with the rest of the data, and "
        "the more it is memorized, and is that so for every algorithm?",
        [answer(study, axis, [*names]) for axis in axes] + relabelling(study, [*names]),
        tables,
        pictures,
    )


def levels(study: Study, axis: str) -> list[Case]:
    """The cases of an axis, by ascending difficulty."""
    found = (study.cases.get(f"{axis}_{level}") for level in LEVELS)
    return [case for case in found if case is not None]


def trend(study: Study, axis: str, name: str, measure: str) -> Trend | None:
    """The trend of a measure over an axis's levels; None where a level has no results."""
    groups = [by_seed(case, name, measure) for case in levels(study, axis)]
    if len(groups) < 2 or min(map(len, groups)) == 0:
        return None
    return jonckheere(groups)


def sets_table(study: Study) -> Table:
    """What each forget set is like."""
    rows = []
    for case in study.cases.values():
        hardness = case.hardness.get("all", {})
        forget = np.concatenate([*case.parts.values(), np.empty(0, int)]).astype(int)
        shares = np.bincount(study.labels[forget]) / max(len(forget), 1)
        present = shares[shares > 0]
        entropy = -np.sum(present * np.log(present)) / math.log(study.labels.max() + 1)
        rows.append(
            (
                case.name.replace("_", " "),
                len(forget),
                hardness.get("entanglement_score"),
                hardness.get("mmd_squared"),
                hardness.get("memorization"),
                float(shares.max(initial=0.0)),
                float(entropy),
            )
        )
    return Table(
        "sets",
        "The forget sets",
        ("Set", "Size", "ES", "MMD²", "Memorization", "Largest class", "Class entropy"),
        rows,
        "ES: entanglement score; MMD² with the rest of D, γ by the median heuristic; the mean "
        "memorization; the share of the largest class; the entropy of the classes, 1 if uniform.",
    )


def measure_table(study: Study, axis: str, names: Sequence[str], measure: str) -> Table:
    """A measure of every algorithm by level, with the trend test."""
    cases = levels(study, axis)
    rows = []
    for name in ("original", "retrain_second", *names):
        found = trend(study, axis, name, measure)
        about = (None, None) if found is None else (found.effect, found.p_value)
        label = "oracle again" if name == "retrain_second" else name
        rows.append((label, *(mean_of(case, name, measure) for case in cases), *about))
    return Table(
        f"{axis}_{measure}",
        f"{MEASURES[measure]} by {axis}",
        ("Algorithm", *(case.name.rpartition("_")[2] for case in cases), "Trend", "p"),
        rows,
        "Trend: of all pairs of runs on two levels, the share in which the higher level scores "
        "higher less the share in which it scores lower, −1 to 1; p: Jonckheere–Terpstra test.",
    )


def all_table(study: Study) -> Table:
    """Everything, in long form."""
    rows = [
        (case.name, each.line.name, *(each.measures.get(measure) for measure in MEASURES))
        for case in study.cases.values()
        for each in case.results.summaries
    ]
    return Table("all", "All measures", ("Set", "Algorithm", *MEASURES.values()), rows)


def answer(study: Study, axis: str, names: Sequence[str]) -> str:
    """Whether ToW falls along an axis."""
    found = {name: trend(study, axis, name, "tow") for name in names}
    known = {name: each for name, each in found.items() if each is not None}
    if not known:
        return f"There are no results by {axis} yet."
    falls = [name for name, each in known.items() if each.effect < 0 and each.p_value < 0.05]
    rises = [name for name, each in known.items() if each.effect > 0 and each.p_value < 0.05]
    holds = "holds for all" if len(falls) == len(known) else "does not hold for all"
    means = ", ".join(
        f"{name} {each.effect:+.2f} ({chance(each.p_value)})".replace("-", "−")
        for name, each in known.items()
    )
    return (
        f"That ToW falls as {axis} rises {holds}: it falls for {len(falls)} of {len(known)} "
        f"algorithms ({listed(falls)}) and rises for {len(rises)} ({listed(rises)}), at 5 %, and "
        f"the rest is undecided. Trends: {means}."
    )


def relabelling(study: Study, names: Sequence[str]) -> list[str]:
    """Whether relabelling does better on memorized sets, as no other algorithm does."""
    there = [name for name in RELABELLING if name in names]
    said = []
    for name in there:
        found = trend(study, "memorization", name, "tow")
        if found is None:
            continue
        lows, highs = (
            mean_of(study.cases[f"memorization_{level}"], name, "tow") for level in ("low", "high")
        )
        way = "rises" if found.effect > 0 else "falls"
        sure = "" if found.p_value < 0.05 else ", though chance could explain it"
        holds = "holds" if found.effect > 0 and found.p_value < 0.05 else "does not hold"
        if lows is not None and highs is not None:
            said.append(
                f"The inverse trend of relabelling {holds} for {name}: its ToW {way} from "
                f"{lows.mean:.3f} on the least to {highs.mean:.3f} on the most memorized set "
                f"({chance(found.p_value)}{sure})."
            )
    return said


def bars(study: Study, axes: Sequence[str], names: Sequence[str], measure: str) -> Drawn:
    """A panel for each axis, three bars for each algorithm."""
    figure = Figure(figsize=(10, 3.4 * len(axes)), layout="constrained")
    panels = figure.subplots(len(axes), 1, sharey=True, squeeze=False).ravel()
    data: list[Row] = []
    for panel, axis in zip(panels, axes, strict=True):
        for shift, (level, color) in enumerate(zip(LEVELS, SHADES, strict=True), start=-1):
            case = study.cases.get(f"{axis}_{level}")
            if case is None:
                continue
            for position, name in enumerate(names):
                _bar(panel, case, name, measure, position + 0.27 * shift, color, data, axis)
        panel.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
        panel.set(ylabel=MEASURES[measure], title=axis.capitalize(), ylim=(0, 1.05))
        panel.tick_params(axis="x", length=0)
        panel.grid(axis="y")
    handles = [
        Line2D([], [], marker="s", ls="", color=color, mec=INK, ms=9, label=level)
        for level, color in zip(LEVELS, SHADES, strict=True)
    ]
    handles += [Line2D([], [], color=INK, ls="-", label="oracle again")]
    handles += [Line2D([], [], color=INK, ls=":", label="original")]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return render(figure, data)


def _bar(
    panel: Axes,
    case: Case,
    name: str,
    measure: str,
    x: float,
    color: str,
    data: list[Row],
    axis: str,
) -> None:
    found = mean_of(case, name, measure)
    if found is None or not math.isfinite(found.mean):
        return
    error = float(np.nan_to_num(found.half_width))
    # An interval of a share ends where shares do.
    around = [[min(error, found.mean)], [min(error, max(1 - found.mean, 0))]]
    panel.bar(x, found.mean, 0.25, color=color, edgecolor=INK, lw=0.5)
    panel.errorbar(x, found.mean, yerr=around, fmt="none", color=INK, lw=1, capsize=2)
    for which, style in (("original", ":"), ("retrain_second", "-")):
        mark = mean_of(case, which, measure)
        if mark is not None:
            panel.plot([x - 0.125, x + 0.125], [mark.mean] * 2, color=INK, ls=style, lw=1.2)
    row: Row = {"axis": axis, "set": case.name, "algorithm": name, "measure": measure}
    data.append(row | {"mean": found.mean, "half_width": found.half_width})
