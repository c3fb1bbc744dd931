"""The feed is pure, exact about its order, and carries no data in its program."""

import collections
import functools
import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jnas.data
from jnas import errors
from jnas.data import augment as augmenting
from jnas.data import base

PLAIN = base.Augment()
OPTIONS = base.Augment(crop=1, flip=True, cutout=3)


def split(number, side=8, channels=1, marks=0):
    """Images that carry their own number in every pixel; label = number."""
    image = np.zeros((number, side, side, channels), np.uint8)
    image += np.arange(marks, marks + number, dtype=np.uint8)[:, None, None, None]
    return base.Split(image, np.arange(marks, marks + number, dtype=np.int32))


def make(size=23, validation=17, batch_size=5, augment=PLAIN, **options):
    second = None if validation is None else split(validation, marks=100)
    return jnas.data.feed(
        split(size),
        second,
        batch_size=batch_size,
        mean=(0.0,),
        std=(1 / 255,),
        augment=augment,
        **options,
    )


@jax.jit
def call(stream, key, step):
    return stream(key, step)


def train_labels(stream, key, steps):
    return np.concatenate([call(stream, key, s)[0]["label"] for s in range(steps)])


# order


@pytest.mark.parametrize(("size", "batch_size"), [(23, 5), (20, 5), (7, 7), (7, 6)])
def test_every_epoch_visits_every_example_once(size, batch_size):
    stream = make(size, None, batch_size)
    assert stream.num_train == size
    assert stream.steps_per_epoch == -(-size // batch_size)
    steps = 3 * size  # a whole number of epochs
    seen = train_labels(stream, jax.random.key(0), steps).reshape(-1, size)
    np.testing.assert_array_equal(
        np.sort(seen, axis=1), np.tile(np.arange(size), (len(seen), 1))
    )
    assert len({tuple(epoch) for epoch in seen}) == len(seen)


@functools.partial(jax.jit, static_argnums=2)
def order_of(key, epoch, size):
    key_order = jax.random.fold_in(key, 0)
    return jax.random.permutation(jax.random.fold_in(key_order, epoch), size)


# 2**31 - 1: step * B has overflowed int32 long before; Python's numbers never do.
@pytest.mark.parametrize("steps", [range(12), [10**9, 2**31 - 1]], ids=["near", "far"])
def test_order_is_the_documented_one(steps):
    size, batch_size, key = 23, 5, jax.random.key(4)
    for step in steps:
        expected = [
            order_of(key, position // size, size)[position % size]
            for position in range(step * batch_size, (step + 1) * batch_size)
        ]
        label = call(make(), key, step)[0]["label"]
        np.testing.assert_array_equal(label, expected)


def test_validation_is_a_fresh_uniform_sample():
    stream, steps = make(validation=17, batch_size=5), 1000
    step = jnp.arange(steps)
    labels = jax.jit(jax.vmap(stream, (None, 0)))(jax.random.key(0), step)[1]["label"]
    labels = np.asarray(labels) - 100
    assert all(len(set(row)) == 5 for row in labels.tolist())
    counts = np.bincount(labels.ravel(), minlength=17)
    share = 5 / 17
    # Five standard deviations of a binomial count.
    spread = np.sqrt(steps * share * (1 - share))
    assert np.abs(counts - steps * share).max() < 5 * spread
    # Fresh: an example recurs at once as often as independent samples make it.
    recur = np.mean([len(set(a) & set(b)) for a, b in itertools.pairwise(labels)])
    assert abs(recur - 25 / 17) < 0.2


def test_images_belong_to_their_labels():
    for part, batch in zip(
        ("train", "validation"), call(make(), jax.random.key(0), 3), strict=True
    ):
        assert batch["image"].shape == (5, 8, 8, 1), part
        assert batch["image"].dtype == jnp.float32
        assert batch["label"].dtype == jnp.int32
        expected = np.broadcast_to(
            np.asarray(batch["label"])[:, None, None, None], (5, 8, 8, 1)
        )
        np.testing.assert_allclose(batch["image"], expected, rtol=1e-5)


@jax.jit
def augmented(key, images):
    drawn = augmenting.draw(key, 5, 8, 8, OPTIONS)
    return drawn, augmenting.apply(images, drawn, OPTIONS, (0.0,), (1 / 255,))


def test_both_batches_are_augmented_each_with_its_own_draw():
    stream, plain = make(augment=OPTIONS), make()
    key, step = jax.random.key(2), 3
    draws = []
    for purpose, got, raw in zip(
        (2, 3), call(stream, key, step), call(plain, key, step), strict=True
    ):
        np.testing.assert_array_equal(got["label"], raw["label"])
        batch_key = jax.random.fold_in(jax.random.fold_in(key, purpose), step)
        images = np.rint(raw["image"]).astype(np.uint8)
        drawn, expected = augmented(batch_key, images)
        np.testing.assert_allclose(got["image"], expected, rtol=3e-7)
        draws.append(np.stack([np.asarray(v, int) for v in drawn[:5]]))
    assert (draws[0] != draws[1]).any()


# purity


def test_same_key_and_step_give_the_same_batches_and_others_do_not():
    stream = make(augment=OPTIONS)
    first = call(stream, jax.random.key(0), 3)
    jax.tree.map(
        np.testing.assert_array_equal, first, call(stream, jax.random.key(0), 3)
    )
    for key, step in ((1, 3), (0, 4)):
        other = call(stream, jax.random.key(key), step)
        for one, two in zip(first, other, strict=True):
            assert (one["label"] != two["label"]).any()
            assert (one["image"] != two["image"]).any()


def test_vmap_over_keys_equals_single_keys():
    stream = make(augment=OPTIONS)
    keys = jax.random.split(jax.random.key(0), 3)
    several = jax.jit(jax.vmap(stream, (0, None)))(keys, 4)
    for seed in range(3):
        one = call(stream, keys[seed], 4)
        jax.tree.map(
            np.testing.assert_array_equal,
            one,
            jax.tree.map(lambda leaf, seed=seed: leaf[seed], several),
        )


def test_vmap_keeps_one_permutation_per_batch():
    # The step is not batched, so the branch for a second epoch stays a branch.
    stream = make()
    keys = jax.random.split(jax.random.key(0), 3)
    text = str(jax.make_jaxpr(jax.vmap(stream, (0, None)))(keys, 4))
    assert "cond[" in text


def test_scan_over_steps():
    stream, key = make(augment=OPTIONS), jax.random.key(0)

    def body(step, _):
        return step + 1, stream(key, step)

    _, stacked = jax.lax.scan(body, jnp.int32(0), length=4)
    last = jax.tree.map(lambda leaf: leaf[3], stacked)
    expected = call(stream, key, 3)
    for one, two in zip(last, expected, strict=True):
        np.testing.assert_array_equal(one["label"], two["label"])
        np.testing.assert_allclose(one["image"], two["image"], rtol=3e-7)


def test_data_are_arguments_not_constants():
    stream = make(size=150, validation=100)
    closed = jax.make_jaxpr(lambda f, k, s: f(k, s))(stream, jax.random.key(0), 0)
    sizes = [np.size(constant) for constant in closed.consts]
    assert max(sizes, default=0) <= 8
    shapes = {leaf.shape for leaf in jax.tree.leaves(stream)}
    assert (150, 8, 8, 1) in shapes
    assert {leaf.dtype for leaf in jax.tree.leaves(stream)} == {
        np.dtype(np.uint8),
        np.dtype(np.int32),
    }
    # The lowered program has no constant of the data's size either.
    text = call.lower(stream, jax.random.key(0), 0).as_text()
    assert len(text) < 300_000


def test_one_trace_for_all_steps_and_equal_feeds():
    traces = collections.Counter()

    @jax.jit
    def counted(stream, key, step):
        traces["all"] += 1
        return stream(key, step)

    for seed, step in ((0, 0), (1, 1), (2, 50)):
        jax.eval_shape(counted, make(), jax.random.key(seed), step)
    assert traces["all"] == 1
    jax.eval_shape(counted, make(augment=OPTIONS), jax.random.key(0), 0)
    assert traces["all"] == 2


def test_lowers_for_tpu():
    stream = make(augment=OPTIONS)
    for platform in ("tpu", "cuda"):
        exported = jax.export.export(call, platforms=[platform])(
            stream, jax.random.key(0), jnp.int32(0)
        )
        assert exported.platforms == (platform,)


def test_key_comes_back_at_every_step():
    # With the checker on, using a key twice would raise.
    stream, key = make(augment=OPTIONS), jax.random.key(0)
    with jax.debug_key_reuse(True):
        for step in range(2):
            call(stream, key, step)


def test_other_dtype():
    train, _ = jax.eval_shape(make(dtype=jnp.bfloat16), jax.random.key(0), 0)
    assert train["image"].dtype == jnp.bfloat16


def test_without_validation():
    stream = make(validation=None)
    train, second = call(stream, jax.random.key(0), 2)
    assert second is None
    both = call(make(), jax.random.key(0), 2)[0]
    jax.tree.map(np.testing.assert_array_equal, train, both)


def test_x64_gives_the_same_types():
    with jax.enable_x64(True):
        train, val = jax.eval_shape(make(augment=OPTIONS), jax.random.key(0), 1)
    for batch in (train, val):
        assert batch["label"].dtype == jnp.int32
        assert batch["image"].dtype == jnp.float32


BAD = {
    "batch 0": ({"batch_size": 0}, "whole number >= 1, got 0"),
    "batch float": ({"batch_size": 4.0}, "whole number >= 1, got 4.0"),
    "batch bool": ({"batch_size": True}, "whole number"),
    "batch > train": (
        {"size": 4, "validation": None},
        r"size of the train split \(4\), got 5",
    ),
    "batch > validation": ({"validation": 3}, r"the validation split \(3\), got 5"),
    "crop": ({"augment": base.Augment(crop=8)}, "smaller than the image"),
    "dtype": ({"dtype": jnp.int8}, "floating type, got int8"),
}


@pytest.mark.parametrize("case", BAD)
def test_feed_rejects(case):
    options, message = BAD[case]
    with pytest.raises(errors.JnasError, match=message) as caught:
        make(**options)
    assert "\n" not in str(caught.value)


def test_feed_rejects_statistics_and_shapes():
    options = {"batch_size": 2, "augment": base.Augment()}
    for mean, std, message in (
        ((0.0, 0.0), (1.0,), r"per channel \(1\), got 2 and 1"),
        ((0.0,), (0.0,), "std > 0"),
        ((float("nan"),), (1.0,), "finite"),
        ((0.0,), (float("nan"),), "std > 0"),
    ):
        with pytest.raises(errors.JnasError, match=message):
            jnas.data.feed(split(4), None, mean=mean, std=std, **options)
    with pytest.raises(errors.JnasError, match="one image shape"):
        jnas.data.feed(split(4), split(4, side=9), mean=(0.0,), std=(1.0,), **options)


@pytest.mark.parametrize(
    ("key", "step", "message"),
    [
        (np.zeros(2, np.uint32), 0, "typed key, got uint32"),
        (0, 0, "typed key, got int"),
        ("keys", 0, r"one key, got shape \[2\].*vmap"),
        ("key", 0.0, "integer scalar, got float"),
        ("key", np.arange(2), r"integer scalar, got int.* \[2\]"),
    ],
)
def test_call_rejects(key, step, message):
    if isinstance(key, str):
        key = {"key": jax.random.key(0), "keys": jax.random.split(jax.random.key(0))}[
            key
        ]
    with pytest.raises(errors.JnasError, match=message):
        make()(key, step)


# evaluation batches


@pytest.mark.parametrize(("size", "batch_size"), [(7, 3), (6, 3), (2, 5), (4, 1)])
def test_batches_cover_a_split_exactly_in_order(size, batch_size):
    found = list(jnas.data.batches(split(size), batch_size, (0.0,), (1 / 255,)))
    assert len(found) == -(-size // batch_size)
    for batch in found:
        assert batch["image"].shape == (batch_size, 8, 8, 1)
        assert {name: leaf.dtype for name, leaf in batch.items()} == {
            "image": np.float32,
            "label": np.int32,
            "weight": np.float32,
        }
    label = np.concatenate([batch["label"] for batch in found])
    weight = np.concatenate([batch["weight"] for batch in found])
    np.testing.assert_array_equal(label[weight == 1], np.arange(size))
    assert weight.sum() == size
    image = np.concatenate([batch["image"] for batch in found])
    np.testing.assert_allclose(image[:, 4, 4, 0], label, rtol=1e-6)


def test_batches_normalise_as_the_feed_does():
    part = split(100, channels=3)
    mean, std = (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)
    batch = next(jnas.data.batches(part, 64, mean, std))
    ours = augmenting.normalise(part.image[:64], mean, std)
    np.testing.assert_allclose(batch["image"], ours, rtol=1e-6, atol=1e-6)


def test_batches_reject_at_once():
    with pytest.raises(errors.JnasError, match="batch_size"):
        jnas.data.batches(split(4), 0, (0.0,), (1.0,))
    with pytest.raises(errors.JnasError, match="per channel"):
        jnas.data.batches(split(4), 2, (0.0, 0.0), (1.0,))
