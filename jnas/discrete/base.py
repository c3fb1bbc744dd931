"""The contract of a strategy, and what builds one from how it proposes and learns.

A strategy never calls an objective: it is asked for candidates and told their scores,
in any batch size and, where evaluations run side by side, in any order.

Letters: ``n`` candidates of one call, ``L`` genes, ``M`` scores of a candidate.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import domain
from jnas.errors import JnasError

__all__ = ["Best", "Proposal", "State", "Strategy", "build", "finite", "seed_axes"]


class Proposal(NamedTuple):
    """What is to be evaluated.

    Attributes:
      genes: int32 ``[n, L]``.
      fidelity: float32 ``[n]``, the share of the full effort to spend.
      id: int32 ``[n]``, numbers in the order of asking, from 0.
    """

    genes: Any
    fidelity: Any
    id: Any


class Strategy(NamedTuple):
    """A searcher over the genes of a space: pure functions of a state.

    Attributes:
      init: ``(key) -> state``, a pytree of fixed shapes.
      ask: ``(state, n=None) -> (Proposal, state)``; ``n`` is static, by default
        ``batch``.
      tell: ``(state, proposal, scores [n] or [n, M], costs=None) -> state``; higher is
        better, and scores that are not finite never become best. Any part of what was
        asked may be told, in any order, each once.
      best: ``(state) -> (genes [L], score [])``, the best that was told, the first of
        equals; of several scores the first counts. Before anything finite was told the
        score is -inf.
      space: whose genes are proposed.
      name: name of the strategy.
      batch: how many candidates the published method evaluates before it learns.
      capacity: the most evaluations that a state has room for, None for any number.
      scores: number ``M`` of scores that are told, None for one without an axis.
      traceable: whether the functions may be traced by ``jit``, ``vmap`` and ``scan``.
      config: hyper-parameters, for the record.
    """

    init: Callable[[jax.Array], Any]
    ask: Callable[..., tuple[Proposal, Any]]
    tell: Callable[..., Any]
    best: Callable[[Any], tuple[jax.Array, jax.Array]]
    space: Any
    name: str
    batch: int = 1
    capacity: int | None = None
    scores: int | None = None
    traceable: bool = True
    config: dict[str, Any] | None = None


class Best(NamedTuple):
    """The best candidate so far: genes ``[L]``, score ``[]``."""

    genes: jax.Array
    score: jax.Array


class State(NamedTuple):
    """The state of every built strategy.

    Attributes:
      key: the seed; it never changes, what is drawn depends on it and on `asked`.
      asked: number of candidates asked for.
      told: number of candidates told.
      best: the best one told.
      inner: what the strategy keeps, a pytree.
    """

    key: jax.Array
    asked: jax.Array
    told: jax.Array
    best: Best
    inner: Any


# The axes of a `State` under ``vmap`` over seeds: counters are the same for all seeds,
# so that what depends on them (conditionals, places to write at) is not batched.
seed_axes = State(key=0, asked=None, told=None, best=0, inner=0)  # pyrefly: ignore


def finite(scores: Any) -> jax.Array:
    """Scores with -inf where they are not finite: NaN and infinities are failures.

    Args:
      scores: floats of any shape.

    Returns:
      At least float32 of the same shape.

    Example:
      >>> finite(jnp.array([1.0, jnp.nan, jnp.inf]))
      Array([  1., -inf, -inf], dtype=float32)
    """
    scores = jnp.asarray(scores)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    return jnp.where(jnp.isfinite(scores), scores, -jnp.inf)


def build(
    space: Any,
    name: str,
    *,
    init: Callable[[jax.Array], Any],
    propose: Callable[..., tuple[jax.Array, Any]],
    learn: Callable[..., Any],
    batched: bool = False,
    batch: int = 1,
    capacity: int | None = None,
    scores: int | None = None,
    config: dict[str, Any] | None = None,
) -> Strategy:
    """Makes a strategy of what one step of it does.

    The inner functions have keyword-only context and must be traceable:

    * ``propose(inner, *, key, asked, told) -> (genes [L], inner)``, a candidate;
      ``key`` is that of this candidate, ``asked`` its number.
    * ``learn(inner, *, genes, score, id, cost, key, told) -> inner``, one result;
      ``told`` counts the earlier ones, ``score`` (``[M]`` where there are several) is
      -inf where it is not finite (all of ``[M]``, if one is not), ``cost`` is NaN where
      none was told.

    With ``batched`` they act on a whole call: ``propose(inner, n, *, keys [n], asked,
    told) -> (genes [n, L], inner)`` and ``learn`` of arrays with a leading axis ``n``.

    Args:
      space: the space, its name or what `jnas.domain.of` takes.
      name: name of the strategy.
      init: ``(key) -> inner``.
      propose: see above.
      learn: see above.
      batched: see above.
      batch: the published number of candidates per call.
      capacity: the most evaluations, None for any number.
      scores: number of scores told, None for one without an axis.
      config: hyper-parameters, for the record.

    Returns:
      The strategy.

    Raises:
      JnasError: when asked or told with a wrong number or shape.

    Example:
      >>> own = domain.of("nasbench201")
      >>> strategy = build(
      ...     "nasbench201", "mine", init=lambda key: (),
      ...     propose=lambda inner, *, key, **_: (own.sample(key), inner),
      ...     learn=lambda inner, **_: inner,
      ... )
      >>> proposal, state = strategy.ask(strategy.init(jax.random.key(0)), 3)
      >>> proposal.genes.shape, strategy.best(state)[1]
      ((3, 6), Array(-inf, dtype=float32))
    """
    space = domain.of(space).space
    length = len(space.genes)
    natural = batch

    def start(key):
        key, inner_key = jax.random.split(key)
        none = Best(jnp.zeros(length, jnp.int32), jnp.asarray(-jnp.inf, jnp.float32))
        zero = jnp.zeros((), jnp.int32)
        return State(key, zero, zero, none, init(inner_key))

    def ask(state, n=None):
        n = natural if n is None else n
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise JnasError(f"{name} is asked for a number of candidates >= 1, got {n}")
        ids = state.asked + jnp.arange(n, dtype=jnp.int32)
        keys = jax.vmap(lambda i: jax.random.fold_in(state.key, i))(ids)
        if batched:
            genes, inner = propose(
                state.inner, n, keys=keys, asked=state.asked, told=state.told
            )
        elif n == 1:
            genes, inner = propose(
                state.inner, key=keys[0], asked=state.asked, told=state.told
            )
            genes = genes[None]
        else:

            def one(inner, row):
                key, number = row
                genes, inner = propose(inner, key=key, asked=number, told=state.told)
                return inner, genes

            inner, genes = jax.lax.scan(one, state.inner, (keys, ids))
        proposal = Proposal(genes, jnp.ones(n, jnp.float32), ids)
        return proposal, state._replace(asked=state.asked + n, inner=inner)

    def tell(state, proposal, values, costs=None):
        n = len(proposal.genes)
        wanted = (n,) if scores is None else (n, scores)
        if jnp.shape(values) != wanted:
            raise JnasError(
                f"{name} is told scores of shape {list(wanted)}, got "
                f"{list(jnp.shape(values))}"
            )
        values = finite(values)
        if scores is not None:
            failed = jnp.any(values == -jnp.inf, axis=-1, keepdims=True)
            values = jnp.where(failed, -jnp.inf, values)
        costs = np.full(n, np.nan, np.float32) if costs is None else costs
        costs = jnp.asarray(costs, jnp.float32)
        ids = jnp.asarray(proposal.id, jnp.int32)
        genes = jnp.asarray(proposal.genes, jnp.int32)
        keys = jax.vmap(lambda i: jax.random.fold_in(state.key, -1 - i))(ids)
        rows = {"genes": genes, "score": values, "id": ids, "cost": costs, "key": keys}
        if batched:
            inner = learn(state.inner, **rows, told=state.told)
        elif n == 1:
            inner = learn(state.inner, **_row(rows), told=state.told)
        else:

            def one(inner, row):
                rows, number = row
                return learn(inner, **rows, told=number), None

            numbers = state.told + jnp.arange(n, dtype=jnp.int32)
            inner, _ = jax.lax.scan(one, state.inner, (rows, numbers))
        first = values if scores is None else values[:, 0]
        return state._replace(
            told=state.told + n,
            best=_better(state.best, genes, first.astype(state.best.score.dtype)),
            inner=inner,
        )

    return Strategy(
        init=start,
        ask=ask,
        tell=tell,
        best=lambda state: (state.best.genes, state.best.score),
        space=space,
        name=name,
        batch=batch,
        capacity=capacity,
        scores=scores,
        config=config,
    )


def _row(rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: rows[name][0] for name in rows}


def _better(best: Best, genes: jax.Array, scores: jax.Array) -> Best:
    """The better of what was best and the first best of new rows."""
    place = jnp.argmax(scores)
    wins = scores[place] > best.score
    # Before anything finite was told, the first candidate stands in.
    return Best(
        jnp.where(wins, genes[place], best.genes),
        jnp.where(wins, scores[place], best.score),
    )
