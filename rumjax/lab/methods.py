"""Methods as configurations write them: a refinement, an unlearner for each part, an order.

They are written with `vanilla`, `shuffle`, `rum_f` and `rum`: four values of one form.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rumjax.errors import InvalidInputError
from rumjax.lab.options import Options

if TYPE_CHECKING:  # configurations are read without the library, which takes its time
    from rumjax.types import Unlearner

LEVELS = ("low", "medium", "high")
"""Of `rumjax.refine`: the parts by memorization."""
SCORES = (
    "memorization",
    "c_proxy",
    "max_confidence",
    "entropy",
    "binary_accuracy",
    "holdout_retraining",
    "loss_curvature",
    "self_influence",
)
"""Memorization, and the proxies of `rumjax.scores`."""
REFINEMENTS = ("whole", "random", "class", "entanglement", "rescored", *SCORES)
"""What a forget set may be refined by, besides scores and refinements of your own.

"entanglement" is nearness to the mean embedding. "rescored" is hold-out retraining of the very
model that is to forget, which is not θo once requests have come before."""
SHUFFLED = ("first", "second", "third")


def vanilla(unlearner: Options) -> dict[str, Any]:
    """Writes a method that runs an unlearner once, on all of S.

    Examples:
      >>> vanilla({"algorithm": "finetune", "epochs": 1})["select"]
      {'all': {'algorithm': 'finetune', 'epochs': 1}}
    """
    return _method("vanilla", "whole", {"all": unlearner}, ("all",))


def shuffle(*unlearners: Options, parts: Sequence[str] = SHUFFLED) -> dict[str, Any]:
    """Writes a method of one algorithm on random parts of S in sequence: the control for RUM^F.

    Args:
      *unlearners: one for all parts, or one for each, which may differ in numbers.
      parts: the names of the parts.

    Examples:
      >>> method = shuffle({"algorithm": "finetune", "epochs": 1})
      >>> method["refine"], method["parts"]
      ('random', ('first', 'second', 'third'))
    """
    return _method("shuffle", "random", _one_algorithm(unlearners, parts), parts)


def rum_f(
    *unlearners: Options,
    refine: str = "memorization",
    parts: Sequence[str] = LEVELS,
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes RUM^F: one algorithm on parts of S in sequence, lowest scores first by default.

    Args:
      *unlearners: one for all parts, or one for each, which may differ in numbers.
      refine: one of `REFINEMENTS`, a score of your own, or "package.module:factory".
      parts: the names of the parts, by ascending score.
      order: the order of unlearning; that of `parts` by default.

    Examples:
      >>> method = rum_f({"algorithm": "salun", "epochs": 1}, order=("high", "medium", "low"))
      >>> method["refine"], method["order"]
      ('memorization', ('high', 'medium', 'low'))
    """
    return _method("rum_f", refine, _one_algorithm(unlearners, parts), parts, order)


def rum(
    select: Mapping[str, Options],
    *,
    refine: str = "memorization",
    parts: Sequence[str] = LEVELS,
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes RUM: an unlearner for each part, on the parts in sequence; see `rum_f`.

    Examples:
      >>> nothing, salun = {"algorithm": "original"}, {"algorithm": "salun", "epochs": 1}
      >>> rum({"low": nothing, "medium": salun, "high": salun})["select"]["low"]
      {'algorithm': 'original'}
    """
    return _method("rum", refine, select, parts, order)


def within(
    method: Options,
    *,
    budget: float | None = None,
    retain_share: float | Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Writes a method that has a budget of its own, or retains less.

    Args:
      method: as `vanilla` and its siblings write it.
      budget: of the gradients of retraining, what it may take at most, in place of the run's.
      retain_share: of R and of later parts, what each step draws at random, so that a pass over it
        takes less than an epoch; one share for all parts, or one for each.

    Examples:
      >>> within(vanilla({"algorithm": "finetune", "epochs": 1}), budget=0.05)["budget"]
      0.05
    """
    given = {"budget": budget, "retain_share": retain_share}
    return {**method, **{key: value for key, value in given.items() if value is not None}}


def _one_algorithm(unlearners: Sequence[Options], parts: Sequence[str]) -> dict[str, Options]:
    if len(unlearners) == 1:
        unlearners = [*unlearners] * len(parts)
    algorithms = {str(each.get("algorithm")) for each in unlearners}
    if len(unlearners) != len(parts) or len(algorithms) != 1:
        raise InvalidInputError(
            f"{len(unlearners)} unlearners ({', '.join(sorted(algorithms))}) for {len(parts)} "
            "parts; give one for all, or one of the same algorithm for each, or use rum"
        )
    return dict(zip(parts, unlearners, strict=True))


def strategies(unlearners: Mapping[str, Options]) -> dict[str, Any]:
    """Writes each unlearner as vanilla, shuffle and RUM^F: "finetune_vanilla" and so on.

    Examples:
      >>> list(strategies({"finetune": {"algorithm": "finetune", "epochs": 1}}))
      ['finetune_vanilla', 'finetune_shuffle', 'finetune_rum_f']
    """
    forms: dict[str, Callable[..., dict[str, Any]]] = {
        "vanilla": vanilla,
        "shuffle": shuffle,
        "rum_f": rum_f,
    }
    return {
        f"{name}_{strategy}": form(options)
        for name, options in unlearners.items()
        for strategy, form in forms.items()
    }


def _method(
    strategy: str,
    refine: str,
    select: Mapping[str, Options],
    parts: Sequence[str],
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "refine": refine,
        "parts": tuple(parts),
        "select": {part: dict(options) for part, options in select.items()},
        "order": tuple(parts if order is None else order),
    }


FLOOR = vanilla({"algorithm": "original"})
"""The method that does nothing, a row of every table."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A line of the results: a refinement, an unlearner for each part, and an order."""

    name: str
    """its key in the configuration"""
    algorithm: str
    """the algorithm's name; those of a mixed RUM in the order of use, joined by ">" """
    strategy: str
    refine: str
    parts: tuple[str, ...]
    """by ascending score"""
    select: "Mapping[str, Unlearner[Any]]"
    order: tuple[str, ...]
    options: Any
    """the JSON-like configuration it was made from, defaults included"""
    retain_share: float | Mapping[str, float] = 1.0
    """of what a step retains, what it draws at random; one share, or one for each part"""
    budget: float | None = None
    """of the gradients of retraining, what it may take; None for the run's budget"""

    @property
    def epochs(self) -> int:
        """The epochs of all its steps."""
        return sum(self.select[part].epochs for part in self.order)
