"""Ranks of audited methods, and what audits claim of them."""

import numpy as np
import pytest

from rumjax.lab.report import audits
from rumjax.lab.report.audits import claims, conclusions
from rumjax.lab.report.audits.base import MIA_GAP, U_LIRA
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
    assert [*detections] == ["fine", "odd", "sly RUM^F", "loud"]
    assert [each.holds for each in detections.values()] == [False, True, True, True]
    assert {each.audits for each in detections.values()} == {10}
    assert (detections["odd"].detecting, detections["loud"].detecting) == (2, 10)


def test_where_the_population_attack_and_u_lira_disagree_is_found(audited):
    judgements = claims.judgements(audited)
    assert len(judgements) == len(METHODS)
    assert [each.title for each in judgements if each.is_missed] == ["sly RUM^F"]
    assert [each.title for each in judgements if each.is_hidden] == ["odd"]
    pairs = claims.rank_pairs(audited)
    assert pairs[0] == ("sly RUM^F", 1, 3)
    assert [each.distance for each in pairs] == [2, 1, 1, 0]


def test_methods_that_both_attacks_judge_alike_are_not_in_disagreement(fresh):
    methods = {"a": (0.50, 0.01), "b": (0.7, 0.2), "c": (0.9, 0.3)}
    fill(fresh, methods)
    alike = collected(fresh, methods)
    judgements = claims.judgements(alike)
    assert not any(each.is_missed or each.is_hidden for each in judgements)
    (sentence,) = conclusions.say_judgements(judgements)
    assert sentence.startswith("There is no method that U-LiRA tells from retraining and the pop")
    assert alike.agreement(U_LIRA, MIA_GAP) == pytest.approx(1)


def test_methods_are_in_the_order_of_an_audit_with_what_it_does_not_detect(audited):
    order = claims.order(audited, U_LIRA)
    assert order.retrained == (0.5, 0.47, 0.515)
    assert order.original.value == 0.95
    assert [*order.values.items()] == [
        ("fine", 0.49),
        ("odd", 0.52),
        ("sly RUM^F", 0.70),
        ("loud", 0.80),
    ]
    assert order.is_ranked
    assert order.undetected == ["fine", "odd"]
    assert next(iter(claims.order(audited, HEADLINE["", "tow"]).values)) == "sly RUM^F"


def test_an_audit_that_does_not_see_the_original_models_is_blind(fresh, audited):
    assert claims.blind_audits(audited) == []
    fill(fresh)
    write_audit(fresh, "original", 0.5)
    blind = claims.blind_audits(collected(fresh))
    assert "U-LiRA accuracy" in blind
    assert "MIA gap" not in blind


def test_what_is_kept_is_held_against_what_was_forgotten(audited):
    keepings = {each.title: each for each in claims.keepings(audited)}
    # Accuracies of 0.49, 0.52 and 0.70, against 0.75
    assert [name for name, each in keepings.items() if each.holds] == ["fine", "odd", "sly RUM^F"]
    assert (keepings["fine"].kept.value, keepings["fine"].forgotten.value) == (0.75, 0.49)


def test_the_models_and_seeds_that_numbers_rest_on_are_counted(audited, fresh):
    assert claims.basis(audited.everyone) == ([192], [3])
    assert claims.basis(collected(fresh).everyone) is None
