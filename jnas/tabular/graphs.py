"""The rules of NAS-Bench-101's cells, on whole arrays of genes.

A cell has 7 vertices, 0 the input and 6 the output. Genes are the 21 bits above the
diagonal of its adjacency matrix, row by row, then the operations of vertices 1 to 5.
What is not on a path from input to output is pruned; a cell is valid if there is a path
and at most 9 edges are left.

All functions act on the last axis and take NumPy or JAX arrays; rows of the matrix are
kept as the bits of one integer, so that reachability takes one pass over the vertices.

Source: Ying et al., NAS-Bench-101, ICML 2019, sections 2.1 and 2.2, and its code.
"""

import itertools
from typing import Any

import numpy as np

__all__ = ["CARDINALITIES", "EDGES", "MAX_EDGES", "active", "canonical", "valid"]

VERTICES = 7
MAX_EDGES = 9
INNER = tuple(range(1, VERTICES - 1))
OUTPUT = VERTICES - 1
# Source and target of each bit.
EDGES = tuple(itertools.combinations(range(VERTICES), 2))
CARDINALITIES = (2,) * len(EDGES) + (3,) * len(INNER)
# The label of a vertex that was pruned.
PRUNED = 3
_BIT = {edge: i for i, edge in enumerate(EDGES)}
# 32-bit, which they are whether JAX's 64-bit mode is on or not.
_SOURCES, _TARGETS = np.array(EDGES, np.int32).T
_PAIRS = tuple(itertools.combinations(range(len(INNER)), 2))
_FROM_INPUT = np.array([_BIT[0, vertex] for vertex in INNER], np.int32)
_TO_OUTPUT = np.array([_BIT[vertex, OUTPUT] for vertex in INNER], np.int32)
_WITHIN = np.array([_BIT[INNER[u], INNER[v]] for u, v in _PAIRS], np.int32)


def active(genes: Any) -> Any:
    """Which vertices are on a path from input to output, as the bits of an integer.

    Args:
      genes: integers ``[..., 26]``, NumPy's or JAX's.

    Returns:
      Integers ``[...]``, bit ``v`` for vertex ``v``; 0 if there is no path.

    Example:
      >>> genes = np.zeros(26, np.int32)
      >>> int(active(genes))
      0
      >>> genes[5] = 1  # from input to output
      >>> int(active(genes)) == 1 | 1 << 6
      True
    """
    rows = []
    for vertex in range(VERTICES - 1):
        first = _BIT[vertex, vertex + 1]
        bits = genes[..., first : first + OUTPUT - vertex]
        powers = _vector([1 << v for v in range(vertex + 1, VERTICES)], genes)
        rows.append((bits * powers).sum(-1))
    forward = genes[..., 0] * 0 + 1
    # Edges lead upwards: vertices before this one have been done.
    for vertex in range(VERTICES - 1):
        forward = forward | rows[vertex] * ((forward >> vertex) & 1)
    backward = genes[..., 0] * 0 + (1 << OUTPUT)
    for vertex in reversed(range(VERTICES - 1)):
        reaches = (rows[vertex] & backward) != 0
        backward = backward | (reaches.astype(genes.dtype) << vertex)
    both = forward & backward
    return both * (both & 1)


def valid(genes: Any) -> Any:
    """Whether cells are valid: a path, at most 9 edges on paths, genes in range.

    Args:
      genes: integers ``[..., 26]``, NumPy's or JAX's.

    Returns:
      Booleans ``[...]``.

    Example:
      >>> bool(valid(np.zeros(26, np.int32)))
      False
    """
    inside = (genes >= 0) & (genes < _vector(CARDINALITIES, genes))
    edges, alive = _pruned(genes)
    return inside.all(-1) & (alive[..., 0] != 0) & (edges.sum(-1) <= MAX_EDGES)


def _vector(values: Any, like: Any) -> np.ndarray:
    """A constant for the last axis of an array, with as many axes."""
    return np.array(values, np.int32).reshape((1,) * (like.ndim - 1) + (-1,))


def _pruned(genes: Any) -> tuple[Any, Any]:
    """The edges that are left, ``[..., 21]``, and which vertices are, ``[..., 7]``."""
    on_path = active(genes)[..., None]
    alive = (on_path >> _vector(range(VERTICES), genes)) & 1
    edges = genes[..., : len(EDGES)] * alive[..., _SOURCES] * alive[..., _TARGETS]
    return edges, alive


# All orders of the inner vertices, for each the place that a vertex gets.
_ORDERS = np.array(list(itertools.permutations(range(len(INNER)))), np.int64)


def _weights() -> tuple[np.ndarray, np.ndarray]:
    """What a vertex and an inner edge add to the two numbers in each order.

    Powers of two, up to 2**20: exact in float32, where sums stay below 2**24.
    """
    places = 16.0**_ORDERS
    everything = len(INNER)
    source = _ORDERS[:, [u for u, _ in _PAIRS]]
    target = _ORDERS[:, [v for _, v in _PAIRS]]
    # Numbers of the ordered pairs of different vertices.
    number = source * (everything - 1) + target - (target > source)
    return places.T.astype(np.float32), (2.0**number).T.astype(np.float32)


_VERTEX_WEIGHTS, _EDGE_WEIGHTS = _weights()


def canonical(genes: Any, xp: Any = np) -> Any:
    """Two numbers that are equal exactly for isomorphic pruned cells.

    In each of the 120 orders of the inner vertices a cell is two numbers: the labels of
    its vertices with their edges from the input and to the output (20 bits) and the
    edge from input to output; and its inner edges (20 bits, one for each ordered pair).
    The lexicographically smallest pair is the same for all orders of one graph.

    Args:
      genes: integers ``[..., 26]``, NumPy's or JAX's.
      xp: ``numpy`` or ``jax.numpy``.

    Returns:
      int32 ``[..., 2]``.

    Example:
      >>> first, second = np.zeros((2, 26), np.int32)
      >>> first[[0, 10]] = 1  # 0 -> 1 -> 6
      >>> second[[2, 17]] = 1  # 0 -> 3 -> 6
      >>> bool((canonical(first) == canonical(second)).all())
      True
    """
    edges, alive = _pruned(genes)
    alive = alive[..., 1:OUTPUT]
    labels = genes[..., len(EDGES) :] * alive + PRUNED * (1 - alive)
    vertices = labels * 4 + edges[..., _FROM_INPUT] * 2 + edges[..., _TO_OUTPUT]
    inner = edges[..., _WITHIN]
    # Powers of two times small integers: exact at any precision of the products.
    first = xp.matmul(vertices.astype(np.float32), _VERTEX_WEIGHTS)
    second = xp.matmul(inner.astype(np.float32), _EDGE_WEIGHTS)
    smallest = xp.min(first, axis=-1, keepdims=True)
    second = xp.min(xp.where(first == smallest, second, 2.0**21), axis=-1)
    through = edges[..., _BIT[0, OUTPUT]]
    return xp.stack(
        [
            smallest[..., 0].astype(np.int32) + (through.astype(np.int32) << 20),
            second.astype(np.int32),
        ],
        -1,
    )
