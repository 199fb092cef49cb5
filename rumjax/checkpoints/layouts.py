"""PyTorch's names and axes of our networks: torchvision's and timm's ResNet and ViT.

A layout is a list of pairs, each of one array as we have it and as a state dict has it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.models import Model, ResNet, ViT
from rumjax.types import Variables

Arrays = Mapping[str, np.ndarray]
Path = tuple[str, ...]

PREFIXES = ("", "module.", "model.", "_orig_mod.")
"""What wrappers put before every name."""
IGNORED = "num_batches_tracked"
FIRST = 5
"""How many names a message lists."""


class Axes(NamedTuple):
    """How the axes of an array go from PyTorch's order to ours, and back."""

    ours: tuple[int, ...] | None
    theirs: tuple[int, ...] | None


AS_THEY_ARE = Axes(None, None)
DENSE = Axes((1, 0), (1, 0))
CONV = Axes((2, 3, 1, 0), (3, 2, 0, 1))


class Place(NamedTuple):
    """An array in both worlds."""

    path: Path
    """ours, from "params" or "batch_stats" on"""
    name: str
    """in the state dict"""
    axes: Axes


def from_torch(arrays: Arrays, model: Model, form: Variables) -> Variables | None:
    """Returns the variables of our network that a state dict of PyTorch's holds.

    Known are the names of torchvision's and timm's ResNet of plain and bottleneck blocks, those of
    timm's ViT (`patch_embed.proj`, `blocks.0.attn.qkv`), and those of torchvision's ViT
    (`conv_proj`, `encoder.layers.encoder_layer_0.self_attention`), with or without the prefix of a
    wrapper. `num_batches_tracked` is left out.

    Args:
      arrays: by name, for example of `safetensors.numpy.load_file`.
      model: the architecture.
      form: of its variables, as `model.signature(images).variables` has it.

    Returns:
      float32 arrays on the host in the structure of `form`; None if the network is not one of
      these, or the names are of no layout that is known for it.

    Raises:
      InvalidInputError: arrays are missing, too many, or of another shape.

    Examples:
      >>> from rumjax.models import Cnn
      >>> from_torch({"conv1.weight": np.zeros((4, 3, 3, 3))}, Model(Cnn(2)), Variables({}, {}))
    """
    places = _layout(arrays, model, form)
    if places is None:
        return None
    _check(arrays, places, form)
    leaves = [
        np.ascontiguousarray(_turned(arrays[places[path].name], places[path].axes.ours), np.float32)
        for path, _ in _flat(form)
    ]
    variables: Variables = jax.tree.unflatten(jax.tree.structure(form), leaves)
    return variables


def to_torch(variables: Variables, model: Model, like: Arrays) -> dict[str, np.ndarray]:
    """Returns variables of our network as a state dict of PyTorch's: the inverse of `from_torch`.

    Args:
      variables: of the model.
      model: the architecture.
      like: a state dict of the layout wanted; names, their order and dtypes are those of it, and so
        are arrays that are not the network's, `num_batches_tracked` for instance.

    Raises:
      InvalidInputError: `like` is of no layout that is known for this network, or does not fit.

    Examples:
      >>> from rumjax.models import Cnn
      >>> to_torch(Variables({}, {}), Model(Cnn(2)), {})
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: checkpoint: its names are of no layout of PyTorch's for Cnn
    """
    places = _layout(like, model, variables)
    if places is None:
        raise InvalidInputError(
            f"checkpoint: its names are of no layout of PyTorch's for {model.name}"
        )
    _check(like, places, variables)
    arrays = {name: np.asarray(array) for name, array in like.items()}
    for path, leaf in _flat(variables):
        place = places[path]
        turned = _turned(np.asarray(leaf), place.axes.theirs)
        arrays[place.name] = np.ascontiguousarray(turned.astype(arrays[place.name].dtype))
    return arrays


def _layout(arrays: Arrays, model: Model, form: Variables) -> dict[Path, Place] | None:
    """Returns the layout that the names are of, by our paths, or None.

    A wrapper's prefix is put before its names.
    """
    # The first layout of which a name that tells is there.
    paths = {path for path, _ in _flat(form)}
    for prefix in PREFIXES:
        for telling, layout in _layouts_of(model.module):
            if prefix + telling in arrays:
                places = [place._replace(name=prefix + place.name) for place in layout(paths)]
                return {place.path: place for place in places}
    return None


def _layouts_of(module: Any) -> list[tuple[str, Callable[[set[Path]], Iterator[Place]]]]:
    """Returns a name that tells, and the layout, of all that are known for a network."""
    if isinstance(module, ResNet):
        return [("layer1.0.conv1.weight", lambda paths: _resnet(module, paths))]
    if isinstance(module, ViT):
        return [
            ("patch_embed.proj.weight", lambda paths: _vit(module, TIMM)),
            ("conv_proj.weight", lambda paths: _vit(module, TORCHVISION)),
        ]
    return []


def _resnet(module: ResNet, paths: set[Path]) -> Iterator[Place]:
    """Yields the arrays of a ResNet: our blocks are numbered throughout, theirs by stage."""
    yield from _conv_and_norm((), 0, "conv1", "bn1")
    kind = "Bottleneck" if module.bottleneck else "BasicBlock"
    inner = 3 if module.bottleneck else 2
    block = 0
    for stage, depth in enumerate(module.depths, start=1):
        for position in range(depth):
            ours, theirs = (f"{kind}_{block}",), f"layer{stage}.{position}."
            for number in range(inner):
                names = (f"{theirs}conv{number + 1}", f"{theirs}bn{number + 1}")
                yield from _conv_and_norm(ours, number, *names)
            # The shortcut's projection comes last, where there is one.
            if ("params", *ours, f"Conv_{inner}", "kernel") in paths:
                names = (f"{theirs}downsample.0", f"{theirs}downsample.1")
                yield from _conv_and_norm(ours, inner, *names)
            block += 1
    yield from _with_bias(("Dense_0",), "fc", DENSE)


def _conv_and_norm(above: Path, number: int, conv: str, norm: str) -> Iterator[Place]:
    """Yields a convolution without bias and the batch norm after it."""
    yield Place(("params", *above, f"Conv_{number}", "kernel"), f"{conv}.weight", CONV)
    ours = (*above, f"BatchNorm_{number}")
    yield Place(("params", *ours, "scale"), f"{norm}.weight", AS_THEY_ARE)
    yield Place(("params", *ours, "bias"), f"{norm}.bias", AS_THEY_ARE)
    yield Place(("batch_stats", *ours, "mean"), f"{norm}.running_mean", AS_THEY_ARE)
    yield Place(("batch_stats", *ours, "var"), f"{norm}.running_var", AS_THEY_ARE)


def _with_bias(ours: Path, theirs: str, axes: Axes) -> Iterator[Place]:
    """Yields a kernel and its bias."""
    yield Place(("params", *ours, "kernel"), f"{theirs}.weight", axes)
    yield Place(("params", *ours, "bias"), f"{theirs}.bias", AS_THEY_ARE)


TIMM = {
    "cls_token": "cls_token",
    "pos_embed": "pos_embed",
    "patch_embed": "patch_embed.proj",
    "block": "blocks.{}.",
    "norm1": "norm1",
    "qkv": ("attn.qkv.weight", "attn.qkv.bias"),
    "proj": "attn.proj",
    "norm2": "norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "norm": "norm",
    "head": "head",
}
TORCHVISION = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed": "conv_proj",
    "block": "encoder.layers.encoder_layer_{}.",
    "norm1": "ln_1",
    "qkv": ("self_attention.in_proj_weight", "self_attention.in_proj_bias"),
    "proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "fc1": "mlp.0",
    "fc2": "mlp.3",
    "norm": "encoder.ln",
    "head": "heads.head",
}
"""What both call the parts of a ViT. Queries, keys and values are one array in both."""


def _vit(module: ViT, names: Mapping[str, Any]) -> Iterator[Place]:
    """Yields the arrays of a ViT."""
    yield Place(("params", "cls_token"), names["cls_token"], AS_THEY_ARE)
    yield Place(("params", "pos_embed"), names["pos_embed"], AS_THEY_ARE)
    yield from _with_bias(("patch_embed",), names["patch_embed"], CONV)
    for number in range(module.depth):
        ours, theirs = f"blocks_{number}", names["block"].format(number)
        yield from _norm((ours, "norm1"), theirs + names["norm1"])
        kernel, bias = names["qkv"]
        yield Place(("params", ours, "attn", "qkv", "kernel"), theirs + kernel, DENSE)
        yield Place(("params", ours, "attn", "qkv", "bias"), theirs + bias, AS_THEY_ARE)
        yield from _with_bias((ours, "attn", "proj"), theirs + names["proj"], DENSE)
        yield from _norm((ours, "norm2"), theirs + names["norm2"])
        for layer in ("fc1", "fc2"):
            yield from _with_bias((ours, layer), theirs + names[layer], DENSE)
    yield from _norm(("norm",), names["norm"])
    yield from _with_bias(("head",), names["head"], DENSE)


def _norm(ours: Path, theirs: str) -> Iterator[Place]:
    """Yields a layer norm."""
    yield Place(("params", *ours, "scale"), f"{theirs}.weight", AS_THEY_ARE)
    yield Place(("params", *ours, "bias"), f"{theirs}.bias", AS_THEY_ARE)


def _check(arrays: Arrays, places: Mapping[Path, Place], form: Variables) -> None:
    """Checks that a state dict has just the arrays of a network, in their shapes.

    Raises:
      InvalidInputError: it does not; a head of other classes is said in words.
    """
    # Names on one side only.
    wanted = {places[path].name: (places[path], leaf) for path, leaf in _flat(form)}
    given = {name for name in arrays if not name.endswith(IGNORED)}
    problems = []
    for what, names in (
        ("missing", [name for name in wanted if name not in given]),
        ("not the network's", [name for name in arrays if name in given - wanted.keys()]),
    ):
        if names:
            problems.append(f"{len(names)} are {what}: {_listed(names)}")

    # Shapes, as PyTorch has them.
    wrong = []
    for name, (place, leaf) in wanted.items():
        shape = np.shape(arrays[name]) if name in given else None
        order = place.axes.theirs
        expected = tuple(leaf.shape) if order is None else tuple(leaf.shape[axis] for axis in order)
        if shape is not None and shape != expected:
            head = place.path[1] in ("head", "Dense_0") and shape[1:] == expected[1:]
            if head and place.path[-1] == "kernel" and not problems:
                raise InvalidInputError(
                    f"checkpoint: its last layer, {name}, has {shape[0]} classes, but the network "
                    f"{expected[0]}, as the data has; give it a head of as many, and train that"
                )
            wrong.append(f"{name} is {list(shape)}, wanted {list(expected)}")
    if wrong:
        problems.append(f"{len(wrong)} are of another shape: {_listed(wrong)}")
    if problems:
        raise InvalidInputError(
            f"checkpoint: its arrays are not those of this network: {'; '.join(problems)}"
        )


def _listed(texts: list[str]) -> str:
    """Returns the first of several texts."""
    return ", ".join(texts[:FIRST]) + (", …" if len(texts) > FIRST else "")


def _turned(array: np.ndarray, order: tuple[int, ...] | None) -> np.ndarray:
    """Returns an array with its axes in an order."""
    return array if order is None else np.transpose(array, order)


def _flat(variables: Variables) -> list[tuple[Path, Any]]:
    """Returns arrays by path, in the order of the tree."""
    names = lambda path: tuple(jax.tree_util.keystr((key,), simple=True) for key in path)  # noqa: E731
    return [(names(path), leaf) for path, leaf in jax.tree.leaves_with_path(variables)]
