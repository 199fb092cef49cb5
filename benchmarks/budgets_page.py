"""The page of `budgets.py`: when it pays to refine a forget set.

All sentences are made from the numbers; what is true of one run need not be of the next.
"""

import platform
from collections import Counter

import jax
import numpy as np
from budgets_figures import draw_fronts, draw_map
from budgets_numbers import (
    CONTRASTS,
    FORMS,
    RULE,
    apart,
    averaged,
    by_algorithm,
    by_cell,
    contrasts,
    ordered_sets,
    over_cells,
    set_name,
)
from budgets_rule import LOW_BUDGET

from rumjax.lab.report import pages, run_page, wording
from rumjax.lab.report.exports import Table
from rumjax.lab.report.pages import About, Page
from rumjax.lab.report.reported import whole
from rumjax.lab.report.studies.base import mean_of
from rumjax.lab.report.tables import Calibration
from rumjax.lab.workdir import WorkDirectory
from rumjax.refine import LEVELS

FINDINGS = {
    "RUM^F − vanilla": ("RUM^F is ahead of vanilla", 1),
    "RUM^F − shuffle": ("RUM^F is ahead of shuffle", 1),
    "shuffle − vanilla": ("Shuffle is behind vanilla", -1),
    "RUM − vanilla": ("RUM is ahead of vanilla", 1),
    "RUM − RUM^F": ("RUM is ahead of RUM^F", 1),
}
"""What the paper finds, and the sign that the difference then has."""


def write(out, numbers, rules, choices, runs, *, machine):
    """Writes the page, its tables and its figures."""
    best, every = numbers.of_best, numbers.of_all
    cells = {"tow": by_cell(numbers, best)}
    regimes = {
        "best": over_cells(numbers, best, lambda cell: cell.regime),
        "mean": over_cells(numbers, every, lambda cell: cell.regime),
        "best_mia": over_cells(
            numbers, lambda cell, form: best(cell, form, "tow_mia"), lambda cell: cell.regime
        ),
    }
    budgets = over_cells(numbers, best, lambda cell: (cell.regime, cell.budget))
    sets = over_cells(numbers, best, lambda cell: (cell.regime, cell.set))
    ruled = by_rule(numbers)
    answers = [
        *say_regimes(numbers),
        *say_findings(numbers, regimes, cells["tow"]),
        *say_sources(numbers, regimes["best"]),
        *say_budgets(numbers, budgets),
        *say_sets(numbers, sets),
        *say_choices(choices),
        *say_rule(rules, choices, ruled),
    ]
    page = Page(
        "When does refinement pay?",
        "Unlearning takes a share of what retraining would. In which regime, for which forget set "
        "and within which budget is it better to refine the set and to unlearn its parts in "
        "sequence (RUM^F), or with an algorithm each (RUM), than to unlearn it at once?",
        answers,
        [
            cells_table(numbers, cells["tow"]),
            grouped_table(numbers, "budgets", "By budget", budgets, "Budget %"),
            grouped_table(numbers, "sets", "By forget set", sets, "S"),
            algorithms_table(numbers),
            choices_table(choices),
            costs_table(numbers),
        ],
        [
            draw_map(numbers, cells["tow"]),
            draw_fronts(numbers, "tow"),
            draw_fronts(numbers, "tow_mia"),
        ],
        findings_table(numbers, regimes, cells["tow"]),
    )
    (run, *_), (study, *_) = runs.values(), numbers.studies.values()
    facts = run_page.facts(whole(run), None) | {
        "Training": training_facts(runs),
        "Settings": f"{run.config.tuning.settings} of each method were tried in each cell, on seed "
        f"{', '.join(map(str, run.config.tuning.seeds))}, which is not reported; RUM chose for its "
        "parts among what RUM^F of the five algorithms was tuned to, and doing nothing, in as many "
        "trials",
        "Machine": f"{machine}; Python {platform.python_version()}, jax {jax.__version__}",
    }
    with WorkDirectory(str(out), lock=False) as work:
        pages.publish(
            work,
            About(
                "study", study.name, facts, "python benchmarks/budgets.py --workdir=runs/budgets"
            ),
            page,
        )
        work.delete("study.html")


def training_facts(runs):
    """Says how models of each regime were trained."""
    words = []
    for regime, run in runs.items():
        noise = run.config.written["data"].get("label_noise", 0.0)
        noisy = f", {100 * noise:.0f} % of the labels of D replaced" if noise else ""
        words.append(f"{regime}: {run.recipe.epochs} epochs{noisy}")
    training = dict(next(iter(runs.values())).config.training)
    training.pop("epochs")
    same = ", ".join(f"{key} {value}" for key, value in training.items())
    return f"{'; '.join(words)}; {same}"


# Sentences


def say_regimes(numbers):
    """Says what each regime is, by how well models fit."""
    for regime in numbers.studies:
        name = first_set(numbers, regime, "high")
        if name is None:
            continue
        original, oracle = (
            {
                measure: wording.number(numbers.accuracy(regime, line, measure, name).value)
                for measure in ("retain_accuracy", "forget_accuracy", "test_accuracy")
            }
            for line in (Calibration.ORIGINAL, Calibration.REFERENCE)
        )
        yield (
            f"{regime.capitalize()}: original models classify {original['retain_accuracy']} of R, "
            f"{original['forget_accuracy']} of {set_name(name)} and {original['test_accuracy']} of "
            f"T as labelled; oracles {oracle['forget_accuracy']} of that S."
        )


def say_findings(numbers, regimes, cells):
    """Says of each finding whether it holds, per regime."""
    for contrast, (finding, sign) in FINDINGS.items():
        for regime in numbers.studies:
            found = regimes["best"].get((contrast, regime))
            if found is None:
                continue
            ahead, behind, count = tally(cells, contrast, regime)
            yield (
                f"{finding}: {verdict(found, sign)} in the {regime} regime. Between the best "
                f"algorithms of both forms the mean difference in ToW is "
                f"{wording.interval(found.effect, signed=True)} "
                f"({p_words(found)}); it is positive beyond chance in {ahead} of {count} cells, "
                f"and negative in {behind}."
            )


def say_sources(numbers, regimes):
    """Divides RUM^F's difference from vanilla into what shuffle has too, and the rest."""
    for regime in numbers.studies:
        parts = [regimes.get((contrast, regime)) for contrast in list(CONTRASTS)[:3]]
        if None in parts:
            continue
        total, refinement, sequence = (wording.interval(part.effect, signed=True) for part in parts)
        yield (
            f"{regime.capitalize()}: of the {total} by which RUM^F differs from vanilla, going "
            f"over S in three steps gives {sequence} (shuffle − vanilla), and that these are parts "
            f"by memorization {refinement} (RUM^F − shuffle)."
        )


def say_budgets(numbers, budgets):
    """Lists differences by budget."""
    for contrast in ("RUM^F − vanilla", "RUM − vanilla"):
        for regime in numbers.studies:
            found = {
                budget: budgets[contrast, (regime, budget)]
                for budget in numbers.budgets
                if (contrast, (regime, budget)) in budgets
            }
            if found:
                yield f"{contrast} by budget, {regime}: {listed(found, '{} %')}."


def say_sets(numbers, sets):
    """Lists differences by forget set."""
    for contrast in ("RUM^F − vanilla", "RUM − vanilla"):
        for regime, study in numbers.studies.items():
            found = {
                set_name(name): sets[contrast, (regime, name)]
                for name in ordered_sets(study)
                if (contrast, (regime, name)) in sets
            }
            if found:
                yield f"{contrast} by forget set, {regime}: {listed(found, '{}')}."


def say_choices(choices):
    """Says which algorithms RUM's search has chosen for which parts."""
    for regime, chosen in choices.items():
        words = []
        for level in LEVELS:
            counts = Counter(choice.algorithm for choice in chosen if choice.level == level)
            total = sum(counts.values())
            words.append(
                f"{level}: "
                + ", ".join(
                    f"{name_of(algorithm)} {count} of {total}"
                    for algorithm, count in counts.most_common(3)
                )
            )
        yield f"What RUM's search chose most for each part, {regime}: {'; '.join(words)}."


def say_rule(rules, choices, ruled):
    """Says what the rule is, and what it is worth in each regime."""
    if rules is None:
        return
    first = next(iter(choices))
    for low, rule in rules.items():
        budgets = f"up to {LOW_BUDGET} %" if low else f"above {LOW_BUDGET} %"
        (below, above), (one, two, three) = rule.bounds, map(name_of, rule.algorithms)
        yield (
            f"The rule that agrees most with the choices of the {first} regime, for budgets "
            f"{budgets}: {one} below a memorization of {below:g}, {two} below {above:g}, {three} "
            f"above. It agrees with {rule.agreement:.0%} of them."
        )
    for (contrast, regime), found in ruled.items():
        yield (
            f"RUM by that rule, {regime}: {contrast} is "
            f"{wording.interval(found.effect, signed=True)} of ToW ({p_words(found)})."
        )


def verdict(found, sign):
    """Says whether a difference is of the sign that a finding says."""
    if not found.is_shown:
        return "cannot be told"
    return "holds" if np.sign(found.effect.value) == sign else "does not hold"


def tally(cells, contrast, regime):
    """Counts the cells of a regime where a difference is positive, negative, and all."""
    found = [
        one for (name, cell), one in cells.items() if (name, cell.regime) == (contrast, regime)
    ]
    ahead = sum(one.is_shown and one.effect.value > 0 for one in found)
    behind = sum(one.is_shown and one.effect.value < 0 for one in found)
    return ahead, behind, len(found)


def by_rule(numbers):
    """Holds RUM by the rule against others, on average over the cells of each regime."""
    differences = {}
    for name, form in (("rule − vanilla", "vanilla"), ("rule − RUM by search", "rum")):
        for regime in numbers.studies:
            differences[name, regime] = averaged(
                apart(numbers.of_best(cell, RULE), numbers.of_best(cell, form))
                for cell in numbers.cells
                if cell.regime == regime
            )
    return contrasts(differences)


def listed(found, form):
    """Lists differences; those beyond chance are marked."""
    return ", ".join(
        f"{form.format(key)} {wording.number(one.effect.value, signed=True)}"
        + ("*" if one.is_shown else "")
        for key, one in found.items()
    )


def p_words(found):
    return wording.p_value(found.p_value)


def name_of(algorithm):
    return "nothing" if algorithm == "original" else algorithm


def first_set(numbers, regime, kind):
    """Returns a set of a kind, that of 5 % if it is there."""
    names = [name for name in ordered_sets(numbers.studies[regime]) if name.startswith(kind)]
    return f"{kind}_5" if f"{kind}_5" in names else next(iter(names), None)


# Tables


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
                    p_words(found),
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
        "Paired differences of ToW, means over the cells of a regime. The last column is corrected "
        "by Holm for all of this table.",
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


def costs_table(numbers):
    """Shows the highest cost of every form within each budget."""
    rows = []
    for budget in numbers.budgets:
        most = {}
        for cell in numbers.cells:
            if cell.budget != budget:
                continue
            for form in (*FORMS, RULE):
                for method in numbers.methods(cell, form).values():
                    cost = mean_of(numbers.case(cell), method, "rge")
                    if cost is not None:
                        most[form] = max(most.get(form, 0.0), cost.value)
        rows.append((budget, *(most.get(form) for form in (*FORMS, RULE))))
    return Table(
        "costs",
        "The most that a method has taken",
        ("Budget %", *FORMS.values(), "RUM by the rule"),
        rows,
        "Gradients over those of retraining; none is above its budget.",
    )
