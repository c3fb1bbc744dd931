"""Fronts, crowding and hypervolume against plain loops and brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.discrete import pareto
from jnas.errors import JnasError


def better(a, b):
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(
        x > y for x, y in zip(a, b, strict=True)
    )


def plain_ranks(rows):
    rank, left, number = [len(rows)] * len(rows), set(range(len(rows))), 0
    left = {i for i in left if all(np.isfinite(rows[i]))}
    while left:
        now = {i for i in left if not any(better(rows[j], rows[i]) for j in left)}
        for i in now:
            rank[i] = number
        left -= now
        number += 1
    return rank


def plain_crowding(rows, rank):
    apart = [0.0] * len(rows)
    for number in set(rank) - {len(rows)}:
        front = [i for i in range(len(rows)) if rank[i] == number]
        for m in range(len(rows[0])):
            order = sorted(front, key=lambda i, m=m: rows[i][m])
            span = rows[order[-1]][m] - rows[order[0]][m] or 1.0
            apart[order[0]] = apart[order[-1]] = np.inf
            for before, i, after in zip(order, order[1:], order[2:], strict=False):
                apart[i] += (rows[after][m] - rows[before][m]) / span
    return apart


def drawn(seed, n, m, values):
    """Integers, so that ties and equal rows occur; one row fails."""
    rows = np.random.default_rng(seed).integers(0, values, (n, m)).astype(np.float32)
    rows[seed % n] = -np.inf
    return rows


@pytest.mark.parametrize(("n", "m", "values"), [(17, 2, 6), (23, 3, 4), (9, 1, 5)])
def test_fronts_and_crowding_are_those_of_plain_loops(n, m, values):
    ranks, crowding = jax.jit(pareto.ranks), jax.jit(pareto.crowding)
    for seed in range(10):
        rows = drawn(seed, n, m, values)
        want = plain_ranks(rows.tolist())
        rank = np.asarray(ranks(rows))
        np.testing.assert_array_equal(rank, want)
        np.testing.assert_array_equal(pareto.non_dominated(rows), rank == 0)
        np.testing.assert_allclose(
            crowding(rows, rank), plain_crowding(rows.tolist(), want), rtol=1e-6
        )


def test_vmap_over_sets():
    rows = np.stack([drawn(seed, 12, 2, 5) for seed in range(4)])
    np.testing.assert_array_equal(
        jax.vmap(pareto.ranks)(rows), [plain_ranks(r.tolist()) for r in rows]
    )


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_hypervolume_is_the_number_of_unit_cubes(m):
    """With integer scores the volume is a count of cells below some point."""
    volume = jax.jit(pareto.hypervolume)
    for seed in range(5):
        rows = drawn(seed, 7, m, 6)
        reference = np.full(m, 1.0, np.float32)
        cells = itertools.product(range(6), repeat=m)
        want = sum(
            any(all(r[k] >= c[k] + 1 for k in range(m)) for r in rows)
            for c in cells
            if all(x >= 1 for x in c)
        )
        assert float(volume(rows, reference)) == want


def test_hypervolume_of_nothing_and_of_what_is_not_above_the_reference():
    assert float(pareto.hypervolume([[-1.0, 5.0], [np.nan, 1.0]], [0.0, 0.0])) == 0.0
    assert float(pareto.hypervolume([[2.0, 0.0], [0.0, 2.0]], [0.0, 0.0])) == 0.0


def test_adding_a_dominated_row_changes_nothing():
    rows = jnp.array([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0]])
    more = jnp.concatenate([rows, jnp.array([[1.0, 1.0, 1.0]])])
    reference = jnp.zeros(3)
    assert pareto.hypervolume(rows, reference) == pareto.hypervolume(more, reference)
    assert pareto.non_dominated(more).tolist() == [True, True, False]


def test_wrong_shapes_are_one_clear_line():
    with pytest.raises(JnasError, match=r"shape \[n, M\]"):
        pareto.non_dominated([1.0, 2.0])
    with pytest.raises(JnasError, match="a reference of 2 scores"):
        pareto.hypervolume([[1.0, 2.0]], [0.0])
