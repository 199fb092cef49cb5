"""What a checkpoint holds, whatever its format: leaves by path, and a way to put others there."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from rumjax.types import PyTree

Path: TypeAlias = tuple[str, ...]
"""Names from the root to a leaf or a subtree."""
Node: TypeAlias = dict[str, Any]
"""A subtree: by name its subtrees, and for each leaf its position in `Content.leaves`."""

VALUE = "value"
"""The level that a state of NNX, and a boxed parameter of Linen, has below each leaf's name."""


@dataclasses.dataclass(frozen=True)
class Content:
    """The leaves of a checkpoint.

    Examples:
      >>> content = of_tree({"params": {"kernel": {"value": np.ones(2)}}})
      >>> content.paths, content.rebuild(["new"])
      ((('params', 'kernel'),), {'params': {'kernel': {'value': 'new'}}})
    """

    paths: tuple[Path, ...]
    """of each leaf, without levels called "value" that hold nothing else"""
    leaves: tuple[Any, ...]
    """arrays, and whatever else was saved: numbers, strings, random keys"""
    rebuild: Callable[[Sequence[Any]], Any]
    """puts as many leaves in the place of these, in the form that the format's library takes"""

    def root(self) -> Node:
        """Returns the tree of positions.

        Raises:
          ValueError: a path leads through another's leaf.
        """
        root: Node = {}
        for position, path in enumerate(self.paths):
            node: Any = root
            for name in path[:-1]:
                node = node.setdefault(name, {})
                if not isinstance(node, dict):
                    raise ValueError(shown_path(path))
            if path[-1] in node:
                raise ValueError(shown_path(path))
            node[path[-1]] = position
        return root


def of_tree(tree: PyTree) -> Content:
    """Returns the content of a tree of dictionaries and lists."""
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = plain_paths([path for path, _ in flat])
    leaves = tuple(leaf for _, leaf in flat)
    return Content(paths, leaves, lambda given: jax.tree.unflatten(structure, list(given)))


def of_names(arrays: Mapping[str, np.ndarray], separator: str) -> Content:
    """Returns the content of named arrays, whose names are paths joined by a separator."""
    names = list(arrays)
    return Content(
        without_values([tuple(name.split(separator)) for name in names]),
        tuple(arrays.values()),
        lambda given: dict(zip(names, given, strict=True)),
    )


def plain_paths(paths: Sequence[tuple[Any, ...]]) -> tuple[Path, ...]:
    """Returns JAX's paths as names, without levels called "value".

    Examples:
      >>> flat, _ = jax.tree_util.tree_flatten_with_path({"a": [{"value": 1}]})
      >>> plain_paths([path for path, _ in flat])
      (('a', '0'),)
    """
    return without_values([tuple(map(_name, path)) for path in paths])


def without_values(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Returns paths without a last level called "value", where it holds nothing else.

    Examples:
      >>> without_values([("a", "value"), ("b", "value"), ("b", "key")])
      (('a',), ('b', 'value'), ('b', 'key'))
    """
    while True:
        children: dict[Path, set[str]] = {}
        for path in paths:
            for depth in range(len(path)):
                children.setdefault(path[:depth], set()).add(path[depth])
        shorter = [
            path[:-1]
            if len(path) > 1 and path[-1] == VALUE and children[path[:-1]] == {VALUE}
            else path
            for path in paths
        ]
        if shorter == list(paths):
            return tuple(paths)
        paths = shorter


def positions(node: Node | int, path: Path = ()) -> dict[Path, int]:
    """Returns the positions of the leaves of a subtree, by their paths from there.

    Examples:
      >>> positions({"a": {"b": 3}, "c": 5})
      {('a', 'b'): 3, ('c',): 5}
    """
    if not isinstance(node, dict):
        return {path: node}
    return {
        leaf: position
        for name, child in node.items()
        for leaf, position in positions(child, (*path, name)).items()
    }


def shown_path(path: Path) -> str:
    """Returns a path for messages.

    Examples:
      >>> shown_path(("state", "params"))
      'state/params'
    """
    return "/".join(path)


def _name(key: Any) -> str:
    """Returns the name of one level of a path of JAX."""
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
