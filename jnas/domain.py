"""What strategies may do with the genes of a space, inside compiled programs.

`jnas.spaces` is plain data for the host; here the same candidates are drawn, checked
and edited by traceable functions, from tables made once per space.

Letters: ``L`` genes, ``M`` neighbours, ``K`` numbers of an identity.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import errors, spaces
from jnas.spaces import layout

__all__ = ["Domain", "of", "radices"]

# Numbers in the table of one slot; DARTS' largest has 20,000.
_LARGEST = 10_000_000


class Domain(NamedTuple):
    """The genes of a space and what can be done with one candidate ``int32 [L]``.

    All functions may be traced, and mapped over candidates by ``vmap``.

    Attributes:
      space: the space.
      cardinalities: number of values of each gene.
      sample: ``(key) -> genes``, drawn uniformly (a space that is no product of its
        genes says how it draws).
      valid: ``(genes) -> bool``.
      neighbours: ``(genes) -> (int32 [M, L], bool [M])``, every candidate that is one
        edit away, and which of the rows there are.
      mutate: ``(key, genes, kind="uniform") -> genes``, a random edit.
      mutations: what ``kind`` may be.
      identity: ``(genes) -> int32 [K]``, equal for candidates that are the same
        network by the rules of the space.
    """

    space: Any
    cardinalities: tuple[int, ...]
    sample: Callable[[jax.Array], jax.Array]
    valid: Callable[[jax.Array], jax.Array]
    neighbours: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    mutate: Callable[..., jax.Array]
    mutations: tuple[str, ...]
    identity: Callable[[jax.Array], jax.Array]

    @property
    def identity_size(self) -> int:
        """Number ``K`` of an identity's numbers."""
        genes = jax.ShapeDtypeStruct((len(self.cardinalities),), jnp.int32)
        return jax.eval_shape(self.identity, genes).shape[0]


def of(space: Any) -> Domain:
    """Returns the domain of a space.

    Mutations of a `jnas.Space`, whose edits are those of `Space.neighbours`:

    * ``"uniform"``: each neighbour equally likely, as NASLib's regularized evolution
      does in NAS-Bench-201's space.
    * ``"node"``: group, node, edge and edit in turn, each uniformly, as the code of
      NAS-Bench-201 does: an edge into a node with few of them changes more often.
    * ``"amoebanet"``: group, node and edge uniformly, then with equal chances another
      operation or, where nodes choose their edges, another edge (Real et al. 2019).

    Args:
      space: a `jnas.Space`, its name, or an object with a method ``domain()``.

    Returns:
      The domain; equal spaces share one.

    Raises:
      JnasError: it is no space, or one without genes.

    Example:
      >>> own = of("nasbench201")
      >>> rows, exists = own.neighbours(jnp.zeros(6, jnp.int32))
      >>> rows.shape, bool(exists.all())
      ((24, 6), True)
    """
    if isinstance(space, str):
        space = spaces.get(space)
    if isinstance(space, spaces.Space):
        return _of_space(space)
    if callable(getattr(space, "domain", None)):
        return space.domain()
    raise errors.JnasError(
        f"expected a space or its name, got {type(space).__name__}: use "
        "jnas.spaces.get(name)"
    )


def radices(sizes: Sequence[int]) -> np.ndarray:
    """What digits are multiplied with to make one number, the last one least.

    Args:
      sizes: number of values of each digit; their product must be below 2**31.

    Returns:
      int32, as many.

    Example:
      >>> radices((5, 2, 3)).tolist()
      [6, 3, 1]
    """
    return np.cumprod([1, *sizes[:0:-1]])[::-1].astype(np.int32)


class _Table(NamedTuple):
    """The edits of one slot, for each value of its genes together.

    Attributes:
      start: position of its first gene.
      radices: to make one number of the slot's genes.
      rows: int32 ``[J, m, g]``, the slot's genes after each edit.
      chances: for each kind of mutation float32 ``[J, m]``, relative chances of the
        edits within the whole vector; 0 where there is no such edit.
    """

    start: int
    radices: np.ndarray
    rows: np.ndarray
    chances: dict[str, np.ndarray]


_KINDS = ("uniform", "node", "amoebanet")


@functools.lru_cache(maxsize=32)
def _of_space(space: spaces.Space) -> Domain:
    cardinalities = np.asarray(space.genes, np.int32)
    nodes = [(i, space.groups[i].edges[slot.edges[0]][1]) for i, slot in space.slots]
    tables = []
    for (i, slot), node in zip(space.slots, nodes, strict=True):
        in_group = {n for g, n in nodes if g == i}
        share = 1 / (len(space.groups) * len(in_group) * nodes.count(node))
        tables.append(_table(slot, share))

    def split(genes):
        for table in tables:
            width = len(table.radices)
            own = genes[table.start : table.start + width]
            yield table, width, jnp.sum(own * table.radices)

    def neighbours(genes):
        rows, exists = [], []
        for table, width, number in split(genes):
            edited = jnp.asarray(table.rows)[number]
            many = jnp.broadcast_to(genes, (len(edited), len(genes)))
            rows.append(many.at[:, table.start : table.start + width].set(edited))
            exists.append(jnp.asarray(table.chances["uniform"])[number] > 0)
        return jnp.concatenate(rows), jnp.concatenate(exists)

    def mutate(key, genes, kind="uniform"):
        chances = jnp.concatenate(
            [
                jnp.asarray(table.chances[kind])[number]
                for table, _, number in split(genes)
            ]
        )
        chosen = jax.random.categorical(key, jnp.log(chances))
        rows, _ = neighbours(genes)
        # A space of a single candidate has no edits at all.
        return jnp.where(jnp.any(chances > 0), rows[chosen], genes)

    def sample(key):
        return jax.random.randint(key, cardinalities.shape, 0, cardinalities, jnp.int32)

    counts = 0 < space.size < 2**31
    places = radices(space.genes) if counts else None

    def identity(genes):
        # One number is quicker to compare than a vector, where it fits.
        return jnp.sum(genes * places, keepdims=True) if counts else genes

    return Domain(
        space=space,
        cardinalities=space.genes,
        sample=sample,
        valid=lambda genes: jnp.all((genes >= 0) & (genes < cardinalities)),
        neighbours=neighbours,
        mutate=mutate,
        mutations=_KINDS,
        identity=identity,
    )


def _table(slot: layout.Slot, share: float) -> _Table:
    """Lists the edits of every value of a slot; ``share`` is the chance of the slot."""
    sizes = slot.cardinalities
    listed = []
    for genes in itertools.product(*map(range, sizes)):
        choice = slot.read((0,) * slot.start + genes)
        # (is it an exchange of edges, the edge that changes, the genes after it)
        listed.append(
            [
                (new.keys() != choice.keys(), _changed(choice, new), slot.write(new))
                for new in slot.edits(choice)
            ]
        )
        if len(listed) * len(listed[0]) * len(sizes) > _LARGEST:
            raise errors.JnasError(
                f"one node has {math.prod(sizes)} choices, too many to list their "
                "edits: let it keep fewer edges or give it fewer operations"
            )
    most = max(len(edits) for edits in listed)
    rows = np.zeros((len(listed), most, len(sizes)), np.int32)
    chances = {kind: np.zeros((len(listed), most), np.float32) for kind in _KINDS}
    for number, edits in enumerate(listed):
        changed = {edge for _, edge, _ in edits}
        for column, (swap, edge, genes) in enumerate(edits):
            rows[number, column] = genes
            alike = [other for other, place, _ in edits if place == edge]
            halves = len(set(alike))
            chances["uniform"][number, column] = 1
            chances["node"][number, column] = share / (len(changed) * len(alike))
            chances["amoebanet"][number, column] = share / (
                len(changed) * halves * alike.count(swap)
            )
    return _Table(slot.start, radices(sizes), rows, chances)


def _changed(old: dict[int, int], new: dict[int, int]) -> int:
    """The edge whose operation differs, or that is not kept any more."""
    return next(edge for edge in old if new.get(edge) != old[edge])
