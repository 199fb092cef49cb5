"""What is said of models that are made at the same time: of all, of each, and of every epoch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rumjax.errors import DivergenceError
from rumjax.types import PyTree
from rumjax.unlearn.steps import Step


class Epoch(NamedTuple):
    """The report of an epoch of some models."""

    names: Sequence[str]
    step: Step
    epoch: int
    metrics: Sequence[dict[str, float]]
    """of every model"""
    watched: PyTree
    """the results of `watch` on them: NumPy arrays with a leading axis of m"""


class Made(NamedTuple):
    """Some models, once they are made."""

    names: Sequence[str]
    read: PyTree
    """the results of `read` on them: NumPy arrays with a leading axis of m"""
    curves: Sequence[list[dict[str, Any]]]
    """of every model, the metrics of every epoch, with the step's name as `part` and `epoch` from
    1"""
    diverged: Sequence[DivergenceError | None]
    """of every model, the error if it diverged; always None unless that was to be noted"""
    seconds: float
    """the time of all models that the devices made at once, over their number; no compilation"""
    compile_seconds: float
    """the time of the compilation before the first"""


class Result(NamedTuple):
    """A model, once it is made."""

    read: PyTree
    """the result of `read` on it, NumPy arrays"""
    curve: list[dict[str, Any]]
    """its metrics after every epoch, with the step's name as `part` and `epoch` from 1"""
    diverged: DivergenceError | None
    """the error, if the model diverged and that was to be noted"""
    seconds: float
    """its share of the time that its group took, without compilation"""
    compile_seconds: float
    """the time of the compilation that all groups share"""
