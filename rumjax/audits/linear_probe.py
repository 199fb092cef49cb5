"""A linear probe, which tells S from examples never seen by a model's embeddings.

A model's outputs on S may look forgotten while the layers below still set S apart. Yet the images
alone may tell S from other examples, if it was chosen by a score for instance; so compare with the
same probe on the oracle's embeddings.
"""

from typing import NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError, as_array, check_count, check_labels

MOST_ITERATIONS = 10_000
"""Iterations of L-BFGS, at most; some dozens are the rule."""


class Probed(NamedTuple):
    """The result of a probe of a model's embeddings."""

    auc: float
    """the probability that an example of S scores above one never seen; .5 if nothing tells them
    apart"""
    scores: np.ndarray
    """out of fold, float64[n + m], of S and then of the others: LARGER MEANS MORE LIKE S; folds
    differ in their zeros"""


def probe(
    embeddings_forget: np.ndarray,
    embeddings_unseen: np.ndarray,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Probed:
    """Tells S from never-seen examples by logistic regression on standardized embeddings.

    L2-regularized (C = 1), cross-validated, and weighted so that both sides count the same in all.
    The AUC is the mean of the folds': each ranks its own examples by one regression, while zeros
    that differ from fold to fold would pull a ranking of all below ½ where there is nothing to tell
    (Forman & Scholz, SIGKDD Explorations 2010).

    Which fold an example is in depends on the seed and the embeddings and not on the order they
    come in. A feature that is the same for all examples is as good as absent.

    Args:
      embeddings_forget: of S, float[n, E].
      embeddings_unseen: of examples that no model was trained on, float[m, E]; see `matched`.
      folds: of the cross-validation; fewer, if a side has not so many examples.
      seed: of the folds; compare models probed with the same.

    Raises:
      InvalidInputError: fewer than two examples of a side, different widths, no features, or values
        that are not finite.

    Examples:
      >>> random = np.random.default_rng(0)
      >>> probe(random.normal(9, 1, (10, 2)), random.normal(0, 1, (10, 2))).auc
      1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Both sides, checked, with no more folds than a side has examples.
    sides = {
        "forget": as_array("forget, embeddings", embeddings_forget),
        "unseen": as_array("unseen, embeddings", embeddings_unseen),
    }
    for name, side in sides.items():
        _check(name, side, sides["forget"])
    folds = min(check_count("folds", folds, least=2), *map(len, sides.values()))
    features = np.concatenate(list(sides.values())).astype(np.float64)
    of_forget = np.repeat([1, 0], list(map(len, sides.values())))

    # Examples in an order of their own, so that the order they come in does not matter.
    order = np.lexsort([*features.T, of_forget])
    rows, members = features[order], of_forget[order]

    # Each example is scored by the regression that has not seen it.
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    regression = LogisticRegression(class_weight="balanced", max_iter=MOST_ITERATIONS)
    decisions = cross_val_predict(
        make_pipeline(StandardScaler(), regression),
        rows,
        members,
        cv=split,
        method="decision_function",
    )
    areas = [
        roc_auc_score(members[held], decisions[held]) for _, held in split.split(rows, members)
    ]
    scores = np.empty(len(order))
    scores[order] = decisions
    return Probed(float(np.mean(areas)), scores)


def probe_gap(unlearned: Probed, oracle: Probed) -> float:
    """Returns the AUC on the unlearned model's embeddings less that on the oracle's."""
    return unlearned.auc - oracle.auc


def matched(labels_forget: np.ndarray, labels_unseen: np.ndarray, seed: int) -> np.ndarray:
    """Draws never-seen examples in the proportions of S's classes, which else would give S away.

    Args:
      labels_forget: of S, int[n].
      labels_unseen: of examples that no model was trained on, int[m].
      seed: of the draw.

    Returns:
      Indices into `labels_unseen`, ascending: as many of each class as S has; if there are not
      enough of some class, fewer of all, in proportion, to within an example and at least one.

    Raises:
      InvalidInputError: S is empty, or has a class that no other example is of.

    Examples:
      >>> drawn = matched(np.array([0, 0, 1]), np.array([0, 0, 0, 1, 1, 2]), seed=0)
      >>> np.array([0, 0, 0, 1, 1, 2])[drawn]
      array([0, 0, 1])
    """
    labels_forget = check_labels("matched, labels of S", labels_forget)
    labels_unseen = check_labels("matched, labels unseen", labels_unseen)
    classes, wanted = np.unique(labels_forget, return_counts=True)
    places = [np.flatnonzero(labels_unseen == label) for label in classes]
    there = np.array(list(map(len, places)))
    if there.size == 0 or there.min() == 0:
        missing = ", ".join(map(str, classes[there == 0]))
        raise InvalidInputError(
            f"matched: S has {len(labels_forget)} examples, and of its classes {missing or 'none'} "
            "there is nothing among the unseen ones; wanted at least one each"
        )

    # Whole numbers throughout: a product of fractions might fall short of the count it stands for.
    scarce = np.argmin(there / wanted)
    part, whole = min(there[scarce], wanted[scarce]), wanted[scarce]
    counts = np.maximum(wanted * part // whole, 1)

    # So many examples of every class, at random.
    random = np.random.default_rng(seed)
    drawn = [
        random.choice(place, count, replace=False)
        for place, count in zip(places, counts, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def _check(name: str, embeddings: np.ndarray, like: np.ndarray) -> None:
    """Checks that embeddings are float[n, E], finite, and as wide as others."""
    shape = embeddings.shape
    if len(shape) != 2 or len(shape) != like.ndim or shape[1] != like.shape[1] or shape[1] == 0:
        raise InvalidInputError(
            f"{name}: embeddings of shape {list(shape)}; wanted [examples, features] of at least "
            f"one feature, as many as those of S, which are {list(like.shape)}"
        )
    if len(embeddings) < 2:
        raise InvalidInputError(
            f"{name}: {len(embeddings)} embeddings; a probe is fitted on some and tried on others, "
            "and needs at least 2 of S and 2 never seen"
        )
    if embeddings.dtype.kind not in "fiu" or not np.isfinite(embeddings).all():
        raise InvalidInputError(
            f"{name}: some embeddings are not finite numbers; has the model diverged?"
        )
