"""The models of all shards after every slice: as one record, as arrays by name, and as a file."""

import contextlib
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.archives import read_arrays, reason
from rumjax.errors import InvalidInputError, check_indices
from rumjax.models import Model
from rumjax.models.checks import check_model
from rumjax.sisa.plans import Plan, check_plan
from rumjax.types import AnyArray, Key, Variables

CHECKPOINTS = "checkpoints/"
"""Beginning of the names of models' arrays."""


class Ensemble(NamedTuple):
    """The models of all shards after every slice, and what it takes to train them again.

    Examples:
      >>> from rumjax.sisa.plans import plan
      >>> checkpoints = Variables({"bias": np.zeros((2, 1, 3))}, {})
      >>> made = Ensemble(plan(4, shards=2, slices=1), jax.random.key(0), "{}", [3], checkpoints)
      >>> made.plan.shards, made.forgotten
      (2, [3])
    """

    plan: Plan
    key: Key
    recipe: str
    """the numbers of the recipe as JSON; by others, forgetting would not be exact"""
    forgotten: np.ndarray
    """int32, ascending: all that was ever forgotten"""
    checkpoints: Variables
    """NumPy arrays with leading axes [shards, slices]"""


def check_ensemble(ensemble: Any) -> Ensemble:
    """Returns an ensemble, if it is one.

    Raises:
      InvalidInputError: it is something else.
    """
    if not isinstance(ensemble, Ensemble):
        raise InvalidInputError(
            f"sisa: wanted the ensemble of sisa.train, got {type(ensemble).__name__}"
        )
    return ensemble


def to_arrays(ensemble: Ensemble) -> dict[str, np.ndarray]:
    """Returns all of an ensemble as NumPy arrays by name, for whatever keeps arrays.

    Raises:
      InvalidInputError: no ensemble.

    Examples:
      >>> from rumjax.sisa.plans import plan
      >>> checkpoints = Variables({"bias": np.zeros((2, 1, 3))}, {})
      >>> made = Ensemble(plan(4, shards=2, slices=1), jax.random.key(0), "{}", [3], checkpoints)
      >>> list(to_arrays(made))[-2:]
      ['forgotten', 'checkpoints/params/bias']
    """
    plan, key = check_ensemble(ensemble).plan, ensemble.key
    return {
        "shard_of": plan.shard_of,
        "slice_of": plan.slice_of,
        "counts": np.array([plan.shards, plan.slices], np.int32),
        "key": np.asarray(jax.random.key_data(key)),
        "key_kind": np.array(str(jax.random.key_impl(key))),
        "recipe": np.array(ensemble.recipe),
        "forgotten": np.asarray(ensemble.forgotten, np.int32),
        **{
            _name(path): np.asarray(leaf)
            for path, leaf in jax.tree.leaves_with_path(ensemble.checkpoints)
        },
    }


def from_arrays(arrays: Mapping[str, np.ndarray], model: Model, images: AnyArray) -> Ensemble:
    """Returns the ensemble whose arrays `to_arrays` gave.

    Args:
      arrays: by name; others are not looked at.
      model: the architecture.
      images: some that it takes; only shape and dtype count.

    Raises:
      InvalidInputError: an array is missing, or is of another model.

    Examples:
      >>> from rumjax.models import Cnn
      >>> from rumjax.sisa.plans import plan
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), np.zeros((4, 2, 2, 1), np.uint8)
      >>> form = model.signature(images).variables
      >>> zeros = jax.tree.map(lambda leaf: np.zeros((2, 1, *leaf.shape), leaf.dtype), form)
      >>> made = Ensemble(plan(4, shards=2, slices=1), jax.random.key(0), "{}", [3], zeros)
      >>> from_arrays(to_arrays(made), model, images).plan.shards
      2
    """

    def array(name: str) -> np.ndarray:
        if name not in arrays:
            raise InvalidInputError(
                f"sisa: array {name!r} is missing; wanted those of sisa.to_arrays, of this model"
            )
        return arrays[name]

    # The plan, the key and what was forgotten.
    try:
        shards, slices = (int(count) for count in array("counts"))
        plan = check_plan(Plan(array("shard_of"), array("slice_of"), shards, slices))
        key = jax.random.wrap_key_data(jnp.asarray(array("key")), impl=str(array("key_kind")))
        forgotten = check_indices("forgotten", array("forgotten"), plan.size, allow_empty=True)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(
            f"sisa: these are not the arrays of sisa.to_arrays ({reason(error)})"
        ) from error

    # Models in the form that the network has.
    def checkpoint(path: Any, like: jax.ShapeDtypeStruct) -> np.ndarray:
        kept, wanted = array(_name(path)), (shards, slices, *like.shape)
        if kept.dtype.kind == "V":  # NumPy's files know no bfloat16
            kept = kept.view(like.dtype)
        if kept.shape != wanted or kept.dtype != like.dtype:
            raise InvalidInputError(
                f"sisa: array {_name(path)!r} is {kept.dtype}{list(kept.shape)}, and the model "
                f"wants {like.dtype}{list(wanted)}; it is of another model"
            )
        return kept

    form = check_model(model).signature(images).variables
    checkpoints: Variables = jax.tree.map_with_path(checkpoint, form)
    return Ensemble(plan, key, str(array("recipe")), forgotten, checkpoints)


def save(path: str | os.PathLike[str], ensemble: Ensemble) -> None:
    """Writes an ensemble to an .npz file, which is there whole or not at all.

    Args:
      path: of the file; its folder is made if need be, and a file in its place is replaced.
      ensemble: to be written.

    Raises:
      InvalidInputError: no ensemble.
      OSError: the file cannot be written.

    Examples:
      >>> from rumjax.sisa.plans import plan
      >>> checkpoints = Variables({"bias": np.zeros((2, 1, 3))}, {})
      >>> made = Ensemble(plan(4, shards=2, slices=1), jax.random.key(0), "{}", [3], checkpoints)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save(f"{folder}/sisa.npz", made)
      ...     os.listdir(folder)
      ['sisa.npz']
    """
    arrays, target = to_arrays(ensemble), pathlib.Path(path).expanduser()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Under another name first.
    descriptor, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def load(path: str | os.PathLike[str], model: Model, images: AnyArray) -> Ensemble:
    """Reads the ensemble of a file that `save` wrote.

    Args:
      path: of the file.
      model: see `from_arrays`.
      images: see `from_arrays`.

    Raises:
      InvalidInputError: the file cannot be read, or is of another model.

    Examples:
      >>> from rumjax.models import Cnn
      >>> load("nowhere.npz", Model(Cnn(2)), np.zeros((1, 8, 8, 1), np.uint8))
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: SISA ensemble: nowhere.npz cannot be opened (No such file \
or directory); see to the path
    """
    return from_arrays(read_arrays(path, "SISA ensemble"), model, images)


def digest(ensemble: Ensemble) -> str:
    """Returns the SHA-256 of an ensemble: of the names, shapes, dtypes and bytes of its arrays.

    The models of all shards and slices are in it, and plan, key, recipe and what was forgotten. So
    it is that of an ensemble trained from scratch without what this one has forgotten.

    Raises:
      InvalidInputError: no ensemble.

    Examples:
      >>> from rumjax.sisa.plans import plan
      >>> checkpoints = Variables({"bias": np.zeros((2, 1, 3))}, {})
      >>> made = Ensemble(plan(4, shards=2, slices=1), jax.random.key(0), "{}", [3], checkpoints)
      >>> len(digest(made)), digest(made) == digest(made._replace(forgotten=np.array([2])))
      (64, False)
    """
    total = hashlib.sha256()
    for name, array in sorted(to_arrays(ensemble).items()):
        total.update(f"{name} {array.shape} {array.dtype}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _name(path: Any) -> str:
    """Returns the name of a model's array: "checkpoints/params/Dense_0/kernel", for instance."""
    return CHECKPOINTS + jax.tree_util.keystr(path, simple=True, separator="/")
