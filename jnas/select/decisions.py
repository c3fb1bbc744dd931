"""Decisions: what has been chosen for good while a search goes on.

Perturbation-based selection (DARTS-PT) and greedy decisions (SGAS) discretise edge by
edge: a decided edge has one operation of weight 1, an edge that its node has dropped
has none. Everything else is left to the mixture.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import mixture as mixtures
from jnas.mixture import Mixture
from jnas.spaces import Space

__all__ = ["Decisions", "apply", "nothing", "settled"]


class Decisions(NamedTuple):
    """What is decided; a pytree, so it is saved with a search.

    Attributes:
      chosen: ``{group: int32 [E]}``, the operation of each edge; -1: undecided.
      kept: ``{group: bool [E]}``, False for edges that are dropped.
    """

    chosen: dict[str, Any]
    kept: dict[str, Any]

    def choose(self, group: str, edge: int, operation: int) -> "Decisions":
        """These and one more; NumPy's arrays."""
        chosen = np.array(self.chosen[group])
        chosen[edge] = operation
        return self._replace(chosen={**self.chosen, group: chosen})

    def drop(self, group: str, edges: list[int]) -> "Decisions":
        """These, with edges dropped; NumPy's arrays."""
        kept = np.array(self.kept[group])
        kept[edges] = False
        return self._replace(kept={**self.kept, group: kept})

    def undecided(self, group: str) -> list[int]:
        """The edges that are neither decided nor dropped."""
        chosen, kept = (np.asarray(x[group]) for x in (self.chosen, self.kept))
        return np.flatnonzero((chosen < 0) & kept).tolist()


def nothing(space: Space) -> Decisions:
    """No decision yet.

    Args:
      space: the space.

    Returns:
      Decisions, as JAX' arrays.

    Example:
      >>> import jnas
      >>> nothing(jnas.spaces.nasbench201()).undecided("cell")
      [0, 1, 2, 3, 4, 5]
    """
    return Decisions(
        {g.name: jnp.full(g.num_edges, -1, jnp.int32) for g in space.groups},
        {g.name: jnp.ones(g.num_edges, bool) for g in space.groups},
    )


def apply(decisions: Decisions, mixture: Mixture) -> Mixture:
    """The mixture in which what is decided is decided.

    Args:
      decisions: what is.
      mixture: any; of cells that differ, too, and of sampled candidates.

    Returns:
      Decided edges one-hot, dropped ones 0, as are their weight in their node's sum and
      that of their auxiliary skip. Where ``active`` names candidates, those of decided
      edges are the decided ones.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> decided = nothing(space).choose("cell", 0, 3).drop("cell", [1])
      >>> apply(decided, jnas.mixture.uniform(space)).weights["cell"][:2].tolist()
      [[0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    weights = {}
    done: dict[str, dict[str, Any]] = {
        field: {} for field in ("edges", "auxiliary", "offsets", "active")
    }
    for name, values in mixture.weights.items():
        chosen, kept = jnp.asarray(decisions.chosen[name]), decisions.kept[name]
        decided = chosen >= 0
        values = jnp.asarray(values)
        one_hot = jax.nn.one_hot(chosen, values.shape[-1], dtype=values.dtype)
        values = jnp.where(decided[:, None], one_hot, values)
        weights[name] = jnp.where(jnp.asarray(kept)[:, None], values, 0.0)
        for field in ("edges", "auxiliary"):
            own = getattr(mixture, field)
            if own is not None:
                done[field][name] = jnp.where(kept, own[name], 0.0)
        if mixture.offsets is not None:
            free = ~decided & jnp.asarray(kept)
            done["offsets"][name] = jnp.where(free, mixture.offsets[name], 0.0)
        if mixture.active is not None:
            active = mixture.active[name]
            done["active"][name] = jnp.where(
                decided[:, None], chosen[:, None].astype(active.dtype), active
            )
    return mixture._replace(
        weights=weights,
        **{field: values for field, values in done.items() if values},
    )


def settled(space: Space, mixture: Mixture) -> bool:
    """Whether a mixture leaves nothing to choose.

    Args:
      space: the space.
      mixture: of it.

    Returns:
      True where every edge has one candidate or none, and no node has more edges left
      than the space keeps.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> settled(space, jnas.mixture.uniform(space))
      False
      >>> cell = space.decode([3, 3, 3, 1, 1, 1])
      >>> settled(space, jnas.mixture.from_genotype(space, cell))
      True
    """
    for group in space.groups:
        weights = np.abs(mixtures.over_cells(mixture, group.name))
        total = weights.sum(axis=1)
        if (weights.max(axis=1) < (1 - 1e-6) * total).any():
            return False
        for node in group.nodes:
            left = (total[list(group.incoming(node))] > 0).sum()
            if space.keep is not None and left > space.keep:
                return False
    return True
