"""Where images come from: one function a source, each returning (`Source`) arrays on the host."""

import importlib.resources
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.progress import track

from rumjax.data.splits import checked
from rumjax.errors import InvalidInputError
from rumjax.types import Dataset

EMBEDDED = "fashion_mnist_mini"
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
SHOW_PROGRESS_FROM = 2000


class Source(NamedTuple):
    """What a source has; where it has no validation set, one is held out of `train`."""

    class_names: tuple[str, ...]
    train: Dataset
    validation: Dataset | None
    test: Dataset


def embedded() -> Source:
    """The images that come with the package, 6 000, 1 000 and 2 000 of Fashion-MNIST."""
    file = importlib.resources.files("rumjax.data.embedded") / f"{EMBEDDED}.npz"
    with file.open("rb") as opened, np.load(opened) as arrays:
        train, validation, test = (
            checked(EMBEDDED, arrays[f"{split}_images"], arrays[f"{split}_labels"], len(FASHION))
            for split in ("train", "validation", "test")
        )
    return Source(FASHION, train, validation, test)


def npz(path: str | None) -> Source:
    """An .npz file with train_images, train_labels, test_images, test_labels.

    It may hold validation_images, validation_labels and class_names as well.
    """
    path = _given(path, "npz", "the path of an .npz file")
    try:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise InvalidInputError(f"data: {path} cannot be read as .npz: {error}") from error
    wanted = ["train_images", "train_labels", "test_images", "test_labels"]
    if missing := [key for key in wanted if key not in arrays]:
        raise InvalidInputError(
            f"data: {path} lacks {', '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}"
        )
    train = checked(f"{path}, train", arrays["train_images"], arrays["train_labels"])
    classes = int(train.labels.max()) + 1
    names = tuple(str(name) for name in arrays.get("class_names", np.arange(classes)))
    classes = max(classes, len(names))
    validation = None
    if "validation_images" in arrays:
        found = arrays["validation_images"], arrays.get("validation_labels", np.empty(0))
        validation = checked(f"{path}, validation", *found, classes)
    test = checked(f"{path}, test", arrays["test_images"], arrays["test_labels"], classes)
    return Source(names, train, validation, test)


def image_folder(path: str | None, image_size: int | None = None) -> Source:
    """Folders train/CLASS/IMAGE and test/CLASS/IMAGE (or val/ where there is no test/).

    Gray images stay gray if all are; else all become RGB. They have one size, or `image_size`.
    """
    root = pathlib.Path(_given(path, "image_folder", "a folder that holds train/ and test/"))
    test = root / ("test" if (root / "test").is_dir() else "val")
    if not (root / "train").is_dir() or not test.is_dir():
        raise InvalidInputError(
            f"data: {root} must hold train/ and test/ (or val/), one folder a class"
        )
    names = tuple(sorted(each.name for each in (root / "train").iterdir() if each.is_dir()))
    files: dict[pathlib.Path, list[pathlib.Path]] = {}
    labels: dict[pathlib.Path, list[int]] = {}
    for split in (root / "train", test):
        if unknown := sorted(f.name for f in split.iterdir() if f.is_dir() and f.name not in names):
            raise InvalidInputError(f"data: {split} has classes unknown in train/: {unknown}")
        files[split], labels[split] = [], []
        for label, name in enumerate(names):
            folder = split / name
            images = sorted(f for f in folder.glob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
            files[split] += images
            labels[split] += [label] * len(images)
        if not files[split]:
            raise InvalidInputError(f"data: no images under {split}, one folder a class")
    arrays = read_images(files[root / "train"] + files[test], image_size)
    count = len(files[root / "train"])
    return Source(
        names,
        checked(str(root / "train"), arrays[:count], np.array(labels[root / "train"]), len(names)),
        None,
        checked(str(test), arrays[count:], np.array(labels[test]), len(names)),
    )


def tiny_imagenet(path: str | None) -> Source:
    """Tiny-ImageNet-200 in its own layout; the official validation set is the test set.

    The labels of its official test set are not public. Gray images become RGB.
    """
    root = pathlib.Path(_given(path, "tiny_imagenet", "the folder tiny-imagenet-200"))
    try:
        wnids = (root / "wnids.txt").read_text().split()
        annotations = (root / "val" / "val_annotations.txt").read_text().splitlines()
        words = dict(
            line.split("\t", 1) for line in (root / "words.txt").read_text().splitlines() if line
        )
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"data: {root} is not laid out as tiny-imagenet-200: {error}"
        ) from error
    label_of = {wnid: label for label, wnid in enumerate(sorted(wnids))}
    train = [
        (f, wnid)
        for wnid in sorted(wnids)
        for f in sorted((root / "train" / wnid / "images").glob("*.JPEG"))
    ]
    test = [
        (root / "val" / "images" / row.split("\t")[0], row.split("\t")[1])
        for row in annotations
        if row
    ]
    if not train or not test or any(wnid not in label_of for _, wnid in test):
        raise InvalidInputError(
            f"data: {root} lacks images, or val_annotations.txt names others' classes"
        )
    arrays = read_images([file for file, _ in train + test], rgb=True)
    labels = np.array([label_of[wnid] for _, wnid in train + test])
    count, classes = len(train), len(wnids)
    return Source(
        tuple(words.get(wnid, wnid).split(",")[0] for wnid in sorted(wnids)),
        checked(f"{root}/train", arrays[:count], labels[:count], classes),
        None,
        checked(f"{root}/val", arrays[count:], labels[count:], classes),
    )


def read_images(
    files: Sequence[pathlib.Path], image_size: int | None = None, *, rgb: bool = False
) -> np.ndarray:
    """Image files as one uint8[N, H, W, C], read by several threads.

    Raises:
      InvalidInputError: a file that is no image, or images of several sizes without `image_size`.
    """

    def read(file: pathlib.Path) -> Image.Image:
        try:
            with Image.open(file) as opened:
                image = opened.convert("L" if opened.mode in ("1", "L") and not rgb else "RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise InvalidInputError(f"data: {file} cannot be read as an image: {error}") from error
        return image if image_size is None else image.resize((image_size, image_size))

    with ThreadPoolExecutor() as pool:
        reading = pool.map(read, files)
        if len(files) >= SHOW_PROGRESS_FROM:
            reading = iter(track(reading, "Reading images", total=len(files)))
        images = list(reading)
    if any(image.mode == "RGB" for image in images):
        images = [image.convert("RGB") for image in images]
    sizes = {image.size: file for image, file in zip(images, files, strict=True)}
    if len(sizes) > 1:
        examples = ", ".join(f"{w}×{h} ({file.name})" for (w, h), file in list(sizes.items())[:3])
        raise InvalidInputError(f"data: images of several sizes, {examples}; set image_size")
    return np.stack([np.asarray(image) for image in images])


def tfds(name: str, path: str | None, train_split: str, test_split: str) -> Source:
    """Any image-classification data set of TFDS that was prepared as array_record.

    Reading needs no TensorFlow; preparing does.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise InvalidInputError(
            f"data: {name!r} is read through TFDS, which is not installed; "
            "pip install 'rumjax[tfds]'"
        ) from error
    try:
        builder = tensorflow_datasets.builder(name, data_dir=path)
    except Exception as error:  # TFDS has several for an unknown name
        reason = str(error).strip().split("\n")[0]
        raise InvalidInputError(f"data: TFDS has no data set {name!r}: {reason}") from error
    prepare = (
        f"python -c \"import tensorflow_datasets as tfds; tfds.builder('{name}', "
        f"data_dir={path!r}, file_format='array_record').download_and_prepare()\""
    )
    if not builder.is_prepared():
        raise InvalidInputError(
            f"data: {name!r} is not prepared under {builder.data_dir}: {prepare}"
        )
    if "image" not in builder.info.features or "label" not in builder.info.features:
        raise InvalidInputError(f"data: {name!r} has no features named image and label")
    try:
        splits = [builder.as_data_source(split=split) for split in (train_split, test_split)]
    except ValueError as error:
        raise InvalidInputError(f"data: {name!r}: {str(error).strip().splitlines()[0]}") from error
    except NotImplementedError as error:
        raise InvalidInputError(
            f"data: {name!r} under {builder.data_dir} is prepared in a format without random "
            f"access; prepare it as array_record, in another folder: {prepare}"
        ) from error
    classes = builder.info.features["label"].num_classes
    train, test = (_from_tfds(name, split, classes) for split in splits)
    return Source(tuple(builder.info.features["label"].names), train, None, test)


def _from_tfds(name: str, source: Any, num_classes: int) -> Dataset:
    examples = range(len(source))
    if len(source) >= SHOW_PROGRESS_FROM:
        examples = track(examples, f"Reading {name}")  # type: ignore[assignment]
    pairs = [(source[i]["image"], source[i]["label"]) for i in examples]
    shapes = {image.shape for image, _ in pairs}
    if len(shapes) > 1:
        raise InvalidInputError(f"data: {name!r} has images of {len(shapes)} shapes; one is needed")
    images = np.stack([image for image, _ in pairs])
    return checked(name, images, np.array([int(label) for _, label in pairs]), num_classes)


def _given(path: str | None, name: str, what: str) -> str:
    if not path:
        raise InvalidInputError(f"data: {name!r} needs data_dir, {what}")
    if not pathlib.Path(path).expanduser().exists():
        raise InvalidInputError(f"data: data_dir {path} does not exist; it should be {what}")
    return str(pathlib.Path(path).expanduser())
