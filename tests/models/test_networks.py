"""The networks: published numbers of parameters, precision, and sizes of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.models import Conv, build
from rumjax.models.vgg import max_pool

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
        ("resnet50", 10, 23_520_842, 2048),
        ("resnet50", 100, 23_705_252, 2048),
        ("vgg16", 10, 14_728_266, 512),
        # (9·3 + 1)·16 + (9·16 + 1)·32 + (9·32 + 1)·64 + (4·4·64 + 1)·128 + 129·10
        ("cnn", 10, 156_074, 128),
    ],
)
def test_parameter_counts_are_the_published_ones(name, classes, parameters, width):
    variables, outputs, _ = abstract(build(name, classes))
    assert count(variables.params) == parameters
    assert outputs.logits.shape == (2, classes)
    assert outputs.embeddings.shape == (2, width)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("name", ["cnn", "resnet18", "resnet50", "vgg16"])
def test_variables_and_outputs_are_float32_whatever_is_computed_in(name, bfloat16):
    variables, outputs, batch_stats = abstract(build(name, 10, bfloat16=bfloat16))
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((variables, outputs, batch_stats))}
    assert dtypes == {jnp.dtype("float32")}
    assert jax.tree.structure(batch_stats) == jax.tree.structure(variables.batch_stats)


@pytest.mark.parametrize(("bfloat16", "dtype"), [(False, "float32"), (True, "bfloat16")])
@pytest.mark.parametrize(("name", "count"), [("cnn", 3), ("resnet18", 20), ("vgg16", 13)])
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
