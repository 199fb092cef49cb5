"""Data sets that are folders of images: order, modes of images, and mistakes."""

import numpy as np
import pytest
from PIL import Image

from rumjax import data
from rumjax.data import folders, sources
from rumjax.errors import InvalidInputError


def paint(path, color, size=(6, 5)):
    """Saves an image of one color, gray for a number; `size` is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(color, int) else "RGB", size, color).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes, 10 training images and one test image each; bees are 100 brighter."""
    for name, base in (("bee", 100), ("ant", 0)):
        for i in range(10):
            paint(tmp_path / "train" / name / f"{i}.png", base + i)
        paint(tmp_path / "test" / name / "x.PNG", base + 50)
    return tmp_path


def load(path, **options):
    return data.load("image_folder", data_dir=path, **options)


def test_folders_give_their_images_and_their_names_in_order(folder):
    splits = load(folder)
    assert splits.class_names == ("ant", "bee")
    assert splits.train.images.shape == (18, 5, 6, 1)
    assert splits.validation.labels.tolist() == [0, 1]
    numbers = np.concatenate([splits.train.images, splits.validation.images])[:, 0, 0, 0]
    assert sorted(numbers) == [*range(10), *range(100, 110)]
    np.testing.assert_array_equal(splits.train.labels, splits.train.images[:, 0, 0, 0] // 100)
    assert splits.test.images[:, 0, 0, 0].tolist() == [50, 150]
    assert splits.test.labels.tolist() == [0, 1]


def test_val_stands_in_for_test_and_only_then(folder):
    paint(folder / "val" / "ant" / "x.png", 7)
    assert load(folder).test.images[0, 0, 0, 0] == 50
    (folder / "test").rename(folder / "elsewhere")
    assert load(folder).test.images[:, 0, 0, 0].tolist() == [7]


def test_one_image_with_color_makes_all_of_them_rgb(folder):
    paint(folder / "test" / "bee" / "y.png", (10, 20, 30))
    splits = load(folder)
    assert splits.train.images.shape == (18, 5, 6, 3)
    assert (splits.train.images == splits.train.images[..., :1]).all()
    assert splits.test.images[2, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("mode", "color", "pixel"),
    [
        ("1", 1, [255]),
        ("LA", (9, 77), [9]),
        ("RGBA", (1, 2, 3, 77), [1, 2, 3]),
        ("P", 0, [0, 0, 0]),
    ],
)
def test_every_eight_bit_mode_becomes_gray_or_rgb(tmp_path, mode, color, pixel):
    Image.new(mode, (2, 2), color).save(tmp_path / "x.png")
    assert folders.read_images([tmp_path / "x.png"])[0, 0, 0].tolist() == pixel


def test_more_than_eight_bits_a_channel_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((2, 2), 4000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InvalidInputError, match=r"deep\.png .* 8 bits a channel"):
        folders.read_images([tmp_path / "deep.png"])


def test_several_sizes_need_an_image_size(folder):
    paint(folder / "train" / "bee" / "big.png", 105, size=(12, 10))
    with pytest.raises(InvalidInputError, match=r"10×12 \(.*big\.png\); set image_size"):
        load(folder)
    splits = load(folder, image_size=4)
    assert splits.train.images.shape[1:] == (4, 4, 1)
    assert set(splits.train.images[:, 0, 0, 0] // 100) == {0, 1}  # one color stays one color


@pytest.mark.parametrize("image_size", [0, -3, 2.5])
def test_an_image_size_that_is_no_count_is_refused(folder, image_size):
    with pytest.raises(InvalidInputError, match="image_size: wanted a whole number"):
        load(folder, image_size=image_size)


@pytest.mark.parametrize("damage", [b"", b"no image", None])
def test_a_damaged_image_is_named(folder, damage):
    file = folder / "train" / "ant" / "3.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(InvalidInputError, match=r"ant/3\.png cannot be read as an image"):
        load(folder)


def test_a_bit_wrong_anywhere_in_a_png_is_either_harmless_or_named(tmp_path):
    paint(tmp_path / "x.png", (1, 2, 3))
    whole = (tmp_path / "x.png").read_bytes()
    messages = []
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        (tmp_path / "x.png").write_bytes(damaged)
        try:
            folders.read_images([tmp_path / "x.png"])
        except InvalidInputError as error:
            messages.append(str(error))
    assert messages
    assert all("x.png cannot be read as an image" in message for message in messages)


def test_a_class_unknown_in_train_is_refused(folder):
    paint(folder / "test" / "cow" / "x.png", 1)
    with pytest.raises(InvalidInputError, match=r"test has classes that .*train has not: cow"):
        load(folder)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_both_folders_are_needed(folder, missing):
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(InvalidInputError, match=r"must hold train/ and test/"):
        load(folder)


def test_a_class_without_training_images_is_refused_by_name(folder):
    (folder / "train" / "cow").mkdir()
    (folder / "train" / "cow" / "readme.txt").touch()
    with pytest.raises(InvalidInputError, match="no images for cow under"):
        load(folder)


def test_folders_without_any_image_are_refused(folder, tmp_path_factory):
    for file in (folder / "test").glob("*/*"):
        file.unlink()
    with pytest.raises(InvalidInputError, match=r"no images under .*test"):
        load(folder)
    bare = tmp_path_factory.mktemp("bare")
    for split in ("train", "test"):
        (bare / split).mkdir()
    with pytest.raises(InvalidInputError, match="no images for any class"):
        load(bare)


def test_hidden_files_and_folders_do_not_count(folder):
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "ant" / "._0.png").write_bytes(b"a file manager's")
    assert load(folder).class_names == ("ant", "bee")


def test_progress_is_shown_for_many_files_only(folder, capsys, monkeypatch):
    load(folder)
    assert "Reading" not in capsys.readouterr().out
    monkeypatch.setattr(sources, "SHOW_PROGRESS_ABOVE", 21)
    load(folder)
    assert "Reading images" in capsys.readouterr().out


@pytest.fixture
def tiny(tmp_path):
    """Tiny-ImageNet with two classes: 10 training images each, three images of its val/."""
    for wnid, base in (("n02", 100), ("n01", 0)):
        for i in range(10):
            file = tmp_path / "train" / wnid / "images" / f"{wnid}_{i}.JPEG"
            paint(file, (base + 40,) * 3 if i else base + 40, size=(8, 8))
    rows = [("val_0.JPEG", "n02"), ("val_1.JPEG", "n01"), ("val_2.JPEG", "n02")]
    for number, (name, _) in enumerate(rows):
        paint(tmp_path / "val" / "images" / name, (50 * number,) * 3, size=(8, 8))
    lines = [f"{name}\t{wnid}\t0\t0\t7\t7\n" for name, wnid in rows]
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    (tmp_path / "words.txt").write_text("n00\tentity\nn01\tgoldfish, Carassius auratus\n")
    return tmp_path


def test_tiny_imagenet_is_read_with_its_validation_set_as_test_set(tiny):
    splits = data.load("tiny_imagenet", data_dir=tiny)
    assert splits.class_names == ("goldfish", "n02")  # without words, the id
    assert splits.train.images.shape == (18, 8, 8, 3)
    assert np.bincount(splits.validation.labels).tolist() == [1, 1]
    np.testing.assert_array_equal(splits.train.labels, splits.train.images[:, 0, 0, 0] // 100)
    assert splits.test.labels.tolist() == [1, 0, 1]
    assert splits.test.images[:, 0, 0, 0].tolist() == [0, 50, 100]


@pytest.mark.parametrize("file", ["wnids.txt", "words.txt", "val/val_annotations.txt"])
def test_tiny_imagenet_names_the_file_it_lacks(tiny, file):
    (tiny / file).unlink()
    with pytest.raises(InvalidInputError, match=rf"{file} cannot be read"):
        data.load("tiny_imagenet", data_dir=tiny)


@pytest.mark.parametrize("line", ["val_0.JPEG", "val_0.JPEG\tn77\t0\t0"])
def test_tiny_imagenet_shows_the_annotation_that_makes_no_sense(tiny, line):
    (tiny / "val" / "val_annotations.txt").write_text(line)
    with pytest.raises(InvalidInputError, match=r"val_annotations\.txt has the line 'val_0\.JPEG"):
        data.load("tiny_imagenet", data_dir=tiny)


def test_tiny_imagenet_names_what_is_missing_among_its_images(tiny):
    (tiny / "val" / "images" / "val_1.JPEG").unlink()
    with pytest.raises(InvalidInputError, match=r"val_1\.JPEG cannot be read as an image"):
        data.load("tiny_imagenet", data_dir=tiny)
    (tiny / "train" / "n02").rename(tiny / "elsewhere")
    with pytest.raises(InvalidInputError, match=r"no images of 1 of 2 classes, the first is n02"):
        data.load("tiny_imagenet", data_dir=tiny)


@pytest.mark.parametrize("file", ["wnids.txt", "val/val_annotations.txt"])
def test_tiny_imagenet_with_an_empty_list_is_refused(tiny, file):
    (tiny / file).write_text("\n")
    with pytest.raises(InvalidInputError, match=r"is empty|makes no sense|has the line"):
        data.load("tiny_imagenet", data_dir=tiny)


def test_what_is_not_read_is_counted_and_folders_within_a_class_are_read(folder, caplog):
    paint(folder / "train" / "ant" / "more" / "deep.tif", 11)
    paint(folder / "train" / "ant" / "still.gif", 12)
    for name in ("notes.txt", "more/list.csv", "more/raw.npy", ".hidden"):
        (folder / "train" / "ant" / name).write_text("x")
    splits = load(folder, validation_fraction=0)
    assert np.bincount(splits.train.labels).tolist() == [12, 10]
    assert {11, 12} <= set(splits.train.images[:, 0, 0, 0].tolist())
    assert "3 files are no images and left out (1 of .csv, 1 of .npy, 1 of .txt)" in caplog.text


def test_val_beside_test_is_the_validation_set(folder):
    for number in range(3):
        paint(folder / "val" / "ant" / f"{number}.png", 200 + number)
    splits = load(folder)
    assert splits.validation.images[:, 0, 0, 0].tolist() == [200, 201, 202]
    assert len(splits.train.labels) == 20
    assert splits.origin("validation").names.tolist() == [f"val/ant/{i}.png" for i in range(3)]


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    for number in (0, 1, 2, 10):
        for split in ("train", "test"):
            paint(tmp_path / split / str(number) / "x.png", number)
    splits = load(tmp_path, validation_fraction=0)
    assert splits.class_names == ("0", "1", "2", "10")
    assert splits.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 10]


def test_an_image_of_several_frames_is_refused(folder):
    frames = [Image.new("L", (6, 5), color) for color in (1, 2)]
    frames[0].save(folder / "train" / "ant" / "film.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidInputError, match=r"film\.gif .* several frames"):
        load(folder)


def test_links_are_followed_and_other_folders_are_named(folder, tmp_path_factory, caplog):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    paint(elsewhere / "far.png", 13)
    (folder / "train" / "ant" / "linked").symlink_to(elsewhere)
    (folder / "train" / "ant" / "around").symlink_to(folder / "train" / "ant")
    paint(folder / "valid" / "ant" / "v.png", 210)
    paint(folder / "extra" / "ant" / "x.png", 1)
    splits = load(folder)
    assert np.bincount(splits.train.labels).tolist() == [11, 10]
    assert 13 in splits.train.images
    assert splits.validation.images[:, 0, 0, 0].tolist() == [210]
    assert "left out: extra" in caplog.text
    paint(folder / "dev" / "ant" / "v.png", 211)
    with pytest.raises(InvalidInputError, match="may both be V"):
        load(folder)
