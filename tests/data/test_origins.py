"""Where examples come from: rows, files and hashes of the source, whatever is held out."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rumjax import data
from rumjax.data import Source, locate
from rumjax.errors import InvalidInputError
from rumjax.types import PARTS, Dataset, Splits

RANDOM = np.random.default_rng(5)
IMAGES = RANDOM.integers(0, 256, (60, 2, 3, 1)).astype(np.uint8)
LABELS = RANDOM.permutation(np.arange(60) % 3)


def source_of(images=IMAGES, labels=LABELS, *, names=None):
    """A source whose test images are none of the training images."""
    test = Dataset(255 - images[:6, ::-1], labels[:6])
    return Source(("a", "b", "c"), Dataset(images, labels), None, test, names or {})


@pytest.fixture
def load(monkeypatch):
    def load(source=None, **options):
        monkeypatch.setitem(data.SOURCES, "made_up", lambda: source or source_of())
        return data.load("made_up", **options)

    return load


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0, 0.6),
    st.integers(0, 99),
    st.none() | st.integers(10, 70),
    st.lists(st.integers(0, 59), max_size=10, unique=True),
)
def test_every_example_knows_its_row_and_what_is_kept_is_in_d(fraction, seed, limit, keep):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.SOURCES, "made_up", source_of)
        splits = data.load(
            "made_up", validation_fraction=fraction, seed=seed, limit=limit, keep=keep
        )
    whole = {"train": source_of().train, "test": source_of().test}
    for part in PARTS:
        origin, own = splits.origin(part), getattr(splits, part)
        np.testing.assert_array_equal(whole[origin.part].images[origin.rows], own.images)
        np.testing.assert_array_equal(whole[origin.part].labels[origin.rows], own.labels)
    rows = [*splits.origin("train").rows, *splits.origin("validation").rows]
    assert len(set(rows)) == len(rows)
    assert limit is not None or sorted(rows) == list(range(60))
    assert set(keep) <= set(splits.origin("train").rows.tolist())
    if limit is None:
        # As many are held out as without, while every class has others.
        wanted = sum(round(fraction * 20) for _ in range(3))
        assert len(splits.validation.labels) == wanted


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_rows_lead_to_the_images_of_the_source(drawn):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.SOURCES, "made_up", source_of)
        splits = data.load("made_up", validation_fraction=0.3, seed=1)
    own = splits.origin("train").rows.tolist()
    rows = drawn.draw(st.lists(st.sampled_from(own), min_size=1, unique=True))
    form = drawn.draw(st.sampled_from([list, np.array, tuple, lambda x: list(map(str, x))]))
    positions = locate(splits, form(rows))
    assert positions.dtype == np.int32
    np.testing.assert_array_equal(splits.train.images[positions], IMAGES[sorted(rows)])


def test_a_hash_is_of_shape_pixels_and_label_and_finds_all_copies(load):
    text = f"(2, 3, 1){''.join(map(chr, IMAGES[0].ravel()))}{LABELS[0]}".encode("latin-1")
    digest = hashlib.sha256(text).hexdigest()
    splits = load(
        source_of(np.concatenate([IMAGES, IMAGES[:1]]), np.append(LABELS, LABELS[0])), keep=[0, 60]
    )
    own = splits.origin("train").rows
    assert own[locate(splits, [digest, digest.upper()])].tolist() == [0, 60]
    for row, value in zip(own.tolist(), data.hashes(splits.train).tolist(), strict=True):
        assert (value == digest) == (row in (0, 60))


NAMES = [f"train/{'abc'[label]}/{row}.png" for row, label in enumerate(LABELS)]


@pytest.fixture
def named(load):
    names = {"train": NAMES, "test": [f"test/a/{row}.png" for row in range(6)]}
    return load(source_of(names=names), validation_fraction=0.2, keep=[7, 8])


@pytest.mark.parametrize("cut", ["", "train/", "train/./", "/data/set/"])
def test_names_lead_to_the_same_images_in_full_and_by_their_end(named, cut):
    names = [f"{cut}{NAMES[7]}" if cut.startswith("/") else NAMES[7].removeprefix(cut)]
    assert named.origin("train").rows[locate(named, [*names, NAMES[8]])].tolist() == [7, 8]


def test_an_end_of_several_names_is_nobody_s(load):
    names = [f"train/{row // 30}/{row % 30}.png" for row in range(60)]
    splits = load(source_of(names={"train": names}))
    with pytest.raises(
        InvalidInputError, match=r"^examples: .*may mean several .*0/4\.png \(row 4\), train/1/"
    ):
        locate(splits, ["4.png"])
    # One of the two may be held out, and is meant as well as the other.
    held_out = splits.origin("validation").rows[0] % 30
    with pytest.raises(InvalidInputError, match="may mean several"):
        locate(splits, [f"{held_out}.png"])


def test_digits_that_are_a_name_and_a_row_are_nobody_s(load):
    splits = load(source_of(names={"train": [str(59 - row) for row in range(60)]}), keep=range(60))
    with pytest.raises(InvalidInputError, match=r"'4' is the name of row 55 .*and may mean row 4"):
        locate(splits, ["4"])
    assert locate(splits, [4]).tolist() == [4]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([60], r"1 of 1 .*60 \(outside 0…59, the rows of the source's training images\)"),
        ([7, -1], r"1 of 2 .*-1 \(outside"),
        ([7, 7], r"named more than once, the first are rows \[7\]"),
        ([7, NAMES[7]], r"more than once"),
        ([True], "wanted rows or names, got True"),
        ([0.5], "0.5 is neither a row"),
        ([None], "None is neither a row"),
        ([[7]], r"\[7\] is neither a row"),
        (7, "wanted a list of rows or names, got 7"),
        ("7", "wanted a list of rows or names, got '7'"),
        (["train/a/777.png"], "no such name; did you mean 'train/"),
        (["test/a/3.png"], "test images, on which no model is trained"),
        (["0" * 64], "the SHA-256 of no image with its label"),
    ],
)
def test_what_names_no_example_of_d_is_refused_with_the_reason(named, examples, message):
    with pytest.raises(InvalidInputError, match=f"^request: .*{message}"):
        locate(named, examples, what="request")


def test_held_out_and_left_out_examples_say_so(load):
    splits = load(validation_fraction=0.2, limit=20)
    held_out = splits.origin("validation").rows.tolist()
    left_out = set(range(60)) - set(held_out) - set(splits.origin("train").rows.tolist())
    with pytest.raises(InvalidInputError, match=r"held out for validation: load with keep"):
        locate(splits, held_out[:1])
    with pytest.raises(InvalidInputError, match="left out by limit"):
        locate(splits, sorted(left_out)[:1])
    everything = load(validation_fraction=0.2, keep=held_out)
    assert set(held_out) <= set(everything.origin("train").rows.tolist())


def test_what_is_to_be_kept_must_exist(load):
    with pytest.raises(InvalidInputError, match="keep: there is no training image 60"):
        load(keep=[60])
    with pytest.raises(InvalidInputError, match="at least 3, got 2"):
        load(keep=[1, 2, 3], limit=2)


def test_splits_made_by_hand_count_their_own_rows():
    own = Dataset(IMAGES, LABELS)
    splits = Splits("mine", 3, ("a", "b", "c"), own, own, own)
    assert locate(splits, [59, 0]).tolist() == [0, 59]


def test_names_of_a_folder_are_its_files(tmp_path):
    for number in range(20):
        file = tmp_path / "train" / "ab"[number % 2] / "more" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), number * 10).save(file)
    (tmp_path / "train").rename(tmp_path / "test")
    (tmp_path / "test").rename(tmp_path / "train")
    for name in "ab":
        file = tmp_path / "test" / name / "x.png"
        file.parent.mkdir(parents=True)
        Image.new("L", (2, 2), 255).save(file)
    splits = data.load("image_folder", data_dir=tmp_path, validation_fraction=0.2)
    for part in ("train", "validation"):
        origin = splits.origin(part)
        for row, image in zip(origin.rows, getattr(splits, part).images, strict=True):
            with Image.open(tmp_path / origin.names[row]) as opened:
                np.testing.assert_array_equal(np.asarray(opened), image[..., 0])
    wanted = splits.origin("train").names[splits.origin("train").rows[3]]
    assert locate(splits, [tmp_path / wanted]).tolist() == [3]


@pytest.mark.parametrize(
    ("names", "message"),
    [({"train": ["one"]}, "60 examples, but 1 names"), ({"test": [""] * 9}, "6 examples, but 9")],
)
def test_other_than_a_name_an_example_is_refused(load, names, message):
    with pytest.raises(InvalidInputError, match=message):
        load(source_of(names=names))


def test_images_in_two_splits_and_classes_without_images_are_counted(load, caplog):
    own = Dataset(IMAGES, LABELS)
    load(Source(("a", "b", "c", "d"), own, None, Dataset(IMAGES[:5], LABELS[:5])))
    assert "1 classes have no training image, d among them" in caplog.text
    assert "5 of 5 test images are training images too" in caplog.text
    caplog.clear()
    load()
    assert not caplog.text
