"""Augmentation of uint8 images inside the compiled step: pad and crop at random, flip at random."""

import dataclasses

import jax
import jax.numpy as jnp

from rumjax.errors import check_choice, check_count
from rumjax.types import Array, Key


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to a training image; equal by value, so it is structure to the compiler."""

    pad: int = 0
    """pixels of zeros around the image, from which it is cropped back at a random place"""
    flip: bool = False
    """whether every other image, at random, is mirrored left to right"""

    def __post_init__(self) -> None:
        check_count("pad", self.pad, least=0)

    def __call__(self, key: Key, images: Array) -> Array:
        """uint8[B, H, W, C] to the same, each image on its own.

        Without pad and flip these are the images themselves, and the key is not looked at.
        """
        if self == Augmentation():
            return images
        crop_key, flip_key = jax.random.split(key)
        if self.pad:
            images = self._crop(crop_key, images)
        if self.flip:
            mirrored = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
            images = jnp.where(mirrored, images[:, :, ::-1], images)
        return images

    def _crop(self, key: Key, images: Array) -> Array:
        count, *shape = images.shape
        around = (self.pad, self.pad)
        padded = jnp.pad(images, ((0, 0), around, around, (0, 0)))
        corners = jax.random.randint(key, (count, 2), 0, 2 * self.pad + 1)

        def cut(image: Array, corner: Array) -> Array:
            return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), shape)

        return jax.vmap(cut)(padded, corners)


AUGMENTATIONS = {
    "none": Augmentation(),
    "flip": Augmentation(flip=True),
    "crop_flip": Augmentation(pad=4, flip=True),
}


def augmentation(name: str) -> Augmentation:
    """An augmentation by name: "none", "flip", or "crop_flip" (pad 4, crop, flip).

    Raises:
      InvalidInputError: an unknown name.
    """
    return AUGMENTATIONS[check_choice("augmentation", name, AUGMENTATIONS)]
