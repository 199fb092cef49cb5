"""Augmentation of uint8 images inside the compiled step: pad and crop at random, flip at random."""

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "pad", check_count("pad", self.pad, least=0))

    def __call__(self, key: Key, images: Array) -> Array:
        """Changes uint8[B, H, W, C] images at random, each on its own.

        Without pad and flip it returns the images themselves, and does not use the key.
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
        return images

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
}


def augmentation(name: str) -> Augmentation:
    """Returns an augmentation by name: "none", "flip", or "crop_flip" (pad 4, crop, flip).

    Raises:
      InvalidInputError: an unknown name.

    Examples:
      >>> augmentation("crop_flip")
      Augmentation(pad=4, flip=True)
    """
    return AUGMENTATIONS[check_choice("augmentation", name, AUGMENTATIONS)]
