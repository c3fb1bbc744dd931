"""PNAS against plain Python: blocks, tokens, levels, ranking."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import discrete
from jnas.discrete.blocks import blocks, tokens
from jnas.errors import JnasError

NB201 = jnas.spaces.nasbench201()
S2 = jnas.spaces.robust_darts("S2")
DARTS = jnas.spaces.darts()
SMALL = {"ensemble": 3, "embedding": 4, "hidden": (4,), "epochs": 2, "minibatch": 8}


@functools.cache
def made(space, **more):
    strategy = discrete.pnas(space, **{**SMALL, **more})
    return strategy, jax.jit(strategy.ask, static_argnums=1), jax.jit(strategy.tell)


def score(genes):
    return -np.abs(np.asarray(genes) - 2).sum(-1).astype(np.float32)


def levels(own, state, sizes):
    """Asks and tells level by level; returns states before, and genes."""
    _, ask, tell = own
    found = []
    for n in sizes:
        before = state
        proposal, state = ask(state, n)
        genes = np.asarray(proposal.genes)
        found.append((before, genes.tolist()))
        state = tell(state, proposal, score(genes))
    return state, found


def test_blocks_are_the_nodes_with_all_their_choices():
    own = blocks(NB201)
    assert own.counts.tolist() == [5, 25, 125]
    assert own.block.tolist() == [0, 1, 1, 2, 2, 2]
    for number, many in enumerate(own.counts):
        genes = [i for i in range(6) if own.block[i] == number]
        listed = own.choices[number][:many][:, genes].tolist()
        assert sorted(map(tuple, listed)) == sorted(
            itertools.product(range(5), repeat=len(genes))
        )
        rest = [i for i in range(6) if i not in genes]
        assert not own.choices[number][:, rest].any()
    assert blocks(DARTS).counts.tolist() == [49, 147, 294, 490] * 2
    # The output takes in the nodes before it, which are empty until decided.
    assert own.filler.tolist() == [0, 0, 0, 1, 1, 1]
    # No "none" to fill with there: skip connections.
    genotype = DARTS.decode(blocks(DARTS).filler)
    assert {e.operation for e in genotype["normal"].edges} == {"skip_connect"}
    skip = S2.decode(blocks(S2).filler)
    assert {e.operation for e in skip["reduce"].edges} == {"skip_connect"}


@pytest.mark.parametrize("space", [NB201, DARTS, S2], ids=lambda s: s.name)
def test_tokens_are_averages_over_decided_nodes(space):
    own, code = blocks(space), tokens(space)
    encode = jax.jit(code.encode)
    for i, genes in enumerate(space.random(0, 12)):
        decided = (1, 2, 3, 99)[i % 4]
        genotype = space.decode(genes)
        want = []
        for number, group in enumerate(space.groups):
            nodes = [
                node
                for block, (of, node) in enumerate(own.nodes)
                if of == number and block < decided
            ]
            ops = np.zeros((space.keep or 1, group.num_operations))
            inputs = np.zeros((len(ops), max(source for source, _ in group.edges) + 1))
            for node in nodes:
                edges = [e for e in genotype[group.name].edges if e.target == node]
                for place, edge in enumerate(edges):
                    # Kept edges are apart; all edges of a node are averaged.
                    row, many = (place, 1) if space.keep else (0, len(edges))
                    column = group.columns[edge.operation]
                    ops[row, column] += 1 / len(nodes) / many
                    inputs[row, edge.source] += 1 / len(nodes) / many
            want += [ops.ravel(), inputs.ravel()]
        got = encode(jnp.asarray(genes), decided)
        np.testing.assert_allclose(got, np.concatenate(want), rtol=1e-6)


def test_sizes_of_levels():
    assert discrete.pnas(NB201, survivors=256, **SMALL).config["levels"] == [
        5,
        120,
        256,
    ]
    own = discrete.pnas(NB201, survivors=72, **SMALL)
    assert own.config["levels"] == [5, 72, 72] and own.capacity == 149
    # DARTS: 49, of which each but one child is new, then at most K.
    darts = discrete.pnas(DARTS, survivors=256, **SMALL)
    assert darts.config["levels"] == [49] + [256] * 7


def test_levels_grow_the_best_by_one_block():
    own = made(NB201, survivors=8)
    state, found = levels(own, own[0].init(jax.random.key(0)), [5, 8, 8])
    first, second, third = (genes for _, genes in found)
    assert sorted(first) == [[i, 0, 0, 1, 1, 1] for i in range(5)]
    told = list(first)
    for level, genes in ((1, second), (2, third)):
        best = sorted(told, key=lambda g: -score(g))[:8]
        cut = 1 if level == 1 else 3
        parents = {tuple(g[:cut]) for g in best}
        assert all(tuple(g[:cut]) in parents for g in genes)
        assert all(g[3:] == [1, 1, 1] for g in genes) == (level == 1)
        told += genes
    assert len({tuple(g) for g in told}) == 21 == own[0].capacity
    assert NB201.valid(np.array(told)).all() and int(state.asked) == 21


def test_children_are_ranked_by_the_mean_of_the_members():
    """Every child of every parent, in plain Python, by the state's own weights."""
    own = made(NB201, survivors=8)
    _, ask, _ = own
    state, found = levels(own, own[0].init(jax.random.key(1)), [5, 8])
    told = found[0][1] + found[1][1]
    proposal, after = ask(state, 8)
    code = tokens(NB201)
    weights = jax.tree.map(np.asarray, after.inner.weights)

    def predicted(genes):
        x = np.asarray(code.encode(jnp.asarray(genes), 3), float)
        total = 0.0
        for member in range(3):
            ops = x[:5].reshape(1, 5) @ weights["tables"][0][member]
            inputs = x[5:].reshape(1, 3) @ weights["tables"][1][member]
            z = np.concatenate([ops.ravel(), inputs.ravel()])
            (k1, b1), (k2, b2) = weights["layers"]
            z = np.maximum(z @ k1[member] + b1[member], 0) @ k2[member] + b2[member]
            total += float(z[0]) / 3
        return total

    best = sorted(told, key=lambda g: -score(g))
    limit = score(best[7])
    sure = [g[:3] for g in best if score(g) > limit]
    maybe = [g[:3] for g in best if score(g) == limit]
    # Ties for the last places: the earlier told is taken.
    order = sorted(range(len(told)), key=lambda i: (-score(told[i]), i))[:8]
    parents = [told[i][:3] for i in order]
    assert all(p in sure or p in maybe for p in parents)
    children = [
        [*parent, *choice]
        for parent in parents
        for choice in itertools.product(range(5), repeat=3)
        if choice != (1, 1, 1)
    ]
    values = sorted((predicted(g) for g in children), reverse=True)
    got = [predicted(g) for g in np.asarray(proposal.genes).tolist()]
    np.testing.assert_allclose(got, values[:8], rtol=1e-4, atol=1e-5)


def test_the_predictor_starts_at_the_mean_and_leaves_a_part_out():
    own = made(NB201, survivors=8, epochs=1, learning_rates=(1e-9, 1e-9))
    state, found = levels(own, own[0].init(jax.random.key(2)), [5])
    _, after = own[1](state, 5)
    told = score(found[0][1])
    bias = np.asarray(after.inner.weights["layers"][-1][1])[:, 0]
    scaled = (told - told.mean()) / told.std()
    np.testing.assert_allclose(after.inner.centre, told.mean(), rtol=1e-6)
    # Of 5 rows in 3 parts (2, 2, 1), each member misses one.
    options = [
        np.mean([s for i, s in enumerate(scaled) if i not in out])
        for many in (1, 2)
        for out in itertools.combinations(range(5), many)
    ]
    for value in bias:
        assert np.min(np.abs(np.array(options) - value)) < 1e-5
    assert len(set(bias.tolist())) > 1


def test_asked_at_once_or_in_any_parts_nothing_is_repeated():
    own = made(NB201, survivors=8, capacity=40)
    for batches in ([40], [8] * 5):
        state = own[0].init(jax.random.key(3))
        rows = []
        for n in batches:
            proposal, state = own[1](state, n)
            rows += np.asarray(proposal.genes).tolist()
            if n < 40:
                state = own[2](state, proposal, score(proposal.genes))
        # After the levels (21) the last one goes on with children not asked before.
        assert len({tuple(r) for r in rows}) == 40
        assert NB201.valid(np.array(rows)).all()


def test_wrong_arguments_are_one_clear_line():
    with pytest.raises(JnasError, match="survivors must be an integer >= 1"):
        discrete.pnas(NB201, survivors=0)
    with pytest.raises(JnasError, match="hidden must be an integer >= 1"):
        discrete.pnas(NB201, hidden=(0,))
    with pytest.raises(JnasError, match="learning_rates must be finite and > 0"):
        discrete.pnas(NB201, learning_rates=(0.01, -1))
