"""Checkpoints that are refused, and what the messages say."""

import gc
import gzip
import io
import pickle
import shutil
import zipfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import serialization
from flax.training import train_state

from rumjax import checkpoints
from rumjax.errors import InvalidInputError
from rumjax.models import Model
from tests.checkpoints.scripts import IMAGES, SCRIPTS, Linen, State, fresh, state, variables

# Threads that Orbax leaves behind when it fails complain of each other, in tests that come after.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MODEL = Model(Linen())


@pytest.fixture(scope="module", autouse=True)
def _collected():
    """No such complaint reaches another file."""
    yield
    gc.collect()


def refusal(path, model=MODEL, images=IMAGES, **options):
    with pytest.raises(InvalidInputError) as caught:
        checkpoints.read(path, model, images, **options)
    return str(caught.value)


def msgpack(path, tree):
    path.write_bytes(serialization.to_bytes(tree))
    return path


@pytest.mark.parametrize("name", ["msgpack", "safetensors", "npz", "variables"])
def test_checkpoints_cut_short_are_refused(name, tmp_path):
    path = tmp_path / "model"
    SCRIPTS[name].save(path, variables())
    files = [path] if path.is_file() else [p for p in path.rglob("d/*") if p.is_file()]
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) * 2 // 3])
    assert str(path) in refusal(path)


def test_a_damaged_folder_of_orbax_is_refused(tmp_path):
    SCRIPTS["variables"].save(tmp_path / "model", variables())
    (tmp_path / "model" / "_METADATA").write_text("{")
    assert "cannot be read as a checkpoint of Orbax" in refusal(tmp_path / "model")
    shutil.rmtree(tmp_path / "model")
    SCRIPTS["variables"].save(tmp_path / "model", variables())
    (tmp_path / "model" / "manifest.ocdbt").unlink()
    assert "cannot be read as a checkpoint of Orbax" in refusal(tmp_path / "model")


class Trap:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def torch_archive(content):
    """A .pt as PyTorch writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", content)
    return buffer.getvalue()


PICKLES = {
    **{f"protocol {p}": lambda trap, p=p: pickle.dumps(trap, p) for p in (2, 3, 4, 5)},
    "torch": lambda trap: torch_archive(pickle.dumps(trap)),
    "gzip": lambda trap: gzip.compress(pickle.dumps(trap)),
    **{f"zlib {n}": lambda trap, n=n: zlib.compress(pickle.dumps(trap), n) for n in (1, 5, 6, 9)},
}


@pytest.mark.parametrize("form", PICKLES)
def test_a_pickle_is_refused_unopened_whatever_it_is_called(form, tmp_path):
    path, sprung = tmp_path / "model.npz", tmp_path / "sprung"
    path.write_bytes(PICKLES[form](Trap(str(sprung))))
    for format in ("auto", "npz"):
        message = refusal(path, format=format)
        assert "pickle" in message
        assert "safetensors.torch.save_file" in message
    assert not sprung.exists()


def test_arrays_of_objects_are_refused(tmp_path):
    with (tmp_path / "model.npz").open("wb") as file:
        np.savez(file, kernel=np.array([Trap(str(tmp_path / "sprung"))], object))
    assert "Object arrays cannot be loaded" in refusal(tmp_path / "model.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "is empty"),
        (b"\x93NUMPY\x01\x00", "savez"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PK\x03\x04 and no more", "cut short or damaged"),
        (b"hello", "no known format"),
        (b"\x80", "no known format"),
        (serialization.to_bytes({"params": {}}), "holds no arrays"),
    ],
)
def test_files_of_other_kinds_are_refused(content, wanted, tmp_path):
    (tmp_path / "model").write_bytes(content)
    assert wanted in refusal(tmp_path / "model")


def test_paths_without_a_checkpoint_are_refused(tmp_path):
    assert "there is nothing at" in refusal(tmp_path / "none")
    assert "is no path" in refusal(None)
    assert "copy it here" in refusal("gs://bucket/model")
    assert "it is empty" in refusal(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    assert "neither _METADATA (Orbax v0)" in refusal(tmp_path)
    for name in ("run_1", "run_2"):
        SCRIPTS["variables"].save(tmp_path / name, variables())
    assert "neither _METADATA (Orbax v0)" in refusal(tmp_path)
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("a.txt", "")
    assert "without arrays" in refusal(tmp_path / "archive")


def test_another_format_than_was_said_is_refused(tmp_path):
    path = msgpack(tmp_path / "model", variables())
    message = refusal(path, format="npz")
    assert "said to be npz, but its content is msgpack" in message
    assert "did you mean 'msgpack'" in refusal(path, format="msgpac")
    assert "a folder, as Orbax writes" in refusal(tmp_path, format="msgpack")


def test_another_architecture_is_refused_with_what_differs(tmp_path):
    given = variables()
    given["params"]["head2"] = given["params"].pop("head")
    given["params"]["conv"]["bias"] = np.zeros(5)
    message = refusal(msgpack(tmp_path / "model", given))
    assert "2 arrays are missing (params/head/" in message
    assert "2 arrays are not the model's (params/head2/" in message
    assert "1 array has another shape (params/conv/bias is [5], wanted [2])" in message


def test_no_more_than_five_arrays_of_a_kind_are_named(tmp_path):
    given = {"params": {f"layer_{n}": {"weights": np.zeros(n)} for n in range(9)}}
    message = refusal(msgpack(tmp_path / "model", given))
    assert "9 arrays are not the model's" in message
    assert message.count("layer_") == 5


@pytest.mark.parametrize("axes", [(3, 2, 0, 1), (3, 2, 1, 0)])
def test_transposed_kernels_are_named_as_such(axes, tmp_path):
    given = variables(batch_norm=False)
    for layer, order in {"conv": axes, "head": (1, 0)}.items():
        kernel = given["params"][layer]["kernel"]
        given["params"][layer]["kernel"] = np.asarray(kernel).transpose(order)
    message = refusal(msgpack(tmp_path / "model", given), Model(Linen(False)))
    assert "conv/kernel is [2, 1, 3, 3], wanted [3, 3, 1, 2]: it is transposed" in message
    assert "head/kernel is [3, 32], wanted [32, 3]: it is transposed" in message


def test_a_train_state_without_batch_statistics_is_refused_for_a_network_that_has_them(tmp_path):
    plain = state(variables(), train_state.TrainState)
    message = refusal(msgpack(tmp_path / "model", plain))
    assert "no batch statistics" in message
    assert "'batch_stats'" in message
    empty = msgpack(tmp_path / "empty", {"params": variables()["params"], "batch_stats": {}})
    assert "no batch statistics" in refusal(empty)


def test_batch_statistics_that_the_network_has_not_are_refused(tmp_path):
    given = {**variables(batch_norm=False), "batch_stats": {"bn": {"mean": np.zeros(2)}}}
    message = refusal(msgpack(tmp_path / "model", given), Model(Linen(False)))
    assert "1 array is not the model's (batch_stats/bn/mean)" in message


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_in_float32_are_refused(number, tmp_path):
    given = variables()
    given["params"]["head"]["bias"] = np.array([0.0, number, 0.0])
    message = refusal(msgpack(tmp_path / "model", given))
    assert "1 arrays with numbers that are not finite" in message
    assert "params/head/bias" in message


@pytest.mark.parametrize("dtype", [np.int32, bool])
def test_parameters_that_are_no_floats_are_refused(dtype, tmp_path):
    given = variables()
    given["params"]["head"]["bias"] = np.ones(3, dtype)
    assert "params/head/bias is" in refusal(msgpack(tmp_path / "model", given))


def test_bfloat16_in_an_npz_is_refused_since_numpy_forgets_what_it_is(tmp_path):
    flat = {"head.kernel": np.ones((32, 3), jnp.bfloat16), "head.bias": np.ones(3)}
    with (tmp_path / "model").open("wb") as file:
        np.savez(file, **flat)
    assert str(tmp_path) in refusal(tmp_path / "model")


def test_several_items_that_fit_and_differ_are_refused(tmp_path):
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        items = {name: ocp.args.StandardSave(variables(n)) for n, name in enumerate("ab")}
        manager.save(1, args=ocp.args.Composite(**items))
    message = refusal(tmp_path / "run")
    assert f"choose one by its path, for example {tmp_path / 'run'}#a" in message
    for n, name in enumerate("ab"):
        for chosen in (f"{tmp_path}/run#{name}", tmp_path / "run" / "1" / name):
            read = checkpoints.load_variables(chosen, MODEL, IMAGES)
            np.testing.assert_array_equal(
                read.params["head"]["bias"], variables(n)["params"]["head"]["bias"]
            )


def test_images_are_asked_for_where_no_usual_size_fits(tmp_path):
    class Picky(Linen):
        size: int = 5

        def __call__(self, images, train=False):
            if images.shape[1] != self.size:
                raise ValueError("another size")
            return super().__call__(images, train)

    path = msgpack(tmp_path / "model", variables())
    assert "give images" in refusal(path, Model(Picky()), None)
    assert "and images of its size" in refusal(path, Model(Picky(size=8)), None)


def test_nothing_is_written_over_nor_left_half_written(tmp_path, monkeypatch):
    like = msgpack(tmp_path / "like", fresh(State))
    options = {"like": like, "model": MODEL, "images": IMAGES}
    given = checkpoints.load_variables(like, MODEL, IMAGES)
    SCRIPTS["variables"].save(tmp_path / "folder", variables())
    for path, more, wanted in (
        (like, {}, "exists"),
        (tmp_path, {}, "exists"),
        (tmp_path / "folder" / "new", {"like": tmp_path / "folder"}, "is within"),
        (tmp_path / "like" / "new", {}, "is within"),
    ):
        with pytest.raises(InvalidInputError, match=wanted):
            checkpoints.save_variables(path, given, **{**options, **more})
    for wrong, wanted in (
        (given._replace(batch_stats={}), "not of the checkpoint's form"),
        (jax.tree.map(lambda leaf: leaf[..., None], given), "not of the checkpoint's form"),
        (jax.tree.map(lambda leaf: leaf * np.nan, given), "not finite"),
    ):
        with pytest.raises(InvalidInputError, match=wanted):
            checkpoints.save_variables(tmp_path / "new", wrong, **options)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(InvalidInputError, match="No space left"):
        checkpoints.save_variables(tmp_path / "new", given, **options)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "like"]
