"""Drop path and skip dropout in a supernet, at rates that may change from step to step.

Drop path (as in RobustDARTS' search: Zela et al., ICLR 2020) drops the whole output of
a mixed edge, for each image by itself. Skip dropout (Chen et al., P-DARTS, ICCV 2019,
section 3.3) drops single values after identity skips, so that the search can't lean on
them; skips of stride 2, which have parameters, are left alone, as in the authors' code.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jnas.errors import JnasError, unknown_name

__all__ = ["RATES", "Dropping", "dropping"]

RATES = ("drop_path", "skip_dropout")


def dropping(
    rates: Mapping[str, Any] | None, key: jax.Array | None, train: bool
) -> "Dropping | None":
    """What to drop in a forward pass.

    Args:
      rates: ``{"drop_path": p, "skip_dropout": p}`` or some of them; probabilities,
        which may be traced.
      key: typed PRNG key.
      train: only training passes drop anything.

    Returns:
      The rates with their key, or None for nothing.

    Raises:
      JnasError: an unknown rate, or no key.

    Example:
      >>> dropping({"drop_path": 0.2}, None, train=False) is None
      True
    """
    for name in rates or {}:
        if name not in RATES:
            raise unknown_name("rate", name, RATES)
    if not rates or not train:
        return None
    if key is None:
        raise JnasError(
            f"the rates {sorted(rates)} need a key: pass key=jax.random.key(...)"
        )
    return Dropping(dict(rates), key)


@jax.tree_util.register_pytree_node_class
class Dropping:
    """The rates and the key of one forward pass, or of one cell of it."""

    def __init__(self, rates: dict[str, Any], key: jax.Array):
        self.rates, self._key = rates, key

    def tree_flatten(self):
        """Rates and key, as JAX asks for them."""
        return (self.rates, self._key), None

    @classmethod
    def tree_unflatten(cls, _, children):
        """The inverse."""
        return cls(*children)

    def of_cell(self, position: int) -> "Dropping":
        """The same rates with the cell's own key."""
        return Dropping(self.rates, jax.random.fold_in(self._key, position))

    def path(self, edge: int, y: jax.Array) -> jax.Array | None:
        """The factor of each image of an edge's output, ``[B, 1, 1, 1]``, or None."""
        if "drop_path" not in self.rates:
            return None
        return self._factor("drop_path", edge, (y.shape[0], 1, 1, 1), y.dtype)

    def skip(self, edges: list[int], operation: str, y: jax.Array) -> jax.Array:
        """Drops values of ``y [B, H, W, n, C]`` if the operation is a skip."""
        if "skip_dropout" not in self.rates or operation != "skip_connect":
            return y
        size = (*y.shape[:3], 1, y.shape[-1])
        factors = [self._factor("skip_dropout", e, size, y.dtype) for e in edges]
        return y * jnp.concatenate(factors, axis=-2)

    def _factor(self, name: str, edge: int, shape: tuple[int, ...], dtype: Any):
        """0 with the rate's probability, else the inverse of that of being kept."""
        keep = 1 - jnp.asarray(self.rates[name], jnp.float32)
        key = jax.random.fold_in(self._key, len(RATES) * edge + RATES.index(name))
        kept = jax.random.bernoulli(key, keep, shape)
        return jnp.where(kept, 1 / jnp.where(keep > 0, keep, 1.0), 0.0).astype(dtype)
