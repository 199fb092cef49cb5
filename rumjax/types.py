"""The types that data, scores and algorithms share: the page where shapes live.

Letters: N examples, B a batch, K classes, E the width of an embedding, M models;
an image is [H, W, C]. D is the training set, S the forget set, R = D without S, T the test set.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import InvalidInputError, as_array, check_count, check_indices

Array: TypeAlias = jax.Array
AnyArray: TypeAlias = jax.Array | np.ndarray
Key: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Metrics: TypeAlias = Mapping[str, Array]


PARTS = ("train", "validation", "test")
"""The parts of a data set, in D, V and T."""


class Dataset(NamedTuple):
    """Labelled images; on the host as NumPy, on the device as uint8 once and for all.

    Examples:
      >>> data = Dataset(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1], np.int32))
      >>> len(data.labels)
      4
    """

    images: AnyArray
    """uint8[N, H, W, C]"""
    labels: AnyArray
    """int32[N], in 0…K-1"""


class Origin(NamedTuple):
    """Where the examples of a data set come from: what their source calls them.

    Examples:
      >>> Origin("train", 100, np.array([3, 50])).rows[1]
      np.int64(50)
    """

    part: str
    """the part of the source that rows are counted in, one of `PARTS`"""
    size: int
    """how many rows that part has"""
    rows: np.ndarray
    """int64[N], the row of each example, from 0"""
    names: np.ndarray | None = None
    """str[size], the file of every row relative to `data_dir`, or its id; None without names"""


class Splits(NamedTuple):
    """A data set with its three parts, on the host.

    Examples:
      >>> data = Dataset(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1], np.int32))
      >>> splits = Splits("mine", 2, ("cat", "dog"), train=data, validation=data, test=data)
      >>> splits.num_classes, splits.origin("train").rows
      (2, array([0, 1, 2, 3]))
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    train: Dataset
    """D: the original model is trained on it, and forget sets are taken from it"""
    validation: Dataset
    """V: for tuning"""
    test: Dataset
    """T: never trained on"""
    origins: Mapping[str, Origin] = types.MappingProxyType({})
    """where the examples of "train", "validation" and "test" come from; by default rows are
    counted in each of them as they are"""

    def origin(self, part: str) -> Origin:
        """Returns where the examples of "train", "validation" or "test" come from."""
        count = len(getattr(self, part).labels)
        return self.origins.get(part) or Origin(part, count, np.arange(count))


class Batch(NamedTuple):
    """The examples of a data set that a loss takes in one step."""

    images: Array
    """uint8[B, H, W, C], augmented"""
    labels: Array
    """int32[B]"""
    weights: Array
    """float32[B]: 1, or 0 for an example that only fills the last batch"""
    key: Key
    """for randomness in the forward pass, dropout for example"""
    indices: Array
    """int32[B], the examples' places in the data set"""


class Subset(NamedTuple):
    """A set of examples of static capacity and traced size, so that |R| may change for free.

    Examples:
      >>> Subset(jnp.array([3, 5, 0]), jnp.int32(2)).indices.shape
      (3,)
    """

    indices: Array
    """int32[capacity]; entries at positions `size` and beyond are padding"""
    size: Array
    """int32[]"""


class Task(NamedTuple):
    """The task of an unlearner: forget S, keep R.

    Examples:
      >>> int(task([1, 3], 10).retain.size)
      8
    """

    forget: Subset
    retain: Subset


class Variables(NamedTuple):
    """A model's parameters and its batch-norm statistics; never changed in place.

    Examples:
      >>> Variables(params={"bias": jnp.zeros(3)}, batch_stats={}).params["bias"].shape
      (3,)
    """

    params: PyTree
    batch_stats: PyTree


def collections_of(what: str, variables: Any) -> Variables:
    """Returns the collections of variables, wherever they come from.

    They may be `Variables`, the dictionary of a Linen module, or a train state.

    Raises:
      InvalidInputError: there are no parameters.

    Examples:
      >>> collections_of("variables", {"params": {}})
      Variables(params={}, batch_stats={})
    """
    collections = {
        name: variables.get(name) if hasattr(variables, "get") else getattr(variables, name, None)
        for name in Variables._fields
    }
    if collections["params"] is None:
        raise InvalidInputError(
            f"{what}: wanted rumjax.Variables(params, batch_stats), got {type(variables).__name__}"
        )
    return Variables(**{k: {} if v is None else v for k, v in collections.items()})


class Outputs(NamedTuple):
    """A model's outputs on a batch."""

    logits: Array
    """float32[B, K]"""
    embeddings: Array
    """float32[B, E], the penultimate layer"""


class Scores(NamedTuple):
    """One number per example of D; LARGER MEANS MORE MEMORIZED, whatever the score.

    Examples:
      >>> Scores(np.array([0.1, 0.9], np.float32)).standard_error is None
      True
    """

    values: np.ndarray
    """float32[N]"""
    standard_error: np.ndarray | None = None
    """float32[N], if the score is an estimate that has one"""


class TrainState(NamedTuple):
    """The state that stochastic gradient descent carries from epoch to epoch: arrays only."""

    key: Key
    variables: Variables
    optimizer: PyTree
    epoch: Array
    """int32[], epochs done"""
    memory: PyTree = ()
    """the memory of an algorithm: a teacher, a mask"""


State = TypeVar("State")


class Unlearner(Protocol[State]):
    """An unlearning algorithm: `init`, then `epochs` times `epoch`, then `finish`.

    An unlearner is a frozen record and a pytree: its numbers are leaves, so that learning rates
    share one compilation, and `jax.vmap` of `rumjax.run_pure` over a record of `rumjax.grid` is a
    grid search. Its methods are pure and are compiled by the runner, `rumjax.run` or
    `rumjax.ensemble`. The class of one that needs no variables says `from_scratch = True`.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.unlearn import finetune
      >>> unlearner: Unlearner = finetune(Model(Cnn(10)), epochs=3)
      >>> unlearner.epochs
      3
    """

    @property
    def epochs(self) -> int:
        """Returns the number of calls of `epoch`."""

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> State:
        """Returns the state before the first epoch; `variables` are of the model to change."""

    def epoch(self, state: State, data: Dataset, task: Task) -> tuple[State, Metrics]:
        """Runs one epoch, and returns scalars worth plotting too, the mean loss for example."""

    def finish(self, state: State) -> Variables:
        """Returns the unlearned model."""


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,)
)
def record(cls: type) -> type:
    """Makes a class a frozen dataclass with keyword arguments only, registered as a pytree.

    Fields made by `static` are structure, compared by value; all others are leaves. Records do not
    validate, their factories do, since JAX builds a record anew, with tracers inside, whenever it
    takes it apart.
    """
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, kw_only=True)(cls))


def fact(*shape: str, about: str) -> Any:
    """Declares a field of an unlearner as a fact, which whoever plans the run finds out for it.

    Unlearners are shown D alone. What they need to know of held-out images, of other models or of
    retrained ones is a leaf, and None until it is known; a run refuses an unlearner without it.

    Args:
      *shape: of the array, "N" being the number of examples of D and "K" that of classes.
      about: what it is, for messages.
    """
    return dataclasses.field(default=None, metadata={"fact": shape, "about": about})


def static(**kwargs: Any) -> Any:
    """Declares a field of a record as structure: hashable, equal by value, compiled for."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


def check_made(what: str, indices: Any) -> None:
    """Checks that indices are there, and not still to be computed inside `jax.jit` or `jax.vmap`.

    Raises:
      InvalidInputError: they are still to be computed.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(indices)):
        raise InvalidInputError(
            f"{what}: its examples are still to be computed, inside jax.jit or jax.vmap; make "
            "tasks outside, stack them by jax.tree.map(lambda *parts: jnp.stack(parts), *tasks), "
            "and map over those"
        )


def subset(indices: Any, *, capacity: int | None = None) -> Subset:
    """Makes a `Subset` of indices, padded to `capacity` (by default: no padding, but one of none).

    Raises:
      InvalidInputError: no distinct integers from 0, or more of them than `capacity`.

    Examples:
      >>> chosen = subset([3, 5], capacity=3)
      >>> chosen.indices.tolist(), int(chosen.size)
      ([3, 5, 0], 2)
    """
    # The order is kept.
    check_made("subset", indices)
    indices = sorted(indices) if isinstance(indices, set | frozenset) else indices
    count = len(check_indices("subset", indices, None, allow_empty=True))
    # An array of no place could not be read from.
    capacity = max(count, 1) if capacity is None else check_count("capacity", capacity, least=0)
    if count > capacity:
        raise InvalidInputError(f"subset: {count} indices exceed the capacity {capacity}")
    padded = np.pad(as_array("subset", indices).astype(np.int32), (0, capacity - count))
    return Subset(jnp.asarray(padded), jnp.int32(count))


def task(
    forget: Any, size: int, *, capacity: int | None = None, already_forgotten: Any = ()
) -> Task:
    """Makes the task of forgetting `forget` out of examples 0…size-1 and retaining the others.

    Of requests that come one after another, each names all that was forgotten before it: without
    `already_forgotten`, the second would retain the examples of the first, and teach them again.

    Args:
      forget: distinct integers below `size`; may be empty, which is plain training.
      size: N, the number of examples of D.
      capacity: room for the forget set; tasks of equal capacity share a compilation.
      already_forgotten: distinct integers below `size`, none of them in `forget`, which are neither
        forgotten nor retained.

    Raises:
      InvalidInputError: indices out of range or duplicated, examples to forget that are already
        forgotten, or nothing left to retain.

    Examples:
      >>> task([1, 3], 5).retain.indices.tolist()[:3]
      [0, 2, 4]
      >>> second = task([0], 5, already_forgotten=[1, 3]).retain
      >>> second.indices[: second.size].tolist()
      [2, 4]
    """
    # S, and what was forgotten before.
    check_made("forget set", (forget, already_forgotten, size))
    size = check_count("size", size, least=0)
    forget = check_indices("forget set", forget, size, allow_empty=True)
    before = check_indices("already forgotten", already_forgotten, size, allow_empty=True)
    again = np.intersect1d(forget, before)
    if again.size:
        raise InvalidInputError(
            f"forget set: {again.size} examples are already forgotten, the first is {again[0]}; "
            "name the new ones only"
        )

    # R is the rest of D.
    retain = np.setdiff1d(np.arange(size), np.concatenate([forget, before]))
    if not len(retain):
        raise InvalidInputError(f"forget set: it covers all {size} examples, nothing is retained")
    return Task(subset(forget, capacity=capacity), subset(retain, capacity=size))
