"""Whether it pays to refine a forget set, to choose algorithms for its parts, and to order them."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rumjax.lab.report.exports import Table
from rumjax.lab.report.figures import COLORS, INK, PALE, Drawn, Picture, render
from rumjax.lab.report.studies.base import (
    Case,
    Page,
    Study,
    difference,
    in_figure,
    listed,
    mean_of,
    methods_table,
    plain,
    said,
    spread_of,
    summary_of,
    verdict,
)
from rumjax.lab.report.tables import Interval, Row

FORMS = {"vanilla": "vanilla", "shuffle": "shuffle", "rum_f": "RUM^F"}


def page(study: Study) -> Page:
    """The answer to what refinement gains; the study has one case."""
    (case,) = study.cases.values()
    options = study.options
    strategies: Mapping[str, Mapping[str, str]] = options["strategies"]
    named = {
        f"{algorithm} {shown}": forms[form]
        for algorithm, forms in strategies.items()
        for form, shown in FORMS.items()
    }
    groups = {
        "strategies": ("Vanilla, shuffle and RUM^F", named),
        "mixed": ("An algorithm for each part", with_algorithms(case, options["mixed"])),
        "orders": ("Orders of the parts", options["orders"]),
        "refiners": ("What the parts are refined by", options["refiners"]),
        "parts": ("How many parts", dict(sorted(options["parts"].items()))),
    }
    tables = [gains_table(case, strategies)]
    tables += [methods_table(case, names, key, title) for key, (title, names) in groups.items()]
    pictures = [
        Picture(
            f"refinement_{key}",
            title,
            "Dots are means over the seeds, bars 95 % intervals. The band is a second oracle, as "
            "good as chance lets a perfect method be; the dotted line the original model.",
            dots(case, names),
        )
        for key, (title, names) in groups.items()
    ]
    answers = [*gain_answers(case, strategies), *mixed_answer(case, options["mixed"], named)]
    answers.append(order_answer(case, options["orders"]))
    answers.append(best_answer(case, "refiner", options["refiners"]))
    answers.append(best_answer(case, "number of parts", options["parts"]))
    question = (
        "Does unlearning come closer to retraining when the forget set is refined into parts of "
        "like memorization, when each part gets an algorithm of its own, and does the order matter?"
    )
    return Page("What refinement gains", question, answers, tables, pictures)


def with_algorithms(case: Case, mixed: Mapping[str, str]) -> dict[str, str]:
    """Mixed RUMs by their labels, and by what they turned out to be made of."""
    found = {}
    for label, name in mixed.items():
        summary = summary_of(case, name)
        made_of = "" if summary is None else f": {summary.line.method.replace('>', ' → ')}"
        found[label + made_of] = name
    return found


def gains_table(case: Case, strategies: Mapping[str, Mapping[str, str]]) -> Table:
    """What RUM^F gains over vanilla and shuffle, seed by seed."""
    rows = []
    for algorithm, forms in strategies.items():
        for measure, shown in (("tow", "ToW"), ("tow_mia", "ToW-MIA")):
            pairs = (("rum_f", "vanilla"), ("rum_f", "shuffle"), ("shuffle", "vanilla"))
            gains = [difference(case, forms[one], forms[two], measure) for one, two in pairs]
            rows.append((algorithm, shown, *gains))
    return Table(
        "gains",
        "Differences over the same seeds",
        ("Algorithm", "Measure", "RUM^F − vanilla", "RUM^F − shuffle", "shuffle − vanilla"),
        rows,
        "Means and 95 % Student-t half-widths of differences within a seed.",
    )


def gain_answers(case: Case, strategies: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Whether RUM^F beats vanilla and shuffle, and whether shuffle is worse than vanilla."""
    claims = (
        ("RUM^F is ahead of vanilla", "rum_f", "vanilla", "higher"),
        ("RUM^F is ahead of shuffle", "rum_f", "shuffle", "higher"),
        ("Shuffle is behind vanilla", "shuffle", "vanilla", "lower"),
    )
    found = []
    for claim, one, two, wanted in claims:
        gains = {
            algorithm: gain
            for algorithm, forms in strategies.items()
            if (gain := difference(case, forms[one], forms[two], "tow")) is not None
        }
        if not gains:
            continue
        sign = 1 if wanted == "higher" else -1
        right = [name for name, gain in gains.items() if sign * gain.mean > 0]
        sure = [name for name, gain in gains.items() if verdict(gain) == wanted]
        wrong = [
            name
            for name, gain in gains.items()
            if verdict(gain) not in (wanted, "level") and not math.isnan(gain.half_width)
        ]
        unknown = [algorithm for algorithm in strategies if algorithm not in gains]
        rest = f" There is no comparison yet for {listed(unknown)}." if unknown else ""
        if wrong:
            holds = "does not hold for all"
        else:
            holds = "holds" if len(sure) == len(strategies) else "is not shown for all"
        each = ", ".join(f"{name} {said(gain, sign='+')}" for name, gain in gains.items())
        found.append(
            f"{claim} in ToW: {holds}. It is so on average for {len(right)} of {len(gains)} "
            f"algorithms, beyond chance for {listed(sure)}; the other way round beyond chance for "
            f"{listed(wrong)}. Differences: {each}.{rest}"
        )
    return found


def mixed_answer(case: Case, mixed: Mapping[str, str], named: Mapping[str, str]) -> list[str]:
    """How the mixed RUMs compare with the best single algorithm, and with each other."""
    singles = {label: mean_of(case, name, "tow") for label, name in named.items()}
    known = {label: each for label, each in singles.items() if each is not None}
    if not known:
        return []
    best = max(known, key=lambda label: known[label].mean)
    found = []
    for label, name in mixed.items():
        summary = summary_of(case, name)
        gain = difference(case, name, named[best], "tow")
        if summary is None or gain is None:
            continue
        made_of = summary.line.method.replace(">", " → ")
        found.append(
            f"The RUM chosen {label}, {made_of}, has a ToW of {said(summary.measures['tow'])}, "
            f"{verdict(gain)} against the best single algorithm, {best} "
            f"({said(known[best])}; difference {said(gain, sign='+')}), and a ToW-MIA of "
            f"{said(summary.measures['tow_mia'])}."
        )
    chosen = [*mixed.values()]
    for other in chosen[1:]:
        gain = difference(case, other, chosen[0], "tow")
        if gain is not None:
            labels = {name: label for label, name in mixed.items()}
            found.append(
                f"Chosen {labels[other]}, RUM is {verdict(gain)} against the choice "
                f"{labels[chosen[0]]}: {said(gain, sign='+')} in ToW."
            )
    return found


def order_answer(case: Case, orders: Mapping[str, str]) -> str:
    """How far orders spread ToW and the MIA gap, held against the seeds' own spread."""
    parts = []
    for measure, shown in (("tow", "ToW"), ("mia_gap", "the MIA gap")):
        known = {
            order: each
            for order, name in orders.items()
            if (each := mean_of(case, name, measure)) is not None
        }
        if len(known) < 2:
            return "There are no results of two orders yet."
        spread = spread_of([each.mean for each in known.values()])
        width = 2 * sum(each.half_width for each in known.values()) / len(known)
        best = (max if measure == "tow" else min)(known, key=lambda each: known[each].mean)
        more = "more" if spread > width else "no more"
        against = f"{more} than the width of an interval over seeds ({width:.3f})"
        if math.isnan(width):
            against = "which a single seed cannot tell from chance"
        parts.append(
            f"{shown} spreads by {spread:.3f} over the orders, {against}; the best is "
            f"{best.replace('>', ' → ')}"
        )
    return f"The order of the parts: {'; '.join(parts)}."


def best_answer(case: Case, what: str, names: Mapping[str, str]) -> str:
    """Which of some methods has the highest ToW, and whether that could be chance."""
    known: dict[str, Interval] = {
        label: each
        for label, name in names.items()
        if (each := mean_of(case, name, "tow")) is not None
    }
    if not known:
        return f"There are no results by {what} yet."
    ranked = sorted(known, key=lambda label: -known[label].mean)
    gain = difference(case, names[ranked[0]], names[ranked[-1]], "tow")
    told = ", ".join(f"{plain(label)} {said(known[label])}" for label in ranked)
    sure = "" if gain is None or len(ranked) == 1 else f"; first and last are {_apart(gain)}"
    return f"By {what}, ToW is {told}{sure}."


def _apart(gain: Interval) -> str:
    if math.isnan(gain.half_width):
        return f"apart by {said(gain)}, which a single seed cannot tell from chance"
    return "level" if verdict(gain) == "level" else f"apart by {said(gain)}"


def dots(case: Case, names: Mapping[str, str]) -> Drawn:
    """ToW, ToW-MIA and the MIA gap of some methods, a row each."""
    measures = {"tow": "ToW", "tow_mia": "ToW-MIA", "mia_gap": "MIA gap"}
    figure = Figure(figsize=(10, 1.2 + 0.28 * max(len(names), 3)), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 3, sharey=True, squeeze=False)[0]
    data: list[Row] = []
    for panel, (measure, title) in zip(panels, measures.items(), strict=True):
        panel.set_title(title)
        floor, ceiling = (mean_of(case, which, measure) for which in ("original", "retrain_second"))
        if floor is not None:
            panel.axvline(floor.mean, color=INK, ls=":", lw=1.2)
        if ceiling is not None:
            width = 0 if math.isnan(ceiling.half_width) else ceiling.half_width
            panel.axvspan(ceiling.mean - width, ceiling.mean + width, color=PALE, alpha=0.5, lw=0)
            panel.axvline(ceiling.mean, color=INK, lw=1)
        for y, (label, name) in enumerate(names.items()):
            summary, found = summary_of(case, name), mean_of(case, name, measure)
            if summary is None or found is None:
                continue
            width = 0 if math.isnan(found.half_width) else found.half_width
            color = COLORS.get(summary.line.strategy, INK)
            panel.errorbar(found.mean, y, xerr=width, fmt="o", color=color)
            row: Row = {"label": label, "name": name, "measure": measure}
            data.append(row | {"mean": found.mean, "half_width": found.half_width})
        panel.grid(axis="x")
        panel.tick_params(axis="y", length=0)
    labels = [in_figure(label.replace(">", " → ")) for label in names]
    panels[0].set_yticks(range(len(names)), labels)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return render(figure, data)
