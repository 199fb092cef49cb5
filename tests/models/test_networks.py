"""The networks: published numbers of parameters, precision, and sizes of images."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rumjax.errors import InvalidInputError
from rumjax.models import Conv, Model, ResNet, ViT, build, resnet
from rumjax.models.vgg import max_pool
from rumjax.platforms import compiling_for

RGB = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8)
KEY = jax.random.key(0)


def abstract(model, images=RGB):
    """Shapes of the variables, of what `apply` returns in training, without compiling."""
    variables = jax.eval_shape(model.init, KEY, images)
    apply = lambda variables, images: model.apply(variables, images, train=True)  # noqa: E731
    return variables, *jax.eval_shape(apply, variables, images)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "classes", "parameters", "width"),
    [
        ("resnet18", 10, 11_173_962, 512),
        # 64·9·(3 + 64·6) + 128·9·(64 + 128·7) + 256·9·(128 + 256·11) + 512·9·(256 + 512·5), the
        # shortcuts 64·128 + 128·256 + 256·512, norms 2·(64·7 + 128·9 + 256·13 + 512·7), 513·10
        ("resnet34", 10, 21_282_122, 512),
        ("resnet50", 10, 23_520_842, 2048),
        ("resnet50", 100, 23_705_252, 2048),
        # 9·3·64 + 25·64·128 + 9·(2·128² + 2·128·256 + 2·256²), norms 2·(64 + 4·128 + 3·256), 1280
        ("resnet9", 10, 2_274_880, 128),
        ("wrn28_2", 10, 1_467_610, 128),
        ("wrn28_10", 10, 36_479_194, 640),
        ("vgg16", 10, 14_728_266, 512),
        # (9·3 + 1)·16 + (9·16 + 1)·32 + (9·32 + 1)·64 + (4·4·64 + 1)·128 + 129·10
        ("cnn", 10, 156_074, 128),
        # Patches 49·D, token D, places 65·D, norm 2·D, 12 blocks of 12·D² + 13·D, head (D + 1)·10:
        # 5.36 million and 21.34 million
        ("vit_ti4", 10, 117 * 192 + 12 * (12 * 192**2 + 13 * 192) + 1930, 192),
        ("vit_s4", 10, 117 * 384 + 12 * (12 * 384**2 + 13 * 384) + 3850, 384),
    ],
)
def test_parameter_counts_are_the_published_ones(name, classes, parameters, width):
    variables, outputs, _ = abstract(build(name, classes))
    assert count(variables.params) == parameters
    assert outputs.logits.shape == (2, classes)
    assert outputs.embeddings.shape == (2, width)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        *("cnn", "resnet18", "resnet9", "vit_ti4"),
        *(
            pytest.param(name, marks=pytest.mark.thorough)
            for name in ("resnet50", "wrn28_2", "vgg16")
        ),
    ],
)
def test_variables_and_outputs_are_float32_whatever_is_computed_in(name, bfloat16):
    variables, outputs, batch_stats = abstract(build(name, 10, bfloat16=bfloat16))
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((variables, outputs, batch_stats))}
    assert dtypes == {jnp.dtype("float32")}
    assert jax.tree.structure(batch_stats) == jax.tree.structure(variables.batch_stats)


@pytest.mark.parametrize(("bfloat16", "dtype"), [(False, "float32"), (True, "bfloat16")])
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cnn", 3),
        ("resnet18", 20),
        ("resnet9", 8),
        ("wrn28_2", 28),
        ("vgg16", 13),
        ("vit_ti4", 1),
    ],
)
def test_every_convolution_is_computed_as_asked(name, count, bfloat16, dtype):
    model = build(name, 10, bfloat16=bfloat16)

    def convolved(key, images):
        variables = model.init(key, images)
        _, seen = model.module.apply(
            variables._asdict(),
            model.normalize(images),
            train=False,
            capture_intermediates=lambda module, _: isinstance(module, Conv),
        )
        return seen["intermediates"]

    found = jax.tree.leaves(jax.eval_shape(convolved, KEY, RGB))
    assert [each.dtype for each in found] == [jnp.dtype(dtype)] * count


@pytest.mark.parametrize("size", [33, 64])
def test_vgg_takes_larger_images(size):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
    variables, outputs, _ = abstract(build("vgg16", 200), images)
    assert outputs.embeddings.shape == (1, 512)
    # The dense layer follows a pooling, so it does not grow with the images.
    assert count(variables.params) == 14_728_266 + 190 * 513


def test_vgg_refuses_images_that_its_pooling_would_use_up():
    images = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.uint8)
    with pytest.raises(InvalidInputError, match=r"28×28 are too small, it needs 32×32"):
        abstract(build("vgg16", 10), images)


def test_resnet_of_another_width_has_that_embedding():
    _, outputs, _ = abstract(build("resnet18", 10, options={"width": 16}))
    assert outputs.embeddings.shape == (2, 128)


def test_resnet_uses_the_batch_in_training_only():
    model = build("resnet18", 3, options={"width": 8, "depths": (1,)})
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 4, 4, 1), np.uint8))

    @jax.jit
    def everything(key):
        variables = model.init(key, images)
        alone, _ = model.apply(variables, images[:1], train=False)
        evaluated, kept = model.apply(variables, images, train=False)
        trained, updated = model.apply(variables, images, train=True)
        return variables, alone, evaluated, kept, trained, updated

    variables, alone, evaluated, kept, trained, updated = everything(KEY)
    np.testing.assert_allclose(alone.logits[0], evaluated.logits[0], rtol=1e-4, atol=1e-5)
    assert not np.allclose(trained.logits, evaluated.logits, atol=1e-3)
    jax.tree.map(np.testing.assert_array_equal, kept, variables.batch_stats)
    for before, after in zip(*map(jax.tree.leaves, (kept, updated)), strict=True):
        assert not np.array_equal(before, after)


def test_max_pool_takes_maxima_and_drops_an_odd_edge():
    images = jnp.arange(15.0).reshape(1, 3, 5, 1)
    np.testing.assert_array_equal(max_pool(images)[0, :, :, 0], [[6, 8]])


# Stems


@pytest.mark.parametrize(("size", "places"), [(33, 9), (224, 56)])
def test_the_stem_for_imagenet_leaves_a_quarter(size, places):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
    model = build("resnet18", 10, options={"stem": "imagenet", "width": 4})
    assert count(model.signature(images).variables.params["Conv_0"]) == 7 * 7 * 3 * 4
    shapes = jax.eval_shape(
        lambda key: model.module.apply(
            model.init(key, images)._asdict(),
            model.normalize(jnp.zeros(images.shape, images.dtype)),
            train=False,
            capture_intermediates=lambda module, _: isinstance(module, resnet.BasicBlock),
        )[1]["intermediates"],
        KEY,
    )
    assert shapes["BasicBlock_0"]["__call__"][0].shape == (1, places, places, 4)


def test_parameters_are_torchvision_s_with_the_stem_for_imagenet():
    model = build("resnet18", 1000, options={"stem": "imagenet"})
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
    assert count(model.signature(images).variables.params) == 11_689_512


def test_pooling_of_the_stem_is_linen_s_on_every_platform():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 6, 3)), jnp.float32)
    linen = lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))  # noqa: E731
    weights = jnp.cos(jnp.arange(linen(images).size)).reshape(linen(images).shape)
    slope = lambda pool: jax.grad(lambda x: jnp.sum(weights * pool(x)))(images)  # noqa: E731
    for target in ("cpu", "gpu", "tpu"):
        with compiling_for(target):
            np.testing.assert_array_equal(resnet.max_pool(images), linen(images))
            np.testing.assert_allclose(slope(resnet.max_pool), slope(linen), rtol=1e-6)


def test_another_stem_is_refused():
    with pytest.raises(InvalidInputError, match=r"model.options.stem 'imagnet'; did you mean"):
        build("resnet18", 10, options={"stem": "imagnet"})
    with pytest.raises(InvalidInputError, match="unknown stem of a ResNet"):
        Model(ResNet(10, (1,), False, stem="large")).signature(RGB)


# Wide residual networks, and ResNet-9


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInputError, match=r"a depth of 18 is not 6·n \+ 4"):
        build("wrn28_2", 10, options={"depth": 18}).signature(RGB)
    with pytest.raises(InvalidInputError, match=r"model.options.widen: wanted a whole number"):
        build("wrn28_2", 10, options={"widen": 0.5})
    least = jax.ShapeDtypeStruct((1, 11, 11, 1), jnp.uint8)
    assert build("resnet9", 10).signature(least).num_classes == 10
    with pytest.raises(InvalidInputError, match=r"resnet9: images of 10×11 are too small"):
        build("resnet9", 10).signature(jax.ShapeDtypeStruct((1, 10, 11, 1), jnp.uint8))


# Vision transformers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 5}, r"images of 32×32 cannot be cut into patches of 5×5"),
        ({"heads": 5}, "a width of 192 cannot be shared by 5 heads"),
    ],
)
def test_a_vision_transformer_that_does_not_fit_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        build("vit_ti4", 10, options=options).signature(RGB)
    with pytest.raises(InvalidInputError, match=r"model.options.depth"):
        build("vit_ti4", 10, options={"depth": 1.5})


def test_a_vision_transformer_is_the_definition():
    module = ViT(3, patch=2, dim=6, heads=2, depth=1, mlp_ratio=1.5)
    model = Model(module)
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    form = model.signature(images).variables
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: random.normal(0, 0.3, leaf.shape), form)
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float32), variables)
    outputs, _ = jax.jit(lambda *args: model.apply(*args, train=False))(variables, images)
    p = variables.params

    def norm(x, part):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * part["scale"] + part["bias"]

    def dense(x, part):
        return x @ part["kernel"] + part["bias"]

    for image, logits in zip(images, outputs.logits, strict=True):
        tokens = [p["cls_token"][0, 0]]
        for row in (0, 2):
            for column in (0, 2):
                window = image[row : row + 2, column : column + 2].ravel()
                kernel = p["patch_embed"]["kernel"].reshape(4, 6)
                tokens.append(window @ kernel + p["patch_embed"]["bias"])
        x = np.stack(tokens) + p["pos_embed"][0]
        for block in (p["blocks_0"],):
            joint = dense(norm(x, block["norm1"]), block["attn"]["qkv"])
            mixed = np.zeros_like(x)
            for head in range(2):
                q, k, v = (joint[:, 6 * i + 3 * head : 6 * i + 3 * head + 3] for i in range(3))
                shares = np.exp(q @ k.T / np.sqrt(3))
                mixed[:, 3 * head : 3 * head + 3] = shares / shares.sum(1, keepdims=True) @ v
            x = x + dense(mixed, block["attn"]["proj"])
            hidden = dense(norm(x, block["norm2"]), block["fc1"])
            hidden = hidden * scipy.stats.norm.cdf(hidden)
            x = x + dense(hidden, block["fc2"])
        wanted = dense(norm(x, p["norm"])[0], p["head"])
        np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)
