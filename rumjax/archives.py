"""Files that are whole or refused: arrays of NumPy's are read so, and any content written so."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from rumjax.errors import InvalidInputError

SINGLE = ""
"""The name of the array of an .npy, which has no name in the file."""
MAGIC = {".npz": b"PK", ".npy": b"\x93NUMPY"}
"""The first bytes of each kind of file."""


class Archive(Mapping[str, np.ndarray]):
    """Holds the arrays of an open file by name, and reads each when it is asked for.

    NumPy, zipfile and zlib raise many kinds of exceptions over a damaged file, of which some are
    raised when the file is opened and some when an array is read. All become InvalidInputError.
    """

    def __init__(self, file: IO[bytes], where: str) -> None:
        """Opens an .npz or .npy, whatever the name of the file.

        Args:
          file: at its beginning; it must stay open while arrays are read.
          where: what the file is and its path, for messages.

        Raises:
          InvalidInputError: it is neither, or is cut short.
        """
        self.where = where
        self._arrays: Mapping[str, Any]
        with self._refusing():
            # Neither kind: NumPy would take it for a pickle.
            start = file.read(len(MAGIC[".npy"]))
            if not start.startswith(tuple(MAGIC.values())):
                raise ValueError(f"it begins with {start!r}" if start else "it is empty")
            file.seek(0)

            # An .npy is read at once; the directory at the end of an .npz must be complete.
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                self._arrays = {SINGLE: loaded}
            else:
                self._arrays = loaded
                _check_members(file, loaded)

    def __getitem__(self, name: str) -> np.ndarray:
        """Reads an array.

        Raises:
          InvalidInputError: it is damaged, or no array.
          KeyError: there is none of that name.
        """
        if name not in self._arrays:
            raise KeyError(name)
        with self._refusing(f"array {name!r}: "):
            array = self._arrays[name]
            if not isinstance(array, np.ndarray):
                raise ValueError("it is a file of another kind")
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @contextlib.contextmanager
    def _refusing(self, which: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever is raised, it is the file that is wrong
            raise InvalidInputError(
                f"{self.where} cannot be read as .npz or .npy ({which}{reason(error)}); write it "
                "anew with numpy.savez or numpy.save"
            ) from error


@contextlib.contextmanager
def open_arrays(path: str | os.PathLike[str], what: str) -> Iterator[Archive]:
    """Opens a user's .npz or .npy; arrays are read one at a time, as some are large.

    Args:
      path: of the file; a leading ~ is the home directory.
      what: what the file is meant to hold, for messages: "scores", for example.

    Raises:
      InvalidInputError: the file cannot be read; says why.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(f"{folder}/mine.npz", memorization=np.array([0.1, 0.7]))
      ...     with open_arrays(f"{folder}/mine.npz", "scores") as arrays:
      ...         list(arrays), arrays["memorization"].shape
      (['memorization'], (2,))
    """
    try:
        file = pathlib.Path(path).expanduser().open("rb")
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # no such user is the last
        raise InvalidInputError(
            f"{what}: {path} cannot be opened ({reason(error)}); see to the path"
        ) from error
    with file:
        yield Archive(file, f"{what}: {path}")


def read_arrays(path: str | os.PathLike[str], what: str) -> dict[str, np.ndarray]:
    """Reads all arrays of a user's .npz, or the one of an .npy under the name `SINGLE`.

    Args:
      path: of the file; a leading ~ is the home directory.
      what: what the file is meant to hold, for messages.

    Raises:
      InvalidInputError: the file cannot be read; says why.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.save(f"{folder}/mine.npy", [3, 1])
      ...     read_arrays(f"{folder}/mine.npy", "forget set")
      {'': array([3, 1])}
    """
    with open_arrays(path, what) as arrays:
        return dict(arrays)


def reason(error: BaseException) -> str:
    """Returns the first line of an error's message, or its type where it has none.

    Examples:
      >>> reason(FileNotFoundError(2, "No such file or directory", "mine.npz"))
      'No such file or directory'
      >>> reason(EOFError())
      'EOFError'
    """
    message = getattr(error, "strerror", None) or str(error)
    return str(message).strip().split("\n")[0][:200] or type(error).__name__


def _check_members(file: IO[bytes], archive: Any) -> None:
    """Compares how many members an archive has and says it has, which zipfile does not.

    Raises:
      ValueError: members are missing.
    """
    # The number is 12 bytes before the comment at the end, and 65 535 stands for more.
    file.seek(-12 - len(archive.zip.comment), os.SEEK_END)
    declared = int.from_bytes(file.read(2), "little")
    if declared not in (len(archive.files), 0xFFFF):
        raise ValueError("arrays are missing")


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file whole or not at all, even if the process is killed.

    Args:
      path: of the file, which is replaced if it is there.
      content: all of it.

    Raises:
      OSError: it cannot be written.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_whole(f"{folder}/mine.bin", b"all")
      ...     [file.name for file in pathlib.Path(folder).iterdir()]
      ['mine.bin']
    """
    target = pathlib.Path(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
