"""Studies: several forget sets on one set of models and scores, and requests that keep coming."""

import shutil

import jax
import numpy as np
import pytest
from rich.console import Console

from rumjax import forget_sets, launch
from rumjax.errors import InvalidInputError
from rumjax.lab import experiment, pipeline
from rumjax.lab.context import context_of, load_original, load_start
from rumjax.lab.making import steps_of
from rumjax.lab.methods import rum_f, vanilla
from rumjax.lab.rescoring import scores_for
from rumjax.lab.results import read_forget_set
from rumjax.lab.stages import scores as score_stage
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from tests.tiny import SIZE

FINETUNE = {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 2}
QUIET = Console(quiet=True)


def config(place, cases, methods, **sections):
    found = configuration(str(place / "tiny.py"))
    del found["forget"]
    return {**found, "cases": cases, "methods": methods, **sections}


LEVELS = {
    level: {"forget": {"by": "memorization", "size": 10, "levels": (level,)}}
    for level in ("low", "high")
}


def requests(count):
    """Cases that go on from each other."""
    forget = {"by": "memorization", "size": 6, "requests": count}
    return {
        f"request_{number}": {
            "forget": {**forget, "until": number},
            "after": f"request_{number - 1}" if number > 1 else None,
        }
        for number in range(count, 0, -1)  # in any order
    }


@pytest.fixture(scope="module")
def arrived(place):
    """Two requests, run."""
    methods = {
        "fine": vanilla(FINETUNE),
        "kept": rum_f(FINETUNE, refine="holdout_retraining"),
        "anew": rum_f(FINETUNE, refine="rescored"),
    }
    study = {"kind": "requests", "pairs": {"kept": "anew"}}
    built = experiment.build(config(place, requests(2), methods, study=study))
    with WorkDirectory(place / "arrived") as work:
        rows = pipeline.run_experiment(built, work, console=QUIET)
        yield built, work, rows


# Cases


def test_cases_share_models_and_scores_and_have_all_else_of_their_own(place, tmp_path, monkeypatch):
    saved = []
    save = WorkDirectory.save_model
    monkeypatch.setattr(
        WorkDirectory,
        "save_model",
        lambda self, name, variables: saved.append(name) or save(self, name, variables),
    )
    built = experiment.build(config(place, LEVELS, {"fine": vanilla(FINETUNE)}))
    with WorkDirectory(tmp_path / "run") as work:
        rows = pipeline.run_experiment(built, work, console=QUIET, figures=False)
        sets = {name: work.read_arrays(f"cases/{name}/forget_sets.npz") for name in LEVELS}
        scores = work.read_arrays("scores.npz")["memorization"]
        assert work.has("cases/low/report.html")
        assert not work.has("forget_sets.npz")
    assert saved.count("original_seed0") == 1
    assert saved.count("oracle_reference_seed0") == len(LEVELS)
    assert len(rows) == len(LEVELS) * 4
    assert not np.intersect1d(sets["low"]["forget"], sets["high"]["forget"]).size
    assert scores[sets["low"]["forget"]].max() <= scores[sets["high"]["forget"]].min()


def test_a_case_may_have_methods_of_its_own(place):
    cases = {**LEVELS, "other": {**LEVELS["low"], "methods": {"mine": vanilla(FINETUNE)}}}
    built = experiment.build(config(place, cases, {"fine": vanilla(FINETUNE)}))
    names = {case.folder: [each.name for each in case.methods] for case in built.cases}
    assert names == {
        "cases/low": ["original", "fine"],
        "cases/high": ["original", "fine"],
        "cases/other": ["original", "mine"],
    }


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ({}, "there is none"),
        ({"a/b": LEVELS["low"]}, "another name"),
        ({"a": {**LEVELS["low"], "forgot": 1}}, "forgot"),
        ({"a": {}}, "no forget set"),
        ({"a": {**LEVELS["low"], "after": "b"}}, "after cases that are none"),
        (
            {"a": {**LEVELS["low"], "after": "b"}, "b": {**LEVELS["low"], "after": "a"}},
            "in a circle",
        ),
        ({"a": {"forget": {"by": "luck"}}}, "luck"),
    ],
)
def test_cases_that_are_none_are_refused(place, cases, message):
    with pytest.raises(InvalidInputError, match=message):
        experiment.build(config(place, cases, {"fine": vanilla(FINETUNE)}))


def test_an_unknown_kind_of_study_is_refused(place):
    with pytest.raises(InvalidInputError, match="kind of study"):
        experiment.build(config(place, LEVELS, {}, study={"kind": "nature"}))


# Requests


def test_requests_deal_out_a_forget_set_part_by_part():
    parts = {"low": np.arange(7), "high": np.arange(20, 26)}
    found = forget_sets.requests(parts, 3)
    assert list(found) == ["request_1", "request_2", "request_3"]
    assert sorted(np.concatenate(list(found.values()))) == [*range(7), *range(20, 26)]
    for request in found.values():
        for part in parts.values():
            assert len(np.intersect1d(request, part)) in (len(part) // 3, -(-len(part) // 3))
    first = forget_sets.requests(parts, 3, until=2)
    assert [each.tolist() for each in first.values()] == [
        found[name].tolist() for name in ("request_1", "request_2")
    ]


@pytest.mark.parametrize(("count", "until"), [(7, None), (3, 4), (0, None)])
def test_requests_that_cannot_be_are_refused(count, until):
    with pytest.raises(InvalidInputError, match="requests"):
        forget_sets.requests({"low": np.arange(6)}, count, until=until)


def test_a_request_comes_after_the_one_before_and_forgets_only_what_is_new(arrived):
    built, work, _ = arrived
    assert [case.folder for case in built.cases] == ["cases/request_1", "cases/request_2"]
    first, second = context_of(built, work, QUIET).cases
    before, now = (each.place.read_arrays("forget_sets.npz") for each in (first, second))
    new = np.setdiff1d(now["forget"], before["forget"])
    assert now["request_1"].tolist() == before["request_1"].tolist() == before["forget"].tolist()
    assert now["request_2"].tolist() == new.tolist()
    (step,) = steps_of(
        second,
        second.case.methods[1],
        {},
        read_forget_set(second.place),
        seed=0,
    )
    asked, kept = (set(np.asarray(part.indices[: int(part.size)]).tolist()) for part in step.task)
    assert asked == set(new.tolist())
    assert kept == set(range(SIZE)) - set(now["forget"].tolist())


def test_a_method_goes_on_from_its_own_result(arrived):
    built, work, _ = arrived
    first, second = context_of(built, work, QUIET).cases
    for method in second.case.methods:
        start = load_start(second, method, 0)
        ours = work.below("cases/request_1").load_model(f"unlearned_{method.name}_seed0", start)
        assert same(start, ours)
        assert same(start, load_original(first, 0)) == (method.name == "original")
    assert not work.names("cases/request_2/checkpoints/unlearned_*")


def same(one, other):
    return all(map(np.array_equal, *map(jax.tree.leaves, (one, other))))


def test_scores_made_anew_are_those_of_the_model_as_it_stands(arrived):
    built, work, _ = arrived
    first, second = context_of(built, work, QUIET).cases
    named = score_stage.read(first)
    anew = next(each for each in first.case.methods if each.name == "anew")
    kept = named["holdout_retraining"].values
    at_first = scores_for(first, anew, named, load_start(first, anew, 0), 0)
    then = scores_for(second, anew, named, load_start(second, anew, 0), 0)
    np.testing.assert_array_equal(at_first["rescored"].values, kept)
    assert not np.array_equal(then["rescored"].values, kept)


def test_the_page_of_a_study_reads_on_its_own(arrived):
    _, work, rows = arrived
    text = (work.path / "study.md").read_text()
    assert "# Repeated requests" in text
    assert "The gap to the oracle" in text
    assert "figures/requests.png" in text
    for name in ("requests.png", "requests.pdf", "requests.csv"):
        assert work.has(f"figures/{name}")
    for ending in ("csv", "md", "tex"):
        assert work.has(f"tables/requests_tow.{ending}")
    assert {row["name"] for row in rows} >= {"fine", "kept", "anew"}


def test_a_study_goes_on_where_it_stopped(arrived, monkeypatch):
    built, work, rows = arrived

    def refuse(*_, **__):
        raise AssertionError("something is made")

    monkeypatch.setattr("rumjax.ensemble.run", refuse)
    assert pipeline.run_experiment(built, work, console=QUIET, figures=False) == rows


@pytest.mark.parametrize(
    ("stage", "gone", "left"),
    [
        ("oracle/request_2", "cases/request_2/rows/*", "cases/request_1/rows/*"),
        ("unlearn/request_2/fine", "cases/request_2/rows/fine_*", "cases/request_2/rows/kept_*"),
        ("unlearn/request_1/fine", "cases/request_2/rows/fine_*", "cases/request_1/rows/kept_*"),
    ],
)
def test_what_is_recomputed_takes_with_it_what_came_of_it(arrived, stage, gone, left, tmp_path):
    built, work, _ = arrived
    copy = shutil.copytree(work.path, tmp_path / "copy", ignore=shutil.ignore_patterns(".lock*"))
    with WorkDirectory(copy) as place:
        pipeline.open_context(built, place, QUIET, [stage])
        assert place.names(gone) == []
        assert place.names(left)
        assert place.has("scores.npz")


def test_a_misspelled_stage_is_refused(arrived):
    built, work, _ = arrived
    with pytest.raises(InvalidInputError, match="oracle/request_2"):
        pipeline.open_context(built, work, QUIET, ["oracle/request_3"])


def test_a_study_is_started_like_any_run(place, capsys):
    status = launch.main(["--config=requests.py:nothing", f"--workdir={place / 'none'}"])
    assert status == 1
    assert "fashion_mnist_mini" in capsys.readouterr().err
