"""A finished run of `tests.tiny`, and what keeps a test from drawing or training."""

import gc
import pathlib
import re
import shutil

import pytest

from rumjax.lab.workdir import WorkDirectory
from tests.lab.forgetting import offices
from tests.runs import stamps, start


@pytest.fixture(scope="session")
def finished(place):
    """A run from images to the report, to be looked at and not to be changed."""
    assert start(place / "tiny.py", place / "finished") == 0
    return place / "finished"


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    """A model that was trained without rumjax, with images; not to be changed."""
    folder = tmp_path_factory.mktemp("foreign")
    offices.write_data(folder / "data.npz")
    offices.train(folder / "model.msgpack", folder / "data.npz")
    offices.write_config(folder)
    return folder


@pytest.fixture(scope="session")
def stamps_of_finished(finished):
    return stamps(finished)


@pytest.fixture
def untouched(finished, stamps_of_finished):
    """The finished run, none of whose files a test may write, make or delete."""
    yield finished
    assert stamps(finished) == stamps_of_finished


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


@pytest.fixture
def collected():
    """No complaint of what Orbax leaves behind reaches a later test."""
    yield
    gc.collect()
