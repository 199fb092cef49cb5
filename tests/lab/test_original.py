"""A model that was trained elsewhere in the place of θo: read, held against the data, and used."""

import pathlib
import re

import flax.serialization
import flax.traverse_util
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

from rumjax import launch
from tests.lab.forgetting import offices
from tests.runs import arrays, table

RUN = """
    config.seed, config.seeds = 0, 2
    config.bank = {"models": 8, "fraction": 0.5, "seed": 0, "per_device": 1}
    config.forget = {"by": "random", "size": 6}
    config.unlearning = {}
    config.methods = {"finetune_vanilla": vanilla(finetune)}
    config.attack = {"samples": None}
"""


@pytest.fixture(scope="module")
def config(foreign, tmp_path_factory):
    return offices.write_config(tmp_path_factory.mktemp("config"), "run.py", RUN, data=foreign)


def start(config, work, *arguments):
    return launch.main([f"--config={config}", f"--workdir={work}", *arguments])


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    work = tmp_path_factory.mktemp("original") / "work"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rumjax.lab.report.figures.draw", lambda *_: [])
        assert start(config, work) == 0
    return work


@pytest.fixture
def read_alone(monkeypatch):
    """The command ends once the original model is there, whatever would come after it."""

    def end(*_):
        raise EnoughError

    monkeypatch.setattr("rumjax.lab.stages.bank.check", end)
    return EnoughError


class EnoughError(Exception):
    """What was wanted is there."""


def params(foreign):
    return flax.serialization.msgpack_restore((foreign / "model.msgpack").read_bytes())


def write_npz(folder, tree):
    flat = flax.traverse_util.flatten_dict(tree, sep="/")
    np.savez(folder / "model.npz", **flat)
    return folder / "model.npz"


def write_safetensors(folder, tree):
    flat = flax.traverse_util.flatten_dict(tree, sep=".")
    safetensors.numpy.save_file(
        {name: np.asarray(leaf) for name, leaf in flat.items()}, folder / "model.safetensors"
    )
    return folder / "model.safetensors"


def write_orbax(folder, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "model", {"params": tree})
    return folder / "model"


WRITERS = {
    "npz": write_npz,
    "safetensors": write_safetensors,
    "orbax": write_orbax,
}


@pytest.mark.parametrize("form", WRITERS)
def test_the_format_is_found_out(config, foreign, finished, tmp_path, capsys, read_alone, form):
    """And what is read is the same model, whatever format it is in."""
    path = WRITERS[form](tmp_path, params(foreign))
    with pytest.raises(read_alone):
        start(config, tmp_path / "work", f"--config.original.path={path}")
    assert f"{path}, read as" in " ".join(capsys.readouterr().out.split())
    ours, theirs = (arrays(work / "dynamics/seed0.npz") for work in (tmp_path / "work", finished))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_dynamics_are_of_one_look(finished):
    dynamics = arrays(finished / "dynamics/seed0.npz")
    assert dynamics["loss"].shape == (0,)
    assert dynamics["c_proxy"].shape == (offices.SIZE,)
    # Both seeds have the same model.
    other = arrays(finished / "dynamics/seed1.npz")
    for name, values in dynamics.items():
        np.testing.assert_array_equal(other[name], values)


def test_oracles_and_costs_are_of_the_recipe_given(finished):
    rows = table(finished / "results.csv")
    assert {row["method"] for row in rows} == {"retrain", "original", "finetune"}
    for row in rows:
        if row["method"] != "original":
            assert float(row["rte"]) > 0
    text = re.sub(r"\s+", " ", (finished / "report.html").read_text())
    assert "this recipe is the one given: the original model was trained elsewhere" in text


def error_of(capsys, config, work, *arguments):
    capsys.readouterr()
    assert start(config, work, *arguments) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in error
    assert not list(work.glob("checkpoints/*"))
    return error


@pytest.mark.usefixtures("no_training")
def test_another_network(config, foreign, tmp_path, capsys):
    error = error_of(capsys, config, tmp_path / "work", "--config.model.name=cnn")
    assert "Dense_0" in error or "missing" in error
    tree = params(foreign)
    tree["Dense_0"]["kernel"] = tree["Dense_0"]["kernel"].T
    path = write_npz(tmp_path, tree)
    error = error_of(capsys, config, tmp_path / "work", f"--config.original.path={path}")
    assert "Dense_0" in error
    assert re.search(r"16.{1,4}64", error)


@pytest.mark.usefixtures("no_training")
def test_what_is_not_there(config, tmp_path, capsys):
    error = error_of(capsys, config, tmp_path / "work", "--config.original.path=nowhere.msgpack")
    assert "there is no file or folder nowhere.msgpack" in error


WRONG = ("--config.model.mean=60.0", "--config.model.std=0.25")
"""Images that are as dark as none of those that the network was trained on."""


def test_wrong_normalization_is_found_by_the_accuracy(config, tmp_path, capsys, read_alone):
    error = error_of(capsys, config, tmp_path / "work", *WRONG)
    assert "no more than chance" in error
    assert "are its normalization (model.mean, model.std and model.pixels)" in error
    with pytest.raises(read_alone):
        start(config, tmp_path / "work", *WRONG, "--config.original.accept=True")
    assert list((tmp_path / "work").glob("checkpoints/original_seed*"))


def test_a_model_that_has_seen_v(foreign, config, tmp_path, capsys, read_alone):
    """The images of V among those that it memorized, with labels at random."""
    random = np.random.default_rng(3)
    with np.load(foreign / "data.npz") as archive:
        parts = dict(archive)
    own = {}
    for split in ("train", "validation", "test"):
        count = len(parts[f"{split}_labels"])
        labels = parts[f"{split}_labels"].copy()
        chosen = random.random(count) < 0.3
        labels[chosen] = random.integers(0, offices.CLASSES, chosen.sum())
        own |= {f"{split}_images": parts[f"{split}_images"], f"{split}_labels": labels}
    np.savez(tmp_path / "data.npz", **own)
    seen = {
        f"train_{kind}": np.concatenate([own[f"train_{kind}"], own[f"validation_{kind}"]])
        for kind in ("images", "labels")
    }
    np.savez(tmp_path / "seen.npz", **seen)
    offices.train(tmp_path / "seen.msgpack", tmp_path / "seen.npz")
    arguments = (
        f"--config.data.data_dir={tmp_path / 'data.npz'}",
        f"--config.original.path={tmp_path / 'seen.msgpack'}",
    )
    error = error_of(capsys, config, tmp_path / "work", *arguments)
    assert "it fits V better than T" in error
    assert '--config.data.validation_from="test"' in error
    with pytest.raises(read_alone):
        start(config, tmp_path / "work", *arguments, "--config.original.accept=True")


@pytest.mark.usefixtures("no_training")
def test_a_configuration_that_is_shipped_takes_a_path(foreign, tmp_path, capsys):
    """Its network is another one, which is said of the path that was given."""
    path = foreign / "model.msgpack"
    shipped = pathlib.Path(launch.__file__).parents[1] / "configs/fashion_mnist_rum.py"
    error = error_of(capsys, shipped, tmp_path / "work", f"--config.original.path={path}")
    assert str(path) in error
    assert "Dense_0" in error
