"""Checkpoints in a single file: Flax msgpack, safetensors, .npz."""

import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from flax import serialization

from rumjax.archives import read_arrays, reason
from rumjax.checkpoints.trees import Content, of_names
from rumjax.errors import InvalidInputError
from rumjax.types import PyTree

SEPARATORS = ("/", ".")
"""What joins the levels of an array's name."""


class NamedArrays(NamedTuple):
    """Arrays of a file by name, and what else is needed to write them as they were."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str] | None = None
    """of a safetensors"""
    compressed: bool = False
    """of an .npz"""


def read_msgpack(path: pathlib.Path) -> PyTree:
    """Returns the dictionaries of a Flax msgpack.

    Raises:
      InvalidInputError: it is cut short, damaged, or no dictionary.
    """
    try:
        tree = serialization.msgpack_restore(path.read_bytes())
    except Exception as error:  # msgpack and NumPy raise many kinds
        raise damaged(path, "Flax msgpack", error) from error
    if not isinstance(tree, dict):
        raise InvalidInputError(
            f"checkpoint: {path} holds {type(tree).__name__}, wanted a dictionary of arrays; write "
            "flax.serialization.to_bytes(variables)"
        )
    return tree


def write_msgpack(path: pathlib.Path, tree: PyTree) -> None:
    """Writes dictionaries as Flax msgpack."""
    path.write_bytes(serialization.msgpack_serialize(tree))


def read_safetensors(path: pathlib.Path) -> NamedArrays:
    """Returns the arrays of a safetensors.

    Raises:
      InvalidInputError: it is cut short, damaged, or of numbers that NumPy has not.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return NamedArrays(arrays, metadata=file.metadata())
    except Exception as error:  # the library has a kind of its own for each fault
        raise damaged(path, "safetensors", error) from error


def write_safetensors(path: pathlib.Path, named: NamedArrays) -> None:
    """Writes arrays as safetensors."""
    arrays = {name: np.asarray(array, order="C") for name, array in named.arrays.items()}
    safetensors.numpy.save_file(arrays, path, metadata=named.metadata)


def read_npz(path: pathlib.Path) -> NamedArrays:
    """Returns the arrays of an .npz.

    Raises:
      InvalidInputError: it is cut short, damaged, or holds Python's objects.
    """
    arrays = read_arrays(path, "checkpoint")
    with zipfile.ZipFile(path) as archive:
        compressed = any(member.compress_type for member in archive.infolist())
    return NamedArrays(arrays, compressed=compressed)


def write_npz(path: pathlib.Path, named: NamedArrays) -> None:
    """Writes arrays as .npz, whatever the file's name ends in."""
    save = np.savez_compressed if named.compressed else np.savez
    with path.open("wb") as file:
        save(file, **named.arrays)  # type: ignore[arg-type]


def contents(arrays: Mapping[str, np.ndarray]) -> list[Content]:
    """Returns the trees that names may be the paths of, one for each separator in use."""
    views: list[Content] = []
    for separator in SEPARATORS:
        content = of_names(arrays, separator)
        try:
            content.root()
        except ValueError:  # one name is the beginning of another
            continue
        if all(content.paths != view.paths for view in views):
            views.append(content)
    return views


def damaged(path: Any, what: str, error: BaseException) -> InvalidInputError:
    """Returns the error to raise when a library cannot read a checkpoint."""
    return InvalidInputError(
        f"checkpoint: {path} cannot be read as {what} ({reason(error)}); it is cut short, damaged, "
        "or of another version"
    )
