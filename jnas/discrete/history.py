"""What was asked and told so far, in arrays of fixed size.

Letters: ``C`` capacity, ``L`` genes, ``K`` numbers of an identity (`jnas.domain`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jnas.domain import Domain

__all__ = ["History", "asked_before", "empty", "unseen", "with_asked", "with_told"]

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
    width = jax.eval_shape(domain.identity, jnp.zeros(length, jnp.int32)).shape[0]
    return History(
        jnp.zeros((capacity, length), jnp.int32),
        jnp.full((capacity, width), -1, jnp.int32),  # no candidate's
        jnp.full(capacity, -jnp.inf, jnp.float32),
    )


def with_asked(
    history: History, domain: Domain, place: jax.Array, genes: jax.Array
) -> History:
    """The history with one more candidate, at the place of its number."""
    return history._replace(
        genes=history.genes.at[place].set(genes),
        identity=history.identity.at[place].set(domain.identity(genes)),
    )


def with_told(history: History, place: jax.Array, score: jax.Array) -> History:
    """The history with the score of the candidate of that number."""
    return history._replace(
        score=history.score.at[place].set(score.astype(history.score.dtype))
    )


def asked_before(history: History, domain: Domain, genes: jax.Array) -> jax.Array:
    """Whether a candidate, or one that is the same network, was asked: a boolean."""
    own = domain.identity(genes)
    return jnp.any(jnp.all(history.identity == own[None], axis=-1))


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
