"""Populations: margins of many models on the same examples, and the world of every pair."""

from typing import NamedTuple

import numpy as np

from rumjax.errors import (
    InvalidInputError,
    as_array,
    check_count,
    check_floats,
    check_indices,
    check_labels,
    check_masks,
)

OUT, IN, FORGOTTEN = 0, 1, 2
"""The worlds of a pair of a model and an example: never seen; trained on and kept; trained on and
then unlearned."""
WORLDS = ("out", "in", "forgotten")
"""Names of the worlds in messages."""


class Population(NamedTuple):
    """Models of one kind: one recipe and one unlearning algorithm, or none.

    The margin of a labelled example is φ = z_y − logsumexp(z_{k≠y}), z the logits in float32, and
    so the logit of the true label's probability: p_y = 1 / (1 + exp(−φ)).

    Examples:
      >>> worlds = np.array([[OUT, IN], [FORGOTTEN, IN]], np.int8)
      >>> models = Population(np.array([[-1.0, 4.0], [0.5, 5.0]], np.float32), worlds)
      >>> models.at(np.array([1])).margins
      array([[4.],
             [5.]], dtype=float32)
      >>> models.of(np.array([1])).worlds
      array([[2, 1]], dtype=int8)
    """

    margins: np.ndarray
    """φ, float32[M, n]"""
    worlds: np.ndarray
    """of `OUT`, `IN` and `FORGOTTEN`, int8[M, n]"""
    correct: np.ndarray | None = None
    """True where the prediction is right, bool[M, n]; None if utility is not measured"""

    def at(self, examples: np.ndarray) -> "Population":
        """Returns the same models on some of the examples, int[m] or bool[n]."""
        correct = None if self.correct is None else self.correct[:, examples]
        return Population(self.margins[:, examples], self.worlds[:, examples], correct)

    def of(self, models: np.ndarray) -> "Population":
        """Returns some of the models, int[m] or bool[M], on the same examples."""
        correct = None if self.correct is None else self.correct[models]
        return Population(self.margins[models], self.worlds[models], correct)


class Game(NamedTuple):
    """An attack's answers about pairs of a model and an example.

    The attack is to tell positive pairs (an example that the model was trained on, say) from
    negative ones; only pairs that are `played` count.

    Examples:
      >>> positive = np.array([[True, False]])
      >>> Game(np.array([[0.7, -0.2]]), positive, np.ones((1, 2), bool), threshold=0.0).threshold
      0.0
    """

    scores: np.ndarray
    """float64[M, n]: LARGER MEANS MORE LIKELY POSITIVE; anything where not played"""
    positive: np.ndarray
    """bool[M, n]"""
    played: np.ndarray
    """bool[M, n]"""
    threshold: float | None = None
    """the score above which the attack says "positive", if it has one of its own: 0 for the
    logarithm of a likelihood ratio, where a positive has probability ½ if both worlds are equally
    likely"""


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns φ = z_y − logsumexp(z_{k≠y}) of labelled examples, from logits on the host.

    `rumjax.models.margins` does the same in JAX.

    Args:
      logits: z, float32[n, K], of two classes or more.
      labels: y, int[n].

    Returns:
      float32[n].

    Raises:
      InvalidInputError: other shapes, logits that are not finite, or labels of no class.

    Examples:
      >>> margins(np.array([[2.0, 0.0], [1.0, 3.0]], np.float32), np.array([0, 0]))
      array([ 2., -2.], dtype=float32)
    """
    from scipy.special import logsumexp

    logits = check_floats("margins, logits", logits, "n", "K")
    if logits.shape[1] < 2:
        raise InvalidInputError(f"margins: logits of {logits.shape[1]} classes; wanted two or more")
    labels = check_labels("margins, labels", labels, size=len(logits), num_classes=logits.shape[1])

    # The true label's logit is taken out of the others by −∞.
    position = np.arange(len(labels))
    others = np.array(logits, np.float32)
    others[position, labels] = -np.inf
    return logits[position, labels] - logsumexp(others, axis=1)


def check_population(name: str, population: Population) -> Population:
    """Returns the population, if its shapes, margins and worlds are in order.

    Raises:
      InvalidInputError: shapes differ, no models or examples, an unknown world, or margins that are
        not finite, with the first model and example concerned.
    """
    # All arrays are of the same models and examples.
    if not isinstance(population, Population):
        raise InvalidInputError(
            f"{name}: wanted Population(margins, worlds), got {type(population).__name__}"
        )
    margins = check_margins(name, population.margins)
    worlds, correct = as_array(f"{name}: worlds", population.worlds), population.correct
    if correct is not None:
        correct = check_masks(f"{name}: correct", correct, "models", "examples")
    shapes = {margins.shape, worlds.shape, margins.shape if correct is None else correct.shape}
    if len(shapes) > 1 or margins.size == 0:
        raise InvalidInputError(
            f"{name}: margins are {margins.shape} and worlds {worlds.shape}; all must be [models, "
            "examples], of at least one each"
        )

    # Worlds are such.
    if worlds.dtype.kind not in "iu" or not np.isin(worlds, (OUT, IN, FORGOTTEN)).all():
        raise InvalidInputError(f"{name}: worlds must be OUT, IN or FORGOTTEN: 0, 1 or 2")
    return Population(margins, worlds, correct)


def check_examples(name: str, population: Population, whose: str, other: Population) -> None:
    """Checks that two populations are of as many examples; `whose` is the other one's name.

    Raises:
      InvalidInputError: the numbers of examples differ.
    """
    ours, theirs = population.margins.shape[1], other.margins.shape[1]
    if ours != theirs:
        raise InvalidInputError(
            f"{name}: margins of {ours} examples, but {whose} are of {theirs}; both must be of the "
            "same examples"
        )


def check_margins(name: str, margins: np.ndarray) -> np.ndarray:
    """Returns margins, float[models, examples], if they are finite.

    Raises:
      InvalidInputError: some are not finite, with the first model and example concerned.
    """
    margins = check_floats(f"{name}: margins", margins, "models", "examples", finite=False)
    wrong = np.argwhere(~np.isfinite(margins))
    if len(wrong):
        model, example = wrong[0]
        raise InvalidInputError(
            f"{name}: {len(wrong)} margins are not finite, the first is model {model}'s on example "
            f"{example}; has the model diverged, or were its logits infinite?"
        )
    return margins


def worlds_of_task(
    models: int, forget: np.ndarray, size: int, examples: int, *, world: int = FORGOTTEN
) -> np.ndarray:
    """Returns the worlds of models that all have the same forget set; int8[M, n].

    Args:
      models: M.
      forget: S, indices into D.
      size: N, the number of examples of D; those after them, of T for instance, are `OUT`.
      examples: n, of D and what comes after.
      world: of S: `FORGOTTEN` in unlearned models, `OUT` in oracles, `IN` in original models.

    Raises:
      InvalidInputError: indices outside of D, fewer examples than D has, or an unknown world.

    Examples:
      >>> worlds_of_task(1, np.array([0, 2]), size=4, examples=5)
      array([[2, 1, 2, 1, 0]], dtype=int8)
    """
    forget = check_indices("forget set", forget, check_count("size", size), allow_empty=True)
    models = check_count("models", models)
    if check_count("examples", examples) < size or world not in (OUT, IN, FORGOTTEN):
        raise InvalidInputError(
            f"worlds: {examples} examples, {size} of them of D, and world {world} of S; wanted at "
            "least as many as D has, and OUT, IN or FORGOTTEN"
        )

    # D is kept, but for S.
    worlds = np.full((models, examples), OUT, np.int8)
    worlds[:, :size] = IN
    worlds[:, forget] = world
    return worlds
