"""Scores from files: how they are found in an archive, and those that are published."""

import hashlib
import json

import numpy as np
import pytest

from rumjax import scores
from rumjax.data import SOURCES, Source, load
from rumjax.data import hashes as data_hashes
from rumjax.errors import InvalidInputError
from rumjax.scores import files, load_published, load_scores
from rumjax.types import Dataset, Origin, Scores, Splits

VALUES = np.array([0.5, -0.25, 1.0])


@pytest.fixture
def saved(tmp_path):
    """Saves arrays as an .npz and says where."""

    def save(**arrays):
        np.savez(tmp_path / "scores.npz", **arrays)
        return tmp_path / "scores.npz"

    return save


# Anyone's


@pytest.mark.parametrize("key", ["anything", "memorization", None])
def test_scores_come_with_their_standard_errors(saved, key):
    name = key or "self_made"
    found = load_scores(saved(**{f"{name}_se": VALUES / 8, name: VALUES}), key, size=3)
    np.testing.assert_array_equal(found.values, VALUES)
    np.testing.assert_array_equal(found.standard_error, VALUES / 8)
    assert found.values.dtype == found.standard_error.dtype == np.float32


def test_without_a_key_the_usual_names_go_first(saved):
    path = saved(first=VALUES, memorization=VALUES + 1, tr_mem=VALUES + 2)
    np.testing.assert_array_equal(load_scores(path).values, VALUES + 1)
    np.testing.assert_array_equal(load_scores(path, "first").values, VALUES)
    assert load_scores(path).standard_error is None


def test_the_published_influences_of_cifar_100_are_read_for_their_memorization(saved):
    # As it is laid out, with 2 classes instead of 100, and fewer examples.
    parts = {}
    for label in range(2):
        parts[f"tr_classidx_{label}"] = np.arange(label, 6, 2)
        parts[f"tt_classidx_{label}"] = np.arange(label, 4, 2)
        parts[f"infl_matrix_class{label}"] = np.zeros((3, 2), np.float32)
    memorization = np.linspace(0, 1, 6, dtype=np.float32)
    path = saved(
        tr_labels=np.arange(6) % 2, tt_labels=np.arange(4) % 2, tr_mem=memorization, **parts
    )
    found = load_scores(path, size=6)
    np.testing.assert_array_equal(found.values, memorization)
    assert found.standard_error is None


def test_the_only_floats_in_one_dimension_are_the_scores(saved):
    path = saved(labels=np.arange(3), matrix=np.eye(3), found=VALUES, names=np.array(["a"]))
    np.testing.assert_array_equal(load_scores(path).values, VALUES)
    with pytest.raises(InvalidInputError, match="holds one, two, labels; say which with a key"):
        load_scores(saved(one=VALUES, two=VALUES, labels=np.arange(3)))
    with pytest.raises(InvalidInputError, match="holds nothing; say which"):
        load_scores(saved())


def test_a_single_array_is_read_and_has_no_key(tmp_path):
    np.save(tmp_path / "scores.npy", VALUES)
    np.testing.assert_array_equal(load_scores(str(tmp_path / "scores.npy")).values, VALUES)
    with pytest.raises(InvalidInputError, match="single array without keys; leave out 'mem'"):
        load_scores(tmp_path / "scores.npy", "mem")


def test_an_unknown_key_is_refused_with_those_that_there_are(saved):
    with pytest.raises(
        InvalidInputError, match=r"did you mean 'tr_mem'.* There are: tr_mem, other"
    ):
        load_scores(saved(tr_mem=VALUES, other=VALUES), "tr_men")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.eye(3), r"wanted 3 finite numbers, .* got float64\[3, 3\]"),
        (np.array(1.5), r"wanted 3 finite numbers, .* got float64\[\]"),
        (np.ones(4), r"wanted 3 finite numbers, .* got float64\[4\]"),
        (np.array([1, np.nan, 2]), "wanted 3 finite numbers"),
        (np.array(list("abc")), r"wanted 3 finite numbers, .* got <U1\[3\]"),
        (np.ones(3, complex), r"got complex128\[3\]"),
        (np.array([None] * 3), "cannot be read as .npz or .npy .*Object arrays"),
    ],
)
def test_other_than_one_finite_number_per_example_is_refused(saved, values, message):
    with pytest.raises(InvalidInputError, match=message):
        load_scores(saved(tr_mem=values), "tr_mem", size=3)


@pytest.mark.parametrize("error", [np.ones(2), np.array([1, np.inf, 1])])
def test_standard_errors_must_fit_as_well(saved, error):
    with pytest.raises(InvalidInputError, match="wanted 3 finite numbers"):
        load_scores(saved(tr_mem=VALUES, tr_mem_se=error))


SIZE = 12
KEPT = np.array([0, 2, 3, 5, 6, 7, 9, 11])
"""rows of a source that are in D"""


def splits_of(kept=KEPT, names=None):
    """D is some of the rows of a source, whose labels and names are made of the rows."""
    images = np.zeros((len(kept), 2, 2, 1), np.uint8)
    part = Dataset(images, (kept % 3).astype(np.int32))
    origin = Origin("train", SIZE, kept, names)
    return Splits("made_up", 3, ("a", "b", "c"), part, part, part, {"train": origin})


def test_scores_in_the_order_of_the_source_reach_the_examples_that_are_in_d(saved):
    values, errors = np.arange(SIZE) / 10, np.arange(SIZE) / 100
    path = saved(memorization=values, memorization_se=errors, labels=np.arange(SIZE) % 3)
    scores_of_d = load_scores(path, data=splits_of())
    np.testing.assert_allclose(scores_of_d.values, KEPT / 10, rtol=1e-6)
    np.testing.assert_allclose(scores_of_d.standard_error, KEPT / 100, rtol=1e-6)
    with pytest.raises(InvalidInputError, match=f"wanted {SIZE} finite numbers"):
        load_scores(saved(memorization=values[KEPT]), data=splits_of())
    with pytest.raises(InvalidInputError, match=r"labels are others .* first is row 0; .* order"):
        load_scores(saved(memorization=values, labels=np.arange(SIZE)[::-1] % 3), data=splits_of())


def test_scores_of_a_run_are_matched_by_the_rows_of_their_source(saved):
    theirs = np.random.default_rng(0).permutation(SIZE)[:10]
    mine = np.sort(theirs)[:6]
    path = saved(memorization=theirs / 10, source_rows=theirs)
    np.testing.assert_allclose(load_scores(path, data=splits_of(mine)).values, mine / 10, rtol=1e-6)
    everything = np.arange(SIZE)
    lacking = np.setdiff1d(everything, theirs)
    with pytest.raises(InvalidInputError, match=f"no score for 2 of 12 .* row {lacking[0]};"):
        load_scores(path, data=splits_of(everything))


def test_scores_that_may_be_of_other_examples_are_refused(saved):
    order, values = np.random.default_rng(2).permutation(SIZE), np.arange(SIZE) / 10
    for changes, message in (
        ({"memorization": values[order], "foo": np.arange(SIZE).astype(str)}, "foo may name"),
        ({"memorization": np.append(values, 9), "rows": [*range(SIZE), 3]}, "row 3 has 2 scores"),
        ({"memorization": values, "train_labels": (np.arange(SIZE) + 1) % 3}, "are others than"),
        ({"memorization": values, "rows": order, "index": order}, "rows and index may all name"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            load_scores(saved(**changes), data=splits_of())


@pytest.mark.parametrize("key", ["index", "rows", "sha256", "hashes"])
def test_scores_are_matched_by_rows_and_hashes_under_any_usual_name(saved, key):
    order = np.random.default_rng(2).permutation(SIZE)
    images = np.arange(SIZE, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    splits = splits_of()._replace(train=Dataset(images[KEPT], (KEPT % 3).astype(np.int32)))
    hashes = data_hashes(Dataset(images, np.arange(SIZE) % 3))
    names = order if key in ("index", "rows") else hashes[order]
    scores_of_d = load_scores(saved(memorization=order / 10, **{key: names}), data=splits)
    np.testing.assert_allclose(scores_of_d.values, KEPT / 10, rtol=1e-6)


@pytest.mark.parametrize("key", ["filenames", "tr_filenames"])
def test_scores_of_named_images_are_matched_by_name(saved, key):
    names = np.array([f"train/{row % 3}/{row}.png" for row in range(SIZE)])
    order = np.random.default_rng(1).permutation(SIZE)
    ends = np.array([name.removeprefix("train/") for name in names])[order]
    path = saved(tr_mem=order / 10, **{key: ends})
    scores_of_d = load_scores(path, data=splits_of(names=names))
    np.testing.assert_allclose(scores_of_d.values, KEPT / 10, rtol=1e-6)


def test_whole_numbers_are_scores_if_they_are_asked_for(saved):
    found = load_scores(saved(rank=np.arange(4)), "rank")
    assert found.values.tolist() == [0, 1, 2, 3]
    assert found.values.dtype == np.float32


def test_a_file_that_is_cut_or_missing_is_refused_by_name(saved, tmp_path):
    path = saved(tr_mem=VALUES)
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInputError, match=r"scores\.npz cannot be read as \.npz or"):
            load_scores(path)
    with pytest.raises(InvalidInputError, match=r"nowhere\.npz cannot be opened"):
        load_scores(tmp_path / "nowhere.npz")


# Those that come with rumjax


@pytest.fixture
def images():
    """7 images, uint8[7, 3, 2, 1], of which the last is the same as the second."""
    found = np.random.default_rng(0).integers(0, 256, (7, 3, 2, 1)).astype(np.uint8)
    found[6] = found[1]
    return found


ABOUT = {"data": "a made-up set", "models": 40, "test_accuracy": 0.5, "licence": "MIT"}
MADE = {
    "memorization": Scores(np.linspace(0, 0.6, 7), np.linspace(0.1, 0.7, 7)),
    "c_proxy": Scores(-np.arange(7.0)),
}


@pytest.fixture
def shelf(tmp_path, monkeypatch, images):
    """A folder that stands in for the package's, with one file, "made_up"."""
    monkeypatch.setattr(files, "PUBLISHED", tmp_path / "published")
    assert scores.published() == []
    (tmp_path / "published").mkdir()
    scores.publish(tmp_path / "published" / "made_up.npz", images, np.arange(7) * 10, MADE, ABOUT)
    return tmp_path / "published"


def test_what_was_published_is_listed_and_says_how_it_was_made(shelf, images):
    (shelf / "notes.txt").write_text("not scores")
    scores.publish(shelf / "another.npz", images, np.arange(7), MADE, ABOUT)
    assert scores.published() == ["another", "made_up"]
    assert scores.about_published("made_up") == ABOUT


def test_the_files_of_the_package_can_be_read():
    for name in scores.published():
        assert scores.about_published(name)["data"]


def test_a_published_file_holds_what_it_should_and_no_images(shelf, images):
    with np.load(shelf / "made_up.npz") as archive:
        kept = {name: (array.dtype, array.shape) for name, array in archive.items()}
        assert json.loads(str(archive["about"])) == ABOUT
        assert archive["index"].tolist() == list(range(0, 70, 10))
    assert kept.pop("about")[1] == ()
    wanted = {"hashes": np.uint64, "index": np.int32}
    wanted |= dict.fromkeys(("memorization", "memorization_se", "c_proxy"), np.float32)
    assert kept == {name: (np.dtype(dtype), (7,)) for name, dtype in wanted.items()}


@pytest.mark.parametrize("order", [[], [3], [5, 0, 4, 2, 1, 3], [2, 2, 0]])
def test_images_are_found_whatever_their_order(shelf, images, order):
    picked = np.array(order, int)
    found = load_published("made_up", images[picked])
    assert set(found) == {"memorization", "c_proxy"}
    for name, score in found.items():
        np.testing.assert_allclose(score.values, MADE[name].values[picked], rtol=1e-6)
        assert score.values.dtype == np.float32
    errors = found["memorization"].standard_error
    np.testing.assert_allclose(errors, MADE["memorization"].standard_error[picked], rtol=1e-6)


def test_identical_images_share_the_score_of_the_first(shelf, images):
    found = load_published("made_up", images[[6, 0, 1]])
    assert found["c_proxy"].values.tolist() == [-1, 0, -1]


def test_images_without_scores_are_counted(shelf, images):
    others = np.concatenate([images, 255 - images[:3]])
    with pytest.raises(InvalidInputError, match=r"3 of 10 images are none .* a made-up set"):
        load_published("made_up", others)


def test_images_with_scores_are_kept_in_d_whatever_the_order(shelf, images, monkeypatch):
    others = np.concatenate([255 - images[:6], images[[4, 2, 0, 5, 1, 3]]])
    part = Dataset(others, np.arange(12) % 2)
    source = Source(("a", "b"), part, None, Dataset(images[:2] // 2, np.arange(2)))
    monkeypatch.setitem(SOURCES, "made_up", lambda: source)
    splits = load(
        "made_up",
        validation_fraction=0.5,
        keep=lambda source: scores.has_published("made_up", source.data.images),
    )
    loaded = load_published("made_up", splits.train.images)
    wanted = scores.places(scores.image_hashes(splits.train.images), scores.image_hashes(images))
    np.testing.assert_allclose(loaded["c_proxy"].values, MADE["c_proxy"].values[wanted], rtol=1e-6)
    assert len(splits.train.labels) == 6


def test_an_unknown_name_is_refused(shelf, images):
    for function in (lambda name: load_published(name, images), scores.about_published):
        with pytest.raises(InvalidInputError, match="did you mean 'made_up'"):
            function("made_down")


def test_the_proxy_may_be_left_out(shelf, images):
    only = {"memorization": MADE["memorization"]}
    scores.publish(shelf / "plain.npz", images, np.arange(7), only, ABOUT)
    assert set(load_published("plain", images)) == {"memorization"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": np.arange(6)}, r"wanted index of 7 images, got \[6\]"),
        ({"scores": {"memorization": Scores(np.zeros(7))}}, "wanted memorization_se of 7 images"),
        ({"scores": {"c_proxy": Scores(np.zeros(7))}}, "score to publish 'memorization'"),
        ({"scores": {**MADE, "c_proxy": Scores(np.zeros(8))}}, r"c_proxy of 7 images, got \[8\]"),
        ({"about": {"models": 3}}, "`about` must name the data set as 'data'"),
    ],
)
def test_what_is_published_has_to_be_complete(images, tmp_path, changes, message):
    given = {"images": images, "index": np.arange(7), "scores": MADE, "about": ABOUT}
    with pytest.raises(InvalidInputError, match=message):
        scores.publish(tmp_path / "x.npz", **given | changes)
    assert not list(tmp_path.iterdir())


def test_a_hash_is_of_shape_and_content_alone(images):
    content = hashlib.sha256(b"(3, 2, 1)" + bytes(images[0].reshape(-1).tolist())).digest()
    found = scores.image_hashes(images)
    assert found.dtype == np.uint64
    assert int(found[0]) == int.from_bytes(content[:8], "little")
    assert found[6] == found[1]
    assert len(set(found.tolist())) == 6
    strided = np.asfortranarray(np.repeat(images, 2, axis=0))[::2]
    np.testing.assert_array_equal(scores.image_hashes(strided), found)
    assert not set(scores.image_hashes(images.reshape(7, 2, 3, 1)).tolist()) & set(found.tolist())


@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 3, 1)), np.zeros((2, 3, 3), np.uint8)])
def test_only_uint8_images_have_hashes(wrong):
    with pytest.raises(InvalidInputError, match=r"wanted uint8\[N, H, W, C\], got"):
        scores.image_hashes(wrong)
