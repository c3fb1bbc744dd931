"""Steps of two kinds: which runs when, rows of both, and the same bits on resume."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import run_toy as toy

from jnas.errors import JnasError
from jnas.run import Interrupted, Phases, engine, loop

EPOCHS = 3


def weights(state, train_batch, val_batch):
    """As the toy's step, at another pace, without a validation loss."""
    del val_batch
    after, info = toy.step_fn(state, train_batch, train_batch)
    slow = jax.tree.map(lambda a, b: 0.5 * (a + b), state.weights, after.weights)
    info = {"train_loss": info.train_loss, "warm": 1.0 * state.step}
    return after._replace(weights=slow), info


def phases(arch_from, arch_every=1, both=toy.step_fn):
    return Phases(both, weights, arch_from=arch_from, arch_every=arch_every)


def run(step_fn, **options):
    options = {"epochs": EPOCHS, "steps_per_epoch": toy.STEPS, **options}
    options = {"progress": False, "seed": 3, **options}
    return loop(step_fn, toy.init_fn, toy.make_feed(), **options)


def by_hand(plan):
    root = jax.random.key(3)
    state, feed = toy.init_fn(jax.random.fold_in(root, 0)), toy.make_feed()
    steps, infos = {}, []
    for step in range(EPOCHS * toy.STEPS):
        whole = (
            step >= plan.arch_from and (step - plan.arch_from) % plan.arch_every == 0
        )
        fn = plan.both if whole else plan.weights
        one = steps.setdefault(fn, jax.jit(fn))
        batches = feed(jax.random.fold_in(root, 1), jnp.int32(step))
        state, info = one(state, *batches)
        flat = info if isinstance(info, dict) else info._asdict()
        names = {"train_loss", "val_loss", "warm"} & flat.keys()
        infos.append({name: float(flat[name]) for name in names})
    return state, infos


@pytest.mark.parametrize("plan", [phases(8), phases(6), phases(2, 3), phases(99)])
def test_the_steps_are_of_the_kind_that_their_number_says(plan):
    result = run(plan)
    state, infos = by_hand(plan)
    assert toy.bits(result.state) == toy.bits(state)
    for epoch, row in enumerate(result.history):
        own = infos[epoch * toy.STEPS : (epoch + 1) * toy.STEPS]
        for name in ("train_loss", "val_loss", "warm"):
            values = [info[name] for info in own if name in info]
            assert (name in row) == bool(values)  # absent, not a made-up number
            if values:
                np.testing.assert_allclose(row[name], np.mean(values), rtol=1e-5)


def test_counts_agree_with_the_kinds():
    for plan in (phases(0), phases(5), phases(4, 3), phases(0, 2)):
        for first in range(12):
            for last in range(first, 20):
                kinds = [plan.kind(step) for step in range(first, last)]
                for kind in ("both", "weights"):
                    assert plan.number(kind, first, last) == kinds.count(kind)


def test_whole_steps_alone_are_the_ordinary_run(tmp_path):
    plain = run(toy.step_fn, workdir=tmp_path)
    result = run(phases(0))
    assert toy.bits(result.state) == toy.bits(plain.state)
    assert toy.timeless(result.history) == toy.timeless(plain.history)
    # Even in its folder: an ordinary run is described and saved as it always was.
    assert run(phases(0), workdir=tmp_path).resumed_from == EPOCHS * toy.STEPS


@pytest.mark.parametrize("stop", [3, 8, 11])
@pytest.mark.parametrize("plan", [phases(8), phases(2, 3)])
def test_resume_within_an_epoch_of_two_kinds(tmp_path, monkeypatch, plan, stop):
    save = engine.Checkpoints.save

    def save_and_signal(self, step, *args, **kwargs):
        save(self, step, *args, **kwargs)
        if step == stop:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(engine.Checkpoints, "save", save_and_signal)
    options = {"workdir": tmp_path, "save_every_seconds": 0.0}
    with pytest.raises(Interrupted):
        run(plan, **options)
    result, whole = run(plan, **options), run(plan)
    assert result.resumed_from == stop
    assert toy.bits(result.state) == toy.bits(whole.state)
    assert toy.timeless(result.history) == toy.timeless(whole.history)


def test_another_plan_is_another_run(tmp_path):
    run(phases(6), workdir=tmp_path, epochs=1)
    with pytest.raises(JnasError, match="arch_from: got 3, expected 6"):
        run(phases(3), workdir=tmp_path, epochs=1)


@pytest.mark.parametrize(("arch_from", "every", "chunk"), [(8, 1, 2), (4, 2, 1)])
def test_chunks_hold_steps_of_one_kind(monkeypatch, arch_from, every, chunk):
    plan, sizes = phases(arch_from, every), set()
    look = engine.Engine._look

    def noting(self, step0, kind, infos):
        sizes.add(len(infos))
        look(self, step0, kind, infos)

    monkeypatch.setattr(engine.Engine, "_look", noting)
    chunked = run(plan, chunk=6)
    assert sizes == {chunk}
    for got, expected in zip(chunked.history, run(plan).history, strict=True):
        assert got.keys() == expected.keys()
        np.testing.assert_allclose(
            got["train_loss"], expected["train_loss"], rtol=1e-4, atol=1e-6
        )


def test_skipped_steps_count_for_their_kind_only():
    def broken(state, train_batch, val_batch):
        after, info = toy.step_fn(state, train_batch, val_batch)
        loss = jnp.where(state.step == 8, jnp.nan, info.val_loss)
        return after, info._replace(val_loss=loss, extra={"mark": jnp.float32(5)})

    result = run(phases(2, 3, broken), on_nan="skip", images_per_step=8)
    # Whole steps are 2, 5, 8, 11, ...: one of two in the second epoch is left out.
    assert result.history[1]["steps_skipped"] == np.float32(1 / 6)
    assert result.history[1]["warm"] == np.mean([6, 7, 9, 10])
    assert result.history[1]["extra_mark"] == 5.0
    assert result.history[1]["images_per_second"] > 0


def test_rollback_within_an_epoch_of_two_kinds(tmp_path):
    def broken(state, train_batch, val_batch):
        after, info = toy.step_fn(state, train_batch, val_batch)
        return after, info._replace(val_loss=jnp.float32(jnp.nan))

    with pytest.raises(JnasError, match=r"step 9; .*step 6.*after 3 roll backs"):
        run(phases(8, 1, broken), workdir=tmp_path, on_nan="rollback")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch_from": -1}, "arch_from must be a whole number >= 0, got -1"),
        ({"arch_from": 0, "arch_every": 0}, "arch_every must be a whole number >= 1"),
    ],
)
def test_clear_errors(options, message):
    with pytest.raises(JnasError, match=message):
        run(phases(**options))
