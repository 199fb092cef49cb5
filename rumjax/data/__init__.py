"""Images and labels, from the package, TFDS, folders or files: `load` has them all."""

import numpy as np

from rumjax.data import sources
from rumjax.data.augmentation import Augmentation, augmentation
from rumjax.data.splits import checked, stratified_split
from rumjax.types import Dataset, Splits

__all__ = ["Augmentation", "augmentation", "checked", "load", "stratified_split"]


def load(
    name: str,
    *,
    data_dir: str | None = None,
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
        "fashion_mnist_mini": comes with the package and needs nothing else;
        "npz": `data_dir` is an .npz file, see `rumjax.data.sources.npz`;
        "image_folder": `data_dir` holds train/CLASS/IMAGE and test/CLASS/IMAGE;
        "tiny_imagenet": `data_dir` is the folder tiny-imagenet-200;
        or any image-classification data set of TFDS, "cifar10" for example, under `data_dir`.
      data_dir: where the data is; TFDS has a default.
      validation_fraction: of every class's training examples, held out where the source has no
        validation set of its own.
      seed: of what is held out.
      train_split: TFDS's name of the training split.
      test_split: TFDS's name of the test split.
      image_size: for "image_folder", the height and width to resize to.
      limit: keep only so many examples of each split, for a trial run.

    Raises:
      InvalidInputError: the data is not there, is damaged, or is no image classification.
    """
    if name == sources.EMBEDDED:
        source = sources.embedded()
    elif name == "npz":
        source = sources.npz(data_dir)
    elif name == "image_folder":
        source = sources.image_folder(data_dir, image_size)
    elif name == "tiny_imagenet":
        source = sources.tiny_imagenet(data_dir)
    else:
        source = sources.tfds(name, data_dir, train_split, test_split)
    train, validation = source.train, source.validation
    if validation is None:
        stays, held_out = stratified_split(np.asarray(train.labels), validation_fraction, seed=seed)
        validation = Dataset(train.images[held_out], train.labels[held_out])
        train = Dataset(train.images[stays], train.labels[stays])
    train, validation, test = (
        Dataset(each.images[:limit], each.labels[:limit])
        for each in (train, validation, source.test)
    )
    return Splits(name, len(source.class_names), source.class_names, train, validation, test)
