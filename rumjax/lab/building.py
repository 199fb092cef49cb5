"""Methods and unlearners, made of what configurations write."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from rumjax.data.augment import augmentation
from rumjax.errors import InvalidInputError, check_scalar
from rumjax.lab.methods import FLOOR, REFINEMENTS, Method
from rumjax.lab.options import Options, accepted, call, call_with, names_of, typed
from rumjax.lab.schema import MethodForm
from rumjax.models import Model
from rumjax.refine import Refine, at_random, by_class, by_score, check_retain_share, rum, whole
from rumjax.registry import attempt, is_import_path, resolve
from rumjax.types import Scores, Unlearner
from rumjax.unlearn import ALGORITHMS, Step


def build_method(
    name: str,
    options: Options,
    defaults: Options,
    model: Model,
    num_classes: int,
    own_scores: Collection[str] = (),
    *,
    section: str = "methods",
) -> Method:
    """Builds a method from its options, as `vanilla` and its siblings write them.

    Args:
      name: its key in the configuration.
      options: its form, with an unlearner for each part.
      defaults: options of unlearners that do not give them.
      model: the network.
      num_classes: K.
      own_scores: names of scores besides those of rumjax, which a method may refine by.
      section: of the configuration that it is written in, for messages.

    Raises:
      InvalidInputError: an unknown refinement, algorithm or option, a value out of range, or
        parts, order and selection that do not name the same.
    """
    where = f"{section}.{name}"
    options = check_form(where, options, own_scores)
    select, resolved = {}, {}
    for part, given in options["select"].items():
        select[part], resolved[part] = unlearner(
            f"{where}.select.{part}", given, defaults, model, num_classes
        )
    budget = options.get("budget")
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
        retain_share=check_retain_share(
            f"{where}.retain_share", options.get("retain_share", 1.0), options["order"]
        ),
        budget=None if budget is None else share_of(f"{where}.budget", budget),
    )


def share_of(where: str, value: Any) -> float:
    """Returns a share, if it is a number above 0.

    Raises:
      InvalidInputError: it is not.
    """
    share = check_scalar(where, value)
    if share == 0:
        raise InvalidInputError(f"{where}: wanted a share above 0, got 0")
    return share


def check_form(where: str, options: Options, own_scores: Collection[str] = ()) -> dict[str, Any]:
    """Returns the form of a method, if all of it but its unlearners is in order.

    Raises:
      InvalidInputError: not made by `vanilla` or its siblings, an
        unknown refinement, or parts, order and selection that do not name the same.
    """
    keys = options.keys() - {"retain_share", "budget"} if isinstance(options, Mapping) else set()
    if keys != FLOOR.keys():
        raise InvalidInputError(
            f"{where}: write it with vanilla, shuffle, rum_f or rum of rumjax.lab.methods"
        )
    form = typed(where, MethodForm, options)
    if not form["strategy"].strip() or not form["strategy"].isprintable():
        raise InvalidInputError(f"{where}.strategy: wanted a word, got {form['strategy']!r}")
    known = dict.fromkeys((*REFINEMENTS, *own_scores), by_score)
    resolve(f"refinement in {where}", form["refine"], known)

    if len(set(form["parts"])) != len(form["parts"]):
        raise InvalidInputError(f"{where}.parts: a name occurs twice: {', '.join(form['parts'])}")

    # Parts by class are those of the forget set's classes, whatever `parts` says.
    parts = form["order"] if form["refine"] == "class" else form["parts"]
    for key in ("order", "select"):
        if sorted(form[key]) != sorted(set(parts)):
            raise InvalidInputError(
                f"{where}.{key}: names {', '.join(form[key])}, "
                f"but the parts are {', '.join(parts)}, each once"
            )
    return form


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
    arguments = typed(where, factory, arguments, without=("model", *extra))
    try:
        made = call(where, factory, with_augmentation(arguments), model=model, **extra)
    except InvalidInputError as error:
        # Of many unlearners, it is said which.
        named = where in str(error)
        raise error if named else InvalidInputError(f"{where}: {error}") from error
    if not all(hasattr(made, name) for name in ("init", "epoch", "finish", "epochs")):
        raise InvalidInputError(
            f"{where}: {options['algorithm']} made {type(made).__name__}; wanted an unlearner, "
            "with init, epoch, finish and epochs"
        )
    return made, options | arguments


def with_augmentation(options: Options) -> dict[str, Any]:
    """Returns options of an unlearner or of training, with the augmentation that they name."""
    if "augmentation" not in options:
        return dict(options)
    return {**options, "augmentation": augmentation(options["augmentation"])}


def steps_on(
    method: Method,
    forget: np.ndarray,
    retain: np.ndarray,
    scores: Mapping[str, Scores],
    labels: np.ndarray,
    seed: int,
) -> tuple[Step, ...]:
    """Returns a method's steps on S and R; see `refinement` and `rumjax.refine.rum`."""
    return rum(
        forget,
        retain,
        refine=refinement(method, scores, labels, seed),
        select=method.select,
        order=method.order,
        retain_share=method.retain_share,
        seed=seed,
    )


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
        where = f"methods.{method.name}.refine"
        own: Refine = call_with(
            where, factory, scores=scores, labels=labels, parts=method.parts, seed=seed
        )
        if not callable(own):
            raise InvalidInputError(
                f"{where}: {method.refine} returned {type(own).__name__}; wanted a function from "
                "S to parts by name"
            )
        return lambda forget: attempt(where, own, {}, forget)
    return by_score(scores[method.refine], parts=method.parts)
