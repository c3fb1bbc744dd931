"""Operation-level early stopping: Jiang et al., OLES, NeurIPS 2023.

An operation whose weights fit the training data and no longer the validation data looks
better to the architecture than it is. Where the gradients of the two losses by its
weights stop pointing the same way, its weights are frozen for the rest of the search.

For each operation of each edge of each cell, in every arch half-step: the cosine
between the gradient of the validation loss and that of the previous weight half-step's
training loss. As in the authors' code a cosine is taken over the output channels, and
averaged over the rest of each parameter and over the parameters. The mean of ``every``
such values below ``threshold`` freezes it; then counting begins anew.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.regularizers import base, checks
from jnas.relax.base import is_number
from jnas.spaces import kinds

__all__ = ["EarlyStops", "operation_early_stop"]


class EarlyStops(NamedTuple):
    """What is counted; arrays of operations are ``{group: [cells, E, O]}``.

    Attributes:
      previous: gradient of the last weight half-step, like the weights.
      sums: of the cosines.
      count: int32, how many values are in the sums.
      seen: whether there is a previous gradient.
      frozen: float32, 1 where an operation is frozen.
    """

    previous: Any
    sums: dict[str, jax.Array]
    count: jax.Array
    seen: jax.Array
    frozen: dict[str, jax.Array]


def operation_early_stop(threshold: float = 0.4, every: int = 20) -> base.Regularizer:
    """Freezes the weights of operations that begin to overfit.

    Freezing is real: updates and the optimizer's state are held, bit by bit. Skips and
    what has no weights are left alone. It computes one more gradient in each arch
    half-step; with first-order hypergradients most of that is shared.

    Args:
      threshold: xi, in [-1, 1]; a smaller mean cosine freezes. -1 never does.
      every: M, values of one mean.

    Returns:
      The regularizer; its state is an `EarlyStops`.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> operation_early_stop().observe is None
      False

    References:
      Jiang, Ji, Zhu, Pan, Yang, Operation-Level Early Stopping for Robustifying
      Differentiable NAS, NeurIPS 2023; as written in automl/ConfigurableOptimizer
    """
    checks.count(every, "every")
    if not (is_number(threshold) and -1 <= threshold <= 1):
        raise JnasError(f"threshold must be a cosine, in [-1, 1], got {threshold!r}")

    def init(supernet, arch, weights=None, **context):
        del arch, context
        shapes = {
            g.name: (supernet.cells[g.name], g.num_edges, g.num_operations)
            for g in supernet.space.groups
        }
        # Two of them: buffers that are given away must not be one and the same.
        sums, frozen = (
            {name: jnp.zeros(shape) for name, shape in shapes.items()} for _ in "ab"
        )
        return EarlyStops(
            previous=jax.tree.map(jnp.zeros_like, weights),
            sums=sums,
            count=jnp.zeros([], jnp.int32),
            seen=jnp.zeros([], bool),
            frozen=frozen,
        )

    def observe(state, *, val_grads, supernet, **context):
        del context
        found, has_weights = _similarity(state.previous, val_grads, supernet)
        seen = state.seen
        sums = {
            name: total + jnp.where(seen, found[name], 0.0)
            for name, total in state.sums.items()
        }
        count = state.count + seen
        due = count >= every
        frozen = {
            name: jnp.maximum(
                old,
                (due & has_weights[name] & (sums[name] < threshold * count)).astype(
                    old.dtype
                ),
            )
            for name, old in state.frozen.items()
        }
        return state._replace(
            sums={name: jnp.where(due, 0.0, total) for name, total in sums.items()},
            count=jnp.where(due, 0, count),
            frozen=frozen,
        )

    def gradients(state, weight_grads, *, supernet, **context):
        del context
        mask = supernet.op_mask({n: 1.0 - f for n, f in state.frozen.items()})
        state = state._replace(previous=weight_grads, seen=jnp.ones([], bool))
        return state, weight_grads, mask

    def record(state, *, supernet, **context):
        del context
        told = {}
        for group in supernet.space.groups:
            frozen = jnp.mean(state.frozen[group.name], axis=(0, 1)).tolist()
            told[group.name] = dict(zip(group.operations, frozen, strict=True))
        return {"frozen": told}

    return base.Regularizer(
        init=init, observe=observe, gradients=gradients, record=record
    )


def _similarity(
    first: Any, second: Any, supernet: Any
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Mean cosine of each operation's gradients, and which operations have weights."""

    def cosine(a, b):
        a, b = jnp.atleast_1d(a), jnp.atleast_1d(b)
        product = jnp.sum(a * b, axis=-1)
        size = jnp.sum(a * a, axis=-1) * jnp.sum(b * b, axis=-1)
        return product * jax.lax.rsqrt(jnp.where(size > 0, size, 1.0))

    def share(leaf):
        # So that the entries of one operation's parameter sum to 1.
        return jnp.full(leaf.shape[:-1], 1.0 / _others(leaf), leaf.dtype)

    def keeping_rows(leaf):
        return leaf if leaf.ndim else leaf[None]

    cosines = jax.tree.map(cosine, first, second)
    scaled = jax.tree.map(lambda c, leaf: c / _others(leaf), cosines, first)
    ones = jax.tree.map(lambda leaf: share(jnp.atleast_1d(leaf)), first)
    sums = supernet.op_sum(jax.tree.map(keeping_rows, scaled))
    counts = supernet.op_sum(jax.tree.map(keeping_rows, ones))
    found, has_weights = {}, {}
    for group in supernet.space.groups:
        name = group.name
        learns = jnp.array([kinds.kind(o) is None for o in group.operations])
        has_weights[name] = (counts[name] > 0) & learns[None, None]
        found[name] = sums[name] / jnp.where(counts[name] > 0, counts[name], 1.0)
    return found, has_weights


def _others(leaf: jax.Array) -> int:
    """Entries of one row's parameter but for the output channels."""
    size = 1
    for length in leaf.shape[1:-1]:
        size *= length
    return size
