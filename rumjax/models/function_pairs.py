"""Pairs of functions (init, apply) as Linen modules: networks of Haiku, Equinox, or by hand."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rumjax.errors import InvalidInputError
from rumjax.models.factories import Factory
from rumjax.models.modes import flag_arguments
from rumjax.types import Array, PyTree

KEYS = ("key", "rng")
"""Names of an argument that is for random numbers."""


def from_functions(init: Callable[..., Any], apply: Callable[..., Any]) -> nn.Module:
    """Makes a Linen module, as `Model` takes it, of a pair of functions.

    `init(key, images)` returns variables: a tree of float32 arrays, which are parameters; or, for
    networks with batch statistics, a tuple `(params, state)` or a dictionary of "params" and
    "state". `images` is float32[1, H, W, C], normalized.

    `apply(variables, images, train=…, key=…)` returns logits, or (logits, embeddings); of variables
    with a state it returns the pair of that and the new state, which counts in training alone. The
    last two arguments go by name, where `apply` takes them: `train`, or another name of
    `rumjax.models.modes.FLAGS` (`init` may take it too, and is told that it trains), and `key` or
    `rng`, which is None out of training. Functions in Haiku's order do as well: where the arguments
    after the first are called `state`, `rng` or `key`, as in `apply(params, state, rng, images)`,
    the state comes apart from the parameters, and images come after them.

    So pairs of Haiku need nothing more:

    ```python
    def network(num_classes):  # --config.model.name=my_networks:network
        def forward(images, is_training):
            hidden = hk.BatchNorm(True, True, 0.9)(hk.Conv2D(32, 3)(images), is_training)
            return hk.Linear(num_classes)(jax.nn.relu(hidden).mean((1, 2)))

        return hk.transform_with_state(forward)
    ```

    and those of Equinox are written like this:

    ```python
    def network(num_classes):
        make = lambda key: Net(num_classes, key=key)
        skeleton = eqx.filter_eval_shape(make, jax.random.key(0))
        init = lambda key, images: eqx.filter(make(key), eqx.is_inexact_array)
        apply = lambda params, images: jax.vmap(eqx.combine(params, skeleton))(images)
        return init, apply
    ```

    Modules of the same two functions are equal. Whoever makes them anew for every model gives their
    factory to `rumjax.models.build`, by its name.

    Raises:
      InvalidInputError: one of the two is no function, or cannot be called like this.

    Examples:
      >>> from rumjax.models import Model
      >>> def init(key, images):
      ...     return {"kernel": jax.random.normal(key, (images[0].size, 3))}
      >>> def apply(params, images):
      ...     return images.reshape(len(images), -1) @ params["kernel"]
      >>> model, images = Model(from_functions(init, apply)), jnp.zeros((2, 4, 4, 1), jnp.uint8)
      >>> model.init(jax.random.key(0), images).params["kernel"].shape
      (16, 3)
    """
    pair = Pair(init, apply)
    _check_pair("model", pair)
    return FromFunctions(pair)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two functions; equal if both are."""

    init: Callable[..., Any]
    apply: Callable[..., Any]

    @property
    def name(self) -> str:
        """The name of the second, for messages."""
        return getattr(self.apply, "__name__", type(self.apply).__name__)


class FromFunctions(nn.Module):
    """A pair of functions; see `from_functions`."""

    source: Pair | Factory
    """the pair, or what makes it"""

    @property
    def network_name(self) -> str:
        """The name of the network, for messages."""
        return self.source.name

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Any:
        """Calls `apply` with the variables of this module, after `init` where there are none."""
        pair = pair_of(self.source)
        form = _form(self.source, images.shape[1:])
        if self.is_initializing():
            made = pair.init(self.make_rng("params"), images[:1], **_flags_of_init(pair))
            for collection, tree in zip(Variables._fields, _parted(made), strict=True):
                if collection == "params" or form.state is not None:
                    self._put(collection, _by_name(self.network_name, tree))

        # The variables in the form that `init` has made them in.
        params = _like(form.params, self.variables.get("params", {}), self.network_name)
        state = form.state
        if state is not None:
            state = _like(state, self.variables.get("batch_stats", {}), self.network_name)
        key = self.make_rng("dropout") if train and self.has_rng("dropout") else None
        leading, named = _arguments(pair, form, params, state, train=train, key=key)
        returned = pair.apply(*leading, images, **named)
        if state is None:
            return returned

        # The state that comes back.
        outputs, updated = self._taken_apart(returned, form)
        if train and not self.is_initializing():
            self._put("batch_stats", _by_name(self.network_name, updated))
        return outputs

    def _put(self, collection: str, tree: Mapping[str, Any]) -> None:
        for name, value in tree.items():
            self.put_variable(collection, name, value)

    def _taken_apart(self, returned: Any, form: "Form") -> tuple[Any, PyTree]:
        """Returns outputs and new state.

        Raises:
          InvalidInputError: that is not what came back.
        """
        if isinstance(returned, tuple) and len(returned) == 2:
            outputs, updated = returned
            wanted: Any = jax.tree.structure(form.state)
            if wanted == jax.tree.structure(updated):
                return outputs, updated
        raise InvalidInputError(
            f"{self.network_name}: init returned (params, state), so apply must return (outputs, "
            "new state), the state like that of init; if both are parameters, return them as a list"
        )


class Variables(NamedTuple):
    """What `init` returns, parted; the names are those of Linen's collections."""

    params: PyTree
    batch_stats: PyTree


class Form(NamedTuple):
    """The form of what `init` returns."""

    params: PyTree
    """a shape and a dtype for each array"""
    state: PyTree | None
    """None without a state"""
    wrap: Callable[[PyTree, PyTree], Any]
    """puts parameters and state together as `init` does"""


def is_pair(value: Any) -> bool:
    """Tests whether something is a pair (init, apply), or an object that has both.

    Linen's modules, which have both too, are none.

    Examples:
      >>> is_pair((len, len)), is_pair(nn.Dense(3))
      (True, False)
    """
    if isinstance(value, type | nn.Module):
        return False
    if isinstance(value, tuple) and not hasattr(value, "init"):
        return len(value) == 2 and all(map(callable, value))
    return callable(getattr(value, "init", None)) and callable(getattr(value, "apply", None))


def from_pair(pair: Any) -> nn.Module:
    """Makes a Linen module of what is a pair; see `is_pair`."""
    functions = pair if not hasattr(pair, "init") else (pair.init, pair.apply)
    return from_functions(*functions)


def from_factory(factory: Factory) -> nn.Module:
    """Makes a Linen module of a function that returns a pair; equal if factory and options are."""
    _check_pair(f"model: {factory.name}", pair_of(factory))
    return FromFunctions(factory)


@functools.lru_cache(maxsize=64)
def pair_of(source: Pair | Factory) -> Pair:
    """Returns a pair, which its factory makes once."""
    if isinstance(source, Pair):
        return source
    made = source()
    return Pair(made.init, made.apply) if hasattr(made, "init") else Pair(*made)


@functools.lru_cache(maxsize=256)
def _form(source: Pair | Factory, shape: tuple[int, ...]) -> Form:
    """Returns the form of the variables for images of a shape, without making them."""
    pair = pair_of(source)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    init = functools.partial(pair.init, **_flags_of_init(pair))
    made = jax.eval_shape(init, jax.random.key(0), images)
    params, state = _parted(made)
    if state is None:
        return Form(params, None, lambda params, state: params)
    if isinstance(made, Mapping):
        names = [name for name in made if name != "params"]
        return Form(params, state, lambda params, state: {"params": params, names[0]: state})
    return Form(params, state, lambda params, state: (params, state))


def _parted(made: Any) -> Variables:
    """Returns the parameters and the state that `init` has made; the state is None without one."""
    if type(made) is tuple and len(made) == 2:
        return Variables(*made)
    if isinstance(made, Mapping):
        for name in ("state", "batch_stats"):
            if set(made) == {"params", name}:
                return Variables(made["params"], made[name])
    return Variables(made, None)


def _flags_of_init(pair: Pair) -> dict[str, bool]:
    """Returns the flags that `init` takes: batch statistics come to be in training."""
    return flag_arguments(pair.init, train=True, any_name=False)


def _leading(pair: Pair) -> list[str]:
    """Returns the names of the arguments of `apply` between its first and the images."""
    names = list(inspect.signature(pair.apply).parameters)[1:]
    count = next((n for n, name in enumerate(names) if name not in ("state", *KEYS)), len(names))
    return names[:count]


def _arguments(
    pair: Pair, form: Form, params: PyTree, state: PyTree | None, *, train: bool, key: Any
) -> tuple[list[Any], dict[str, Any]]:
    """Returns the arguments of `apply` before the images, and those that go by name."""
    before = _leading(pair)
    apart = "state" in before
    leading = [params if apart or state is None else form.wrap(params, state)]
    leading += [state if name == "state" else key for name in before]
    parameters = inspect.signature(pair.apply).parameters
    named: dict[str, Any] = {
        name: key for name in KEYS if name in parameters and name not in before
    }
    named |= flag_arguments(pair.apply, train=train)
    if state is not None and jax.tree.leaves(state) and not flag_arguments(pair.apply, train=train):
        raise InvalidInputError(
            f"{pair.name}: it has a state, and nothing tells it whether it trains; let apply take "
            "`train`, and use the statistics of the batch only then"
        )
    return leading, named


def _check_pair(what: str, pair: Pair) -> None:
    """Checks that two functions can be called as a pair.

    Raises:
      InvalidInputError: they cannot.
    """
    wanted = "wanted init(key, images) and apply(variables, images, train=…, key=…)"
    try:
        inspect.signature(pair.init).bind(None, None, **_flags_of_init(pair))
        form = Form(None, None, lambda params, state: params)
        leading, named = _arguments(pair, form, None, None, train=True, key=None)
        inspect.signature(pair.apply).bind(*leading, None, **named)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{what}: {wanted}; {error}") from error


def _by_name(label: str, tree: PyTree) -> dict[str, Any]:
    """Returns a tree as nested dictionaries, by the names of its dictionaries, fields and places.

    Raises:
      InvalidInputError: two arrays of the same name, or something that is no array.
    """
    nested: dict[str, Any] = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and not hasattr(leaf, "dtype"):
            raise InvalidInputError(
                f"{label}: init returned {type(leaf).__name__} at "
                f"{jax.tree_util.keystr(path)}; wanted arrays alone"
            )
        *above, last = _names(path)
        inner = nested
        for name in above:
            inner = inner.setdefault(name, {})
        if last in inner:
            raise InvalidInputError(f"{label}: two variables are called {'/'.join(_names(path))}")
        inner[last] = leaf
    return nested


def _like(form: PyTree, nested: Any, label: str) -> PyTree:
    """Returns the arrays of nested dictionaries in the form of a tree; see `_by_name`.

    Raises:
      InvalidInputError: one is missing.
    """
    leaves = []
    for path, _ in jax.tree.leaves_with_path(form):
        value = nested
        for name in _names(path):
            if not isinstance(value, Mapping) or name not in value:
                raise InvalidInputError(f"{label}: {'/'.join(_names(path))} is missing")
            value = value[name]
        leaves.append(value)
    return jax.tree.unflatten(jax.tree.structure(form), leaves)


def _names(path: tuple[Any, ...]) -> list[str]:
    """Returns the keys of a path in a tree as text; an array that is the whole tree is "value"."""
    return [jax.tree_util.keystr((key,), simple=True) for key in path] or ["value"]
