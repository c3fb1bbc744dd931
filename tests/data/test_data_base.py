"""Splits, datasets and the checks on what users hand in."""

import numpy as np
import pytest

import jnas.data
from jnas import errors
from jnas.data import base, splits


def images(number=40, side=8, channels=3, seed=0):
    shape = (number, side, side, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def labels(number=40, classes=4):
    return np.arange(number) % classes


BAD_ARRAYS = {
    "float in [0, 1]": (
        images() / 255.0,
        labels(),
        r"float64 in \[0, 1\].*np.round\(images \* 255\).astype\(np.uint8\)",
    ),
    "float in [0, 255]": (
        images().astype(np.float32),
        labels(),
        r"float32 in \[0, 255\].*np.round\(images\).astype",
    ),
    "normalised": (images() / 128.0 - 1, labels(), "scale to 0..255 first"),
    "not a number": (np.full((4, 8, 8), np.nan), labels(4), "not finite"),
    "int64": (images().astype(np.int64), labels(), "got int64 in"),
    "objects": (np.full((4, 8, 8), None), labels(4), "got object"),
    "rank 2": (images().reshape(40, -1), labels(), r"got shape \[40, 192\]"),
    "rank 5": (images()[None], labels(), r"\[N, H, W\] or \[N, H, W, C\]"),
    "channels first": (
        images(side=32).transpose(0, 3, 1, 2),
        labels(),
        r"images.transpose\(0, 2, 3, 1\)",
    ),
    "small": (images(side=7), labels(), "at least 8x8"),
    "no channel": (images(channels=0), labels(), "at least one channel"),
    "unequal": (images(), labels(39), "40 images and 39 labels"),
    "empty": (images(0), labels(0), "at least one example"),
    "one": (images(1), labels(1), "give more examples"),
    "float labels": (images(), labels() * 1.0, "must be integers.*got float64"),
    "text labels": (images(), np.array(["a", "b"] * 20), "np.unique"),
    "one-hot": (images(), np.eye(4, dtype=int)[labels()], r"argmax\(-1\)"),
    "column": (images(), labels()[:, None], r"labels.ravel\(\)"),
    "negative": (images(), labels() - 1, "got -1 at position 0"),
    "huge": (images(), labels() + 2**40, f"got {2**40} at position 0"),
    "from 1": (images(), labels() + 1, "none of class 0 .*from 0"),
    "gap": (images(), labels() * 2, "none of class 1, 3, 5"),
    "one class": (images(), labels() * 0, "num_classes must be >= 2, got 1"),
    "constant": (images() * 0, labels(), "std > 0, got mean 0.0 and std 0.0"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_told_in_one_line(case):
    bad_images, bad_labels, message = BAD_ARRAYS[case]
    with pytest.raises(errors.JnasError, match=message) as caught:
        jnas.data.from_arrays(bad_images, bad_labels)
    assert "\n" not in str(caught.value)


BAD_OPTIONS = {
    "label beyond num_classes": (
        {"num_classes": 3},
        r"test labels must lie in 0..2, got 3|train labels must lie in 0..2, got 3",
    ),
    "class without examples": ({"num_classes": 6}, "none of class 4, 5"),
    "names": ({"class_names": ("a", "b")}, r"one name per class \(4\), got 2"),
    "validation alone": ({"validation": (images(), labels())}, "give test too"),
    "both": ({"test": (images(), labels()), "test_size": 4}, "either test or"),
    "test too large": ({"test_size": 40}, r"got \(40, 0\)"),
    "other test shape": (
        {"test": (images(side=9), labels())},
        r"got \[9, 9, 3\] in test and \[8, 8, 3\] in train",
    ),
    "other validation channels": (
        {"test": (images(), labels()), "validation": (images(channels=1), labels())},
        r"got \[8, 8, 1\] in validation",
    ),
    "bad test labels": ({"test": (images(), labels() - 2)}, "test labels.*got -2"),
    "crop": ({"augment": base.Augment(crop=8)}, "smaller than the image"),
    "cutout": ({"augment": base.Augment(cutout=9)}, r"at most the image side \(8\)"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_are_told_in_one_line(case):
    options, message = BAD_OPTIONS[case]
    with pytest.raises(errors.JnasError, match=message) as caught:
        jnas.data.from_arrays(images(), labels(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"crop": -1}, {"crop": 1.0}, {"cutout": True}, {"flip": 0.5}, {"flip": 1}],
)
def test_augment_rejects(options):
    with pytest.raises(errors.JnasError, match="augment"):
        base.Augment(**options)


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        ([[0]], np.zeros(1, np.int32), "NumPy arrays, got list"),
        (images().astype(float), labels().astype(np.int32), "must be uint8"),
        (images()[..., 0], labels().astype(np.int32), r"\[40, 8, 8\]"),
        (images(), labels(), "must be int32"),
    ],
)
def test_split_rejects(image, label, message):
    with pytest.raises(errors.JnasError, match=message):
        base.Split(image, label)


def test_from_arrays_default_rule():
    classes = np.repeat([0, 1, 2], [50, 30, 20])
    pixels = images(100)
    # Marks every image with its own number, to follow it into the splits.
    pixels[:, 0, 0, 0] = np.arange(100)
    data = jnas.data.from_arrays(pixels, classes, augment=base.Augment(crop=1))
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [40, 40, 20]
    for part, counts in zip(parts, ([20, 12, 8], [20, 12, 8], [10, 6, 4]), strict=True):
        assert np.bincount(part.label).tolist() == counts
        mark = part.image[:, 0, 0, 0]
        assert (np.diff(mark.astype(int)) > 0).all()
        np.testing.assert_array_equal(part.label, classes[mark])
    marks = np.concatenate([part.image[:, 0, 0, 0] for part in parts])
    np.testing.assert_array_equal(np.sort(marks), np.arange(100))
    assert data.augment == base.Augment(crop=1)
    assert "20 stratified examples, seed 0" in data.source


def test_from_arrays_given_splits():
    test = (images(12, seed=1), labels(12))
    validation = (images(8, seed=2), labels(8))
    data = jnas.data.from_arrays(images(), labels(), test=test, validation=validation)
    np.testing.assert_array_equal(data.train.image, images())
    np.testing.assert_array_equal(data.validation.image, validation[0])
    np.testing.assert_array_equal(data.test.image, test[0])
    halved = jnas.data.from_arrays(images(), labels(), test=test)
    assert (len(halved.train), len(halved.validation)) == (20, 20)
    assert np.bincount(halved.validation.label).tolist() == [5, 5, 5, 5]
    np.testing.assert_array_equal(halved.test.image, test[0])


def test_greyscale_without_channel_axis():
    data = jnas.data.from_arrays(images()[..., 0], labels().astype(np.uint8))
    assert data.image_shape == (8, 8, 1)
    assert data.train.label.dtype == np.int32


def test_stratify_largest_remainders():
    label = np.repeat([0, 1, 2], [7, 5, 5])
    first, second = splits.stratify(label, (5, 12))
    # 5 * (7, 5, 5) / 17 = 2.06, 1.47, 1.47: the tie goes to the lower class.
    assert np.bincount(label[first]).tolist() == [2, 2, 1]
    np.testing.assert_array_equal(np.sort(np.r_[first, second]), np.arange(17))


def test_halve_is_in_order():
    whole = base.Split(images(5), np.arange(5, dtype=np.int32))
    first, second = splits.halve(whole)
    assert first.label.tolist() == [0, 1, 2]
    assert second.label.tolist() == [3, 4]
    with pytest.raises(errors.JnasError, match="at least 2"):
        splits.halve(whole.take(slice(1)))


def test_statistics_match_numpy_over_train_and_validation():
    data = jnas.data.from_arrays(images(), labels())
    pixels = data.full.image / 255.0
    np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)), rtol=1e-12)


def test_full_is_train_then_validation():
    data = jnas.data.from_arrays(images(), labels())
    assert len(data.full) == 32
    np.testing.assert_array_equal(data.full.image[:16], data.train.image)
    np.testing.assert_array_equal(data.full.label[16:], data.validation.label)


def test_fingerprint_sees_every_change():
    def marks(image, label, **options):
        return jnas.data.from_arrays(image, label, **options).fingerprint()

    first = marks(images(), labels())
    assert first == marks(images(), labels())
    assert len(first) == 16
    pixel = images()
    pixel[39, 7, 7, 2] ^= 1
    label = labels()
    label[[0, 1]] = label[[1, 0]]
    others = [
        marks(pixel, labels()),
        marks(images(), label),
        marks(images(), labels(), name="other"),
        marks(images(), labels(), test_size=9),
    ]
    assert len({first, *others}) == 5
