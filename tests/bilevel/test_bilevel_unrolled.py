"""Unrolled hypergradients against brute-force autodiff through the optimizer."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnas
from jnas import bilevel, numerics

FEATURES, HIDDEN, CHOICES, SIZE = 5, 7, 3, 16
KEY = jax.random.key(7)


def _net(activation):
    """A small mixture of activations; arch [2, 3] weighs candidates in two layers."""

    def loss(weights, arch, batch, key):
        x, y = batch
        x = x + 0.1 * jax.random.normal(key, x.shape, x.dtype)
        for layer in range(2):
            z = x @ weights["layers"][layer]
            p = jax.nn.softmax(arch["a"][layer])
            x = p[0] * z + p[1] * activation(z) + p[2] * jnp.sin(z)
        return jnp.mean((x @ weights["out"] - y) ** 2), jnp.sum(x)

    return loss


@pytest.fixture
def problem(x64):
    keys = jax.random.split(jax.random.key(1), 8)
    weights = {
        "layers": [
            jax.random.normal(keys[0], (FEATURES, HIDDEN), jnp.float64),
            jax.random.normal(keys[1], (HIDDEN, HIDDEN), jnp.float64) / 2,
        ],
        "out": jax.random.normal(keys[2], (HIDDEN, 1), jnp.float64),
    }
    arch = {"a": jax.random.normal(keys[3], (2, CHOICES), jnp.float64)}
    batches = [
        (
            jax.random.normal(keys[4 + i], (SIZE, FEATURES), jnp.float64),
            jax.random.normal(keys[6 + i], (SIZE, 1), jnp.float64),
        )
        for i in range(2)
    ]
    return weights, arch, batches


def _warm(tx, loss, weights, arch, batch):
    """Two real steps, so that momentum and moments are not zero."""

    @jax.jit
    def step(weights, state):
        grads = jax.grad(lambda w: loss(w, arch, batch, KEY)[0])(weights)
        updates, state = tx.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state, numerics.global_norm(grads)

    state = jax.tree.map(jnp.asarray, tx.init(weights))
    for _ in range(2):
        weights, state, norm = step(weights, state)
        assert norm > 0.5  # clipping at 0.5 is active
    return weights, state


def _brute(loss, weights, arch, batches, tx, state, steps):
    """The validation loss after the updates, as one function of arch."""

    def reached(arch):
        w, s = weights, state
        step_key = jax.random.fold_in(KEY, 1)
        for t in range(steps):
            k = step_key if steps == 1 else jax.random.fold_in(step_key, t)
            grads = jax.grad(lambda w, k=k: loss(w, arch, batches[0], k)[0])(w)
            updates, s = tx.update(grads, s, w)
            w = optax.apply_updates(w, updates)
        return loss(w, arch, batches[1], KEY)[0]

    return jax.jit(jax.value_and_grad(reached))(arch)


def _estimate(hypergradient, loss, weights, arch, batches, tx, state):
    """The estimate, compiled."""
    return jax.jit(
        lambda w, a: hypergradient.estimate(
            (),
            loss,
            loss,
            w,
            a,
            *batches,
            weight_tx=tx,
            weight_opt_state=state,
            key=KEY,
        )
    )(weights, arch)


def _schedule(count):
    return 0.05 / (1 + count)


OPTIMIZERS = {
    "sgd-momentum-decay-clip": lambda: jnas.optimizers.coupled_sgd(
        0.05, weight_decay=0.02, clip=0.5
    ),
    "nesterov-schedule": lambda: jnas.optimizers.coupled_sgd(
        _schedule, weight_decay=0.02, nesterov=True, clip=None
    ),
    "adamw-chain": lambda: optax.chain(
        optax.clip_by_global_norm(0.5), optax.adamw(0.01, weight_decay=0.1)
    ),
}


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu])
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_exact_equals_autodiff_through_the_update(problem, name, steps, activation):
    weights, arch, batches = problem
    loss, tx = _net(activation), OPTIMIZERS[name]()
    weights, state = _warm(tx, loss, weights, arch, batches[0])
    value, expected = _brute(loss, weights, arch, batches, tx, state, steps)
    grad, _, info = _estimate(
        bilevel.unrolled(steps), loss, weights, arch, batches, tx, state
    )
    np.testing.assert_allclose(info["val_loss"], value, rtol=1e-12)
    np.testing.assert_allclose(grad["a"], expected["a"], rtol=1e-9, atol=1e-12)
    first = _estimate(bilevel.first_order(), loss, weights, arch, batches, tx, state)[0]
    assert np.abs(first["a"] - expected["a"]).max() > 1e-4


def test_inner_tx_replaces_the_optimizer_of_the_virtual_step_only(problem):
    weights, arch, batches = problem
    loss = _net(jnp.tanh)
    real = jnas.optimizers.coupled_sgd(0.05, clip=0.5)
    inner = jnas.optimizers.coupled_sgd(0.05, clip=None)
    weights, state = _warm(real, loss, weights, arch, batches[0])
    _, expected = _brute(loss, weights, arch, batches, inner, state, 1)
    grad, _, _ = _estimate(
        bilevel.unrolled(inner_tx=inner), loss, weights, arch, batches, real, state
    )
    np.testing.assert_allclose(grad["a"], expected["a"], rtol=1e-9, atol=1e-12)


def test_finite_difference_converges_quadratically_on_smooth_losses(problem):
    weights, arch, batches = problem
    loss, tx = _net(jnp.tanh), optax.sgd(0.05)

    def grad(**options):
        return _estimate(
            bilevel.unrolled(**options),
            loss,
            weights,
            arch,
            batches,
            tx,
            tx.init(weights),
        )[0]["a"]

    exact = grad()
    errors = [
        float(jnp.abs(grad(method="finite_difference", epsilon=e) - exact).max())
        for e in (0.08, 0.04, 0.02, 1e-4)
    ]
    for coarse, fine in itertools.pairwise(errors[:3]):
        assert 3.8 < coarse / fine < 4.2
    assert 2.4e-5 < errors[3] / errors[2] < 2.6e-5  # (1e-4 / 0.02)^2


def test_clip_follows_the_recurrent_code(problem):
    """Written out: clipped gradients, and a factor clip / norm not limited to 1."""
    weights, arch, batches = problem
    loss, lr, decay = _net(jnp.tanh), 0.5, 0.01
    tx = jnas.optimizers.coupled_sgd(lr, momentum=0.0, weight_decay=decay, clip=None)
    step_key = jax.random.fold_in(KEY, 1)
    g = jax.grad(lambda w: loss(w, arch, batches[0], step_key)[0])(weights)
    norm = float(numerics.global_norm(g))
    for clip in (0.25 * norm, 4.0 * norm):
        scale = clip / (norm + 1e-6)
        reached = jax.tree.map(
            lambda w, g, s=scale: w - lr * (min(s, 1.0) * g + decay * w), weights, g
        )
        v, direct = jax.grad(lambda w, a: loss(w, a, batches[1], KEY)[0], (0, 1))(
            reached, arch
        )
        size = float(numerics.global_norm(v))
        shrink = min(1.0, clip / (size + 1e-6))
        v = jax.tree.map(lambda x, s=shrink: s * x, v)
        r = 0.01 / float(numerics.global_norm(v))
        sides = [
            jax.grad(lambda a, w=w: loss(w, a, batches[0], step_key)[0])(arch)["a"]
            for w in (
                jax.tree.map(lambda w, x, r=r: w + r * x, weights, v),
                jax.tree.map(lambda w, x, r=r: w - r * x, weights, v),
            )
        ]
        expected = direct["a"] - lr * scale * (sides[0] - sides[1]) / (2 * r)
        hypergradient = bilevel.unrolled(method="finite_difference", clip=clip)
        grad, _, _ = _estimate(
            hypergradient, loss, weights, arch, batches, tx, tx.init(weights)
        )
        np.testing.assert_allclose(grad["a"], expected, rtol=1e-9, atol=1e-11)


def test_the_optimizer_gets_the_batch_as_an_extra_argument(problem):
    """A rate that depends on the batch, as with windows of random length."""
    weights, arch, batches = problem
    loss = _net(jnp.tanh)

    def scale(updates, state, params=None, *, batch, **_):
        del params
        return jax.tree.map(lambda u: u * batch[0].shape[0] / 64, updates), state

    scaling = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), scale)
    tx = optax.chain(optax.sgd(0.2), scaling)
    plain = optax.sgd(0.2 * SIZE / 64)
    grads = [
        _estimate(bilevel.unrolled(), loss, weights, arch, batches, t, t.init(weights))[
            0
        ]["a"]
        for t in (tx, plain)
    ]
    np.testing.assert_allclose(*grads, rtol=1e-12)
