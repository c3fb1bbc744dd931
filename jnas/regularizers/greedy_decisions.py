"""Sequential greedy decisions: Li et al., SGAS, CVPR 2020.

At equal distances one edge of every group is decided for good: of those undecided the
one with the largest score

    S1 = norm(EI) * norm(SC)        S2 = S1 * norm(HI)

EI, edge importance: the probability of all candidates but none. SC, selection
certainty: 1 - H / log(n) of the distribution without none. HI, selection stability: the
mean histogram intersection of that distribution with those after the last epochs. norm
scales to [0, 1] over all edges of the cell, those that are decided or dropped as they
were then (the authors' code holds their alpha). Where all are equal it is 1, so that
the other factors count; 0 in that code. Its operation is the most probable one that is
not none. A node that has as many decided edges as the space keeps drops the others.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import mixture as mixtures
from jnas.errors import JnasError
from jnas.regularizers import base, checks
from jnas.select import decisions as deciding
from jnas.select import removing
from jnas.spaces import Group, Space, kinds

__all__ = ["Greedy", "decisions_needed", "greedy_decisions", "scores"]


class Greedy(NamedTuple):
    """What has been decided, and the mixtures that stability is judged by.

    Attributes:
      decisions: what is decided.
      done: int32, decisions done in each group.
      past: ``{group: float32 [history, E, O]}``, newest first; NaN before.
    """

    decisions: deciding.Decisions
    done: jax.Array
    past: dict[str, jax.Array]


def decisions_needed(space: Space) -> int:
    """How many decisions the group that needs most of them takes.

    Args:
      space: the space.

    Returns:
      The number.

    Example:
      >>> import jnas
      >>> decisions_needed(jnas.spaces.darts())
      8
    """
    return max(_needed(space, group) for group in space.groups)


def scores(now: np.ndarray, past: np.ndarray | None, real: np.ndarray) -> np.ndarray:
    """The scores of a cell's edges.

    Args:
      now: ``[E, O]``, probabilities.
      past: ``[H, E, O]``, those after earlier epochs, for criterion 2; None: 1.
      real: bool ``[E, O]``, candidates that are there and not none.

    Returns:
      ``[E]``; 0 for an edge without such candidates.

    Example:
      >>> now = np.array([[0.5, 0.25, 0.25], [0.0, 0.9, 0.1], [0.0, 0.5, 0.5]])
      >>> scores(now, None, np.array([[False, True, True]] * 3)).tolist()
      [0.0, 1.0, 0.0]
    """
    edges = np.flatnonzero(real.any(axis=1))
    mask = real[edges]
    importance = np.where(mask, now[edges], 0.0).sum(axis=1)
    p = _real(now, real)[edges]
    entropy = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1)
    certainty = 1 - entropy / np.log(np.maximum(mask.sum(axis=1), 2))
    found = _norm(importance) * _norm(certainty)
    if past is not None:
        common = [np.minimum(p, _real(old, real)[edges]).sum(axis=1) for old in past]
        found = found * _norm(np.mean(common, axis=0))
    total = np.zeros(len(now))
    total[edges] = found
    return total


def greedy_decisions(
    first: int, last: int, *, criterion: int = 1, history: int = 4
) -> base.Regularizer:
    """Decides a search edge by edge, the surest first.

    Args:
      first: epochs done before the first decision; 10 in the authors' code, of 50.
      last: epochs done before the last one, >= first; 45 there, 5 epochs a decision.
      criterion: 1, or 2 with stability.
      history: epochs that stability looks back, at most.

    Returns:
      The regularizer; its state is a `Greedy`.

    Raises:
      JnasError: an argument is out of range; ``init``: the space's edges are optional.

    Example:
      >>> part = greedy_decisions(first=10, last=45)
      >>> import types, jnas
      >>> space = jnas.spaces.darts()
      >>> state = part.init(types.SimpleNamespace(space=space), None)
      >>> state, _ = part.epoch_end(
      ...     state, epoch=10, mixture=jnas.mixture.uniform(space),
      ...     supernet=types.SimpleNamespace(space=space))
      >>> len(state.decisions.undecided("normal"))
      13

    References:
      Li, Qian, Delgadillo, Mueller, Thabet, Ghanem, SGAS: Sequential Greedy
      Architecture Search, CVPR 2020, https://arxiv.org/abs/1912.00195; lightaime/sgas
    """
    checks.span(first, last)
    checks.count(history, "history")
    if criterion not in (1, 2):
        raise JnasError(f"criterion must be 1 or 2, got {criterion!r}")

    def init(supernet, arch, **context):
        del arch, context
        space = supernet.space
        removing.check_space(space)
        past = {
            g.name: jnp.full(
                (history, g.num_edges, g.num_operations), jnp.nan, jnp.float32
            )
            for g in space.groups
        }
        return Greedy(deciding.nothing(space), jnp.zeros([], jnp.int32), past)

    def project(state, mixture):
        return deciding.apply(state.decisions, mixture)

    def epoch_end(state, *, epoch, mixture, supernet, **context):
        del context
        space = supernet.space
        due = checks.due(epoch, decisions_needed(space), first, last)
        decisions, past = state.decisions, {}
        for group in space.groups:
            now = mixtures.over_cells(mixture, group.name)
            before = np.asarray(state.past[group.name], np.float64)
            # What is decided already counts as it was when it was.
            held = np.ones(group.num_edges, bool)
            held[decisions.undecided(group.name)] = False
            now = np.where(held[:, None], before[0], now)
            for number in range(int(state.done), due):
                if number < _needed(space, group):
                    old = before if criterion == 2 else None
                    decisions = _decide(decisions, now, old, space, group)
            past[group.name] = np.concatenate([now[None], before[:-1]])
        decisions, past = jax.tree.map(jnp.asarray, (decisions, past))
        past = {name: values.astype(jnp.float32) for name, values in past.items()}
        done = jnp.asarray(max(due, int(state.done)), jnp.int32)
        return Greedy(decisions, done, past), base.Action()

    return base.Regularizer(init=init, project=project, epoch_end=epoch_end)


def _needed(space: Space, group: Group) -> int:
    """Decisions of a group: the edges that stay."""
    return sum(
        len(group.incoming(n))
        if space.keep is None
        else min(space.keep, len(group.incoming(n)))
        for n in group.nodes
    )


def _decide(
    decisions: deciding.Decisions,
    now: np.ndarray,
    past: np.ndarray | None,
    space: Space,
    group: Group,
) -> deciding.Decisions:
    """One decision in a group."""
    name = group.name
    nones = np.array([kinds.kind(o) == "none" for o in group.operations])
    real = group.allowed & space.selectable(name) & ~nones
    edges = [e for e in decisions.undecided(name) if real[e].any()]
    if not edges:
        return decisions
    if past is not None:
        past = past[np.isfinite(past).all(axis=(1, 2))]
        past = past if len(past) else None
    edge = edges[int(np.argmax(scores(now, past, real)[edges]))]
    operation = int(np.argmax(np.where(real[edge], now[edge], -np.inf)))
    decisions = decisions.choose(name, edge, operation)
    incoming = group.incoming(group.edges[edge][1])
    chosen = np.asarray(decisions.chosen[name])
    if space.keep is not None and (chosen[list(incoming)] >= 0).sum() == space.keep:
        rest = [e for e in incoming if chosen[e] < 0]
        decisions = decisions.drop(name, rest)
    return decisions


def _real(weights: np.ndarray, real: np.ndarray) -> np.ndarray:
    """The distribution over what is not none."""
    p = np.where(real, weights, 0.0)
    total: Any = p.sum(axis=1, keepdims=True)
    return p / np.where(total > 0, total, 1.0)


def _norm(values: np.ndarray) -> np.ndarray:
    """Scaled to [0, 1]; 1 where all are equal, up to float32's rounding."""
    low, high = values.min(), values.max()
    if high - low <= 1e-6:
        return np.ones_like(values)
    return (values - low) / (high - low)
