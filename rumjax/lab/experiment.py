"""From a configuration to the objects of a run, all checked before anything is trained.

A configuration's sections are keyword arguments: `data` of `rumjax.data.load`, `model` of
`rumjax.models.build`, `training` of `rumjax.training.recipe`, `forget` of the function of
`rumjax.forget_sets` that its `by` names, and each unlearner's of its factory. `methods` are written
with `vanilla`, `shuffle`, `rum_f` and `rum` of `rumjax.lab.methods`.

A study looks at several forget sets: its `cases` have each a `forget` and maybe `methods` of their
own, and share everything else.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rumjax import data, forget_sets, models
from rumjax.errors import InvalidInputError, check_choice, check_count, check_number
from rumjax.lab.methods import (
    FLOOR,
    SCORES,
    Method,
    build_method,
    with_augmentation,
)
from rumjax.lab.options import Options, accepted, call, names_of
from rumjax.models import Model
from rumjax.refine import Parts
from rumjax.scores import EXTRA_PROXIES
from rumjax.training import Recipe, recipe
from rumjax.types import Scores, Splits
from rumjax.unlearn import ALGORITHMS

FORGET: dict[str, Callable[..., Parts]] = {
    **dict.fromkeys(SCORES, forget_sets.by_score),
    "entanglement": forget_sets.by_entanglement,
    "random": forget_sets.at_random,
    "class": forget_sets.by_class,
    "file": forget_sets.from_file,
}
ON_DEMAND = ("entanglement", *EXTRA_PROXIES)
"""Scores that are made only where something in the run looks at them."""
CRITERIA = ("oracle", "validation")
"""What settings are judged by; see `rumjax.lab.tuning`."""
SEARCHES, ORDERS = ("ascent", "exhaustive"), ("all", "configured")
SELECT = ("candidates", "search", "orders", "budget")
STUDIES = ("difficulty", "rum", "proxies", "requests")
SECTIONS = (
    "name",
    "seed",
    "seeds",
    "data",
    "model",
    "training",
    "bank",
    "forget",
    "unlearning",
    "methods",
    "attack",
)
OPTIONAL = ("cases", "study", "tuning", "scores", "audit")
SHARE = 2 / 3
"""of the examples of S that a model of the bank saw, what an audit asks it to forget"""
LEAST_AUDITED, LEAST_ORACLES = 8, 3
"""models of the bank, and of the seeds, below which audits cannot be computed or mean nothing"""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run's objects, and the configuration they were made from."""

    name: str
    config: Mapping[str, Any]
    data: Splits
    model: Model
    recipe: Recipe
    methods: tuple[Method, ...]
    """of all cases, where there are several"""
    seeds: tuple[int, ...]
    cases: "tuple[Experiment, ...]" = ()
    """a study's, each with a forget set of its own, in the order in which they are run"""
    folder: str = ""
    """of a case, in the work directory"""
    after: "Experiment | None" = None
    """the case whose unlearned models this one goes on from"""
    goes_on: bool = False
    """whether another case goes on from this one's unlearned models, so that they are kept"""

    @property
    def each(self) -> "tuple[Experiment, ...]":
        """The cases, or the run itself if it has none."""
        return self.cases or (self,)

    @property
    def looked_at(self) -> set[str]:
        """The scores that anything in the run looks at."""
        found = {method.refine for method in self.methods}
        found |= {each.config["forget"]["by"] for each in self.each}
        if self.config.get("study", {}).get("kind") == "proxies":
            found |= {"entanglement", *SCORES}
        return found

    @property
    def needs_bank(self) -> bool:
        """Whether anything in the run looks at memorization scores, and they are not given."""
        return "memorization" in self.looked_at and "scores" not in self.config

    @property
    def trains_bank(self) -> bool:
        """Whether the run has a bank: scores or audits need it."""
        return self.needs_bank or "audit" in self.config

    @property
    def keeps_bank(self) -> bool:
        """Whether the models of the bank are kept, and not only what they predict."""
        return "audit" in self.config or bool(self.config["bank"].get("checkpoints", False))

    @property
    def on_demand(self) -> tuple[str, ...]:
        """Those of `ON_DEMAND` that anything in the run looks at."""
        looked_at = self.looked_at
        return tuple(name for name in ON_DEMAND if name in looked_at)


def build(config: Mapping[str, Any]) -> Experiment:
    """The experiment that a configuration describes.

    Every section of `SECTIONS` is needed, and those of `OPTIONAL` may be absent. Where there are
    `cases`, `forget` and `methods` are what they share, and may be absent too.

    Raises:
      InvalidInputError: an unknown section, option, algorithm, model or data set; a value out of
        range; data that cannot be had.
    """
    for section in config:
        check_choice("section of the configuration", section, (*SECTIONS, *OPTIONAL))
    lacking = set(SECTIONS) - set(config) - ({"forget", "methods"} if "cases" in config else set())
    if lacking:
        raise InvalidInputError(f"the configuration lacks {', '.join(sorted(lacking))}")
    for section in set(config) - {"name", "seed", "seeds"}:
        if not isinstance(config[section], Mapping):
            raise InvalidInputError(f"{section}: wanted options by name, got {config[section]!r}")
    if not (isinstance(config["name"], str) and config["name"]):
        raise InvalidInputError(f"name: wanted some text, got {config['name']!r}")
    splits = call("data", data.load, config["data"])
    mean, std = models.channel_statistics(splits.train.images)
    model = call(
        "model",
        models.build,
        config["model"],
        num_classes=splits.num_classes,
        mean=mean,
        std=std,
    )
    call("bank", check_bank, config["bank"])
    call("attack", check_attack, config["attack"])
    if "scores" in config:
        call("scores", check_scores, config["scores"])
    if "tuning" in config:
        call("tuning", check_tuning, config["tuning"])
    if "study" in config:
        check_choice("kind of study", config["study"].get("kind"), STUDIES)
    known = dict.fromkeys(name for each in ALGORITHMS.values() for name in names_of(each))
    for option in config["unlearning"]:
        check_choice("option in unlearning", option, known)
    first = check_count("seed", config["seed"], least=0)
    whole_run = Experiment(
        name=config["name"],
        config=config,
        data=splits,
        model=model,
        recipe=call("training", recipe, with_augmentation(config["training"]), model=model),
        methods=(),
        seeds=tuple(range(first, first + check_count("seeds", config["seeds"]))),
    )
    if "cases" in config:
        cases = build_cases(whole_run)
        methods = tuple(method for each in cases for method in each.methods)
        built = dataclasses.replace(whole_run, cases=cases, methods=methods)
    else:
        built = with_methods(whole_run)
    check_searches(built)
    if "audit" in config:
        call("audit", check_audit, config["audit"], run=built)
    return built


def with_methods(run: Experiment) -> Experiment:
    """The experiment with the methods that its configuration describes.

    Raises:
      InvalidInputError: see `build_method`; or an unknown kind of forget set.
    """
    accepted("forget", FORGET, forget_options(run.config["forget"]), "by")
    methods = tuple(
        build_method(name, options, run.config, run.model, run.data.num_classes)
        for name, options in {"original": FLOOR, **run.config["methods"]}.items()
    )
    return dataclasses.replace(run, methods=methods)


def build_cases(run: Experiment) -> tuple[Experiment, ...]:
    """A study's cases, each after the one whose unlearned models it goes on from.

    Raises:
      InvalidInputError: no case, a name that cannot be a folder's, an unknown option, a case that
        comes after one that is none or in a circle; see `with_methods` besides.
    """
    waiting = dict(run.config["cases"])
    if not waiting:
        raise InvalidInputError("cases: there is none")
    made: dict[str | None, Experiment | None] = {None: None}
    while waiting:
        ready = [name for name, case in waiting.items() if case.get("after") in made]
        if not ready:
            raise InvalidInputError(
                f"cases: {', '.join(waiting)} come after cases that are none, or in a circle"
            )
        for name in ready:
            made[name] = build_case(run, name, waiting.pop(name), made)
    return tuple(case for case in made.values() if case is not None)


def build_case(
    run: Experiment, name: str, options: Options, made: Mapping[str | None, Experiment | None]
) -> Experiment:
    """One case of a study; see `build_cases`."""
    where = f"cases.{name}"
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise InvalidInputError(f"{where}: choose another name, of letters, digits and ._+-")
    for option in options:
        check_choice(f"option in {where}", option, ("forget", "methods", "after"))
    shared = {key: value for key, value in run.config.items() if key not in ("cases", "study")}
    own = {key: value for key, value in options.items() if key != "after"}
    config = {"methods": {}, **shared, **own, "name": f"{run.name}, {name}"}
    if "forget" not in config:
        raise InvalidInputError(f"{where}: it has no forget set, and the configuration neither")
    others = run.config["cases"].values()
    case = dataclasses.replace(
        run,
        name=config["name"],
        config=config,
        folder=f"cases/{name}",
        after=made[options.get("after")],
        goes_on=any(each.get("after") == name for each in others),
    )
    return with_methods(case)


def check_bank(
    models: int, fraction: float, seed: int, per_device: int, checkpoints: bool = False
) -> None:
    """Checks the section `bank`.

    Args:
      models: M.
      fraction: of D that each model sees.
      seed: of the subsets and the models.
      per_device: models that a device trains at a time.
      checkpoints: whether to keep the models, and not only what they predict.

    Raises:
      InvalidInputError: a value out of range.
    """
    if not isinstance(checkpoints, bool):
        raise InvalidInputError(f"bank.checkpoints: wanted True or False, got {checkpoints!r}")
    check_count("bank.models", models, least=2)
    check_number("bank.fraction", fraction, most=1.0)
    check_count("bank.seed", seed, least=0)
    check_count("bank.per_device", per_device)


def check_attack(samples: int | None) -> None:
    """Checks the section `attack`: members and non-members a side, or None for all of T.

    Raises:
      InvalidInputError: a value out of range.
    """
    if samples is not None:
        check_count("attack.samples", samples)


def check_audit(
    models: int,
    run: Experiment,
    share: float = SHARE,
    methods: Sequence[str] | None = None,
    command: str | None = None,
) -> None:
    """Checks the section `audit`; see `rumjax.lab.auditing`.

    Args:
      models: of the bank, to be unlearned by every method.
      run: the whole run.
      share: of the examples of S that a model of the bank saw, what it is asked to forget; a third
        of S is then forgotten, kept and never seen where the bank's fraction is 2/3 and the share
        a half, as in Naderloui et al. (USENIX Security 2025).
      methods: names of those to be audited, by default all.
      command: that makes the same run again, for the report.

    Raises:
      InvalidInputError: a value out of range, an unknown method, one whose parts would differ in
        size from model to model, or cases that go on from others.
    """
    del command
    if check_count("audit.models", models, least=LEAST_AUDITED) > run.config["bank"]["models"]:
        raise InvalidInputError(
            f"audit.models: {models} are more than bank.models, {run.config['bank']['models']}"
        )
    if len(run.seeds) < LEAST_ORACLES:
        raise InvalidInputError(
            f"seeds: an audit compares distributions over seeds and needs {LEAST_ORACLES} or more "
            f"of them, 64 for figures that mean much; got {len(run.seeds)}"
        )
    if not 0 < share < 1:
        raise InvalidInputError(f"audit.share: wanted a number between 0 and 1, got {share}")
    names = {each.name: each for each in run.methods}
    for name in methods or ():
        check_choice("method in audit.methods", name, names)
    for name, method in names.items():
        if method.refine in ("class", "rescored") and (methods is None or name in methods):
            raise InvalidInputError(
                f"audit: {name} refines by {method.refine}, and its parts would differ from model "
                "to model; name the methods to be audited in audit.methods"
            )
    if taken := {"models", "retrain"} & names.keys():
        raise InvalidInputError(f"audit: no method may be called {', '.join(sorted(taken))}")
    if any(case.after for case in run.cases):
        raise InvalidInputError("audit: there must be no cases that go on from others (after)")


def check_tuning(
    seeds: Sequence[int],
    grids: Options,
    settings: int | None = None,
    criterion: str = "oracle",
    adopt: bool = False,
    select: Options | None = None,
    like: Mapping[str, str] | None = None,
) -> None:
    """Checks the section `tuning`, whose options `rumjax.lab.tuning` explains.

    Raises:
      InvalidInputError: a value out of range, or an unknown criterion.
    """
    del grids, select, like
    for seed in seeds:
        check_count("tuning.seeds", seed, least=0)
    if not seeds:
        raise InvalidInputError("tuning.seeds: there must be one")
    if settings is not None:
        check_count("tuning.settings", settings)
    check_choice("tuning.criterion", criterion, CRITERIA)
    if not isinstance(adopt, bool):
        raise InvalidInputError(f"tuning.adopt: wanted True or False, got {adopt!r}")


def check_searches(run: Experiment) -> None:
    """Checks that the section `tuning` speaks of methods that there are.

    Raises:
      InvalidInputError: an unknown method or algorithm, or an unknown way to search.
    """
    tuning, names = run.config.get("tuning", {}), dict.fromkeys(each.name for each in run.methods)
    for name in tuning.get("grids", {}):
        check_choice("method or algorithm in tuning.grids", name, {**names, **ALGORITHMS})
    for name, other in tuning.get("like", {}).items():
        check_choice("method in tuning.like", name, names)
        check_choice(f"method that {name} is like in tuning", other, names)
    for name, options in tuning.get("select", {}).items():
        check_choice("method in tuning.select", name, names)
        for option in options:
            check_choice(f"option in tuning.select.{name}", option, SELECT)
        for each in options.get("candidates", ()):
            check_choice(f"candidate in tuning.select.{name}", each, names)
        if not options.get("candidates"):
            raise InvalidInputError(f"tuning.select.{name}: it has no candidates")
        check_choice(f"tuning.select.{name}.search", options.get("search", "ascent"), SEARCHES)
        check_choice(f"tuning.select.{name}.orders", options.get("orders", "all"), ORDERS)
        check_count(f"tuning.select.{name}.budget", options.get("budget", 1))


def check_scores(memorization: Options) -> None:
    """Checks the section `scores`, of memorization scores that need no bank.

    Args:
      memorization: {"published": NAME} for scores that come with rumjax, see
        `rumjax.scores.load_published`; or {"path": FILE, "key": NAME or None} for a file, see
        `rumjax.scores.load_scores`.

    Raises:
      InvalidInputError: neither of these.
    """
    if set(memorization) not in ({"published"}, {"path", "key"}):
        raise InvalidInputError(
            'scores.memorization: wanted {"published": NAME} or {"path": FILE, "key": NAME}, got '
            f"{memorization!r}"
        )


def forget_options(options: Options) -> dict[str, Any]:
    """The section `forget` without what makes requests of a forget set."""
    return {key: value for key, value in options.items() if key not in ("requests", "until")}


def forget_parts(
    experiment: Experiment,
    named: Mapping[str, Scores],
    embeddings: Callable[[], np.ndarray],
) -> Parts:
    """S as named parts, by what the configuration says.

    Raises:
      InvalidInputError: it cannot be made of this data.
    """
    section = experiment.config["forget"]
    options = forget_options(section)
    by = options.pop("by")
    labels = np.asarray(experiment.data.train.labels)
    extra: dict[str, Any]
    if by in SCORES:
        options.setdefault("center", 0.5 if by == "memorization" else "median")
        extra = {"scores": named[by]}
    elif by == "entanglement":
        extra = {"embeddings": embeddings()}
    else:
        extra = {"labels": labels} if by == "class" else {"count": len(labels)}
    parts: Parts = call("forget", FORGET[by], options, **extra)
    if "requests" in section:
        parts = forget_sets.requests(parts, section["requests"], until=section.get("until"))
    if reserved := {"all", "forget", "retain"} & parts.keys():
        raise InvalidInputError(f"forget set: no part may be called {', '.join(sorted(reserved))}")
    forget_sets.union(parts, len(labels))
    return parts
