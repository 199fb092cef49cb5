"""RUM: refine the forget set into homogeneous subsets, unlearn each with what suits it, in order.

    S_1 … S_K = F(S);  θ_0 = θo;  for k in order:  θ_k = U_k(θ_{k−1}, S_k, R ∪ S_later);  return θ_K

(Zhao et al., NeurIPS 2024, section 5.) Everything here is index algebra on the host, without any
training: `rum` returns steps, `rumjax.run` runs them. `vanilla`, `shuffle`, RUM^F and RUM are not
four programs but four values of `refine`, `select` and `order`:

| strategy | refine | select |
|---|---|---|
| vanilla | `whole` | one unlearner |
| shuffle | `at_random` | the same unlearner for every subset |
| RUM^F | `by_score` | the same unlearner for every subset |
| RUM | `by_score` | an unlearner per subset |
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from rumjax.errors import (
    InvalidInputError,
    check_count,
    check_floats,
    check_indices,
    check_labels,
    check_scalar,
    shown,
)
from rumjax.types import Scores, Task, Unlearner, check_made, subset
from rumjax.unlearn.steps import Step, check_unlearner

Parts: TypeAlias = dict[str, np.ndarray]
"""Named disjoint subsets of the forget set, int32 indices into D."""
Refine: TypeAlias = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""A function from S to its parts."""

LEVELS = ("low", "medium", "high")
"""Names of the parts that scores refine S into, from the lowest scores to the highest."""


@dataclasses.dataclass(frozen=True)
class Known:
    """A refinement by something that is known of every example of D; a `Refine`.

    Examples:
      >>> by_class(np.array([1, 0, 1, 2])).size
      4
    """

    size: int
    """N, the number of examples of D"""
    parts: Refine
    """from S, ascending, to its parts"""

    def __call__(self, forget: np.ndarray) -> Mapping[str, np.ndarray]:
        """Returns the parts of S.

        Raises:
          InvalidInputError: S has an example that nothing is known of.
        """
        return self.parts(check_indices("refine, forget set", forget, self.size))


def whole(name: str = "all") -> Refine:
    """Refines nothing: the forget set is one part.

    Examples:
      >>> whole()(np.array([3, 5]))
      {'all': array([3, 5], dtype=int32)}
    """
    _check_part_names([name])
    return lambda forget: {name: check_indices("refine, forget set", forget, None)}


def by_score(scores: Scores, *, parts: Sequence[str] = LEVELS, seed: int = 0) -> Refine:
    """Refines into equal parts by ascending score; the first parts get one more if there is a rest.

    Args:
      scores: of all examples of D.
      parts: names, from the lowest scores to the highest.
      seed: of the permutation that breaks ties.

    Raises:
      InvalidInputError: scores that are not finite or not one for each example, or part names that
        are not different.

    Examples:
      >>> scores = Scores(np.array([0.9, 0.1, 0.5, 0.4]))
      >>> by_score(scores, parts=("low", "high"))(np.array([0, 1, 3]))
      {'low': array([1, 3], dtype=int32), 'high': array([0], dtype=int32)}
    """
    if not isinstance(scores, Scores):
        raise InvalidInputError(
            f"refine: wanted rumjax.Scores(values), got {type(scores).__name__}"
        )
    values = check_floats("refine, scores", scores.values, "N")
    names, seed = _check_part_names(parts), check_count("seed", seed, least=0)

    def refine(forget: np.ndarray) -> Parts:
        ordered = forget[ascending(values[forget], seed=seed)]
        return dict(zip(names, np.array_split(ordered, len(names)), strict=True))

    return Known(len(values), refine)


def at_random(*, parts: Sequence[str] = ("first", "second", "third"), seed: int = 0) -> Refine:
    """Refines into equal parts of a seeded shuffle of S: the control for any score.

    Raises:
      InvalidInputError: part names that are not different.

    Examples:
      >>> {name: len(part) for name, part in at_random()(np.arange(7)).items()}
      {'first': 3, 'second': 2, 'third': 2}
    """
    names, seed = _check_part_names(parts), check_count("seed", seed, least=0)

    def refine(forget: np.ndarray) -> Parts:
        ordered = check_indices("refine, forget set", forget, None)
        shuffled = np.random.default_rng(seed).permutation(ordered)
        return dict(zip(names, np.array_split(shuffled, len(names)), strict=True))

    return refine


def by_class(labels: np.ndarray) -> Refine:
    """Refines into one part for every class in S, named "class_0" and so on.

    Args:
      labels: int32[N], of all examples of D.

    Raises:
      InvalidInputError: labels that are no integers from 0.

    Examples:
      >>> by_class(np.array([1, 0, 1, 2]))(np.array([0, 1, 2]))
      {'class_0': array([1], dtype=int32), 'class_1': array([0, 2], dtype=int32)}
    """
    labels = check_labels("refine, labels", labels)

    def refine(forget: np.ndarray) -> Parts:
        classes = np.unique(labels[forget])
        return {f"class_{label}": forget[labels[forget] == label] for label in classes}

    return Known(len(labels), refine)


def ascending(values: np.ndarray, *, seed: int) -> np.ndarray:
    """Returns the order that sorts values, ties in the order of a seeded permutation; int64[N].

    Examples:
      >>> ascending(np.array([0.3, 0.1, 0.2]), seed=0)
      array([1, 2, 0])
    """
    ties = np.random.default_rng(seed).permutation(len(values))
    return np.lexsort((ties, values))


def rum(
    forget: Any,
    retain: Any,
    *,
    refine: Refine,
    select: Mapping[str, Unlearner[Any]] | Unlearner[Any],
    order: Sequence[str] | None = None,
    retain_share: float | Mapping[str, float] = 1.0,
    seed: int = 0,
) -> tuple[Step, ...]:
    """Returns the steps of RUM; at each of them, parts not yet unlearned still count as retained.

    The tasks of all steps have the same capacities, so an unlearner is compiled once for all.

    Args:
      forget: S, distinct indices into D.
      retain: R, distinct indices into D, none of them in S.
      refine: F, from S to named parts; `whole`, `by_score`, `at_random`, `by_class`, or your own.
      select: an unlearner for every part by name, or one for all.
      order: every part's name once, first to be unlearned first; by default as `refine` gave them.
      retain_share: of what a step retains, rounded up: so much is drawn at random for each step,
        without replacement, so that a pass over it takes less than an epoch. One share for all
        parts, or one for every part by name.
      seed: of these draws.

    Returns:
      One step per part, in order, to be run by `rumjax.run`.

    Raises:
      InvalidInputError: S and R overlap or are empty; the parts overlap, are empty or do not make
        up S; the order or the selection does not name every part; a share of 0, or above 1.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.unlearn import finetune, original
      >>> model = Model(Cnn(10))
      >>> steps = rum(
      ...     [2, 5],
      ...     [0, 1, 3, 4],
      ...     refine=by_score(Scores(np.arange(6.0)), parts=("low", "high")),
      ...     select={"low": original(model), "high": finetune(model)},
      ... )
      >>> [(step.name, int(step.task.retain.size)) for step in steps]
      [('low', 5), ('high', 4)]
    """
    # S and R, which must be disjoint.
    check_made("rum", (forget, retain))
    forget = check_indices("forget set", forget, None)
    retain = check_indices("retain set", retain, None)
    shared = np.intersect1d(forget, retain)
    if shared.size:
        raise InvalidInputError(
            f"forget set and retain set share {shared.size} examples, the first is {shared[0]}"
        )

    # Where S and R are the first examples without a gap, they are all of D.
    size = len(forget) + len(retain)
    whole_set = size == max(forget.max(), retain.max()) + 1
    if isinstance(refine, Known) and whole_set and refine.size != size:
        raise InvalidInputError(
            f"refine: it knows {refine.size} examples, but forget and retain set are of {size}; "
            "give it the scores or labels of all of these"
        )

    if not callable(refine) or not isinstance(order, list | tuple | None):
        raise InvalidInputError(
            "rum: wanted a function for refine, rumjax.whole() for instance, and a list of names "
            f"or None for order, got {shown(refine)} and {shown(order)}"
        )

    # The parts, their order, and an unlearner for each of them.
    parts = _check_parts(_refined(refine, forget), forget)
    order = _check_names("order", tuple(parts) if order is None else tuple(order), parts)
    if isinstance(select, Mapping):
        _check_names("select", tuple(select), parts)
    else:
        select = dict.fromkeys(parts, select)
    for name, unlearner in select.items():
        check_unlearner(f"select, {name}", unlearner)

    # At every step, R and the parts of later steps are retained, or some of them.
    shares = check_retain_share("retain_share", retain_share, tuple(parts))
    random = np.random.default_rng(check_count("seed", seed, least=0))
    steps = []
    for position, name in enumerate(order):
        later = [parts[other] for other in order[position + 1 :]]
        kept = np.sort(np.concatenate([retain, *later]))
        if shares[name] < 1:
            count = math.ceil(shares[name] * len(kept))
            kept = np.sort(random.choice(kept, count, replace=False))
        task = Task(
            forget=subset(parts[name], capacity=len(forget)),
            retain=subset(kept, capacity=len(forget) + len(retain)),
        )
        steps.append(Step(name, select[name], task))
    return tuple(steps)


def check_retain_share(
    where: str, retain_share: float | Mapping[str, float], parts: Collection[str]
) -> dict[str, float]:
    """Returns the share of what is retained that is drawn for every part; see `rum`.

    Args:
      where: what it is called in messages.
      retain_share: one share for all parts, or one for every part by name.
      parts: their names.

    Raises:
      InvalidInputError: not above 0 or above 1; shares by name that are not of these parts.

    Examples:
      >>> check_retain_share("retain_share", 0.5, ["low", "high"])
      {'low': 0.5, 'high': 0.5}
    """
    if not isinstance(retain_share, Mapping):
        retain_share = dict.fromkeys(parts, retain_share)
    _check_names(where, tuple(retain_share), parts)
    shares = {part: check_scalar(where, share, most=1.0) for part, share in retain_share.items()}
    if not all(shares.values()):
        raise InvalidInputError(f"{where}: wanted a share above 0, got 0")
    return shares


def _refined(refine: Refine, forget: np.ndarray) -> Mapping[str, np.ndarray]:
    """Returns what a function makes of S, whatever it raises as an error of its caller's."""
    try:
        return refine(forget)
    except InvalidInputError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"refine: {type(error).__name__}: {error}; wanted a function from S to parts, "
            "rumjax.at_random() for instance"
        ) from error


def _check_parts(parts: Mapping[str, Any], forget: np.ndarray) -> Parts:
    """Returns parts as int32, if none is empty and together they are S."""
    if not isinstance(parts, Mapping):
        raise InvalidInputError(
            f"refine: wanted a function from S to parts by name, it returned {type(parts).__name__}"
        )
    if unnamed := [name for name in parts if not isinstance(name, str)]:
        raise InvalidInputError(f"refine: wanted names of parts, got {unnamed[0]!r}")
    parts = {
        name: list(part) if isinstance(part, set | frozenset) else part
        for name, part in parts.items()
    }
    for name, part in parts.items():
        if len(check_indices(f"refine, part {name}", part, None, allow_empty=True)) == 0:
            raise InvalidInputError(
                f"refine: part {name!r} is empty; use fewer parts than the {len(forget)} examples"
            )
    joined = np.concatenate(list(parts.values())) if parts else np.empty(0, np.int32)
    if len(joined) != len(forget) or not np.array_equal(np.sort(joined), forget):
        raise InvalidInputError(
            f"refine: parts of {[len(part) for part in parts.values()]} examples do not make up "
            f"the forget set of {len(forget)}, each example once"
        )
    return {name: np.asarray(part, np.int32) for name, part in parts.items()}


def _check_names(what: str, names: tuple[str, ...], parts: Collection[str]) -> tuple[str, ...]:
    """Returns names, if they are those of the parts, each once."""
    if len(names) != len(parts) or set(names) != set(parts):
        raise InvalidInputError(
            f"{what}: names {', '.join(map(str, names))}, but the parts are {', '.join(parts)}, "
            "each once"
        )
    return names


def _check_part_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names of parts, if there are some and all are different."""
    listed = tuple(names) if isinstance(names, list | tuple) else ()
    strings = all(isinstance(name, str) for name in listed)
    if not listed or not strings or len(set(listed)) < len(listed):
        raise InvalidInputError(
            f"parts: wanted different names, ('low', 'high') for instance, got {shown(names)}"
        )
    return listed
