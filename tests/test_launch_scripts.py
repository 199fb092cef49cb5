"""The scripts of launch/: what they would do, and when they try again."""

import os
import pathlib
import stat
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / "launch" / "until_done.sh"


def start(tmp_path, statuses, **environment):
    """Runs the script with a stand-in for Python that ends with one status after another."""
    stand_in = tmp_path / "python"
    counter = tmp_path / "count"
    counter.write_text("0")
    stand_in.write_text(
        "#!/bin/bash\n"
        f"n=$(cat {counter}); echo $((n + 1)) > {counter}\n"
        f"statuses=({' '.join(map(str, statuses))})\n"
        "exit ${statuses[$n]}\n"
    )
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    found = subprocess.run(
        [SCRIPT, "--config=x.py"],
        env={**os.environ, "PYTHON": str(stand_in), "PAUSE": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return found, int(counter.read_text())


def test_a_dry_run_prints_the_command_and_starts_nothing(tmp_path):
    found, started = start(tmp_path, [0], DRY_RUN="1")
    assert found.stdout.strip().endswith("-m rumjax.launch --config=x.py")
    assert started == 0


def test_a_killed_run_is_started_again_until_it_is_done(tmp_path):
    found, started = start(tmp_path, [137, 143, 0])
    assert (found.returncode, started) == (0, 3)


@pytest.mark.parametrize("status", [1, 2])
def test_an_error_that_starting_again_cannot_mend_ends_it(tmp_path, status):
    found, started = start(tmp_path, [status, 0])
    assert (found.returncode, started) == (status, 1)
