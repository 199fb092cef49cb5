"""What makes forgetting hard: a measure by level of difficulty, for every algorithm."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rumjax.lab.report.exports import Table
from rumjax.lab.report.figures import INK, SHADES, Drawn, Picture, render
from rumjax.lab.report.studies.base import (
    MEASURES,
    Case,
    Page,
    Study,
    by_seed,
    chance,
    listed,
    mean_of,
    plain,
)
from rumjax.lab.report.tables import Row
from rumjax.metrics import Trend, jonckheere, least_p_value

LEVELS = ("low", "medium", "high")
RELABELLING = ("random_label", "salun")
LEVEL = 0.05
"""of significance"""


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
    tables += [trends_table(study, [*axes], [*names]), all_table(study)]
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
    """The trend of a measure over an axis's levels; None where a level or a run lacks it."""
    groups = [by_seed(case, name, measure) for case in levels(study, axis)]
    if len(groups) < 2 or min(map(len, groups)) == 0:
        return None
    return jonckheere(groups)


def too_few(study: Study, axis: str, names: Sequence[str]) -> str:
    """A remark if even a perfect trend could not be told from chance; empty otherwise."""
    sizes = [
        [len(by_seed(case, name, "tow")) for case in levels(study, axis)]
        for name in names
        if trend(study, axis, name, "tow") is not None
    ]
    least = min(map(least_p_value, sizes))
    return f" With so few runs, p cannot be below {least:.3f}." if least >= LEVEL else ""


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
                len(present),
                float(shares.max(initial=0.0)),
                float(entropy),
            )
        )
    return Table(
        "sets",
        "The forget sets",
        ("Set", "Size", "ES", "MMD²", "Memorization", "Classes", "Largest class", "Class entropy"),
        rows,
        "ES: entanglement score; MMD² with the rest of D, γ by the median heuristic; the mean "
        "memorization; how many classes there are, the share of the largest, and their entropy, 1 "
        "if uniform.",
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
        "higher less the share in which it scores lower, −1 to 1; p: two-sided Jonckheere–Terpstra "
        "test, not corrected for the number of algorithms, and blind to that the levels of a seed "
        "share its original model.",
    )


def trends_table(study: Study, axes: Sequence[str], names: Sequence[str]) -> Table:
    """The trend test of every measure."""
    rows = [
        (axis, name, shown, found.effect, found.p_value)
        for axis in axes
        for name in names
        for measure, shown in MEASURES.items()
        if (found := trend(study, axis, name, measure)) is not None
    ]
    note = "As in the tables above; a trend of −1 falls from level to level, one of 1 rises."
    columns = ("Axis", "Algorithm", "Measure", "Trend", "p")
    return Table("trends", "Trends of all measures", columns, rows, note)


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
    falls = [
        plain(name) for name, each in known.items() if each.effect < 0 and each.p_value < LEVEL
    ]
    rises = [
        plain(name) for name, each in known.items() if each.effect > 0 and each.p_value < LEVEL
    ]
    unknown = [plain(name) for name in names if name not in known]
    if rises:
        holds = "does not hold for all"
    else:
        holds = "holds for all" if len(falls) == len(names) else "is not shown for all"
    rest = f" There is no trend yet for {listed(unknown)}." if unknown else ""
    means = ", ".join(
        f"{plain(name)} {each.effect:+.2f} ({chance(each.p_value)})".replace("-", "−")
        for name, each in known.items()
    )
    return (
        f"That ToW falls as {axis} rises {holds}: it falls for {len(falls)} of {len(known)} "
        f"algorithms ({listed(falls)}) and rises for {len(rises)} ({listed(rises)}), at 5 %, and "
        f"the rest is undecided. Trends: {means}.{rest}{too_few(study, axis, names)}"
    )


def relabelling(study: Study, names: Sequence[str]) -> list[str]:
    """Whether relabelling does better on memorized sets, as no other algorithm does."""
    there = [name for name in RELABELLING if name in names]
    said = []
    for name in there:
        found = trend(study, "memorization", name, "tow")
        if found is None:
            continue
        least, *_, most = levels(study, "memorization")
        lows, highs = mean_of(least, name, "tow"), mean_of(most, name, "tow")
        certain = found.p_value < LEVEL
        way = ("rises" if found.effect > 0 else "falls") if found.effect else "goes"
        sure = "" if certain else ", which chance could explain"
        holds = ("holds" if found.effect > 0 else "does not hold") if certain else "is not shown"
        if lows is not None and highs is not None:
            said.append(
                f"The inverse trend of relabelling {holds} for {plain(name)}: its ToW {way} from "
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
    if found is None:
        return
    error = float(np.nan_to_num(found.half_width))
    # An interval of a share ends where shares do.
    around = [[min(error, max(found.mean, 0))], [min(error, max(1 - found.mean, 0))]]
    panel.bar(x, found.mean, 0.25, color=color, edgecolor=INK, lw=0.5)
    panel.errorbar(x, found.mean, yerr=around, fmt="none", color=INK, lw=1, capsize=2)
    for which, style in (("original", ":"), ("retrain_second", "-")):
        mark = mean_of(case, which, measure)
        if mark is not None:
            panel.plot([x - 0.125, x + 0.125], [mark.mean] * 2, color=INK, ls=style, lw=1.2)
    row: Row = {"axis": axis, "set": case.name, "algorithm": name, "measure": measure}
    data.append(row | {"mean": found.mean, "half_width": found.half_width})
