"""Presets: the papers' hyper-parameters, schedules and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import optimizers


def test_darts_preset_follows_the_space():
    small = {"channels": 4, "num_classes": 3, "epochs": 2, "steps_per_epoch": 5}
    darts = jnas.presets.darts(jnas.spaces.darts(), cells=3, **small)
    nb201 = jnas.presets.darts(jnas.spaces.nasbench201(), cells_per_stage=1, **small)
    assert darts.config["order"] == "arch_first"
    assert nb201.config["order"] == "weights_first"
    image = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    for search, decay in ((darts, 3e-4), (nb201, 5e-4)):
        state = jax.eval_shape(search.init, jax.random.key(0), image)
        assert state.weights["skeleton"]["classifier"]["kernel"].shape[1] == 3
        assert jax.tree.leaves(state.recent_archs)[0].shape[0] == 10
        tx = search.init(jax.random.key(0), image).weight_opt_state
        np.testing.assert_allclose(tx.hyperparams["weight_decay"], decay, rtol=1e-6)
        np.testing.assert_allclose(tx.hyperparams["learning_rate"], 0.025, rtol=1e-6)


@pytest.mark.parametrize("second_order", ["exact", "finite_difference"])
@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_second_order_darts_unrolls_its_own_step_unclipped(
    space, second_order, monkeypatch
):
    calls = []

    make = jnas.bilevel.unrolled

    def unrolled(**options):
        calls.append(options)
        return make(**options)

    monkeypatch.setattr(jnas.bilevel, "unrolled", unrolled)
    search = jnas.presets.darts(
        jnas.spaces.get(space), order=2, second_order=second_order
    )
    assert search.config["hypergradient"] == f"unrolled {second_order}"
    assert search.config["order"] == "arch_first"
    (options,) = calls
    assert options["method"] == second_order
    weights = {"w": jnp.array([1.0, 2.0])}
    grads = {"w": jnp.array([60.0, 80.0])}  # of norm 100, far above 5
    tx = options["inner_tx"]
    state = tx.init(weights)
    updates, _ = tx.update(grads, state, weights)
    stages = space == "nasbench201"
    decayed = grads["w"] + (5e-4 if stages else 3e-4) * weights["w"]
    expected = -0.025 * decayed * (1.9 if stages else 1.0)
    np.testing.assert_allclose(updates["w"], expected, rtol=1e-6)


def test_arch_rate_is_published_at_published_length_and_scaled_below():
    assert jnas.presets.darts(jnas.spaces.darts()).config["arch_learning_rate"] == 3e-4
    short = jnas.presets.darts(jnas.spaces.darts(), epochs=5).config
    assert short["arch_learning_rate"] == pytest.approx(3e-3)
    given = jnas.presets.darts(jnas.spaces.darts(), arch_learning_rate=1.0).config
    assert given["arch_learning_rate"] == 1.0


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_cosine_is_the_formula(per):
    schedule = optimizers.cosine(0.025, 0.001, epochs=50, steps_per_epoch=391, per=per)
    for step in (0, 390, 391, 10_000, 50 * 391 - 1):
        done = step // 391 if per == "epoch" else step / 391
        expected = 0.001 + 0.024 * (1 + np.cos(np.pi * done / 50)) / 2
        np.testing.assert_allclose(schedule(step), expected, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.001, 1.0, 1000.0])
def test_clip_is_torch_rule(scale):
    grads = {"a": jnp.arange(4.0) * scale, "b": -jnp.ones((2, 2)) * scale}
    norm = np.sqrt(sum(float((g**2).sum()) for g in grads.values()))
    clipped, _ = optimizers.clip_by_global_norm(5.0).update(grads, ())
    factor = min(1.0, 5.0 / (norm + 1e-6))
    for k, g in grads.items():
        np.testing.assert_allclose(clipped[k], g * factor, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jnas.presets.get("dart"), "did you mean 'darts'"),
        (
            lambda: jnas.presets.darts(jnas.spaces.darts(), learning_rate=0.0),
            "positive",
        ),
        (lambda: jnas.presets.darts(jnas.spaces.darts(), epochs=0), "positive"),
        (lambda: jnas.presets.darts(jnas.spaces.darts(), order=3), "order must be 1"),
        (
            lambda: jnas.presets.darts(jnas.spaces.darts(), order=2, second_order="fd"),
            "method must be one of exact, finite_difference",
        ),
        (
            lambda: jnas.presets.darts(jnas.spaces.darts(), cells_per_stage=2),
            "takes cells",
        ),
        (lambda: jnas.presets.darts(jnas.spaces.nasbench201(), cells=8), "cells_per_"),
        (lambda: jnas.presets.darts(jnas.spaces.darts(), channels=0), "channels must"),
        (lambda: optimizers.clip_by_global_norm(0.0), "max_norm must be positive"),
        (
            lambda: optimizers.cosine(1, 0, epochs=1, steps_per_epoch=1, per="day"),
            "per must be",
        ),
        (lambda: jnas.relax.softmax(temperature=0), "temperature must be a positive"),
    ],
)
def test_bad_arguments_are_one_line(call, message):
    with pytest.raises(jnas.JnasError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
