"""Regularized evolution: tournaments in a population that forgets its oldest."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas import domain, errors
from jnas.discrete.base import Strategy, build
from jnas.discrete.checks import count, share

__all__ = ["regularized_evolution"]


class _Population(NamedTuple):
    genes: jax.Array  # [P, L], a ring by the order of telling
    score: jax.Array  # [P]


def regularized_evolution(
    space: Any,
    *,
    population: int = 10,
    sample: int = 3,
    mutation: str = "uniform",
    identity: float = 0.0,
    ageing: bool = True,
) -> Strategy:
    """Evolution whose population loses its oldest member at every step.

    The first ``population`` candidates are drawn uniformly. Then each one is a
    mutation of the best of ``sample`` members, drawn with replacement (as the code of
    the paper and of NAS-Bench-201 do); it replaces the oldest member. Real, Aggarwal,
    Huang & Le, Regularized evolution for image classifier architecture search (AAAI
    2019), Algorithm 1: 100 and 25 there, with mutation="amoebanet" and identity=0.05;
    10 and 3 with mutation="node" in NAS-Bench-201 (Dong & Yang, ICLR 2020).

    Args:
      space: a space or its name.
      population: number of members.
      sample: members of a tournament.
      mutation: one of the kinds of `jnas.domain.of`.
      identity: probability that a child is its parent, evaluated again.
      ageing: whether the oldest member dies; else the worst one does, which with
        ``sample = population`` is the non-ageing variant of the paper.

    Returns:
      The strategy.

    Raises:
      JnasError: an argument is out of range, or the space has no such mutation.

    Example:
      >>> strategy = regularized_evolution("nasbench201")
      >>> state = strategy.init(jax.random.key(0))
      >>> proposal, state = strategy.ask(state, 10)
      >>> state = strategy.tell(state, proposal, jnp.arange(10.0))
      >>> float(strategy.best(state)[1])
      9.0
    """
    own = domain.of(space)
    size, contest = count("population", population), count("sample", sample)
    identity = share("identity", identity)
    if mutation not in own.mutations:
        raise errors.unknown_name("mutation", mutation, own.mutations)
    length = len(own.cardinalities)

    def init(key):
        return _Population(
            jnp.zeros((size, length), jnp.int32), jnp.full(size, -jnp.inf)
        )

    def propose(members, *, key, asked, told):
        fresh_key, draw_key, mutate_key, keep_key = jax.random.split(key, 4)
        filled = jnp.maximum(jnp.minimum(told, size), 1)
        rows = jax.random.randint(draw_key, (contest,), 0, filled)
        parent = members.genes[rows[jnp.argmax(members.score[rows])]]
        child = own.mutate(mutate_key, parent, mutation)
        if identity:
            keep = jax.random.bernoulli(keep_key, identity)
            child = jnp.where(keep, parent, child)
        # Where evaluations run side by side, more may be asked before any was told.
        start = (asked < size) | (told == 0)
        return jnp.where(start, own.sample(fresh_key), child), members

    def learn(members, *, genes, score, told, **context):
        if ageing:
            place = told % size
        else:
            worst = jnp.argmin(members.score)
            place = jnp.where(told < size, told, worst)
        written = _Population(
            members.genes.at[place].set(genes),
            members.score.at[place].set(score.astype(members.score.dtype)),
        )
        if ageing:
            return written
        # The child itself may be the worst.
        dies = (told >= size) & (score <= members.score[place])
        return jax.tree.map(lambda a, b: jnp.where(dies, a, b), members, written)

    return build(
        own.space,
        "regularized_evolution",
        init=init,
        propose=propose,
        learn=learn,
        config={
            "strategy": "regularized_evolution",
            "population": size,
            "sample": contest,
            "mutation": mutation,
            "identity": identity,
            "ageing": ageing,
        },
    )
