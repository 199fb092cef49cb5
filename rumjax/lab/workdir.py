"""The work directory: every result is whole or absent, and all are of one configuration.

Files are written under a temporary name and renamed, or put into a bucket in one piece; models go
through Orbax, which sees to that itself, with a digest of their contents. `stages.json` holds the
part of the configuration that each stage was made with: the same command goes on where it stopped,
another configuration is refused.
"""

import contextlib
import copy
import hashlib
import io
import json
import logging
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import IO, Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rumjax.archives import Archive, reason
from rumjax.errors import DamagedFileError, InvalidInputError, WorkDirectoryError
from rumjax.lab import files
from rumjax.lab.storage import Bucket, Folder
from rumjax.types import Variables


class WorkDirectory:
    """Holds a run's directory for as long as the process lives or until `close` is called.

    A local one is locked. A bucket knows no locks: that no two processes use one name in it at the
    same time is left to whoever starts them.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, WorkDirectory(folder) as work:
      ...     work.write_arrays("mine.npz", {"numbers": np.arange(3)})
      ...     work.read_arrays("mine.npz")["numbers"]
      array([0, 1, 2])
    """

    def __init__(
        self, path: str | os.PathLike[str], *, holder: str = "main", lock: bool = True
    ) -> None:
        """Opens the directory; a local one is created and locked.

        Args:
          path: of the directory, or of one in a bucket, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER.
          holder: the name it is held under, of letters, digits and underscores; processes of
            different names may work in it at the same time.
          lock: whether a local one is locked; not for workers, whose names are their own. What one
            of them leaves half written goes when the main holder opens the directory a day later.

        Raises:
          InvalidInputError: `holder` is no such name.
          WorkDirectoryError: it cannot be written, another process holds it under this name, or it
            is remote and in no such bucket.
        """
        if not re.fullmatch(r"\w+", holder):
            raise InvalidInputError(f"holder {holder!r}: wanted letters, digits and underscores")
        remote = "://" in os.fspath(path)
        self._files = Bucket(os.fspath(path)) if remote else Folder(path, holder, lock)
        self.path = self._files.path
        self.holder = holder
        self._read_back: set[Any] = set()

    def below(self, folder: str) -> "WorkDirectory":
        """Returns a folder of this directory, which need not be there yet.

        Names are relative to it. It is held, and released, with the whole directory.
        """
        below = copy.copy(self)
        below._files = self._files.below(folder)
        below.path = below._files.path
        return below

    def close(self) -> None:
        """Releases the lock, if there is one."""
        self._files.close()

    def __enter__(self) -> "WorkDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Stages

    def claim(
        self, stages: Mapping[str, Any], made_by: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Records what each stage depends on, if that agrees with what is recorded already.

        Args:
          stages: for each stage, in order, the JSON-like configuration it depends on.
          made_by: for each stage, patterns of the files it makes; a stage that has made nothing
            yet may change. Without it, none may.

        Raises:
          WorkDirectoryError: a stage was made with another configuration; names what changed.
        """
        recorded = self.read_json(files.STAGE_RECORD, missing={})
        current = json.loads(json.dumps(stages))
        for stage, configuration in current.items():
            made = made_by is None or any(map(self.names, made_by[stage]))
            if made and stage in recorded and recorded[stage] != configuration:
                changes = "; ".join(differences(recorded[stage], configuration))
                raise WorkDirectoryError(
                    f"stage {stage!r} in {self.path} was made with another configuration: "
                    f"{changes}. Choose another --workdir, or make it anew with "
                    f"--recompute={stage}"
                )
        if recorded | current != recorded:
            self.write_json(files.STAGE_RECORD, recorded | current)

    def forget(self, *patterns: str, stages: Sequence[str]) -> None:
        """Deletes files and checkpoints by pattern, and what is recorded of stages.

        Args:
          patterns: relative to the directory, with `*`.
          stages: their names, or the beginning of their names up to a slash.
        """
        self.delete(*patterns)
        recorded = self.read_json(files.STAGE_RECORD, missing={})
        kept = {
            name: configuration
            for name, configuration in recorded.items()
            if name not in stages and name.split("/")[0] not in stages
        }
        self.write_json(files.STAGE_RECORD, kept)

    # Files

    def has(self, name: str) -> bool:
        """Says whether there is such a file."""
        return self._files.exists(name)

    def names(self, pattern: str) -> list[str]:
        """Lists the files and folders that match a pattern, in order; none that is half written."""
        return sorted(self._files.names(pattern))

    def delete(self, *patterns: str) -> None:
        """Deletes files and folders by pattern; what is recorded of stages stays."""
        for pattern in patterns:
            for name in self.names(pattern):
                self._files.delete(name)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Opens a file in memory, which takes its place and name when all is written.

        Raises:
          WorkDirectoryError: it cannot be written, for example because the disk is full.
        """
        file = io.BytesIO()
        yield file
        self._files.write(name, file.getvalue())

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file, UTF-8."""
        with self.writing(name) as file:
            file.write(text.encode(errors="backslashreplace"))  # names of files may be any bytes

    def read_bytes(self, name: str, *, missing: bytes = b"") -> bytes:
        """Reads a file as it is.

        Args:
          name: of the file.
          missing: returned where there is none.

        Raises:
          WorkDirectoryError: it cannot be read.
        """
        try:
            return self._files.read(name)
        except FileNotFoundError:
            return missing
        except OSError as error:
            raise WorkDirectoryError(
                f"{self.path / name} cannot be read ({reason(error)})"
            ) from error

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file, with null for what is not finite, which JSON cannot say."""
        self.write_text(name, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")

    def read_json(self, name: str, *, missing: Any = None, keys: Collection[str] = ()) -> Any:
        """Reads a JSON file.

        Args:
          name: of the file.
          missing: returned where there is none; the value in the file must be of its type.
          keys: that the object in the file must have.

        Raises:
          WorkDirectoryError: the file is damaged.
        """
        try:
            value = json.loads(self._files.read(name).decode())
            wanted = dict if keys or missing is None else type(missing)
            if not isinstance(value, wanted):
                raise ValueError(f"it holds {type(value).__name__}, not {wanted.__name__}")
            _check_keys(value, keys)
            return value
        except FileNotFoundError:
            return missing
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged(name, error) from error

    def write_arrays(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Writes an .npz file, with checksums and uncompressed: floats hardly become smaller.

        Arrays may have any name: `np.savez` would take some of them for its own arguments.
        """
        with self.writing(name) as file, zipfile.ZipFile(file, "w") as archive:
            for key, array in arrays.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    def read_arrays(self, name: str, *, keys: Collection[str] = ()) -> dict[str, np.ndarray]:
        """Reads an .npz file.

        Args:
          name: of the file.
          keys: of arrays that the file must have.

        Raises:
          WorkDirectoryError: the file is damaged.
        """
        try:
            content = io.BytesIO(self._files.read(name))
            arrays = dict(Archive(content, name))
            _check_keys(arrays, keys)
            return arrays
        except (OSError, ValueError) as error:
            raise self._damaged(name, error.__cause__ or error) from error

    # Models

    def save_model(self, name: str, variables: Variables) -> None:
        """Saves a model under `checkpoints/name` by Orbax, with a digest of its contents.

        A model that is already there is replaced. The first one in each folder is read back, so
        that a path or a file system that Orbax cannot read from is found out at once.

        Raises:
          WorkDirectoryError: it could not be written, or not be read back.
        """
        target = files.checkpoint(name)
        state = {"params": variables.params, "batch_stats": variables.batch_stats}
        try:
            with self._files.saving(target) as folder, self._manager(folder) as manager:
                manager.save(
                    0,
                    args=ocp.args.Composite(
                        variables=ocp.args.StandardSave(state),
                        digest=ocp.args.JsonSave({"sha256": digest(variables)}),
                    ),
                )
            if self.path not in self._read_back:
                self._check_readable(name, variables)
        except Exception as error:  # Orbax, TensorStore and buckets raise many kinds
            with contextlib.suppress(Exception):
                self._files.delete(target)
            if isinstance(error, WorkDirectoryError):
                raise
            raise self._files.unwritten(target, error) from error

    def has_model(self, name: str) -> bool:
        """Says whether a model was saved under that name."""
        return self._files.exists(f"{files.checkpoint(name)}/{self._files.committed}")

    def load_model(self, name: str, like: Variables) -> Variables:
        """Loads the model that was saved as `checkpoints/name`.

        Args:
          name: as given to `save_model`.
          like: arrays, or shapes and dtypes, of the model's structure.

        Raises:
          WorkDirectoryError: the checkpoint is damaged or of another model.
        """
        target = files.checkpoint(name)
        # Else Orbax looks for the device that the model was saved from.
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        state = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
            {"params": like.params, "batch_stats": like.batch_stats},
        )
        try:
            with self._files.loading(target) as folder, self._manager(folder) as manager:
                restored = manager.restore(
                    0,
                    args=ocp.args.Composite(
                        variables=ocp.args.StandardRestore(state),
                        digest=ocp.args.JsonRestore(),
                    ),
                )
            variables = Variables(restored.variables["params"], restored.variables["batch_stats"])
            if restored.digest["sha256"] != digest(variables):
                raise ValueError("its contents do not match its digest")
        except Exception as error:  # Orbax and TensorStore raise many kinds
            raise self._damaged(target, error) from error
        return variables

    def _check_readable(self, name: str, variables: Variables) -> None:
        """Reads a model back that was just saved in this folder, the first one."""
        try:
            self.load_model(name, variables)
        except DamagedFileError as error:
            raise WorkDirectoryError(
                f"{self.path / files.checkpoint(name)} was written and cannot be read back "
                f"({reason(error.__cause__ or error)}); choose another --workdir, whose path has "
                "letters, digits and the like only, or which is on another file system"
            ) from error
        self._read_back.add(self.path)

    @contextlib.contextmanager
    def _manager(self, folder: Any) -> Iterator[ocp.CheckpointManager]:
        options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
        # Orbax logs what it raises, and what its threads raise, which outlive the manager.
        logger = logging.getLogger("absl")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        logger.addFilter(_no_traceback_of_orbax)
        try:
            with ocp.CheckpointManager(folder, options=options) as manager:
                yield manager
        finally:
            logger.setLevel(level)

    def _damaged(self, name: str, error: BaseException) -> DamagedFileError:
        return DamagedFileError(
            f"{self.path / name} is damaged or of another model ({reason(error)}); "
            "delete it and start again: it will be made anew"
        )


def _no_traceback_of_orbax(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in pathlib.Path(record.pathname).parts)


def digest(variables: Variables) -> str:
    """Returns the SHA-256 over the leaves' paths, shapes, dtypes and bytes."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tuple(variables)):
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _check_keys(value: Any, keys: Collection[str]) -> None:
    """Checks that a mapping has these keys.

    Raises:
      ValueError: it lacks one.
    """
    if missing := [key for key in keys if key not in value]:
        raise ValueError(f"it lacks {', '.join(missing)}")


def finite(value: Any) -> Any:
    """Returns a JSON-like value with None for numbers that are not finite.

    Examples:
      >>> finite({"loss": [0.5, float("nan")]})
      {'loss': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Lists what differs between two JSON-like values, as "where: old, now new"."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change
            for key in sorted(old.keys() | new.keys())
            for change in differences(
                old.get(key, "absent"), new.get(key, "absent"), f"{path}.{key}".lstrip(".")
            )
        ]
    return [] if old == new else [f"{path}: {old}, now {new}"]
