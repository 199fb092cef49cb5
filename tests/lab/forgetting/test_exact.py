"""Requests on an ensemble of shards are carried out exactly, and end alike when killed."""

import json
import shutil

import jax
import numpy as np
import pytest

from rumjax import ensemble, forget, launch, sisa
from rumjax.data import hashes
from rumjax.errors import InvalidInputError
from rumjax.lab import experiment, files
from rumjax.lab.context import stage_key
from rumjax.lab.forgetting import certificate, exact, gate
from rumjax.lab.forgetting.exact import Examples, located
from rumjax.lab.forgetting.records import BoundRecord, GateRecord
from rumjax.lab.workdir import WorkDirectory
from rumjax.models import predict
from tests import tiny

CONFIG = """
def get_config():
    return {
        "name": "shards",
        "seed": 0,
        "data": {"name": "npz", "data_dir": DATA},
        "model": {"name": "cnn", "options": {"widths": (), "hidden": 8}},
        "training": {"epochs": 3, "batch_size": 16, "learning_rate": 0.1},
        "sisa": {"shards": 3, "slices": 2, "seed": 1},
        "forgetting": {"validation_drop": 1.0, "retained_drop": 1.0},
    }
"""
BATCHES = ((3, 17), (40, 41, 42))
"""Positions in D that each of two batches names."""
CERTIFICATE = "requests/batch_{:04d}/certificate.json"


def table(path, number, names):
    lines = [f"r{number},2026-11-26,{name}" for name in names]
    path.write_text("\n".join(["request,received,sha256", *lines, ""]))


def write_without(folder, path, gone):
    """The data without some training images."""
    with np.load(folder / "data.npz") as archive:
        arrays = dict(archive)
    for name in ("train_images", "train_labels"):
        arrays[name] = np.delete(arrays[name], gone, axis=0)
    np.savez(path, **arrays)


def write_config(folder, data="data.npz"):
    (folder / "shards.py").write_text(CONFIG.replace("DATA", repr(str(folder / data))))


def start(folder, work, requests, *arguments):
    return forget.main(
        [
            f"--config={folder / 'shards.py'}",
            f"--requests={folder / requests}",
            f"--workdir={work}",
            "--cpu_devices=8",
            *arguments,
        ]
    )


def run_of(folder):
    config = launch.configuration(str(folder / "shards.py"))
    return experiment.build({**forget.UNUSED, **config})


def read(work, name):
    return json.loads((work / name).read_text())


def document(work, number):
    return read(work, CERTIFICATE.format(number))


def states_of(work):
    log = work / files.REQUESTS / files.LOG
    lines = log.read_text().splitlines() if log.exists() else []
    return [json.loads(line)["state"] for line in lines]


def lasting(it):
    """What a certificate says, but for times, the directory's salt, and what hangs on them."""
    left_out = ("issued", "content_sha256", "log_head", "cost", "derived")
    salted = ("requests", "data_before", "data_after")
    return {key: value for key, value in it.items() if key not in left_out + salted}


def kept(work, name):
    """An ensemble that was saved below `requests`."""
    with WorkDirectory(work) as opened:
        config = opened.read_json("requests/batch_0001/config.json")
        return exact.load(experiment.build(config), opened.below(files.REQUESTS), name)


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Has shards trained one after another, by one program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "fitting", lambda *_, **__: (jax.local_devices()[:1], 1))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    tiny.write_data(folder / "data.npz")
    write_config(folder)
    known = hashes(run_of(folder).data.train)
    for number, batch in enumerate(BATCHES, 1):
        table(folder / f"{number}.csv", number, known[list(batch)])
    return folder


@pytest.fixture(scope="module")
def first(folder):
    """The directory after the first batch."""
    assert start(folder, folder / "first", "1.csv") == 0
    return folder / "first"


@pytest.fixture(scope="module")
def second(folder, first):
    """The directory after the second batch."""
    work = folder / "second"
    shutil.copytree(first, work)
    assert start(folder, work, "2.csv") == 0
    return work


def test_the_ensemble_is_the_one_that_training_without_them_gives(folder, second):
    run = run_of(folder)
    plan = sisa.plan(run.size, shards=3, slices=2, seed=1)
    key = stage_key(0, "sisa")
    everything = sisa.train(key, plan, run.recipe, run.data.train)
    without = sisa.train(
        key, plan, run.recipe, run.data.train, already_forgotten=sorted(sum(BATCHES, ()))
    )
    assert document(second, 1)["original"]["digest"] == sisa.digest(everything)
    assert document(second, 2)["delivered"]["digest"] == sisa.digest(without)
    assert document(second, 2)["original"] == {
        **document(second, 2)["original"],
        "digest": document(second, 1)["delivered"]["digest"],
    }

    # It is delivered as a file that the library reads.
    pointer = read(second, "requests/delivered.json")
    path = second / "requests" / pointer["sisa"]
    loaded = sisa.load(path, run.model, run.data.train.images[:1])
    assert sisa.digest(loaded) == pointer["sha256"] == sisa.digest(without)


def test_the_certificate_says_how_exactly_it_was_made(folder, second):
    it = document(second, 2)
    assert not certificate.problems(it)
    assert (it["level"], it["outcome"]) == ("A", "retrained")
    plan = sisa.plan(tiny.SIZE, shards=3, slices=2, seed=1)
    price = sisa.cost(plan, 3, BATCHES[1], BATCHES[0])
    assert it["cost"]["share_of_retraining"] == pytest.approx(price.share)
    assert it["cost"]["budget"] is None
    steps = {step["name"]: step["options"]["first_slice"] for step in it["steps"]}
    assert steps == {f"shard {shard}": place for shard, place in price.retrained.items()}
    assert sum(step["examples"] for step in it["steps"]) == len(BATCHES[1])
    assert [bound["name"] for bound in it["gate"]["bounds"]] == [
        "certain loss of accuracy on V",
        "certain loss of accuracy on R",
    ]
    assert it["recipe"]["sisa"] == {"shards": 3, "slices": 2, "seed": 1}

    # Its accuracies are those of all shards together.
    run = run_of(folder)
    for name, part in (("V", run.data.validation), ("T", run.data.test)):
        row = next(one for one in it["evidence"] if one["name"] == f"accuracy on {name}")
        for key, saved in (
            ("value", "delivered_batch_0002"),
            ("of_original", "delivered_batch_0001"),
        ):
            voting = sisa.models(kept(second, saved))
            shares = sisa.predict(run.model, voting, part.images)
            assert row[key] == pytest.approx(np.mean(np.argmax(shares, 1) == part.labels))
    assert states_of(second) == ["received", "unlearned", "verified"] * 2
    assert len((second / files.FORGOTTEN).read_text().split()) == 1 + 5


def test_verify_makes_it_again_and_finds_a_changed_byte(second, tmp_path, capsys):
    command = f"--verify={second / CERTIFICATE.format(2)}"
    assert forget.main([command]) == 0
    assert "model made again: holds" in capsys.readouterr().out
    shutil.copytree(second, tmp_path / "changed")
    path = tmp_path / "changed/requests" / exact.file_of("delivered_batch_0002")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert forget.main([f"--verify={tmp_path / 'changed' / CERTIFICATE.format(2)}"]) == 1
    assert "delivered model: holds" not in capsys.readouterr().out


def test_images_may_go_once_they_are_forgotten(folder, first, second, tmp_path):
    write_without(folder, tmp_path / "fewer.npz", BATCHES[0])
    write_config(tmp_path, "fewer.npz")
    shutil.copy(folder / "2.csv", tmp_path)
    shutil.copytree(first, tmp_path / "work")
    # One model of all of D lies there, to compare with.
    run = run_of(folder)
    single = run.model.init(jax.random.key(5), run.data.train.images[:1])
    with WorkDirectory(tmp_path / "work") as opened:
        opened.save_model(files.original(0), single)
    assert start(tmp_path, tmp_path / "work", "2.csv") == 0
    one, other = (document(work, 2) for work in (tmp_path / "work", second))
    assert one["delivered"]["digest"] == other["delivered"]["digest"]
    right = np.argmax(predict(run.model, single, run.data.test.images).logits, 1)
    row = next(row for row in one["evidence"] if row["name"] == "accuracy on T of one model")
    assert row["value"] == pytest.approx(np.mean(right == run.data.test.labels))
    assert "deviation that normalize images are of D with it" in one["touched"]["S"]


@pytest.mark.parametrize("number", [1, 2])
def test_killed_at_a_write_it_goes_on_and_ends_alike(
    number, folder, first, second, tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    work, left = tmp_path / "work", [0]
    if number == 2:
        shutil.copytree(first, work)
    writing = WorkDirectory.writing

    def write(self, name):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return writing(self, name)

    # Every start may write one file more than the one before.
    monkeypatch.setattr(WorkDirectory, "writing", write)
    for allowed in range(1, 30):
        left[0] = allowed
        try:
            assert start(folder, work, f"{number}.csv") == 0
            break
        except Killed:
            states = states_of(work)
            written = (work / CERTIFICATE.format(number)).exists()
            assert written or states.count("verified") == number - 1
            if written:
                digest = document(work, number)["delivered"]["digest"]
                assert digest == sisa.digest(kept(work, f"delivered_batch_{number:04d}"))
    assert allowed > 3
    assert lasting(document(work, number)) == lasting(document(second, number))


def test_where_the_gate_refuses_the_ensemble_before_stays(
    folder, first, second, tmp_path, monkeypatch, capsys
):
    work = tmp_path / "work"
    shutil.copytree(first, work)
    missed = BoundRecord("loss of accuracy on V", "at most", 0.0, 0.1, False, 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(gate, "judge", lambda *_, **__: GateRecord(False, (missed,)))
        assert start(folder, work, "2.csv", "--or-retrain") == 3
    refused = read(work, "requests/batch_0002/refused.json")
    assert refused["delivered"]["digest"] == document(work, 1)["delivered"]["digest"]
    assert refused["candidate"]["digest"] == document(second, 2)["delivered"]["digest"]
    assert read(work, "requests/delivered.json")["batch"] == 1
    assert forget.main([f"--verify={work / 'requests/batch_0002/refused.json'}"]) == 0
    assert "model made again: holds" in capsys.readouterr().out

    # By the same bounds it is refused again; by others it is another batch.
    assert start(folder, work, "2.csv", "--or-retrain") == 3
    assert start(folder, work, "2.csv") == 0
    assert document(work, 3)["delivered"]["digest"] == refused["candidate"]["digest"]


def test_what_was_begun_stays(folder, second, tmp_path, capsys):
    for override in ("--config.sisa.shards=2", "--config.sisa=None"):
        assert start(folder, second, "2.csv", override) == 1
        assert "were begun with shards 3" in capsys.readouterr().err
    assert start(folder, second, "2.csv", "--config.training.epochs=4") == 1
    assert "which has epochs 3" in capsys.readouterr().err
    write_without(folder, tmp_path / "fewer.npz", [50])
    fewer = f"--config.data.data_dir={tmp_path / 'fewer.npz'}"
    assert start(folder, second, "2.csv", fewer) == 1
    assert "0 examples are new, and 1 are gone that no request named" in capsys.readouterr().err
    assert start(folder, tmp_path, "1.csv", "--config.original.path=m.npz") == 1
    assert "has no shards" in capsys.readouterr().err
    assert start(folder, tmp_path, "1.csv", "--config.sisa.slices=9") == 1
    assert "too few for 9 slices" in capsys.readouterr().err


def test_purge_keeps_what_later_requests_need(folder, second, tmp_path, capsys):
    work = tmp_path / "work"
    shutil.copytree(second, work)
    assert forget.main(["--purge", f"--workdir={work}"]) == 0
    assert [path.name for path in (work / "requests/checkpoints").iterdir()] == [
        "delivered_batch_0002"
    ]
    capsys.readouterr()
    assert forget.main([f"--verify={work / CERTIFICATE.format(2)}"]) == 0
    assert "delivered model: holds" in capsys.readouterr().out
    table(tmp_path / "3.csv", 3, hashes(run_of(folder).data.train)[[60]])
    shutil.copy(folder / "shards.py", tmp_path)
    assert start(tmp_path, work, "3.csv") == 0


def test_examples_are_found_by_hash_and_copies_by_row():
    known = Examples(np.array(["a", "b", "a", "c"]), np.arange(4))
    # The second copy was forgotten and is gone; rows have moved.
    now = Examples(np.array(["c", "a", "b"]), np.arange(3))
    none = np.array([], int)
    assert located(known, np.array([2]), now, none).tolist() == [3, 0, 1]
    # Both are there, and the first is the forgotten one.
    now = Examples(np.array(["a", "b", "a", "c"]), np.arange(4))
    assert located(known, np.array([0]), now, np.array([0])).tolist() == [-1, 1, 2, 3]
    with pytest.raises(InvalidInputError, match="1 examples are new, and 1 are gone"):
        located(known, none, Examples(np.array(["a", "b", "a", "d"]), np.arange(4)), none)
