"""Resized crops and colour jitter against Pillow and plain NumPy, on fixed draws."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

import jnas.data
from jnas import errors
from jnas.data import augment as augmenting
from jnas.data import base, photos

draw_boxes = jax.jit(photos.draw_boxes, static_argnums=(1, 2, 3, 4))
draw_jitter = jax.jit(photos.draw_jitter, static_argnums=(1, 2))
enlarge = jax.jit(photos.crop_and_enlarge)
jitter = jax.jit(photos.jitter)
STRENGTH = (0.4, 0.4, 0.4, 0.2)


def pixels(number=8, height=12, width=10):
    shape = (number, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_enlarging_matches_pillow():
    images = pixels()
    boxes = draw_boxes(jax.random.key(1), 8, 12, 10, (0.08, 1.0))
    ours = enlarge(images, boxes)
    for image, box, found in zip(images, np.asarray(boxes), ours, strict=True):
        top, left, high, wide = box.tolist()
        cut = Image.fromarray(image[top : top + high, left : left + wide])
        theirs = np.asarray(cut.resize((10, 12), Image.Resampling.BILINEAR))
        # Pillow rounds after each of its two passes.
        np.testing.assert_allclose(found, theirs, atol=1.01)
    whole = jnp.broadcast_to(jnp.array([0, 0, 12, 10]), (8, 4))
    np.testing.assert_allclose(enlarge(images, whole), images, atol=1e-4)


def test_boxes_fit_and_have_the_published_distribution():
    number, height, width = 20_000, 40, 50
    boxes = np.asarray(draw_boxes(jax.random.key(0), number, height, width, (0.2, 0.6)))
    top, left, high, wide = boxes.T
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (top + high <= height).all()
    assert (left + wide <= width).all()
    share = high * wide / (height * width)
    ratio = wide / high
    # Sides are rounded to whole pixels, hence the margins.
    assert share.min() > 0.18
    assert share.max() < 0.63
    assert ratio.min() > 0.7
    assert ratio.max() < 1.43
    # All boxes of these areas fit, so nothing is drawn again and the mean is 0.4.
    spread = 0.4 / np.sqrt(12 * number)
    assert abs(share.mean() - 0.4) < 5 * spread + 0.001
    width_of_log = 2 * np.log(4 / 3)
    assert abs(np.log(ratio).mean()) < 5 * width_of_log / np.sqrt(12 * number) + 0.001
    # The place is uniform: its share of the room averages one half.
    room = (width - wide).astype(float)
    middle = (left[room > 0] / room[room > 0]).mean()
    assert abs(middle - 0.5) < 5 / np.sqrt(12 * number)


def test_boxes_that_never_fit_are_centred():
    # No box of nearly the whole area of a 1:4 image has an allowed ratio.
    boxes = draw_boxes(jax.random.key(0), 3, 8, 32, (0.9, 1.0))
    np.testing.assert_array_equal(boxes, [[0, 10, 8, 11]] * 3)
    boxes = draw_boxes(jax.random.key(0), 3, 32, 8, (0.9, 1.0))
    np.testing.assert_array_equal(boxes, [[10, 0, 11, 8]] * 3)


def one_kind(kind, value, images):
    """Jitters with one of the four alone."""
    factors = np.tile([1.0, 1.0, 1.0, 0.0], (len(images), 1)).astype(np.float32)
    factors[:, kind] = value
    order = np.tile(np.arange(4, dtype=np.int32), (len(images), 1))
    return np.asarray(jitter(images.astype(np.float32), factors, order))


@pytest.mark.parametrize(
    ("kind", "enhance"),
    list(
        enumerate((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color))
    ),
)
@pytest.mark.parametrize("factor", [0.6, 1.37])
def test_factors_match_pillow(kind, enhance, factor):
    images = pixels(3)
    for image, ours in zip(images, one_kind(kind, factor, images), strict=True):
        theirs = np.asarray(enhance(Image.fromarray(image)).enhance(factor), float)
        # Pillow rounds grey values and the result to whole numbers.
        np.testing.assert_allclose(ours, theirs, atol=1.5)


@pytest.mark.parametrize("shift", [-0.2, 0.05, 0.5])
def test_hue_matches_the_standard_library(shift):
    images = pixels(1)
    images[0, 0] = 77  # grey pixels have no hue
    ours = one_kind(3, shift, images)[0]
    for pixel, found in zip(images[0].reshape(-1, 3), ours.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255.0))
        expected = colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)
        np.testing.assert_allclose(found, np.array(expected) * 255, atol=2e-3)


def test_order_is_that_of_the_draw():
    images = pixels(2).astype(np.float32)
    factors = np.array([[1.4, 0.6, 0.7, 0.1], [0.7, 1.3, 1.4, -0.2]], np.float32)
    order = np.array([[2, 0, 3, 1], [1, 3, 0, 2]], np.int32)
    expected = images
    for place in range(4):
        step = [
            one_kind(order[i, place], factors[i, order[i, place]], expected[i : i + 1])
            for i in range(2)
        ]
        expected = np.concatenate(step)
    np.testing.assert_allclose(jitter(images, factors, order), expected, atol=1e-3)


def test_jitter_draws():
    number = 20_000
    factors, order = draw_jitter(jax.random.key(0), number, STRENGTH)
    factors = np.asarray(factors)
    for kind, (low, high) in enumerate([(0.6, 1.4)] * 3 + [(-0.2, 0.2)]):
        column = factors[:, kind]
        assert low <= column.min() < low + 0.01
        assert high - 0.01 < column.max() <= high
        spread = (high - low) / np.sqrt(12 * number)
        assert abs(column.mean() - (low + high) / 2) < 5 * spread
    counts = np.unique(np.asarray(order), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert np.abs(counts - number / 24).max() < 5 * np.sqrt(number / 24)


def test_in_the_feed_each_step_draws_anew_and_off_changes_nothing():
    images = pixels(20, 8, 8)
    split = base.Split(images, np.arange(20, dtype=np.int32) % 2)
    options = {"batch_size": 4, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    photo = base.Augment(flip=True, resized_crop=(0.3, 1.0), jitter=STRENGTH)
    feed = jnas.data.feed(split, None, augment=photo, **options)
    call = jax.jit(lambda feed, key, step: feed(key, step)[0])
    key = jax.random.key(0)
    with jax.debug_key_reuse(True):
        first = call(feed, key, 0)
        other = call(feed, key, 5)  # the second epoch
    assert first["image"].dtype == jnp.float32
    assert np.isfinite(first["image"]).all()
    assert (first["image"] != other["image"]).any()
    # What is drawn is used: crop, flip, jitter, normalise, in this order.
    batch_key = jax.random.fold_in(jax.random.fold_in(key, 2), 0)
    drawn = augmenting.draw(batch_key, 4, 8, 8, photo)
    plain_feed = jnas.data.feed(
        split, None, augment=base.Augment(), **{**options, "mean": (0.0,) * 3}
    )
    raw = np.rint(call(plain_feed, key, 0)["image"] * 0.25 * 255)
    cut = enlarge(raw, drawn.boxes)
    flipped = np.where(
        np.asarray(drawn.flip)[:, None, None, None], cut[:, :, ::-1], cut
    )
    expected = jitter(flipped, *drawn.jitter)
    np.testing.assert_allclose(first["image"], (expected / 255 - 0.5) / 0.25, atol=1e-4)
    # Flip and crop draw what they drew before there were photographs.
    plain = base.Augment(flip=True, crop=1, cutout=2)
    drawn = [augmenting.draw(key, 4, 8, 8, each) for each in (photo, plain)]
    np.testing.assert_array_equal(drawn[0].flip, drawn[1].flip)
    assert drawn[1].boxes is None
    assert drawn[1].jitter is None


BAD = {
    "shares": ({"resized_crop": (0.0, 1.0)}, "0 < low <= high <= 1"),
    "turned": ({"resized_crop": (0.9, 0.5)}, "0 < low <= high <= 1"),
    "one": ({"resized_crop": 0.5}, "2 numbers, got 0.5"),
    "both": ({"resized_crop": (0.5, 1), "crop": 2}, "exclude each other"),
    "jitter": ({"jitter": (0.4, 0.4, 0.4)}, "4 numbers"),
    "hue": ({"jitter": (0.4, 0.4, 0.4, 0.6)}, r"hue in 0\.\.0\.5"),
    "negative": ({"jitter": (-0.4, 0.4, 0.4, 0.1)}, ">= 0"),
    "nan": ({"jitter": (float("nan"), 0.4, 0.4, 0.1)}, ">= 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options(case):
    options, message = BAD[case]
    with pytest.raises(errors.JnasError, match=message):
        base.Augment(**options)


def test_jitter_needs_colours():
    with pytest.raises(errors.JnasError, match="3 channels, got 1"):
        base.Augment(jitter=STRENGTH).check(8, 8, 1)
    # Lists come from JSON; the options can be hashed all the same.
    assert base.Augment(jitter=list(STRENGTH)) == base.Augment(jitter=STRENGTH)
    assert hash(base.Augment(resized_crop=[0.5, 1]))
