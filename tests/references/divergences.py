"""The mean of a measure over every way to deal the models to two sides, dealt one by one."""

import itertools

import numpy as np


def by_chance(measure, unlearned, oracles):
    pot = np.concatenate([unlearned, oracles])
    found = []
    for chosen in itertools.combinations(range(len(pot)), len(unlearned)):
        rest = [model for model in range(len(pot)) if model not in chosen]
        found.append(measure(pot[list(chosen)], pot[rest]))
    return np.mean(found, axis=0)
