"""Sources that are folders of image files, decoded by several threads."""

import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rumjax.data.sources import PathLike, Source, existing, with_progress
from rumjax.data.splits import checked
from rumjax.errors import InvalidInputError, check_count

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
GRAY_MODES = {"1", "L", "LA"}
EIGHT_BIT_MODES = GRAY_MODES | {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa"}


def image_folder(data_dir: PathLike | None, image_size: int | None = None) -> Source:
    """Reads folders train/CLASS/IMAGE and test/CLASS/IMAGE; val/ where there is no test/.

    The classes are the folders of train/ in alphabetical order. Hidden files and folders do not
    count, nor does val/ beside test/. See `read_images` for sizes and colors.

    Raises:
      InvalidInputError: folders missing, a class without training images, a class in test/ that
        train/ has not, a damaged file, or images of several sizes without `image_size`.
    """
    # The folders of both splits, and their classes.
    root = existing("image_folder", data_dir, "a folder that holds train/ and test/")
    train, test = root / "train", root / "test"
    if not test.is_dir():
        test = root / "val"
    if not train.is_dir() or not test.is_dir():
        raise InvalidInputError(
            f"data: {root} must hold train/ and test/ (or val/), with one folder a class in each"
        )
    names = _classes(train)
    if unknown := sorted(set(_classes(test)) - set(names)):
        raise InvalidInputError(
            f"data: {test} has classes that {train} has not: {', '.join(unknown)}"
        )

    # Their files; every class has some in train/.
    files = [_images(train / name) for name in names]
    if not names or not all(files):
        lacking = ", ".join(name for name, own in zip(names, files, strict=True) if not own)
        raise InvalidInputError(
            f"data: no images for {lacking or 'any class'} under {train}; wanted "
            f"CLASS/IMAGE, ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    test_files = [_images(test / name) for name in names]
    if not any(test_files):
        raise InvalidInputError(f"data: no images under {test}; wanted CLASS/IMAGE")

    # All images at once, so that they get the same number of channels.
    every_file = [file for of_class in files + test_files for file in of_class]
    images = read_images(every_file, image_size)
    labels = np.repeat(np.arange(len(names)), [len(of_class) for of_class in files])
    test_labels = np.repeat(np.arange(len(names)), [len(of_class) for of_class in test_files])
    return Source(
        names,
        checked(f"data: {train}", images[: len(labels)], labels, len(names)),
        None,
        checked(f"data: {test}", images[len(labels) :], test_labels, len(names)),
    )


def tiny_imagenet(data_dir: PathLike | None) -> Source:
    """Reads Tiny-ImageNet-200 in its own layout; the official validation set is the test set.

    The labels of its official test set are not public. Classes are in the order of their WordNet
    ids and called by the first of their words; gray images become RGB.

    Raises:
      InvalidInputError: a file missing or damaged, a line of val/val_annotations.txt that makes no
        sense, or a class without training images.
    """
    # The classes.
    root = existing("tiny_imagenet", data_dir, "the folder tiny-imagenet-200")
    annotations = root / "val" / "val_annotations.txt"
    ids = sorted({line for line, *_ in _rows(root / "wnids.txt")})
    words = {row[0]: row[-1] for row in _rows(root / "words.txt")}
    label_of = {wnid: label for label, wnid in enumerate(ids)}

    # Training files by class, and test files with their classes.
    train = [_images(root / "train" / wnid / "images") for wnid in ids]
    lacking = [wnid for wnid, files in zip(ids, train, strict=True) if not files]
    if lacking:
        raise InvalidInputError(
            f"data: {root}/train holds no images of {len(lacking)} of {len(ids)} classes, the "
            f"first is {lacking[0]}; wanted train/{lacking[0]}/images/*.JPEG"
        )
    test = _rows(annotations)
    for row in test:
        if len(row) < 2 or row[1] not in label_of:
            raise InvalidInputError(
                f"data: {annotations} has the line {' '.join(row)!r}; wanted an image, and then "
                "a class of wnids.txt"
            )
    if not train or not test:
        raise InvalidInputError(f"data: {root}: wnids.txt or val_annotations.txt is empty")

    # All images at once.
    files = [file for of_class in train for file in of_class]
    files += [root / "val" / "images" / name for name, *_ in test]
    images = read_images(files, rgb=True)
    labels = np.repeat(np.arange(len(ids)), [len(of_class) for of_class in train])
    test_labels = np.array([label_of[wnid] for _, wnid, *_ in test])
    return Source(
        tuple(words.get(wnid, wnid).split(",")[0] for wnid in ids),
        checked(f"data: {root}/train", images[: len(labels)], labels, len(ids)),
        None,
        checked(f"data: {root}/val", images[len(labels) :], test_labels, len(ids)),
    )


def read_images(
    files: Sequence[pathlib.Path], image_size: int | None = None, *, rgb: bool = False
) -> np.ndarray:
    """Reads image files as one uint8[N, H, W, C].

    Args:
      files: at least one.
      image_size: height and width to resize to, whatever the proportions; by default all files
        must have one size.
      rgb: makes gray images RGB even if all are gray. A single image with color makes all of them
        RGB; transparency is dropped.

    Raises:
      InvalidInputError: a file that is no image or has more than 8 bits a channel, or images of
        several sizes without `image_size`.
    """
    from PIL import Image

    if image_size is not None:
        check_count("image_size", image_size)

    def read(file: pathlib.Path) -> np.ndarray:
        try:
            with Image.open(file) as opened:
                if opened.mode not in EIGHT_BIT_MODES:
                    raise ValueError(f"mode {opened.mode}; convert it to 8 bits a channel")
                image = opened.convert("L" if opened.mode in GRAY_MODES and not rgb else "RGB")
        except Exception as error:  # on damaged files Pillow has many, SyntaxError among them
            raise InvalidInputError(f"data: {file} cannot be read as an image: {error}") from error
        return np.asarray(image if image_size is None else image.resize((image_size, image_size)))

    # Files are read by several threads.
    with ThreadPoolExecutor() as pool:
        images = list(with_progress(pool.map(read, files), "Reading images", len(files)))
    sizes = {image.shape[:2]: file for image, file in zip(images, files, strict=True)}
    if len(sizes) > 1:
        examples = ", ".join(f"{h}×{w} ({file})" for (h, w), file in list(sizes.items())[:3])
        raise InvalidInputError(f"data: images of several sizes, {examples}; set image_size")

    # One array, RGB if a single image is.
    channels = 3 if any(image.ndim == 3 for image in images) else 1
    joined = np.empty((len(images), *images[0].shape[:2], channels), np.uint8)
    for row, image in zip(joined, images, strict=True):
        row[:] = image if image.ndim == 3 else image[..., None]
    return joined


def _classes(split: pathlib.Path) -> tuple[str, ...]:
    """Returns the names of the folders that are not hidden, in alphabetical order."""
    folders = (path.name for path in split.iterdir() if path.is_dir())
    return tuple(sorted(name for name in folders if not name.startswith(".")))


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the image files of a folder that are not hidden, in alphabetical order."""
    return sorted(
        file
        for file in folder.glob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def _rows(file: pathlib.Path) -> list[list[str]]:
    """Reads the lines of a text file, split at tabs."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"data: {file} cannot be read: {error}; data_dir should be the folder tiny-imagenet-200"
        ) from error
    return [line.strip().split("\t") for line in lines if line.strip()]
