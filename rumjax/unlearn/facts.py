"""Facts that algorithms take from outside D: of held-out images, and of other models.

Whoever plans a run makes them of the model that is to forget, and gives them to a factory; see
`rumjax.types.fact`.
"""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import InvalidInputError, check_labels
from rumjax.models import Model, predict
from rumjax.types import AnyArray, Array, Dataset, Variables


def held_out_accuracy(model: Model, variables: Variables, held_out: Dataset) -> Array:
    """Returns a model's accuracy on held-out examples, 0…1, float32[].

    Raises:
      InvalidInputError: there is none.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), jnp.zeros((4, 4, 4, 1), jnp.uint8)
      >>> variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), images))
      >>> held_out = Dataset(images, jnp.array([0, 0, 1, 0]))  # all taken for class 0
      >>> float(held_out_accuracy(model, variables, held_out))
      0.75
    """
    return accuracy_of(_logits(model, variables, held_out), held_out.labels)


def accuracy_of(logits: AnyArray, labels: AnyArray) -> Array:
    """Returns the accuracy of float32[n, K] logits on held-out examples; see `held_out_accuracy`.

    Examples:
      >>> float(accuracy_of(np.eye(2), np.array([0, 0])))
      0.5
    """
    logits, labels = _checked(logits, labels)
    return jnp.float32(np.mean(logits.argmax(axis=1) == labels))


def held_out_probabilities(
    model: Model,
    variables: Variables,
    held_out: Dataset,
    *,
    class_names: Sequence[str] | None = None,
) -> Array:
    """Returns a model's mean probabilities on the held-out examples of each class, float32[K, K].

    Row c is the mean softmax over the examples of class c.

    Args:
      model: the architecture.
      variables: of the model.
      held_out: the examples.
      class_names: of the K classes, for messages.

    Raises:
      InvalidInputError: a class has no example.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), jnp.zeros((2, 4, 4, 1), jnp.uint8)
      >>> variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), images))
      >>> held_out_probabilities(model, variables, Dataset(images, jnp.array([1, 0]))).tolist()
      [[0.5, 0.5], [0.5, 0.5]]
    """
    return probabilities_of(_logits(model, variables, held_out), held_out.labels, class_names)


def probabilities_of(
    logits: AnyArray, labels: AnyArray, class_names: Sequence[str] | None = None
) -> Array:
    """Returns mean probabilities by class, from logits; see `held_out_probabilities`.

    Examples:
      >>> probabilities_of(np.zeros((2, 2)), np.array([0, 1]))[0].tolist()
      [0.5, 0.5]
    """
    logits, labels = _checked(logits, labels)
    classes = logits.shape[1]
    counts = np.bincount(labels, minlength=classes)
    _check_there(np.arange(classes), counts, class_names)
    shares = np.asarray(jax.nn.softmax(logits), np.float64)
    totals = np.zeros((classes, classes))
    np.add.at(totals, labels, shares)
    return jnp.asarray(totals / counts[:, None], jnp.float32)


def matched_error(
    model: Model,
    variables: Variables,
    held_out: Dataset,
    forget_labels: AnyArray,
    *,
    class_names: Sequence[str] | None = None,
) -> Array:
    """Returns a model's error on held-out examples that are weighted as the classes of S are.

    Args:
      model: the architecture.
      variables: of the model.
      held_out: the examples.
      forget_labels: int32[S], the labels of S.
      class_names: of the K classes, for messages.

    Returns:
      0…1, float32[].

    Raises:
      InvalidInputError: S is empty, or has a class of which there is no held-out example.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), jnp.zeros((3, 4, 4, 1), jnp.uint8)
      >>> variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), images))
      >>> held_out = Dataset(images, jnp.array([0, 0, 1]))  # all taken for class 0
      >>> float(matched_error(model, variables, held_out, jnp.array([1, 1, 1, 0])))
      0.75
    """
    logits = _logits(model, variables, held_out)
    return error_of(logits, held_out.labels, forget_labels, class_names)


def error_of(
    logits: AnyArray,
    labels: AnyArray,
    forget_labels: AnyArray,
    class_names: Sequence[str] | None = None,
) -> Array:
    """Returns the error weighted as the classes of S are, from logits; see `matched_error`.

    Examples:
      >>> float(error_of(np.eye(2), np.array([0, 0]), np.array([0])))
      0.5
    """
    logits, labels = _checked(logits, labels)
    classes = logits.shape[1]
    forgotten = np.bincount(
        check_labels("forget_labels", forget_labels, num_classes=classes), minlength=classes
    )
    if not forgotten.sum():
        raise InvalidInputError("forget_labels: there is none; wanted those of S")
    counts = np.bincount(labels, minlength=classes)
    _check_there(np.flatnonzero(forgotten), counts, class_names)
    wrong = np.bincount(labels, logits.argmax(axis=1) != labels, minlength=classes)
    return jnp.float32(np.average(wrong / np.maximum(counts, 1), weights=forgotten))


def mean_logits(
    model: Model, models: Iterable[Variables], data: Dataset, *, batch_size: int = 512
) -> Array:
    """Returns the mean logits of several models of one architecture, float32[N, K].

    Args:
      model: the architecture.
      models: variables, one model at a time in memory if they come from a generator.
      data: N examples, whose labels are not looked at.
      batch_size: examples at a time.

    Raises:
      InvalidInputError: there are no models.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), jnp.zeros((3, 4, 4, 1), jnp.uint8)
      >>> two = [model.init(jax.random.key(seed), images) for seed in (0, 1)]
      >>> mean_logits(model, two, Dataset(images, jnp.zeros(3, jnp.int32))).shape
      (3, 2)
    """
    total, count = jnp.float32(0), 0
    for variables in models:
        total = total + predict(model, variables, data.images, batch_size=batch_size).logits
        count += 1
    if not count:
        raise InvalidInputError("mean_logits: there are no models; wanted one or more")
    return total / count


def _logits(model: Model, variables: Variables, held_out: Dataset) -> Array:
    """Returns a model's logits on held-out examples."""
    return predict(model, variables, held_out.images).logits


def _checked(logits: AnyArray, labels: AnyArray) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits and labels of held-out examples on the host, if there are any.

    Raises:
      InvalidInputError: there are none, or labels of no class.
    """
    if not len(labels):
        raise InvalidInputError(
            "held-out examples: there are none; hold some out of training, by "
            "data.validation_fraction in a configuration"
        )
    count, classes = logits.shape
    checked = check_labels("held-out labels", labels, size=count, num_classes=classes)
    return np.asarray(logits), checked


def _check_there(
    classes: np.ndarray, counts: np.ndarray, class_names: Sequence[str] | None
) -> None:
    """Checks that classes have held-out examples."""
    missing = [int(label) for label in classes if not counts[label]]
    if missing:
        names = [str(label) if class_names is None else class_names[label] for label in missing]
        raise InvalidInputError(
            f"held-out examples: there are none of class {', '.join(names)}; hold out more of them"
        )
