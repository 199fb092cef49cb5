"""What is read from an attack's answers, by looking at pairs one by one."""

import numpy as np


def auc(game):
    """Every positive pair against every negative one."""
    yes, no = _worlds(game)
    return np.mean([(a > b) + (a == b) / 2 for a in yes for b in no])


def balanced_accuracy(game):
    """Half of each world's share of right answers; a score at the threshold is half an answer."""
    at = game.threshold
    yes, no = _worlds(game)
    hits = np.mean([(each > at) + (each == at) / 2 for each in yes])
    return (hits + np.mean([(each < at) + (each == at) / 2 for each in no])) / 2


def per_example(game):
    """Each example as a game of its own."""
    found = []
    for example in range(game.scores.shape[1]):
        alone = game._replace(**{name: value[:, [example]] for name, value in _arrays(game)})
        both = all(len(world) for world in _worlds(alone))
        found.append(balanced_accuracy(alone) if both else np.nan)
    return np.array(found)


def true_positive_rate(game, false_positive_rate):
    """By trying every score as the threshold at which "positive" begins, and none."""
    yes, no = _worlds(game)
    best = 0.0
    for threshold in {*yes, *no}:
        if np.mean(no >= threshold) <= false_positive_rate:
            best = max(best, np.mean(yes >= threshold))
    return best


def draws(game, measure, count, seed):
    """A measure of games in which models and examples stand as often as they were drawn."""
    random = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        models, examples = (
            np.repeat(np.arange(n), random.multinomial(n, np.full(n, 1 / n)))
            for n in game.scores.shape
        )
        again = {name: value[models][:, examples] for name, value in _arrays(game)}
        drawn = game._replace(**again)
        if all(len(world) for world in _worlds(drawn)):
            found.append(measure(drawn))
    return found


def _arrays(game):
    return [(name, getattr(game, name)) for name in ("scores", "positive", "played")]


def _worlds(game):
    """Scores of the positive pairs and of the negative ones."""
    return (
        game.scores[game.played & game.positive],
        game.scores[game.played & ~game.positive],
    )
