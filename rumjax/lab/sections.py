"""The sections of a configuration that are records: each option with its default, said once.

Every record checks its own values; what is left to be checked needs other sections, the data or the
model, and is checked where a `Run` is built.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from rumjax.errors import InvalidInputError, check_choice, check_count, check_most, check_number
from rumjax.lab.options import Options, call
from rumjax.lab.values import check_distinct, converted
from rumjax.registry import resolve

STUDIES: dict[str, tuple[str, ...]] = {
    "difficulty": (),
    "rum": ("strategies", "mixed", "orders", "refiners", "parts"),
    "proxies": ("size", "driven"),
    "requests": ("pairs",),
}
"""Kinds of study, and the options of each: which methods and cases it compares."""

Criterion: TypeAlias = Literal["oracle", "validation", "ulira"]
Search: TypeAlias = Literal["ascent", "exhaustive"]
Orders: TypeAlias = Literal["all", "configured"]

MOST_SEED = 2**31 - 1
"""The largest seed, with which JAX and NumPy both can begin."""
MOST_MODELS = 10**6
"""Models of a bank, at most."""
MOST_SETTINGS = 1000
"""Settings of a method that are drawn, at most."""
FORMATS = ("auto", "orbax", "msgpack", "safetensors", "npz")
"""Formats of checkpoints, as `rumjax.checkpoints` knows them."""
LEAST_AUDITED = 8
"""Models of the bank, below which audits cannot be computed."""


def option(about: str, **default: Any) -> Any:
    """Declares an option of a section, and says in a few words what it is."""
    return dataclasses.field(metadata={"about": about}, **default)


def check_seed(what: str, value: Any) -> int:
    """Returns a seed, if it is one that keys of random numbers can be made of.

    Raises:
      InvalidInputError: it is not.
    """
    seed = check_count(what, converted(what, int, value), least=0)
    if seed > MOST_SEED:
        raise InvalidInputError(f"{what}: wanted a seed of at most {MOST_SEED}, got {seed}")
    return seed


@dataclasses.dataclass(frozen=True)
class Bank:
    """The section `bank`: models trained on random subsets of D."""

    models: int = option("M, how many models there are")
    fraction: float = option("of D that each model sees, 0…1")
    seed: int = option("of the subsets and of the training")
    per_device: int | str = option(
        'how many models a device holds at a time, at most; "auto" for as many as are useful',
        default="auto",
    )
    checkpoints: bool = option("whether models are kept, not only their answers", default=False)
    matching_oracles: int = option(
        "models retrained without S for methods that match oracles, which judge nobody", default=4
    )

    def __post_init__(self) -> None:
        """Checks the values."""
        if check_count("bank.models", self.models, least=2) > MOST_MODELS:
            raise InvalidInputError(f"bank.models: wanted at most {MOST_MODELS}, got {self.models}")
        check_number("bank.fraction", self.fraction, most=1.0)
        check_seed("bank.seed", self.seed)
        check_count("bank.matching_oracles", self.matching_oracles)
        check_most("bank.per_device", self.per_device)


@dataclasses.dataclass(frozen=True)
class Original:
    """The section `original`: a model that was trained elsewhere, in the place of θo."""

    path: str = option("the checkpoint: a file, or a folder of Orbax's; FILE#params for a part")
    format: str = option("auto, orbax, msgpack, safetensors or npz", default="auto")
    accept: bool = option(
        "takes the model although it is no better than chance, or seems to have seen V",
        default=False,
    )

    def __post_init__(self) -> None:
        """Checks the values."""
        if not self.path.strip():
            raise InvalidInputError("original.path: wanted a file or a folder, got ''")
        check_choice("original.format", self.format, FORMATS)


@dataclasses.dataclass(frozen=True)
class Forgetting:
    """The section `forgetting`: how requests are fulfilled, and what a model must stand up to."""

    budget: float = option(
        "of retraining's epochs, what all that is trained for a batch may take together",
        default=0.33,
    )
    candidates: Mapping[str, Options] | None = option(
        "methods to choose from, as in the section methods; rumjax's own by default", default=None
    )
    validation_drop: float = option("by how much accuracy on V may fall, 0…1", default=0.01)
    retained_drop: float = option("by how much accuracy on R may fall, 0…1", default=0.02)
    p_value: float = option(
        "below which a test says that S is still fitted better than it should be", default=0.05
    )
    false_positive_rate: float = option("of the attack whose rate on S is measured", default=0.05)
    relearning: int = option("epochs, at most, in which S is learned again; 0 for none", default=5)
    oracles: int = option("models retrained without S that the result is held against", default=0)
    bins: int = option("strata of difficulty in which S is matched with V", default=5)

    def __post_init__(self) -> None:
        """Checks the values."""
        for name in ("validation_drop", "retained_drop", "p_value", "false_positive_rate"):
            check_number(f"forgetting.{name}", getattr(self, name), most=1.0)
        if check_number("forgetting.budget", self.budget) <= 0:
            raise InvalidInputError(
                "forgetting.budget: wanted a share of retraining's epochs above 0, got 0"
            )
        for name, least in (("relearning", 0), ("oracles", 0), ("bins", 1)):
            check_count(f"forgetting.{name}", getattr(self, name), least=least)
        if self.candidates is not None and not self.candidates:
            raise InvalidInputError("forgetting.candidates: there is none")


@dataclasses.dataclass(frozen=True)
class Shards:
    """The section `sisa`: a model of shards and slices, from which examples are taken exactly."""

    shards: int = option("parts of D, with a model each", default=5)
    slices: int = option("parts of a shard, with a checkpoint after each", default=3)
    seed: int = option("of what lies where", default=0)

    def __post_init__(self) -> None:
        """Checks the values."""
        check_count("sisa.shards", self.shards)
        check_count("sisa.slices", self.slices)
        check_seed("sisa.seed", self.seed)


@dataclasses.dataclass(frozen=True)
class Attack:
    """The section `attack`: the membership inference attack of the results."""

    samples: int | None = option("members, and non-members, that it learns from; None for all of T")

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.samples is not None:
            check_count("attack.samples", self.samples)


@dataclasses.dataclass(frozen=True)
class Forget:
    """The section `forget`: how S is chosen."""

    by: str = option(
        "what S is chosen by: a score, entanglement, random, class, examples, file, or a function "
        "of your own"
    )
    options: Options = option("of the function that chooses it, `FORGET[by]`")
    requests: int | None = option("how many requests S is dealt out to", default=None)
    until: int | None = option("how many of the requests have come", default=None)

    @property
    def written(self) -> dict[str, Any]:
        """The section as a dictionary."""
        requests = {"requests": self.requests, "until": self.until}
        given = {key: value for key, value in requests.items() if value is not None}
        return {"by": self.by, **self.options, **given}

    @property
    def size(self) -> int | None:
        """The number of examples of each level, where that is said."""
        return self.options.get("size")


@dataclasses.dataclass(frozen=True)
class GivenScores:
    """The section `scores`: memorization from elsewhere, which needs no bank, and own scores."""

    memorization: Mapping[str, str] | None = option(
        '{"published": NAME} for scores that come with rumjax, {"path": FILE, "key": NAME} for a '
        "file; by default it is estimated by the bank",
        default=None,
    )
    own: Mapping[str, str] = option(
        "scores of your own by name, package.module:function, of the first original model",
        default_factory=dict,
    )

    def __post_init__(self) -> None:
        """Checks the values."""
        given = self.memorization
        if given is not None and set(given) not in ({"published"}, {"path", "key"}):
            raise InvalidInputError(
                'scores.memorization: wanted {"published": NAME} or {"path": FILE, "key": NAME}, '
                f"got {given!r}"
            )
        for name, path in self.own.items():
            resolve(f"scores.own.{name}", path, {})


@dataclasses.dataclass(frozen=True)
class Selection:
    """The search for one RUM: an algorithm for every part, and an order of the parts."""

    candidates: Sequence[str] = option("methods whose unlearners may be used for a part")
    search: Search = option("how combinations are searched", default="ascent")
    orders: Orders = option("whether the order of the parts is searched", default="all")
    budget: int = option("how many combinations are tried, at most", default=30)


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The section `tuning`: hyper-parameters that are searched, and by what they are judged."""

    seeds: Sequence[int] = option("of models that are trained for the search alone")
    grids: Options = option(
        "for a method, or for all of an algorithm, the values to try by option, or by part and "
        'option; ("log", low, high) and ("uniform", low, high) are ranges'
    )
    settings: int | None = option(
        "how many settings are drawn at random; None searches a grid whole", default=None
    )
    criterion: Criterion = option(
        'what settings are judged by: "oracle" is ToW; "ulira" has what that attack on the models '
        'of all seeds gains in place of the accuracy on S; "validation" needs no oracles',
        default="oracle",
    )
    adopt: bool = option("whether the run uses the best settings", default=False)
    select: Mapping[str, Options] = option(
        "for methods of strategy rum, how their unlearners are selected",
        default_factory=dict,
    )
    like: Mapping[str, str] = option(
        "methods that take over the settings of another", default_factory=dict
    )

    def __post_init__(self) -> None:
        """Checks the values."""
        for seed in self.seeds:
            check_seed("tuning.seeds", seed)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InvalidInputError(
                f"tuning.seeds: wanted one or more, all different, got {self.seeds}"
            )
        if self.criterion == "ulira" and len(self.seeds) < LEAST_AUDITED:
            raise InvalidInputError(
                f'tuning.seeds: criterion "ulira" attacks the models of all seeds together, and '
                f"wants at least {LEAST_AUDITED}, got {len(self.seeds)}"
            )
        for name, grid in self.grids.items():
            if not isinstance(grid, Mapping):
                raise InvalidInputError(
                    f"tuning.grids.{name}: wanted values by option, got {grid!r}"
                )
        if (
            check_count("tuning.settings", 1 if self.settings is None else self.settings)
            > MOST_SETTINGS
        ):
            raise InvalidInputError(
                f"tuning.settings: wanted at most {MOST_SETTINGS}, got {self.settings}"
            )

    @property
    def needs_oracles(self) -> bool:
        """Says whether models of the tuning seeds are retrained."""
        return self.criterion != "validation"

    def selection(self, method: str) -> Selection | None:
        """Returns how a method's unlearners are selected, or None where they are not.

        Raises:
          InvalidInputError: an unknown option, no candidates, or a value out of range.
        """
        if method not in self.select:
            return None
        where = f"tuning.select.{method}"
        selection: Selection = call(where, Selection, self.select[method])
        if not selection.candidates:
            raise InvalidInputError(f"{where}: it has no candidates")
        check_count(f"{where}.budget", selection.budget)
        return selection

    def grid(self, method: str, algorithm: str) -> Options:
        """Returns the grid of a method: its own, or else its algorithm's, or else an empty one."""
        grid: Options = self.grids.get(method) or self.grids.get(algorithm) or {}
        return grid


@dataclasses.dataclass(frozen=True)
class Audit:
    """The section `audit`: attacks on single examples, for which many models are made.

    With a fraction of 2/3 and a share of 1/2, a third of S is forgotten, kept and never seen each,
    as in Naderloui et al. (USENIX Security 2025).
    """

    models: int = option("of the bank, which every method unlearns")
    share: float = option(
        "of the examples of S that a model saw, what it is asked to forget", default=2 / 3
    )
    methods: Sequence[str] | None = option("which methods are audited; None for all", default=None)
    command: str | None = option("that makes the same run again, for the report", default=None)

    def __post_init__(self) -> None:
        """Checks the values."""
        check_count("audit.models", self.models, least=LEAST_AUDITED)
        if self.methods is not None and not self.methods:
            raise InvalidInputError("audit.methods: there is none; None stands for all of them")
        check_distinct("audit.methods", self.methods or ())
        if not 0 < self.share < 1:
            raise InvalidInputError(
                f"audit.share: wanted a number between 0 and 1, got {self.share}"
            )


@dataclasses.dataclass(frozen=True)
class Study:
    """The section `study`: the question of a run with several forget sets or methods."""

    kind: str = option("which question is asked")
    command: str | None = option("that makes the same run again, for the report", default=None)
    options: Options = option("which methods and cases are compared", default_factory=dict)


@dataclasses.dataclass(frozen=True)
class CaseSection:
    """One of the sections in `cases`: a forget set, and methods of its own if it has any."""

    forget: Options | None = option("as the section `forget`; the run's by default", default=None)
    methods: Mapping[str, Options] | None = option("the run's by default", default=None)
    after: str | None = option("the case whose unlearned models it goes on from", default=None)
