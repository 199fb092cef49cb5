"""The types that data, scores and algorithms share: the page where shapes live.

Letters: N examples, B a batch, K classes, E the width of an embedding, M models;
an image is [H, W, C]. D is the training set, S the forget set, R = D without S, T the test set.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import InvalidInputError, check_indices

Array: TypeAlias = jax.Array
AnyArray: TypeAlias = jax.Array | np.ndarray
Key: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Metrics: TypeAlias = Mapping[str, Array]


class Dataset(NamedTuple):
    """Labelled images; on the host as NumPy, on the device as uint8 once and for all."""

    images: AnyArray
    """uint8[N, H, W, C]"""
    labels: AnyArray
    """int32[N], in 0…K-1"""


class Splits(NamedTuple):
    """A data set with its three parts, on the host."""

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    train: Dataset
    """D: what the original model is trained on, and what forget sets are taken from."""
    validation: Dataset
    """V: for tuning."""
    test: Dataset
    """T: never trained on."""


class Batch(NamedTuple):
    """What a loss sees of a data set in one step."""

    images: Array
    """uint8[B, H, W, C], augmented"""
    labels: Array
    """int32[B]"""
    weights: Array
    """float32[B]: 1, or 0 for an example that only fills the last batch"""
    key: Key
    """for whatever is random in the forward pass, dropout for example"""


class Subset(NamedTuple):
    """A set of examples of static capacity and traced size, so that |R| may change for free."""

    indices: Array
    """int32[capacity]; entries at positions `size` and beyond are padding"""
    size: Array
    """int32[]"""


class Task(NamedTuple):
    """What an unlearner is asked to do: forget S, keep R."""

    forget: Subset
    retain: Subset


class Variables(NamedTuple):
    """A model's parameters and its batch-norm statistics; never changed in place."""

    params: PyTree
    batch_stats: PyTree


class Outputs(NamedTuple):
    """What a model says of a batch."""

    logits: Array
    """float32[B, K]"""
    embeddings: Array
    """float32[B, E], the penultimate layer"""


class Scores(NamedTuple):
    """One number per example of D; LARGER MEANS MORE MEMORIZED, whatever the score."""

    values: np.ndarray
    """float32[N]"""
    standard_error: np.ndarray | None = None
    """float32[N], where the score is an estimate that has one"""


class TrainState(NamedTuple):
    """What stochastic gradient descent carries from epoch to epoch: arrays only."""

    key: Key
    variables: Variables
    optimizer: PyTree
    epoch: Array
    """int32[], epochs done"""
    memory: PyTree = ()
    """what an algorithm keeps besides: a teacher, a mask"""


State = TypeVar("State")


class Unlearner(Protocol[State]):
    """One unlearning algorithm: `init`, then `epochs` times `epoch`, then `finish`.

    An unlearner is a frozen record and a pytree: its numbers are leaves, so that learning rates
    share one compilation and `jax.vmap` over records is a grid search. Its methods are pure and
    are compiled by whoever runs them, `rumjax.run` or `rumjax.ensemble`.
    """

    @property
    def epochs(self) -> int:
        """How many times `epoch` is to be called."""

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> State:
        """The state before the first epoch; `variables` are those of the model to change."""

    def epoch(self, state: State, data: Dataset, task: Task) -> tuple[State, Metrics]:
        """One epoch, and scalars worth plotting, the mean loss for example."""

    def finish(self, state: State) -> Variables:
        """The unlearned model."""


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,)
)
def record(cls: type) -> type:
    """A frozen dataclass with keyword arguments only, registered as a pytree.

    Fields made by `static` are structure, compared by value; all others are leaves. Records only
    hold what they are given: their factories validate, since a record is built anew, with tracers
    inside, whenever JAX takes it apart.
    """
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, kw_only=True)(cls))


def static(**kwargs: Any) -> Any:
    """A field of a record that is structure: hashable, equal by value, part of the compilation."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


def subset(indices: Any, *, capacity: int | None = None) -> Subset:
    """A `Subset` from indices, padded to `capacity` (by default: no padding).

    Raises:
      InvalidInputError: more indices than `capacity`.
    """
    indices = np.asarray(indices, np.int32)
    capacity = len(indices) if capacity is None else capacity
    if len(indices) > capacity:
        raise InvalidInputError(f"subset: {len(indices)} indices exceed the capacity {capacity}")
    padded = np.pad(indices, (0, capacity - len(indices)))
    return Subset(jnp.asarray(padded), jnp.int32(len(indices)))


def task(forget: Any, size: int, *, capacity: int | None = None) -> Task:
    """The task of forgetting `forget` out of examples 0…size-1 and retaining all the others.

    Args:
      forget: distinct integers below `size`; may be empty, which is plain training.
      size: N, the number of examples of D.
      capacity: room for the forget set; tasks of equal capacity share a compilation.

    Raises:
      InvalidInputError: indices out of range or duplicated, or nothing left to retain.
    """
    forget = check_indices("forget set", forget, size, allow_empty=True)
    if len(forget) == size:
        raise InvalidInputError(f"forget set: it covers all {size} examples, nothing is retained")
    retain = np.setdiff1d(np.arange(size), forget)
    return Task(subset(forget, capacity=capacity), subset(retain, capacity=size))
