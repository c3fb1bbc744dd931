"""Estimators on the shipped networks, whose kernels have rules of their own."""

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

import jnas
from jnas import bilevel, optimizers

SMALL = {"channels": 2, "num_classes": 3}
SIZES = {"nasbench201": {"cells_per_stage": 1}}


def _batch(seed, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed))
    return {
        "image": jax.random.normal(keys[0], (4, 8, 8, 1), dtype),
        "label": jax.random.randint(keys[1], (4,), 0, 3),
    }


@pytest.mark.parametrize("name", conformance.HYPERGRADIENTS)
def test_arch_step_lowers_for_accelerators(name):
    net = jnas.supernet.build(
        jnas.spaces.nasbench201(), **SMALL, **SIZES["nasbench201"]
    )
    search = jnas.search.differentiable(
        net,
        hypergradient=conformance.HYPERGRADIENTS[name](),
        weight_tx=optimizers.coupled_sgd(0.025),
        arch_tx=optimizers.coupled_adam(),
    )

    def step(key_data, train, val):
        state = search.init(jax.random.wrap_key_data(key_data), train["image"])
        return search.arch_step(state, train, val)[1]

    shapes = jax.eval_shape(lambda: (_batch(0), _batch(1)))
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    exported = export.export(jax.jit(step), platforms=["tpu", "cuda"])(key, *shapes)
    assert set(exported.platforms) == {"tpu", "cuda"}


@pytest.mark.slow
@pytest.mark.parametrize("space", SIZES)
def test_exact_equals_autodiff_through_the_step_of_a_supernet(x64, space):
    """Momentum, decay and clipping are active; the reference is reverse twice.

    (In the DARTS space that takes 9 GB to compile; `tests/parity` has the authors' own
    double backward there.)
    """
    net = jnas.supernet.build(
        jnas.spaces.get(space), **SMALL, **SIZES[space], dtype=jnp.float64
    )
    tx = optimizers.coupled_sgd(0.1, weight_decay=0.01, clip=0.5)
    train, val = _batch(0, jnp.float64), _batch(1, jnp.float64)
    weights, model_state = net.init(jax.random.key(2), train["image"])
    weights, model_state = jax.tree.map(
        lambda x: x.astype(jnp.float64), (weights, model_state)
    )
    softmax = jnas.relax.softmax(init_scale=0.5)
    arch = jax.tree.map(
        lambda x: x.astype(jnp.float64), softmax.init(jax.random.key(3), net.space)
    )
    task = jnas.supernet.classification()

    def loss(weights, arch, batch, key):
        del key
        logits, _ = net.apply(
            weights,
            model_state,
            softmax.probabilities(arch),
            batch["image"],
            train=True,
        )
        return task.loss(logits, batch)[0], None

    momentum = jax.tree.map(lambda w: 0.3 * jnp.cos(w), weights)
    state = optax.tree_map_params(tx, lambda _, m: m, tx.init(weights), momentum)

    def reached(arch):
        grads = jax.grad(lambda w: loss(w, arch, train, None)[0])(weights)
        updates, _ = tx.update(grads, state, weights)
        after = optax.apply_updates(weights, updates)
        return loss(after, arch, val, None)[0], jnas.numerics.global_norm(grads)

    @jax.jit
    def both(arch):
        expected = jax.grad(reached, has_aux=True)(arch)
        got = bilevel.unrolled().estimate(
            (),
            loss,
            loss,
            weights,
            arch,
            train,
            val,
            weight_tx=tx,
            weight_opt_state=state,
            key=jax.random.key(0),
        )
        return expected, got

    (expected, norm), (got, _, info) = both(arch)
    assert norm > 0.5
    for group, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(got[group], value, rtol=0, atol=1e-9 * scale)
        assert np.abs(info["response"][group]).max() > 1e-3 * scale
