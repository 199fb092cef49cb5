"""The scripts of launch/: what they would do, and when they try again."""

import os
import pathlib
import re
import shlex
import signal
import stat
import subprocess
import time

import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker

from rumjax.lab import engines

LAUNCH = pathlib.Path(__file__).parent.parent / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
TPU = {"NAME": "rum", "ZONE": "here", "TYPE": "v4-32", "SOURCE": "git+https://example.org/rumjax"}
RUN = "-m rumjax.launch --config=x.py --workdir=shared"


def stand_in(folder, name, body):
    """A program that notes its arguments and does what the body says."""
    path = folder / name
    path.write_text(f'#!/bin/bash\necho {name} "$@" >> {folder}/calls\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def statuses(folder, *found):
    """A body that ends with one status after another, however many run at once."""
    (folder / "statuses").mkdir(exist_ok=True)
    for position, status in enumerate(found):
        (folder / "statuses" / f"{position:03d}").write_text(str(status))
    return (
        f"for each in {folder}/statuses/[0-9][0-9][0-9]; do\n"
        '  mv "$each" "$each.taken$$" 2>/dev/null || continue\n'
        '  status=$(cat "$each.taken$$"); rm "$each.taken$$"; exit "$status"\n'
        "done\nexit 99"
    )


def calls(folder):
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def environment(folder, **more):
    names = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": str(folder / "python")}
    return {**os.environ, **names, "PAUSE": "0", **more}


def start(script, *arguments, folder, **more):
    return subprocess.run(
        [LAUNCH / script, *arguments, "--config=x.py", "--workdir=shared"],
        env=environment(folder, **more),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_and_say_what_they_are_for(script):
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert os.access(script, os.X_OK)
    assert f"`{script.name}`" in (LAUNCH / "README.md").read_text()


def test_the_readme_names_every_file():
    named = set(re.findall(r"^\| `(\w+\.\w+)`", (LAUNCH / "README.md").read_text(), re.MULTILINE))
    assert named == {path.name for path in LAUNCH.iterdir()} - {"README.md"}


CREATE = "create rum --zone=here --accelerator-type=v4-32 --version=tpu-ubuntu2204-base"


@pytest.mark.parametrize("more", [{"SPOT": "1"}, {"HOSTS": "4"}])
def test_a_dry_run_prints_what_would_be_done_and_does_nothing(tmp_path, more):
    stand_in(tmp_path, "gcloud", "exit 0")
    found = start("tpu_vm.sh", folder=tmp_path, DRY_RUN="1", **TPU, **more)
    assert found.returncode == 0, found.stderr
    create, install, run, delete = found.stdout.splitlines()
    assert create.endswith(CREATE + " --spot" * ("SPOT" in more))
    assert "ssh rum --zone=here --worker=all --command=pip install -U 'rumjax[tpu,gcs," in install
    assert RUN in run
    assert "delete rum --zone=here --quiet" in delete
    assert calls(tmp_path) == []

    # A host of a pod slice knows which process it is.
    shared = re.search(r" --process=\$\(curl .*/agent-worker-number\) --processes=4$", run)
    assert bool(shared) == ("HOSTS" in more)


def commands_of_dask():
    """Commands of Dask that the manifest and the README give, as words."""
    manifest = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    for part in manifest:
        pod = part["spec"].get("template", {}).get("spec", {})
        yield from (container["args"] for container in pod.get("containers", []))
    for line in (LAUNCH / "README.md").read_text().splitlines():
        if "dask scheduler" in line or "dask worker" in line:
            yield shlex.split(line.removesuffix("&").removeprefix("srun"))


def test_commands_of_dask_are_ones_that_it_has():
    programs = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}
    found = [words for words in commands_of_dask() if words[0] == "dask"]
    assert sorted(words[1] for words in found) == ["scheduler", "scheduler", "worker", "worker"]
    for _, name, *options in found:
        given = programs[name].make_context(name, list(options)).params
        assert not [value for value in given["preload_argv"] if value.startswith("-")]
        if name == "worker":
            assert (given["nanny"], given["nthreads"], given["memory_limit"]) == (False, 1, "0")


def test_the_manifest_starts_the_run_on_its_scheduler():
    (words,) = (words for words in commands_of_dask() if words[0] == "python")
    options = dict(word.split("=", 1) for word in words if word.startswith("--"))
    kinds = [part["kind"] for part in yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())]
    assert kinds == ["Service", "NetworkPolicy", "Deployment", "Deployment", "Job"]
    assert words[:3] == ["python", "-m", "rumjax.launch"]
    assert engines.check(options["--engine"]) == "dask:tcp://rumjax:8786"


# Until it is done


@pytest.mark.parametrize("first", [(137,), (143, 139), (75,), (75, 75, 1 + 127)])
def test_a_killed_run_is_started_again_until_it_is_done(tmp_path, first):
    stand_in(tmp_path, "python", statuses(tmp_path, *first, 0))
    found = start("until_done.sh", folder=tmp_path)
    assert found.returncode == 0
    assert calls(tmp_path) == [f"python {RUN}"] * (len(first) + 1)


@pytest.mark.parametrize("status", [1, 2, 4, 130])
def test_an_error_that_starting_again_cannot_mend_ends_it(tmp_path, status):
    stand_in(tmp_path, "python", statuses(tmp_path, status, 0))
    assert start("until_done.sh", folder=tmp_path).returncode == status
    assert len(calls(tmp_path)) == 1


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


OBEDIENT = "trap 'exit 75' TERM\nwhile true; do sleep 0.05; done"


def test_sigterm_is_passed_on_and_ends_the_loop(tmp_path):
    stand_in(tmp_path, "python", OBEDIENT)
    command = [LAUNCH / "until_done.sh", "--config=x.py"]
    with subprocess.Popen(command, env=environment(tmp_path), cwd=tmp_path) as process:
        wait_for(lambda: len(calls(tmp_path)) == 1)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 75
    assert len(calls(tmp_path)) == 1


# SLURM and Cloud TPU


@pytest.mark.parametrize("script", ["slurm_array.sh", "slurm_nodes.sh"])
@pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (75, True)])
def test_a_job_that_was_told_to_stop_goes_back_into_the_queue(tmp_path, script, status, requeued):
    stand_in(tmp_path, "srun", statuses(tmp_path, status))
    stand_in(tmp_path, "scontrol", "exit 0")
    array = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16"}
    found = start(script, folder=tmp_path, SLURM_JOB_ID="12", **array)
    assert found.returncode == status
    run, *rest = calls(tmp_path)
    shared = script == "slurm_array.sh"
    assert run.endswith(RUN + " --share=3/16" * shared)
    assert rest == [f"scontrol requeue {'12_3' if shared else '12'}"] * requeued


def gcloud(folder, runs):
    """A cloud in which a TPU that was created is there until it is taken away.

    The runs end with statuses one after another; "gone" is one whose machine has vanished."""
    taken = statuses(folder, *(255 if run == "gone" else run for run in runs))
    gone = " ".join(str(index) for index, run in enumerate(runs) if run == "gone")
    body = f"""
case "$*" in
  *create*) touch {folder}/machine ;;
  *delete*) rm -f {folder}/machine ;;
  *describe*) [ -e {folder}/machine ] && echo READY ;;
  *rumjax.launch*)
    n=$(ls {folder}/statuses | wc -l)
    for each in {gone}; do [ $n = $(({len(runs)} - each)) ] && rm -f {folder}/machine; done
    {taken}
    ;;
esac
exit 0
"""
    stand_in(folder, "gcloud", body)


def did(folder, what):
    return sum(what in call for call in calls(folder))


def test_a_tpu_is_made_used_and_deleted(tmp_path):
    gcloud(tmp_path, [0])
    assert start("tpu_vm.sh", folder=tmp_path, **TPU).returncode == 0
    assert [did(tmp_path, each) for each in ("create", "pip install", RUN, "delete")] == [1] * 4
    assert not (tmp_path / "machine").exists()


def test_a_tpu_that_is_taken_away_is_made_anew(tmp_path):
    gcloud(tmp_path, ["gone", 255, "gone", 0])
    assert start("tpu_vm.sh", folder=tmp_path, **TPU).returncode == 0
    assert (did(tmp_path, "create"), did(tmp_path, RUN)) == (3, 4)


@pytest.mark.parametrize("status", [1, 4])
def test_a_run_that_starting_again_cannot_mend_ends_and_leaves_no_tpu(tmp_path, status):
    gcloud(tmp_path, [status])
    assert start("tpu_vm.sh", folder=tmp_path, **TPU).returncode == status
    assert did(tmp_path, RUN) == 1
    assert not (tmp_path / "machine").exists()
