"""Local search against its rules in plain Python, on a space that it exhausts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import discrete

GROUP = jnas.spaces.Group(
    "cell", ("none", "skip", "conv"), ((0, 1), (0, 2), (1, 2)), 1, (2,)
)
SPACE = jnas.Space("small", (GROUP,))  # 27 candidates


@functools.cache
def landscape(seed):
    return np.random.default_rng(seed).permutation(27).astype(np.float32)


def place(genes):
    return int(np.ravel_multi_index(tuple(genes), (3, 3, 3)))


class Rules:
    """What may be proposed next, by the paper's rules, one candidate at a time."""

    def __init__(self, initial, query, at_minimum):
        self.initial, self.query, self.at_minimum = initial, query, at_minimum
        self.scores, self.explored = {}, set()
        self.begin()

    def begin(self):
        self.starts, self.centre, self.best_neighbour = 0, None, None

    def open_neighbours(self):
        rows = map(tuple, SPACE.neighbours(self.centre).tolist())
        return {row for row in rows if row not in self.scores}

    def allowed(self):
        everything = set(np.ndindex(3, 3, 3))
        unseen = everything - set(self.scores) or everything
        if self.starts < self.initial:
            return unseen, True
        while not self.open_neighbours():
            if self.query == "full" and self.best_neighbour is not None:
                self.move(self.best_neighbour)
                continue
            self.explored.add(self.centre)
            rest = [g for g in self.scores if g not in self.explored]
            if self.at_minimum == "continue" and rest:
                self.move(max(rest, key=self.scores.get))
                if not self.open_neighbours():
                    return unseen, True
                continue
            self.begin()
            return unseen, True
        return self.open_neighbours(), False

    def move(self, genes):
        self.explored.add(self.centre)
        self.centre, self.best_neighbour = genes, None

    def tell(self, genes, score, is_start):
        self.scores[genes] = score
        here = -np.inf if self.centre is None else self.scores[self.centre]
        if is_start:
            self.starts += 1
            if score > here:
                self.centre = genes
        elif score > here:
            if self.query == "first":
                self.move(genes)
            elif (
                self.best_neighbour is None or score > self.scores[self.best_neighbour]
            ):
                self.best_neighbour = genes


@pytest.mark.parametrize("query", ["first", "full"])
@pytest.mark.parametrize("at_minimum", ["restart", "continue"])
def test_each_candidate_is_allowed_by_the_rules(query, at_minimum):
    strategy = discrete.local_search(
        SPACE, initial=2, query=query, at_minimum=at_minimum, capacity=40
    )
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    moved = 0
    for seed in range(12):
        values = landscape(seed)
        rules = Rules(2, query, at_minimum)
        state = strategy.init(jax.random.key(seed))
        for number in range(27):
            proposal, state = ask(state)
            genes = tuple(np.asarray(proposal.genes[0]).tolist())
            allowed, is_start = rules.allowed()
            assert genes in allowed, (seed, number)
            rules.tell(genes, values[place(genes)], is_start)
            moved += not is_start
            state = tell(state, proposal, jnp.asarray(values[place(genes)])[None])
        # All 27 were seen, each once.
        assert len(rules.scores) == 27
        assert float(strategy.best(state)[1]) == 26
    assert moved > 50


def test_goes_on_when_everything_was_seen():
    strategy = discrete.local_search(SPACE, initial=2, capacity=100)
    state = strategy.init(jax.random.key(0))
    ask, tell = jax.jit(strategy.ask, static_argnums=1), jax.jit(strategy.tell)
    for _ in range(5):
        proposal, state = ask(state, 10)
        genes = np.asarray(proposal.genes)
        assert SPACE.valid(genes).all()
        state = tell(state, proposal, landscape(0)[[place(g) for g in genes]])
    assert float(strategy.best(state)[1]) == 26


def test_climbs_to_the_top_of_a_single_hill():
    space = jnas.spaces.nasbench201()
    strategy = discrete.local_search(space, initial=5)
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    state = strategy.init(jax.random.key(1))
    for _ in range(150):
        proposal, state = ask(state)
        state = tell(state, proposal, -jnp.sum(jnp.abs(proposal.genes - 2.0), -1))
    genes, value = strategy.best(state)
    assert float(value) == 0
    np.testing.assert_array_equal(genes, [2] * 6)


@pytest.mark.parametrize(
    "arguments", [{"query": "all"}, {"at_minimum": "stop"}, {"initial": 0}]
)
def test_wrong_arguments(arguments):
    with pytest.raises(jnas.JnasError, match=next(iter(arguments))):
        discrete.local_search(SPACE, **arguments)


def test_what_is_beyond_the_capacity_never_becomes_the_centre():
    strategy = discrete.local_search("nasbench201", initial=2, capacity=6)
    state = strategy.init(jax.random.key(0))
    for _ in range(30):
        proposal, state = strategy.ask(state)
        state = strategy.tell(state, proposal, proposal.genes.sum(-1) * 1.0)
    assert 0 <= int(state.inner.centre) < 6
