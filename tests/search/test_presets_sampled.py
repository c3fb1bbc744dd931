"""Presets of sampled methods: what only the real thing does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas

SMALL = {"channels": 2, "num_classes": 4, "epochs": 5, "steps_per_epoch": 3}


def test_gdas_temperature_falls_from_10_to_a_tenth_by_epoch():
    tau = jnas.relax.linear_temperature(10.0, 0.1, epochs=250, steps_per_epoch=391)
    found = [float(tau(step)) for step in (0, 390, 391, 124 * 391, 250 * 391 - 1)]
    expected = [10, 10, 10 - 9.9 / 249, 10 - 9.9 * 124 / 249, 0.1]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gdas_step_changes_arch_by_the_sampled_rule_of_its_space():
    """The NAS-Bench-201 cell's scalars reach all candidates, the other's one."""
    for space, size, gradient in (
        (jnas.spaces.nasbench201(), {"cells_per_stage": 1}, "all"),
        (jnas.spaces.darts(), {"cells": 3}, "selected"),
    ):
        search = jnas.presets.gdas(space, **SMALL, **size)
        assert search.config["gradient"] == gradient
        assert search.config["order"] == "weights_first"
        assert search.config["inactive"] == "freeze"


def test_gdas_trains_only_what_it_draws():
    search = jnas.presets.gdas(jnas.spaces.nasbench201(), cells_per_stage=1, **SMALL)
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.normal(size=(4, 8, 8, 1)), jnp.float32),
        "label": jnp.arange(4),
    }
    before = search.init(jax.random.key(0), batch["image"])
    after, info = jax.jit(search.step)(before, batch, batch)
    moved = jax.tree.map(
        lambda a, b: jnp.asarray(a != b, jnp.float32), before.weights, after.weights
    )
    counts = (np.asarray(search.supernet.op_sum(moved)["cell"]) > 0).sum(axis=-1)
    # At most one of the two convolutions of an edge, the same in every cell.
    assert counts.max() == 1 and 0 < counts.sum() < counts.size
    assert (counts == counts[:1]).all()
    assert info.arch_skipped == 0 and info.arch_grad_norm > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"temperature": (10.0, 0.0)}, "temperature must be a positive"),
        ({"gradient": "some"}, "gradient must be 'all' or 'selected'"),
        ({"inactive": "thaw"}, "inactive must be"),
    ],
)
def test_bad_arguments_are_one_line(options, message):
    with pytest.raises(jnas.JnasError, match=message) as error:
        jnas.presets.gdas(jnas.spaces.nasbench201(), **options)
    assert "\n" not in str(error.value)
