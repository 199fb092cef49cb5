"""The page on what refinement gains, on made-up results whose answers are known."""

import math

import pytest

from rumjax.lab.report.claims import Verdict
from rumjax.lab.report.studies import refinement as refinement_page
from rumjax.lab.report.tables import Results, summarize
from tests.lab.report.made_up_studies import OPTIONS, case, page_of, refinement, spread, study


def gain_claims(made):
    return refinement_page.gain_claims(made.only_case, OPTIONS["strategies"])


def best_of(made):
    names = refinement_page.single_methods(OPTIONS["strategies"])
    return refinement_page.best_single(made.only_case, names)


def test_what_refinement_gains_is_claimed_of_every_algorithm():
    over_vanilla, over_shuffle, behind = gain_claims(refinement())
    for claim in (over_vanilla, over_shuffle):
        assert claim.holds is False
        assert (claim.supporting, claim.contradicting) == (["finetune"], ["salun"])
    gains = {name: gain.value for name, gain in over_vanilla.effects.items()}
    assert gains == {"finetune": pytest.approx(0.1), "salun": pytest.approx(-0.1)}
    assert behind.expected is Verdict.LOWER
    assert (behind.supporting, behind.holds) == (["finetune"], None)


def test_mixed_methods_are_compared_with_the_best_single_one_and_with_each_other():
    made = refinement()
    best = best_of(made)
    assert best.label == "finetune RUM^F"
    hand, search = refinement_page.mixtures(made.only_case, OPTIONS["mixed"], best)
    assert hand.comparison.verdict is Verdict.LEVEL
    assert search.comparison.verdict is Verdict.HIGHER
    (choice,) = refinement_page.choices(made.only_case, OPTIONS["mixed"])
    assert (choice.one, choice.other) == ("by search", "by hand")
    assert choice.difference.value == pytest.approx(0.05)


def test_the_sentences_on_refinement_hold_the_claims():
    answers = page_of(refinement()).answers
    assert "RUM^F is ahead of vanilla in ToW: does not hold for all" in answers[0]
    assert "Of 2 algorithms it is so beyond chance for finetune" in answers[0]
    assert "and the other way round for salun" in answers[0]
    assert "finetune +0.100 ± 0.000, salun −0.100 ± 0.000" in answers[0]
    assert "Shuffle is behind vanilla" in answers[2]
    search = next(answer for answer in answers if "chosen by search" in answer)
    assert "higher against the best single algorithm, finetune RUM^F" in search
    compared = next(answer for answer in answers if answer.startswith("Chosen by search"))
    assert "higher against the choice by hand: +0.050" in compared
    order = next(answer for answer in answers if answer.startswith("The order of the parts"))
    assert "ToW spreads by 0.000 over the orders, no more than the width" in order
    assert "the best is low → high" in order


def test_orders_are_held_against_the_spread_over_seeds():
    for change, size, holds in (({}, 0, False), ({"backwards": spread(0.4)}, 0.5, True)):
        made = refinement(**change)
        tow, gap = refinement_page.spreads(made.only_case, OPTIONS["orders"])
        assert (tow.measure, gap.measure) == ("tow", "mia_gap")
        assert tow.size == pytest.approx(size)
        assert (tow.holds, gap.holds) == (holds, holds)
        assert tow.best == "low>high"


def test_a_claim_that_holds_for_all_is_said_to_hold():
    made = refinement(salun_rum_f=spread(0.9))
    assert gain_claims(made)[0].holds is True
    assert page_of(made).answers[0].startswith("RUM^F is ahead of vanilla in ToW: holds.")


def test_a_method_that_diverged_is_neither_the_best_nor_left_out_of_the_count():
    made = refinement(finetune_vanilla=[math.nan] * 3, salun_rum_f=spread(0.95))
    ahead = gain_claims(made)[0]
    assert (ahead.holds, ahead.supporting, ahead.missing) == (None, ["salun"], ["finetune"])
    assert best_of(made).label == "salun RUM^F"
    answers = page_of(made).answers
    assert "There is no comparison yet for finetune." in answers[0]
    assert not any("nan" in answer for answer in answers)


def test_a_single_seed_tells_nothing_apart():
    made = refinement()
    whole = made.cases["run"].results
    rows = [each for each in whole.rows if each["seed"] == 0]
    lines = [each.line for each in whole.summaries]
    one = Results(rows, summarize(rows, lines, whole.measures), whole.measures, [])
    made = made._replace(cases={"run": made.cases["run"]._replace(results=one)})
    assert [claim.holds for claim in gain_claims(made)] == [None] * 3
    spreads = refinement_page.spreads(made.only_case, OPTIONS["orders"])
    assert [each.holds for each in spreads] == [None] * 2
    ranking = refinement_page.ranking(made.only_case, OPTIONS["parts"])
    assert ranking.ends.verdict is Verdict.UNDECIDED
    answers = page_of(made).answers
    order, refiner, parts = answers[-3:]
    assert "which a single seed cannot tell from chance" in order
    assert "apart by 0.060, which a single seed cannot tell from chance" in refiner
    assert "apart by 0.300, which a single seed cannot tell from chance" in parts
    assert not any("nan" in answer for answer in answers)


def test_before_there_are_results_a_page_on_refinement_says_so():
    answers = page_of(study("rum", [case("run", {})], **OPTIONS)).answers
    assert answers == [
        "There are no results of two orders yet.",
        "There are no results by refiner yet.",
        "There are no results by number of parts yet.",
    ]
