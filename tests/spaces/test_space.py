"""Spaces: their genes, neighbours and random candidates, against plain definitions."""

import dataclasses
import itertools
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jnas import spaces
from jnas.errors import JnasError
from jnas.spaces import Cell, Edge, Genotype, Group, Space

quick = settings(deadline=None, derandomize=True, max_examples=150)

ABC = ("a", "b", "c")
DENSE = tuple((s, t) for t in range(2, 5) for s in range(t))
SMALL = {
    # every edge kept
    "all": Space(
        "all", (Group("cell", ("a", "b"), ((0, 1), (0, 2), (1, 2)), 1, (2,)),)
    ),
    # one edge kept, the first node has a choice of two
    "one": Space("one", (Group("cell", ABC, DENSE[:5], 2, (2, 3)),), 1, ("a",)),
    # two edges kept: no choice, then a choice of three, then of six
    "two": Space("two", (Group("cell", ("a", "b", "no"), DENSE, 2, (4,)),), 2, ("no",)),
    # a chain of one-edge groups with their own candidates, one of them single
    "chain": Space(
        "chain",
        (
            Group("layer0", ABC, ((0, 1),), 1, (1,)),
            Group("layer1", ("only",), ((0, 1),), 1, (1,)),
            Group("layer2", ("x", "y"), ((0, 1),), 1, (1,)),
        ),
    ),
    # one-edge nodes with keep, and an operation that is never selected
    "pair": Space(
        "pair",
        (
            Group("a", ABC, ((0, 1), (1, 2)), 1, (2,)),
            Group("b", ("b", "z"), ((0, 2), (1, 2)), 2, (2,)),
        ),
        keep=1,
        never=("b",),
    ),
}
SIZES = {"all": 8, "one": (2 * 2) * (3 * 2), "two": 4 * (3 * 4) * (6 * 4), "chain": 6}
SIZES["pair"] = 2 * 2 * (2 * 1)
ALL = {**SMALL, **{name: spaces.get(name) for name in spaces.names()}}


def every(space: Space) -> np.ndarray:
    vectors = list(itertools.product(*map(range, space.genes)))
    return np.asarray(vectors, np.int32).reshape(-1, len(space.genes))


def round_trip(space: Space, genes: np.ndarray) -> Genotype:
    genotype = space.decode(genes)
    read = Genotype.from_json(genotype.to_json())
    again = Genotype.from_text(read.to_text())
    assert again == read == genotype
    encoded = space.encode(again)
    assert encoded.dtype == np.int32 and encoded.shape == (len(space.genes),)
    np.testing.assert_array_equal(encoded, genes)
    return genotype


def test_sizes():
    assert spaces.darts().size == (180 * 7**8) ** 2
    assert spaces.nasbench201().size == 5**6 == 15_625
    assert len(spaces.darts().genes) == 22
    # 2, 3, 4 and 5 inputs: the first node has no choice of inputs
    assert spaces.darts().genes[:11] == (7, 7, 3, 7, 7, 6, 7, 7, 10, 7, 7)
    assert {name: space.size for name, space in SMALL.items()} == SIZES


@pytest.mark.parametrize("name", SMALL)
def test_every_candidate_of_small_spaces_round_trips_once(name):
    space = SMALL[name]
    seen = {round_trip(space, genes) for genes in every(space)}
    assert len(seen) == space.size == SIZES[name]


def test_every_candidate_of_nasbench201_round_trips_once():
    space = spaces.nasbench201()
    texts = set()
    for genes in every(space):
        texts.add(str(round_trip(space, genes)))
    assert len(texts) == 15_625


@quick
@given(st.integers(0, 2**32 - 1))
def test_random_candidates_of_darts_round_trip(seed):
    space = spaces.darts()
    genotype = round_trip(space, space.random(seed))
    assert str(genotype).startswith("Genotype(normal=[(")
    for _, cell in genotype.cells:
        assert [edge.target for edge in cell.edges] == [2, 2, 3, 3, 4, 4, 5, 5]
        assert "none" not in {edge.operation for edge in cell.edges}


@quick
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.data()
)
def test_any_dense_space_round_trips(inputs, nodes, operations, all_edges, data):
    states = range(inputs, inputs + nodes)
    edges = tuple((source, node) for node in states for source in range(node))
    names = tuple(f"op{i}" for i in range(operations))
    group = Group("cell", names, edges, inputs, (states[-1],))
    keep = None if all_edges else data.draw(st.integers(1, inputs))
    never = names[: data.draw(st.integers(0, operations - 1))]
    space = Space("any", (group, dataclasses.replace(group, name="other")), keep, never)
    genes = [data.draw(st.integers(0, n - 1)) for n in space.genes]
    genotype = round_trip(space, np.asarray(genes, np.int32))
    for name, rows in space.one_hot(genotype).items():
        assert rows.shape == (group.num_edges, operations) and rows.dtype == np.float32
        for i, (source, target) in enumerate(edges):
            expected = [
                float(Edge(op, source, target) in genotype[name].edges) for op in names
            ]
            assert rows[i].tolist() == expected


def test_decode_follows_the_documented_layout():
    space = SMALL["two"]  # genes: op op | kept op op | kept op op
    assert space.genes == (2, 2, 3, 2, 2, 6, 2, 2)
    genotype = space.decode([0, 1, 1, 1, 0, 4, 0, 1])
    assert genotype["cell"].edges == (
        Edge("a", 0, 2),
        Edge("b", 1, 2),
        Edge("b", 0, 3),  # combination 1 of (0,1) (0,2) (1,2)
        Edge("a", 2, 3),
        Edge("a", 1, 4),  # combination 4 of (0,1) (0,2) (0,3) (1,2) (1,3) (2,3)
        Edge("b", 3, 4),
    )


def test_encode_ignores_the_order_of_edges():
    space = spaces.darts()
    published = spaces.genotype("DARTS_V1")
    sorted_genotype = space.decode(space.encode(published))
    assert sorted_genotype != published
    for name in published.names:
        by_node = sorted(
            published[name].edges, key=lambda edge: (edge.target, edge.source)
        )
        assert sorted_genotype[name].edges == tuple(by_node)


# --- neighbours


def one_edit(first: Genotype, second: Genotype, keep: int | None) -> bool:
    """Tells from the genotypes alone whether they are one edit apart."""
    left = {(name, e) for name, cell in first.cells for e in cell.edges}
    right = {(name, e) for name, cell in second.cells for e in cell.edges}
    gone, come = left - right, right - left
    if len(gone) != 1 or len(come) != 1:
        return False
    (group, old), (other, new) = gone.pop(), come.pop()
    if group != other or old.target != new.target:
        return False
    if old.source == new.source:
        return True
    return keep is not None and old.operation == new.operation


@pytest.mark.parametrize("name", SMALL)
def test_neighbours_are_all_candidates_one_edit_away(name):
    space = SMALL[name]
    vectors = [tuple(genes.tolist()) for genes in every(space)]
    genotypes = [space.decode(genes) for genes in vectors]
    # The largest has 1,152 candidates: a sample of them against all.
    for i in range(0, len(vectors), 37 if name == "two" else 1):
        found = space.neighbours(vectors[i])
        assert found.dtype == np.int32 and found.shape[1] == len(space.genes)
        listed = [tuple(row) for row in found.tolist()]
        expected = {
            vectors[j]
            for j in range(len(vectors))
            if one_edit(genotypes[i], genotypes[j], space.keep)
        }
        assert set(listed) == expected
        assert len(set(listed)) == len(listed)
        assert vectors[i] not in listed


@pytest.mark.parametrize(
    # Of the recurrent cell: 3 other operations and i - 1 other sources of node i.
    ("name", "number"),
    [("darts", 120), ("nasbench201", 24), ("darts_rnn", 8 * 3 + 28)],
)
def test_neighbours_are_symmetric_and_equally_many(name, number):
    space = spaces.get(name)
    for genes in space.random(1, 5):
        near = space.neighbours(genes)
        assert near.shape == (number, len(space.genes)) and space.valid(near).all()
        assert len(np.unique(near, axis=0)) == number
        for other in near[:: number // 24]:
            back = space.neighbours(other)
            assert (back == genes).all(axis=1).sum() == 1


def test_space_of_one_candidate_has_no_neighbours():
    space = Space("single", (Group("cell", ("a",), ((0, 1),), 1, (1,)),))
    assert space.size == 1 and space.neighbours([0]).shape == (0, 1)
    assert space.random(0, 3).tolist() == [[0]] * 3


# --- valid and random


@pytest.mark.parametrize("name", ALL)
def test_valid(name):
    space = ALL[name]
    genes = space.random(0, 50)
    assert space.valid(genes).all() and space.valid(genes[0]).shape == ()
    top = np.asarray(space.genes, np.int32)
    assert space.valid(top - 1) and not space.valid(top)
    for i in range(len(top)):
        for value in (-1, top[i]):
            wrong = genes[0].copy()
            wrong[i] = value
            assert not space.valid(wrong)
            with pytest.raises(JnasError, match=f"gene {i} of {name} must be in 0"):
                space.decode(wrong)
    assert space.valid(genes.reshape(5, 10, -1)).shape == (5, 10)


def chi_square_bound(cells: int) -> float:
    """Mean plus five standard deviations of chi-square with cells - 1 degrees."""
    return (cells - 1) + 5 * np.sqrt(2 * (cells - 1))


def test_random_is_uniform():
    # Joint over all candidates of a small space; fixed seed, so no flakiness.
    space = SMALL["one"]
    draws = space.random(np.random.default_rng(7), 24_000)
    assert draws.dtype == np.int32
    counts = np.bincount(
        np.ravel_multi_index(tuple(draws.T), space.genes), minlength=space.size
    )
    expected = len(draws) / space.size
    assert ((counts - expected) ** 2 / expected).sum() < chi_square_bound(space.size)
    # Each gene, and each pair of neighbouring genes, of the big one.
    space = spaces.darts()
    draws = space.random(11, 20_000)
    for i in range(len(space.genes) - 1):
        shape = space.genes[i : i + 2]
        counts = np.bincount(
            np.ravel_multi_index((draws[:, i], draws[:, i + 1]), shape),
            minlength=shape[0] * shape[1],
        )
        expected = len(draws) / counts.size
        statistic = ((counts - expected) ** 2 / expected).sum()
        assert statistic < chi_square_bound(counts.size), i


def test_random_is_seeded_and_shaped():
    space = spaces.darts()
    assert space.random(3).shape == (22,) and space.random(3, 0).shape == (0, 22)
    np.testing.assert_array_equal(space.random(3, 4), space.random(3, 4))
    assert (space.random(3, 4) != space.random(4, 4)).any()
    rng = np.random.default_rng(3)
    first = space.random(rng)
    assert (first != space.random(rng)).any()  # a generator moves on
    np.testing.assert_array_equal(first, space.random(3))
    for bad in (None, -1, 1.5, True, "x"):
        with pytest.raises(JnasError, match="rng must be"):
            space.random(bad)  # type: ignore
    for bad in (-1, 1.5, True):
        with pytest.raises(JnasError, match="n must be"):
            space.random(0, bad)  # type: ignore


def test_genes_of_the_wrong_kind():
    space = spaces.nasbench201()
    for bad in (
        [0] * 5,
        [0.0] * 6,
        [True] * 6,
        3,
        [[0] * 6, [0]],
        ["x"] * 6,
        [10**30] * 6,
    ):
        with pytest.raises(JnasError, match=r"must be integers \[..., 6\]"):
            space.valid(bad)
        with pytest.raises(JnasError, match=r"must be integers \[..., 6\]"):
            space.decode(bad)
    for call in (space.decode, space.neighbours):
        with pytest.raises(JnasError, match="one row at a time"):
            call([[0] * 6])
    assert space.decode(np.zeros(6, np.uint8)) == space.decode([0] * 6)


# --- genotypes outside the space


def test_genotypes_outside_the_space_are_told():
    space = spaces.darts()
    base = space.decode(space.random(0))

    def message(changed) -> str:
        normal = Cell(tuple(changed), base["normal"].concat)
        genotype = Genotype("darts", (("normal", normal), ("reduce", base["reduce"])))
        with pytest.raises(JnasError) as caught:
            space.encode(genotype)
        with pytest.raises(JnasError):
            space.one_hot(genotype)
        assert str(caught.value).startswith("genotype is not in space 'darts': normal")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    edges = list(base["normal"].edges)
    first = f"edge {edges[0].target}<-{edges[0].source}"
    assert f"{first} has 'none'" in message(
        [edges[0]._replace(operation="none"), *edges[1:]]
    )
    assert f"{first} has 'sep_conv_7x7'" in message(
        [edges[0]._replace(operation="sep_conv_7x7"), *edges[1:]]
    )
    assert "edge 6<-0 is not an edge" in message([*edges, Edge("skip_connect", 0, 6)])
    assert f"{first} is listed twice" in message([edges[0], *edges])
    assert "node 2 has 1 edges (2<-1): expected 2" in message(edges[1:])
    for name in ("NASNet", "AmoebaNet", "PNASNet5"):
        with pytest.raises(JnasError, match="not in space 'darts': normal edge"):
            space.encode(spaces.genotype(name))
    with pytest.raises(JnasError, match="its cells are normal, reduce: expected cell"):
        spaces.nasbench201().encode(base)
    with pytest.raises(JnasError, match=r"Genotype\.parse"):
        space.encode("DARTS_V2")  # type: ignore
    concat = Cell(base["normal"].edges, (2, 3, 4))
    short = Genotype("darts", (("normal", concat), ("reduce", base["reduce"])))
    with pytest.raises(JnasError, match=r"normal concat is \[2, 3, 4\]"):
        space.encode(short)


def test_incomplete_nasbench201_cell_is_told():
    space = spaces.nasbench201()
    cell = space.decode([0] * 6)["cell"]
    partial = Genotype("nasbench201", (("cell", Cell(cell.edges[1:], cell.concat)),))
    with pytest.raises(JnasError, match="cell node 1 has 0 edges"):
        space.encode(partial)
    assert Genotype.parse(str(partial)) == partial  # falls back to JSON


# --- the data types


def test_groups_tell_their_structure():
    group = spaces.darts().group("reduce")
    assert (group.num_edges, group.num_operations, group.inputs) == (14, 8, 2)
    assert group.nodes == (2, 3, 4, 5) == group.concat
    assert group.incoming(4) == (5, 6, 7, 8) and group.incoming(0) == ()
    assert group.edge_names[:5] == ("2<-0", "2<-1", "3<-0", "3<-1", "3<-2")
    assert group.operations == (
        *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
        *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
    )
    cell = spaces.nasbench201().group("cell")
    assert cell.edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert cell.operations == (
        *("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
    )
    with pytest.raises(JnasError, match="did you mean 'normal'"):
        spaces.darts().group("norml")


@pytest.mark.parametrize("name", ALL)
def test_spaces_are_hashable_data(name):
    space = ALL[name]
    space.random(0)  # the caches must not change what it is
    copy = pickle.loads(pickle.dumps(space))
    assert copy == space and hash(copy) == hash(space)
    assert dataclasses.replace(space, name="other") != space
    with pytest.raises(dataclasses.FrozenInstanceError):
        space.keep = 3  # type: ignore
    lists = Space(
        space.name,
        [
            dataclasses.replace(g, edges=[list(e) for e in g.edges])
            for g in space.groups
        ],  # type: ignore
        space.keep,
        list(space.never),  # type: ignore
        fixed=list(space.fixed),  # type: ignore
    )
    assert lists == space and hash(lists) == hash(space)


BAD_GROUPS = {
    "no operations": (dict(operations=()), "at least one operation"),
    "operations a string": (dict(operations="abc"), "a list or tuple"),
    "repeated operation": (dict(operations=("a", "a")), "must be distinct"),
    "operation not text": (dict(operations=(1,)), "printable text"),
    "no edges": (dict(edges=()), "at least one edge"),
    "order": (dict(edges=((1, 2), (0, 2))), "ordered by target, then source"),
    "repeated edge": (dict(edges=((0, 2), (0, 2))), "must be distinct"),
    "backward edge": (dict(edges=((2, 1),)), "wrong source 2 of node 1"),
    "edge not a pair": (dict(edges=((0, 1, 2),)), "must be (source, target)"),
    "unfed source": (dict(edges=((0, 1), (2, 3))), "one of them"),
    "target an input": (dict(inputs=2), "no target an input"),
    "no inputs": (dict(inputs=0), "at least one input"),
    "unfed concat": (dict(concat=(5,)), "distinct states"),
    "no concat": (dict(concat=()), "distinct states"),
    "no name": (dict(name=""), "name"),
}


@pytest.mark.parametrize("case", BAD_GROUPS)
def test_malformed_groups(case):
    changes, expected = BAD_GROUPS[case]
    with pytest.raises(JnasError) as caught:
        dataclasses.replace(SMALL["all"].groups[0], **changes)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


BAD_SPACES = {
    "no groups": (dict(groups=()), "needs a tuple of groups"),
    "not groups": (dict(groups=("a",)), "needs a tuple of groups"),
    "same names": (dict(groups=SMALL["all"].groups * 2), "must be distinct"),
    "keep too many": (dict(keep=2), "keep must be in 1..1"),
    "keep none": (dict(keep=0), "keep must be in 1..1"),
    "keep text": (dict(keep="2"), "must be a state number"),
    "unknown never": (dict(never=("aa",)), "did you mean 'a'"),
    "all never": (dict(never=("a", "b")), "leave at least one"),
    "no name": (dict(name=None), "name"),
}


@pytest.mark.parametrize("case", BAD_SPACES)
def test_malformed_spaces(case):
    changes, expected = BAD_SPACES[case]
    with pytest.raises(JnasError) as caught:
        dataclasses.replace(SMALL["all"], **changes)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


# --- the registry and the package


def test_registry(monkeypatch):
    from jnas.spaces import registry

    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    assert spaces.get("darts") is spaces.darts()
    robust = tuple(f"robust_darts_s{i}" for i in range(1, 5))
    assert spaces.names() == (
        "darts", "darts_frc", "darts_rnn", "nasbench201", *robust,
    )  # fmt: skip
    spaces.register("mine", lambda: SMALL["one"])
    assert spaces.get("mine") is SMALL["one"] and "mine" in spaces.names()
    with pytest.raises(JnasError, match="did you mean 'nasbench201'"):
        spaces.get("nasbench")
    with pytest.raises(JnasError, match="unknown space 3"):
        spaces.get(3)  # type: ignore
    with pytest.raises(JnasError, match="exists already"):
        spaces.register("mine", lambda: SMALL["one"])
    with pytest.raises(JnasError, match="must be callable"):
        spaces.register("other", SMALL["one"])  # type: ignore
    with pytest.raises(JnasError, match="must be printable text"):
        spaces.register("", lambda: SMALL["one"])
    spaces.register("broken", lambda: None)  # type: ignore
    with pytest.raises(JnasError, match="must return a Space, got None"):
        spaces.get("broken")


def test_public_names_are_documented():
    for name in spaces.__all__:
        assert getattr(spaces, name).__doc__, name


def test_import_needs_no_jax():
    code = (
        "import sys, jnas.spaces\n"
        "heavy = {m.split('.')[0] for m in sys.modules} & {'jax', 'jaxlib', 'flax', "
        "'optax', 'scipy'}\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_all_of_nasbench201_is_coded_quickly():
    space = spaces.nasbench201()
    genes = every(space)
    best = float("inf")
    for _ in range(3):  # the quietest of three: the machine may be shared
        start = time.process_time()
        coded = [space.encode(space.decode(row)) for row in genes]
        best = min(best, time.process_time() - start)
        if best < 1:
            break
    np.testing.assert_array_equal(coded, genes)
    assert best < 1, f"{best:.2f} s"
