"""The entanglement of two sets of examples in a model's embedding space. NumPy on the host."""

import numpy as np

from rumjax.errors import (
    InvalidInputError,
    check_choice,
    check_floats,
    check_indices,
    check_scalar,
)

GRAND_MEANS = ("all", "unweighted")
BLOCK = 1024
"""Rows of a kernel matrix that are computed at a time, which bounds memory."""


def entanglement_score(
    embeddings: np.ndarray,
    forget: np.ndarray,
    retain: np.ndarray,
    *,
    grand_mean: str = "all",
) -> float:
    """Returns ES(R, S), the variance within the two sets over that between them; high is hard.

    ES = [1/|R| Σ_R ‖φ−μ_R‖² + 1/|S| Σ_S ‖φ−μ_S‖²] / [½(‖μ_R−μ‖² + ‖μ_S−μ‖²)]
    (Zhao et al., NeurIPS 2024, equation 2, after Goldblum et al., ICML 2020.)

    Args:
      embeddings: φ, float[N, E], of the original model, without augmentation.
      forget: indices of S.
      retain: indices of R.
      grand_mean: μ; "all" for the mean over R ∪ S, which the paper defines, or "unweighted" for the
        mean of μ_R and μ_S, which some published figures were computed with and which is larger.

    Raises:
      InvalidInputError: an empty set, embeddings that are not finite, or an unknown grand mean.

    Examples:
      >>> embeddings = np.array([[0.0], [2.0], [10.0], [12.0]])
      >>> entanglement_score(embeddings, forget=[0, 1], retain=[2, 3])
      0.08
      >>> entanglement_score(embeddings, forget=[0, 3], retain=[1, 2])
      inf
    """
    check_choice("grand mean", grand_mean, GRAND_MEANS)
    kept, gone = _embedded(embeddings, retain, forget)

    # The means of R, S and all.
    mean_kept, mean_gone = kept.mean(axis=0), gone.mean(axis=0)
    if grand_mean == "all":
        mean = (len(kept) * mean_kept + len(gone) * mean_gone) / (len(kept) + len(gone))
    else:
        mean = (mean_kept + mean_gone) / 2

    # The variances within and between the sets.
    within = np.mean(np.sum((kept - mean_kept) ** 2, axis=1))
    within += np.mean(np.sum((gone - mean_gone) ** 2, axis=1))
    between = (np.sum((mean_kept - mean) ** 2) + np.sum((mean_gone - mean) ** 2)) / 2
    return float(within / between) if between > 0 else float("inf")


def distances(embeddings: np.ndarray) -> np.ndarray:
    """Returns ‖φ − μ‖ of every example, μ the mean of all; float32[N] of float[N, E].

    The nearer to the mean, the more entangled (Zhao et al., NeurIPS 2024, section 4).

    Raises:
      InvalidInputError: embeddings that are not finite, or none.

    Examples:
      >>> distances(np.array([[0.0, 0.0], [6.0, 8.0]]))
      array([5., 5.], dtype=float32)
    """
    exact = _check_embeddings(embeddings).astype(np.float64)
    return np.linalg.norm(exact - exact.mean(axis=0), axis=1).astype(np.float32)


def mmd_squared(
    embeddings: np.ndarray,
    forget: np.ndarray,
    retain: np.ndarray,
    *,
    gamma: float | str = 1.0,
) -> float:
    """Returns MMD² = E k(R,R′) + E k(S,S′) − 2 E k(R,S), k(a,b) = exp(−γ‖a−b‖²); falls as ES rises.

    The means are over all pairs, an example with itself included (Gretton et al., JMLR 2012,
    equation 5), a block of rows at a time.

    Args:
      embeddings: φ, float[N, E].
      forget: indices of S.
      retain: indices of R.
      gamma: γ, or "median" for 1 over the median squared distance between the two sets.

    Raises:
      InvalidInputError: an empty set, embeddings that are not finite, or γ not above 0.

    Examples:
      >>> embeddings = np.array([[0.0], [0.0], [9.0]])
      >>> mmd_squared(embeddings, forget=[0], retain=[1])
      0.0
      >>> round(mmd_squared(embeddings, forget=[0], retain=[2]), 3)
      2.0
    """
    from scipy.spatial.distance import cdist

    kept, gone = _embedded(embeddings, retain, forget)
    if gamma == "median":
        gamma = 1 / max(float(np.median(cdist(kept, gone, "sqeuclidean"))), 1e-12)
    elif isinstance(gamma, str):
        raise InvalidInputError(f'gamma: wanted a number or "median", got {gamma!r}')
    rate = check_scalar("gamma", gamma)
    if rate < 1e-30:
        raise InvalidInputError(f"gamma: wanted a number above 0, got {gamma}")

    # The mean of k over all pairs, a block of rows at a time.
    def mean_kernel(rows: np.ndarray, columns: np.ndarray) -> float:
        total = 0.0
        for first in range(0, len(rows), BLOCK):
            squared = cdist(rows[first : first + BLOCK], columns, "sqeuclidean")
            total += float(np.exp(-rate * squared).sum())
        return total / (len(rows) * len(columns))

    return mean_kernel(kept, kept) + mean_kernel(gone, gone) - 2 * mean_kernel(kept, gone)


def _embedded(
    embeddings: np.ndarray, retain: np.ndarray, forget: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the embeddings of R and of S in float64, if there are any and all are finite."""
    embeddings = _check_embeddings(embeddings)
    kept = check_indices("entanglement, retain set", retain, len(embeddings))
    gone = check_indices("entanglement, forget set", forget, len(embeddings))
    return embeddings[kept].astype(np.float64), embeddings[gone].astype(np.float64)


def _check_embeddings(embeddings: np.ndarray) -> np.ndarray:
    """Returns embeddings [N, E], if there are any and all are finite."""
    embeddings = check_floats("embeddings", embeddings, "N", "E")
    if embeddings.size == 0:
        raise InvalidInputError(
            f"embeddings: wanted [N, E], both at least 1, got {list(embeddings.shape)}; the model "
            "must return its penultimate layer besides its logits"
        )
    return embeddings
