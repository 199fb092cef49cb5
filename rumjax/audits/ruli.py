"""RULI: likelihood ratios of kernel densities, in a game of privacy and one of efficacy."""

import numpy as np
from scipy.special import logsumexp

from rumjax.audits.likelihood_ratio import LEAST, Gaussian, fit, pairs_of
from rumjax.audits.population import (
    FORGOTTEN,
    OUT,
    Game,
    Population,
    check_examples,
    check_population,
)
from rumjax.errors import InvalidInputError, check_choice

RULES = {"scott": 1.0, "silverman": (4 / 3) ** 0.2}
"""by which the bandwidth is σ·m^(−1/5), σ the standard deviation of m margins"""
LEAST_BANDWIDTH = 0.01
"""in nats, by a rule: margins that agree to less say no more than that"""


def ruli_privacy(
    unlearned: Population, *, bandwidth: float | str = "scott", positive: int = FORGOTTEN
) -> Game:
    """The game of privacy: has an unlearned model forgotten an example, or never seen it?

    (Naderloui et al., USENIX Security 2025, arXiv 2506.13009, game 2.) As U-LiRA, with a kernel
    density of φ in place of a Gaussian: each example's in models that have forgotten it against
    that in models that never saw it. The model that is attacked is left out. Above 0, the attack
    says "forgotten".

    Args:
      unlearned: models after the same algorithm. The paper mixes vulnerable and protected
        examples, a third each of which is kept, forgotten and never seen.
      bandwidth: of Gaussian kernels: "scott" or "silverman", of the margins that each density is
        made of, or a number of nats. A rule is our choice; the authors' code has 1 nat everywhere.
      positive: `IN` asks how far examples that are retained can be told.

    Raises:
      InvalidInputError: margins that are not finite, an unknown rule, or no example of which both
        worlds have models enough.
    """
    check_population("unlearned", unlearned)
    return _play(unlearned, positive, bandwidth)


def ruli_efficacy(
    unlearned: Population, retrained: Population, *, bandwidth: float | str = "scott"
) -> Game:
    """The game of efficacy: is this an unlearned model, or one retrained without the example?

    (Naderloui et al., arXiv 2506.13009, game 3.) Kernel densities as in `ruli_privacy`: of φ in
    unlearned models that have forgotten the example, against that in retrained models which were
    to forget it. Above 0, the attack says "unlearned". Ours is that models are retrained without
    the very sets that others unlearn, and that each model in turn is the one attacked; the authors'
    code has models before unlearning, on examples that they never saw, for retrained ones.

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
    """
    check_population("unlearned", unlearned)
    check_population("retrained", retrained)
    check_examples("retrained", retrained, "the unlearned models'", unlearned)
    if not np.any(retrained.worlds == FORGOTTEN):
        raise InvalidInputError(
            "retrained: no example is FORGOTTEN; that is what examples are called here which a "
            "model was to forget, and so was retrained without"
        )
    # The same question as that of privacy, with retrained models for those that never saw it.
    sides = (
        np.where(each.worlds == FORGOTTEN, world, -1)
        for each, world in ((unlearned, FORGOTTEN), (retrained, OUT))
    )
    both = Population(
        np.concatenate([unlearned.margins, retrained.margins]),
        np.concatenate([*sides]).astype(np.int8),
    )
    return _play(both, FORGOTTEN, bandwidth)


def _play(models: Population, positive: int, bandwidth: float | str) -> Game:
    """Log-densities of each pair in the one world less those in the other, `OUT`."""
    margins, worlds = models.margins.astype(np.float64), (positive, OUT)
    themselves = np.arange(len(margins))
    fitted = [fit(models, models, world, themselves, "each", 0.0) for world in worlds]
    widths = [_widths(each, bandwidth) for each in fitted]
    enough = np.all([each.fitted >= LEAST for each in fitted], axis=0)
    scores = np.zeros(margins.shape)
    for example in np.flatnonzero(enough.any(axis=0)):
        own = models.worlds[:, example]
        asked = np.flatnonzero(enough[:, example] & np.isin(own, worlds))
        yes, no = (
            _log_density(
                margins[:, example], np.flatnonzero(own == world), asked, width[asked, example]
            )
            for world, width in zip(worlds, widths, strict=True)
        )
        scores[asked, example] = yes - no
    return pairs_of(models, scores, enough, positive, OUT, threshold=0.0)


def _log_density(
    margins: np.ndarray, members: np.ndarray, asked: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Of some models' margins on an example, among those of a world's other models; float64[m].

    Args:
      margins: φ of all models, float64[M].
      members: which are of the world, int[k].
      asked: which are to be told, int[m]; each has others among the members.
      width: of the kernels, float64[m].
    """
    apart = (margins[asked, None] - margins[members]) / width[:, None]
    themselves = asked[:, None] == members
    kernels = np.where(themselves, -np.inf, -(apart**2) / 2)
    others = np.sum(~themselves, axis=1)
    found: np.ndarray = logsumexp(kernels, axis=1)
    return found - np.log(others * width * np.sqrt(2 * np.pi))


def _widths(fitted: Gaussian, bandwidth: float | str) -> np.ndarray:
    """The bandwidth of the density that each model is held against, float64[M, n]."""
    if isinstance(bandwidth, str):
        factor = RULES[check_choice("bandwidth", bandwidth, RULES)]
        shrinking = np.maximum(fitted.fitted, 1) ** -0.2
        return np.maximum(factor * np.sqrt(fitted.variance) * shrinking, LEAST_BANDWIDTH)
    if not 0 < bandwidth < np.inf:
        raise InvalidInputError(f"bandwidth: wanted a rule or a positive number, got {bandwidth}")
    return np.full(fitted.variance.shape, float(bandwidth))
