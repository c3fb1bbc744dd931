"""PPO against the clipped gradient by hand, and bandits with known rewards."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import discrete
from jnas.discrete import controller as controllers
from jnas.errors import JnasError

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from listed import EVERY, SPACE, Tiny, flat, plain, told

UNITS = {"units": 3, "weights": 1.0}
SLOPES = jax.jit(jax.jacobian(controllers.lstm(SPACE.genes, 3, 1, 1.0).evaluate))


@functools.cache  # so that its functions are compiled once
def made(**settings):
    return discrete.ppo(SPACE, **settings)


def small(**rest):
    return made(**{"epochs": 1, "entropy": 0.0, "scale": 1.0, **UNITS, **rest})


def asked(strategy, n):
    ask = jax.jit(strategy.ask, static_argnums=1)
    return ask(jax.jit(strategy.init)(jax.random.key(0)), n)


def taken(state):
    """Gradient of the first step, from Adam's first moment, zero before."""
    return flat(state.inner.optimizer[0].mu) / 0.1


def by_hand(params, genes, before, scores, average, clip, entropy):
    """Gradient of minus the surrogate, candidate by candidate."""
    total, flags = 0.0, []
    for row, old, score in zip(genes, before, scores, strict=True):
        q = np.exp(plain(params, row)[0] - old)
        advantage = score - average
        clipped = (advantage > 0 and q > 1 + clip) or (advantage < 0 and q < 1 - clip)
        flags.append((clipped, advantage > 0))
        slope, spread = map(flat, SLOPES(params, row))
        total += (0.0 if clipped else q * advantage) * slope + entropy * spread
    return -total / len(genes), flags


def moved(strategy, state, seed=0, size=0.5):
    """The state with other parameters, as if it had learned since."""
    leaves, treedef = jax.tree.flatten(state.inner.params)
    rng = np.random.default_rng(seed)
    new = [x + rng.normal(0, size, x.shape).astype(np.float32) for x in leaves]
    params = treedef.unflatten(new)
    return state._replace(inner=state.inner._replace(params=params))


@pytest.mark.parametrize("entropy", [0.0, 0.3])
def test_clipped_gradient_equals_one_by_hand(entropy):
    strategy = small(entropy=entropy)
    proposal, state = asked(strategy, 12)
    genes = np.asarray(proposal.genes)
    before = [plain(state.inner.params, row)[0] for row in genes]
    state = moved(strategy, state)
    scores = np.random.default_rng(1).normal(0, 1, 12).astype(np.float32)
    order = np.random.default_rng(2).permutation(12)  # told in another order
    told_ = told(strategy, state, genes[order], scores[order], ids=order)
    expected, flags = by_hand(
        state.inner.params, genes, before, scores, scores.mean(), 0.2, entropy
    )
    assert {(True, True), (True, False), (False, True), (False, False)} == set(flags)
    # float32 with ratios of some units.
    np.testing.assert_allclose(taken(told_), expected, atol=2e-5)
    assert np.abs(expected).max() > 0.05


def test_told_in_parts_each_part_is_a_step():
    strategy = small()
    proposal, state = asked(strategy, 12)
    genes = np.asarray(proposal.genes)[:6]
    before = [plain(state.inner.params, row)[0] for row in genes]
    state = moved(strategy, state)
    first = told(strategy, state, genes[4:], [1.0, 2.0], ids=[4, 5])
    second = told(strategy, first, genes[:2], [3.0, -1.0], ids=[0, 1])
    average = (0.95 * 0.05 * 1.5 + 0.05 * 1.0) / (0.95 * 0.05 + 0.05)
    expected, _ = by_hand(
        first.inner.params, genes[:2], before[:2], [3.0, -1.0], average, 0.2, 0.0
    )
    got = flat(second.inner.optimizer[0].mu) - 0.9 * flat(first.inner.optimizer[0].mu)
    np.testing.assert_allclose(got / 0.1, expected, atol=2e-5)


def test_what_was_forgotten_counts_as_drawn_now():
    strategy = small(pending=4)
    proposal, state = asked(strategy, 7)  # 3..6 kept
    genes = np.asarray(proposal.genes)
    assert sorted(np.asarray(state.inner.pending.id)) == [3, 4, 5, 6]
    kept = [plain(state.inner.params, row)[0] for row in genes]
    state = moved(strategy, state)
    now = [plain(state.inner.params, row)[0] for row in genes]
    scores = np.arange(7.0)
    expected, _ = by_hand(
        state.inner.params, genes, now[:3] + kept[3:], scores, 3.0, 0.2, 0.0
    )
    after = told(strategy, state, genes, scores)
    np.testing.assert_allclose(taken(after), expected, atol=2e-5)


def test_ratios_far_from_one_do_not_overflow():
    strategy = small()
    proposal, state = asked(strategy, 12)
    pending = state.inner.pending._replace(log_prob=jnp.full(1000, -200.0))
    state = state._replace(inner=state.inner._replace(pending=pending))
    after = told(strategy, state, proposal.genes[:2], [0.0, 1.0])
    assert np.isfinite(flat(after.inner)).all()


def test_epochs_are_steps_at_the_new_parameters():
    one, three = small(learning_rate=0.1), small(learning_rate=0.1, epochs=3)
    proposal, state = asked(one, 8)
    scores = np.arange(8.0, dtype=np.float32)
    expected = state
    for _ in range(3):
        stepped = told(one, expected, proposal.genes, scores)
        baseline = controllers.Baseline(*(jnp.zeros(()),) * 2)  # its mean is the same
        expected = stepped._replace(inner=stepped.inner._replace(baseline=baseline))
    got = told(three, state, proposal.genes, scores)
    np.testing.assert_allclose(
        flat(got.inner.params), flat(expected.inner.params), atol=1e-5
    )
    assert np.abs(flat(got.inner.params) - flat(state.inner.params)).max() > 0.2


def test_failures_contribute_nothing():
    strategy = small(entropy=0.5, epochs=2)
    proposal, state = asked(strategy, 5)
    genes = np.asarray(proposal.genes)
    mixed = told(strategy, state, genes[:3], [80.0, np.nan, 85.0])
    clean = told(strategy, state, genes[[0, 2]], [80.0, 85.0], ids=[0, 2])
    np.testing.assert_allclose(flat(mixed.inner), flat(clean.inner), atol=1e-5)
    failed = told(strategy, state, genes[:2], [np.nan, -np.inf])
    np.testing.assert_array_equal(flat(failed.inner), flat(state.inner))


def test_scores_are_divided_by_the_scale():
    percent, share = small(scale=100.0), small(scale=1.0)
    proposal, state = asked(share, 12)
    genes = proposal.genes[:4]
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    a = told(percent, state, genes, 100 * scores)
    b = told(share, state, genes, scores)
    np.testing.assert_allclose(taken(a), taken(b), atol=1e-6)


def test_finds_the_best_arm():
    strategy = small(epochs=4, learning_rate=0.01, batch=16)
    rewards = jnp.asarray(0.1 * np.arange(len(EVERY)), jnp.float32)

    def one(state, _):
        proposal, state = strategy.ask(state)
        same = jnp.all(proposal.genes[:, None] == EVERY[None], axis=-1)
        return strategy.tell(state, proposal, rewards[jnp.argmax(same, -1)]), None

    run = jax.jit(lambda state: jax.lax.scan(one, state, length=150)[0])
    state = run(strategy.init(jax.random.key(1)))
    p = np.exp([plain(state.inner.params, row)[0] for row in EVERY])
    assert p.argmax() == len(EVERY) - 1 and p[-1] > 0.9


def test_published_settings_are_the_defaults():
    strategy = discrete.ppo("nasbench201")
    weights = strategy.init(jax.random.key(0)).inner.params
    assert weights.kernels.shape == (1, 200, 400)
    assert 0.099 < np.abs(flat(weights)).max() <= 0.1
    config = strategy.config
    assert (config["learning_rate"], config["entropy"]) == (3.5e-4, 1e-5)
    assert config["decay"] == 0.95


def test_draws_valid_candidates_only():
    space = Tiny((3, 3, 3), lambda g: sum(g) % 2 == 0)
    strategy = discrete.ppo(space, units=4)
    proposal, _ = asked(strategy, 200)
    assert space.valid(proposal.genes).all()


def test_wrong_arguments_are_one_clear_line():
    for name, wrong in [
        ("batch", 0), ("epochs", 0), ("clip", 0.0), ("learning_rate", -1),
        ("entropy", -1), ("decay", 2), ("scale", 0), ("pending", 0), ("units", 0),
        ("layers", 0), ("weights", "wide"),
    ]:  # fmt: skip
        with pytest.raises(JnasError, match=f"{name} must be .*, got"):
            discrete.ppo(SPACE, **{name: wrong})
