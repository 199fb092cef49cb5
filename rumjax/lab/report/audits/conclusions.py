"""What audits say, in sentences."""

from collections.abc import Sequence

from rumjax.lab.report import wording
from rumjax.lab.report.audits import claims
from rumjax.lab.report.audits.base import KLOM, RAW_KLOM, Audited
from rumjax.lab.report.audits.claims import Basis, Detection
from rumjax.lab.report.conclusions import caveats, say_unlearned
from rumjax.metrics import Interval


def conclude(audited: Audited) -> list[str]:
    """Says all that audits show, the most important first."""
    sentences = say_unlearned(audited.results)
    if audited.headlines and not sentences:
        sentences = say_methods(audited)
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
    """Says what audits show of methods, and which audits show nothing."""
    sentences = [say_detections(claims.detections(audited))]
    failing = [each.title for each in audited.headlines if audited.fails_calibration(each)]
    blind = [each.title for each in audited.headlines if claims.is_blind(audited, each)]
    if failing:
        sentences.append(
            "Some audits fail their own calibration, since they tell retrained models from other "
            f"retrained models, and are not counted: {wording.listing(failing)}."
        )
    if blind:
        sentences.append(
            "Some audits do not tell even the original models, which forget nothing, from "
            f"retrained ones, and are not counted: {wording.listing(blind)}."
        )
    return sentences


def say_detections(detections: Sequence[Detection]) -> str:
    """Says which methods any audit tells from retraining."""
    if not detections:
        return (
            "It cannot be said: there are no intervals of methods and of retrained models by an "
            "audit that passes its own calibration."
        )

    # Methods that some audit tells, and those that none does.
    detected = [
        f"{each.title} ({each.detecting} of {len(each.audits)} audits)"
        for each in detections
        if each.holds
    ]
    rest = [each.title for each in detections if not each.holds]
    count = sum(len(each.audits) for each in detections)
    certainty = f"at 5 % for all {count} comparisons together, by Holm"

    # The answer is no where no audit tells any method.
    if not detected:
        return (
            f"Not by these audits: none tells any method from retraining, {certainty}. That is so "
            f"for {wording.listing(rest)}."
        )
    sentence = (
        f"Yes, for {len(detected)} of {len(detections)} methods, {certainty}: "
        f"{wording.listing(detected)}"
    )
    if rest:
        sentence += f"; no audit tells {wording.listing(rest)} from retraining"
    return f"{sentence}."


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
