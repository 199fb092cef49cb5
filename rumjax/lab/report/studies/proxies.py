"""Which cheap score can stand in for memorization."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rumjax.forget_sets import by_score
from rumjax.lab.report import drawing, wording
from rumjax.lab.report.claims import Claim, Verdict
from rumjax.lab.report.drawing import COLORS, INK, Drawn, Picture
from rumjax.lab.report.exports import Table
from rumjax.lab.report.pages import Page
from rumjax.lab.report.studies.base import FLOOR_AND_CEILING, Study, difference, mean_of
from rumjax.lab.report.tables import Calibration, Row
from rumjax.metrics import Interval, overlap, rank_correlation
from rumjax.refine import LEVELS

TITLES = {
    "c_proxy": "confidence",
    "max_confidence": "max confidence",
    "entropy": "entropy",
    "binary_accuracy": "binary accuracy",
    "holdout_retraining": "hold-out retraining",
    "loss_curvature": "loss curvature",
    "self_influence": "self-influence",
    "entanglement": "nearness to the mean",
    "memorization": "memorization",
}


class Agreement(NamedTuple):
    """The agreement of a proxy with memorization on the training examples, and its cost."""

    name: str
    spearman: Interval
    seconds: float | None

    @property
    def title(self) -> str:
        """The name of the proxy on the page."""
        return title_of(self.name)


def page(study: Study, figures: bool) -> Page:
    """Answers which proxy will do; the study has one case."""
    agreements = all_agreements(study)
    names = [agreement.name for agreement in agreements]
    answers = [say_agreement(agreements, seconds_of(study, "memorization"))]
    claim = driven_claim(study, names)
    if claim.effects:
        answers.append(say_driven(claim))
    tables = [agreement_table(study, agreements), driven_table(study, [*names, "memorization"])]
    question = (
        "Memorization takes a bank of models to estimate. Which score that takes one model, or a "
        "little more, ranks examples alike, induces the same forget sets, and serves RUM as well?"
    )
    pictures = draw(study, agreements) if figures else []
    return Page("Proxies of memorization", question, answers, tables, pictures)


def draw(study: Study, agreements: list[Agreement]) -> list[Picture]:
    """Draws how proxies rank examples."""
    return [draw_correlations(agreements), draw_ranks(study, [each.name for each in agreements])]


@drawing.forgiving
def draw_correlations(agreements: list[Agreement]) -> Picture:
    """Draws how far proxies rank examples as memorization does, in one number each."""
    return Picture(
        "proxies_correlation",
        "Rank correlation with memorization",
        "Spearman’s ρ with 95 % bootstrap intervals over the training examples. At 1 a proxy "
        "ranks examples as memorization does.",
        draw_bars(agreements),
    )


@drawing.forgiving
def draw_ranks(study: Study, names: list[str]) -> Picture:
    """Draws every example by its rank, for each proxy."""
    return Picture(
        "proxies_scatter",
        "Proxies and memorization",
        "Each cell counts training examples, on a logarithmic scale, by rank of the proxy.",
        draw_scatter(study, names),
    )


# Claims


def all_agreements(study: Study) -> list[Agreement]:
    """Holds every proxy against memorization; the one most like it comes first."""
    truth = study.scores["memorization"].values
    agreements = [
        Agreement(name, rank_correlation(scores.values, truth), seconds_of(study, name))
        for name, scores in study.scores.items()
        if name != "memorization"
    ]
    return sorted(agreements, key=lambda agreement: -agreement.spearman.value)


def seconds_of(study: Study, name: str) -> float | None:
    """Returns what a score cost; None if it was not timed."""
    return study.score_seconds.get(name) or None


def driven_claim(study: Study, names: list[str]) -> Claim:
    """Claims that RUM^F has a lower ToW refined by proxies than by memorization.

    Args:
      study: with one case.
      names: of the proxies.
    """
    # Proxies that no run was refined by are missing.
    driven: Mapping[str, str] = study.options["driven"]
    gaps = {
        name: difference(study.only_case, driven.get(name, ""), driven["memorization"], "tow")
        for name in names
    }
    return Claim(
        "RUM^F by proxies below RUM^F by memorization",
        Verdict.LOWER,
        {title_of(name): gap for name, gap in gaps.items() if gap is not None},
        [title_of(name) for name, gap in gaps.items() if gap is None],
    )


# Sentences


def title_of(name: str) -> str:
    """Returns what a score is called."""
    return TITLES.get(name, name)


def say_agreement(agreements: list[Agreement], bank: float | None) -> str:
    """Says which proxy ranks best, and at which cost.

    Args:
      agreements: the best first.
      bank: the seconds of memorization, if they are known.
    """
    best = agreements[0]
    sentence = (
        f"{best.title.capitalize()} ranks examples most like memorization does, with a Spearman "
        f"correlation of {wording.interval(best.spearman, bounds=True)}"
    )

    # What it costs, if both were timed.
    if best.seconds is not None and bank is not None:
        sentence += f", for {wording.rough(100 * best.seconds / bank)} % of the seconds of the bank"
    correlations = ", ".join(
        f"{agreement.title} {wording.number(agreement.spearman.value, 2)}"
        for agreement in agreements
    )
    return f"{sentence}. All of them: {correlations}."


def say_driven(claim: Claim) -> str:
    """Says whether RUM^F does as well by proxies as by memorization."""
    sentence = (
        "Refined by a proxy, RUM^F has a lower ToW than by memorization, beyond chance, for "
        f"{wording.listing(claim.supporting)}, and a higher one for "
        f"{wording.listing(claim.contradicting)}. Differences: {wording.effects(claim.effects)}."
    )
    if claim.missing:
        sentence += f" There is no comparison for {wording.listing(claim.missing)}."
    return sentence


# Tables


def agreement_table(study: Study, agreements: list[Agreement]) -> Table:
    """Makes a table of correlations, sets and seconds."""
    size = int(study.options["size"])
    truth = study.scores["memorization"]
    true_sets = by_score(truth, size)
    bank = seconds_of(study, "memorization")

    # Memorization itself is the last row.
    rows = []
    for name, spearman, seconds in agreements:
        scores = study.scores[name]
        kendall = rank_correlation(scores.values, truth.values, kind="kendall")
        sets = by_score(scores, size, center="median")
        rows.append(
            (
                title_of(name),
                wording.interval(spearman, bounds=True),
                wording.interval(kendall, bounds=True),
                *(overlap(sets[level], true_sets[level]) for level in LEVELS),
                seconds,
                seconds / bank if seconds and bank else None,
            )
        )
    share = 1.0 if bank else None
    rows.append((title_of("memorization"), "1", "1", 1.0, 1.0, 1.0, bank, share))

    # How much two scores share by chance.
    by_chance = size / len(study.labels)
    same = [f"Same {level}" for level in LEVELS]
    return Table(
        "proxies",
        "Agreement with memorization, and cost",
        ("Score", "Spearman ρ", "Kendall τ", *same, "Seconds", "Seconds / bank"),
        rows,
        "In brackets: 95 % bootstrap intervals. Same: the share of examples of a set of "
        f"{size:,} that both scores put there; by chance it would be {by_chance:.3f}.",
    )


def driven_table(study: Study, names: list[str]) -> Table:
    """Makes a table of RUM^F refined by each score, and the difference from memorization."""
    case, driven = study.only_case, study.options["driven"]
    measures = {"tow": "ToW", "tow_mia": "ToW-MIA", "mia_gap": "MIA gap"}
    others: dict[str, str | Calibration] = {
        **FLOOR_AND_CEILING,
        "vanilla": "vanilla",
        "shuffle": "shuffle",
    }
    refined = {f"RUM^F by {title_of(name)}": driven.get(name, "") for name in names}
    rows = []
    for label, line in (others | refined).items():
        # Refined methods that were not run are left out; the others are always there.
        if label in refined and mean_of(case, line, "tow") is None:
            continue
        means = [mean_of(case, line, measure) for measure in measures]
        rows.append((label, *means, difference(case, line, driven["memorization"], "tow")))
    return Table(
        "driven",
        "RUM^F by what it is refined by",
        ("Method", *measures.values(), "ToW − by memorization"),
        rows,
        "The last column: differences over the same seeds.",
    )


# Figures


def draw_bars(agreements: list[Agreement]) -> Drawn:
    """Draws correlations from the best proxy to the worst."""
    figure = Figure(figsize=(8, 0.9 + 0.34 * len(agreements)), layout="constrained")
    axes: Axes = figure.subplots()
    data: list[Row] = []
    for y, (name, (value, low, high), _) in enumerate(agreements):
        axes.barh(y, value, 0.62, color=COLORS["vanilla"])
        axes.plot([low, high], [y, y], color=INK, lw=1.4)
        data.append({"score": name, "spearman": value, "low": low, "high": high})

    # The best proxy is on top, and zero is marked.
    drawing.label_rows(axes, [agreement.title for agreement in agreements])
    axes.set_xlabel("Spearman’s ρ with memorization")
    axes.axvline(0, color=INK, lw=0.8)
    axes.grid(axis="x")
    return drawing.render(figure, data)


def draw_scatter(study: Study, names: list[str], *, columns: int = 4) -> Drawn:
    """Draws memorization by rank of each proxy."""
    truth = study.scores["memorization"].values
    height = 2.6 * math.ceil(len(names) / columns)
    figure = Figure(figsize=(10, height), layout="constrained")
    panels = drawing.grid(figure, len(names), columns, sharex=True, sharey=True)
    data: list[Row] = []
    for panel, name in zip(panels, names, strict=True):
        ranks = np.argsort(np.argsort(study.scores[name].values, kind="stable")) / len(truth)
        panel.hexbin(ranks, truth, gridsize=30, bins="log", mincnt=1, cmap="cividis")
        panel.set_title(title_of(name))

        # What is written beside the figure are means, as there are too many dots.
        for decile in range(10):
            inside = (ranks >= decile / 10) & (ranks < (decile + 1) / 10)
            mean = float(truth[inside].mean()) if inside.any() else math.nan
            data.append({"score": name, "decile": decile + 1, "mean_memorization": mean})
    figure.supxlabel("rank of the proxy, 0 to 1", fontsize=10)
    figure.supylabel("memorization", fontsize=10)
    return drawing.render(figure, data)
