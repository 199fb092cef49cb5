"""RMIA: compares an example's likelihood ratio with those of examples that no model has seen."""

import numpy as np

from rumjax.audits.likelihood_ratio import check_left_out, pairs_of
from rumjax.audits.population import (
    FORGOTTEN,
    IN,
    OUT,
    Game,
    Population,
    check_examples,
    check_margins,
    check_population,
)
from rumjax.errors import InvalidInputError, as_array, check_scalar

GAMMA = 2.0
"""By which factor an example has to exceed others."""


def rmia(
    targets: Population,
    shadows: Population,
    unseen_by_targets: np.ndarray,
    unseen_by_shadows: np.ndarray,
    *,
    gamma: float = GAMMA,
    left_out: np.ndarray | None = None,
    positive: int = FORGOTTEN,
    negative: int = OUT,
) -> Game:
    """Plays RMIA online: scores by Pr_z[(p(x|θ)/p(x)) / (p(z|θ)/p(z)) ≥ γ] over unseen examples z.

    (Zarifzadeh et al., ICML 2024, arXiv 2312.03262, equations 2 to 4.) p(x|θ) is the probability of
    the true label; p(x) its mean over the shadows, those that saw x and those that did not counting
    the same; p(z) its mean over all of them. The score has no threshold of its own.

    Args:
      targets: the models that are attacked, on n examples x.
      shadows: models that were trained with or without each x.
      unseen_by_targets: φ of examples z that no model has seen, float[M, Z].
      unseen_by_shadows: the same by the shadows, float[M', Z].
      gamma: γ, 1 or more.
      left_out: of each target, the row of `shadows` that it came from, which is left out; int[M],
        −1 for none.
      positive: the targets' world that the attack is to detect.
      negative: the targets' other world.

    Raises:
      InvalidInputError: margins that are not finite or of different examples, γ below 1, or no
        example that some shadows saw and others did not.

    Examples:
      >>> from rumjax.audits import auc
      >>> seen = np.tile([[OUT], [IN]], (8, 5)).astype(np.int8)
      >>> random = np.random.default_rng(0)
      >>> shadows = Population(4.0 * seen + random.normal(size=seen.shape), seen)
      >>> targets = Population(4.0 * seen + random.normal(size=seen.shape), seen)
      >>> unseen = random.normal(size=(2, 16, 30))
      >>> auc(rmia(targets, shadows, *unseen, positive=IN)) > 0.9
      True
    """
    targets, shadows, unseen_by_targets, unseen_by_shadows, kept = _checked(
        targets, shadows, unseen_by_targets, unseen_by_shadows, left_out
    )

    # p(x): the mean over both worlds of the shadows, which count the same.
    probabilities = np.exp(log_probability(shadows.margins))
    by_world, counts = [], []
    for world in (IN, OUT):
        member = (shadows.worlds == world).astype(np.float64)
        counts.append(kept @ member)
        by_world.append(kept @ (probabilities * member) / np.maximum(counts[-1], 1))
    typical = (by_world[0] + by_world[1]) / 2

    # The attack needs a shadow of both worlds.
    scores = _scores(targets, typical, unseen_by_targets, unseen_by_shadows, kept, gamma)
    enough = (counts[0] > 0) & (counts[1] > 0)
    return pairs_of(targets, scores, enough, positive, negative, threshold=None, least=1)


def offline_rmia(
    targets: Population,
    shadows: Population,
    unseen_by_targets: np.ndarray,
    unseen_by_shadows: np.ndarray,
    *,
    offset: float = 0.3,
    gamma: float = GAMMA,
    left_out: np.ndarray | None = None,
    positive: int = FORGOTTEN,
    negative: int = OUT,
) -> Game:
    """Plays RMIA offline: p(x) = ½((1+a)·p_out(x) + 1−a), by shadows that never saw x alone.

    (Zarifzadeh et al., ICML 2024, appendix B.2.2.) p(z) is the mean over the shadows, as online;
    the authors' code computes it like p(x), since no shadow has seen z. Arguments and errors are
    those of `rmia`.

    Args:
      targets: see `rmia`.
      shadows: see `rmia`.
      unseen_by_targets: see `rmia`.
      unseen_by_shadows: see `rmia`.
      offset: a, in 0…1: the smaller, the more an example's probability is taken to rise once a
        model has seen it.
      gamma: see `rmia`.
      left_out: see `rmia`.
      positive: see `rmia`.
      negative: see `rmia`.

    Examples:
      >>> from rumjax.audits import auc
      >>> seen = np.tile([[OUT], [IN]], (8, 5)).astype(np.int8)
      >>> random = np.random.default_rng(0)
      >>> shadows = Population(random.normal(size=seen.shape), np.zeros_like(seen))
      >>> targets = Population(4.0 * seen + random.normal(size=seen.shape), seen)
      >>> unseen = random.normal(size=(2, 16, 30))
      >>> auc(offline_rmia(targets, shadows, *unseen, positive=IN)) > 0.9
      True
    """
    offset = check_scalar("offset", offset, most=1.0)
    targets, shadows, unseen_by_targets, unseen_by_shadows, kept = _checked(
        targets, shadows, unseen_by_targets, unseen_by_shadows, left_out
    )

    # p(x): between the mean over shadows that never saw x, and 1.
    member = (shadows.worlds == OUT).astype(np.float64)
    counts = kept @ member
    out = kept @ (np.exp(log_probability(shadows.margins)) * member) / np.maximum(counts, 1)
    typical = ((1 + offset) * out + 1 - offset) / 2
    scores = _scores(targets, typical, unseen_by_targets, unseen_by_shadows, kept, gamma)
    return pairs_of(targets, scores, counts > 0, positive, negative, threshold=None, least=1)


def log_probability(margins: np.ndarray) -> np.ndarray:
    """Returns log p = −log(1 + exp(−φ)) of the true label, in float64."""
    return -np.logaddexp(0.0, -margins.astype(np.float64))


def _scores(
    targets: Population,
    typical: np.ndarray,
    unseen_by_targets: np.ndarray,
    unseen_by_shadows: np.ndarray,
    kept: np.ndarray,
    gamma: float,
) -> np.ndarray:
    """Returns the share of z that x exceeds by γ, float64[M, n]."""
    if check_scalar("gamma", gamma) < 1:
        raise InvalidInputError(f"gamma: wanted a number of at least 1, got {gamma}")

    # Logarithms of the ratios p(x|θ)/p(x) and p(z|θ)/p(z), the latter sorted.
    tiny = np.finfo(np.float64).tiny
    others = kept @ np.exp(log_probability(unseen_by_shadows)) / kept.sum(axis=1, keepdims=True)
    of_x = log_probability(targets.margins) - np.log(np.maximum(typical, tiny))
    of_z = np.sort(log_probability(unseen_by_targets) - np.log(np.maximum(others, tiny)), axis=1)

    # Of how many z the ratio is γ times smaller.
    exceeded = [
        np.searchsorted(z, x - np.log(gamma), side="right") for x, z in zip(of_x, of_z, strict=True)
    ]
    return np.stack(exceeded) / of_z.shape[1]


def _checked(
    targets: Population,
    shadows: Population,
    unseen_by_targets: np.ndarray,
    unseen_by_shadows: np.ndarray,
    left_out: np.ndarray | None,
) -> tuple[Population, Population, np.ndarray, np.ndarray, np.ndarray]:
    """Returns what an attack is given, checked, and 1 where a shadow counts, float64[M, M']."""
    # Populations, and the margins of examples that no model has seen.
    targets = check_population("targets", targets)
    shadows = check_population("shadows", shadows)
    left_out = check_left_out(left_out, targets, shadows)
    unseen_by_targets = as_array("unseen_by_targets", unseen_by_targets)
    unseen_by_shadows = as_array("unseen_by_shadows", unseen_by_shadows)
    for name, models, unseen in (
        ("unseen_by_targets", len(targets.margins), unseen_by_targets),
        ("unseen_by_shadows", len(shadows.margins), unseen_by_shadows),
    ):
        if unseen.ndim != 2 or len(unseen) != models or unseen.shape[1] == 0:
            raise InvalidInputError(
                f"{name}: margins are {unseen.shape}; wanted {models} models and an example or more"
            )
        check_margins(name, unseen)
    check_examples("shadows", shadows, "the targets'", targets)
    if unseen_by_targets.shape[1] != unseen_by_shadows.shape[1]:
        raise InvalidInputError("rmia: targets and shadows must be of the same examples z")

    # Every shadow counts for every target but its own.
    kept = np.ones((len(targets.margins), len(shadows.margins)))
    if left_out is not None:
        has_shadow = np.flatnonzero(left_out >= 0)
        kept[has_shadow, left_out[has_shadow]] = 0.0
    if not kept.any(axis=1).all():
        raise InvalidInputError("rmia: a target has no shadow besides the one that is left out")
    return targets, shadows, unseen_by_targets, unseen_by_shadows, kept
