"""Streamed batches in the loop: exact resume at any step, chunks, threads that end."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import run_toy as toy

from jnas import data
from jnas.errors import JnasError
from jnas.run import Interrupted, loop

pytest.importorskip("grain")
STEPS = 5


@pytest.fixture(scope="module")
def stream():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8, 1), np.uint8)
    whole = data.from_arrays(
        images, np.arange(60) % 3, augment=data.Augment(crop=1, flip=True)
    )
    assert len(whole.train) == 24
    return data.stream(
        whole.train,
        whole.validation,
        batch_size=5,
        mean=whole.mean,
        std=whole.std,
        augment=whole.augment,
    )


def init_fn(key):
    return {"w": jnp.zeros((8, 8, 1)), "seen": jnp.zeros((), jnp.int32)}


def step_fn(state, train_batch, val_batch):
    # Sensitive to every pixel, its place in the batch and the step.
    place = jnp.arange(5.0)[:, None, None, None] + 1
    total = 0.9 * state["w"] + (train_batch["image"] * place).sum(0)
    loss = jnp.mean(total) + val_batch["image"].mean()
    state = {"w": total, "seen": state["seen"] + train_batch["label"].sum()}
    return state, {"train_loss": loss}


def run(stream, **options):
    options = {"epochs": 3, "steps_per_epoch": STEPS, "progress": False, **options}
    step = options.pop("step_fn", step_fn)
    return loop(step, init_fn, stream, **options)


def test_a_stream_trains_as_the_stream_says(stream):
    result = run(stream, seed=4)
    state, step = init_fn(None), jax.jit(step_fn)
    key = jax.random.fold_in(jax.random.key(4), 1)
    with stream.open(4) as batches:
        for number in range(3 * STEPS):
            fed = stream.fed([next(batches)], number)
            state, _ = step(state, *fed(key, jnp.int32(number)))
    # Sums of hundreds, fused or not: a rounding of 1e-5 each.
    np.testing.assert_allclose(result.state["w"], state["w"], rtol=1e-6, atol=1e-4)
    assert result.state["seen"] == state["seen"]
    assert stream.steps_per_epoch == STEPS


def _wait_for(reached, seconds=20.0):
    """Threads are told to end, and do so when they next look."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, [t.name for t in threading.enumerate()]
        time.sleep(0.05)


@pytest.mark.parametrize("chunk", [1, 5])
def test_resume_goes_on_with_the_next_batch(stream, tmp_path, chunk):
    straight = run(stream, chunk=chunk)
    threads = threading.active_count()

    def cut(info):
        if info.epoch == 2:
            raise Interrupted(15, "here", saved=False)

    # Saved at every dispatch, so the latest checkpoint is inside an epoch if it can.
    options = {"workdir": tmp_path, "chunk": chunk, "save_every_seconds": 0.0}
    with pytest.raises(Interrupted):
        run(stream, on_epoch=cut, **options)
    _wait_for(lambda: threading.active_count() <= threads)
    seen = []

    def keep(info):
        seen.append([row["epoch"] for row in info.history])

    result = run(stream, on_epoch=keep, **options)
    assert seen[-1] == [1, 2, 3]  # with those of before
    assert result.resumed_from == (9 if chunk == 1 else 5)
    assert toy.bits(result.state) == toy.bits(straight.state)
    assert toy.timeless(result.history) == toy.timeless(straight.history)


def test_another_set_in_the_same_folder_is_refused(stream, tmp_path):
    run(stream, workdir=tmp_path)
    images = np.zeros((60, 8, 8, 1), np.uint8)
    images[:, 0] = 9
    other = data.from_arrays(images, np.arange(60) % 3)
    stream = data.stream(
        other.train,
        other.validation,
        batch_size=5,
        mean=other.mean,
        std=other.std,
        augment=other.augment,
    )
    with pytest.raises(JnasError, match=r"holds another run .*feed\.train\.fingerpr"):
        run(stream, workdir=tmp_path)


def test_rollback_goes_on_behind_the_bad_batch(stream, tmp_path):
    with stream.open(0) as batches:
        bad = [next(batches) for _ in range(8)][7][0]["label"]

    def poisoned(state, train_batch, val_batch):
        after, info = step_fn(state, train_batch, val_batch)
        hit = jnp.all(train_batch["label"] == bad)
        loss = jnp.where(hit, jnp.nan, info["train_loss"])
        return after, {"train_loss": loss}

    with pytest.raises(JnasError, match="train_loss must be finite"):
        run(stream, step_fn=poisoned)
    result = run(stream, step_fn=poisoned, workdir=tmp_path, on_nan="rollback")
    assert len(result.history) == 3
