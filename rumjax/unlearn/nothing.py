"""Doing nothing: the floor of every table, and a legitimate choice for a subset in RUM."""

from rumjax.models import Model
from rumjax.types import Dataset, Key, Metrics, Task, Variables, record, static


@record
class Original:
    """θu = θo."""

    model: Model = static()

    @property
    def epochs(self) -> int:
        """None."""
        return 0

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> Variables:
        """The variables as given."""
        del key, data, task
        return variables

    def epoch(self, state: Variables, data: Dataset, task: Task) -> tuple[Variables, Metrics]:
        """Nothing changes."""
        del data, task
        return state, {}

    def finish(self, state: Variables) -> Variables:
        """The variables as given."""
        return state


def original(model: Model) -> Original:
    """Leaves the model as it is.

    Args:
      model: the architecture of the original model.
    """
    return Original(model=model)
