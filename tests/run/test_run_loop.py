"""The loop: the same bits however it is cut, names of metrics, clear errors."""

import json
import logging
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import run_toy as toy

from jnas.errors import JnasError
from jnas.run import EpochInfo, Interrupted, engine, loop


def run(epochs=6, step_fn=toy.step_fn, init_fn=toy.init_fn, feed=None, **options):
    options = {"steps_per_epoch": toy.STEPS, "progress": False, **options}
    feed = toy.make_feed() if feed is None else feed
    return loop(step_fn, init_fn, feed, epochs=epochs, **options)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Six epochs without a break."""
    folder = tmp_path_factory.mktemp("straight")
    return run(workdir=folder, seed=3), folder


def lines(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def same(result, folder, straight):
    expected, straight_folder = straight
    assert toy.bits(result.state) == toy.bits(expected.state)
    assert toy.timeless(result.history) == toy.timeless(expected.history)
    assert lines(folder) == result.history
    assert toy.timeless(lines(folder)) == toy.timeless(lines(straight_folder))


def test_learns_and_reports(straight):
    result, _ = straight
    first, last = result.history[0], result.history[-1]
    assert last["train_loss"] < 0.2 * first["train_loss"]
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    assert (last["step"], result.step) == (36, 36)
    assert result.seconds == pytest.approx(sum(r["seconds"] for r in result.history))
    assert (result.resumed_from, result.stopped) == (None, False)
    names = {"train_loss", "val_loss", "train_accuracy", "extra_noise"}
    assert names == {*first} - {"epoch", "step", "seconds"}


def test_rows_are_the_means_of_the_steps(straight):
    root = jax.random.key(3)
    state = toy.init_fn(jax.random.fold_in(root, 0))
    feed, step_fn, losses = toy.make_feed(), jax.jit(toy.step_fn), []
    for step in range(2 * toy.STEPS):
        state, info = step_fn(state, *feed(jax.random.fold_in(root, 1), step))
        losses.append(float(info.train_loss))
    got = [row["train_loss"] for row in straight[0].history[:2]]
    expected = np.mean(np.reshape(losses, (2, toy.STEPS)), axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-5)  # float32 sums


def test_crash_after_three_epochs_then_resume(tmp_path, straight):
    def crash(info):
        if info.epoch == 4:
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        run(workdir=tmp_path, seed=3, on_epoch=crash)
    assert len(lines(tmp_path)) == 4  # one row more than the checkpoint knows
    result = run(workdir=tmp_path, seed=3)
    assert result.resumed_from == 18
    same(result, tmp_path, straight)


@pytest.mark.parametrize("chunk", [1, 2])
def test_signal_within_an_epoch_then_resume(tmp_path, straight, monkeypatch, chunk):
    save = engine.Checkpoints.save

    def save_and_signal(self, step, *args, **kwargs):
        save(self, step, *args, **kwargs)
        if step == 20:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(engine.Checkpoints, "save", save_and_signal)
    options = {"workdir": tmp_path, "seed": 3, "save_every_seconds": 0.0}
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        run(**options, chunk=chunk)
    assert caught.value.signum == signal.SIGTERM
    assert str(caught.value) == (
        "stopped by SIGTERM at epoch 4/6, step 20; saved; run the same command again "
        "to go on"
    )
    assert signal.getsignal(signal.SIGTERM) == before
    result = run(**options, chunk=chunk)
    assert result.resumed_from == 20
    if chunk == 1:
        same(result, tmp_path, straight)
    else:
        whole = run(seed=3, chunk=chunk)
        assert toy.bits(result.state) == toy.bits(whole.state)
        assert toy.timeless(result.history) == toy.timeless(whole.history)


def test_second_interrupt_is_immediate(tmp_path):
    def twice(info):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(workdir=tmp_path, on_epoch=twice)
    assert signal.getsignal(signal.SIGINT) == before
    assert run(workdir=tmp_path).resumed_from is None  # nothing was saved


def test_interrupt_without_workdir_says_so():
    with pytest.raises(Interrupted, match="not saved, for the run has no workdir"):
        run(on_epoch=lambda info: signal.raise_signal(signal.SIGINT))


def test_runs_outside_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(run(epochs=1)))
    thread.start()
    thread.join()
    assert results[0].step == toy.STEPS


def test_chunks_agree_to_rounding(straight):
    result = run(seed=3, chunk=3)
    for got, expected in zip(result.history, straight[0].history, strict=True):
        # one compiled step and a scan over it round differently: 1e-5 over 36 steps
        names = ("train_loss", "val_loss", "train_accuracy", "extra_noise")
        got, expected = ([row[n] for n in names] for row in (got, expected))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    key = jax.random.key_data(result.state.key)
    np.testing.assert_array_equal(key, jax.random.key_data(straight[0].state.key))


@pytest.mark.parametrize("chunk", [1, 3])
def test_compiles_once(tmp_path, caplog, chunk):
    traces = []

    def step_fn(state, train_batch, val_batch):
        traces.append(1)
        return toy.step_fn(state, train_batch, val_batch)

    options = {"step_fn": step_fn, "chunk": chunk}
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        run(epochs=3, seed=0, **options)
        run(epochs=3, seed=1, **options)
        with pytest.raises(Interrupted):
            stop = {"on_epoch": lambda info: signal.raise_signal(signal.SIGTERM)}
            run(epochs=3, workdir=tmp_path, **options, **stop)
        assert run(epochs=3, workdir=tmp_path, **options).resumed_from == toy.STEPS
    assert len(traces) == 1
    text = [record.getMessage() for record in caplog.records]
    compiled = [t for t in text if t.startswith("Finished XLA compilation")]
    assert len([t for t in compiled if "jit(dispatch)" in t]) == 1


def test_feed_is_no_constant_of_the_program():
    feed = toy.make_feed()
    other = toy.Feed(feed.inputs, feed.targets + 1)
    first, second = run(epochs=1, feed=feed), run(epochs=1, feed=other)
    assert toy.bits(first.state) != toy.bits(second.state)


def test_complete_run_returns_at_once(tmp_path):
    first = run(epochs=2, workdir=tmp_path)

    def step_fn(*args):
        raise AssertionError("it must not be traced")

    again = run(epochs=2, workdir=tmp_path, step_fn=step_fn)
    assert toy.bits(again.state) == toy.bits(first.state)
    assert again.history == first.history
    assert (again.resumed_from, again.step) == (12, 12)


def test_on_epoch_can_stop(tmp_path):
    seen = []

    def stop(info):
        assert isinstance(info, EpochInfo)
        seen.append((info.epoch, info.step, float(info.state.step)))
        return "stop" if info.epoch == 2 else None

    result = run(workdir=tmp_path, on_epoch=stop)
    assert result.stopped and result.step == 12
    assert seen == [(1, 6, 6.0), (2, 12, 12.0)]
    again = run(workdir=tmp_path, on_epoch=stop)
    assert again.stopped and again.step == 12 and len(seen) == 2
    with pytest.raises(JnasError, match="must return None or 'stop', got 'halt'"):
        run(on_epoch=lambda info: "halt")


def test_epoch_metrics_and_images_per_second(tmp_path):
    result = run(
        epochs=2,
        workdir=tmp_path,
        images_per_step=8,
        epoch_metrics=lambda s: {"b": s.weights["b"], "name": "x", "bad": np.inf},
    )
    row = lines(tmp_path)[-1]
    assert row["b"] == float(result.state.weights["b"])
    assert (row["name"], row["bad"]) == ("x", None)
    assert row["images_per_second"] > 0
    with pytest.raises(JnasError, match="epoch_metrics must not be named 'train_loss'"):
        run(epoch_metrics=lambda state: {"train_loss": 1.0})
    with pytest.raises(JnasError, match=r"row of metrics\.x must be a number"):
        run(epoch_metrics=lambda state: {"x": np.zeros(3)})


def test_not_finite_is_caught_before_it_is_saved(tmp_path):
    def step_fn(state, train_batch, val_batch):
        state, info = toy.step_fn(state, train_batch, val_batch)
        bad = jnp.where(state.step == 8, jnp.inf, info.val_loss)
        return state, info._replace(val_loss=bad)

    options = {"epochs": 2, "workdir": tmp_path, "save_every_seconds": 0.0}
    message = (
        "val_loss must be finite, got inf at epoch 2/2, step 8; the last good "
        "checkpoint is of step 7"
    )
    for resumed in (False, True):
        with pytest.raises(JnasError, match=message):
            run(step_fn=step_fn, **options)
        steps = {int(p.name) for p in (tmp_path / "checkpoints").iterdir()}
        assert max(steps) == 7, resumed
    # the same steps without the fault go on from there
    assert run(epochs=2, workdir=tmp_path).resumed_from == 7
    assert run(epochs=2, step_fn=step_fn, watch=()).history[1]["val_loss"] is None
    with pytest.raises(JnasError, match="step 8; there is no checkpoint before it"):
        run(step_fn=step_fn, chunk=2)


def test_without_workdir_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(epochs=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chunk", [1, 2])
def test_python_numbers_as_state(tmp_path, chunk):
    traces = []

    def step_fn(state, train_batch, val_batch):
        traces.append(1)
        weak = jnp.where(state["y"] > 0, 1.0, 2.0)
        return {"x": weak, "y": state["y"] * 2}, {"train_loss": weak}

    def crash(info):
        if info.epoch == 2:
            raise RuntimeError

    options = {"step_fn": step_fn, "init_fn": lambda key: {"x": 0.0, "y": 1.0}}
    options |= {"epochs": 2, "workdir": tmp_path, "chunk": chunk}
    with pytest.raises(RuntimeError):
        run(on_epoch=crash, **options)
    assert float(run(**options).state["y"]) == 2.0**12
    assert len(traces) == 1


def returning(change):
    def step_fn(state, train_batch, val_batch):
        return change(*toy.step_fn(state, train_batch, val_batch))

    return step_fn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"keep": 1.5}, "keep must be a whole number >= 1, got 1.5"),
        ({"chunk": 4}, r"chunk must divide steps_per_epoch \(6\), got 4: use 3"),
        ({"feed": 3}, "feed must be callable"),
        ({"feed": lambda key, step: 0}, "pytree with arrays as leaves, got function"),
        ({"step_fn": returning(lambda s, i: (s, s.weights))}, r"'w' of shape \(3,\)"),
        ({"step_fn": returning(lambda s, i: (s, i.train_loss))}, "a bare"),
        ({"step_fn": returning(lambda s, i: (s.key, i))}, "keep the structure"),
        (
            {"step_fn": returning(lambda s, i: (s._replace(half=s.empty), i))},
            r"state\.half got float32\[0, 4\], expected bfloat16\[2\]",
        ),
        (
            {"step_fn": returning(lambda s, i: (s, {"step": i.val_loss}))},
            "must not be named 'step'",
        ),
        (
            {"step_fn": returning(lambda s, i: (s, {"a": {"b": s.step}, "a_b": 0.0}))},
            "two entries named 'a_b'",
        ),
    ],
)
def test_clear_errors(options, message):
    with pytest.raises(JnasError, match=message) as caught:
        run(**options)
    assert "\n" not in str(caught.value)
