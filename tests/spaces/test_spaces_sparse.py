"""Genotypes that leave edges out: spaces that let them, and their text forms."""

import dataclasses

import numpy as np
import pytest

import jnas
from jnas.errors import JnasError
from jnas.spaces import Cell, Edge, Genotype, Group, Space

DARTS = jnas.spaces.darts()
SPARSE = dataclasses.replace(DARTS, optional=True)
EDGES = (
    Edge("sep_conv_3x3", 0, 2),
    Edge("skip_connect", 1, 4),
    Edge("max_pool_3x3", 2, 4),
)


def genotype(edges=EDGES, concat=(2, 4), reduce=EDGES[:1], reduce_concat=(2,)):
    return Genotype(
        "darts",
        (("normal", Cell(edges, concat)), ("reduce", Cell(reduce, reduce_concat))),
    )


def test_optional_spaces_hold_sparse_genotypes():
    rows = SPARSE.one_hot(genotype())
    group = SPARSE.group("normal")
    expected = np.zeros((14, 8), np.float32)
    for edge in EDGES:
        row = group.edges.index((edge.source, edge.target))
        expected[row, group.operations.index(edge.operation)] = 1
    np.testing.assert_array_equal(rows["normal"], expected)
    assert rows["reduce"].sum() == 1
    mixed = jnas.mixture.from_genotype(SPARSE, genotype(), active=True, edges=True)
    np.testing.assert_array_equal(mixed.edges["normal"], expected.sum(axis=1))
    # a full genotype is one of it, too
    full = DARTS.decode(DARTS.random(0))
    np.testing.assert_array_equal(
        SPARSE.one_hot(full)["normal"], DARTS.one_hot(full)["normal"]
    )
    assert SPARSE != DARTS and hash(SPARSE) == hash(dataclasses.replace(SPARSE))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"edges": (*EDGES, Edge("none", 0, 4))}, "4<-0 has 'none'"),
        (
            {"edges": (*EDGES, Edge("skip_connect", 0, 4))},
            "normal node 4 has 3 edges .*: expected at most 2",
        ),
        (
            {"edges": (*EDGES, Edge("skip_connect", 3, 5)), "concat": (2, 4, 5)},
            "edge 5<-3 reads a node without edges: expected it to be left out",
        ),
        ({"concat": (2, 3, 4)}, r"concat is \[2, 3, 4\]: expected \[2, 4\]"),
        ({"concat": (2,)}, r"concat is \[2\]: expected \[2, 4\]"),
    ],
)
def test_what_is_not_in_an_optional_space_is_told(changed, message):
    with pytest.raises(JnasError, match=message) as caught:
        SPARSE.one_hot(genotype(**changed))
    assert "\n" not in str(caught.value)
    with pytest.raises(JnasError, match="is not in space 'darts'"):
        DARTS.one_hot(genotype(**changed))


def test_something_must_reach_the_output():
    group = Group("cell", ("a", "b"), ((0, 1), (0, 2), (1, 2)), 1, (2,))
    space = Space("one", (group,), optional=True)
    sparse = Genotype("one", (("cell", Cell((Edge("a", 0, 1),), (1,))),))
    with pytest.raises(JnasError, match="nothing reaches the output of cell"):
        space.one_hot(sparse)


def test_optional_spaces_have_no_genes():
    for call in (
        lambda: SPARSE.genes,
        lambda: SPARSE.size,
        lambda: SPARSE.random(0),
        lambda: SPARSE.encode(genotype()),
        lambda: jnas.select.validated().select(
            None,
            jnas.mixture.uniform(SPARSE),
            space=SPARSE,
            evaluate=lambda m: {"loss": 0.0},
        ),
    ):
        with pytest.raises(JnasError, match="no genes, since its edges are optional"):
            call()
    with pytest.raises(JnasError, match="optional must be True or False, got 1"):
        dataclasses.replace(DARTS, optional=1)


# --- text forms


def test_sparse_cells_are_written_as_triples_and_read_back():
    text = str(genotype())
    assert text == (
        "Genotype(normal=[('sep_conv_3x3', 2, 0), ('skip_connect', 4, 1), "
        "('max_pool_3x3', 4, 2)], normal_concat=[2, 4], "
        "reduce=[('sep_conv_3x3', 2, 0)], reduce_concat=range(2, 3))"
    )
    assert Genotype.parse(text) == genotype()
    assert Genotype.from_json(genotype().to_json()) == genotype()
    # whole cells keep the form of DARTS' code
    full = DARTS.decode(DARTS.random(0))
    assert "', 2, " not in str(full) and Genotype.parse(str(full)) == full


def test_any_sparse_genotype_round_trips():
    rng = np.random.default_rng(0)
    group = SPARSE.group("normal")
    for _ in range(100):
        weights = {name: rng.uniform(size=(14, 8)) for name in SPARSE.names}
        for rows in weights.values():
            rows[:, 0] = 0
        found = jnas.select.threshold(rng.uniform(0.8, 1.0)).select(
            None, jnas.Mixture(weights), space=SPARSE
        )
        assert Genotype.parse(str(found)) == found
        assert Genotype.from_json(found.to_json()) == found
        kept = sum(len(cell.edges) for _, cell in found.cells)
        assert sum(rows.sum() for rows in SPARSE.one_hot(found).values()) == kept
        assert set(found["normal"].concat) <= set(group.concat)


def test_wrong_triples_are_told():
    ok = "reduce=[('skip_connect', 2, 0)], reduce_concat=[2])"
    for normal, message in (
        ("[('skip_connect', 2, 0), ('skip_connect', 1)]", r"normal\[1\]: expected"),
        ("[('skip_connect', 2, 3)]", "wrong source 3 of node 2"),
        ("[('skip_connect', 2, 'x')]", "expected a state number"),
        ("[('skip_connec', 2, 0)]", "did you mean 'skip_connect'"),
    ):
        with pytest.raises(JnasError, match=message):
            Genotype.parse(f"Genotype(normal={normal}, normal_concat=[2], {ok}")


# Cells of FairDARTS as published, with the numbers beside them in the authors' file:
# millions of parameters and of multiply-adds, to the digits given.
FAIR_DARTS = {
    "b": (
        "Genotype(normal=[('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 2, 1), "
        "('sep_conv_3x3', 3, 1), ('dil_conv_3x3', 4, 0), ('sep_conv_5x5', 4, 1), "
        "('dil_conv_5x5', 5, 1)], normal_concat=range(2, 6), "
        "reduce=[('skip_connect', 2, 0), ('dil_conv_3x3', 2, 1), "
        "('skip_connect', 3, 0), ('dil_conv_3x3', 3, 1), ('max_pool_3x3', 4, 0), "
        "('sep_conv_3x3', 4, 1), ('skip_connect', 5, 2), ('max_pool_3x3', 5, 0)], "
        "reduce_concat=range(2, 6))",
        3.88,
        536,
        (2, 3, 4, 5),
    ),
    # node 3 of the normal cell has no edges; one edge reads it all the same
    "g": (
        "Genotype(normal=[('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 2, 1), "
        "('skip_connect', 4, 3), ('sep_conv_5x5', 4, 1), ('dil_conv_3x3', 5, 0), "
        "('sep_conv_3x3', 5, 1)], normal_concat=range(2, 6), "
        "reduce=[('avg_pool_3x3', 2, 1), ('skip_connect', 2, 0), "
        "('skip_connect', 3, 2), ('max_pool_3x3', 3, 1), ('sep_conv_5x5', 4, 3), "
        "('max_pool_3x3', 4, 0), ('dil_conv_3x3', 5, 1), ('dil_conv_3x3', 5, 4)], "
        "reduce_concat=range(2, 6))",
        3.375,
        453,
        (2, 4, 5),
    ),
}


@pytest.mark.parametrize("name", FAIR_DARTS)
def test_published_cells_of_fairdarts(name):
    text, parameters, adds, concat = FAIR_DARTS[name]
    found = Genotype.parse(text)
    assert found["normal"].concat == concat
    assert found["reduce"].concat == (2, 3, 4, 5)
    SPARSE.one_hot(found)
    assert Genotype.parse(str(found)) == found
    cost = jnas.cost.count(found, channels=36, cells=20, auxiliary=True)
    assert round(cost.parameters / 1e6, 2) == round(parameters, 2)
    assert cost.multiply_adds // 10**6 == adds
