"""The work directory: every result whole or absent, and only ever of one configuration.

Files are written under a temporary name and renamed; models go through Orbax, which does the same,
with a digest of their contents. `stages.json` holds the part of the configuration that each stage
was made with: the same command goes on where it stopped, another configuration is refused.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rumjax.errors import WorkDirectoryError
from rumjax.types import Variables


class WorkDirectory:
    """A run's directory, locked for as long as the process lives or `close` is called."""

    def __init__(self, path: str | os.PathLike[str], *, holder: str = "main") -> None:
        """Creates the directory and locks it.

        Args:
          path: of the directory.
          holder: the name it is locked under; several processes of different names may work in it.

        Raises:
          WorkDirectoryError: it cannot be written, or another process is using it.
        """
        self.path = pathlib.Path(path).expanduser().resolve()
        self.holder = holder
        lock = self.path / (".lock" if holder == "main" else f".lock-{holder}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(lock, "w")  # noqa: SIM115 (held until close)
        except OSError as error:
            raise WorkDirectoryError(
                f"work directory {self.path} cannot be written ({error.strerror}); "
                "choose another one with --workdir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise WorkDirectoryError(
                f"work directory {self.path} is in use by another process ({holder}); "
                "wait for it, or choose another one with --workdir"
            ) from error
        except OSError as error:
            self._lock.close()
            raise WorkDirectoryError(
                f"work directory {self.path} is on a file system without locks "
                f"({error.strerror}); choose another one with --workdir"
            ) from error
        mine = f".partial-{holder}-*"
        for pattern in (mine, f"*/{mine}", f"*/*/{mine}"):
            for leftover in self.path.glob(pattern):
                leftover.unlink(missing_ok=True)

    def close(self) -> None:
        """Releases the lock."""
        self._lock.close()

    def __enter__(self) -> "WorkDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Stages

    def claim(
        self, stages: Mapping[str, Any], files: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Records what each stage depends on, if that agrees with what is recorded already.

        Args:
          stages: for each stage, in order, the JSON-like configuration it depends on.
          files: for each stage, patterns of what it makes; a stage that has made nothing yet may
            change. Without it, none may.

        Raises:
          WorkDirectoryError: a stage was made with another configuration; names what changed.
        """
        recorded = self.read_json("stages.json", missing={})
        current = json.loads(json.dumps(stages))
        for stage, configuration in current.items():
            made = files is None or any(map(self.names, files[stage]))
            if made and stage in recorded and recorded[stage] != configuration:
                changes = "; ".join(differences(recorded[stage], configuration))
                raise WorkDirectoryError(
                    f"stage {stage!r} in {self.path} was made with another configuration: "
                    f"{changes}. Choose another --workdir, or make it anew with "
                    f"--recompute={stage}"
                )
        self.write_json("stages.json", recorded | current)

    def forget(self, *patterns: str, stages: Sequence[str]) -> None:
        """Deletes files and checkpoints by pattern, and what is recorded of stages.

        Args:
          patterns: relative to the directory, with `*`.
          stages: their names, or the beginning of their names up to a slash.
        """
        for pattern in patterns:
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        recorded = self.read_json("stages.json", missing={})
        kept = {
            name: configuration
            for name, configuration in recorded.items()
            if name not in stages and name.split("/")[0] not in stages
        }
        self.write_json("stages.json", kept)

    # Files

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).exists()

    def names(self, pattern: str) -> list[str]:
        """The names of the files that match, in order."""
        found = sorted(self.path.glob(pattern))
        return [str(path.relative_to(self.path)) for path in found]

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write to, which takes its name when all is written.

        Raises:
          WorkDirectoryError: it cannot be written, for example because the disk is full.
        """
        target = self.path / name
        temporary = target.parent / f".partial-{self.holder}-{target.name}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError as error:
            raise WorkDirectoryError(
                f"{target} could not be written ({error.strerror or error}); "
                "make room or choose another --workdir, and start again to go on from here"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file, UTF-8."""
        with self.writing(name) as file:
            file.write(text.encode())

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file."""
        self.write_text(name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str, *, missing: Any = None) -> Any:
        """Reads a JSON file; `missing` where there is none.

        Raises:
          WorkDirectoryError: the file is damaged.
        """
        target = self.path / name
        if not target.exists():
            return missing
        try:
            return json.loads(target.read_text())
        except (OSError, ValueError) as error:
            raise self._damaged(target, error) from error

    def write_arrays(self, name: str, **arrays: Any) -> None:
        """Writes an .npz file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        with self.writing(name) as file:
            file.write(buffer.getbuffer())

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Reads an .npz file.

        Raises:
          WorkDirectoryError: the file is damaged.
        """
        target = self.path / name
        try:
            # NumPy leaves a file open that it has opened itself and cannot read.
            with open(target, "rb") as file, np.load(file) as archive:
                return {key: archive[key] for key in archive.files}
        except Exception as error:  # zipfile, zlib and NumPy each raise their own
            raise self._damaged(target, error) from error

    # Models

    def save_model(self, name: str, variables: Variables) -> None:
        """Saves a model under `checkpoints/name` by Orbax, with a digest of its contents.

        A model that is already there is replaced.

        Raises:
          WorkDirectoryError: it could not be written.
        """
        target = self.path / "checkpoints" / name
        state = {"params": variables.params, "batch_stats": variables.batch_stats}
        shutil.rmtree(target, ignore_errors=True)  # else Orbax keeps what is there
        try:
            with self._manager(target) as manager:
                manager.save(
                    0,
                    args=ocp.args.Composite(
                        variables=ocp.args.StandardSave(state),
                        digest=ocp.args.JsonSave({"sha256": digest(variables)}),
                    ),
                )
        except (OSError, ValueError) as error:
            shutil.rmtree(target, ignore_errors=True)
            raise WorkDirectoryError(
                f"{target} could not be written ({reason(error)}); "
                "make room or choose another --workdir, and start again to go on from here"
            ) from error

    def has_model(self, name: str) -> bool:
        """Whether a model was saved under that name."""
        return (self.path / "checkpoints" / name / "0").exists()

    def load_model(self, name: str, like: Variables) -> Variables:
        """The model saved as `checkpoints/name`.

        Args:
          name: as given to `save_model`.
          like: arrays, or shapes and dtypes, of the model's structure.

        Raises:
          WorkDirectoryError: the checkpoint is damaged or of another model.
        """
        target = self.path / "checkpoints" / name
        # Else Orbax looks for the device that the model was saved from.
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        state = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
            {"params": like.params, "batch_stats": like.batch_stats},
        )
        try:
            with self._manager(target) as manager:
                found = manager.restore(
                    0,
                    args=ocp.args.Composite(
                        variables=ocp.args.StandardRestore(state),
                        digest=ocp.args.JsonRestore(),
                    ),
                )
            variables = Variables(found.variables["params"], found.variables["batch_stats"])
            if found.digest["sha256"] != digest(variables):
                raise ValueError("its contents do not match its digest")
        except Exception as error:  # Orbax and TensorStore raise many kinds
            raise self._damaged(target, error) from error
        return variables

    @staticmethod
    @contextlib.contextmanager
    def _manager(target: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
        options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
        # Orbax logs the tracebacks of its threads; what it raises says enough.
        logger = logging.getLogger("absl")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            with ocp.CheckpointManager(target, options=options) as manager:
                yield manager
        finally:
            logger.setLevel(level)

    @staticmethod
    def _damaged(target: pathlib.Path, error: Exception) -> WorkDirectoryError:
        return WorkDirectoryError(
            f"{target} is damaged or of another model ({reason(error)}); "
            "delete it and start again: it will be made anew"
        )


def reason(error: Exception) -> str:
    """The beginning of what an error says, or its kind if it says nothing."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def digest(variables: Variables) -> str:
    """SHA-256 over the leaves' paths, shapes, dtypes and bytes."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tuple(variables)):
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs between two JSON-like values, as "where: old, now new"."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            found
            for key in sorted(old.keys() | new.keys())
            for found in differences(
                old.get(key, "absent"), new.get(key, "absent"), f"{path}.{key}".lstrip(".")
            )
        ]
    return [] if old == new else [f"{path}: {old}, now {new}"]
