"""The empirical Fisher and its inverse as explicit d×d matrices, in float64."""

import numpy as np


def solve(rows, vector, damping):
    """(F + λI)⁻¹ v with F the mean of the outer products of float64[N, d] rows."""
    fisher = sum(np.outer(row, row) for row in rows) / len(rows)
    return np.linalg.solve(fisher + damping * np.eye(len(vector)), vector)


def recursion(rows, damping):
    """(F + λI)⁻¹ by adding one example after another (Singh & Alistarh, NeurIPS 2020)."""
    inverse = np.eye(rows.shape[1]) / damping
    for row in rows:
        along = inverse @ row
        inverse = inverse - np.outer(along, along) / (len(rows) + row @ along)
    return inverse
