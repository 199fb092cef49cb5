"""The sections of a configuration as records: what each may say, with its defaults, once.

A configuration is a dictionary of sections. `read` turns it into a `Config` and finds mistakes of
form; whatever needs the data, the model or other sections is checked where a `Run` is built. The
sections `data`, `model`, `training` and `unlearning` are keyword arguments: of `rumjax.data.load`,
of `rumjax.models.build`, of `rumjax.training.recipe`, and of every unlearner's factory that takes
them.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from rumjax import data, forget_sets, models
from rumjax.errors import InvalidInputError, check_choice, check_count
from rumjax.lab.methods import REFINEMENTS, SCORES
from rumjax.lab.options import Options, accepted, call, names_of
from rumjax.lab.sections import (
    Attack,
    Audit,
    Bank,
    CaseSection,
    Forget,
    GivenScores,
    Study,
    Tuning,
    option,
)
from rumjax.refine import Parts
from rumjax.registry import resolve
from rumjax.training import recipe
from rumjax.unlearn import ALGORITHMS

FORGET: dict[str, Callable[..., Parts]] = {
    **dict.fromkeys(SCORES, forget_sets.by_score),
    "entanglement": forget_sets.by_entanglement,
    "random": forget_sets.at_random,
    "class": forget_sets.by_class,
    "examples": forget_sets.from_examples,
    "file": forget_sets.from_file,
}
"""What a forget set may be chosen by, and the function that chooses it."""

STUDIES: dict[str, tuple[str, ...]] = {
    "difficulty": (),
    "rum": ("strategies", "mixed", "orders", "refiners", "parts"),
    "proxies": ("size", "driven"),
    "requests": ("pairs",),
}
"""Kinds of study, and the options of each: which methods and cases it compares."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A configuration, section by section."""

    name: str = option("of the run")
    seed: int = option("of the first model; the others follow")
    seeds: int = option("how many models each result is a mean of")
    data: Options = option("the images and labels, see `rumjax.data.load`")
    model: Options = option("the network, see `rumjax.models.build`")
    training: Options = option("how models are trained, see `rumjax.training.recipe`")
    bank: Bank = option("models trained on random subsets, for scores and audits")
    forget: Forget | None = option("how the forget set is chosen")
    unlearning: Options = option("defaults of all unlearners")
    methods: Mapping[str, Options] = option("what is run, written by vanilla, shuffle, rum_f, rum")
    attack: Attack = option("the membership inference attack")
    cases: Mapping[str, CaseSection] = option("several forget sets", default_factory=dict)
    study: Study | None = option("the question that a study answers", default=None)
    tuning: Tuning | None = option("what is searched", default=None)
    scores: GivenScores | None = option("memorization from elsewhere", default=None)
    audit: Audit | None = option("attacks on single examples", default=None)
    measures: Mapping[str, str] = option(
        "measures of your own by name, package.module:function", default_factory=dict
    )
    written: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The dictionary that it was read from."""

    @property
    def own_scores(self) -> tuple[str, ...]:
        """The names of scores besides those of rumjax."""
        return () if self.scores is None else tuple(self.scores.own)

    @property
    def gives_memorization(self) -> bool:
        """Says whether memorization comes from elsewhere, so that no bank estimates it."""
        return self.scores is not None and self.scores.memorization is not None

    @property
    def adopts(self) -> bool:
        """Says whether the run uses the settings that its tuning finds best."""
        return self.tuning is not None and self.tuning.adopt

    @property
    def is_proxy_study(self) -> bool:
        """Says whether the run compares proxies, so that it needs and times all of them."""
        return self.study is not None and self.study.kind == "proxies"

    def section(self, name: str) -> dict[str, Any]:
        """Returns a section as it was written, or an empty one where it is absent."""
        return dict(self.written.get(name, {}))

    def written_case(self, name: str) -> dict[str, Any]:
        """Returns what a case's configuration would be, were it a run of its own."""
        options = self.written["cases"][name]
        shared = {key: self.written[key] for key in self.written if key not in ("cases", "study")}
        own = {key: value for key, value in options.items() if key != "after"}
        return {"methods": {}, **shared, **own, "name": f"{self.name}, {name}"}

    @property
    def gentle_sgd(self) -> dict[str, Any]:
        """Returns options of fine-tuning at a tenth of the rate of training, in its batches."""
        return {
            "learning_rate": self.training.get("learning_rate", 0.1) / 10,
            "batch_size": self.training.get("batch_size", 256),
        }

    @property
    def unlearner_defaults(self) -> dict[str, Any]:
        """Returns what unlearners take over from training, and from the section `unlearning`."""
        shared = ("batch_size", "augmentation")
        return {key: self.training[key] for key in shared if key in self.training} | {
            **self.unlearning
        }


SECTIONS = {
    field.name: str(field.metadata["about"])
    for field in dataclasses.fields(Config)
    if "about" in field.metadata
}
"""Every section, and what it is about."""
OPTIONAL = ("cases", "study", "tuning", "scores", "audit", "measures")
REQUIRED = tuple(name for name in SECTIONS if name not in OPTIONAL)
RECORDS: dict[str, type] = {
    "bank": Bank,
    "attack": Attack,
    "forget": Forget,
    "scores": GivenScores,
    "tuning": Tuning,
    "audit": Audit,
    "study": Study,
}
"""Sections that are records of their own."""
FACTORIES: dict[str, Callable[..., Any]] = {
    "data": data.load,
    "model": models.build,
    "training": recipe,
}
"""Sections that are keyword arguments of a function; the run itself adds some of them."""
ADDED = {"data": ("keep",), "model": ("num_classes", "mean", "std"), "training": ("model",)}
"""Arguments of `FACTORIES` that no configuration gives."""


def read(config: Mapping[str, Any]) -> Config:
    """Reads a configuration from a dictionary of sections.

    Every section of `REQUIRED` is needed; where there are `cases`, `forget` and `methods` are what
    they share, and may be absent too.

    Raises:
      InvalidInputError: an unknown section or option, one that is missing, or a value out of range.
    """
    # Every section that is needed is there, and holds options by name.
    for section in config:
        check_choice("section of the configuration", section, tuple(SECTIONS))
    needed = set(REQUIRED) - ({"forget", "methods"} if "cases" in config else set())
    if lacking := needed - set(config):
        raise InvalidInputError(f"the configuration lacks {', '.join(sorted(lacking))}")
    for section in set(config) - {"name", "seed", "seeds"}:
        if not isinstance(config[section], Mapping):
            raise InvalidInputError(f"{section}: wanted options by name, got {config[section]!r}")
    if not (isinstance(config["name"], str) and config["name"]):
        raise InvalidInputError(f"name: wanted some text, got {config['name']!r}")

    # Options that every unlearner may have are known to one of them.
    known = dict.fromkeys(name for factory in ALGORITHMS.values() for name in names_of(factory))
    for name in config["unlearning"]:
        check_choice("option in unlearning", name, known)

    # Scores of one's own have names of their own, which the sections after them may use.
    scores = call("scores", GivenScores, config["scores"]) if "scores" in config else None
    own_scores = () if scores is None else tuple(scores.own)
    for name in own_scores:
        if name in FORGET or name in REFINEMENTS:
            raise InvalidInputError(f"scores.own: {name} is a name of rumjax; choose another")
    for name, path in config.get("measures", {}).items():
        resolve(f"measures.{name}", path, {})

    # Each section becomes a record, which checks itself.
    return Config(
        name=config["name"],
        seed=check_count("seed", config["seed"], least=0),
        seeds=check_count("seeds", config["seeds"]),
        data=config["data"],
        model=config["model"],
        training=config["training"],
        bank=call("bank", Bank, config["bank"]),
        forget=read_forget("forget", config["forget"], own_scores) if "forget" in config else None,
        unlearning=config["unlearning"],
        methods=config.get("methods", {}),
        attack=call("attack", Attack, config["attack"]),
        cases=read_cases(config["cases"]) if "cases" in config else {},
        study=read_study(config["study"]) if "study" in config else None,
        tuning=call("tuning", Tuning, config["tuning"]) if "tuning" in config else None,
        scores=scores,
        audit=call("audit", Audit, config["audit"]) if "audit" in config else None,
        measures=config.get("measures", {}),
        written=config,
    )


def read_forget(where: str, section: Options, own_scores: Collection[str] = ()) -> Forget:
    """Reads a section `forget`; its options are those of the function that `by` names.

    Raises:
      InvalidInputError: an unknown way to choose, or an option that it does not take.
    """
    dealt = {key: section[key] for key in ("requests", "until") if key in section}
    options = {key: value for key, value in section.items() if key not in dealt}
    accepted(where, FORGET | dict.fromkeys(own_scores, forget_sets.by_score), options, "by")
    return Forget(options.pop("by"), options, **dealt)


def read_cases(sections: Mapping[str, Options]) -> dict[str, CaseSection]:
    """Reads the section `cases`.

    Raises:
      InvalidInputError: there is none, a name that cannot be a folder's, or an unknown option.
    """
    if not sections:
        raise InvalidInputError("cases: there is none")
    cases = {}
    for name, options in sections.items():
        where = f"cases.{name}"
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise InvalidInputError(f"{where}: choose another name, of letters, digits and ._+-")
        cases[name] = call(where, CaseSection, options)
    return cases


def read_study(section: Options) -> Study:
    """Reads the section `study`.

    Raises:
      InvalidInputError: an unknown kind of study, or an option that it does not have.
    """
    kind = check_choice("kind of study", str(section.get("kind")), tuple(STUDIES))
    options = {key: value for key, value in section.items() if key not in ("kind", "command")}
    for name in options:
        check_choice("option in study", name, ("kind", "command", *STUDIES[kind]))
    return Study(kind, section.get("command"), options)


def describe() -> str:
    """Lists every section and its options, for `--help`."""
    lines = []
    for section, about in SECTIONS.items():
        lines.append(listing([(section, about)]))
        if section in FACTORIES:
            names = [name for name in names_of(FACTORIES[section]) if name not in ADDED[section]]
            lines.append(f"    {', '.join(names)}")
        elif section in RECORDS:
            # Options of options are written beside the others, and depend on one of them.
            fields = [one for one in dataclasses.fields(RECORDS[section]) if one.name != "options"]
            lines.append(listing([(f"  {one.name}", one.metadata["about"]) for one in fields]))
        if section == "forget":
            own = ("scores", "embeddings", "labels", "count", "data", "class_names")
            choosers = {by: FORGET[by] for by in ("memorization", *FORGET) if by not in SCORES[1:]}
            options = {by: names_of(chooser) for by, chooser in choosers.items()}
            lines += [
                f"    by {by}: {', '.join(name for name in names if name not in own)}"
                for by, names in options.items()
            ]
        if section == "study":
            kinds = {kind: ", ".join(names) for kind, names in STUDIES.items() if names}
            lines += [f"    kind {kind}: {names}" for kind, names in kinds.items()]
    return "\n".join(lines)


def listing(entries: Iterable[tuple[str, str]]) -> str:
    """Lists names and what they mean, a line each."""
    return "\n".join(f"  {name:<22} {meaning}" for name, meaning in entries)
