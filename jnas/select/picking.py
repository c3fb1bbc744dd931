"""What selectors share: strengths of candidates, and cells made of the picked ones.

Letters: ``E`` edges and ``O`` operations of a group.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jnas.errors import JnasError, unknown_name
from jnas.mixture import Mixture, over_cells
from jnas.spaces import Cell, Edge, Genotype, Group, Space

__all__ = [
    "Picks",
    "cell",
    "check_excluded",
    "generator",
    "genotype",
    "pick",
    "strengths",
]

Picks = list[tuple[int, int]]


def strengths(mixture: Mixture, group: Group) -> np.ndarray:
    """How strong each candidate of a group is.

    Args:
      mixture: the relaxation's deterministic view.
      group: the group.

    Returns:
      Float64 ``[E, O]``: the weights, times the edges' where a mixture has such; the
      mean over cells where these differ.

    Raises:
      JnasError: if a weight is not finite.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> strengths(jnas.mixture.uniform(space), space.group("cell")).shape
      (6, 5)
    """
    weights = over_cells(mixture, group.name)  # one genotype for all cells
    if mixture.edges is not None:
        weights = weights * np.asarray(mixture.edges[group.name])[:, None]
    if not np.all(np.isfinite(weights)):
        raise JnasError(
            f"mixture of group {group.name!r} is not finite: the search diverged, "
            "derive from an earlier checkpoint"
        )
    return weights


def check_excluded(exclude: Sequence[str], space: Space) -> None:
    """Raises for an operation that no group of the space has.

    Args:
      exclude: names of operations.
      space: the space.

    Raises:
      JnasError: with close matches.

    Example:
      >>> import jnas
      >>> check_excluded(("none",), jnas.spaces.nasbench201())
    """
    known = {name for group in space.groups for name in group.operations}
    for name in exclude:
        if name not in known:
            raise unknown_name(f"operation of {space.name}", name, known)


def pick(
    weights: np.ndarray,
    space: Space,
    group: Group,
    *,
    exclude: Sequence[str] = (),
    least: float | None = None,
    per_node: int | None = None,
) -> Picks:
    """Picks the strongest candidate of each edge and the strongest edges of each node.

    Args:
      weights: ``[E, O]``, the strengths.
      space: the space; where its edges are optional, those are left out on which an
        operation that can't be selected is strongest.
      group: the group.
      exclude: operations to leave out of account.
      least: edges that are weaker are left out; for spaces whose edges are optional.
      per_node: number of edges that a node keeps; by default what the space says.

    Returns:
      Pairs (row, column) in the order of the nodes; those of a node by strength where
      it does not keep all its edges, ties by source.

    Raises:
      JnasError: if a node has too few candidates left.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> pick(np.eye(6, 5), space, space.group("cell"))[:3]
      [(0, 0), (1, 1), (2, 2)]
    """
    counted = group.allowed & [name not in exclude for name in group.operations]
    mask = counted & space.selectable(group.name)
    best = np.argmax(np.where(mask, weights, -np.inf), axis=1)
    rows = np.arange(group.num_edges)
    strength = weights[rows, best]
    able = np.any(mask, axis=1)
    if space.optional:
        strongest = np.argmax(np.where(counted, weights, -np.inf), axis=1)
        able &= mask[rows, strongest]
    if per_node is None:
        per_node = space.keep
    picks: Picks = []
    for node in group.nodes:
        entering = sorted(group.incoming(node), key=lambda e: group.edges[e][0])
        found = [e for e in entering if able[e]]
        needed = len(entering) if per_node is None else per_node
        if len(found) < needed and not space.optional:
            lacking = [group.edge_names[e] for e in entering if not able[e]]
            raise JnasError(
                f"group {group.name!r}: edge {lacking[0]} has no candidate left "
                f"without {', '.join(exclude)}: exclude fewer operations"
            )
        if per_node is not None:
            # sorted() is stable, so equal strengths keep the order of sources.
            found = sorted(found, key=lambda e: -strength[e])[:per_node]
        picks += [
            (e, int(best[e])) for e in found if least is None or strength[e] >= least
        ]
    if space.optional:
        picks = _connected(picks, group)
        if not picks:
            picks = _strongest_path(strength, np.any(mask, axis=1), best, group)
    return picks


def cell(picks: Picks, space: Space, group: Group) -> Cell:
    """The cell of what was picked.

    Args:
      picks: pairs (row, column), not empty; connected where edges are optional.
      space: the space.
      group: the group.

    Returns:
      The cell; where edges are optional, without nodes that have none in its output.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> cell([(0, 1)], space, space.group("cell")).edges
      (Edge(operation='skip_connect', source=0, target=1),)
    """
    edges = tuple(
        Edge(group.operations[column], *group.edges[row]) for row, column in picks
    )
    concat = group.concat
    if space.optional:
        fed = {*range(group.inputs), *(edge.target for edge in edges)}
        concat = tuple(state for state in concat if state in fed)
    return Cell(edges, concat)


def genotype(space: Space, picks: dict[str, Picks]) -> Genotype:
    """The genotype of what was picked in each group.

    Args:
      space: the space.
      picks: pairs (row, column) by group.

    Returns:
      The genotype.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> str(genotype(space, {"cell": [(edge, 1) for edge in range(6)]}))[:16]
      '|skip_connect~0|'
    """
    return Genotype(
        space.name,
        tuple(
            (group.name, cell(picks[group.name], space, group))
            for group in space.groups
        ),
    )


def generator(key: Any, what: str) -> np.random.Generator:
    """A NumPy generator that depends on a JAX key only.

    Args:
      key: typed or raw PRNG key.
      what: who needs it, for the message.

    Returns:
      The generator.

    Raises:
      JnasError: if there is no key.

    Example:
      >>> import jax
      >>> int(generator(jax.random.key(0), "sample").integers(100)) < 100
      True
    """
    if key is None:
        raise JnasError(
            f"{what} draws at random and needs a key: pass key=jax.random.key(0)"
        )
    import jax

    if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    return np.random.default_rng(np.asarray(key).ravel().tolist())


def _connected(picks: Picks, group: Group) -> Picks:
    """Without edges that read a node without edges; empty if no output is left."""
    fed = set(range(group.inputs))
    left = []
    for row, column in picks:  # nodes in order, so sources come first
        source, target = group.edges[row]
        if source in fed:
            left.append((row, column))
            fed.add(target)
    return left if fed & set(group.concat) - set(range(group.inputs)) else []


def _strongest_path(
    strength: np.ndarray, able: np.ndarray, best: np.ndarray, group: Group
) -> Picks:
    """The path from an input to the output whose weakest edge is strongest."""
    # state: (strength of the weakest edge, rows of the path)
    paths: dict[int, tuple[float, tuple[int, ...]]] = {
        state: (np.inf, ()) for state in range(group.inputs)
    }
    for row, (source, target) in enumerate(group.edges):
        if able[row] and source in paths:
            width = min(paths[source][0], strength[row])
            if target not in paths or width > paths[target][0]:
                paths[target] = (width, (*paths[source][1], row))
    ends = [paths[state] for state in group.concat if paths.get(state, (0, ()))[1]]
    if not ends:
        raise JnasError(
            f"nothing can reach the output of group {group.name!r}: its edges have too "
            "few candidates that can be selected"
        )
    rows = max(ends, key=lambda path: path[0])[1]
    return [(row, int(best[row])) for row in rows]
