"""The embedded images: where they come from, and that the script makes them again."""

import gzip
import importlib.resources
import pathlib
import re
import runpy
import sys

import numpy as np
import pytest

from rumjax.data.embedded import generate

IDX_DIR = pathlib.Path("/usr/share/datasets/fashion-mnist")
FILES = importlib.resources.files("rumjax.data.embedded")


def test_the_script_makes_exactly_the_arrays_of_the_file(tmp_path, monkeypatch):
    if not IDX_DIR.is_dir():
        pytest.skip(f"Debian's package dataset-fashion-mnist is not installed: no {IDX_DIR}")
    out = tmp_path / "again.npz"
    monkeypatch.setattr(sys, "argv", ["make", str(IDX_DIR), str(out)])
    monkeypatch.delitem(sys.modules, "rumjax.data.embedded.generate")
    runpy.run_module("rumjax.data.embedded.generate", run_name="__main__")
    with np.load(out) as made, np.load(FILES / "fashion_mnist_mini.npz") as kept:
        assert set(made.files) == set(kept.files)
        for key in made.files:
            assert made[key].dtype == kept[key].dtype
            np.testing.assert_array_equal(made[key], kept[key])


def test_places_are_distinct_and_training_and_validation_share_none():
    with np.load(FILES / "fashion_mnist_mini.npz") as arrays:
        learn = np.concatenate([arrays["train_places"], arrays["validation_places"]])
        test = arrays["test_places"]
    assert len(set(learn)) == 7000
    assert learn.min() >= 0
    assert learn.max() < 60_000
    assert len(set(test)) == 2000
    assert test.max() < 10_000


def test_the_file_is_small_and_its_license_comes_with_it():
    assert (FILES / "fashion_mnist_mini.npz").stat().st_size <= 5_000_000
    text = re.sub(r"\s+", " ", (FILES / "LICENSE").read_text())
    assert "Copyright (c) 2017 Zalando SE" in text
    assert "The above copyright notice and this permission notice shall be included" in text


def test_idx_files_are_read_as_they_are_written(tmp_path):
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(6)])  # bytes, rank 2, 2 by 3
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    assert generate.read_idx(tmp_path / "x.gz").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_choice_is_balanced_ascending_and_of_the_right_classes():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 7))
    chosen = generate.choose(labels, 3, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [3] * 10
    assert (np.diff(chosen) > 0).all()


def test_without_arguments_the_script_says_how_to_use_it(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make"])
    monkeypatch.delitem(sys.modules, "rumjax.data.embedded.generate")
    with pytest.raises(SystemExit, match=r"usage: .* IDX_DIR OUT\.npz"):
        runpy.run_module("rumjax.data.embedded.generate", run_name="__main__")
