"""A learner cheap enough to be trained on every subset: the majority among three neighbors."""

import itertools

import numpy as np


def correct(points, labels, seen):
    """Which examples the learner classifies correctly, once trained on those `seen`; bool[N]."""
    distance = np.linalg.norm(points[:, None] - points[seen][None], axis=2)
    nearest = distance.argsort(axis=1, kind="stable")[:, :3]
    votes = labels[seen][nearest].sum(axis=1)
    return (votes >= 2) == labels


def every_subset(points, labels, size):
    """Membership and correctness of the models of all subsets of that size; two bool[M, N]."""
    subsets = list(itertools.combinations(range(len(points)), size))
    member = np.zeros((len(subsets), len(points)), bool)
    for row, each in zip(member, subsets, strict=True):
        row[list(each)] = True
    return member, np.array([correct(points, labels, seen) for seen in member])


def leave_one_out(points, labels, size):
    """The definition, exactly: mean over all such subsets with i of what leaving i out changes.

    mem_i = Pr[f right on i | A trained on a random subset that has i]
          - Pr[f right on i | A trained on a random subset of the others];
    the two subsets are of the same size, as they are in a bank of models.
    """
    found = []
    for i in range(len(points)):
        others = [j for j in range(len(points)) if j != i]
        inside, outside = [], []
        for rest in itertools.combinations(others, size - 1):
            inside.append(correct(points, labels, np.array([i, *rest]))[i])
        for rest in itertools.combinations(others, size):
            outside.append(correct(points, labels, np.array(rest))[i])
        found.append(np.mean(inside) - np.mean(outside))
    return np.array(found)
