"""The layers of any network in the order of their first use, and masks of the last ones.

Names do not tell the order ("Conv_10" comes before "Conv_2"), nor does a tree of parameters. The
forward pass does: it is traced, and followed from the parameters to where they meet the images.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.extend import core

from rumjax.errors import InvalidInputError, check_count
from rumjax.models.dense import Name, by_name
from rumjax.models.model import Model
from rumjax.types import AnyArray, Array, Outputs, Variables

PRODUCTS = ("dot_general", "conv_general_dilated", "ragged_dot_general")
"""The primitives by which layers with a kernel apply it."""

Origin: TypeAlias = tuple[int, ...] | None
"""The variables that a value is computed of, by number; None if it depends on the images."""


class Layer(NamedTuple):
    """The parameters and statistics of one module: those whose names differ in the last part alone.

    Arrays right at the root of a tree, such as a class token, are a layer each.

    Examples:
      >>> Layer(("Dense_0",), ("bias", "kernel"), (), "kernel").path
      ('Dense_0',)
    """

    path: tuple[str, ...]
    """of the module; () for an array at the root"""
    parameters: tuple[str, ...]
    """names of its parameters, "kernel" and "bias" for instance"""
    statistics: tuple[str, ...]
    """names of its batch statistics"""
    kind: Literal["kernel", "scale"]
    """"kernel" of a convolution or a dense layer, which multiply what they are given by an array of
    two or more axes; else "scale": norm layers, position embeddings, biases at the root"""


def layers_in_order(model: Model, images: AnyArray | jax.ShapeDtypeStruct) -> tuple[Layer, ...]:
    """Returns all layers of a model in the order in which prediction first uses them.

    An array is used where it, or what is computed of parameters alone, meets what depends on the
    images. Layers that are not used come first. Inside `jax.jit` it may be called like anywhere.

    Args:
      model: the architecture: of Linen, of NNX, or of functions.
      images: of which shape and dtype alone matter.

    Raises:
      InvalidInputError: the model does not take such images.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model = Model(Cnn(3, widths=(4,), hidden=5))
      >>> images = jax.ShapeDtypeStruct((1, 8, 8, 1), np.uint8)
      >>> [layer.path[0] for layer in layers_in_order(model, images)]
      ['Conv_0', 'Dense_0', 'Dense_1']
    """
    dtype = jax.dtypes.canonicalize_dtype(images.dtype)
    return _layers(model, tuple(images.shape[1:]), str(dtype))


def last_layers(
    model: Model, images: AnyArray | jax.ShapeDtypeStruct, count: int, *, norms: bool = True
) -> Variables:
    """Returns a mask of the last convolutions and dense layers, and of the norm layers after each.

    Whatever is used between two of them belongs to the first; what comes before all of them, and
    what is never used, to the very first. So all of them are all variables.

    Args:
      model: the architecture.
      images: of which shape and dtype alone matter.
      count: how many convolutions and dense layers, from 1.
      norms: False leaves out all but the convolutions and dense layers themselves.

    Returns:
      A NumPy bool in the place of each parameter and of each batch statistic.

    Raises:
      InvalidInputError: `count` is below 1, or above the number of such layers.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model = Model(Cnn(3, widths=(4,), hidden=5))
      >>> images = jax.ShapeDtypeStruct((1, 8, 8, 1), np.uint8)
      >>> mask = last_layers(model, images, 1).params
      >>> bool(mask["Dense_0"]["kernel"]), bool(mask["Dense_1"]["kernel"])
      (False, True)
    """
    layers = layers_in_order(model, images)
    kernels = [place for place, layer in enumerate(layers) if layer.kind == "kernel"]
    count = check_count("last layers", count)
    if count > len(kernels):
        raise InvalidInputError(
            f"k, last layers: wanted {count}, but {model.name} has {len(kernels)} convolutions and "
            "dense layers"
        )
    start = 0 if count == len(kernels) else kernels[-count]
    kept = [layer for layer in layers[start:] if norms or layer.kind == "kernel"]
    names = Variables(
        {(*layer.path, name) for layer in kept for name in layer.parameters},
        {(*layer.path, name) for layer in kept for name in layer.statistics},
    )

    def mask(tree: Any, names: set[Name]) -> Any:
        leaves = [np.bool_(name in names) for name in by_name(tree)]
        return jax.tree.unflatten(jax.tree.structure(tree), leaves)

    return Variables(*map(mask, model.signature(images).variables, names))


def classifier(model: Model, images: AnyArray | jax.ShapeDtypeStruct) -> Variables:
    """Returns a mask of the last convolution or dense layer, and of what is used after it.

    See `last_layers`.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model = Model(Cnn(3, widths=(4,), hidden=5))
      >>> mask = classifier(model, jax.ShapeDtypeStruct((1, 8, 8, 1), np.uint8)).params
      >>> [name for name, layer in mask.items() if layer["kernel"].all()]
      ['Dense_1']
    """
    return last_layers(model, images, 1)


@functools.lru_cache(maxsize=256)
def _layers(model: Model, shape: tuple[int, ...], dtype: str) -> tuple[Layer, ...]:
    """Traces a model on images of a shape and dtype, and sorts its layers."""
    images = jax.ShapeDtypeStruct((2, *shape), dtype)
    variables = model.signature(images).variables

    def predict(variables: Variables, images: Array) -> Outputs:
        return model.apply(variables, images, train=False)[0]

    # Follow every variable by its number; the images come last.
    traced = jax.make_jaxpr(predict)(variables, images)
    arrays = [
        (collection, name, len(leaf.shape))
        for collection, tree in variables._asdict().items()
        for name, leaf in by_name(tree).items()
    ]
    uses: dict[int, bool] = {}
    _follow(traced, [*((number,) for number in range(len(arrays))), None], uses)

    # Gather them by module, and sort modules by the first use of any of their arrays.
    modules: dict[Any, list[int]] = {}
    for number, (collection, name, _) in enumerate(arrays):
        modules.setdefault(name[:-1] or (collection, name), []).append(number)
    places = {number: place for place, number in enumerate(uses)}

    def first_use(numbers: list[int]) -> int:
        return min((places[number] for number in numbers if number in places), default=-1)

    ordered = sorted(modules.values(), key=first_use)
    return tuple(
        _layer([(*arrays[number], uses.get(number, False)) for number in numbers])
        for numbers in ordered
    )


def _layer(arrays: Sequence[tuple[str, Name, int, bool]]) -> Layer:
    """Returns a layer of the collection, name, number of axes, and multiplication of its arrays."""
    parameters = [array for array in arrays if array[0] == "params"]
    multiplied = any(axes >= 2 and product for _, _, axes, product in parameters)
    return Layer(
        path=arrays[0][1][:-1],
        parameters=tuple(name[-1] for _, name, _, _ in parameters),
        statistics=tuple(name[-1] for kind, name, _, _ in arrays if kind == "batch_stats"),
        kind="kernel" if multiplied else "scale",
    )


# How values depend on variables and images, equation by equation


def _follow(traced: Any, inputs: Sequence[Origin], uses: dict[int, bool]) -> list[Origin]:
    """Follows variables through a traced function.

    Args:
      traced: a jaxpr, closed or not.
      inputs: origins of its arguments.
      uses: fills, in order of first use, with the numbers of variables that meet something which
        depends on the images; True for those that do so in a product.

    Returns:
      Origins of its results.
    """
    jaxpr = getattr(traced, "jaxpr", traced)
    origins: dict[Any, Origin] = dict(zip(jaxpr.invars, inputs, strict=True))

    # Numbers, and constants of the trace, are of nothing.
    def origin(atom: Any) -> Origin:
        return () if isinstance(atom, core.Literal) else origins.get(atom, ())

    for equation in jaxpr.eqns:
        results = _step(equation, [origin(atom) for atom in equation.invars], uses)
        origins.update(zip(equation.outvars, results, strict=True))
    return [origin(atom) for atom in jaxpr.outvars]


def _step(equation: Any, inputs: list[Origin], uses: dict[int, bool]) -> list[Origin]:
    """Follows variables through an equation; see `_follow`."""
    name, params = equation.primitive.name, equation.params

    # Loops and branches, then whatever calls one function with its own arguments.
    if name == "scan":
        body = getattr(params["jaxpr"], "jaxpr", params["jaxpr"])
        # What is carried keeps its axes; of what is scanned, a step sees one less.
        carried = _count_alike(equation.outvars, body.outvars)
        consts = _count_alike(equation.invars, body.invars) - carried
        return _loop(body, inputs, consts, carried, uses)
    if name == "while":
        of_test, of_body = params["cond_nconsts"], params["body_nconsts"]
        arguments = inputs[of_test:]
        results = _loop(params["body_jaxpr"], arguments, of_body, len(arguments) - of_body, uses)
        _follow(params["cond_jaxpr"], [*inputs[:of_test], *results], uses)
        return results
    if name == "cond":
        branches = [_follow(branch, inputs[1:], uses) for branch in params["branches"]]
        return [_together(results) for results in zip(*branches, strict=True)]
    forms = (len(inputs), len(equation.outvars))
    functions = [getattr(value, "jaxpr", value) for value in params.values()]
    for function in functions:
        called = isinstance(function, core.Jaxpr)
        if called and (len(function.invars), len(function.outvars)) == forms:
            return _follow(function, inputs, uses)

    # An operation. Variables are used where they meet what depends on the images.
    together = _together(inputs)
    if together is None:
        for number in _together([one for one in inputs if one is not None]) or ():
            uses[number] = uses.get(number, False) or name in PRODUCTS
    return [together] * len(equation.outvars)


def _loop(
    body: Any, inputs: list[Origin], consts: int, carried: int, uses: dict[int, bool]
) -> list[Origin]:
    """Follows variables through a loop until what is carried depends on nothing more.

    Args:
      body: a jaxpr of constants, of what is carried, and of what is scanned.
      inputs: origins of its arguments.
      consts: the number of constants.
      carried: the number of arguments and results that are carried.
      uses: see `_follow`.
    """
    while True:
        results = _follow(body, inputs, uses)
        carry = inputs[consts : consts + carried]
        after = [_together(pair) for pair in zip(carry, results[:carried], strict=True)]
        if after == carry:
            return [*after, *results[carried:]]
        inputs = [*inputs[:consts], *after, *inputs[consts + carried :]]


def _count_alike(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """Returns how many values have as many axes outside of a loop as inside."""
    axes = zip(outside, inside, strict=True)
    return sum(len(one.aval.shape) == len(other.aval.shape) for one, other in axes)


def _together(origins: Sequence[Origin]) -> Origin:
    """Returns the origin of what is computed of several values."""
    numbers: dict[int, None] = {}
    for origin in origins:
        if origin is None:
            return None
        numbers |= dict.fromkeys(origin)
    return tuple(numbers)
