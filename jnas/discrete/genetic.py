"""A genetic algorithm: mutants and crossovers of the best candidates so far."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas import domain, errors
from jnas.discrete.base import Strategy, build
from jnas.discrete.checks import count, share
from jnas.discrete.history import seen
from jnas.errors import JnasError

__all__ = ["genetic"]

_CROSSOVERS = ("uniform", "two_point")
_TRIES = 10


class _Pool(NamedTuple):
    genes: jax.Array  # [E, L], the best told, in no order
    score: jax.Array  # [E], -inf where there is none yet
    visited: jax.Array  # [V, K], identities, a ring by the order of asking


def genetic(
    space: Any,
    *,
    population: int = 50,
    elite: int = 10,
    mutants: int = 25,
    crossovers: int = 25,
    crossover: str = "uniform",
    mutation_rate: float = 0.1,
    memory: int = 1000,
) -> Strategy:
    """Generations bred from the best candidates of all that were told.

    The first ``population`` candidates are drawn uniformly. Every later generation has
    ``mutants`` (a parent whose genes are each drawn anew with ``mutation_rate``, so one
    may stay as it is), then ``crossovers`` of two parents, and the rest is random.
    Parents are drawn uniformly, with replacement, from the ``elite`` best so far. What
    was asked for before is not asked for again: after 10 children that were, the
    candidate is drawn uniformly, and after 10 more of those it is taken as it is.
    Guo et al., Single path one-shot neural architecture search with uniform sampling
    (ECCV 2020), Algorithm 1, and its code, which has generations of 50 and 20 of them.
    Told in other batches than generations, the elite is that of what was told by then.

    Where nodes keep some of their edges, a crossover of genes may exchange which edges
    are kept without their operations; it is a candidate all the same. In a space
    whose genes are no product, an invalid child is replaced by a mutation, as the
    domain makes it, of its first parent.

    Args:
      space: a space or its name.
      population: candidates of a generation, and of one call of ``ask``.
      elite: number of parents.
      mutants: mutants in a generation.
      crossovers: crossovers in a generation.
      crossover: ``"uniform"`` takes each gene from one of both parents with equal
        chances, ``"two_point"`` takes those between two random places from the second.
      mutation_rate: probability that a mutant's gene is drawn anew.
      memory: how many of the latest candidates count as asked for before, by
        `Domain.identity`; 0 for none.

    Returns:
      The strategy.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> strategy = genetic("nasbench201")
      >>> proposal, state = strategy.ask(strategy.init(jax.random.key(0)))
      >>> state = strategy.tell(state, proposal, jnp.arange(50.0))
      >>> float(strategy.best(state)[1])
      49.0
    """
    own = domain.of(space)
    size, parents = count("population", population), count("elite", elite)
    mutants, crossovers = (
        count("mutants", mutants, 0),
        count("crossovers", crossovers, 0),
    )
    memory = count("memory", memory, 0)
    rate = share("mutation_rate", mutation_rate)
    if crossover not in _CROSSOVERS:
        raise errors.unknown_name("crossover", crossover, _CROSSOVERS)
    if mutants + crossovers > size:
        raise JnasError(
            f"{mutants} mutants and {crossovers} crossovers do not fit in a population "
            f"of {size}: take fewer, or a larger population"
        )
    sizes = jnp.asarray(own.cardinalities, jnp.int32)
    length = len(own.cardinalities)

    def init(key):
        return _Pool(
            jnp.zeros((parents, length), jnp.int32),
            jnp.full(parents, -jnp.inf, jnp.float32),
            jnp.zeros((memory, own.identity_size), jnp.int32),
        )

    def mutated(key, parent):
        where_key, value_key = jax.random.split(key)
        fresh = jax.random.randint(value_key, (length,), 0, sizes, jnp.int32)
        return jnp.where(
            jax.random.bernoulli(where_key, rate, (length,)), fresh, parent
        )

    def crossed(key, first, second):
        if crossover == "uniform":
            other = jax.random.bernoulli(key, 0.5, (length,))
        else:
            a, b = jax.random.randint(key, (2,), 0, length + 1)
            places = jnp.arange(length)
            other = (places >= jnp.minimum(a, b)) & (places < jnp.maximum(a, b))
        return jnp.where(other, second, first)

    def bred(key, pool, number):
        """The candidate with this number in its generation."""
        rows_key, change_key, repair_key = jax.random.split(key, 3)
        filled = jnp.maximum(jnp.sum(pool.score > -jnp.inf), 1)
        first, second = pool.genes[jax.random.randint(rows_key, (2,), 0, filled)]
        child = jnp.where(
            number < mutants,
            mutated(change_key, first),
            crossed(change_key, first, second),
        )
        return jnp.where(own.valid(child), child, own.mutate(repair_key, first))

    def propose(pool, *, key, asked, **context):
        number = asked % size
        random = (asked < size) | (number >= mutants + crossovers)
        random |= jnp.all(pool.score == -jnp.inf)
        stored = jnp.arange(memory) < asked

        def attempt(carry):
            tries, _, _ = carry
            own_key, bred_key = jax.random.split(jax.random.fold_in(key, tries))
            fresh = random | (tries >= _TRIES)
            child = jnp.where(fresh, own.sample(own_key), bred(bred_key, pool, number))
            again = seen(own.identity(child)[None], pool.visited, stored)[0]
            return tries + 1, child, again

        def known(carry):
            tries, _, again = carry
            return again & (tries < 2 * _TRIES)

        start = (jnp.zeros((), jnp.int32), None, None)
        _, child, _ = jax.lax.while_loop(known, attempt, attempt(start))
        if memory:
            row = own.identity(child)
            pool = pool._replace(visited=pool.visited.at[asked % memory].set(row))
        return child, pool

    def learn(pool, *, genes, score, **context):
        score = score.astype(jnp.float32)
        # Where there is none yet the score is -inf: places fill up from the first.
        worst = jnp.argmin(pool.score)
        wins = score > pool.score[worst]
        return pool._replace(
            genes=pool.genes.at[worst].set(jnp.where(wins, genes, pool.genes[worst])),
            score=pool.score.at[worst].max(score),
        )

    return build(
        own.space,
        "genetic",
        init=init,
        propose=propose,
        learn=learn,
        batch=size,
        config={
            "strategy": "genetic",
            "population": size,
            "elite": parents,
            "mutants": mutants,
            "crossovers": crossovers,
            "crossover": crossover,
            "mutation_rate": rate,
            "memory": memory,
        },
    )
