"""NSGA-II against plain Python: survival, tournament, variation, fronts of a state."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from discrete.test_discrete_pareto import better, plain_crowding, plain_ranks

import jnas
from jnas import discrete
from jnas.discrete import variation
from jnas.errors import JnasError

# The room has a function of that name.
module = importlib.import_module("jnas.discrete.nsga2")
SPACE = jnas.spaces.nasbench201()


def two(genes):
    """Many against few, with ties."""
    genes = np.asarray(genes)
    return np.stack([genes[:, :3].sum(1), -genes[:, 2:].sum(1)], axis=1).astype(
        np.float32
    )


def test_survivors_are_the_best_fronts_and_the_least_crowded():
    size = 8
    strategy = discrete.nsga2(SPACE, population=size)
    ask, tell = jax.jit(strategy.ask, static_argnums=1), jax.jit(strategy.tell)
    state = strategy.init(jax.random.key(0))
    for generation in range(5):
        before = state.inner
        proposal, state = ask(state, size)
        results = two(proposal.genes)
        state = tell(state, proposal, results)
        pool = np.concatenate([np.asarray(proposal.genes)])
        scores = results
        if generation:
            pool = np.concatenate([np.asarray(before.genes), pool])
            scores = np.concatenate([np.asarray(before.scores), scores])
        rank = np.array(plain_ranks(scores.tolist()))
        apart = np.array(plain_crowding(scores.tolist(), rank.tolist()))
        # Who must be in, and how many of those that are tied for the last places.
        order = sorted(zip(rank, -apart, strict=True))
        limit = order[size - 1]
        kept = {tuple(g) for g in np.asarray(state.inner.genes).tolist()}
        assert len(kept) == size  # no duplicates
        for genes, r, a in zip(pool.tolist(), rank, apart, strict=True):
            if (r, -a) < limit:
                assert tuple(genes) in kept
            if (r, -a) > limit:
                assert tuple(genes) not in kept
        genes, values, mask = discrete.front(state)
        shown = np.asarray(values)[np.asarray(mask)]
        assert mask.any() and not any(better(b, a) for a in shown for b in scores)


def test_nothing_is_proposed_twice_while_it_lives():
    strategy = discrete.nsga2(SPACE, population=6)
    ask, tell = jax.jit(strategy.ask, static_argnums=1), jax.jit(strategy.tell)
    state = strategy.init(jax.random.key(1))
    for n in (1, 5, 5, 9, 1, 9, 5):  # few sizes: each is compiled
        alive = np.asarray(state.inner.genes)[: 6 * int(state.told >= 6)].tolist()
        alive += np.asarray(state.inner.offspring)[: int(state.told) % 6].tolist()
        proposal, state = ask(state, n)
        rows = alive + np.asarray(proposal.genes).tolist()
        assert len({tuple(r) for r in rows}) == len(rows)
        state = tell(state, proposal, two(proposal.genes))


def test_tournament_prefers_domination_then_room_then_chance():
    members = discrete.nsga2(SPACE, population=3).init(jax.random.key(0)).inner
    members = members._replace(
        scores=jnp.array([[1.0, 1.0], [2.0, 1.0], [0.0, 5.0]]),
        crowding=jnp.array([9.0, 0.0, 0.0]),
    )

    def winner(a, b, tie):
        return int(module.tournament(members, *map(jnp.asarray, (a, b, tie))))

    for tie in (False, True):
        assert winner(0, 1, tie) == winner(1, 0, tie) == 1  # dominates, though crowded
        assert winner(0, 2, tie) == winner(2, 0, tie) == 0  # less crowded
    assert winner(1, 2, True) == 1 and winner(1, 2, False) == 2


def test_crossover_takes_one_inner_segment():
    first, second = jnp.zeros(6, jnp.int32), jnp.ones(6, jnp.int32)
    keys = jax.random.split(jax.random.key(0), 300)
    rows = jax.vmap(lambda k: variation.two_point(k, first, second))(keys)
    patterns = {tuple(r) for r in np.asarray(rows).tolist()}
    # Segments [a, b) with 1 <= a < b <= 5.
    want = {
        tuple(int(a <= i < b) for i in range(6))
        for a in range(1, 6)
        for b in range(a + 1, 6)
    }
    assert patterns == want


def test_polynomial_mutation_has_its_distribution():
    """Against the textbook formula in NumPy, by the shares of each outcome."""
    sizes = jnp.array([5, 2, 9])
    genes = jnp.array([1, 0, 8])
    draws = 60_000
    keys = jax.random.split(jax.random.key(3), draws)
    rows = np.asarray(
        jax.vmap(lambda k: variation.polynomial(k, genes, sizes, 3.0))(keys)
    )
    rng = np.random.default_rng(0)
    for column, (value, many) in enumerate(zip([1, 0, 8], [5, 2, 9], strict=True)):
        low, high = -0.5, many - 0.5
        r = rng.random(draws)
        d1, d2 = (value - low) / (high - low), (high - value) / (high - low)
        left = (2 * r + (1 - 2 * r) * (1 - d1) ** 4) ** 0.25 - 1
        right = 1 - (2 * (1 - r) + 2 * (r - 0.5) * (1 - d2) ** 4) ** 0.25
        moved = np.rint(value + np.where(r <= 0.5, left, right) * (high - low))
        moved = np.where(rng.random(draws) < 1 / 3, moved, value)
        got = np.bincount(rows[:, column], minlength=many) / draws
        want = np.bincount(moved.astype(int), minlength=many) / draws
        # Both are estimates: five standard errors of their difference.
        error = np.sqrt(2 * want * (1 - want) / draws)
        assert np.all(np.abs(got - want) <= 5 * error + 1e-9)


def test_it_finds_more_of_the_front_than_random_search():
    evolved = discrete.nsga2(SPACE, population=10)
    ask, tell = jax.jit(evolved.ask, static_argnums=1), jax.jit(evolved.tell)

    def score(genes):  # a gene can serve one score or the other: 7 trade-offs
        genes = np.asarray(genes)
        return np.stack([(genes == 0).sum(1), (genes == 4).sum(1)], 1) * 1.0

    wins = []
    for seed in range(5):
        state = evolved.init(jax.random.key(seed))
        for _ in range(15):
            proposal, state = ask(state, 10)
            state = tell(state, proposal, score(proposal.genes))
        _, values, mask = discrete.front(state)
        own = discrete.hypervolume(np.asarray(values)[np.asarray(mask)], [0.0, 0.0])
        random = score(SPACE.random(seed, 150))
        wins.append(float(own) > float(discrete.hypervolume(random, [0.0, 0.0])))
    assert all(wins)


def test_wrong_arguments_are_one_clear_line():
    with pytest.raises(JnasError, match="population must be an integer >= 2"):
        discrete.nsga2(SPACE, population=1)
    with pytest.raises(JnasError, match="unknown mutation"):
        discrete.nsga2(SPACE, mutation="polynomail")
    random = discrete.random_search(SPACE)
    with pytest.raises(JnasError, match="front takes a state of nsga2"):
        discrete.front(random.init(jax.random.key(0)))
