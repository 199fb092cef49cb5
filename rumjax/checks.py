"""Checks of what a run is given, on the host: data, keys and tasks.

Every function that trains, unlearns or measures on arrays makes them first, since JAX would clamp
an index that is out of range, wrap one that is negative, and give NaN for a label of no class.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import InvalidInputError, shown
from rumjax.models import Model
from rumjax.models.checks import check_images, check_labels_of, check_variables, is_traced
from rumjax.types import Dataset, Key, PyTree, Subset, Task, Variables


def check_data(what: str, data: Any, *models: Model, allow_empty: bool = False) -> Dataset:
    """Returns data with images [N, H, W, C] and labels int32[N], if every model takes them.

    Args:
      what: the name used in messages.
      data: `Dataset`, or a pair of images and labels.
      *models: whose classes the labels have to be among.
      allow_empty: accepts no example at all.

    Raises:
      InvalidInputError: no such pair, no examples, images or labels of another form, or labels of
        no class of a model.

    Examples:
      >>> data = Dataset(np.zeros((2, 8, 8), np.uint8), [[0], [1]])
      >>> check_data("data", data).labels
      array([0, 1], dtype=int32)
    """
    if not isinstance(data, tuple) or len(data) != 2:
        raise InvalidInputError(
            f"{what}: wanted rumjax.Dataset(images, labels), got {type(data).__name__}"
        )
    images = check_images(f"{what}, images", data[0])
    if len(images) == 0 and not allow_empty:
        raise InvalidInputError(f"{what}: no examples; at least one is needed")
    classes = [model.signature(images).num_classes for model in models]
    labels = check_labels_of(
        f"{what}, labels", data[1], len(images), min(classes) if classes else None
    )
    return Dataset(images, labels)


def check_keys(what: str, keys: Any, *shape: int) -> Key:
    """Returns keys of this shape, if they are keys; those of the old style are converted.

    Raises:
      InvalidInputError: no keys, or another number of them.

    Examples:
      >>> check_keys("key", jax.random.PRNGKey(0)).shape
      ()
    """
    if isinstance(keys, np.ndarray | jax.Array):
        raw = jax.eval_shape(jax.random.key_data, jax.random.key(0))
        if keys.dtype == raw.dtype and keys.shape == (*shape, *raw.shape):
            return jax.random.wrap_key_data(jnp.asarray(keys))
        if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) and keys.shape == shape:
            return jnp.asarray(keys)
    got = f"{keys.dtype}{list(keys.shape)}" if hasattr(keys, "shape") else shown(keys)
    wanted = f"{shape[0]} keys, jax.random.split(key, {shape[0]})" if shape else "a key"
    raise InvalidInputError(
        f"{what}: wanted {wanted}, for instance of jax.random.key(0), got {got}"
    )


def check_outside(what: str, tree: PyTree) -> None:
    """Checks that models are not made inside `jax.jit` or `jax.vmap`.

    Raises:
      InvalidInputError: an array of the tree is still to be computed.
    """
    if is_traced(tree):
        raise InvalidInputError(f"{what}: inside jax.jit or jax.vmap use rumjax.run_pure")


def check_subset(what: str, chosen: Any, size: int) -> Subset:
    """Returns a subset, if it points at distinct examples below `size`.

    Raises:
      InvalidInputError: no subset, indices out of range, or an example twice.

    Examples:
      >>> check_subset("S", Subset(jnp.array([5, 0]), jnp.int32(1)), 4)
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: S: index 5 is outside 0…3, the 4 examples of the data
    """
    # The form of a subset.
    if not isinstance(chosen, Subset):
        raise InvalidInputError(
            f"{what}: wanted rumjax.subset(indices), got {type(chosen).__name__}"
        )
    if (
        np.ndim(chosen.indices) != 1
        or np.ndim(chosen.size) != 0
        or not all(jnp.issubdtype(jnp.result_type(part), jnp.integer) for part in chosen)
    ):
        raise InvalidInputError(
            f"{what}: wanted indices int32[capacity] and a size int32[]; make it by rumjax.subset"
        )
    if is_traced(chosen):
        return chosen

    # The positions that are no padding.
    if not 0 <= int(chosen.size) <= len(chosen.indices):
        raise InvalidInputError(
            f"{what}: size {int(chosen.size)} of {len(chosen.indices)} indices; make it by "
            "rumjax.subset"
        )
    indices = np.asarray(chosen.indices)[: int(chosen.size)]
    outside = indices[(indices < 0) | (indices >= size)]
    if outside.size:
        raise InvalidInputError(
            f"{what}: index {outside[0]} is outside 0…{size - 1}, the {size} examples of the data"
        )
    counts = np.bincount(indices, minlength=1)
    if counts.max() > 1:
        raise InvalidInputError(f"{what}: example {counts.argmax()} is in it twice")
    return chosen


def check_task(what: str, task: Any, size: int) -> Task:
    """Returns a task, if its sets are disjoint and point at examples below `size`.

    Raises:
      InvalidInputError: no task, indices out of range, an example twice, or nothing to retain.

    Examples:
      >>> from rumjax.types import task
      >>> int(check_task("step", task([1], 4), 4).retain.size)
      3
    """
    if not isinstance(task, Task):
        raise InvalidInputError(
            f"{what}: wanted a task of rumjax.task(forget, {size}), got {type(task).__name__}"
        )
    for name, part in zip(Task._fields, task, strict=True):
        check_subset(f"{what}, {name} set", part, size)
    if is_traced(task):
        return task

    # Something is retained, and nothing of that is forgotten.
    forget, retain = (np.asarray(part.indices)[: int(part.size)] for part in task)
    if not retain.size:
        raise InvalidInputError(f"{what}: nothing is retained")
    shared = np.flatnonzero(np.bincount(np.concatenate([forget, retain])) > 1)
    if shared.size:
        raise InvalidInputError(
            f"{what}: forget set and retain set share {shared.size} examples, the first is "
            f"{shared[0]}"
        )
    return task


def check_point(
    what: str, model: Model, variables: Any, data: Any, *subsets: Subset, allow_empty: bool = False
) -> tuple[Variables, Dataset]:
    """Returns variables and data on the device, if a model takes both, for gradients there.

    Args:
      what: the name used in messages.
      model: the architecture.
      variables: of the model.
      data: all examples.
      *subsets: of the data.
      allow_empty: accepts data without examples.

    Raises:
      InvalidInputError: they do not go together, or a subset is empty.

    Examples:
      >>> from rumjax.models import Cnn
      >>> data = Dataset(np.zeros((1, 2, 2, 1), np.uint8), np.zeros(1, int))
      >>> model = Model(Cnn(2, widths=(), hidden=4))
      >>> variables = model.init(jax.random.key(0), data.images)
      >>> check_point("gradient", model, variables, data)[1].labels.dtype
      dtype('int32')
    """
    data = check_data(what, data, model, allow_empty=allow_empty)
    for chosen in subsets:
        check_subset(what, chosen, len(data.labels))
        if not is_traced(chosen.size) and int(chosen.size) == 0:
            raise InvalidInputError(f"{what}: the subset is empty; at least one example is needed")
    variables = check_variables(f"{what}, variables", model, variables, data.images)
    return variables, jax.tree.map(jnp.asarray, data)
