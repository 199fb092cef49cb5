"""What a model says of every example of D and T: one record, one function, one form in files."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.models import Model, margins, predict
from rumjax.types import AnyArray, Array, Dataset, Variables


class Answers(NamedTuple):
    """A model's answers on some examples, or those of several models with a leading axis."""

    margins: AnyArray
    """float32[n], the true label's logit less the logsumexp of the others'"""
    correct: AnyArray
    """bool[n], whether the true label has the largest logit"""


def answers_of(logits: Array, labels: Array) -> Answers:
    """Turns logits float32[n, K] and labels int32[n] into answers, in JAX."""
    return Answers(margins(logits, labels), jnp.argmax(logits, axis=-1) == labels)


answers_on_host = jax.jit(answers_of)
"""The same, compiled, for logits that are at hand."""


@functools.cache
def reader(model: Model) -> Callable[[Variables, Dataset], Answers]:
    """Returns what reads a model's answers on all examples; one object for equal models."""

    def read(variables: Variables, data: Dataset) -> Answers:
        return answers_of(predict(model, variables, data.images).logits, jnp.asarray(data.labels))

    return read


def read_answers(model: Model, variables: Variables, data: Dataset) -> Answers:
    """Returns a model's answers on all examples, on the host."""
    return Answers(*map(np.asarray, jax.jit(reader(model))(variables, data)))


@functools.cache
def keeper(model: Model) -> Callable[[Variables, Dataset], tuple[Answers, Variables]]:
    """Returns what reads a model's answers and its variables; one object for equal models."""

    def read(variables: Variables, data: Dataset) -> tuple[Answers, Variables]:
        return reader(model)(variables, data), variables

    return read


def to_arrays(answers: Answers, **others: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of a file: margins, packed correctness, and whatever is said besides."""
    return {
        "margins": np.asarray(answers.margins, np.float32),
        "correct": np.packbits(np.asarray(answers.correct)),
        **{name: np.asarray(value) for name, value in others.items()},
    }


def from_arrays(arrays: Mapping[str, np.ndarray], count: int) -> Answers:
    """Returns the answers on `count` examples that a file's arrays hold.

    Raises:
      InvalidInputError: an array is missing, or is of another number of examples.
    """
    if not {"margins", "correct"} <= arrays.keys() or arrays["margins"].shape != (count,):
        raise InvalidInputError(f"answers: wanted margins and correctness on {count} examples")
    correct = np.unpackbits(arrays["correct"], count=count).astype(bool)
    return Answers(arrays["margins"], correct)


def lost(count: int) -> Answers:
    """Returns the answers of a model that diverged: its margins are not finite."""
    return Answers(np.full(count, np.nan, np.float32), np.zeros(count, bool))


def stack(answers: list[Answers]) -> Answers:
    """Stacks the answers of several models: [M, n] each."""
    return Answers(
        np.stack([np.asarray(one.margins) for one in answers]),
        np.stack([np.asarray(one.correct) for one in answers]),
    )
