"""Does it change who wins if settings are chosen by an attack rather than by ToW?

In one cell of `budgets.py` the search is run again with `tuning.criterion = "ulira"`, on as many
settings, but on the eight seeds that the attack needs. Then U-LiRA attacks models of either search,
and the rankings of methods by both measures and by both searches are compared.
"""

from typing import NamedTuple

import numpy as np
from algorithms import ORACLES, all_margins, attack, is_attacked
from budgets_cells import of_cells
from budgets_numbers import FORMS, set_name

from rumjax.lab import experiment, jobs, pipeline
from rumjax.lab.context import context_of
from rumjax.lab.report import wording
from rumjax.lab.report.exports import Table
from rumjax.lab.report.reported import case_of
from rumjax.lab.report.tables import Results, collect
from rumjax.lab.stages import originals, tuning
from rumjax.lab.workdir import WorkDirectory
from rumjax.metrics import Interval, mean_interval, rank_correlation

SET, BUDGET = "mixed_5", 10
"""The cell: its forget set, and its budget in percent."""
SEEDS = tuple(range(100, 108))
"""On which the attack judges settings; it needs eight of them."""
TITLES = {"oracle": "chosen by ToW on one seed", "ulira": "chosen by U-LiRA on eight seeds"}
FEWEST = 8
"""models of a method, below which U-LiRA can hardly be told from chance"""


class Searched(NamedTuple):
    """The methods of the cell, with the settings that one criterion finds best."""

    results: Results
    leaks: dict[str, Interval | None]
    """U-LiRA's accuracy by method, None where most models diverged"""

    def names(self) -> list[str]:
        """Returns the methods that do something."""
        return [one.line.name for one in self.results.methods]

    def tow(self, name: str) -> Interval:
        """Returns the mean ToW of a method; a model that diverged counts 0."""
        rows = self.results.summary(name).rows
        return mean_interval(np.array([row.get("tow", 0.0) for row in rows]))


def search(written, folder, console, models):
    """Runs the search by the attack, and makes the models of both searches that are attacked.

    Args:
      written: the configuration of a regime, all of whose runs are done.
      folder: its directory.
      console: where progress is shown.
      models: how many of each method are attacked.
    """
    with WorkDirectory(folder) as work:
        run = experiment.build(of_cell(written, "ulira"))
        pipeline.run_experiment(run, work, console=console, figures=False)
    for criterion in TITLES:
        with WorkDirectory(folder) as work:
            context = context_of(attacked_run(written, criterion, models), work, console)
            jobs.make(originals.batch(context))
            for case in context.cases:
                all_margins(tuning.adopted(case))


def read(written, folder, console, models):
    """Returns what was found, by criterion; nothing unless all of it is there."""
    found = {}
    with WorkDirectory(folder, lock=False) as work:
        for criterion in TITLES:
            run = experiment.build(of_cell(written, criterion))
            context = context_of(attacked_run(written, criterion, models), work, console)
            (case,) = map(tuning.adopted, context.cases)
            if not is_attacked(case):
                return {}
            margins = all_margins(case)
            oracles = margins.pop(ORACLES)
            leaks = {name: attack(one, oracles) for name, one in margins.items()}
            results, _ = collect(case.place, case_of(run, case.case))
            found[criterion] = Searched(results, leaks)
    return found


def attacked_run(written, criterion, models):
    """Returns the run of the cell with as many seeds as models are attacked."""
    return experiment.build(of_cell({**written, "seeds": models}, criterion))


def of_cell(written, criterion):
    """Returns the configuration of the cell alone, with a search by some criterion."""
    written = of_cells(written, {SET: (BUDGET,)})
    if criterion == "oracle":
        return written
    tuned = {**written["tuning"], "criterion": criterion, "seeds": SEEDS}
    return {**written, "cases": {f"{SET}_{criterion}": written["cases"][SET]}, "tuning": tuned}


# What the page says of it


def say(found, regime):
    """Says which methods lead by which measure and search, and how far the rankings agree."""
    if not found:
        return
    yield (
        f"In one cell ({regime} regime, {set_name(SET)}, {BUDGET} %) U-LiRA attacked single images "
        "of S: it tells models that forgot from oracles with an accuracy of .5 where none can."
    )
    for criterion, searched in found.items():
        tows, leaks = ranked(searched)
        best, hardest = max(tows, key=tows.get), min(leaks, key=leaks.get)
        harder = sorted(leaks, key=leaks.get).index(best)
        forms = {
            title: min((name for name in leaks if form_of(name) == form), key=leaks.get, default="")
            for form, title in FORMS.items()
        }
        of_forms = ", ".join(
            f"{title} {leaks[name]:.3f} ({name})" for title, name in forms.items() if name
        )
        yield (
            f"Settings {TITLES[criterion]}: {best} has the best ToW "
            f"({wording.interval(searched.tow(best))}), and {harder} of {len(leaks)} methods "
            f"are harder to tell from oracles ({leaks[best]:.3f}); the hardest is {hardest} "
            f"({leaks[hardest]:.3f}, ToW {wording.interval(searched.tow(hardest))}). By form, the "
            f"hardest are {of_forms}. Kendall's τ of the rankings by ToW and by U-LiRA is "
            f"{tau(tows, {name: -leak for name, leak in leaks.items()})}."
        )
    (tows, leaks), (other_tows, other_leaks) = map(ranked, found.values())
    yield (
        "Kendall's τ of the rankings by one search and by the other is "
        f"{tau(tows, other_tows)} of ToW and {tau(leaks, other_leaks)} of U-LiRA. "
        "The searches differ in their seeds too: not all of this is the criterion's."
    )


def ranked(searched):
    """Returns ToW and U-LiRA's distance to chance by method, of those that can be attacked."""
    names = [name for name in searched.names() if searched.leaks[name] is not None]
    tows = {name: searched.tow(name).value for name in names}
    # Models that are told by the wrong sign are told.
    leaks = {name: 0.5 + abs(searched.leaks[name].value - 0.5) for name in names}
    return tows, leaks


def form_of(name):
    """Returns the form of a method, a key of `FORMS`."""
    return next(form for form in FORMS if form in name)


def tau(one, other):
    """Writes Kendall's τ of two rankings of the methods that both have."""
    names = sorted(one.keys() & other.keys())
    agreement = rank_correlation(
        np.array([one[name] for name in names]),
        np.array([other[name] for name in names]),
        kind="kendall",
    )
    return wording.interval(agreement, bounds=True)


def table(found):
    """Shows every method with the settings of both searches."""
    names = found["oracle"].names()
    rows = [
        (
            name,
            *(
                value
                for searched in found.values()
                for value in (searched.tow(name), searched.leaks[name])
            ),
        )
        for name in sorted(names, key=lambda name: -found["oracle"].tow(name).value)
    ]
    measures = ("ToW", "U-LiRA")
    titles = [f"{measure}, {title}" for title in TITLES.values() for measure in measures]
    return Table(
        "attacked",
        "Settings chosen by ToW, and by an attack",
        ("Method", *titles),
        rows,
        "U-LiRA is the accuracy of telling models that forgot from oracles, of single images of S; "
        ".5 is chance, and its intervals are a bootstrap's. Models that diverged count 0 in ToW, "
        "and are not attacked; a dash is where more than half did.",
        bounded=frozenset(title for title in titles if title.startswith("U-LiRA")),
    )
