"""Encodings against plain enumeration of genotypes, and published figures."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas.discrete import encodings
from jnas.errors import JnasError

NB201 = jnas.spaces.nasbench201()
S2 = jnas.spaces.robust_darts("S2")
DARTS = jnas.spaces.darts()


def plain_paths(space, genes):
    """{(group, input, operations)} of a candidate, from its genotype."""
    found = set()
    genotype = space.decode(genes)
    for group in space.groups:
        edges = genotype[group.name].edges

        def walk(source, state, names, edges=edges, group=group):
            if names and state in group.concat:
                found.add((group.name, source, names))
            for edge in edges:
                if edge.source == state:
                    walk(source, edge.target, (*names, edge.operation))

        for source in range(group.inputs):
            walk(source, source, ())
    return found


@pytest.mark.parametrize("space", [NB201, S2], ids=lambda s: s.name)
def test_paths_are_equal_exactly_where_the_sets_of_paths_are(space):
    """Bits and paths correspond one to one, over many candidates."""
    own = encodings.paths(space)
    encode = jax.jit(jax.vmap(own.encode))
    genes = space.random(0, 300)
    rows = np.asarray(encode(genes))
    assert set(np.unique(rows)) == {0.0, 1.0}
    names = {}  # bit -> the path that it means, found by elimination
    sets = [plain_paths(space, g) for g in genes]
    np.testing.assert_array_equal(rows.sum(1), [len(s) for s in sets])
    for path in set().union(*sets):
        has = np.array([path in s for s in sets])
        bits = np.flatnonzero((rows[has] == 1).all(0) & (rows[~has] == 0).all(0))
        assert len(bits) >= 1, path
        names.setdefault(tuple(rows[:, bits[0]]), []).append(path)
    # As many different columns as different occurrences of paths.
    columns = {tuple(c) for c in rows.T if c.any()}
    assert columns == set(names)


def test_nasbench201_has_the_published_155_features():
    own = encodings.paths(NB201)
    assert own.size == 5 + 25 + 125 == 155
    encode = jax.jit(own.encode)

    def bits(*names):
        operations = NB201.groups[0].operations
        genes = jnp.array([operations.index(n) for n in names])
        return np.flatnonzero(encode(genes)).tolist()

    # Edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2; none 0, skip 1, 1x1 2, 3x3 3, pool 4:
    # the paths 3<-0 | 3<-1<-0 | 3<-2<-0 | 3<-2<-1<-0, the first operation the lowest
    # digit of base 5.
    names = "nor_conv_1x1", "nor_conv_3x3", "skip_connect"
    names += "avg_pool_3x3", "none", "avg_pool_3x3"
    assert bits(*names) == sorted(
        {4, 5 + 2 + 5 * 0, 5 + 3 + 5 * 4, 30 + 2 + 5 * 1 + 25 * 4}
    )
    # Two paths with the same operations are one bit.
    assert bits(*["none"] * 6) == [0, 5, 30]


def test_all_nasbench201_cells_set_one_to_four_bits():
    every = np.array(list(itertools.product(range(5), repeat=6)), np.int32)
    rows = np.asarray(jax.jit(jax.vmap(encodings.paths(NB201).encode))(every))
    counts = rows.sum(1)
    # Paths of lengths 1 and 3 are single, the two of length 2 may coincide.
    assert set(counts.tolist()) == {3.0, 4.0}
    same = (every[:, 0] == every[:, 1]) & (every[:, 4] == every[:, 5])
    np.testing.assert_array_equal(counts == 3, same)


def test_truncation_keeps_the_shortest_paths():
    whole = encodings.paths(NB201)
    short = encodings.paths(NB201, truncate=30)
    for genes in NB201.random(1, 20):
        np.testing.assert_array_equal(
            whole.encode(jnp.asarray(genes))[:30], short.encode(jnp.asarray(genes))
        )
    assert encodings.paths(DARTS).size == 100  # of 11,200
    assert encodings.paths(DARTS, truncate=10**6).size == 4 * (7 + 49 + 343 + 2401)


@pytest.mark.parametrize("space", [NB201, S2, DARTS], ids=lambda s: s.name)
def test_edges_are_those_of_the_genotype(space):
    read = jax.jit(encodings.edges(space))
    for genes in space.random(2, 20):
        rows = read(jnp.asarray(genes))
        one_hot = space.one_hot(space.decode(genes))
        for group, row in zip(space.groups, rows, strict=True):
            kept = np.asarray(row) >= 0
            want = one_hot[group.name]
            np.testing.assert_array_equal(kept, want.any(1))
            np.testing.assert_array_equal(np.asarray(row)[kept], want.argmax(1)[kept])


def test_one_hot_and_own_encodings():
    own = encodings.one_hot(S2)
    genes = S2.random(3)
    want = np.concatenate([np.eye(n)[g] for g, n in zip(genes, S2.genes, strict=True)])
    np.testing.assert_array_equal(own.encode(jnp.asarray(genes)), want)
    mine = encodings.encoding(S2, lambda g: g[:3] * 2, None)
    assert mine.size == 3 and mine.encode(jnp.asarray(genes)).dtype == jnp.float32


def test_wrong_encodings_are_one_clear_line():
    with pytest.raises(JnasError, match="unknown encoding 'paths'"):
        encodings.encoding(NB201, "paths", None)
    with pytest.raises(JnasError, match="makes a vector of one candidate"):
        encodings.encoding(NB201, jnp.sum, None)
    with pytest.raises(JnasError, match="truncate must be a number"):
        encodings.paths(NB201, truncate=0)
    with pytest.raises(JnasError, match="is no space of cells"):
        encodings.edges(3)
