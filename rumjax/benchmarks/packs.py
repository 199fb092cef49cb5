"""Packs: models of a run, and what they are to forget, in one small file."""

import functools
import hashlib
import importlib.resources
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from rumjax import data, models
from rumjax.archives import write_whole
from rumjax.errors import InvalidInputError, check_choice
from rumjax.forget_sets import ForgetSet
from rumjax.models import Model
from rumjax.types import Scores, Splits, Variables

FOLDER = importlib.resources.files("rumjax.benchmarks") / "packs"
"""Where the packs are that come with rumjax."""
NAMES = tuple(
    sorted(
        entry.name.removesuffix(".safetensors")
        for entry in FOLDER.iterdir()
        if entry.name.endswith(".safetensors")
    )
)
"""The packs that come with rumjax."""
KINDS = ("original", "oracle", "second")
"""Of the models of a seed."""
FORMAT = "rumjax pack 1"


class Pack(NamedTuple):
    """Models of a run, and what they are to forget."""

    name: str
    """of the run"""
    data: Splits
    """D, V and T"""
    model: Model
    """the network of all models"""
    forget_set: ForgetSet
    """S with its parts, and R, as indices into D"""
    memorization: Scores
    """of D, as the run estimated it"""
    originals: tuple[Variables, ...]
    """θo, a model trained on D for each seed"""
    oracles: tuple[Variables, ...]
    """θr, a model retrained on R for each seed, which others are held against"""
    second: tuple[Variables, ...]
    """another one, which says what a perfect unlearner scores"""
    seeds: tuple[int, ...]
    """of these models"""
    rows: tuple[Mapping[str, Any], ...]
    """the run's own results, a row for each method and seed, as in results.csv"""
    about: Mapping[str, Any]
    """sections of the run's configuration: data, model, training, attack and budget"""


def load(name: str = "fashion_mnist_rum") -> Pack:
    """Loads a pack that comes with rumjax.

    Args:
      name: one of `NAMES`.

    Raises:
      InvalidInputError: an unknown name.

    Examples:
      >>> pack = load("fashion_mnist_rum")
      >>> len(pack.originals), {part: len(index) for part, index in pack.forget_set.parts.items()}
      (3, {'low': 200, 'medium': 200, 'high': 200})
    """
    check_choice("pack", name, NAMES)
    with importlib.resources.as_file(FOLDER / f"{name}.safetensors") as path:
        return load_file(path)


def load_file(path: str | os.PathLike[str]) -> Pack:
    """Loads a pack from a file that `python -m rumjax.publish --pack` has written.

    Raises:
      InvalidInputError: it is no such file, is damaged, or its data cannot be had.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("pack", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # the library has a kind of its own for each fault
        raise InvalidInputError(f"{path}: it cannot be read as a pack ({error})") from error
    if about.get("format") != FORMAT:
        raise InvalidInputError(
            f"{path}: wanted a pack of format {FORMAT!r}, as python -m rumjax.publish --pack "
            f"writes it, got {about.get('format')!r}"
        )

    # The data must be those that the models were trained on.
    splits = data.load(**about["data"])
    digest = fingerprint(splits)
    if digest != about["data_sha256"]:
        raise InvalidInputError(f"{path}: its models were trained on other data than {splits.name}")
    given = about["model"]
    normalized = {key: given[key] for key in ("mean", "std", "pixels") if key in given}
    model = models.build(
        **{key: value for key, value in given.items() if key not in normalized},
        num_classes=splits.num_classes,
        **models.normalization_of(np.asarray(splits.train.images), **normalized),
    )

    # Models have the form of the network's.
    like = model.signature(splits.train.images).variables
    found = {
        kind: tuple(variables_of(arrays, f"{kind}/{seed}", like) for seed in about["seeds"])
        for kind in KINDS
    }
    parts = {name: arrays[f"forget/{name}"] for name in about["parts"]}
    return Pack(
        name=about["name"],
        data=splits,
        model=model,
        forget_set=ForgetSet.of(parts, len(splits.train.labels)),
        memorization=Scores(arrays["memorization"]),
        originals=found["original"],
        oracles=found["oracle"],
        second=found["second"],
        seeds=tuple(about["seeds"]),
        rows=tuple(about["rows"]),
        about=about,
    )


def save(
    path: pathlib.Path,
    about: Mapping[str, Any],
    splits: Splits,
    parts: Mapping[str, np.ndarray],
    memorization: np.ndarray,
    kinds: Mapping[str, Sequence[Variables]],
) -> None:
    """Writes a pack, models in float16.

    Args:
      path: of the file.
      about: sections of the run's configuration, `name`, `seeds` and `rows`; see `Pack`.
      splits: D, V and T.
      parts: of S, indices into D.
      memorization: float32[N], of D.
      kinds: models of all seeds, for each of `KINDS`.
    """
    arrays = {f"forget/{name}": np.asarray(part, np.int32) for name, part in parts.items()}
    arrays["memorization"] = np.asarray(memorization, np.float32)
    for kind in KINDS:
        for seed, variables in zip(about["seeds"], kinds[kind], strict=True):
            for name, leaf in named_leaves(variables):
                arrays[f"{kind}/{seed}/{name}"] = np.asarray(leaf, np.float16)
    written = {
        **about,
        "format": FORMAT,
        "data_sha256": fingerprint(splits),
        "parts": list(parts),
    }
    write_whole(path, safetensors.numpy.save(arrays, metadata={"pack": json.dumps(written)}))


def fingerprint(splits: Splits) -> str:
    """Returns the SHA-256 of the hashes of all examples of D and T."""
    total = hashlib.sha256()
    for part in (splits.train, splits.test):
        total.update("".join(data.hashes(part).tolist()).encode())
    return total.hexdigest()


def variables_of(arrays: Mapping[str, np.ndarray], prefix: str, like: Variables) -> Variables:
    """Puts the leaves of a model together, float32.

    Raises:
      InvalidInputError: a leaf is missing, or has another shape.
    """
    leaves = []
    for name, leaf in named_leaves(like):
        array = arrays.get(f"{prefix}/{name}")
        if array is None or array.shape != leaf.shape:
            raise InvalidInputError(
                f"pack: {prefix}/{name} wants shape {leaf.shape}, got "
                f"{'nothing' if array is None else array.shape}"
            )
        leaves.append(jnp.asarray(array, jnp.float32))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def named_leaves(variables: Variables) -> list[tuple[str, Any]]:
    """Returns the leaves of a model with their names, like "params/Dense_0/kernel"."""
    name_of = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    return [(name_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(variables)]
