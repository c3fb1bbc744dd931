"""What a run does when a loss is not finite: stop, skip the step, roll back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import run_toy as toy

from jnas.errors import JnasError
from jnas.run import Interrupted, loop, nonfinite

EPOCHS = 3


class Feed(toy.Feed):
    """The toy's feed with a poisoned batch at steps 8 and 9 of the first order."""

    def __call__(self, key, step):
        train, val = super().__call__(key, step)
        first = jax.random.fold_in(jax.random.key(0), 1)
        same = (jax.random.key_data(key) == jax.random.key_data(first)).all()
        bad = same & ((step == 8) | (step == 9))
        return (jnp.where(bad, jnp.inf, train[0]), train[1]), val


def feed():
    return Feed(*toy.make_feed())


def run(on_nan, data=None, **options):
    options = {"steps_per_epoch": toy.STEPS, "progress": False, **options}
    data = feed() if data is None else data
    step_fn = options.pop("step_fn", toy.step_fn)
    return loop(step_fn, toy.init_fn, data, epochs=EPOCHS, on_nan=on_nan, **options)


def test_stop_names_the_place_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(JnasError, match=r"epoch 2/3, step 9; .* is of step 6: try"):
        run("stop", workdir=tmp_path)
    # What was saved goes on: with skip it is another treatment of the same run.
    assert run("skip", workdir=tmp_path).resumed_from == toy.STEPS


def test_skip_is_the_run_without_those_steps():
    result = run("skip")
    root = jax.random.key(0)
    state, data = toy.init_fn(jax.random.fold_in(root, 0)), feed()
    losses, step_fn = [], jax.jit(toy.step_fn)
    for step in range(EPOCHS * toy.STEPS):
        batches = data(jax.random.fold_in(root, 1), jnp.int32(step))
        after, info = step_fn(state, *batches)
        if step in (8, 9):
            state = state._replace(step=after.step)
        else:
            state = after
            losses.append(float(info.train_loss))
    assert toy.bits(result.state) == toy.bits(state)
    assert [row["steps_skipped"] for row in result.history] == [0, np.float32(2 / 6), 0]
    # The means are of the steps that were done.
    expected = [np.mean(losses[:6]), np.mean(losses[6:10]), np.mean(losses[10:])]
    got = [row["train_loss"] for row in result.history]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_skip_sees_weights_that_break_while_the_loss_is_good():
    def step_fn(state, train_batch, val_batch):
        after, info = toy.step_fn(state, train_batch, val_batch)
        weights = dict(after.weights)
        weights["b"] = jnp.where(state.step == 7, jnp.nan, weights["b"])
        return after._replace(weights=weights), info

    result = run("skip", toy.make_feed(), step_fn=step_fn)
    assert np.isfinite(result.state.weights["b"])
    assert result.history[1]["steps_skipped"] == np.float32(1 / 6)
    assert int(result.state.step) == EPOCHS * toy.STEPS


def test_skip_without_anything_to_skip_changes_no_bit():
    plain, skipping = run("stop", toy.make_feed()), run("skip", toy.make_feed())
    assert toy.bits(plain.state) == toy.bits(skipping.state)


def test_skip_gives_up_on_an_epoch_without_a_good_step():
    def step_fn(state, train_batch, val_batch):
        after, info = toy.step_fn(state, train_batch, val_batch)
        return after, info._replace(val_loss=jnp.float32(jnp.nan))

    with pytest.raises(JnasError, match="every loss of the epoch must be finite"):
        run("skip", step_fn=step_fn)


@pytest.mark.parametrize("folder", [True, False])
def test_rollback_goes_on_with_another_order(tmp_path, folder, caplog):
    result = run("rollback", workdir=tmp_path if folder else None)
    root = jax.random.key(0)
    keys = [jax.random.fold_in(root, 1)]
    keys.append(jax.random.fold_in(keys[0], 1))
    state, data = toy.init_fn(jax.random.fold_in(root, 0)), feed()
    step_fn = jax.jit(toy.step_fn)
    # Without a folder there is nothing to go back to but the beginning.
    first = toy.STEPS if folder else 0
    for step in range(EPOCHS * toy.STEPS):
        batches = data(keys[0 if step < first else 1], jnp.int32(step))
        state, _ = step_fn(state, *batches)
    assert toy.bits(result.state) == toy.bits(state)
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert f"rolled back to step {first}" in caplog.text


def test_rollback_resumes_in_the_same_bits(tmp_path):
    whole = run("rollback", workdir=tmp_path / "whole")

    def stop(info):
        if info.epoch == 2:
            raise Interrupted(15, "here", saved=False)

    with pytest.raises(Interrupted):
        run("rollback", workdir=tmp_path / "cut", on_epoch=stop)
    cut = run("rollback", workdir=tmp_path / "cut")
    assert cut.resumed_from == toy.STEPS
    # Once more, from a checkpoint that was made after the roll back.
    with pytest.raises(Interrupted):
        run("rollback", workdir=tmp_path / "late", on_epoch=_at_third_epoch)
    late = run("rollback", workdir=tmp_path / "late")
    assert late.resumed_from == 2 * toy.STEPS
    for result in (cut, late):
        assert toy.bits(result.state) == toy.bits(whole.state)
        assert toy.timeless(result.history) == toy.timeless(whole.history)


def _at_third_epoch(info):
    if info.epoch == 3:
        raise Interrupted(15, "here", saved=False)


def test_rollback_ends_after_some_attempts(tmp_path):
    def step_fn(state, train_batch, val_batch):
        after, info = toy.step_fn(state, train_batch, val_batch)
        loss = jnp.where(state.step == 8, jnp.nan, info.train_loss)
        return after, info._replace(train_loss=loss)

    most = nonfinite.MOST_ROLLBACKS
    with pytest.raises(JnasError, match=rf"step 9; .*\(after {most} roll backs\)"):
        run("rollback", workdir=tmp_path, step_fn=step_fn)


def test_unknown_policies_are_refused():
    with pytest.raises(JnasError, match="did you mean 'rollback'"):
        run("roll_back")
