"""The page of `evidence.py`: what evidence says of models that forgot and of those that did not.

All sentences are made from the numbers; what is true of one run need not be of the next.
"""

import platform

import jax
import numpy as np
from evidence import FRESH, LARGER, MODELS, RESERVES, SIZES
from evidence_figures import draw_p_values, draw_sizes
from evidence_numbers import BANK, GATES, LEVEL, MATCHED, ORACLES, ORIGINAL, Numbers
from evidence_tables import (
    bounds_table,
    fresh_table,
    gate_table,
    measures_table,
    p_value_table,
    size_table,
)

from rumjax import evidence
from rumjax.lab.report import pages, run_page
from rumjax.lab.report.pages import About, Page
from rumjax.lab.report.reported import whole
from rumjax.lab.workdir import WorkDirectory

NEEDED = {"oracles": 0.9, "originals": 0.1}
COUNTS = (19, 39, 63)
"""Oracles that a model is held against."""


def write(out, run, *, machine, **measured):
    """Writes the page, its tables and its figures."""
    numbers = Numbers(run, **measured)
    seeds = len(next(iter(numbers.tried.values())))
    page = Page(
        "Is the evidence without oracles right?",
        "`python -m rumjax.forget` judges a model without one that was retrained. Does its "
        "evidence tell models that never saw the forget set S from those that remember it, and "
        "does its gate let the former pass and refuse the latter?",
        [sentence for say in SENTENCES for sentence in say(numbers)],
        [
            bounds_table(numbers),
            p_value_table(numbers),
            measures_table(numbers),
            fresh_table(numbers),
            size_table(numbers),
        ],
        [draw_p_values(numbers), draw_sizes(numbers)],
        gate_table(numbers),
    )
    facts = run_page.facts(whole(run), None) | {
        "Models": f"{seeds} originals, {2 * seeds} oracles for each of {len(numbers.tried)} forget "
        f"sets of {SIZES[-1]}, {numbers.models} of a bank",
        "Forget sets": "the most memorized images of D (high), and images of D at random (random)",
        "Machine": f"{machine}; Python {platform.python_version()}, jax {jax.__version__}, NumPy "
        f"{np.__version__}",
    }
    command = "python benchmarks/evidence.py --workdir=runs/evidence"
    with WorkDirectory(str(out), lock=False) as work:
        pages.publish(work, About("study", "evidence", facts, command), page)
        work.delete("study.html")


# Sentences


def say_gate(numbers):
    for name in numbers.tried:
        for title, without in GATES.items():
            oracles = numbers.passes(name, ORACLES, without)
            originals = numbers.passes(name, [ORIGINAL], without)
            fair, strict = (
                oracles.value >= NEEDED["oracles"],
                originals.value <= NEEDED["originals"],
            )
            verdict = "as wanted" if fair and strict else "which is not what is wanted"
            if fair and not strict:
                verdict = "so that it cannot tell well enough"
            yield (
                f"At {name}, {title}, the gate lets pass {percent(oracles)} of oracles and "
                f"{percent(originals)} of original models, {verdict} (at least 90 %, at most 10 %)."
            )


def say_areas(numbers):
    for name in numbers.tried:
        areas, shares = [], []
        for models in (ORACLES, [ORIGINAL]):
            own = [one.evidence[model] for one in numbers.tried[name] for model in models]
            areas.append(np.mean([one.named(MATCHED).value for one in own]))
            shares.append(np.mean([one.accuracy["S"]["after"] for one in own]))
        own, theirs = (numbers.p_values(name, of, MATCHED) for of in (ORACLES, [ORIGINAL]))
        sentence = (
            f"At {name}, oracles classify {per_cent(shares[0])} of S correctly and original models "
            f"{per_cent(shares[1])}; the area of the matched rank test is {areas[0]:.3f} and "
            f"{areas[1]:.3f}, and its p-value at most .05 for {per_cent(own <= LEVEL)} and "
            f"{per_cent(theirs <= LEVEL)}."
        )
        if areas[0] < 0.45:
            sentence += (
                " Oracles fit S less well than V that is matched with it, since S is harder than "
                "the model that tells difficulty finds it: the test is on the safe side for "
                "oracles, and without a bank a model that remembers a part of S may pass, up to "
                "an area of about ½."
            )
        yield sentence


def say_chance(numbers):
    for name in numbers.tried:
        losses = numbers.measured_losses(name, ORACLES)
        certain = [
            all(bound.passed for bound in one.bounds if "accuracy" in bound.name)
            for one in numbers.verdicts(name, ORACLES)
        ]
        yield (
            f"At {name}, {per_cent(~(losses['V'] & losses['R']))} of oracles measure a loss of "
            f"accuracy above the limits ({per_cent(~losses['V'])} on V and "
            f"{per_cent(~losses['R'])} on R), although nothing is wrong with them; of the loss "
            f"that is certain at 95 %, which the gate bounds, it is {per_cent(~np.array(certain))}."
        )


def say_anew(numbers):
    kinds = ("random", "memorized")
    fresh = {kind: numbers.of_bank["group", kind, "unseen"].ravel() for kind in kinds}
    old = {
        kind: numbers.of_bank["group, unmended shadows", kind, "unseen"].ravel() for kind in kinds
    }
    far = {
        kind: evidence.calibration(values, least=1 / numbers.models).statistic
        for kind, values in fresh.items()
    }
    shares = (
        f"{per_cent(values <= LEVEL)} ({kind}; {far[kind]:.3f} from uniform at most)"
        for kind, values in fresh.items()
    )
    without = (f"{per_cent(values <= LEVEL)} ({kind})" for kind, values in old.items())
    yield (
        "Where S is drawn anew, of what a model has not seen, models of the bank in the place of "
        f"the unlearned one, {FRESH} sets each, have p ≤ .05 against the others in "
        f"{' and '.join(shares)}. Were the shadows' margins left as they are, and only the model's "
        f"shifted and scaled to agree with them, it would be {' and '.join(without)}."
    )


def say_bunching(numbers):
    rejected, count = 0, 0
    for name in numbers.tried:
        for test in (MATCHED, BANK):
            for model in ORACLES:
                values = numbers.p_values(name, [model], test)
                check = evidence.calibration(values, least=numbers.step(test))
                rejected, count = rejected + (check.p_value <= LEVEL), count + 1
    full = numbers.of_bank["group, oracles", "T", "unseen"]
    yield (
        "Models that were all retrained without one S share its luck, and have p-values that lie "
        f"together: tests of Kolmogorov and Smirnov on {len(values)} oracles of one kind reject "
        f"uniformity in {rejected} of {count} cases. Luck is not all of it: on sets that are drawn "
        "anew from T, which nobody saw, the group test gives oracles, which saw twice as many "
        f"examples as models of the bank, p ≤ .05 in {per_cent(full <= LEVEL)}, with a mean of "
        f"{full.mean():.3f}."
    )
    checks = [
        one.evidence[model].calibration[0]
        for tried in numbers.tried.values()
        for one in tried
        for model in ORACLES
    ]
    small = np.array([check["p_value"] <= LEVEL for check in checks])
    yield (
        f"The check of single examples' p-values on T is rejected at .05 for {per_cent(small)} of "
        "oracles, as it takes thousands of examples of one model as independent; the distance that "
        f"it finds is {np.mean([check['statistic'] for check in checks]):.3f} on average: read "
        "that, and not its p-value."
    )


def say_sizes(numbers):
    passes = numbers.parts_pass(numbers.larger)
    for title, values in passes.items():
        shares = values.mean(axis=0)
        half = next((size for size, one in zip(LARGER, shares, strict=True) if one <= 0.5), None)
        reached = (
            f"it takes {half} random examples until original models are refused half of the time"
            if half
            else f"original models are refused less than half of the time up to {LARGER[-1]}"
        )
        listed = ", ".join(
            f"{per_cent(1 - one, 0)} of {size}" for size, one in zip(LARGER, shares, strict=True)
        )
        of = title if title.startswith("with") else f"by {title}"
        yield f"{of[0].upper()}{of[1:]}, {reached}; refused by size of S: {listed}."


def say_added(numbers):
    for name, added in numbers.added.items():
        margins = {model: added["margins"][:, place] for place, model in enumerate(MODELS)}
        told = []
        for count in COUNTS:
            random = np.random.default_rng(count)
            found = {ORIGINAL: [], ORACLES[1]: []}
            for seed in range(len(margins[ORIGINAL])):
                others = np.delete(margins[ORACLES[0]], seed)
                some = random.choice(others, min(count, len(others)), replace=False)
                for model, values in found.items():
                    values.append(evidence.group_statistic_p_value(margins[model][seed], some))
            told.append(
                f"{count} oracles {per_cent(np.array(found[ORIGINAL]) <= LEVEL, 0)} (of second "
                f"oracles {per_cent(np.array(found[ORACLES[1]]) <= LEVEL, 0)})"
            )
        yield (
            f"At {name}, by the mean margin on S original models have p ≤ .05 against "
            f"{', '.join(told)}; 19 oracles cannot give less than .1, two-sided."
        )
    if "random" in numbers.added:
        epsilons = numbers.added["random"]["epsilons"]
        seen, oracle, more = epsilons[:, 0, 0], epsilons[:, 1:, 0], epsilons[:, 0, 1]
        yield (
            f"A reserve of {RESERVES[0]} coins would bound ε above 0 for {per_cent(seen > 0, 0)} "
            f"of original models (mean bound {seen.mean():.3f}) and {per_cent(oracle > 0, 0)} of "
            f"oracles; one of {RESERVES[1]:,} for {per_cent(more > 0, 0)} of original models "
            f"({more.mean():.3f}). Here S, or a part of D, stands for what was put in, and V for "
            "what was left out."
        )


SENTENCES = (
    say_gate,
    say_areas,
    say_chance,
    say_anew,
    say_bunching,
    say_sizes,
    say_added,
)


def per_cent(values, digits=1):
    return f"{100 * np.mean(values):.{digits}f} %"


def percent(interval):
    return f"{per_cent(interval.value)} [{per_cent(interval.low)}, {per_cent(interval.high)}]"
