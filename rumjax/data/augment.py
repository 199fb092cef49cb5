"""Augmentation of uint8 images inside the compiled step: random crops, flips, squares cut out."""

import dataclasses

import chex
import jax
import jax.numpy as jnp

from rumjax.errors import check_choice, check_count
from rumjax.types import Array, Key


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes to training images; equal by value, so it is structure to the compiler.

    Examples:
      >>> images = jnp.zeros((2, 8, 8, 1), jnp.uint8)
      >>> Augmentation(pad=1, flip=True)(jax.random.key(0), images).shape
      (2, 8, 8, 1)
    """

    pad: int = 0
    """pixels of zeros around the image, from which it is cropped back at a random place"""
    flip: bool = False
    """mirrors images left to right, at random every other one"""
    cutout: int = 0
    """side of a square around a random pixel that is set to 0, black as the padding is

    (DeVries & Taylor, arXiv 1708.04552.) What lies outside of the image is lost. Their code sets
    images to 0 after normalization, which is the mean of the data.
    """

    def __post_init__(self) -> None:
        for name in ("pad", "cutout"):
            object.__setattr__(self, name, check_count(name, getattr(self, name), least=0))

    def __call__(self, key: Key, images: Array) -> Array:
        """Changes uint8[B, H, W, C] images at random, each on its own.

        Without any of them it returns the images themselves, and does not use the key.
        """
        chex.assert_rank(images, 4)
        if self == Augmentation():
            return images
        crop_key, flip_key = jax.random.split(key)
        if self.pad:
            images = self._crop(crop_key, images)
        if self.flip:
            mirrored = jax.random.bernoulli(
                flip_key, jnp.float32(0.5), shape=(len(images), 1, 1, 1)
            )
            images = jnp.where(mirrored, images[:, :, ::-1], images)
        if self.cutout:
            # A key of its own, so that crops and flips are those without.
            images = self._cut_square(jax.random.fold_in(key, 2), images)
        return images

    def _cut_square(self, key: Key, images: Array) -> Array:
        """Sets a square of every image to 0."""
        count, *size = images.shape[:3]
        centers = jax.random.randint(key, (count, 2), 0, jnp.asarray([size]), jnp.int32)
        inside = []
        for axis in (0, 1):
            distance = jnp.arange(size[axis])[None] - (centers[:, axis, None] - self.cutout // 2)
            inside.append((distance >= 0) & (distance < self.cutout))
        square = inside[0][:, :, None, None] & inside[1][:, None, :, None]
        return jnp.where(square, jnp.zeros((), images.dtype), images)

    def _crop(self, key: Key, images: Array) -> Array:
        """Pads images with zeros and cuts their size out again at a random place."""
        corners = jax.random.randint(key, (len(images), 2), 0, 2 * self.pad + 1, jnp.int32)
        # A TPU would cut one image after another.
        return jax.lax.platform_dependent(images, corners, tpu=self._select, default=self._cut)

    def _cut(self, images: Array, corners: Array) -> Array:
        """Pads images, and cuts out what begins at their corners, int32[B, 2]."""
        around = (self.pad, self.pad)
        padded = jnp.pad(images, ((0, 0), around, around, (0, 0)))

        def cut(image: Array, corner: Array) -> Array:
            start = (corner[0], corner[1], jnp.int32(0))
            return jax.lax.dynamic_slice(image, start, images.shape[1:])

        return jax.vmap(cut)(padded, corners)

    def _select(self, images: Array, corners: Array) -> Array:
        """Does what `_cut` does by choosing among all shifts, along one axis after the other."""
        for axis in (1, 2):
            corner = corners[:, axis - 1, None, None, None]
            size = images.shape[axis]
            around = [(self.pad, self.pad) if other == axis else (0, 0) for other in range(4)]
            padded = jnp.pad(images, around)
            images = jax.lax.slice_in_dim(padded, 0, size, axis=axis)
            for shift in range(1, 2 * self.pad + 1):
                shifted = jax.lax.slice_in_dim(padded, shift, shift + size, axis=axis)
                images = jnp.where(corner == shift, shifted, images)
        return images


AUGMENTATIONS = {
    "none": Augmentation(),
    "flip": Augmentation(flip=True),
    "crop_flip": Augmentation(pad=4, flip=True),
    "crop_flip_cutout": Augmentation(pad=4, flip=True, cutout=16),
}


def augmentation(name: str) -> Augmentation:
    """Returns an augmentation by name, one of `AUGMENTATIONS`.

    They are "none", "flip", "crop_flip" (pad 4, crop, flip) and "crop_flip_cutout" (a square of 16
    pixels cut out besides, as of CIFAR-10 in the paper, whose images have 32).

    Raises:
      InvalidInputError: an unknown name.

    Examples:
      >>> augmentation("crop_flip")
      Augmentation(pad=4, flip=True, cutout=0)
    """
    return AUGMENTATIONS[check_choice("augmentation", name, AUGMENTATIONS)]
