"""Spaces whose edges have candidates of their own, against plain enumeration."""

import dataclasses
import itertools
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jnas
from jnas.errors import JnasError
from jnas.spaces import Cell, Edge, Genotype, Group, Space

quick = settings(deadline=None, derandomize=True, max_examples=150)

ABC = ("a", "b", "c")
DENSE = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
LISTS = (("a",), ("b", "c"), ("a", "b", "c"), ("c",), ("a", "c"))
GROUP = Group("cell", ABC, DENSE, 2, (3,), LISTS)


def enumerated(space: Space) -> set[Genotype]:
    """All genotypes, by definition."""
    cells = []
    for group in space.groups:
        nodes = []
        for node in group.nodes:
            rows = group.incoming(node)
            choices = []
            for kept in itertools.combinations(rows, space.keep or len(rows)):
                lists = [
                    [
                        op
                        for op, ok in zip(
                            group.operations, group.allowed[row], strict=True
                        )
                        if ok and op not in space.never
                    ]
                    for row in kept
                ]
                choices += [
                    tuple(
                        Edge(op, *group.edges[row])
                        for op, row in zip(ops, kept, strict=True)
                    )
                    for ops in itertools.product(*lists)
                ]
            nodes.append(choices)
        cells.append(
            [
                (group.name, Cell(sum(edges, ()), group.concat))
                for edges in itertools.product(*nodes)
            ]
        )
    return {Genotype(space.name, parts) for parts in itertools.product(*cells)}


def every(space: Space) -> np.ndarray:
    vectors = list(itertools.product(*map(range, space.genes)))
    return np.asarray(vectors, np.int32).reshape(-1, len(space.genes))


def one_edit(first: Genotype, second: Genotype, space: Space) -> bool:
    left = {(name, e) for name, cell in first.cells for e in cell.edges}
    right = {(name, e) for name, cell in second.cells for e in cell.edges}
    gone, come = left - right, right - left
    if len(gone) != 1 or len(come) != 1:
        return False
    (name, old), (other, new) = gone.pop(), come.pop()
    if name != other or old.target != new.target:
        return False
    if old.source == new.source or old.operation == new.operation:
        return True
    group = space.group(name)

    def allows(edge, operation):
        row = group.rows[(edge.source, edge.target)]
        column = group.columns[operation]
        return bool(group.allowed[row, column]) and operation not in space.never

    return not allows(new, old.operation) and not allows(old, new.operation)


@st.composite
def ragged_spaces(draw) -> Space:
    inputs = draw(st.integers(1, 2))
    nodes = draw(st.integers(1, 2))
    edges = tuple(
        (source, node)
        for node in range(inputs, inputs + nodes)
        for source in range(node)
    )
    subset = st.sets(st.sampled_from(("x", *ABC)), min_size=1)
    lists = [sorted(draw(subset)) for _ in edges]
    keep = draw(st.sampled_from([None, *range(1, inputs + 1)]))
    never = draw(st.sampled_from([(), ("x",)]))
    if keep is None or inputs == keep:  # else an edge may have nothing to select
        lists = [names if set(names) - set(never) else ["a"] for names in lists]
    group = Group("cell", ("a", "b", "c", "x"), edges, inputs, (edges[-1][1],), lists)
    try:
        return Space("any", (group,), keep, never)
    except JnasError as error:
        assert "can choose nothing but x" in str(error)
        return Space("any", (group,), keep)


@quick
@given(ragged_spaces(), st.data())
def test_every_vector_is_one_candidate_and_back(space, data):
    vectors = every(space)
    genotypes = [space.decode(genes) for genes in vectors]
    assert set(genotypes) == enumerated(space)
    assert len(vectors) == len(set(genotypes)) == space.size
    for genes, genotype in zip(vectors, genotypes, strict=True):
        np.testing.assert_array_equal(space.encode(genotype), genes)
    assert space.valid(vectors).all()
    assert not space.valid(np.asarray(space.genes, np.int32))
    # neighbours of one of them, against all
    index = data.draw(st.integers(0, len(vectors) - 1))
    near = {tuple(row) for row in space.neighbours(vectors[index]).tolist()}
    assert len(near) == len(space.neighbours(vectors[index]))
    assert near == {
        tuple(vectors[i].tolist())
        for i, other in enumerate(genotypes)
        if one_edit(genotypes[index], other, space)
    }
    # one-hot rows
    rows = space.one_hot(genotypes[index])["cell"]
    group = space.groups[0]
    assert not rows[~group.allowed].any() and rows.max(axis=1).sum() == rows.sum()


@quick
@given(ragged_spaces(), st.integers(0, 99))
def test_reading_many_vectors_at_once(space, seed):
    genes = space.random(seed, 20)
    found = [set() for _ in genes]
    for index, slot in space.slots:
        for edges, operations in slot.columns(genes):
            for n, (edge, operation) in enumerate(zip(edges, operations, strict=True)):
                group = space.groups[index]
                found[n].add(Edge(group.operations[operation], *group.edges[edge]))
    assert found == [set(space.decode(row)["cell"].edges) for row in genes]


def test_layout_of_a_node_with_unequal_lists_is_one_gene():
    # node 2: no choice of edges, one gene each; node 3: 3*1 + 3*2 + 1*2 choices
    space = Space("ragged", (GROUP,), keep=2)
    assert space.genes == (1, 2, 11)
    assert space.decode([0, 1, 0])["cell"].edges == (
        Edge("a", 0, 2),
        Edge("c", 1, 2),
        Edge("a", 0, 3),
        Edge("c", 1, 3),
    )
    # 3 + 4: of the second combination (edges 0 and 2) the choice c, a
    assert space.decode([0, 1, 7])["cell"].edges[2:] == (
        Edge("c", 0, 3),
        Edge("a", 2, 3),
    )
    # equally long lists keep the layout of other spaces: combination, then operations
    equal = dataclasses.replace(
        GROUP, candidates=[["a", "b"], ["b", "c"]] * 2 + [ABC[:2]]
    )
    assert Space("equal", (equal,), keep=2).genes == (2, 2, 3, 2, 2)
    assert Space("all", (GROUP,)).genes == (1, 2, 3, 1, 2)


def test_random_is_uniform_over_candidates():
    space = Space("ragged", (GROUP,), keep=1)
    draws = space.random(3, 6000)
    counts = np.unique(draws, axis=0, return_counts=True)[1]
    assert len(counts) == space.size == (1 + 2) * (3 + 1 + 2)
    expected = 6000 / space.size
    assert ((counts - expected) ** 2 / expected).sum() < 17 + 5 * np.sqrt(2 * 17)


def test_too_many_choices_of_one_node_are_told():
    names = tuple(f"op{i}" for i in range(2000))
    edges = tuple((source, 4) for source in range(4))
    lists = [names, names, names, names[:1]]
    group = Group("cell", names, edges, 4, (4,), lists)
    space = Space("large", (group,), keep=3)
    with pytest.raises(
        JnasError, match=r"a node has 80\d+ choices, at most 2147483647"
    ):
        _ = space.genes


# --- restrict


def test_restrict_one_list_for_all_edges():
    space = jnas.spaces.darts()
    small = space.restrict({"normal": ["skip_connect", "sep_conv_3x3"]})
    normal = small.group("normal")
    assert normal.operations == ("skip_connect", "sep_conv_3x3")
    assert normal.candidates is None and normal.allowed.all()
    assert small.group("reduce") == space.group("reduce")
    assert small.never == ("none",) and small.keep == 2 and small.name == "darts"
    genotype = small.decode(small.random(0))
    assert space.decode(space.encode(genotype)) == genotype
    both = ["skip_connect", "sep_conv_3x3"]
    assert space.restrict({"normal": both, "reduce": both}).never == ()
    assert space.restrict({"normal": space.group("normal").operations}) == space
    assert space.restrict({}) == space


def test_restrict_one_list_per_edge():
    space = Space("base", (Group("cell", (*ABC, "d"), DENSE, 2, (3,)),), keep=2)
    small = space.restrict({"cell": [["c", "a"], *LISTS[1:]]})
    group = small.groups[0]
    assert group.operations == ABC  # "d" is nowhere
    assert group.candidates == (("a", "c"), *LISTS[1:])
    expected = [[op in names for op in ABC] for names in group.candidates]
    assert group.allowed.tolist() == expected
    assert group.allowed.dtype == bool and group.allowed is group.allowed
    with pytest.raises(ValueError, match="read-only"):
        group.allowed[0, 0] = True
    # once more: a list for all leaves each edge what it has of it
    again = small.restrict({"cell": ["a", "b", "c"]})
    assert again == small
    with pytest.raises(JnasError, match="edge 2<-0 can't choose 'b': leave it out"):
        small.restrict({"cell": [ABC] * 5})
    with pytest.raises(JnasError, match="edge 2<-0 must have at least one candidate"):
        small.restrict({"cell": ["b"]})


def test_ragged_spaces_are_hashable_equal_and_pickled():
    first, second = (Space("s", (dataclasses.replace(GROUP),), 2) for _ in range(2))
    _ = first.groups[0].allowed, first.genes  # caches are no part of it
    assert first == second and hash(first) == hash(second)
    assert first != Space("s", (dataclasses.replace(GROUP, candidates=None),), 2)
    assert pickle.loads(pickle.dumps(first)) == first
    assert dataclasses.asdict(GROUP)["candidates"] == LISTS
    read = json.loads(json.dumps(dataclasses.asdict(GROUP)))
    assert Group(**read) == GROUP


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([ABC] * 4, "one list for each of its 5 edges, got 4"),
        ([ABC] * 4 + [()], "edge 3<-2 must have at least one candidate, got none"),
        ([ABC] * 4 + [("d",)], "unknown operation of group 'cell' 'd'"),
        ([ABC] * 4 + [("a", "a")], "candidates of edge 3<-2 must be distinct"),
        ([ABC] * 4 + ["a"], "candidates of edge 3<-2 must be a list or tuple"),
        ("abc", "candidates must be a list or tuple"),
    ],
)
def test_wrong_candidates_are_told(candidates, message):
    with pytest.raises(JnasError, match=message) as caught:
        dataclasses.replace(GROUP, candidates=candidates)
    assert "\n" not in str(caught.value)


def test_wrong_restrictions_are_told():
    space = jnas.spaces.darts()
    for candidates, message in (
        ([], "candidates must be a dict"),
        ({"normale": ["none"]}, "unknown group 'normale': did you mean 'normal'"),
        ({"normal": ["skip"]}, "unknown operation of group 'normal' 'skip'"),
        ({"normal": "skip_connect"}, "a list of operations, or one per edge"),
        ({"normal": []}, "one list for each of its 14 edges, got 0"),
        ({"normal": ["none"]}, "never names every operation of group 'normal'"),
    ):
        with pytest.raises(JnasError, match=message):
            space.restrict(candidates)
    lists = [["none"]] + [["none", "skip_connect"]] * 13
    with pytest.raises(JnasError, match=r"node 2 .* 2<-0 can choose nothing but none"):
        space.restrict({"normal": lists})
    # node 3 still has two edges
    lists = [["none", "skip_connect"]] * 2 + [["none"]] + [["skip_connect"]] * 11
    assert space.restrict({"normal": lists}).genes[:4] == (1, 1, 1, 1)


def test_a_genotype_that_an_edge_can_not_choose_is_told():
    space = Space("ragged", (GROUP,))
    edges = [Edge(names[0], *edge) for names, edge in zip(LISTS, DENSE, strict=True)]
    space.encode(Genotype("ragged", (("cell", Cell(edges, (3,))),)))
    edges[0] = Edge("b", 0, 2)
    with pytest.raises(JnasError, match=r"2<-0 has 'b': expected one of a$"):
        space.one_hot(Genotype("ragged", (("cell", Cell(edges, (3,))),)))


def test_costs_of_a_ragged_space():
    space = jnas.spaces.nasbench201().restrict(
        {"cell": [["none", "nor_conv_3x3"], ["skip_connect"]] * 3}
    )
    options = {"channels": 4, "cells_per_stage": 1}
    genes = space.random(0, 5)
    counted = jnas.cost.count_genes(space, genes, **options)
    for row, parameters, adds in zip(genes, *counted, strict=True):
        assert jnas.cost.count(space.decode(row), **options) == (parameters, adds)
    table = jnas.cost.operation_costs(space, affine=False, **options)
    column = space.groups[0].columns["nor_conv_3x3"]
    assert (table.parameters["cell"][:, 1::2, column] == 0).all()
    assert (table.parameters["cell"][:, ::2, column] > 0).all()


def test_a_run_tells_its_ragged_space(tmp_path):
    from jnas.report import runs
    from jnas.run import searching

    space = Space("ragged", (GROUP,))
    searching.write_space(tmp_path / "space.json", space)
    content = json.loads((tmp_path / "space.json").read_text())
    assert runs._own_space(content) == space
    for group in content["groups"]:  # as written before there were candidates
        del group["candidates"]
    assert runs._own_space(content).groups[0].candidates is None
