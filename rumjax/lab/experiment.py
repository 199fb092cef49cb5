"""From a configuration to the objects of a run, all checked before anything is trained.

A run has one model, one data set and one training recipe. It has a case for every forget set: one,
or as many as its configuration has `cases`, which are then those of a study.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rumjax import data, forget_files, models
from rumjax.data.origins import ANY, HASH, Register, as_examples
from rumjax.errors import InvalidInputError, check_choice
from rumjax.lab import files
from rumjax.lab.building import build_method, with_augmentation
from rumjax.lab.config import Config, read, read_forget
from rumjax.lab.methods import FLOOR, SCORES, Method
from rumjax.lab.options import Options, call
from rumjax.lab.reserve import Reserve, toss, without
from rumjax.lab.sections import CaseSection, Forget
from rumjax.lab.values import check_distinct, check_names
from rumjax.listings import read_listed
from rumjax.models import Model
from rumjax.scores import EXTRA_PROXIES, has_published
from rumjax.training import Recipe, recipe
from rumjax.types import AnyArray, Splits
from rumjax.unlearn.steps import unknown_facts

ON_DEMAND = ("entanglement", *EXTRA_PROXIES)
"""Scores that are made only where something in the run uses them."""
NORMALIZATION = ("mean", "std", "pixels")
"""Options of the section `model` that replace the statistics of D."""
LEAST_ORACLES = 3
"""Seeds, below which audits cannot compare distributions."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A forget set, and the methods that unlearn it."""

    name: str
    folder: str
    """In the work directory; empty where the run has a single forget set."""
    forget: Forget
    methods: tuple[Method, ...]
    written: Mapping[str, Any]
    """The configuration that this case would have as a run of its own."""
    after: "Case | None" = None
    """The case whose unlearned models this one goes on from."""
    goes_on: bool = False
    """Whether another case goes on from this one's unlearned models, so that they are kept."""

    @property
    def unknown_facts(self) -> set[str]:
        """The names of the facts that have to be found out for its methods."""
        return {name for method in self.methods for name in unknown_of(method)}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run: the objects that all its cases share, and the cases in their order."""

    name: str
    config: Config
    data: Splits
    model: Model
    recipe: Recipe
    seeds: tuple[int, ...]
    cases: tuple[Case, ...] = ()
    reserve: Reserve | None = None
    """Examples that coins have left in D or out of it; None where none were tossed."""

    @property
    def size(self) -> int:
        """N, the number of examples of D."""
        return len(self.data.train.labels)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The beginning of a SHA-256 over D and T, which takes seconds for many images."""
        total = hashlib.sha256()
        for part in (*self.data.train, *self.data.test):
            array = np.asarray(part)
            total.update(f"{array.shape} {array.dtype}".encode())
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()[:16]

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods of all cases."""
        return tuple(method for case in self.cases for method in case.methods)

    @property
    def scores_in_use(self) -> set[str]:
        """The names of the scores that anything in the run uses."""
        names = {method.refine for method in self.methods}
        names |= {case.forget.by for case in self.cases}
        if self.config.is_proxy_study:
            names |= {"entanglement", *SCORES}
        return names

    @property
    def needs_bank(self) -> bool:
        """Says whether the run uses memorization scores that are not given to it."""
        return "memorization" in self.scores_in_use and not self.config.gives_memorization

    @property
    def trains_bank(self) -> bool:
        """Says whether the run has a bank, for scores, audits or datamodels."""
        return self.needs_bank or self.config.audit is not None or self.has_datamodels

    @property
    def has_datamodels(self) -> bool:
        """Says whether a method learns what a datamodel of the bank predicts."""
        return any("datamodel_margins" in case.unknown_facts for case in self.cases)

    @property
    def keeps_bank(self) -> bool:
        """Says whether the models of the bank are kept, and not only their answers."""
        return self.config.audit is not None or self.config.bank.checkpoints

    @property
    def on_demand(self) -> tuple[str, ...]:
        """The scores of `ON_DEMAND` that anything in the run uses."""
        in_use = self.scores_in_use
        return tuple(name for name in ON_DEMAND if name in in_use)


def unknown_of(method: Method) -> set[str]:
    """Returns the names of the facts that have to be found out for a method's unlearners."""
    return {name for one in method.select.values() for name in unknown_facts(one)}


def build(config: Mapping[str, Any]) -> Run:
    """Builds the run that a configuration describes.

    Raises:
      InvalidInputError: an unknown section, option, algorithm, model or data set; a value that is
        out of range; data that cannot be had.

    Examples:
      >>> from rumjax.launch import configuration
      >>> run = build(configuration("fashion_mnist_rum.py", ["--config.seeds=1"]))
      >>> run.seeds, run.data.train.images.shape
      ((0,), (6000, 28, 28, 1))
    """
    # Read the sections; then load the data, which the model depends on.
    sections = read(config)
    splits = call("data", data.load, sections.data, keep=functools.partial(requested, sections))
    # What no model may see is not in D, nor in what images are normalized by.
    reserve = None
    if sections.reserve is not None:
        splits, reserve = toss(splits, sections.reserve, sections.seed)
    if sections.forgotten is not None:
        splits = without(splits, forgotten_positions(sections.forgotten, splits))
    run = build_on(sections, splits, splits.train.images)
    return dataclasses.replace(run, reserve=reserve)


def build_on(sections: Config, splits: Splits, images: AnyArray) -> Run:
    """Builds the run that a configuration describes on data that is there.

    Args:
      sections: the configuration.
      splits: the data.
      images: those by which the model's input is normalized where the configuration gives no
        numbers, uint8[N, H, W, C].

    Raises:
      InvalidInputError: as `build`, but for the data.
    """
    given = {name: sections.model[name] for name in NORMALIZATION if name in sections.model}
    model = call(
        "model",
        models.build,
        {name: value for name, value in sections.model.items() if name not in given},
        num_classes=splits.num_classes,
        **models.normalization_of(np.asarray(images), **given),
    )
    run = Run(
        name=sections.name,
        config=sections,
        data=splits,
        model=model,
        recipe=call("training", recipe, with_augmentation(sections.training), model=model),
        seeds=tuple(range(sections.seed, sections.seed + sections.seeds)),
    )

    # Build the cases, and check the sections that speak of their methods.
    run = dataclasses.replace(run, cases=build_cases(run))
    check_searches(run)
    check_audit(run)
    return run


def forgotten_positions(path: str, splits: Splits) -> np.ndarray:
    """Returns the positions in D of what a file says is forgotten.

    Examples that it names by their SHA-256 need not be there any more, since whoever forgets them
    may delete their files too; all copies of an image with its label are forgotten.

    Raises:
      InvalidInputError: the file cannot be read, or names other examples that are not in D.
    """
    parts = read_listed(path).values()
    if all(HASH in part.examples for part in parts):
        gone = {example for part in parts for example in part.examples[HASH]}
        return np.flatnonzero(np.isin(data.hashes(splits.train), list(gone)))
    named = forget_files.from_file(path, splits)
    return np.concatenate(list(named.values()))


def requested(config: Config, register: Register) -> np.ndarray:
    """Says which training images of the source a configuration names, bool[N].

    They are not held out for validation: a request would meet a model that never saw them, and
    published scores are of these images and no others. Examples that the source does not have are
    refused where S is chosen.

    Args:
      config: with its forget sets, and its scores if they are given.
      register: the source's training images.
    """
    # Examples of deletion requests, in any case.
    own = [
        read_forget(f"cases.{name}.forget", section.forget, config.own_scores)
        for name, section in config.cases.items()
        if section.forget is not None
    ]
    named = np.zeros(register.origin.size, bool)
    for section in (config.forget, *own):
        where, named_by = "forget.examples", []
        if section is not None and section.by == "examples":
            examples = as_examples(where, section.options.get("examples") or ())
            named_by = [(ANY, example) for example in examples]
        elif section is not None and section.by == "file":
            path = section.options.get("path")
            where = f"forget set: {path}"
            for part in read_listed(path).values():
                named_by += [(kind, one) for kind, some in part.examples.items() for one in some]
        for kind, example in named_by:
            try:
                named[register.find(example, kind)] = True
            except InvalidInputError as error:
                raise InvalidInputError(f"{where}: {error}") from error

    # Images with published scores.
    given = config.scores.memorization if config.scores is not None else None
    if given is not None and "published" in given:
        named |= has_published(given["published"], np.asarray(register.data.images))
    return named


def build_cases(run: Run) -> tuple[Case, ...]:
    """Builds the cases of a run, each after the one that it goes on from.

    Raises:
      InvalidInputError: a case has no forget set, or goes on from one that does not exist or from
        itself by way of others; see `build_methods` besides.
    """
    # A run without cases is its own and only case.
    config = run.config
    if not config.cases:
        if config.forget is None:
            raise InvalidInputError("the configuration lacks forget")
        methods = build_methods(run, config.methods)
        return (Case(run.name, "", config.forget, methods, config.written),)

    # Each round builds the cases whose predecessors are there.
    waiting = dict(config.cases)
    built: dict[str | None, Case | None] = {None: None}
    while waiting:
        ready = [name for name, section in waiting.items() if section.after in built]
        if not ready:
            raise InvalidInputError(
                f"cases: {', '.join(waiting)} come after cases that are none, or in a circle"
            )
        for name in ready:
            section = waiting.pop(name)
            built[name] = build_case(run, name, section, built[section.after])
    return tuple(case for case in built.values() if case is not None)


def build_case(run: Run, name: str, section: CaseSection, after: Case | None) -> Case:
    """Builds one case of a study, with what it shares with the others filled in.

    Raises:
      InvalidInputError: neither the case nor the run has a forget set; see `build_methods` besides.
    """
    shared = run.config
    if section.forget is not None:
        forget = read_forget(f"cases.{name}.forget", section.forget, shared.own_scores)
    elif shared.forget is not None:
        forget = shared.forget
    else:
        raise InvalidInputError(
            f"cases.{name}: it has no forget set, and the configuration neither"
        )
    methods = shared.methods if section.methods is None else section.methods
    return Case(
        name=f"{run.name}, {name}",
        folder=f"cases/{name}",
        forget=forget,
        methods=build_methods(run, methods),
        written=shared.written_case(name),
        after=after,
        goes_on=any(other.after == name for other in shared.cases.values()),
    )


def build_methods(run: Run, methods: Mapping[str, Options]) -> tuple[Method, ...]:
    """Builds the methods of a case, after the one that does nothing.

    Raises:
      InvalidInputError: see `build_method`.
    """
    config, classes = run.config, run.data.num_classes
    check_names("methods", methods, files.TAKEN)
    for name in methods:
        if "_seed" in name:
            raise InvalidInputError(f"methods.{name}: choose another name, without _seed")
    defaults = config.unlearner_defaults
    return tuple(
        build_method(name, options, defaults, run.model, classes, config.own_scores)
        for name, options in {files.ORIGINAL: FLOOR, **methods}.items()
    )


def check_searches(run: Run) -> None:
    """Checks that the section `tuning` speaks of methods that exist.

    Raises:
      InvalidInputError: an unknown method or algorithm, or an unknown way to search.
    """
    tuning = run.config.tuning
    if tuning is None:
        return
    names = dict.fromkeys(method.name for method in run.methods)
    algorithms = dict.fromkeys(method.algorithm for method in run.methods)
    for name in tuning.grids:
        check_choice("method or algorithm in tuning.grids", name, names | algorithms)
    for name, other in tuning.like.items():
        check_choice("method in tuning.like", name, names)
        check_choice(f"method that {name} is like in tuning", other, names)
        if name in tuning.grids:
            raise InvalidInputError(
                f"tuning.like: {name} has a grid of its own in tuning.grids; delete one of the two"
            )
    for name in tuning.select:
        check_choice("method in tuning.select", name, names)
        selection = tuning.selection(name)
        candidates = selection.candidates if selection else ()
        for candidate in candidates:
            check_choice(f"candidate in tuning.select.{name}", candidate, names)
        if name in candidates:
            raise InvalidInputError(f"tuning.select.{name}: {name} is no candidate for itself")
        check_distinct(f"tuning.select.{name}.candidates", candidates)


def check_audit(run: Run) -> None:
    """Checks the section `audit` against the bank, the seeds, the methods and the cases.

    Raises:
      InvalidInputError: more models than the bank has, too few seeds, an unknown method, one whose
        parts would differ in size from model to model, or cases that go on from others.
    """
    audit, bank = run.config.audit, run.config.bank
    if audit is None:
        return
    if audit.models > bank.models:
        raise InvalidInputError(
            f"audit.models: {audit.models} are more than bank.models, {bank.models}"
        )
    if len(run.seeds) < LEAST_ORACLES:
        raise InvalidInputError(
            f"seeds: an audit compares distributions over seeds and needs {LEAST_ORACLES} or more "
            f"of them, 64 for figures that mean much; got {len(run.seeds)}"
        )

    # The methods that are audited exist, and have parts of one size.
    methods = {method.name: method for method in run.methods}
    for name in audit.methods or ():
        check_choice("method in audit.methods", name, methods)
    for name, method in methods.items():
        audited = audit.methods is None or name in audit.methods
        if audited and method.refine in ("class", "rescored"):
            raise InvalidInputError(
                f"audit: {name} refines by {method.refine}, and its parts would differ from model "
                "to model; name the methods to be audited in audit.methods"
            )
    if any(case.after for case in run.cases):
        raise InvalidInputError("audit: there must be no cases that go on from others (after)")
