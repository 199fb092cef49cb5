"""The source of MNIST's four files, in the idx format."""

import gzip
import math
import pathlib
import zlib
from collections.abc import Sequence

import numpy as np

from rumjax.data.sources import PathLike, Source, existing
from rumjax.data.splits import checked
from rumjax.errors import InvalidInputError
from rumjax.types import Dataset

GZIP = b"\x1f\x8b"
UNSIGNED_BYTES = b"\x00\x00\x08"
"""The start of idx files that hold uint8; the next byte is the number of dimensions."""


def read(data_dir: PathLike | None) -> Source:
    """Reads a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-… for T.

    Files may be compressed by gzip and then end in .gz. Images with channels are in four
    dimensions, [N, H, W, C], in files called …-idx4-ubyte. Classes are called by their numbers, up
    to the largest training label.

    Raises:
      InvalidInputError: a file missing or damaged, of other than unsigned bytes, or of other
        dimensions; or see `checked`.
    """
    root = existing(
        "idx", data_dir, "a folder with MNIST's four files, train-images-idx3-ubyte first"
    )

    def part(split: str, classes: int | None) -> Dataset:
        images, labels = _file(root, f"{split}-images"), _file(root, f"{split}-labels")
        return checked(f"data: {images}", _array(images, (3, 4)), _array(labels, (1,)), classes)

    train = part("train", None)
    classes = int(train.labels.max()) + 1
    return Source(tuple(map(str, range(classes))), train, None, part("t10k", classes))


def _file(root: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the file of that name, whatever its ending; plain rather than compressed."""
    plain, compressed = (
        sorted(file for file in root.glob(f"{name}[-.]idx?-ubyte{end}") if file.is_file())
        for end in ("", ".gz")
    )
    if files := [*plain, *compressed]:
        return files[0]
    dimensions = 1 if name.endswith("labels") else 3
    raise InvalidInputError(
        f"data: {root} lacks {name}-idx{dimensions}-ubyte, plain or with .gz; wanted "
        "train-images, train-labels, t10k-images and t10k-labels"
    )


def _array(file: pathlib.Path, dimensions: Sequence[int]) -> np.ndarray:
    """Reads the uint8 array of an idx file that has one of these numbers of dimensions."""
    # The content, decompressed.
    try:
        content = file.read_bytes()
        # Some programs decompress on the way and keep the name.
        content = gzip.decompress(content) if content.startswith(GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInputError(
            f"data: {file} cannot be read: {error}; it may be cut short, so fetch it anew"
        ) from error

    # The header: the type, the number of dimensions, and their sizes.
    if len(content) < 4 or not content.startswith(UNSIGNED_BYTES):
        raise InvalidInputError(
            f"data: {file} is no idx file of unsigned bytes: it starts with "
            f"{content[:4].hex(' ') or 'nothing'}, wanted 00 00 08 and the number of dimensions"
        )
    if content[3] not in dimensions:
        wanted = " or ".join(map(str, dimensions))
        raise InvalidInputError(
            f"data: {file} has {content[3]} dimensions, wanted {wanted}; images are [N, H, W] or "
            "[N, H, W, C], labels [N]"
        )
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) != start + math.prod(shape):
        raise InvalidInputError(
            f"data: {file} has {len(content)} bytes, wanted {start + math.prod(shape)} for "
            f"{shape}; it may be cut short, so fetch it anew"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
