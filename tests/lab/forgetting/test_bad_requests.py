"""Requests and configurations that cannot be carried out: a clear line, and nothing is trained."""

import json

import numpy as np
import pytest

from rumjax import forget
from tests.lab.forgetting import offices


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


def refused(capsys, config, requests, work, *arguments):
    """The line that the command ends with, which has logged nothing."""
    capsys.readouterr()
    assert offices.start(config, requests, work, *arguments) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert not (work / "requests/log.jsonl").exists()
    assert not list(work.glob("requests/batch_*"))
    return " ".join(said.err.split())


TABLES = {
    "": "is empty",
    "request,received,index\n": "names no request",
    "request,received,colour\nr1,2026-11-26,red\n": "colour",
    "request,received\nr1,2026-11-26\n": "index",
    "request,received,index\nr1,yesterday,3\n": "yesterday",
    "request,received,index\nr1,2026-11-26,1000\n": "1000",
    "request,received,index\nr1,2026-11-26,3\nr2,2026-11-26,3\n": "same example in several",
}


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("text", TABLES)
def test_tables(foreign, work, tmp_path, capsys, text):
    path = tmp_path / "requests.csv"
    path.write_text(text)
    assert TABLES[text] in refused(capsys, foreign / "foreign.py", path, work)


@pytest.mark.usefixtures("no_training")
def test_images_that_no_model_has_seen(foreign, work, tmp_path, capsys):
    from rumjax.data import hashes, load

    splits = load("npz", data_dir=foreign / "data.npz")
    for name, part in (("test", splits.test), ("validation", splits.validation)):
        row = "r1", "2026-11-26", hashes(part)[0]
        requests = offices.write_requests(
            tmp_path / f"{name}.csv", row, columns="request,received,sha256"
        )
        error = refused(capsys, foreign / "foreign.py", requests, work)
        assert name in error, error


@pytest.mark.usefixtures("no_training")
def test_all_of_d(foreign, work, tmp_path, capsys):
    requests = offices.asked(tmp_path / "all.csv", r1=range(offices.SIZE))
    error = refused(capsys, foreign / "foreign.py", requests, work)
    assert "all 96 examples of D are forgotten, so that nothing is left" in error


def test_all_of_a_class(foreign, work, tmp_path):
    """It works: what is compared with V of the class is, and there is no R of it."""
    labels = np.load(foreign / "data.npz")["train_labels"]
    requests = offices.asked(tmp_path / "class.csv", r1=np.flatnonzero(labels == 1))
    assert offices.start(foreign / "foreign.py", requests, work) == 0
    assert offices.certificate(work, 1)["level"] == "C"


@pytest.mark.usefixtures("no_training")
def test_without_validation_images(foreign, work, tmp_path, capsys):
    with np.load(foreign / "data.npz") as archive:
        parts = {name: archive[name] for name in archive if "validation" not in name}
    np.savez(tmp_path / "data.npz", **parts)
    data = '    config.data = {"name": "npz", "data_dir": "PATH", "validation_fraction": 0.0}'
    more = data.replace("PATH", str(tmp_path / "data.npz"))
    config = offices.write_config(tmp_path, "none.py", more, data=foreign)
    requests = offices.asked(tmp_path / "requests.csv", r1=[3])
    error = refused(capsys, config, requests, work)
    assert "the model is judged on validation images that it never saw, and there are none" in error


SETTINGS = {
    "budget=0.01": "does not allow for|together more than forgetting.budget",
    "budget=0.3": "together more than forgetting.budget, 0.3",
    "budget=0.0": "above 0",
    "p_value=2.0": "p_value",
    "candidates.finetune.select.all.algorithm=finetuned": "finetuned",
}


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("setting", SETTINGS)
def test_settings(foreign, work, tmp_path, capsys, setting):
    requests = offices.asked(tmp_path / "requests.csv", r1=[3])
    option = f"--config.forgetting.{setting}"
    error = refused(capsys, foreign / "foreign.py", requests, work, option)
    assert any(word in error for word in SETTINGS[setting].split("|")), error


@pytest.mark.usefixtures("no_training")
def test_own_candidates_need_room(foreign, work, tmp_path, capsys):
    config = offices.write_config(
        tmp_path, "own.py", "    del config.forgetting.candidates\n", data=foreign
    )
    requests = offices.asked(tmp_path / "requests.csv", r1=[3])
    error = refused(capsys, config, requests, work, "--config.forgetting.budget=0.05")
    assert "does not allow for an epoch of any algorithm" in error


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("section", ["data", "model", "training"])
def test_sections_that_lack(foreign, work, tmp_path, capsys, section):
    config = offices.write_config(tmp_path, "lacks.py", f"    del config.{section}\n", data=foreign)
    requests = offices.asked(tmp_path / "requests.csv", r1=[3])
    assert f"the configuration lacks {section}" in refused(capsys, config, requests, work)


@pytest.mark.usefixtures("no_training")
def test_a_key_that_cannot_be_read(foreign, work, tmp_path, capsys):
    requests = offices.asked(tmp_path / "requests.csv", r1=[3])
    error = refused(capsys, foreign / "foreign.py", requests, work, "--sign=nowhere.pem")
    assert "nowhere.pem" in error


def test_a_changed_configuration_begins_a_batch_anew(foreign, work, tmp_path, monkeypatch, capsys):
    requests = offices.asked(tmp_path / "requests.csv", r1=[3])
    arguments = foreign / "foreign.py", requests, work
    with monkeypatch.context() as patch:
        patch.setattr("rumjax.lab.forgetting.fulfilling.weigh", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            offices.start(*arguments)
    rate = "--config.forgetting.candidates.finetune.select.all.learning_rate=0.05"

    # Not without its requests.
    other = offices.asked(tmp_path / "other.csv", r2=[4])
    assert offices.start(foreign / "foreign.py", other, work, rate) == 1
    assert "r1 of it are not in this table" in " ".join(capsys.readouterr().err.split())
    assert offices.start(*arguments, rate) == 0
    assert offices.states(work)[:3] == [("received", 1), ("superseded", 1), ("received", 2)]
    assert offices.certificate(work, 2)["steps"][0]["options"]["learning_rate"] == 0.05
    assert offices.verify(work, 2) == 0
    assert not list(work.glob("requests/checkpoints/batch_*"))


COMMANDS = {
    (): "--config is missing",
    ("--config=CONFIG",): "--requests is missing",
    ("--verify=nothing.json",): "there is no file nothing.json",
    ("--verify=CONFIG",): "does not lie in a work directory",
    ("--verify=CONFIG", "--workdir=EMPTY"): "is no certificate",
    ("--purge",): "name the directory by --workdir",
    ("--purge", "--workdir=EMPTY"): "no request in",
    ("--purge", "--workdir=nowhere"): "there is no directory nowhere",
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands(foreign, tmp_path, capsys, command):
    config = str(foreign / "foreign.py")
    said = [one.replace("CONFIG", config).replace("EMPTY", str(tmp_path)) for one in command]
    assert forget.main(said) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert COMMANDS[command] in error
    assert "Traceback" not in error


def test_a_document_of_something_else(tmp_path, capsys):
    path = tmp_path / "requests/batch_0001/certificate.json"
    path.parent.mkdir(parents=True)
    for text, message in (("[]", "is no certificate"), ('{"batch": 1}', "kind is absent")):
        path.write_text(text)
        assert forget.main([f"--verify={path}"]) == 1
        said = capsys.readouterr()
        assert message in " ".join((said.out + said.err).split()), json.dumps(text)
