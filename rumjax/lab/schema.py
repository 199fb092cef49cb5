"""What a configuration may say: every section, every option with its type, and a line about it.

It is a tree of records that imports nothing of the library, so that the command line can explain
and refuse at once. The records of sections that are arguments of functions agree with these, which
a test holds to.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from rumjax.errors import InvalidInputError, check_choice
from rumjax.lab.sections import (
    STUDIES,
    Attack,
    Audit,
    Bank,
    Forgetting,
    GivenScores,
    Original,
    Shards,
    Tuning,
    option,
)
from rumjax.lab.values import describe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Descent:
    """The options of all that descends, `rumjax.descent.SgdOptions`."""

    batch_size: int = option("examples per step", default=256)
    optimizer: str = option("sgd, adam, or adamw with decoupled decay", default="sgd")
    momentum: float = option("of SGD, and Adam's first", default=0.9)
    weight_decay: float = option("L2, on every parameter", default=5e-4)
    augmentation: str = option(
        "of the images: none, flip, crop_flip, or crop_flip_cutout", default="none"
    )
    batch_norm: str = option("update batch statistics, or freeze them", default="update")
    sharpness: str = option("none, or sam or asam, which seek flat minima", default="none")
    sharpness_radius: float | None = option("how far uphill sam and asam look", default=None)
    sharpness_strength: float = option("1 for sam, below 0 for sharp minima", default=1.0)


@dataclasses.dataclass(frozen=True)
class Data:
    """The section `data`: arguments of `rumjax.data.load`."""

    name: str = option("fashion_mnist_mini, npz, idx, image_folder, a set of TFDS, or your own")
    data_dir: str | None = option("where the data is", default=None)
    validation_fraction: float = option("of every class, held out of D", default=0.1)
    validation_from: str = option("held out of train, or of test", default="train")
    seed: int = option("of what is held out, and of what limit keeps", default=0)
    train_split: str = option("the name of the training split in TFDS", default="train")
    test_split: str = option("the name of the test split in TFDS", default="test")
    image_size: int | None = option("height and width to resize to", default=None)
    limit: int | None = option("keeps only so many examples of each split", default=None)
    label_noise: float = option("of D, the share whose labels are replaced", default=0.0)


@dataclasses.dataclass(frozen=True)
class Network:
    """The section `model`: arguments of `rumjax.models.build`."""

    name: str = option(
        "cnn, resnet18, resnet34, resnet50, resnet9, wrn28_2, wrn28_10, vgg16, vit_ti4, vit_s4, or "
        "package.module:attribute of your own"
    )
    mean: float | Sequence[float] | None = option(
        "taken from pixels, of each channel; that of D by default", default=None
    )
    std: float | Sequence[float] | None = option(
        "that pixels are divided by, of each channel; that of D by default", default=None
    )
    pixels: str = option("the scale of mean and std: 0-1, or 0-255 without D's", default="0-1")
    bfloat16: bool = option("computes in bfloat16", default=False)
    options: Mapping[str, Any] | None = option("arguments of the network", default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Descent):
    """The section `training`: arguments of `rumjax.training.recipe`."""

    epochs: int = option("passes over the training set")
    learning_rate: float = option("at the start", default=0.1)
    schedule: str = option("of the learning rate: constant, cosine, or steps", default="cosine")
    milestones: Sequence[int] = option("epochs at which the rate falls, for steps", default=())
    decay: float = option("what the rate is multiplied by at milestones", default=0.2)
    warm_up: float = option("epochs in which the rate rises to learning_rate", default=0.0)
    label_smoothing: float = option("of a label, what all classes get alike, 0…1", default=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unlearning(Descent):
    """The section `unlearning`: options of unlearners; each takes those that it knows.

    Those without a default have one that is the algorithm's.
    """

    batch_size: int | None = option("examples per step", default=None)  # type: ignore[assignment]
    optimizer: str | None = option(  # type: ignore[assignment]
        "sgd, adam, or adamw with decoupled decay", default=None
    )
    weight_decay: float | None = option(  # type: ignore[assignment]
        "L2, on every parameter", default=None
    )
    sharpness: str | None = option(  # type: ignore[assignment]
        "none, or sam or asam, which seek flat minima", default=None
    )
    epochs: int | None = option("passes over the examples of its pass", default=None)
    learning_rate: float | None = option("constant", default=None)
    penalty: float | None = option("of l1_sparse on magnitudes, of unsir on noise", default=None)
    beta: float | None = option("a weight: of R, of sfr_on its averaging", default=None)
    forget_loss_cap: float | None = option("the loss on S at which ascent stops", default=None)
    max_epochs: int | None = option("of scrub, epochs that also ascend on S", default=None)
    gamma: float | None = option("of scrub, the weight of the teacher", default=None)
    temperature: float | None = option("of scrub's distillation", default=None)
    alpha: float | None = option("of influence, a step's length; of others, see each", default=None)
    damping: float | None = option("of influence, added to the Fisher matrix", default=None)
    fisher_examples: int | None = option("of influence, for the Fisher matrix", default=None)
    micro_batch: int | None = option("gradients of examples held at a time", default=None)
    mask_fraction: float | None = option("of salun and sharp_minmax, of what S moves", default=None)
    saliency: str | None = option("of those, what parameters are ranked by", default=None)
    schedule: str | None = option("of retrain, see training", default=None)
    milestones: Sequence[int] | None = option("of retrain, see training", default=None)
    decay: float | None = option("of retrain, see training", default=None)
    warm_up: float | None = option("of retrain, see training", default=None)
    label_smoothing: float | None = option("of retrain, see training", default=None)
    k: int | None = option("of cf_k and eu_k, last layers that move", default=None)
    forget_every: int | None = option("of sfr_on, steps from one on S to the next", default=None)
    exponent: float | None = option("of sfr_on's weights, of fisher_noise", default=None)
    threshold: float | None = option("of sfr_on, how much more S must matter", default=None)
    clip_norm: float | None = option("of sfr_on, the largest norm of a gradient of S", default=None)
    importance: str | None = option("of sfr_on and ssd, by example or batch", default=None)
    rewind: bool | None = option("of scrub, to where S is known as V is", default=None)
    reference_error: float | None = option(
        "of scrub that rewinds, on unseen images; V's by default", default=None
    )
    teacher: str | None = option("of bad_teacher, random or uniform", default=None)
    draws: int | None = option("of bad_teacher, how many random teachers", default=None)
    retain_share: float | None = option("of R that a sample of it has", default=None)
    held_out_accuracy: float | None = option(
        "of lotus, on unseen images; V's by default", default=None
    )
    forget_weight: float | None = option("of regun, the weight of S", default=None)
    variant: str | None = option("of amun what it trains on, of regun what guides it", default=None)
    ratio: float | None = option("of matching, examples of R for each of S", default=None)
    radius: float | None = option("of amun's attack, the first one", default=None)
    steps: int | None = option("of amun's attack, for each radius", default=None)
    radii: int | None = option("of amun's attack, how many are tried", default=None)
    decay_every: int | None = option("of amun, epochs after which the rate falls", default=None)
    bound: float | None = option("of boundary_shrink, by which pixels change", default=None)
    repair: float | None = option("of unsir, the share of the rate that repairs", default=None)
    noise_images: int | None = option("of unsir, images of noise", default=None)
    repeats: int | None = option("of unsir, how often they are shown", default=None)
    noise_steps: int | None = option("of unsir, in which noise is made", default=None)
    noise_rate: float | None = option("of unsir, of those steps", default=None)
    retained: int | None = option("of unsir, images of R", default=None)
    fraction: float | None = option("of localized_reset and msg, of what is reset", default=None)
    final_rate: float | None = option("of localized_reset, of the rate at the end", default=None)
    criterion: str | None = option("of localized_reset, what channels are ranked by", default=None)
    pooling: str | None = option("of localized_reset, largest or mean", default=None)
    kept_rate: float | None = option("of msg, of the rate of entries that are kept", default=None)
    layers: str | None = option("of msg, whose kernels", default=None)
    dampening: float | None = option("of ssd and its kin, how much is shrunk", default=None)
    cap: float | None = option("of fisher_noise, on the inverse Fisher", default=None)
    per_unit: bool | None = option("of fisher_noise, one variance for each unit", default=None)
    forgotten_class: int | None = option("of fisher_noise, a class to be erased", default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unlearner(Unlearning):
    """An unlearner of a method, as a configuration writes it."""

    algorithm: str = option("a name, or package.module:function of your own")


@dataclasses.dataclass(frozen=True)
class MethodForm:
    """A method, as `vanilla`, `shuffle`, `rum_f` and `rum` write it."""

    strategy: str = option("its name in the results")
    refine: str = option("what S is cut into parts by")
    parts: Sequence[str] = option("the names of the parts, by ascending score")
    select: Mapping[str, Unlearner] = option("the unlearner of each part")
    order: Sequence[str] = option("the parts in the order of unlearning")
    retain_share: float | Mapping[str, float] = option(
        "of what a step retains, what it draws at random; also by part", default=1.0
    )
    budget: float | None = option("of its own, in place of the run's", default=None)


@dataclasses.dataclass(frozen=True)
class Choice:
    """The section `forget`: options of the functions of `rumjax.forget_sets`."""

    by: str = option("a score, entanglement, random, class, examples, file, or yours")
    size: int | None = option("examples of each level, or of a random set", default=None)
    levels: Sequence[str] | None = option("which of low, medium and high", default=None)
    center: float | str | None = option("the score that medium is nearest to", default=None)
    groups: int | None = option("equal groups that D is cut into, by entanglement", default=None)
    centers: Sequence[int] | None = option("the groups of low, medium and high", default=None)
    classes: Sequence[int | str] | None = option(
        "labels or names of the classes to forget", default=None
    )
    fraction: float | None = option("of each class, 0…1", default=None)
    examples: Sequence[int | str] | None = option("rows, files or SHA-256", default=None)
    path: str | None = option("the file that names the examples", default=None)
    seed: int | None = option("of ties, or of the choice", default=None)
    requests: int | None = option("how many requests S is dealt out to", default=None)
    until: int | None = option("how many of the requests have come", default=None)


@dataclasses.dataclass(frozen=True)
class CaseForm:
    """One of the sections in `cases`."""

    forget: Choice | None = option("as the section forget; the run's by default", default=None)
    methods: Mapping[str, MethodForm] | None = option("the run's by default", default=None)
    after: str | None = option("the case whose unlearned models it goes on from", default=None)


@dataclasses.dataclass(frozen=True)
class StudyForm:
    """The section `study`, whose options depend on its kind."""

    kind: str = option("which question is asked: " + ", ".join(STUDIES))
    command: str | None = option("that makes the same run again, for the report", default=None)
    strategies: Mapping[str, Mapping[str, str]] = option("rum: methods by algorithm", default=None)
    mixed: Mapping[str, str] = option("rum: methods of several algorithms", default=None)
    orders: Mapping[str, str] = option("rum: methods by order of the parts", default=None)
    refiners: Mapping[str, str] = option("rum: methods by what refines", default=None)
    parts: Mapping[str, str] = option("rum: methods by number of parts", default=None)
    size: int = option("proxies: examples of a level", default=None)
    driven: Mapping[str, str] = option("proxies: methods by the score that refines", default=None)
    pairs: Mapping[str, str] = option("requests: methods that are compared", default=None)


@dataclasses.dataclass(frozen=True)
class Sections:
    """A configuration, section by section."""

    name: str = option("of the run")
    seed: int = option("of the first model; the others follow")
    seeds: int = option("how many models each result is a mean of")
    data: Data = option("the images and labels, see `rumjax.data.load`")
    model: Network = option("the network, see `rumjax.models.build`")
    training: Training = option("how models are trained, see `rumjax.training.recipe`")
    bank: Bank = option("models trained on random subsets, for scores and audits")
    forget: Choice = option("how the forget set is chosen")
    unlearning: Unlearning = option("defaults of all unlearners")
    methods: Mapping[str, MethodForm] = option(
        "what is run, written by vanilla, shuffle, rum_f, rum"
    )
    attack: Attack = option("the membership inference attack")
    cases: Mapping[str, CaseForm] | None = option("several forget sets", default=None)
    study: StudyForm | None = option("the question that a study answers", default=None)
    tuning: Tuning | None = option("what is searched", default=None)
    scores: GivenScores | None = option("memorization from elsewhere", default=None)
    audit: Audit | None = option("attacks on single examples", default=None)
    measures: Mapping[str, str] | None = option(
        "measures of your own by name, package.module:function", default=None
    )
    original: Original | None = option("a model trained elsewhere, to start from", default=None)
    forgetting: Forgetting | None = option("how requests are fulfilled", default=None)
    forgotten: str | None = option(
        "a file of examples that no model may be trained on, as forget.path", default=None
    )
    budget: float | None = option(
        "of the gradients that retraining takes, what a method may take at most", default=None
    )
    reserve: int | None = option(
        "examples of D that coins put in or leave out before training, to audit by", default=None
    )
    sisa: Shards | None = option(
        "an ensemble of shards, for exact deletion by rumjax.forget",
        default=None,
    )


FORGET_OPTIONS = {
    "memorization": ("size", "levels", "center", "seed"),
    "entanglement": ("size", "groups", "centers", "levels", "seed"),
    "random": ("size", "seed"),
    "class": ("classes", "fraction", "seed"),
    "examples": ("examples",),
    "file": ("path",),
}
"""What may be said besides `by`, for each way to choose; other scores are like memorization."""

SECTIONS = {field.name: field.metadata["about"] for field in dataclasses.fields(Sections)}
"""Every section, and what it is about."""
OPTIONAL = (
    *("cases", "study", "tuning", "scores", "audit", "measures"),
    *("original", "forgetting", "forgotten", "budget", "reserve", "sisa"),
)
REQUIRED = tuple(name for name in SECTIONS if name not in OPTIONAL)

EXAMPLES = {
    "name": '"first"',
    "seed": "0",
    "seeds": "3",
    "data": '{"name": "fashion_mnist_mini"}',
    "model": '{"name": "cnn"}',
    "training": '{"epochs": 20}',
    "bank": '{"models": 64, "fraction": 0.5, "seed": 0}',
    "forget": '{"by": "random", "size": 100}',
    "unlearning": "{}",
    "methods": '{"fine": vanilla({"algorithm": "finetune"})}',
    "attack": '{"samples": None}',
}
"""What every section of `REQUIRED` may be, as Python."""


class Place(NamedTuple):
    """A place in a configuration."""

    names: tuple[str, ...]
    """The names that lead there."""
    kind: Any
    """The type of what is there."""


def find_place(key: str, config: Mapping[str, Any]) -> Place:
    """Finds the place that a dotted key means, and what may be there.

    Args:
      key: for example "training.learning_rate"; names that have dots themselves may be in it where
        the configuration has them.
      config: plain, see `rumjax.lab.values.plain`.

    Raises:
      InvalidInputError: an option that no section knows, or a method or case that is not there.
    """
    try:
        return _place_of(key, config)
    except InvalidInputError as error:
        raise InvalidInputError(f"override {key}: {error}") from error


def _place_of(key: str, config: Mapping[str, Any]) -> Place:
    names: list[str] = []
    kind: Any = Sections
    value: Any = config
    rest = key
    while rest:
        # The first of the names that are left, one that is there if possible.
        where = f"option in {'.'.join(names)}" if names else "section"
        there = sorted(value, key=len, reverse=True) if isinstance(value, Mapping) else []
        whole = [name for name in there if f"{rest}.".startswith(f"{name}.")]
        name = whole[0] if whole else rest.partition(".")[0]
        kind = below(where, kind, name, value)
        names.append(name)
        value = value.get(name) if isinstance(value, Mapping) else None
        rest = rest[len(name) + 1 :]
    if not names or key.endswith("."):
        raise InvalidInputError("a name is missing; wanted for example --config.seeds=5")
    return Place(tuple(names), kind)


def below(where: str, kind: Any, name: str, value: Any) -> Any:
    """Returns the type of an option of a section, or of whatever else has options.

    Args:
      where: what the option is, for messages.
      kind: the type of the section.
      name: the name of the option.
      value: the section as it is written, where it is.

    Raises:
      InvalidInputError: there is no such option.
    """
    kind = without_none(kind)
    written = value if isinstance(value, Mapping) else {}
    if dataclasses.is_dataclass(kind):
        types = types_of_record(kind)
        # A function of the user's has options that are not known here.
        own = any(":" in str(written.get(choice)) for choice in ("algorithm", "by"))
        if name in types or not own:
            return types[check_choice(where, name, types)]
        return Any
    if get_origin(kind) is Mapping:
        inner = get_args(kind)[1]
        if dataclasses.is_dataclass(inner):
            check_choice(where, name, written)
        return inner
    if kind is Any:
        return Any
    raise InvalidInputError(f"unknown {where} {name!r}: this is {describe(kind)}")


def types_of_record(record: Any) -> dict[str, Any]:
    """Returns the options of a section with their types."""
    types = {field.name: field.type for field in dataclasses.fields(record)}
    if record is Tuning:
        types["select"] = Mapping[str, Any]
    return types


def without_none(kind: Any) -> Any:
    """Returns the type of what may be absent."""
    others = [choice for choice in get_args(kind) if choice is not type(None)]
    return others[0] if type(None) in get_args(kind) and len(others) == 1 else kind
