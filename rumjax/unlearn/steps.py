"""Steps of a run, and checks that they fit together, their data and their variables."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rumjax.checks import check_data, check_task
from rumjax.errors import InvalidInputError
from rumjax.models import Model
from rumjax.models.checks import check_variables, is_traced
from rumjax.types import Dataset, Task, Unlearner, Variables, collections_of


class Step(NamedTuple):
    """One unlearner at work on one task; RUM is a sequence of steps.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.types import task
      >>> from rumjax.unlearn import finetune
      >>> Step("all", finetune(Model(Cnn(10))), task([1, 3], 10)).name
      'all'
    """

    name: str
    unlearner: Unlearner[Any]
    task: Task


def chain(task: Task, *unlearners: Unlearner[Any]) -> tuple[Step, ...]:
    """Returns the steps of unlearners one after another on the same task.

    Raises:
      InvalidInputError: no task, or what is no unlearner.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.types import task
      >>> from rumjax.unlearn import finetune, neggrad
      >>> model = Model(Cnn(10))
      >>> [step.name for step in chain(task([1, 3], 10), neggrad(model), finetune(model))]
      ['NegGrad', 'Finetune']
    """
    if not isinstance(task, Task):
        raise InvalidInputError(
            "chain: wanted rumjax.task(forget, size) first, and unlearners after it, got "
            f"{type(task).__name__}"
        )
    for unlearner in unlearners:
        check_unlearner("chain", unlearner)
    return tuple(Step(type(unlearner).__name__, unlearner, task) for unlearner in unlearners)


def check_unlearner(what: str, unlearner: Any) -> None:
    """Checks that an unlearner is one.

    Raises:
      InvalidInputError: a factory that is not called, a class, or anything else.
    """
    methods = ("init", "epoch", "finish")
    if isinstance(unlearner, type) or not all(hasattr(unlearner, name) for name in methods):
        name = getattr(unlearner, "__name__", type(unlearner).__name__)
        hint = "; call it with a model" if callable(unlearner) else ""
        raise InvalidInputError(
            f"{what}: wanted an unlearner, of rumjax.finetune(model) for instance, got {name}{hint}"
        )


def check_steps(
    what: str,
    steps: Sequence[Step],
    variables: Any,
    data: Any,
    *,
    lead: tuple[int, ...] = (),
) -> tuple[tuple[Step, ...], Any, Dataset]:
    """Returns steps, variables and data in the form that unlearners take, if they fit together.

    Args:
      what: the name used in messages.
      steps: to be run in order.
      variables: to start from, in any form that `rumjax.models.checks.check_variables` takes.
      data: all examples.
      lead: axes of the number of models, before those of every array in steps and variables.

    Raises:
      InvalidInputError: they do not; says what, where, and what to do.
    """
    # Steps, and the models that they change.
    parts = tuple(steps) if isinstance(steps, list | tuple) else (steps,)
    for step in parts:
        if not isinstance(step, Step):
            raise InvalidInputError(
                f"{what}: wanted steps of rumjax.rum or rumjax.chain(task, unlearner), got "
                f"{type(step).__name__}"
            )
        check_unlearner(f"{what}, {step.name}", step.unlearner)
        check_numbers(f"{what}, {step.name}", step.unlearner, lead)
    unlearners: list[Any] = [step.unlearner for step in parts]
    models = [own for one in unlearners if isinstance(own := getattr(one, "model", None), Model)]

    # Data that every model takes, and tasks on them.
    data = check_data(f"{what}, data", data, *dict.fromkeys(models))
    for step in parts:
        check_facts(f"{what}, {step.name}", step.unlearner, data, lead)
        for number in np.ndindex(lead):
            one = step.task
            if lead:
                one = Task(*(part._replace(indices=part.indices[number]) for part in one))
            check_task(f"{what}, {step.name}", one, len(data.labels))
            check_forgets(f"{what}, {step.name}", step.unlearner, one)
            check_whole_classes(f"{what}, {step.name}", step.unlearner, one, data)
    for unlearner in unlearners:
        check_classes(what, unlearner, data)
    check_models(what, parts, data)

    # Variables to start from.
    if variables is not None:
        if not parts and not isinstance(variables, Variables):
            variables = collections_of(f"{what}, variables", variables)
        for model in models[:1]:
            variables = check_variables(
                f"{what}, variables", model, variables, data.images, lead=lead
            )
    elif not parts or not getattr(unlearners[0], "from_scratch", False):
        first = type(unlearners[0]).__name__ if parts else "a run of no steps"
        raise InvalidInputError(
            f"{what}: {first} needs variables to start from; only retrain does without (and your "
            "own unlearners, whose class says from_scratch = True)"
        )
    return parts, variables, data


def check_numbers(what: str, unlearner: Unlearner[Any], lead: tuple[int, ...] = ()) -> None:
    """Checks that an unlearner's numbers are of as many models as are run.

    Raises:
      InvalidInputError: a number is an array of several, as `rumjax.grid` makes them.
    """
    # Fields of your own records may be arrays, those of rumjax's are numbers.
    ours = [cls for cls in type(unlearner).__mro__ if cls.__module__.startswith("rumjax.")]
    names = {field.name for cls in ours if dataclasses.is_dataclass(cls) for field in _fields(cls)}
    for name in sorted(names):
        for leaf in jax.tree.leaves(getattr(unlearner, name)):
            if np.shape(leaf) != lead:
                raise InvalidInputError(
                    f"{what}: {name} has shape {list(np.shape(leaf))}, and is wanted of shape "
                    f"{list(lead)}; run a grid of settings by rumjax.run_pure inside jax.vmap"
                )


def _fields(cls: Any) -> list[dataclasses.Field[Any]]:
    """Returns the fields of a record that are single numbers: neither structure nor facts."""
    return [
        field for field in dataclasses.fields(cls) if not {"static", "fact"} & field.metadata.keys()
    ]


def check_facts(
    what: str, unlearner: Unlearner[Any], data: Dataset, lead: tuple[int, ...] = ()
) -> None:
    """Checks that an unlearner has been told the facts that it needs; see `rumjax.types.fact`.

    Raises:
      InvalidInputError: a fact is missing, or of another shape.
    """
    for name, field in facts_of(unlearner).items():
        value, about = getattr(unlearner, name), field.metadata["about"]
        if value is None:
            raise InvalidInputError(
                f"{what}: {type(unlearner).__name__} needs {name}, {about}; give it to the factory"
            )
        sizes = {"N": len(data.labels)}
        if "K" in field.metadata["fact"]:
            sizes["K"] = unlearner.model.signature(data.images).num_classes  # type: ignore[attr-defined]
        wanted = (*lead, *(sizes[axis] for axis in field.metadata["fact"]))
        if np.shape(value) != wanted:
            raise InvalidInputError(
                f"{what}: {name}, {about}, has shape {list(np.shape(value))}, and is wanted of "
                f"shape {list(wanted)}"
            )


def facts_of(unlearner: Any) -> dict[str, dataclasses.Field[Any]]:
    """Returns the fields of a record, or of its class, that are facts."""
    fields = dataclasses.fields(unlearner) if dataclasses.is_dataclass(unlearner) else ()
    return {field.name: field for field in fields if "fact" in field.metadata}


def unknown_facts(unlearner: Any) -> tuple[str, ...]:
    """Returns the names of the facts that an unlearner has not been told yet."""
    return tuple(name for name in facts_of(unlearner) if getattr(unlearner, name) is None)


def check_forgets(what: str, unlearner: Unlearner[Any], task: Task) -> None:
    """Checks that there is something to forget, if the unlearner's class says `reads_forget`.

    Raises:
      InvalidInputError: the forget set is empty.
    """
    reads, size = getattr(unlearner, "reads_forget", False), task.forget.size
    if reads and not is_traced(size) and int(size) == 0:
        raise InvalidInputError(
            f"{what}: nothing is to be forgotten, and {type(unlearner).__name__} works on the "
            "forget set; name an example to forget, or use rumjax.finetune"
        )


def check_whole_classes(what: str, unlearner: Unlearner[Any], task: Task, data: Dataset) -> None:
    """Checks that S is made of whole classes, if the unlearner's class says `whole_classes`.

    Raises:
      InvalidInputError: examples of a class of S are retained.
    """
    wanted = getattr(unlearner, "whole_classes", False)
    if not wanted or is_traced(task.forget.size) or is_traced(data.labels):
        return
    labels = np.asarray(data.labels)
    forget, retain = (labels[np.asarray(part.indices)[: int(part.size)]] for part in task)
    both = np.intersect1d(forget, retain)
    if both.size:
        raise InvalidInputError(
            f"{what}: {type(unlearner).__name__} forgets whole classes, and "
            f"{int(np.sum(retain == both[0]))} examples of class {both[0]} are retained; name all "
            "of them, or use another algorithm"
        )


def check_models(what: str, steps: Sequence[Step], data: Dataset) -> None:
    """Checks that every step is given variables of the form that its model has.

    Raises:
      InvalidInputError: two steps are of different models, and the later needs variables; or a
        model seems to return embeddings before logits.
    """
    before = None
    for step in steps:
        model = getattr(step.unlearner, "model", None)
        if isinstance(model, Model):
            form, classes, width = model.signature(data.images)
            if (
                model.num_classes is None
                and 0 < width < classes
                and not is_traced(data.labels)
                and int(data.labels.max()) < width
            ):
                raise InvalidInputError(
                    f"{what}, {step.name}: {model.name} returns logits of "
                    f"{classes} classes and embeddings of {width}, and the labels are below "
                    f"{width}; return logits first, or say Model(module, num_classes={classes})"
                )
            scratch = getattr(step.unlearner, "from_scratch", False)
            if before is not None and not scratch and form != before:
                raise InvalidInputError(
                    f"{what}, {step.name}: its model has other variables than that of the step "
                    "before; all steps must be of one model"
                )
            before = form


def check_classes(what: str, unlearner: Unlearner[Any], data: Dataset) -> None:
    """Checks that an unlearner that draws labels knows the number of classes.

    Raises:
      InvalidInputError: its number is not that of its model's logits.
    """
    drawn, model = getattr(unlearner, "num_classes", None), getattr(unlearner, "model", None)
    if drawn is not None and isinstance(model, Model):
        classes = model.signature(data.images).num_classes
        if drawn != classes:
            raise InvalidInputError(
                f"{what}, {type(unlearner).__name__}: num_classes is {drawn}, but the model has "
                f"logits of {classes} classes"
            )


def check_whole(steps: Sequence[Step], size: int) -> None:
    """Checks that tasks which name all of some first examples name all there are.

    Raises:
      InvalidInputError: a task was made for fewer examples than the data has.
    """
    for step in steps:
        named = np.concatenate([np.asarray(part.indices)[: int(part.size)] for part in step.task])
        if len(named) < size and named.max() == len(named) - 1:
            raise InvalidInputError(
                f"run, {step.name}: its task is of {len(named)} examples, the data has {size}; "
                "make it for all, or run it on those examples alone"
            )
