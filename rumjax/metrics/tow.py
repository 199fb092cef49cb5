"""Tug of war: how close an unlearned model is to the oracle, on S, R and T at once."""

from typing import NamedTuple

import numpy as np

from rumjax.errors import check_number


class Accuracies(NamedTuple):
    """A model's accuracy on the three sets, each in 0…1."""

    forget: float
    retain: float
    test: float


def tug_of_war(unlearned: Accuracies, oracle: Accuracies) -> float:
    """ToW = (1−Δ_S)·(1−Δ_R)·(1−Δ_T), with Δ the absolute difference of accuracies; 1 is best.

    (Zhao et al., NeurIPS 2024, equation 3.)

    Raises:
      InvalidInputError: an accuracy outside 0…1.
    """
    return _product(unlearned, oracle)


def tug_of_war_mia(
    unlearned: Accuracies, oracle: Accuracies, mia_unlearned: float, mia_oracle: float
) -> float:
    """ToW-MIA = (1−|m_u−m_r|)·(1−Δ_R)·(1−Δ_T), with m the attack's result on S; 1 is best.

    Raises:
      InvalidInputError: an accuracy or an attack's result outside 0…1.
    """
    return _product(unlearned._replace(forget=mia_unlearned), oracle._replace(forget=mia_oracle))


def _product(unlearned: Accuracies, oracle: Accuracies) -> float:
    total = 1.0
    for name, ours, theirs in zip(Accuracies._fields, unlearned, oracle, strict=True):
        check_number(f"accuracy on {name}", np.array([ours, theirs]), most=1.0)
        total *= 1 - abs(ours - theirs)
    return total
