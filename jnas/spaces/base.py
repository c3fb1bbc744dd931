"""Search spaces: what may be chosen, as plain hashable data.

Letters of shapes: `L` genes, `M` neighbours, `E` edges of a group, `O` operations.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Mapping, Sequence

import numpy as np
from numpy import typing as npt

from jnas import errors
from jnas.spaces import cells, fitting, layout, restricting
from jnas.spaces import groups as groups_lib
from jnas.spaces.cells import Cell, Edge
from jnas.spaces.genotypes import Genotype
from jnas.spaces.groups import Group

__all__ = ["Group", "Space"]


@dataclasses.dataclass(frozen=True)
class Space:
    """A search space: groups of choices and the rule that makes a genotype of them.

    Attributes:
      name: name of the space.
      groups: the groups, in the order of their genes.
      keep: number of incoming edges that each node keeps in a genotype; None keeps
        every edge.
      never: operations that a genotype can't select, such as DARTS' ("none",).
      optional: whether genotypes may leave further edges out, as those of FairDARTS do
        (at most `keep` edges per node, or any number): nodes without edges are left
        out of the output, too. Such a space has no genes.
      fixed: the cells that are the same in every network and thus in no genotype:
        ("reduce",) for DARTS' network with the reduction cells of `spaces.darts_frc`,
        in a space of the one group "normal".

    Raises:
      JnasError: if the parts don't fit each other.

    Example:
      >>> group = Group("cell", ("none", "skip"), ((0, 1), (0, 2), (1, 2)), 1, (2,))
      >>> space = Space("tiny", (group,))
      >>> space.genes, space.size
      ((2, 2, 2), 8)
      >>> space.decode([0, 1, 0])["cell"].edges[1]
      Edge(operation='skip', source=0, target=2)
    """

    name: str
    groups: tuple[Group, ...]
    keep: int | None = None
    never: tuple[str, ...] = ()
    optional: bool = False
    fixed: tuple[str, ...] = ()

    def __post_init__(self):
        groups_lib.check_name(self.name, "a space's name")
        what = f"space {self.name!r}"
        groups = tuple(cells.sequence(self.groups, f"{what} groups"))
        if not groups or not all(isinstance(group, Group) for group in groups):
            raise errors.JnasError(
                f"{what} needs a tuple of groups, got {cells.shown(self.groups)}"
            )
        groups_lib.distinct_names([group.name for group in groups], f"{what} groups")
        never = groups_lib.distinct_names(self.never, f"{what} never")
        for operation in never:
            if not any(operation in group.operations for group in groups):
                known = {name for group in groups for name in group.operations}
                raise errors.unknown_name("operation in never", operation, known)
        if self.keep is not None:
            object.__setattr__(self, "keep", cells.state(self.keep, f"{what} keep"))
        if not isinstance(self.optional, bool):
            raise errors.JnasError(
                f"{what} optional must be True or False, got "
                f"{cells.shown(self.optional)}"
            )
        fixed = groups_lib.distinct_names(self.fixed, f"{what} fixed")
        names = tuple(group.name for group in groups)
        if fixed and (fixed != ("reduce",) or names != ("normal",)):
            raise errors.JnasError(
                f"{what} fixed must be () or ('reduce',), the latter beside the one "
                f"group 'normal', got {cells.shown(fixed)} beside {list(names)}"
            )
        for group in groups:
            fewest = min(len(group.incoming(node)) for node in group.nodes)
            if self.keep is not None and not 1 <= self.keep <= fewest:
                raise errors.JnasError(
                    f"{what} keep must be in 1..{fewest}, the fewest edges into a node "
                    f"of group {group.name!r}, got {self.keep}"
                )
            if set(group.operations) <= set(never):
                raise errors.JnasError(
                    f"{what}: never names every operation of group {group.name!r}: "
                    "leave at least one"
                )
            if not self.optional:
                restricting.check_candidates(what, group, self.keep, never)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "never", never)
        object.__setattr__(self, "fixed", fixed)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the groups."""
        return tuple(group.name for group in self.groups)

    @property
    def is_darts_like(self) -> bool:
        """Whether networks have DARTS' normal and reduction cells, searched or fixed.

        Other networks have one cell in three stages, as NAS-Bench-201's.
        """
        return "reduce" in self.names or bool(self.fixed)

    def group(self, name: str) -> Group:
        """Returns the group of that name.

        Args:
          name: one of `names`.

        Returns:
          The group.

        Raises:
          JnasError: if there is none.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise errors.unknown_name(f"group of {self.name}", name, self.names)

    @functools.cached_property
    def genes(self) -> tuple[int, ...]:
        """The number of values of each gene, `L` numbers; see `layout` for the order.

        Every vector with 0 <= gene < number is a candidate, and each candidate is
        exactly one vector.

        Raises:
          JnasError: if edges are optional: such a space has no genes.
        """
        return tuple(n for _, slot in self.slots for n in slot.cardinalities)

    @property
    def size(self) -> int:
        """Number of candidates."""
        return math.prod(self.genes)

    def restrict(
        self, candidates: Mapping[str, Sequence[str] | Sequence[Sequence[str]]]
    ) -> "Space":
        """Returns the space with fewer operations to choose from.

        Args:
          candidates: of some of the groups, one list of names for all edges, or a list
            for each edge. Operations that no edge of the group can choose any more
            are dropped from it.

        Returns:
          The space, of the same name; a genotype of it is one of this space, too.

        Raises:
          JnasError: if a name is unknown, or an edge would have no operation.

        Example:
          >>> group = Group("cell", ("none", "skip", "conv"), ((0, 1),), 1, (1,))
          >>> Space("tiny", (group,)).restrict({"cell": ("skip", "conv")}).genes
          (2,)
        """
        groups = restricting.restricted(self.groups, candidates)
        known = {op for group in groups for op in group.operations}
        never = tuple(op for op in self.never if op in known)
        return dataclasses.replace(self, groups=groups, never=never)

    def valid(self, genes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Tells which vectors of genes are candidates.

        Args:
          genes: integers [..., L].

        Returns:
          Booleans [...].

        Raises:
          JnasError: if they are not integers or not `L` long.

        Example:
          >>> group = Group("cell", ("none", "skip"), ((0, 1),), 1, (1,))
          >>> Space("tiny", (group,)).valid([[1], [2], [-1]])
          array([ True, False, False])
        """
        array = self._array(genes)
        return np.all((array >= 0) & (array < np.asarray(self.genes)), axis=-1)

    def random(
        self, rng: np.random.Generator | int, n: int | None = None
    ) -> npt.NDArray[np.int32]:
        """Draws candidates uniformly, with replacement.

        Args:
          rng: a NumPy generator (which moves on), or a seed.
          n: how many; None for a single one.

        Returns:
          Genes int32 [L], or [n, L].

        Raises:
          JnasError: if `rng` or `n` is of another kind.

        Example:
          >>> group = Group("cell", ("none", "skip"), ((0, 1),), 1, (1,))
          >>> Space("tiny", (group,)).random(0, n=3).shape
          (3, 1)
        """
        if not isinstance(rng, np.random.Generator):
            try:
                rng = np.random.default_rng(_count(rng))
            except TypeError:
                raise errors.JnasError(
                    "rng must be a numpy.random.Generator or a seed >= 0, got "
                    f"{cells.shown(rng)}"
                ) from None
        try:
            size = () if n is None else (_count(n),)
        except TypeError:
            raise errors.JnasError(
                f"n must be a number >= 0 or None, got {cells.shown(n)}"
            ) from None
        return rng.integers(
            0, np.asarray(self.genes), size=(*size, len(self.genes)), dtype=np.int32
        )

    def neighbours(self, genes: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Returns every candidate that is one edit away.

        An edit replaces one operation, or (where nodes keep some of their edges)
        exchanges one kept edge for one that is not kept, its operation staying with
        it. (Where edges have candidates of their own, it may have to change, too; see
        `layout.Slot.edits`.) The relation is symmetric. `M` is the same for all
        candidates, unless edges have candidates of their own.

        Args:
          genes: one candidate, integers [L].

        Returns:
          Genes int32 [M, L], distinct, without the candidate itself.

        Raises:
          JnasError: if the genes are not one candidate of this space.

        Example:
          >>> group = Group("cell", ("none", "skip"), ((0, 1), (0, 2)), 1, (2,))
          >>> Space("tiny", (group,)).neighbours([0, 0]).tolist()
          [[1, 0], [0, 1]]
        """
        vector = self._candidate(genes)
        rows = []
        for _, slot in self.slots:
            for choice in slot.edits(slot.read(vector)):
                row = list(vector)
                edited = slot.write(choice)
                row[slot.start : slot.start + len(edited)] = edited
                rows.append(row)
        return np.asarray(rows, np.int32).reshape(len(rows), len(vector))

    def decode(self, genes: npt.ArrayLike) -> Genotype:
        """Returns the genotype of a candidate.

        Args:
          genes: one candidate, integers [L].

        Returns:
          Its genotype; edges by target, then source.

        Raises:
          JnasError: if the genes are not one candidate of this space.

        Example:
          >>> group = Group("cell", ("none", "skip"), ((0, 1),), 1, (1,))
          >>> Space("tiny", (group,)).decode([1])["cell"].edges
          (Edge(operation='skip', source=0, target=1),)
        """
        vector = self._candidate(genes)
        edges: list[list[Edge]] = [[] for _ in self.groups]
        for i, slot in self.slots:
            group = self.groups[i]
            for edge, operation in slot.read(vector).items():
                edges[i].append(Edge(group.operations[operation], *group.edges[edge]))
        return Genotype(
            self.name,
            tuple(
                (group.name, Cell(tuple(listed), group.concat))
                for group, listed in zip(self.groups, edges, strict=True)
            ),
        )

    def encode(self, genotype: Genotype) -> npt.NDArray[np.int32]:
        """Returns the genes of a genotype: the inverse of `decode`.

        The order in which its edges are listed and the name of its space don't matter.

        Args:
          genotype: the genotype.

        Returns:
          Genes int32 [L].

        Raises:
          JnasError: if it is not in this space, naming the edge that does not fit.

        Example:
          >>> group = Group("cell", ("none", "skip"), ((0, 1),), 1, (1,))
          >>> space = Space("tiny", (group,))
          >>> space.encode(space.decode([1]))
          array([1], dtype=int32)
        """
        choices = self._choices(genotype)
        genes: list[int] = []
        for i, slot in self.slots:
            chosen = choices[i]
            genes += slot.write({e: chosen[e] for e in slot.edges if e in chosen})
        return np.asarray(genes, np.int32)

    def one_hot(self, genotype: Genotype) -> dict[str, npt.NDArray[np.float32]]:
        """Returns a genotype as the weights of a mixture.

        Args:
          genotype: a genotype of this space.

        Returns:
          {group: float32 [E, O]}; one 1 in the row of a kept edge, zeros elsewhere.

        Raises:
          JnasError: if it is not in this space, naming the edge that does not fit.

        Example:
          >>> group = Group("cell", ("none", "skip"), ((0, 1),), 1, (1,))
          >>> space = Space("tiny", (group,))
          >>> space.one_hot(space.decode([1]))
          {'cell': array([[0., 1.]], dtype=float32)}
        """
        result = {}
        for group, chosen in zip(self.groups, self._choices(genotype), strict=True):
            rows = np.zeros((group.num_edges, group.num_operations), np.float32)
            rows[list(chosen), list(chosen.values())] = 1.0
            result[group.name] = rows
        return result

    @functools.cached_property
    def slots(self) -> tuple[tuple[int, layout.Slot], ...]:
        """What is decided together: pairs (index of the group, slot) in gene order.

        Raises:
          JnasError: if edges are optional: such a space has no genes.
        """
        if self.optional:
            raise errors.JnasError(
                f"space {self.name!r} has no genes, since its edges are optional: use "
                "dataclasses.replace(space, optional=False) where candidates are "
                "counted or drawn"
            )
        result: list[tuple[int, layout.Slot]] = []
        start = 0
        for i, group in enumerate(self.groups):
            operations = [
                np.flatnonzero(row).tolist() for row in self.selectable(group.name)
            ]
            incoming = [group.incoming(node) for node in group.nodes]
            for slot in layout.slots(incoming, operations, self.keep, start):
                result.append((i, slot))
                start += len(slot.cardinalities)
        return tuple(result)

    def selectable(self, group: str) -> npt.NDArray[np.bool_]:
        """Tells what a genotype can select: what is allowed but for `never`.

        Args:
          group: name of a group.

        Returns:
          Booleans [E, O].

        Example:
          >>> group = Group("cell", ("none", "skip"), ((0, 1),), 1, (1,))
          >>> Space("tiny", (group,), never=("none",)).selectable("cell")
          array([[False,  True]])
        """
        found = self.group(group)
        return found.allowed & [name not in self.never for name in found.operations]

    def _choices(self, genotype: Genotype) -> list[dict[int, int]]:
        """Returns {kept row: column} of each group."""
        if not isinstance(genotype, Genotype):
            raise errors.JnasError(
                f"expected a Genotype, got {cells.shown(genotype)}: read a text with "
                "Genotype.parse"
            )
        return fitting.choices(
            genotype,
            name=self.name,
            groups=self.groups,
            keep=self.keep,
            never=self.never,
            optional=self.optional,
        )

    def _array(self, genes: npt.ArrayLike) -> npt.NDArray[np.integer]:
        try:
            array = np.asarray(genes)
        except ValueError:  # ragged
            array = np.empty(0, object)
        length = len(self.genes)
        if array.dtype.kind not in "iu" or array.ndim < 1 or array.shape[-1] != length:
            raise errors.JnasError(
                f"genes of {self.name} must be integers [..., {length}], got "
                f"{array.dtype} {list(array.shape)}"
            )
        return array

    def _candidate(self, genes: npt.ArrayLike) -> list[int]:
        """Returns one candidate's genes as ints, checked."""
        array = self._array(genes)
        if array.ndim != 1:
            raise errors.JnasError(
                f"genes of one candidate of {self.name} must be [{len(self.genes)}], "
                f"got {list(array.shape)}: pass one row at a time"
            )
        vector = array.tolist()
        for i, (gene, number) in enumerate(zip(vector, self.genes, strict=True)):
            if not 0 <= gene < number:
                raise errors.JnasError(
                    f"gene {i} of {self.name} must be in 0..{number - 1}, got {gene}"
                )
        return vector


def _count(value: object) -> int:
    number = operator.index(value)  # type: ignore[arg-type]
    if number < 0 or isinstance(value, bool):
        raise TypeError
    return number
