"""Small numerical helpers with gradients that stay finite."""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "all_finite",
    "any_differs",
    "dot",
    "global_norm",
    "normalised_entropy",
    "safe_log",
]


def safe_log(x: jax.Array) -> jax.Array:
    """Logarithm with value and gradient 0 where ``x <= 0``.

    Args:
      x: any shape.

    Returns:
      ``log(x)``, or 0 where ``x <= 0``.

    Example:
      >>> safe_log(jnp.array([0.0, 1.0])).tolist()
      [0.0, 0.0]
    """
    positive = x > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1.0)), 0.0)


def normalised_entropy(probabilities: jax.Array) -> jax.Array:
    """Entropy of each row relative to the uniform distribution's, in [0, 1].

    Args:
      probabilities: ``[..., O]``, rows that sum to a positive number.

    Returns:
      ``[...]``; 1 means undecided, 0 decided.

    Example:
      >>> entropy = normalised_entropy(jnp.array([[0.5, 0.5], [1.0, 0.0]]))
      >>> [abs(round(float(x), 6)) for x in entropy]
      [1.0, 0.0]
    """
    if probabilities.shape[-1] < 2:
        return jnp.zeros(probabilities.shape[:-1], probabilities.dtype)
    total = jnp.sum(probabilities, axis=-1, keepdims=True)
    p = probabilities / jnp.where(total > 0, total, 1.0)
    entropy = -jnp.sum(p * safe_log(p), axis=-1)
    return entropy / jnp.log(jnp.asarray(probabilities.shape[-1], p.dtype))


def any_differs(first: Any, second: Any) -> jax.Array:
    """Whether two trees differ in any entry; NaN differs from everything.

    Args:
      first: arrays.
      second: likewise, of the same structure and shapes.

    Returns:
      A bool scalar.

    Example:
      >>> bool(any_differs({"a": jnp.ones(2)}, {"a": jnp.array([1.0, 2.0])}))
      True
    """
    differs = jax.tree.map(lambda a, b: jnp.any(a != b), first, second)
    return jnp.any(jnp.array([False, *jax.tree.leaves(differs)]))


def global_norm(tree: Any) -> jax.Array:
    """Euclidean norm over all leaves, with gradient 0 at 0.

    Args:
      tree: a pytree of arrays.

    Returns:
      A scalar.

    Example:
      >>> float(global_norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])}))
      5.0
    """
    square = sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree))
    # Not `square > 0`, which would turn the norm of NaN into 0.
    zero = square == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))


def all_finite(tree: Any) -> jax.Array:
    """Whether every value of every leaf is finite.

    Args:
      tree: a pytree of arrays.

    Returns:
      A boolean scalar.

    Example:
      >>> bool(all_finite({"a": jnp.array([1.0, jnp.nan])}))
      False
    """
    checks = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(checks)) if checks else jnp.asarray(True)


def dot(a: Any, b: Any) -> jax.Array:
    """The inner product over all leaves.

    Args:
      a: a pytree of arrays.
      b: another of the same structure.

    Returns:
      A scalar.

    Example:
      >>> float(dot({"w": jnp.ones(3)}, {"w": jnp.ones(3)}))
      3.0
    """
    return sum(
        (jnp.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)),
        start=jnp.zeros(()),
    )
