"""NNX modules as Linen modules: made anew from their variables for every call.

Flax's own bridge, `flax.nnx.bridge.to_linen`, works with `Model` too. It leaves it to the network
to know whether it trains, keeps variables of any type, and draws fresh parameters at every call.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from rumjax.errors import InvalidInputError
from rumjax.models.conv import method_for_backend
from rumjax.models.factories import Factory
from rumjax.models.layers import convolve
from rumjax.models.modes import booleans, flag_arguments, flags
from rumjax.types import Array, Key

Path: TypeAlias = tuple[Any, ...]
COLLECTIONS = ("params", "batch_stats")


def from_nnx(factory: Callable[..., Any], **options: Any) -> nn.Module:
    """Makes a Linen module, as `Model` takes it, of an NNX class or of a function that makes one.

    The factory is called as `factory(rngs=flax.nnx.Rngs(key), **options)`. Its parameters and its
    statistics are named as in `flax.nnx.state`, "conv/kernel" for instance. Out of training the
    module is put into `.eval()`, in training into `.train()`; submodules of your own hold a flag as
    an attribute, and `__call__` may take one as an argument, by any of the names in
    `rumjax.models.modes.FLAGS`. Dropout draws from `rngs` as it was made with them, or from an
    argument `rngs` of `__call__`.

    Modules of the same factory and options are equal; of a lambda, only those of the same lambda.

    Args:
      factory: takes `rngs`.
      **options: further arguments, `num_classes` for instance; numbers, strings, tuples, functions.

    Raises:
      InvalidInputError: an instance, whose class or factory is wanted instead; a factory that does
        not take `rngs`, or makes something else; variables besides `flax.nnx.Param` and
        `flax.nnx.BatchStat`.

    Examples:
      >>> from flax import nnx
      >>> from rumjax.models import Model
      >>> class Linear(nnx.Module):
      ...     def __init__(self, num_classes, *, rngs):
      ...         self.dense = nnx.Linear(16, num_classes, rngs=rngs)
      ...     def __call__(self, images):
      ...         return self.dense(images.reshape(len(images), -1))
      >>> model = Model(from_nnx(Linear, num_classes=3))
      >>> images = jnp.zeros((2, 4, 4, 1), jnp.uint8)
      >>> model.init(jax.random.key(0), images).params["dense"]["kernel"].shape
      (16, 3)
    """
    if is_nnx_instance(factory):
        raise InvalidInputError(
            f"model: {type(factory).__name__} is an instance of an NNX module, whose parameters "
            "could not be drawn again; give its class, or a function of `rngs` that makes it"
        )
    made = Factory.of(factory, options)
    try:
        skeleton = _skeleton(made)
    except _NoModule as error:
        raise InvalidInputError(f"model: {error}") from error
    except TypeError as error:
        if "rngs" not in str(error):
            raise
        raise InvalidInputError(
            f"model: {made.name} does not take rngs ({error}), so that all seeds would start alike"
        ) from error
    for path, leaf in skeleton[1]:
        _collection(made.name, path, leaf)
    return FromNnx(made)


class FromNnx(nn.Module):
    """An NNX module; see `from_nnx`."""

    factory: Factory

    @property
    def network_name(self) -> str:
        """The name of the network, for messages."""
        return self.factory.name

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Any:
        """Calls the NNX module with the variables of this one, in training or out of it."""
        # Draw the variables where there are none.
        if self.is_initializing():
            self._put(_draw(self.factory, self.make_rng("params")))
        variables = {name: dict(self.variables.get(name, {})) for name in COLLECTIONS}
        has_key = self.has_rng("dropout")
        key = self.make_rng("dropout") if has_key else jax.random.key(0)

        # Make the module, and put it and its call into training or out of it.
        module = _module(self.factory, variables, key)
        before = _values(module)
        arguments = _set_mode(self.network_name, module, train=train)
        extra = {}
        if "rngs" in inspect.signature(type(module).__call__).parameters:
            extra["rngs"] = _rngs(jax.random.fold_in(key, 0))
            before |= _counts(extra["rngs"])
        returned = module(images, **arguments, **extra)
        if self.is_initializing():
            return returned
        after = _values(module)
        for rngs in extra.values():
            after |= _counts(rngs)
        self._finish(module, before, after, train=train, has_key=has_key)
        return returned

    def _finish(
        self,
        module: Any,
        before: Mapping[Path, Any],
        after: Mapping[Path, Any],
        *,
        train: bool,
        has_key: bool,
    ) -> None:
        """Checks what a call has drawn and changed, and keeps the new statistics."""
        from flax import nnx

        changed = {path for path, value in after.items() if value is not before.get(path, value)}
        # NNX's own loops over layers hand back all variables, changed or not.
        known = not any(path[0] == "params" for path in changed)
        drawn = any(path[0] == "count" for path in changed)
        if drawn and known and not has_key:
            self.make_rng("dropout")  # Linen's error, which `Model` explains
        layers = [layer for _, layer in nnx.iter_modules(module)]
        drops = any(isinstance(layer, nnx.Dropout) and 0 < layer.rate < 1 for layer in layers)
        if train and drops and known and not drawn:
            raise InvalidInputError(
                f"{self.network_name} has dropout that training does not use: leave "
                "`deterministic` to `.train()` and `.eval()`, or let its __call__ take `train`"
            )
        moved = [path for path in changed if path[0] == "batch_stats"]
        if train or (moved and known):
            self._put({"batch_stats": _nested({p[1:]: after[p] for p in moved})}, onto=True)

    def _put(self, collections: Mapping[str, Mapping[str, Any]], *, onto: bool = False) -> None:
        """Sets variables, in the place of those that were there, or among them."""
        for collection, tree in collections.items():
            for name, value in tree.items():
                there = self.variables.get(collection, {}).get(name) if onto else None
                self.put_variable(collection, name, _merged(there, value))


class _NoModule(Exception):  # noqa: N818  (it never leaves this file)
    """A factory has made something else."""


def is_nnx_instance(value: Any) -> bool:
    """Tests whether something is an instance of an NNX module."""
    from flax import nnx

    return isinstance(value, nnx.Module)


def is_nnx_factory(value: Any) -> bool:
    """Tests whether something is an NNX class, or a function that takes `rngs`."""
    from flax import nnx

    function = Factory.of(value, {}).function
    if isinstance(function, type):
        return issubclass(function, nnx.Module)
    try:
        return "rngs" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def check_arguments(factory: Factory) -> None:
    """Checks that an NNX class or a function takes the options of a factory, and `rngs`.

    Raises:
      TypeError: it does not.
    """
    # Of the class itself, NNX tells no arguments.
    of_class = isinstance(factory.function, type)
    function = factory.function.__init__ if of_class else factory.function
    given = {**dict(factory.options), "rngs": None}
    inspect.signature(function).bind(*[None] * of_class, **given)


@functools.lru_cache(maxsize=64)
def _skeleton(factory: Factory) -> tuple[Any, tuple[tuple[Path, Any], ...]]:
    """Makes a module once, and returns its graph, and its variables with forms for values.

    It is made outside of whatever is traced, as NNX modules usually are. Arrays that are no
    variables stay as they are.
    """
    from flax import nnx

    with jax.ensure_compile_time_eval():
        module = factory(rngs=nnx.Rngs(0))
        if not isinstance(module, nnx.Module):
            raise _NoModule(
                f"{factory.name} takes rngs but makes no NNX module, it made {type(module)}"
            )
        graph, state = nnx.split(module)

    def form(leaf: Any) -> Any:
        if not isinstance(leaf, nnx.Variable):
            return leaf
        value = leaf.get_raw_value()
        return leaf.replace(jax.ShapeDtypeStruct(value.shape, value.dtype))

    return graph, tuple((path, form(leaf)) for path, leaf in nnx.to_flat_state(state))


def _collection(name: str, path: Path, leaf: Any) -> str | None:
    """Returns where a variable is kept: a collection, "key", "count", or None if it is none.

    Raises:
      InvalidInputError: a variable of another type.
    """
    from flax import nnx

    if not isinstance(leaf, nnx.Variable):
        return None
    kinds = {
        nnx.Param: "params",
        nnx.BatchStat: "batch_stats",
        nnx.RngKey: "key",
        nnx.RngCount: "count",
    }
    for kind, collection in kinds.items():
        if isinstance(leaf, kind):
            return collection
    raise InvalidInputError(
        f"{name} has a variable {'/'.join(map(str, path))} of {type(leaf).__name__}; only "
        "nnx.Param and nnx.BatchStat are kept; arrays that are no variables stay as they were made"
    )


def _draw(factory: Factory, key: Key) -> dict[str, dict[str, Any]]:
    """Returns fresh parameters and statistics, as nested dictionaries."""
    from flax import nnx

    state = nnx.state(factory(rngs=nnx.Rngs(key)))
    flat: dict[str, dict[Path, Any]] = {name: {} for name in COLLECTIONS}
    for path, leaf in nnx.to_flat_state(state):
        collection = _collection(factory.name, path, leaf)
        if collection in flat:
            flat[collection][path] = leaf.get_raw_value()
    return {name: _nested(values) for name, values in flat.items()}


def _module(factory: Factory, variables: Mapping[str, Any], key: Key) -> Any:
    """Makes a module of these parameters and statistics, which draws from this key."""
    from flax import nnx

    graph, forms = _skeleton(factory)
    leaves = []
    for number, (path, leaf) in enumerate(forms):
        collection = _collection(factory.name, path, leaf)
        if collection is not None:
            form = leaf.get_raw_value()
            if collection in COLLECTIONS:
                value = _at(variables[collection], path, f"{factory.name}: {collection}")
            elif collection == "count":
                value = jnp.zeros(form.shape, form.dtype)
            else:
                own = jax.random.fold_in(key, number + 1)
                value = jax.random.split(own, form.shape) if form.shape else own
            leaf = leaf.replace(value)
        leaves.append((path, leaf))
    module = nnx.merge(graph, nnx.from_flat_state(leaves))

    # Convolutions by products, where these are quicker.
    if method_for_backend() == "dot":
        for _, layer in nnx.iter_modules(module):
            if (
                type(layer) is nnx.Conv
                and layer.conv_general_dilated is jax.lax.conv_general_dilated
            ):
                layer.conv_general_dilated = convolve
    return module


def _set_mode(name: str, module: Any, *, train: bool) -> dict[str, bool]:
    """Puts a module into training or out of it; returns the flags that its call takes.

    Raises:
      InvalidInputError: nothing but a flag of an unknown name.
    """
    from flax import nnx

    module.train() if train else module.eval()
    values = flags(train=train)
    layers = [layer for _, layer in nnx.iter_modules(module)]
    has_flags = False
    for layer in layers:
        for flag in values.keys() & vars(layer).keys():
            if isinstance(vars(layer)[flag], bool | None):
                setattr(layer, flag, values[flag])
                has_flags = True
    call = type(module).__call__
    chain = isinstance(module, nnx.Sequential)
    arguments = flag_arguments(call, train=train, any_name=not (has_flags or chain))
    if not (has_flags or arguments) and (unknown := booleans(call)):
        raise InvalidInputError(
            f"{name}: its __call__ takes {unknown[0]!r}, and nothing says whether that means "
            "training; call it 'train' if it does, or else make it an attribute"
        )
    return arguments


def _values(module: Any) -> dict[Path, Any]:
    """Returns the value of every variable by collection and path."""
    from flax import nnx

    values: dict[Path, Any] = {}
    for path, leaf in nnx.to_flat_state(nnx.state(module)):
        for kind, collection in (
            (nnx.Param, "params"),
            (nnx.BatchStat, "batch_stats"),
            (nnx.RngCount, "count"),
        ):
            if isinstance(leaf, kind):
                values[collection, *path] = leaf.get_raw_value()
    return values


def _rngs(key: Key) -> Any:
    from flax import nnx

    return nnx.Rngs(key)


def _counts(rngs: Any) -> dict[Path, Any]:
    """Returns how much was drawn of every stream of an argument `rngs`."""
    return {("count", "", *path[1:]): value for path, value in _values(rngs).items()}


def _names(path: Path) -> Iterator[str]:
    """Yields the keys of a path as they are in dictionaries: numbers of layers are text."""
    return map(str, path)


def _nested(flat: Mapping[Path, Any]) -> dict[str, Any]:
    """Returns nested dictionaries of values by path."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *above, last = _names(path)
        inner = tree
        for name in above:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return tree


def _at(tree: Any, path: Path, what: str) -> Any:
    """Returns the value at a path.

    Raises:
      InvalidInputError: there is none.
    """
    for name in _names(path):
        if not isinstance(tree, Mapping) or name not in tree:
            raise InvalidInputError(f"{what}/{'/'.join(_names(path))} is missing")
        tree = tree[name]
    return tree


def _merged(old: Any, new: Any) -> Any:
    """Returns nested dictionaries with the values of others put in their places."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}
