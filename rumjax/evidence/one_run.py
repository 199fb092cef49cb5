"""A lower bound on ε from one training run, in which coins decided who is in.

A trainer sets m examples aside, the *audit reserve*, and puts each into the training set by a fair
coin. Whoever sees the model then guesses the coins of the r most extreme examples.
"""

import numpy as np

from rumjax.errors import InvalidInputError, check_count, check_scalar, check_share
from rumjax.evidence.findings import check_scores

HALVINGS = 60
"""Halvings of the range of ε: what is left is far below a float's last digit."""


def epsilon_lower_bound(
    right: int, guesses: int, coins: int, *, delta: float = 1e-5, level: float = 0.95
) -> float:
    """Returns the least ε that right guesses leave possible, with confidence.

    (Steinke, Nasr and Jagielski, NeurIPS 2023, arXiv 2305.08846, theorem 5.2.) If swapping one
    coin changes the model (ε, δ)-indistinguishably, v or more of r guesses are right with
    probability at most

      f(v) + 2mδ·max_{1≤i≤v} (f(v−i) − f(v))/i,  f(v) = P[Bin(r, 1/(1 + e^{−ε})) ≥ v].

    The bound is the largest ε at which that is at most 1 − level; 0 if there is none. For
    unlearning, the coins are of examples that were trained on and then unlearned, against examples
    that were never seen; the bound is then one on how far unlearning can be told from never having
    trained. It is a bound by one attack: a small one proves nothing, and it is no certificate.

    The coins must be tossed before training. r must be fixed beforehand; whoever tries several
    takes level 1 − .05/tries.

    Args:
      right: v, the guesses that were right.
      guesses: r.
      coins: m, the examples whose coins were tossed.
      delta: δ.
      level: of confidence.

    Raises:
      InvalidInputError: more right than guesses or more guesses than coins, negative numbers, a
        δ outside 0…1, or no such level.

    Examples:
      >>> round(epsilon_lower_bound(270, 300, 3000), 2)
      1.87
      >>> epsilon_lower_bound(150, 300, 3000)
      0.0
    """
    right, guesses = check_count("right", right, least=0), check_count("guesses", guesses)
    coins, level = check_count("coins", coins), check_share("level", level)
    delta = float(delta) if check_scalar("delta", delta, most=1.0) else 0.0
    if not right <= guesses <= coins:
        raise InvalidInputError(
            f"one run: {right} of {guesses} guesses are right, on {coins} coins; wanted at most as "
            "many right as guesses, and at most as many guesses as coins"
        )

    def probability(epsilon: float) -> float:
        return _probability(epsilon, right, guesses, coins, delta)

    # At the ceiling of δ = 0 and all guesses right, nothing is left; the probability rises with ε.
    low, high = 0.0, ceiling(guesses, level)
    if probability(low) > 1 - level:
        return 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if probability(middle) <= 1 - level:
            low = middle
        else:
            high = middle
    return low


def _probability(epsilon: float, right: int, guesses: int, coins: int, delta: float) -> float:
    """Returns the most probable that so many guesses are right can be, at this ε."""
    from scipy import stats

    tails = stats.binom.sf(np.arange(right + 1) - 1, guesses, 1 / (1 + np.exp(-epsilon)))
    steps = np.arange(1, right + 1)
    slopes = (tails[right - steps] - tails[right]) / steps
    return float(tails[right] + 2 * coins * delta * slopes.max(initial=0.0))


def ceiling(guesses: int, level: float = 0.95) -> float:
    """Returns the bound if all guesses are right and δ is 0: no more can be shown.

    It is ln(q/(1 − q)), q = (1 − level)^{1/r}, and 0 where that is negative.

    Args:
      guesses: r.
      level: of confidence.

    Raises:
      InvalidInputError: no guesses, or no such level.

    Examples:
      >>> round(ceiling(100), 2)
      3.49
    """
    guesses, level = check_count("guesses", guesses), check_share("level", level)
    # ln q − ln(1 − q), where 1 − q keeps its digits.
    log_q = np.log1p(-level) / guesses
    return max(float(log_q - np.log(-np.expm1(log_q))), 0.0)


def guess(scores: np.ndarray, guesses: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns guesses of the coins of the most extreme examples, half "in" and half "out".

    Of equal scores the first examples are taken; of an odd number, one more is guessed "in".

    Args:
      scores: float[m]; larger means more likely trained on.
      guesses: r, fixed before the scores are seen.

    Returns:
      The examples, int64[r], ascending, and the guess of each, +1 for in and −1 for out, int8[r].

    Raises:
      InvalidInputError: more guesses than examples, or scores that are not finite.

    Examples:
      >>> examples, guesses = guess(np.array([0.1, 3.0, -2.0, 0.0, 1.0]), 3)
      >>> examples.tolist(), guesses.tolist()
      ([1, 2, 4], [1, -1, 1])
    """
    scores, guesses = check_scores("scores", scores), check_count("guesses", guesses)
    if guesses > len(scores):
        raise InvalidInputError(
            f"guesses: {guesses} of {len(scores)} examples; wanted at most as many as there are"
        )
    out = guesses // 2
    order = np.argsort(-scores, kind="stable")
    chosen = np.zeros(len(scores), np.int8)
    chosen[order[: guesses - out]] = 1
    chosen[order[len(order) - out :]] = -1
    examples = np.flatnonzero(chosen)
    return examples, chosen[examples]
