"""Audits written slowly: a loop over models and examples, and what is left out is left out."""

import itertools
import math

import numpy as np
from scipy import stats


def lira(
    targets, worlds, shadows, shadow_worlds, left_out, positive, negative, *, floor, shared=False
):
    """Scores of all pairs; NaN where a world has fewer than two models besides one's own."""

    def pooled(model, world):
        """The variance within examples, over all of them."""
        squares, degrees = 0.0, 0
        for example in range(shadows.shape[1]):
            member = shadow_worlds[:, example] == world
            if left_out[model] >= 0:
                member[left_out[model]] = False
            if member.sum() >= 2:
                squares += np.var(shadows[member, example]) * member.sum()
                degrees += member.sum() - 1
        return squares / degrees

    scores = np.full(targets.shape, np.nan)
    for model, example in np.ndindex(*targets.shape):
        densities = []
        for world in (positive, negative):
            chosen = [
                shadows[other, example]
                for other in range(len(shadows))
                if shadow_worlds[other, example] == world and other != left_out[model]
            ]
            if len(chosen) >= 2:
                variance = pooled(model, world) if shared else np.var(chosen, ddof=1)
                spread = math.sqrt(max(variance, floor))
                at = targets[model, example]
                densities.append(stats.norm.logpdf(at, np.mean(chosen), spread))
        if len(densities) == 2:
            scores[model, example] = densities[0] - densities[1]
    return scores


def rmia(targets, shadows, shadow_worlds, z_targets, z_shadows, left_out, gamma, offset=None):
    """Scores of all pairs, by a loop over z; offline with an offset, by the first world alone."""

    def probability(margin):
        return 1 / (1 + math.exp(-margin))

    scores = np.zeros(targets.shape)
    for model, example in np.ndindex(*targets.shape):
        others = [other for other in range(len(shadows)) if other != left_out[model]]
        by_world = [
            np.mean(
                [
                    probability(shadows[other, example])
                    for other in others
                    if shadow_worlds[other, example] == world
                ]
            )
            for world in (0, 1)
        ]
        typical = np.mean(by_world)
        if offset is not None:
            typical = ((1 + offset) * by_world[0] + 1 - offset) / 2
        ratio = probability(targets[model, example]) / typical
        beaten = 0
        for z in range(z_targets.shape[1]):
            typical = np.mean([probability(z_shadows[other, z]) for other in others])
            beaten += ratio / (probability(z_targets[model, z]) / typical) >= gamma
        scores[model, example] = beaten / z_targets.shape[1]
    return scores


def kernel_ratio(margins, worlds, positive, negative, rule="scott"):
    """Log-ratios of SciPy's kernel densities by a rule, each without the model itself."""
    scores = np.full(margins.shape, np.nan)
    for model, example in np.ndindex(*margins.shape):
        logs = []
        for world in (positive, negative):
            member = worlds[:, example] == world
            member[model] = False
            if member.sum() >= 2:
                density = stats.gaussian_kde(margins[member, example], bw_method=rule)
                logs.append(density.logpdf(margins[model, example])[0])
        if len(logs) == 2:
            scores[model, example] = logs[0] - logs[1]
    return scores


def klom(unlearned, oracles, *, bins=20, clip=100.0, floor=1e-5):
    """By NumPy's histograms, example by example."""
    found = []
    for ours, theirs in zip(unlearned.T, oracles.T, strict=True):
        ours, theirs = np.clip(ours, -clip, clip), np.clip(theirs, -clip, clip)
        ends = min(ours.min(), theirs.min()), max(ours.max(), theirs.max())
        if ends[0] == ends[1]:
            found.append(0.0)
            continue
        p, q = (
            np.maximum(np.histogram(each, bins, ends)[0] / len(each), floor)
            for each in (ours, theirs)
        )
        found.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return np.array(found)


def epsilon(ours, theirs, delta, cap):
    """By every threshold and every pair of them, between and beyond the values."""
    values = sorted({*ours, *theirs})
    cuts = [values[0] - 1, *((a + b) / 2 for a, b in itertools.pairwise(values)), values[-1] + 1]
    best = 0.0
    for low, high in itertools.combinations(cuts, 2):
        inside = [[low < each < high for each in side] for side in (ours, theirs)]
        for says in (inside, [[not each for each in side] for side in inside]):
            miss, alarm = 1 - np.mean(says[0]), np.mean(says[1])
            if miss == 0 and alarm == 0:
                return cap
            if miss == 0 or alarm == 0:
                continue
            for one, other in ((alarm, miss), (miss, alarm)):
                if 1 - delta - one > 0:
                    best = max(best, math.log(1 - delta - one) - math.log(other))
    return min(best, cap)
