"""What makes forgetting hard: a measure by level of difficulty, for every algorithm."""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rumjax.lab.report import drawing, wording
from rumjax.lab.report.claims import SIGNIFICANCE, Claim, Verdict, judge
from rumjax.lab.report.drawing import CEILING, FLOOR, INK, SHADES, Drawn, Picture
from rumjax.lab.report.exports import Table
from rumjax.lab.report.pages import Page
from rumjax.lab.report.studies.base import (
    FLOOR_AND_CEILING,
    MEASURES,
    Case,
    Study,
    by_seed,
    mean_of,
    summary_of,
)
from rumjax.lab.report.tables import Calibration, Row
from rumjax.metrics import Interval, Trend, jonckheere, least_p_value

LEVELS = ("low", "medium", "high")
RELABELLING = ("random_label", "salun")
SHOWN = ("tow", "tow_mia")
"""measures with tables and figures of their own"""


def page(study: Study, figures: bool) -> Page:
    """Answers what makes forgetting hard; cases are called "AXIS_LEVEL"."""
    axes = axes_of(study)

    # What holds on each axis, and where relabelling is said to differ.
    answers = [say_fall(study, axis) for axis in axes]
    answers += [say_inversion(inversion) for inversion in inversions(study)]

    # Tables: what sets are like, each measure by level, and everything.
    tables = [sets_table(study)]
    tables += [measure_table(study, axis, measure) for measure in SHOWN for axis in axes]
    tables += [trends_table(study), all_table(study)]
    return Page(
        "What makes forgetting hard",
        "Is a forget set harder to unlearn the more entangled it is with the rest of the data, and "
        "the more it is memorized, and is that so for every algorithm?",
        answers,
        tables,
        draw(study) if figures else [],
    )


def draw(study: Study) -> list[Picture]:
    """Draws ToW and ToW-MIA by level."""
    return [draw_measure(study, measure) for measure in SHOWN]


@drawing.forgiving
def draw_measure(study: Study, measure: str) -> Picture:
    """Draws a measure by level."""
    return Picture(
        f"difficulty_{measure}",
        f"{MEASURES[measure]} by level",
        "Bars are means over the seeds, with 95 % intervals: low, medium and high from left to "
        "right. Solid lines are a second oracle, as good as chance lets a perfect method be; "
        f"dotted lines the original model, which forgets nothing. {drawing.SEEDS_SHOWN}",
        draw_bars(study, measure),
    )


# Cases


def axes_of(study: Study) -> list[str]:
    """Returns the axes of difficulty, in the order of the cases."""
    return [*dict.fromkeys(name.rpartition("_")[0] for name in study.cases)]


def levels(study: Study, axis: str) -> list[Case]:
    """Returns the cases of an axis, by ascending difficulty."""
    cases = (study.cases.get(f"{axis}_{level}") for level in LEVELS)
    return [case for case in cases if case is not None]


def ordered_cases(study: Study) -> list[Case]:
    """Returns all cases, axis by axis and by ascending difficulty."""
    return [case for axis in axes_of(study) for case in levels(study, axis)]


def algorithms(study: Study) -> list[str]:
    """Returns the names of all methods that any case has results of."""
    methods = (method for case in ordered_cases(study) for method in case.results.methods)
    return [*dict.fromkeys(method.line.name for method in methods)]


# Claims


def by_level(
    study: Study, axis: str, line: str | Calibration, measure: str
) -> list[np.ndarray] | None:
    """Returns a measure on each seed, level by level; None where a level or a run lacks it."""
    groups = [by_seed(case, line, measure) for case in levels(study, axis)]
    if len(groups) < 2 or min(map(len, groups)) == 0:
        return None
    return groups


def trend(study: Study, axis: str, line: str | Calibration, measure: str) -> Trend | None:
    """Tests a measure for a trend over an axis's levels; None where a level or a run lacks it."""
    groups = by_level(study, axis, line, measure)
    return None if groups is None else jonckheere(groups)


def fall_claim(study: Study, axis: str) -> Claim:
    """Claims that ToW falls as an axis rises, for every algorithm."""
    trends = {name: trend(study, axis, name, "tow") for name in algorithms(study)}
    return Claim(
        f"ToW by {axis}",
        Verdict.LOWER,
        {name: fall for name, fall in trends.items() if fall is not None},
        [name for name, fall in trends.items() if fall is None],
    )


def least_p(study: Study, axis: str) -> float:
    """Returns the p-value of a perfect trend of ToW, for the algorithm with the most runs."""
    by_algorithm = [by_level(study, axis, name, "tow") for name in algorithms(study)]
    sizes = [[*map(len, groups)] for groups in by_algorithm if groups is not None]
    return min(map(least_p_value, sizes), default=1.0)


class Inversion(NamedTuple):
    """The claim that ToW of an algorithm rises with memorization, as no other's does."""

    name: str
    trend: Trend
    least: Interval
    """ToW on the least memorized set"""
    most: Interval
    """ToW on the most memorized set"""

    @property
    def holds(self) -> bool | None:
        """True if ToW rises, False if it falls, None if chance could explain either."""
        verdict = judge(self.trend)
        return None if verdict is Verdict.LEVEL else verdict is Verdict.HIGHER


def inversions(study: Study) -> list[Inversion]:
    """Claims that relabelling does better on memorized sets, of each algorithm that relabels."""
    cases = levels(study, "memorization")
    claims = []
    for name in RELABELLING:
        rise = trend(study, "memorization", name, "tow")
        if name in algorithms(study) and rise is not None:
            least, most = mean_of(cases[0], name, "tow"), mean_of(cases[-1], name, "tow")
            if least is not None and most is not None:
                claims.append(Inversion(name, rise, least, most))
    return claims


# Sentences


def say_fall(study: Study, axis: str) -> str:
    """Says for which algorithms ToW falls along an axis."""
    claim = fall_claim(study, axis)
    if not claim.effects:
        return f"There are no results by {axis} yet."

    # Who falls, who rises, and by how much.
    falls, rises = claim.supporting, claim.contradicting
    sentence = (
        f"That ToW falls as {axis} rises {wording.HOLDS[claim.holds]} for all: it falls for "
        f"{len(falls)} of {len(claim.effects)} algorithms ({wording.listing(falls)}) and rises for "
        f"{len(rises)} ({wording.listing(rises)}), at 5 %, and the rest is undecided. Trends: "
        f"{wording.effects(claim.effects)}."
    )

    # What is missing, and what so few runs could not show even if it were there.
    if claim.missing:
        sentence += f" There is no trend yet for {wording.listing(claim.missing)}."
    least = least_p(study, axis)
    if least >= SIGNIFICANCE:
        sentence += f" With so few runs, p cannot be below {least:.3f}."
    return sentence


def say_inversion(inversion: Inversion) -> str:
    """Says whether relabelling does better on memorized sets."""
    name, rise, least, most = inversion

    # The direction is told even if it may be chance.
    verb = "goes"
    if rise.effect:
        verb = "rises" if rise.effect > 0 else "falls"
    certainty = wording.p_value(rise.p_value)
    if inversion.holds is None:
        certainty += ", which chance could explain"
    return (
        f"The inverse trend of relabelling {wording.HOLDS[inversion.holds]} for {name}: its ToW "
        f"{verb} from {wording.number(least.value)} on the least to {wording.number(most.value)} "
        f"on the most memorized set ({certainty})."
    )


# Tables


def sets_table(study: Study) -> Table:
    """Makes a table of what each forget set is like."""
    rows = []
    for case in ordered_cases(study):
        # How hard the set is, then how its classes are spread.
        hardness = case.hardness.get("all", {})
        shares = class_shares(case, study.labels)
        rows.append(
            (
                case.name.replace("_", " "),
                sum(map(len, case.parts.values())),
                hardness.get("entanglement_score"),
                hardness.get("mmd_squared"),
                hardness.get("memorization"),
                int(np.count_nonzero(shares)),
                float(shares.max(initial=0.0)),
                class_entropy(shares, classes=int(study.labels.max()) + 1),
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


def class_shares(case: Case, labels: np.ndarray) -> np.ndarray:
    """Computes the share of each class in a case's forget set, float[K]."""
    forget = np.concatenate([*case.parts.values(), np.empty(0, int)]).astype(int)
    return np.bincount(labels[forget]) / max(len(forget), 1)


def class_entropy(shares: np.ndarray, classes: int) -> float:
    """Computes the entropy of shares, over that of so many classes of one size."""
    present = shares[shares > 0]
    return float(-np.sum(present * np.log(present)) / math.log(classes))


def measure_table(study: Study, axis: str, measure: str) -> Table:
    """Makes a table of a measure of every algorithm by level, with the trend test."""
    cases = levels(study, axis)

    # Floor and ceiling should have no trend, and are tested like methods.
    lines: dict[str, str | Calibration] = dict(FLOOR_AND_CEILING)
    lines |= {name: name for name in algorithms(study)}
    rows = []
    for label, line in lines.items():
        means = [mean_of(case, line, measure) for case in cases]
        test = trend(study, axis, line, measure)
        rows.append((label, *means, *((None, None) if test is None else test)))
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


def trends_table(study: Study) -> Table:
    """Makes a table of the trend test of every measure."""
    rows = []
    for axis in axes_of(study):
        for name in algorithms(study):
            for measure, title in MEASURES.items():
                test = trend(study, axis, name, measure)
                if test is not None:
                    rows.append((axis, name, title, test.effect, test.p_value))
    note = "As in the tables above; a trend of −1 falls from level to level, one of 1 rises."
    columns = ("Axis", "Algorithm", "Measure", "Trend", "p")
    return Table("trends", "Trends of all measures", columns, rows, note)


def all_table(study: Study) -> Table:
    """Makes a table of everything, in long form."""
    rows = [
        (case.name, summary.line.name, *(summary.measures.get(measure) for measure in MEASURES))
        for case in ordered_cases(study)
        for summary in case.results.summaries
    ]
    return Table("all", "All measures", ("Set", "Algorithm", *MEASURES.values()), rows)


# The figure


def draw_bars(study: Study, measure: str) -> Drawn:
    """Draws a panel for each axis, with three bars for each algorithm."""
    axes, names = axes_of(study), algorithms(study)
    figure = Figure(figsize=(10, 3.4 * len(axes)), layout="constrained")
    panels = drawing.grid(figure, len(axes), columns=1, sharey=True)
    data: list[Row] = []
    for panel, axis in zip(panels, axes, strict=True):
        for shift, (level, color) in enumerate(zip(LEVELS, SHADES, strict=True), start=-1):
            case = study.cases.get(f"{axis}_{level}")
            if case is None:
                continue
            for position, name in enumerate(names):
                mean = drawing.cut(measure, mean_of(case, name, measure))
                if mean is None:
                    continue
                x = position + 0.27 * shift
                _draw_bar(panel, x, mean, color)
                summary = summary_of(case, name)
                seeds = [] if summary is None else summary.seeds(measure)
                drawing.draw_seeds(panel, seeds, x + 0.06, INK, horizontal=False)
                _draw_marks(panel, x, case, measure)
                row: Row = {"axis": axis, "set": case.name, "algorithm": name, "measure": measure}
                whole = mean_of(case, name, measure) or mean
                data.append(row | {"mean": mean.value, "half_width": whole.half_width})
        panel.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
        panel.set(ylabel=MEASURES[measure], title=axis.capitalize(), ylim=(0, 1.05))
        panel.tick_params(axis="x", length=0)
        panel.grid(axis="y")

    # One legend for all panels.
    handles = [
        Line2D([], [], marker="s", ls="", color=color, mec=INK, ms=9, label=level)
        for level, color in zip(LEVELS, SHADES, strict=True)
    ]
    handles += [drawing.mark_handle("oracle again", CEILING)]
    handles += [drawing.mark_handle("original", FLOOR)]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return drawing.render(figure, data)


def _draw_bar(panel: Axes, x: float, mean: Interval, color: str) -> None:
    """Draws a bar with its interval, which ends where shares do."""
    bar = drawing.error_bar(mean)
    panel.bar(x, mean.value, 0.25, color=color, edgecolor=INK, lw=0.5)
    panel.errorbar(x, mean.value, yerr=bar, fmt="none", color=INK, lw=1, capsize=2)


def _draw_marks(panel: Axes, x: float, case: Case, measure: str) -> None:
    """Draws floor and ceiling across a bar."""
    for mark, look in ((Calibration.ORIGINAL, FLOOR), (Calibration.SECOND, CEILING)):
        mean = mean_of(case, mark, measure)
        if mean is not None:
            ends = [x - 0.125, x + 0.125]
            panel.plot(ends, [mean.value] * 2, color=look.color, ls=look.style, lw=1.2)
