"""Streaming: order, exact resume, threads, bad rows, augmentation as in `Feed`."""

import builtins
import io
import json
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas.data
from jnas import errors
from jnas.data import base, rows

OPTIONS = base.Augment(crop=1, flip=True, cutout=3)


class Marked:
    """Images that carry their own number in every pixel; label = number % 5."""

    def __init__(self, size=23, offset=0, side=8, channels=1):
        self.size, self.offset = size, offset
        self.shape = (side, side, channels)
        self.read = []

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        self.read.append(i)
        number = (self.offset + int(i)) % 256
        return {"image": np.full(self.shape, number, np.uint8), "label": number % 5}


def dataset(**options):
    sources = {"validation": Marked(17, 100), "test": Marked(5, 200)}
    return jnas.data.from_sources(Marked(), num_classes=5, **sources, **options)


def make(data=None, batch_size=5, validation=True, **options):
    data = data or dataset()
    options.setdefault("threads", 2)
    return jnas.data.stream(
        data.train,
        data.validation if validation else None,
        batch_size=batch_size,
        mean=data.mean,
        std=data.std,
        augment=OPTIONS,
        **options,
    )


def numbers(batch):
    return batch["image"][:, 0, 0, 0].astype(int)


def taken(iterator, count):
    found = []
    for _ in range(count):
        train, val = next(iterator)
        assert train["image"].dtype == np.uint8
        assert train["label"].dtype == np.int32
        assert train["image"].shape == (5, 8, 8, 1)
        for batch in (train, val):
            np.testing.assert_array_equal(numbers(batch) % 5, batch["label"])
        found.append((numbers(train), numbers(val)))
    return [np.concatenate(part) for part in zip(*found, strict=True)]


# order and state


def test_every_epoch_visits_every_example_once():
    stream = make()
    assert (stream.num_train, stream.steps_per_epoch) == (23, 5)
    with stream.open(seed=3) as iterator:
        train, val = taken(iterator, 5 * 23)
    for seen, size, first in ((train, 23, 0), (val, 17, 100)):
        epochs = seen[: len(seen) // size * size].reshape(-1, size)
        assert len(epochs) > 4
        expected = np.tile(np.arange(first, first + size), (len(epochs), 1))
        np.testing.assert_array_equal(np.sort(epochs, axis=1), expected)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_seeds_give_other_orders_and_threads_do_not():
    orders = []
    for seed, threads in ((0, 1), (0, 3), (1, 1)):
        with make(threads=threads).open(seed) as iterator:
            orders.append(np.concatenate(taken(iterator, 9)))
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()
    # The parts have orders of their own.
    data = dataset()
    both = jnas.data.stream(
        data.train,
        data.train,
        batch_size=5,
        mean=data.mean,
        std=data.std,
        augment=OPTIONS,
    )
    with both.open(0) as iterator:
        train, val = taken(iterator, 4)
    assert (train != val).any()


def test_resume_is_exact_at_every_step():
    stream = make()
    with stream.open(seed=7) as iterator:
        states, batches = [], []
        for _ in range(12):
            states.append(iterator.state())
            batches.append(next(iterator))
    for step, state in enumerate(states):
        assert isinstance(state, str)
        with stream.open(7, state) as again:
            assert again.state() == state
            for expected in batches[step : step + 2]:
                jax.tree.map(np.testing.assert_array_equal, next(again), expected)


@pytest.mark.parametrize(
    "state",
    [
        "",
        "{}",
        "[1]",
        "null",
        '{"format": 1, "train": {"next_index": 1}}',
        '{"format": 2, "train": {"next_index": 1}, "validation": {"next_index": 1}}',
        '{"format": 1, "train": {"next_index": -1}, "validation": {"next_index": 1}}',
        '{"format": 1, "train": {"next_index": "x"}, "validation": {"next_index": 1}}',
        '{"format": 1, "train": {"next_index": 1.5}, "validation": {"next_index": 1}}',
        '{"format": 1, "train": {"next_index": true}, "validation": {"next_index": 1}}',
        '{"format": 1, "train": {"other": 1}, "validation": {"next_index": 1}}',
        '{"format": 1, "train": 7, "validation": {"next_index": 1}}',
    ],
)
def test_bad_states(state):
    with pytest.raises(errors.JnasError, match="state of the stream") as caught:
        make().open(0, state)
    assert "\n" not in str(caught.value)


def test_threads_read_ahead_and_end():
    before = set(threading.enumerate())
    source = Marked(1000)
    data = jnas.data.from_sources(
        source, test=Marked(5), num_classes=5, mean=(0.5,), std=(1.0,)
    )
    source.read.clear()
    iterator = make(data, validation=False, prefetch=4).open(0)
    next(iterator)
    deadline = time.monotonic() + 10
    while len(source.read) < 25 and time.monotonic() < deadline:
        time.sleep(0.01)
    # One batch was taken, four more are read, and no further one.
    assert len(source.read) == 25
    assert set(threading.enumerate()) - before
    inner = iterator._iterators  # alive: threads end by closing, not by chance
    iterator.close()
    iterator.close()
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before
    assert set(inner) == {"train"}
    with pytest.raises(errors.JnasError, match="closed"):
        next(iterator)
    with pytest.raises(errors.JnasError, match="closed"):
        iterator.state()


# on the device


@jax.jit
def call(feed, key, step):
    return feed(key, step)


def test_augmentation_equals_that_of_feed():
    data = jnas.data.load("digits")
    options = {"batch_size": 16, "mean": data.mean, "std": data.std, "augment": OPTIONS}
    feed = jnas.data.feed(data.train, data.validation, **options)
    stream = jnas.data.stream(data.train, data.validation, **options)
    plain = {**options, "mean": (0.0,), "std": (1 / 255,), "augment": base.Augment()}
    raw = jnas.data.feed(data.train, data.validation, **plain)
    key = jax.random.key(5)
    # The very batches of Feed, handed over as a stream does.
    host = [
        tuple(
            {
                "image": np.rint(batch["image"]).astype(np.uint8),
                "label": np.asarray(batch["label"]),
            }
            for batch in call(raw, key, step)
        )
        for step in (30, 31, 32)
    ]
    fed = stream.fed(host, step0=30)
    for step in (30, 31, 32):
        expected = call(feed, key, step)
        jax.tree.map(np.testing.assert_array_equal, call(fed, key, step), expected)


def test_fed_is_an_argument_with_one_trace():
    stream = make()
    traces = []

    @jax.jit
    def counted(feed, key, step):
        traces.append(1)
        return feed(key, step)

    with stream.open(0) as iterator:
        for step0 in (0, 2):
            fed = stream.fed([next(iterator), next(iterator)], step0)
            counted(fed, jax.random.key(0), jnp.int32(step0 + 1))
    assert len(traces) == 1
    assert {leaf.shape for leaf in jax.tree.leaves(fed)} == {
        (2, 5, 8, 8, 1),
        (2, 5),
        (),
    }
    with pytest.raises(errors.JnasError, match="at least one step"):
        stream.fed([], 0)
    with pytest.raises(errors.JnasError, match="typed key"):
        fed(0, 0)


def test_without_validation():
    stream = make(validation=False)
    with stream.open(0) as iterator:
        batch = next(iterator)
        assert batch[1] is None
        fed = stream.fed([batch], 0)
    train, val = jax.eval_shape(fed, jax.random.key(0), 0)
    assert val is None
    assert train["image"].shape == (5, 8, 8, 1)


# descriptions


def test_description_is_json_and_notices_changes():
    one = make().description()
    assert json.loads(json.dumps(one)) == one
    assert make().description() == one
    other = dataset()
    other.train.rows[0].source.offset = 1
    shorter = jnas.data.from_sources(
        Marked(22), num_classes=5, validation=Marked(17, 100), test=Marked(5, 200)
    )
    for changed in (make(other), make(shorter), make(batch_size=4)):
        assert changed.description() != one
    assert make(validation=False).description()["validation"] is None


def test_fingerprint_of_a_dataset():
    one = dataset().fingerprint()
    assert one == dataset().fingerprint()
    assert one != dataset(name="other").fingerprint()
    assert one != jnas.data.from_sources(Marked(), num_classes=5).fingerprint()


# the dataset


def test_parts_are_divided_disjointly():
    data = jnas.data.from_sources(Marked(50), num_classes=5)
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [20, 20, 10]
    joined = np.concatenate([part.index for part in parts])
    np.testing.assert_array_equal(np.sort(joined), np.arange(50))
    again = jnas.data.from_sources(Marked(50), num_classes=5)
    np.testing.assert_array_equal(data.test.index, again.test.index)
    assert "random" in data.source
    for part in parts:  # no stretch of the source, which may be sorted
        assert part.index.max() - part.index.min() > len(part)
    given = jnas.data.from_sources(Marked(50), num_classes=5, test=Marked(9))
    assert [len(given.train), len(given.validation), len(given.test)] == [25, 25, 9]
    # full: both parts, train first, whether of one source or of two
    np.testing.assert_array_equal(
        data.full.index, np.concatenate([data.train.index, data.validation.index])
    )
    image, _ = dataset().full.read(np.arange(40), threads=1)
    marks = image[:, 0, 0, 0].tolist()
    assert marks == [*range(23), *range(100, 117)]


def test_statistics_are_measured_or_given():
    data = dataset()
    expected = np.concatenate([np.arange(23), np.arange(100, 117)]) / 255
    np.testing.assert_allclose(data.mean, [expected.mean()])
    np.testing.assert_allclose(data.std, [expected.std()])
    assert dataset(mean=(0.5,), std=(0.25,)).mean == (0.5,)


def test_all_kinds_of_rows_give_the_same():
    from PIL import Image

    images = np.random.default_rng(0).integers(0, 256, (20, 9, 8, 3), np.uint8)
    labels = np.arange(20) % 2

    def png(array):
        file = io.BytesIO()
        Image.fromarray(array).save(file, "PNG")
        return file.getvalue()

    kinds = {
        "arrays": (images, labels),
        "pairs": list(zip(images, labels, strict=True)),
        "dicts": [
            {"img": x, "fine": np.array(y)} for x, y in zip(images, labels, strict=True)
        ],
        "pillow": [(Image.fromarray(x), int(y)) for x, y in zip(images, labels)],  # noqa: B905
        "bytes": [(png(x), y) for x, y in zip(images, labels, strict=True)],
        "hugging face": [
            {"image": {"bytes": png(x), "path": None}, "label": y}
            for x, y in zip(images, labels, strict=True)
        ],
    }
    for kind, source in kinds.items():
        keys = ("img", "fine") if kind == "dicts" else ("image", "label")
        data = jnas.data.from_sources(source, num_classes=2, keys=keys)
        image, label = data.train.read(np.arange(8))
        np.testing.assert_array_equal(image, images[data.train.index], err_msg=kind)
        np.testing.assert_array_equal(label, labels[data.train.index], err_msg=kind)
    memory = data.load()
    np.testing.assert_array_equal(memory.train.image, images[data.train.index])
    assert memory.mean == data.mean
    # Evaluation goes through both alike.
    for one, two in zip(
        jnas.data.batches(memory.test, 3, data.mean, data.std),
        jnas.data.batches(data.test, 3, data.mean, data.std),
        strict=True,
    ):
        jax.tree.map(np.testing.assert_array_equal, one, two)


def test_class_names_come_with_hugging_face_sets():
    class Feature:
        names = ("a", "b", "c", "d", "e")

    source = Marked()
    source.features = {"label": Feature()}
    assert jnas.data.from_sources(source).class_names == Feature.names
    labels = np.arange(20) % 4
    arrays = (np.arange(20 * 64, dtype=np.uint8).reshape(20, 8, 8), labels)
    assert jnas.data.from_sources(arrays).num_classes == 4


def test_resize_and_channels():
    from PIL import Image

    rng = np.random.default_rng(0)
    wide = [
        (Image.fromarray(rng.integers(0, 256, (20, 30 + i), np.uint8)), i % 2)
        for i in range(10)
    ]
    data = jnas.data.from_sources(wide, num_classes=2, resize=10, channels=3)
    assert data.image_shape == (10, 10, 3)
    place = int(data.train.index[0])
    whole = wide[place][0].convert("RGB")
    # Scaling first and cropping then is the same.
    scaled = whole.resize((round(whole.width / 2), 10), Image.Resampling.BILINEAR)
    left = (scaled.width - 10) // 2
    expected = np.asarray(scaled.crop((left, 0, left + 10, 10)))
    np.testing.assert_allclose(data.train[0]["image"], expected, atol=1)
    arrays = [(np.asarray(image), label) for image, label in wide]
    grey = jnas.data.from_sources(arrays, num_classes=2, resize=10)
    np.testing.assert_array_equal(
        grey.train[0]["image"][..., 0], data.train[0]["image"][..., 0]
    )


def bad(value, place=7, **options):
    rest = [(np.full((8, 8, 3), i, np.uint8), i % 2) for i in range(40)]
    rest[place] = value
    tests = [(np.zeros((8, 8, 3), np.uint8), 0)]
    options = {"num_classes": 2, "mean": (0.5,) * 3, "std": (1.0,) * 3, **options}
    return jnas.data.from_sources(rest, test=tests, **options)


class Broken(list):
    def __getitem__(self, i):
        if i == 7:
            raise OSError("the disk\nis gone")
        return super().__getitem__(i)


GOOD = np.zeros((8, 8, 3), np.uint8)
BAD_ROWS = {
    "shape": ((np.zeros((8, 9, 3), np.uint8), 0), r"got \[8, 9, 3\].*resize="),
    "grey": ((np.zeros((8, 8), np.uint8), 0), r"got \[8, 8, 1\].*channels"),
    "rank": ((np.zeros((1, 8, 8, 3), np.uint8), 0), r"got shape \[1, 8, 8, 3\]"),
    "float": ((np.zeros((8, 8, 3)), 0), r"must be uint8.*float64.*np.round"),
    "nan": ((np.full((8, 8, 3), np.nan), 0), r"uint8.*nan.*not finite"),
    "label": ((GOOD, 2), r"label in 0\.\.1, got 2"),
    "negative": ((GOOD, -1), "label must be integers .* got -1"),
    "float label": ((GOOD, 0.5), "label must be integers"),
    "no label": ((GOOD, None), "label must be integers"),
    "one-hot": ((GOOD, np.array([0, 1])), "one-hot"),
    "jpeg": ((b"\xff\xd8\xff\xe0 no image", 0), "cannot be decoded"),
    "not image": (("a.png", 0), "image must be"),
    "keys": ({"img": GOOD, "label": 0}, "entries image and label, got img, label"),
    "none": (None, "pair.*got NoneType"),
    "three": ((GOOD, 0, 1), "pair.*got tuple"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_named(case):
    row, message = BAD_ROWS[case]
    data = bad(row)
    with pytest.raises(errors.JnasError, match=message) as caught:
        data.full.read(np.arange(40))
    assert str(caught.value).startswith("train example 7: ")
    assert "\n" not in str(caught.value)
    if case in ("nan", "jpeg"):
        stream = jnas.data.stream(
            data.full, None, batch_size=8, mean=data.mean, std=data.std, augment=OPTIONS
        )
        with (
            stream.open(0) as iterator,
            pytest.raises(errors.JnasError, match="train example 7: ") as caught,
        ):
            for _ in range(stream.steps_per_epoch):
                next(iterator)
        assert not getattr(caught.value, "__notes__", ())


def test_errors_of_the_users_class_are_told_in_one_line():
    source = Broken((GOOD, 0) for _ in range(10))
    data = jnas.data.from_sources(
        source, test=[(GOOD, 0)], num_classes=2, mean=(0.5,) * 3, std=(1.0,) * 3
    )
    with pytest.raises(errors.JnasError, match="OSError: the disk is gone"):
        data.full.read(np.arange(10))


def test_deep_images_are_refused():
    from PIL import Image

    deep = Image.fromarray(np.zeros((8, 8), np.uint16))
    with pytest.raises(errors.JnasError, match="8 bits a channel"):
        bad((deep, 0), place=0)


BAD_SETS = {
    "no rows": ({"train": iter([1])}, "must have len"),
    "dict": ({"train": {"image": 1}}, "must have len"),
    "empty": ({"train": []}, "train source is empty"),
    "few": ({"train": Marked(2)}, "too few to divide"),
    "classes": ({"num_classes": None}, "num_classes must be given"),
    "one class": ({"num_classes": 1}, "num_classes must be >= 2"),
    "names": ({"class_names": ("a",)}, r"one name per class \(5\), got 1"),
    "validation": ({"validation": Marked()}, "give test too"),
    "resize": ({"resize": 0}, "resize must be a whole number"),
    "channels": ({"channels": 2}, "channels must be 1, 3 or None"),
    "small": ({"train": Marked(side=7)}, "at least 8x8"),
    "mean": ({"mean": (0.5, 0.5)}, "one number per channel"),
    "std": ({"mean": (0.5,), "std": (0.0,)}, "std > 0"),
    "crop": ({"augment": base.Augment(crop=9)}, "smaller than the image"),
    "lengths": (
        {"train": (np.zeros((3, 8, 8), np.uint8), np.zeros(4, int))},
        "3 images and 4 labels",
    ),
    "labels": (
        {"train": (np.zeros((3, 8, 8), np.uint8), np.zeros(3))},
        "train labels must be integers",
    ),
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_bad_sets(case):
    options, message = BAD_SETS[case]
    options = {"train": Marked(), "num_classes": 5, **options}
    with pytest.raises(errors.JnasError, match=message) as caught:
        jnas.data.from_sources(options.pop("train"), **options)
    assert "\n" not in str(caught.value)


BAD_STREAMS = {
    "batch": ({"batch_size": 18}, r"size of the validation split \(17\), got 18"),
    "zero": ({"batch_size": 0}, "whole number >= 1"),
    "threads": ({"threads": 0}, "threads must be a whole number >= 1, got 0"),
    "prefetch": ({"prefetch": True}, "prefetch must be a whole number >= 1"),
    "dtype": ({"dtype": jnp.uint8}, "floating type"),
}


@pytest.mark.parametrize("case", BAD_STREAMS)
def test_bad_streams(case):
    options, message = BAD_STREAMS[case]
    with pytest.raises(errors.JnasError, match=message):
        make(**options)


def test_bad_seeds():
    for seed in (-1, 1.5, True, None):
        with pytest.raises(errors.JnasError, match="seed must be"):
            make().open(seed)


def test_without_grain(monkeypatch):
    genuine = builtins.__import__

    def importing(name, *args, **options):
        if name.partition(".")[0] == "grain":
            raise ModuleNotFoundError("No module named 'grain'")
        return genuine(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(errors.JnasError, match=r"install jnas\[grain\]") as caught:
        make()
    assert "\n" not in str(caught.value)


def test_grain_sources_plug_in():
    import grain

    source = grain.MapDataset.source(Marked(20)).map(
        lambda row: {**row, "image": row["image"] + np.uint8(1)}
    )
    data = jnas.data.from_sources(source, num_classes=5)
    assert isinstance(source, rows.DataSource)
    first = data.train[0]
    assert int(first["image"][0, 0, 0]) == int(data.train.index[0]) + 1
