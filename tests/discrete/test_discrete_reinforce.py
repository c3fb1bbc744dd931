"""REINFORCE against enumeration, a plain loop, and bandits with known rewards."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import discrete
from jnas.discrete.base import Proposal
from jnas.errors import JnasError

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from listed import EVERY, SPACE, Tiny, flat, plain, told

REWARDS = np.random.default_rng(0).normal(90, 3, len(EVERY)).astype(np.float32)
MAKE = {
    "independent": lambda **rest: discrete.reinforce(SPACE, **rest),
    "lstm": lambda **rest: discrete.reinforce(
        SPACE, policy="lstm", units=3, scale=2.0, **rest
    ),
}


def gradient(state):
    """What Adam's first moment took in, if it was zero before: 0.1 of the gradient."""
    return jax.tree.map(lambda x: np.asarray(x) / 0.1, state.inner.optimizer[0].mu)


def each_gradient(strategy, state):
    tell = jax.jit(
        jax.vmap(
            lambda genes, score: gradient_of(
                strategy.tell(
                    state, Proposal(genes[None], jnp.ones(1), jnp.arange(1)), score
                )
            )
        )
    )
    return np.asarray(tell(EVERY, REWARDS[:, None]), np.float64)


def gradient_of(state):
    leaves = jax.tree.leaves(state.inner.optimizer[0].mu)
    return jnp.concatenate([jnp.ravel(x) for x in leaves]) / 0.1


def probabilities(params):
    return np.exp([plain(params, genes)[0] for genes in EVERY])


@pytest.mark.parametrize("name", MAKE)
def test_expected_gradient_is_that_of_the_expected_reward(name):
    strategy = MAKE[name]()
    # One reward first: its advantage is 0, so Adam's moments stay 0.
    state = told(strategy, strategy.init(jax.random.key(0)), EVERY[3], [91.0])
    assert not flat(gradient(state)).any()
    params = state.inner.params
    p = probabilities(params)
    mean = p @ each_gradient(strategy, state)
    # Of the reward itself the baseline holds w = 0.1 / (0.9 * 0.1 + 0.1).
    w = 0.1 / 0.19
    leaves, treedef = jax.tree.flatten(params)
    leaves = [np.array(x, np.float64) for x in leaves]

    def expected_reward():
        return probabilities(treedef.unflatten(leaves)) @ REWARDS

    slopes = []
    for leaf in leaves:
        for place in np.ndindex(leaf.shape):
            kept, ends = leaf[place], []
            for step in (1e-5, -1e-5):
                leaf[place] = kept + step
                ends.append(expected_reward())
            leaf[place] = kept
            slopes.append((ends[0] - ends[1]) / 2e-5)
    slopes = np.array(slopes)
    assert np.abs(slopes).max() > 0.1
    # float32 gradients of size 10 cancel in the sum.
    np.testing.assert_allclose(-mean / (1 - w), slopes, atol=2e-5)


@pytest.mark.parametrize("name", MAKE)
def test_baseline_reduces_the_variance(name):
    start = MAKE[name]().init(jax.random.key(0))
    p = probabilities(start.inner.params)
    none = MAKE[name](decay=1.0)
    alone = each_gradient(none, start)
    strategy = MAKE[name]()
    # A first reward has the advantage 0 and moves nothing but the baseline.
    state = told(strategy, start, EVERY[3], [91.0])
    np.testing.assert_array_equal(flat(state.inner.params), flat(start.inner.params))
    w = 0.1 / 0.19  # see the test before
    reduced = each_gradient(strategy, state) / (1 - w)
    means = [p @ each for each in (alone, reduced)]
    # float32 gradients of size 100 cancel in the sums.
    np.testing.assert_allclose(*means, atol=2e-4)
    variances = [
        p @ ((each - mean) ** 2).sum(-1)
        for each, mean in zip((alone, reduced), means, strict=True)
    ]
    # Rewards are 90 +- 3: the second moment falls by about (3 / 90)^2.
    assert variances[1] < 0.01 * variances[0]


def test_equals_the_plain_loop_of_nasbench201():
    space = jnas.spaces.nasbench201()
    strategy = discrete.reinforce(space)
    state = strategy.init(jax.random.key(0))
    logits = np.asarray(state.inner.params, np.float64)
    mu, nu, total, weight = 0.0, 0.0, 0.0, 0.0
    for step in range(1, 31):
        proposal, state = strategy.ask(state)
        genes = np.asarray(proposal.genes)[0]
        reward = 60 + 7.0 * (genes == 3).sum() - 2.0 * (genes == 0).sum()
        state = strategy.tell(state, proposal, np.array([reward], np.float32))
        total, weight = 0.9 * total + 0.1 * reward, 0.9 * weight + 0.1
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        g = -(np.eye(5)[genes] - p) * (reward - total / weight)
        mu, nu = 0.9 * mu + 0.1 * g, 0.999 * nu + 0.001 * g * g
        size = np.sqrt(nu / (1 - 0.999**step)) + 1e-8
        logits = logits - 0.01 * mu / (1 - 0.9**step) / size
        np.testing.assert_allclose(state.inner.params, logits, atol=2e-5)
    assert np.ptp(logits) > 0.1


def test_failures_contribute_nothing():
    for make in MAKE.values():
        strategy = make(entropy=0.5)
        state = told(strategy, strategy.init(jax.random.key(0)), EVERY[:2], [80, 90])
        mixed = told(strategy, state, EVERY[2:5], [80.0, np.nan, 85.0])
        clean = told(strategy, state, EVERY[[2, 4]], [80.0, 85.0])
        # The sums have another number of terms.
        np.testing.assert_allclose(flat(mixed.inner), flat(clean.inner), atol=1e-6)
        failed = told(strategy, state, EVERY[2:4], [np.nan, np.inf])
        np.testing.assert_array_equal(flat(failed.inner), flat(state.inner))
        first = strategy.init(jax.random.key(0))
        failed = told(strategy, first, EVERY[:1], [np.nan])
        np.testing.assert_array_equal(flat(failed.inner), flat(first.inner))


def test_order_within_a_call_does_not_matter_and_numbers_neither():
    for make in MAKE.values():
        strategy = make()
        state = told(strategy, strategy.init(jax.random.key(0)), EVERY[0], [90])
        ahead = told(strategy, state, EVERY[:3], [80, 90, 85])
        back = told(strategy, state, EVERY[[2, 0, 1]], [85, 80, 90], ids=[7, 5, 9])
        np.testing.assert_allclose(flat(ahead.inner), flat(back.inner), atol=1e-6)


def converged(strategy, steps, n):
    rewards = jnp.asarray(90 + 0.3 * np.arange(len(EVERY)), jnp.float32)

    def one(state, _):
        proposal, state = strategy.ask(state, n)
        same = jnp.all(proposal.genes[:, None] == EVERY[None], axis=-1)
        return strategy.tell(state, proposal, rewards[jnp.argmax(same, -1)]), None

    run = jax.jit(lambda state: jax.lax.scan(one, state, length=steps)[0])
    state = run(strategy.init(jax.random.key(1)))
    return probabilities(state.inner.params)


@pytest.mark.parametrize(
    ("name", "steps", "n"), [("independent", 2_000, 1), ("lstm", 500, 8)]
)
def test_finds_the_best_arm(name, steps, n):
    before = probabilities(MAKE[name]().init(jax.random.key(1)).inner.params)
    rate = None if name == "independent" else 0.01
    after = converged(MAKE[name](learning_rate=rate), steps, n)
    assert before[-1] < 0.5 and after.argmax() == len(EVERY) - 1 and after[-1] > 0.9


def test_entropy_keeps_a_policy_open():
    alone, open_ = (
        converged(MAKE["independent"](entropy=e), 1_000, 4) for e in (0.0, 100.0)
    )
    assert alone.max() > 0.9 and open_.max() < 0.15  # 12 candidates


def test_draws_valid_candidates_only():
    space = Tiny((3, 3, 3), lambda g: sum(g) % 2 == 0)
    for policy in ("independent", "lstm"):
        strategy = discrete.reinforce(space, policy=policy)
        ask = jax.jit(strategy.ask, static_argnums=1)
        proposal, _ = ask(strategy.init(jax.random.key(0)), 200)
        assert space.valid(proposal.genes).all()


def test_wrong_arguments_are_one_clear_line():
    for wrong, text in [
        ({"policy": "gru"}, "unknown policy 'gru'"),
        ({"learning_rate": 0}, "learning_rate must be finite and > 0"),
        ({"decay": 1.5}, r"decay must be in \[0, 1\]"),
        ({"entropy": -1}, "entropy must be finite and >= 0"),
        ({"policy": "lstm", "units": 0}, "units must be an integer >= 1"),
        ({"policy": "lstm", "layers": 1.5}, "layers must be an integer >= 1"),
        ({"policy": "lstm", "scale": np.inf}, "scale must be finite and > 0"),
    ]:
        with pytest.raises(JnasError, match=text):
            discrete.reinforce(SPACE, **wrong)
