"""Controllers against plain NumPy, sums over all candidates and frequencies."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import domain, spaces
from jnas.discrete import controller as controllers
from jnas.discrete.drawing import valid_draws

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from listed import EVERY, SIZES, Tiny, plain

MAKE = {
    "independent": lambda: controllers.independent(SIZES, scale=1.0),
    "lstm": lambda: controllers.lstm(SIZES, units=3, layers=2, scale=2.0),
    "one layer": lambda: controllers.lstm(SIZES, units=4, layers=1, scale=1.0),
}
each = pytest.mark.parametrize("name", MAKE)


@each
def test_log_probability_and_entropy_equal_a_plain_loop(name):
    controller = MAKE[name]()
    weights = controller.init(jax.random.key(0))
    log_prob, entropy = jax.vmap(controller.evaluate, (None, 0))(weights, EVERY)
    expected = np.array([plain(weights, genes) for genes in EVERY])
    # float32 sums of some ten terms near 1.
    np.testing.assert_allclose(log_prob, expected[:, 0], atol=3e-6)
    np.testing.assert_allclose(entropy, expected[:, 1], atol=3e-6)
    assert abs(float(jnp.exp(log_prob).sum()) - 1) < 3e-6
    # The genes are not independent of each other in a recurrent one.
    assert (np.ptp(expected[:, 1]) > 0.01) == (name != "independent")


@each
def test_samples_have_their_probabilities(name):
    controller = MAKE[name]()
    weights = controller.init(jax.random.key(1))
    many = 20_000
    keys = jax.random.split(jax.random.key(2), many)
    genes = np.asarray(jax.jit(jax.vmap(controller.sample, (0, None)))(keys, weights))
    assert genes.dtype == np.int32
    counts = np.array([(genes == row).all(-1).sum() for row in EVERY])
    assert counts.sum() == many
    p = np.exp([plain(weights, row)[0] for row in EVERY])
    # Pearson's statistic of 11 degrees of freedom is above 31.3 once in 1,000 keys.
    assert ((counts - many * p) ** 2 / (many * p)).sum() < 31.3


def test_first_weights_are_the_published_ones():
    weights = controllers.lstm((5,) * 6).init(jax.random.key(0))
    assert weights.kernels.shape == (2, 70, 140) and weights.start.shape == (35,)
    flat = np.concatenate([np.ravel(x) for x in weights])
    assert np.abs(flat).max() <= 0.08
    # Of n draws from U(-a, a): standard error of the standard deviation a/sqrt(3).
    error = 0.08 / np.sqrt(3) * np.sqrt(0.2 / len(flat))
    assert abs(flat.std() - 0.08 / np.sqrt(3)) < 4 * error
    logits = controllers.independent((50,) * 200).init(jax.random.key(0))
    assert abs(float(logits.std()) - 1e-3) < 4 * 1e-3 / np.sqrt(2 * logits.size)


def test_gradients_are_finite_with_unlike_cardinalities():
    for make in MAKE.values():
        controller = make()
        weights = controller.init(jax.random.key(0))
        gradient = jax.grad(lambda w, c=controller: sum(c.evaluate(w, EVERY[0])))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient(weights)))


def test_baseline_is_the_moving_average_of_the_means():
    rng = np.random.default_rng(0)
    zero = jnp.zeros(())
    baseline = controllers.Baseline(zero, zero)
    numerator = denominator = 0.0
    for n in (1, 3, 2, 1, 4):
        rewards = rng.normal(90, 1, n).astype(np.float32)
        rewards[1:2] = -np.inf  # a failure, of those there are several
        known = rewards[np.isfinite(rewards)]
        numerator = 0.9 * numerator + 0.1 * known.mean()
        denominator = 0.9 * denominator + 0.1
        got, baseline = controllers.advantages(baseline, jnp.asarray(rewards), 0.9)
        expected = np.where(
            np.isfinite(rewards), rewards - numerator / denominator, 0.0
        )
        np.testing.assert_allclose(got, expected, atol=3e-5)  # 4 roundings of 90
    failed = jnp.full(2, -jnp.inf)
    got, same = controllers.advantages(baseline, failed, 0.9)
    assert got.tolist() == [0, 0] and same == baseline


def test_draws_are_repeated_until_valid():
    space = Tiny((4, 4), lambda g: g[0] == g[1])  # a quarter of all
    own = domain.of(space)
    keys = jax.random.split(jax.random.key(0), 2_000)

    def draw(key, ceiling):
        return jax.random.randint(key, (2,), 0, ceiling, jnp.int32)

    genes = jax.vmap(valid_draws(own, draw), (0, None))(keys, 4)
    assert space.valid(genes).all()
    counts = np.bincount(np.asarray(genes)[:, 0], minlength=4)
    assert ((counts - 500) ** 2 / 500).sum() < 16.3  # once in 1,000 keys
    # Nothing valid is ever drawn: the domain gives it.
    never = valid_draws(own, lambda key: jnp.array([0, 1]), tries=3)
    genes = np.asarray(jax.vmap(never)(keys))
    assert space.valid(genes).all() and len(np.unique(genes)) == 4
    # In a product nothing is added.
    assert valid_draws(domain.of(spaces.nasbench201()), draw) is draw
