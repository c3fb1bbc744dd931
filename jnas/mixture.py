"""Mixture: how the outputs of candidate operations are combined.

A mixture is what a relaxation makes of the architecture parameters and what a supernet
evaluates, so it belongs to neither room. Shapes: ``E`` edges, ``O`` operations, ``A``
active candidates; every field is a dict by group name.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.errors import JnasError
from jnas.spaces import Genotype, Group, Space

__all__ = ["Mixture", "effective_weights", "from_genotype", "uniform"]


class Mixture(NamedTuple):
    """Weights of the candidate operations, by group.

    Attributes:
      weights: ``{group: [E, O]}`` or ``[cells, E, O]`` where the cells of a group
        differ (or a gradient per cell is wanted).
      edges: ``{group: [E]}``, the weight of each edge in its node's sum, or None.
      auxiliary: ``{group: [E]}``, the weight of an auxiliary skip beside the
        candidates, or None. Only supernets built with one accept it.
      active: ``{group: int32 [E, A]}``, the candidates to evaluate, or None for all.
        Candidates that are not active contribute nothing, whatever their weight.
    """

    weights: dict[str, Any]
    edges: dict[str, Any] | None = None
    auxiliary: dict[str, Any] | None = None
    active: dict[str, Any] | None = None


def uniform(space: Space) -> Mixture:
    """The mixture that weighs all candidates of an edge equally.

    Args:
      space: the space.

    Returns:
      Weights ``1 / O``, float32.

    Example:
      >>> import jnas
      >>> float(uniform(jnas.spaces.nasbench201()).weights["cell"][0, 0])
      0.20000000298023224
    """
    return Mixture(
        {
            group.name: jnp.full(
                (group.num_edges, group.num_operations),
                1 / group.num_operations,
                jnp.float32,
            )
            for group in space.groups
        }
    )


def from_genotype(space: Space, genotype: Genotype) -> Mixture:
    """The one-hot mixture of a genotype: 1 for its operations, dropped edges are 0.

    Args:
      space: the space that the genotype belongs to.
      genotype: the candidate.

    Returns:
      The mixture, float32.

    Raises:
      JnasError: the genotype is not in the space.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> g = space.decode([1, 1, 1, 1, 1, 1])
      >>> from_genotype(space, g).weights["cell"][0].tolist()
      [0.0, 1.0, 0.0, 0.0, 0.0]
    """
    return Mixture({k: jnp.asarray(v) for k, v in space.one_hot(genotype).items()})


def effective_weights(
    mixture: Mixture, space: Space, cells: dict[str, int]
) -> dict[str, jax.Array]:
    """The weight of every operation of every cell: weights x edges, inactive ones 0.

    Args:
      mixture: the mixture.
      space: its space.
      cells: the number of cells of each group.

    Returns:
      ``{group: [cells, E, O]}``.

    Raises:
      JnasError: a group is missing or superfluous, or a shape is wrong.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> effective_weights(uniform(space), space, {"cell": 3})["cell"].shape
      (3, 6, 5)
    """
    if not isinstance(mixture, Mixture):
        raise JnasError(
            f"mixture must be a jnas.Mixture, got {type(mixture).__name__}: "
            "write jnas.Mixture(weights={group: array})"
        )
    if mixture.auxiliary is not None:
        raise JnasError(
            "mixture.auxiliary is set, but this supernet has no auxiliary skip: "
            "leave it None"
        )
    for field in ("weights", "edges", "active"):
        value = getattr(mixture, field)
        if value is not None and set(value) != set(space.names):
            raise JnasError(
                f"mixture.{field} must have the groups {sorted(space.names)} of space "
                f"{space.name!r}, got {sorted(value)}"
            )
    result = {}
    for group in space.groups:
        shape = (group.num_edges, group.num_operations)
        weights = jnp.asarray(mixture.weights[group.name])
        full = (cells[group.name], *shape)
        if weights.shape not in (shape, full):
            raise JnasError(
                f"mixture.weights[{group.name!r}] must be {list(shape)} (edges, "
                f"operations) or {list(full)} (with cells first), got "
                f"{list(weights.shape)}"
            )
        weights = jnp.broadcast_to(weights, full)
        if mixture.edges is not None:
            edges = jnp.asarray(mixture.edges[group.name])
            if edges.shape != shape[:1]:
                raise JnasError(
                    f"mixture.edges[{group.name!r}] must be [{shape[0]}], got "
                    f"{list(edges.shape)}"
                )
            weights = weights * edges[None, :, None]
        if mixture.active is not None:
            active = _checked_active(mixture.active[group.name], group)
            chosen = jax.nn.one_hot(active, shape[1], dtype=weights.dtype)
            weights = weights * jnp.max(chosen, axis=-2)[None]
        result[group.name] = weights
    return result


def _checked_active(active: Any, group: Group) -> jax.Array:
    """Active candidates ``[E, A]``; their range is checked where it is known."""
    what = f"mixture.active[{group.name!r}]"
    if not isinstance(active, jax.core.Tracer):
        known = np.asarray(active)
        if known.size and not (known.min() >= 0 and known.max() < group.num_operations):
            raise JnasError(
                f"{what} must name operations 0 to {group.num_operations - 1}, got "
                f"{known.min()} to {known.max()}"
            )
    active = jnp.asarray(active)
    if active.ndim != 2 or active.shape[0] != group.num_edges:
        raise JnasError(
            f"{what} must be [{group.num_edges}, A] (edges, active candidates), got "
            f"{list(active.shape)}"
        )
    if not jnp.issubdtype(active.dtype, jnp.integer):
        raise JnasError(f"{what} must be integers, got {active.dtype}")
    return active
