"""Whether the arrays at a place of a checkpoint are those of a model, by name or by shape."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.checkpoints.trees import Content, Path, plain_paths, shown_path
from rumjax.types import Variables

MOST_NAMED = 5
"""Arrays that a message names of each kind, at most."""
STATS = "batch_stats"
"""The collection of batch statistics, and what checkpoints call them."""


class Form(NamedTuple):
    """The form of a model's variables."""

    variables: Variables
    """a shape and a dtype in the place of each array"""
    paths: tuple[Path, ...]
    """of each leaf, the collection first"""
    shapes: tuple[tuple[int, ...], ...]


class Place(NamedTuple):
    """A subtree of a checkpoint that may hold a model's variables."""

    path: Path
    leaves: dict[Path, int]
    """positions by the path below the place"""
    stats: dict[Path, int]
    """those of batch statistics that lie beside it; empty if there are none"""


class Fit(NamedTuple):
    """A place whose arrays are those of a model."""

    path: Path
    form: Form
    positions: tuple[int, ...]
    """where in `Content.leaves` each leaf of the form is"""
    renamed: tuple[tuple[str, str], ...] = ()
    """the layers that were told by their shapes: the model's name, the checkpoint's"""


class Mismatch(NamedTuple):
    """A place whose arrays are not those of a model, and why."""

    path: Path
    matching: int
    """arrays whose name and shape are right"""
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    """with both shapes"""
    no_stats: bool
    """everything fits, and the batch statistics are missing"""


def form_of(variables: Variables) -> Form:
    """Returns the form of variables.

    Examples:
      >>> form_of(Variables({"a": np.zeros(2)}, {})).paths
      (('params', 'a'),)
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    paths = plain_paths([path for path, _ in flat])
    return Form(variables, paths, tuple(tuple(leaf.shape) for _, leaf in flat))


def match(place: Place, content: Content, form: Form) -> Fit | Mismatch:
    """Compares the arrays of a place with a form, by their names and shapes.

    Where batch statistics lie beside the place, its leaves are parameters; else parameters and
    statistics are in one tree, as NNX has them, and the state of random generators is left out.
    """
    wanted, given = _namespaces(place, content, form)
    shapes = {name: np.shape(content.leaves[position]) for name, position in given.items()}
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    shared = [name for name in wanted if name in given]
    misshapen = [name for name in shared if shapes[name] != form.shapes[wanted[name]]]
    if not (missing or unexpected or misshapen):
        return Fit(place.path, form, tuple(given[name] for name in wanted))
    statistics = {name for name in wanted if form.paths[wanted[name]][0] == STATS}
    return Mismatch(
        place.path,
        len(shared) - len(misshapen),
        tuple(map(shown_path, missing)),
        tuple(map(shown_path, unexpected)),
        tuple(_shapes(name, shapes[name], form.shapes[wanted[name]]) for name in misshapen),
        bool(statistics) and not (unexpected or misshapen) and set(missing) == statistics,
    )


def match_by_shape(place: Place, content: Content, form: Form) -> Fit | None:
    """Returns the only assignment of a place's arrays to a form's by shape, None if there is none.

    Every shape must occur once among the arrays of a last name ("kernel", "bias", "mean", …), on
    both sides; arrays of one layer must go to one layer; and an array must not go to another name
    if the model has its own.
    """
    wanted, given = _namespaces(place, content, form)

    # Arrays told by their kind and shape alone.
    targets = {_kind(name, form.shapes[position]): name for name, position in wanted.items()}
    sources = {_kind(name, np.shape(content.leaves[p])): name for name, p in given.items()}
    if len(targets) < len(wanted) or len(sources) < len(given) or set(targets) != set(sources):
        return None
    source = {name: sources[kind] for kind, name in targets.items()}

    # Layers go to layers, and names that both have to themselves.
    layers = {(name[:-1], other[:-1]) for name, other in source.items()}
    mine, theirs = {layer for layer, _ in layers}, {layer for _, layer in layers}
    if len(mine) < len(layers) or len(theirs) < len(layers):
        return None
    if any(name in given and source[name] != name for name in wanted):
        return None
    renamed = tuple(
        (shown_path(layer), shown_path(other)) for layer, other in sorted(layers) if layer != other
    )
    return Fit(place.path, form, tuple(given[source[name]] for name in wanted), renamed)


def describe(mismatch: Mismatch) -> str:
    """Returns what is wrong with a place, the first five arrays of each kind.

    Examples:
      >>> describe(Mismatch(("params",), 1, ("a/bias",), (), (), False))
      "at 'params' 1 array is missing (a/bias)"
    """
    where = f"at {shown_path(mismatch.path)!r} " if mismatch.path else ""
    parts = []
    for names, one, many in (
        (mismatch.missing, "is missing", "are missing"),
        (mismatch.unexpected, "is not the model's", "are not the model's"),
        (mismatch.misshapen, "has another shape", "have other shapes"),
    ):
        if names:
            rest = ", …" if len(names) > MOST_NAMED else ""
            parts.append(
                f"{len(names)} {'array' if len(names) == 1 else 'arrays'} "
                f"{one if len(names) == 1 else many} ({', '.join(names[:MOST_NAMED])}{rest})"
            )
    return where + ", ".join(parts)


def transposed(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Tests whether a kernel has the axes of PyTorch, or those of the other product.

    Examples:
      >>> transposed((16, 3, 5, 5), (5, 5, 3, 16)), transposed((10, 4), (4, 10))
      (True, True)
    """
    shape, wanted = tuple(shape), tuple(wanted)
    channels_first = (*wanted[-1:], *wanted[-2:-1], *wanted[:-2])
    return len(wanted) > 1 and shape != wanted and shape in (wanted[::-1], channels_first)


def is_random_state(path: Path, leaf: Any) -> bool:
    """Tests whether a leaf is a generator's key or counter, which NNX keeps among variables.

    Examples:
      >>> is_random_state(("drop", "rngs", "count"), np.zeros((), np.uint32))
      True
    """
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return False
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return True
    named = "rngs" in path or path[-1:] in (("count",), ("key",))
    return bool(named and dtype == np.uint32)


def _namespaces(
    place: Place, content: Content, form: Form
) -> tuple[dict[Path, int], dict[Path, int]]:
    """Returns names of the form's leaves and of the place's, which fit if they are the same.

    The first are positions in the form, the second in the content.
    """
    if place.stats:
        given: Mapping[Path, int] = {
            **{("params", *path): position for path, position in place.leaves.items()},
            **{(STATS, *path): position for path, position in place.stats.items()},
        }
        wanted = {path: position for position, path in enumerate(form.paths)}
    else:
        given = place.leaves
        wanted = {path[1:]: position for position, path in enumerate(form.paths)}
        if max(Counter(path[1:] for path in form.paths).values(), default=1) > 1:
            wanted = {path: position for position, path in enumerate(form.paths)}
    return wanted, {
        path: position
        for path, position in given.items()
        if not is_random_state(path, content.leaves[position])
    }


def _kind(name: Path, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    return name[-1], tuple(shape)


def _shapes(name: Path, shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    text = f"{shown_path(name)} is {list(shape)}, wanted {list(wanted)}"
    if not transposed(shape, wanted):
        return text
    layout = "PyTorch's layout" if len(wanted) > 2 else "output first"
    return f"{text}: it is transposed, {layout}"
