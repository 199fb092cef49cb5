"""Whenever the command is stopped, log, models and certificates agree, and it goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rumjax.lab.forgetting import certificate, ledger
from rumjax.lab.workdir import WorkDirectory, differences
from tests.lab.forgetting import offices
from tests.runs import random_moments
from tests.tiny import environment

KILLS = 10
EVERY = 13
"""of the moments at which it may be stopped, so many are passed over at a time"""
TIMES = ("issued", "content_sha256", "log_head", "signature")


class Stopped(BaseException):
    """Stands for a program that is killed: nobody catches it."""


def check(work):
    """What is there agrees: every certificate has its model, and every line its certificate."""
    text = work / "requests/log.jsonl"
    if text.exists():
        assert not ledger.check_chain(text.read_text())
    lines = offices.log(work) if text.exists() else []
    models = {}
    for path in work.glob("requests/batch_*/certificate.json"):
        number = int(path.parent.name.removeprefix("batch_"))
        document = offices.certificate(work, number)
        assert not certificate.problems(document)
        assert any(line["hash"] == document["log_head"] for line in lines)
        models[number] = document["delivered"]["digest"], document["content_sha256"]
        folder = work / f"requests/checkpoints/delivered_batch_{number:04d}"
        saved = list(folder.glob("0/digest/metadata"))
        assert saved, f"batch {number} has a certificate, and no model"
        assert document["delivered"]["digest"] in saved[0].read_text()
    for line in lines:
        if line["state"] == "verified":
            details = line["details"]
            assert models[line["batch"]] == (details["model"], details["certificate"])


def result(work):
    """What comes of all batches, aside from times."""
    documents = []
    for path in sorted(work.glob("requests/batch_*/certificate.json")):
        document = offices.certificate(work, int(path.parent.name.removeprefix("batch_")))
        document["cost"].pop("seconds")
        # Hashes of examples have a salt of each directory.
        for request in document["requests"]:
            request["examples"] = len(request["examples"])
        for name in ("data_before", "data_after"):
            document[name].pop("manifest")
        documents.append({key: value for key, value in document.items() if key not in TIMES})
    return documents, offices.states(work), (work / "requests/forgotten.csv").read_text()


def same(work, other):
    (ours, *rest), (theirs, *others) = result(work), result(other)
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        assert differences(two, one) == []
    assert rest == others


@pytest.fixture(scope="module")
def whole(foreign, tmp_path_factory):
    """A directory of two batches that was never stopped, with the tables of both."""
    folder = tmp_path_factory.mktemp("whole")
    offices.asked(folder / "first.csv", r1=[5, 3])
    offices.asked(folder / "both.csv", r1=[5, 3], r2=[20])
    for name in ("first.csv", "both.csv"):
        assert offices.start(foreign / "foreign.py", folder / name, folder / "work") == 0
        if name == "first.csv":
            offices.copied(folder / "work", folder / "one")
    return folder


@pytest.fixture
def stopping(monkeypatch):
    """Stops the program before or after the k-th thing that it writes or deletes."""
    state = {"left": None, "after": False}

    def counted(function):
        def wrapper(*arguments, **options):
            if state["left"] is None:
                return function(*arguments, **options)
            state["left"] -= 1
            if state["left"] < 0 and not state["after"]:
                raise Stopped
            returned = function(*arguments, **options)
            if state["left"] < 0:
                raise Stopped
            return returned

        return wrapper

    monkeypatch.setattr(
        "rumjax.lab.storage.Folder.write", counted(sys.modules["rumjax.lab.storage"].Folder.write)
    )
    for name in ("save_model", "delete"):
        monkeypatch.setattr(WorkDirectory, name, counted(getattr(WorkDirectory, name)))
    monkeypatch.setattr(
        "rumjax.checkpoints.save_variables",
        counted(sys.modules["rumjax.checkpoints"].save_variables),
    )
    return state


def test_stopped_at_everything_that_is_written(whole, foreign, tmp_path, stopping):
    """The second batch: it is stopped at its first write, goes on and is stopped at the second …"""
    arguments = foreign / "foreign.py", whole / "both.csv"
    stops = 0
    for stops in range(int(random_moments().integers(EVERY)), 200, EVERY):
        stopping["left"], stopping["after"] = stops // 2, stops % 2 == 1
        again = offices.copied(whole / "one", tmp_path / f"{stops}")
        try:
            status = offices.start(arguments[0], arguments[1], again)
        except Stopped:
            status = None
        stopping["left"] = None
        check(again)
        if status == 0:
            break
        assert offices.start(arguments[0], arguments[1], again) == 0
        check(again)
        same(again, whole / "work")
        shutil.rmtree(again)
    assert 20 < stops < 199


@pytest.mark.lengthy
def test_killed_at_random_moments(whole, foreign, tmp_path):
    """The command itself, from the first batch on; see `random_moments` for its seed."""
    random, work = random_moments(), tmp_path / "work"
    command = [
        *(sys.executable, "-m", "rumjax.forget"),
        f"--config={foreign / 'foreign.py'}",
        f"--workdir={work}",
        "--cpu_devices=8",
    ]
    variables = environment(os.environ["JAX_COMPILATION_CACHE_DIR"])
    variables |= {"JAX_NUM_CPU_DEVICES": "8", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

    def killed(table, moment):
        """Kills the command after so many seconds; says whether it came to its end before."""
        program = subprocess.Popen(
            [*command, f"--requests={whole / table}"],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            said, _ = program.communicate(timeout=moment)
            assert program.returncode == 0, said.decode()
            return True
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGKILL)
            program.communicate()
            return False

    # How long it takes when all is compiled.
    start = time.monotonic()
    for table in ("first.csv", "both.csv"):
        assert killed(table, 300)
        shutil.rmtree(work) if table == "both.csv" else None
    seconds = (time.monotonic() - start) / 2
    kills = 0
    while kills < KILLS:
        for table in ("first.csv", "both.csv"):
            while kills < KILLS and not killed(table, random.uniform(0.3, 1.0) * seconds):
                kills += 1
                check(work)
            assert killed(table, 300)
            check(work)
        same(work, whole / "work")
        shutil.rmtree(work)
