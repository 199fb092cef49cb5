"""What audits say, in sentences."""

import math
from collections.abc import Iterator, Sequence

from rumjax.lab.report.audits.base import MIA_GAP, U_LIRA, Audited, Headline, Subject
from rumjax.lab.report.exports import Bounds
from rumjax.lab.report.figures import signed
from rumjax.lab.report.studies.base import Case, caveats, listed

MOST_APART = 3
"""methods that are named of those which two audits rank most differently"""
KEPT = Headline("u_lira_retained", "accuracy", "U-LiRA on what is kept", "retrained")
KLOM = {
    name: Headline(name, "forget_mean", "KLOM on S", "lowest")
    for name in ("klom", "klom_corrected")
}


def answers(audited: Audited) -> list[str]:
    """All sentences, the most important first."""
    if not audited.headlines:
        found = ["There are no audits of unlearning methods yet."]
    else:
        found = [
            overall(audited),
            *disagreements(audited),
            *(ranked(audited, each) for each in audited.headlines),
            *blind(audited),
            *alike(audited),
            *kept(audited),
        ]
    run = Case(audited.about.name, audited.results, audited.scored.parts, {})
    found += [*models(audited), *resting_on(audited), *bias(audited), *caveats({"run": run})]
    if audited.absent:
        found.append(f"There is no audit yet of {listed(audited.absent)}.")
    return found


def overall(audited: Audited) -> str:
    """Which methods any audit tells from retraining."""
    by: dict[str, int] = {}
    asked: dict[str, int] = {}
    for each in audited.ordered:
        found = [audited.told(headline, each) for headline in audited.headlines]
        known = [one for one in found if one is not None]
        if known:
            by[each.shown], asked[each.shown] = sum(known), len(known)
    if not by:
        return "It cannot be said yet: there are no intervals of methods and of retrained models."
    told = [f"{name} ({count} of {asked[name]} audits)" for name, count in by.items() if count]
    rest = [name for name, count in by.items() if not count]
    if not told:
        return (
            "Not by these audits: the 95 % intervals of every method meet those of retrained "
            f"models. That is so for {listed(rest)}."
        )
    sentence = (
        f"Yes, for {len(told)} of {len(by)} methods: some audit puts them apart from retrained "
        f"models, beyond 95 % intervals. These are {listed(told)}."
    )
    return f"{sentence} No audit tells {listed(rest)} from retraining." if rest else sentence


def ranked(audited: Audited, headline: Headline) -> str:
    """Methods by an audit, the one nearest to retraining first, and what it cannot tell."""
    marks = [
        f"{words} {said(found)}"
        for subject, words in (
            (audited.retrained, "retrained models have"),
            (audited.original, "the original models"),
        )
        if (found := subject.bounds(headline)) is not None
    ]
    against = f" ({', '.join(marks)})" if marks else ""
    far, of = audited.distances(headline), {each.name: each for each in audited.methods}
    if not far:
        there = [each for each in audited.methods if each.bounds(headline) is not None]
        return (
            f"By {headline.title}{against}, nothing can be ranked before retrained models are "
            f"audited: {_values(there, headline)}."
        )
    nearest = [of[name] for name in sorted(far, key=lambda name: far[name])]
    order = "nearest" if headline.best == "retrained" else "best"
    sentence = f"By {headline.title}{against}, {order} first: {_values(nearest, headline)}."
    hidden = [each.shown for each in nearest if audited.told(headline, each) is False]
    if hidden:
        sentence += f" Not told from retraining by this audit: {listed(hidden)}."
    return sentence


def _values(subjects: Sequence[Subject], headline: Headline) -> str:
    """Numbers without their intervals, which are in the table."""
    numbers = ((each.shown, each.bounds(headline)) for each in subjects)
    return ", ".join(f"{name} {_say(found.value)}" for name, found in numbers if found is not None)


def blind(audited: Audited) -> Iterator[str]:
    """Audits that see nothing where everything is to be seen."""
    found = [
        each.title for each in audited.headlines if audited.told(each, audited.original) is False
    ]
    if found:
        yield (
            "Some audits do not tell even the original models, which forget nothing, from "
            f"retrained ones, so that their ranks say little here: {listed(found)}."
        )


def disagreements(audited: Audited) -> Iterator[str]:
    """Where the population attack and the attack on single examples come to other ends."""
    population, single = audited.ranks(MIA_GAP), audited.ranks(U_LIRA)
    both = [each for each in audited.methods if {each.name} <= population.keys() & single.keys()]
    if not both:
        return
    rho = audited.agreement(U_LIRA, MIA_GAP)
    if rho is not None:
        sentence = (
            "The population attack (MIA gap) and the attack on single examples (U-LiRA) rank "
            f"{len(both)} methods with Spearman’s ρ = {signed(rho)}."
        )
        apart = sorted(both, key=lambda each: -abs(population[each.name] - single[each.name]))
        far = [
            f"{each.shown} ({population[each.name]} by MIA gap, {single[each.name]} by U-LiRA)"
            for each in apart[:MOST_APART]
            if population[each.name] != single[each.name]
        ]
        yield f"{sentence} Furthest apart are the ranks of {listed(far)}." if far else sentence
    yield from _missed(audited, both)


def _missed(audited: Audited, methods: Sequence[Subject]) -> Iterator[str]:
    """What one of the two calls forgotten, and the other does not."""
    compared, leaking, hidden = 0, [], []
    gap, accuracy = _whole(audited.retrained, MIA_GAP), _whole(audited.retrained, U_LIRA)
    for each in methods:
        own_gap, own = _whole(each, MIA_GAP), _whole(each, U_LIRA)
        if gap is None or accuracy is None or own_gap is None or own is None:
            continue
        compared += 1
        numbers = f"{each.shown} (MIA gap {said(own_gap)}, U-LiRA accuracy {said(own)})"
        if audited.told(MIA_GAP, each) is False and own.low > accuracy.high:
            leaking.append(numbers)
        if own_gap.low > gap.high and audited.told(U_LIRA, each) is False:
            hidden.append(numbers)
    if leaking:
        yield (
            "The population attack does not tell from retraining, with a gap that meets a second "
            f"oracle’s, what U-LiRA does: {listed(leaking)}."
        )
    elif compared:
        yield (
            "There is no method that U-LiRA tells from retraining and the population attack does "
            "not."
        )
    if hidden:
        yield (
            "The other way round, the population attack finds a gap that a second oracle does not "
            f"have, and U-LiRA does not tell from retraining: {listed(hidden)}."
        )


def _whole(subject: Subject, headline: Headline) -> Bounds | None:
    """A number with both ends of its interval, if they are known."""
    found = subject.bounds(headline)
    return found if found is not None and all(map(math.isfinite, found)) else None


def alike(audited: Audited) -> Iterator[str]:
    """How alike the other audits rank methods."""
    found = [
        f"{each.title} {signed(rho)}"
        for each in audited.headlines
        if each != U_LIRA and (rho := audited.agreement(U_LIRA, each)) is not None
    ]
    if found:
        yield (
            "How alike audits rank methods as U-LiRA accuracy does, Spearman’s ρ: "
            f"{', '.join(found)}."
        )


def kept(audited: Audited) -> Iterator[str]:
    """What the same models give away of examples that they keep."""
    methods = [each for each in audited.ordered if each.bounds(KEPT) and each.bounds(U_LIRA)]
    if not methods:
        return
    more, numbers = 0, []
    for each in methods:
        of_kept, of_forgotten = each.bounds(KEPT), each.bounds(U_LIRA)
        if of_kept is None or of_forgotten is None:
            continue
        more += of_kept.low > of_forgotten.high
        numbers.append(f"{each.shown} {of_kept.value:.3f} against {of_forgotten.value:.3f}")
    sentence = (
        f"What models keep leaks more than what they were asked to forget, beyond 95 % intervals, "
        f"for {more} of {len(methods)} methods. U-LiRA’s accuracy on the one against the other: "
        f"{', '.join(numbers)}."
    )
    target = audited.retrained.bounds(KEPT)
    if target is not None:
        sides = {
            "more": [each.shown for each in methods if _over(each.bounds(KEPT), target)],
            "less": [each.shown for each in methods if _over(target, each.bounds(KEPT))],
        }
        told = " and ".join(f"{side} after {listed(names)}" for side, names in sides.items())
        sentence += f" Against {said(target)} for retrained models, what is kept leaks {told}."
    yield sentence


def _over(one: Bounds | None, other: Bounds | None) -> bool:
    return one is not None and other is not None and one.low > other.high


def models(audited: Audited) -> Iterator[str]:
    """How many models were trained for the audit, and how many were there."""
    total = {name: sum(kinds.values()) for name, kinds in audited.counts.items()}
    if {"trained", "reused"} <= total.keys():
        yield (
            f"The audit trained or unlearned {total['trained']:,} models and reused "
            f"{total['reused']:,} that were there already."
        )


def resting_on(audited: Audited) -> Iterator[str]:
    """On how many models numbers rest, and what their intervals leave out."""
    audits = [each for each in audited.everyone if each.models]
    if audits:
        of_bank = listed(map(str, sorted({each.models for each in audits})))
        seeds = listed(map(str, sorted({each.seeds for each in audits})))
        yield (
            f"Attacks rest on {of_bank} models for each method, KLOM and the challenge on {seeds} "
            "seeds. The intervals of AUC and accuracy are those of a bootstrap that does not "
            "refit the attack, and so leave out that another draw of so many models would make "
            "another attack."
        )


def bias(audited: Audited) -> Iterator[str]:
    """What KLOM says of oracles against oracles."""
    raw, corrected = (audited.retrained.bounds(each) for each in KLOM.values())
    if raw is not None:
        rest = f", and {said(corrected)} once corrected" if corrected is not None else ""
        yield (
            "KLOM of few models is above zero even where nothing differs: oracles against other "
            f"oracles have {said(raw)} on S{rest}. A method at that value is not told from them."
        )


def said(found: Bounds) -> str:
    """A number and its interval in a sentence."""
    value, low, high = map(_say, found)
    return value if math.isnan(found.low) or math.isnan(found.high) else f"{value} [{low}, {high}]"


def _say(value: float) -> str:
    return f"{value + 0.0:.3f}".replace("-", "−")
