"""What audits look at: margins of many models on the same examples, and what each has seen."""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from rumjax.errors import InvalidInputError

OUT, IN, FORGOTTEN = 0, 1, 2
"""The worlds of a pair of a model and an example: never seen; trained on and kept; trained on and
then unlearned."""
WORLDS = ("out", "in", "forgotten")


class Population(NamedTuple):
    """Models of one kind: one recipe and one unlearning algorithm, or none.

    The margin of a labelled example is φ = z_y − logsumexp(z_{k≠y}), z the logits in float32, and
    so the logit of the true label's probability: p_y = 1 / (1 + exp(−φ)).
    """

    margins: np.ndarray
    """φ, float32[M, n]"""
    worlds: np.ndarray
    """of `OUT`, `IN` and `FORGOTTEN`, int8[M, n]"""
    correct: np.ndarray | None = None
    """whether the prediction is right, bool[M, n], where utility is to be told"""

    def at(self, examples: np.ndarray) -> "Population":
        """The same models on some of the examples, int[m] or bool[n]."""
        correct = None if self.correct is None else self.correct[:, examples]
        return Population(self.margins[:, examples], self.worlds[:, examples], correct)

    def of(self, models: np.ndarray) -> "Population":
        """Some of the models, int[m] or bool[M], on the same examples."""
        correct = None if self.correct is None else self.correct[models]
        return Population(self.margins[models], self.worlds[models], correct)


class Game(NamedTuple):
    """An attack's answers about pairs of a model and an example.

    The attack is to tell positive pairs (an example that the model was trained on, say) from
    negative ones; only pairs that are `played` count.
    """

    scores: np.ndarray
    """float64[M, n]: LARGER MEANS MORE LIKELY POSITIVE; anything where not played"""
    positive: np.ndarray
    """bool[M, n]"""
    played: np.ndarray
    """bool[M, n]"""
    threshold: float | None = None
    """the score above which the attack says "positive", if it has one of its own: 0 for a
    logarithm of a likelihood ratio, which is probability ½ of a positive where both worlds are
    equally likely"""


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """φ = z_y − logsumexp(z_{k≠y}) of labelled examples.

    Args:
      logits: z, float32[n, K], of two classes or more.
      labels: y, int[n].

    Returns:
      float32[n].
    """
    position = np.arange(len(labels))
    others = np.array(logits, np.float32)
    others[position, labels] = -np.inf
    return logits[position, labels] - logsumexp(others, axis=1)


def check_population(name: str, population: Population) -> Population:
    """The population, once its shapes, margins and worlds are found to be in order.

    Raises:
      InvalidInputError: shapes differ, no models or examples, a world that is none, or margins that
        are not finite, with the first model and example concerned.
    """
    found, worlds, correct = population
    shapes = {found.shape, worlds.shape, found.shape if correct is None else correct.shape}
    if found.ndim != 2 or len(shapes) > 1 or found.size == 0:
        raise InvalidInputError(
            f"{name}: margins are {found.shape} and worlds {worlds.shape}; all must be [models, "
            "examples], of at least one each"
        )
    check_margins(name, found)
    if not np.isin(worlds, (OUT, IN, FORGOTTEN)).all():
        raise InvalidInputError(f"{name}: worlds must be OUT, IN or FORGOTTEN: 0, 1 or 2")
    return population


def check_examples(name: str, population: Population, whose: str, other: Population) -> None:
    """Checks that two populations are of as many examples; `whose` is the other one's name.

    Raises:
      InvalidInputError: they are not.
    """
    ours, theirs = population.margins.shape[1], other.margins.shape[1]
    if ours != theirs:
        raise InvalidInputError(
            f"{name}: margins of {ours} examples, but {whose} are of {theirs}; both must be of the "
            "same examples"
        )


def check_margins(name: str, found: np.ndarray) -> np.ndarray:
    """Margins, float[models, examples], once they are found to be finite.

    Raises:
      InvalidInputError: some are not, with the first model and example concerned.
    """
    wrong = np.argwhere(~np.isfinite(found))
    if len(wrong):
        model, example = wrong[0]
        raise InvalidInputError(
            f"{name}: {len(wrong)} margins are not finite, the first is model {model}'s on example "
            f"{example}; has the model diverged, or were its logits infinite?"
        )
    return found


def worlds_of_task(
    models: int, forget: np.ndarray, size: int, examples: int, *, world: int = FORGOTTEN
) -> np.ndarray:
    """The worlds of models that are all asked to forget the same set; int8[M, n].

    Args:
      models: M.
      forget: S, indices into D.
      size: N, the number of examples of D; those after them, of T for instance, are `OUT`.
      examples: n, of D and what comes after.
      world: of S: `FORGOTTEN` in unlearned models, `OUT` in oracles, `IN` in original models.
    """
    found = np.full((models, examples), OUT, np.int8)
    found[:, :size] = IN
    found[:, forget] = world
    return found
