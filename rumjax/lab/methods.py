"""Methods as configurations write them: a refinement, an unlearner for each part, an order.

They are written with `vanilla`, `shuffle`, `rum_f` and `rum`: four values of one form.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from rumjax.data.augment import augmentation
from rumjax.errors import InvalidInputError
from rumjax.lab import files
from rumjax.lab.options import Options, accepted, call, call_with, names_of
from rumjax.models import Model
from rumjax.refine import LEVELS, Refine, at_random, by_class, by_score, whole
from rumjax.registry import is_import_path, resolve
from rumjax.scores import EXTRA_PROXIES, PROXIES
from rumjax.types import Scores, Unlearner
from rumjax.unlearn import ALGORITHMS

SCORES = ("memorization", *PROXIES, *EXTRA_PROXIES)
REFINEMENTS = ("whole", "random", "class", "entanglement", "rescored", *SCORES)
"""What a forget set may be refined by, besides scores and refinements of your own.

"entanglement" is nearness to the mean embedding. "rescored" is hold-out retraining of the very
model that is to forget, which is not θo once requests have come before."""
SHUFFLED = ("first", "second", "third")


def vanilla(unlearner: Options) -> dict[str, Any]:
    """Writes a method that runs an unlearner once, on all of S."""
    return _method("vanilla", "whole", {"all": unlearner}, ("all",))


def shuffle(*unlearners: Options, parts: Sequence[str] = SHUFFLED) -> dict[str, Any]:
    """Writes a method of one algorithm on random parts of S in sequence: the control for RUM^F.

    Args:
      *unlearners: one for all parts, or one for each, which may differ in numbers.
      parts: the names of the parts.
    """
    return _method("shuffle", "random", _one_algorithm(unlearners, parts), parts)


def rum_f(
    *unlearners: Options,
    refine: str = "memorization",
    parts: Sequence[str] = LEVELS,
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes RUM^F: one algorithm on parts of S in sequence, lowest scores first by default.

    Args:
      *unlearners: one for all parts, or one for each, which may differ in numbers.
      refine: one of `REFINEMENTS`, a score of your own, or "package.module:factory".
      parts: the names of the parts, by ascending score.
      order: the order of unlearning; that of `parts` by default.
    """
    return _method("rum_f", refine, _one_algorithm(unlearners, parts), parts, order)


def rum(
    select: Mapping[str, Options],
    *,
    refine: str = "memorization",
    parts: Sequence[str] = LEVELS,
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes RUM: an unlearner for each part, on the parts in sequence; see `rum_f`."""
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
    """Writes each unlearner as vanilla, shuffle and RUM^F: "finetune_vanilla" and so on."""
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
    """A line of the results: a refinement, an unlearner for each part, and an order."""

    name: str
    """its key in the configuration"""
    algorithm: str
    """the algorithm's name; those of a mixed RUM in the order of use, joined by ">" """
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
        """The epochs of all its steps."""
        return sum(self.select[part].epochs for part in self.order)


def build_method(
    name: str,
    options: Options,
    defaults: Options,
    model: Model,
    num_classes: int,
    own_scores: Collection[str] = (),
) -> Method:
    """Builds a method from its options, as `vanilla` and its siblings write them.

    Args:
      name: its key in the configuration.
      options: its form, with an unlearner for each part.
      defaults: options of unlearners that do not give them.
      model: the network.
      num_classes: K.
      own_scores: names of scores besides those of rumjax, which a method may refine by.

    Raises:
      InvalidInputError: an unknown refinement, algorithm or option, a value out of range, or
        parts, order and selection that do not name the same.
    """
    where = f"methods.{name}"
    check_form(where, name, options, own_scores)
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


def check_form(where: str, name: str, options: Options, own_scores: Collection[str] = ()) -> None:
    """Checks everything of a method but its unlearners.

    Raises:
      InvalidInputError: a name that cannot be a file's, not made by `vanilla` or its siblings, an
        unknown refinement, or parts, order and selection that do not name the same.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name) or name in files.ORACLES.values():
        raise InvalidInputError(f"{where}: choose another name, of letters, digits and ._+-")
    if not isinstance(options, Mapping) or options.keys() != FLOOR.keys():
        raise InvalidInputError(
            f"{where}: write it with vanilla, shuffle, rum_f or rum of rumjax.lab.methods"
        )
    known = dict.fromkeys((*REFINEMENTS, *own_scores), by_score)
    resolve(f"refinement in {where}", options["refine"], known)

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
    """Makes an unlearner from `{"algorithm": name, **options}`, and fills its defaults in.

    Defaults that its factory does not know are left out; options that it does not know are refused.

    Returns:
      The unlearner, and its options.

    Raises:
      InvalidInputError: an unknown algorithm or option, or a value out of range.
    """
    factory = accepted(where, ALGORITHMS, given, "algorithm")
    known = names_of(factory)
    options = {key: value for key, value in defaults.items() if key in known} | dict(given)
    extra = {"num_classes": num_classes} if "num_classes" in known else {}
    arguments = {key: value for key, value in options.items() if key != "algorithm"}
    made = call(where, factory, with_augmentation(arguments), model=model, **extra)
    return made, options


def with_augmentation(options: Options) -> dict[str, Any]:
    """Returns options of an unlearner or of training, with the augmentation that they name."""
    if "augmentation" not in options:
        return dict(options)
    return {**options, "augmentation": augmentation(options["augmentation"])}


def refinement(
    method: Method, scores: Mapping[str, Scores], labels: np.ndarray, seed: int
) -> Refine:
    """Returns the function that refines a forget set for a method.

    A refinement of your own, "package.module:factory", is called with what it takes of `scores`,
    `labels`, `parts` and `seed`, and returns a function from S to named parts.

    Args:
      method: names the refinement and the parts.
      scores: scores of D by name.
      labels: int32[N].
      seed: of shuffles.
    """
    if method.refine == "whole":
        return whole(method.parts[0])
    if method.refine == "random":
        return at_random(parts=method.parts, seed=seed)
    if method.refine == "class":
        return by_class(labels)
    if is_import_path(method.refine):
        factory = resolve("refinement", method.refine, {})
        own: Refine = call_with(
            f"methods.{method.name}.refine",
            factory,
            scores=scores,
            labels=labels,
            parts=method.parts,
            seed=seed,
        )
        return own
    return by_score(scores[method.refine], parts=method.parts)
