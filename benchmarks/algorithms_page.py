"""The page of `algorithms.py`: which algorithm forgets what best, and what a RUM of them gains.

All sentences are made from the numbers; what is true of one run need not be of the next.
"""

import platform

import jax
import numpy as np
from algorithms import ORACLES
from matplotlib.figure import Figure
from rich.console import Console

from rumjax.lab.context import context_of
from rumjax.lab.report import drawing, pages, run_page, studies, wording
from rumjax.lab.report.claims import Verdict, judge
from rumjax.lab.report.drawing import CEILING, COLORS, FLOOR, Picture
from rumjax.lab.report.exports import Table
from rumjax.lab.report.pages import About, Page
from rumjax.lab.report.reported import case_of, whole
from rumjax.lab.report.studies.base import difference, mean_of, settings_table
from rumjax.lab.report.tables import Calibration
from rumjax.lab.sections import Study
from rumjax.lab.stages import tuning
from rumjax.lab.workdir import WorkDirectory
from rumjax.unlearn import ALGORITHMS, CARDS

COLUMNS = {"tow": "ToW", "tow_mia": "ToW-MIA", "mia_gap": "MIA gap"}
COSTS = {"rge": "Gradients"}
"""Times of models that are made beside others, or in several starts, say little."""
SETS, MIXED = ("low", "medium", "high", "random", "class"), "mixed"
FORMS = ("vanilla", "RUM^F", "RUM")


class Numbers:
    """What the page is made of, by forget set and method."""

    def __init__(self, study, leaks):
        self.study, self.leaks = study, leaks
        self.sets = [name for name in SETS if name in study.cases]
        self.mixed = study.cases.get(MIXED)

    def ways(self, name):
        """Those methods of a set that need no retrained model, the highest ToW first."""
        settings = self.study.cases[name].settings
        return [
            method
            for method in self.names(name)
            if not any(
                "oracles" in CARDS[ALGORITHMS[part["algorithm"]]].needs
                for part in settings[method]["select"].values()
            )
        ]

    def names(self, name):
        """The methods of a set, the highest ToW first, those that diverged last."""
        case = self.study.cases[name]
        methods = [one.line.name for one in case.results.methods]
        return sorted(methods, key=lambda method: -self.value(case, method, "tow"))

    @staticmethod
    def value(case, method, measure):
        mean = mean_of(case, method, measure)
        return -1.0 if mean is None else mean.value

    def gain(self, name, method, measure="tow"):
        """How far a method is above the original model, and the verdict."""
        gain = difference(self.study.cases[name], method, Calibration.ORIGINAL, measure)
        return gain, Verdict.UNDECIDED if gain is None else judge(gain)

    def setting(self, method):
        """The options of a method that runs on the whole of S."""
        case = next(case for case in self.study.cases.values() if method in case.settings)
        (setting,) = case.settings[method]["select"].values()
        return setting

    def card(self, method):
        """What is said of the algorithm of such a method."""
        return CARDS[ALGORITHMS[self.setting(method)["algorithm"]]]

    def needs(self, method):
        """What the algorithm of such a method looks at."""
        needs = self.card(method).needs
        return ", ".join((*needs, "V") if self.setting(method).get("rewind") else needs)

    def meant(self, method):
        """The sets that such a method is made for, among those that it runs on."""
        forgets = self.card(method).forgets
        return [
            name
            for name in self.sets
            if method in self.study.cases[name].settings
            and forgets in ("both", "classes" if name == "class" else "examples")
        ]

    def form(self, method):
        """The form of a method on the set of all levels."""
        strategy = next(
            one.line.strategy for one in self.mixed.results.methods if one.line.name == method
        )
        return wording.STRATEGIES[strategy]

    def best_of_forms(self):
        """The method with the highest ToW of every form, on the set of all levels."""
        best = {}
        for method in self.ways(MIXED):
            best.setdefault(self.form(method), method)
        return {form: best[form] for form in FORMS if form in best}

    def ranks(self):
        """The mean place of every method among all, over the sets that are attacked."""
        places = {}
        for name in self.sets:
            for place, method in enumerate(self.names(name), 1):
                places.setdefault(method, []).append(place)
        means = {method: float(np.mean(all_)) for method, all_ in places.items()}
        return dict(sorted(means.items(), key=lambda pair: pair[1]))


def write(out, run, workdir, leaks, *, models, machine):
    """Writes the page, its tables and its figures."""
    with WorkDirectory(str(workdir), lock=False) as work:
        context = context_of(run, work, Console(quiet=True))
        cases = [case_of(run, tuning.adopted(case).case) for case in context.cases]
        study = studies.collect(work, whole(run)._replace(study=Study("algorithms")), cases)
    numbers = Numbers(study, leaks)
    page = Page(
        "Which algorithm forgets best?",
        "All algorithms forget five sets of images within a third of retraining's epochs, each "
        "with the best of as many settings. Which comes nearest to models that never saw the set, "
        "can anyone tell, and what does a RUM of the best for each part gain?",
        [*say_best(numbers), *say_meant(numbers), *say_originals(numbers), *say_rum(numbers)],
        [
            *(set_table(numbers, name) for name in numbers.sets),
            rum_table(numbers),
            settings_table(study),
        ],
        [draw_sets(numbers), draw_leaks(numbers)],
        ranking_table(numbers),
    )
    facts = run_page.facts(whole(run), None) | {
        "Settings": f"{run.config.tuning.settings} of each method were tried on every set, on "
        f"seeds {', '.join(map(str, run.config.tuning.seeds))}, which are not reported",
        "Batches": say_batches(study, run.config.unlearner_defaults["batch_size"]),
        "Attacked": f"{models} unlearned models of each method and set, and as many oracles",
        "Machine": f"{machine}; Python {platform.python_version()}, jax {jax.__version__}",
    }
    command = f"python benchmarks/algorithms.py --workdir=runs/algorithms --models={models}"
    with WorkDirectory(str(out), lock=False) as work:
        pages.publish(work, About("study", "algorithms", facts, command), page)
        work.delete("study.html")


def say_batches(study, size):
    """How many examples a batch of unlearning has, whatever the authors of an algorithm took."""
    others = {
        part["algorithm"]: part["batch_size"]
        for case in study.cases.values()
        for method in case.settings.values()
        for part in method["select"].values()
        if part.get("batch_size", size) != size
    }
    listed = "".join(f", {count} of {name}" for name, count in sorted(others.items()))
    return f"{size} examples{listed}; the authors of some algorithms take others"


# Sentences


def say_best(numbers):
    """Names the nearest to the oracle on every set, and who is level with it."""
    for name in numbers.sets:
        case, (best, *others) = numbers.study.cases[name], numbers.ways(name)
        level = [
            other
            for other in others
            if (apart := difference(case, best, other, "tow")) is not None
            and judge(apart) is Verdict.LEVEL
        ]
        ceiling = wording.interval(mean_of(case, Calibration.SECOND, "tow"))
        floor = wording.interval(mean_of(case, Calibration.ORIGINAL, "tow"))
        sentence = (
            f"{set_name(name)}: {best} comes nearest to the oracle, with a ToW of "
            f"{wording.interval(mean_of(case, best, 'tow'))} (a second oracle {ceiling}, the "
            f"original model {floor})"
        )
        if level:
            sentence += f"; chance could explain what it is ahead of {wording.listing(level)}"
        yield f"{sentence}."


def say_meant(numbers):
    """Says which algorithms come nearer to the oracle on a set that they are made for."""
    beaten = {
        method: any(
            numbers.gain(name, method)[1] is Verdict.HIGHER for name in numbers.meant(method)
        )
        for method in numbers.ranks()
    }
    failing = [method for method, beats in beaten.items() if not beats]
    sentence = (
        f"{sum(beaten.values())} of {len(beaten)} algorithms are nearer to the oracle than the "
        "original model is, beyond chance, on a set of the kind that they are made for, a class or "
        "images chosen one by one"
    )
    yield f"{sentence}; not so {wording.listing(failing)}." if failing else f"{sentence}."


def say_originals(numbers):
    """Says which algorithms are not shown to be nearer to the oracle than the original model is."""
    for name in numbers.sets:
        verdicts = {method: numbers.gain(name, method)[1] for method in numbers.names(name)}
        better = [method for method, verdict in verdicts.items() if verdict is Verdict.HIGHER]
        worse = [method for method, verdict in verdicts.items() if verdict is Verdict.LOWER]
        sentence = (
            f"{set_name(name)}: {len(better)} of {len(verdicts)} algorithms are nearer to the "
            "oracle than the original model is, beyond chance"
        )
        if worse:
            sentence += f"; {wording.listing(worse)} further"
        level = [method for method in verdicts if method not in (*better, *worse)]
        if level and better:
            sentence += f"; not shown to be either: {wording.listing(level)}"
        yield f"{sentence}."


def say_rum(numbers):
    """Compares the best of each form on the set of all levels."""
    case = numbers.mixed
    if case is None:
        return
    best = numbers.best_of_forms()
    means = ", ".join(
        f"{form} {wording.interval(mean_of(case, method, 'tow'))} ({method})"
        for form, method in best.items()
    )
    yield f"All levels of memorization together, the best of each form by ToW: {means}."
    if "RUM" in best:
        chosen = case.settings[best["RUM"]]["select"]
        algorithms = [chosen[part]["algorithm"] for part in case.settings[best["RUM"]]["order"]]
        yield f"The search has chosen for RUM: {wording.arrows('>'.join(algorithms))}."
        for form in FORMS[:2]:
            apart = difference(case, best["RUM"], best[form], "tow")
            if apart is not None:
                verdict = judge(apart)
                level = verdict is Verdict.LEVEL
                yield (
                    f"RUM is {wording.VERDICTS[verdict]} {'with' if level else 'than'} the best "
                    f"{form} in ToW: the difference is {wording.interval(apart, signed=True)}, "
                    f"{wording.CERTAINTIES[verdict]}."
                )


def set_name(name):
    titles = {"random": "200 random images", "class": "A class"}
    return titles.get(name, f"200 images of {name} memorization")


# Tables


def ranking_table(numbers):
    rows = []
    for method, rank in numbers.ranks().items():
        means = [mean_of(numbers.study.cases[name], method, "tow") for name in numbers.sets]
        beaten = sum(numbers.gain(name, method)[1] is Verdict.HIGHER for name in numbers.sets)
        tried = sum(mean is not None for mean in means)
        rows.append((method, numbers.needs(method), f"{rank:.1f}", *means, f"{beaten} of {tried}"))
    for label, mark in (("original", Calibration.ORIGINAL), ("retrain", Calibration.SECOND)):
        means = [mean_of(numbers.study.cases[name], mark, "tow") for name in numbers.sets]
        rows.append((label, "", "", *means, ""))
    return Table(
        "ranking",
        "ToW of every algorithm on every set",
        ("Algorithm", "Needs", "Mean place", *numbers.sets, "Above the original"),
        rows,
        "Means over the seeds with 95 % Student-t half-widths. The last column counts the sets on "
        "which the algorithm is nearer to the oracle than the original model is, beyond chance. "
        "The last row is another oracle. What needs oracles is a bound for others, and UNSIR "
        "forgets whole classes only.",
    )


def set_table(numbers, name):
    case, leaks = numbers.study.cases[name], numbers.leaks.get(name, {})
    rows = []
    lines = {method: method for method in numbers.names(name)}
    lines |= {"original": Calibration.ORIGINAL, ORACLES: Calibration.SECOND}
    for label, line in lines.items():
        gain = difference(case, line, Calibration.ORIGINAL, "tow")
        rows.append(
            (
                label,
                *(mean_of(case, line, measure) for measure in COLUMNS),
                gain if line is not Calibration.ORIGINAL else None,
                leaks.get(label),
                *(mean_of(case, line, measure) for measure in COSTS),
            )
        )
    return Table(
        f"set_{name}",
        set_name(name),
        ("Algorithm", *COLUMNS.values(), "ToW − original's", "U-LiRA", *COSTS.values()),
        rows,
        "U-LiRA is the accuracy of telling models that forgot from oracles, of single images: .5 "
        "is chance; its intervals are a bootstrap's. In the row of retraining one half of the "
        "oracles is told from the other. Gradients are a share of retraining's.",
        bounded=frozenset({"U-LiRA"}),
    )


def rum_table(numbers):
    case, rows = numbers.mixed, []
    for method in numbers.names(MIXED):
        costs = (mean_of(case, method, measure) for measure in COSTS)
        rows.append(
            (method, numbers.form(method), *(mean_of(case, method, m) for m in COLUMNS), *costs)
        )
    return Table(
        "rum",
        "200 images of each level of memorization together",
        ("Method", "Form", *COLUMNS.values(), *COSTS.values()),
        rows,
        "RUM^F has one algorithm on parts by memorization in sequence, RUM the one for each part "
        "that a search found best. All take as many passes in all.",
    )


# Figures


def draw_sets(numbers):
    means = {
        name: {
            method: drawing.cut("tow", mean_of(numbers.study.cases[name], method, "tow"))
            for method in (*numbers.ranks(), Calibration.ORIGINAL, Calibration.SECOND)
        }
        for name in numbers.sets
    }
    return Picture(
        "algorithms_tow",
        "ToW of all algorithms",
        "By their mean place over the sets. Dots are means over the seeds, bars 95 % intervals. "
        "The band is a second oracle, as good as chance lets a perfect method be; the dotted line "
        "the original model, which forgets nothing.",
        draw_rows(numbers, means, "tow"),
    )


def draw_leaks(numbers):
    means = {
        name: {
            **leaks,
            Calibration.ORIGINAL: leaks.get("original"),
            Calibration.SECOND: leaks.get(ORACLES),
        }
        for name, leaks in numbers.leaks.items()
    }
    return Picture(
        "algorithms_leaks",
        "What an attacker can tell",
        "The accuracy of U-LiRA in telling unlearned models from oracles, of single images, with "
        "a bootstrap's 95 % intervals; algorithms are in the order of the figure before. .5 is "
        "chance; the band is one half of the oracles told from the other, the dotted line the "
        "original model.",
        draw_rows(numbers, means, "u_lira"),
    )


def draw_rows(numbers, means, measure):
    """Draws intervals in a panel for every set and a row for every algorithm."""
    names, sets = list(numbers.ranks()), [name for name in numbers.sets if name in means]
    with drawing.style():
        height = 1.4 + 0.24 * len(names)
        figure = Figure(figsize=(2.8 * len(sets) + 1.6, height), layout="constrained")
        panels = drawing.grid(figure, len(sets), len(sets), sharey=True)
        data = []
        for panel, name in zip(panels, sets, strict=True):
            drawing.draw_mark(panel, means[name].get(Calibration.ORIGINAL), FLOOR)
            drawing.draw_mark(panel, means[name].get(Calibration.SECOND), CEILING)
            for place, method in enumerate(names):
                mean = means[name].get(method)
                if mean is not None:
                    color, bar = COLORS["vanilla"], drawing.error_bar(mean)
                    panel.errorbar(mean.value, place, xerr=bar, fmt="o", ms=4, color=color)
                    data.append({"set": name, "method": method, measure: mean.value})
            drawing.style_rows(panel, set_name(name).removeprefix("200 "))
        drawing.label_rows(panels[0], [drawing.label(method) for method in names])
        return drawing.render(figure, data)
