"""The model bank: M models of one recipe, each trained on its own random subset of D.

Every model has a row in a file of its own, whole or absent. Which subset model m sees and how it is
trained depends on the bank's seed and on m alone. So a bank can be read while it grows, extended,
merged, and trained in shares by any number of processes.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from rumjax import ensemble, forget_sets, scores
from rumjax.errors import DamagedFileError, InvalidInputError, WorkDirectoryError
from rumjax.lab import files
from rumjax.lab.answers import Answers, from_arrays, keeper, lost, reader, to_arrays
from rumjax.lab.storage import ahead
from rumjax.lab.workdir import WorkDirectory, differences
from rumjax.training import Recipe
from rumjax.types import Dataset, Key, Scores


class Row(NamedTuple):
    """A model of the bank: which examples it saw, and its answers on D and then T."""

    member: np.ndarray
    """bool[N], which examples of D it saw"""
    margins: np.ndarray
    """float32[N + T], see `Answers`"""
    correct: np.ndarray
    """bool[N + T], see `Answers`"""
    seconds: float
    """how long its training took, without compilation"""


class ModelBank:
    """Holds the rows of a bank in a work directory.

    4 000 models of 70 000 examples take 1.2 GB on disk. Reading takes the memory of one row, but
    for `stack`, which reads rows together. A model that diverged has a row too, of which nothing
    is computed, and a note of why.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, WorkDirectory(folder) as work:
      ...     bank = ModelBank(work, {"seed": 0, "fraction": 0.5, "size": 6, "examples": 8})
      ...     for model in range(16):
      ...         correct = np.append(bank.member(model), [True, False])  # knows what it saw
      ...         bank.write(model, Answers(np.zeros(8), correct), seconds=1.0)
      ...     bank.memorization().values
      array([1., 1., 1., 1., 1., 1.], dtype=float32)
    """

    def __init__(self, work: WorkDirectory, header: Mapping[str, Any]) -> None:
        """Opens a bank, or begins one.

        Args:
          work: the directory.
          header: `seed`, `fraction`, `size` (N), `examples` (N + T), and whatever else its models
            depend on; JSON-like.

        Raises:
          WorkDirectoryError: the directory has a bank with another header; names what differs.
        """
        # JSON changes some types: a tuple, for instance, comes back as a list.
        self.work, self.header = work, json.loads(json.dumps(header))
        recorded = work.read_json(files.BANK)
        if recorded is None:
            work.write_json(files.BANK, self.header)
        elif changes := differences(recorded, self.header):
            raise WorkDirectoryError(
                f"the bank in {work.path} is another one: {'; '.join(changes)}. Choose another "
                "--workdir, or make it anew with --recompute=bank"
            )

    @classmethod
    def open(cls, work: WorkDirectory) -> "ModelBank":
        """Opens the bank that a work directory has.

        Raises:
          WorkDirectoryError: it has none.
        """
        header = work.read_json(files.BANK)
        if header is None:
            raise WorkDirectoryError(f"there is no bank in {work.path}")
        return cls(work, header)

    @property
    def size(self) -> int:
        """N, the number of examples of D."""
        return int(self.header["size"])

    def done(self) -> list[int]:
        """Lists the models that have a row, in ascending order."""
        return sorted(map(files.number_of, self.work.names(files.bank_row("[0-9]*"))))

    def diverged(self) -> dict[int, str]:
        """Returns the models that diverged, in ascending order, with the reason of each."""
        notes = self.work.names(files.bank_divergence("[0-9]*"))
        return {
            files.number_of(note): self.work.read_json(note, keys=("reason",))["reason"]
            for note in notes
        }

    def subset(self, model: int) -> np.ndarray:
        """Returns the examples that a model sees, int32[round(fraction · N)], ascending."""
        header = self.header
        return scores.random_subset(header["seed"], model, self.size, header["fraction"])

    def member(self, model: int) -> np.ndarray:
        """Returns which examples of D a model sees, bool[N]."""
        member = np.zeros(self.size, bool)
        member[self.subset(model)] = True
        return member

    def write(
        self, model: int, answers: Answers, seconds: float, diverged: str | None = None
    ) -> None:
        """Writes a model's row, after a note of why it diverged if it did.

        Raises:
          WorkDirectoryError: it cannot be written.
        """
        if diverged is not None:
            self.work.write_json(files.bank_divergence(model), {"reason": diverged})
            answers = lost(self.header["examples"])
        self.work.write_arrays(files.bank_row(model), to_arrays(answers, seconds=seconds))

    def read(self, model: int) -> Row:
        """Reads a model's row.

        Raises:
          DamagedFileError: there is none, or it is damaged.
        """
        name, count = files.bank_row(model), self.header["examples"]
        arrays = self.work.read_arrays(name)
        try:
            answers, seconds = from_arrays(arrays, count), float(arrays["seconds"])
        except (InvalidInputError, KeyError) as error:
            raise DamagedFileError(
                f"{self.work.path}/{name} is not a row of this bank, which has {count} examples; "
                "delete it and start again: it will be made anew"
            ) from error
        margins, correct = map(np.asarray, answers)
        return Row(self.member(model), margins, correct, seconds)

    def rows(self, models: Iterable[int] | None = None) -> Iterator[Row]:
        """Reads rows one at a time, of some models or of all; leaves out those that diverged."""
        diverged = self.diverged()
        wanted = self.done() if models is None else models
        return ahead(self.read, (model for model in wanted if model not in diverged))

    def stack(self, models: Iterable[int] | None = None) -> Row:
        """Reads rows together: member [M, N], margins and correct [M, N + T], and all seconds."""
        rows = list(self.rows(models))
        return Row(
            member=np.stack([row.member for row in rows]),
            margins=np.stack([row.margins for row in rows]),
            correct=np.stack([row.correct for row in rows]),
            seconds=float(sum(row.seconds for row in rows)),
        )

    def discard_damaged(self) -> list[int]:
        """Deletes rows that cannot be read, and returns their models."""

        def is_damaged(model: int) -> bool:
            try:
                self.read(model)
            except DamagedFileError:
                return True
            return False

        done = self.done()
        damaged = [model for model, bad in zip(done, ahead(is_damaged, done), strict=True) if bad]
        self.work.delete(*map(files.bank_row, damaged))
        return damaged

    def merge(self, other: "ModelBank") -> list[int]:
        """Copies the rows that another bank of the same header has and this one lacks.

        Raises:
          InvalidInputError: the headers differ; says in what.
        """
        if changes := differences(self.header, other.header):
            raise InvalidInputError(f"banks that cannot be merged: {'; '.join(changes)}")
        copied = sorted(set(other.done()) - set(self.done()))
        diverged = other.diverged()
        for model in copied:
            row = other.read(model)
            answers = Answers(row.margins, row.correct)
            self.write(model, answers, row.seconds, diverged.get(model))
        return copied

    # What is computed from the rows

    def memorization(self, models: Iterable[int] | None = None) -> Scores:
        """Computes memorization with standard errors; see `rumjax.scores.memorization`.

        Raises:
          InvalidInputError: an example is in all models or in none.
        """
        return scores.memorization_of(self._tally(models))

    def influence(self, of: Sequence[int], on: Sequence[int]) -> np.ndarray:
        """Computes the influence of examples of D on examples of D and T.

        See `rumjax.scores.influence`.

        Args:
          of: indices below N, n of them.
          on: indices below N + T, t of them.

        Returns:
          float32[n, t].
        """
        trained, tested = np.asarray(of), np.asarray(on)
        pairs = [(row.member[trained], row.correct[tested]) for row in self.rows()]
        member, correct = (np.stack(each) for each in zip(*pairs, strict=True))
        return scores.influence(member, correct)

    def stability(self, part: int, *, models: int | None = None) -> list[dict[str, float]]:
        """Compares scores of m models with those of m others, for m doubling up to M/2.

        Args:
          part: size of each of the lowest, middle and highest set by `forget_sets.by_score`.
          models: M; all models that have a row by default.

        Returns:
          For each m: `models`, `spearman` (rank correlation of the two scores) and `low`, `medium`,
          `high` (the share of each set that the two have in common). Numbers of models that are too
          small to score every example are left out.
        """
        done = self.done()[:models]
        table = []
        for count in (2**power for power in range(3, max(len(done) // 2, 1).bit_length())):
            halves = done[:count], done[count : 2 * count]
            try:
                first, second = (self.memorization(half) for half in halves)
            except InvalidInputError:
                continue
            sets = [forget_sets.by_score(half, size=part, center=0.5) for half in (first, second)]
            shared = {
                name: len(np.intersect1d(sets[0][name], sets[1][name])) / len(sets[0][name])
                for name in sets[0]
            }
            rho = float(stats.spearmanr(first.values, second.values).statistic)
            table.append({"models": count, "spearman": rho, **shared})
        return table

    def _tally(self, models: Iterable[int] | None) -> scores.Tally:
        pairs = ((row.member, row.correct[: self.size]) for row in self.rows(models))
        return scores.tally(pairs, self.size)


# Training


def train(
    bank: ModelBank,
    recipe: Recipe,
    data: Dataset,
    key: Key,
    models: Sequence[int],
    *,
    per_device: int | str = "auto",
    checkpoints: bool = False,
    on_made: Callable[[ensemble.Made], None] | None = None,
    on_arranged: Callable[[ensemble.Arrangement], None] | None = None,
) -> None:
    """Trains some models of a bank.

    Args:
      bank: a bank.
      recipe: the recipe of all models.
      data: D and then T, on the device, as the bank's header says.
      key: model m is trained with `fold_in(key, m)`.
      models: their numbers.
      per_device: how many models a device trains at a time, at most; see
        `rumjax.ensemble.arrange`. If memory runs out, half of them.
      checkpoints: whether to keep the models too, as `bank_00012` for instance.
      on_made: called whenever some models are done.
      on_arranged: called with how the devices share the models, before they are trained.

    Raises:
      WorkDirectoryError: a row cannot be written.
    """
    # What is read of a model, the name it has in messages, and how models share the devices.
    read = keeper(recipe.model) if checkpoints else reader(recipe.model)
    left = {f"model {model}": model for model in models}

    def work_of(chosen: Sequence[int]) -> ensemble.Work:
        return ensemble.training(
            recipe,
            [f"model {model}" for model in chosen],
            jax.vmap(lambda model: jax.random.fold_in(key, model))(jnp.asarray(chosen)),
            np.stack([bank.subset(model) for model in chosen]),
        )

    def run(arrangement: ensemble.Arrangement) -> Iterator[ensemble.Made]:
        per_device, within, _ = arrangement
        if on_arranged is not None:
            on_arranged(arrangement)
        # Works are asked for one at a time, when the models of the one before are no longer left.
        size = ensemble.at_once(per_device=per_device)[1]
        some = iter(lambda: list(left.values())[:size], [])
        return ensemble.run(
            map(work_of, some),
            data,
            read=read,
            per_device=per_device,
            within=within,
            diverging="noted",
        )

    # A model is kept before its row, which says that it is done; if it diverged, as a note.
    arrangement = ensemble.arrange(lambda: work_of([0]), data, read=read, most=per_device)
    for made in ensemble.as_memory_allows(run, arrangement):
        for position, name in enumerate(made.names):
            model = left.pop(name)
            answers = jax.tree.map(lambda leaf: leaf[position], made.read)  # noqa: B023
            error = made.diverged[position]
            if checkpoints:
                answers, variables = answers
                if error is None:
                    bank.work.save_model(files.bank_model(model), variables)
            reason = None if error is None else str(error)
            bank.write(model, answers, made.seconds, reason)
        if on_made is not None:
            on_made(made)


def lacking(bank: ModelBank, models: int, *, checkpoints: bool = False) -> list[int]:
    """Lists those of the first M models that have no row, or are to be kept and are not."""
    done, diverged = set(bank.done()), bank.diverged()

    def is_kept(model: int) -> bool:
        return model in diverged or bank.work.has_model(files.bank_model(model))

    return [
        model
        for model in range(models)
        if model not in done or (checkpoints and not is_kept(model))
    ]
