"""Several scores at once: domination, fronts, crowding, hypervolume.

Everything is traceable, and higher is better for every score. Letters: ``n``
candidates, ``M`` scores of each.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jnas.errors import JnasError

__all__ = ["crowding", "dominates", "hypervolume", "non_dominated", "ranks"]


def dominates(a: Any, b: Any) -> jax.Array:
    """Tells whether a is nowhere worse than b and somewhere better.

    Args:
      a: ``[..., M]``.
      b: ``[..., M]``.

    Returns:
      bool ``[...]``.

    Example:
      >>> dominates(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0])).item()
      True
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    return jnp.all(a >= b, axis=-1) & jnp.any(a > b, axis=-1)


def non_dominated(scores: Any) -> jax.Array:
    """Tells which candidates no other one dominates.

    Args:
      scores: ``[n, M]``. Rows that are not finite are failures and never count.

    Returns:
      bool ``[n]``; of equal rows all or none.

    Raises:
      JnasError: the scores are not ``[n, M]``.

    Example:
      >>> non_dominated([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]).tolist()
      [True, True, False]
    """
    scores = _checked(scores)
    finite = jnp.all(jnp.isfinite(scores), axis=1)
    by = dominates(scores[:, None], scores[None])
    return finite & ~jnp.any(by & finite[:, None], axis=0)


def ranks(scores: Any) -> jax.Array:
    """Sorts candidates into fronts.

    Front 0 is that of `non_dominated`, front 1 what is non-dominated without it, and
    so on (Deb, Pratap, Agarwal & Meyarivan, A fast and elitist multiobjective genetic
    algorithm: NSGA-II, 2002, section III A).

    Args:
      scores: ``[n, M]``.

    Returns:
      int32 ``[n]``, the number of the front; ``n`` where scores are not finite.

    Raises:
      JnasError: the scores are not ``[n, M]``.

    Example:
      >>> ranks([[2.0, 2.0], [1.0, 1.0], [3.0, 0.0]]).tolist()
      [0, 1, 0]
    """
    scores = _checked(scores)
    many = len(scores)
    finite = jnp.all(jnp.isfinite(scores), axis=1)
    by = dominates(scores[:, None], scores[None]) & finite[:, None] & finite[None]

    def peel(carry):
        front, rank = carry
        left = rank == many
        now = finite & left & ~jnp.any(by & left[:, None], axis=0)
        return front + 1, jnp.where(now, front, rank)

    start = (jnp.zeros((), jnp.int32), jnp.full(many, many, jnp.int32))
    return jax.lax.while_loop(
        lambda carry: jnp.any(finite & (carry[1] == many)), peel, start
    )[1]


def crowding(scores: Any, rank: Any) -> jax.Array:
    """Returns how far apart the neighbours of a candidate are within its front.

    For each score, the distance between the next better and the next worse one in the
    front, divided by the front's range, summed over the scores; infinite at the ends
    (published code writes 1e14). A score that is the same in the whole front adds
    nothing within it. Deb et al. (2002), section III B.

    Args:
      scores: ``[n, M]``.
      rank: int ``[n]``, the fronts.

    Returns:
      ``[n]``, at least 0; 0 where scores are not finite. Of equal scores the first row
      comes first.

    Raises:
      JnasError: the scores are not ``[n, M]``.

    Example:
      >>> front = jnp.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]])
      >>> crowding(front, jnp.zeros(3, jnp.int32)).tolist()
      [inf, 2.0, inf]
    """
    scores, rank = _checked(scores), jnp.asarray(rank)
    many = len(scores)
    finite = jnp.all(jnp.isfinite(scores), axis=1)
    total = jnp.zeros(many, scores.dtype)
    for column in jnp.where(finite[:, None], scores, 0.0).T:
        order = jnp.lexsort((column, rank))
        value, front = column[order], rank[order]
        low = jax.ops.segment_min(value, front, many + 1)[front]
        high = jax.ops.segment_max(value, front, many + 1)[front]
        span = jnp.where(high > low, high - low, 1.0)
        edge = jnp.ones(1, bool)
        first = jnp.concatenate([edge, front[1:] != front[:-1]])
        last = jnp.concatenate([front[1:] != front[:-1], edge])
        gap = jnp.roll(value, -1) - jnp.roll(value, 1)
        gap = jnp.where(first | last, jnp.inf, gap / span)
        total = total + jnp.zeros_like(total).at[order].set(gap)
    return jnp.where(finite, total, 0.0)


def hypervolume(scores: Any, reference: Any) -> jax.Array:
    """Returns the volume that is dominated by the scores, above a reference.

    Exact: a sweep for two scores; for more, slices along the last one, so that the
    work grows as ``n ** (M - 1)``.

    Args:
      scores: ``[n, M]``. Rows that are not finite count as nothing, as do rows that are
        not above the reference in every score.
      reference: ``[M]``, a score that is worse than all that is of interest.

    Returns:
      The volume ``[]``, in the product of the units.

    Raises:
      JnasError: the shapes don't fit.

    Example:
      >>> float(hypervolume([[1.0, 2.0], [2.0, 1.0]], [0.0, 0.0]))
      3.0
    """
    scores = _checked(scores)
    reference = jnp.asarray(reference, scores.dtype)
    if reference.shape != scores.shape[1:]:
        raise JnasError(
            f"a reference of {scores.shape[1]} scores has shape [{scores.shape[1]}], "
            f"got {list(reference.shape)}"
        )
    above = scores - reference[None]
    counts = jnp.all(jnp.isfinite(scores) & (above > 0), axis=1)
    return _volume(jnp.where(counts[:, None], above, 0.0))


def _volume(points: jax.Array) -> jax.Array:
    """The volume between 0 and points ``[n, M]`` that are nowhere below 0."""
    if points.shape[1] == 1:
        return jnp.max(points, initial=0.0)
    points = points[jnp.argsort(-points[:, -1])]
    height = points[:, -1]
    if points.shape[1] == 2:
        widest = jax.lax.cummax(points[:, 0])
        before = jnp.concatenate([jnp.zeros(1, points.dtype), widest[:-1]])
        return jnp.sum(height * (widest - before))
    step = height - jnp.concatenate([height[1:], jnp.zeros(1, points.dtype)])
    rows = jnp.arange(len(points))

    def below(k):
        return _volume(jnp.where((rows <= k)[:, None], points[:, :-1], 0.0))

    return jnp.sum(step * jax.lax.map(below, rows))


def _checked(scores: Any) -> jax.Array:
    scores = jnp.asarray(scores)
    if scores.ndim != 2 or scores.shape[1] < 1:
        raise JnasError(
            "several scores of n candidates have shape [n, M], got "
            f"{list(scores.shape)}"
        )
    return scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
