"""Which candidates are new: comparisons of identities, exact.

Letters: ``A`` candidates, ``N`` remembered rows, ``K`` numbers of an identity.
"""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["first_of_equals", "seen"]


def _equal(a: jax.Array, b: jax.Array) -> jax.Array:
    """Compares all pairs, ``[A, N]``: one number of the identities after the other."""
    same = jnp.ones((len(a), len(b)), bool)
    for k in range(a.shape[1]):
        same &= a[:, None, k] == b[None, :, k]
    return same


def seen(identity: jax.Array, remembered: jax.Array, count: Any) -> jax.Array:
    """Tells which candidates are among the first ``count`` remembered ones.

    Args:
      identity: int ``[A, K]``.
      remembered: int ``[N, K]``.
      count: number of rows that are filled, or bool ``[N]``, which of them.

    Returns:
      bool ``[A]``.

    Example:
      >>> seen(jnp.array([[1], [2]]), jnp.array([[2], [1]]), 1).tolist()
      [False, True]
    """
    count = jnp.asarray(count)
    filled = count if count.ndim else jnp.arange(len(remembered)) < count
    return jnp.any(_equal(identity, remembered) & filled[None], axis=1)


def first_of_equals(identity: jax.Array, usable: jax.Array) -> jax.Array:
    """Tells which usable candidates are the first of their kind among the usable.

    Args:
      identity: int ``[A, K]``.
      usable: bool ``[A]``.

    Returns:
      bool ``[A]``.

    Example:
      >>> first_of_equals(jnp.array([[1], [1], [1]]), jnp.arange(3) > 0).tolist()
      [False, True, False]
    """
    rows = jnp.arange(len(identity))
    earlier = (rows[None] < rows[:, None]) & usable[None]
    return usable & ~jnp.any(_equal(identity, identity) & earlier, axis=1)
