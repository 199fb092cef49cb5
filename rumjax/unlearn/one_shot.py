"""Algorithms that change a model at once, and take no steps of descent."""

import jax.numpy as jnp

from rumjax.models import Model
from rumjax.types import (
    Dataset,
    Key,
    Metrics,
    PyTree,
    Task,
    TrainState,
    Variables,
    record,
    static,
)


@record
class OneShot:
    """Changes the parameters in a single epoch; batch-norm statistics stay as they are."""

    model: Model = static()
    micro_batch: int = static()

    @property
    def epochs(self) -> int:
        """One: everything happens at once."""
        return 1

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Prepares nothing."""
        del data, task
        return TrainState(key, variables, (), jnp.int32(0))

    def epoch(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Changes the parameters."""
        params, metrics = self.changed(state.key, state.variables, data, task)
        variables = state.variables._replace(params=params)
        return state._replace(variables=variables, epoch=state.epoch + 1), metrics

    def changed(
        self, key: Key, variables: Variables, data: Dataset, task: Task
    ) -> tuple[PyTree, Metrics]:
        """Returns the new parameters, and what a reader of the results needs to know of them."""
        raise TypeError(f"{type(self).__name__} does not define changed")

    def finish(self, state: TrainState) -> Variables:
        """Returns the variables of the state."""
        return state.variables
