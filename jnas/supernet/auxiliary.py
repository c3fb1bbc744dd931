"""Auxiliary skips beside the candidates of each edge: DARTS- (Chu et al., ICLR 2021).

On edges of stride 1 it is the identity, on those of stride 2 a factorised reduction
with weights of its own, as the skip connection among the candidates.
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from jnas.spaces import Group
from jnas.supernet import operations, stacked

if TYPE_CHECKING:
    from jnas.supernet.cells import MixedCell

__all__ = ["AuxiliarySkips"]

_SKIP = "skip_connect"


class AuxiliarySkips:
    """The auxiliary skips of one cell, by source state."""

    def __init__(
        self,
        cell: "MixedCell",
        width: int,
        weights: jax.Array,
        statistics: str,
        dtype: jnp.dtype,
    ):
        """Takes (or makes) the variables of the skips.

        Args:
          cell: the module that they belong to.
          width: channels that go through the candidates.
          weights: ``[E]``.
          statistics: "batch" or "running".
          dtype: of the variables.
        """
        group = cell.group
        every = Group(group.name, (_SKIP,), group.edges, group.inputs, group.concat)
        self._stacked = stacked.Stacked(
            _SKIP,
            operations.get_operation(_SKIP),
            every,
            width,
            cell.reduction,
            dtype,
            cell,
            label="auxiliary_skip",
        )
        self._weights, self._statistics = weights, statistics

    def __call__(self, x: jax.Array, source: int) -> list[jax.Array]:
        """The weighted skip of each edge that leaves a state, ``[B, H', W', C]``."""
        edges = self._stacked.leaving[source]
        weight = jnp.stack([self._weights[e] for e in edges])
        y = self._stacked(x, source, weight, self._statistics)
        return [
            jnp.squeeze(part, -2)
            for part in lax.split(y, (1,) * len(edges), axis=y.ndim - 2)
        ]

    def update_statistics(self) -> None:
        """Moves the running statistics."""
        self._stacked.update_statistics()
