"""Pages of studies on made-up results whose answers are known."""

import math

import numpy as np
import pytest

from rumjax.lab.report import conclusions, exports, tables
from rumjax.lab.report.claims import Verdict
from rumjax.lab.report.pages import to_html, to_markdown
from rumjax.lab.report.studies import KINDS, Case, Study, base, write
from rumjax.lab.report.studies import difficulty as difficulty_page
from rumjax.lab.report.studies import proxies as proxies_page
from rumjax.lab.report.studies import refinement as refinement_page
from rumjax.lab.report.studies import requests as requests_page
from rumjax.lab.report.tables import Line, Results, summarize
from rumjax.types import Scores

SEEDS = (0, 1, 2)
LEVELS = ("low", "medium", "high")


def case(name, tow, parts=("low", "medium", "high"), seeds=SEEDS, strategies=None):
    """A case in which each method has these values of ToW, seed by seed."""
    calibration = {
        "retrain_reference": ("retrain", "reference", 1.0),
        "retrain_second": ("retrain", "second", 0.97),
        "original": ("original", "vanilla", 0.6),
    }
    lines, rows = [], []
    for key, (method, strategy, value) in calibration.items():
        lines.append(Line(key, method, strategy))
        rows += [row(key, seed, value) for seed in seeds]
    for key, values in tow.items():
        lines.append(Line(key, key, (strategies or {}).get(key, "vanilla")))
        rows += [row(key, seed, value) for seed, value in zip(seeds, values, strict=False)]
    names = [each for each in rows[0] if each not in ("name", "seed")]
    results = Results(rows, summarize(rows, lines, names), tuple(names), [])
    indices = {part: np.arange(3) + 3 * at for at, part in enumerate(parts)}
    return Case(name, results, indices, {"all": {"size": 9, "entanglement_score": 5.0}})


def row(name, seed, tow):
    measures = {"name": name, "seed": seed, "tow": tow, "tow_mia": tow - 0.01, "mia_gap": 1 - tow}
    measures |= {"forget_accuracy": 0.5, "retain_accuracy": 0.9, "test_accuracy": 0.8}
    return measures | {"disagreement": 3.0, "rte": 0.4, "rte_with_scores": 9.0}


def study(kind, cases, **options):
    random = np.random.default_rng(0)
    truth = random.beta(0.4, 1, 300).astype(np.float32)
    noise = random.normal(0, 1, 300)
    return Study(
        kind=kind,
        name=f"made_up_{kind}",
        options={"kind": kind, **options},
        cases={each.name: each for each in cases},
        scores={
            "memorization": Scores(truth, np.full(300, 0.05, np.float32)),
            "c_proxy": Scores((truth + 0.01 * noise).astype(np.float32)),
            "entropy": Scores(noise.astype(np.float32)),
        },
        score_seconds={"memorization": 100.0, "c_proxy": 2.0, "entropy": 2.0},
        labels=np.arange(300) % 3,
        facts={"Data": "made up"},
    )


def spread(mean):
    return [mean - 0.01, mean, mean + 0.01]


def difficulty(**methods):
    """ToW by level of entanglement and of memorization, the same for both."""
    cases = [
        case(f"{axis}_{level}", {name: spread(values[at]) for name, values in methods.items()})
        for axis in ("entanglement", "memorization")
        for at, level in enumerate(LEVELS)
    ]
    return study("difficulty", cases)


def page_of(made):
    """The page without figures."""
    return KINDS[made.kind](made, False)


def table_of(made, name):
    return next(table for table in page_of(made).tables if table.name == name)


# Difficulty


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


# Refinement

ALGORITHMS = ("finetune", "salun")
OPTIONS = {
    "strategies": {
        each: {form: f"{each}_{form}" for form in ("vanilla", "shuffle", "rum_f")}
        for each in ALGORITHMS
    },
    "mixed": {"by hand": "hand", "by search": "search"},
    "orders": {"low>high": "finetune_rum_f", "high>low": "backwards"},
    "refiners": {"memorization": "finetune_rum_f", "c_proxy": "by_proxy"},
    "parts": {"3": "finetune_rum_f", "2": "two"},
}


def refinement(**changes):
    tow = {
        "finetune_vanilla": spread(0.8),
        "finetune_shuffle": spread(0.7),
        "finetune_rum_f": spread(0.9),
        "salun_vanilla": spread(0.85),
        "salun_shuffle": spread(0.85),
        "salun_rum_f": spread(0.75),
        "hand": spread(0.9),
        "search": spread(0.95),
        "backwards": spread(0.9),
        "by_proxy": [0.95, 0.8, 0.9],
        "two": spread(0.6),
    }
    strategies = {name: name.partition("_")[2] for name in tow if name.endswith(("shuffle", "f"))}
    return study("rum", [case("run", tow | changes, strategies=strategies)], **OPTIONS)


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
    assert "1 of 2 algorithms, beyond chance for finetune" in answers[0]
    assert "the other way round beyond chance for salun" in answers[0]
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


# Proxies


def proxies(tow):
    driven = {"memorization": "m", "c_proxy": "c", "entropy": "e"}
    return study("proxies", [case("run", tow)], size=30, driven=driven)


def test_the_proxy_that_ranks_alike_comes_first():
    tow = {name: spread(0.8) for name in ("vanilla", "shuffle", "m", "c")} | {"e": spread(0.5)}
    made = proxies(tow)
    best, other = proxies_page.all_agreements(made)
    assert (best.name, best.seconds, other.name) == ("c_proxy", 2.0, "entropy")
    assert best.spearman.low > 0.9 > other.spearman.high
    claim = proxies_page.driven_claim(made, ["c_proxy", "entropy"])
    assert (claim.supporting, claim.contradicting) == (["entropy"], [])
    page = page_of(made)
    assert page.answers[0].startswith("Confidence ranks examples most like memorization does")
    assert "2 % of the seconds of the bank" in page.answers[0]
    assert "beyond chance, for entropy, and a higher one for none" in page.answers[1]
    first, second, last = page.tables[0].rows
    assert (first[0], second[0], last[0]) == ("confidence", "entropy", "memorization")
    assert first[3] > 0.5 > second[3]
    assert first[-1] == 0.02


def test_a_proxy_that_drove_a_run_that_diverged_is_compared_with_nothing():
    made = proxies({"m": spread(0.8), "c": [math.nan, 0.8, 0.8], "e": spread(0.5)})
    claim = proxies_page.driven_claim(made, ["c_proxy", "entropy"])
    assert claim.missing == ["confidence"]
    assert claim.effects["entropy"].value == pytest.approx(-0.3)
    answer = proxies_page.say_driven(claim)
    assert answer.endswith("There is no comparison for confidence.")


# Requests


def arrivals(slope):
    cases = [
        case(
            f"request_{number}",
            {"fine": spread(0.9 - slope * number), "anew": spread(0.8)},
            parts=[f"request_{n + 1}" for n in range(number)],
        )
        for number in (3, 1, 2)  # in any order
    ]
    return study("requests", cases, pairs={"fine": "anew"})


def growth(made):
    cases = requests_page.ordered_cases(made)
    names = [each.line.name for each in cases[0].results.methods]
    return requests_page.growth_claim(cases, names)


def test_the_gap_grows_by_the_slope_of_tow():
    made = arrivals(0.05)
    claim = growth(made)
    assert claim.supporting == ["fine"]
    assert claim.effects["fine"].value == pytest.approx(-0.05)
    assert claim.effects["anew"].value == pytest.approx(0)
    cases = requests_page.ordered_cases(made)
    (pair,) = requests_page.pairs(cases, {"fine": "anew"})
    assert pair.verdict is Verdict.HIGHER
    assert pair.difference.value == pytest.approx(0.05)
    page = page_of(made)
    assert "grows with every request for 1 of 2 methods" in page.answers[0]
    assert "fine −0.050 ± 0.000, anew +0.000" in page.answers[0]
    assert "leaves ToW higher after the last: 0.800" in page.answers[1]
    table = page.tables[0]
    assert table.columns == ("Method", "1", "2", "3", "Change per request")
    rows = {line[0]: line for line in table.rows}
    assert [cell.value for cell in rows["fine"][1:4]] == pytest.approx([0.85, 0.8, 0.75])
    assert rows["original"][-1] is None


def test_a_request_still_to_come_is_the_last():
    made = arrivals(0.05)
    waiting = made.cases["request_3"]._replace(results=Results([], [], (), []), parts={})
    made = made._replace(cases={**made.cases, "request_3": waiting})
    assert growth(made).effects["fine"].value == pytest.approx(-0.05)
    page = page_of(made)
    assert len(page.answers) == 1  # kept and made anew are compared at the last
    row = next(line for line in page.tables[0].rows if line[0] == "fine")
    assert [cell.value for cell in row[1:3]] == pytest.approx([0.85, 0.8])
    assert row[3] is None


def test_a_slope_is_not_made_of_the_seeds_that_are_left():
    cases = [
        case(f"request_{n}", {"fine": spread(0.9), "lost": tow}, parts=["a", "b"][:n])
        for n, tow in ((1, spread(0.9)), (2, [0.8, math.nan, 0.8]))
    ]
    claim = growth(study("requests", cases))
    assert (claim.supporting, claim.missing) == ([], ["lost"])
    assert requests_page.say_growth(claim).endswith("There is no slope for lost.")


def test_of_more_methods_than_there_are_colors_all_are_drawn(drawn):
    tow = {f"m{number}": spread(0.8) for number in range(9)}
    cases = [case(f"request_{n}", tow, parts=["a", "b"][:n]) for n in (1, 2)]
    requests_page.draw_lines(cases, [*tow])
    assert len(drawn[0].axes[0].containers) == len(tow) + 2


# All of them


def test_floor_and_ceiling_are_found_whatever_the_original_is_called():
    made = case("run", {"fine": spread(0.8)})
    renamed = [
        each._replace(line=each.line._replace(name="nothing"))
        if each.line.calibration is tables.Calibration.ORIGINAL
        else each
        for each in made.results.summaries
    ]
    made = made._replace(results=made.results._replace(summaries=renamed))
    assert base.mean_of(made, tables.Calibration.ORIGINAL, "tow").value == pytest.approx(0.6)
    assert base.mean_of(made, tables.Calibration.SECOND, "tow").value == pytest.approx(0.97)


def test_runs_that_diverged_or_are_missing_are_told_of(work):
    made = difficulty(finetune=(0.9, 0.8, 0.6), scrub=(0.9, 0.8, 0.0))
    hard = made.cases["memorization_high"]
    for each in hard.results.rows:
        each.update({"diverged": 1.0} if each["name"] == "scrub" and each["seed"] else {})
    line = Line("salun_vanilla", "salun", "vanilla")
    results = hard.results._replace(missing=[(line, 1), (line, 2)])
    cases = {**made.cases, "memorization_high": hard._replace(results=results)}
    page = write(work, made._replace(cases=cases), figures=False)
    diverged, absent = page.answers[-2:]
    assert diverged.endswith("left: scrub on memorization high (2 of 3).")
    assert absent.endswith("run of salun vanilla on memorization high.")
    whole = {name: case.results for name, case in difficulty(scrub=[0.9] * 3).cases.items()}
    assert conclusions.caveats(whole) == []


@pytest.mark.parametrize(
    "made",
    [
        difficulty(finetune=(0.9, 0.8, math.nan), salun=(0.6, 0.8, 0.9)),
        refinement(hand=[math.nan] * 3),
        proxies({"m": spread(0.8)}),
        arrivals(0.1),
    ],
    ids=lambda made: made.kind,
)
def test_every_page_is_written_with_all_that_it_shows(made, work):
    page = write(work, made)
    text, source = to_markdown(made.about, page), to_html(made.about, page)
    for answer in page.answers:
        assert answer in text
    assert page.pictures
    for picture in page.pictures:
        assert f"figures/{picture.name}.png" in text
        assert f'id="{picture.name}"' in source
        for ending in ("png", "pdf", "csv"):
            assert work.has(f"figures/{picture.name}.{ending}")
    for table in page.tables:
        assert exports.markdown(table) in text
        assert work.has(f"tables/{table.name}.csv")
        assert all(len(line) == len(table.columns) for line in table.rows)
    assert "nan" not in text.lower().replace("finance", "")
    assert made.facts["Data"] in source


def test_a_page_can_do_without_figures(work):
    made = arrivals(0.1)
    page = write(work, made, figures=False)
    assert page.pictures == []
    assert not work.names("figures/*")
    assert "Figures" not in to_html(made.about, page)
    assert work.has("study.md")
