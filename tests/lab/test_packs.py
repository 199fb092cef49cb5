"""Packs of a run's models: written by a command, loaded by name or file, compared with."""

import json
import shutil

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from rumjax import benchmarks, publish, unlearn
from rumjax.errors import InvalidInputError
from rumjax.lab.workdir import WorkDirectory
from rumjax.refine import by_score, rum
from tests.runs import table


@pytest.fixture(scope="module")
def copied(finished, tmp_path_factory):
    """A copy of the finished run, which other tests want untouched."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def written(place, copied, tmp_path_factory):
    """The pack of the run."""
    path = tmp_path_factory.mktemp("packs") / "tiny.safetensors"
    config = f"--config={place / 'tiny.py'}"
    assert publish.main([config, f"--workdir={copied}", "--pack", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def pack(written):
    return benchmarks.load_file(written)


def test_it_holds_what_the_run_has_made(pack, copied):
    with WorkDirectory(copied) as work:
        sets = work.read_arrays("forget_sets.npz")
        scores = work.read_arrays("scores.npz")
        like = pack.originals[0]
        for found, name in (
            (pack.originals, "original_seed0"),
            (pack.second, "oracle_second_seed0"),
        ):
            (ours,) = found
            theirs = work.load_model(name, like)
            for (key, one), (_, other) in zip(
                benchmarks.packs.named_leaves(ours),
                benchmarks.packs.named_leaves(theirs),
                strict=True,
            ):
                np.testing.assert_array_equal(one, np.asarray(other, np.float16), err_msg=key)
    np.testing.assert_array_equal(pack.forget_set.forget, sets["forget"])
    np.testing.assert_array_equal(pack.forget_set.retain, sets["retain"])
    np.testing.assert_array_equal(pack.memorization.values, scores["memorization"])
    rows = table(copied / "results.csv")
    assert {row["name"] for row in pack.rows} == {row["name"] for row in rows}
    for row in pack.rows:
        (same,) = (each for each in rows if each["name"] == row["name"])
        assert row["tow"] == pytest.approx(float(same["tow"]), abs=1e-6)


def test_an_algorithm_of_the_run_has_its_row_again(pack):
    """Up to what float16 takes from the models, and other random numbers."""
    said = []
    found = benchmarks.compare(
        lambda pack: unlearn.original(pack.model), pack, name="nothing", show=said.append
    )
    for measure in ("forget_accuracy", "retain_accuracy", "test_accuracy", "tow"):
        ours, theirs = (found.table[name][measure].value for name in ("nothing", "original"))
        assert ours == pytest.approx(theirs, abs=0.05)
    assert str(found) == said[-1]
    assert all(name in str(found) for name in found.table)


def test_steps_on_parts_and_unlearners_may_be_compared(pack):
    def refined(pack):
        sets = pack.forget_set
        one = unlearn.finetune(pack.model, epochs=1, batch_size=32)
        refine = by_score(pack.memorization)
        return rum(
            sets.forget,
            sets.retain,
            refine=refine,
            select=dict.fromkeys(("low", "medium", "high"), one),
        )

    found = benchmarks.compare(refined, pack, show=None)
    assert all(np.isfinite(row["tow"]) for row in found.rows)
    whole = unlearn.finetune(pack.model, epochs=1, batch_size=32)
    assert benchmarks.compare(whole, pack, show=None).rows != found.rows


def test_a_name_of_the_table_is_refused(pack):
    with pytest.raises(InvalidInputError, match="finetune_vanilla"):
        benchmarks.compare(unlearn.original(pack.model), pack, name="finetune_vanilla", show=None)
    with pytest.raises(InvalidInputError, match="pack"):
        benchmarks.load("no such")


@pytest.mark.parametrize("fault", ["cut", "no pack", "format", "shape", "gone", "data"])
def test_a_file_that_is_no_pack_is_refused(written, tmp_path, fault):
    path = tmp_path / "other.safetensors"
    with safetensors.safe_open(written, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["pack"])
    leaf = next(name for name in arrays if name.startswith("original/0/params"))
    if fault == "format":
        about["format"] = "rumjax pack 0"
    elif fault == "shape":
        arrays[leaf] = arrays[leaf][..., :1]
    elif fault == "gone":
        del arrays[leaf]
    elif fault == "data":
        about["data_sha256"] = "0" * 64
    metadata = {} if fault == "no pack" else {"pack": json.dumps(about)}
    safetensors.numpy.save_file(arrays, path, metadata=metadata)
    if fault == "cut":
        path.write_bytes(written.read_bytes()[:1000])
    with pytest.raises(InvalidInputError):
        benchmarks.load_file(path)


def test_an_unfinished_run_has_no_pack(place, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    config = [f"--config={place / 'tiny.py'}", f"--workdir={tmp_path / 'run'}", "--pack"]
    assert publish.main([*config, str(tmp_path / "out.safetensors")]) != 0
    assert "not finished" in capsys.readouterr().err
    assert publish.main([*config, str(tmp_path / "out.npz")]) != 0
    assert "ends in .safetensors" in capsys.readouterr().err
