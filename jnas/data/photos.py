"""Random resized crops and colour jitter of photographs, on the device.

The augmentation of ImageNet recipes (Szegedy et al. 2015 for the crop,
https://arxiv.org/abs/1409.4842; Howard 2013 for the colours,
https://arxiv.org/abs/1312.5402), with the distributions of torchvision's
``RandomResizedCrop`` and ``ColorJitter``, which the papers' code uses. Differences:

* The crop is taken from the stored image and enlarged to its size; the papers crop the
  photograph before they shrink it. Store images larger than need be for fine detail.
* Values are not rounded to whole numbers between the operations.

As in `jnas.data.augment`, drawing is apart from use. Pixels are float32 in 0..255 here.

Shape letters: `B` batch, `H W C` image.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["crop_and_enlarge", "draw_boxes", "draw_jitter", "jitter"]

RATIO = (3 / 4, 4 / 3)
TRIES = 10
# ITU-R 601, as in PIL's conversion to grey.
GREY = (0.299, 0.587, 0.114)


def draw_boxes(
    key: jax.Array,
    batch_size: int,
    height: int,
    width: int,
    scale: tuple[float, float],
) -> jax.Array:
    """Draws where to crop; the key is consumed.

    The area is uniform in `scale` (shares of the image), the ratio of the sides
    log-uniform in 3/4 .. 4/3; of ten draws the first that fits the image is taken, the
    largest centred box of an allowed ratio if none does.

    Args:
      key: typed key.
      batch_size: `B`.
      height: `H`.
      width: `W`.
      scale: smallest and largest area, as shares.

    Returns:
      int32 `[B, 4]`: top, left, height and width of the boxes.

    Example:
      >>> draw_boxes(jax.random.key(0), 2, 8, 8, (1.0, 1.0)).tolist()
      [[0, 0, 8, 8], [0, 0, 8, 8]]
    """
    key_area, key_ratio, key_place = jax.random.split(key, 3)
    shape = (batch_size, TRIES)
    area = jax.random.uniform(key_area, shape, jnp.float32, *scale) * (height * width)
    bounds = (math.log(RATIO[0]), math.log(RATIO[1]))
    ratio = jnp.exp(jax.random.uniform(key_ratio, shape, jnp.float32, *bounds))
    wide = jnp.round(jnp.sqrt(area * ratio)).astype(jnp.int32)
    high = jnp.round(jnp.sqrt(area / ratio)).astype(jnp.int32)
    fits = (wide >= 1) & (wide <= width) & (high >= 1) & (high <= height)
    first = jnp.argmax(fits, axis=1)[:, None]
    found = jnp.any(fits, axis=1)

    def chosen(values: jax.Array, otherwise: int) -> jax.Array:
        picked = jnp.take_along_axis(values, first, axis=1)[:, 0]
        return jnp.where(found, picked, otherwise)

    most_high = min(height, round(width / RATIO[0]))
    most_wide = min(width, round(height * RATIO[1]))
    high, wide = chosen(high, most_high), chosen(wide, most_wide)
    place = jax.random.uniform(key_place, (2, batch_size), jnp.float32)
    room = jnp.stack([height - high, width - wide])
    random = jnp.minimum((place * (room + 1)).astype(jnp.int32), room)
    top, left = jnp.where(found, random, room // 2)
    return jnp.stack([top, left, high, wide], axis=1)


def crop_and_enlarge(images: jax.Array, boxes: jax.Array) -> jax.Array:
    """Cuts boxes out and enlarges them to the image's size, bilinearly.

    Args:
      images: `[B, H, W, C]`, any type.
      boxes: from `draw_boxes`.

    Returns:
      float32 `[B, H, W, C]`.

    Example:
      >>> images = jnp.arange(16).reshape(1, 4, 4, 1)
      >>> crop_and_enlarge(images, jnp.array([[1, 1, 2, 2]]))[0, 0, :, 0].tolist()
      [5.0, 5.25, 5.75, 6.0]
    """
    top, left, high, wide = boxes.T
    rows = _weights(images.shape[1], top, high)
    columns = _weights(images.shape[2], left, wide)
    # Exact on every device: by default some multiply with few bits.
    exact = lax.Precision.HIGHEST
    result = images.astype(jnp.float32)
    result = jnp.einsum("boh,bhwc->bowc", rows, result, precision=exact)
    return jnp.einsum("bpw,bowc->bopc", columns, result, precision=exact)


def _weights(size: int, start: jax.Array, length: jax.Array) -> jax.Array:
    """Returns `[B, size, size]`: how much of each old pixel is in each new one."""
    start, length = start[:, None].astype(jnp.float32), length[:, None]
    centre = (jnp.arange(size, dtype=jnp.float32)[None] + 0.5) * length / size - 0.5
    # What lies beyond the box does not count: its border pixels are repeated.
    source = start + jnp.clip(centre, 0, length - 1)
    old = jnp.arange(size, dtype=jnp.float32)[None, None]
    return jnp.maximum(0, 1 - jnp.abs(source[..., None] - old))


def draw_jitter(
    key: jax.Array, batch_size: int, strength: tuple[float, float, float, float]
) -> tuple[jax.Array, jax.Array]:
    """Draws how to change colours; the key is consumed.

    Args:
      key: typed key.
      batch_size: `B`.
      strength: of brightness, contrast and saturation, whose factors are uniform in
        ``max(0, 1 - s) .. 1 + s``, and of hue, whose shift is uniform in ``-s .. s``
        of the full circle.

    Returns:
      float32 `[B, 4]`, the factors and the shift; int32 `[B, 4]`, the order in which
      the four are done, uniform over all orders.

    Example:
      >>> factors, order = draw_jitter(jax.random.key(0), 5, (0.0, 0.0, 0.0, 0.0))
      >>> factors[0].tolist(), sorted(order[0].tolist())
      ([1.0, 1.0, 1.0, 0.0], [0, 1, 2, 3])
    """
    key_factors, key_order = jax.random.split(key)
    low = jnp.array([*(max(0.0, 1 - s) for s in strength[:3]), -strength[3]])
    high = jnp.array([*(1 + s for s in strength[:3]), strength[3]])
    share = jax.random.uniform(key_factors, (batch_size, 4), jnp.float32)
    low, high = (x.astype(jnp.float32)[None] for x in (low, high))
    order = jnp.argsort(jax.random.uniform(key_order, (batch_size, 4)), axis=1)
    return low + share * (high - low), order.astype(jnp.int32)


def jitter(images: jax.Array, factors: jax.Array, order: jax.Array) -> jax.Array:
    """Changes brightness, contrast, saturation and hue.

    Args:
      images: float32 `[B, H, W, 3]` in 0..255.
      factors: from `draw_jitter`.
      order: from `draw_jitter`.

    Returns:
      float32 `[B, H, W, 3]` in 0..255.

    Example:
      >>> images = jnp.full((1, 1, 1, 3), 100.0)
      >>> factors, order = jnp.array([[1.5, 1.0, 1.0, 0.0]]), jnp.array([[0, 1, 2, 3]])
      >>> jitter(images, factors, order).ravel().tolist()
      [150.0, 150.0, 150.0]
    """
    factors = factors[:, :, None, None, None]
    for place in range(4):
        which = order[:, place, None, None, None]
        changed = [
            _blend(images, jnp.zeros_like(images), factors[:, 0]),
            _blend(
                images, jnp.mean(_grey(images), (1, 2), keepdims=True), factors[:, 1]
            ),
            _blend(images, _grey(images), factors[:, 2]),
            _shift_hue(images, factors[:, 3]),
        ]
        images = jnp.select([which == number for number in range(4)], changed)
    return images


def _grey(images: jax.Array) -> jax.Array:
    weights = jnp.array(GREY, jnp.float32).reshape(1, 1, 1, 3)
    return jnp.sum(images * weights, axis=-1, keepdims=True)


def _blend(images: jax.Array, other: jax.Array, factor: jax.Array) -> jax.Array:
    return jnp.clip(other + factor * (images - other), 0, 255)


def _shift_hue(images: jax.Array, shift: jax.Array) -> jax.Array:
    """Turns the hue and keeps the largest and the smallest value of each pixel."""
    red, green, blue = (images[..., i : i + 1] for i in range(3))
    most = jnp.max(images, axis=-1, keepdims=True)
    span = most - jnp.min(images, axis=-1, keepdims=True)
    # Sixths of the circle; a grey pixel has no hue and comes out as it was.
    safe = jnp.where(span == 0, 1, span)
    hue = jnp.where(
        most == red,
        (green - blue) / safe,
        jnp.where(most == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * shift
    turned = []
    for offset in (5, 3, 1):
        place = jnp.mod(offset + hue, 6)
        turned.append(most - span * jnp.clip(jnp.minimum(place, 4 - place), 0, 1))
    return jnp.concatenate(turned, axis=-1)
