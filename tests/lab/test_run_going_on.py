"""A run goes on where it stopped, however it was stopped, and makes only what is missing."""

import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rumjax.lab import progress
from rumjax.lab.workdir import WorkDirectory
from tests.runs import LINES, contents, random_moments, same_results, start, table
from tests.tiny import environment, write_config


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


@pytest.mark.thorough
def test_a_killed_run_goes_on_and_devices_make_no_difference(place, finished, tmp_path):
    """Killed at a random moment, on two devices; the run to compare with had eight."""
    work = tmp_path / "run"
    command = [sys.executable, "-m", "rumjax.launch", f"--config={place / 'tiny.py'}"]
    command += [f"--workdir={work}", "--cpu_devices=2"]
    variables = environment(tmp_path / "compiled")
    random = random_moments()
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
