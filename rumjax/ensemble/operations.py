"""How many operations a training step takes, counted in what is traced, for any platform."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.ensemble.works import Work
from rumjax.models import Model
from rumjax.platforms import compiling_for
from rumjax.types import Dataset


def largest_step(work: Work, data: Dataset) -> float:
    """Returns the operations of one model in the largest training step of a work, roughly."""
    return max((step_operations(step.unlearner, data) for step in work.steps), default=0.0)


def step_operations(unlearner: Any, data: Dataset) -> float:
    """Returns the operations of one model in a training step of an unlearner, roughly.

    A step is taken for three forward passes of a batch, or of a micro-batch where there is nothing
    larger. Of an unlearner that does not say its model and either, they are infinite; of one that
    takes no steps, none.
    """
    if np.all(getattr(unlearner, "epochs", 1) == 0):
        return 0.0
    model = getattr(unlearner, "model", None)
    batch = getattr(unlearner, "batch_size", getattr(unlearner, "micro_batch", None))
    if not isinstance(model, Model) or not isinstance(batch, int):
        return np.inf
    return 3.0 * batch * _forward_operations(model, tuple(data.images.shape[1:]))


@functools.lru_cache(maxsize=256)
def _forward_operations(model: Model, shape: tuple[int, ...]) -> int:
    """Returns the operations of a forward pass of one image."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
    form = model.signature(images).variables

    def forward(variables: Any, images: Any) -> Any:
        return model.apply(variables, images, train=False)[0]

    # In the form of one platform, so that the number is the same on all.
    with compiling_for("tpu"):
        return operations_of(jax.make_jaxpr(forward)(form, images))


def operations_of(program: Any) -> int:
    """Counts the multiplications and additions in a program's products and convolutions.

    Everything else is left out, being little beside them. A convolution counts the zeros around its
    images too. Of branches the largest counts, and a loop of unknown length as one turn. JAX's own
    `Lowered.cost_analysis` would count after lowering, but only CPU's client has it.

    Args:
      program: a jaxpr, as `jax.make_jaxpr` returns it.

    Examples:
      >>> operations_of(jax.make_jaxpr(jnp.dot)(jnp.ones((2, 5)), jnp.ones((5, 3))))
      60
    """
    return sum(_operations(equation) for equation in program.eqns)


def _operations(equation: Any) -> int:
    """Counts the operations of an equation, with those of the programs inside it."""
    name, about = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = about["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return _products(equation) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, features = equation.invars[1].aval.shape, about["dimension_numbers"].rhs_spec[0]
        return _products(equation) * math.prod(kernel) // kernel[features]
    inside = [operations_of(program) for value in about.values() for program in _programs(value)]
    if name == "cond":
        return max(inside, default=0)
    return about.get("length", 1) * sum(inside) if name == "scan" else sum(inside)


def _products(equation: Any) -> int:
    """Returns two operations, a multiplication and an addition, for each number of the result."""
    return 2 * math.prod(equation.outvars[0].aval.shape)


def _programs(value: Any) -> Iterator[Any]:
    """Yields the jaxprs in a parameter of an equation, which may be a sequence of them."""
    if hasattr(value, "eqns"):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _programs(one)
