"""Local search: from the best of a few random candidates uphill, then anew."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas import domain, errors
from jnas.discrete import history
from jnas.discrete.base import Strategy, build
from jnas.discrete.checks import count

__all__ = ["local_search"]

_QUERIES = ("first", "full")
_ENDS = ("restart", "continue")
_START, _NEIGHBOUR = 0, 1


class _Search(NamedTuple):
    """Rows of ``[C]`` are by the number of the candidate."""

    past: history.History
    run: jax.Array  # number of the start that the search is in
    drawn: jax.Array  # random candidates asked in this run
    centre: jax.Array  # number of the candidate whose neighbours are visited; -1: none
    better: jax.Array  # "full": its best neighbour so far; -1: none
    left: jax.Array  # bool [C], what was a centre already
    born: jax.Array  # int32 [C], the run in which it was asked
    kind: jax.Array  # int32 [C], a start or a neighbour


def local_search(
    space: Any,
    *,
    initial: int = 10,
    query: str = "first",
    at_minimum: str = "restart",
    capacity: int = 1000,
) -> Strategy:
    """Hill climbing over `Space.neighbours`, in random order.

    White, Nolen & Savani, Exploring the loss landscape in neural architecture search
    (UAI 2021). The centre is the best of ``initial`` random candidates; its neighbours
    are visited in random order, candidates asked before are skipped. With
    ``query="first"`` the first strictly better one becomes the centre, with "full" the
    best of all neighbours does, if it is better. Where none is better, the search
    starts again from ``initial`` new random candidates, or, with
    ``at_minimum="continue"``, goes on from the best candidate that was no centre yet.

    Asked for more candidates than there are in a neighbourhood before any is told, it
    goes on with what it knows.

    Args:
      space: a space or its name.
      initial: number of random candidates at each start.
      query: "first" or "full".
      at_minimum: "restart" or "continue".
      capacity: the most evaluations whose candidates are remembered.

    Returns:
      The strategy.

    Raises:
      JnasError: an argument is unknown or out of range.

    Example:
      >>> strategy = local_search("nasbench201", initial=2)
      >>> state = strategy.init(jax.random.key(0))
      >>> proposal, state = strategy.ask(state, 2)
      >>> state = strategy.tell(state, proposal, jnp.array([1.0, 2.0]))
      >>> neighbour, state = strategy.ask(state)
      >>> int((neighbour.genes[0] != proposal.genes[1]).sum())
      1
    """
    own = domain.of(space)
    initial, capacity = count("initial", initial), count("capacity", capacity)
    if query not in _QUERIES:
        raise errors.unknown_name("query", query, _QUERIES)
    if at_minimum not in _ENDS:
        raise errors.unknown_name("at_minimum", at_minimum, _ENDS)

    def init(key):
        zero = jnp.zeros((), jnp.int32)
        none = jnp.full((), -1, jnp.int32)
        return _Search(
            past=history.empty(own, capacity),
            run=zero,
            drawn=zero,
            centre=none,
            better=none,
            left=jnp.zeros(capacity, bool),
            born=jnp.zeros(capacity, jnp.int32),
            kind=jnp.zeros(capacity, jnp.int32),
        )

    def new_neighbours(inner):
        rows, exists = own.neighbours(inner.past.genes[inner.centre])
        seen = jax.vmap(lambda row: history.asked_before(inner.past, own, row))(rows)
        return rows, exists & ~seen

    def propose(inner, *, key, asked, **context):
        fresh_key, order_key = jax.random.split(key)
        rows, new = new_neighbours(inner)
        if query == "full":
            # The whole neighbourhood was visited: its best is the next centre.
            moves = ~jnp.any(new) & (inner.better >= 0)
            inner = _moved(inner, moves, inner.better)
            rows, new = new_neighbours(inner)
        starting = (inner.drawn < initial) | (inner.centre < 0)
        stuck = ~starting & ~jnp.any(new)
        if at_minimum == "continue":
            waiting = jnp.where(inner.left, -jnp.inf, inner.past.score)
            waiting = waiting.at[inner.centre].set(-jnp.inf)
            following = jnp.argmax(waiting).astype(jnp.int32)
            known = stuck & (waiting[following] > -jnp.inf)
            inner = _moved(inner, known, following)
            rows, new = new_neighbours(inner)
            # Whose neighbours were all seen: a random one does no harm.
            stuck = stuck & ~known
        anew = starting | stuck | ~jnp.any(new)
        # A shuffled walk that skips what was seen draws uniformly of what is left.
        chosen = jax.random.categorical(order_key, jnp.where(new, 0.0, -jnp.inf))
        fresh = history.unseen(inner.past, own, fresh_key)
        genes = jnp.where(anew, fresh, rows[chosen])
        zero = jnp.zeros_like(inner.drawn)
        inner = inner._replace(
            run=inner.run + stuck,
            drawn=jnp.where(stuck, zero, inner.drawn) + anew,
            centre=jnp.where(stuck, zero - 1, inner.centre),
            better=jnp.where(stuck, zero - 1, inner.better),
        )
        return genes, inner._replace(
            past=history.with_asked(inner.past, asked, genes, own.identity(genes)),
            born=inner.born.at[asked].set(inner.run),
            kind=inner.kind.at[asked].set(jnp.where(anew, _START, _NEIGHBOUR)),
        )

    def learn(inner, *, score, id, **context):
        past = history.with_told(inner.past, id, score)
        # What is beyond the capacity is not remembered, so it can't be a centre.
        mine = (id < capacity) & (inner.born[id] == inner.run)
        start = mine & (inner.kind[id] == _START)
        old = jnp.where(inner.centre < 0, -jnp.inf, past.score[inner.centre])
        inner = inner._replace(past=past)
        climbs = mine & (score > old)
        if query == "full":
            rival = jnp.where(inner.better < 0, old, past.score[inner.better])
            found = climbs & ~start & (score > rival)
            inner = inner._replace(better=jnp.where(found, id, inner.better))
            climbs = climbs & start
        # Among the starts the best is found; neighbours are visited after.
        return _moved(inner, climbs, id, visited=~start)

    return build(
        own.space,
        "local_search",
        init=init,
        propose=propose,
        learn=learn,
        capacity=capacity,
        config={
            "strategy": "local_search",
            "initial": initial,
            "query": query,
            "at_minimum": at_minimum,
            "capacity": capacity,
        },
    )


def _moved(
    inner: _Search, moves: jax.Array, place: jax.Array, visited: jax.Array | bool = True
) -> _Search:
    """The search at another centre, where it moves."""
    gone = moves & visited & (inner.centre >= 0)
    left = inner.left.at[inner.centre].set(inner.left[inner.centre] | gone)
    return inner._replace(
        left=left,
        centre=jnp.where(moves, place, inner.centre),
        better=jnp.where(moves, -1, inner.better),
    )
