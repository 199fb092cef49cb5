"""Sources of one's own, by import path."""

import sys
import types

import numpy as np
import pytest

from rumjax import data
from rumjax.errors import InvalidInputError
from rumjax.types import Dataset, Splits


@pytest.fixture
def own(arrays, monkeypatch):
    """A module of someone's own that can be imported, with a source that can be changed."""
    module = types.ModuleType("own_images")
    train = Dataset(arrays["train_images"], arrays["train_labels"])
    test = Dataset(arrays["test_images"], arrays["test_labels"])
    module.source = data.Source(("ant", "bee", "cat", "dog"), train, None, test)
    module.given = []

    def plain():
        return module.source

    def with_folder(data_dir, image_size=8):
        module.given.append((data_dir, image_size))
        return module.source

    module.plain, module.with_folder, module.number = plain, with_folder, 3
    monkeypatch.setitem(sys.modules, "own_images", module)
    return module


def test_a_source_of_ones_own_is_split_as_the_others_are(own, arrays, tmp_path):
    np.savez(tmp_path / "images.npz", **arrays)
    splits = data.load("own_images:plain")
    same = data.load("npz", data_dir=tmp_path / "images.npz")
    assert splits.name == "own_images:plain"
    assert splits.class_names == ("ant", "bee", "cat", "dog")
    for part in ("train", "validation", "test"):
        for ours, theirs in zip(getattr(splits, part), getattr(same, part), strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype


def test_a_source_of_ones_own_is_given_the_options_that_it_takes(own):
    data.load("own_images:with_folder", data_dir="here", image_size=4)
    data.load("own_images:with_folder")
    assert own.given == [("here", 4), (None, 8)]


def test_a_validation_set_and_other_records_are_taken_as_they_are(own, arrays):
    held = own.source.test
    own.source = Splits("mine", 4, own.source.class_names, own.source.train, held, held)
    splits = data.load("own_images:plain")
    np.testing.assert_array_equal(splits.validation.images, arrays["test_images"])
    assert len(splits.train.labels) == 40


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_images:plane", "own_images has no attribute 'plane'; did you mean 'plain'"),
        ("own_images:number", "wanted a function, got int"),
        ("no_such_package:load", "No module named 'no_such_package'.*PYTHONPATH"),
    ],
)
def test_paths_that_lead_to_no_source_are_refused(own, name, message):
    with pytest.raises(InvalidInputError, match=message):
        data.load(name)


def test_an_option_that_ones_own_source_does_not_take_is_refused(own):
    with pytest.raises(InvalidInputError, match="'own_images:plain' has no data_dir"):
        data.load("own_images:plain", data_dir="here")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("ant", "bee")}, "train: 20 labels are outside 0…1"),
        ({"class_names": ("ant",) * 4}, "wanted two or more"),
        ({"test": None}, "test: wanted a rumjax.Dataset of images and labels, got NoneType"),
        ({"test": ([[[0.5]]], [0])}, "test: wanted images of uint8"),
        ({"test": ([], [])}, "test: wanted"),
    ],
)
def test_sources_that_are_not_in_order_are_refused(own, changes, message):
    own.source = own.source._replace(**changes)
    with pytest.raises(InvalidInputError, match=message):
        data.load("own_images:plain")


def test_something_else_than_a_source_is_refused(own):
    own.source = own.source.train
    with pytest.raises(InvalidInputError, match="returned Dataset without class_names, train"):
        data.load("own_images:plain")


def test_a_source_that_has_been_split_is_split_again_by_its_own_rows(own, tmp_path):
    """A function that returns what `load` returns, as users write it."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (60, 4, 4, 1), np.uint8), np.arange(60) % 3
    arrays = {"train_images": images, "train_labels": labels}
    np.savez(tmp_path / "own.npz", **arrays, test_images=255 - images[:6], test_labels=labels[:6])
    rows = [3, 17, 29, 41]
    own.plain = lambda: data.load("npz", data_dir=tmp_path / "own.npz")
    splits = data.load("own_images:plain", keep=rows)
    np.testing.assert_array_equal(splits.train.images[data.locate(splits, rows)], images[rows])
    origin = splits.origin("train")
    np.testing.assert_array_equal(splits.train.images, images[origin.rows])
    own.plain = lambda: data.load("npz", data_dir=tmp_path / "own.npz", limit=20)
    with pytest.raises(InvalidInputError, match="some examples are left out"):
        data.load("own_images:plain")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": None}, "class_names: wanted a list of texts"),
        ({"class_names": "abc"}, "class_names: wanted a list of texts"),
        ({"names": {"training": ()}}, "wanted names by train"),
        ({"names": {"train": "abc"}}, "names of train: wanted a list of texts"),
        ({"notes": "hello"}, "notes: wanted a list of texts"),
    ],
)
def test_odd_words_of_a_source_are_refused(own, changes, message):
    own.source = own.source._replace(**changes)
    with pytest.raises(InvalidInputError, match=message):
        data.load("own_images:plain")


def test_a_source_that_fails_says_where(own):
    own.plain = lambda: 1 // 0
    with pytest.raises(InvalidInputError, match=r"failed: ZeroDivisionError.*line \d+"):
        data.load("own_images:plain")
