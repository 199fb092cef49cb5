"""Requests carried out exactly, by SISA: the model is an ensemble of shards, see `rumjax.sisa`.

    first start ─► ensemble of shards, slice by slice ─► batch ─► touched shards, again ─► gate

The examples that the ensemble was trained on are recorded once, by their hashes, so that each keeps
its shard and slice when images that were forgotten leave the folder. Training a shard again is
given blank images in the places of all that is forgotten.
"""

import collections
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from rumjax import evidence, sisa
from rumjax.data import hashes
from rumjax.ensemble import Epoch
from rumjax.errors import DamagedFileError, InvalidInputError
from rumjax.lab import files, progress
from rumjax.lab.answers import read_answers
from rumjax.lab.context import Context, load_original, stage_key, with_validation
from rumjax.lab.experiment import Run
from rumjax.lab.forgetting.bench import Evidence, Row, accuracies
from rumjax.lab.forgetting.choosing import Choice
from rumjax.lab.forgetting.deletion import Deletion
from rumjax.lab.forgetting.records import CostRecord
from rumjax.lab.workdir import WorkDirectory
from rumjax.sisa.slices import check_recipe
from rumjax.types import Dataset

NAME = "sisa"
"""What batches are carried out by, as the log and the certificate call it."""
EXAMPLES = "sisa_examples.npz"
"""Which examples the ensemble was trained on, in the order of its plan."""
NOT_TESTED = ("what attacks find, since none was run on an ensemble that was trained without S",)


class Examples(NamedTuple):
    """The examples that an ensemble was trained on, in the order of its plan."""

    hashes: np.ndarray
    """str[N], SHA-256 of image and label"""
    rows: np.ndarray
    """int[N], in the source"""


# What is kept


def file_of(name: str) -> str:
    """Names the file of an ensemble, which `rumjax.sisa.load` reads."""
    return f"{files.checkpoint(name)}/sisa.npz"


def save(place: WorkDirectory, name: str, ensemble: sisa.Ensemble) -> None:
    """Saves an ensemble, whole or not at all."""
    place.write_arrays(file_of(name), sisa.to_arrays(ensemble))


def load(run: Run, place: WorkDirectory, name: str) -> sisa.Ensemble:
    """Loads an ensemble.

    Raises:
      DamagedFileError: it is not there, is damaged, or is of another network.
    """
    arrays = place.read_arrays(file_of(name))
    try:
        return sisa.from_arrays(arrays, run.model, run.data.train.images[:1])
    except InvalidInputError as error:
        raise DamagedFileError(f"{place.path / file_of(name)}: {error}") from error


def begin(context: Context, place: WorkDirectory) -> None:
    """Trains the ensemble before the first batch, and saves it and what it was trained on.

    Raises:
      InvalidInputError: more shards than examples, or too few epochs for the slices.
      DivergenceError: a shard has diverged.
    """
    run, section = context.run, context.run.config.sisa
    assert section is not None
    train = run.data.train
    plan = sisa.plan(run.size, **dataclasses.asdict(section))
    total = plan.shards * sum(sisa.epochs_by_slice(int(run.recipe.epochs), plan.slices))
    with progress.stage(context.console, "Shards", total, "epochs") as advance:
        ensemble = sisa.train(
            stage_key(run.config.seed, NAME), plan, run.recipe, train, on_epoch=told(advance)
        )
    place.write_arrays(
        EXAMPLES,
        {"hashes": np.asarray(hashes(train), "S64"), "rows": run.data.origin("train").rows},
    )
    save(place, files.BROUGHT, ensemble)


def told(advance: progress.Advance) -> Callable[[Epoch], None]:
    """Returns what says of each epoch which shards it was of."""

    def on_epoch(epoch: Epoch) -> None:
        for name in epoch.names:
            advance(f"{name}, {epoch.step.name}")

    return on_epoch


def check_same(run: Run, begun_with: Any) -> None:
    """Checks that a directory was begun with the shards that the configuration names.

    Args:
      run: with the section `sisa`, or without.
      begun_with: what that section was when the directory was begun, or None.

    Raises:
      InvalidInputError: it was begun with others, or with one model.
    """
    now = shards_of(run)
    if now != begun_with:
        raise InvalidInputError(
            f"sisa: the requests of this directory were begun with {_listed(begun_with)}, and the "
            f"configuration has {_listed(now)}; it stays as it was for all later requests, so put "
            "the section sisa back, or choose another --workdir"
        )


def check(run: Run, place: WorkDirectory, ensemble: sisa.Ensemble, earlier: np.ndarray) -> None:
    """Checks that later requests can be carried out on an ensemble.

    Args:
      run: of the configuration.
      place: the directory of requests.
      ensemble: that was delivered last, or the one to begin with.
      earlier: positions in D of what was forgotten.

    Raises:
      InvalidInputError: the recipe is another one, or D is not what it was trained on, less what
        was forgotten.
    """
    check_recipe(ensemble, run.recipe)
    positions_of(run, place, ensemble, earlier)


def positions_of(
    run: Run, place: WorkDirectory, ensemble: sisa.Ensemble, earlier: np.ndarray
) -> np.ndarray:
    """Returns the position of every example of D in the plan of an ensemble; see `located`."""
    arrays = place.read_arrays(EXAMPLES, keys=Examples._fields)
    known = Examples(arrays["hashes"].astype(str), arrays["rows"])
    now = Examples(hashes(run.data.train), run.data.origin("train").rows)
    return located(known, ensemble.forgotten, now, earlier)


def shards_of(run: Run) -> dict[str, Any] | None:
    """Returns the section `sisa` as JSON has it, or None where there is none."""
    section = run.config.sisa
    return None if section is None else dataclasses.asdict(section)


def _listed(section: Any) -> str:
    if section is None:
        return "one model"
    return ", ".join(f"{name} {value}" for name, value in section.items())


# A batch


class Exact:
    """A batch on an ensemble: trains the shards again that the batch touches."""

    def __init__(
        self, context: Context, place: WorkDirectory, deletion: Deletion, start: sisa.Ensemble
    ) -> None:
        """Finds the examples of D in the plan of the ensemble.

        Args:
          context: the run's.
          place: the directory of requests.
          deletion: the batch.
          start: the ensemble that is to forget.

        Raises:
          InvalidInputError: D is not what the ensemble was trained on, less what was forgotten.
        """
        self.context, self.place, self.deletion, self.start = context, place, deletion, start
        self.run = context.run
        self.positions = positions_of(self.run, place, start, deletion.earlier)
        self.forget = np.sort(self.positions[deletion.forget])
        self.price = sisa.cost(
            start.plan, int(self.run.recipe.epochs), self.forget, start.forgotten
        )

    def choose(self, *, retrain: bool = False) -> Choice:
        """Trains the touched shards again, saves the ensemble, and says what that took.

        Args:
          retrain: changes nothing, since nothing else was chosen.

        Raises:
          DivergenceError: a shard has diverged.
        """
        del retrain
        plan, price = self.start.plan, self.price
        epochs = sisa.epochs_by_slice(int(self.run.recipe.epochs), plan.slices)
        total = sum(sum(epochs[first:]) for first in price.retrained.values())
        began = time.perf_counter()
        with progress.stage(self.context.console, "Shards", total, "epochs") as advance:
            ensemble = self.retrained(told(advance))
        seconds = time.perf_counter() - began
        save(self.place, files.candidate(self.deletion.number, NAME), ensemble)

        # What was trained again, by which numbers.
        training = dict(self.run.config.training)
        steps = tuple(
            {
                "name": f"shard {shard}",
                "algorithm": NAME,
                "options": {
                    **training,
                    "first_slice": first,
                    "slices": plan.slices,
                    "epochs_by_slice": epochs[first:],
                },
                "examples": int(np.sum(plan.shard_of[self.forget] == shard)),
            }
            for shard, first in price.retrained.items()
        )
        form = {"strategy": NAME, **(shards_of(self.run) or {}), "select": {"all": training}}
        taken = (price.gradients, price.gradients, price.retraining)
        return Choice(NAME, form, steps, *taken, seconds=seconds, tried=())

    def retrained(self, on_epoch: Callable[[Epoch], None] | None = None) -> sisa.Ensemble:
        """Returns the ensemble without S; its training is given R, and blanks for all else."""
        retain, train = self.deletion.retain, self.run.data.train
        places, size = self.positions[retain], self.start.plan.size
        images = np.zeros((size, *train.images.shape[1:]), train.images.dtype)
        labels = np.zeros(size, np.int32)
        images[places] = np.asarray(train.images)[retain]
        labels[places] = np.asarray(train.labels)[retain]
        data = Dataset(images, labels)
        return sisa.forget(
            self.start, self.run.recipe, data, self.forget, on_epoch=on_epoch
        ).ensemble

    def replay(self, name: str, form: Any) -> sisa.Ensemble:
        """Makes the ensemble of the batch once more."""
        del name, form
        return self.retrained()

    def measure(self, ensemble: sisa.Ensemble) -> Evidence:
        """Measures accuracy before and after, beside that of one model where there is one."""
        _, unseen = self.looked_at
        correct = {"before": self.correct(self.start), "after": self.correct(ensemble)}
        return Evidence(
            rows=tuple(self.beside()),
            accuracy=accuracies(self.deletion, unseen, correct),
            calibration=(),
            near_copies=None,
            not_tested=NOT_TESTED,
        )

    @functools.cached_property
    def looked_at(self) -> tuple[Dataset, np.ndarray]:
        """D, T and V, one after another, and where V is among them."""
        return with_validation(self.run.data)

    def correct(self, ensemble: sisa.Ensemble) -> np.ndarray:
        """Says which of D, T and V the ensemble is right on, by its mean probabilities, bool."""
        data, _ = self.looked_at
        shares = _shares(self.run.model, sisa.models(ensemble), data.images)
        return np.asarray(np.argmax(shares, axis=1) == data.labels)

    def beside(self) -> Iterator[Row]:
        """Yields the accuracy of one model on D, if the directory has one, to compare with."""
        seed = self.run.config.seed
        if not self.context.work.has_model(files.original(seed)):
            return
        data, unseen = self.looked_at
        single = load_original(self.context, seed)
        right = np.asarray(read_answers(self.run.model, single, data).correct)
        tested = np.arange(self.run.size, unseen[0])
        for name, chosen in (("V", unseen), ("T", tested)):
            if len(chosen):
                share = evidence.proportion(int(right[chosen].sum()), len(chosen), 0.0)
                yield Row(
                    f"accuracy on {name} of one model",
                    "for comparison: the original model of the run in this directory, which is not "
                    f"delivered; training one model without S takes {self.price.retraining} "
                    f"gradients of single examples, the shards took {self.price.gradients}",
                    *(share.value, share.low, share.high, np.nan, np.nan, share.count),
                )


_shares = jax.jit(sisa.predict, static_argnums=0)


def located(
    known: Examples, forgotten: np.ndarray, now: Examples, earlier: np.ndarray
) -> np.ndarray:
    """Finds the examples of D among those that an ensemble was trained on.

    Args:
      known: what it was trained on.
      forgotten: positions in `known` of what it has forgotten.
      now: D as it is now; what was forgotten may be gone, and rows may have moved.
      earlier: positions in D of what was forgotten.

    Returns:
      int32[N], the position in `known` of every example of D, -1 for those of `earlier`. Of
      several copies, it is the one of the same row, if there is one.

    Raises:
      InvalidInputError: D has other examples, or lacks some that were not forgotten.

    Examples:
      >>> known = Examples(np.array(["a", "b", "a", "c"]), np.arange(4))
      >>> now = Examples(np.array(["a", "a", "c"]), np.arange(3))
      >>> located(known, np.array([1]), now, np.array([], int))
      array([0, 2, 3], dtype=int32)
    """
    # The copies of each image that are still learned from, and their rows.
    copies: dict[str, dict[int, int]] = collections.defaultdict(dict)
    for position in np.setdiff1d(np.arange(len(known.hashes)), forgotten).tolist():
        copies[str(known.hashes[position])][int(known.rows[position])] = position

    # Those of the same row first.
    positions = np.full(len(now.hashes), -1, np.int32)
    rest = []
    for here in np.setdiff1d(np.arange(len(now.hashes)), earlier).tolist():
        same = copies[str(now.hashes[here])]
        row = int(now.rows[here])
        if row in same:
            positions[here] = same.pop(row)
        else:
            rest.append(here)
    strange = 0
    for here in rest:
        same = copies[str(now.hashes[here])]
        if same:
            positions[here] = same.pop(min(same))
        else:
            strange += 1
    lacking = sum(map(len, copies.values()))
    if strange or lacking:
        raise InvalidInputError(
            f"sisa: D is not what the shards were trained on: {strange} examples are new, and "
            f"{lacking} are gone that no request named; put back the images as they were, or "
            "begin anew in another --workdir"
        )
    return positions


# What a certificate says otherwise than of one model


def recipe_of(run: Run) -> dict[str, Any]:
    """Returns the recipe of an ensemble, with its shards."""
    return {
        "about": "every shard was trained by it, slice by slice, see rumjax.sisa",
        "model": run.config.model,
        **run.config.training,
        NAME: shards_of(run),
    }


def cost_of(choice: Choice) -> CostRecord:
    """Returns what a batch cost, which has no budget: what it touches must be trained again."""
    return CostRecord(
        seconds=choice.seconds,
        share_of_retraining=choice.spent / choice.retraining,
        note=f"{choice.spent} gradients of single examples for {len(choice.steps)} shards; "
        f"training one model from scratch on R takes {choice.retraining}; seconds with compilation",
    )


def touched(run: Run, deletion: Deletion, choice: Choice) -> dict[str, str]:
    """Says what data the steps have looked at."""
    # What images are normalized by was settled before the first batch.
    given = {"mean", "std"} <= set(run.config.model) or run.config.model.get("pixels") == "0-255"
    of_all = "" if given else "; the mean and deviation that normalize images are of D with it"
    shards = ", ".join(str(step["name"]).removeprefix("shard ") for step in choice.steps)
    return {
        "S": f"{len(deletion.forget)} examples, looked at for accuracy alone{of_all}",
        "R": f"{len(deletion.retain)} examples, those in shards {shards} trained on",
        "V": "looked at for accuracy alone",
        "T": "looked at for accuracy alone",
    }
