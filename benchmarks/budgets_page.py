"""The page of `budgets.py`: when it pays to refine a forget set.

All sentences are made from the numbers; what is true of one run need not be of the next.
"""

import platform
from collections import Counter

import budgets_attack
import jax
from budgets_figures import draw_fronts, draw_map
from budgets_numbers import (
    CONTRASTS,
    FINDINGS,
    RULE,
    apart,
    averaged,
    by_cell,
    contrasts,
    ordered_sets,
    over_cells,
    set_name,
    tally,
    verdict,
)
from budgets_rule import LOW_BUDGET, name_of
from budgets_tables import (
    algorithms_table,
    cells_table,
    choices_table,
    costs_table,
    findings_table,
    grouped_table,
)

from rumjax.lab.report import pages, run_page, wording
from rumjax.lab.report.pages import About, Page
from rumjax.lab.report.reported import whole
from rumjax.lab.report.tables import Calibration, has_diverged
from rumjax.lab.workdir import WorkDirectory
from rumjax.refine import LEVELS


def write(out, numbers, rules, choices, attacked, runs, *, machine):
    """Writes the page, its tables and its figures."""
    best, every = numbers.of_best, numbers.of_all
    cells = by_cell(numbers, best)
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
        *say_findings(numbers, regimes, cells),
        *say_other_measure(numbers, regimes),
        *say_sources(numbers, regimes["best"]),
        *say_budgets(numbers, budgets),
        *say_sets(numbers, sets),
        *say_choices(choices),
        *say_rule(rules, choices, ruled),
        *budgets_attack.say(attacked, next(iter(runs))),
    ]
    page = Page(
        "When does refinement pay?",
        "Unlearning takes a share of what retraining would. In which regime, for which forget set "
        "and within which budget is it better to refine the set and to unlearn its parts in "
        "sequence (RUM^F), or with an algorithm each (RUM), than to unlearn it at once?",
        answers,
        [
            cells_table(numbers, cells),
            grouped_table(numbers, "budgets", "By budget", budgets, "Budget %"),
            grouped_table(numbers, "sets", "By forget set", sets, "S"),
            algorithms_table(numbers),
            choices_table(choices),
            costs_table(numbers),
            *([budgets_attack.table(attacked)] if attacked else []),
        ],
        [
            draw_map(numbers, cells),
            draw_fronts(numbers, "tow"),
            draw_fronts(numbers, "tow_mia"),
        ],
        findings_table(numbers, regimes, cells),
    )
    run = next(iter(runs.values()))
    facts = run_page.facts(whole(run), None) | {
        "Training": training_facts(runs),
        "Cells": cell_facts(numbers),
        "Settings": f"{run.config.tuning.settings} of each method were tried in each cell, on seed "
        f"{', '.join(map(str, run.config.tuning.seeds))}, which is not reported, and the same ones "
        "in all cells; shuffle and RUM^F have numbers of their own for each of three parts, which "
        "so many settings cover less well than vanilla's; RUM chose for its parts among what RUM^F "
        "of the algorithms within its budget was tuned to, and doing nothing, in at most "
        f"{run.config.tuning.selection(f'rum_{numbers.budgets[0]}').budget} trials",
        "Intervals": "of the seeds that models are trained from; what another tuning would find is "
        f"not in them; {diverged_of(numbers)}",
        "Machine": f"{machine}; Python {platform.python_version()}, jax {jax.__version__}",
    }
    with WorkDirectory(str(out), lock=False) as work:
        pages.publish(
            work,
            About("study", "budgets", facts, "python benchmarks/budgets.py --workdir=runs/budgets"),
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


def diverged_of(numbers):
    """Says how many models diverged."""
    rows = [
        row
        for study in numbers.studies.values()
        for case in study.cases.values()
        for method in case.results.methods
        for row in method.rows
    ]
    return f"{sum(map(has_diverged, rows))} of {len(rows)} models diverged, and count as 0"


def cell_facts(numbers):
    """Lists the budgets within which forms are compared, by regime and forget set."""
    budgets = {}
    for cell in numbers.cells:
        budgets.setdefault((cell.regime, set_name(cell.set)), []).append(str(cell.budget))
    return "; ".join(
        f"{regime}, {named}: {', '.join(within)} %" for (regime, named), within in budgets.items()
    )


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
        clauses = []
        for regime in numbers.studies:
            found = regimes["best"].get((contrast, regime))
            if found is None:
                continue
            ahead, behind, count = tally(cells, contrast, regime)
            clauses.append(
                f"{verdict(found, sign)} in the {regime} regime ({sized(found)}; beyond chance "
                f"above zero in {ahead} of {count} cells and below in {behind})"
            )
        if clauses:
            yield f"{finding}: {'; '.join(clauses)}."


def say_other_measure(numbers, regimes):
    """Says where forms are the other way round in ToW-MIA, by which nothing was chosen."""
    for contrast in CONTRASTS:
        for regime in numbers.studies:
            by_tow, by_mia = (regimes[key].get((contrast, regime)) for key in ("best", "best_mia"))
            if by_mia and by_mia.is_shown and by_tow.effect.value * by_mia.effect.value <= 0:
                yield (
                    f"The other way round by ToW-MIA, in the {regime} regime: {contrast} is "
                    f"{sized(by_mia)} there. Settings and algorithms were chosen by ToW."
                )


def say_sources(numbers, regimes):
    """Divides RUM^F's difference from vanilla into what shuffle has too, and the rest."""
    for regime in numbers.studies:
        parts = [regimes.get((contrast, regime)) for contrast in list(CONTRASTS)[:3]]
        if None in parts:
            continue
        total, refinement, sequence = (wording.interval(part.effect, signed=True) for part in parts)
        yield (
            f"{regime.capitalize()}: of the {total} by which RUM^F differs from vanilla, "
            f"{sequence} is shared by shuffle, which goes over S in three steps too, and "
            f"{refinement} is not. Each form has the algorithm that is best for it."
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
        where = ", where it was read off" if regime == first else ""
        yield f"RUM by that rule, {regime}{where}: {contrast} is {sized(found)} of ToW."


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


def sized(found):
    """Writes a difference with its corrected p-value."""
    return f"{wording.interval(found.effect, signed=True)}, {wording.p_value(found.p_value)}"


def listed(found, form):
    """Lists differences, and which of them are beyond chance."""
    words = {
        form.format(key): wording.number(one.effect.value, signed=True)
        for key, one in found.items()
    }
    shown = [form.format(key) for key, one in found.items() if one.is_shown]
    beyond = f" (beyond chance at {wording.listing(shown)})" if shown else ""
    return ", ".join(f"{name} {size}" for name, size in words.items()) + beyond


def first_set(numbers, regime, kind):
    """Returns a set of a kind, that of 5 % if it is there."""
    names = [name for name in ordered_sets(numbers.studies[regime]) if name.startswith(kind)]
    return f"{kind}_5" if f"{kind}_5" in names else next(iter(names), None)
