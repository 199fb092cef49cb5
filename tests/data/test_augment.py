"""Augmentation: random crops and flips, against all that are possible."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.data import Augmentation, augmentation
from rumjax.errors import InvalidInputError
from tests.references.crops import possible_crops, possible_cutouts


def distinct(count, height, width, channels):
    """Images whose pixels are all different and never zero, so that a crop tells its place."""
    pixels = 1 + np.arange(height * width * channels) % 255
    first = pixels.reshape(height, width, channels)
    return np.stack([np.roll(first, i, axis=0) for i in range(count)]).astype(np.uint8)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 99), pad=st.integers(0, 2), flip=st.booleans())
def test_every_image_becomes_one_of_its_possible_crops(seed, pad, flip):
    images = distinct(6, 3, 4, 2)
    found = Augmentation(pad=pad, flip=flip)(jax.random.key(seed), jnp.asarray(images))
    assert found.shape == images.shape
    assert found.dtype == jnp.uint8
    for image, augmented in zip(images, np.asarray(found), strict=True):
        assert any(np.array_equal(augmented, crop) for crop in possible_crops(image, pad, flip))


def test_every_possible_crop_comes_up_and_about_as_often_as_any_other():
    image = distinct(1, 3, 4, 1)[0]
    count = 3600
    found = Augmentation(pad=1, flip=True)(
        jax.random.key(0), jnp.broadcast_to(jnp.asarray(image), (count, *image.shape))
    )
    found = np.asarray(found).reshape(count, -1)
    crops = [crop.ravel() for crop in possible_crops(image, 1, flip=True)]
    share = np.array([np.mean((found == crop).all(axis=1)) for crop in crops])
    assert share.sum() == pytest.approx(1)  # 18 crops, all different
    five_errors = 5 * np.sqrt(1 / 18 * 17 / 18 / count)
    assert np.abs(share - 1 / 18).max() < five_errors


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_every_square_is_cut_out_and_about_as_often_as_any_other(side):
    image = distinct(1, 5, 4, 2)[0]
    count = 4000
    images = jnp.broadcast_to(jnp.asarray(image), (count, *image.shape))
    found = np.asarray(Augmentation(cutout=side)(jax.random.key(0), images))
    assert found.dtype == np.uint8
    cuts = [cut.ravel() for cut in possible_cutouts(image, side)]
    share = np.array([np.mean((found.reshape(count, -1) == cut).all(axis=1)) for cut in cuts])
    # Squares that differ outside of the image only are the same.
    alike = np.array([sum(np.array_equal(cut, other) for other in cuts) for cut in cuts]) / len(
        cuts
    )
    assert (share / alike / len(cuts)).sum() == pytest.approx(1)
    assert np.all(np.abs(share - alike) < 5 * np.sqrt(alike * (1 - alike) / count))


def test_a_square_is_cut_out_of_what_was_cropped_and_flipped():
    images = jnp.asarray(distinct(20, 6, 5, 3))
    key = jax.random.key(5)
    before = np.asarray(Augmentation(pad=1, flip=True)(key, images))
    found = np.asarray(Augmentation(pad=1, flip=True, cutout=3)(key, images))
    for image, cut in zip(before, found, strict=True):
        assert any(np.array_equal(cut, each) for each in possible_cutouts(image, 3))
    assert len({np.flatnonzero(a != b).tobytes() for a, b in zip(before, found, strict=True)}) > 5


def test_about_half_of_the_images_are_flipped_and_no_others_change():
    images = distinct(2000, 2, 3, 1)
    found = np.asarray(Augmentation(flip=True)(jax.random.key(1), jnp.asarray(images)))
    flipped = (found == images[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (found == images).all(axis=(1, 2, 3))
    assert (flipped ^ same).all()
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)


def test_padding_is_zero_and_nothing_else_is_lost():
    white = jnp.full((200, 4, 4, 1), 255, jnp.uint8)
    found = np.asarray(Augmentation(pad=2)(jax.random.key(2), white))
    assert set(np.unique(found)) == {0, 255}
    rows, columns = (found[..., 0] > 0).any(axis=2).sum(axis=1), (found[..., 0] > 0).any(axis=1)
    assert ((found > 0).sum(axis=(1, 2, 3)) == rows * columns.sum(axis=1)).all()  # a rectangle
    assert rows.min() == 2  # 4 rows, moved by at most 2


def test_images_of_a_batch_are_moved_independently():
    images = jnp.broadcast_to(jnp.asarray(distinct(1, 4, 4, 1)), (64, 4, 4, 1))
    found = np.asarray(Augmentation(pad=1)(jax.random.key(3), images))
    assert len(np.unique(found.reshape(64, -1), axis=0)) > 1


def test_none_is_the_identity_and_does_not_look_at_the_key():
    images = jnp.asarray(distinct(2, 3, 3, 1))
    assert Augmentation()(None, images) is images


def test_compiled_mapped_and_scanned_are_the_same_as_plain():
    images = jnp.asarray(distinct(6, 3, 4, 2))
    keys = jax.random.split(jax.random.key(4), 2)
    augment = Augmentation(pad=1, flip=True, cutout=2)
    plain = np.stack([np.asarray(augment(key, images)) for key in keys])
    np.testing.assert_array_equal(jax.jit(augment)(keys[0], images), plain[0])
    mapped = jax.jit(jax.vmap(augment, (0, None)))(keys, images)
    np.testing.assert_array_equal(mapped, plain)
    scanned = jax.lax.scan(lambda carry, key: (carry, augment(key, images)), 0, keys)[1]
    np.testing.assert_array_equal(scanned, plain)


@settings(deadline=None, max_examples=10)
@given(
    pad=st.integers(1, 4),
    height=st.integers(5, 7),
    width=st.sampled_from([5, 7]),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.uint8, np.float32]),
    seed=st.integers(0, 9),
)
def test_choosing_among_all_shifts_is_cutting_out(pad, height, width, channels, dtype, seed):
    corners = np.random.default_rng(seed).integers(0, 2 * pad + 1, (7, 2), np.int32)
    # As far as it goes along one axis, with some of the image still to be seen.
    corners[:4] = [[pad, 2 * pad], [2 * pad, pad], [0, pad], [pad, 0]]
    images = jnp.asarray(distinct(7, height, width, channels).astype(dtype))
    augment = Augmentation(pad=pad)
    both = jax.jit(lambda *args: (augment._select(*args), augment._cut(*args)))
    selected, cut = both(images, corners)
    assert selected.dtype == cut.dtype == dtype
    np.testing.assert_array_equal(selected, cut)


def test_a_tpu_chooses_among_shifts_and_others_cut():
    lowered = {
        platform: jax.jit(Augmentation(pad=1))
        .trace(jax.random.key(0), jax.ShapeDtypeStruct((2, 3, 3, 1), jnp.uint8))
        .lower(lowering_platforms=(platform,))
        .as_text()
        for platform in ("cpu", "tpu")
    }
    assert "gather" in lowered["cpu"]
    assert "gather" not in lowered["tpu"]


def test_equal_augmentations_share_a_compilation():
    traces = []

    def apply(augment, key, images):
        traces.append(augment)
        return augment(key, images)

    compiled = jax.jit(apply, static_argnums=0)
    for _ in range(2):
        compiled(Augmentation(pad=1), jax.random.key(0), jnp.zeros((2, 3, 3, 1), jnp.uint8))
    assert len(traces) == 1


def test_an_augmentation_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Augmentation().pad = 1


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("none", {}),
        ("flip", {"flip": True}),
        ("crop_flip", {"pad": 4, "flip": True}),
        ("crop_flip_cutout", {"pad": 4, "flip": True, "cutout": 16}),
    ],
)
def test_names_stand_for_augmentations(name, fields):
    assert augmentation(name) == Augmentation(**fields)


def test_an_unknown_name_is_answered_by_the_nearest():
    with pytest.raises(InvalidInputError, match="did you mean 'crop_flip'"):
        augmentation("cropflip")


@pytest.mark.parametrize("name", ["pad", "cutout"])
@pytest.mark.parametrize("number", [-1, 1.5])
def test_what_is_no_count_is_refused(name, number):
    with pytest.raises(InvalidInputError, match=f"{name}: wanted a whole number of at least 0"):
        Augmentation(**{name: number})
