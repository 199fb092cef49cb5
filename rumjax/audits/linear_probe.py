"""Can S be told from examples never seen in a model's embeddings? A linear probe.

What a model says of S may look forgotten while the layers below still set it apart. Yet S may be
told from other examples by what is in its images alone, if it was chosen by a score for instance;
so what counts is the difference from the same probe on the oracle's embeddings.
"""

from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rumjax.errors import InvalidInputError, check_count

MOST_ITERATIONS = 10_000
"""of L-BFGS; some dozens are the rule"""


class Probed(NamedTuple):
    """What a probe makes of a model's embeddings."""

    auc: float
    """that an example of S scores above one never seen; .5 if nothing tells them apart"""
    scores: np.ndarray
    """out of fold, float64[n + m], of S and then of the others: LARGER MEANS MORE LIKE S; folds
    differ in their zero"""


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
    """
    sides = {"forget": embeddings_forget, "unseen": embeddings_unseen}
    for name, side in sides.items():
        _check(name, side, embeddings_forget)
    folds = min(check_count("folds", folds, least=2), *map(len, sides.values()))
    features = np.concatenate(list(sides.values())).astype(np.float64)
    of_forget = np.repeat([1, 0], list(map(len, sides.values())))

    order = np.lexsort([*features.T, of_forget])
    rows, members = features[order], of_forget[order]
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    regression = LogisticRegression(class_weight="balanced", max_iter=MOST_ITERATIONS)
    found = cross_val_predict(
        make_pipeline(StandardScaler(), regression),
        rows,
        members,
        cv=split,
        method="decision_function",
    )
    each = [roc_auc_score(members[held], found[held]) for _, held in split.split(rows, members)]
    scores = np.empty(len(order))
    scores[order] = found
    return Probed(float(np.mean(each)), scores)


def probe_gap(unlearned: Probed, oracle: Probed) -> float:
    """How much better S is told in the unlearned model's embeddings than in the oracle's: AUCs."""
    return unlearned.auc - oracle.auc


def matched(labels_forget: np.ndarray, labels_unseen: np.ndarray, seed: int) -> np.ndarray:
    """Never-seen examples in the proportions of S's classes, which else would give S away.

    Args:
      labels_forget: of S, int[n].
      labels_unseen: of examples that no model was trained on, int[m].
      seed: of the draw.

    Returns:
      Indices into `labels_unseen`, ascending: as many of each class as S has; if there are not
      enough of some class, fewer of all, in proportion, to within an example and at least one.

    Raises:
      InvalidInputError: S is empty, or has a class that no other example is of.
    """
    classes, wanted = np.unique(labels_forget, return_counts=True)
    places = [np.flatnonzero(labels_unseen == each) for each in classes]
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
    random = np.random.default_rng(seed)
    drawn = [
        random.choice(place, count, replace=False)
        for place, count in zip(places, counts, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def _check(name: str, embeddings: np.ndarray, like: np.ndarray) -> None:
    """That embeddings are float[n, E], finite, and as wide as others."""
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
    if not np.isfinite(embeddings).all():
        raise InvalidInputError(f"{name}: some embeddings are not finite; has the model diverged?")
