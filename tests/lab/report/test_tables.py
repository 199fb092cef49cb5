"""Rows and means of a run, and the files that hold them."""

import csv
import json
import math

import numpy as np
import pytest
from scipy import stats

from rumjax.lab.report import tables


def read_csv(text):
    return list(csv.DictReader(text.splitlines()))


@pytest.fixture
def results(work, experiment):
    return tables.collect(work, experiment)[0]


def test_results_csv_parses_back_to_the_very_numbers_of_the_rows(work, results):
    for row in read_csv(tables.results_csv(results)):
        kept = work.read_json(f"rows/{row.pop('name')}_seed{row['seed']}.json")["row"]
        assert row.keys() == kept.keys()
        assert {key: type(kept[key])(value) for key, value in row.items()} == kept


def test_columns_begin_as_promised_and_hold_every_measure_once(results):
    header = tables.results_csv(results).splitlines()[0].split(",")
    assert header[:5] == ["method", "strategy", "seed", "forget_accuracy", "retain_accuracy"]
    assert header[13:] == ["tow_low", "tow_medium", "tow_high", "name"]
    assert len(set(header)) == len(header)


def test_rows_are_the_calibration_then_methods_as_configured_seeds_ascending(experiment, results):
    configured = [each.name for each in experiment.methods if each.name != "nothing"]
    names = ["nothing", "retrain_reference", "retrain_second", *configured]
    expected = [(name, seed) for name in names for seed in experiment.seeds]
    assert [(row["name"], row["seed"]) for row in results.rows] == expected


def test_rows_do_not_depend_on_the_order_in_which_files_were_written(work, experiment, results):
    for name in reversed(work.names("rows/*.json")):
        piece = work.read_json(name)
        (work.path / name).unlink()
        work.write_json(name, piece)
    assert tables.collect(work, experiment)[0].rows == results.rows


def test_summary_equals_scipys_student_t_interval(experiment, results):
    header, *_ = lines = tables.summary_csv(results).splitlines()
    assert header.startswith("method,strategy,seeds,forget_accuracy,forget_accuracy_half_width,")
    for line in read_csv("\n".join(lines)):
        own = [row for row in results.rows if row["name"] == line["name"]]
        assert int(line["seeds"]) == len(experiment.seeds)
        for measure in ("tow", "mia", "disagreement", "tow_high"):
            values = [row[measure] for row in own]
            low, high = stats.t.interval(
                0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
            )
            np.testing.assert_allclose(float(line[measure]), (low + high) / 2)
            np.testing.assert_allclose(float(line[f"{measure}_half_width"]), (high - low) / 2)


def test_a_single_seed_has_a_mean_and_no_interval(work, experiment):
    one = experiment._replace(seeds=experiment.seeds[:1])
    for line in read_csv(tables.summary_csv(tables.collect(work, one)[0])):
        assert math.isfinite(float(line["tow"]))
        assert math.isnan(float(line["tow_half_width"]))


def test_a_measure_that_only_some_rows_have_is_left_empty_elsewhere(work, experiment):
    name = f"rows/tuned_seed{experiment.seeds[0]}.json"
    piece = work.read_json(name)
    piece["row"]["rte_with_scores"] = 1.5
    work.write_json(name, piece)
    rows = read_csv(tables.results_csv(tables.collect(work, experiment)[0]))
    assert {row["rte_with_scores"] for row in rows} == {"", "1.5"}
    (line,) = (
        each
        for each in read_csv(tables.summary_csv(tables.collect(work, experiment)[0]))
        if each["name"] == "tuned"
    )
    assert float(line["rte_with_scores"]) == 1.5


def test_missing_rows_are_named(work, experiment):
    (work.path / f"rows/mixed_seed{experiment.seeds[1]}.json").unlink()
    results, _ = tables.collect(work, experiment)
    assert [(line.name, seed) for line, seed in results.missing] == [("mixed", experiment.seeds[1])]


def test_methods_that_share_algorithm_and_strategy_stay_apart(work, experiment):
    twin = experiment.methods[0].__class__(**{**vars(experiment.methods[0]), "name": "gone"})
    both = experiment._replace(methods=(experiment.methods[0], twin))
    results, _ = tables.collect(work, both)
    assert [each.line.name for each in results.methods] == ["tuned", "gone"]
    assert [len(each.rows) for each in results.methods] == [len(experiment.seeds)] * 2


def test_paired_differences_are_taken_seed_by_seed(results):
    one, other = results.methods[:2]
    values = [a["tow"] - b["tow"] for a, b in zip(one.rows, other.rows, strict=True)]
    assert tables.paired_difference(one, other, "tow") == tables.seed_interval(values)


def test_the_calibration_is_told_from_methods(results):
    keys = {line.name: line.calibration for line in (each.line for each in results.summaries)}
    marks = {name: mark for name, mark in keys.items() if mark is not None}
    assert marks == {
        "nothing": tables.Calibration.ORIGINAL,
        "retrain_reference": tables.Calibration.REFERENCE,
        "retrain_second": tables.Calibration.SECOND,
    }
    assert [tables.Calibration.SECOND.key, tables.Calibration.ORIGINAL.key] == [
        "retrain_second",
        "original",
    ]
    assert {each.line.name for each in results.methods} == keys.keys() - marks.keys()
    assert results.calibration(tables.Calibration.ORIGINAL) is results.summary("nothing")


def test_means_of_what_is_not_finite_are_none():
    assert np.isnan(tables.seed_interval([0.5, math.nan])).all()


def test_every_epoch_of_every_run_is_a_line_of_json(work, experiment):
    _, epochs = tables.collect(work, experiment)
    losses = tables.original_epochs(work, experiment.seeds)
    parsed = [json.loads(line) for line in tables.to_jsonl([*losses, *epochs]).splitlines()]
    assert len(parsed) == len(experiment.seeds) * (3 + 2 * (len(experiment.methods) + 2))
    assert parsed[0]["loss"] == 2.0
    assert {"method", "strategy", "seed", "part", "epoch", "loss"} <= parsed[-1].keys()


def test_what_is_not_finite_is_null_in_json():
    assert json.loads(tables.to_jsonl([{"loss": math.nan}])) == {"loss": None}
