"""What can be measured of an unlearned model without a model that was retrained.

Each finding is a number with an interval, with what it would be for a model that never saw S, and
with what it was for the model before. They speak of the attacks that were run, and of no others.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from rumjax import evidence
from rumjax.lab import files, making, progress
from rumjax.lab.answers import read_answers
from rumjax.lab.context import placed
from rumjax.lab.forgetting.bench import Bench, Evidence, Row, accuracies, near_copies
from rumjax.lab.making import Job
from rumjax.relearn import relearn_times

COVERED = 0.1
"""The share of V that prediction sets leave out."""
GUESSED = 3
"""One of so many examples of a reserve is guessed at."""


def measure(bench: Bench) -> Evidence:
    """Measures everything that the data and the models at hand allow for."""
    parts = (
        by_rank,
        by_rank_of_all,
        by_rate,
        by_coverage,
        by_neighbors,
        by_bank,
        by_reserve,
        by_relearning,
        by_exposure,
        by_oracles,
    )
    rows: list[Row] = []
    console = bench.chooser.context.console
    with progress.stage(console, "Evidence", len(parts), "measures") as advance:
        for part in parts:
            rows += part(bench)
            advance(part.__name__.replace("_", " "))
    return Evidence(
        tuple(rows),
        accuracies(
            bench.chooser.deletion,
            bench.unseen,
            {when: look.correct for when, look in bench.looks.items()},
        ),
        tuple(bench.calibration),
        near_copies(bench),
        tuple(bench.not_tested),
    )


def both(bench: Bench, measure_one: Any) -> tuple[Any, Any]:
    """Returns what a function gives of the look after the batch, and of the one before."""
    return measure_one(bench.looks["after"]), measure_one(bench.looks["before"])


# One part of the evidence each


def by_rank(bench: Bench) -> Iterator[Row]:
    """Tests whether S is fitted better than V of like difficulty."""
    matching = bench.chooser.matching
    after, before = both(
        bench,
        lambda look: matching.test(look.margins[bench.forget], look.margins[bench.unseen]),
    )
    yield Row(
        "rank, matched",
        "probability that an example of S has a larger margin, less what its difficulty leads one "
        "to expect, than one of V of its class and of like difficulty; larger means that S is "
        "still fitted too well",
        *(after.value, after.low, after.high, 0.5, before.value, after.count),
        p_value=after.p_value,
        before_p_value=before.p_value,
    )


def by_rank_of_all(bench: Bench) -> Iterator[Row]:
    """Tests whether S is fitted better than V, as is right where S was drawn at random."""
    after, before = both(
        bench,
        lambda look: evidence.rank_test(look.margins[bench.forget], look.margins[bench.unseen]),
    )
    yield Row(
        "rank",
        "the same for V as it is: exact where S is a random part of D, and not otherwise",
        *(after.value, after.low, after.high, 0.5, before.value, after.count),
        p_value=after.p_value,
        before_p_value=before.p_value,
    )


def by_rate(bench: Bench) -> Iterator[Row]:
    """Counts the examples of S and of R that an attack on the margin takes for seen."""
    rate = bench.section.false_positive_rate
    for name, indices in (("S", bench.forget), ("R", bench.retain)):
        after, before = both(
            bench,
            lambda look, indices=indices: evidence.exposed(
                look.margins[indices], look.margins[bench.unseen], rate
            ),
        )
        yield Row(
            f"rate on {name} at {rate:g}",
            f"share of {name} whose margin is above that of all but {rate:g} of V; larger means "
            "more exposed",
            *(after.value, after.low, after.high, rate, before.value, after.count),
        )


def by_coverage(bench: Bench) -> Iterator[Row]:
    """Compares how often prediction sets cover the labels of S and of V."""
    # Half of V calibrates the sets, the other half is covered by them.
    halves = bench.unseen[::2], bench.unseen[1::2]
    if not all(map(len, halves)):
        return
    after, before = both(
        bench,
        lambda look: evidence.coverage_difference(
            look.probabilities[bench.forget],
            look.probabilities[halves[1]],
            look.probabilities[halves[0]],
            COVERED,
        ),
    )
    yield Row(
        "coverage",
        f"how much more often prediction sets for {1 - COVERED:.0%} cover the label on S than on "
        "V; above 0 means that S is fitted better",
        *(after.value, after.low, after.high, after.null, before.value, after.count),
    )


def by_neighbors(bench: Bench) -> Iterator[Row]:
    """Ranks how near S and V are to R in the embeddings."""
    if not bench.looks["after"].embeddings.shape[1]:
        bench.not_tested.append("how near S is to R, since the network gives no embeddings")
        return
    sets = bench.forget, bench.retain, bench.unseen
    after, before = both(
        bench,
        lambda look: evidence.neighbour_rank(*(look.embeddings[chosen] for chosen in sets)),
    )
    honest = after[1].value  # random examples have .5, and hard ones less, however unseen
    yield Row(
        "nearness to R",
        "mean rank of the similarity between an example of S and its nearest one of R, among those "
        "within R; above what V has means residue, below it that S was pushed out",
        *(after[0].value, after[0].low, after[0].high, honest, before[0].value, after[0].count),
    )


def by_bank(bench: Bench) -> Iterator[Row]:
    """Compares single examples with models of a bank that never saw them."""
    shadows, forget = bench.chooser.shadows, bench.forget
    if isinstance(shadows, str):
        bench.not_tested.append(f"single examples against models that never saw them: {shadows}")
        return

    # Whether p-values are what they should be is seen on T, which nobody saw.
    margins = {name: shadows.mended(look.margins) for name, look in bench.looks.items()}
    check = evidence.calibration(shadows.p_values(margins["after"], shadows.tested))
    bench.calibration.append(
        {
            "name": "p-values against the bank, on T",
            "statistic": check.statistic,
            "p_value": check.p_value,
            "count": check.count,
            "note": f"Kolmogorov–Smirnov against uniform; the mean is {check.mean:.3f}",
        }
    )

    # Examples one by one, and all together.
    level, steps = bench.section.p_value, evidence.least_p_value(shadows.inside[:, forget])
    null = float(np.nanmean(np.floor(level / steps + 1e-9) * steps))  # p-values have their grid
    small = {}
    for name, one in margins.items():
        p_values = shadows.p_values(one, forget)
        p_values = p_values[np.isfinite(p_values)]
        small[name] = evidence.proportion(int(np.sum(p_values <= level)), len(p_values), null)
    share = small["after"]
    yield Row(
        f"p-values up to {level:g}",
        "share of S whose margin is as large in so few models of the bank that never saw it; "
        f"larger means more exposed; the least that a p-value can be is {np.nanmin(steps):.3g}",
        *(share.value, share.low, share.high, null, small["before"].value, share.count),
    )
    after, before = (shadows.group(margins[name], forget) for name in ("after", "before"))
    yield Row(
        "group against the bank",
        "mean distance of S from models of the bank that never saw it, in standard deviations; "
        "larger means that S is still fitted too well",
        *(after.value, np.nan, np.nan, after.null, before.value, after.count),
        p_value=after.p_value,
        before_p_value=before.p_value,
        least_p_value=1 / (after.models + 1),
    )


def by_reserve(bench: Bench) -> Iterator[Row]:
    """Bounds ε from below by the examples that coins put in before training."""
    reserve = bench.run.reserve
    if reserve is None:
        bench.not_tested.append(
            "a lower bound on ε, since no coins were tossed before training (reserve)"
        )
        return
    inside = reserve.inside(bench.run.data)
    if not len(inside) or not len(reserve.outside_rows):
        bench.not_tested.append(
            "a lower bound on ε, since the coins of the reserve fell alike, or its images are gone"
        )
        return
    outside = placed(reserve.outside)
    size = len(inside) + len(reserve.outside_rows)  # files of some may be gone
    coins = np.arange(size) < len(inside)
    guesses = max(2, size // GUESSED // 2 * 2)
    bounds = {}
    for name, variables in bench.models.items():
        answers = read_answers(bench.run.model, variables, outside)
        scores = np.concatenate([bench.looks[name].margins[inside], answers.margins])
        chosen, guessed = evidence.guess(scores, guesses)
        right = int(np.sum(coins[chosen] == (np.asarray(guessed) > 0)))
        bounds[name] = right, evidence.epsilon_lower_bound(right, guesses, size)
    right, bound = bounds["after"]
    yield Row(
        "ε, at least",
        f"lower bound at 95 % by one run (Steinke et al., 2023): {right} of {guesses} guesses on "
        f"{size} coins are right, δ = 1e-5; it says nothing of how large ε may be",
        *(bound, bound, np.inf, 0.0, bounds["before"][1], guesses),
    )


def by_relearning(bench: Bench) -> Iterator[Row]:
    """Compares how fast S and examples of V are learned."""
    epochs, forget = bench.section.relearning, bench.forget
    if not epochs:
        return
    # As many examples of V, of like difficulty.
    weights, count = bench.chooser.matching.weights, len(forget)
    random = np.random.default_rng(bench.run.config.seed)
    enough = np.count_nonzero(weights) >= count
    sample = bench.unseen[random.choice(len(weights), count, replace=not enough, p=weights)]
    right = {}
    for name, examples in (("S", forget), ("V", np.unique(sample))):
        courses = relearn_times(
            list(bench.models),
            jax.numpy.stack([bench.chooser.key(f"relearn/{when}") for when in bench.models]),
            list(bench.models.values()),
            examples,
            bench.chooser.data,
            model=bench.run.model,
            epochs=epochs,
            target=1.0,
            **bench.run.config.gentle_sgd,
        )
        # A mean over epochs varies less than a share: intervals are too wide rather than narrow.
        for when, course in zip(bench.models, courses, strict=True):
            mean = float(np.mean(course.accuracies[1:] or course.accuracies))
            right[name, when] = round(len(examples) * mean), len(examples)
    after, before = (
        evidence.difference(*right["S", when], *right["V", when]) for when in ("after", "before")
    )
    yield Row(
        "relearning",
        f"mean accuracy on S while it is learned again for {epochs} epochs, less that on as many "
        "examples of V of like difficulty; above 0 means that S comes back faster",
        *(after.value, after.low, after.high, 0.0, before.value, after.count),
    )


def exposing_margin(bench: Bench) -> float:
    """Returns the margin that all but a few of V stay below, of the model before."""
    rate = bench.section.false_positive_rate
    return float(np.quantile(bench.looks["before"].margins[bench.unseen], 1 - rate))


def exposed(bench: Bench) -> str:
    """Returns a table of the examples of R and V that became more exposed, as CSV.

    They are named by their rows in the source, those of V in the part that V is drawn from.
    """
    before, after = (bench.looks[when].margins for when in ("before", "after"))
    threshold, data = exposing_margin(bench), bench.run.data
    lines = ["set,part,row,margin_before,margin_after"]
    for name, indices, first, origin in (
        ("R", bench.retain, 0, data.origin("train")),
        ("V", bench.unseen, bench.unseen[0], data.origin("validation")),
    ):
        risen = indices[(before[indices] <= threshold) & (after[indices] > threshold)]
        lines += [
            f"{name},{origin.part},{origin.rows[index - first]},{before[index]},{after[index]}"
            for index in risen
        ]
    return "\n".join([*lines, ""])


def by_exposure(bench: Bench) -> Iterator[Row]:
    """Counts the examples of R and V that became more exposed."""
    before, after = bench.looks["before"], bench.looks["after"]
    rate, threshold = bench.section.false_positive_rate, exposing_margin(bench)
    for name, indices in (("R", bench.retain), ("V", bench.unseen)):
        moved = evidence.more_exposed(before.margins[indices], after.margins[indices], threshold)
        yield Row(
            f"more exposed in {name}",
            f"share of {name} whose margin came above the threshold of the model before, that of "
            f"all but {rate:g} of V; {moved.fallen.value:.4f} fell below it",
            # No p-value: all margins of a model move together, and its test takes them one by one.
            *(moved.risen.value, moved.risen.low, moved.risen.high, moved.risen.null),
            *(0.0, len(indices)),
        )


def by_oracles(bench: Bench) -> Iterator[Row]:
    """Holds the margin on S against that of models retrained without it."""
    count, chooser = bench.section.oracles, bench.chooser
    if not count:
        bench.not_tested.append("the difference from models retrained without S")
        return
    # Those that are not there yet; only their margins on S are kept.
    steps, place = chooser.retraining_steps(), chooser.place
    total = count * bench.run.recipe.epochs
    number = chooser.deletion.number
    jobs = [
        Job(index, chooser.key(f"oracle/{index}"), steps, which="oracle")
        for index in range(count)
        if not place.has(_oracle_file(number, index))
    ]
    context = bench.chooser.context
    with progress.stage(context.console, "Oracles", total, "epochs") as advance:
        for made in making.make(chooser.looking, jobs, advance):
            answers = chooser.answers(made.model)
            statistic = float(np.mean(answers.margins[bench.forget]))
            place.write_json(_oracle_file(number, made.job.seed), {"margin": statistic})
    # Where the model is among them.
    retrained = np.array(
        [place.read_json(_oracle_file(number, index))["margin"] for index in range(count)]
    )
    after, before = both(bench, lambda look: float(np.mean(look.margins[bench.forget])))
    low, high = np.quantile(retrained, [0.025, 0.975])
    yield Row(
        "margin against oracles",
        f"mean margin on S; {count} models retrained without it have {low:.3f} to {high:.3f}",
        *(after, np.nan, np.nan, float(np.mean(retrained)), before, count),
        p_value=evidence.group_statistic_p_value(after, retrained, alternative="greater"),
        before_p_value=evidence.group_statistic_p_value(before, retrained, alternative="greater"),
        least_p_value=1 / (count + 1),
    )


def _oracle_file(number: int, index: int) -> str:
    return files.of_batch(number, f"oracle_{index}.json")
