"""The gate on made models: Gaussian margins, with an effect of the model and what it remembers."""

import types

import numpy as np
import pytest

from rumjax import evidence
from rumjax.lab.difficulty import Matching
from rumjax.lab.forgetting import bench as benches
from rumjax.lab.forgetting import findings, gate
from rumjax.lab.forgetting.deletion import Deletion
from rumjax.lab.forgetting.shadows import Shadows, alike
from rumjax.lab.sections import Forgetting

TRAIN, TEST, UNSEEN, FORGET, BANK = 200, 150, 150, 30, 39
CLASSES, REPEATS = 2, 60


def made(seed, *, remembered, hard=False):
    """A bench whose model after never saw S, and whose model before did.

    Examples differ in how hard they are and how much their margins vary; models in an effect that
    all their margins share. What was trained on has a margin that is larger by `remembered`.
    """
    random = np.random.default_rng(seed)
    count = TRAIN + TEST + UNSEEN
    ease, spread = 2 * random.normal(size=count), random.uniform(0.7, 1.5, count)
    labels = random.integers(0, CLASSES, count)

    def margins(inside):
        common = 0.2 * random.normal()
        own = ease + common + spread * random.normal(size=count)
        return own + remembered * inside

    # S is drawn at random, or is the hardest of D.
    train, unseen = np.arange(count) < TRAIN, np.arange(TRAIN + TEST, count)
    forget = np.argsort(ease[:TRAIN])[:FORGET] if hard else random.choice(TRAIN, FORGET, False)
    without = train & ~np.isin(np.arange(count), forget)
    models = {"before": margins(train), "after": margins(without)}
    looks = {
        name: benches.Look(np.empty(0), own, np.ones(count, bool), np.empty((count, 0)))
        for name, own in models.items()
    }

    # A bank of models of halves of D, and V of like difficulty by a model that saw neither.
    inside = (random.random((BANK, count)) < 0.5) & train
    bank = np.stack([margins(one) for one in inside])
    bank = alike(bank[:, : TRAIN + TEST], TRAIN)
    shadows = Shadows(bank, inside[:, : TRAIN + TEST], TRAIN)
    difficulty = -margins(np.zeros(count, bool))
    sides = [(labels[some], difficulty[some]) for some in (forget, unseen)]
    strata = evidence.strata(*sides[0], *sides[1], bins=3)
    chooser = types.SimpleNamespace(
        matching=Matching(*strata, sides[0][1], sides[1][1]),
        shadows=shadows,
        deletion=Deletion(1, ("r",), forget, np.empty(0, np.int32), TRAIN),
    )
    return types.SimpleNamespace(
        chooser=chooser,
        section=Forgetting(),
        looks=looks,
        forget=forget,
        retain=np.flatnonzero(without),
        unseen=unseen,
        calibration=[],
        not_tested=[],
    )


def accuracies(bench):
    correct = {when: look.correct for when, look in bench.looks.items()}
    return benches.accuracies(bench.chooser.deletion, bench.unseen, correct)


def measured(bench, *parts):
    """The evidence that the gate is given, and that of the model before."""
    rows = [row for part in parts for row in part(bench)]
    after = benches.Evidence(tuple(rows), accuracies(bench), (), None, ())
    before = [row._replace(p_value=row.before_p_value) for row in rows]
    return after, after._replace(rows=tuple(before))


@pytest.fixture(scope="module")
def at_random():
    """Benches of random forget sets, each with the evidence on both of its models."""
    benches = [made(seed, remembered=3.0) for seed in range(REPEATS)]
    parts = findings.by_rank, findings.by_rank_of_all, findings.by_bank
    return [(bench, *measured(bench, *parts)) for bench in benches]


def passing(trials, *, without=()):
    """The shares that the gate lets pass of models that never saw S, and of those that did."""

    def passed(bench, one):
        rows = tuple(row for row in one.rows if row.name not in without)
        return gate.judge(bench.section, one._replace(rows=rows)).passed

    return np.mean([[passed(bench, one) for one in both] for bench, *both in trials], axis=0)


def test_p_values_of_models_that_never_saw_s_are_uniform(at_random):
    steps = {"rank, matched": 1 / 2001, "rank": 0.0, "group against the bank": 1 / (BANK + 1)}
    for name, step in steps.items():
        p_values = np.array([after.named(name).p_value for _, after, _ in at_random])
        assert evidence.calibration(p_values, least=step).p_value > 0.01, name

    # Those of single examples, whose steps differ, are taken together.
    examples, least = [], []
    for bench, _, _ in at_random:
        shadows, some = bench.chooser.shadows, bench.forget[:5]
        examples.append(shadows.p_values(shadows.mended(bench.looks["after"].margins), some))
        least.append(evidence.least_p_value(shadows.inside[:, some]))
    assert evidence.calibration(np.ravel(examples), least=np.ravel(least)).p_value > 0.01


@pytest.mark.parametrize("without", [(), ("group against the bank",)])
def test_the_gate_tells_models_that_remember_from_those_that_never_saw(at_random, without):
    never_seen, seen = passing(at_random, without=without)
    assert never_seen >= 0.9
    assert seen <= 0.1


def test_so_it_does_where_the_hardest_are_forgotten():
    benches = [made(seed, remembered=3.0, hard=True) for seed in range(REPEATS // 2)]
    trials = [(bench, *measured(bench, findings.by_rank, findings.by_bank)) for bench in benches]
    never_seen, seen = passing(trials)
    assert never_seen >= 0.9
    assert seen <= 0.1


def test_the_bank_is_mended_as_the_model_is():
    bank = np.random.default_rng(0).normal(size=(5, 40)) * np.arange(1, 6)[:, None] + 3
    mended = alike(bank, 30)
    tested = np.arange(30, 40)
    for own, one in zip(bank, mended, strict=True):
        np.testing.assert_allclose(one, evidence.standardized(own, tested, bank, robust=False))
    np.testing.assert_allclose(alike(mended, 30), mended)


def test_a_loss_of_accuracy_is_held_against_the_bound_where_it_is_certain():
    bench = made(0, remembered=0.0)
    right = np.ones(TRAIN + TEST + UNSEEN, bool)

    def judged(wrong):
        """Of a model that errs on so many more examples of V."""
        after = right.copy()
        after[bench.unseen[:wrong]] = False
        bench.looks = {
            name: look._replace(correct=correct)
            for (name, look), correct in zip(bench.looks.items(), (right, after), strict=True)
        }
        evidence_of = benches.Evidence((), accuracies(bench), (), None, ())
        return gate.judge(bench.section, evidence_of)

    # A fiftieth may be chance where a hundredth is allowed, a tenth is not.
    few, many = judged(3), judged(15)
    assert few.passed
    assert few.bounds[0].note.startswith("0.0200 was measured")
    assert not many.passed
    loss = 0.1 - 1.645 * np.sqrt(0.1 * 0.9 / UNSEEN)
    assert many.bounds[0].value == pytest.approx(loss)
    assert many.bounds[0].missed_by == pytest.approx(loss - 0.01)
    assert judged(0).bounds[0].value == 0


def test_tests_that_can_tell_share_the_level():
    def levels(*least):
        rows = [
            benches.Row(name, "", *[0.0] * 5, 1, p_value=0.5, least_p_value=one)
            for name, one in zip(gate.TESTS, least, strict=False)
        ]
        made_up = benches.Evidence(tuple(rows), {}, (), None, ())
        return {
            bound.name.removeprefix("p-value of "): bound.bound
            for bound in gate.judge(Forgetting(), made_up).bounds
        }

    # 19 oracles cannot have a p-value below .1, and take nothing of the level from others.
    first, second, third = gate.TESTS
    assert levels(0.0, 1 / 65, 0.1) == {first: 0.025, second: 0.025}
    assert levels(0.0, 1 / 65, 0.01) == dict.fromkeys((first, second, third), 0.05 / 3)
    assert levels(0.0, 1 / 33) == {first: 0.05}
    assert levels(0.2) == {}
