"""The model bank: M models of one recipe, each trained on its own random subset of D.

A row per model, in a file of its own, whole or absent. Which subset model m sees and how it is
trained depends on the bank's seed and on m alone, so a bank can be read while it grows, extended,
merged, and trained by any number of processes that share nothing but its directory.
"""

import contextlib
import functools
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from rumjax import ensemble, forget_sets, scores
from rumjax.errors import DamagedFileError, InvalidInputError, WorkDirectoryError
from rumjax.lab.cluster import ALONE, Process
from rumjax.lab.workdir import WorkDirectory, differences
from rumjax.models import Model, predict
from rumjax.training import Recipe
from rumjax.types import Array, Dataset, Key, Scores, Variables

FOLDER = "bank"
HEARTBEAT = 2.0
"""seconds between signs of life of a process that is training"""
STALE = 60.0
"""seconds without one, after which others take over what it was training"""


class Row(NamedTuple):
    """What is kept of a model."""

    member: np.ndarray
    """which examples of D it saw, bool[N]"""
    margins: np.ndarray
    """the true label's logit less the logsumexp of the others', on D and then T, float32[N + T]"""
    correct: np.ndarray
    """whether the prediction is right, bool[N + T]"""
    seconds: float
    """how long its training took, without compilation"""


class ModelBank:
    """A bank in a work directory; see the module's docstring.

    M = 4000 models with N + T = 70 000 take 1.2 GB on disk; what is read here takes the memory of
    a row, unless rows are asked for together.
    """

    def __init__(self, work: WorkDirectory, header: Mapping[str, Any]) -> None:
        """Opens or begins a bank.

        Args:
          work: where it is.
          header: `seed`, `fraction`, `size` (N), `examples` (N + T), and whatever else its models
            depend on; JSON-like.

        Raises:
          WorkDirectoryError: the directory has a bank with another header; names what differs.
        """
        # As it is read again: a tuple, for instance, comes back as a list.
        self.work, self.header = work, json.loads(json.dumps(header))
        recorded = work.read_json(f"{FOLDER}/bank.json")
        if recorded is None:
            work.write_json(f"{FOLDER}/bank.json", self.header)
        elif changes := differences(recorded, self.header):
            raise WorkDirectoryError(
                f"the bank in {work.path} is another one: {'; '.join(changes)}. Choose another "
                "--workdir, or make it anew with --recompute=bank"
            )

    @classmethod
    def open(cls, work: WorkDirectory) -> "ModelBank":
        """The bank that a work directory has.

        Raises:
          WorkDirectoryError: it has none.
        """
        header = work.read_json(f"{FOLDER}/bank.json")
        if header is None:
            raise WorkDirectoryError(f"there is no bank in {work.path}")
        return cls(work, header)

    @property
    def size(self) -> int:
        """N, the number of examples of D."""
        return int(self.header["size"])

    def done(self) -> list[int]:
        """The models that have a row, ascending."""
        names = self.work.names(f"{FOLDER}/[0-9]*.npz")
        return sorted(int(name.removeprefix(f"{FOLDER}/").removesuffix(".npz")) for name in names)

    def subset(self, model: int) -> np.ndarray:
        """The examples that a model sees, int32[round(fraction · N)]."""
        header = self.header
        return scores.random_subset(header["seed"], model, self.size, header["fraction"])

    def member(self, model: int) -> np.ndarray:
        """The same as bool[N]."""
        member = np.zeros(self.size, bool)
        member[self.subset(model)] = True
        return member

    def write(self, model: int, margins: np.ndarray, correct: np.ndarray, seconds: float) -> None:
        """Keeps a model's row.

        Raises:
          WorkDirectoryError: it cannot be written.
        """
        self.work.write_arrays(
            _name(model),
            margins=np.asarray(margins, np.float32),
            correct=np.packbits(correct),
            seconds=np.asarray(seconds),
        )

    def read(self, model: int) -> Row:
        """A model's row.

        Raises:
          DamagedFileError: there is none, or it is damaged.
        """
        found = self.work.read_arrays(_name(model))
        count = self.header["examples"]
        if found.keys() != {"margins", "correct", "seconds"} or found["margins"].shape != (count,):
            raise DamagedFileError(
                f"{self.work.path}/{_name(model)} is not a row of this bank, which has {count} "
                "examples; delete it and start again: it will be made anew"
            )
        correct = np.unpackbits(found["correct"], count=count).astype(bool)
        return Row(self.member(model), found["margins"], correct, float(found["seconds"]))

    def rows(self, models: Iterable[int] | None = None) -> Iterator[Row]:
        """Rows one at a time: of all models that have one, or of those asked for."""
        return (self.read(model) for model in (self.done() if models is None else models))

    def stack(self, models: Iterable[int] | None = None) -> Row:
        """Rows together: member [M, N], margins and correct [M, N + T], seconds in all."""
        rows = list(self.rows(models))
        member, margins, correct = (np.stack([row[i] for row in rows]) for i in range(3))
        return Row(member, margins, correct, float(sum(row.seconds for row in rows)))

    def discard_damaged(self) -> list[int]:
        """Deletes rows that cannot be read, and says whose they were."""
        damaged = []
        for model in self.done():
            try:
                self.read(model)
            except DamagedFileError:
                damaged.append(model)
        self.work.delete(*map(_name, damaged))
        return damaged

    def merge(self, other: "ModelBank") -> list[int]:
        """Takes over the rows that another bank of the same header has and this one lacks.

        Raises:
          InvalidInputError: the headers differ; says in what.
        """
        if changes := differences(self.header, other.header):
            raise InvalidInputError(f"banks that cannot be merged: {'; '.join(changes)}")
        taken = sorted(set(other.done()) - set(self.done()))
        for model in taken:
            row = other.read(model)
            self.write(model, row.margins, row.correct, row.seconds)
        return taken

    # What is read from it

    def memorization(self, models: Iterable[int] | None = None) -> Scores:
        """Memorization scores with standard errors; see `rumjax.scores.memorization`.

        Raises:
          InvalidInputError: an example is in all models or in none.
        """
        return scores.memorization_of(self._tally(models))

    def influence(self, of: Sequence[int], on: Sequence[int]) -> np.ndarray:
        """Influence of some examples of D on some of D and T; see `rumjax.scores.influence`.

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
        """How far scores of m models agree with those of m others, for m doubling up to M/2.

        Args:
          models: M, if not all that there are.
          part: size of each of the lowest, middle and highest set by `forget_sets.by_score`.

        Returns:
          For each m: `models`, `spearman` (rank correlation of the two scores) and `low`, `medium`,
          `high` (the share of each set that the two have in common); m too small to score at all
          are left out.
        """
        done = self.done()[:models]
        found = []
        for count in (2**power for power in range(3, max(len(done) // 2, 1).bit_length())):
            halves = done[:count], done[count : 2 * count]
            try:
                one, other = (self.memorization(half) for half in halves)
            except InvalidInputError:
                continue
            sets = [forget_sets.by_score(each, size=part, center=0.5) for each in (one, other)]
            shared = {
                name: len(np.intersect1d(sets[0][name], sets[1][name])) / len(sets[0][name])
                for name in sets[0]
            }
            rho = float(stats.spearmanr(one.values, other.values).statistic)
            found.append({"models": count, "spearman": rho, **shared})
        return found

    def _tally(self, models: Iterable[int] | None) -> scores.Tally:
        pairs = ((row.member, row.correct[: self.size]) for row in self.rows(models))
        return scores.tally(pairs, self.size)


def _name(model: int) -> str:
    return f"{FOLDER}/{model:05d}.npz"


# Training


def train(
    bank: ModelBank,
    recipe: Recipe,
    data: Dataset,
    key: Key,
    *,
    models: int,
    per_device: int = 1,
    process: Process = ALONE,
    checkpoints: bool = False,
    stale_after: float = STALE,
    on_made: Callable[[ensemble.Made], None] | None = None,
) -> float:
    """Trains what the bank lacks of its first M models; returns when all M are there.

    Each process takes its share first, and then what is left of others' shares. What another one is
    training is left to it for as long as it gives signs of life.

    Args:
      bank: in a directory that all processes share.
      recipe: of all models.
      data: all of D and T, as the bank's header says.
      key: model m is trained with `fold_in(key, m)`.
      models: M.
      per_device: models that a device trains at a time.
      process: which of how many processes this is.
      checkpoints: whether to keep the models too, as `bank_00012` for instance.
      stale_after: seconds without a sign of life, after which another's work is taken over.
      on_made: called whenever some models are done.

    Returns:
      Seconds of compilation.

    Raises:
      DivergenceError: a model's loss or parameters are not finite; names the model.
      WorkDirectoryError: a row cannot be written.
    """
    size = ensemble.at_once(per_device=per_device)[1]
    read = reader(recipe.model, keep=checkpoints)
    compile_seconds = 0.0
    numbers = {f"model {model}": model for model in range(models)}
    with _Claims(bank.work, process, stale_after) as claims:
        works = (
            ensemble.training(
                recipe,
                [f"model {model}" for model in chosen],
                jax.vmap(lambda model: jax.random.fold_in(key, model))(jnp.asarray(chosen)),
                np.stack([bank.subset(model) for model in chosen]),
            )
            for chosen in _remaining(bank, models, size, process, claims, checkpoints)
        )
        for made in ensemble.run(works, data, read=read, per_device=per_device):
            for position, name in enumerate(made.names):
                model = numbers[name]
                row, variables = jax.tree.map(lambda leaf: leaf[position], made.read)  # noqa: B023
                if checkpoints:
                    bank.work.save_model(checkpoint_of(model), variables)
                bank.write(model, row["margins"], row["correct"], made.seconds)
            compile_seconds = made.compile_seconds
            if on_made is not None:
                on_made(made)
    return compile_seconds


def checkpoint_of(model: int) -> str:
    """What the work directory calls a model that is kept."""
    return f"bank_{model:05d}"


def lacking(bank: ModelBank, models: int, *, checkpoints: bool = False) -> list[int]:
    """Which of the first M models have no row, or are not kept and ought to be."""
    done = set(bank.done())
    return [
        model
        for model in range(models)
        if model not in done or (checkpoints and not bank.work.has_model(checkpoint_of(model)))
    ]


def _remaining(
    bank: ModelBank,
    models: int,
    size: int,
    process: Process,
    claims: "_Claims",
    checkpoints: bool = False,
) -> Iterator[list[int]]:
    """What this process is to train next, until the bank is complete."""
    while missing := lacking(bank, models, checkpoints=checkpoints):
        taken = claims.of_others()
        free = [model for model in missing if model not in taken]
        mine = [model for model in free if model // size % process.count == process.index]
        # Another's share from its end, which it would come to last.
        chosen = mine[:size] or free[-size:]
        if not chosen:
            time.sleep(HEARTBEAT / 4)
        elif claims.claim(chosen):
            yield chosen


class _Claims:
    """What each process is training, as a file of each that changes for as long as it lives."""

    def __init__(self, work: WorkDirectory, process: Process, stale_after: float) -> None:
        self.work, self.process, self.stale_after = work, process, stale_after
        self.mine: list[int] = []
        self.beats = 0
        self.seen: dict[str, tuple[Any, float]] = {}
        self.over = threading.Event()
        self.lock = threading.Lock()

    def __enter__(self) -> "_Claims":
        self.thread = threading.Thread(target=self._beat, daemon=True)
        if self.process.count > 1:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        if self.process.count > 1:
            self.thread.join()
            self.work.delete(self._file(self.process.index))

    def claim(self, models: Sequence[int]) -> bool:
        """Takes models; False if a process of a lower number has taken one at the same moment."""
        if self.process.count == 1:
            return True
        self._write(models)
        lower = self.of_others(range(self.process.index))
        return not lower & set(models)

    def of_others(self, indices: Iterable[int] | None = None) -> set[int]:
        """Models that other processes, all or some, are training as far as one can tell."""
        found: set[int] = set()
        for index in range(self.process.count) if indices is None else indices:
            name = self._file(index)
            if index == self.process.index:
                continue
            sign = self.work.read_json(name, missing={"models": []})
            now = time.monotonic()
            if name not in self.seen or self.seen[name][0] != sign:
                self.seen[name] = sign, now
            if now - self.seen[name][1] < self.stale_after:
                found.update(sign["models"])
        return found

    def _file(self, index: int) -> str:
        return f"{FOLDER}/claims/{index}.json"

    def _beat(self) -> None:
        while not self.over.wait(HEARTBEAT):
            # What cannot be written now may be written at the next beat; rows complain for it.
            with contextlib.suppress(WorkDirectoryError):
                self._write(self.mine)

    def _write(self, models: Sequence[int]) -> None:
        with self.lock:
            self.mine = list(models)
            self.beats += 1
            sign = {"models": self.mine, "beat": self.beats, "since": time.time()}
            self.work.write_json(self._file(self.process.index), sign)


@functools.cache
def reader(model: Model, *, keep: bool = False) -> Callable[[Variables, Dataset], Any]:
    """What a bank reads of a trained model on every example: its row, and itself if it is kept."""

    def read(variables: Variables, data: Dataset) -> tuple[dict[str, Array], Any]:
        logits = predict(model, variables, data.images).logits
        position = jnp.arange(len(data.labels))
        true = logits[position, data.labels]
        others = logits.at[position, data.labels].set(-jnp.inf)
        row = {
            "margins": true - jax.nn.logsumexp(others, axis=-1),
            "correct": jnp.argmax(logits, axis=-1) == data.labels,
        }
        return row, variables if keep else ()

    return read
