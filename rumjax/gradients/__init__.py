"""Gradients over whole subsets in bounded memory: means, per-example ones, and the damped Fisher.

All are taken with the running batch-norm statistics (`train=False`), so that one example's gradient
does not depend on its neighbors. Everything here is pure and may be compiled, vmapped or mapped.
"""

from rumjax.gradients.examples import (
    example_losses,
    loss_curvature,
    per_example_gradients,
    self_influence,
)
from rumjax.gradients.fisher import (
    Rows,
    fisher_solve,
    gradient_rows,
    gram_evaluations,
    gram_matrix,
)
from rumjax.gradients.subsets import (
    mean_gradient,
    mean_gradient_magnitude,
    mean_weights,
    members,
    sum_over,
    weighted_gradient,
)

__all__ = [
    "Rows",
    "example_losses",
    "fisher_solve",
    "gradient_rows",
    "gram_evaluations",
    "gram_matrix",
    "loss_curvature",
    "mean_gradient",
    "mean_gradient_magnitude",
    "mean_weights",
    "members",
    "per_example_gradients",
    "self_influence",
    "sum_over",
    "weighted_gradient",
]
