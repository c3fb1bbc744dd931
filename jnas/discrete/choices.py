"""From genes to what a supernet evaluates, inside compiled programs."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas import domain, spaces
from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.spaces.kinds import SKIPS

__all__ = ["mixture_of", "picks_of"]

# Numbers in the table of one node; DARTS' largest has 2,000.
_LARGEST = 1_000_000

Picks = Callable[[jax.Array], list[tuple[int, jax.Array, jax.Array]]]


@functools.lru_cache(maxsize=32)
def picks_of(space: spaces.Space) -> Picks:
    """How the genes of a space are read, traceably.

    Args:
      space: the space.

    Returns:
      ``(genes [L]) -> [(group's index, kept edges [k], their operations [k]), ...]``,
      an entry for each slot.

    Raises:
      JnasError: it is no space with genes, or a node has too many choices.

    Example:
      >>> genes = jnp.array([0, 1, 2, 3, 4, 0])
      >>> [int(op[0]) for _, _, op in picks_of(spaces.nasbench201())(genes)]
      [0, 1, 2, 3, 4, 0]
    """
    if not isinstance(space, spaces.Space):
        raise JnasError(
            f"expected a jnas.Space, got {type(space).__name__}: only its candidates "
            "are networks"
        )
    tables = []
    for group, slot in space.slots:
        sizes = slot.cardinalities
        if math.prod(sizes) * len(slot.edges) > _LARGEST:
            raise JnasError(
                f"one node has {math.prod(sizes)} choices, too many to list: let it "
                "keep fewer edges or give it fewer operations"
            )
        values = np.array(list(itertools.product(*map(range, sizes))), np.int32)
        before = np.zeros((len(values), slot.start), np.int32)
        columns = slot.columns(np.concatenate([before, values], axis=1))
        edges, operations = (np.stack(part, 1) for part in zip(*columns, strict=True))
        table = np.stack([edges, operations], -1).astype(np.int32)
        tables.append((group, slot.start, domain.radices(sizes), table))

    def picks(genes):
        found = []
        for group, start, radices, table in tables:
            number = jnp.sum(genes[start : start + len(radices)] * radices)
            rows = jnp.asarray(table)[number]
            found.append((group, rows[:, 0], rows[:, 1]))
        return found

    return picks


@functools.lru_cache(maxsize=32)
def mixture_of(space: spaces.Space) -> Callable[[jax.Array], Mixture]:
    """What turns genes into the one-hot mixture of their candidate, traceably.

    It names what is active, so a supernet computes nothing else. Edges that are not
    kept weigh 0, as do what goes around them (partial channels); the cheapest candidate
    stands in for them.

    Args:
      space: the space.

    Returns:
      ``(genes [L]) -> Mixture``, like `jnas.mixture.from_genotype`.

    Raises:
      JnasError: it is no space with genes.

    Example:
      >>> mixture = mixture_of(spaces.nasbench201())(jnp.array([0, 1, 2, 3, 4, 0]))
      >>> mixture.active["cell"][:, 0].tolist()
      [0, 1, 2, 3, 4, 0]
    """
    picks = picks_of(space)
    idle = [_idle(group) for group in space.groups]
    everything = space.keep is None

    def mixture(genes):
        kept = [jnp.zeros(group.num_edges, jnp.float32) for group in space.groups]
        active = [jnp.asarray(row) for row in idle]
        for i, edges, operations in picks(genes):
            kept[i] = kept[i].at[edges].set(1.0)
            active[i] = active[i].at[edges].set(operations)
        named: dict[str, Any] = dict(zip(space.names, active, strict=True))
        weights = {
            group.name: jax.nn.one_hot(named[group.name], group.num_operations)
            * row[:, None]
            for group, row in zip(space.groups, kept, strict=True)
        }
        return Mixture(
            weights,
            edges=None if everything else dict(zip(space.names, kept, strict=True)),
            active={name: row[:, None] for name, row in named.items()},
        )

    return mixture


def _idle(group: spaces.Group) -> np.ndarray:
    """A candidate of each edge that costs little: none, what is not there, a skip."""
    cheap = ("none", *SKIPS)
    cost = [cheap.index(n) if n in cheap else len(cheap) for n in group.operations]
    rank = np.where(group.allowed, np.asarray(cost)[None], 0.5)
    return np.argmin(rank, axis=1).astype(np.int32)
