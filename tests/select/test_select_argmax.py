"""argmax, threshold and skip_limit on crafted arrays and against brute force."""

import dataclasses

import numpy as np
import pytest

import jnas
from jnas.errors import JnasError
from jnas.select import argmax, skip_limit, threshold
from jnas.spaces import Edge, Group, Space

DARTS = jnas.spaces.darts()
SPARSE = dataclasses.replace(DARTS, optional=True)
OPS = DARTS.group("normal").operations


def darts_mixture(normal, reduce=None, **fields):
    reduce = np.full((14, 8), 1 / 8) if reduce is None else reduce
    return jnas.Mixture({"normal": normal, "reduce": reduce}, **fields)


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


# --- argmax


def test_none_is_never_selected_in_darts_but_counts_in_the_softmax():
    weights = np.full((14, 8), 0.01)
    weights[:, 0] = 0.9  # "none" everywhere
    weights[0, 4], weights[1, 5] = 0.02, 0.03
    weights[2, 6], weights[3, 6], weights[4, 7] = 0.02, 0.02, 0.02
    cell = argmax().select(None, darts_mixture(weights), space=DARTS)["normal"]
    assert cell.edges[:2] == (
        Edge("sep_conv_5x5", 1, 2),  # by strength
        Edge("sep_conv_3x3", 0, 2),
    )
    # of three equals the lower sources, in their order
    assert cell.edges[2:4] == (Edge("dil_conv_3x3", 0, 3), Edge("dil_conv_3x3", 1, 3))
    # of equal operations the first that can be selected
    assert cell.edges[4:6] == (Edge("max_pool_3x3", 0, 4), Edge("max_pool_3x3", 1, 4))
    assert len(cell.edges) == 8 and cell.concat == (2, 3, 4, 5)


def test_every_edge_by_argmax_with_and_without_none():
    space = jnas.spaces.nasbench201()
    weights = np.full((6, 5), 0.1)
    weights[:, 0] = 0.5
    weights[np.arange(6), [1, 2, 3, 4, 1, 2]] = 0.2
    mixture = jnas.Mixture({"cell": weights})
    chosen = argmax().select(None, mixture, space=space)
    assert {edge.operation for edge in chosen["cell"].edges} == {"none"}
    chosen = argmax(exclude=("none",)).select(None, mixture, space=space)
    assert space.encode(chosen).tolist() == [1, 2, 3, 4, 1, 2]
    # SNAS' own form: all edges, "none" written
    snas = dataclasses.replace(DARTS, keep=None, never=())
    rng = np.random.default_rng(0)
    normal, reduce = (softmax(rng.normal(size=(14, 8))) for _ in range(2))
    chosen = argmax().select(None, darts_mixture(normal, reduce), space=snas)
    assert [OPS.index(e.operation) for e in chosen["normal"].edges] == normal.argmax(
        1
    ).tolist()
    assert jnas.Genotype.parse(str(chosen)) == chosen
    assert str(chosen).startswith("Genotype(normal=[(")


def test_edges_weigh_and_cells_are_averaged():
    space = jnas.spaces.darts()
    weights = np.full((14, 8), 0.05)
    weights[2:5, 4] = [0.9, 0.8, 0.7]
    beta = np.ones(14)
    beta[2:5] = [0.1, 0.5, 0.4]
    mixture = darts_mixture(weights, edges={"normal": beta, "reduce": np.ones(14)})
    cell = argmax().select(None, mixture, space=space)["normal"]
    assert [edge.source for edge in cell.edges[2:4]] == [1, 2]
    per_cell = np.stack([weights * 0, weights * 2])
    mixture = jnas.Mixture({"normal": per_cell, "reduce": weights})
    cell = argmax().select(None, mixture, space=space)["normal"]
    assert [edge.source for edge in cell.edges[2:4]] == [0, 1]


def test_ragged_candidates_that_are_not_allowed_are_never_selected():
    lists = [["none", "skip_connect"], ["sep_conv_3x3"]] * 7
    space = DARTS.restrict({"normal": lists})
    ops = space.group("normal").operations
    weights = np.full((14, len(ops)), 0.9)
    weights[space.group("normal").allowed] = 0.1
    mixture = jnas.Mixture({"normal": weights, "reduce": np.ones((14, 8))})
    for edge in argmax().select(None, mixture, space=space)["normal"].edges:
        row = space.group("normal").rows[(edge.source, edge.target)]
        assert edge.operation in lists[row] and edge.operation != "none"
    # an edge that can only be "none" is never kept
    lists = [["skip_connect"]] * 2 + [["none"]] + [["skip_connect"]] * 11
    space = DARTS.restrict({"normal": lists})
    weights = np.full((14, 2), 0.1)
    weights[2] = 5
    mixture = jnas.Mixture({"normal": weights, "reduce": np.ones((14, 8))})
    cell = argmax().select(None, mixture, space=space)["normal"]
    assert [edge.source for edge in cell.edges[2:4]] == [1, 2]


def test_optional_edges_are_left_out_where_none_is_strongest():
    space = dataclasses.replace(DARTS, keep=None, optional=True)
    weights = np.full((14, 8), 0.05)
    weights[:, 0] = 0.5
    weights[[0, 4, 8], [4, 3, 5]] = 0.7  # 2<-0, 3<-2, 4<-3
    weights[13, 4] = 0.7  # 5<-4
    weights[6, 4] = 0.5  # a tie with "none"
    chosen = argmax().select(None, darts_mixture(weights, weights), space=space)
    assert chosen["normal"].edges == (
        Edge("sep_conv_3x3", 0, 2),
        Edge("skip_connect", 2, 3),
        Edge("sep_conv_5x5", 3, 4),
        Edge("sep_conv_3x3", 4, 5),
    )
    assert chosen["normal"].concat == (2, 3, 4, 5)
    weights[0] = 0.1  # node 2 loses its edge, and so do those behind it
    weights[0, 0] = 0.6
    weights[1, 3] = 0.4
    weights[9, 3] = 0.9  # 5<-0
    chosen = argmax().select(None, darts_mixture(weights, weights), space=space)
    assert chosen["normal"].edges == (Edge("skip_connect", 0, 5),)
    assert chosen["normal"].concat == (5,)
    # nothing at all: the one path whose weakest edge is strongest
    weights[9, 3] = weights[6, 4] = 0.1
    chosen = argmax().select(None, darts_mixture(weights, weights), space=space)
    assert chosen["normal"].edges == (Edge("skip_connect", 1, 2),)
    space.one_hot(chosen)


def test_wrong_exclusions_are_told():
    space = jnas.spaces.nasbench201()
    mixture = jnas.mixture.uniform(space)
    with pytest.raises(JnasError, match="unknown operation of nasbench201 'non'"):
        argmax(exclude=("non",)).select(None, mixture, space=space)
    with pytest.raises(JnasError, match="edge 1<-0 has no candidate left without"):
        argmax(exclude=space.groups[0].operations).select(None, mixture, space=space)
    with pytest.raises(JnasError, match="exclude must be a list or tuple"):
        argmax(exclude="none")


# --- threshold (FairDARTS)


def test_threshold_keeps_two_of_the_strong_edges_of_each_node():
    sigma = np.full((14, 8), 0.1)
    sigma[:, 0] = 0  # "none": FairDARTS has none
    sigma[0, 4], sigma[1, 5] = 0.85, 0.849999  # 2<-0 is just strong enough
    sigma[2, 3], sigma[3, 4], sigma[4, 6] = 0.9, 0.95, 0.92  # node 3: two of three
    sigma[2, 4] = 0.89  # one operation per edge
    sigma[10, 7], sigma[13, 7] = 0.99, 0.98  # 5<-1, and 5<-4 of a node without edges
    chosen = threshold().select(None, darts_mixture(sigma, sigma), space=SPARSE)
    assert chosen["normal"].edges == (
        Edge("sep_conv_3x3", 0, 2),
        Edge("sep_conv_3x3", 1, 3),
        Edge("dil_conv_3x3", 2, 3),
        Edge("dil_conv_5x5", 1, 5),
    )
    assert chosen["normal"].concat == (2, 3, 5)
    assert SPARSE.one_hot(chosen)["normal"].sum() == 4
    assert jnas.Genotype.parse(str(chosen)) == chosen
    # the top two by their largest value: a third strong edge does not move up
    one = threshold(per_node=1).select(None, darts_mixture(sigma, sigma), space=SPARSE)
    assert [e.target for e in one["normal"].edges] == [2, 3, 5]
    low = threshold(0.05).select(None, darts_mixture(sigma, sigma), space=SPARSE)
    assert len(low["normal"].edges) == 8


def test_threshold_before_anything_is_decided_keeps_one_path():
    sigma = np.full((14, 8), 0.5)
    sigma[4, 4], sigma[1, 3] = 0.6, 0.55
    chosen = threshold().select(None, darts_mixture(sigma, sigma), space=SPARSE)
    assert chosen["normal"].edges == (Edge("skip_connect", 1, 2),)
    # an output that is reached over a node only
    chain = Group("cell", ("skip", "none"), ((0, 1), (1, 2)), 1, (2,))
    space = Space("chain", (chain,), never=("none",), optional=True)
    mixture = jnas.Mixture({"cell": np.full((2, 2), 0.5)})
    chosen = threshold().select(None, mixture, space=space)
    assert chosen["cell"].edges == (Edge("skip", 0, 1), Edge("skip", 1, 2))


def test_threshold_writes_none_where_a_space_can_select_it():
    space = jnas.spaces.nasbench201()
    gates = np.full((6, 5), 0.1)
    gates[0, 3], gates[1, 2], gates[3, 1], gates[4, 3] = 0.9, 0.7, 0.95, 0.86
    gates[5, 0] = 0.99  # "none" itself is strongest
    chosen = threshold().select(None, jnas.Mixture({"cell": gates}), space=space)
    # Of node 2, 0.7 is too weak; of node 3, "none" is left out as it is anyway.
    assert str(chosen) == (
        "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
    )
    assert space.valid(space.encode(chosen))


def test_threshold_needs_a_space_that_lets_edges_out():
    mixture = darts_mixture(np.full((14, 8), 0.5))
    with pytest.raises(JnasError, match=r"dataclasses.replace\(space, optional=True"):
        threshold().select(None, mixture, space=DARTS)
    with pytest.raises(JnasError, match="at most 2: use per_node=2"):
        threshold(per_node=3).select(None, mixture, space=SPARSE)
    for options in ({"value": "x"}, {"value": float("nan")}, {"per_node": 0}):
        with pytest.raises(JnasError, match="must be"):
            threshold(**options)


# --- skip_limit (P-DARTS)


def rederived(weights, most):
    """The normal cell by the definition, step by step, and how often it took one."""
    weights, steps = weights.copy(), 0
    while True:
        cell, start = [], 0
        for node in range(4):
            rows = range(start, start + node + 2)
            start += node + 2
            best = {row: 1 + int(np.argmax(weights[row, 1:])) for row in rows}
            order = sorted(rows, key=lambda row: -weights[row, best[row]])[:2]
            cell += [(row, best[row]) for row in order]
        skips = [row for row, column in cell if OPS[column] == "skip_connect"]
        if len(skips) <= most:
            return cell, steps
        weakest = min(skips, key=lambda row: weights[row, 3])
        weights[weakest, 3] = 0
        steps += 1


@pytest.mark.parametrize("most", [0, 1, 2, 5])
def test_skip_limit_against_the_definition(most):
    taken = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(14, 8))
        logits[:, 3] += 2
        weights = softmax(logits)
        mixture = darts_mixture(weights, weights)
        chosen = skip_limit(most).select(None, mixture, space=DARTS)
        expected, steps = rederived(weights, most)
        taken += steps
        group = DARTS.group("normal")
        assert chosen["normal"].edges == tuple(
            Edge(OPS[column], *group.edges[row]) for row, column in expected
        )
        # the reduction cell is not limited
        assert chosen["reduce"] == argmax().select(None, mixture, space=DARTS)["reduce"]
    assert taken >= 20  # the limit has done something


def test_skip_limit_where_nothing_else_can_be_selected():
    space = DARTS.restrict({"normal": ["skip_connect"]})
    mixture = jnas.Mixture({"normal": np.ones((14, 1)), "reduce": np.ones((14, 8))})
    chosen = skip_limit(0).select(None, mixture, space=space)
    assert len(chosen["normal"].edges) == 8
    with pytest.raises(JnasError, match="unknown group of nasbench201 'normal'"):
        tss = jnas.spaces.nasbench201()
        skip_limit().select(None, jnas.mixture.uniform(tss), space=tss)
    with pytest.raises(JnasError, match="count must be"):
        skip_limit(-1)
