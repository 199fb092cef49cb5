"""Sources that are folders of image files, decoded by several threads."""

import collections
import os
import pathlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rumjax.data.sources import PathLike, Source, existing, with_progress
from rumjax.data.splits import checked
from rumjax.errors import InvalidInputError, check_count

IMAGE_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp"),
    *(".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm"),
}
VALIDATION = ("val", "valid", "validation", "dev")
"""What the folder of V may be called."""
GRAY_MODES = {"1", "L", "LA"}
EIGHT_BIT_MODES = GRAY_MODES | {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa"}


def image_folder(data_dir: PathLike | None, image_size: int | None = None) -> Source:
    """Reads folders train/CLASS/… and test/CLASS/…; val/ is V, or T where there is no test/.

    val/ may also be called valid/, validation/ or dev/.

    The classes are the folders of train/ in alphabetical order, or in the order of their numbers
    where all are numbers. Their images may lie in folders of their own. Hidden files and folders do
    not count; files of other kinds are counted in `Source.notes`. See `read_images` for sizes and
    colors.

    Raises:
      InvalidInputError: folders missing, a class without training images, a class in test/ or val/
        that train/ has not, a damaged file, or images of several sizes without `image_size`.
    """
    # The folders of the splits, and their classes.
    root = existing("image_folder", data_dir, "a folder that holds train/ and test/")
    held_out = [root / name for name in VALIDATION if (root / name).is_dir()]
    if len(held_out) > 1:
        raise InvalidInputError(f"data: {held_out[0]} and {held_out[1]} may both be V; leave one")
    folders = {
        "train": root / "train",
        "validation": held_out[0] if held_out else root / VALIDATION[0],
        "test": root / "test",
    }
    if not folders["test"].is_dir():
        folders["test"] = folders.pop("validation")
    elif not folders["validation"].is_dir():
        del folders["validation"]
    if not folders["train"].is_dir() or not folders["test"].is_dir():
        raise InvalidInputError(
            f"data: {root} must hold train/ and test/ (or val/), with one folder a class in each"
        )
    names = _classes(folders["train"])
    for folder in folders.values():
        if unknown := sorted(set(_classes(folder)) - set(names)):
            raise InvalidInputError(
                f"data: {folder} has classes that {folders['train']} has not: {', '.join(unknown)}"
            )

    # Their files; every class has some in train/.
    files = {split: [_images(folder / name) for name in names] for split, folder in folders.items()}
    if not names or not all(files["train"]):
        own_files = zip(names, files["train"], strict=True)
        lacking = ", ".join(name for name, own in own_files if not own)
        raise InvalidInputError(
            f"data: no images for {lacking or 'any class'} under {folders['train']}; wanted "
            f"CLASS/IMAGE, ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    for split, folder in folders.items():
        if not any(files[split]):
            raise InvalidInputError(f"data: no images under {folder}; wanted CLASS/IMAGE")

    # All images at once, so that they get the same number of channels.
    every_file = [file for split in files.values() for of_class in split for file in of_class]
    images = read_images(every_file, image_size)
    parts, start = {}, 0
    for split, of_classes in files.items():
        labels = np.repeat(np.arange(len(names)), list(map(len, of_classes)))
        end = start + len(labels)
        where = f"data: {folders[split]}"
        parts[split] = checked(where, images[start:end], labels, len(names))
        start = end
    return Source(
        names,
        parts["train"],
        parts.get("validation"),
        parts["test"],
        names={
            split: [file.relative_to(root).as_posix() for of_class in own for file in of_class]
            for split, own in files.items()
        },
        notes=_left_out(root, folders.values(), every_file),
    )


def _left_out(
    root: pathlib.Path, folders: Iterable[pathlib.Path], read: Sequence[pathlib.Path]
) -> list[str]:
    """Says which folders, and how many files that are not hidden, were not read."""
    folders, taken = list(folders), set(read)
    unread = [name for name in _classes(root) if root / name not in folders]
    notes = [f"folders of {root} left out: {', '.join(unread)}"] if unread else []
    others = [file for folder in folders for file in _files(folder) if file not in taken]
    if not others:
        return notes
    endings = collections.Counter(file.suffix or "no ending" for file in others)
    counts = ", ".join(f"{count} of {ending}" for ending, count in endings.most_common())
    notes.append(
        f"{len(others)} files are no images and left out ({counts}), {others[0]} for example"
    )
    return notes


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
    paths = [file.relative_to(root).as_posix() for file in files]
    images = read_images(files, rgb=True)
    labels = np.repeat(np.arange(len(ids)), [len(of_class) for of_class in train])
    test_labels = np.array([label_of[wnid] for _, wnid, *_ in test])
    firsts = [words.get(wnid, wnid).split(",")[0] for wnid in ids]
    return Source(
        # Some classes share their first word.
        tuple(
            word if firsts.count(word) == 1 else f"{word} ({wnid})"
            for word, wnid in zip(firsts, ids, strict=True)
        ),
        checked(f"data: {root}/train", images[: len(labels)], labels, len(ids)),
        None,
        checked(f"data: {root}/val", images[len(labels) :], test_labels, len(ids)),
        names={"train": paths[: len(labels)], "test": paths[len(labels) :]},
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
      InvalidInputError: a file that is no image, has several frames or more than 8 bits a channel,
        or images of several sizes without `image_size`.
    """
    from PIL import Image

    if image_size is not None:
        image_size = check_count("image_size", image_size)

    def read(file: pathlib.Path) -> np.ndarray:
        try:
            with Image.open(file) as opened:
                if getattr(opened, "n_frames", 1) > 1:
                    raise ValueError("it has several frames; save one of them")
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
    """Returns the names of the folders that are not hidden, in the order of their labels."""
    folders = (path.name for path in split.iterdir() if path.is_dir())
    names = sorted(name for name in folders if not name.startswith("."))
    if all(name.isdecimal() for name in names):
        names.sort(key=int)  # 2 before 10
    return tuple(names)


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the image files of a folder and its folders, in alphabetical order."""
    return [file for file in _files(folder) if file.suffix.lower() in IMAGE_SUFFIXES]


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of a folder and its folders that are not hidden, in alphabetical order."""
    files, visited = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        # A link to a folder above would lead around in a circle.
        visited.add(os.path.realpath(place))
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and os.path.realpath(os.path.join(place, name)) not in visited
        ]
        files += [pathlib.Path(place, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _rows(file: pathlib.Path) -> list[list[str]]:
    """Reads the lines of a text file, split at tabs."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"data: {file} cannot be read: {error}; data_dir should be the folder tiny-imagenet-200"
        ) from error
    return [line.strip().split("\t") for line in lines if line.strip()]
