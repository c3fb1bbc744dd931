"""Evolution against a plain loop over the same draws, and its mutations' chances."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import discrete, domain

SPACE = jnas.spaces.nasbench201()


@pytest.mark.parametrize("ageing", [True, False])
def test_parents_are_the_best_of_living_members(ageing):
    """With tournaments of nearly everyone the parent is the best one alive."""
    strategy = discrete.regularized_evolution(
        SPACE, population=5, sample=200, ageing=ageing
    )
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    state = strategy.init(jax.random.key(0))
    rng = np.random.default_rng(1)
    alive = []
    for number in range(60):
        proposal, state = ask(state)
        genes = np.asarray(proposal.genes[0])
        if number >= 5:
            parent = max(alive, key=lambda member: member[1])[0]
            assert int((genes != parent).sum()) == 1
        score = float(np.float32(rng.normal()))
        state = tell(state, proposal, jnp.asarray([score]))
        alive.append((genes, score))
        if len(alive) > 5:
            if ageing:
                alive.pop(0)
            else:
                alive.pop(int(np.argmin([member[1] for member in alive])))
    assert state.told == 60


def test_tournament_is_drawn_with_replacement():
    """The best of two of ten is the champion with chance 1 - (9/10)^2 = 0.19."""
    strategy = discrete.regularized_evolution(SPACE, population=10, sample=2)
    state = strategy.init(jax.random.key(0))
    proposal, state = strategy.ask(state, 10)
    genes = np.repeat(np.arange(10) % 5, 6).reshape(10, 6)
    genes[5:, :3] = 0  # ten members, each two apart in more than one gene
    proposal = proposal._replace(genes=jnp.asarray(genes, jnp.int32))
    scores = np.zeros(10, np.float32)
    scores[4] = 1.0
    state = strategy.tell(state, proposal, scores)
    children, _ = jax.jit(strategy.ask, static_argnums=1)(state, 4000)
    near = (np.asarray(children.genes) != genes[4]).sum(-1) == 1
    share, expected = near.mean(), 1 - 0.9**2
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)


def test_identity_keeps_the_parent():
    strategy = discrete.regularized_evolution(
        SPACE, population=1, sample=1, identity=0.3
    )
    state = strategy.init(jax.random.key(0))
    proposal, state = strategy.ask(state)
    state = strategy.tell(state, proposal, jnp.zeros(1))
    children, _ = jax.jit(strategy.ask, static_argnums=1)(state, 4000)
    same = (children.genes == proposal.genes).all(-1).mean()
    assert abs(float(same) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)


def frequencies(space, genes, kind, n):
    own = domain.of(space)
    keys = jax.random.split(jax.random.key(5), n)
    found = jax.jit(jax.vmap(lambda key: own.mutate(key, jnp.asarray(genes), kind)))(
        keys
    )
    counted = collections.Counter(map(tuple, np.asarray(found).tolist()))
    return {row: number / n for row, number in counted.items()}


def test_mutations_of_nasbench201():
    genes, n = np.array([0, 1, 2, 3, 4, 0], np.int32), 40000
    neighbours = {tuple(row) for row in SPACE.neighbours(genes).tolist()}
    uniform = frequencies(SPACE, genes, "uniform", n)
    assert uniform.keys() == neighbours
    for share in uniform.values():
        assert abs(share - 1 / 24) < 5 * np.sqrt(1 / 24 / n)
    # Node, then edge: 1<-0 with 1/3, into node 2 with 1/6, into node 3 with 1/9.
    per_edge = collections.Counter()
    for row, share in frequencies(SPACE, genes, "node", n).items():
        assert row in neighbours
        per_edge[int(np.flatnonzero(np.array(row) != genes)[0])] += share
    expected = [1 / 3, 1 / 6, 1 / 6, 1 / 9, 1 / 9, 1 / 9]
    for edge, chance in enumerate(expected):
        assert abs(per_edge[edge] - chance) < 5 * np.sqrt(chance / n)


def test_amoebanet_mutations_change_operation_or_edge_equally_often():
    space = jnas.spaces.darts()
    genes, n = space.random(3), 40000
    before = space.decode(genes)
    kinds, cells, nodes = (
        collections.Counter(),
        collections.Counter(),
        collections.Counter(),
    )
    for row, share in frequencies(space, genes, "amoebanet", n).items():
        after = space.decode(row)
        (name,) = [g for g in before.names if before[g] != after[g]]
        gone = set(before[name].edges) - set(after[name].edges)
        new = set(after[name].edges) - set(before[name].edges)
        (old_edge,), (new_edge,) = gone, new
        swapped = old_edge.source != new_edge.source
        cells[name] += share
        nodes[old_edge.target] += share
        if old_edge.target > 2:  # the first node has nothing else to choose
            kinds[swapped] += share
    assert abs(cells["normal"] - 0.5) < 5 * np.sqrt(0.25 / n)
    for chance in nodes.values():
        assert abs(chance - 0.25) < 5 * np.sqrt(0.25 / n)
    assert abs(kinds[True] - 0.375) < 5 * np.sqrt(0.375 / n)


@pytest.mark.parametrize(
    "name", ["nasbench201", "darts", "darts_rnn", "s1", "s2", "s4"]
)
def test_domain_agrees_with_the_space(name):
    space = (
        jnas.spaces.robust_darts(name.upper())
        if name[0] == "s"
        else jnas.spaces.get(name)
    )
    own = domain.of(space)
    neighbours, valid = jax.jit(own.neighbours), jax.jit(own.valid)
    for genes in space.random(7, 12):
        rows, exists = neighbours(genes)
        rows = np.asarray(rows)[np.asarray(exists)]
        assert sorted(map(tuple, rows)) == sorted(map(tuple, space.neighbours(genes)))
        assert bool(valid(genes))
        assert not bool(valid(np.asarray(space.genes, np.int32)))
    drawn = jax.jit(jax.vmap(own.sample))(jax.random.split(jax.random.key(0), 500))
    assert space.valid(np.asarray(drawn)).all()
    for i, number in enumerate(space.genes):
        assert len(np.unique(np.asarray(drawn)[:, i])) == number or number > 20
    codes = np.asarray(jax.vmap(own.identity)(drawn))
    assert len(np.unique(codes, axis=0)) == len(np.unique(np.asarray(drawn), axis=0))


@pytest.mark.parametrize(
    "arguments",
    [{"population": 0}, {"sample": 1.5}, {"mutation": "point"}, {"identity": 2}],
)
def test_wrong_arguments(arguments):
    with pytest.raises(jnas.JnasError, match=next(iter(arguments))):
        discrete.regularized_evolution(SPACE, **arguments)
