"""NSGA-II: evolution towards a front of several scores."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas import domain, errors
from jnas.discrete import pareto, variation
from jnas.discrete.base import State, Strategy, build
from jnas.discrete.checks import count, positive, share
from jnas.discrete.history import seen

__all__ = ["front", "nsga2"]


class _Population(NamedTuple):
    """Members, the offspring told since the last survival, and what is pending.

    Of members and offspring the scores are -inf where there is none yet. `pending`
    rings through the identities of the last ``2 P`` asked.
    """

    genes: jax.Array  # [P, L]
    scores: jax.Array  # [P, M]
    crowding: jax.Array  # [P], of the last survival
    offspring: jax.Array  # [P, L]
    results: jax.Array  # [P, M]
    identity: jax.Array  # [2 P, K]
    pending: jax.Array  # bool [2 P]


def nsga2(
    space: Any,
    *,
    population: int = 40,
    scores: int = 2,
    mutation: str = "polynomial",
    eta: float = 3.0,
    crossover: float = 1.0,
    tries: int = 20,
) -> Strategy:
    """Evolution by non-dominated sorting and crowding.

    The first ``population`` candidates are drawn uniformly. A child has two parents,
    each the winner of two members: the one that dominates the other, else the one in
    the less crowded place, else either. It takes the genes between two points from the
    second parent, and is mutated. What is a member, told offspring or pending is made
    anew, at most ``tries`` times (half of them by mating, half drawn uniformly). When
    as many offspring as members were told, the best of both survive: front by front,
    and the least crowded of the front that does not fit, ties at random.

    Deb et al., NSGA-II (2002), as used by Lu et al., NSGA-Net (GECCO 2019): population
    40, eta 3.

    Args:
      space: a space or its name.
      population: number of members ``P``, and of offspring between survivals.
      scores: number ``M`` of scores that are told, each higher is better.
      mutation: "polynomial": genes are numbers, each moves with probability 1 / L, by
        a polynomial distribution around its value, rounded (Deb & Goyal 1996, with
        bounds half a step beyond the values); "redraw": each gene gets another value
        with probability 1 / L; or one of the kinds of `jnas.domain.of`.
      eta: the larger, the nearer polynomial mutations stay.
      crossover: probability of crossover; else the child is a mutated first parent.
      tries: see above, at least 2.

    Returns:
      The strategy.

    Raises:
      JnasError: an argument is out of range, or the space has no such mutation.

    Example:
      >>> strategy = nsga2("nasbench201", population=4)
      >>> proposal, state = strategy.ask(strategy.init(jax.random.key(0)), 4)
      >>> total = proposal.genes.sum(-1) * 1.0
      >>> state = strategy.tell(state, proposal, jnp.stack([total, -total], -1))
      >>> genes, scores, mask = front(state)
      >>> genes.shape, scores.shape, int(mask.sum())
      ((8, 6), (8, 2), 4)
    """
    own = domain.of(space)
    size, many = count("population", population, 2), count("scores", scores)
    eta, crossover = positive("eta", eta, zero=True), share("crossover", crossover)
    tries = count("tries", tries, 2)
    kinds = ("polynomial", "redraw", *own.mutations)
    if mutation not in kinds:
        raise errors.unknown_name("mutation", mutation, kinds)
    length = len(own.cardinalities)
    sizes = jnp.asarray(own.cardinalities, jnp.int32)

    def init(key):
        genes = jnp.zeros((size, length), jnp.int32)
        nothing = jnp.full((size, many), -jnp.inf)
        return _Population(
            genes,
            nothing,
            jnp.zeros(size),
            genes,
            nothing,
            jnp.zeros((2 * size, own.identity_size), jnp.int32),
            jnp.zeros(2 * size, bool),
        )

    def mutate(key, genes):
        if mutation == "polynomial":
            return variation.polynomial(key, genes, sizes, eta)
        if mutation == "redraw":
            return variation.redraw(key, genes, sizes, 1 / length)
        return own.mutate(key, genes, mutation)

    def mate(key, members):
        draw_key, tie_key, cross_key, point_key, mutate_key = jax.random.split(key, 5)
        rows = jax.random.permutation(draw_key, size)[jnp.arange(4) % size]
        ties = jax.random.bernoulli(tie_key, 0.5, (2,))
        first, second = (
            members.genes[tournament(members, rows[2 * i], rows[2 * i + 1], ties[i])]
            for i in range(2)
        )
        child = jnp.where(
            jax.random.bernoulli(cross_key, crossover),
            variation.two_point(point_key, first, second),
            first,
        )
        return mutate(mutate_key, child)

    def propose(members, *, key, asked, told):
        mate_key, fresh_key = jax.random.split(key)
        mated = jax.vmap(lambda k: mate(k, members))(
            jax.random.split(mate_key, tries - tries // 2)
        )
        fresh = jax.vmap(own.sample)(jax.random.split(fresh_key, tries // 2))
        # Before the first survival there are no members.
        start = (told < size) | (asked < size)
        # The first try is an ordinary child, or an ordinary random candidate.
        made = jnp.concatenate([mated, fresh])
        identity = jax.vmap(own.identity)(made)
        known = jnp.concatenate([members.genes, members.offspring])
        filled = jnp.concatenate(
            [jnp.full(size, told >= size), jnp.arange(size) < told % size]
        )
        new = jax.vmap(own.valid)(made)
        new &= ~seen(identity, jax.vmap(own.identity)(known), filled)
        new &= ~seen(identity, members.identity, members.pending)
        random = jnp.arange(len(made)) >= len(mated)
        new &= random | ~start
        place = jnp.where(jnp.any(new), jnp.argmax(new), len(made) - 1)
        ring = asked % (2 * size)
        return made[place], members._replace(
            identity=members.identity.at[ring].set(identity[place]),
            pending=members.pending.at[ring].set(True),
        )

    def learn(members, *, genes, score, id, key, told, **context):
        place = told % size
        # (A place in the ring may by now belong to a later one, where evaluations take
        # very long: then that one may be proposed twice.)
        members = members._replace(
            offspring=members.offspring.at[place].set(genes),
            results=members.results.at[place].set(score.astype(members.results.dtype)),
            pending=members.pending.at[id % (2 * size)].set(False),
        )

        def survive(members):
            genes = jnp.concatenate([members.genes, members.offspring])
            results = jnp.concatenate([members.scores, members.results])
            rank = pareto.ranks(results)
            apart = pareto.crowding(results, rank)
            # What was never there comes after what failed.
            empty = (jnp.arange(2 * size) < size) & (told < size)
            ties = jax.random.uniform(key, (2 * size,))
            best = jnp.lexsort((ties, -apart, rank, empty))[:size]
            return members._replace(
                genes=genes[best], scores=results[best], crowding=apart[best]
            )

        return jax.lax.cond((told + 1) % size == 0, survive, lambda m: m, members)

    return build(
        own.space,
        "nsga2",
        init=init,
        propose=propose,
        learn=learn,
        batch=size,
        scores=many,
        config={
            "strategy": "nsga2", "population": size, "scores": many,
            "mutation": mutation, "eta": eta, "crossover": crossover, "tries": tries,
        },
    )  # fmt: skip


def front(state: State) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the best trade-offs that a state of `nsga2` holds.

    Args:
      state: a state of `nsga2`.

    Returns:
      The members and the offspring told since the last survival, ``P`` each: genes
      ``[2 P, L]``, scores ``[2 P, M]``, and bool ``[2 P]``, which of them are there and
      not dominated by another.

    Raises:
      JnasError: it is no state of `nsga2`.

    Example: see `nsga2`.
    """
    held = state.inner
    if not isinstance(held, _Population):
        raise errors.JnasError("front takes a state of nsga2, got another one")
    size = len(held.genes)
    genes = jnp.concatenate([held.genes, held.offspring])
    scores = jnp.concatenate([held.scores, held.results])
    rows = jnp.arange(2 * size)
    # The members include those of the offspring that survived: they count once.
    there = jnp.where(rows < size, state.told >= size, rows - size < state.told % size)
    scores = jnp.where(there[:, None], scores, -jnp.inf)
    return genes, scores, pareto.non_dominated(scores)


def tournament(
    members: _Population, a: jax.Array, b: jax.Array, tie: jax.Array
) -> jax.Array:
    """The row that dominates the other, is less crowded, or is drawn."""
    one, two = members.scores[a], members.scores[b]
    apart, other = members.crowding[a], members.crowding[b]
    takes_a = jnp.where(apart == other, tie, apart > other)
    takes_a = jnp.where(pareto.dominates(two, one), False, takes_a)
    takes_a = jnp.where(pareto.dominates(one, two), True, takes_a)
    return jnp.where(takes_a, a, b)
