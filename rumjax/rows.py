"""Images as rows of pixels: the form in which accelerators hold a data set.

A TPU stores the last axes of an array in tiles. Of [N, H, W, C] it would pad them, and copy the
whole data set into another layout at the beginning of every epoch; rows of H·W·C pixels need
neither. Whoever indexes them gets images.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.platforms import platform
from rumjax.types import AnyArray, Array, Dataset, record, static


@record
class Rows:
    """Images [N, H, W, C], kept as [N, H·W·C]; indexed along N they give arrays of images.

    Examples:
      >>> rows = rows_of(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3))
      >>> rows.pixels.shape, rows.shape, rows[np.array([1])].shape
      ((2, 12), (2, 2, 2, 3), (1, 2, 2, 3))
    """

    form: tuple[int, int, int] = static()
    """H, W and C"""
    pixels: AnyArray
    """[N, H·W·C]"""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, C], after axes of many data sets, if any."""
        return (*self.pixels.shape[:-1], *self.form)

    @property
    def ndim(self) -> int:
        """The number of axes, 4."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of pixels in all."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of a pixel."""
        return self.pixels.dtype

    def __len__(self) -> int:
        """Returns N."""
        return int(self.pixels.shape[0])

    def __getitem__(self, index: Any) -> Array:
        """Returns what indexing the images would, as an array."""
        if isinstance(index, tuple):
            return jnp.asarray(self.__jax_array__()[index])
        taken = jnp.asarray(self.pixels)[index]
        return taken.reshape(*taken.shape[:-1], *self.form)

    def __iter__(self) -> Iterator[Array]:
        """Yields one image after another; by indices alone, JAX would find no end."""
        return (self[index] for index in range(len(self)))

    def __jax_array__(self) -> Array:
        """Returns all images, for functions that want an array."""
        return jnp.asarray(self.pixels).reshape(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns all images on the host."""
        images = np.asarray(self.pixels).reshape(self.shape)
        return np.array(images, dtype, copy=copy if copy else None)

    def __getattr__(self, name: str) -> Any:
        """Returns what else an array has, `astype` or `mean` for instance, of all images."""
        if name.startswith("_") or name in ("form", "pixels"):
            raise AttributeError(f"rows have no {name!r}")
        return getattr(self.__jax_array__(), name)


def _operator(name: str) -> Any:
    """Returns an operator on all images."""

    def operate(rows: Rows, *others: Any) -> Any:
        return getattr(rows.__jax_array__(), name)(*others)

    return operate


OPERATORS = (
    *("neg", "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv"),
    *("floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge"),
)
for _name in OPERATORS:
    setattr(Rows, f"__{_name}__", _operator(f"__{_name}__"))


def first(images: AnyArray | Rows, count: int) -> Any:
    """Returns the first images, in the form in which all of them are.

    Examples:
      >>> first(rows_of(np.zeros((9, 2, 2, 3))), 4).shape
      (4, 2, 2, 3)
    """
    if isinstance(images, Rows):
        return Rows(form=images.form, pixels=images.pixels[:count])
    return images[:count]


def rows_of(images: Any) -> Rows:
    """Returns images, or the shape and dtype of some, as rows.

    Examples:
      >>> rows_of(jax.ShapeDtypeStruct((9, 2, 2, 3), np.uint8)).pixels.shape
      (9, 12)
    """
    if isinstance(images, Rows):
        return images
    count, *form = images.shape
    flat = (count, math.prod(form))
    if isinstance(images, jax.ShapeDtypeStruct):
        pixels: Any = jax.ShapeDtypeStruct(flat, images.dtype)
    else:
        pixels = images.reshape(flat)
    return Rows(form=tuple(form), pixels=pixels)


def suited(data: Dataset, target: str | None = None) -> Dataset:
    """Returns data in the form that suits a platform: images as `Rows`, but for CPU as they are.

    Args:
      data: images [N, H, W, C] and labels, or shapes and dtypes of them.
      target: of `rumjax.platforms.PLATFORMS`; by default the one that is compiled for.

    Examples:
      >>> data = Dataset(np.zeros((9, 2, 2, 3), np.uint8), np.zeros(9, np.int32))
      >>> type(suited(data, "tpu").images).__name__, type(suited(data, "cpu").images).__name__
      ('Rows', 'ndarray')
    """
    if (target or platform()) == "cpu":
        return data
    rows: Any = rows_of(data.images)  # which do what arrays are wanted for
    return Dataset(rows, data.labels)
