"""How genes are laid out: the slots of a space.

A slot is what is decided together. Where a node keeps k of its incoming edges, the
node is a slot: one gene for the combination of kept edges (left out if there is only
one), then one gene per kept edge for its operation, in ascending order of the source.
Where every edge is kept, each edge is a slot of one gene. So every vector within the
cardinalities is a candidate, and every candidate has exactly one vector.

Where there are several combinations and the edges of the node can choose from
different numbers of operations, these genes would not fit every combination. Such a
node has one gene instead, which counts all its choices: by combination, then by the
operation of each kept edge, that of the last one first to change.
"""

import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy import typing as npt

from jnas import errors

__all__ = ["Slot", "slots"]

_LARGEST = 2**31 - 1  # genes are int32


@dataclasses.dataclass(frozen=True)
class Slot:
    """The genes of one node, or of one edge that is always kept.

    Attributes:
      start: position of its first gene.
      edges: the candidate edges (rows of the group), by ascending source.
      kept: the combinations of edges that can be kept, in order.
      operations: of each of ``edges``, the operations (columns of the group) that can
        be selected.

    Example:
      >>> slot = Slot(start=0, edges=(0, 1, 2), kept=((0, 1), (0, 2), (1, 2)),
      ...             operations=((1, 2),) * 3)
      >>> slot.cardinalities
      (3, 2, 2)
      >>> slot.read((1, 0, 1))  # the second combination: edges 0 and 2
      {0: 1, 2: 2}
      >>> ragged = dataclasses.replace(slot, operations=((1, 2), (1,), (2,)))
      >>> ragged.cardinalities, ragged.read((3,))
      ((5,), {0: 2, 2: 2})
    """

    start: int
    edges: tuple[int, ...]
    kept: tuple[tuple[int, ...], ...]
    operations: tuple[tuple[int, ...], ...]

    @functools.cached_property
    def counts_all(self) -> bool:
        """Whether one gene counts all choices."""
        return len(self.kept) > 1 and len({len(ops) for ops in self.operations}) > 1

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of each of its genes."""
        if self.counts_all:
            return (self._ends[-1],)
        choice = (len(self.kept),) if len(self.kept) > 1 else ()
        return choice + tuple(len(self._lists[edge]) for edge in self.kept[0])

    def read(self, genes: Sequence[int]) -> dict[int, int]:
        """Returns {kept edge: operation} of the whole vector of genes.

        Args:
          genes: the genes of the space, as ints in range.

        Returns:
          The kept edges by ascending source, each with its column.
        """
        position = self.start
        lists = self._lists
        if self.counts_all:
            number, ends = genes[position], self._ends
            combination = bisect.bisect_right(ends, number)
            kept = self.kept[combination]
            number -= ends[combination - 1] if combination else 0
            digits = []
            for edge in reversed(kept):
                number, digit = divmod(number, len(lists[edge]))
                digits.append(lists[edge][digit])
            return dict(zip(kept, reversed(digits), strict=True))
        kept = self.kept[0]
        if len(self.kept) > 1:
            kept = self.kept[genes[position]]
            position += 1
        return {edge: lists[edge][genes[position + i]] for i, edge in enumerate(kept)}

    def write(self, choice: Mapping[int, int]) -> list[int]:
        """Returns the slot's genes: the inverse of `read`.

        Args:
          choice: {kept edge: operation}, one of the slot's combinations.

        Returns:
          Its genes, to stand at `start`.
        """
        kept = tuple(sorted(choice))
        digits = [self._lists[edge].index(choice[edge]) for edge in kept]
        if not self.counts_all:
            return ([self.kept.index(kept)] if len(self.kept) > 1 else []) + digits
        combination = self.kept.index(kept)
        number = 0
        for edge, digit in zip(kept, digits, strict=True):
            number = number * len(self._lists[edge]) + digit
        return [number + (self._ends[combination - 1] if combination else 0)]

    def edits(self, choice: Mapping[int, int]) -> Iterator[dict[int, int]]:
        """Yields the choices that differ by one edit, without duplicates.

        Args:
          choice: {kept edge: operation}.

        Yields:
          First every replaced operation; then every kept edge exchanged for one that
          is not kept. Its operation stays with it; if it can't, and that one can't
          have come from there either, it becomes any that could not.
        """
        lists = self._lists
        for edge, operation in choice.items():
            for other in lists[edge]:
                if other != operation:
                    yield {**choice, edge: other}
        for edge, operation in choice.items():
            rest = {e: o for e, o in choice.items() if e != edge}
            for other in self.edges:
                if other in choice:
                    continue
                if operation in lists[other]:
                    yield {**rest, other: operation}
                    continue
                for new in lists[other]:
                    if new not in lists[edge]:
                        yield {**rest, other: new}

    def columns(
        self, genes: npt.NDArray[np.integer]
    ) -> list[tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]]:
        """Reads many vectors at once.

        Args:
          genes: integers ``[N, L]`` in range.

        Returns:
          For each kept edge a pair of arrays ``[N]``: its row and its operation.

        Example:
          >>> slot = Slot(0, (4, 5), ((4, 5),), ((1, 2), (0, 3, 7)))
          >>> slot.columns(np.array([[1, 2]]))
          [(array([4]), array([2])), (array([5]), array([7]))]
        """
        if self.counts_all:
            values, places = np.unique(genes[:, self.start], return_inverse=True)
            before = [0] * self.start
            read = [list(self.read([*before, v]).items()) for v in values.tolist()]
            table = np.array(read, int).reshape(len(values), len(self.kept[0]), 2)
            return [
                (table[places, i, 0], table[places, i, 1])
                for i in range(len(self.kept[0]))
            ]
        position = self.start
        combination = np.zeros(len(genes), int)
        if len(self.kept) > 1:
            combination = genes[:, position]
            position += 1
        kept = np.array(self.kept)[combination]
        # Either the combination is fixed or all lists are equally long.
        width = max(map(len, self.operations))
        table = np.zeros((max(self.edges) + 1, width), int)
        for edge, operations in zip(self.edges, self.operations, strict=True):
            table[edge, : len(operations)] = operations
        return [
            (kept[:, i], table[kept[:, i], genes[:, position + i]])
            for i in range(kept.shape[1])
        ]

    @functools.cached_property
    def _lists(self) -> dict[int, tuple[int, ...]]:
        return dict(zip(self.edges, self.operations, strict=True))

    @functools.cached_property
    def _ends(self) -> list[int]:
        """Of each combination, where the numbers of its choices end."""
        lists = self._lists
        sizes = (math.prod(len(lists[edge]) for edge in kept) for kept in self.kept)
        return list(itertools.accumulate(sizes))


def slots(
    incoming: Sequence[Sequence[int]],
    operations: Sequence[Sequence[int]],
    keep: int | None,
    start: int,
) -> tuple[Slot, ...]:
    """Lays out the genes of one group.

    Args:
      incoming: the edges into each node, by ascending source.
      operations: of each edge (row), the operations that can be selected; an edge
        without any is never kept.
      keep: number of edges that each node keeps, or None for all.
      start: position of the group's first gene.

    Returns:
      The slots in order.

    Raises:
      JnasError: if a node has more choices than a gene can count.

    Example:
      >>> [slot.start for slot in slots([[0], [1, 2]], [[0, 1]] * 3, None, 0)]
      [0, 1, 2]
      >>> [slot.start for slot in slots([[0], [1, 2]], [[0, 1]] * 3, 1, 0)]
      [0, 1]
    """
    result = []
    choices = incoming if keep is not None else [[e] for row in incoming for e in row]
    for entering in choices:
        edges = tuple(edge for edge in entering if operations[edge])
        kept = tuple(itertools.combinations(edges, 1 if keep is None else keep))
        lists = tuple(tuple(operations[edge]) for edge in edges)
        slot = Slot(start, edges, kept, lists)
        if max(slot.cardinalities) > _LARGEST:
            raise errors.JnasError(
                f"a node has {max(slot.cardinalities)} choices, at most {_LARGEST} can "
                "be counted: give its edges equally many operations"
            )
        result.append(slot)
        start += len(slot.cardinalities)
    return tuple(result)
