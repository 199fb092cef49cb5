"""From the command line to the report, on data so small that a run takes seconds."""

import csv
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import rumjax
from rumjax import launch
from rumjax.lab import experiment, progress
from rumjax.lab.workdir import WorkDirectory
from rumjax.scores import PROXIES, random_subset
from tests.tiny import CLASSES, LEVEL, SIZE, TESTS, environment, write_config, write_data

LINES = {
    ("retrain", "reference"),
    ("retrain", "second"),
    ("original", "vanilla"),
    ("finetune", "vanilla"),
    ("finetune", "rum_f"),
    ("original>finetune>neggrad_plus", "rum"),
}
TIMES = ("seconds", "rte", "rte_with_scores")


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with data and a configuration."""
    folder = tmp_path_factory.mktemp("place")
    write_data(folder / "data.npz")
    write_config(folder)
    return folder


@pytest.fixture(scope="session")
def finished(place):
    """A run from images to the report, to be looked at and not to be changed."""
    assert start(place / "tiny.py", place / "finished") == 0
    return place / "finished"


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run, to be changed."""
    return pathlib.Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def no_figures(monkeypatch):
    """They take longer than all the training here."""
    monkeypatch.setattr("rumjax.lab.report.figures.draw", lambda *_: [])


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something is trained")

    monkeypatch.setattr("rumjax.ensemble.run", refuse)


@pytest.fixture
def made(monkeypatch):
    """The names of the models, pieces of the bank, and rows that are made."""
    names = []
    save_model, writing = WorkDirectory.save_model, WorkDirectory.writing

    def save(self, name, variables):
        names.append(name)
        save_model(self, name, variables)

    def write(self, name):
        if re.match(r"bank/\d|rows/", name):
            names.append(name.removesuffix(".json").removesuffix(".npz"))
        return writing(self, name)

    monkeypatch.setattr(WorkDirectory, "save_model", save)
    monkeypatch.setattr(WorkDirectory, "writing", write)
    return names


def start(config, work, *arguments):
    return launch.main([f"--config={config}", f"--workdir={work}", "--cpu_devices=8", *arguments])


def table(path, without=()):
    """A CSV file as dictionaries, without some columns."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {key: value for key, value in row.items() if not key.startswith(tuple(without))}
        for row in rows
    ]


def arrays(path):
    with np.load(path) as archive:
        return dict(archive)


def contents(folder):
    """All files but those that each start writes anew."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", "environment.json")
    }


def same_results(one, other):
    """Two runs agree in everything but their timings."""
    for name in ("results.csv", "summary.csv"):
        assert table(one / name, TIMES) == table(other / name, TIMES)
    for name in ("scores.npz", "forget_sets.npz"):
        ours, theirs = arrays(one / name), arrays(other / name)
        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {"bank_seconds", "bank_seconds_compiling"}:
            assert ours[key].tobytes() == theirs[key].tobytes(), key


# What a run leaves


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


# Going on


def test_the_same_command_again_trains_nothing_and_changes_nothing(place, run, no_training):
    before = contents(run)
    assert start(place / "tiny.py", run) == 0
    assert contents(run) == before


@pytest.mark.parametrize("every", [17, 29])
@pytest.mark.usefixtures("no_figures")
def test_a_run_interrupted_again_and_again_comes_to_the_same(
    place, finished, tmp_path, monkeypatch, every
):
    """Interrupted after so many epochs, models or writes, each time it is started."""
    ticks = 0
    stage, writing, save_model = progress.stage, WorkDirectory.writing, WorkDirectory.save_model

    def tick():
        nonlocal ticks
        ticks += 1
        if ticks == every:
            raise KeyboardInterrupt

    class Ticking:
        def __init__(self, *args):
            self.inner = stage(*args)

        def __enter__(self):
            advance = self.inner.__enter__()
            return lambda note: (advance(note), tick())

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

    def write(self, name):
        tick()
        return writing(self, name)

    def save(self, name, variables):
        tick()
        save_model(self, name, variables)
        tick()

    monkeypatch.setattr(progress, "stage", Ticking)
    monkeypatch.setattr(WorkDirectory, "writing", write)
    monkeypatch.setattr(WorkDirectory, "save_model", save)
    statuses = []
    while not statuses or statuses[-1] == 130:
        assert len(statuses) < 20
        ticks = 0
        statuses.append(start(place / "tiny.py", tmp_path / "run"))
    assert statuses[-1] == 0
    assert len(statuses) > 2
    same_results(tmp_path / "run", finished)


def test_a_killed_run_goes_on_and_devices_make_no_difference(place, finished, tmp_path):
    """Killed at a random moment, on two devices; the run to compare with had eight."""
    work = tmp_path / "run"
    command = [sys.executable, "-m", "rumjax.launch", f"--config={place / 'tiny.py'}"]
    command += [f"--workdir={work}", "--cpu_devices=2"]
    variables = environment(tmp_path / "compiled")
    random = np.random.default_rng()
    moment = int(random.integers(1, 21))
    log = tmp_path / "log.txt"
    with (
        open(log, "w") as output,
        subprocess.Popen(command, env=variables, stdout=output, stderr=output) as process,
    ):
        while len(list(work.glob("[bcdr]*/*"))) < moment and process.poll() is None:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, log.read_text()
    assert not (work / "summary.csv").exists(), moment
    again = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert again.returncode == 0, f"{moment}: {again.stdout}{again.stderr}"
    same_results(work, finished)


@pytest.mark.usefixtures("no_figures")
def test_more_seeds_leave_the_others_alone(place, run, made):
    before = table(run / "results.csv")
    assert start(place / "tiny.py", run, "--config.seeds=2") == 0
    assert len(made) == 3 + 6
    assert all(name.endswith("_seed1") for name in made)
    after = table(run / "results.csv")
    assert [row for row in after if row["seed"] == "0"] == before
    assert len(after) == 2 * len(LINES)
    assert all(np.isfinite(float(row["tow_half_width"])) for row in table(run / "summary.csv"))
    # Seeds are runs of their own, and fewer of them may be asked for again.
    by_seed = {row["seed"]: row["test_accuracy"] for row in after if row["name"] == "original"}
    assert len(by_seed) == 2
    assert start(place / "tiny.py", run) == 0
    assert table(run / "results.csv") == before


@pytest.mark.usefixtures("no_figures")
def test_another_method_leaves_the_others_alone(place, run, made):
    before = table(run / "results.csv")
    write_config(place, "more.py", 'config.methods["again"] = shuffle(finetune)')
    assert start(place / "more.py", run) == 0
    assert made == ["rows/again_seed0"]
    after = table(run / "results.csv")
    assert [row for row in after if row["name"] != "again"] == before
    assert len(after) == len(before) + 1


@pytest.mark.usefixtures("no_figures")
def test_whatever_is_deleted_is_made_anew(place, finished, run, made):
    gone = ["checkpoints/oracle_reference_seed0", "dynamics/seed0.npz", "rows/mixed_seed0.json"]
    gone += ["scores.npz", "forget_sets.npz", sorted((run / "bank").iterdir())[1]]
    for name in gone:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert start(place / "tiny.py", run) == 0
    assert set(made) == {
        "original_seed0",
        "oracle_reference_seed0",
        "rows/retrain_reference_seed0",
        "rows/mixed_seed0",
        "bank/00001",
    }
    same_results(run, finished)


# Another configuration


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rate=0.2", "'original' .*training.learning_rate: 0.1, now 0.2"),
        ("model.options.hidden=9", "'original' .*model.options.hidden: 8, now 9"),
        ("bank.seed=1", "'bank' .*bank.seed: 0, now 1"),
        ("bank.models=30", "'scores' .*models: 24, now 30"),
        ("forget.size=9", "'forget_sets' .*forget.size: 10, now 9"),
        ("seed=1", "'scores' .*first_seed: 0, now 1"),
        ("attack.samples=5", "'oracle' .*attack.samples: None, now 5"),
        (
            "methods.mixed.select.high.learning_rate=0.1",
            r"'unlearn/mixed' .*method.select.high.learning_rate: 0.02, now 0.1",
        ),
    ],
)
def test_a_changed_configuration_is_refused(
    place, finished, no_training, capsys, override, message
):
    before = contents(finished)
    assert start(place / "tiny.py", finished, f"--config.{override}") == 1
    error = capsys.readouterr().err
    assert "WorkDirectoryError" in error
    assert re.search(message, error)
    assert "--recompute=" in error
    assert contents(finished) == before


def test_changed_images_are_refused_and_moved_ones_are_not(place, run, tmp_path, capsys):
    for folder in ("moved", "other"):
        (tmp_path / folder).mkdir()
        write_config(tmp_path / folder)
    shutil.copy(place / "data.npz", tmp_path / "moved")
    write_data(tmp_path / "other" / "data.npz", train_labels=np.arange(SIZE) % CLASSES)
    before = contents(run)
    assert start(tmp_path / "other" / "tiny.py", run) == 1
    assert "data.sha256: " in capsys.readouterr().err
    assert contents(run) == before
    assert start(tmp_path / "moved" / "tiny.py", run) == 0


ROWS = {f"rows/{name}_seed0" for name in ("original", "finetune_vanilla", "finetune_rum_f")}
ROWS |= {"rows/mixed_seed0"}
RETRAINED = {f"rows/retrain_{which}_seed0" for which in ("reference", "second")}
RETRAINED |= {f"oracle_{which}_seed0" for which in ("reference", "second")}
BANK = {f"bank/{model:05d}" for model in range(24)}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("unlearn/mixed", {"rows/mixed_seed0"}),
        ("unlearn", ROWS),
        ("oracle", ROWS | RETRAINED),
        ("scores", ROWS | RETRAINED),
        ("original", ROWS | RETRAINED | BANK | {"original_seed0"}),
    ],
)
@pytest.mark.usefixtures("no_figures")
def test_a_stage_is_made_anew_with_those_after_it_and_no_other(
    place, finished, run, made, stage, expected
):
    assert start(place / "tiny.py", run, f"--recompute={stage}") == 0
    assert set(made) == expected
    assert len(made) == len(expected)
    same_results(run, finished)


@pytest.mark.usefixtures("no_figures")
def test_a_changed_method_is_accepted_if_made_anew(place, run, made):
    change = "--config.methods.mixed.select.high.learning_rate=0.1"
    assert start(place / "tiny.py", run, change, "--recompute=unlearn/mixed") == 0
    assert made == ["rows/mixed_seed0"]
    assert start(place / "tiny.py", run, change) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recompute=unlearn", "--recompute=bnk"], "did you mean 'bank'"),
        (["--recompute=unlearn/mixd"], "did you mean 'unlearn/mixed'"),
        (["--recompute=oracle/mixed"], "unknown stage to recompute"),
        (["--recompute=unlearn/*"], "unknown stage to recompute"),
        (["--recompute=oracle", "--config.training.epochs=3"], "'original'"),
        (["--recompute=unlearn", "--config.forget.size=50"], "nothing of 120 examples to retain"),
    ],
)
def test_nothing_is_deleted_by_a_command_that_is_refused(
    place, finished, no_training, capsys, arguments, message
):
    before = contents(finished)
    assert start(place / "tiny.py", finished, *arguments) == 1
    assert message in capsys.readouterr().err
    assert contents(finished) == before


# What goes wrong


@pytest.mark.usefixtures("no_figures")
def test_training_that_diverges_leaves_nothing_and_may_be_mended(place, finished, tmp_path, capsys):
    work = tmp_path / "run"
    assert start(place / "tiny.py", work, "--config.training.learning_rate=1e30") == 1
    error = capsys.readouterr().err
    assert "DivergenceError" in error
    assert "Try a learning_rate below" in error
    assert not list(work.glob("rows/*")) + list(work.glob("checkpoints/*"))
    assert start(place / "tiny.py", work) == 0
    same_results(work, finished)


@pytest.mark.usefixtures("no_figures")
def test_unlearning_that_diverges_leaves_no_row_and_may_be_mended(place, finished, run, capsys):
    (run / "rows" / "finetune_rum_f_seed0.json").unlink()
    rows = set((run / "rows").iterdir())
    select = "--config.methods.finetune_rum_f.select.medium.learning_rate=1e30"
    assert start(place / "tiny.py", run, select) == 1
    error = capsys.readouterr().err
    assert "DivergenceError: finetune rum_f: Finetune (medium, seed 0) diverged" in error
    assert set((run / "rows").iterdir()) == rows
    assert start(place / "tiny.py", run) == 0
    same_results(run, finished)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": np.full(TESTS, 3)}, "60 labels are outside 0…2, the first is 3"),
        ({"train_labels": np.full(SIZE, -1)}, "labels are outside"),
        (
            {
                "train_labels": np.zeros(SIZE, int),
                "validation_labels": np.zeros(9, int),
                "test_labels": np.zeros(TESTS, int),
            },
            "num_classes: wanted a whole number of at least 2, got 1",
        ),
        ({"train_labels": np.zeros(SIZE)}, "wanted integer labels"),
        ({"train_images": np.zeros((SIZE, 8, 8, 1))}, "wanted images of uint8, got float64"),
        ({"test_images": np.zeros((TESTS, 9, 9, 1), np.uint8)}, "9"),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path, no_training, capsys, changes, message):
    write_data(tmp_path / "data.npz", **changes)
    write_config(tmp_path)
    assert start(tmp_path / "tiny.py", tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert "InvalidInputError" in error
    assert message in error


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("3\n120\n", "1 of 2 indices are outside 0…119, the first is 120"),
        ("-1\n", "the first is -1"),
        ("3\n4\n3\n", "1 duplicated indices, the first is 3"),
        ("\n".join(map(str, range(SIZE))), "covers all 120 examples"),
        ("3.5\n", "cannot be read"),
        ("three\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_forget_file_that_cannot_be_used_is_refused_before_training(
    place, tmp_path, no_training, capsys, lines, message
):
    path = tmp_path / "forget.txt"
    if lines is not None:
        path.write_text(lines)
    write_config(place, "file.py", f'config.forget = {{"by": "file", "path": {str(path)!r}}}')
    assert start(place / "file.py", tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert "InvalidInputError" in error
    assert message in error


def test_an_empty_forget_file_is_refused_before_training(place, tmp_path, no_training, capsys):
    np.save(tmp_path / "empty.npy", np.empty(0, np.int64))
    path = str(tmp_path / "empty.npy")
    write_config(place, "file.py", f'config.forget = {{"by": "file", "path": {path!r}}}')
    assert start(place / "file.py", tmp_path / "run") == 1
    assert "no indices; at least one is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("config.bank.models = 3", "were seen by all 3 models or by none"),
        ("config.bank.fraction = 0.0", "some must be in and some out"),
        ("config.forget.size = 40", "three levels of 40 leave nothing"),
        ('config.model = {"name": "vgg16"}', "it needs 32×32"),
        ("config.attack.samples = -1", "attack.samples"),
    ],
)
def test_what_would_fail_after_training_fails_before(
    place, tmp_path, no_training, capsys, more, message
):
    write_config(place, "late.py", more)
    assert start(place / "late.py", tmp_path / "run") == 1
    assert message in capsys.readouterr().err


def test_a_method_that_does_not_suit_the_forget_set_is_found_before_oracles(
    place, run, no_training, capsys
):
    shutil.rmtree(run / "checkpoints" / "oracle_second_seed0")
    more = 'config.methods["fine"] = rum_f(finetune, parts=[f"p{i}" for i in range(31)])'
    write_config(place, "parts.py", more)
    assert start(place / "parts.py", run) == 1
    assert "part 'p30' is empty" in capsys.readouterr().err


def test_a_work_directory_in_use_is_refused(place, run, capsys):
    with WorkDirectory(run):
        assert start(place / "tiny.py", run) == 1
    assert "in use by another process" in capsys.readouterr().err


# Your own model

MODULE = """
import flax.linen as nn


class Linear(nn.Module):
    num_classes: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.num_classes)(self.scale * images.reshape(len(images), -1))
"""


@pytest.mark.usefixtures("no_figures")
def test_a_model_of_your_own_without_embeddings_or_bank_runs(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_linear_model.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    more = """config.model = {"name": "own_linear_model:Linear", "options": {"scale": 0.5}}
    config.forget = {"by": "random", "size": 12}
    config.methods = {"mine": shuffle(finetune, parts=("one", "two"))}"""
    write_config(place, "own.py", more)
    assert start(place / "own.py", tmp_path / "run") == 0
    found = arrays(tmp_path / "run" / "scores.npz")
    assert set(found) == set(PROXIES)
    assert len(arrays(tmp_path / "run" / "forget_sets.npz")["random"]) == 12
    assert len(table(tmp_path / "run" / "results.csv")) == 4
    capsys.readouterr()
    write_config(place, "own.py", more.replace('"random", "size": 12', '"entanglement", "size": 3'))
    assert start(place / "own.py", tmp_path / "other") == 1
    assert "its embeddings are needed" in capsys.readouterr().err
