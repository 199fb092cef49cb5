"""Tug of war: how close an unlearned model is to the oracle, on S, R and T at once."""

from typing import NamedTuple

from rumjax.errors import check_scalar


class Accuracies(NamedTuple):
    """A model's accuracy on the three sets, each in 0…1.

    Examples:
      >>> Accuracies(forget=0.5, retain=1.0, test=0.9).test
      0.9
    """

    forget: float
    retain: float
    test: float


def tug_of_war(unlearned: Accuracies, oracle: Accuracies) -> float:
    """Returns ToW = (1−Δ_S)·(1−Δ_R)·(1−Δ_T), Δ the absolute difference of accuracies; 1 is best.

    (Zhao et al., NeurIPS 2024, equation 3.)

    Raises:
      InvalidInputError: an accuracy outside 0…1.

    Examples:
      >>> tug_of_war(Accuracies(0.75, 1.0, 0.5), Accuracies(0.5, 1.0, 1.0))
      0.375
    """
    return _product(unlearned, oracle)


def tug_of_war_mia(
    unlearned: Accuracies, oracle: Accuracies, mia_unlearned: float, mia_oracle: float
) -> float:
    """Returns ToW-MIA = (1−|m_u−m_r|)·(1−Δ_R)·(1−Δ_T), m the attack's result on S; 1 is best.

    Raises:
      InvalidInputError: an accuracy or an attack's result outside 0…1.

    Examples:
      >>> tug_of_war_mia(Accuracies(0.75, 1.0, 0.5), Accuracies(0.5, 1.0, 1.0), 0.5, 0.75)
      0.375
    """
    return _product(unlearned._replace(forget=mia_unlearned), oracle._replace(forget=mia_oracle))


def _product(unlearned: Accuracies, oracle: Accuracies) -> float:
    """Multiplies one less the absolute difference over the three sets."""
    total = 1.0
    for name, ours, theirs in zip(Accuracies._fields, unlearned, oracle, strict=True):
        here, there = (
            check_scalar(f"accuracy on {name}", value, most=1.0) for value in (ours, theirs)
        )
        total *= 1 - abs(here - there)
    return total
