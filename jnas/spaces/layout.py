"""How genes are laid out: the slots of a space.

A slot is what is decided together. Where a node keeps k of its incoming edges, the
node is a slot: one gene for the combination of kept edges (left out if there is only
one), then one gene per kept edge for its operation, in ascending order of the source.
Where every edge is kept, each edge is a slot of one gene. So every vector within the
cardinalities is a candidate, and every candidate has exactly one vector.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Slot", "slots"]


class Slot(NamedTuple):
    """The genes of one node, or of one edge that is always kept.

    Attributes:
      start: position of its first gene.
      edges: the candidate edges (rows of the group), by ascending source.
      kept: the combinations of edges that can be kept; the first gene chooses one.
      operations: the operations (columns of the group) that can be selected.

    Example:
      >>> slot = Slot(start=0, edges=(0, 1, 2), kept=((0, 1), (0, 2), (1, 2)),
      ...             operations=(1, 2))
      >>> slot.cardinalities
      (3, 2, 2)
      >>> slot.read((1, 0, 1))  # the second combination: edges 0 and 2
      {0: 1, 2: 2}
    """

    start: int
    edges: tuple[int, ...]
    kept: tuple[tuple[int, ...], ...]
    operations: tuple[int, ...]

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of each of its genes."""
        choice = (len(self.kept),) if len(self.kept) > 1 else ()
        return choice + (len(self.operations),) * len(self.kept[0])

    def read(self, genes: Sequence[int]) -> dict[int, int]:
        """Returns {kept edge: operation} of the whole vector of genes.

        Args:
          genes: the genes of the space, as ints in range.

        Returns:
          The kept edges by ascending source, each with its column.
        """
        position = self.start
        kept = self.kept[0]
        if len(self.kept) > 1:
            kept = self.kept[genes[position]]
            position += 1
        return {
            edge: self.operations[genes[position + i]] for i, edge in enumerate(kept)
        }

    def write(self, choice: Mapping[int, int]) -> list[int]:
        """Returns the slot's genes: the inverse of `read`.

        Args:
          choice: {kept edge: operation}, one of the slot's combinations.

        Returns:
          Its genes, to stand at `start`.
        """
        kept = tuple(sorted(choice))
        genes = [self.kept.index(kept)] if len(self.kept) > 1 else []
        return genes + [self.operations.index(choice[edge]) for edge in kept]

    def edits(self, choice: Mapping[int, int]) -> Iterator[dict[int, int]]:
        """Yields the choices that differ by one edit, without duplicates.

        Args:
          choice: {kept edge: operation}.

        Yields:
          First every replaced operation; then every kept edge exchanged for one that
          is not kept, its operation staying with it.
        """
        for edge, operation in choice.items():
            for other in self.operations:
                if other != operation:
                    yield {**choice, edge: other}
        for edge, operation in choice.items():
            rest = {e: o for e, o in choice.items() if e != edge}
            for other in self.edges:
                if other not in choice:
                    yield {**rest, other: operation}


def slots(
    incoming: Sequence[Sequence[int]],
    operations: Sequence[int],
    keep: int | None,
    start: int,
) -> tuple[Slot, ...]:
    """Lays out the genes of one group.

    Args:
      incoming: the edges into each node, by ascending source.
      operations: the operations that can be selected.
      keep: number of edges that each node keeps, or None for all.
      start: position of the group's first gene.

    Returns:
      The slots in order.

    Example:
      >>> [slot.start for slot in slots([[0], [1, 2]], [0, 1], None, 0)]
      [0, 1, 2]
      >>> [slot.start for slot in slots([[0], [1, 2]], [0, 1], 1, 0)]
      [0, 1]
    """
    result = []
    choices = incoming if keep is not None else [[e] for row in incoming for e in row]
    for edges in choices:
        kept = tuple(itertools.combinations(edges, 1 if keep is None else keep))
        slot = Slot(start, tuple(edges), kept, tuple(operations))
        result.append(slot)
        start += len(slot.cardinalities)
    return tuple(result)
