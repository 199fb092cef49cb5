"""Data sets by name: the embedded one, `.npz` files, and options that do not fit."""

import numpy as np
import pytest
import scipy.stats

from rumjax import data
from rumjax.errors import InvalidInputError


@pytest.fixture
def saved(arrays, tmp_path):
    """Saves the arrays with some replaced, or left out for None, and says where."""

    def save(**changes):
        path = tmp_path / "images.npz"
        found = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
        np.savez(path, **found)
        return path

    return save


def test_the_embedded_set_has_its_sizes_and_balanced_classes():
    splits = data.load("fashion_mnist_mini", validation_fraction=0.5)
    parts = splits.train, splits.validation, splits.test
    assert [part.images.shape for part in parts] == [(n, 28, 28, 1) for n in (6000, 1000, 2000)]
    for part in parts:
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32
        assert set(np.bincount(part.labels)) == {len(part.labels) // 10}
    assert splits.num_classes == len(splits.class_names) == 10


def test_npz_gives_back_its_images_with_a_tenth_of_each_class_held_out(saved, arrays):
    splits = data.load("npz", data_dir=saved())
    numbers = np.concatenate([splits.train.images, splits.validation.images])[:, 0, 0, 0]
    assert sorted(numbers) == list(range(40))
    for part in (splits.train, splits.validation):
        np.testing.assert_array_equal(part.labels, part.images[:, 0, 0, 0] // 10)
    assert np.bincount(splits.validation.labels).tolist() == [1] * 4
    np.testing.assert_array_equal(splits.test.images, arrays["test_images"])
    assert splits.class_names == ("0", "1", "2", "3")


def test_the_seed_decides_what_is_held_out(saved):
    path = saved()
    first, again, other = (
        data.load("npz", data_dir=path, seed=seed).validation.images for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_validation_set_of_its_own_is_used_whatever_the_fraction(saved, arrays):
    path = saved(validation_images=arrays["test_images"], validation_labels=arrays["test_labels"])
    splits = data.load("npz", data_dir=path, validation_fraction=0.5)
    assert len(splits.train.labels) == 40
    np.testing.assert_array_equal(splits.validation.images, arrays["test_images"])


@pytest.mark.parametrize("names", [["ant", "bee", "cat", "dog"], [b"ant", b"bee", b"cat", b"dog"]])
def test_class_names_may_come_along(saved, names):
    assert data.load("npz", data_dir=saved(class_names=np.array(names))).class_names == (
        "ant",
        "bee",
        "cat",
        "dog",
    )


def test_class_names_say_how_many_classes_there_are(saved):
    with pytest.raises(InvalidInputError, match=r"train: 20 labels are outside 0…1"):
        data.load("npz", data_dir=saved(class_names=np.array(["ant", "bee"])))
    names = np.array(list("abcdef"))
    assert data.load("npz", data_dir=saved(class_names=names)).num_classes == 6


def test_arrays_of_other_names_are_left_alone(saved):
    extra = np.array([{"an": "object"}], object)  # could not be read without pickle
    assert data.load("npz", data_dir=saved(extra=extra)).num_classes == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, "lacks test_labels; it holds train_images"),
        ({"validation_images": np.zeros((2, 3, 4, 3), np.uint8)}, "lacks validation_labels"),
        ({"test_labels": np.full(8, 4)}, "test: 8 labels are outside 0…3"),
        ({"train_images": np.zeros((40, 3, 4, 3))}, "train: wanted images of uint8"),
        ({"train_labels": np.array([None] * 40)}, "cannot be read as .npz or .npy .*Object arrays"),
        ({"test_images": np.zeros((8, 5, 4, 3), np.uint8)}, r"of one shape .* test \[5, 4, 3\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved, changes, message):
    with pytest.raises(InvalidInputError, match=message):
        data.load("npz", data_dir=saved(**changes))


def test_a_file_cut_anywhere_is_refused_by_name(saved):
    path = saved()
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInputError, match=r"images\.npz cannot be read as \.npz or"):
            data.load("npz", data_dir=path)


def test_a_single_array_is_no_npz(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InvalidInputError, match="is a single array"):
        data.load("npz", data_dir=tmp_path / "one.npy")


@pytest.mark.parametrize("name", ["npz", "idx", "image_folder", "tiny_imagenet"])
def test_a_path_is_needed_and_has_to_exist(name, tmp_path):
    with pytest.raises(InvalidInputError, match=f"'{name}' needs data_dir"):
        data.load(name)
    with pytest.raises(InvalidInputError, match="nowhere does not exist; it should be"):
        data.load(name, data_dir=tmp_path / "nowhere")


def test_a_limit_keeps_random_examples_of_every_split(saved):
    whole = data.load("npz", data_dir=saved())
    splits = data.load("npz", data_dir=saved(), limit=6)
    sizes = [len(part.labels) for part in (splits.train, splits.validation, splits.test)]
    assert sizes == [6, 4, 6]
    kept = splits.train.images[:, 0, 0, 0]
    assert set(kept) <= set(whole.train.images[:, 0, 0, 0])
    np.testing.assert_array_equal(splits.train.labels, kept // 10)
    assert len(set(splits.train.labels)) > 1  # the file has them class by class


@pytest.mark.parametrize("limit", [0, -1, 1.5])
def test_a_limit_that_is_no_count_is_refused(limit):
    with pytest.raises(InvalidInputError, match="limit"):
        data.load("fashion_mnist_mini", limit=limit)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("fashion_mnist_mini", {"data_dir": "here"}),
        ("tiny_imagenet", {"image_size": 32}),
        ("npz", {"test_split": "val"}),
        ("idx", {"image_size": 28}),
        ("image_folder", {"train_split": "training"}),
        ("cifar10", {"image_size": 32}),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(name, option):
    with pytest.raises(InvalidInputError, match=f"'{name}' has no {next(iter(option))}"):
        data.load(name, **option)


def test_medmnist_s_and_keras_names_are_taken_and_nothing_is_left_out_silently(
    saved, arrays, caplog
):
    medmnist = saved(
        train_labels=arrays["train_labels"][:, None].astype(np.uint8),
        test_labels=arrays["test_labels"][:, None].astype(np.uint8),
        val_images=255 - arrays["test_images"],
        val_labels=arrays["test_labels"][:, None],
    )
    splits = data.load("npz", data_dir=medmnist)
    np.testing.assert_array_equal(splits.train.labels, arrays["train_labels"])
    np.testing.assert_array_equal(splits.validation.images, 255 - arrays["test_images"])
    keras = {
        "x_train": arrays["train_images"],
        "y_train": arrays["train_labels"].astype(float),
        "x_test": arrays["test_images"].astype(float),
        "y_test": arrays["test_labels"],
    }
    path = saved(**dict.fromkeys(arrays), **keras, ages=np.arange(40))
    splits = data.load("npz", data_dir=path, validation_fraction=0)
    np.testing.assert_array_equal(splits.train.images, arrays["train_images"])
    np.testing.assert_array_equal(splits.test.images, arrays["test_images"])
    assert "holds ages too, left out" in caplog.text
    with pytest.raises(InvalidInputError, match="holds train_images and x_train; leave one"):
        data.load("npz", data_dir=saved(**keras))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((40, 3, 32, 32), np.uint8)}, "channels first; .*moveaxis"),
        ({"train_images": np.zeros((40, 1, 28, 28), np.uint8)}, "channels first"),
        ({"train_images": np.zeros((40, 28, 28, 28), np.uint8)}, "are volumes"),
        ({"train_images": np.full((40, 3, 4, 3), 0.5)}, r"got float64 in 0\.5…0\.5; scale"),
        ({"train_images": np.full((40, 3, 4, 3), 256)}, "got int64 in 256…256"),
        ({"train_images": np.full((40, 3, 4, 3), np.nan)}, "got float64 in nan…nan"),
        ({"train_labels": np.repeat(np.arange(1, 5), 10)}, "no example has label 0; subtract 1"),
        ({"train_labels": np.repeat([0, 1, 2, 5], 10)}, "no example has label 3, 4"),
        ({"train_labels": np.eye(4)[np.repeat(np.arange(4), 10)]}, r"argmax\(axis=1\)"),
        ({"train_labels": np.repeat(["a", "b"], 20)}, "wanted integer labels"),
    ],
)
def test_what_no_image_and_no_label_is_like_is_refused(saved, changes, message):
    with pytest.raises(InvalidInputError, match=f"images.npz, train: .*{message}"):
        data.load("npz", data_dir=saved(**changes))


def test_whole_numbers_of_another_dtype_are_the_same_images(saved, arrays):
    plain = data.load("npz", data_dir=saved())
    for dtype in (np.int64, np.float32, np.uint16):
        others = {key: array.astype(dtype) for key, array in arrays.items()}
        splits = data.load("npz", data_dir=saved(**others))
        np.testing.assert_array_equal(splits.train.images, plain.train.images)
        np.testing.assert_array_equal(splits.train.labels, plain.train.labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "data: seed"),
        ({"seed": 0.5}, "data: seed"),
        ({"limit": 0}, "data: limit"),
        ({"limit": "few"}, "data: limit"),
        ({"validation_fraction": "a tenth"}, "validation_fraction: wanted a number"),
        ({"validation_fraction": None}, "validation_fraction: wanted a number"),
        ({"data_dir": "\0"}, "is no path|does not exist"),
        ({"data_dir": "~nobody-of-that-name/x.npz"}, "is no path"),
        ({"data_dir": 2024}, "2024 does not exist"),
    ],
)
def test_options_of_other_types_are_refused_by_name(saved, options, message):
    with pytest.raises(InvalidInputError, match=message):
        data.load("npz", **{"data_dir": saved(), **options})


def test_a_folder_called_by_a_number_is_found(saved, tmp_path, monkeypatch):
    saved().rename(tmp_path / "2024")
    monkeypatch.chdir(tmp_path)
    assert data.load("npz", data_dir=2024).num_classes == 4


def test_label_noise_is_in_d_alone_and_a_matter_of_the_seed():
    plain, noisy, again, other = (
        data.load("fashion_mnist_mini", label_noise=share, seed=seed)
        for share, seed in ((0.0, 0), (0.1, 0), (0.1, 0), (0.1, 1))
    )
    np.testing.assert_array_equal(noisy.train.images, plain.train.images)
    for part in ("validation", "test"):
        np.testing.assert_array_equal(getattr(noisy, part).labels, getattr(plain, part).labels)
    changed = np.flatnonzero(noisy.train.labels != plain.train.labels)
    assert len(changed) == 600
    np.testing.assert_array_equal(noisy.train.labels, again.train.labels)
    assert not np.array_equal(noisy.train.labels, other.train.labels)

    # Wrong labels are as good as uniform among the others.
    shifts = (noisy.train.labels - plain.train.labels)[changed] % 10
    assert scipy.stats.chisquare(np.bincount(shifts, minlength=10)[1:]).pvalue > 1e-3


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan, "much"])
def test_a_share_of_wrong_labels_is_a_number_up_to_1(share):
    with pytest.raises(InvalidInputError, match="label_noise"):
        data.load("fashion_mnist_mini", label_noise=share)


def test_labels_of_one_class_cannot_be_replaced(saved):
    path = saved(train_labels=np.zeros(40, int), test_labels=np.zeros(8, int))
    assert data.load("npz", data_dir=path).num_classes == 1
    with pytest.raises(InvalidInputError, match="one class"):
        data.load("npz", data_dir=path, label_noise=0.1)
