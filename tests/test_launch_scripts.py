"""The scripts of launch/: what they would do, and when they try again."""

import os
import pathlib
import signal
import stat
import subprocess
import time

import pytest

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


@pytest.mark.parametrize(
    ("script", "arguments", "more", "wanted"),
    [
        ("until_done.sh", (), {}, [RUN]),
        (
            "several_processes.sh",
            ("3",),
            {"GPUS": "2"},
            [
                f"CUDA_VISIBLE_DEVICES={index % 2} {LAUNCH}/until_done.sh --process={index} "
                f"--processes=3 --config=x.py --workdir=shared > logs/process{index}.log 2>&1 &"
                for index in range(3)
            ],
        ),
        ("slurm_array.sh", (), {}, [RUN, "scontrol requeue"]),
        ("slurm_nodes.sh", (), {}, ["srun --no-kill --kill-on-bad-exit=0", "scontrol requeue"]),
        (
            "tpu_vm.sh",
            (),
            {**TPU, "SPOT": "1"},
            [
                "create rum --zone=here --accelerator-type=v4-32 --version=tpu-ubuntu2204-base "
                "--spot",
                "ssh rum --zone=here --worker=all --command=pip install -U 'rumjax[tpu,gcs] @ git",
                RUN,
                "delete rum --zone=here --quiet",
            ],
        ),
        (
            "tpu_vm.sh",
            (),
            {**TPU, "HOSTS": "4"},
            ["create", "pip", "TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1", "del"],
        ),
    ],
)
def test_a_dry_run_prints_what_would_be_done_and_does_nothing(
    tmp_path, script, arguments, more, wanted
):
    for name in ("python", "srun", "scontrol", "gcloud"):
        stand_in(tmp_path, name, "exit 0")
    found = start(script, *arguments, folder=tmp_path, DRY_RUN="1", **more)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert len(lines) == len(wanted)
    for line, part in zip(lines, wanted, strict=True):
        assert part in line
    assert calls(tmp_path) == []
    assert not (tmp_path / "logs").exists()


def test_a_host_of_a_pod_slice_knows_which_process_it_is(tmp_path):
    found = start("tpu_vm.sh", folder=tmp_path, DRY_RUN="1", HOSTS="4", **TPU)
    assert f"{RUN} --process=$I --processes=4" in found.stdout
    assert "agent-worker-number" in found.stdout


def test_processes_on_cores_share_them_out(tmp_path):
    found = start("several_processes.sh", "2", folder=tmp_path, DRY_RUN="1", GPUS="")
    each = max(1, len(os.sched_getaffinity(0)) // 2)
    assert found.stdout.count(f"--cpu_devices={each} ") == 2


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


@pytest.mark.parametrize("script", [("until_done.sh",), ("several_processes.sh", "2")])
def test_sigterm_is_passed_on_and_ends_the_loop(tmp_path, script):
    stand_in(tmp_path, "python", OBEDIENT)
    count = 2 if len(script) > 1 else 1
    name, *arguments = script
    with subprocess.Popen(
        [LAUNCH / name, *arguments, "--config=x.py"], env=environment(tmp_path), cwd=tmp_path
    ) as process:
        wait_for(lambda: len(calls(tmp_path)) == count)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 75
    assert len(calls(tmp_path)) == count


# Several processes


def test_every_process_knows_its_number_and_is_started_again(tmp_path):
    stand_in(tmp_path, "python", statuses(tmp_path, 137, 0, 0, 0))
    found = start("several_processes.sh", "3", folder=tmp_path, GPUS="1")
    assert found.returncode == 0, found.stderr
    assert len(calls(tmp_path)) == 4
    for index in range(3):
        assert any(f"--process={index} --processes=3" in call for call in calls(tmp_path))
    logs = [path.read_text() for path in sorted((tmp_path / "logs").glob("process*.log"))]
    assert len(logs) == 3
    assert sum("starting again" in log for log in logs) == 1


def test_the_worst_status_of_all_is_the_scripts(tmp_path):
    stand_in(tmp_path, "python", statuses(tmp_path, 0, 2, 1))
    assert start("several_processes.sh", "3", folder=tmp_path, GPUS="1").returncode == 2


# SLURM and Cloud TPU


@pytest.mark.parametrize("script", ["slurm_array.sh", "slurm_nodes.sh"])
@pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (75, True)])
def test_a_job_that_was_told_to_stop_goes_back_into_the_queue(tmp_path, script, status, requeued):
    program = "python" if script == "slurm_array.sh" else "srun"
    stand_in(tmp_path, program, statuses(tmp_path, status))
    stand_in(tmp_path, "scontrol", "exit 0")
    ids = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    assert start(script, folder=tmp_path, **ids).returncode == status
    job = "12_3" if script == "slurm_array.sh" else "12"
    assert (f"scontrol requeue {job}" in calls(tmp_path)) == requeued


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
