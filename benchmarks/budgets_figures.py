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
            "leads beyond chance (paired t-test, Holm over the cells of a comparison).",
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
    regimes = list(numbers.studies)
    sets = ordered_sets(max(numbers.studies.values(), key=lambda study: len(study.cases)))
    with drawing.style():
        figure = Figure(
            figsize=(3.4 * len(regimes) + 0.6, 2.3 * len(sets) + 0.8), layout="constrained"
        )
        panels = drawing.grid(figure, len(sets) * len(regimes), len(regimes))
        data = []
        for position, panel in enumerate(panels):
            name, regime = sets[position // len(regimes)], regimes[position % len(regimes)]
            study = numbers.studies[regime]
            panel.set_title(f"{regime}, {set_name(name)}", fontsize=9)
            if name not in study.cases:
                panel.set_axis_off()
                continue
            case = study.cases[name]
            drawing.draw_mark(
                panel, mean_of(case, Calibration.ORIGINAL, measure), FLOOR, horizontal=True
            )
            drawing.draw_mark(
                panel, mean_of(case, Calibration.SECOND, measure), CEILING, horizontal=True
            )
            for form in FORMS:
                points = []
                for cell in numbers.cells:
                    mean = numbers.mean_of_best(cell, form, measure)
                    if (cell.regime, cell.set) != (regime, name) or mean is None:
                        continue
                    cost = mean_of(case, numbers.best(cell, form), "rge").value
                    points.append((cost, mean.value))
                    data.append(
                        {
                            "regime": regime,
                            "set": name,
                            "budget": cell.budget,
                            "form": form,
                            "method": numbers.best(cell, form),
                            "rge": cost,
                            measure: mean.value,
                            "half_width": mean.half_width,
                        }
                    )
                if points:
                    costs, means = zip(*sorted(points), strict=True)
                    panel.plot(costs, means, marker="o", ms=3.5, lw=1.2, color=COLORS[form])
            draw_front(
                panel,
                [row for row in data if (row["regime"], row["set"]) == (regime, name)],
                measure,
            )
            panel.set_xscale("log")
            panel.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5], ["2", "5", "10", "20", "50"])
            panel.minorticks_off()
            panel.grid(axis="y")
        for panel in panels[-len(regimes) :]:
            panel.set_xlabel("cost, % of retraining's gradients")
        for panel in panels[:: len(regimes)]:
            panel.set_ylabel(TITLES[measure])
        handles = [
            Line2D([], [], color=COLORS[form], marker="o", ms=3.5, label=drawing.label(title))
            for form, title in FORMS.items()
        ]
        handles += [
            Line2D(
                [], [], ls="", marker="o", ms=9, mfc="none", mec=drawing.INK, label="Pareto front"
            ),
            drawing.mark_handle("original", FLOOR),
            drawing.mark_handle("second oracle", CEILING),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        return Picture(
            f"budgets_{measure}",
            f"{TITLES[measure]} against cost",
            f"{TITLES[measure]} of the best algorithm of each form, means over the seeds; rings "
            "are those that no other is both cheaper and better than.",
            drawing.render(figure, data),
        )


def draw_front(panel, rows, measure):
    """Rings the points that no other is both cheaper and better than."""
    highest = -np.inf
    for row in sorted(rows, key=lambda row: (row["rge"], -row[measure])):
        if row[measure] > highest:
            highest = row[measure]
            panel.plot(row["rge"], row[measure], "o", ms=9, mfc="none", mec=drawing.INK, mew=0.9)
