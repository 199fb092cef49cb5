"""Images and labels, from the package, TFDS, folders or files: `load` has them all."""

import numpy as np

from rumjax.data import folders, idx, sources, tfds
from rumjax.data.augment import Augmentation, augmentation
from rumjax.data.sources import EMBEDDED, PathLike
from rumjax.data.splits import check_same_shape, checked, stratified_split
from rumjax.errors import InvalidInputError, check_count
from rumjax.types import Dataset, Splits

__all__ = ["Augmentation", "augmentation", "checked", "load", "stratified_split"]

OPTIONS = {
    EMBEDDED: set[str](),
    "npz": {"data_dir"},
    "idx": {"data_dir"},
    "image_folder": {"data_dir", "image_size"},
    "tiny_imagenet": {"data_dir"},
}
"""The sources that are not TFDS, and what each reads besides its name."""


def load(
    name: str,
    *,
    data_dir: PathLike | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    train_split: str = "train",
    test_split: str = "test",
    image_size: int | None = None,
    limit: int | None = None,
) -> Splits:
    """Loads a data set: training, validation and test images, uint8 on the host.

    Args:
      name: one of
        "fashion_mnist_mini": 6 000, 1 000 and 2 000 images that come with the package;
        "npz": `data_dir` is an .npz file, see `rumjax.data.sources.npz`;
        "idx": `data_dir` holds MNIST's four files, see `rumjax.data.idx.read`;
        "image_folder": `data_dir` holds train/CLASS/IMAGE and test/CLASS/IMAGE, or val/ where
        there is no test/;
        "tiny_imagenet": `data_dir` is the folder tiny-imagenet-200, whose official validation set
        becomes the test set;
        or any image-classification data set of TFDS, "cifar10" for example, prepared under
        `data_dir` as array_record.
      data_dir: where the data is; TFDS has a default.
      validation_fraction: of every class's training examples, held out, see `stratified_split`.
        Ignored where the source has a validation set of its own: "fashion_mnist_mini", and an
        "npz" with validation_images.
      seed: of what is held out, and of what `limit` keeps.
      train_split: TFDS's name of the training split.
      test_split: TFDS's name of the test split.
      image_size: for "image_folder", the height and width to resize to.
      limit: keep only so many examples of each split, drawn at random, for a trial run.

    Returns:
      Images uint8[N, H, W, C], of one shape in all splits, and labels int32[N] below `num_classes`.

    Raises:
      InvalidInputError: the data is not there, is damaged, or is no image classification; an
        option that the source does not have.
    """
    given = {
        "data_dir": bool(data_dir),
        "image_size": image_size is not None,
        "train_split": train_split != "train",
        "test_split": test_split != "test",
    }
    known = OPTIONS.get(name, {"data_dir", "train_split", "test_split"})
    if surplus := [
        option for option, is_given in given.items() if is_given and option not in known
    ]:
        raise InvalidInputError(f"data: {name!r} has no {', '.join(surplus)}; leave that out")
    if name == EMBEDDED:
        source = sources.embedded()
    elif name == "npz":
        source = sources.npz(data_dir)
    elif name == "idx":
        source = idx.read(data_dir)
    elif name == "image_folder":
        source = folders.image_folder(data_dir, image_size)
    elif name == "tiny_imagenet":
        source = folders.tiny_imagenet(data_dir)
    else:
        source = tfds.read(name, data_dir, train_split, test_split, others=tuple(OPTIONS))
    train, validation, test = source.train, source.validation, source.test
    if validation is None:
        stays, held_out = stratified_split(np.asarray(train.labels), validation_fraction, seed=seed)
        train, validation = _take(train, stays), _take(train, held_out)
    check_same_shape(f"data: {name!r}", train=train, validation=validation, test=test)
    if limit is not None:
        # At random, since files come class by class.
        random = np.random.default_rng(check_count("seed", seed, least=0))
        count = check_count("limit", limit)
        train, validation, test = (
            _take(part, np.sort(random.permutation(len(part.labels))[:count]))
            for part in (train, validation, test)
        )
    return Splits(name, len(source.class_names), source.class_names, train, validation, test)


def _take(data: Dataset, indices: np.ndarray) -> Dataset:
    return Dataset(data.images[indices], data.labels[indices])
