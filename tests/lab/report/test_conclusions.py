"""What the results of a run say: the claims, and once their wording."""

import math

import pytest

from rumjax.lab.report import columns, conclusions, tables
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
    assert best.time.value == results.summary("mixed").measures["rte"].value


def test_the_next_method_is_compared_seed_by_seed(results, tow):
    second = conclusions.runner_up(results)
    assert second.other == "tuned_parts"
    assert second.other_value == tow["tuned_parts"]
    one, other = results.summary("mixed"), results.summary("tuned_parts")
    assert second.difference == tables.paired_difference(one, other, "tow")


def test_rum_is_compared_with_vanilla(results, tow):
    refinement = conclusions.refinement_claim(results)
    gains = {name: gain.value for name, gain in refinement.effects.items()}
    assert gains == {
        "tuned_parts": pytest.approx(tow["tuned_parts"].value - tow["tuned"].value),
        "salun_parts": pytest.approx(tow["salun_parts"].value - tow["salun_vanilla"].value),
    }
    (mixture,) = conclusions.mixtures(results)
    assert mixture.other == "salun_vanilla"
    gain = tow["mixed"].value - tow["salun_vanilla"].value
    assert mixture.difference.value == pytest.approx(gain)


def test_the_sentences_name_the_best_method_and_what_rum_gains(results, tow):
    first, second, refined, mixed = conclusions.conclude(results)
    assert first.startswith("mixed (original → finetune → salun, RUM) comes closest")
    assert f"ToW {tow['mixed'].value:.3f} ± {tow['mixed'].half_width:.3f}, where" in first
    assert "times its time" in first
    assert second.startswith("The next, tuned_parts, has 0.")
    assert "of 2 methods" in refined
    assert f"tuned_parts {tow['tuned_parts'].value - tow['tuned'].value:+.3f}" in refined
    assert "the best vanilla method, salun_vanilla, by +" in mixed


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
    level = Interval(0.0001, -0.061, 0.0611)
    effects = {"a": up, "b": down, "c": up, "d": level}
    claim = Claim("RUM^F over vanilla", Verdict.HIGHER, effects)
    sentence = conclusions.say_refinement(claim)
    assert "a higher ToW beyond chance for 2 of 4 methods" in sentence
    assert "a lower one for 1, and for 1 a difference that chance could explain" in sentence


def test_originals_that_only_guess_leave_nothing_to_be_said(work, experiment):
    """Labels of the test images are three classes of ten each."""
    for seed in experiment.seeds:
        piece = work.read_json(f"rows/nothing_seed{seed}.json")
        piece["row"]["test_accuracy"] = 0.45
        work.write_json(f"rows/nothing_seed{seed}.json", piece)
    results, _ = tables.collect(work, experiment)
    assert results.chance == pytest.approx(1 / 3 + 2 * (1 / 3 * 2 / 3 / 30) ** 0.5)
    assert not results.has_learned
    (sentence,) = conclusions.conclude(results)
    assert "a test accuracy of 0.450, and guessing reaches 0.505" in sentence
    assert columns.best_lines(results, columns.COLUMNS[0]) == set()


def test_a_method_that_diverged_is_in_no_comparison(work, experiment):
    piece = work.read_json(f"rows/mixed_seed{experiment.seeds[0]}.json")
    lost = {"diverged": 1.0, "rte": 0.1, "seconds": 1.0}
    work.write_json(f"rows/mixed_seed{experiment.seeds[0]}.json", {**piece, "row": lost})
    results, _ = tables.collect(work, experiment)
    mixed, best = results.summary("mixed"), conclusions.leader(results)
    assert (mixed.diverged, set(mixed.measures)) == (1, {"rte", "seconds"})
    assert best.line.name == "tuned_parts"
    assert tables.paired_difference(mixed, results.summary("tuned"), "rte") is None
    assert conclusions.mixtures(results) == []
    assert conclusions.conclude(results)[-1].endswith("flatter them: mixed (1 of 3).")
    for column in columns.COLUMNS:
        assert "mixed" not in columns.best_lines(results, column) or column.measure == "rte"


def test_without_methods_the_answer_says_so():
    nothing = Results([], [], (), [])
    assert conclusions.leader(nothing) is None
    assert conclusions.conclude(nothing) == ["There are no results of unlearning methods yet."]
