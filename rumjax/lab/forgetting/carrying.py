"""How a batch is carried out: by unlearning one model, or exactly, by an ensemble of shards.

The rest of the story is the same for both: here is all that differs, and how their models are kept.
"""

from typing import Any, Protocol, TypeAlias

from rumjax import sisa
from rumjax.lab import files, jobs
from rumjax.lab.context import Context, load_original
from rumjax.lab.experiment import Run
from rumjax.lab.forgetting import choosing, exact, findings
from rumjax.lab.forgetting.bench import Bench, Evidence
from rumjax.lab.forgetting.chooser import RETRAIN, Chooser
from rumjax.lab.forgetting.choosing import Choice
from rumjax.lab.forgetting.deletion import Deletion
from rumjax.lab.stages import originals
from rumjax.lab.workdir import WorkDirectory
from rumjax.lab.workdir import digest as digest_of_variables
from rumjax.types import Variables

Model: TypeAlias = Variables | sisa.Ensemble
"""What forgets, and is delivered."""
EXACT = (RETRAIN, exact.NAME)
"""What makes a model that was never trained on S."""


class Carrier(Protocol):
    """Carries out a batch."""

    @property
    def deletion(self) -> Deletion:
        """The batch."""

    def choose(self, *, retrain: bool = False) -> Choice:
        """Makes the model that the batch ends with, saves it, and says how it was made."""

    def measure(self, model: Any) -> Evidence:
        """Measures the model before the batch, and the one that it ends with."""

    def replay(self, name: str, form: Any) -> Any:
        """Makes the model once more, by the name and form of its `Choice`."""


class Unlearning:
    """A batch on one model: chooses among candidates, see `choosing`."""

    def __init__(
        self, context: Context, place: WorkDirectory, deletion: Deletion, start: Variables
    ) -> None:
        """Takes what `Chooser` takes."""
        self.deletion = deletion
        self.chooser = Chooser(context, place, deletion, start)

    def choose(self, *, retrain: bool = False) -> Choice:
        """Returns the best candidate; see `choosing.choose`."""
        return choosing.choose(self.chooser, retrain=retrain)

    def measure(self, model: Variables) -> Evidence:
        """Measures what the model still knows of S, and lists who became more exposed."""
        bench = Bench(self.chooser, model)
        measured = findings.measure(bench)
        name = files.of_batch(self.deletion.number, files.EXPOSED)
        self.chooser.place.write_text(name, findings.exposed(bench))
        return measured

    def replay(self, name: str, form: Any) -> Variables:
        """Makes the model once more; see `choosing.replay`."""
        return choosing.replay(self.chooser, name, form)


def carrier(context: Context, place: WorkDirectory, deletion: Deletion, start: Model) -> Carrier:
    """Returns what carries out a batch on a model."""
    if isinstance(start, sisa.Ensemble):
        return exact.Exact(context, place, deletion, start)
    return Unlearning(context, place, deletion, start)


def begin(context: Context, place: WorkDirectory) -> None:
    """Makes the model before the first batch, or takes the one that is given."""
    if context.run.config.sisa is not None:
        exact.begin(context, place)
        return
    jobs.make(originals.batch(context, [context.run.config.seed]))
    place.save_model(files.BROUGHT, load_original(context, context.run.config.seed))


def save(place: WorkDirectory, name: str, model: Model) -> None:
    """Saves a model, whole or not at all."""
    if isinstance(model, sisa.Ensemble):
        exact.save(place, name, model)
    else:
        place.save_model(name, model)


def load(run: Run, place: WorkDirectory, name: str) -> Model:
    """Loads a model of the network of a run.

    Raises:
      DamagedFileError: it is not there, is damaged, or is of another network.
    """
    if run.config.sisa is not None:
        return exact.load(run, place, name)
    return place.load_model(name, run.model.signature(run.data.train.images).variables)


def is_there(place: WorkDirectory, name: str) -> bool:
    """Says whether a model was saved under that name."""
    return place.has_model(name) or place.has(exact.file_of(name))


def digest(model: Model) -> str:
    """Returns the SHA-256 of a model; of an ensemble, that of its plan, key and recipe too."""
    return sisa.digest(model) if isinstance(model, sisa.Ensemble) else digest_of_variables(model)
