"""The genetic algorithm: who breeds, how often genes change, what is never repeated."""

import pathlib
import sys

import jax
import numpy as np
import pytest

import jnas
from jnas import discrete
from jnas.errors import JnasError

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from listed import Tiny

SPACE = jnas.spaces.nasbench201()


def asked(strategy, state, n=None):
    proposal, state = jax.jit(strategy.ask, static_argnums=1)(state, n)
    return np.asarray(proposal.genes), proposal, state


def bred(genes, scores, many, **settings):
    """Children of told candidates: all of the same kind, repetitions allowed."""
    strategy = discrete.genetic(
        SPACE, population=len(genes), elite=len(genes), memory=0, **settings
    )
    _, proposal, state = asked(strategy, strategy.init(jax.random.key(0)))
    proposal = proposal._replace(genes=np.asarray(genes, np.int32))
    state = jax.jit(strategy.tell)(state, proposal, np.asarray(scores, np.float32))
    return asked(strategy, state, many)[0]


def test_elite_is_the_best_of_all_told():
    strategy = discrete.genetic(SPACE, population=8, elite=5, mutants=4, crossovers=4)
    tell = jax.jit(strategy.tell)
    state = strategy.init(jax.random.key(0))
    rng, scores, rows = np.random.default_rng(0), [], []
    for n in (3, 8, 1, 20, 5):
        genes, proposal, state = asked(strategy, state, n)
        told = rng.normal(size=n).astype(np.float32)
        told[rng.random(n) < 0.3] = np.nan
        state = tell(state, proposal, told)
        scores += list(np.where(np.isfinite(told), told, -np.inf))
        rows += list(genes)
        order = np.argsort(scores)[::-1][: min(5, np.isfinite(scores).sum())]
        got = np.asarray(state.inner.score)
        place = np.argsort(got)[::-1][: len(order)]
        np.testing.assert_array_equal(got[place], np.array(scores)[order])
        np.testing.assert_array_equal(
            np.asarray(state.inner.genes)[place], np.array(rows)[order]
        )
    assert len(scores) == 37


def test_mutants_change_each_gene_with_the_rate():
    many, rate = 4_000, 0.1
    parent = np.full((1, 6), 2)
    genes = bred(parent, [1.0], many, mutants=1, crossovers=0, mutation_rate=rate)
    # A gene drawn anew is the same in one of five.
    changed, p = (genes != 2).mean(0), rate * 0.8
    assert np.abs(changed - p).max() < 4 * np.sqrt(p * (1 - p) / many)
    both = ((genes[:, 0] != 2) & (genes[:, 1] != 2)).mean()
    assert abs(both - p * p) < 4 * np.sqrt(p * p / many)
    values = np.bincount(genes[genes != 2], minlength=5)
    expected = values.sum() / 4
    assert values[2] == 0
    # Pearson's statistic of 3 degrees of freedom: above 16.3 once in 1,000 keys.
    assert ((values[[0, 1, 3, 4]] - expected) ** 2 / expected).sum() < 16.3


def test_uniform_crossover_mixes_two_parents():
    many = 4_000
    parents = np.repeat(np.arange(3)[:, None], 6, axis=1)
    genes = bred(parents, [1.0, 2.0, 3.0], many, mutants=0, crossovers=3)
    kinds = [frozenset(row) for row in genes]
    assert max(map(len, kinds)) == 2
    # Two of three with replacement; 2 in 64 mixtures of two take from one only.
    mixed = np.mean([len(kind) == 2 for kind in kinds])
    p = 2 / 3 * 62 / 64
    assert abs(mixed - p) < 4 * np.sqrt(p * (1 - p) / many)
    shares = np.array([(genes == k).mean() for k in range(3)])
    assert np.abs(shares - 1 / 3).max() < 4 * np.sqrt(2 / 9 / many)


def test_two_point_crossover_takes_one_segment():
    many = 4_000
    parents = np.repeat(np.arange(2)[:, None], 6, axis=1)
    genes = bred(
        parents, [1.0, 2.0], many, mutants=0, crossovers=2, crossover="two_point"
    )
    switches = (np.diff(genes, axis=1) != 0).sum(1)
    assert set(switches) == {0, 1, 2}
    # Two parents that differ: chance 1/2; a segment [a, b) of places 0..6 that
    # is neither empty (7/49) nor all (2/49): 40/49.
    p = 0.5 * 40 / 49
    assert abs((switches > 0).mean() - p) < 4 * np.sqrt(p * (1 - p) / many)


def test_generations_have_mutants_then_crossovers_then_random_ones():
    strategy = discrete.genetic(
        SPACE, population=10, elite=2, mutants=4, crossovers=3, mutation_rate=0.0,
        memory=0,
    )  # fmt: skip
    genes, proposal, state = asked(strategy, strategy.init(jax.random.key(3)))
    state = jax.jit(strategy.tell)(state, proposal, np.arange(10.0, dtype=np.float32))
    best = genes[-2:]
    for _ in range(3):
        children, _, state = asked(strategy, state)
        for child in children[:4]:  # without changes a mutant is its parent
            assert (best == child).all(-1).any()
        for child in children[4:7]:
            assert ((child == best[0]) | (child == best[1])).all()
        for child in children[7:]:
            assert not ((child == best[0]) | (child == best[1])).all()


def test_before_anything_succeeded_candidates_are_random():
    strategy = discrete.genetic(SPACE, population=4, elite=2, mutants=2, crossovers=2)
    _, proposal, state = asked(strategy, strategy.init(jax.random.key(0)))
    state = strategy.tell(state, proposal, np.full(4, np.nan, np.float32))
    genes, _, _ = asked(strategy, state, 2_000)
    counts = np.array([np.bincount(column, minlength=5) for column in genes.T])
    # 24 degrees of freedom: above 51.2 once in 1,000 keys.
    assert ((counts - 400) ** 2 / 400).sum() < 51.2


def test_nothing_is_asked_twice_while_there_is_anything_else():
    space = Tiny((3, 3, 3))
    for memory, repeats in ((1000, False), (0, True)):
        strategy = discrete.genetic(
            space, population=4, elite=2, mutants=2, crossovers=2, memory=memory
        )
        state, rows = strategy.init(jax.random.key(0)), []
        for _ in range(3):
            genes, proposal, state = asked(strategy, state)
            scores = -np.abs(genes - 1).sum(-1).astype(np.float32)
            state = jax.jit(strategy.tell)(state, proposal, scores)
            rows += [tuple(row) for row in genes]
        assert (len(set(rows)) < 12) == repeats
    # More than there are: it goes on, with repetitions.
    strategy = discrete.genetic(space, population=4, mutants=2, crossovers=2)
    genes, _, _ = asked(strategy, strategy.init(jax.random.key(0)), 60)
    assert len({tuple(row) for row in genes}) == 27


def test_memory_is_a_ring():
    space = Tiny((2, 2))
    strategy = discrete.genetic(space, population=4, mutants=2, crossovers=2, memory=3)
    genes, _, _ = asked(strategy, strategy.init(jax.random.key(1)), 40)
    for i in range(3, 40):  # of four candidates, three are remembered
        assert not (genes[i - 3 : i] == genes[i]).all(-1).any()


def test_children_are_valid_in_a_space_that_is_no_product():
    space = Tiny((3, 3, 3, 3), lambda g: sum(g) % 3 == 0)
    for crossover in ("uniform", "two_point"):
        strategy = discrete.genetic(
            space, population=6, elite=4, mutants=3, crossovers=3, memory=0,
            mutation_rate=0.5, crossover=crossover,
        )  # fmt: skip
        _, proposal, state = asked(strategy, strategy.init(jax.random.key(0)))
        state = strategy.tell(state, proposal, np.arange(6.0, dtype=np.float32))
        genes, _, _ = asked(strategy, state, 600)
        assert space.valid(genes).all()


def test_finds_the_top_of_a_hill():
    space = Tiny((5,) * 6)
    found = {}
    for name, strategy in [
        ("genetic", discrete.genetic(space, population=20, mutants=10, crossovers=10)),
        ("random", discrete.random_search(space)),
    ]:
        state = strategy.init(jax.random.key(0))
        tell = jax.jit(strategy.tell)
        for _ in range(15):
            genes, proposal, state = asked(strategy, state, 20)
            scores = -np.abs(genes - np.array([4, 0, 3, 1, 2, 4])).sum(-1)
            state = tell(state, proposal, scores.astype(np.float32))
        found[name] = float(strategy.best(state)[1])
    assert found["genetic"] == 0.0 > found["random"]


def test_wrong_arguments_are_one_clear_line():
    for wrong, text in [
        ({"population": 0}, "population must be an integer >= 1"),
        ({"elite": 0}, "elite must be an integer >= 1"),
        ({"mutants": -1}, "mutants must be an integer >= 0"),
        ({"crossovers": 1.5}, "crossovers must be an integer >= 0"),
        ({"memory": -1}, "memory must be an integer >= 0"),
        ({"mutation_rate": 2}, r"mutation_rate must be in \[0, 1\]"),
        ({"crossover": "one_point"}, "unknown crossover 'one_point'"),
        ({"population": 40}, "25 mutants and 25 crossovers do not fit in a population"),
    ]:
        with pytest.raises(JnasError, match=text):
            discrete.genetic(SPACE, **wrong)
