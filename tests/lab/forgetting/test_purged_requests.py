"""What has seen forgotten examples is deleted; what serves the delivered model stays."""

import numpy as np
import pytest

from rumjax import forget, launch
from rumjax.data import hashes, load
from rumjax.lab import experiment
from rumjax.lab.starting import forgotten_in
from tests.lab.forgetting import offices

RUN = """
    config.seed, config.seeds = 0, 1
    config.bank = {"models": 8, "fraction": 0.5, "seed": 0, "per_device": 1}
    config.forget = {"by": "memorization", "size": 6}
    config.unlearning = {}
    config.methods = {"finetune_vanilla": vanilla(finetune)}
    config.attack = {"samples": None}
"""
GONE = [3, 10, 20]


@pytest.fixture(scope="module")
def purged(foreign, tmp_path_factory):
    """A run with a bank, in whose directory two batches were carried out, and then purged."""
    folder = tmp_path_factory.mktemp("purged")
    config, work = offices.write_config(folder, "run.py", RUN, data=foreign), folder / "work"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rumjax.lab.report.figures.draw", lambda *_: [])
        assert launch.main([f"--config={config}", f"--workdir={work}"]) == 0
    one = offices.asked(folder / "one.csv", r1=[3, 10])
    both = offices.asked(folder / "both.csv", r1=[3, 10], r2=[20])
    for requests in (one, both):
        assert offices.start(config, requests, work) == 0
    offices.copied(work, folder / "before")
    assert forget.main(["--purge", f"--workdir={work}"]) == 0
    return folder


def test_a_bank_is_evidence(purged):
    rows = {row["name"]: row for row in offices.certificate(purged / "before", 1)["evidence"]}
    assert "p-values up to 0" in rows
    assert 0 < rows["p-value of group against the bank"]["value"] <= 1
    assert offices.certificate(purged / "before", 1)["calibration"]


def test_what_has_seen_them_goes(purged):
    work, before = purged / "work", purged / "before"
    for pattern in (
        *("bank/0*.npz", "checkpoints/*", "dynamics/*", "rows/*", "scores.npz", "forget_sets.*"),
        *("examples.npz", "requests/checkpoints/brought", "requests/batch_0001/model.msgpack"),
    ):
        assert list(before.glob(pattern)), pattern
        assert not list(work.glob(pattern)), pattern
    (models,) = work.glob("requests/checkpoints/*")
    assert models.name == "delivered_batch_0002"
    assert (work / "requests/batch_0002/model.msgpack").exists()
    line = offices.log(work)[-1]
    assert line["state"] == "purged"
    assert set(line["details"]["deleted"]) >= {"scores.npz", "bank/00000.npz"}
    listed = {one["path"] for one in offices.certificate(work, 2)["derived"]}
    assert listed >= {"scores.npz", "bank/00000.npz", "requests/batch_0001/model.msgpack"}
    models = {f"requests/checkpoints/delivered_batch_000{number}" for number in (1, 2)}
    assert listed & models == {"requests/checkpoints/delivered_batch_0001"}


def test_certificates_say_what_cannot_be_checked_any_more(purged, capsys):
    for number, skipped in ((1, 4), (2, 2)):
        assert offices.verify(purged / "work", number) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sum("not checked" in line for line in lines) == skipped, lines


def test_later_requests_still_work(purged, tmp_path):
    work = offices.copied(purged / "work", tmp_path / "work")
    requests = offices.asked(tmp_path / "more.csv", r1=[3, 10], r2=[20], r3=[50])
    assert offices.start(purged / "run.py", requests, work) == 0
    assert offices.verify(work, 3) == 0
    not_tested = offices.certificate(work, 3)["not_tested"]
    assert any("there is no bank of models" in line for line in not_tested)


def test_there_is_nothing_more_to_purge(purged, capsys):
    before = offices.log(purged / "work")
    assert forget.main(["--purge", f"--workdir={purged / 'work'}"]) == 0
    assert "there is nothing to purge" in capsys.readouterr().out
    assert offices.log(purged / "work") == before


def test_a_batch_that_was_begun_is_finished_first(purged, tmp_path, monkeypatch, capsys):
    work = offices.copied(purged / "work", tmp_path / "work")
    requests = offices.asked(tmp_path / "more.csv", r1=[3, 10], r2=[20], r3=[50])
    monkeypatch.setattr("rumjax.lab.forgetting.fulfilling.finish", lambda *_: 0)
    assert offices.start(purged / "run.py", requests, work) == 0
    assert forget.main(["--purge", f"--workdir={work}"]) == 1
    assert "batch 3 was begun and is not finished" in " ".join(capsys.readouterr().err.split())


def test_what_is_forgotten_stays_out_of_later_runs(purged, foreign):
    config = launch.configuration(str(purged / "run.py"), [])
    run = experiment.build({**config, **forgotten_in(str(purged / "work"), config)})
    gone = hashes(load("npz", data_dir=foreign / "data.npz").train)[GONE]
    assert run.size == offices.SIZE - len(GONE)
    assert not np.isin(gone, hashes(run.data.train)).any()
