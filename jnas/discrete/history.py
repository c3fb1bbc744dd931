"""What was asked and told so far, in arrays of fixed size, and what of it is new.

Letters: ``C`` capacity, ``L`` genes, ``K`` numbers of an identity (`jnas.domain`),
``A`` candidates, ``N`` remembered rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.domain import Domain

__all__ = [
    "History",
    "asked_before",
    "empty",
    "first_of_equals",
    "seen",
    "unseen",
    "with_asked",
    "with_told",
]

# Draws after which a candidate that was asked before is asked again.
_TRIES = 300


class History(NamedTuple):
    """All candidates by the order of asking; what exceeds the capacity is not kept.

    Attributes:
      genes: int32 ``[C, L]``.
      identity: int32 ``[C, K]``.
      score: float32 ``[C]``, -inf for what was not told yet or failed.
    """

    genes: jax.Array
    identity: jax.Array
    score: jax.Array


def empty(domain: Domain, capacity: int) -> History:
    """A history of nothing."""
    length = len(domain.cardinalities)
    return History(
        jnp.zeros((capacity, length), jnp.int32),
        jnp.full((capacity, domain.identity_size), -1, jnp.int32),  # no candidate's
        jnp.full(capacity, -jnp.inf, jnp.float32),
    )


def with_asked(
    history: History, place: jax.Array, genes: jax.Array, identity: jax.Array
) -> History:
    """The history with one or more candidates, at the places of their numbers."""
    return history._replace(
        genes=history.genes.at[place].set(genes, mode="drop"),
        identity=history.identity.at[place].set(identity, mode="drop"),
    )


def with_told(history: History, place: jax.Array, score: jax.Array) -> History:
    """The history with the scores of the candidates of those numbers."""
    score = score.astype(history.score.dtype)
    return history._replace(score=history.score.at[place].set(score, mode="drop"))


def asked_before(history: History, domain: Domain, genes: jax.Array) -> jax.Array:
    """Whether a candidate, or one that is the same network, was asked: a boolean."""
    return seen(domain.identity(genes)[None], history.identity, len(history.score))[0]


def unseen(history: History, domain: Domain, key: jax.Array) -> jax.Array:
    """Draws a candidate that was not asked yet; after 300 tries, one that was."""

    def draw(carry):
        key, number, _ = carry
        key, own = jax.random.split(key)
        return key, number + 1, domain.sample(own)

    def again(carry):
        _, number, genes = carry
        return (number < _TRIES) & asked_before(history, domain, genes)

    return jax.lax.while_loop(again, draw, draw((key, 0, None)))[2]


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
