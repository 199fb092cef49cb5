"""The figures of `budgets_page.py`: who wins where, and what it costs."""

import numpy as np
from budgets_numbers import FORMS, ordered_sets, set_name
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from rumjax.lab.report import drawing, wording
from rumjax.lab.report.drawing import CEILING, COLORS, FLOOR, Picture
from rumjax.lab.report.studies.base import mean_of
from rumjax.lab.report.tables import Calibration

TITLES = {"tow": "ToW", "tow_mia": "ToW-MIA"}
RING = {"marker": "o", "ms": 9, "mfc": "none", "mec": drawing.INK, "mew": 0.9}
SAME_COST = 0.1
"""By how much costs may differ that count as the same; methods of one budget never take it all."""


def draw_map(numbers, cells):
    """Draws for every cell which form has the highest ToW, and whether that is beyond chance."""
    regimes = list(numbers.studies)
    sets = ordered_sets(max(numbers.studies.values(), key=lambda study: len(study.cases)))
    with drawing.style():
        figure = Figure(
            figsize=(3.6 * len(regimes) + 1.8, 0.5 * len(sets) + 2.0), layout="constrained"
        )
        panels = drawing.grid(figure, len(regimes), len(regimes), sharey=True)
        data = []
        for panel, regime in zip(panels, regimes, strict=True):
            panel.set_title(regime)
            for cell in numbers.cells:
                if cell.regime != regime:
                    continue
                means = {form: numbers.mean_of_best(cell, form) for form in FORMS}
                means = {form: mean.value for form, mean in means.items() if mean is not None}
                winner = max(means, key=means.get)
                lead, shown = lead_of(numbers, cell, winner, means, cells)
                x, y = numbers.budgets.index(cell.budget), sets.index(cell.set)
                color = to_rgba(COLORS[winner], 0.9 if shown else 0.25)
                square = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, edgecolor="white")
                panel.add_patch(square)
                panel.text(
                    x,
                    y,
                    wording.number(lead, 2, signed=True).replace("0.", "."),
                    ha="center",
                    va="center",
                    fontsize=8,
                    fontweight="bold" if shown else "normal",
                )
                data.append(
                    {
                        "regime": regime,
                        "set": cell.set,
                        "budget": cell.budget,
                        "winner": winner,
                        "lead": lead,
                        "beyond_chance": shown,
                    }
                )
            panel.set_xticks(range(len(numbers.budgets)), numbers.budgets)
            panel.set_xlim(-0.5, len(numbers.budgets) - 0.5)
            panel.set_xlabel("budget, % of retraining")
            panel.tick_params(length=0)
        drawing.label_rows(panels[0], [set_name(name) for name in sets])
        handles = [
            Patch(color=COLORS[form], label=drawing.label(title)) for form, title in FORMS.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(FORMS))
        return Picture(
            "budgets_map",
            "Which form wins where",
            "The form with the highest ToW in every cell, by the best algorithm of each. The "
            "number is its lead over vanilla; where vanilla wins, over the next. Strong colors are "
            "leads beyond chance (paired t-test, Holm over the cells of a comparison). Which form "
            "is highest is seen on the same seeds, so that leads are somewhat too large.",
            drawing.render(figure, data),
        )


def lead_of(numbers, cell, winner, means, cells):
    """Returns how far a cell's winner is ahead of vanilla, or vanilla of the next, and if shown."""
    if winner != "vanilla":
        found = cells.get((f"{FORMS[winner]} − vanilla", cell))
        return means[winner] - means.get("vanilla", np.nan), bool(found and found.is_shown)
    second = max((form for form in means if form != "vanilla"), key=means.get)
    found = cells.get((f"{FORMS[second]} − vanilla", cell))
    return means["vanilla"] - means[second], bool(found and found.is_shown)


def draw_fronts(numbers, measure):
    """Draws a measure against cost for every regime and set."""
    rows = front_rows(numbers, measure)
    places = list(dict.fromkeys((row["regime"], row["set"]) for row in rows))
    columns = 3
    with drawing.style():
        height = 2.3 * -(-len(places) // columns) + 0.8
        figure = Figure(figsize=(3.4 * columns + 0.6, height), layout="constrained")
        panels = drawing.grid(figure, len(places), columns)
        for panel, (regime, name) in zip(panels, places, strict=True):
            panel.set_title(f"{regime}, {set_name(name)}", fontsize=9)
            here = [row for row in rows if (row["regime"], row["set"]) == (regime, name)]
            draw_panel(panel, numbers.studies[regime].cases[name], here, measure)
        for panel in panels[-columns:]:
            panel.set_xlabel("cost, % of retraining's gradients")
        for panel in panels[::columns]:
            panel.set_ylabel(TITLES[measure])
        handles = [
            Line2D([], [], color=COLORS[form], marker="o", ms=3.5, label=drawing.label(title))
            for form, title in FORMS.items()
        ]
        handles += [
            Line2D([], [], ls="", label="Pareto front", **RING),
            drawing.mark_handle("original", FLOOR),
            drawing.mark_handle("second oracle", CEILING),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        return Picture(
            f"budgets_{measure}",
            f"{TITLES[measure]} against cost",
            f"{TITLES[measure]} of the best algorithm of each form, means over the seeds; rings "
            f"are those that none is better than at the same cost, within {SAME_COST:.0%}, or "
            "less.",
            drawing.render(figure, rows),
        )


def front_rows(numbers, measure):
    """Returns cost and measure of every form's best method in every cell."""
    rows = []
    for cell in numbers.cells:
        for form in FORMS:
            mean = numbers.mean_of_best(cell, form, measure)
            if mean is None:
                continue
            method = numbers.best(cell, form)
            rows.append(
                {
                    **cell._asdict(),
                    "form": form,
                    "method": method,
                    "rge": mean_of(numbers.case(cell), method, "rge").value,
                    measure: mean.value,
                    "half_width": mean.half_width,
                }
            )
    return rows


def draw_panel(panel, case, rows, measure):
    """Draws the forms of one forget set in one regime, from the cheapest on."""
    for mark, look in ((Calibration.ORIGINAL, FLOOR), (Calibration.SECOND, CEILING)):
        drawing.draw_mark(panel, mean_of(case, mark, measure), look, horizontal=True)
    for form in FORMS:
        points = sorted((row["rge"], row[measure]) for row in rows if row["form"] == form)
        panel.plot(*np.transpose(points), marker="o", ms=3.5, lw=1.2, color=COLORS[form])
    draw_front(panel, rows, measure)
    panel.set_xscale("log")
    panel.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5], ["2", "5", "10", "20", "50"])
    panel.minorticks_off()
    panel.grid(axis="y")


def draw_front(panel, rows, measure):
    """Rings the points that no other is better than at the same cost or less."""
    for row in rows:
        as_cheap = [other for other in rows if other["rge"] <= row["rge"] * (1 + SAME_COST)]
        if row[measure] == max(other[measure] for other in as_cheap):
            panel.plot(row["rge"], row[measure], **RING)
