"""What audits say, in sentences."""

from collections.abc import Sequence

from rumjax.lab.report import wording
from rumjax.lab.report.audits import claims
from rumjax.lab.report.audits.base import (
    KLOM,
    MIA_GAP,
    RAW_KLOM,
    U_LIRA,
    U_LIRA_RETAINED,
    Audited,
)
from rumjax.lab.report.audits.claims import Basis, Detection, Judgement, Keeping, Order, RankPair
from rumjax.lab.report.conclusions import caveats
from rumjax.metrics import Interval

MOST_APART = 3
"""methods that are named of those which two audits rank most differently"""


def conclude(audited: Audited) -> list[str]:
    """Says all that audits show, the most important first."""
    sentences = say_methods(audited) if audited.headlines else []
    if not sentences:
        sentences = ["There are no audits of unlearning methods yet."]

    # What the numbers rest on, and what is missing.
    sentences += say_models(audited)
    basis = claims.basis(audited.everyone)
    if basis is not None:
        sentences.append(say_basis(basis))
    bias = audited.retrained.value(RAW_KLOM)
    if bias is not None:
        sentences.append(say_bias(bias, audited.retrained.value(KLOM)))
    sentences += caveats({audited.about.name: audited.results})
    if audited.missing:
        sentences.append(f"There is no audit yet of {wording.listing(audited.missing)}.")
    return sentences


def say_methods(audited: Audited) -> list[str]:
    """Says what audits show of methods."""
    sentences = [say_detections(claims.detections(audited))]

    # The two attacks that the literature leans on, and where they part.
    pairs, rho = claims.rank_pairs(audited), audited.agreement(U_LIRA, MIA_GAP)
    if rho is not None:
        sentences.append(say_rank_pairs(pairs, rho))
    sentences += say_judgements(claims.judgements(audited))

    # Every audit by itself, and how alike audits are.
    sentences += [say_order(claims.order(audited, each)) for each in audited.headlines]
    blind = claims.blind_audits(audited)
    if blind:
        sentences.append(
            "Some audits do not tell even the original models, which forget nothing, from "
            f"retrained ones, so that their ranks say little here: {wording.listing(blind)}."
        )
    agreements = claims.agreements(audited)
    if agreements:
        numbers = ", ".join(
            f"{title} {wording.number(rho, 2)}" for title, rho in agreements.items()
        )
        sentences.append(
            f"How alike audits rank methods as U-LiRA accuracy does, Spearman’s ρ: {numbers}."
        )
    keepings = claims.keepings(audited)
    if keepings:
        sentences.append(say_keepings(keepings, audited.retrained.value(U_LIRA_RETAINED)))
    return sentences


def say_detections(detections: Sequence[Detection]) -> str:
    """Says which methods any audit tells from retraining."""
    if not detections:
        return "It cannot be said yet: there are no intervals of methods and of retrained models."

    # Methods that some audit tells, and those that none does.
    detected = [
        f"{each.title} ({each.detecting} of {each.audits} audits)"
        for each in detections
        if each.holds
    ]
    rest = [each.title for each in detections if not each.holds]

    # The answer is no where no audit tells any method.
    if not detected:
        return (
            "Not by these audits: the 95 % intervals of every method meet those of retrained "
            f"models. That is so for {wording.listing(rest)}."
        )
    sentence = (
        f"Yes, for {len(detected)} of {len(detections)} methods: some audit puts them apart from "
        f"retrained models, beyond 95 % intervals. These are {wording.listing(detected)}."
    )
    if rest:
        sentence += f" No audit tells {wording.listing(rest)} from retraining."
    return sentence


def say_rank_pairs(pairs: Sequence[RankPair], rho: float) -> str:
    """Says how alike the population attack and U-LiRA rank methods, and where they do not."""
    sentence = (
        "The population attack (MIA gap) and the attack on single examples (U-LiRA) rank "
        f"{len(pairs)} methods with Spearman’s ρ = {wording.number(rho, 2)}."
    )
    apart = [
        f"{title} ({population} by MIA gap, {single} by U-LiRA)"
        for title, population, single in pairs[:MOST_APART]
        if population != single
    ]
    if apart:
        sentence += f" Furthest apart are the ranks of {wording.listing(apart)}."
    return sentence


def say_judgements(judgements: Sequence[Judgement]) -> list[str]:
    """Says what one of the two attacks calls forgotten, and the other does not."""
    sentences = []

    # Either attack may see what the other does not.
    missed = [_say_numbers(judgement) for judgement in judgements if judgement.is_missed]
    hidden = [_say_numbers(judgement) for judgement in judgements if judgement.is_hidden]
    if missed:
        sentences.append(
            "The population attack does not tell from retraining, with a gap that meets a second "
            f"oracle’s, what U-LiRA does: {wording.listing(missed)}."
        )
    elif judgements:
        sentences.append(
            "There is no method that U-LiRA tells from retraining and the population attack does "
            "not."
        )
    if hidden:
        sentences.append(
            "The other way round, the population attack finds a gap that a second oracle does not "
            f"have, and U-LiRA does not tell from retraining: {wording.listing(hidden)}."
        )
    return sentences


def _say_numbers(judgement: Judgement) -> str:
    gap = wording.interval(judgement.gap, bounds=True)
    accuracy = wording.interval(judgement.accuracy, bounds=True)
    return f"{judgement.title} (MIA gap {gap}, U-LiRA accuracy {accuracy})"


def say_order(order: Order) -> str:
    """Lists methods by an audit, the one nearest to retraining first, and what it cannot tell."""
    # The audit, with what it says of the calibration.
    marks = []
    if order.retrained is not None:
        marks.append(f"retrained models have {wording.interval(order.retrained, bounds=True)}")
    if order.original is not None:
        marks.append(f"the original models {wording.interval(order.original, bounds=True)}")
    audit = f"By {order.headline.title}"
    if marks:
        audit += f" ({', '.join(marks)})"

    # Numbers are without their intervals, which are in the table.
    values = ", ".join(f"{title} {wording.number(value)}" for title, value in order.values.items())
    if not order.is_ranked:
        return f"{audit}, nothing can be ranked before retrained models are audited: {values}."
    first = "nearest" if order.headline.best == "retrained" else "best"
    sentence = f"{audit}, {first} first: {values}."
    if order.undetected:
        names = wording.listing(order.undetected)
        sentence += f" Not told from retraining by this audit: {names}."
    return sentence


def say_keepings(keepings: Sequence[Keeping], retrained: Interval | None) -> str:
    """Says what models give away of examples that they keep.

    Args:
      keepings: of methods.
      retrained: what retrained models give away, if they were audited.
    """
    # What is kept against what was forgotten, of the same models.
    numbers = [
        f"{each.title} {wording.number(each.kept.value)} against "
        f"{wording.number(each.forgotten.value)}"
        for each in keepings
    ]
    more = sum(keeping.holds for keeping in keepings)
    sentence = (
        "What models keep leaks more than what they were asked to forget, beyond 95 % intervals, "
        f"for {more} of {len(keepings)} methods. U-LiRA’s accuracy on the one against the other: "
        f"{', '.join(numbers)}."
    )

    # What is kept against what retrained models give away of it.
    if retrained is not None:
        above = [each.title for each in keepings if each.kept.low > retrained.high]
        below = [each.title for each in keepings if retrained.low > each.kept.high]
        sentence += (
            f" Against {wording.interval(retrained, bounds=True)} for retrained models, what is "
            f"kept leaks more after {wording.listing(above)} and less after "
            f"{wording.listing(below)}."
        )
    return sentence


def say_models(audited: Audited) -> list[str]:
    """Says how many models were trained for the audit, and how many were there."""
    totals = {name: sum(kinds.values()) for name, kinds in audited.counts.items()}
    if "trained" not in totals or "reused" not in totals:
        return []
    return [
        f"The audit trained or unlearned {totals['trained']:,} models and reused "
        f"{totals['reused']:,} that were there already."
    ]


def say_basis(basis: Basis) -> str:
    """Says on how many models numbers rest, and what their intervals leave out."""
    models, seeds = (wording.listing(map(str, counts)) for counts in basis)
    return (
        f"Attacks rest on {models} models for each method, KLOM and the challenge on {seeds} "
        "seeds. The intervals of AUC and accuracy are those of a bootstrap that does not "
        "refit the attack, and so leave out that another draw of so many models would make "
        "another attack."
    )


def say_bias(raw: Interval, corrected: Interval | None) -> str:
    """Says what KLOM is of oracles against oracles, where nothing differs."""
    numbers = f"{wording.interval(raw, bounds=True)} on S"
    if corrected is not None:
        numbers += f", and {wording.interval(corrected, bounds=True)} once corrected"
    return (
        "KLOM of few models is above zero even where nothing differs: oracles against other "
        f"oracles have {numbers}. A method at that value is not told from them."
    )
