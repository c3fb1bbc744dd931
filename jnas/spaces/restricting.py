"""Edges with candidates of their own: making them and checking that they suffice."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jnas import errors
from jnas.spaces import cells
from jnas.spaces.groups import Group

__all__ = ["check_candidates", "restricted"]

Names = Sequence[str]


def restricted(
    groups: Sequence[Group], candidates: Mapping[str, Names | Sequence[Names]]
) -> tuple[Group, ...]:
    """Returns groups with fewer candidates.

    Args:
      groups: the groups.
      candidates: of some of the groups, one list of names for all edges, or a list for
        each edge.

    Returns:
      The groups; operations that no edge can choose any more are dropped.

    Raises:
      JnasError: if a name is unknown, or an edge would have no operation.

    Example:
      >>> group = Group("cell", ("none", "skip", "conv"), ((0, 1), (0, 2)), 1, (2,))
      >>> new = restricted([group], {"cell": [["skip"], ["conv", "skip"]]})[0]
      >>> new.operations, new.candidates
      (('skip', 'conv'), (('skip',), ('skip', 'conv')))
    """
    if not isinstance(candidates, Mapping):
        raise errors.JnasError(
            "candidates must be a dict from a group's name to a list of operations, "
            f"got {cells.shown(candidates)}"
        )
    known = [group.name for group in groups]
    for name in candidates:
        if name not in known:
            raise errors.unknown_name("group", name, known)
    return tuple(
        _restrict(group, candidates[group.name]) if group.name in candidates else group
        for group in groups
    )


def _restrict(group: Group, given: Names | Sequence[Names]) -> Group:
    what = f"candidates of group {group.name!r}"
    lists: Any = cells.sequence(given, what, "a list of operations, or one per edge")
    own = group.candidates or (group.operations,) * group.num_edges
    if lists and all(isinstance(name, str) for name in lists):
        for name in lists:
            if name not in group.operations:
                raise errors.unknown_name(
                    f"operation of group {group.name!r}", name, group.operations
                )
        # one list for all: what each edge has of it
        lists = [[name for name in names if name in lists] for names in own]
    checked = dataclasses.replace(group, candidates=tuple(lists))
    lists = checked.candidates or (group.operations,) * group.num_edges
    for edge, names, before in zip(group.edge_names, lists, own, strict=True):
        for name in names:
            if name not in before:
                raise errors.JnasError(
                    f"{what}: edge {edge} can't choose {name!r}: leave it out"
                )
    left = tuple(op for op in group.operations if any(op in names for names in lists))
    return dataclasses.replace(group, operations=left, candidates=lists)


def check_candidates(
    what: str, group: Group, keep: int | None, never: Sequence[str]
) -> None:
    """Raises for a node whose edges have too few selectable candidates.

    Args:
      what: what the group belongs to, for the message.
      group: the group.
      keep: number of incoming edges that each node keeps; None for all.
      never: operations that can't be selected.

    Raises:
      JnasError: naming the node.

    Example:
      >>> group = Group("cell", ("none", "skip"), ((0, 1),), 1, (1,), [["none"]])
      >>> check_candidates("space 'tiny'", group, None, ("none",))
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: space 'tiny': node 1 of group 'cell' needs 1 edges, but \
1<-0 can choose nothing but none: leave another candidate
    """
    if group.candidates is None:
        return
    able = [not set(names) <= set(never) for names in group.candidates]
    for node in group.nodes:
        incoming = group.incoming(node)
        needed = len(incoming) if keep is None else keep
        if sum(able[row] for row in incoming) < needed:
            lacking = [group.edge_names[row] for row in incoming if not able[row]]
            raise errors.JnasError(
                f"{what}: node {node} of group {group.name!r} needs {needed} edges, "
                f"but {', '.join(lacking)} can choose nothing but {', '.join(never)}: "
                "leave another candidate"
            )
