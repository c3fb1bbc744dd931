"""Crossover and mutation of genes that are numbers within their cardinalities.

Letters: ``L`` genes.
"""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["polynomial", "redraw", "two_point"]


def redraw(key: jax.Array, genes: jax.Array, sizes: Any, chance: float) -> jax.Array:
    """Gives each gene another value with some probability.

    Args:
      key: random key.
      genes: int32 ``[L]``.
      sizes: numbers of values, ints ``[L]``; a gene of one value stays.
      chance: the probability.

    Returns:
      int32 ``[L]``.

    Example:
      >>> redraw(jax.random.key(0), jnp.array([0, 1, 0]), jnp.array([2, 2, 1]), 1.0)
      Array([1, 0, 0], dtype=int32)
    """
    change_key, value_key = jax.random.split(key)
    sizes = jnp.asarray(sizes, jnp.int32)
    change = jax.random.bernoulli(change_key, chance, genes.shape) & (sizes > 1)
    step = jax.random.randint(value_key, genes.shape, 1, jnp.maximum(sizes, 2))
    return jnp.where(change, (genes + step) % sizes, genes).astype(jnp.int32)


def two_point(key: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """Crosses two: genes of the first, and of the second between two places.

    The places are drawn among the ``L - 1`` between genes, without replacement; two
    genes are cut at the only one.

    Args:
      key: random key.
      first: int32 ``[L]``.
      second: int32 ``[L]``.

    Returns:
      int32 ``[L]``.

    Example:
      >>> a, b = jnp.zeros(3, jnp.int32), jnp.ones(3, jnp.int32)
      >>> two_point(jax.random.key(0), a, b).tolist()
      [0, 1, 0]
    """
    length = len(first)
    if length < 2:
        return first
    points = jnp.sort(jax.random.permutation(key, length - 1)[:2] + 1)
    rows = jnp.arange(length)
    end = points[1] if length > 2 else length
    return jnp.where((rows >= points[0]) & (rows < end), second, first)


def polynomial(key: jax.Array, genes: jax.Array, sizes: Any, eta: float) -> jax.Array:
    """Moves each gene with probability 1 / L, as a bounded number that is rounded.

    Deb & Goyal's polynomial mutation (1996) within bounds half a step beyond the
    values, as NSGA-Net's genes are mutated.

    Args:
      key: random key.
      genes: int32 ``[L]``.
      sizes: numbers of values, int32 ``[L]``.
      eta: distribution index; the larger, the nearer genes stay.

    Returns:
      int32 ``[L]``.

    Example:
      >>> polynomial(jax.random.key(0), jnp.zeros(3, jnp.int32), jnp.ones(3), 3.0)
      Array([0, 0, 0], dtype=int32)
    """
    change_key, move_key = jax.random.split(key)
    change = jax.random.bernoulli(change_key, 1 / len(genes), genes.shape)
    sizes = jnp.asarray(sizes, jnp.int32)
    width = sizes.astype(jnp.float32)
    below = (genes + 0.5) / width  # share of the range below the value
    draw = jax.random.uniform(move_key, genes.shape)
    power = eta + 1
    down = 2 * draw + (1 - 2 * draw) * (1 - below) ** power
    up = 2 * (1 - draw) + (2 * draw - 1) * below**power
    step = jnp.where(
        draw <= 0.5,
        jnp.maximum(down, 0.0) ** (1 / power) - 1,
        1 - jnp.maximum(up, 0.0) ** (1 / power),
    )
    moved = jnp.round(genes + step * width).astype(jnp.int32)
    moved = jnp.clip(moved, 0, sizes - 1)
    return jnp.where(change, moved, genes).astype(jnp.int32)
