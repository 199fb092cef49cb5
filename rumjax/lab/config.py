"""The sections of a configuration as records: what each may say, with its defaults, once.

A configuration is a dictionary of sections. `read` turns it into a `Config` and finds mistakes of
form; whatever needs the data, the model or other sections is checked where a `Run` is built. The
sections `data`, `model`, `training` and `unlearning` are keyword arguments: of `rumjax.data.load`,
of `rumjax.models.build`, of `rumjax.training.recipe`, and of every unlearner's factory that takes
them.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rumjax import forget_sets
from rumjax.errors import InvalidInputError, check_choice, check_count, check_scalar
from rumjax.lab.methods import REFINEMENTS, SCORES
from rumjax.lab.options import Options, accepted, call, check_signature, typed
from rumjax.lab.schema import (
    EXAMPLES,
    OPTIONAL,
    REQUIRED,
    SECTIONS,
    Data,
    Network,
    StudyForm,
    Training,
    Unlearning,
)
from rumjax.lab.sections import (
    STUDIES,
    Attack,
    Audit,
    Bank,
    CaseSection,
    Forget,
    Forgetting,
    GivenScores,
    Original,
    Shards,
    Study,
    Tuning,
    check_seed,
)
from rumjax.lab.values import check_length, check_names, converted, folded, plain
from rumjax.refine import Parts
from rumjax.registry import resolve

STUDY_NEEDS = {**STUDIES, "requests": ()}
"""The options that a study of each kind cannot do without."""
MOST_SEEDS = 10_000
"""Seeds of a run, at most."""
SCORE_ARRAYS = (
    *("memorization_se", "bank_seconds"),
    *("source", "source_rows", "source_names"),
)
"""What lies beside scores in their file."""
MEASURED = ("outputs", "oracle", "labels", "forget_set")
"""What measures of the user's own may take; see `rumjax.lab.measuring.own_measures`."""
COLUMNS = (
    *("method", "strategy", "seed", "name", "diverged", "unchanged"),
    *("seconds", "gradients", "rte", "rge"),
    *("forget_", "retain_", "test_", "tow", "mia", "disagreement"),
)
"""How the names of rumjax's own columns of the results begin."""
FORGET: dict[str, Callable[..., Parts]] = {
    **dict.fromkeys(SCORES, forget_sets.by_score),
    "entanglement": forget_sets.by_entanglement,
    "random": forget_sets.at_random,
    "class": forget_sets.by_class,
    "examples": forget_sets.from_examples,
    "file": forget_sets.from_file,
}
"""What a forget set may be chosen by, and the function that chooses it."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A configuration, section by section."""

    name: str
    seed: int
    seeds: int
    data: Options
    model: Options
    training: Options
    bank: Bank
    forget: Forget | None
    unlearning: Options
    methods: Mapping[str, Options]
    attack: Attack
    cases: Mapping[str, CaseSection] = dataclasses.field(default_factory=dict)
    study: Study | None = None
    tuning: Tuning | None = None
    scores: GivenScores | None = None
    audit: Audit | None = None
    measures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    original: Original | None = None
    forgetting: Forgetting = dataclasses.field(default_factory=Forgetting)
    forgotten: str | None = None
    budget: float | None = None
    reserve: int | None = None
    sisa: Shards | None = None
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


def read(config: Mapping[str, Any]) -> Config:
    """Reads a configuration from a dictionary of sections.

    Every section of `REQUIRED` is needed; where there are `cases`, `forget` and `methods` are what
    they share, and may be absent too. The others may also be None.

    Raises:
      InvalidInputError: an unknown section or option, one that is missing, or a value of another
        type or out of range.
    """
    # Every section that is needed is there, and holds options by name.
    config = plain(config)
    for section in config:
        check_choice("section of the configuration", section, tuple(SECTIONS))
    config = {name: value for name, value in config.items() if not is_absent(name, value)}
    needed = set(REQUIRED) - ({"forget", "methods"} if "cases" in config else set())
    if lacking := needed - set(config):
        lines = "; ".join(f"config.{section} = {EXAMPLES[section]}" for section in sorted(lacking))
        raise InvalidInputError(
            f"the configuration lacks {', '.join(sorted(lacking))}; write for example {lines}"
        )
    for section in set(config) - {"name", "seed", "seeds", "budget", "reserve", "forgotten"}:
        if not isinstance(config[section], Mapping):
            raise InvalidInputError(f"{section}: wanted options by name, got {config[section]!r}")
    name = config["name"]
    if not isinstance(name, str) or not name.isprintable() or not name.strip() or "/" in name:
        raise InvalidInputError(f"name: wanted some text without /, got {name!r}")
    check_length("name", name)

    # Scores of one's own have names of their own, which the sections after them may use.
    scores = call("scores", GivenScores, config["scores"]) if "scores" in config else None
    own_scores = () if scores is None else tuple(scores.own)
    check_names("scores.own", own_scores, (*FORGET, *REFINEMENTS, *SCORE_ARRAYS))
    measures = converted("measures", Mapping[str, str], config.get("measures", {}))
    check_names("measures", measures)
    for name, path in measures.items():
        if folded(name).startswith(COLUMNS):
            raise InvalidInputError(
                f"measures.{name}: choose another name; those of rumjax's own columns begin with "
                f"{', '.join(COLUMNS)}"
            )
        check_signature(f"measures.{name}", resolve(f"measures.{name}", path, {}), MEASURED)

    # A model from elsewhere has no shards.
    if "original" in config and "sisa" in config:
        raise InvalidInputError(
            "original and sisa: a model that was trained elsewhere has no shards that could be "
            "trained again; leave out the section sisa to unlearn it, or the section original to "
            "have shards trained by rumjax"
        )

    # Each section becomes a record, which checks itself.
    return Config(
        name=config["name"],
        seed=check_seed("seed", config["seed"]),
        seeds=check_seeds(config["seeds"]),
        data=typed("data", Data, config["data"]),
        model=typed("model", Network, config["model"]),
        training=typed("training", Training, config["training"]),
        bank=call("bank", Bank, config["bank"]),
        forget=read_forget("forget", config["forget"], own_scores) if "forget" in config else None,
        unlearning=typed("unlearning", Unlearning, config["unlearning"]),
        methods=config.get("methods", {}),
        attack=call("attack", Attack, config["attack"]),
        cases=read_cases(config["cases"]) if "cases" in config else {},
        study=read_study(config["study"]) if "study" in config else None,
        tuning=call("tuning", Tuning, config["tuning"]) if "tuning" in config else None,
        scores=scores,
        audit=call("audit", Audit, config["audit"]) if "audit" in config else None,
        measures=measures,
        original=call("original", Original, config["original"]) if "original" in config else None,
        forgetting=call("forgetting", Forgetting, config.get("forgetting", {})),
        forgotten=converted("forgotten", str | None, config.get("forgotten")),
        budget=check_budget(config["budget"]) if "budget" in config else None,
        reserve=check_reserve(config["reserve"]) if "reserve" in config else None,
        sisa=call("sisa", Shards, config["sisa"]) if "sisa" in config else None,
        written=config,
    )


def check_seeds(value: Any) -> int:
    """Returns a number of seeds, if so many models can be trained.

    Raises:
      InvalidInputError: it is none, or too many.
    """
    seeds = check_count("seeds", converted("seeds", int, value))
    if seeds > MOST_SEEDS:
        raise InvalidInputError(f"seeds: wanted at most {MOST_SEEDS}, got {seeds}")
    return seeds


def check_budget(value: Any) -> float:
    """Returns the share of retraining that a method may take, if one can keep to it.

    Raises:
      InvalidInputError: it is no number above 0.
    """
    budget = check_scalar("budget", converted("budget", float, value))
    if budget == 0:
        raise InvalidInputError("budget: wanted a share of retraining's gradients above 0, got 0")
    return budget


def check_reserve(value: Any) -> int:
    """Returns the size of a reserve, if coins can be tossed for so many examples.

    Raises:
      InvalidInputError: it is none, or fewer than 2.
    """
    return check_count("reserve", converted("reserve", int, value), least=2)


def is_absent(section: str, value: Any) -> bool:
    """Tests whether a section that may be absent is written as None."""
    return section in OPTIONAL and value is None


def read_forget(where: str, section: Options, own_scores: Collection[str] = ()) -> Forget:
    """Reads a section `forget`; its options are those of the function that `by` names.

    Raises:
      InvalidInputError: an unknown way to choose, or an option that it does not take.
    """
    # How it is dealt out to requests is no option of the function.
    section = converted(where, Mapping, section)
    dealt = {
        key: converted(f"{where}.{key}", int | None, section[key])
        for key in ("requests", "until")
        if key in section
    }
    options = {key: value for key, value in section.items() if key not in dealt}
    if dealt.get("until") is not None and dealt.get("requests") is None:
        raise InvalidInputError(f"{where}.until: say with requests how many there are")

    # The others are options of the function that chooses.
    choosers = FORGET | dict.fromkeys(own_scores, forget_sets.by_score)
    function = accepted(where, choosers, options, "by")
    by = options.pop("by")
    return Forget(by, typed(where, function, options), **dealt)


def read_cases(sections: Mapping[str, Options]) -> dict[str, CaseSection]:
    """Reads the section `cases`.

    Raises:
      InvalidInputError: there is none, a name that cannot be a folder's, or an unknown option.
    """
    if not sections:
        raise InvalidInputError("cases: there is none")
    check_names("cases", sections)
    return {name: call(f"cases.{name}", CaseSection, options) for name, options in sections.items()}


def read_study(section: Options) -> Study:
    """Reads the section `study`.

    Raises:
      InvalidInputError: an unknown kind of study, or an option that it does not have.
    """
    kind = check_choice("kind of study", str(section.get("kind")), tuple(STUDIES))
    for name in section:
        check_choice("option in study", name, ("kind", "command", *STUDIES[kind]))
    options = typed("study", StudyForm, section)
    del options["kind"]
    return Study(kind, options.pop("command", None), options)
