"""Reads a checkpoint of anybody's into the variables of a model."""

import functools
import importlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.checkpoints.matching import MOST_NAMED, Fit, Form, Mismatch, describe, form_of
from rumjax.checkpoints.searching import Search, choose, is_average, search, unread
from rumjax.checkpoints.sources import Source, open_source
from rumjax.checkpoints.trees import Content, shown_path
from rumjax.errors import InvalidInputError
from rumjax.models import Model
from rumjax.models.checks import check_images, check_model
from rumjax.types import Variables

SIZES = (32, 28, 224, 64, 8)
"""Sides of images that are tried where none are given."""
CHANNELS = (3, 1)

NO_STATS = (
    "it has parameters that fit, and no batch statistics, which this network predicts with; a "
    "plain TrainState of Flax leaves them out: save {'params': state.params, 'batch_stats': …} "
    "with those that training returned, or give a checkpoint that has them"
)


class Checkpoint(NamedTuple):
    """The variables of a model that were read from a checkpoint."""

    variables: Variables
    """NumPy arrays of the dtypes that the model has, exactly of its signature's structure"""
    format: str
    """which was read, for example "orbax v1" or "checkpoint manager, step 30, item default" """
    notes: tuple[str, ...]
    """sentences on what was chosen, converted or left unread"""


class Found(NamedTuple):
    """What was read, and where it was, for whoever writes it back."""

    checkpoint: Checkpoint
    source: Source
    content: Content | None
    """None if the layout is PyTorch's"""
    fit: Fit | None
    form: Form


def read(
    path: str | os.PathLike[str], model: Model, images: Any = None, *, format: str = "auto"
) -> Checkpoint:
    """Reads a checkpoint into the variables of a model.

    The arrays are found by their names and shapes, at the root or below names such as `params`,
    `model`, `state`, `variables` and `ema_params`, and never within an optimizer's state. Names
    that differ are matched by shape where that leaves no choice. Parameters and batch statistics
    may lie in one tree, as in a state of NNX. Whether pixels were normalized alike cannot be seen
    in a checkpoint: measure the accuracy of what was read.

    Args:
      path: a file or folder on this machine; of a CheckpointManager the root, a step or an item. A
        subtree is chosen by its path after "#", for example "runs/7#ema_params".
      model: the architecture.
      images: [N, H, W, C], an array or `jax.ShapeDtypeStruct`, of which only shape and dtype
        count. Left out, the usual sizes are tried.
      format: one of `FORMATS`; "auto" goes by the content.

    Returns:
      The variables, with the format and notes.

    Raises:
      InvalidInputError: there is no checkpoint, it is a pickle, damaged, or of another format; its
        arrays are not the model's, or those of several models are; or some are not finite.

    Examples:
      >>> import pathlib, tempfile
      >>> from flax import serialization
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), np.zeros((1, 2, 2, 1), np.uint8)
      >>> params = model.init(jax.random.key(0), images).params
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "model.msgpack")
      ...     _ = path.write_bytes(serialization.to_bytes({"params": params, "step": 7}))
      ...     checkpoint = read(path, model, images)
      >>> checkpoint.format, checkpoint.notes
      ('flax msgpack', ("the parameters were found at 'params'", 'step was not read'))
    """
    return find(path, model, images, format).checkpoint


def load_variables(
    path: str | os.PathLike[str], model: Model, images: Any = None, *, format: str = "auto"
) -> Variables:
    """Reads the variables of a model from a checkpoint; see `read`, whose arguments it takes.

    Raises:
      InvalidInputError: as of `read`.

    Examples:
      >>> import tempfile
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), np.zeros((1, 2, 2, 1), np.uint8)
      >>> params = model.init(jax.random.key(0), images).params
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     names = {f"{a}.{b}": params[a][b] for a in params for b in params[a]}
      ...     np.savez(f"{folder}/model.npz", **names)
      ...     load_variables(f"{folder}/model.npz", model, images).params["Dense_1"]["bias"]
      array([0., 0.], dtype=float32)
    """
    return read(path, model, images, format=format).variables


def find(path: str | os.PathLike[str], model: Model, images: Any, format: str) -> Found:
    """Reads a checkpoint like `read`, and says where everything was."""
    # The checkpoint, and the forms that it may have.
    model = check_model(model)
    source = open_source(path, format)
    forms = functools.partial(_forms, model, images)

    # By the names of Flax, or else by those of PyTorch.
    searches = []
    refusal = None
    for content in source.contents:
        try:
            result = search(content, forms(), below=source.below, open_names=_items(source))
        except InvalidInputError as error:
            refusal = error
        else:
            searches.append((content, result))
    if refusal is not None and not searches:
        raise refusal
    fitting = [(content, result) for content, result in searches if result.fits]
    if not fitting:
        converted = _find_torch(source, model, forms())
        if converted is None:
            _refuse(source, searches, model, images)
        return converted
    content, result = min(fitting, key=lambda pair: bool(pair[1].fits[0].renamed))

    # The numbers of the one that fits.
    fit, same = choose(result, content, str(source.path))
    variables, casts = _numbers(fit, content, str(source.path))
    notes = (
        *(() if source.folder is None else source.folder.notes),
        _where(fit),
        *same,
        *(f"{mine} was read from {theirs!r}, by its shapes" for mine, theirs in fit.renamed),
        *casts,
        *_unread(unread(content, fit, result.fits)),
    )
    checkpoint = Checkpoint(variables, _name(source, fit), notes)
    return Found(checkpoint, source, content, fit, fit.form)


def _forms(model: Model, images: Any) -> Iterator[Form]:
    """Yields the forms of a model's variables, one for each size of images that changes them.

    Raises:
      InvalidInputError: the model does not take these images, or none of the usual ones.
    """
    if images is not None:
        if not isinstance(images, jax.ShapeDtypeStruct):
            images = check_images("images", images)
        yield form_of(model.signature(images).variables)
        return
    seen: list[tuple[Any, ...]] = []
    refusal: InvalidInputError | None = None
    for size in SIZES:
        for channels in CHANNELS:
            usual = jax.ShapeDtypeStruct((1, size, size, channels), np.uint8)
            try:
                form = form_of(model.signature(usual).variables)
            except InvalidInputError as error:
                refusal = error
                continue
            if form[1:] not in seen:
                seen.append(form[1:])
                yield form
    if not seen:
        raise InvalidInputError(
            f"checkpoint: give images, since the model takes none of the usual sizes: {refusal}"
        )


def _numbers(fit: Fit, content: Content, where: str) -> tuple[Variables, list[str]]:
    """Returns a fit's arrays in the dtypes of the model, and notes on those that were converted.

    Raises:
      InvalidInputError: arrays of another kind of number, or not finite.
    """
    wanted = jax.tree.leaves(fit.form.variables)
    leaves, strange, infinite = [], [], []
    casts: dict[str, int] = {}
    for path, like, position in zip(fit.form.paths, wanted, fit.positions, strict=True):
        given = np.asarray(content.leaves[position])
        floating = jnp.issubdtype(given.dtype, jnp.floating)
        if floating != jnp.issubdtype(like.dtype, jnp.floating) or given.dtype.kind in "OSUb":
            strange.append(f"{shown_path(path)} is {given.dtype}, wanted {like.dtype}")
            continue
        with np.errstate(over="ignore"):
            leaf = given.astype(like.dtype)
        if floating and not np.isfinite(leaf).all():
            infinite.append(shown_path(path))
        if leaf.dtype != given.dtype:
            casts[str(given.dtype)] = casts.get(str(given.dtype), 0) + 1
        leaves.append(leaf)
    if strange:
        raise InvalidInputError(
            f"checkpoint: {where} has {len(strange)} arrays of another kind of number: "
            f"{', '.join(strange[:MOST_NAMED])}; save the parameters as floats"
        )
    if infinite:
        raise InvalidInputError(
            f"checkpoint: {where} has {len(infinite)} arrays with numbers that are not finite, or "
            f"beyond float32: {', '.join(infinite[:MOST_NAMED])}; has the model diverged?"
        )
    variables = jax.tree.unflatten(jax.tree.structure(fit.form.variables), leaves)
    notes = [
        f"{count} of {len(leaves)} arrays are {dtype} and were converted to float32"
        for dtype, count in casts.items()
    ]
    return variables, notes


def _find_torch(source: Source, model: Model, forms: Iterator[Form]) -> Found | None:
    """Reads arrays that have the names of PyTorch, if they are of a layout that is known.

    Raises:
      InvalidInputError: the layout is known, and the arrays are not this model's.
    """
    if source.named is None or source.below or not _has_torch_names(source):
        return None
    layouts = torch_layouts()
    refusal = None
    for form in forms:
        try:
            variables = layouts.from_torch(source.named.arrays, model, form.variables)
        except InvalidInputError as error:
            refusal = refusal or error
            continue
        if variables is None:
            return None

        # Checked like any other.
        leaves = jax.tree.leaves(variables)
        content = Content(form.paths, tuple(leaves), tuple)
        fit = Fit((), form, tuple(range(len(leaves))))
        checked, casts = _numbers(fit, content, str(source.path))
        notes = ("the arrays are in PyTorch's layout, and were transposed and renamed", *casts)
        checkpoint = Checkpoint(checked, f"{source.format}, PyTorch's layout", notes)
        return Found(checkpoint, source, None, None, form)
    if refusal is not None:
        raise refusal
    return None


def torch_layouts() -> Any:
    """Returns the module that knows the layouts of PyTorch's networks."""
    return importlib.import_module("rumjax.checkpoints.layouts")


def _refuse(
    source: Source, searches: Sequence[tuple[Content, Search]], model: Model, images: Any
) -> NoReturn:
    """Raises the error for a checkpoint that does not fit, by the place that is nearest.

    Raises:
      InvalidInputError: always.
    """
    name = type(model.module).__name__
    mismatches = [result.mismatch for _, result in searches if result.mismatch is not None]
    elsewhere = [path for _, result in searches for path in result.elsewhere]
    if elsewhere:
        raise InvalidInputError(
            f"checkpoint: {source.path} has arrays that fit {name} at "
            f"{', '.join(repr(shown_path(path)) for path in elsewhere)} only, which is not a usual "
            f"place; if they are meant give {source.path}#{shown_path(elsewhere[0])}"
        )
    if not mismatches or not any(content.paths for content, _ in searches):
        raise InvalidInputError(f"checkpoint: {source.path} holds no arrays")
    mismatch: Mismatch = max(mismatches, key=lambda each: (each.no_stats, each.matching))
    if mismatch.no_stats:
        raise InvalidInputError(f"checkpoint: {source.path} does not fit {name}: {NO_STATS}")
    advice = "give the model that was trained"
    if images is None:
        advice += ", and images of its size"
    if _has_torch_names(source):
        advice = (
            "its names are PyTorch's, of no layout that is converted; those of ResNet and ViT in "
            "torchvision and timm are, into the networks of rumjax.models"
        )
    raise InvalidInputError(
        f"checkpoint: {source.path} does not fit {name}: {describe(mismatch)}; {advice}"
    )


def _has_torch_names(source: Source) -> bool:
    arrays = () if source.named is None else source.named.arrays
    return any(name.endswith(".weight") for name in arrays)


def _items(source: Source) -> tuple[str, ...]:
    return () if source.folder is None else source.folder.items


def _name(source: Source, fit: Fit) -> str:
    """Returns the format with its details."""
    if source.folder is not None:
        return source.folder.name(fit.path[0] if fit.path else None)
    return "flax msgpack" if source.format == "msgpack" else source.format


def _where(fit: Fit) -> str:
    if not fit.path:
        return "the parameters are the whole checkpoint"
    average = ", an average over training" if any(map(is_average, fit.path)) else ""
    return f"the parameters were found at {shown_path(fit.path)!r}{average}"


def _unread(names: Sequence[str]) -> tuple[str, ...]:
    verb = "was" if len(names) == 1 else "were"
    return (f"{', '.join(names)} {verb} not read",) if names else ()
