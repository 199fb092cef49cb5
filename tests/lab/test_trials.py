"""How settings are judged: against an oracle, or by what is known without one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limited
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from rumjax import evidence
from rumjax.lab.answers import Answers
from rumjax.lab.difficulty import Matching
from rumjax.lab.trials import against_oracle, by_attack, on_validation, told_apart
from rumjax.metrics import Accuracies, tug_of_war


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
)
@limited(deadline=None, max_examples=50)
def test_the_area_under_the_curve_is_that_of_scikit_learn(positive, negative):
    truth = np.repeat([1, 0], [len(positive), len(negative)])
    expected = roc_auc_score(truth, [*positive, *negative])
    found = told_apart(np.array(positive), np.array(negative), None)
    assert found == pytest.approx(expected)


def test_the_criterion_with_an_oracle_is_the_tug_of_war():
    random = np.random.default_rng(0)
    ours, oracle = (Answers(np.zeros(30), random.random(30) < p) for p in (0.8, 0.6))
    sets = dict(zip(("forget", "retain", "test"), np.arange(30).reshape(3, 10), strict=True))

    def accuracies(answers):
        return Accuracies(*(answers.correct[each].mean() for each in sets.values()))

    expected = tug_of_war(accuracies(ours), accuracies(oracle))
    assert against_oracle(ours, oracle, sets, None) == expected


def test_without_an_oracle_forgotten_images_should_look_like_validation_images():
    sets = {"forget": np.arange(4), "validation": np.arange(4, 8)}
    margins = np.array([1.0, 2, 3, 4, 1, 2, 3, 4])
    right = np.ones(8, bool)
    original = Answers(margins, right)
    alike = on_validation(Answers(margins, right), original, sets, None)
    told = margins + np.array([9.0] * 4 + [0.0] * 4)
    apart = on_validation(Answers(told, right), original, sets, None)
    half = right & (np.arange(8) % 2 == 0)
    worse = on_validation(Answers(margins, half), original, sets, None)
    assert (alike, apart, worse) == (1.0, 0.0, 0.5)


def test_with_their_difficulty_hard_examples_are_compared_with_hard_ones():
    # S is hard and was never seen; V is half easy and half hard.
    random = np.random.default_rng(0)
    hard_s, hard_v = random.uniform(3, 6, 200), random.uniform(0, 6, 400)
    strata = evidence.strata(np.zeros(200, int), hard_s, np.zeros(400, int), hard_v)
    matching = Matching(*strata, hard_s, hard_v)
    forget, unseen = (5 - hard + random.normal(size=hard.shape) for hard in (hard_s, hard_v))
    assert told_apart(forget, unseen, None) < 0.3
    assert told_apart(forget, unseen, matching) == pytest.approx(0.5, abs=0.05)
    assert told_apart(forget + 3, unseen, matching) > 0.9
    assert matching.weights.sum() == pytest.approx(1)


def test_an_attack_on_models_like_oracles_finds_nothing_and_utility_still_counts():
    random = np.random.default_rng(0)
    sets = dict(zip(("forget", "retain", "test"), np.arange(90).reshape(3, 30), strict=True))
    right = np.ones(90, bool)
    base = random.normal(size=90)

    def models(shift=0.0, correct=right):
        shifts = np.zeros(90)
        shifts[sets["forget"]] = shift
        return [Answers(base + shifts + random.normal(size=90), correct) for _ in range(16)]

    oracles = models()
    alike, apart = (by_attack(models(shift), oracles, sets, None) for shift in (0.0, 20.0))
    assert len(alike) == 16
    assert len(set(alike)) == 1
    assert alike[0] > 0.9
    assert apart[0] == 0.0

    # A tenth of T lost costs a tenth.
    worse = right.copy()
    worse[sets["test"][:3]] = False
    random = np.random.default_rng(1)
    sound = by_attack(models(), oracles, sets, None)[0]
    random = np.random.default_rng(1)
    assert by_attack(models(correct=worse), oracles, sets, None)[0] == pytest.approx(0.9 * sound)


def test_of_few_models_that_did_not_diverge_nothing_is_told():
    sets = {"forget": np.arange(2), "retain": np.arange(2), "test": np.arange(2)}
    one = Answers(np.zeros(2), np.ones(2, bool))
    assert by_attack([one] * 3, [one] * 3, sets, None) == [0.0] * 3
