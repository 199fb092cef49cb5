"""Images and labels, from the package, TFDS, folders, files or a function of your own."""

from rumjax.data.augment import Augmentation, augmentation
from rumjax.data.loading import SOURCES, load
from rumjax.data.origins import hashes, locate
from rumjax.data.sources import Source
from rumjax.data.splits import checked, stratified_split

__all__ = [
    "SOURCES",
    "Augmentation",
    "Source",
    "augmentation",
    "checked",
    "hashes",
    "load",
    "locate",
    "stratified_split",
]
