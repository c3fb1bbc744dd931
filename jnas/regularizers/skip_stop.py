"""Stopping by skips: Liang et al., DARTS+, 2019.

A search ends, with the architecture of the epoch before, when (1) the derived normal
cell has as many skip connections as ``limit``, or (2) the ranking of the learnable
candidates on every edge has been the same for ``stable`` epochs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import mixture as mixtures
from jnas.errors import JnasError, unknown_name
from jnas.regularizers import base, checks
from jnas.spaces import Genotype, Space, kinds

__all__ = ["Ranking", "skip_stop"]


class Ranking(NamedTuple):
    """The last order of the learnable candidates.

    Attributes:
      order: ``{group: int32 [E, L]}``, columns by falling weight; -1 before the first.
      since: int32, for how many epochs it has been that.
    """

    order: dict[str, jax.Array]
    since: jax.Array


def skip_stop(
    limit: int | None = 2,
    *,
    stable: int | None = None,
    group: str | None = None,
    earliest: int = 1,
) -> base.Regularizer:
    """Ends a search when skips take over, or when nothing changes any more.

    Args:
      limit: skips in the derived cell that stop; None: don't count.
      stable: epochs with the same ranking that stop, 10 in the paper's second rule;
        None: don't look. The paper recommends the first rule for large batches.
      group: whose skips are counted; None: "normal", else the space's first group.
      earliest: the first epoch, counted from 1, that may stop. The published rule has
        none; but arch begins at random, so the first derived cells are arbitrary.

    Returns:
      The regularizer; its state is a `Ranking`.

    Raises:
      JnasError: an argument is out of range; ``epoch_end``: the group is unknown.

    Example:
      >>> skip_stop(2).keeps_archs
      1

    References:
      Liang, Zhang, Sun, He, Huang, Zhuang, Li, DARTS+: Improved Differentiable
      Architecture Search with Early Stopping, 2019, https://arxiv.org/abs/1909.06035
    """
    for name, value in (("limit", limit), ("stable", stable)):
        if value is not None:
            checks.count(value, name)
    checks.count(earliest, "earliest")
    if limit is None and stable is None:
        raise JnasError("skip_stop needs a limit, stable epochs or both, got neither")

    def init(supernet, arch, **context):
        del arch, context
        order = {
            g.name: jnp.full((g.num_edges, len(_learnable(g))), -1, jnp.int32)
            for g in supernet.space.groups
        }
        return Ranking(order, jnp.zeros([], jnp.int32))

    def epoch_end(state, *, mixture, genotype, supernet, epoch, **context):
        del context
        order = _order(mixture, supernet.space)
        same = all(np.array_equal(order[n], state.order[n]) for n in order)
        since = int(state.since) + 1 if same else 0
        state = Ranking(
            {n: jnp.asarray(o, jnp.int32) for n, o in order.items()},
            jnp.asarray(since, jnp.int32),
        )
        if epoch < earliest:
            return state, base.Action()
        full = limit is not None and _skips(genotype, supernet.space, group) >= limit
        settled = stable is not None and since >= stable
        if not (full or settled):
            return state, base.Action()
        return state, base.Action(stop=True, rollback_epochs=1)

    return base.Regularizer(init=init, epoch_end=epoch_end, keeps_archs=1)


def _learnable(group: Any) -> list[int]:
    """Columns of candidates that learn."""
    return [i for i, name in enumerate(group.operations) if kinds.kind(name) is None]


def _order(mixture: Any, space: Space) -> dict[str, np.ndarray]:
    """The learnable candidates of each edge by falling weight."""
    order = {}
    for group in space.groups:
        weights = mixtures.over_cells(mixture, group.name)
        order[group.name] = np.argsort(
            -weights[:, _learnable(group)], axis=1, kind="stable"
        )
    return order


def _skips(genotype: Genotype, space: Space, group: str | None) -> int:
    """How many skips the derived cell has."""
    name = group or ("normal" if "normal" in space.names else space.names[0])
    if name not in space.names:
        raise unknown_name(f"group of {space.name}", name, space.names)
    return sum(edge.operation in kinds.SKIPS for edge in genotype[name].edges)
