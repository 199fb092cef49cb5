"""How far a model's softmax probabilities on S are from another model's.

From the oracle's, zero is best; from those of a model that knows nothing, it is not.
"""

import numpy as np

from rumjax.errors import InvalidInputError, check_floats
from rumjax.metrics.membership import check_probabilities


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Returns ½ KL(p‖m) + ½ KL(q‖m) of each example in nats, with m = (p + q)/2 and 0·log 0 = 0.

    (Lin, IEEE Transactions on Information Theory 1991, with equal weights.)

    Args:
      p: a model's probabilities, float[n, K], rows sum to 1.
      q: another's on the same examples.

    Returns:
      float64[n], in 0…log 2: 0 where both say the same, log 2 where neither gives any probability
      to what the other holds possible.

    Raises:
      InvalidInputError: no examples, two different shapes, or rows that are no probabilities.

    Examples:
      >>> p, q = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.5, 0.5]])
      >>> jensen_shannon(p, q).round(3)
      array([0.693, 0.   ])
    """
    from scipy.special import rel_entr

    p, q = _normalized(p, q)
    # Twice each against the sum, not each against the mean: half the smallest float is 0.
    divergence = (rel_entr(2 * p, p + q) + rel_entr(2 * q, p + q)).sum(axis=1) / 4
    return np.clip(divergence, 0.0, np.log(2))


def zero_retrain_forgetting(probabilities: np.ndarray, incompetent: np.ndarray) -> float:
    """Returns ZRF = 1 − mean JS(model, incompetent teacher) on S, WITH LOGARITHMS TO BASE 2.

    (Chundawat et al., AAAI 2023, arXiv 2205.08096.) The incompetent teacher is a randomly
    initialized model, and the score wants no oracle: near 1, the model says of S what one that has
    learned nothing says. That is no aim in itself, since an oracle generalizes to much of S; hold
    the score against the oracle's.

    To base 2 the score takes all of 0…1; to base e it would never be below 1 − log 2 = .307. The
    authors' program takes e and divides by the number of classes as well, so that its scores are
    nearer to 1 than these.

    Args:
      probabilities: the model's on S, float[n, K], rows sum to 1.
      incompetent: those of a model with freshly initialized parameters.

    Raises:
      InvalidInputError: as `jensen_shannon`.

    Examples:
      >>> zero_retrain_forgetting(np.array([[0.5, 0.5]]), np.array([[0.5, 0.5]]))
      1.0
    """
    return 1.0 - float(np.mean(jensen_shannon(probabilities, incompetent))) / float(np.log(2))


def activation_distance(probabilities: np.ndarray, reference: np.ndarray) -> float:
    """Returns the mean over S of ‖p − q‖₂, the distance from the oracle's probabilities, in 0…√2.

    (As in Chundawat et al., AAAI 2023, arXiv 2205.08096.)

    Args:
      probabilities: p, the unlearned model's on S, float[n, K], rows sum to 1.
      reference: q, the oracle's.

    Raises:
      InvalidInputError: as `jensen_shannon`.

    Examples:
      >>> round(activation_distance(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])), 3)
      1.414
    """
    p, q = _normalized(probabilities, reference)
    return float(np.mean(np.linalg.norm(p - q, axis=1)))


def _normalized(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both in float64, with rows that sum to 1 there too, as those of float32 do not."""
    p, q = check_floats("model", p, "n", "K"), check_floats("reference", q, "n", "K")
    if p.shape != q.shape or p.size == 0:
        raise InvalidInputError(
            f"divergence: probabilities of shape {list(p.shape)} against {list(q.shape)}; both "
            "must be [examples, classes], the same, of at least one example"
        )
    for name, probabilities in {"model": p, "reference": q}.items():
        check_probabilities(name, probabilities)
    p, q = p.astype(np.float64), q.astype(np.float64)
    return p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
