"""Checkpoints in folders of Orbax: v0, v1, and the roots of its managers."""

import contextlib
import json
import logging
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from rumjax.checkpoints.files import damaged
from rumjax.errors import InvalidInputError
from rumjax.types import PyTree

ARRAYS = "_METADATA"
"""The file in a folder that Orbax saved a tree of arrays to."""
V1 = "orbax.checkpoint"
"""The empty file in a folder of Orbax v1."""
DETAILS = "_CHECKPOINT_METADATA"
"""The file in which Orbax says who saved a step, and what its user says of it."""
METRICS = "metrics"
"""The item that a manager keeps for itself."""
STEP = re.compile(r"(?:(?P<prefix>.+)_)?(?P<number>\d+)")
"""The name of a step's folder."""


class Folder(NamedTuple):
    """How a checkpoint lies in a folder."""

    path: pathlib.Path
    form: Literal["tree", "v1", "step", "root"]
    """a tree of arrays; items in a folder of v1; items in a step of a manager; a manager's root"""
    saved: pathlib.Path
    """the folder that was saved at once: the step of a root, else the path"""
    items: tuple[str, ...]
    """names of those that are trees of arrays; empty if the folder is one itself"""
    others: tuple[str, ...]
    """names of the other items"""
    notes: tuple[str, ...] = ()

    def name(self, item: str | None) -> str:
        """Returns the format, with the step and the item if there are some."""
        if self.form == "tree" or not self.items:
            return "orbax v0"
        named = "" if item is None else f", item {item}"
        if self.form == "v1":
            return "orbax v1" + (named if len(self.items) > 1 else "")
        return f"checkpoint manager, step {_number(self.saved.name)}{named}"

    def details(self) -> dict[str, Any]:
        """Returns what Orbax says of the step or tree; empty if it says nothing."""
        try:
            details = json.loads((self.saved / DETAILS).read_text())
        except (OSError, ValueError):
            return {}
        return details if isinstance(details, dict) else {}


def look(path: pathlib.Path) -> Folder:
    """Returns how a checkpoint lies in a folder.

    Raises:
      InvalidInputError: the folder holds none.
    """
    if (path / ARRAYS).is_file():
        return Folder(path, "tree", path, (), ())
    if (path / V1).is_file() or (path / DETAILS).is_file():
        items, others = _items(path)
        if items:
            return Folder(path, "v1" if (path / V1).is_file() else "step", path, items, others)

    # The last step is what a manager restores when it is not told which.
    steps = [folder for folder in path.iterdir() if _is_step(folder)]
    if not steps:
        raise InvalidInputError(f"checkpoint: {path} holds no checkpoint: {_absence(path)}")
    prefixes = sorted({_parts(folder.name)["prefix"] or "no name" for folder in steps})
    if len(prefixes) > 1:
        raise InvalidInputError(
            f"checkpoint: {path} holds steps of {', '.join(prefixes)}; give the path of one of them"
        )
    last = max(steps, key=lambda folder: _number(folder.name))
    step = look(last)
    notes: tuple[str, ...] = ()
    if len(steps) > 1:
        numbers = sorted(_number(folder.name) for folder in steps)
        shown = ", ".join(map(str, numbers[-4:-1]))
        notes = (
            f"step {numbers[-1]} was read, the last of {len(steps)}; earlier ones are "
            f"{'…, ' if len(numbers) > 4 else ''}{shown}",
        )
    return Folder(path, "root", last, step.items, step.others, notes)


def restore(folder: Folder) -> PyTree:
    """Returns a checkpoint's tree, untyped; with several items, a dictionary of their trees.

    Arrays that were JAX's are on one device of this machine, a CPU where there is one.

    Raises:
      InvalidInputError: Orbax cannot read it.
    """
    try:
        with _quiet():
            if not folder.items:
                return _restore_tree(folder.saved)
            return {item: _restore_tree(folder.saved / item) for item in folder.items}
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise damaged(folder.saved, "a checkpoint of Orbax", error) from error


def write(target: pathlib.Path, like: Folder, tree: PyTree, parent: pathlib.Path) -> None:
    """Writes a tree in the form of another checkpoint, by the version of Orbax that wrote it.

    Args:
      target: where the folder is to be.
      like: the other checkpoint.
      tree: as `restore` returned it, with other arrays.
      parent: an empty folder for what is only needed meanwhile.
    """
    details = like.details()
    custom = details.get("custom_metadata") or None
    with _quiet():
        if like.form == "v1":
            _write_v1(target, tree, custom)
        elif not like.items:
            step = target / like.saved.name if like.form == "root" else target
            _write_tree(step, tree, str(details.get("item_handlers")), custom)
            return
        else:
            root = target if like.form == "root" else parent / "root"
            _write_step(root, like, tree, details)
            if like.form == "step":
                (root / like.saved.name).rename(target)

    # Items that are no arrays are copied, where Orbax did not write them.
    saved = target / like.saved.name if like.form == "root" else target
    for other in like.others:
        if not (saved / other).exists():
            shutil.copytree(like.saved / other, saved / other)


def _restore_tree(path: pathlib.Path) -> PyTree:
    """Returns the tree of a folder of arrays."""
    handler = ocp.PyTreeCheckpointHandler()
    with ocp.Checkpointer(handler) as checkpointer:
        described = checkpointer.metadata(os.path.abspath(path)).item_metadata.tree
        arguments = jax.tree.map(_restore_argument, described)
        return checkpointer.restore(
            os.path.abspath(path), args=ocp.args.PyTreeRestore(restore_args=arguments)
        )


def _restore_argument(described: Any) -> ocp.RestoreArgs:
    """Returns how to restore a leaf as it was saved, on one device of this machine."""
    if not isinstance(described, ocp.metadata.ArrayMetadata):
        return ocp.RestoreArgs()
    dtype = np.dtype(described.dtype)
    if described.sharding is None or jax.dtypes.canonicalize_dtype(dtype) != dtype:
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=jax.sharding.SingleDeviceSharding(host()))


def host() -> jax.Device:
    """Returns a CPU of JAX's, or its first device where CPUs are switched off."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def _write_tree(target: pathlib.Path, tree: PyTree, handlers: str, custom: Any) -> None:
    """Writes a folder of arrays by v0."""
    if "standard" in handlers.lower():
        handler, arguments = ocp.StandardCheckpointHandler(), ocp.args.StandardSave(tree)
    else:
        handler, arguments = ocp.PyTreeCheckpointHandler(), ocp.args.PyTreeSave(tree)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(os.path.abspath(target), args=arguments, custom_metadata=custom)


def _write_step(root: pathlib.Path, like: Folder, tree: PyTree, details: dict[str, Any]) -> None:
    """Writes a root with one step, by the manager of the version that wrote the other."""
    step, custom = _number(like.saved.name), details.get("custom_metadata") or None
    handlers = details.get("item_handlers") or {}
    if not isinstance(handlers, dict):
        handlers = {}
    if any(".v1." in str(handler) for handler in handlers.values()):
        from orbax.checkpoint.experimental import v1

        with v1.training.Checkpointer(os.path.abspath(root)) as checkpointer:
            checkpointer.save_checkpointables(step, dict(tree), custom_metadata=custom)
        return

    # Each item by the handler that it had; "default" is what a manager names a single one.
    arguments: dict[str, Any] = {}
    for item, part in tree.items():
        standard = "pytree" not in str(handlers.get(item, "standard")).lower()
        arguments[item] = (ocp.args.StandardSave if standard else ocp.args.PyTreeSave)(part)
    for other in like.others:
        if other != METRICS and "json" in str(handlers.get(other, "")).lower():
            arguments[other] = ocp.args.JsonSave(_read_json(like.saved / other))
    single = list(arguments) == ["default"]
    options = ocp.CheckpointManagerOptions(
        enable_async_checkpointing=False,
        step_prefix=_parts(like.saved.name)["prefix"],
        step_format_fixed_length=_fixed_length(like.saved.name),
    )
    with ocp.CheckpointManager(os.path.abspath(root), options=options) as manager:
        saved = arguments["default"] if single else ocp.args.Composite(**arguments)
        manager.save(step, args=saved, custom_metadata=custom)


def _write_v1(target: pathlib.Path, tree: PyTree, custom: Any) -> None:
    """Writes a folder of v1."""
    from orbax.checkpoint.experimental import v1

    v1.save_checkpointables(os.path.abspath(target), dict(tree), custom_metadata=custom)


def _read_json(path: pathlib.Path) -> Any:
    """Returns what an item of JSON holds."""
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        return checkpointer.restore(os.path.abspath(path), args=ocp.args.JsonRestore())


def _items(path: pathlib.Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names of a step's items, those of arrays and the others."""
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
    arrays = [folder.name for folder in folders if (folder / ARRAYS).is_file()]
    return tuple(arrays), tuple(each.name for each in folders if each.name not in arrays)


def _is_step(folder: pathlib.Path) -> bool:
    """Tests whether a folder is the step of a manager, or of Flax's `save_checkpoint`."""
    if not folder.is_dir() or not STEP.fullmatch(folder.name) or (folder / V1).exists():
        return False
    if (folder / ARRAYS).is_file():
        return _parts(folder.name)["prefix"] in (None, "checkpoint")
    return bool(_items(folder)[0])


def _parts(name: str) -> dict[str, Any]:
    """Returns the parts of the name of a step's folder."""
    parts = STEP.fullmatch(name)
    return {"prefix": None, "number": "0"} if parts is None else parts.groupdict()


def _number(name: str) -> int:
    return int(_parts(name)["number"])


def _fixed_length(name: str) -> int | None:
    """Returns how many digits a step is written with, if zeros show that."""
    number = _parts(name)["number"]
    return len(number) if number.startswith("0") and len(number) > 1 else None


def _absence(path: pathlib.Path) -> str:
    """Says what was looked for in a folder, and what to do about what is there."""
    names = sorted(each.name for each in path.iterdir())
    if not names:
        return "it is empty"
    if "checkpoint" in names:
        return "it is of an old version of Orbax; restore and save it with a newer one"
    found = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return (
        f"it has neither {ARRAYS} (Orbax v0) nor {V1} (Orbax v1) nor folders of steps with items "
        f"(CheckpointManager), but {found}; give the path of the checkpoint itself"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from logging what it raises, and from warning of what is meant."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
