"""Images as rows of pixels do all that arrays of them do, to the bit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rumjax import run
from rumjax.gradients import loss_curvature
from rumjax.models import predict
from rumjax.platforms import compiling_for
from rumjax.rows import Rows, first, rows_of, suited
from rumjax.types import Dataset, task
from rumjax.unlearn import chain, influence, salun

SHAPE = (5, 2, 4, 3)
IMAGES = np.arange(120, dtype=np.uint8).reshape(SHAPE)
ROWS = rows_of(IMAGES)


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


# As an array


@settings(deadline=None, max_examples=20)
@given(
    st.one_of(
        hnp.basic_indices(SHAPE, allow_newaxis=True, allow_ellipsis=True),
        hnp.arrays(np.int32, hnp.array_shapes(max_dims=2, max_side=4), elements=st.integers(-5, 4)),
        hnp.arrays(bool, 5),
    )
)
@example(3)
@example(np.uint8(2))
@example((np.array([4, 0]), slice(None), 1))
@example(slice(None, None, -2))
@example(np.zeros(0, np.int32))
def test_indexing_is_that_of_the_images(index):
    found = ROWS[index]
    assert isinstance(found, jax.Array)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, IMAGES[index])
    np.testing.assert_array_equal(found, rows_of(jnp.asarray(IMAGES))[index])


def test_they_look_like_the_images():
    assert (ROWS.shape, ROWS.ndim, ROWS.size) == (SHAPE, 4, 120)
    assert ROWS.dtype == np.uint8
    assert len(ROWS) == 5
    assert ROWS.pixels.shape == (5, 24)
    np.testing.assert_array_equal(np.asarray(ROWS), IMAGES)
    np.testing.assert_array_equal(jnp.asarray(ROWS), IMAGES)
    assert np.asarray(ROWS, np.float32).dtype == np.float32
    copied = np.array(ROWS)
    copied[:] = 0
    np.testing.assert_array_equal(ROWS, IMAGES)
    # One by one, to an end: JAX would take any index for the last.
    np.testing.assert_array_equal(list(itertools.islice(ROWS, 9)), IMAGES)


def test_they_do_what_else_an_array_does():
    images = jnp.asarray(IMAGES)
    for function in (
        lambda x: x / 255,
        lambda x: 255 - x,
        lambda x: x == 0,
        lambda x: x.astype(jnp.float32).mean(axis=(1, 2)),
        lambda x: x.at[0].set(0),
        lambda x: -x,
    ):
        np.testing.assert_array_equal(jax.jit(function)(ROWS), function(images))
    assert not hasattr(ROWS, "nothing_of_an_array")


def test_they_go_through_jit_and_vmap_as_one_leaf():
    assert [leaf.shape for leaf in jax.tree.leaves(ROWS)] == [(5, 24)]
    chosen = jnp.array([3, 1])
    found = jax.jit(lambda rows, chosen: (rows[chosen], rows))(ROWS, chosen)
    np.testing.assert_array_equal(found[0], IMAGES[[3, 1]])
    assert isinstance(found[1], Rows)
    np.testing.assert_array_equal(found[1], IMAGES)
    # Several data sets, and one for several models.
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), ROWS)
    assert both.shape == (2, *SHAPE)
    taken = jax.vmap(lambda rows: rows[chosen])(both)
    np.testing.assert_array_equal(taken, np.stack([IMAGES, IMAGES[::-1]])[:, [3, 1]])
    taken = jax.vmap(lambda rows, i: rows[i], (None, 0))(ROWS, chosen)
    np.testing.assert_array_equal(taken, IMAGES[[3, 1]])


def test_the_first_are_in_the_form_of_all():
    assert isinstance(first(ROWS, 2), Rows)
    np.testing.assert_array_equal(first(ROWS, 2), IMAGES[:2])
    assert first(IMAGES, 2) is not ROWS
    np.testing.assert_array_equal(first(IMAGES, 2), IMAGES[:2])


def test_data_have_the_form_that_suits_the_platform():
    data = Dataset(IMAGES, np.arange(5))
    assert suited(data) is data
    assert suited(data, "cpu") is data
    for target in ("gpu", "tpu"):
        assert isinstance(suited(data, target).images, Rows)
        with compiling_for(target):
            again = suited(suited(data))
        assert again.images.pixels.shape == (5, 24)
        assert again.labels is data.labels
    shapes = suited(Dataset(jax.ShapeDtypeStruct(SHAPE, np.uint8), None), "tpu").images
    assert (shapes.shape, shapes.dtype) == (SHAPE, np.uint8)
    assert isinstance(shapes.pixels, jax.ShapeDtypeStruct)


# In place of an array, for a network whose own form is the same on all platforms


@pytest.fixture(scope="module")
def answers(plain_model, plain_original):
    """Unlearns, and returns the variables, and what is said of the data there."""
    steps = chain(
        task(range(0, 60, 6), 60),
        salun(plain_model, num_classes=3, epochs=1, batch_size=20),
        influence(plain_model, batch_size=20, micro_batch=10, fisher_examples=20),
    )

    def answers(data):
        found = run(jax.random.key(1), steps, plain_original, data)
        said = predict(plain_model, found, data.images, batch_size=16)
        return found, said, loss_curvature(plain_model, found, *data, batch_size=16)

    return answers


@pytest.mark.thorough
def test_a_whole_run_is_the_same(monkeypatch, answers, data):
    read = []
    plain = Rows.__getitem__
    monkeypatch.setattr(
        Rows, "__getitem__", lambda rows, index: read.append(index) or plain(rows, index)
    )
    wanted = answers(data)
    assert not read
    with compiling_for("tpu"):
        assert_equal(answers(data), wanted)
    assert read
