"""Running unlearners: steps, chains of them, and the one Python loop.

Adding an algorithm takes one file with a record that has `init`, `epoch` and `finish` (or an `Sgd`
with `passes`), a factory that validates its arguments, and a line in `rumjax.unlearn.ALGORITHMS`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.checks import check_data, check_keys, check_outside, check_task
from rumjax.errors import DivergenceError, InvalidInputError, shown
from rumjax.models import Model
from rumjax.models.checks import check_variables, is_traced
from rumjax.rows import suited
from rumjax.types import Array, Dataset, Key, Metrics, Task, Unlearner, Variables, collections_of


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


class OnEpoch(NamedTuple):
    """The report of an epoch; the variables are valid until the next epoch begins."""

    step: Step
    epoch: int
    variables: Variables
    metrics: dict[str, float]


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


def run(
    key: Key,
    steps: Sequence[Step],
    variables: Variables | None,
    data: Dataset,
    *,
    on_epoch: Callable[[OnEpoch], None] | None = None,
) -> Variables:
    """Runs steps in order, each from the result of the one before.

    Args:
      key: step k uses `fold_in(key, k)`.
      steps: from `rumjax.rum`, `chain`, or by hand.
      variables: the original model's, left as they are; None before training from scratch. A
        dictionary of Linen's collections or a train state will do as well.
      data: all of D, on the device; images of uint8, or floats of 0…1.
      on_epoch: called after every epoch, for progress bars, curves and proxies.

    Returns:
      The unlearned model's variables; with no steps, those given.

    Raises:
      InvalidInputError: data, tasks, variables or the key do not go with each other or with the
        model; or there is nothing to run. Values are checked before anything is trained.
      DivergenceError: a loss or a parameter is not finite; names step, algorithm, epoch and batch.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.types import task
      >>> from rumjax.unlearn import retrain
      >>> data = Dataset(jnp.zeros((4, 4, 4, 1), jnp.uint8), jnp.array([0, 1, 0, 1]))
      >>> recipe = retrain(Model(Cnn(2, widths=(), hidden=4)), epochs=1, batch_size=2)
      >>> variables = run(jax.random.key(0), chain(task([0], 4), recipe), None, data)
      >>> variables.params["Dense_1"]["kernel"].shape
      (4, 2)
    """
    check_outside("run", (key, steps, variables, data))
    if on_epoch is not None and not callable(on_epoch):
        raise InvalidInputError(f"run, on_epoch: wanted a function, got {shown(on_epoch)}")
    key = check_keys("run, key", key)
    steps, current, data = check_steps("run", steps, variables, data)
    check_whole(steps, len(data.labels))
    data = suited(data)
    for position, step in enumerate(steps):
        # The state before the first epoch, from the result of the step before.
        state = _start(step.unlearner, jax.random.fold_in(key, position), current, data, step.task)

        # Its epochs.
        for epoch in range(step.unlearner.epochs):
            state, finite, metrics = _advance(step.unlearner, state, data, step.task)
            metrics = check_finite(step.name, step.unlearner, epoch, finite, metrics)
            if on_epoch is not None:
                on_epoch(OnEpoch(step, epoch, step.unlearner.finish(state), metrics))
        current = step.unlearner.finish(state)
    result: Variables = current
    return result


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
        for number in np.ndindex(lead):
            one = step.task
            if lead:
                one = Task(*(part._replace(indices=part.indices[number]) for part in one))
            check_task(f"{what}, {step.name}", one, len(data.labels))
            check_forgets(f"{what}, {step.name}", step.unlearner, one)
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
    """Returns the fields of a record that are numbers and not structure."""
    return [field for field in dataclasses.fields(cls) if not field.metadata.get("static")]


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


def warm_up(steps: Sequence[Step], variables: Variables | None, data: Dataset) -> None:
    """Compiles what the steps need, so that the time of a run holds no compilation.

    It runs an epoch of every step on empty sets, which have the same shapes and need no updates.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.types import task
      >>> from rumjax.unlearn import original
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), jnp.zeros((4, 4, 4, 1), jnp.uint8)
      >>> variables = model.init(jax.random.key(0), images)
      >>> steps = chain(task([0], 4), original(model))
      >>> warm_up(steps, variables, Dataset(images, jnp.array([0, 1, 0, 1])))
    """
    steps, variables, data = check_steps("warm-up", steps, variables, data)
    for step in steps:
        empty = jax.tree.map(jnp.zeros_like, step.task)
        state = _start(step.unlearner, jax.random.key(0), variables, data, empty)
        if step.unlearner.epochs:
            jax.block_until_ready(_advance(step.unlearner, state, data, empty))


def check_finite(
    name: str, unlearner: Unlearner[Any], epoch: int, finite: Array, metrics: Metrics
) -> dict[str, float]:
    """Returns the epoch's metrics as floats, if the loss and the model are finite.

    Raises:
      DivergenceError: names step, algorithm, epoch, batch, and a remedy to try.
    """
    numbers = {key: float(np.asarray(value)) for key, value in metrics.items()}
    batch = int(numbers.pop("diverged_at", -1))
    if batch < 0 and bool(finite):
        return numbers

    # Before any step, no hyper-parameter is to blame.
    where = f"at batch {batch + 1}" if batch >= 0 else "after its last batch"
    if batch == 0 and epoch == 0:
        hint = (
            " There was no step before it, so a smaller one does not help: look at the range of "
            "the images, the labels, and the variables it started from."
        )
    else:
        length = "learning_rate" if hasattr(unlearner, "learning_rate") else "alpha"
        rate = getattr(unlearner, length, None)
        hint = "" if rate is None else f" Try {length} below {float(rate):g}"
        if hasattr(unlearner, "forget_loss_cap"):
            hint += " or a forget_loss_cap"
    raise DivergenceError(
        f"{type(unlearner).__name__} ({name}) diverged in epoch {epoch + 1} of "
        f"{unlearner.epochs} {where}: the loss or a parameter is not finite.{hint}"
    )


@jax.jit
def _start(
    unlearner: Unlearner[Any], key: Key, variables: Variables, data: Dataset, task: Task
) -> Any:
    """Returns the state before the first epoch."""
    # `_advance` donates the state, so it must not share buffers with the caller's variables.
    return unlearner.init(key, jax.tree.map(jnp.copy, variables), data, task)


@partial(jax.jit, donate_argnums=1)
def _advance(
    unlearner: Unlearner[Any], state: Any, data: Dataset, task: Task
) -> tuple[Any, Array, Metrics]:
    """Runs an epoch, and tests whether the model is finite after it."""
    state, metrics = unlearner.epoch(state, data, task)
    return state, all_finite(unlearner.finish(state)), metrics


def all_finite(variables: Variables) -> Array:
    """Tests whether every number of the variables is finite; bool[]."""
    return jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(variables)]).all()
