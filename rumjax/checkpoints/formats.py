"""Which format a checkpoint has, by its content; what could run code is refused unopened."""

import pathlib
import zipfile

from rumjax.archives import reason
from rumjax.errors import InvalidInputError, check_choice

FORMATS = ("auto", "orbax", "msgpack", "safetensors", "npz")
"""What `format` may be; "auto" goes by the content."""

CONVERT = (
    "in PyTorch write safetensors.torch.save_file(model.state_dict(), 'model.safetensors'); "
    "anywhere else flax.serialization.to_bytes(variables), or numpy.savez"
)
"""What to do about a pickle."""

COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x78\x01": "zlib",
    b"\x78\x5e": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x5d\x00\x00": "lzma",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x28\xb5\x2f\xfd": "zstd",
}
"""The first bytes of compressed files, which joblib writes its pickles to."""

PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""The first bytes of pickles."""

OTHERS = {
    b"\x93NUMPY": "a single array of NumPy; write all arrays of the model by numpy.savez",
    b"\x89HDF": "HDF5; write the arrays by numpy.savez, named as the module names them",
}
"""The first bytes of files of arrays that are not read, and what to do about them."""

MAPS = {*range(0x81, 0x90), 0xDE, 0xDF}
"""The first byte of a msgpack that is a map and holds something."""
LONGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, at most, as its library has it."""


def detect(path: pathlib.Path, wanted: str = "auto") -> str:
    r"""Returns the format of a checkpoint, one of `FORMATS` without "auto".

    Args:
      path: a file or a folder.
      wanted: the format that the checkpoint is said to have.

    Raises:
      InvalidInputError: there is nothing at the path, it is a pickle or of no known format, or it
        has another format than `wanted`.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "model")
      ...     _ = path.write_bytes(b"\x81\xa6params\x80")
      ...     detect(path)
      'msgpack'
    """
    check_choice("format", wanted, FORMATS)
    try:
        format = "orbax" if path.is_dir() else _detect_file(path)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f"checkpoint: {path} cannot be opened ({reason(error)}); see to the path"
        ) from error
    if wanted not in ("auto", format):
        content = "a folder, as Orbax writes" if format == "orbax" else format
        raise InvalidInputError(
            f"checkpoint: {path} was said to be {wanted}, but its content is {content}; leave "
            "format at 'auto'"
        )
    return format


def _detect_file(path: pathlib.Path) -> str:
    """Returns the format of a file, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise InvalidInputError(f"checkpoint: {path} is empty; was it written to the end?")

    # A safetensors begins with the length of its header, which is JSON.
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= length <= min(LONGEST_HEADER, path.stat().st_size):
        return "safetensors"

    # Pickles, plain and compressed.
    if start.startswith(PROTOCOLS):
        raise _refusal(path, "is a pickle")
    for magic, name in COMPRESSED.items():
        if start.startswith(magic):
            raise _refusal(path, f"is compressed by {name}, as pickles of joblib are")

    if start.startswith(b"PK"):
        return _detect_zip(path)
    for magic, what in OTHERS.items():
        if start.startswith(magic):
            raise InvalidInputError(f"checkpoint: {path} is {what}")
    if start[0] in MAPS:
        return "msgpack"
    raise InvalidInputError(
        f"checkpoint: {path} is of no known format, it begins with {start!r}; wanted Flax msgpack, "
        "safetensors, .npz, or a folder of Orbax"
    )


def _detect_zip(path: pathlib.Path) -> str:
    """Returns "npz", if an archive holds arrays and no pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InvalidInputError(
            f"checkpoint: {path} begins like an .npz and is cut short or damaged "
            f"({reason(error)}); write it anew"
        ) from error
    if any(name.endswith(".pkl") for name in names):
        raise _refusal(path, "is an archive of PyTorch with a pickle in it")
    if not any(name.endswith(".npy") for name in names):
        raise InvalidInputError(
            f"checkpoint: {path} is a zip archive without arrays, it has {names[:3]}; "
            "wanted an .npz"
        )
    return "npz"


def _refusal(path: pathlib.Path, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"checkpoint: {path} {what}, and opening a pickle runs whatever code is in it; convert it: "
        f"{CONVERT}"
    )
