"""Ranks of audited methods, and what audits claim of them."""

import numpy as np
import pytest
from scipy import stats

from rumjax.lab.report import audits
from rumjax.lab.report.audits import claims, conclusions, tables
from rumjax.lab.report.audits.base import KLOM, MIA_GAP, U_LIRA
from rumjax.lab.workdir import WorkDirectory
from tests.lab.report.made_up_audits import (
    EXAMPLES,
    HEADLINE,
    METHODS,
    collected,
    experiment,
    fill,
    write_audit,
)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    with WorkDirectory(tmp_path_factory.mktemp("audit") / "run") as work:
        fill(work)
        return audits.collect(work, experiment())


@pytest.fixture
def fresh(tmp_path):
    with WorkDirectory(tmp_path / "run") as work:
        yield work


# Ranks


def test_methods_are_ranked_by_how_far_they_are_from_retrained_models(audited):
    assert audited.ranks(U_LIRA) == {"loud": 4, "sly_rum_f": 3, "fine": 1, "odd": 2}
    assert audited.ranks(MIA_GAP) == {"loud": 4, "sly_rum_f": 1, "fine": 2, "odd": 3}
    assert audited.ranks(HEADLINE["", "tow"]) == audited.ranks(MIA_GAP)
    assert [each.name for each in audited.ordered] == ["fine", "odd", "sly_rum_f", "loud"]


def test_methods_as_far_on_both_sides_of_retraining_share_a_rank(fresh):
    methods = {"under": (0.4, 0), "over": (0.6, 0), "far": (0.9, 0)}
    fill(fresh, methods)
    tied = collected(fresh, methods)
    assert tied.ranks(U_LIRA) == {"under": 1, "over": 1, "far": 3}


def test_only_intervals_that_do_not_meet_tell_a_method_from_retraining(audited):
    detected = {each.name: audited.detects(U_LIRA, each) for each in audited.methods}
    assert detected == {"loud": True, "sly_rum_f": True, "fine": False, "odd": False}
    better = next(each for each in audited.methods if each.name == "sly_rum_f")
    assert audited.detects(MIA_GAP, better) is False  # a gap below the second oracle's
    assert audited.detects(MIA_GAP, audited.original) is True


def test_agreement_is_the_correlation_of_the_ranks(audited):
    differences = np.array([4, 3, 1, 2]) - np.array([4, 1, 2, 3])
    expected = 1 - 6 * np.sum(differences**2) / (4 * 15)
    assert audited.agreement(U_LIRA, MIA_GAP) == pytest.approx(expected)
    assert audited.agreement(U_LIRA, U_LIRA) == pytest.approx(1)
    assert audited._replace(methods=audited.methods[:2]).agreement(U_LIRA, MIA_GAP) is None


def test_what_leaks_most_comes_first_by_the_mean_over_methods_alone(audited):
    examples, accuracy = audited.leaks()
    assert examples[0] == EXAMPLES[-1]
    assert EXAMPLES[0] not in examples  # nobody knows about it
    last = [min(accuracy + 0.2, 1) for accuracy, _ in METHODS.values()]
    assert accuracy[0] == pytest.approx(np.mean(last))
    assert np.all(np.diff(accuracy) <= 0)


# Claims


def test_the_audits_that_detect_a_method_are_counted(audited):
    detections = {each.title: each for each in claims.detections(audited)}
    assert [*detections] == ["fine", "odd", "sly_rum_f", "loud"]
    assert [each.holds for each in detections.values()] == [False, True, True, True]
    assert {len(each.audits) for each in detections.values()} == {10}
    # Only the gap and what is made of it tell one, all audits the other.
    assert [name for name, told in detections["odd"].audits.items() if told] == ["MIA gap", "ToW"]
    assert detections["loud"].detecting == 10


def test_p_values_are_those_of_the_difference_of_two_means(fresh):
    """Of intervals that lie around their numbers evenly, a z-test's."""
    for name, accuracy in (("fine", 0.56), ("retrain", 0.50), ("original", 0.9)):
        write_audit(fresh, name, accuracy)
        about = fresh.read_json(f"audit/{name}.json")
        for finding in about["findings"]:
            finding["low"], finding["high"] = finding["value"] - 0.03, finding["value"] + 0.03
        fresh.write_json(f"audit/{name}.json", about)
    made = collected(fresh, {"fine": ()})
    z = 0.06 / (2**0.5 * 0.03 / 1.959964)
    assert made.p_value(U_LIRA, made.methods[0]) == pytest.approx(2 * stats.norm.sf(z), rel=1e-4)
    assert made.p_value(KLOM, made.methods[0]) == pytest.approx(stats.norm.sf(z), rel=1e-4)
    assert made.p_value(MIA_GAP, made.methods[0]) is None


def test_one_audit_of_many_that_is_told_by_chance_is_not_in_the_answer(fresh):
    """Apart by a p-value of 0.01, among ten audits."""
    fill(fresh, {"fine": (0.5, 0.02), "other": (0.5, 0.02)})
    about = fresh.read_json("audit/fine.json")
    for finding in about["findings"]:
        if (finding["audit"], finding["measure"]) == ("rmia", "auc"):
            finding |= {"value": 0.545, "low": 0.515, "high": 0.56}
    fresh.write_json("audit/fine.json", about)
    made = collected(fresh, {"fine": (), "other": ()})
    assert 0.005 < made.p_value(HEADLINE["rmia", "auc"], made.methods[0]) < 0.05
    assert not any(each.holds for each in claims.detections(made))
    assert conclusions.conclude(made)[0].startswith("Not by these audits")


def test_an_audit_that_tells_retrained_models_from_themselves_is_flagged(fresh):
    fill(fresh)
    about = fresh.read_json("audit/retrain.json")
    for finding in about["findings"]:
        if (finding["audit"], finding["measure"]) == ("lira", "auc"):
            finding |= {"value": 0.6, "low": 0.55, "high": 0.65}
    fresh.write_json("audit/retrain.json", about)
    made = collected(fresh)
    flagged = [each.title for each in made.headlines if made.fails_calibration(each)]
    assert flagged == ["LiRA AUC"]
    assert not any("LiRA AUC" in each.audits for each in claims.detections(made))
    answers = conclusions.conclude(made)
    assert answers[1].startswith("Some audits fail their own calibration")
    assert answers[1].endswith("not counted: LiRA AUC.")
    matrix = tables.matrix(made)
    column = matrix.columns.index("LiRA AUC")
    assert {row[column] for row in matrix.rows} == {"(not counted)"}


def test_an_audit_that_does_not_see_the_original_models_is_blind(fresh, audited):
    assert not any(claims.is_blind(audited, each) for each in audited.headlines)
    fill(fresh)
    write_audit(fresh, "original", 0.5)
    made = collected(fresh)
    blind = [each.title for each in made.headlines if claims.is_blind(made, each)]
    assert "U-LiRA accuracy" in blind
    assert "MIA gap" not in blind
    assert not any("U-LiRA accuracy" in each.audits for each in claims.detections(made))


def test_holms_way_rejects_what_adjusted_p_values_do():
    """Adjusted: the largest, so far, of each p-value times how many are not smaller."""
    random = np.random.default_rng(0)
    for _ in range(20):
        p_values = dict(enumerate(random.beta(0.3, 3, 12)))
        order = sorted(p_values, key=p_values.get)
        adjusted = np.maximum.accumulate([(12 - i) * p_values[n] for i, n in enumerate(order)])
        rejected = {name for name, p in zip(order, adjusted, strict=True) if p <= 0.05}
        assert claims.holm(p_values) == rejected


def test_the_models_and_seeds_that_numbers_rest_on_are_counted(audited, fresh):
    assert claims.basis(audited.everyone) == ([192], [3])
    assert claims.basis(collected(fresh).everyone) is None
