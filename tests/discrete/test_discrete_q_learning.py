"""Q-learning against a plain loop with dictionaries, and tables with known values."""

import pathlib
import sys

import jax
import numpy as np
import pytest

from jnas import discrete
from jnas.errors import JnasError

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from listed import Tiny

SIZES = (2, 3, 1, 3)
SPACE = Tiny(SIZES)


def reward_of(genes):
    """Distinct scores in percent, with a choice that matters early."""
    g = np.asarray(genes)
    good = 20.0 * (g[..., 0] == g[..., 1]) + 10.0 * (g[..., 3] == 2)
    return (50 + good + 3.0 * g[..., 1] - g[..., 0]).astype(np.float32)


class Plain:
    """MetaQNN's agent over strings of genes, one update at a time, in float64."""

    def __init__(self, schedule, history, replays, memory):
        self.schedule, self.history = schedule, history
        self.replays, self.memory = replays, memory
        self.q, self.stored, self.unique = {}, [], 0

    def values(self, genes, place):
        before = tuple(int(g) for g in genes[max(0, place - self.history) : place])
        key = (place, before)
        return self.q.setdefault(key, [0.5] * SIZES[place])

    def epsilon(self):
        trained = self.unique
        for epsilon, number in self.schedule:
            if trained < number:
                return epsilon
            trained -= number
        return self.schedule[-1][0]

    def draw(self, explores, ranks):
        genes = []
        for place, size in enumerate(SIZES):
            values = self.values(genes, place)
            if explores[place] < self.epsilon():
                eligible = list(range(size))
            else:
                top = max(values)
                eligible = [a for a in range(size) if values[a] > top - 1e-7]
            genes.append(max(eligible, key=lambda a: ranks[place][a]))
        return genes

    def learn(self, genes, reward, key):
        genes = [int(g) for g in genes]
        known = [r for g, r in self.stored if g is not None and g == genes]
        self.unique += not known
        self.stored.append((genes, known[0] if known else reward))
        # The last `memory` are kept, each in the place of the one it replaced.
        kept = len(self.stored)
        if kept > self.memory:
            place = kept - 1 - self.memory
            self.stored[place] = (None, None)
        slots = {i % self.memory: s for i, s in enumerate(self.stored) if s[0]}
        for row in np.asarray(
            jax.random.randint(key, (self.replays,), 0, min(kept, self.memory))
        ):
            own, reward = slots[int(row)]
            worth = reward
            for place in reversed(range(len(SIZES))):
                values = self.values(own, place)
                values[own[place]] += 0.01 * (worth - values[own[place]])
                worth = max(values)


def table(agent, history):
    """The agent's array as the dictionary of the plain one."""
    result = {}
    most = max(SIZES)
    for place, q in enumerate(np.asarray(agent.q)):
        sizes = SIZES[max(0, place - history) : place]
        for before in np.ndindex(*sizes):
            state = 0
            for gene in before:
                state = state * most + gene
            result[place, tuple(map(int, before))] = q[state, : SIZES[place]]
    return result


@pytest.mark.parametrize(
    ("history", "memory"), [(1, 1000), (1, 7), (0, 1000), (2, 1000), (4, 1000)]
)
def test_equals_a_plain_agent_with_the_same_draws(history, memory):
    schedule = [(1.0, 5), (0.6, 6), (0.1, 3)]
    strategy = discrete.q_learning(
        SPACE, schedule=schedule, history=history, replays=16, memory=memory
    )
    plain = Plain(schedule, history, 16, memory)
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    state = strategy.init(jax.random.key(0))
    repeated, differ = 0, 0
    for number in range(60):
        key = jax.random.fold_in(state.key, number)
        first = jax.random.fold_in(key, 0)  # the first of the draws until valid
        explore_key, choice_key = jax.random.split(first)
        drawn = plain.draw(
            np.asarray(jax.random.uniform(explore_key, (4,))),
            np.asarray(jax.random.uniform(choice_key, (4, 3))),
        )
        proposal, state = ask(state)
        genes = np.asarray(proposal.genes)[0]
        differ += list(genes) != drawn
        unique = plain.unique
        # The score of a repetition differs, but the first one counts.
        score = reward_of(genes) + number
        state = tell(state, proposal, np.asarray([score]))
        own = jax.random.fold_in(state.key, np.int32(-1 - number))
        plain.learn(genes, score / 100, own)
        repeated += plain.unique == unique
        assert int(state.inner.unique) == plain.unique
    assert repeated > 5 and differ == 0
    got = table(state.inner, history)
    for key, values in plain.q.items():
        # float32 sums of thousands of small steps.
        np.testing.assert_allclose(got[key], values, atol=1e-5)
    assert np.ptp(np.concatenate(list(plain.q.values()))) > 0.1


def test_failures_contribute_nothing():
    strategy = discrete.q_learning(SPACE, replays=4)
    tell = jax.jit(strategy.tell)
    proposal, state = strategy.ask(strategy.init(jax.random.key(0)))
    for bad in (np.nan, np.inf, -np.inf):
        failed = tell(state, proposal, np.array([bad], np.float32))
        for a, b in zip(failed.inner, state.inner, strict=True):
            np.testing.assert_array_equal(a, b)
    after = tell(state, proposal, np.array([50], np.float32))
    assert int(after.inner.unique) == int(after.inner.written) == 1


def test_values_become_those_of_the_best_continuation():
    strategy = discrete.q_learning(
        SPACE, schedule=[(1.0, 10_000)], history=4, learning_rate=0.2, replays=64
    )

    def one(state, _):
        proposal, state = strategy.ask(state)
        g = proposal.genes
        good = 20.0 * (g[:, 0] == g[:, 1]) + 10.0 * (g[:, 3] == 2)
        score = 50 + good + 3.0 * g[:, 1] - g[:, 0]
        return strategy.tell(state, proposal, score), None

    run = jax.jit(lambda state: jax.lax.scan(one, state, length=150)[0])
    state = run(strategy.init(jax.random.key(1)))
    best = {
        (place, before): [
            max(
                reward_of(row) / 100
                for row in SPACE.rows
                if tuple(row[: place + 1]) == (*before, action)
            )
            for action in range(SIZES[place])
        ]
        for place, before in table(state.inner, 4)
    }
    for key, values in table(state.inner, 4).items():
        np.testing.assert_allclose(values, best[key], atol=1e-4)


def test_greedy_walk_finds_the_best_arm():
    strategy = discrete.q_learning(
        SPACE, schedule=[(1.0, 12), (0.05, 1)], learning_rate=0.1, history=3
    )

    def one(state, _):
        proposal, state = strategy.ask(state)
        g = proposal.genes
        score = 50 + 20.0 * (g[:, 0] == 1) + 10.0 * (g[:, 1] == 2) + 5.0 * g[:, 3]
        return strategy.tell(state, proposal, score), g[0]

    run = jax.jit(lambda state: jax.lax.scan(one, state, length=120))
    _, genes = run(strategy.init(jax.random.key(0)))
    assert (np.asarray(genes)[-30:] == [1, 2, 0, 2]).all(-1).mean() > 0.7


def test_equal_values_are_chosen_from_at_random():
    strategy = discrete.q_learning(Tiny((4, 4)), schedule=[(0.0, 1)])
    ask = jax.jit(strategy.ask, static_argnums=1)
    proposal, _ = ask(strategy.init(jax.random.key(0)), 1_600)
    counts = np.bincount(np.asarray(proposal.genes) @ [4, 1], minlength=16)
    # Pearson's statistic of 15 degrees of freedom: above 37.7 once in 1,000 keys.
    assert ((counts - 100) ** 2 / 100).sum() < 37.7


def test_draws_valid_candidates_only():
    space = Tiny((3, 3, 3), lambda g: sum(g) % 2 == 0)
    strategy = discrete.q_learning(space)
    ask = jax.jit(strategy.ask, static_argnums=1)
    proposal, _ = ask(strategy.init(jax.random.key(0)), 200)
    assert space.valid(proposal.genes).all()


def test_wrong_arguments_are_one_clear_line():
    for wrong, text in [
        ({"schedule": []}, "schedule must be pairs"),
        ({"schedule": 0.5}, "schedule must be pairs"),
        ({"schedule": [(1.5, 3)]}, r"epsilon of the schedule must be in \[0, 1\]"),
        ({"schedule": [(0.5, 0)]}, "number of the schedule must be an integer >= 1"),
        ({"history": -1}, "history must be an integer >= 0"),
        ({"replays": 0}, "replays must be"),
        ({"memory": 0}, "memory must be"),
        ({"learning_rate": 2}, "learning_rate must be"),
        ({"discount": -1}, "discount must be"),
        ({"first": -1}, "first must be"),
        ({"scale": 0}, "scale must be"),
    ]:
        with pytest.raises(JnasError, match=text):
            discrete.q_learning(SPACE, **wrong)
    with pytest.raises(JnasError, match="table of 1,464,843,750 values"):
        discrete.q_learning("nasbench201", history=11)
