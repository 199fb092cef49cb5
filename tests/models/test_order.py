"""Layers are in the order of their first use, whatever they are called and whose network it is."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rumjax.errors import InvalidInputError
from rumjax.models import (
    Cnn,
    Model,
    ResNet,
    Vgg16,
    ViT,
    classifier,
    from_functions,
    from_nnx,
    last_layers,
    layers_in_order,
)
from rumjax.models.order import Layer
from rumjax.rows import rows_of

IMAGES = jax.ShapeDtypeStruct((1, 32, 32, 3), np.uint8)
SMALL = jax.ShapeDtypeStruct((1, 4, 4, 1), np.uint8)
NETWORKS = {
    "cnn": (Cnn(3, widths=(2, 3), hidden=4), 4),
    "resnet": (ResNet(3, depths=(1, 2), bottleneck=False, width=4), 9),
    "bottleneck": (ResNet(3, depths=(1, 1), bottleneck=True, width=2), 10),
    "vgg": (Vgg16(3, width=8), 14),
    "vit": (ViT(3, patch=8, dim=6, heads=2, depth=2), 10),
}


def names(layers):
    return ["/".join([*layer.path, *(() if layer.path else layer.parameters)]) for layer in layers]


def kept(mask):
    """The paths of what is True in a mask, and of all that is in it."""
    leaves = jax.tree.leaves_with_path(mask)
    paths = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    return {path for path, leaf in paths.items() if leaf}, set(paths)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_is_that_in_which_linen_calls_modules(name):
    network, kernels = NETWORKS[name]
    model, calls = Model(network), {}

    def note(method, args, kwargs, context):
        if context.method_name == "__call__":
            calls.setdefault(context.module.path)
        return method(*args, **kwargs)

    variables = model.signature(IMAGES).variables
    with nn.intercept_methods(note):
        jax.eval_shape(lambda v: model.apply(v, jnp.zeros(IMAGES.shape), train=False), variables)

    layers = layers_in_order(model, IMAGES)
    paths = [layer.path for layer in layers if layer.path]
    assert paths == [path for path in calls if path in paths]
    assert sum(layer.kind == "kernel" for layer in layers) == kernels
    assert sum(len(layer.parameters) for layer in layers) == len(jax.tree.leaves(variables.params))
    assert all(("kernel" in layer.parameters) == (layer.kind == "kernel") for layer in layers)


def test_names_are_not_sorted_and_tokens_are_layers_of_their_own():
    found = names(layers_in_order(Model(NETWORKS["vgg"][0]), IMAGES))
    assert found.index("Conv_2") < found.index("Conv_10")
    layers = layers_in_order(Model(NETWORKS["vit"][0]), IMAGES)
    assert names(layers)[:4] == ["patch_embed", "cls_token", "pos_embed", "blocks_0/norm1"]
    assert layers[1] == Layer((), ("cls_token",), (), "scale")


def test_the_last_layers_are_kept_with_their_norms_and_statistics():
    model = Model(NETWORKS["resnet"][0])
    found, every = kept(last_layers(model, IMAGES, 2))
    block = "BasicBlock_2"
    wanted = {f"params/{block}/Conv_1/kernel", "params/Dense_0/kernel", "params/Dense_0/bias"}
    norm = {f"params/{block}/BatchNorm_1/{name}" for name in ("scale", "bias")}
    statistics = {f"batch_stats/{block}/BatchNorm_1/{name}" for name in ("mean", "var")}
    assert found == wanted | norm | statistics
    assert kept(last_layers(model, IMAGES, 2, norms=False))[0] == wanted
    assert kept(classifier(model, IMAGES))[0] == {"params/Dense_0/kernel", "params/Dense_0/bias"}
    assert kept(last_layers(model, IMAGES, 9))[0] == every

    # The shortcut's convolution is used last of its block.
    fourth = kept(last_layers(model, IMAGES, 4, norms=False))[0]
    third = kept(last_layers(model, IMAGES, 3, norms=False))[0]
    assert fourth - third == {"params/BasicBlock_1/Conv_2/kernel"}


def test_masks_are_like_the_variables_and_take_part_in_compiled_functions():
    model = Model(NETWORKS["cnn"][0])
    images = jnp.zeros((2, 32, 32, 3), jnp.uint8)

    @jax.jit
    def halved(variables, images):
        mask = last_layers(model, images, 1)
        return jax.tree.map(lambda m, leaf: jnp.where(m, leaf / 2, leaf), mask, variables)

    variables = jax.tree.map(lambda like: jnp.ones(like.shape), model.signature(images).variables)
    found = halved(variables, rows_of(images))
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    for name, layer in found.params.items():
        assert (layer["kernel"] == (0.5 if name == "Dense_1" else 1)).all()


@pytest.mark.parametrize("count", [0, -1, 1.5, 5])
def test_more_layers_than_there_are_are_refused(count):
    message = "wanted 5, but Cnn has 4 convolutions" if count == 5 else "a whole number of at least"
    with pytest.raises(InvalidInputError, match=message):
        last_layers(Model(NETWORKS["cnn"][0]), IMAGES, count)


@jax.custom_vjp
def times(left, right):
    return left @ right


times.defvjp(lambda left, right: (left @ right, None), lambda _, slope: (slope, slope))


def init(key, images):
    square = jax.random.normal(key, (8, 8))
    return {
        "a": {"w": square[:, :3], "bias": jnp.zeros(3)},  # used at the end
        "b": square,  # within a branch
        "c": square,  # within `while`
        "d": {"scales": jnp.ones((2, 8)), "kernels": jnp.stack([square, square])},  # of a loop
        "e": {"input": square, "state": square},  # of a recurrent layer that starts with zeros
        "f": square,  # within `remat`, with derivatives of its own
        "never": square,
        "y": jnp.ones(8),  # a gain
        "z": jnp.ones((images[0].size, 8)),  # used first, and again at the end
    }


def apply(params, images):
    # All are converted in the order of their names, which is not that of their use.
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    inputs = images.reshape(len(images), -1).astype(jnp.bfloat16)
    hidden = jax.nn.relu(inputs @ params["z"]) * params["y"][None]
    hidden = jax.checkpoint(times)(hidden, params["f"])

    def recur(state, row):
        state = jnp.tanh(row @ params["e"]["input"] + state @ params["e"]["state"])
        return state, state

    _, hidden = jax.lax.scan(recur, jnp.zeros(8, jnp.bfloat16), hidden)

    def layer(hidden, one):
        return (hidden * one["scales"][None]) @ one["kernels"], None

    hidden, _ = jax.lax.scan(layer, hidden, params["d"])
    hidden = jax.lax.while_loop(
        lambda hidden: hidden.sum() > 0, lambda hidden: jnp.tanh(hidden @ params["c"]) - 1, hidden
    )
    hidden = jax.lax.cond(hidden.sum() > 0, jnp.tanh, lambda hidden: hidden @ params["b"], hidden)
    logits = hidden @ params["a"]["w"] + params["a"]["bias"][None]
    return logits.astype(jnp.float32) + (inputs @ params["z"])[:, :3]


def test_functions_are_followed_through_casts_loops_and_branches():
    model = Model(from_functions(init, apply))
    layers = layers_in_order(model, SMALL)
    assert names(layers) == ["never", "z", "y", "f", "e", "d", "c", "b", "a"]
    kinds = {name: layer.kind for name, layer in zip(names(layers), layers, strict=True)}
    assert {name for name, kind in kinds.items() if kind == "scale"} == {"never", "y"}
    found, every = kept(last_layers(model, SMALL, 6).params)
    assert found == every - {"never", "y", "z"}
    found, every = kept(last_layers(model, SMALL, 7).params)
    assert found == every


def test_a_weight_that_a_recurrent_state_meets_late_is_a_kernel():
    def only_state(params, images):
        rows = images.reshape(len(images), -1)
        state = jnp.zeros((len(images), 16))
        for_ever = lambda state, _: (jnp.tanh(state @ params["w"]) + rows, None)  # noqa: E731
        return jax.lax.scan(for_ever, state, None, length=3)[0]

    model = Model(from_functions(lambda key, images: {"w": jnp.ones((16, 16))}, only_state))
    assert layers_in_order(model, SMALL) == (Layer((), ("w",), (), "kernel"),)


class Late(nnx.Module):
    """Layers whose names are in the reverse order of their use."""

    def __init__(self, *, rngs):
        self.a = nnx.Linear(4, 3, rngs=rngs)
        self.b = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(11)])
        self.c = nnx.BatchNorm(4, rngs=rngs)
        self.d = nnx.Conv(1, 4, (3, 3), rngs=rngs)

    def __call__(self, images):
        hidden = nnx.relu(self.c(self.d(images))).mean(axis=(1, 2))
        for layer in self.b:
            hidden = layer(hidden)
        return self.a(hidden)


def test_layers_of_nnx_are_in_their_order_too():
    model = Model(from_nnx(Late))
    layers = layers_in_order(model, SMALL)
    assert names(layers) == ["d", "c", *(f"b/{number}" for number in range(11)), "a"]
    assert layers[1] == Layer(("c",), ("bias", "scale"), ("mean", "var"), "scale")
    found, _ = kept(last_layers(model, SMALL, 12).batch_stats)
    assert found == set()
    found, every = kept(last_layers(model, SMALL, 13))
    assert found == every
