"""Public calls on odd arrays end in an error of rumjax or in finite numbers, never in between.

For every call there is an independent rule of what it may accept; what breaks the rule must be
refused, and nothing may end in an exception that is not rumjax's.
"""

import collections
import warnings
from typing import NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rumjax
from rumjax import audits, gradients, metrics, models, scores
from rumjax.errors import RumjaxError
from rumjax.models import Cnn, Model
from rumjax.scores import estimators, proxies

few = hypothesis.settings(
    deadline=None, max_examples=30, suppress_health_check=list(hypothesis.HealthCheck)
)
NETWORK = Model(Cnn(3, widths=(), hidden=2))
VARIABLES = NETWORK.init(jax.random.key(0), np.zeros((1, 2, 2, 1), np.uint8))


class Rule(NamedTuple):
    """What an argument may be."""

    kind: str
    """"floats", "probabilities", "labels", "indices", "masks", "worlds", or "images" """
    axes: str
    """a letter for each axis; the same letter is the same number in all arguments of a call"""
    below: str = ""
    """the letter that labels and indices stay below"""


P, Y = Rule("probabilities", "NK"), Rule("labels", "N", "K")
M, W = Rule("floats", "MN"), Rule("worlds", "MN")
IMAGES, LABELS = Rule("images", "NHWC"), Rule("labels", "N", "3")


def predictions(call):
    return lambda p, y: call(metrics.Predictions(p, y))


CALLS = {
    "metrics.accuracy": (predictions(metrics.accuracy), (P, Y)),
    "metrics.confidence": (metrics.confidence, (P, Y)),
    "metrics.correctness": (metrics.correctness, (P, Y)),
    "metrics.entropy": (metrics.entropy, (P, Y)),
    "metrics.modified_entropy": (metrics.modified_entropy, (P, Y)),
    "metrics.disagreement": (metrics.disagreement, (Rule("labels", "N"),) * 2),
    "metrics.jensen_shannon": (metrics.jensen_shannon, (P, P)),
    "metrics.activation_distance": (metrics.activation_distance, (P, P)),
    "metrics.zero_retrain_forgetting": (metrics.zero_retrain_forgetting, (P, P)),
    "metrics.mean_interval": (lambda x: metrics.mean_interval(x).value, (Rule("floats", "N"),)),
    "metrics.jonckheere": (
        lambda *groups: metrics.jonckheere(groups),
        (Rule("floats", "N"), Rule("floats", "M")),
    ),
    "metrics.rank_correlation": (
        lambda *both: metrics.rank_correlation(*both, replicates=2).value,
        (Rule("floats", "N"),) * 2,
    ),
    "metrics.overlap": (metrics.overlap, (Rule("indices", "N"), Rule("indices", "M"))),
    "scores.entanglement_score": (
        lambda *given: min(scores.entanglement_score(*given), 1e9),
        (Rule("floats", "NE"), Rule("indices", "A", "N"), Rule("indices", "B", "N")),
    ),
    "scores.mmd_squared": (
        scores.mmd_squared,
        (Rule("floats", "NE"), Rule("indices", "A", "N"), Rule("indices", "B", "N")),
    ),
    "scores.distances": (scores.distances, (Rule("floats", "NE"),)),
    "scores.memorization": (
        lambda *both: estimators.memorization(*both).values,
        (Rule("masks", "MN"),) * 2,
    ),
    "scores.influence": (estimators.influence, (Rule("masks", "MN"), Rule("masks", "MT"))),
    "scores.holdout_retraining": (
        lambda *both: proxies.holdout_retraining(*both).values,
        (Rule("floats", "NK"),) * 2,
    ),
    "audits.margins": (audits.margins, (Rule("floats", "NK"), Y)),
    "audits.klom": (audits.klom, (M, Rule("floats", "LN"))),
    "audits.corrected_klom": (audits.corrected_klom, (M, Rule("floats", "LN"))),
    "audits.epsilons": (audits.epsilons, (M, Rule("floats", "LN"))),
    "audits.forgetting_quality": (
        lambda x: audits.forgetting_quality(x, models=4),
        (Rule("floats", "N"),),
    ),
    "audits.unlearning_lira": (
        lambda *both: audits.unlearning_lira(audits.Population(*both)).threshold,
        (M, W),
    ),
    "audits.auc": (
        lambda *parts: audits.auc(audits.Game(*parts, np.ones((6, 4), bool))),
        (M, Rule("masks", "MN")),
    ),
    "audits.matched": (
        lambda *both: audits.matched(*both, seed=0),
        (Rule("labels", "N"), Rule("labels", "M")),
    ),
    "models.margins": (models.margins, (Rule("floats", "NK"), Y)),
    "models.predict": (
        lambda images: models.predict(NETWORK, VARIABLES, images).logits,
        (IMAGES,),
    ),
    "gradients.self_influence": (
        lambda *pair: gradients.self_influence(NETWORK, VARIABLES, *pair),
        (IMAGES, LABELS),
    ),
    "rumjax.task": (
        lambda forget: rumjax.task(forget, 9).retain.indices,
        (Rule("indices", "A", "9"),),
    ),
    "rumjax.subset": (lambda chosen: rumjax.subset(chosen).indices, (Rule("indices", "A"),)),
    "rumjax.by_score": (
        lambda values, forget: np.concatenate(
            list(rumjax.by_score(rumjax.Scores(values))(forget).values())
        ),
        (Rule("floats", "N"), Rule("indices", "A", "N")),
    ),
    "rumjax.by_class": (
        lambda labels, forget: np.concatenate(list(rumjax.by_class(labels)(forget).values())),
        (Rule("labels", "N"), Rule("indices", "A", "N")),
    ),
    "rumjax.run": (
        lambda *pair: rumjax.run(
            jax.random.key(0),
            rumjax.chain(rumjax.task([1], 4), rumjax.original(NETWORK)),
            VARIABLES,
            rumjax.Dataset(*pair),
        ),
        (IMAGES, LABELS),
    ),
}
SIZES = {"N": 4, "K": 3, "M": 6, "E": 2, "A": 1, "B": 2, "L": 4, "T": 2, "H": 2, "W": 2, "C": 1}


def good(rule, random):
    """An argument that keeps the rule."""
    shape = tuple(SIZES[axis] for axis in rule.axes)
    most = int(rule.below) if rule.below.isdigit() else SIZES.get(rule.below, 3)
    match rule.kind:
        case "floats":
            return random.random(shape)
        case "probabilities":
            return random.dirichlet(np.ones(shape[1]), shape[0])
        case "labels":
            return random.integers(0, most, shape)
        case "indices":
            return random.permutation(most)[: shape[0]]
        case "masks":
            return random.permuted(np.tile([[True], [False]], (shape[0] // 2, shape[1])), axis=0)
        case "worlds":
            return np.tile(np.arange(shape[0])[:, None] % 2 * 2, shape[1])
        case "images":
            return random.integers(0, 256, shape).astype(np.uint8)


def entry(value):
    """A change of the first entry of an array."""

    def change(array):
        array = array.astype(np.result_type(array, type(value)))
        array.flat[0] = value
        return array

    return change


CHANGES = {
    "none": lambda array: array,
    "list": lambda array: array.tolist(),
    "device": jnp.asarray,
    "column": lambda array: array[:, None],
    "row": lambda array: array[None],
    "short": lambda array: array[:-1],
    "empty": lambda array: array[:0],
    "first": lambda array: array[0],
    "flat": np.ravel,
    "negative": entry(-1),
    "large": entry(10**6),
    "fraction": entry(0.5),
    "nan": entry(np.nan),
    "infinite": entry(-np.inf),
    "bool": lambda array: array.astype(bool),
    "int": lambda array: array.astype(np.int64),
    "float": lambda array: array.astype(np.float32),
    "half": lambda array: jnp.asarray(array, jnp.bfloat16),
    "complex": lambda array: array.astype(complex),
    "text": lambda array: array.astype(str),
    "object": lambda array: array.astype(object),
    "nothing": lambda array: None,
    "word": lambda array: "labels",
    "ragged": lambda array: [[1], [1, 2]],
    "dictionary": lambda array: {"a": 1},
    "number": lambda array: 3,
}
INTEGERS = {"labels", "indices", "worlds"}


def keeps(rule, value, sizes):
    """Tests whether a value keeps the rule; notes and compares the sizes of axes."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return False
    if rule.kind == "labels" and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if rule.kind == "images" and array.ndim == 3:
        array = array[..., None]
    bfloat16 = array.dtype.name == "bfloat16"
    kinds = {"masks": "b"}.get(rule.kind, "iu" if rule.kind in INTEGERS else "fiu")
    if array.ndim != len(rule.axes) or not (
        array.dtype.kind in kinds or (bfloat16 and "f" in kinds)
    ):
        return False
    for axis, size in zip(rule.axes, array.shape, strict=True):
        if sizes.setdefault(axis, size) != size:
            return False
    floats = array.dtype.kind == "f" or bfloat16
    if rule.kind == "images" and not floats and array.dtype != np.uint8:
        return False
    array = array.astype(float)
    if not np.isfinite(array).all() or (
        rule.kind == "images" and floats and np.any(np.abs(array) > 10)
    ):
        return False
    if rule.kind == "probabilities" and (
        array.min(initial=0) < 0 or not np.allclose(array.sum(axis=1), 1, atol=2e-2)
    ):
        return False
    if rule.kind == "worlds" and not np.isin(array, [0, 1, 2]).all():
        return False
    if rule.kind in ("labels", "indices"):
        most = int(rule.below) if rule.below.isdigit() else sizes.get(rule.below, np.inf)
        distinct = rule.kind == "labels" or len(np.unique(array)) == array.size
        return bool(distinct and np.all((array >= 0) & (array < most)))
    return True


def finite(result):
    return all(np.isfinite(np.asarray(leaf, float)).all() for leaf in jax.tree.leaves(result))


@pytest.mark.parametrize("name", CALLS)
def test_odd_arrays_are_refused_or_right(name):
    call, rules = CALLS[name]
    ends = collections.Counter()
    places = st.integers(0, len(rules) - 1)

    @few
    @hypothesis.seed(0)
    @hypothesis.given(
        st.integers(0, 3),
        st.dictionaries(places, st.sampled_from(sorted(CHANGES)), min_size=1, max_size=2),
    )
    def check(seed, changes):
        random = np.random.default_rng(seed)
        given = [good(rule, random) for rule in rules]
        for position, change in changes.items():
            try:
                given[position] = CHANGES[change](given[position])
            except (ValueError, IndexError, TypeError):
                hypothesis.reject()
        sizes = {}
        legal = all(keeps(rule, value, sizes) for rule, value in zip(rules, given, strict=True))

        # Nothing but an error of rumjax may be raised here.
        refused = False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                result = call(*given)
        except RumjaxError:
            refused = True
        ends[refused] += 1
        if not refused:
            assert legal
            assert finite(result)
        elif legal and name not in SELDOM:
            assert set(changes.values()) - HARMLESS

    check()
    assert ends[True]
    assert ends[False]


HARMLESS = {"none", "device"}
"""Changes after which an argument that keeps the rule must be taken."""
SELDOM = {"scores.memorization", "scores.influence", "audits.auc", "audits.matched"}
"""Calls that refuse some arrays that keep the rules, for lack of a class or a model."""
