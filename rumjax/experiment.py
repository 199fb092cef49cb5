"""From a configuration to the objects of a run, all checked before anything is trained.

A configuration's sections are keyword arguments: `data` of `rumjax.data.load`, `model` of
`rumjax.models.build`, `training` of `rumjax.training.recipe`, `forget` of the function of
`rumjax.forget_sets` that its `by` names, and each unlearner's of its factory. `methods` are written
with `vanilla`, `shuffle`, `rum_f` and `rum` below: four values of one form.

A study looks at several forget sets: its `cases` have each a `forget` and maybe `methods` of their
own, and share everything else.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rumjax import data, forget_sets, models
from rumjax.data.augmentation import augmentation
from rumjax.errors import InvalidInputError, check_choice, check_count, check_number
from rumjax.models import Model
from rumjax.rum import LEVELS, Parts, Refine, at_random, by_class, by_score, whole
from rumjax.scores import EXTRA_PROXIES, PROXIES
from rumjax.training import Recipe, SgdOptions, recipe
from rumjax.types import Scores, Splits, Unlearner
from rumjax.unlearn import ALGORITHMS

SCORES = ("memorization", *PROXIES, *EXTRA_PROXIES)
FORGET: dict[str, Callable[..., Parts]] = {
    **dict.fromkeys(SCORES, forget_sets.by_score),
    "entanglement": forget_sets.by_entanglement,
    "random": forget_sets.at_random,
    "class": forget_sets.by_class,
    "file": forget_sets.from_file,
}
ORACLES = ("retrain_reference", "retrain_second")
"""What the oracles' rows are called, and so no method."""
REFINEMENTS = ("whole", "random", "class", "entanglement", "rescored", *SCORES)
"""What F may go by. "entanglement" is nearness to the mean embedding; "rescored" is hold-out
retraining of the very model that is to forget, which is not θo once requests have come before."""
ON_DEMAND = ("entanglement", *EXTRA_PROXIES)
"""Scores that are made only where something in the run looks at them."""
CRITERIA = ("oracle", "validation")
"""What settings are judged by; see `rumjax.tuning`."""
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
OPTIONAL = ("cases", "study", "tuning", "scores")
SHUFFLED = ("first", "second", "third")

Options = Mapping[str, Any]


def vanilla(unlearner: Options) -> dict[str, Any]:
    """An unlearner once, on all of S."""
    return _method("vanilla", "whole", {"all": unlearner}, ("all",))


def shuffle(*unlearners: Options, parts: Sequence[str] = SHUFFLED) -> dict[str, Any]:
    """One algorithm on random parts of S in sequence: the control for RUM^F.

    Args:
      *unlearners: one for all parts, or one for each, which may differ in numbers.
      parts: their names.
    """
    return _method("shuffle", "random", _one_algorithm(unlearners, parts), parts)


def rum_f(
    *unlearners: Options,
    refine: str = "memorization",
    parts: Sequence[str] = LEVELS,
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    """RUM^F: one algorithm on the parts of S in sequence, lowest scores first by default.

    Args:
      *unlearners: one for all parts, or one for each, which may differ in numbers.
      refine: of `REFINEMENTS`.
      parts: their names, by ascending score.
      order: of unlearning, if it is another.
    """
    return _method("rum_f", refine, _one_algorithm(unlearners, parts), parts, order)


def rum(
    select: Mapping[str, Options],
    *,
    refine: str = "memorization",
    parts: Sequence[str] = LEVELS,
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    """RUM: an unlearner for each part."""
    return _method("rum", refine, select, parts, order)


def _one_algorithm(unlearners: Sequence[Options], parts: Sequence[str]) -> dict[str, Options]:
    if len(unlearners) == 1:
        unlearners = [*unlearners] * len(parts)
    algorithms = {str(each.get("algorithm")) for each in unlearners}
    if len(unlearners) != len(parts) or len(algorithms) != 1:
        raise InvalidInputError(
            f"{len(unlearners)} unlearners ({', '.join(sorted(algorithms))}) for {len(parts)} "
            "parts; give one for all, or one of the same algorithm for each, or use rum"
        )
    return dict(zip(parts, unlearners, strict=True))


def strategies(unlearners: Mapping[str, Options]) -> dict[str, Any]:
    """Each unlearner as vanilla, shuffle and RUM^F: "finetune_vanilla" and so on."""
    forms: dict[str, Callable[..., dict[str, Any]]] = {
        "vanilla": vanilla,
        "shuffle": shuffle,
        "rum_f": rum_f,
    }
    return {
        f"{name}_{strategy}": form(options)
        for name, options in unlearners.items()
        for strategy, form in forms.items()
    }


def _method(
    strategy: str,
    refine: str,
    select: Mapping[str, Options],
    parts: Sequence[str],
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "refine": refine,
        "parts": tuple(parts),
        "select": {part: dict(options) for part, options in select.items()},
        "order": tuple(parts if order is None else order),
    }


FLOOR = vanilla({"algorithm": "original"})
"""The method that does nothing, a row of every table."""


@dataclasses.dataclass(frozen=True)
class Method:
    """One line of the results: a refinement, an unlearner per part, an order."""

    name: str
    """its key in the configuration"""
    algorithm: str
    """the algorithm's name, or in the order of use those of a mixed RUM, joined by ">" """
    strategy: str
    refine: str
    parts: tuple[str, ...]
    """by ascending score"""
    select: Mapping[str, Unlearner[Any]]
    order: tuple[str, ...]
    options: Any
    """the JSON-like configuration it was made from, defaults included"""

    @property
    def epochs(self) -> int:
        """Epochs of all its steps."""
        return sum(self.select[part].epochs for part in self.order)


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
        recipe=call("training", recipe, _with_augmentation(config["training"]), model=model),
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


def check_tuning(
    seeds: Sequence[int],
    grids: Options,
    settings: int | None = None,
    criterion: str = "oracle",
    adopt: bool = False,
    select: Options | None = None,
    like: Mapping[str, str] | None = None,
) -> None:
    """Checks the section `tuning`, whose options `rumjax.tuning` explains.

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


def build_method(
    name: str, options: Options, config: Mapping[str, Any], model: Model, num_classes: int
) -> Method:
    """A method from its options, as `vanilla` and its siblings write them.

    Raises:
      InvalidInputError: an unknown refinement, algorithm or option, a value out of range, or
        parts, order and selection that do not name the same.
    """
    where = f"methods.{name}"
    check_form(where, name, options)
    defaults = {**_shared(config["training"]), **config["unlearning"]}
    select, resolved = {}, {}
    for part, given in options["select"].items():
        select[part], resolved[part] = unlearner(
            f"{where}.select.{part}", given, defaults, model, num_classes
        )
    names = [resolved[part]["algorithm"] for part in options["order"] if part in resolved]
    return Method(
        name=name,
        algorithm=names[0] if len(set(names)) == 1 else ">".join(names),
        strategy=options["strategy"],
        refine=options["refine"],
        parts=tuple(options["parts"]),
        select=select,
        order=tuple(options["order"]),
        options={**options, "select": resolved},
    )


def check_form(where: str, name: str, options: Options) -> None:
    """Checks a method but for its unlearners.

    Raises:
      InvalidInputError: a name that cannot be a file's, not made by `vanilla` or its siblings, an
        unknown refinement, or parts, order and selection that do not name the same.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name) or name in ORACLES:
        raise InvalidInputError(f"{where}: choose another name, of letters, digits and ._+-")
    if not isinstance(options, Mapping) or options.keys() != FLOOR.keys():
        raise InvalidInputError(
            f"{where}: write it with vanilla, shuffle, rum_f or rum of rumjax.experiment"
        )
    check_choice(f"refinement in {where}", options["refine"], REFINEMENTS)
    # Parts by class are those of the forget set's classes, whatever `parts` says.
    parts = options["order"] if options["refine"] == "class" else options["parts"]
    for key in ("order", "select"):
        if sorted(options[key]) != sorted(set(parts)):
            raise InvalidInputError(
                f"{where}.{key}: names {', '.join(options[key])}, "
                f"but the parts are {', '.join(parts)}, each once"
            )


def unlearner(
    where: str, given: Options, defaults: Options, model: Model, num_classes: int
) -> tuple[Unlearner[Any], dict[str, Any]]:
    """An unlearner from `{"algorithm": name, **options}`, and the options with defaults filled in.

    Defaults that its factory does not know are left out; options it does not know are refused.

    Raises:
      InvalidInputError: an unknown algorithm or option, or a value out of range.
    """
    factory = accepted(where, ALGORITHMS, given, "algorithm")
    known = names_of(factory)
    options = {key: value for key, value in defaults.items() if key in known} | dict(given)
    extra = {"num_classes": num_classes} if "num_classes" in known else {}
    arguments = {key: value for key, value in options.items() if key != "algorithm"}
    made = call(where, factory, _with_augmentation(arguments), model=model, **extra)
    return made, options


def _shared(training: Options) -> dict[str, Any]:
    """What unlearners take over from training unless told otherwise."""
    return {key: training[key] for key in ("batch_size", "augmentation") if key in training}


def _with_augmentation(options: Options) -> dict[str, Any]:
    if "augmentation" not in options:
        return dict(options)
    return {**options, "augmentation": augmentation(options["augmentation"])}


def accepted(
    where: str, table: Mapping[str, Callable[..., Any]], options: Options, choice: str
) -> Callable[..., Any]:
    """The function that `options[choice]` names in the table.

    Raises:
      InvalidInputError: no such function, or an option that it does not take.
    """
    if choice not in options:
        raise InvalidInputError(f"{where}: it lacks {choice!r}")
    function = table[check_choice(f"{choice} in {where}", options[choice], table)]
    for option in options:
        if option != choice:
            check_choice(f"option in {where}", option, names_of(function))
    return function


def call(where: str, function: Callable[..., Any], options: Options, **extra: Any) -> Any:
    """Calls a function with a section of the configuration.

    Raises:
      InvalidInputError: an option that the function does not take, or one that it lacks.
    """
    known = [name for name in names_of(function) if name not in extra]
    for option in options:
        check_choice(f"option in {where}", option, known)
    signature = inspect.signature(function)
    try:
        signature.bind(**options, **extra)
    except TypeError as error:
        raise InvalidInputError(f"{where}: {error}") from error
    return function(**options, **extra)


def names_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's arguments, those of `SgdOptions` among them where it takes them."""
    parameters = inspect.signature(function).parameters.values()
    named = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(named) < len(parameters):
        named += SgdOptions.__annotations__
    return tuple(named)


def refinement(
    method: Method, scores: Mapping[str, Scores], labels: np.ndarray, seed: int
) -> Refine:
    """The function that refines a forget set for a method.

    Args:
      method: names the refinement and the parts.
      scores: by name.
      labels: int32[N].
      seed: of shuffles.
    """
    if method.refine == "whole":
        return whole(method.parts[0])
    if method.refine == "random":
        return at_random(parts=method.parts, seed=seed)
    if method.refine == "class":
        return by_class(labels)
    return by_score(scores[method.refine], parts=method.parts)


def grid_of(grids: Mapping[str, Any], method: Method) -> Mapping[str, Any]:
    """A method's grid among those of the section `tuning`: its own, else its algorithm's."""
    found: Mapping[str, Any] = grids.get(method.name) or grids.get(method.algorithm) or {}
    return found


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
