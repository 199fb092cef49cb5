"""Data sets of TFDS: an imitation of it says what it may; where it is installed, it really does."""

import gzip
import importlib.util
import shlex
import subprocess
import sys
import types

import numpy as np
import pytest

from rumjax import data, launch
from rumjax.data import tfds
from rumjax.errors import InvalidInputError
from tests import tiny


class DatasetNotFoundError(ValueError):
    pass


class ClassLabel:
    names = ("ant", "bee")
    num_classes = 2


class Records:
    """What `as_data_source` returns: a length, and examples by a list of their places."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitems__(self, places):
        return [
            {"image": self.images[i], "label": int(self.labels[i]), "id": f"bug_{i:05d}".encode()}
            for i in places
        ]


class Builder:
    """A data set named "bugs", of 250 training images, each filled with its number, and 4 more."""

    def __init__(self, data_dir):
        self.data_dir = f"{data_dir}/bugs/1.0.0"
        self.prepared = True
        self.info = types.SimpleNamespace(features={"image": None, "label": ClassLabel()})
        numbers = np.arange(250, dtype=np.uint8)
        images = np.tile(numbers[:, None, None, None], (1, 2, 3, 1))
        self.splits = {"train": Records(images, numbers % 2), "test": Records(images[:4], [0] * 4)}

    def is_prepared(self):
        return self.prepared

    def as_data_source(self, split):
        if split not in self.splits:
            raise ValueError(f"Unknown split {split!r}. Should be one of ['train', 'test'].\nMore")
        return self.splits[split]


@pytest.fixture
def builder(monkeypatch):
    """The builder that an imitation of tensorflow_datasets returns, to be changed by the test."""
    made = Builder("there")

    def build(name, data_dir):
        if name == "mugs":
            raise ImportError("Failed to construct dataset: No module named 'kettle'\nMore")
        if name != "bugs":
            raise DatasetNotFoundError(f"Dataset {name} not found.\nAvailable datasets: many")
        return made

    module = types.ModuleType("tensorflow_datasets")
    module.builder = build
    module.core = types.SimpleNamespace(DatasetNotFoundError=DatasetNotFoundError)
    module.features = types.SimpleNamespace(ClassLabel=ClassLabel)
    module.list_builders = lambda with_community_datasets: ["bugs", "mugs"]
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    return made


def load(**options):
    return data.load("bugs", data_dir="there", **options)


def test_examples_come_in_order_with_a_tenth_of_each_class_held_out(builder):
    splits = load()
    numbers = np.concatenate([splits.train.images, splits.validation.images])[:, 0, 0, 0]
    assert sorted(numbers) == list(range(250))
    for part in (splits.train, splits.validation):
        np.testing.assert_array_equal(part.labels, part.images[:, 0, 0, 0] % 2)
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32
    assert np.bincount(splits.validation.labels).tolist() == [12, 12]  # round(12.5) is 12
    assert splits.test.images.shape == (4, 2, 3, 1)
    assert splits.class_names == ("ant", "bee")


def test_splits_go_by_the_names_they_are_given(builder):
    builder.splits["extra"] = builder.splits.pop("train")
    splits = load(train_split="extra", test_split="test")
    assert len(splits.train.labels) + len(splits.validation.labels) == 250


def test_without_tfds_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'rumjax\[tfds\]'"):
        data.load("cifar10")


@pytest.mark.parametrize(
    ("name", "near"),
    [("bugz", "bugs"), ("image_folders", "image_folder"), ("fashion_mnist_min", "fashion_mnist_m")],
)
def test_an_unknown_name_is_answered_by_the_nearest(builder, name, near):
    with pytest.raises(InvalidInputError, match=f"unknown data set '{name}'; did you mean '{near}"):
        data.load(name)


def test_a_name_like_no_other_is_answered_by_the_choices(builder):
    with pytest.raises(InvalidInputError, match="there are fashion_mnist_mini, npz"):
        data.load("xxxxxxxxxxxx")


def test_a_data_set_that_tfds_cannot_open_is_not_called_unknown(builder):
    with pytest.raises(InvalidInputError, match=r"cannot open 'mugs': .*No module named 'kettle'$"):
        data.load("mugs")


@pytest.mark.parametrize("data_dir", [None, "there", "over 'there'"])
def test_what_is_not_prepared_comes_with_the_command_that_prepares_it(builder, data_dir):
    builder.prepared = False
    with pytest.raises(InvalidInputError, match="not prepared under there/bugs") as caught:
        data.load("bugs", data_dir=data_dir)
    python, option, code = shlex.split(str(caught.value).split("prepare it by ")[1])
    assert (python, option) == ("python", "-c")
    called = []

    def build(name, *, file_format, data_dir=None):
        called.append((name, data_dir, file_format))
        return types.SimpleNamespace(download_and_prepare=lambda: called.append("prepared"))

    sys.modules["tensorflow_datasets"].builder = build
    exec(code, {})
    assert called == [("bugs", data_dir, "array_record"), "prepared"]


def test_records_without_random_access_have_to_go_to_another_folder(builder):
    def refuse(split):
        raise NotImplementedError("Random access data source for TFRECORD is not supported.")

    builder.as_data_source = refuse
    with pytest.raises(InvalidInputError, match=r'another folder.*data_dir="there_array_record"'):
        load()


def test_an_unknown_split_is_named_in_one_line(builder):
    with pytest.raises(InvalidInputError, match=r"Unknown split 'exam'. Should be .*'test'\]\.$"):
        load(test_split="exam")


@pytest.mark.parametrize("features", [{"text": 1}, {"image": 1}, {"image": 1, "label": object()}])
def test_what_is_no_image_classification_is_refused_before_it_is_prepared(builder, features):
    builder.info.features = features
    builder.prepared = False
    with pytest.raises(InvalidInputError, match=f"wanted .* got {', '.join(features)}"):
        load()


def test_images_of_several_shapes_are_refused(builder):
    images = [np.zeros((2, 3, 1), np.uint8), np.zeros((4, 3, 1), np.uint8)]
    builder.splits["train"] = Records(images, [0, 1])
    with pytest.raises(InvalidInputError, match=r"\[2, 3, 1\] and \[4, 3, 1\] \(example 1\)"):
        load()


def test_examples_are_called_by_their_ids_where_they_have_some(builder):
    assert load().origin("train").names is None
    builder.info.features["id"] = None
    splits = load(keep=["bug_00120"])
    (place,) = data.locate(splits, ["bug_00120"])
    assert splits.train.images[place, 0, 0, 0] == 120
    with pytest.raises(InvalidInputError, match="no such name; did you mean 'bug_"):
        data.locate(splits, ["bug_0012"])


def test_images_of_sixteen_bits_are_refused(builder):
    builder.splits["train"] = Records(np.zeros((4, 2, 3, 1), np.uint16), [0, 1, 0, 1])
    with pytest.raises(
        InvalidInputError, match="'bugs', train: wanted images of uint8, got uint16"
    ):
        load()


def test_a_split_without_labels_is_refused(builder):
    builder.splits["test"].labels = [-1] * 4
    with pytest.raises(InvalidInputError, match="'bugs', test: 4 labels are outside"):
        load()


def test_damaged_records_are_told_by_their_place(builder):
    def fail(places):
        if 130 in places:
            raise RuntimeError("Corrupted file\nMore")
        return Records.__getitems__(builder.splits["train"], places)

    class Damaged(Records):
        __getitems__ = staticmethod(fail)

    train = builder.splits["train"]
    builder.splits["train"] = Damaged(train.images, train.labels)
    with pytest.raises(
        InvalidInputError, match=r"'bugs', train: example 100 or .*: Corrupted file;"
    ):
        load()


# Really, where TFDS is installed

TRAIN, TEST = 1000, 100
SMALLER = """
from tensorflow_datasets.image_classification import mnist

mnist.FashionMNIST.URL = {url!r}
mnist._TRAIN_EXAMPLES, mnist._TEST_EXAMPLES = {train}, {test}
"""


def write_idx(path, array):
    """Writes uint8 as MNIST does, compressed."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes(), 1))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Where TFDS has prepared its fashion_mnist by the command that rumjax gives.

    What it downloads is a file of the embedded images instead, and fewer.
    """
    pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow, which prepares data sets, is not installed")
    folder = tmp_path_factory.mktemp("tfds")
    splits = data.load("fashion_mnist_mini")
    for name, part, count in (("train", splits.train, TRAIN), ("t10k", splits.test, TEST)):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", part.images[:count, :, :, 0])
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", part.labels[:count])
    where = folder / "prepared"
    *_, code = shlex.split(tfds.prepare_command("fashion_mnist", str(where)))
    smaller = SMALLER.format(url=f"{folder}/", train=TRAIN, test=TEST)
    done = subprocess.run(
        [sys.executable, "-c", smaller + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return where


def test_a_prepared_data_set_is_really_read(prepared):
    splits = data.load("fashion_mnist", data_dir=prepared)
    mini = data.load("fashion_mnist_mini")
    assert len(splits.train.labels) + len(splits.validation.labels) == TRAIN
    assert splits.class_names == mini.class_names
    # TFDS shuffles what it prepares.
    found = {image.tobytes(): label for image, label in zip(*splits.test, strict=True)}
    images, labels = mini.test.images[:TEST], mini.test.labels[:TEST]
    assert found == {image.tobytes(): label for image, label in zip(images, labels, strict=True)}


def test_a_prepared_data_set_is_really_run(prepared, tmp_path):
    more = f"""config.data = {{"name": "fashion_mnist", "data_dir": {str(prepared)!r}}}
    config.forget = {{"by": "random", "size": 30}}
    config.methods = {{"fine": vanilla(finetune)}}"""
    tiny.write_config(tmp_path, more=more)
    assert launch.main([f"--config={tmp_path / 'tiny.py'}", f"--workdir={tmp_path / 'run'}"]) == 0
    assert (tmp_path / "run" / "report.html").exists()
    assert len((tmp_path / "run" / "results.csv").read_text().splitlines()) == 1 + 4


def test_an_unknown_name_is_really_answered_by_tfds():
    pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    with pytest.raises(InvalidInputError, match="did you mean 'fashion_mnist'"):
        data.load("fashion_mnistt")
