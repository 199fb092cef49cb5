"""Where in a checkpoint a model's variables are: looked for by name, never guessed."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rumjax.checkpoints.matching import (
    STATS,
    Fit,
    Form,
    Mismatch,
    Place,
    match,
    match_by_shape,
)
from rumjax.checkpoints.trees import Content, Node, Path, positions, shown_path
from rumjax.errors import InvalidInputError, check_choice

DEPTH = 4
"""Levels below the root, at most, that are searched."""
WRAPPERS = {
    "params",
    "model",
    "module",
    "state",
    "train_state",
    "variables",
    "ema",
    "ema_params",
    "target",
    "optimizer",
}
"""Names of levels that hold variables; `optimizer/target` is of old versions of Flax."""
OPTIMIZERS = {
    "opt",
    "optim",
    "opt_state",
    "opt_states",
    "optimizer_state",
    "optimizer_states",
}
"""Names of an optimizer's state, which has arrays of the parameters' shapes."""
AVERAGES = {"ema", "average", "averaged", "polyak", "swa"}
"""Words in the names of averages of a model over training."""
KINDS = {"kernel", "scale", "embedding", "weight"}
"""Last names of parameters, which show that a subtree is a layer."""


class Search(NamedTuple):
    """What a search found."""

    fits: tuple[Fit, ...]
    """all places that hold the model's variables"""
    mismatch: Mismatch | None
    """the nearest place, if none does"""
    elsewhere: tuple[Path, ...]
    """places under other names that would fit"""


def search(
    content: Content,
    forms: Iterable[Form],
    *,
    below: Path = (),
    open_names: Collection[str] = (),
) -> Search:
    """Looks for a model's variables in a checkpoint.

    Args:
      content: of the checkpoint.
      forms: of the variables, one for each size of images that is tried.
      below: looks in this subtree only.
      open_names: names at the root that are looked into whatever they are, such as items.

    Raises:
      InvalidInputError: there is nothing at `below`.
    """
    root = content.root()
    places = list(_places(*_subtree(root, below), open_names))
    nearest: Mismatch | None = None
    tried = []

    # By name: the tree that fits is the same for whichever size of images it fits.
    for form in forms:
        outcomes = [match(place, content, form) for place in places]
        fits = [outcome for outcome in outcomes if isinstance(outcome, Fit)]
        others = _elsewhere(root, below, places, content, form)
        if fits:
            # Averages come last: whoever reads takes the first.
            fits.sort(key=lambda fit: any(map(is_average, fit.path)))
            return Search(tuple(fits), None, others)
        for outcome in outcomes:
            if isinstance(outcome, Mismatch) and _nearer(outcome, nearest):
                nearest = outcome
        tried.append((form, others))

    # By shape, where that leaves no choice.
    for form, _ in tried:
        forced = [match_by_shape(place, content, form) for place in places]
        # A level that holds nothing else fits as what is in it does.
        different = {frozenset(fit.positions): fit for fit in forced if fit is not None}
        if different:
            return Search(tuple(different.values()), None, ())
    return Search((), nearest, next((others for _, others in tried if others), ()))


def choose(search: Search, content: Content, where: str) -> tuple[Fit, tuple[str, ...]]:
    """Returns the only fit of a search, with notes on others that hold the same.

    Raises:
      InvalidInputError: several places fit and hold different numbers.
    """
    first, *others = search.fits
    same = [other for other in others if _equal(first, other, content)]
    if len(same) < len(others):
        names = [shown_path(fit.path) or "the root" for fit in (first, *others)]
        chosen = next(shown_path(fit.path) for fit in (first, *others) if fit.path)
        raise InvalidInputError(
            f"checkpoint: {where} holds {len(names)} models that fit and differ, at "
            f"{', '.join(map(repr, names))}; choose one by its path, for example {where}#{chosen}"
        )
    return first, tuple(f"{shown_path(fit.path)!r} holds the same numbers" for fit in same)


def is_average(name: str) -> bool:
    """Tests whether a name is that of an average over training.

    Examples:
      >>> is_average("ema_params"), is_average("schema")
      (True, False)
    """
    return bool(AVERAGES & set(re.split(r"[\W_]+", name.lower())))


def unread(content: Content, fit: Fit, fits: Iterable[Fit]) -> tuple[str, ...]:
    """Returns the names beside the way to a fit that no fit has anything of."""
    read = {position for each in fits for position in each.positions}
    node, names = content.root(), []
    for depth in range(len(fit.path) + 1):
        inside = fit.path[depth : depth + 1]
        names += [
            shown_path((*fit.path[:depth], name))
            for name, child in node.items()
            if (name,) != inside
            and depth < len(fit.path)
            and not read & set(positions(child).values())
        ]
        if inside:
            node = node[inside[0]]
    return tuple(names)


def _subtree(root: Node, below: Path) -> tuple[Node, Path, dict[Path, int]]:
    """Returns a subtree, its path, and the batch statistics beside it."""
    node, stats = root, dict[Path, int]()
    for depth, name in enumerate(below):
        names = [name for name, child in node.items() if isinstance(child, dict)]
        check_choice(
            f"name in the checkpoint at {shown_path(below[:depth]) or 'its root'}", name, names
        )
        stats = _stats_beside(node, name)
        node = node[name]
    return node, below, stats


def _places(
    node: Node, path: Path, stats: dict[Path, int], open_names: Collection[str], depth: int = 0
) -> Iterator[Place]:
    """Yields a subtree, and those below it under the names of `WRAPPERS`."""
    leaves = positions(node)
    yield Place(path, leaves, stats)
    if depth == DEPTH:
        return
    is_network = _has_layers(node) and not open_names
    for name, child in node.items():
        # A network's own layers are not models, whatever they are called.
        if name == "params" or is_average(name) or len(node) == 1:
            enter = True
        else:
            enter = (name in WRAPPERS and not is_network) or name in open_names
        if enter and isinstance(child, dict) and name not in OPTIMIZERS:
            yield from _places(child, (*path, name), _stats_beside(node, name), (), depth + 1)


def _has_layers(node: Node) -> bool:
    """Tests whether layers lie at a node beside the levels that hold models and states."""
    return any(
        path[-1] in KINDS
        for name, child in node.items()
        if name not in WRAPPERS | OPTIMIZERS and STATS not in name and not is_average(name)
        for path in positions(child, (name,))
    )


def _stats_beside(node: Node, name: str) -> dict[Path, int]:
    """Returns the batch statistics beside a level, of the average if it is one.

    They lie under "batch_stats", or one level deeper, as in `model_state/batch_stats`.
    """
    if STATS in name:
        return {}
    beside = {other: child for other, child in node.items() if STATS in other}
    if not beside:
        deeper = [
            child[STATS]
            for child in node.values()
            if isinstance(child, dict) and STATS in child and "params" not in child
        ]
        beside = {STATS: deeper[0]} if len(deeper) == 1 else {}
    if not beside:
        return {}
    alike = [other for other in beside if is_average(other) == is_average(name)]
    return positions(beside[(alike or list(beside))[0]]) if beside else {}


def _elsewhere(
    root: Node, below: Path, places: Sequence[Place], content: Content, form: Form
) -> tuple[Path, ...]:
    """Returns the places under other names that fit."""
    known = {place.path for place in places}
    others = []

    def visit(node: Node, path: Path, stats: dict[Path, int]) -> None:
        if path not in known and path != below:
            outcome = match(Place(path, positions(node), stats), content, form)
            if isinstance(outcome, Fit):
                others.append(path)
        for name, child in node.items():
            if isinstance(child, dict) and len(path) < DEPTH and name not in OPTIMIZERS:
                visit(child, (*path, name), _stats_beside(node, name))

    visit(root, (), {})
    return tuple(others)


def _nearer(outcome: Mismatch, nearest: Mismatch | None) -> bool:
    """Tests whether more of a place fits than of the nearest so far."""

    def rank(mismatch: Mismatch) -> tuple[bool, int, int]:
        wrong = (mismatch.missing, mismatch.unexpected, mismatch.misshapen)
        return mismatch.no_stats, mismatch.matching, -sum(map(len, wrong))

    return nearest is None or rank(outcome) > rank(nearest)


def _equal(fit: Fit, other: Fit, content: Content) -> bool:
    """Tests whether two fits hold the same numbers."""
    return all(
        np.array_equal(np.asarray(content.leaves[one]), np.asarray(content.leaves[two]))
        for one, two in zip(fit.positions, other.positions, strict=True)
    )
