"""Operation-level early stopping: Jiang et al., OLES, NeurIPS 2023.

An operation whose weights fit the training data and no longer the validation data looks
better to the architecture than it is. Where the gradients of the two losses by its
weights stop pointing the same way, its weights are frozen for the rest of the search.

For each operation of each edge of each cell, in every arch half-step: the cosine
between the gradient of the validation loss and that of the previous weight half-step's
training loss. As in the authors' code a cosine is taken over the output channels, and
averaged over the rest of each parameter and over the parameters. The mean of ``every``
such values below ``threshold`` freezes it; then counting begins anew. An operation that
had no gradient in one of the two (a sample left it out) has no value there.

The authors' code begins anew at every epoch's end, too, and divides 21 values by 20.
"""

import math
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
      count: int32, how many values are in each sum.
      seen: whether there is a previous gradient.
      frozen: float32, 1 where an operation is frozen.
    """

    previous: Any
    sums: dict[str, jax.Array]
    count: dict[str, jax.Array]
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
        # Each its own: buffers that are given away must not be one and the same.
        sums, count, frozen = (
            {name: jnp.zeros(shape, dtype) for name, shape in shapes.items()}
            for dtype in (float, jnp.int32, float)
        )
        return EarlyStops(
            previous=jax.tree.map(jnp.zeros_like, weights),
            sums=sums,
            count=count,
            seen=jnp.zeros([], bool),
            frozen=frozen,
        )

    def observe(state, *, val_grads, supernet, **context):
        del context
        similarity = _similarity(state.previous, val_grads, supernet)
        sums, counts, frozen = {}, {}, {}
        for name, (found, both) in similarity.items():
            seen = state.seen & both
            total = state.sums[name] + jnp.where(seen, found, 0.0)
            count = state.count[name] + seen
            due = count >= every
            overfits = (due & (total < threshold * count)).astype(total.dtype)
            frozen[name] = jnp.maximum(state.frozen[name], overfits)
            sums[name] = jnp.where(due, 0.0, total)
            counts[name] = jnp.where(due, 0, count)
        return state._replace(sums=sums, count=counts, frozen=frozen)

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
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Mean cosine of each operation's gradients, by group ``[cells, E, O]``.

    With it goes where there is one: what learns and has a gradient in both halves.
    """

    def unit(x):
        # By the largest entry first: squares of tiny gradients would be 0.
        most = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
        x = x / jnp.where(most > 0, most, 1.0)
        size = jnp.sum(x * x, axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.where(size > 0, size, 1.0))

    def cosine(a, b):
        a, b = jnp.atleast_1d(a), jnp.atleast_1d(b)
        return jnp.sum(unit(a) * unit(b), axis=-1)

    def share(leaf, mask):
        # Of one cosine in the mean over an operation's parameter, which is a row of
        # the leaf where operations are stacked.
        rows = leaf.shape[:-1] if jnp.ndim(mask) == 0 else leaf.shape[1:-1]
        return jnp.full(jnp.atleast_1d(leaf).shape[:-1], 1 / math.prod(rows))

    every = {
        g.name: jnp.ones((supernet.cells[g.name], g.num_edges, g.num_operations))
        for g in supernet.space.groups
    }
    shares = jax.tree.map(share, first, supernet.op_mask(every))
    sums, parameters, *sizes = (
        supernet.op_sum(tree)
        for tree in (
            jax.tree.map(lambda a, b, s: cosine(a, b) * s, first, second, shares),
            shares,
            jax.tree.map(jnp.abs, first),
            jax.tree.map(jnp.abs, second),
        )
    )
    found = {}
    for group in supernet.space.groups:
        name = group.name
        learns = jnp.array([kinds.kind(o) is None for o in group.operations])
        both = (sizes[0][name] > 0) & (sizes[1][name] > 0) & learns[None, None]
        count = parameters[name]
        found[name] = (sums[name] / jnp.where(count > 0, count, 1.0), both)
    return found
