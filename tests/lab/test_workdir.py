"""Files of a work directory are whole or absent, and what damages them is reported."""

import concurrent.futures
import contextlib
import errno
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import InvalidInputError, WorkDirectoryError
from rumjax.lab.storage import A_DAY
from rumjax.lab.workdir import WorkDirectory, differences, digest
from rumjax.types import Variables


def orbax_fails(test):
    """Threads and coroutines that Orbax leaves behind when it fails complain of each other."""
    test = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")(test)
    return pytest.mark.usefixtures("collected")(test)


@pytest.fixture
def work(tmp_path):
    with WorkDirectory(tmp_path / "run") as opened:
        yield opened


@pytest.fixture
def variables():
    """Of several dtypes and shapes, with numbers that do not survive rounding."""
    random = np.random.default_rng(0)
    kernel = jnp.asarray(random.normal(size=(60, 50)), jnp.float32)
    params = {"a": {"kernel": kernel, "bias": jnp.float32(-0.0)}, "b": kernel.astype(jnp.bfloat16)}
    return Variables(params, {"a": {"mean": kernel[0] * 1e-30}})


@contextlib.contextmanager
def room_for(count):
    """No file may grow beyond so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(work):
    return {path for path in work.path.rglob("*") if path.is_file() and path.name != ".lock"}


def same_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert left.dtype == right.dtype
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


# Files


def test_what_is_written_is_read_back(work):
    work.write_text("deep/down/text.txt", "θ ↦ ü")
    assert (work.path / "deep/down/text.txt").read_text("utf-8") == "θ ↦ ü"
    work.write_json("value.json", {"a": [1, 2.5, None]})
    assert work.read_json("value.json") == {"a": [1, 2.5, None]}
    assert work.read_json("none.json", missing=7) == 7
    arrays = {"x": np.arange(3, dtype=np.int32), "y": np.float32(0.1), "z": np.zeros((0, 2), bool)}
    work.write_arrays("arrays.npz", arrays)
    found = work.read_arrays("arrays.npz")
    assert found.keys() == arrays.keys()
    same_bits(found, arrays)
    assert work.has("arrays.npz")
    assert not work.has("none.npz")
    assert work.names("*.json") == ["value.json"]


@pytest.mark.parametrize("name", ["old.bin", "new.bin", "folder/new.bin"])
def test_a_write_that_runs_out_of_room_leaves_the_old_file_or_none(work, name):
    work.write_text("old.bin", "old")
    before = files(work)

    def write():
        with work.writing(name) as file:
            for _ in range(2):
                file.write(b"." * 600)
                file.flush()

    with room_for(1000), pytest.raises(WorkDirectoryError, match="could not be written") as raised:
        write()
    assert "File too large" in str(raised.value)
    assert "make room or choose another --workdir" in str(raised.value)
    assert str(work.path / name) in str(raised.value)
    assert files(work) == before
    assert (work.path / "old.bin").read_text() == "old"


@pytest.mark.parametrize("name", ["file", "allow_pickle", "self", "name", "a b/ü", "ä", ""])
def test_arrays_may_have_any_name(work, name):
    work.write_arrays("arrays.npz", {name: np.arange(3), "other": np.ones(2)})
    arrays = work.read_arrays("arrays.npz")
    assert arrays.keys() == {name, "other"}
    np.testing.assert_array_equal(arrays[name], [0, 1, 2])


@pytest.mark.parametrize("write", ["write_json", "write_text", "write_arrays"])
def test_a_full_disk_is_reported_by_every_kind_of_write(work, monkeypatch, write):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    value = {"write_json": 3, "write_text": "x", "write_arrays": {"x": 1}}[write]
    with pytest.raises(WorkDirectoryError, match="No space left on device"):
        getattr(work, write)("some", value)
    assert not files(work)


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("count", [1, 100_000])
def test_a_device_without_room_leaves_neither_the_file_nor_a_part_of_it(work, count):
    """Whether it is noticed when the file is written or when it is flushed."""
    (work.path / ".partial-main-x.npz").symlink_to("/dev/full")
    with pytest.raises(WorkDirectoryError, match="No space left on device") as raised:
        work.write_arrays("x.npz", {"x": np.zeros(count)})
    message = f"{work.path}/x.npz could not be written (No space left on device); make room"
    assert str(raised.value).startswith(message)
    assert not list(work.path.glob("*x.npz"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_write_that_is_interrupted_leaves_the_old_file_and_nothing_else(work, error):
    work.write_text("a.txt", "old")

    def write():
        with work.writing("a.txt") as file:
            file.write(b"half of")
            raise error

    with pytest.raises(error):
        write()
    assert files(work) == {work.path / "a.txt"}
    assert (work.path / "a.txt").read_text() == "old"


def test_what_a_killed_process_left_is_swept_away_and_nothing_else(tmp_path):
    leftovers = [tmp_path / ".partial-main-a", tmp_path / "rows" / ".partial-main-b"]
    others = [tmp_path / ".partial-process1-c", tmp_path / "notes.txt"]
    others.append(tmp_path / "theirs" / "very" / "deep" / ".partial-main-c")
    for path in leftovers + others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with WorkDirectory(tmp_path):
        assert not any(path.exists() for path in leftovers)
        assert all(path.exists() for path in others)


def test_a_worker_needs_no_lock_and_what_it_left_goes_a_day_later(tmp_path):
    with (
        WorkDirectory(tmp_path / "run") as main,
        WorkDirectory(tmp_path / "run", holder="worker_1", lock=False) as worker,
        WorkDirectory(tmp_path / "run", holder="worker_1", lock=False) as again,
    ):
        worker.write_text("rows/a.txt", "a")
        again.write_text("rows/b.txt", "b")
        assert main.names("rows/*") == ["rows/a.txt", "rows/b.txt"]
        assert {path.name for path in main.path.glob(".*")} == {".lock"}
    old, new, deep = (
        tmp_path / "run" / where
        for where in ("rows/.partial-worker_1-a", "rows/.partial-worker_1-b", ".partial-worker_2-c")
    )
    for path in (old, new, deep):
        path.touch()
    for path in (old, deep):
        os.utime(path, (time.time() - A_DAY - 60,) * 2)

    # Whoever is not the main holder leaves them alone, as does one without a lock.
    WorkDirectory(tmp_path / "run", holder="publish").close()
    WorkDirectory(tmp_path / "run", holder="worker_1", lock=False).close()
    assert all(path.exists() for path in (old, new, deep))
    WorkDirectory(tmp_path / "run").close()
    assert [path.exists() for path in (old, new, deep)] == [False, True, False]


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "text"])
def test_damaged_files_are_named(work, damage):
    work.write_json("value.json", {"a": 1})
    work.write_arrays("arrays.npz", {"x": np.arange(1000)})
    for name, read in (("value.json", work.read_json), ("arrays.npz", work.read_arrays)):
        path = work.path / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        flipped = bytes(content)
        path.write_bytes(
            {
                "empty": b"",
                "half": flipped[: len(flipped) // 2],
                "flipped": flipped,
                "text": b"not at all",
            }[damage]
        )
        with pytest.raises(WorkDirectoryError, match="is damaged") as raised:
            read(name)
        assert str(path) in str(raised.value)
        assert "delete it and start again" in str(raised.value)


def test_no_flipped_byte_of_an_array_file_goes_unseen(work):
    arrays = {"x": np.arange(24, dtype=np.float32), "y": np.zeros((0, 2), bool), "z": np.int8(3)}
    work.write_arrays("arrays.npz", arrays)
    path = work.path / "arrays.npz"
    content = path.read_bytes()
    start = content.index(arrays["x"].tobytes())
    for position in range(len(content)):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]
        )
        try:
            found = work.read_arrays("arrays.npz")
        except WorkDirectoryError:
            continue
        # Dates and the like may change.
        assert not start <= position < start + 4 * 24
        assert found.keys() == arrays.keys()
        same_bits(found, arrays)


def test_a_missing_array_file_is_reported(work):
    with pytest.raises(WorkDirectoryError, match=r"none\.npz"):
        work.read_arrays("none.npz")


# The directory


@pytest.mark.parametrize("path", ["file/run", "file"])
def test_a_directory_that_cannot_be_written_is_reported(tmp_path, path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkDirectoryError, match="cannot be written") as raised:
        WorkDirectory(tmp_path / path)
    assert str(tmp_path / path) in str(raised.value)
    assert "--workdir" in str(raised.value)


def test_a_directory_has_one_user_at_a_time(tmp_path):
    with WorkDirectory(tmp_path) as first:
        with pytest.raises(WorkDirectoryError, match="in use by another process"):
            WorkDirectory(tmp_path)
        first.write_text("still", "mine")
    with WorkDirectory(tmp_path) as second:
        assert second.has("still")


def test_a_directory_has_many_users_of_different_names(tmp_path):
    with (
        WorkDirectory(tmp_path) as first,
        WorkDirectory(tmp_path, holder="worker1") as one,
        WorkDirectory(tmp_path, holder="worker10"),
    ):
        for holder in ("main", "worker1", "worker10"):
            with pytest.raises(WorkDirectoryError, match=rf"another process \({holder}\)"):
                WorkDirectory(tmp_path, holder=holder)
        first.write_text("a", "a")
        one.write_text("b", "b")
        assert first.names("?") == one.names("?") == ["a", "b"]
    with WorkDirectory(tmp_path, holder="worker1") as again:
        assert again.has("b")


@pytest.mark.parametrize("holder", ["", "main-1", "a/b", "*", "a.b", "a\n"])
def test_a_holder_has_a_name_that_no_other_begins_with(tmp_path, holder):
    """As `.partial-main-*` would also be what main-1 writes."""
    with pytest.raises(InvalidInputError, match="holder"):
        WorkDirectory(tmp_path / "run", holder=holder)
    assert not list(tmp_path.iterdir())


def test_what_another_process_is_writing_is_left_alone(work):
    """However wide the pattern is."""
    (work.path / "rows").mkdir()
    temporary = work.path / "rows" / ".partial-worker1-a.json"
    temporary.touch()
    with WorkDirectory(work.path, holder="worker10"):
        assert temporary.exists()
    assert work.names("rows/*") == []
    work.forget("rows/*", stages=())
    assert temporary.exists()


def test_a_killed_process_leaves_no_lock(tmp_path):
    held = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(WorkDirectoryError, match="in use by another process"):
            WorkDirectory(tmp_path)
        process.kill()
    WorkDirectory(tmp_path).close()


def test_a_file_system_without_locks_is_not_taken_for_another_process(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(WorkDirectoryError, match=r"without locks \(Operation not supported"):
        WorkDirectory(tmp_path)


# Stages


def test_a_changed_configuration_is_refused_with_stage_field_old_and_new(work):
    work.claim({"original": {"training": {"epochs": 2, "rates": (1, 2)}}, "bank": {"a": 1}})
    work.claim({"original": {"training": {"epochs": 2, "rates": [1, 2]}}})
    with pytest.raises(WorkDirectoryError) as raised:
        work.claim({"original": {"training": {"epochs": 3, "rates": (1, 2)}}, "bank": {"a": 1}})
    for wanted in ("'original'", str(work.path), "training.epochs: 2, now 3"):
        assert wanted in str(raised.value)
    assert "--recompute=original" in str(raised.value)
    assert "rates" not in str(raised.value)
    with pytest.raises(WorkDirectoryError, match=r"'bank'.*b: absent, now 5"):
        work.claim({"bank": {"a": 1, "b": 5}})
    assert work.read_json("stages.json")["original"]["training"]["epochs"] == 2


def test_a_stage_that_has_made_nothing_may_change(work):
    made = {"bank": ("bank/*",), "rows": ("rows/a_*", "rows/b_*")}
    work.claim({"bank": 1, "rows": 1}, made)
    work.claim({"bank": 2, "rows": 2}, made)
    work.write_text("rows/b_0", "")
    work.claim({"bank": 3, "rows": 2}, made)
    with pytest.raises(WorkDirectoryError, match="'rows'"):
        work.claim({"bank": 3, "rows": 3}, made)


def test_forgetting_deletes_what_matches_and_what_is_recorded(work, variables):
    work.claim({"original": 1, "unlearn/a": 1, "unlearn/b": 1, "unlearn/ab": 1})
    work.save_model("original_seed0", variables)
    for name in ("rows/a_seed0.json", "rows/b_seed0.json", "scores.npz"):
        work.write_text(name, "")
    work.forget("rows/a_*", stages=("unlearn/a",))
    assert work.names("rows/*") == ["rows/b_seed0.json"]
    assert work.read_json("stages.json") == {"original": 1, "unlearn/b": 1, "unlearn/ab": 1}
    work.forget("checkpoints/original_*", "rows/*", "none/*", stages=("original", "unlearn"))
    assert not work.has_model("original_seed0")
    assert {path.name for path in files(work)} == {"stages.json", "scores.npz"}
    assert work.read_json("stages.json") == {}


def test_differences_are_found_at_any_depth():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    assert differences(old, json.loads(json.dumps(old))) == []
    assert differences(old, {"a": {"b": 2, "c": [1]}, "e": 0}) == [
        "a.b: 1, now 2",
        "a.c: [1, 2], now [1]",
        "d: None, now absent",
        "e: absent, now 0",
    ]
    assert differences({"a": {"b": 1}}, {"a": 3}) == ["a: {'b': 1}, now 3"]


# Models


@pytest.mark.parametrize("batch_stats", [True, False])
def test_models_come_back_bit_for_bit(work, variables, batch_stats):
    saved = variables if batch_stats else variables._replace(batch_stats={})
    assert not work.has_model("deep_seed0")
    work.save_model("deep_seed0", saved)
    assert work.has_model("deep_seed0")
    shapes = jax.eval_shape(lambda: saved)
    same_bits(work.load_model("deep_seed0", saved), saved)
    same_bits(work.load_model("deep_seed0", shapes), saved)


def test_a_model_is_loaded_to_this_process_wherever_it_was(work, variables):
    elsewhere = jax.device_put(variables, jax.local_devices()[5])
    work.save_model("far", elsewhere)
    found = work.load_model("far", elsewhere)
    same_bits(found, variables)
    assert {leaf.device for leaf in jax.tree.leaves(found)} == {jax.local_devices()[0]}


def test_saving_again_replaces_the_model(work, variables):
    work.save_model("model", variables)
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    work.save_model("model", other)
    same_bits(work.load_model("model", variables), other)


def test_a_half_saved_model_of_a_killed_process_is_none(work, variables):
    half = work.path / "checkpoints" / "model" / "0.orbax-checkpoint-tmp" / "variables"
    half.mkdir(parents=True)
    assert not work.has_model("model")
    work.save_model("model", variables)
    same_bits(work.load_model("model", variables), variables)


@orbax_fails
def test_a_model_that_finds_no_room_is_none(work, variables, caplog):
    work.save_model("before", variables)
    with room_for(300), pytest.raises(WorkDirectoryError, match="could not be written") as raised:
        work.save_model("model", variables)
    assert str(work.path / "checkpoints" / "model") in str(raised.value)
    assert "make room" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not caplog.records
    assert not work.has_model("model")
    same_bits(work.load_model("before", variables), variables)


@orbax_fails
@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_a_damaged_model_is_refused_or_makes_no_difference(work, variables, damage):
    """Whatever file of the checkpoint it is; Orbax does not look at all of them."""
    work.save_model("model", variables)
    checkpoint = work.path / "checkpoints" / "model"
    refused = {}
    for path in sorted(each for each in checkpoint.rglob("*") if each.is_file()):
        content = path.read_bytes()
        middle = len(content) // 2
        if damage == "delete":
            path.unlink()
        elif damage == "truncate":
            path.write_bytes(content[:middle])
        else:
            flipped = bytes([content[middle] ^ 0x10])
            path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
        try:
            same_bits(work.load_model("model", variables), variables)
        except WorkDirectoryError as error:
            refused[path.relative_to(checkpoint / "0").parts[:2]] = str(error)
        path.write_bytes(content)
    assert {("variables", "ocdbt.process_0"), ("digest", "metadata")} <= refused.keys()
    for message in refused.values():
        assert message.startswith(f"{checkpoint} is damaged")
        assert "delete it and start again" in message


@orbax_fails
def test_a_model_whose_numbers_changed_is_refused(work, variables):
    """As if every check inside the file had been made to fit."""
    other = jax.tree.map(lambda leaf: leaf * 2, variables)
    work.save_model("model", variables)
    work.save_model("other", other)
    mine, theirs = (work.path / "checkpoints" / name / "0" for name in ("model", "other"))
    mine.joinpath("variables").rename(work.path / "gone")
    theirs.joinpath("variables").rename(mine / "variables")
    with pytest.raises(WorkDirectoryError, match="do not match its digest"):
        work.load_model("model", variables)


@orbax_fails
def test_a_model_of_another_shape_or_a_missing_one_is_refused(work, variables):
    work.save_model("model", variables)
    wider = jax.tree.map(lambda leaf: jnp.zeros((3, *leaf.shape), leaf.dtype), variables)
    fewer = variables._replace(params={"a": variables.params["a"]})
    for like in (wider, fewer):
        with pytest.raises(WorkDirectoryError, match="damaged or of another model"):
            work.load_model("model", like)
    with pytest.raises(WorkDirectoryError, match="checkpoints/none"):
        work.load_model("none", variables)


def test_digests_see_every_bit_shape_name_and_dtype(variables):
    def changed(leaf):
        return variables._replace(params={**variables.params, "b": leaf})

    b = variables.params["b"]
    bits = np.asarray(b).view(np.uint16).copy()
    bits[3, 2] ^= 1
    one_bit = jnp.asarray(bits.view(jnp.bfloat16))
    others = [
        variables,
        changed(one_bit),
        changed(b.T),
        changed(b.astype(jnp.float16)),
        changed({"deeper": b}),
        variables._replace(batch_stats={}),
        Variables(variables.batch_stats, variables.params),
        variables._replace(params={**variables.params, "a": {"kernel": b, "bias": jnp.float32(0)}}),
    ]
    digests = [digest(each) for each in others]
    assert len(set(digests)) == len(others)
    assert digest(jax.tree.map(np.asarray, variables)) == digests[0]


def test_two_workers_may_save_one_model(tmp_path, variables):
    """A worker whose driver was killed may be saving what another one saves now."""

    def save(holder):
        with WorkDirectory(tmp_path, holder=holder, lock=False) as work:
            for _ in range(4):
                work.save_model("m", variables)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(save, ("one", "other")))
    with WorkDirectory(tmp_path) as work:
        assert digest(work.load_model("m", variables)) == digest(variables)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["m"]
