"""What the stages of a run share: its objects, its directory, its data, and its earlier models."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from rumjax.lab import files
from rumjax.lab.experiment import Case, Run
from rumjax.lab.methods import Method
from rumjax.lab.output import unfailing
from rumjax.lab.workdir import WorkDirectory
from rumjax.rows import suited
from rumjax.types import Dataset, Key, Splits, Variables


class Makers(Protocol):
    """The workers that make what stages lack; see `rumjax.lab.crew.Crew`."""

    def make(self, batches: Sequence[Any], /) -> None:
        """Has batches made."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """The objects that every stage needs."""

    run: Run
    work: WorkDirectory
    """The directory of original models, bank and scores, which all cases share."""
    console: Console
    placed: Callable[[], Dataset]
    """Puts the data on the device when it is first asked for."""
    crew: Makers | None = None
    """The workers that make models; None where this process does."""

    @property
    def data(self) -> Dataset:
        """D and then T, on the device; indices below N are D's."""
        return self.placed()

    @property
    def size(self) -> int:
        """N, the number of examples of D."""
        return self.run.size

    @property
    def labels(self) -> np.ndarray:
        """int32[N], the labels of D, on the host."""
        return np.asarray(self.run.data.train.labels)

    @property
    def cases(self) -> "Iterator[CaseContext]":
        """The context of each case, in order."""
        return map(self.of, self.run.cases)

    def of(self, case: Case) -> "CaseContext":
        """Returns the context of a case."""
        place = self.work.below(case.folder) if case.folder else self.work
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(Context)}
        return CaseContext(**shared, case=case, place=place)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseContext(Context):
    """The objects that the stages of one case need."""

    case: Case
    place: WorkDirectory
    """The directory of the case's forget set, oracles and results."""

    @property
    def before(self) -> "CaseContext | None":
        """The context of the case that this one goes on from."""
        return None if self.case.after is None else self.of(self.case.after)

    def with_methods(self, methods: Sequence[Method]) -> "CaseContext":
        """Returns the context with other settings of the case's methods."""
        case = dataclasses.replace(self.case, methods=tuple(methods))
        return dataclasses.replace(self, case=case)


def context_of(
    run: Run, work: WorkDirectory, console: Console, crew: Makers | None = None
) -> Context:
    """Returns the context of a run, whose data is put on the device once a stage asks for it."""
    data = functools.cache(lambda: placed(run.data.train, run.data.test))
    return Context(run=run, work=work, console=unfailing(console), placed=data, crew=crew)


def placed(*parts: Dataset) -> Dataset:
    """Puts parts of the data on the device, one after another, in the form that suits it."""
    images, labels = (np.concatenate(same) for same in zip(*parts, strict=True))
    on_device: Dataset = jax.tree.map(jnp.asarray, suited(Dataset(images, labels)))
    return on_device


def with_validation(parts: Splits) -> tuple[Dataset, np.ndarray]:
    """Puts D, T and V on the device, one after another; returns them, and where V is among them."""
    data = placed(parts.train, parts.test, parts.validation)
    size = len(data.labels)
    return data, np.arange(size - len(parts.validation.labels), size)


def stage_key(seed: int, name: str) -> Key:
    """Returns the key of a stage, which depends on its seed and its name alone."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


# Models that earlier stages have saved


def load_original(context: Context, seed: int) -> Variables:
    """Loads θo of a seed."""
    return _load(context, context.work, files.original(seed))


def load_oracle(context: CaseContext, seed: int) -> Variables:
    """Loads the reference oracle of a seed, for the case's forget set."""
    return _load(context, context.place, files.oracle("reference", seed))


def load_second(context: CaseContext, seed: int) -> Variables:
    """Loads the second oracle of a seed, which says what a perfect unlearner scores."""
    return _load(context, context.place, files.oracle("second", seed))


def load_teacher(context: CaseContext, number: int) -> Variables:
    """Loads a model retrained without the case's forget set that judges nobody."""
    return _load(context, context.place, files.teacher(number))


def load_of_bank(context: Context, model: int) -> Variables:
    """Loads a model of the bank."""
    return _load(context, context.work, files.bank_model(model))


def load_start(context: CaseContext, method: Method, seed: int) -> Variables:
    """Loads what a method starts from: θo, or its own result of the case before."""
    before = context.before
    if before is None:
        return load_original(context, seed)
    return _load(context, before.place, files.unlearned(method.name, seed))


def _load(context: Context, place: WorkDirectory, name: str) -> Variables:
    return place.load_model(name, context.run.model.signature(context.data.images).variables)
