"""The page on what makes forgetting hard, on made-up results whose answers are known."""

import math

import numpy as np
import pytest

from rumjax.lab.report.claims import Verdict
from rumjax.lab.report.studies import difficulty as difficulty_page
from tests.lab.report.made_up_studies import LEVELS, case, difficulty, page_of, study, table_of


def test_a_falling_measure_is_found_to_fall_and_a_rising_one_to_rise():
    made = difficulty(finetune=(0.9, 0.8, 0.6), salun=(0.6, 0.8, 0.9))
    for axis in ("entanglement", "memorization"):
        claim = difficulty_page.fall_claim(made, axis)
        assert claim.holds is False
        assert (claim.supporting, claim.contradicting) == (["finetune"], ["salun"])
        assert claim.effects["finetune"] == (-1.0, pytest.approx(2 / 1680))
    (inversion,) = difficulty_page.inversions(made)
    assert (inversion.name, inversion.holds) == ("salun", True)
    rows = {line[0]: line for line in table_of(made, "memorization_tow").rows}
    assert rows["finetune"][1].value == pytest.approx(0.9)
    assert rows["finetune"][4:] == (-1.0, pytest.approx(2 / 1680))


def test_the_sentences_on_difficulty_name_who_falls_and_who_rises():
    made = difficulty(finetune=(0.9, 0.8, 0.6), salun=(0.6, 0.8, 0.9))
    first, second, inverse = page_of(made).answers
    for answer, axis in ((first, "entanglement"), (second, "memorization")):
        assert f"as {axis} rises does not hold for all" in answer
        assert "falls for 1 of 2 algorithms (finetune) and rises for 1 (salun)" in answer
        assert "finetune −1.00 (p = 0.001)" in answer
    assert "inverse trend of relabelling holds for salun: its ToW rises from 0.600 on" in inverse


def test_levels_that_are_alike_are_undecided():
    claim = difficulty_page.fall_claim(difficulty(finetune=(0.8, 0.8, 0.8)), "entanglement")
    assert claim.holds is None
    assert claim.judged(Verdict.LEVEL) == ["finetune"]


def test_a_trend_that_all_have_holds():
    made = difficulty(finetune=(0.9, 0.8, 0.6), scrub=(0.95, 0.7, 0.5))
    assert difficulty_page.fall_claim(made, "entanglement").holds is True


def test_a_partial_study_of_one_seed_has_a_page():
    cases = [case("entanglement_low", {"finetune": [0.9]}, seeds=(0,))]
    answers = page_of(study("difficulty", cases)).answers
    assert answers == ["There are no results by entanglement yet."]


def test_a_trend_with_a_diverged_or_absent_level_is_not_made_of_the_rest():
    made = difficulty(finetune=(0.9, 0.8, 0.7), scrub=(0.9, 0.8, math.nan))
    claim = difficulty_page.fall_claim(made, "entanglement")
    assert claim.holds is None
    assert (claim.supporting, claim.missing) == (["finetune"], ["scrub"])
    assert "There is no trend yet for scrub." in page_of(made).answers[0]
    partly = [0.7, math.nan, math.nan]
    cases = {**made.cases, "entanglement_high": case("entanglement_high", {"scrub": partly})}
    claim = difficulty_page.fall_claim(made._replace(cases=cases), "entanglement")
    assert (claim.effects, claim.missing) == ({}, ["finetune", "scrub"])


def test_what_so_few_seeds_cannot_show_is_said_to_be_undecided():
    cases = [
        case(f"memorization_{level}", {"salun": [tow]}, seeds=(0,))
        for level, tow in zip(LEVELS, (0.6, 0.7, 0.8), strict=True)
    ]
    made = study("difficulty", cases)
    assert difficulty_page.fall_claim(made, "memorization").holds is None
    assert difficulty_page.least_p(made, "memorization") == pytest.approx(1 / 3)
    assert [each.holds for each in difficulty_page.inversions(made)] == [None]
    first, second = page_of(made).answers
    assert "With so few runs, p cannot be below 0.333." in first
    assert second.endswith("(p = 0.333, which chance could explain).")
    (inversion,) = difficulty_page.inversions(study("difficulty", cases[1:]))
    assert (inversion.least.value, inversion.most.value) == (0.7, 0.8)


def test_all_measures_have_their_trends():
    table = table_of(difficulty(finetune=(0.9, 0.8, 0.6)), "trends")
    effects = {line[:3]: line[3] for line in table.rows}
    assert effects["entanglement", "finetune", "ToW"] == -1
    assert effects["entanglement", "finetune", "MIA gap"] == 1
    assert effects["memorization", "finetune", "Acc. R"] == 0


def test_the_classes_of_a_set_are_counted():
    made = difficulty(finetune=(0.9, 0.8, 0.6))
    labels = np.repeat([0, 1, 2, 3], [6, 0, 3, 291])  # S is the first nine
    table = difficulty_page.sets_table(made._replace(labels=labels))
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["Size"], row["Classes"]) == (9, 2)
    assert row["Largest class"] == pytest.approx(2 / 3)
    expected = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)) / math.log(4)
    assert row["Class entropy"] == pytest.approx(expected)
