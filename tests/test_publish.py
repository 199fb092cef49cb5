"""Scores of a run, as a file that others can use, and those that come with rumjax."""

import json
import pathlib

import numpy as np
import pytest
from rich.console import Console

from rumjax import data, publish, scores
from rumjax.errors import InvalidInputError, WorkDirectoryError
from rumjax.lab import dependencies, experiment, pipeline, publishing
from rumjax.lab.answers import Answers
from rumjax.lab.bank import ModelBank
from rumjax.lab.methods import vanilla
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from rumjax.scores import files
from tests.tiny import SIZE, write_config, write_data

DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")
NAME = "fashion_mnist_cnn"


def idx(path, array):
    """Writes uint8 as MNIST does."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


@pytest.fixture
def built(tmp_path):
    write_data(tmp_path / "data.npz")
    write_config(tmp_path)
    return experiment.build(configuration(str(tmp_path / "tiny.py")))


@pytest.fixture
def run(built, tmp_path):
    """A run's directory with scores, and the bank they are of."""
    random = np.random.default_rng(0)
    with WorkDirectory(tmp_path / "run") as work:
        bank = ModelBank(work, dependencies.bank_header(built))
        models = built.config.bank.models
        for model in range(models):
            correct = np.ones(bank.header["examples"], bool)
            correct[:SIZE] = bank.member(model) | (random.random(SIZE) < 0.5)
            answers = Answers(random.normal(size=len(correct)), correct)
            bank.write(model, answers, seconds=1.0)
        found = bank.memorization()
        error = found.standard_error
        work.write_arrays(
            "scores.npz",
            {
                "memorization": found.values,
                "memorization_se": error,
                "c_proxy": random.random(SIZE).astype(np.float32),
            },
        )
        yield work


def test_published_scores_are_found_by_content_whatever_the_order(
    built, run, tmp_path, monkeypatch
):
    images = built.data.train.images
    order = np.random.default_rng(1).permutation(SIZE)
    folder = tmp_path / "idx"
    folder.mkdir()
    labels = np.zeros(SIZE, np.uint8)
    for split in ("train", "t10k"):
        idx(folder / f"{split}-images-idx3-ubyte", np.squeeze(images[order], -1))
        idx(folder / f"{split}-labels-idx1-ubyte", labels)
    about = publishing.publish_scores(built, run, tmp_path / "mine.npz", str(folder))
    assert about["accuracy_seen"] == about["accuracy_test"] == 1.0
    assert 0.4 < about["accuracy_unseen"] < 0.6
    with np.load(tmp_path / "mine.npz") as archive:
        np.testing.assert_array_equal(images[order][archive["index"]], images)
    monkeypatch.setattr(files, "PUBLISHED", tmp_path)
    found = scores.load_published("mine", images[order])
    expected = run.read_arrays("scores.npz")
    np.testing.assert_array_equal(found["memorization"].values, expected["memorization"][order])
    error = found["memorization"].standard_error
    np.testing.assert_array_equal(error, expected["memorization_se"][order])
    np.testing.assert_array_equal(found["c_proxy"].values, expected["c_proxy"][order])
    assert scores.about_published("mine") == json.loads(json.dumps(about))


def test_images_that_are_not_in_the_files_are_counted(built, tmp_path):
    images = built.data.train.images
    for split in ("train", "t10k"):
        idx(tmp_path / f"{split}-images-idx3-ubyte", np.squeeze(images[3:], -1))
        idx(tmp_path / f"{split}-labels-idx1-ubyte", np.zeros(SIZE - 3))
    with pytest.raises(InvalidInputError, match=f"3 of {SIZE} images"):
        publishing.places(images, str(tmp_path))


def test_a_run_without_scores_has_none_to_publish(built, tmp_path):
    with (
        WorkDirectory(tmp_path / "empty") as work,
        pytest.raises(WorkDirectoryError, match="no scores yet"),
    ):
        publishing.publish_scores(built, work, tmp_path / "mine.npz")


def test_published_scores_take_the_place_of_a_bank(built, run, tmp_path, monkeypatch):
    publishing.publish_scores(built, run, tmp_path / "mine.npz")
    monkeypatch.setattr(files, "PUBLISHED", tmp_path)
    monkeypatch.setattr("rumjax.lab.report.figures.draw", lambda *_: [])
    config = {
        **built.config.written,
        "scores": {"memorization": {"published": "mine"}},
        "methods": {"fine": vanilla({"algorithm": "finetune", "epochs": 1})},
    }
    with WorkDirectory(tmp_path / "other") as work:
        pipeline.run_experiment(experiment.build(config), work, console=Console(quiet=True))
        assert not work.has("bank")
        found = work.read_arrays("scores.npz")["memorization"]
    np.testing.assert_array_equal(found, run.read_arrays("scores.npz")["memorization"])


@pytest.mark.parametrize(
    "given", [{}, {"published": "mine", "path": "x"}, {"path": "x.npz"}, {"from": "x"}]
)
def test_scores_that_are_given_in_no_known_way_are_refused(built, given):
    with pytest.raises(InvalidInputError, match=r"scores\.memorization"):
        experiment.build({**built.config.written, "scores": {"memorization": given}})


def test_the_scores_that_come_with_rumjax_are_sound():
    assert NAME in scores.published()
    with (files.PUBLISHED / f"{NAME}.npz").open("rb") as opened, np.load(opened) as archive:
        found = dict(archive)
    count = len(found["hashes"])
    assert count == 54_000
    assert sorted({array.shape for array in found.values()}) == [(), (count,)]
    assert len(np.unique(found["index"])) > 0.99 * count
    assert found["index"].max() < 60_000
    assert np.abs(found["memorization"]).max() <= 1
    assert ((found["memorization_se"] >= 0) & (found["memorization_se"] < 0.2)).all()
    about = scores.about_published(NAME)
    mean = about["accuracy_seen"] - about["accuracy_unseen"]
    assert found["memorization"].mean() == pytest.approx(mean, abs=0.002)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_scores_that_come_with_rumjax_are_of_images_at_those_places():
    whole = data.load("idx", data_dir=str(DEBIAN), validation_fraction=0.0)
    with (files.PUBLISHED / f"{NAME}.npz").open("rb") as opened, np.load(opened) as archive:
        index, hashes, memorization = (archive[k] for k in ("index", "hashes", "memorization"))
    chosen = np.random.default_rng(0).permutation(len(index))[:500]
    images = np.asarray(whole.train.images)[index[chosen]]
    np.testing.assert_array_equal(scores.image_hashes(images), hashes[chosen])
    found = scores.load_published(NAME, images)["memorization"].values
    alike = found == memorization[chosen]
    assert alike.mean() > 0.99  # identical images share the score of the first


def test_a_file_that_cannot_be_written_and_a_run_without_a_bank_are_refused(built, run, tmp_path):
    with pytest.raises(InvalidInputError, match=r"x\.npz cannot be written \(No such file"):
        publishing.publish_scores(built, run, tmp_path / "nowhere" / "x.npz")
    with WorkDirectory(tmp_path / "bare") as work:
        work.write_arrays("scores.npz", {"c_proxy": np.zeros(SIZE, np.float32)})
        with pytest.raises(InvalidInputError, match="lack memorization, memorization_se"):
            publishing.publish_scores(built, work, tmp_path / "x.npz")


def test_scores_of_another_configuration_are_not_published(built, run, tmp_path):
    publishing.publish_scores(built, run, tmp_path / "mine.npz")
    for section, option, value in (("training", "epochs", 9), ("bank", "seed", 9)):
        written = built.config.written
        changed = {**written, section: {**written[section], option: value}}
        with pytest.raises(WorkDirectoryError, match=rf"{section}\.{option}"):
            publishing.publish_scores(experiment.build(changed), run, tmp_path / "other.npz")
    assert not (tmp_path / "other.npz").exists()


@pytest.mark.parametrize(
    ("out", "workdir", "message"),
    [("out", ".", "ends in .npz"), ("out.npz", "nowhere", "nowhere does not exist")],
)
def test_nothing_is_made_of_a_mistaken_command(
    place, tmp_path, monkeypatch, capsys, out, workdir, message
):
    monkeypatch.chdir(tmp_path)
    arguments = [f"--config={place / 'tiny.py'}", f"--workdir={workdir}", out]
    assert publish.main(arguments) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
