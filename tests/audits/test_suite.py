"""All audits together: which of them a set of models allows for, and what they find."""

import numpy as np
import pytest
from scipy import stats

from rumjax.audits import FORGOTTEN, OUT, Population, audit, worlds_of_task
from rumjax.errors import InvalidInputError

SIZE, TESTS = 40, 20
FORGET = np.arange(0, SIZE, 4)


def of_task(models, seed, shift=0.0, world=FORGOTTEN):
    """Models that all forget the same; φ of what they forget is moved."""
    random = np.random.default_rng(seed)
    margins = random.normal(size=(models, SIZE + TESTS))
    margins[:, FORGET] += shift
    worlds = worlds_of_task(models, FORGET, SIZE, SIZE + TESTS, world=world)
    correct = random.random(margins.shape) < 0.9
    return Population(margins.astype(np.float32), worlds, correct)


def by_name(found):
    return {each[:2]: each for each in found.findings}


def test_examples_that_only_some_have_forgotten_are_attacked(population):
    found = audit(population(60, 20, forgotten=1.5), draws=50)
    assert {each.audit for each in found.findings} == {"u_lira", "u_lira_retained", "ruli_privacy"}
    area = by_name(found)["u_lira", "auc"]
    assert area.low < stats.norm.cdf(1.5 / np.sqrt(2)) < area.high
    assert found.value("u_lira", "auc") == area.value
    assert list(found.examples) == list(range(20))
    assert all(len(each) == 20 for each in found.per_example.values())
    assert set(found.curves) == {"u_lira", "u_lira_retained", "ruli_privacy"}


def test_shadows_and_oracles_allow_for_more(population):
    models, shadows = population(30, 12, 1), population(30, 12, 2)
    unseen = Population(np.zeros((30, 5), np.float32), np.full((30, 5), OUT, np.int8))

    def with_unseen(each):
        pairs = zip(each[:2], unseen[:2], strict=True)
        return Population(*(np.concatenate(pair, axis=1) for pair in pairs))

    found = audit(with_unseen(models), with_unseen(models), shadows=with_unseen(shadows), draws=20)
    added = {"lira", "offline_lira", "rmia", "ruli_efficacy"}
    assert {each.audit for each in found.findings} >= added
    without = audit(models, shadows=shadows, draws=20)
    assert "rmia" not in {each.audit for each in without.findings}  # there is no example z


def test_examples_that_all_have_forgotten_are_compared_with_oracles():
    oracles = of_task(40, 0, world=OUT)
    known, fine = (audit(of_task(40, 1, shift), oracles, draws=50) for shift in (4.0, 0.0))
    assert list(known.examples) == list(FORGET)
    assert known.value("klom_corrected", "forget_mean") > 1
    told = by_name(fine)["klom_corrected", "forget_mean"]
    assert told.low < 0 < told.high
    for where in ("retain", "test"):  # nothing was moved there
        assert abs(known.value("klom_corrected", f"{where}_mean")) < 0.15
    assert known.value("challenge", "quality") < fine.value("challenge", "quality")
    assert known.value("challenge", "mean_epsilon") > fine.value("challenge", "mean_epsilon")
    assert known.value("klom", "forget_mean") <= known.value("klom", "forget_p95")


def test_the_score_of_the_challenge_is_quality_times_accuracies_over_the_oracles():
    ours, oracles = of_task(20, 1), of_task(20, 0, world=OUT)
    found = audit(ours, oracles, draws=20)
    kept = np.setdiff1d(np.arange(SIZE), FORGET)
    ratios = [
        ours.correct[:, where].mean() / oracles.correct[:, where].mean()
        for where in (kept, slice(SIZE, None))
    ]
    wanted = found.value("challenge", "quality") * np.prod(ratios)
    assert found.value("challenge", "score") == pytest.approx(wanted)
    silent = audit(ours._replace(correct=None), oracles, draws=20)
    assert ("challenge", "score") not in by_name(silent)


def test_intervals_of_comparisons_cover_what_many_models_find():
    truth = audit(of_task(160, 1, 1.0), of_task(160, 0, 0.0, OUT), draws=10)
    wanted = truth.value("klom_corrected", "forget_mean")
    covered = 0
    for seed in range(8):
        ours, oracles = of_task(30, seed + 10, 1.0), of_task(30, seed + 100, 0.0, OUT)
        told = by_name(audit(ours, oracles, draws=30))["klom_corrected", "forget_mean"]
        covered += told.low <= wanted <= told.high
    assert covered >= 5


def test_models_and_examples_may_come_in_any_order(population):
    models, random = population(24, 8, forgotten=1.0), np.random.default_rng(0)
    rows, columns = random.permutation(24), random.permutation(8)
    one, other = audit(models, draws=10), audit(models.of(rows).at(columns), draws=10)
    for key, each in by_name(one).items():
        assert by_name(other)[key].value == pytest.approx(each.value, abs=1e-9)
    np.testing.assert_allclose(
        other.per_example["u_lira"], one.per_example["u_lira"][columns], rtol=1e-6
    )


def test_what_cannot_be_audited_is_refused(population):
    with pytest.raises(InvalidInputError, match="no example is forgotten"):
        audit(of_task(8, 0))
    with pytest.raises(InvalidInputError, match="oracles: margins of 59 examples"):
        audit(of_task(8, 0), of_task(8, 1, world=OUT).at(np.arange(59)))
    wrong = of_task(8, 1, world=OUT)
    wrong.margins[3, 3] = np.nan
    with pytest.raises(InvalidInputError, match=r"oracles: .*model 3's on example 3"):
        audit(of_task(8, 0), wrong)
