"""Whether a genotype lies in a space, and which choices it makes there."""

from collections.abc import Sequence

from jnas import errors
from jnas.spaces import groups as groups_lib
from jnas.spaces.genotypes import Genotype

__all__ = ["choices"]


def choices(
    genotype: Genotype,
    *,
    name: str,
    groups: Sequence[groups_lib.Group],
    keep: int | None,
    never: Sequence[str],
    optional: bool = False,
) -> list[dict[int, int]]:
    """Returns what a genotype chooses in each group, once it is known to fit.

    Args:
      genotype: the genotype; the order of its edges and its space's name don't matter.
      name: name of the space, for messages.
      groups: the space's groups.
      keep: number of incoming edges that each node keeps; None for all.
      never: operations that can't be selected.
      optional: whether a node may keep fewer edges; nodes without are then left out of
        the output.

    Returns:
      For each group {row of a kept edge: column of its operation}.

    Raises:
      JnasError: naming the first edge (or node) that does not fit.

    Example:
      >>> from jnas.spaces.cells import Cell, Edge
      >>> group = groups_lib.Group("cell", ("none", "skip"), ((0, 1),), 1, (1,))
      >>> g = Genotype("tiny", (("cell", Cell((Edge("skip", 0, 1),), (1,))),))
      >>> choices(g, name="tiny", groups=[group], keep=None, never=())
      [{0: 1}]
    """
    expected = tuple(group.name for group in groups)
    if genotype.names != expected:
        raise _misfit(
            name,
            f"its cells are {', '.join(genotype.names)}: expected "
            f"{', '.join(expected)}",
        )
    result = []
    for group, (_, cell) in zip(groups, genotype.cells, strict=True):
        chosen: dict[int, int] = {}
        for edge in cell.edges:
            where = f"{group.name} edge {edge.target}<-{edge.source}"
            row = group.rows.get((edge.source, edge.target))
            if row is None:
                raise _misfit(
                    name,
                    f"{where} is not an edge of the group: expected one of "
                    f"{', '.join(group.edge_names)}",
                )
            column = group.columns.get(edge.operation)
            if (
                column is None
                or edge.operation in never
                or not group.allowed[row, column]
            ):
                known = [
                    op
                    for op, allowed in zip(
                        group.operations, group.allowed[row], strict=True
                    )
                    if allowed and op not in never
                ]
                raise _misfit(
                    name,
                    f"{where} has {edge.operation!r}: expected one of "
                    f"{', '.join(known)}",
                )
            if row in chosen:
                raise _misfit(name, f"{where} is listed twice: expected once")
            chosen[row] = column
        if keep is not None or len(chosen) != group.num_edges:
            _check_kept(name, group, chosen, keep, optional)
        concat = group.concat
        if optional:
            concat = _check_sources(name, group, chosen)
        if cell.concat != concat:
            raise _misfit(
                name,
                f"{group.name} concat is {list(cell.concat)}: expected {list(concat)}",
            )
        result.append(chosen)
    return result


def _check_kept(
    name: str,
    group: groups_lib.Group,
    chosen: dict[int, int],
    keep: int | None,
    optional: bool,
) -> None:
    """Raises for the first node with too few or too many edges."""
    for node in group.nodes:
        incoming = group.incoming(node)
        kept = [group.edge_names[row] for row in incoming if row in chosen]
        expected = len(incoming) if keep is None else keep
        if len(kept) > expected or (len(kept) < expected and not optional):
            raise _misfit(
                name,
                f"{group.name} node {node} has {len(kept)} edges "
                f"({', '.join(kept) or 'none'}): expected "
                f"{'at most ' if optional else ''}{expected}",
            )


def _check_sources(
    name: str, group: groups_lib.Group, chosen: dict[int, int]
) -> tuple[int, ...]:
    """The states of the output; raises where a state is read that has no edges."""
    fed = {*range(group.inputs), *(group.edges[row][1] for row in chosen)}
    for row in chosen:
        if group.edges[row][0] not in fed:
            raise _misfit(
                name,
                f"{group.name} edge {group.edge_names[row]} reads a node without "
                "edges: expected it to be left out",
            )
    concat = tuple(state for state in group.concat if state in fed)
    if not concat:
        raise _misfit(name, f"nothing reaches the output of {group.name}")
    return concat


def _misfit(name: str, reason: str) -> errors.JnasError:
    return errors.JnasError(f"genotype is not in space {name!r}: {reason}")
