"""Pages of studies on made-up results whose answers are known."""

import math

import numpy as np
import pytest

from rumjax.lab.report import exports, figures
from rumjax.lab.report.studies import KINDS, Case, Study, html, markdown, write
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
    found = {"name": name, "seed": seed, "tow": tow, "tow_mia": tow - 0.01, "mia_gap": 1 - tow}
    found |= {"forget_accuracy": 0.5, "retain_accuracy": 0.9, "test_accuracy": 0.8}
    return found | {"disagreement": 3.0, "rte": 0.4, "rte_with_scores": 9.0}


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


def rendered(found):
    with figures.style():
        return KINDS[found.kind](found)


@pytest.fixture
def undrawn(monkeypatch):
    for name in ("difficulty", "refinement", "proxies", "requests"):
        blank = figures.Drawn(b"", b"", "")
        monkeypatch.setattr(f"rumjax.lab.report.studies.{name}.render", lambda *_, b=blank: b)


# Difficulty


def test_a_falling_measure_is_found_to_fall_and_a_rising_one_to_rise(undrawn):
    found = rendered(difficulty(finetune=(0.9, 0.8, 0.6), salun=(0.6, 0.8, 0.9)))
    first, second, *others = found.answers
    for answer, axis in ((first, "entanglement"), (second, "memorization")):
        assert f"as {axis} rises does not hold for all" in answer
        assert "falls for 1 of 2 algorithms (finetune) and rises for 1 (salun)" in answer
        assert "finetune −1.00 (p = 0.001)" in answer
    (inverse,) = others
    assert "inverse trend of relabelling holds for salun" in inverse
    table = next(each for each in found.tables if each.name == "memorization_tow")
    rows = {line[0]: line for line in table.rows}
    assert rows["finetune"][1].mean == pytest.approx(0.9)
    assert rows["finetune"][4:] == (-1.0, pytest.approx(2 / 1680))


def test_levels_that_are_alike_are_undecided(undrawn):
    found = rendered(difficulty(finetune=(0.8, 0.8, 0.8)))
    assert "falls for 0 of 1 algorithms (none) and rises for 0 (none)" in found.answers[0]


def test_a_trend_that_all_have_holds(undrawn):
    found = rendered(difficulty(finetune=(0.9, 0.8, 0.6), scrub=(0.95, 0.7, 0.5)))
    assert "as entanglement rises holds for all" in found.answers[0]


def test_a_partial_study_of_one_seed_has_a_page(undrawn):
    cases = [case("entanglement_low", {"finetune": [0.9]}, seeds=(0,))]
    found = rendered(study("difficulty", cases))
    assert found.answers == ["There are no results by entanglement yet."]


def test_a_trend_with_a_diverged_or_absent_level_is_not_made_of_the_rest(undrawn):
    tow = {"finetune": (0.9, 0.8, 0.7), "scrub": (0.9, 0.8, math.nan)}
    made = difficulty(**tow)
    found = rendered(made)
    assert "is not shown for all: it falls for 1 of 1 algorithms (finetune)" in found.answers[0]
    assert "There is no trend yet for scrub." in found.answers[0]
    partly = [0.7, math.nan, math.nan]
    cases = {**made.cases, "entanglement_high": case("entanglement_high", {"scrub": partly})}
    answer = rendered(made._replace(cases=cases)).answers[0]
    assert answer == "There are no results by entanglement yet."


def test_what_so_few_seeds_cannot_show_is_said_to_be_undecided(undrawn):
    cases = [
        case(f"memorization_{level}", {"salun": [tow]}, seeds=(0,))
        for level, tow in zip(LEVELS, (0.6, 0.7, 0.8), strict=True)
    ]
    first, second = rendered(study("difficulty", cases)).answers
    assert "is not shown for all" in first
    assert "With so few runs, p cannot be below 0.333." in first
    assert "inverse trend of relabelling is not shown for salun" in second
    (said,) = rendered(study("difficulty", cases[1:])).answers[1:]
    assert "from 0.700 on the least to 0.800 on the most memorized set" in said


def test_all_measures_have_their_trends(undrawn):
    found = rendered(difficulty(finetune=(0.9, 0.8, 0.6)))
    table = next(each for each in found.tables if each.name == "trends")
    effects = {line[:3]: line[3] for line in table.rows}
    assert effects["entanglement", "finetune", "ToW"] == -1
    assert effects["entanglement", "finetune", "MIA gap"] == 1
    assert effects["memorization", "finetune", "Acc. R"] == 0


def test_the_classes_of_a_set_are_counted(undrawn):
    made = difficulty(finetune=(0.9, 0.8, 0.6))
    labels = np.repeat([0, 1, 2, 3], [6, 0, 3, 291])  # S is the first nine
    table = rendered(made._replace(labels=labels)).tables[0]
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


def test_what_refinement_gains_is_told_by_algorithm(undrawn):
    answers = rendered(refinement()).answers
    assert "RUM^F is ahead of vanilla in ToW: does not hold for all" in answers[0]
    assert "1 of 2 algorithms, beyond chance for finetune" in answers[0]
    assert "the other way round beyond chance for salun" in answers[0]
    assert "finetune +0.100 ± 0.000, salun −0.100 ± 0.000" in answers[0]
    assert "Shuffle is behind vanilla" in answers[2]
    search = next(each for each in answers if "chosen by search" in each)
    assert "higher against the best single algorithm, finetune RUM^F" in search
    compared = next(each for each in answers if each.startswith("Chosen by search"))
    assert "higher against the choice by hand: +0.050" in compared


def test_orders_are_held_against_the_spread_over_seeds(undrawn):
    same = next(each for each in rendered(refinement()).answers if "order" in each)
    assert "ToW spreads by 0.000 over the orders, no more" in same
    apart = rendered(refinement(backwards=spread(0.4))).answers
    assert "ToW spreads by 0.500 over the orders, more" in next(a for a in apart if "order" in a)


def test_a_claim_that_holds_for_all_is_said_to_hold(undrawn):
    answers = rendered(refinement(salun_rum_f=spread(0.9))).answers
    assert answers[0].startswith("RUM^F is ahead of vanilla in ToW: holds.")


def test_a_method_that_diverged_is_neither_the_best_nor_left_out_of_the_count(undrawn):
    found = rendered(refinement(finetune_vanilla=[math.nan] * 3, salun_rum_f=spread(0.95)))
    ahead = found.answers[0]
    assert ahead.startswith("RUM^F is ahead of vanilla in ToW: is not shown for all.")
    assert "1 of 1 algorithms, beyond chance for salun" in ahead
    assert "There is no comparison yet for finetune." in ahead
    assert any("best single algorithm, salun RUM^F" in each for each in found.answers)
    assert not any("nan" in each for each in found.answers)


def test_a_single_seed_tells_nothing_apart(undrawn):
    made = refinement()
    whole = made.cases["run"].results
    rows = [each for each in whole.rows if each["seed"] == 0]
    lines = [each.line for each in whole.summaries]
    one = Results(rows, summarize(rows, lines, whole.measures), whole.measures, [])
    answers = rendered(
        made._replace(cases={"run": made.cases["run"]._replace(results=one)})
    ).answers
    assert "is not shown for all" in answers[0]
    order, refiner, parts = answers[-3:]
    assert "which a single seed cannot tell from chance" in order
    assert "apart by 0.060, which a single seed cannot tell from chance" in refiner
    assert "apart by 0.300, which a single seed cannot tell from chance" in parts
    assert not any("nan" in each for each in answers)


# Proxies


def test_the_proxy_that_ranks_alike_comes_first(undrawn):
    tow = {name: spread(0.8) for name in ("vanilla", "shuffle", "m", "c")} | {"e": spread(0.5)}
    found = rendered(
        study(
            "proxies",
            [case("run", tow)],
            size=30,
            driven={"memorization": "m", "c_proxy": "c", "entropy": "e"},
        )
    )
    assert found.answers[0].startswith("Confidence ranks examples most like memorization does")
    assert "2 % of the seconds of the bank" in found.answers[0]
    assert "beyond chance, for entropy, and a higher one for none" in found.answers[1]
    first, second, last = found.tables[0].rows
    assert (first[0], second[0], last[0]) == ("confidence", "entropy", "memorization")
    assert first[3] > 0.5 > second[3]
    assert first[-1] == 0.02


def test_a_proxy_that_drove_a_run_that_diverged_is_compared_with_nothing(undrawn):
    cases = [case("run", {"m": spread(0.8), "c": [math.nan, 0.8, 0.8], "e": spread(0.5)})]
    driven = {"memorization": "m", "c_proxy": "c", "entropy": "e"}
    answer = rendered(study("proxies", cases, size=30, driven=driven)).answers[1]
    assert "Differences: entropy −0.300" in answer
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


def test_the_gap_grows_by_the_slope_of_tow(undrawn):
    found = rendered(arrivals(0.05))
    assert "grows with every request for 1 of 2 methods" in found.answers[0]
    assert "fine −0.050 ± 0.000, anew +0.000" in found.answers[0]
    assert "(difference +0.050" in found.answers[1]
    table = found.tables[0]
    assert table.columns == ("Method", "1", "2", "3", "Change per request")
    rows = {line[0]: line for line in table.rows}
    assert [cell.mean for cell in rows["fine"][1:4]] == pytest.approx([0.85, 0.8, 0.75])


def test_a_request_still_to_come_is_the_last(undrawn):
    made = arrivals(0.05)
    waiting = made.cases["request_3"]._replace(results=Results([], [], (), []), parts={})
    found = rendered(made._replace(cases={**made.cases, "request_3": waiting}))
    assert "fine −0.050 ± 0.000" in found.answers[0]
    assert len(found.answers) == 1  # kept and made anew are compared at the last
    row = next(line for line in found.tables[0].rows if line[0] == "fine")
    assert [cell.mean for cell in row[1:3]] == pytest.approx([0.85, 0.8])
    assert row[3] is None


def test_a_slope_is_not_made_of_the_seeds_that_are_left(undrawn):
    cases = [
        case(f"request_{n}", {"fine": spread(0.9), "lost": tow}, parts=["a", "b"][:n])
        for n, tow in ((1, spread(0.9)), (2, [0.8, math.nan, 0.8]))
    ]
    answer = rendered(study("requests", cases)).answers[0]
    assert "for 0 of 1 methods" in answer
    assert "There is no slope for lost." in answer


# All of them


def test_runs_that_diverged_or_are_missing_are_told_of(undrawn, work):
    made = difficulty(finetune=(0.9, 0.8, 0.6), scrub=(0.9, 0.8, 0.0))
    hard = made.cases["memorization_high"]
    for each in hard.results.rows:
        each.update({"diverged": 1.0} if each["name"] == "scrub" and each["seed"] else {})
    line = Line("salun_vanilla", "salun", "vanilla")
    results = hard.results._replace(missing=[(line, 1), (line, 2)])
    cases = {**made.cases, "memorization_high": hard._replace(results=results)}
    diverged, absent = write(work, made._replace(cases=cases)).answers[-2:]
    assert diverged.endswith("left: scrub on memorization high (2 of 3).")
    assert absent.endswith("run of salun vanilla on memorization high.")
    assert not any("diverged" in each for each in write(work, difficulty(scrub=[0.9] * 3)).answers)


@pytest.mark.parametrize(
    "made",
    [
        difficulty(finetune=(0.9, 0.8, math.nan), salun=(0.6, 0.8, 0.9)),
        refinement(hand=[math.nan] * 3),
        study(
            "proxies",
            [case("run", {"m": spread(0.8)})],
            size=30,
            driven={"memorization": "m", "c_proxy": "c"},
        ),
        arrivals(0.1),
    ],
    ids=lambda made: made.kind,
)
def test_every_page_is_written_with_all_that_it_shows(made, work):
    page = write(work, made)
    text, source = markdown(made.about, page), html(made.about, page)
    for answer in page.answers:
        assert answer in text
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
