"""From the path of a weight to its operation: per-operation sums and masks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.spaces import Space

__all__ = ["Place", "cell_name", "check_statistics", "per_operation"]


def cell_name(position: int) -> str:
    """The name of the cell at a position, in weight paths."""
    return f"cell_{position}"


def check_statistics(statistics: str | None, train: bool) -> str:
    """The batch statistics to use: given, or "batch" in training, else "running".

    Args:
      statistics: "batch", "running" or None.
      train: the default's condition.

    Returns:
      "batch" or "running".

    Raises:
      JnasError: another word.

    Example:
      >>> check_statistics(None, True)
      'batch'
    """
    if statistics is None:
        return "batch" if train else "running"
    if statistics not in ("batch", "running"):
        raise JnasError(f"statistics must be 'batch' or 'running', got {statistics!r}")
    return statistics


class Place(NamedTuple):
    """Where one operation's weights are in the tree.

    Attributes:
      path: keys from the root of the weights.
      group: name of the group.
      cell: index of the cell in its group.
      rows: the edge of each leading row of every leaf, or one edge for whole leaves.
      operation: column of arch.
    """

    path: tuple[str, ...]
    group: str
    cell: int
    rows: tuple[int, ...] | int
    operation: int


def _key(entry: Any) -> str:
    return str(getattr(entry, "key", getattr(entry, "name", entry)))


def per_operation(
    space: Space,
    cells: dict[str, int],
    places: list[Place],
    structure: Callable[[], Any],
) -> tuple[Callable[[Any], dict[str, jax.Array]], Callable[[dict[str, Any]], Any]]:
    """Builds ``op_sum`` and ``op_mask`` of a supernet.

    Args:
      space: the space.
      cells: number of cells per group.
      places: where the operations' weights are.
      structure: gives the tree of the weights' shapes.

    Returns:
      ``(op_sum, op_mask)``; the leaves of a mask tree broadcast against the weights.
    """
    by_path = {place.path: place for place in places}

    def find(path):
        keys = tuple(_key(entry) for entry in path)
        for end in range(1, len(keys) + 1):
            place = by_path.get(keys[:end])
            if place is not None:
                return place
        return None

    def op_sum(tree):
        sums = {
            g.name: jnp.zeros((cells[g.name], g.num_edges, g.num_operations))
            for g in space.groups
        }
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            place = find(path)
            if place is None:
                continue
            if isinstance(place.rows, int):
                rows, values = jnp.array([place.rows]), jnp.sum(leaf)[None]
            else:
                rows = jnp.array(place.rows)
                values = jnp.sum(leaf, axis=tuple(range(1, leaf.ndim)))
            total = sums[place.group]
            sums[place.group] = total.at[place.cell, rows, place.operation].add(
                values.astype(total.dtype)
            )
        return sums

    def op_mask(mask):
        def expand(path, leaf):
            place = find(path)
            if place is None:
                return jnp.ones((), leaf.dtype)
            column = jnp.asarray(mask[place.group])[place.cell, :, place.operation]
            if isinstance(place.rows, int):
                return column[place.rows].astype(leaf.dtype)
            rows = column[jnp.array(place.rows)].astype(leaf.dtype)
            return rows.reshape(-1, *[1] * (len(leaf.shape) - 1))

        return jax.tree_util.tree_map_with_path(expand, structure())

    return op_sum, op_mask
