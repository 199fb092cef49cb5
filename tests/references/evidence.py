"""Statistics of evidence, written slowly: loops, counting and sums of binomial coefficients."""

import itertools
import math

import numpy as np
from scipy import stats


def made(random, models, examples, *, share=0.5, common=0.3, memory=3.0, residue=0.0):
    """Margins of θu, margins of shadows, and which shadow saw which example.

    Examples differ in mean and spread, models by an effect of their own; `memory` is what having
    seen an example adds, `residue` what is left of it in θu, which is like a shadow otherwise.
    """
    shadow_in = random.random((models, examples)) < share
    noise = random.normal(size=(models + 1, examples)) + common * random.normal(
        size=(models + 1, 1)
    )
    margins = 2 * random.normal(size=examples) + random.uniform(1, 3, examples) * noise
    margins[1:] += memory * shadow_in
    return margins[0] + residue, margins[1:], shadow_in


def continuous(p_values, steps, random):
    """P-values on a grid, spread over its steps: uniform in 0…1 if they are uniform on the grid."""
    return np.asarray(p_values) - random.random(len(p_values)) * steps


def clopper_pearson(successes, trials, level=0.95):
    """Quantiles of beta distributions."""
    outer = (1 - level) / 2
    low = stats.beta.ppf(outer, successes, trials - successes + 1) if successes else 0.0
    high = stats.beta.ppf(1 - outer, successes + 1, trials - successes)
    return low, high if successes < trials else 1.0


def example_p_values(margins, shadow_margins, shadow_in):
    """Example by example, shadow by shadow."""
    p_values = []
    for example, margin in enumerate(margins):
        out = [
            shadow_margins[model, example]
            for model in range(len(shadow_margins))
            if not shadow_in[model, example]
        ]
        as_high = sum(other >= margin for other in out)
        p_values.append((1 + as_high) / (1 + len(out)) if out else math.nan)
    return np.array(p_values)


def grid_distance(p_values, steps):
    """The greatest difference between the share of p ≤ t and t, on a grid of so many steps."""
    grid = [(k + 1) / steps for k in range(steps)]
    return max(abs(np.mean([p <= t + 1e-9 for p in p_values]) - t) for t in grid)


def shadow_p_values(margins, shadow_margins):
    """Of θu and all shadows, each among all others, on examples that none saw."""
    models = [margins, *shadow_margins]
    return np.array(
        [
            [
                np.mean([other[example] >= model[example] for other in models])
                for example in range(len(margins))
            ]
            for model in models
        ]
    )


def group_statistics(margins, shadow_margins, shadow_in, *, prior, floor):
    """The mean standardized margin of θu on S, and of every shadow on what it has not seen."""
    models = np.vstack([margins, shadow_margins])
    unseen = np.vstack([np.ones(len(margins), bool), ~shadow_in])
    residuals, degrees = 0.0, 0
    for example in range(len(margins)):
        values = models[unseen[:, example], example]
        residuals += np.sum((values - values.mean()) ** 2)
        degrees += len(values) - 1
    pooled = residuals / degrees

    statistics = []
    for model in range(len(models)):
        deviations = []
        for example in np.flatnonzero(unseen[model]):
            others = [
                models[other, example]
                for other in range(len(models))
                if other != model and unseen[other, example]
            ]
            squares = np.sum((others - np.mean(others)) ** 2)
            variance = (squares + prior * pooled) / (len(others) - 1 + prior)
            spread = math.sqrt(max(variance, floor) * (1 + 1 / len(others)))
            deviations.append((models[model, example] - np.mean(others)) / spread)
        statistics.append(np.mean(deviations))
    return np.array(statistics)


def area(ours, theirs, strata_s=None, strata_v=None):
    """The mean over S of the share of V of its stratum that is below, ties ½."""
    strata_s = [0] * len(ours) if strata_s is None else strata_s
    strata_v = [0] * len(theirs) if strata_v is None else strata_v
    shares = []
    for margin, stratum in zip(ours, strata_s, strict=True):
        alike = [other for other, its in zip(theirs, strata_v, strict=True) if its == stratum]
        if alike:
            shares.append(np.mean([(other < margin) + (other == margin) / 2 for other in alike]))
    return np.mean(shares)


def rank_p_value(ours, theirs, strata_s, strata_v):
    """By all ways to choose S within every stratum, one-sided."""
    values, strata = np.append(ours, theirs), np.append(strata_s, strata_v)
    member = np.arange(len(values)) < len(ours)
    ways = [
        list(itertools.combinations(np.flatnonzero(strata == stratum), size))
        for stratum in np.unique(strata)
        if (size := int(np.sum(member & (strata == stratum)))) >= 0
    ]
    observed, as_great, count = area(ours, theirs, strata_s, strata_v), 0, 0
    for chosen in itertools.product(*ways):
        mine = np.zeros(len(values), bool)
        mine[list(itertools.chain(*chosen))] = True
        by_chance = area(values[mine], values[~mine], strata[mine], strata[~mine])
        as_great += by_chance >= observed - 1e-9
        count += 1
    return as_great / count


def coverage(probabilities, calibration, alpha):
    """The share of examples whose true label is in the set, by counting the calibration's."""
    wanted = math.ceil((len(calibration) + 1) * (1 - alpha) - 1e-9)
    return np.mean(
        [
            sum(1 - other < 1 - p for other in calibration) < wanted or wanted > len(calibration)
            for p in probabilities
        ]
    )


def exposed(ours, theirs, rate):
    """The greatest share of S above a score of V, of those that V exceeds rarely enough."""
    shares = [
        np.mean(ours > threshold)
        for threshold in theirs
        if (1 + np.sum(theirs > threshold)) / (1 + len(theirs)) <= rate + 1e-12
    ]
    return max(shares, default=math.nan)


def neighbour_rank(forget, retain):
    """The mean share of R whose nearest other is at most as near as that of an example."""

    def cosine(a, b):
        return round(float(a @ b / math.sqrt((a @ a) * (b @ b))), 6)

    own = [
        max(cosine(each, other) for j, other in enumerate(retain) if j != i)
        for i, each in enumerate(retain)
    ]
    nearest = [max(cosine(each, other) for other in retain) for each in forget]
    return np.mean([np.mean([near <= mine for near in own]) for mine in nearest])


def one_run_probability(epsilon, right, guesses, coins, delta):
    """The right side of theorem 5.2, from sums of binomial coefficients."""
    q = 1 / (1 + math.exp(-epsilon))

    def tail(v):
        return sum(
            math.comb(guesses, k) * q**k * (1 - q) ** (guesses - k) for k in range(v, guesses + 1)
        )

    worst = max(((tail(right - i) - tail(right)) / i for i in range(1, right + 1)), default=0.0)
    return tail(right) + 2 * coins * delta * worst


def mc_nemar(rose, fell):
    """The probability that so many of all that crossed rise, one-sided."""
    crossed = rose + fell
    return sum(math.comb(crossed, k) for k in range(rose, crossed + 1)) / 2**crossed
