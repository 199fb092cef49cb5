"""RULI: likelihood ratios of kernel densities, in a game of privacy and one of efficacy."""

import numpy as np
from scipy.special import logsumexp

from rumjax.audits.lira import LEAST, pairs_of
from rumjax.audits.population import FORGOTTEN, OUT, Game, Population, check_population
from rumjax.errors import InvalidInputError, check_choice

RULES = {"scott": 1.0, "silverman": (4 / 3) ** 0.2}
"""by which the bandwidth is σ·m^(−1/5), σ the standard deviation of m margins"""
LEAST_BANDWIDTH = 0.01
"""in nats: margins that agree to less say no more than that"""


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
        made of, or a number of nats. The rule is ours.
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

    (Naderloui et al., arXiv 2506.13009, game 1, which asks whether unlearning can be told from
    retraining; pairing models of both kinds by the example is ours.) Kernel densities as in
    `ruli_privacy`: of φ in unlearned models that have forgotten the example, against that in
    retrained models which were to forget it. Above 0, the attack says "unlearned".

    Args:
      unlearned: models after the same algorithm.
      retrained: models trained without what they are to forget, on the same examples; `FORGOTTEN`
        where an example was to be.
      bandwidth: see `ruli_privacy`.

    Returns:
      A game of M + M' models, the unlearned ones first.

    Raises:
      InvalidInputError: different examples; see `ruli_privacy` besides.
    """
    check_population("unlearned", unlearned)
    check_population("retrained", retrained)
    if unlearned.margins.shape[1] != retrained.margins.shape[1]:
        raise InvalidInputError(
            f"retrained: margins of {retrained.margins.shape[1]} examples, but the unlearned "
            f"models' are of {unlearned.margins.shape[1]}"
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
    margins = models.margins.astype(np.float64)
    members = [models.worlds == world for world in (positive, OUT)]
    densities = [
        np.stack(
            [
                _log_density(margins[:, example], member[:, example], bandwidth)
                for example in range(margins.shape[1])
            ],
            axis=1,
        )
        for member in members
    ]
    counts = (member.sum(axis=0) - member for member in members)
    enough = np.all([count >= LEAST for count in counts], axis=0)
    scores = np.where(enough, densities[0] - densities[1], 0.0)
    return pairs_of(models, scores, enough, positive, OUT, threshold=0.0)


def _log_density(margins: np.ndarray, member: np.ndarray, bandwidth: float | str) -> np.ndarray:
    """Of each model, the log-density of its margin among those of the members but itself.

    Args:
      margins: φ of one example, float64[M].
      member: which models make up the density, bool[M].
      bandwidth: see `ruli_privacy`.
    """
    others = np.broadcast_to(member, (len(margins), len(margins))) & ~np.eye(
        len(margins), dtype=bool
    )
    count = np.maximum(others.sum(axis=1), 1)
    width = _bandwidth(margins, others, count, bandwidth)[:, None]
    apart = (margins[:, None] - margins[None, :]) / width
    kernels = np.where(others, -(apart**2) / 2, -np.inf)
    with np.errstate(divide="ignore"):
        return logsumexp(kernels, axis=1) - np.log(count * width[:, 0] * np.sqrt(2 * np.pi))


def _bandwidth(
    margins: np.ndarray, others: np.ndarray, count: np.ndarray, bandwidth: float | str
) -> np.ndarray:
    """Of the density around each model, float64[M]."""
    if isinstance(bandwidth, str):
        factor = RULES[check_choice("bandwidth", bandwidth, RULES)]
        mean = (others @ margins) / count
        squares = np.sum(np.where(others, (margins[None, :] - mean[:, None]) ** 2, 0.0), axis=1)
        spread = np.sqrt(squares / np.maximum(count - 1, 1))
        return np.maximum(factor * spread * count**-0.2, LEAST_BANDWIDTH)
    if not bandwidth > 0:
        raise InvalidInputError(f"bandwidth: wanted a rule or a positive number, got {bandwidth}")
    return np.full(len(margins), float(bandwidth))
