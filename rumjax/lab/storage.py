"""Where a work directory's files are: in a local folder, or below a folder of a bucket.

Both write a file whole or not at all, and know files by names relative to themselves.
"""

import collections
import contextlib
import copy
import fcntl
import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TypeVar

import fsspec
from etils import epath

from rumjax.archives import reason
from rumjax.errors import WorkDirectoryError

A_DAY = 24 * 60 * 60
"""Seconds after which nobody is still writing a file."""

AT_ONCE = 16
"""Files that are read at the same time: a bucket answers late, and many requests at once."""

Name = TypeVar("Name")
Content = TypeVar("Content")


def ahead(read: Callable[[Name], Content], names: Iterable[Name]) -> Iterator[Content]:
    """Yields what is read under each name, in order, while the next `AT_ONCE` are being read.

    Examples:
      >>> list(ahead(lambda name: name.upper(), "abc"))
      ['A', 'B', 'C']
    """
    reading: collections.deque[Future[Content]] = collections.deque()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for name in names:
            reading.append(threads.submit(read, name))
            if len(reading) == AT_ONCE:
                yield reading.popleft().result()
        while reading:
            yield reading.popleft().result()


class LocalPath(epath.gpath.PosixGPath):
    """A local path that Orbax takes literally, whatever signs it has.

    The one of etils takes `[`, `*` and `?` of the whole path for patterns, and a folder `/gs` for
    buckets.
    """

    _uri_scheme = None

    def glob(self, pattern: str) -> Iterator["LocalPath"]:
        """Yields the files and folders below that match a pattern."""
        return map(type(self), pathlib.Path(self).glob(pattern))


class Folder:
    """Holds the files of a local directory, which it may lock."""

    committed = "0"
    """The name that is there once Orbax has saved a model to the end."""

    def __init__(self, path: str | os.PathLike[str], holder: str, lock: bool = True) -> None:
        """Creates the folder if need be, and locks it under the name of its holder if wanted."""
        self.holder = holder
        self._lock: IO[str] | None = None

        # A lock file shows whether the folder can be written, too.
        name = ".lock" if holder == "main" else f".lock-{holder}"
        try:
            self.path = pathlib.Path(path).expanduser().resolve()
            self.path.mkdir(parents=True, exist_ok=True)
            if lock:
                self._lock = open(self.path / name, "w")  # noqa: SIM115 (held until close)
        except (OSError, ValueError, RuntimeError) as error:  # the last: a ~user that is not there
            raise WorkDirectoryError(
                f"work directory {os.fspath(path)!r} cannot be written ({reason(error)}); "
                "choose another one with --workdir"
            ) from error
        if self._lock is not None:
            self._hold(self._lock)
            self._tidy()

    def _hold(self, file: IO[str]) -> None:
        """Locks the folder, for as long as a file stays open."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise WorkDirectoryError(
                f"work directory {self.path} is in use by another process ({self.holder}); "
                "wait for it, or choose another one with --workdir"
            ) from error
        except OSError as error:
            file.close()
            raise WorkDirectoryError(
                f"work directory {self.path} is on a file system without locks "
                f"({error.strerror}); choose another one with --workdir"
            ) from error

    def _tidy(self) -> None:
        """Removes what an earlier process of this name left half written.

        Of others, who may be at work without a lock, the main holder removes what is a day old.
        """
        whose = "*" if self.holder == "main" else f"{self.holder}-*"
        half = f".partial-{whose}"
        for pattern in (half, f"*/{half}", f"*/*/{half}", f"cases/*/*/{half}"):
            for leftover in self.path.glob(pattern):
                mine = leftover.name.startswith(f".partial-{self.holder}-")
                with contextlib.suppress(FileNotFoundError):  # its writer has just finished
                    if mine or leftover.lstat().st_mtime < time.time() - A_DAY:
                        _delete(leftover)

    def below(self, folder: str) -> "Folder":
        """Returns the storage of a folder below, which need not be there yet."""
        below = copy.copy(self)
        below.path = self.path / folder
        return below

    def close(self) -> None:
        """Releases the lock, if there is one."""
        if self._lock is not None:
            self._lock.close()

    def exists(self, name: str) -> bool:
        """Says whether there is such a file or folder."""
        return (self.path / name).exists()

    def names(self, pattern: str) -> list[str]:
        """Lists the files and folders that match a pattern, none that is half written."""
        return [
            str(path.relative_to(self.path))
            for path in self.path.glob(pattern)
            if not path.name.startswith(".partial-")
        ]

    def read(self, name: str) -> bytes:
        """Reads a file."""
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, which appears or is replaced when all of it is there."""
        target = self.path / name
        temporary = target.parent / f".partial-{self.holder}-{target.name}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError as error:
            raise self.unwritten(name, error) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """Deletes a file, or a folder with all that is in it."""
        _delete(self.path / name)

    @contextlib.contextmanager
    def saving(self, name: str) -> Iterator[epath.Path]:
        """Gives the path of a folder in which Orbax is to save a model.

        The folder takes its name when that is done, and replaces another of that name: a worker
        whose driver was killed may be saving the same model.
        """
        target = self.path / name
        own, old = (
            target.parent / f".partial-{self.holder}-{word}-{target.name}"
            for word in ("new", "old")
        )
        try:
            for leftover in (own, old):
                _delete(leftover)
            yield LocalPath(own)
            with contextlib.suppress(FileNotFoundError):
                target.rename(old)
            try:
                own.rename(target)
            except OSError:
                if not target.exists():  # else another worker has just saved it
                    raise
        finally:
            for leftover in (own, old):
                _delete(leftover)

    @contextlib.contextmanager
    def loading(self, name: str) -> Iterator[epath.Path]:
        """Gives the path of a folder from which Orbax is to load a model."""
        yield LocalPath(self.path / name)

    def unwritten(self, name: str, error: Exception) -> WorkDirectoryError:
        """Words the error of a file that could not be written."""
        return WorkDirectoryError(
            f"{self.path / name} could not be written ({reason(error)}); "
            "make room or choose another --workdir, and start again to go on from here"
        )


def _delete(path: pathlib.Path) -> None:
    """Deletes a file, or a folder with all that is in it, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Bucket:
    """Holds objects below a folder of a bucket, in Google Cloud Storage or S3."""

    committed = "0/commit_success.txt"

    def __init__(self, uri: str) -> None:
        """Opens the bucket; nothing is locked, since buckets know no locks."""
        if not re.fullmatch(r"(gs|s3)://[^*?\[\]]+", uri):  # else patterns are taken for others
            raise WorkDirectoryError(
                f"work directory {uri}: of remote ones only gs://BUCKET/FOLDER and "
                "s3://BUCKET/FOLDER are known, without *, ?, [ and ]; choose another one with "
                "--workdir"
            )
        self._copies = uri.startswith("s3:")
        package, extra = ("s3fs", "s3") if self._copies else ("gcsfs", "gcs")
        # Of S3 a file is read in one request. The other is opened as etils does for Orbax, so that
        # both have one view of what is there.
        options = {"max_concurrency": 1} if self._copies else {"finalize_on_close": True}
        try:
            self.system, root = fsspec.url_to_fs(uri, **options)
        except ImportError as error:
            raise WorkDirectoryError(
                f"work directory {uri} needs {package}: pip install 'rumjax[{extra}]'"
            ) from error
        self.root = root.rstrip("/")
        self.path = epath.Path(uri)

    def below(self, folder: str) -> "Bucket":
        """Returns the storage of a folder below, which need not be there yet."""
        below = copy.copy(self)
        below.root, below.path = f"{self.root}/{folder}", self.path / folder
        return below

    def close(self) -> None:
        """Does nothing: there is no lock."""

    def exists(self, name: str) -> bool:
        """Says whether there is such a file or folder."""
        try:
            with self._reached(name):
                self.system.info(f"{self.root}/{name}")
        except FileNotFoundError:
            return False
        return True

    def names(self, pattern: str) -> list[str]:
        """Lists the files and folders that match a pattern, none that is half written."""
        try:
            with self._reached(pattern):
                paths = self.system.glob(f"{self.root}/{pattern}")
        except FileNotFoundError:
            return []
        return [path.removeprefix(f"{self.root}/") for path in paths]

    def read(self, name: str) -> bytes:
        """Reads a file."""
        with self._reached(name):
            return bytes(self.system.cat_file(f"{self.root}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, which appears or is replaced when all of it is there."""
        try:
            self.system.pipe_file(f"{self.root}/{name}", content)
        except Exception as error:
            raise self.unwritten(name, error) from error

    def delete(self, name: str) -> None:
        """Deletes a file, or a folder with all that is in it."""
        with contextlib.suppress(FileNotFoundError), self._reached(name):
            self.system.rm(f"{self.root}/{name}", recursive=True)

    @contextlib.contextmanager
    def saving(self, name: str) -> Iterator[epath.Path]:
        """Gives the path of a folder in which Orbax is to save a model.

        Orbax writes to Google Cloud Storage itself. For S3 it has no means: there a model is saved
        to a local folder, whose files are put into the bucket, and last the mark that all are.
        """
        self.delete(name)  # else Orbax keeps what is there
        if not self._copies:
            yield self.path / name
            return
        with tempfile.TemporaryDirectory(prefix="rumjax-") as folder:
            yield LocalPath(folder)
            saved = pathlib.Path(folder)
            for path in sorted(path for path in saved.rglob("*") if path.is_file()):
                file = path.relative_to(saved).as_posix()
                if file != self.committed:
                    self.write(f"{name}/{file}", path.read_bytes())
        self.write(f"{name}/{self.committed}", b"")

    @contextlib.contextmanager
    def loading(self, name: str) -> Iterator[epath.Path]:
        """Gives the path of a folder from which Orbax is to load a model."""
        if not self._copies:
            yield self.path / name
            return
        with tempfile.TemporaryDirectory(prefix="rumjax-") as folder:
            with self._reached(name):
                saved = self.system.find(f"{self.root}/{name}")
            for path in saved:
                file = path.removeprefix(f"{self.root}/{name}/")
                target = pathlib.Path(folder, file)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.read(f"{name}/{file}"))
            yield LocalPath(folder)

    def unwritten(self, name: str, error: Exception) -> WorkDirectoryError:
        """Words the error of a file that could not be written."""
        return self._unreached(name, "written", error)

    @contextlib.contextmanager
    def _reached(self, name: str) -> Iterator[None]:
        self.system.invalidate_cache()  # other processes write there too
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._unreached(name, "reached", error) from error

    def _unreached(self, name: str, what: str, error: Exception) -> WorkDirectoryError:
        return WorkDirectoryError(
            f"{self.path / name} could not be {what} ({type(error).__name__}: {reason(error)}); "
            "see to the bucket, the network and the credentials, and start again to go on from here"
        )
