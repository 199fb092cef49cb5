"""Gradients over whole subsets in bounded memory: means, per-example ones, the Fisher.

All are taken with the running batch-norm statistics (`train=False`), so that one example's gradient
does not depend on its neighbors. Everything here is pure and may be compiled, vmapped or mapped.
"""

from rumjax.gradients.diagonal import (
    batch_squared_gradient,
    mean_output_sensitivity,
    mean_squared_gradient,
    true_fisher_diagonal,
)
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
    "batch_squared_gradient",
    "example_losses",
    "fisher_solve",
    "gradient_rows",
    "gram_evaluations",
    "gram_matrix",
    "loss_curvature",
    "mean_gradient",
    "mean_gradient_magnitude",
    "mean_output_sensitivity",
    "mean_squared_gradient",
    "mean_weights",
    "members",
    "per_example_gradients",
    "self_influence",
    "sum_over",
    "true_fisher_diagonal",
    "weighted_gradient",
]
