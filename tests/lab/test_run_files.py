"""What a run leaves, from the command line to the report, and that it is right."""

import json

import jax
import numpy as np
import pytest

import rumjax
from rumjax import data as sources
from rumjax import launch
from rumjax.lab import experiment
from rumjax.lab.workdir import WorkDirectory
from rumjax.scores import PROXIES, random_subset
from tests.runs import LINES, arrays, start, table
from tests.tiny import LEVEL, SIZE, write_config


def test_scores_are_one_number_per_training_example(finished):
    found = arrays(finished / "scores.npz")
    for name in ("memorization", "memorization_se", *PROXIES):
        assert found[name].dtype == np.float32
        assert found[name].shape == (SIZE,)
        assert np.isfinite(found[name]).all()
    assert found["bank_seconds"] > 0
    assert (found["memorization_se"] >= 0).all()
    assert ((found["c_proxy"] <= 0) & (found["c_proxy"] >= -1)).all()


def test_memorization_is_counted_over_the_bank(finished):
    correct = {}
    for path in (finished / "bank").glob("*.npz"):
        row = arrays(path)
        assert row["margins"].shape == (180,)
        correct[int(path.stem)] = np.unpackbits(row["correct"], count=180).astype(bool)
    seen = [set(random_subset(0, model, SIZE, 0.5).tolist()) for model in range(24)]
    found = arrays(finished / "scores.npz")["memorization"]
    for example in range(0, SIZE, 7):
        saw = [correct[model][example] for model in range(24) if example in seen[model]]
        missed = [correct[model][example] for model in range(24) if example not in seen[model]]
        assert found[example] == pytest.approx(np.mean(saw) - np.mean(missed), abs=1e-6)


def test_forget_sets_are_disjoint_levels_and_what_is_left(finished):
    found = arrays(finished / "forget_sets.npz")
    assert found.pop("source") == "npz"
    assert len(found.pop("source_rows")) == SIZE
    assert len(found.pop("forget_sha256")) == len(found["forget"])
    assert found.keys() == {"forget", "retain", "low", "medium", "high"}
    for part in found.values():
        assert part.dtype == np.int32
        assert (np.diff(part) > 0).all()
    levels = [found[name].tolist() for name in ("low", "medium", "high")]
    assert [len(level) for level in levels] == [LEVEL] * 3
    assert sorted(np.concatenate(levels)) == found["forget"].tolist()
    assert sorted([*found["forget"], *found["retain"]]) == list(range(SIZE))
    memorization = arrays(finished / "scores.npz")["memorization"]
    low, medium, high = (memorization[level] for level in levels)
    assert low.max() <= medium.min()
    assert medium.max() <= high.min()


def test_there_is_a_row_for_every_method_and_seed(finished):
    rows = table(finished / "results.csv")
    assert {(row["method"], row["strategy"]) for row in rows} == LINES
    assert len(rows) == len(LINES)
    wanted = ["method", "strategy", "seed", "forget_accuracy", "retain_accuracy", "test_accuracy"]
    wanted += ["mia", "mia_gap", "tow", "tow_mia", "disagreement", "seconds", "rte"]
    assert list(rows[0])[: len(wanted)] == wanted
    assert {"tow_low", "tow_medium", "tow_high", "forget_accuracy_high"} <= rows[0].keys()
    for row in rows:
        for name in wanted[3:]:
            assert np.isfinite(float(row[name]))
        for name in ("forget_accuracy", "retain_accuracy", "test_accuracy", "mia", "tow"):
            assert 0 <= float(row[name]) <= 1
    summary = table(finished / "summary.csv")
    assert [row["seeds"] for row in summary] == ["1"] * len(LINES)


def test_the_reference_agrees_with_itself(finished):
    (row,) = (r for r in table(finished / "results.csv") if r["strategy"] == "reference")
    for name in ("tow", "tow_mia", "rte", "tow_low", "tow_medium", "tow_high"):
        assert float(row[name]) == 1
    for name in ("mia_gap", "disagreement", "disagreement_retain", "disagreement_test"):
        assert float(row[name]) == 0


def test_relative_times_are_to_retraining_with_and_without_the_bank(finished):
    rows = {row["name"]: row for row in table(finished / "results.csv")}
    bank = float(arrays(finished / "scores.npz")["bank_seconds"])
    retrained = float(rows["retrain_reference"]["seconds"])
    for name, scored in (("finetune_vanilla", 0), ("finetune_rum_f", bank), ("mixed", bank)):
        seconds = float(rows[name]["seconds"])
        assert float(rows[name]["rte"]) == pytest.approx(seconds / retrained)
        wanted = (seconds + scored) / retrained
        assert float(rows[name]["rte_with_scores"]) == pytest.approx(wanted)


def test_accuracies_are_those_of_the_saved_models(finished, run):
    built = experiment.build(launch.configuration(str(finished.parent / "tiny.py")))
    forget = arrays(run / "forget_sets.npz")["forget"]
    like = jax.eval_shape(built.model.init, jax.random.key(0), built.data.train.images)
    for name, line in (("original_seed0", "original"), ("oracle_second_seed0", "retrain_second")):
        with WorkDirectory(run) as work:
            variables = work.load_model(name, like)
        (row,) = (r for r in table(run / "results.csv") if r["name"] == line)
        for data, key in (
            (built.data.train.images[forget], "forget_accuracy"),
            (built.data.test.images, "test_accuracy"),
        ):
            labels = built.data.train.labels[forget] if "forget" in key else built.data.test.labels
            logits = built.model.apply(variables, data, train=False)[0].logits
            right = np.asarray(logits).argmax(axis=1) == labels
            assert float(row[key]) == pytest.approx(right.mean())


def test_configuration_environment_curves_and_figures_are_kept(finished):
    assert json.loads((finished / "config.json").read_text())["bank"]["models"] == 24
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["jax"] == jax.__version__
    assert environment["rumjax"] == rumjax.__version__
    curves = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    epochs = {"original": 2, "retrain_reference": 2, "finetune_rum_f": 6, "mixed": 3}
    for name, count in epochs.items():
        assert sum(curve["name"] == name for curve in curves) == count
    assert all(np.isfinite(curve["loss"]) for curve in curves)
    assert len(list((finished / "figures").glob("*.png"))) >= 5
    assert "tiny" in (finished / "report.html").read_text()
    assert not list(finished.rglob(".partial-*"))


@pytest.mark.usefixtures("no_figures")
def test_requests_by_row_forget_those_images_from_the_command_line_a_file_and_python(
    tmp_path, capsys
):
    # A user's file without validation images, one image of which is there twice.
    random = np.random.default_rng(7)
    images = random.integers(0, 256, (SIZE, 8, 8, 1)).astype(np.uint8)
    labels = random.permutation(np.arange(SIZE) % 3)
    rows = random.choice(SIZE - 1, 12, replace=False).tolist()
    images[-1], labels[-1] = images[rows[0]], labels[rows[0]]
    tests = {"test_images": 255 - images[:30], "test_labels": labels[:30]}
    np.savez(tmp_path / "data.npz", train_images=images, train_labels=labels, **tests)
    write_config(tmp_path, "mine.py", "config.methods = {}")
    (tmp_path / "ids.txt").write_text("\n".join(map(str, rows)))
    sections = {
        "line": f"{{'by': 'examples', 'examples': {tuple(rows)}}}",
        "file": f"{{'by': 'file', 'path': '{tmp_path}/ids.txt'}}",
    }
    for name, section in sections.items():
        work = tmp_path / name
        assert start(tmp_path / "mine.py", work, f"--config.forget={section}") == 0
        assert "1 of 12 images to forget have a copy" in " ".join(capsys.readouterr().out.split())
        forget = arrays(work / "forget_sets.npz")
        assert forget["source_rows"][forget["forget"]].tolist() == sorted(rows)
        assert [int(line["row"]) for line in table(work / "forget_sets.csv")] == sorted(rows)

        # By pixels: D is what was loaded with the same images kept.
        splits = sources.load("npz", data_dir=tmp_path / "data.npz", keep=rows)
        assert len(splits.validation.labels) == 12
        np.testing.assert_array_equal(splits.train.images[forget["forget"]], images[sorted(rows)])
        np.testing.assert_array_equal(sources.locate(splits, rows), forget["forget"])

        # Every example of D, V and T says where it comes from.
        examples = arrays(work / "examples.npz")
        both = np.concatenate([examples["train_rows"], examples["validation_rows"]])
        assert sorted(both) == list(range(SIZE))
        hashes = sources.hashes(splits.train).tolist()
        assert [bytes(row).hex() for row in examples["train_sha256"]] == hashes
