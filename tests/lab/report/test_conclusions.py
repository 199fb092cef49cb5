"""What the results of a run say: the claims, and once their wording."""

import math

import pytest

from rumjax.lab.report import conclusions, tables
from rumjax.lab.report.claims import Claim, Comparison, Verdict
from rumjax.lab.report.tables import Results
from rumjax.metrics import Interval


@pytest.fixture
def results(work, experiment):
    return tables.collect(work, experiment)[0]


@pytest.fixture
def tow(results):
    return {each.line.name: each.measures["tow"] for each in results.summaries}


def test_the_best_method_is_held_against_floor_and_ceiling(results, tow):
    best = conclusions.leader(results)
    assert best.line.name == "mixed"
    assert best.tow == tow["mixed"]
    assert best.ceiling == tow["retrain_second"]
    assert best.floor == tow["nothing"]
    assert best.time == results.summary("mixed").measures["rte"]


def test_the_next_method_is_compared_seed_by_seed(results, tow):
    second = conclusions.runner_up(results)
    assert second.other == "finetune (RUM^F)"
    assert second.other_value == tow["tuned_parts"]
    one, other = results.summary("mixed"), results.summary("tuned_parts")
    assert second.difference == tables.paired_difference(one, other, "tow")


def test_rum_is_compared_with_vanilla(results, tow):
    refinement = conclusions.refinement_claim(results)
    gains = {name: gain.value for name, gain in refinement.effects.items()}
    assert gains == {
        "finetune": pytest.approx(tow["tuned_parts"].value - tow["tuned"].value),
        "salun": pytest.approx(tow["salun_parts"].value - tow["salun_vanilla"].value),
    }
    assert refinement.on_average == ["finetune"]
    (mixture,) = conclusions.mixtures(results)
    assert mixture.other == "salun"
    gain = tow["mixed"].value - tow["salun_vanilla"].value
    assert mixture.difference.value == pytest.approx(gain)


def test_the_sentences_name_the_best_method_and_what_rum_gains(results, tow):
    first, second, refined, mixed = conclusions.conclude(results)
    assert first.startswith("original → finetune → salun (RUM) comes closest")
    assert f"ToW {tow['mixed'].value:.3f} ± {tow['mixed'].half_width:.3f}, where" in first
    assert "times as long as retraining" in first
    assert second.startswith("The next, finetune (RUM^F), has 0.")
    assert "for 1 of 2 algorithms" in refined
    assert f"finetune {tow['tuned_parts'].value - tow['tuned'].value:+.3f}" in refined
    assert "the best vanilla method, salun, by +" in mixed


def test_a_single_seed_is_said_to_prove_nothing(work, experiment):
    one = experiment._replace(seeds=experiment.seeds[:1])
    results, _ = tables.collect(work, one)
    assert conclusions.runner_up(results).verdict is Verdict.UNDECIDED
    assert conclusions.refinement_claim(results).holds is None
    sentences = conclusions.conclude(results)
    assert all("±" not in sentence for sentence in sentences)
    assert sum("single seed cannot tell from chance" in sentence for sentence in sentences) == 3


@pytest.mark.parametrize(
    ("low", "words"), [(0.05, "leaves out zero"), (-0.1, "holds zero"), (math.nan, "single seed")]
)
def test_a_lead_is_only_called_more_than_chance_beyond_its_interval(low, words):
    gap = Interval(0.1, low, 0.2 - low)
    comparison = Comparison("a", "b", Interval(0.9, 0.8, 1.0), Interval(0.8, 0.7, 0.9), gap)
    assert words in conclusions.say_runner_up(comparison)


def test_what_lies_on_either_side_of_zero_is_counted():
    up, down = Interval(0.1, 0.05, 0.15), Interval(-0.1, -0.15, -0.05)
    claim = Claim("RUM^F over vanilla", Verdict.HIGHER, {"a": up, "b": down, "c": up})
    sentence = conclusions.say_refinement(claim)
    assert "for 2 of 3 algorithms" in sentence
    assert "above zero for 2, below for 1." in sentence


def test_without_methods_the_answer_says_so():
    nothing = Results([], [], (), [])
    assert conclusions.leader(nothing) is None
    assert conclusions.conclude(nothing) == ["There are no results of unlearning methods yet."]
