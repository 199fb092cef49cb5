"""Opens a checkpoint of any format, and takes all that is in it into memory."""

import os
import pathlib
from typing import TYPE_CHECKING, NamedTuple

from rumjax.archives import reason
from rumjax.checkpoints import files
from rumjax.checkpoints.formats import detect
from rumjax.checkpoints.trees import Content, Path, of_tree
from rumjax.errors import InvalidInputError
from rumjax.types import PyTree

if TYPE_CHECKING:
    from rumjax.checkpoints.folders import Folder


class Source(NamedTuple):
    """A checkpoint that was opened."""

    path: pathlib.Path
    below: Path
    """the subtree that was asked for"""
    format: str
    """one of `FORMATS`"""
    contents: list[Content]
    """what it may hold: several where names can be taken apart in several ways"""
    folder: "Folder | None" = None
    """of Orbax"""
    named: files.NamedArrays | None = None
    """the arrays of a safetensors or .npz"""


def open_source(path: str | os.PathLike[str], format: str) -> Source:
    """Opens a checkpoint, and reads all that is in it.

    Raises:
      InvalidInputError: there is none, or it cannot be read.
    """
    place, below = _place(path)
    kind = detect(place, format)
    if kind == "orbax":
        # Orbax takes long to import.
        from rumjax.checkpoints import folders

        folder = folders.look(place)
        content = _content(place, folders.restore(folder))
        return Source(place, below, kind, [content], folder=folder)
    if kind == "msgpack":
        return Source(place, below, kind, [_content(place, files.read_msgpack(place))])
    named = files.read_safetensors(place) if kind == "safetensors" else files.read_npz(place)
    return Source(place, below, kind, files.contents(named.arrays), named=named)


def _place(path: str | os.PathLike[str]) -> tuple[pathlib.Path, Path]:
    """Returns where a checkpoint is, and the subtree that is asked for after "#".

    Raises:
      InvalidInputError: there is nothing.
    """
    if "://" in str(path):
        raise InvalidInputError(f"checkpoint: {path} is not on this machine; copy it here first")
    try:
        # What follows "#" is a subtree, unless the file is called so.
        place, below = pathlib.Path(path).expanduser(), tuple[str, ...]()
        if not place.exists() and "#" in str(place):
            name, _, subtree = str(place).rpartition("#")
            place, below = pathlib.Path(name), tuple(filter(None, subtree.split("/")))
        exists = place.exists()
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise InvalidInputError(f"checkpoint: {path!r} is no path ({reason(error)})") from error
    if not exists:
        raise InvalidInputError(f"checkpoint: there is nothing at {place}; see to the path")
    return place, below


def _content(place: pathlib.Path, tree: PyTree) -> Content:
    """Returns the content of a tree, whose names have to differ.

    Raises:
      InvalidInputError: two leaves have one path, since names differ in type alone.
    """
    content = of_tree(tree)
    try:
        content.root()
    except ValueError as error:
        raise InvalidInputError(
            f"checkpoint: {place} has two arrays of the path {error}; rename one of them"
        ) from error
    return content
