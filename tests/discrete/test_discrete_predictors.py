"""Training and acquisition against plain loops and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.discrete import acquisition, predictors
from jnas.errors import JnasError


def plain_fit(weights, x, y, orders, batch, rate, b2, eps):
    """Mean absolute error and Adam by hand, for a net of any depth, in float64."""
    weights = [(np.array(k, float), np.array(b, float)) for k, b in weights]
    first = [np.zeros_like(w) for pair in weights for w in pair]
    second = [np.zeros_like(w) for pair in weights for w in pair]
    step = 0
    for order in orders:
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            inputs = [x[rows]]
            for i, (kernel, bias) in enumerate(weights):
                z = inputs[-1] @ kernel + bias
                inputs.append(np.maximum(z, 0) if i < len(weights) - 1 else z)
            delta = np.sign(inputs[-1][:, 0] - y[rows])[:, None] / len(rows)
            gradients = []
            for i in reversed(range(len(weights))):
                gradients[:0] = [inputs[i].T @ delta, delta.sum(0)]
                delta = (delta @ weights[i][0].T) * (inputs[i] > 0)
            step += 1
            new = []
            for j, g in enumerate(gradients):
                first[j] = 0.9 * first[j] + 0.1 * g
                second[j] = b2 * second[j] + (1 - b2) * g * g
                m = first[j] / (1 - 0.9**step)
                v = second[j] / (1 - b2**step)
                new.append(weights[j // 2][j % 2] - rate * m / (np.sqrt(v) + eps))
            weights = list(zip(new[::2], new[1::2], strict=True))
    return weights


@pytest.mark.parametrize("count", [5, 7, 12])
def test_training_is_a_plain_loop_over_the_chosen_rows(count, x64):
    rng = np.random.default_rng(count)
    rows, batch, epochs = 12, 5, 4
    x = rng.normal(size=(rows, 3))
    y = rng.normal(size=rows)
    chosen = np.zeros(rows, bool)
    chosen[rng.permutation(rows)[:count]] = True
    start = jax.tree.map(
        lambda w: w.astype(jnp.float64) + 0.01,
        predictors.mlp_init(jax.random.key(0), (3, 6, 4, 1)),
    )
    key = jax.random.key(1)
    orders = []
    for epoch in range(epochs):
        numbers = np.array(jax.random.uniform(jax.random.fold_in(key, epoch), (rows,)))
        orders.append([i for i in np.argsort(numbers) if chosen[i]])
    for most in (count, rows):  # looser bounds only run empty steps
        got = predictors.fit(
            predictors.mlp, start, *map(jnp.asarray, (x, y, chosen)), key=key,
            learning_rate=0.01, epochs=epochs, batch=batch, most=most, b2=0.99,
            eps=1e-7,
        )  # fmt: skip
        want = plain_fit(start, x, y, orders, batch, 0.01, 0.99, 1e-7)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_nothing_chosen_changes_nothing():
    start = predictors.mlp_init(jax.random.key(0), (2, 3, 1))
    got = predictors.fit(
        predictors.mlp, start, jnp.ones((4, 2)), jnp.ones(4), jnp.zeros(4, bool),
        key=jax.random.key(1), learning_rate=0.1, epochs=2, batch=2, most=4,
    )  # fmt: skip
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(start), strict=True):
        np.testing.assert_array_equal(a, b)


def test_standardised_scores():
    scores = jnp.array([3.0, -jnp.inf, 5.0, 10.0])
    chosen = jnp.array([True, False, True, True])
    targets, mean, std = predictors.standardise(scores, chosen)
    told = np.array([3.0, 5.0, 10.0])
    np.testing.assert_allclose([mean, std], [told.mean(), told.std()], rtol=1e-6)
    want = (told - told.mean()) / told.std()
    np.testing.assert_allclose(np.asarray(targets)[[0, 2, 3]], want, rtol=1e-6)
    targets, _, std = predictors.standardise(jnp.full(3, 7.0), jnp.ones(3, bool))
    assert targets.tolist() == [0.0] * 3 and float(std) == 1.0


PREDICTIONS = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


def test_independent_thompson_sampling_has_the_moments_of_the_members():
    draws = 40_000
    keys = jax.random.split(jax.random.key(0), draws)
    rows = jax.vmap(lambda k: acquisition.acquire("its", PREDICTIONS, 0.0, k))(keys)
    rows = np.asarray(rows, np.float64)
    mean, std = PREDICTIONS.mean(0), PREDICTIONS.std(0)  # divided by 5, not 4
    error = std / np.sqrt(draws)
    assert np.all(np.abs(rows.mean(0) - mean) < 5 * error)
    assert np.all(np.abs(rows.std(0) / std - 1) < 5 / np.sqrt(2 * draws))
    # Candidates are drawn independently of each other.
    correlation = np.corrcoef(rows.T) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(draws)


def test_other_acquisitions_are_their_formulas():
    best = 0.3
    mean, std = PREDICTIONS.mean(0), PREDICTIONS.std(0)

    def phi(z):
        return 0.5 * (1 + math.erf(z / math.sqrt(2)))

    def density(z):
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    want = {"mean": mean, "ucb": mean + 0.5 * std}
    want["pi"] = [phi((m - best) / s) for m, s in zip(mean, std, strict=True)]
    want["ei"] = [
        (m - best) * phi(5 * (m - best) / s) + s / 5 * density(5 * (m - best) / s)
        for m, s in zip(mean, std, strict=True)
    ]
    key = jax.random.key(3)
    for kind, values in want.items():
        got = acquisition.acquire(kind, PREDICTIONS, best, key)
        np.testing.assert_allclose(got, values, rtol=2e-5, atol=1e-7)
    drawn = {
        tuple(np.asarray(acquisition.acquire("ts", PREDICTIONS, best, k)).tolist())
        for k in jax.random.split(key, 60)
    }
    assert drawn == {tuple(row.tolist()) for row in PREDICTIONS}


def test_members_that_agree_are_no_trouble():
    same = jnp.ones((3, 2)) * jnp.array([[1.0, 2.0]])
    key = jax.random.key(0)
    assert acquisition.acquire("its", same, 1.5, key).tolist() == [1.0, 2.0]
    np.testing.assert_allclose(
        acquisition.acquire("ei", same, 1.5, key), [0.0, 0.5], atol=1e-6
    )
    with pytest.raises(JnasError, match="unknown acquisition 'thompson'"):
        acquisition.acquire("thompson", same, 1.5, key)
