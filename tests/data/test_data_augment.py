"""Augmentation against a plain NumPy reference given the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.data import augment as augmenting
from jnas.data import base

# Compiled: one program is quicker than many single operations.
draw = jax.jit(augmenting.draw, static_argnums=(1, 2, 3, 4))
apply = jax.jit(augmenting.apply, static_argnums=(2, 3, 4))

MEAN, STD = (0.5, 0.25, 0.4), (0.2, 0.3, 0.25)


def reference(images, drawn, options, mean, std):
    """One image after the other, as the PyTorch pipeline does it."""
    result = []
    for number, image in enumerate(images):
        height, width, channels = image.shape
        pad = options.crop
        canvas = np.zeros((height + 2 * pad, width + 2 * pad, channels), np.uint8)
        canvas[pad : pad + height, pad : pad + width] = image
        if pad:
            top, left = int(drawn.top[number]), int(drawn.left[number])
        else:
            top = left = 0
        image = canvas[top : top + height, left : left + width]
        if options.flip and drawn.flip[number]:
            image = image[:, ::-1]
        image = (image / 255.0 - np.array(mean)) / np.array(std)
        if options.cutout:
            row, column = int(drawn.row[number]), int(drawn.column[number])
            half = options.cutout // 2
            first_row, last_row = max(row - half, 0), min(row + half, height)
            first, last = max(column - half, 0), min(column + half, width)
            image[first_row:last_row, first:last] = 0.0
        result.append(image)
    return np.stack(result)


def pixels(number=16, height=12, width=10):
    shape = (number, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    "options",
    [
        base.Augment(),
        base.Augment(crop=2),
        base.Augment(flip=True),
        base.Augment(cutout=4),
        base.Augment(crop=4, flip=True, cutout=8),
    ],
    ids=str,
)
def test_matches_reference(options):
    images = pixels()
    drawn = draw(jax.random.key(1), 16, 12, 10, options)
    ours = apply(images, drawn, options, MEAN, STD)
    expected = reference(images, drawn, options, MEAN, STD)
    # float32 against float64: values up to 5, so a few units in the seventh digit.
    np.testing.assert_allclose(ours, expected, atol=2e-6)
    assert ours.dtype == jnp.float32


def test_padding_is_black_before_normalisation():
    images = np.full((1, 8, 8, 3), 255, np.uint8)
    zero = jnp.zeros(1, jnp.int32)
    drawn = augmenting.Draw(zero, zero, zero.astype(bool), zero, zero)
    result = apply(images, drawn, base.Augment(crop=1), MEAN, STD)
    black, white = -np.array(MEAN) / STD, (1 - np.array(MEAN)) / STD
    np.testing.assert_allclose(result[0, 0], np.tile(black, (8, 1)), rtol=1e-6)
    np.testing.assert_allclose(result[0, 1:, 0], np.tile(black, (7, 1)), rtol=1e-6)
    np.testing.assert_allclose(result[0, 4, 4], white, rtol=1e-6)


def test_odd_cutout_has_its_side():
    images = np.full((1, 11, 11, 1), 255, np.uint8)
    five = jnp.full(1, 5, jnp.int32)
    drawn = augmenting.Draw(five, five, five < 0, five, five)
    result = apply(images, drawn, base.Augment(cutout=3), (0.5,), (1.0,))
    np.testing.assert_array_equal(np.argwhere(result[0, ..., 0] == 0).min(0), [4, 4])
    np.testing.assert_array_equal(np.argwhere(result[0, ..., 0] == 0).max(0), [6, 6])
    assert int((result == 0).sum()) == 9


def test_draws_are_uniform_over_their_ranges():
    options, number = base.Augment(crop=2, flip=True, cutout=4), 20_000
    drawn = draw(jax.random.key(0), number, 6, 9, options)
    for values, size in (
        (drawn.top, 5),
        (drawn.left, 5),
        (drawn.flip, 2),
        (drawn.row, 6),
        (drawn.column, 9),
    ):
        counts = np.bincount(np.asarray(values).astype(int))
        assert len(counts) == size
        # Five standard deviations of a binomial count.
        spread = np.sqrt(number / size * (1 - 1 / size))
        assert np.abs(counts - number / size).max() < 5 * spread
    pairs = np.corrcoef(np.stack([np.asarray(v, float) for v in drawn[:5]]))
    # Five standard deviations of the correlation of independent draws.
    assert np.abs(pairs - np.eye(5)).max() < 5 / np.sqrt(number)


def test_switching_one_off_leaves_the_other_draws():
    key = jax.random.key(3)
    both = draw(key, 8, 8, 8, base.Augment(crop=2, flip=True, cutout=4))
    less = draw(key, 8, 8, 8, base.Augment(crop=2))
    jax.tree.map(np.testing.assert_array_equal, both, less)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_normalise_dtype(dtype):
    images = pixels(2)
    result = augmenting.normalise(images, MEAN, STD, dtype)
    assert result.dtype == dtype
    exact = (images / 255.0 - np.array(MEAN)) / np.array(STD)
    # Rounded once, at the end: half a unit in the last place of values up to 4.
    np.testing.assert_allclose(
        result.astype(jnp.float32), exact, atol=4 * float(jnp.finfo(dtype).eps)
    )
