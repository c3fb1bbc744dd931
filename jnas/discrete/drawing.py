"""Draws from a learned distribution over genes, kept valid."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jnas import domain, spaces

__all__ = ["valid_draws"]


def valid_draws(
    own: domain.Domain, draw: Callable[..., jax.Array], tries: int = 10
) -> Callable[..., jax.Array]:
    """Makes a draw of genes one by one valid in any domain.

    In a `jnas.Space` every vector of genes in range is a candidate, and the draw is
    returned as it is. Elsewhere it is repeated while it is invalid; after ``tries``
    draws `Domain.sample` gives the candidate.

    Args:
      own: the domain.
      draw: ``(key, *arguments) -> genes [L]``, each in range.
      tries: the most draws.

    Returns:
      A function like ``draw``, whose genes are valid.

    Example:
      >>> own = domain.of("nasbench201")
      >>> valid_draws(own, own.sample)(jax.random.key(0)).shape
      (6,)
    """
    if isinstance(own.space, spaces.Space):
        return draw

    def again(key, *arguments):
        def body(carry):
            number, _ = carry
            return number + 1, draw(jax.random.fold_in(key, number), *arguments)

        def invalid(carry):
            number, genes = carry
            return ~own.valid(genes) & (number < tries)

        zero = jnp.zeros((), jnp.int32)
        _, genes = jax.lax.while_loop(invalid, body, body((zero, None)))
        other = own.sample(jax.random.fold_in(key, tries))
        return jnp.where(own.valid(genes), genes, other)

    return again
