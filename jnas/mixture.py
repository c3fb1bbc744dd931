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

__all__ = [
    "Mixture",
    "Resolved",
    "effective_weights",
    "from_genotype",
    "over_cells",
    "resolve",
    "uniform",
]


class Mixture(NamedTuple):
    """Weights of the candidate operations, by group.

    Attributes:
      weights: ``{group: [E, O]}`` or ``[cells, E, O]`` where the cells of a group
        differ (or a gradient per cell is wanted).
      edges: ``{group: [E]}``, the weight of each edge in its node's sum, or None.
      auxiliary: ``{group: [E]}``, the weight of an auxiliary skip beside the
        candidates, or None. Only supernets built with one accept it.
      active: ``{group: int32 [E, A]}``, the candidates to evaluate, or None for all.
        Candidates that are not active contribute nothing, whatever their weight; one
        that is named twice counts once.
      offsets: ``{group: [E]}`` or ``[cells, E]``, a scalar that is added to every entry
        of the edge's output (before its weight in ``edges``), or None. GDAS' code adds
        the sampled weights of the unselected candidates so: value 0, but a gradient.
    """

    weights: dict[str, Any]
    edges: dict[str, Any] | None = None
    auxiliary: dict[str, Any] | None = None
    active: dict[str, Any] | None = None
    offsets: dict[str, Any] | None = None


class Resolved(NamedTuple):
    """A checked mixture, per cell: what a supernet evaluates.

    Attributes:
      weights: ``{group: [cells, E, O]}``: weights x edges, 0 where not active.
      offsets: ``{group: [cells, E]}``: offsets x edges, or None.
      edges: ``{group: [E]}`` or None: what ``weights`` were multiplied by.
      active: ``{group: int32 [E, A]}`` or None.
      auxiliary: ``{group: [E]}``: auxiliary x edges, or None.
    """

    weights: dict[str, jax.Array]
    offsets: dict[str, jax.Array] | None
    edges: dict[str, jax.Array] | None
    active: dict[str, jax.Array] | None
    auxiliary: dict[str, jax.Array] | None = None


def uniform(space: Space) -> Mixture:
    """The mixture that weighs all candidates of an edge equally.

    Args:
      space: the space.

    Returns:
      Weights ``1 / O``, float32; of an edge with a list of its own, 1 by its length.

    Example:
      >>> import jnas
      >>> float(uniform(jnas.spaces.nasbench201()).weights["cell"][0, 0])
      0.20000000298023224
    """
    return Mixture(
        {
            group.name: jnp.asarray(
                group.allowed / group.allowed.sum(axis=1, keepdims=True), jnp.float32
            )
            for group in space.groups
        }
    )


def from_genotype(
    space: Space, genotype: Genotype, *, active: bool = False, edges: bool = False
) -> Mixture:
    """The one-hot mixture of a genotype: 1 for its operations, dropped edges are 0.

    Args:
      space: the space that the genotype belongs to.
      genotype: the candidate.
      active: whether to name the chosen candidates in ``Mixture.active``, so that a
        supernet computes nothing else.
      edges: whether to give kept edges the weight 1 and dropped ones 0 in
        ``Mixture.edges``, for supernets in which something goes around the operations
        (partial channels).

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
    one_hot = space.one_hot(genotype)
    return Mixture(
        {k: jnp.asarray(v) for k, v in one_hot.items()},
        edges={k: jnp.asarray(v.max(axis=1)) for k, v in one_hot.items()}
        if edges
        else None,
        active={
            k: jnp.asarray(np.argmax(v, axis=1)[:, None], jnp.int32)
            for k, v in one_hot.items()
        }
        if active
        else None,
    )


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
    return resolve(mixture, space, cells).weights


def over_cells(mixture: Mixture, group: str) -> np.ndarray:
    """The weights of a group's candidates, means over cells where these differ.

    Args:
      mixture: the mixture.
      group: the group's name.

    Returns:
      Float64 ``[E, O]``, on the host.

    Example:
      >>> import jnas
      >>> over_cells(uniform(jnas.spaces.nasbench201()), "cell").shape
      (6, 5)
    """
    weights = np.asarray(mixture.weights[group], np.float64)
    return weights.reshape(-1, *weights.shape[-2:]).mean(axis=0)


def resolve(
    mixture: Mixture, space: Space, cells: dict[str, int], *, auxiliary: bool = False
) -> Resolved:
    """Checks a mixture and spreads it over the cells.

    Args:
      mixture: the mixture.
      space: its space.
      cells: the number of cells of each group.
      auxiliary: whether the supernet has auxiliary skips.

    Returns:
      What is to be evaluated.

    Raises:
      JnasError: a group is missing or superfluous, or a shape is wrong.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> resolve(uniform(space), space, {"cell": 3}).active is None
      True
    """
    if not isinstance(mixture, Mixture):
        raise JnasError(
            f"mixture must be a jnas.Mixture, got {type(mixture).__name__}: "
            "write jnas.Mixture(weights={group: array})"
        )
    if mixture.auxiliary is not None and not auxiliary:
        raise JnasError(
            "mixture.auxiliary is set, but this supernet has no auxiliary skip: "
            "leave it None, or build the supernet with auxiliary_skip=True"
        )
    for field in ("weights", "edges", "active", "offsets", "auxiliary"):
        value = getattr(mixture, field)
        if value is not None and set(value) != set(space.names):
            raise JnasError(
                f"mixture.{field} must have the groups {sorted(space.names)} of space "
                f"{space.name!r}, got {sorted(value)}"
            )
    all_weights, all_offsets, all_edges, all_active = {}, {}, {}, {}
    all_auxiliary = {}
    for group in space.groups:
        name, count = group.name, cells[group.name]
        shape = (group.num_edges, group.num_operations)
        weights = _per_cell(mixture.weights[name], shape, count, "weights", name)
        offsets = None
        if mixture.offsets is not None:
            given = mixture.offsets[name]
            offsets = _per_cell(given, shape[:1], count, "offsets", name)
        if mixture.edges is not None:
            edges = _per_edge(mixture.edges[name], shape[0], "edges", name)
            weights = weights * edges[None, :, None]
            offsets = None if offsets is None else offsets * edges[None]
            all_edges[name] = edges
        if mixture.auxiliary is not None:
            beside = _per_edge(mixture.auxiliary[name], shape[0], "auxiliary", name)
            all_auxiliary[name] = beside * all_edges.get(name, 1.0)
        if mixture.active is not None:
            active = _checked_active(mixture.active[name], group)
            chosen = jax.nn.one_hot(active, shape[1], dtype=weights.dtype)
            weights = weights * jnp.max(chosen, axis=-2)[None]
            all_active[name] = active
        all_weights[name] = weights
        if offsets is not None:
            all_offsets[name] = offsets
    return Resolved(
        all_weights,
        all_offsets or None,
        all_edges or None,
        all_active or None,
        all_auxiliary or None,
    )


def _per_edge(value: Any, edges: int, field: str, group: str) -> jax.Array:
    """``[edges]``, checked."""
    value = jnp.asarray(value)
    if value.shape != (edges,):
        raise JnasError(
            f"mixture.{field}[{group!r}] must be [{edges}], got {list(value.shape)}"
        )
    return value


def _per_cell(
    value: Any, shape: tuple[int, ...], cells: int, field: str, group: str
) -> jax.Array:
    """``[*shape]`` or ``[cells, *shape]`` as the latter."""
    value = jnp.asarray(value)
    full = (cells, *shape)
    if value.shape not in (shape, full):
        meaning = ("edges", "operations")[: len(shape)]
        raise JnasError(
            f"mixture.{field}[{group!r}] must be {list(shape)} ({', '.join(meaning)}) "
            f"or {list(full)} (with cells first), got {list(value.shape)}"
        )
    return jnp.broadcast_to(value, full)


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
