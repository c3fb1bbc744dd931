"""The preset on the real spaces: lowering, scan, vmap, the main job."""

import json
import os
import subprocess
import sys

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jnas

SIZES = {
    "nasbench201": {"channels": 2, "cells_per_stage": 1},
    "darts": {"channels": 2, "cells": 3},
}


def _search(space):
    return jnas.presets.darts(
        jnas.spaces.get(space),
        num_classes=3,
        epochs=2,
        steps_per_epoch=3,
        **SIZES[space],
    )


def _batch(seed):
    keys = jax.random.split(jax.random.key(seed))
    return {
        "image": jax.random.normal(keys[0], (4, 8, 8, 2)),
        "label": jax.random.randint(keys[1], (4,), 0, 3),
    }


@pytest.mark.parametrize("space", list(SIZES))
def test_preset_lowers_for_tpu_and_cuda(space):
    search = _search(space)

    def step(state, train, val):
        state = state._replace(key=jax.random.wrap_key_data(state.key))
        state, info = search.step(state, train, val)
        return state._replace(key=jax.random.key_data(state.key)), info

    state = jax.eval_shape(search.init, jax.random.key(0), _batch(0)["image"])
    state = state._replace(key=jax.ShapeDtypeStruct((2,), jnp.uint32))
    for platform in ("tpu", "cuda"):
        text = export.export(jax.jit(step), platforms=[platform])(
            state, _batch(0), _batch(1)
        ).mlir_module()
        assert "convolution" in text
        # Nothing that only one backend knows.
        assert "custom_call @__cudnn" not in text and "triton" not in text


@pytest.mark.slow
@pytest.mark.parametrize("space", list(SIZES))
def test_jit_scan_and_vmap_agree_and_compile_once(space):
    search = _search(space)
    batches = [(_batch(2 * i), _batch(2 * i + 1)) for i in range(3)]
    state = search.init(jax.random.key(0), batches[0][0]["image"])
    step = jax.jit(search.step)
    expected = state
    for train, val in batches:
        expected, _ = step(expected, train, val)
    assert step._cache_size() == 1
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    scanned, _ = jax.jit(
        lambda s, b: jax.lax.scan(lambda s, b: search.step(s, *b), s, b)
    )(state, stacked)
    # Three steps of float32 with normalisations over 4 images amplify rounding.
    conformance.trees_close(expected, scanned, rtol=2e-3, atol=2e-4)
    many = jax.tree.map(lambda x: jnp.stack([x] * 3), state)._replace(step=state.step)
    axes = jnas.search.seed_axes(many)
    seeds = jax.jit(
        jax.vmap(search.step, in_axes=(axes, None, None), out_axes=(axes, 0))
    )
    for train, val in batches:
        many, _ = seeds(many, train, val)
    assert seeds._cache_size() == 1
    one = jax.tree.map(lambda x: x[1], many._replace(step=jnp.stack([many.step] * 3)))
    conformance.trees_close(expected, one, rtol=2e-3, atol=2e-4)


@pytest.mark.slow
def test_supernets_train_in_bfloat16():
    for space, size in SIZES.items():
        net = jnas.supernet.build(
            jnas.spaces.get(space), num_classes=3, dtype=jnp.bfloat16, **size
        )
        search = jnas.search.differentiable(
            net,
            weight_tx=jnas.optimizers.coupled_sgd(0.1),
            arch_tx=jnas.optimizers.coupled_adam(),
        )
        state = search.init(jax.random.key(0), _batch(0)["image"])
        assert {x.dtype for x in jax.tree.leaves(state.weights)} == {
            jnp.dtype("float32")
        }
        step = jax.jit(search.step)
        losses = []
        for _ in range(10):
            state, info = step(state, _batch(0), _batch(0))
            losses.append(float(info.train_loss))
        assert np.isfinite(losses).all() and losses[-1] < losses[0]


@pytest.mark.slow
def test_main_job_reaches_97_percent(tmp_path):
    """`jnas search` without arguments, as `make search` runs it."""
    # A process of its own: the suite's compiler settings would make it crawl.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(jnas.__file__))
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    command = [sys.executable, "-m", "jnas", "search"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=850)
    folder = tmp_path / "runs" / "darts-nasbench201-digits-seed0"
    summary = json.loads((folder / "summary.json").read_text())
    found = summary["table"][0]
    assert found["label"] == "found" and len(found["test_accuracies"]) == 3
    assert found["test_accuracy_mean"] >= 0.97
