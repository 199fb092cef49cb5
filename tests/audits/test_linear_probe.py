"""A linear probe of embeddings finds what there is; the unseen are drawn with the classes of S."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from rumjax.audits.linear_probe import matched, probe, probe_gap
from rumjax.errors import InvalidInputError

slow = settings(deadline=None, max_examples=40)


def gaussians(count, width, seed, shift=0.0):
    """Standard normal embeddings, shifted along the first axis."""
    found = np.random.default_rng(seed).normal(size=(count, width))
    found[:, 0] += shift
    return found


def plain(forget, unseen, at_forget, at_unseen):
    """A fold by hand: the AUC of examples held out, by a regression on all others."""
    rows = np.concatenate([np.delete(forget, at_forget, 0), np.delete(unseen, at_unseen, 0)])
    members = np.repeat([1, 0], [len(forget) - len(at_forget), len(unseen) - len(at_unseen)])
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    fitted = LogisticRegression(class_weight="balanced").fit((rows - mean) / std, members)
    ours, others = (
        fitted.decision_function((side[held] - mean) / std)
        for side, held in ((forget, at_forget), (unseen, at_unseen))
    )
    return np.mean(ours[:, None] > others)


def test_two_folds_are_two_regressions_on_one_half_each():
    # Each side in order along the one feature: the folds can be read off the scores' zeros.
    forget, unseen = gaussians(12, 1, seed=0, shift=1), gaussians(20, 1, seed=1)
    found = probe(forget, unseen, folds=2, seed=3)
    # A fold's scores are an increasing line of the feature; two folds make two lines.
    x = np.concatenate([forget, unseen])[:, 0]
    halves = [half for half in _lines(x, found.scores) if len(half) == 16]
    assert len(halves) == 2
    each = [plain(forget, unseen, half[half < 12], half[half >= 12] - 12) for half in halves]
    assert found.auc == pytest.approx(np.mean(each))
    assert 0.5 < found.auc < 1


def _lines(x, y):
    """The sets of points that lie on a line through two of the points, each once."""
    found = set()
    for i in range(len(x)):
        for j in range(i):
            slope = (y[i] - y[j]) / (x[i] - x[j])
            on = np.flatnonzero(np.abs(y[i] + slope * (x - x[i]) - y) < 1e-9)
            found.add(tuple(on))
    return [np.array(each) for each in found]


def test_alike_examples_are_not_told_apart():
    aucs = [
        probe(gaussians(40, 5, seed=s), gaussians(60, 5, seed=s + 1000), seed=s).auc
        for s in range(20)
    ]
    # Of the mean, by the spread of the answers.
    error = np.std(aucs, ddof=1) / math.sqrt(len(aucs))
    assert abs(np.mean(aucs) - 0.5) < 4 * error
    assert error < 0.04


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_shifted_gaussians_are_told_apart_as_well_as_can_be(shift):
    forget, unseen = gaussians(900, 3, seed=0, shift=shift), gaussians(900, 3, seed=1)
    found = probe(forget, unseen)
    wanted = norm.cdf(shift / math.sqrt(2))
    error = math.sqrt(wanted * (1 - wanted) / 900)  # more than that of the AUC
    assert abs(found.auc - wanted) < 3 * error


def test_separable_examples_are_told_apart_wholly():
    found = probe(gaussians(30, 4, seed=0, shift=50), gaussians(25, 4, seed=1))
    assert found.auc == 1
    assert found.scores[:30].min() > 0 > found.scores[30:].max()


def test_larger_scores_are_more_like_s():
    forget, unseen = gaussians(40, 4, seed=0, shift=1), gaussians(60, 4, seed=1)
    found = probe(forget, unseen)
    assert found.scores.shape == (100,)
    pooled = roc_auc_score(np.repeat([1, 0], [40, 60]), found.scores)
    # Zeros differ from fold to fold, and not by much.
    assert found.auc == pytest.approx(pooled, abs=0.05)
    assert found.auc > 0.6


def test_the_order_of_the_examples_changes_nothing():
    forget, unseen = gaussians(33, 4, seed=0, shift=1), gaussians(47, 4, seed=1)
    random = np.random.default_rng(2)
    one, other = random.permutation(33), random.permutation(47)
    wanted, found = probe(forget, unseen), probe(forget[one], unseen[other])
    assert found.auc == wanted.auc
    np.testing.assert_array_equal(found.scores[:33], wanted.scores[:33][one])
    np.testing.assert_array_equal(found.scores[33:], wanted.scores[33:][other])


def test_the_scale_and_the_place_of_a_feature_change_nothing():
    forget, unseen = gaussians(40, 3, seed=0, shift=1), gaussians(40, 3, seed=1)
    scale, place = np.array([1e-6, 1.0, 1e9]), np.array([3.0, -7.0, 1e9])
    wanted = probe(forget, unseen)
    found = probe(forget * scale + place, unseen * scale + place)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-3)
    assert found.auc == pytest.approx(wanted.auc, abs=1e-2)


def test_a_constant_feature_is_as_good_as_absent():
    forget, unseen = gaussians(40, 3, seed=0, shift=1), gaussians(40, 3, seed=1)
    wanted = probe(forget, unseen)
    found = probe(*(np.insert(side, 1, 0.1, axis=1) for side in (forget, unseen)))
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)


def test_constant_embeddings_tell_nothing():
    found = probe(np.full((10, 3), 0.1, np.float32), np.full((7, 3), 0.1, np.float32))
    assert found.auc == 0.5
    assert not found.scores.any()


def test_a_side_that_outnumbers_the_other_does_not_pull_the_scores_to_itself():
    forget, unseen = gaussians(20, 2, seed=0), gaussians(400, 2, seed=1)
    assert abs(np.mean(probe(forget, unseen).scores)) < 0.5 < math.log(20)


def test_fewer_examples_than_folds_make_fewer_folds():
    forget, unseen = gaussians(3, 2, seed=0), gaussians(20, 2, seed=1)
    found, wanted = probe(forget, unseen, folds=7), probe(forget, unseen, folds=3)
    assert found.auc == wanted.auc
    np.testing.assert_array_equal(found.scores, wanted.scores)


@pytest.mark.parametrize("width", [1, 100])
def test_the_seed_alone_decides_the_folds(width):
    forget, unseen = gaussians(20, width, seed=0, shift=1), gaussians(20, width, seed=1)
    first, again, other = (probe(forget, unseen, seed=seed).scores for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_gap_is_what_the_unlearned_model_has_more_than_the_oracle():
    unseen = gaussians(60, 2, seed=1)
    unlearned, oracle = (probe(gaussians(50, 2, seed=0, shift=shift), unseen) for shift in (3, 1))
    assert probe_gap(unlearned, oracle) == unlearned.auc - oracle.auc > 0
    assert probe_gap(oracle, unlearned) == -probe_gap(unlearned, oracle)


GOOD = gaussians(6, 3, seed=0)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (GOOD[:1], "needs at least 2"),
        (GOOD[:0], "needs at least 2"),
        (GOOD[:, :2], "embeddings of shape"),
        (GOOD[0], "embeddings of shape"),
        (GOOD * np.array([1, np.nan, 1]), "not finite"),
    ],
)
def test_what_cannot_be_probed_is_refused(bad, match):
    for sides in ((GOOD, bad), (bad, GOOD)):
        with pytest.raises(InvalidInputError, match=match):
            probe(*sides)


def test_no_features_and_one_fold_are_refused():
    with pytest.raises(InvalidInputError, match="at least one feature"):
        probe(GOOD[:, :0], GOOD[:, :0])
    with pytest.raises(InvalidInputError, match="folds"):
        probe(GOOD, GOOD, folds=1)


# Examples of the same classes

labels = st.lists(st.integers(0, 3), min_size=1, max_size=40).map(np.array)


def counts(labels):
    return np.bincount(labels, minlength=4)


@slow
@given(labels, labels, st.integers(0, 5))
def test_where_there_are_enough_as_many_of_each_class_are_drawn(forget, more, seed):
    unseen = np.concatenate([more, forget])
    found = matched(forget, unseen, seed)
    np.testing.assert_array_equal(counts(unseen[found]), counts(forget))
    assert (np.diff(found) > 0).all()


@slow
@given(labels, labels, st.integers(0, 5))
def test_where_there_are_not_fewer_are_drawn_in_proportion(forget, more, seed):
    unseen = np.concatenate([more, np.arange(4)])
    found = matched(forget, unseen, seed)
    wanted, there, drawn = counts(forget), counts(unseen), counts(unseen[found])
    share = min(1.0, min(there[c] / wanted[c] for c in range(4) if wanted[c]))
    assert (np.abs(drawn - share * wanted) < 1 + 1e-9).all()
    assert ((drawn > 0) == (wanted > 0)).all()
    assert (drawn <= there).all()
    assert len(np.unique(found)) == len(found)


def test_the_order_of_s_is_nothing_to_the_draw_and_the_seed_is():
    random = np.random.default_rng(0)
    forget, unseen = random.integers(0, 3, 30), random.integers(0, 3, 300)
    found = matched(forget, unseen, seed=1)
    np.testing.assert_array_equal(matched(random.permutation(forget), unseen, seed=1), found)
    assert (matched(forget, unseen, seed=2) != found).any()


def test_matching_takes_away_what_the_classes_alone_would_tell():
    random = np.random.default_rng(0)
    labels_forget, labels_unseen = np.repeat([0, 1], [180, 20]), np.repeat([0, 1], [600, 600])
    forget, unseen = (
        np.eye(2)[each] + 0.01 * random.normal(size=(len(each), 2))
        for each in (labels_forget, labels_unseen)
    )
    alike = matched(labels_forget, labels_unseen, seed=0)
    error = math.sqrt(401 / 12 / 200**2)
    assert probe(forget, unseen).auc > 0.6
    assert abs(probe(forget, unseen[alike]).auc - 0.5) < 4 * error


def test_a_class_that_no_unseen_example_is_of_is_refused_by_name():
    with pytest.raises(InvalidInputError, match="of its classes 2, 5 there is nothing"):
        matched(np.array([0, 2, 5]), np.array([0, 1]), seed=0)
    with pytest.raises(InvalidInputError, match="S has 0 examples"):
        matched(np.array([], int), np.array([0, 1]), seed=0)
