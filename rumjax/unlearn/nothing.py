"""Doing nothing: the floor of every table, and a legitimate choice for a subset in RUM."""

from rumjax.models import Model
from rumjax.models.checks import check_model
from rumjax.types import Dataset, Key, Metrics, Task, Variables, record, static
from rumjax.unlearn.cards import card


@record
class Original:
    """θu = θo."""

    model: Model = static()

    @property
    def epochs(self) -> int:
        """Zero."""
        return 0

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> Variables:
        """Returns the variables as given."""
        del key, data, task
        return variables

    def epoch(self, state: Variables, data: Dataset, task: Task) -> tuple[Variables, Metrics]:
        """Changes nothing."""
        del data, task
        return state, {}

    def finish(self, state: Variables) -> Variables:
        """Returns the variables as given."""
        return state

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts none."""
        del forget, retain, data
        return 0


@card("nothing", "", ())
def original(model: Model) -> Original:
    """Leaves the model as it is.

    Args:
      model: the architecture of the original model.

    Examples:
      >>> from rumjax.models import Cnn
      >>> original(Model(Cnn(10))).epochs
      0
    """
    return Original(model=check_model(model))
