"""RULI: likelihood ratios of kernel densities, in a game of privacy and one of efficacy."""

import numpy as np

from rumjax.audits.likelihood_ratio import LEAST, Gaussian, fit, pairs_of
from rumjax.audits.population import (
    FORGOTTEN,
    OUT,
    Game,
    Population,
    check_examples,
    check_population,
)
from rumjax.errors import InvalidInputError, check_choice, check_scalar

RULES = {"scott": 1.0, "silverman": (4 / 3) ** 0.2}
"""Factors of the bandwidth σ·m^(−1/5), σ the standard deviation of m margins."""
LEAST_BANDWIDTH = 0.01
"""Least bandwidth by a rule, in nats: closer agreement is taken for chance."""


def ruli_privacy(
    unlearned: Population, *, bandwidth: float | str = "scott", positive: int = FORGOTTEN
) -> Game:
    """Plays the game of privacy: tells examples a model has forgotten from those it never saw.

    (Naderloui et al., USENIX Security 2025, arXiv 2506.13009, game 2.) Like U-LiRA, with a kernel
    density of φ in place of a Gaussian: that of models that have forgotten the example against that
    of models that never saw it. The model that is attacked is left out. Above 0, the attack
    says "forgotten".

    Args:
      unlearned: models after the same algorithm. The paper mixes vulnerable and protected
        examples, a third of which is kept, a third forgotten and a third never seen.
      bandwidth: of Gaussian kernels: "scott" or "silverman", of the margins that each density is
        made of, or a number of nats. A rule is our choice; the authors' code has 1 nat everywhere.
      positive: with `IN` the attack is on examples that are retained.

    Raises:
      InvalidInputError: margins that are not finite, an unknown rule, or no example of which both
        worlds have models enough.

    Examples:
      >>> from rumjax.audits import auc
      >>> worlds = np.tile([[OUT], [FORGOTTEN]], (8, 5)).astype(np.int8)
      >>> noise = np.random.default_rng(0).normal(size=worlds.shape)
      >>> game = ruli_privacy(Population(6.0 * (worlds == FORGOTTEN) + noise, worlds))
      >>> auc(game) > 0.9
      True
    """
    unlearned = check_population("unlearned", unlearned)
    return _play(unlearned, positive, bandwidth)


def ruli_efficacy(
    unlearned: Population, retrained: Population, *, bandwidth: float | str = "scott"
) -> Game:
    """Plays the game of efficacy: tells unlearned models from models retrained without the example.

    (Naderloui et al., arXiv 2506.13009, game 3.) Kernel densities as in `ruli_privacy`: of φ in
    unlearned models that have forgotten the example, against that in retrained models which were
    to forget it. Above 0, the attack says "unlearned". Here models are retrained without the very
    sets that others unlearn, and each model in turn is the one attacked; the authors' code uses
    models before unlearning, on examples that they never saw, in place of retrained ones.

    Args:
      unlearned: models after the same algorithm.
      retrained: models trained without what they are to forget, on the same examples; `FORGOTTEN`
        where an example was to be.
      bandwidth: see `ruli_privacy`.

    Returns:
      A game of M + M' models, the unlearned ones first.

    Raises:
      InvalidInputError: different examples, or no retrained model was to forget any; see
        `ruli_privacy` besides.

    Examples:
      >>> from rumjax.audits import auc
      >>> worlds = np.full((8, 5), FORGOTTEN, np.int8)
      >>> unlearned, retrained = np.random.default_rng(0).normal([[[6.0]], [[0.0]]], 1, (2, 8, 5))
      >>> auc(ruli_efficacy(Population(unlearned, worlds), Population(retrained, worlds))) > 0.9
      True
    """
    unlearned = check_population("unlearned", unlearned)
    retrained = check_population("retrained", retrained)
    check_examples("retrained", retrained, "the unlearned models'", unlearned)
    if not np.any(retrained.worlds == FORGOTTEN):
        raise InvalidInputError(
            "retrained: no example is FORGOTTEN; that is what examples are called here which a "
            "model was to forget, and so was retrained without"
        )
    # The same attack as that on privacy, with retrained models for those that never saw it.
    sides = (
        np.where(models.worlds == FORGOTTEN, world, -1)
        for models, world in ((unlearned, FORGOTTEN), (retrained, OUT))
    )
    both = Population(
        np.concatenate([unlearned.margins, retrained.margins]),
        np.concatenate([*sides]).astype(np.int8),
    )
    return _play(both, FORGOTTEN, bandwidth)


def _play(models: Population, positive: int, bandwidth: float | str) -> Game:
    """Scores pairs by their log-density in the positive world less that in the world `OUT`."""
    # The bandwidth of every pair in both worlds, and where there are models enough.
    margins, worlds = models.margins.astype(np.float64), (positive, OUT)
    themselves = np.arange(len(margins))
    fitted = [fit(models, models, world, themselves, "each", 0.0) for world in worlds]
    widths = [_widths(gaussians, bandwidth) for gaussians in fitted]
    enough = np.all([gaussians.fitted >= LEAST for gaussians in fitted], axis=0)

    # One example after another: its models of both worlds, against the densities of both.
    scores = np.zeros(margins.shape)
    for example in np.flatnonzero(enough.any(axis=0)):
        own = models.worlds[:, example]
        attacked = np.flatnonzero(enough[:, example] & np.isin(own, worlds))
        yes, no = (
            _log_density(
                margins[:, example],
                np.flatnonzero(own == world),
                attacked,
                width[attacked, example],
            )
            for world, width in zip(worlds, widths, strict=True)
        )
        scores[attacked, example] = yes - no
    return pairs_of(models, scores, enough, positive, OUT, threshold=0.0)


def _log_density(
    margins: np.ndarray, members: np.ndarray, attacked: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Returns log-densities of models' margins among those of a world's other models; float64[m].

    Args:
      margins: φ of all models on an example, float64[M].
      members: models of the world, int[k].
      attacked: models whose density is wanted, int[m]; each has others among the members.
      width: of the kernels, float64[m].
    """
    from scipy.special import logsumexp

    # Gaussian kernels about all members, but for a model's own.
    apart = (margins[attacked, None] - margins[members]) / width[:, None]
    themselves = attacked[:, None] == members
    kernels = np.where(themselves, -np.inf, -(apart**2) / 2)
    others = np.sum(~themselves, axis=1)
    total = np.asarray(logsumexp(kernels, axis=1))
    return total - np.log(others * width * np.sqrt(2 * np.pi))


def _widths(fitted: Gaussian, bandwidth: float | str) -> np.ndarray:
    """Returns the bandwidth of the density that every model is compared with, float64[M, n]."""
    if isinstance(bandwidth, str):
        # A rule: the wider, the fewer models there are.
        factor = RULES[check_choice("bandwidth", bandwidth, RULES)]
        shrinking = np.maximum(fitted.fitted, 1) ** -0.2
        return np.maximum(factor * np.sqrt(fitted.variance) * shrinking, LEAST_BANDWIDTH)
    if not check_scalar("bandwidth", bandwidth) > 0:
        raise InvalidInputError(f"bandwidth: wanted a rule or a positive number, got {bandwidth}")
    return np.full(fitted.variance.shape, float(bandwidth))
