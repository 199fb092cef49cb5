"""A work directory may lie anywhere; where models cannot be read back, that is said at once."""

import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import DamagedFileError, WorkDirectoryError
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Variables
from tests.lab.test_workdir import orbax_fails

VARIABLES = Variables({"a": jnp.arange(6.0).reshape(2, 3)}, {})
ODD = [
    "exp [old]",
    "[!a]",
    "a*b",
    "a**b",
    "a?b",
    "100%",
    "a%20b",
    "a#b",
    "ü θ",
    "{x}",
    "$HOME",
    "it's",
    'q"q',
    "a\nb",
    "-x",
    ".hidden",
    "<b>&",
    "0.orbax-checkpoint-tmp",
    "a/[b]/c",
]


@pytest.mark.parametrize("name", ODD)
def test_models_and_files_are_read_back_whatever_the_path(tmp_path, name):
    with WorkDirectory(tmp_path / name) as work:
        for place in (work, work.below("cases/one")):
            place.save_model("model", VARIABLES)
            place.write_json("rows/a.json", {})
            loaded = place.load_model("model", VARIABLES)
            np.testing.assert_array_equal(loaded.params["a"], VARIABLES.params["a"])
            assert place.names("rows/*") == ["rows/a.json"]
            place.delete("checkpoints/*", "rows/*")
            assert not place.has_model("model")
            assert not place.has("rows/a.json")


def test_a_half_written_file_is_swept_away_whatever_the_path(tmp_path):
    leftover = tmp_path / "[old]" / ".partial-main-a"
    leftover.parent.mkdir()
    leftover.touch()
    WorkDirectory(tmp_path / "[old]").close()
    assert not leftover.exists()


@orbax_fails
@pytest.mark.parametrize("name", ["a\\b", "gs:", b"\xff".decode(errors="surrogateescape")])
def test_a_path_that_orbax_cannot_read_from_is_refused_at_the_first_model(tmp_path, name):
    with WorkDirectory(tmp_path / name) as work:
        with pytest.raises(WorkDirectoryError, match="choose another --workdir"):
            work.save_model("model", VARIABLES)
        assert not work.has_model("model")


@orbax_fails
def test_only_the_first_model_of_a_folder_is_read_back(tmp_path, monkeypatch):
    read = []
    load_model = WorkDirectory.load_model

    def load(self, name, like):
        read.append((self.path.name, name))
        return load_model(self, name, like)

    monkeypatch.setattr(WorkDirectory, "load_model", load)
    with WorkDirectory(tmp_path / "run") as work:
        for name in ("a", "b"):
            work.save_model(name, VARIABLES)
            work.below("case").save_model(name, VARIABLES)
    assert read == [("run", "a"), ("case", "a")]


@pytest.mark.parametrize("path", ["a\0b", "~nobody-of-this-name/run", "x" * 300])
def test_a_path_that_cannot_be_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkDirectoryError, match="choose another one with --workdir"):
        WorkDirectory(path)


# Files that are whole and not what they should be


@pytest.mark.parametrize("content", ["1", "null", "[]", "{}", '"row"', "[" * 100_000])
def test_json_of_another_form_is_damaged(tmp_path, content):
    with WorkDirectory(tmp_path) as work:
        work.write_text("row.json", content)
        with pytest.raises(DamagedFileError, match=r"row\.json is damaged"):
            work.read_json("row.json", keys=("row",))
        if content != "{}":
            with pytest.raises(DamagedFileError, match=r"row\.json is damaged"):
                work.read_json("row.json", missing={})


def test_an_archive_that_lacks_an_array_is_damaged(tmp_path):
    with WorkDirectory(tmp_path) as work:
        work.write_arrays("sets.npz", {"forget": np.arange(3)})
        assert work.read_arrays("sets.npz", keys=("forget",)).keys() == {"forget"}
        with pytest.raises(DamagedFileError, match="it lacks retain"):
            work.read_arrays("sets.npz", keys=("forget", "retain"))


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path):
    values = {"a": float("nan"), "b": [float("inf"), np.float64("-inf"), 0.5], "c": (1, None)}
    with WorkDirectory(tmp_path) as work:
        work.write_json("values.json", values)
        text = (tmp_path / "values.json").read_text()
        assert "NaN" not in text
        assert "Infinity" not in text
        expected = {"a": None, "b": [None, None, 0.5], "c": [1, None]}
        assert work.read_json("values.json") == expected
