"""Random crop, flip, normalisation and cutout of a batch, on the device.

Semantics of the CIFAR pipeline that DARTS and its successors share (quark0/darts,
cnn/utils.py; cutout: DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552), in this
order: pad with black, crop, flip, scale to [0, 1], normalise, cut out. Padding comes
before normalisation (black pixels), the cut-out square after it (the mean colour, 0).
The square's centre is uniform over all pixels and the square is clipped at the
borders, so the masked area varies.

Photographs may have a random resized crop instead of the padded one, and colour jitter
between flip and normalisation (`jnas.data.photos`); both are off by default.

The random numbers are drawn apart from their use, so that a test can compare the use
with a plain reference.

Shape letters: `B` batch, `H W C` image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from jnas.data import base, photos

__all__ = ["Draw", "apply", "draw", "normalise"]


class Draw(NamedTuple):
    """What was drawn for a batch.

    Attributes:
      top: int32 `[B]` first row of the crop in the padded image, 0..2 crop.
      left: int32 `[B]` first column likewise.
      flip: bool `[B]`.
      row: int32 `[B]` row of the cutout's centre, 0..H-1.
      column: int32 `[B]` column likewise.
      boxes: int32 `[B, 4]` of the resized crop, None where there is none.
      jitter: factors and order of the colour jitter, None where there is none.
    """

    top: jax.Array
    left: jax.Array
    flip: jax.Array
    row: jax.Array
    column: jax.Array
    boxes: jax.Array | None = None
    jitter: tuple[jax.Array, jax.Array] | None = None


def draw(
    key: jax.Array, batch_size: int, height: int, width: int, augment: base.Augment
) -> Draw:
    """Draws the offsets of one batch; the key is consumed.

    Args:
      key: typed key.
      batch_size: `B`.
      height: `H`.
      width: `W`.
      augment: how far crops may reach.

    Returns:
      The draw. Entries that `augment` does not use are drawn all the same, so that
      switching one augmentation off leaves the others as they were; those of the
      resized crop and the jitter only where they are on.
    """
    boxes = changes = None
    if augment.resized_crop is not None:
        key_boxes = jax.random.fold_in(key, 0)
        boxes = photos.draw_boxes(
            key_boxes, batch_size, height, width, augment.resized_crop
        )
    if augment.jitter is not None:
        key_jitter = jax.random.fold_in(key, 1)
        changes = photos.draw_jitter(key_jitter, batch_size, augment.jitter)
    key_offset, key_flip = jax.random.split(key)
    reach = 2 * augment.crop + 1
    # One call for all four: each costs compile time.
    bound = jnp.array([reach, reach, height, width], jnp.int32)[:, None]
    top, left, row, column = jax.random.randint(
        key_offset, (4, batch_size), 0, bound, jnp.int32
    )
    flip = jax.random.bernoulli(key_flip, 0.5, (batch_size,))
    return Draw(top, left, flip, row, column, boxes, changes)


def normalise(
    images: ArrayLike,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Returns ``(images / 255 - mean) / std``.

    Args:
      images: uint8 `[..., C]`, or floats in 0..255.
      mean: one number per channel.
      std: one number per channel.
      dtype: of the result; the arithmetic is at least float32.

    Returns:
      `[..., C]`.

    Example:
      >>> normalise(jnp.array([[0, 255]], jnp.uint8), (0.5, 0.5), (0.5, 0.25)).tolist()
      [[-1.0, 2.0]]
    """
    images = jnp.asarray(images)
    inner = jnp.promote_types(dtype, jnp.float32)
    shape = (1,) * (images.ndim - 1) + (-1,)
    centre = jnp.asarray(mean, inner).reshape(shape)
    scale = jnp.asarray(std, inner).reshape(shape)
    return ((images.astype(inner) / 255 - centre) / scale).astype(dtype)


def apply(
    images: jax.Array,
    drawn: Draw,
    augment: base.Augment,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Augments and normalises a batch with what was drawn for it.

    Args:
      images: uint8 `[B, H, W, C]`.
      drawn: from `draw`.
      augment: which augmentations to do.
      mean: one number per channel.
      std: one number per channel.
      dtype: of the result.

    Returns:
      `[B, H, W, C]`.

    Example:
      >>> images = jnp.full((2, 8, 8, 1), 255, jnp.uint8)
      >>> options = base.Augment(crop=1, flip=True, cutout=2)
      >>> drawn = draw(jax.random.key(0), 2, 8, 8, options)
      >>> apply(images, drawn, options, (0.5,), (0.5,)).shape
      (2, 8, 8, 1)
    """
    height, width, channels = images.shape[1:]
    if augment.crop:
        pad = (augment.crop, augment.crop)
        padded = jnp.pad(images, ((0, 0), pad, pad, (0, 0)))

        def crop_one(image, top, left):
            start = (top, left, jnp.zeros_like(top))
            return lax.dynamic_slice(image, start, (height, width, channels))

        images = jax.vmap(crop_one)(padded, drawn.top, drawn.left)
    if drawn.boxes is not None:
        images = photos.crop_and_enlarge(images, drawn.boxes)
    if augment.flip:
        flip = drawn.flip[:, None, None, None]
        images = jnp.where(flip, images[:, :, ::-1], images)
    if drawn.jitter is not None:
        images = photos.jitter(images.astype(jnp.float32), *drawn.jitter)
    result = normalise(images, mean, std, dtype)
    if augment.cutout:
        hit = _inside(drawn.row, height, augment.cutout)[:, :, None, None]
        hit = hit & _inside(drawn.column, width, augment.cutout)[:, None, :, None]
        result = jnp.where(hit, jnp.zeros((), result.dtype), result)
    return result


def _inside(centre: jax.Array, size: int, side: int) -> jax.Array:
    """Returns bool `[B, size]`: the stretch of `side` pixels around each centre."""
    position = jnp.arange(size, dtype=jnp.int32)[None, :]
    first = centre[:, None] - side // 2
    return (position >= first) & (position < first + side)
