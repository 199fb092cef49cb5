"""Writes a model's variables in the form of a checkpoint that somebody else's script made."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.archives import reason
from rumjax.checkpoints import files
from rumjax.checkpoints.matching import Fit, Form, form_of
from rumjax.checkpoints.reading import Found, find, torch_layouts
from rumjax.checkpoints.searching import OPTIMIZERS, search
from rumjax.checkpoints.sources import Source, open_source
from rumjax.checkpoints.trees import Content, Path, shown_path
from rumjax.errors import InvalidInputError
from rumjax.models import Model
from rumjax.types import Variables, collections_of

SETTINGS = ("hyperparams", "hyperparams_states")
"""Levels of an optimizer's state that hold no gradients."""


class Written(NamedTuple):
    """Leaves to be written, and notes on them."""

    leaves: list[Any]
    notes: tuple[str, ...]


def save_variables(
    path: str | os.PathLike[str],
    variables: Variables,
    *,
    like: str | os.PathLike[str],
    model: Model,
    images: Any = None,
    format: str = "auto",
) -> tuple[str, ...]:
    """Writes variables in the format, layout and structure of another checkpoint.

    The script that made that one restores this one as it restores its own. The model's arrays are
    replaced, in all copies that `like` has of them, averages over training among them; arrays of
    optimizers become zero, since they hold gradients of what was forgotten; the step and the rest
    stay. Every array keeps its dtype. The file or folder is written whole or not at all.

    Args:
      path: where nothing is yet.
      variables: of the model.
      like: the checkpoint to imitate, as `rumjax.checkpoints.read` takes it; it is not changed.
      model: the architecture.
      images: as of `read`.
      format: of `like`.

    Returns:
      Sentences on what was replaced, zeroed or converted.

    Raises:
      InvalidInputError: `like` cannot be read, something is at `path`, the variables are not the
        model's, or it could not be written.

    Examples:
      >>> import tempfile
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), np.zeros((1, 2, 2, 1), np.uint8)
      >>> variables = model.init(jax.random.key(0), images)
      >>> names = {f"{a}/{b}": leaf for a, at in variables.params.items() for b, leaf in at.items()}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(f"{folder}/old.npz", **names)
      ...     zeros = jax.tree.map(np.zeros_like, variables)
      ...     save_variables(
      ...         f"{folder}/new.npz", zeros, like=f"{folder}/old.npz", model=model, images=images
      ...     )
      ...     float(np.load(f"{folder}/new.npz")["Dense_0/kernel"].sum())
      ('the whole checkpoint was replaced',)
      0.0
    """
    # What there is, and what is to be in its place.
    target = pathlib.Path(path).expanduser()
    found = find(like, model, images, format)
    _check_target(target, found.source.path)
    new = _leaves_of(variables, found.form)
    if found.content is None or found.fit is None:
        arrays, notes = _torch(new, found, model)
        written = Written(list(arrays.values()), notes)
        content = files.contents(arrays)[0]
    else:
        content = found.content
        written = _replace(new, found, content, found.fit)

    # Beside the target first.
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        meanwhile = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _unwritten(target, error) from error
    try:
        whole = meanwhile / "whole" / target.name
        whole.parent.mkdir()
        _write(whole, found.source, content.rebuild(written.leaves), meanwhile)
        _check_written(whole, written.leaves, content)
        if target.exists():
            raise FileExistsError("something was put there meanwhile")
        whole.rename(target)
    except Exception as error:  # the formats' libraries raise many kinds
        raise _unwritten(target, error) from error
    finally:
        shutil.rmtree(meanwhile, ignore_errors=True)
    return written.notes


def _check_target(target: pathlib.Path, like: pathlib.Path) -> None:
    """Checks that nothing is lost or mixed up by writing to a path.

    Raises:
      InvalidInputError: something is there, or it is within the checkpoint that is imitated.
    """
    if target.exists() or target.is_symlink():
        raise InvalidInputError(
            f"checkpoint: {target} exists, and is not written over; give another path"
        )
    if like.resolve() in target.resolve().parents:
        raise InvalidInputError(
            f"checkpoint: {target} is within {like}, which is to stay as it is; give another path"
        )


def _leaves_of(variables: Variables, form: Form) -> list[np.ndarray]:
    """Returns the arrays of variables in the order of a form.

    Raises:
      InvalidInputError: they are not of this form, or not finite.
    """
    given = collections_of("variables", variables)
    mine = form_of(jax.tree.map(np.asarray, given))
    arrays = dict(zip(mine.paths, jax.tree.leaves(mine.variables), strict=True))
    wanted = dict(zip(form.paths, form.shapes, strict=True))
    wrong = sorted(arrays.keys() ^ wanted.keys()) or [
        path for path, shape in wanted.items() if arrays[path].shape != shape
    ]
    if wrong:
        raise InvalidInputError(
            f"variables: they are not of the checkpoint's form; {shown_path(wrong[0])} is the "
            f"first of {len(wrong)} arrays that differ"
        )
    for path in form.paths:
        _check_finite(arrays[path], f"variables, {shown_path(path)}")
    return [arrays[path] for path in form.paths]


def _check_finite(array: np.ndarray, what: str) -> None:
    """Checks numbers before they are written.

    Raises:
      InvalidInputError: some are not finite.
    """
    if not np.isfinite(array.astype(np.float64)).all():
        raise InvalidInputError(
            f"{what}: there are numbers that are not finite; has the model diverged?"
        )


def _replace(new: Sequence[np.ndarray], found: Found, content: Content, fit: Fit) -> Written:
    """Returns the leaves of a checkpoint with a model's arrays in the place of its own."""
    leaves = list(content.leaves)
    items = () if found.source.folder is None else found.source.folder.items
    whole = search(content, [fit.form], open_names=items)
    fits = {other.path: other for other in (*whole.fits, fit)}

    # All copies of the model.
    notes, rounded = [], set()
    replaced: set[int] = set()
    for other in fits.values():
        for array, position in zip(new, other.positions, strict=True):
            leaves[position] = _like(array, content.leaves[position])
            dtype = leaves[position].dtype
            if dtype != array.dtype:
                rounded.add(str(dtype))
                _check_finite(np.asarray(leaves[position]), f"variables in {dtype}")
            replaced.add(position)
        named = repr(shown_path(other.path)) if other.path else "the whole checkpoint"
        notes.append(f"{named} was replaced")
    notes += [f"arrays were converted to {dtype}, as they were before" for dtype in sorted(rounded)]
    notes += [
        f"{shown_path(path)!r} would fit too, and was left as it was"
        for path in whole.elsewhere
        if path not in fits
    ]

    # What optimizers remember.
    zeroed = []
    for position, path in enumerate(content.paths):
        if position not in replaced and _is_remembered(path, leaves[position]):
            leaves[position] = _like(np.zeros(np.shape(leaves[position])), leaves[position])
            zeroed.append(path)
    if zeroed:
        notes.append(
            "the optimizer's state was set to zero, as most have it after init "
            f"({len(zeroed)} arrays)"
        )
    return Written(leaves, tuple(notes))


def _is_remembered(path: Path, leaf: Any) -> bool:
    """Tests whether a leaf is a number or array of an optimizer's state."""
    optimizers = [name for name in path if name in OPTIMIZERS or name == "optimizer"]
    settings = any(name in SETTINGS for name in path) or path[-1] == "step"
    number = isinstance(leaf, int | float) and not isinstance(leaf, bool)
    array = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.number)
    return bool(optimizers) and not settings and (number or array)


def _like(array: np.ndarray, old: Any) -> Any:
    """Returns an array with the dtype of another, on the device that it is on; or a number."""
    if isinstance(old, jax.Array):
        return jax.device_put(array.astype(old.dtype), old.sharding)
    if isinstance(old, np.generic | int | float):
        return type(old)(array)
    return array.astype(old.dtype)


def _torch(
    new: Sequence[np.ndarray], found: Found, model: Model
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Returns arrays in PyTorch's layout, by the names that the checkpoint has."""
    assert found.source.named is not None  # only named arrays are read as PyTorch's
    variables = jax.tree.unflatten(jax.tree.structure(found.form.variables), list(new))
    arrays = torch_layouts().to_torch(variables, model, found.source.named.arrays)
    return arrays, ("the arrays were written in PyTorch's layout",)


def _write(path: pathlib.Path, source: Source, tree: Any, meanwhile: pathlib.Path) -> None:
    """Writes a tree in the form of another checkpoint, by the library of its format."""
    if source.folder is not None:
        from rumjax.checkpoints import folders

        folders.write(path, source.folder, tree, meanwhile)
        return
    if source.format == "msgpack":
        files.write_msgpack(path, tree)
    else:
        assert source.named is not None  # a file of named arrays
        named = source.named._replace(arrays=dict(tree))
        write = files.write_safetensors if source.format == "safetensors" else files.write_npz
        write(path, named)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _check_written(path: pathlib.Path, leaves: Sequence[Any], content: Content) -> None:
    """Reads back what was written.

    Raises:
      ValueError: it is not what was to be written.
    """
    back = next(
        (each for each in open_source(path, "auto").contents if each.paths == content.paths), None
    )
    if back is None or not all(map(_same, leaves, back.leaves)):
        raise ValueError("what was read back differs from what was written")


def _same(one: Any, two: Any) -> bool:
    """Tests whether two leaves are the same, bit for bit."""
    if hasattr(one, "dtype") and hasattr(two, "dtype"):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            keys = jax.random.key_data(one), jax.random.key_data(two)
            return one.dtype == two.dtype and _same(*keys)
        mine, theirs = np.asarray(one), np.asarray(two)
        forms = [(array.dtype, array.shape) for array in (mine, theirs)]
        return forms[0] == forms[1] and mine.tobytes() == theirs.tobytes()
    return bool(one == two)


def _unwritten(target: pathlib.Path, error: BaseException) -> InvalidInputError:
    return InvalidInputError(
        f"checkpoint: {target} could not be written ({reason(error)}); nothing was left there"
    )
