"""Datamodels: linear predictions, from a bank, of how a model's outputs change without some data.

Ilyas et al. (ICML 2022); as targets of unlearning, Georgiev et al. (ICLR 2025). NumPy on the host.
"""

from typing import NamedTuple

import numpy as np

from rumjax.errors import (
    InvalidInputError,
    as_array,
    check_floats,
    check_indices,
    check_masks,
    check_scalar,
)

PENALTIES = np.logspace(-4, 6, 21)
"""Penalties that are compared, in units of the mean eigenvalue of the memberships' Gram matrix."""
JUDGES = 2048
"""Outputs by which a penalty is chosen, at most."""
BLOCK = 4096
"""Outputs that are worked on at a time, for the memory that they take."""


class Effect(NamedTuple):
    """The predicted effect of removing S on outputs, and how far to trust it.

    Examples:
      >>> Effect(*np.zeros((4, 1), np.float32), penalty=1.0).penalty
      1.0
    """

    values: np.ndarray
    """float32[X], the output without S less the output with it"""
    standard_error: np.ndarray
    """float32[X], of `values`, by what the bank's models differ in besides; no shrinkage counted"""
    residual: np.ndarray
    """float32[X], root mean squared error of predicting a model that was left out of the fit"""
    unshrunken: np.ndarray
    """float32[X], the standard error without any penalty; see `unshrunken_error`"""
    penalty: float
    """λ"""


def removal_effect(
    memberships: np.ndarray,
    outputs: np.ndarray,
    forget: np.ndarray,
    *,
    features: np.ndarray | None = None,
    own: np.ndarray | None = None,
    penalty: float | None = None,
) -> Effect:
    """Predicts by how much outputs change when S is removed from what models are trained on.

    An output is taken to be linear in who was trained on, y = a + Σ_j β_j x_j, with a ridge penalty
    λ ‖β‖². Then the effect of removing S is −k_Sᵀ (K + λI)⁻¹ (y − ȳ), where K is the Gram matrix of
    the centred memberships X, and k_S = Σ_{j∈S} X[:, j]: no matrix is larger than models by models,
    and those by outputs.

    With far fewer models than examples, the penalty shrinks what an example does to itself nearly
    to nothing, although that is most of the effect where S is memorized. `own` says which
    coefficient of an output is that of the very example, and is not penalized; `features` leaves
    examples out of the sum that are to count as noise. Both are ours.

    Args:
      memberships: bool[M, N], True where model m was trained on example n.
      outputs: float[M, X], of the same models, margins for instance.
      forget: S, distinct indices below N.
      features: the examples with a coefficient, distinct indices below N, with all of S among them;
        all by default.
      own: int[X], the example that an output is of, below N, or −1 where it is none of them; by
        default no example is told apart.
      penalty: λ; by default that of `PENALTIES` for which a model left out of the fit is predicted
        best, by the closed form.

    Raises:
      InvalidInputError: shapes that do not go with each other, fewer than 3 models, indices out of
        range, or S not among the features.

    Examples:
      >>> memberships = np.random.default_rng(0).random((40, 3)) < 0.5
      >>> outputs = memberships @ np.array([[2.0], [1.0], [0.0]])
      >>> removal_effect(memberships, outputs, [0, 1], penalty=1e-6).values.round(3)
      array([-3.], dtype=float32)
    """
    # Who was trained on, as far as it counts.
    memberships = check_masks("memberships", memberships, "models", "N")
    outputs = check_floats("outputs", outputs, "models", "X")
    models, size = memberships.shape
    if models < 3 or len(outputs) != models:
        raise InvalidInputError(
            f"datamodel: memberships of {models} models and outputs of {len(outputs)}; wanted the "
            "same 3 or more models in both"
        )
    forget = check_indices("forget set", forget, size, allow_empty=True)
    features = np.arange(size) if features is None else check_indices("features", features, size)
    if missing := np.setdiff1d(forget, features).size:
        raise InvalidInputError(f"datamodel: {missing} examples of S are not among the features")
    own = np.full(outputs.shape[1], -1) if own is None else _check_own(own, outputs, size)

    # The Gram matrix, on the complement of what all models have in common.
    ones = np.ones((models, 1))
    contrasts = np.linalg.qr(np.hstack([ones, np.eye(models)[:, :-1]]))[0][:, 1:]
    seen = contrasts.T @ memberships[:, features]
    values, vectors = np.linalg.eigh(seen @ seen.T)
    fit = _Fit(np.maximum(values, 0), contrasts @ vectors, memberships, forget)

    # The penalty, by outputs that stand for all.
    if penalty is None:
        judges = np.arange(0, outputs.shape[1], -(-outputs.shape[1] // JUDGES) or 1)
        unit = max(float(values.mean()), float(np.finfo(np.float32).tiny))
        tried = [unit * float(one) for one in PENALTIES]
        errors = [np.mean(fit.block(one, outputs[:, judges], own[judges])[2]) for one in tried]
        penalty = tried[int(np.argmin(errors))]
    penalty = check_scalar("penalty", penalty)
    if penalty == 0:
        raise InvalidInputError("penalty: wanted a number above 0, got 0; a tiny one is like none")

    # The effect on all outputs, a block at a time.
    starts = range(0, outputs.shape[1], BLOCK)
    blocks = [
        fit.block(penalty, outputs[:, first : first + BLOCK], own[first : first + BLOCK])
        for first in starts
    ]
    effects, weights, squares = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    residual = np.sqrt(squares)
    share = float(memberships[:, forget].mean()) if len(forget) else 0.5
    unshrunken = unshrunken_error(outputs.std(axis=0), len(forget), models, share)
    return Effect(
        values=effects.astype(np.float32),
        standard_error=(residual * weights).astype(np.float32),
        residual=residual.astype(np.float32),
        unshrunken=unshrunken.astype(np.float32),
        penalty=penalty,
    )


def unshrunken_error(
    spread: np.ndarray, forget: int, models: int, share: float = 0.5
) -> np.ndarray:
    """Returns the standard error of an effect of S that no penalty shrinks.

    Each coefficient is a difference of means over the models that saw an example and those that
    did not: σ √(|S| / (M ρ (1 − ρ))) for their sum, which is σ √(4 |S| / M) where ρ is a half. With
    400 models it is σ itself for 100 examples.

    Args:
      spread: σ, the standard deviation of the output over the models, any shape.
      forget: |S|.
      models: M.
      share: ρ, of the models that saw an example, between 0 and 1.

    Examples:
      >>> unshrunken_error(np.array([1.0]), 100, 400)
      array([1.])
    """
    scale = np.sqrt(forget / max(models * share * (1 - share), np.finfo(np.float64).tiny))
    return np.asarray(spread) * scale


class _Fit(NamedTuple):
    """Ridge regressions of outputs on memberships, for any penalty."""

    spectrum: np.ndarray
    """float64[M − 1], eigenvalues of the Gram matrix of the centred memberships"""
    vectors: np.ndarray
    """float64[M, M − 1], their eigenvectors, all of which sum to 0"""
    memberships: np.ndarray
    """bool[M, N]"""
    forget: np.ndarray
    """int32[S]"""

    def block(
        self, penalty: float, outputs: np.ndarray, own: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what is said of some outputs: effects, norms of weights, squared errors.

        An effect is a weighted sum of the models' outputs; its weights' norm is how much of a
        model's own noise it has. The errors are means over the models, each left out in turn.
        """
        # P y for P = (K + λI)⁻¹ on centred outputs, by eigenvectors.
        shrunken = 1 / (self.spectrum + penalty)

        def solved(columns: np.ndarray) -> np.ndarray:
            result: np.ndarray = self.vectors @ (shrunken[:, None] * (self.vectors.T @ columns))
            return result

        diagonal = (self.vectors**2 @ shrunken)[:, None]
        solution = solved(outputs)

        # An output's own example is partialled out of all that.
        one = self.memberships[:, own].astype(np.float64) * (own >= 0)
        direction = solved(one)
        length = (one * direction).sum(axis=0)
        divisor = np.where(length > 1e-12 * shrunken.max(), length, np.inf)
        slope = (one * solution).sum(axis=0) / divisor
        solution = solution - direction * slope
        diagonal = diagonal - direction**2 / divisor

        # The effect, and the weights by which it is a sum over models.
        total = self.memberships[:, self.forget].sum(axis=1).astype(np.float64)
        removed = np.isin(own, self.forget)
        effects = -(removed * slope + total @ solution)
        along = (removed - total @ direction) / divisor
        weights = solved(total[:, None]) + direction * along
        lengths = np.linalg.norm(weights, axis=0)

        # A residual over the diagonal is the error on a model that is left out.
        errors = solution / np.maximum(diagonal, 1e-12 * shrunken.max())
        return effects, lengths, np.mean(errors**2, axis=0)


def _check_own(own: np.ndarray, outputs: np.ndarray, size: int) -> np.ndarray:
    """Returns which example each output is of, int[X], if they are."""
    own = as_array("own", own)
    if own.shape != outputs.shape[1:] or own.dtype.kind not in "iu":
        raise InvalidInputError(
            f"own: wanted an index for each of {outputs.shape[1]} outputs, got "
            f"{own.dtype}{list(own.shape)}"
        )
    if own.size and not -1 <= own.min() <= own.max() < size:
        raise InvalidInputError(f"own: wanted indices below {size}, or -1, got {own.min()}…")
    return own
