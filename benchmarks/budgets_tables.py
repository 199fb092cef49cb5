"""The tables of `budgets_page.py`."""

from budgets_numbers import (
    CONTRASTS,
    FINDINGS,
    FORMS,
    RULE,
    by_algorithm,
    set_name,
    tally,
    verdict,
)
from budgets_rule import name_of

from rumjax.lab.report import wording
from rumjax.lab.report.exports import Table
from rumjax.lab.report.studies.base import mean_of
from rumjax.lab.report.tables import Calibration


def findings_table(numbers, regimes, cells):
    rows = []
    for contrast, (finding, sign) in FINDINGS.items():
        for regime in numbers.studies:
            found = regimes["best"].get((contrast, regime))
            mean = regimes["mean"].get((contrast, regime))
            mia = regimes["best_mia"].get((contrast, regime))
            if found is None:
                continue
            ahead, behind, count = tally(cells, contrast, regime)
            rows.append(
                (
                    finding,
                    regime,
                    verdict(found, sign),
                    found.effect,
                    wording.p_value(found.p_value),
                    mean.effect if mean and "RUM −" not in contrast else None,
                    mia.effect if mia else None,
                    f"{ahead} of {count}",
                    f"{behind} of {count}",
                )
            )
    return Table(
        "findings",
        "What the paper finds, per regime",
        (
            "Finding",
            "Regime",
            "Verdict",
            "Best algorithms, ToW",
            "p",
            "Mean over algorithms, ToW",
            "Best algorithms, ToW-MIA",
            "Cells ahead",
            "Cells behind",
        ),
        rows,
        "Paired differences over the seeds with 95 % Student-t half-widths, means over all cells "
        "of a regime. The p-value is Holm's, for all comparisons of this table; the verdict goes "
        "by it. Cells count where it is beyond chance in a cell of its own, corrected for all "
        "cells of the finding. RUM has no single algorithm.",
    )


def cells_table(numbers, cells):
    rows, best = [], set()
    for cell in numbers.cells:
        means = {form: numbers.mean_of_best(cell, form) for form in FORMS}
        leads = [cells.get((contrast, cell)) for contrast in CONTRASTS]
        winner = max(
            (form for form in FORMS if means[form] is not None),
            key=lambda form: means[form].value,
            default=None,
        )
        if winner is not None:
            best.add((len(rows), 3 + list(FORMS).index(winner)))
        case = numbers.case(cell)
        rows.append(
            (
                cell.regime,
                set_name(cell.set),
                cell.budget,
                *means.values(),
                *(None if one is None else one.effect for one in leads),
                mean_of(case, Calibration.ORIGINAL, "tow"),
                mean_of(case, Calibration.SECOND, "tow"),
            )
        )
    return Table(
        "cells",
        "ToW in every cell",
        (
            "Regime",
            "S",
            "Budget %",
            *FORMS.values(),
            *CONTRASTS,
            "Original",
            "Second oracle",
        ),
        rows,
        "The best algorithm of each form, by tuning.",
        best=frozenset(best),
    )


def grouped_table(numbers, name, title, found, column):
    keys = dict.fromkeys(key for _, key in found)
    rows = []
    for regime, group in keys:
        shown = [found.get((contrast, (regime, group))) for contrast in CONTRASTS]
        label = group if isinstance(group, int) else set_name(group)
        cells = [None if one is None else one.effect for one in shown]
        beyond = [c for c, one in zip(CONTRASTS, shown, strict=True) if one and one.is_shown]
        rows.append((regime, label, *cells, "; ".join(beyond)))
    return Table(
        name,
        title,
        ("Regime", column, *CONTRASTS, "Beyond chance"),
        rows,
        "Paired differences of ToW between the best algorithms of both forms, means over cells. "
        "The last column is corrected by Holm for all of this table.",
    )


def algorithms_table(numbers):
    found = by_algorithm(numbers)
    contrasts_ = list(CONTRASTS)[:3]
    keys = dict.fromkeys((regime, algorithm) for _, regime, algorithm in found)
    rows = []
    for regime, algorithm in keys:
        shown = [found.get((contrast, regime, algorithm)) for contrast in contrasts_]
        cells = [None if one is None else one.effect for one in shown]
        beyond = [c for c, one in zip(contrasts_, shown, strict=True) if one and one.is_shown]
        rows.append((regime, algorithm, *cells, "; ".join(beyond)))
    return Table(
        "by_algorithm",
        "What refinement does for each algorithm",
        ("Regime", "Algorithm", *contrasts_, "Beyond chance"),
        rows,
        "Paired differences of ToW, means over the cells of a regime whose budget an algorithm "
        "fits. The last column is corrected by Holm for all of this table.",
    )


def choices_table(choices):
    rows = []
    for regime, chosen in choices.items():
        for choice in chosen:
            rows.append(
                (
                    regime,
                    set_name(choice.set),
                    choice.budget,
                    choice.level,
                    choice.memorization,
                    name_of(choice.algorithm),
                )
            )
    return Table(
        "choices",
        "What RUM's search has chosen",
        ("Regime", "S", "Budget %", "Part", "Memorization", "Algorithm"),
        rows,
        "The mean memorization of each part.",
    )


def most(costs):
    return max(costs, default=None)


def average(costs):
    return sum(costs) / len(costs) if costs else None


def costs_table(numbers):
    """Shows what the methods of every form took within each budget, the most and on average."""
    rows = []
    for budget in numbers.budgets:
        costs = {form: [] for form in (*FORMS, RULE)}
        for cell in numbers.cells:
            if cell.budget != budget:
                continue
            for form, taken in costs.items():
                for method in numbers.methods(cell, form).values():
                    cost = mean_of(numbers.case(cell), method, "rge")
                    if cost is not None:
                        taken.append(cost.value)
        rows.append((budget, *(of(taken) for taken in costs.values() for of in (most, average))))
    forms = (*FORMS.values(), "RUM by the rule")
    return Table(
        "costs",
        "What methods have taken",
        ("Budget %", *(f"{form}, {which}" for form in forms for which in ("most", "mean"))),
        rows,
        "Gradients over those of retraining. A part that a RUM leaves alone takes none.",
    )
