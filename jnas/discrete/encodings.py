"""Candidates as vectors of numbers, what a predictor is trained on.

Letters: ``L`` genes, ``F`` features, ``E`` edges of a group, ``O`` operations.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import domain, errors, spaces
from jnas.discrete import choices

__all__ = ["Encoding", "edges", "encoding", "one_hot", "paths"]

# Path features that are kept without being asked for, and how many of more.
_MANY, _FEW = 1000, 100


class Encoding(NamedTuple):
    """Features of a candidate.

    Attributes:
      name: its name.
      size: number of features, ``F``.
      encode: ``(genes int32 [L]) -> float32 [F]``, traceable.
    """

    name: str
    size: int
    encode: Callable[[jax.Array], jax.Array]


def encoding(
    space: Any, kind: str | Callable[[jax.Array], jax.Array], truncate: int | None
) -> Encoding:
    """Returns the encoding of a name, or of the user's own function.

    Args:
      space: a space or its name.
      kind: "path", "adjacency" (`one_hot`), or ``(genes [L]) -> [F]``, traceable.
      truncate: see `paths`.

    Returns:
      The encoding.

    Raises:
      JnasError: the name is unknown or the space has no paths.

    Example:
      >>> encoding("nasbench201", "path", None).size
      155
    """
    own = domain.of(space)
    if callable(kind):
        like = jax.ShapeDtypeStruct((len(own.cardinalities),), jnp.int32)
        shape = jax.eval_shape(kind, like).shape
        if len(shape) != 1:
            raise errors.JnasError(
                f"an encoding makes a vector of one candidate, got shape {list(shape)}"
            )
        name = getattr(kind, "__name__", "own")
        return Encoding(name, shape[0], lambda g: kind(g).astype(jnp.float32))
    if kind == "path":
        return paths(own.space, truncate)
    if kind == "adjacency":
        return one_hot(own.space)
    raise errors.unknown_name("encoding", kind, ("path", "adjacency"))


def one_hot(space: Any) -> Encoding:
    """Returns the one-hot vectors of the genes, one after the other.

    Args:
      space: a space or its name.

    Returns:
      The encoding; as many features as the genes have values together.

    Example:
      >>> one_hot("nasbench201").size
      30
    """
    sizes = np.asarray(domain.of(space).cardinalities)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    total = int(sizes.sum())

    def encode(genes):
        return jnp.zeros(total, jnp.float32).at[genes + starts].set(1.0)

    return Encoding("adjacency", total, encode)


def edges(space: Any) -> Callable[[jax.Array], list[jax.Array]]:
    """Returns what reads the edges off a candidate.

    Args:
      space: a `jnas.Space` or its name.

    Returns:
      ``(genes [L]) -> [int32 [E], ...]``, for each group the operation (column) on
      each edge (row), -1 where the edge is not kept; traceable.

    Raises:
      JnasError: the space is no `jnas.Space`.

    Example:
      >>> [row.tolist() for row in edges("nasbench201")(jnp.arange(6) % 5)]
      [[0, 1, 2, 3, 4, 0]]
    """
    if isinstance(space, str):
        space = spaces.get(space)
    if not isinstance(space, spaces.Space):
        raise errors.JnasError(
            f"{getattr(space, 'name', type(space).__name__)} is no space of cells with "
            'a fixed list of edges: bananas takes encoding="adjacency" there, pnas '
            "can't search it"
        )
    groups, picks = space.groups, choices.picks_of(space)

    def read(genes):
        found = [jnp.full(group.num_edges, -1, jnp.int32) for group in groups]
        for group, kept, operations in picks(genes):
            found[group] = found[group].at[kept].set(operations)
        return found

    return read


def paths(space: Any, truncate: int | None = None) -> Encoding:
    """Returns the path encoding of BANANAS.

    One bit for each sequence of operations, of each group and input: whether some path
    from that input to an output of the cell carries it. Every operation is a letter of
    its own, "none" and skip included, and paths are those of kept edges, as in the
    authors' code: NAS-Bench-201 has 5 + 25 + 125 = 155 bits of which 1 to 4 are set,
    DARTS' space 4 * (7 + 49 + 343 + 2401). (White, Neiswanger & Savani, BANANAS, AAAI
    2021, section 4.)

    Features are ordered by length, so that truncating drops the longest paths of all
    groups and inputs alike (the authors' code orders by group and input first in
    DARTS' space).

    Args:
      space: a `jnas.Space` or its name.
      truncate: number of features that are kept, the shortest paths first; None keeps
        all where they are at most 1,000, else 100 as published for DARTS' space.

    Returns:
      The encoding.

    Raises:
      JnasError: the space is no `jnas.Space`, or `truncate` is no number >= 1.

    Example:
      >>> own = paths("nasbench201")
      >>> own.size, float(own.encode(jnp.zeros(6, jnp.int32)).sum())
      (155, 3.0)
    """
    own = domain.of(space).space
    read = edges(own)
    listed = []  # (length, group, input, rows of the group)
    letters = []  # of each group: number of letters, column -> letter
    for number, group in enumerate(own.groups):
        columns = np.flatnonzero(own.selectable(group.name).any(axis=0))
        letter = np.zeros(group.num_operations, np.int32)
        letter[columns] = np.arange(len(columns))
        letters.append((len(columns), letter))
        for source, rows in _routes(group):
            listed.append((len(rows), number, source, rows))
    listed.sort(key=lambda path: path[:3])
    starts, total = {}, 0
    for length, number, source, _ in listed:
        if (length, number, source) not in starts:
            starts[length, number, source] = total
            total += letters[number][0] ** length
    size = total
    if truncate is None:
        size = total if total <= _MANY else _FEW
    elif isinstance(truncate, bool) or not isinstance(truncate, int) or truncate < 1:
        raise errors.JnasError(
            f"truncate must be a number of features >= 1 or None, got {truncate!r}"
        )
    else:
        size = min(truncate, total)
    # Paths that only have features beyond the end need not be followed.
    listed = [path for path in listed if starts[path[:3]] < size]

    def encode(genes):
        chosen = read(genes)
        bits = jnp.zeros(size, jnp.float32)
        for length, number, source, rows in listed:
            many, letter = letters[number]
            operations = chosen[number][np.asarray(rows)]
            powers = many ** np.arange(length, dtype=np.int32)
            place = starts[length, number, source]
            place += jnp.sum(jnp.asarray(letter)[operations] * powers)
            kept = jnp.all(operations >= 0)
            bits = bits.at[jnp.where(kept, place, size)].set(1.0, mode="drop")
        return bits

    return Encoding("path", size, encode)


def _routes(group: spaces.Group) -> list[tuple[int, tuple[int, ...]]]:
    """All (input, rows of edges) from an input to a state of the output."""
    found: list[tuple[int, tuple[int, ...]]] = []
    open_: list[tuple[int, int, tuple[int, ...]]] = [
        (source, source, ()) for source in range(group.inputs)
    ]
    while open_:
        source, state, rows = open_.pop()
        if state in group.concat and rows:
            found.append((source, rows))
        for (start, target), row in group.rows.items():
            if start == state:
                open_.append((source, target, (*rows, row)))
    return found
