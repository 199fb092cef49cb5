"""Parts of a user's own are named in a configuration by their import paths, and run like ours."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console

from rumjax.errors import InvalidInputError
from rumjax.lab import experiment, pipeline
from rumjax.lab.methods import rum_f, vanilla
from rumjax.lab.results import read_forget_set
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from tests.lab import own_parts

OWN = own_parts.__name__
QUIET = Console(quiet=True)
GENTLE = {"algorithm": f"{OWN}:gentle", "strength": 0.7}


def config(place, **sections):
    tiny = configuration(str(place / "tiny.py"))
    own = {
        "data": {"name": f"{OWN}:images", "data_dir": str(place / "data.npz")},
        "scores": {"own": {"uncertainty": f"{OWN}:uncertainty"}},
        "forget": {"by": f"{OWN}:every", "step": 7},
        "methods": {
            "gentle": vanilla(GENTLE),
            "by_uncertainty": rum_f(GENTLE, refine="uncertainty"),
            "in_halves": rum_f(GENTLE, refine=f"{OWN}:halves", parts=("one", "other")),
        },
        "measures": {"agreement": f"{OWN}:agreement", "nothing": f"{OWN}:nothing"},
    }
    return {**tiny, **own, **sections}


@pytest.fixture(scope="module")
def finished(place):
    run = experiment.build(config(place))
    shown = io.StringIO()
    with WorkDirectory(place / "own") as work:
        rows = pipeline.run_experiment(run, work, console=Console(file=shown), figures=False)
        yield run, work, rows, shown.getvalue()


def test_a_run_is_made_of_them_from_data_to_report(finished):
    _, work, rows, _ = finished
    assert {row["name"] for row in rows} >= {"gentle", "by_uncertainty", "in_halves"}
    assert read_forget_set(work).forget.tolist() == list(range(0, own_parts.SIZE, 7))
    assert f"{OWN}:gentle" in (work.path / "report.html").read_text()


def test_a_measure_that_is_no_number_is_said_and_keeps_its_column(finished):
    *_, rows, shown = finished
    for row in rows:
        assert np.isnan(row["nothing"])
        assert f"measures.nothing is nan for {row['name']} on seed {row['seed']}" in shown


def test_no_bank_is_trained_for_a_score_of_ones_own(finished):
    run, work, *_ = finished
    assert not run.trains_bank
    scores = work.read_arrays("scores.npz")
    assert scores["uncertainty"].shape == (own_parts.SIZE,)
    assert work.read_json("scores.json")["uncertainty"] > 0


def test_a_measure_is_a_column_of_the_results(finished):
    _, work, rows, _ = finished
    with (work.path / "results.csv").open(newline="") as file:
        assert {"agreement"} <= set(next(csv.reader(file)))
    by_name = {row["name"]: row["agreement"] for row in rows}
    assert by_name["retrain_reference"] == 1.0
    assert all(0 <= value <= 1 for value in by_name.values())


def test_a_forget_set_may_be_chosen_by_a_score_of_ones_own(place, tmp_path):
    methods = {"gentle": vanilla(GENTLE)}
    forget = {"by": "uncertainty", "size": 9, "levels": ("high",)}
    run = experiment.build(config(place, forget=forget, methods=methods))
    with WorkDirectory(tmp_path / "run") as work:
        pipeline.run_experiment(run, work, console=QUIET, figures=False)
        scores = work.read_arrays("scores.npz")["uncertainty"]
        chosen = read_forget_set(work).forget
    assert set(chosen) == set(np.argsort(scores)[-9:])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"methods": {"x": vanilla({"algorithm": f"{OWN}:gentel"})}}, "did you mean 'gentle'"),
        ({"methods": {"x": vanilla({**GENTLE, "strenth": 1})}}, "did you mean 'strength'"),
        ({"methods": {"x": rum_f(GENTLE, refine="uncertanty")}}, "unknown refinement"),
        ({"methods": {"x": rum_f(GENTLE, refine="nowhere:at_all")}}, "No module named 'nowhere'"),
        ({"forget": {"by": f"{OWN}:every", "stop": 3}}, "did you mean 'step'"),
        ({"scores": {"own": {"entropy": f"{OWN}:uncertainty"}}}, "entropy is rumjax's own name"),
        ({"scores": {"own": {"mine": f"{OWN}:missing"}}}, "has no attribute 'missing'"),
        ({"measures": {"agreement": f"{OWN}:SIZE"}}, "wanted a function or a class, got int"),
        ({"measures": {"tow": f"{OWN}:agreement"}}, "measures.tow: choose another name"),
        ({"measures": {"mia_of_mine": f"{OWN}:agreement"}}, "choose another name"),
        ({"data": {"name": f"{OWN}:halves"}}, "data"),
    ],
)
def test_what_leads_nowhere_is_refused_before_anything_is_trained(place, sections, message):
    with pytest.raises(InvalidInputError, match=message):
        experiment.build(config(place, **sections))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"measures": {"many": f"{OWN}:several"}},
            r"measures\.many.* shape \(3,\); wanted a number",
        ),
        (
            {"scores": {"own": {"uncertainty": f"{OWN}:too_short"}}},
            r"scores\.own\.uncertainty.*\[119\]; wanted a finite number for each of the 120",
        ),
    ],
)
def test_results_that_are_none_are_refused(place, tmp_path, sections, message):
    run = experiment.build(config(place, **sections))
    with (
        WorkDirectory(tmp_path / "run") as work,
        pytest.raises(InvalidInputError, match=message),
    ):
        pipeline.run_experiment(run, work, console=QUIET, figures=False)
