"""Every estimator against the closed form of a quadratic bilevel problem, in float64.

Train loss w'A w / 2 - w'B a, validation loss (w - t)'C (w - t) / 2 + d'a: so the
Hessian in the weights is A, the mixed derivative -B, and the optimum A^-1 B a.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnas
from jnas import bilevel

N, M = 6, 4
_RNG = np.random.default_rng(0)


def _definite(low, high):
    q, _ = np.linalg.qr(_RNG.normal(size=(N, N)))
    return q @ np.diag(np.linspace(low, high, N)) @ q.T


A, C = _definite(0.5, 3.0), _definite(0.2, 2.0)
B, D, T = _RNG.normal(size=(N, M)), _RNG.normal(size=M), _RNG.normal(size=N)
W, ARCH, BUFFER = _RNG.normal(size=N), _RNG.normal(size=M), _RNG.normal(size=N)
LR, MOMENTUM, DECAY = 0.3, 0.9, 0.05


def train_loss(w, arch, batch, key):
    del key
    return batch * (w @ A @ w / 2 - w @ (B @ arch)), {"which": jnp.zeros(())}


def val_loss(w, arch, batch, key):
    del key
    error = w - T
    return batch * (error @ C @ error / 2 + D @ arch), {"which": jnp.ones(())}


def estimate(hypergradient, weights=W, tx=None, buffer=None, train_batch=1.0):
    tx = tx or optax.sgd(LR)
    weights, arch = jnp.asarray(weights), jnp.asarray(ARCH)
    state = tx.init(weights)
    if buffer is not None:
        state = optax.tree_map_params(tx, lambda _: jnp.asarray(buffer), state)
    return jax.jit(
        lambda w, a: hypergradient.estimate(
            hypergradient.init(w, a),
            train_loss,
            val_loss,
            w,
            a,
            train_batch,
            1.0,
            weight_tx=tx,
            weight_opt_state=state,
            key=jax.random.key(0),
        )
    )(weights, arch)


def gradient(*args, **options):
    return np.asarray(estimate(*args, **options)[0])


def close(x, y, rtol=1e-11):
    np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


def implicit_at(w, system=A):
    return D + B.T @ np.linalg.solve(system, C @ (w - T))


@pytest.fixture(autouse=True)
def _float64(x64):
    pass


def test_estimators_without_response():
    close(gradient(bilevel.first_order()), D)
    close(gradient(bilevel.mixed_level(0.7), train_batch=2.0), D - 1.4 * B.T @ W)
    # The validation objective at the training batch, which here is 2.
    grad, _, info = estimate(bilevel.single_level(), train_batch=2.0)
    close(grad, 2 * D)
    assert float(info["val_aux"]["which"]) == 1.0


@pytest.mark.parametrize("method", ["exact", "finite_difference"])
def test_one_step_with_momentum_and_decay(method):
    tx = jnas.optimizers.coupled_sgd(
        LR, momentum=MOMENTUM, weight_decay=DECAY, clip=None
    )
    reached = W - LR * (MOMENTUM * BUFFER + A @ W - B @ ARCH + DECAY * W)
    v = C @ (reached - T)
    grad, _, info = estimate(bilevel.unrolled(method=method), tx=tx, buffer=BUFFER)
    # The train loss is quadratic, so the difference has no truncation error.
    close(grad, D + LR * B.T @ v, rtol=1e-11 if method == "exact" else 1e-10)
    close(info["val_loss"], (reached - T) @ v / 2 + D @ ARCH)
    close(info["response"], LR * B.T @ v, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_many_steps_of_gradient_descent(steps):
    w = W
    for _ in range(steps):
        w = w - LR * (A @ w - B @ ARCH)
    expected, power = D, C @ (w - T)
    for _ in range(steps):
        expected = expected + LR * B.T @ power
        power = power - LR * A @ power
    close(gradient(bilevel.unrolled(steps)), expected)


def test_stacked_batches_feed_the_steps_in_order():
    batches = jnp.array([0.5, 2.0, 1.0])
    w, paths = W, []
    for b in np.asarray(batches):
        w = w - LR * b * (A @ w - B @ ARCH)
        paths.append(b)
    adjoint, expected = C @ (w - T), D
    for b in reversed(paths):
        expected = expected + LR * b * B.T @ adjoint
        adjoint = adjoint - LR * b * A @ adjoint
    close(gradient(bilevel.unrolled(3, stacked=True), train_batch=batches), expected)


def test_unrolled_converges_to_the_implicit_gradient():
    optimum = np.linalg.solve(A, B @ ARCH)
    errors = []
    for steps in (1, 4, 16, 64):
        grad = gradient(bilevel.unrolled(steps), weights=optimum)
        errors.append(np.linalg.norm(grad - implicit_at(optimum)))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    # (1 - lr * smallest eigenvalue)^steps bounds how fast.
    assert errors[3] < 2 * errors[0] * (1 - LR * 0.5) ** 63


@pytest.mark.parametrize("terms", [0, 1, 2, 7])
def test_neumann_series(terms):
    gamma, system = 0.25, A + DECAY * np.eye(N)
    v = C @ (W - T)
    power, total = v, v
    for _ in range(terms):
        power = power - gamma * system @ power
        total = total + power
    hypergradient = bilevel.implicit(
        "neumann", terms=terms, step_size=gamma, damping=DECAY
    )
    grad, _, info = estimate(hypergradient)
    close(grad, D + gamma * B.T @ total)
    close(info["residual"], np.linalg.norm(power) / np.linalg.norm(v))


def test_neumann_and_conjugate_gradients_converge_to_the_implicit_gradient():
    expected = implicit_at(W, A + DECAY * np.eye(N))
    for method, terms in (("neumann", (2, 8, 32, 128)), ("cg", (1, 2, 4, N))):
        errors = []
        for count in terms:
            hypergradient = bilevel.implicit(
                method, terms=count, step_size=0.3, damping=DECAY
            )
            errors.append(np.linalg.norm(gradient(hypergradient) - expected))
        assert all(b < a for a, b in itertools.pairwise(errors)), errors
        assert errors[-1] < 1e-8, (method, errors)


def test_conjugate_gradients_stop_by_tolerance_and_stay():
    loose = bilevel.implicit("cg", terms=50, tolerance=1e-3)
    _, _, info = estimate(loose)
    assert 1e-8 < float(info["residual"]) <= 1e-3
    # Far more iterations than needed must not disturb the solution.
    _, _, info = estimate(bilevel.implicit("cg", terms=200))
    assert float(info["residual"]) < 1e-12


def test_conjugate_gradients_stop_at_negative_curvature():
    def concave(w, arch, batch, key):
        return -(w @ w) / 2 - w @ (B @ arch), None

    grad, _, info = bilevel.implicit("cg", terms=5).estimate(
        (), concave, val_loss, jnp.asarray(W), jnp.asarray(ARCH), 1.0, 1.0,
        key=jax.random.key(0),
    )  # fmt: skip
    close(grad, D)
    close(info["residual"], 1.0)


def test_learning_rate_zero_is_first_order():
    tx = optax.sgd(0.0, momentum=0.9)
    for method in ("exact", "finite_difference"):
        grad, _, info = estimate(bilevel.unrolled(method=method), tx=tx, buffer=BUFFER)
        expected, _, first = estimate(bilevel.first_order())
        np.testing.assert_array_equal(grad, expected)
        np.testing.assert_array_equal(info["val_loss"], first["val_loss"])
        assert not np.any(info["response"])


def test_damping_is_the_optimizers_weight_decay():
    """At the optimum of loss + decay, many unrolled decayed steps give the same."""
    optimum = np.linalg.solve(A + DECAY * np.eye(N), B @ ARCH)
    tx = jnas.optimizers.coupled_sgd(LR, momentum=0.0, weight_decay=DECAY, clip=None)
    unrolled = gradient(bilevel.unrolled(200), weights=optimum, tx=tx)
    implicit = gradient(
        bilevel.implicit("cg", terms=20, damping=DECAY), weights=optimum
    )
    close(unrolled, implicit, rtol=1e-9)
