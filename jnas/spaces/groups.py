"""Groups of choices: the edges of one kind of cell, with the candidates on each."""

import dataclasses
import functools

import numpy as np
from numpy import typing as npt

from jnas import errors
from jnas.spaces import cells

__all__ = ["Group", "check_name", "distinct_names"]


@dataclasses.dataclass(frozen=True)
class Group:
    """One group of choices: the edges of a cell, and what each can carry.

    Lists are accepted wherever tuples are named, and become tuples.

    Attributes:
      name: name of the group, and of the cell in a genotype.
      operations: names of the operations; the columns of arch.
      edges: pairs (source, target) of state numbers, ordered by target, then source;
        the rows of arch.
      inputs: number of input states of the cell; its nodes are numbered from there.
      concat: the states that are concatenated (or, if one, taken) as the output.
      candidates: of each edge, the names of the operations that it can choose, in the
        order of `operations`; None where every edge can choose all of them.

    Raises:
      JnasError: if the parts don't make a cell.

    Example:
      >>> group = Group("cell", ("none", "skip"), ((0, 1), (0, 2), (1, 2)), 1, (2,))
      >>> group.num_edges, group.nodes, group.incoming(2), group.edge_names
      (3, (1, 2), (1, 2), ('1<-0', '2<-0', '2<-1'))
    """

    name: str
    operations: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    inputs: int
    concat: tuple[int, ...]
    candidates: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self):
        check_name(self.name, "a group's name")
        what = f"group {self.name!r}"
        operations = distinct_names(self.operations, f"{what} operations")
        if not operations:
            raise errors.JnasError(f"{what} needs at least one operation, got none")
        # Any operation will do to have a cell's structure checked.
        pairs = [
            cells.sequence(edge, f"{what} edge {i}", "(source, target)", 2)
            for i, edge in enumerate(cells.sequence(self.edges, f"{what} edges"))
        ]
        cell = cells.checked_cell(
            self.name, [(operations[0], *pair) for pair in pairs], self.concat
        )
        inputs = cells.state(self.inputs, f"{what} inputs")
        order = [(edge.target, edge.source) for edge in cell.edges]
        if order != sorted(set(order)):
            raise errors.JnasError(
                f"{what} edges must be distinct and ordered by target, then source, "
                f"got {cells.shown(self.edges)}"
            )
        known = {*range(inputs), *(target for target, _ in order)}
        unknown = {source for _, source in order} | set(cell.concat)
        if inputs < 1 or min(order)[0] < inputs or not unknown <= known:
            raise errors.JnasError(
                f"{what}: the {inputs} inputs and the targets of edges are states "
                f"{sorted(known)}: every source and concat must be one of them, no "
                "target an input, and at least one input is needed"
            )
        object.__setattr__(self, "operations", operations)
        edges = tuple((edge.source, edge.target) for edge in cell.edges)
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "concat", cell.concat)
        if self.candidates is not None:
            object.__setattr__(self, "candidates", self._checked_candidates(what))

    def _checked_candidates(self, what: str) -> tuple[tuple[str, ...], ...] | None:
        """The operations of each edge in the group's order; None if they are all."""
        given = cells.sequence(self.candidates, f"{what} candidates")
        if len(given) != len(self.edges):
            raise errors.JnasError(
                f"{what} candidates must be one list for each of its "
                f"{len(self.edges)} edges, got {len(given)}"
            )
        result = []
        for edge, names in zip(self.edge_names, given, strict=True):
            names = distinct_names(names, f"{what} candidates of edge {edge}")
            for name in names:
                if name not in self.operations:
                    raise errors.unknown_name(
                        f"operation of {what}", name, self.operations
                    )
            if not names:
                raise errors.JnasError(
                    f"{what}: edge {edge} must have at least one candidate, got none"
                )
            result.append(tuple(op for op in self.operations if op in names))
        if all(names == self.operations for names in result):
            return None
        return tuple(result)

    @functools.cached_property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which operations each edge can choose: booleans ``[E, O]``, read-only."""
        mask = np.ones((self.num_edges, self.num_operations), bool)
        if self.candidates is not None:
            for row, names in enumerate(self.candidates):
                mask[row] = [name in names for name in self.operations]
        mask.setflags(write=False)
        return mask

    @property
    def num_edges(self) -> int:
        """Number of edges, `E`."""
        return len(self.edges)

    @property
    def num_operations(self) -> int:
        """Number of operations, `O`."""
        return len(self.operations)

    @functools.cached_property
    def rows(self) -> dict[tuple[int, int], int]:
        """The row of each edge: {(source, target): index into `edges`}."""
        return {edge: row for row, edge in enumerate(self.edges)}

    @functools.cached_property
    def columns(self) -> dict[str, int]:
        """The column of each operation: {name: index into `operations`}."""
        return {name: column for column, name in enumerate(self.operations)}

    @functools.cached_property
    def nodes(self) -> tuple[int, ...]:
        """The states that edges feed, in order."""
        return tuple(dict.fromkeys(target for _, target in self.edges))

    @property
    def edge_names(self) -> tuple[str, ...]:
        """Names of the rows, such as ``"2<-0"``."""
        return tuple(f"{target}<-{source}" for source, target in self.edges)

    def incoming(self, target: int) -> tuple[int, ...]:
        """Returns the rows of the edges into a node, by ascending source.

        Args:
          target: number of the node.

        Returns:
          Indices into `edges`; empty if nothing feeds that state.
        """
        return self._incoming.get(target, ())

    @functools.cached_property
    def _incoming(self) -> dict[int, tuple[int, ...]]:
        return {
            node: tuple(i for i, edge in enumerate(self.edges) if edge[1] == node)
            for node in self.nodes
        }


def check_name(name: object, what: str) -> None:
    """Raises unless a name is printable text.

    Args:
      name: what the user gave.
      what: what it is, for the message.

    Raises:
      JnasError: if it is not a name.

    Example:
      >>> check_name("darts", "a space's name")
    """
    if not isinstance(name, str) or not name or not name.isprintable():
        raise errors.JnasError(
            f"{what} must be printable text, got {cells.shown(name)}"
        )


def distinct_names(values: object, what: str) -> tuple[str, ...]:
    """Returns distinct names as a tuple.

    Args:
      values: a list or tuple of names.
      what: what they are, for the message.

    Returns:
      The names.

    Raises:
      JnasError: if one is repeated or is no name.

    Example:
      >>> distinct_names(["none", "skip"], "operations")
      ('none', 'skip')
    """
    names = tuple(cells.sequence(values, what))
    for name in names:
        check_name(name, f"{what}: a name")
    if len(set(names)) != len(names):
        raise errors.JnasError(f"{what} must be distinct, got {cells.shown(names)}")
    return names
