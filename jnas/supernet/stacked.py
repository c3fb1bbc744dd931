"""The stacked parameters of the operations of one cell, and which edge has which row.

The parameters of an operation are stacked over the edges that can choose it, sorted by
source, so that the edges that leave one state are neighbouring rows.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jnas.spaces import Group
from jnas.supernet import initial, kernels, layers, operations

__all__ = [
    "Rows",
    "Stacked",
    "by_running",
    "choosing",
    "normalised",
    "operation_rows",
    "outgoing",
    "stride_of",
]


class Rows(NamedTuple):
    """Which edges the rows of an operation's stacked parameters belong to.

    Attributes:
      edges: edge number (row of arch) of each parameter row.
      blocks: per source state, the slice of rows that leave it.
    """

    edges: tuple[int, ...]
    blocks: dict[int, slice]


def stride_of(group: Group, source: int, reduction: bool) -> int:
    """The stride of the edges that leave a state."""
    return 2 if reduction and source < group.inputs else 1


def outgoing(group: Group) -> dict[int, list[int]]:
    """The edges that leave each state, by ascending state."""
    sources = sorted({source for source, _ in group.edges})
    return {
        s: [e for e, (source, _) in enumerate(group.edges) if source == s]
        for s in sources
    }


def choosing(group: Group, name: str) -> dict[int, list[int]]:
    """Those of the edges that leave each state that can choose an operation."""
    column = group.columns.get(name)
    allowed = group.allowed
    return {
        source: [e for e in leaving if column is not None and allowed[e, column]]
        for source, leaving in outgoing(group).items()
    }


def operation_rows(group: Group, name: str, channels: int, reduction: bool) -> Rows:
    """The layout of an operation's stacked parameters in a cell.

    Args:
      group: the cell's graph.
      name: a built-in operation; edges that can't choose it have no row.
      channels: the cell's channels.
      reduction: whether edges from the cell's inputs have stride 2.

    Returns:
      The rows; empty for operations without parameters.
    """
    operation = operations.get_operation(name)
    edges: list[int] = []
    blocks = {}
    for source, leaving in choosing(group, name).items():
        stride = stride_of(group, source, reduction)
        start = len(edges)
        if isinstance(operation, operations.Operation) and operation.parameters(
            channels, stride, False
        ):
            edges += leaving
        blocks[source] = slice(start, len(edges))
    return Rows(tuple(edges), blocks)


class _OperationVariables(nn.Module):
    """Holds the stacked parameters and running statistics of one operation."""

    shapes: dict[str, operations.Parameter]
    rows: int
    norms: dict[str, tuple[int, ...]]
    dtype: Any

    @nn.compact
    def __call__(self):
        params = {}
        if self.rows:
            for name, (shape, fan_in) in self.shapes.items():
                init = initial.fan_in_uniform(fan_in)
                full = (self.rows, *shape)
                params[name] = self.param(name, init, full, self.dtype)
        stats = {}
        for name, shape in self.norms.items():
            mean = self.variable(
                "batch_stats", f"{name}_mean", jnp.zeros, shape, self.dtype
            )
            var = self.variable(
                "batch_stats", f"{name}_var", jnp.ones, shape, self.dtype
            )
            stats[name] = (mean, var)
        return params, stats


class Stacked:
    """One operation in one cell: slices the stacks by source, collects statistics.

    Attributes:
      operation: the operation.
      name: its name.
      leaving: per source state, the edges that can choose it.
      rows: of the parameters.
      stat_rows: per source state, the rows of the running statistics: one per edge,
        or one if the edges share them.
      params: ``{name: [rows, ...]}``.
      stats: ``{norm: (mean, variance)}``, variables of ``[rows, channels]``.
      cell: the module that it belongs to, whose random streams it uses.
    """

    def __init__(
        self, name, operation, group, channels, reduction, dtype, cell, label=None
    ):
        self.operation, self.name, self.cell = operation, name, cell
        self._group, self._reduction = group, reduction
        self.rows = operation_rows(group, name, channels, reduction)
        self.leaving = choosing(group, name)
        shapes: dict[str, operations.Parameter] = {}
        self.stat_rows: dict[int, slice] = {}
        total = 0
        names: tuple[str, ...] = ()
        for source, leaving in self.leaving.items():
            stride = stride_of(group, source, reduction)
            if leaving:
                shapes |= operation.parameters(channels, stride, False)
            count = min(1, len(leaving)) if operation.per_state else len(leaving)
            count = count if operation.norms(stride) else 0
            names = names or operation.norms(stride)
            self.stat_rows[source] = slice(total, total + count)
            total += count
        self.params, self.stats = _OperationVariables(
            shapes=shapes,
            rows=len(self.rows.edges),
            norms={n: (total, channels) for n in names} if total else {},
            dtype=dtype,
            name=label or name,
        )()
        self._new: dict[str, list] = {name: [] for name in self.stats}

    def __call__(self, x, source, weight, statistics):
        """All edges that leave ``source`` and can choose it: ``[B, H, W, n, C]``."""
        block = self.rows.blocks[source]
        params = (
            {
                k: lax.slice_in_dim(v, block.start, block.stop)
                for k, v in self.params.items()
            }
            if block.stop > block.start
            else {}
        )
        if self.operation.random:
            params = {"noise": self.drawn(x, source, len(self.leaving[source]))}
        rows = self.stat_rows[source]
        stride = stride_of(self._group, source, self._reduction)
        running = {}
        if statistics != "batch":
            running = {
                name: tuple(v.value[rows].reshape(-1) for v in pair)
                for name, pair in self.stats.items()
            }
        evaluate = _evaluator(
            self.operation, stride, statistics, rows.stop - rows.start
        )
        y, found = evaluate(params, running, x, weight)
        for name, pair in found.items():
            self._new[name].append(pair)
        return y

    def drawn(self, x, source, edges):
        """Fresh noise for so many of the edges that leave ``source``."""
        stride = stride_of(self._group, source, self._reduction)
        return operations.drawn(self.cell, x, stride, edges)

    def update_statistics(self):
        """Moves the running statistics towards those of the calls since."""
        for name, parts in self._new.items():
            for variable, new in zip(
                self.stats[name], zip(*parts, strict=True), strict=True
            ):
                joined = jnp.concatenate(new).reshape(variable.value.shape)
                variable.value = layers.running_update(variable.value, joined)


@functools.lru_cache(maxsize=512)
def _evaluator(operation, stride, statistics, rows):
    """``(params, running, x, weight) -> (y, {norm: (mean, variance)})``, jitted.

    So what is equal in many cells, and in both halves of a step, is traced and
    differentiated once. The compiler sees one program in any case.
    """

    @jax.jit
    def evaluate(params, running, x, weight):
        found = {}

        def norm(name, y, weight=None):
            if statistics == "batch":
                z, mean, var = normalised(y, weight, rows)
                found[name] = (mean, var)
                return z
            return by_running(y, weight, *running[name])

        return operation.apply(params, norm, x, stride, weight), found

    return evaluate


def _spread(weight, y, rows):
    """A weight of each row as a scale of each channel, or None."""
    return None if weight is None else jnp.repeat(weight, y.shape[-1] // rows)


def normalised(y, weight, rows):
    """``(z, mean, unbiased variance)`` of ``[B, H, W, rows * C]``, times a weight."""
    scale = _spread(weight, y, rows)
    scale = None if scale is None else scale.astype(layers.storage_dtype(y.dtype))
    z, mean, var = kernels.normalise(y, scale, layers.EPSILON)
    return z, mean, layers.unbiased(var, y.size // y.shape[-1])


def by_running(y, weight, mean, var):
    """Normalises by running statistics ``[rows * C]``, times a weight ``[rows]``."""
    rows = 1 if weight is None else len(weight)
    return layers.normalise_running(y, mean, var, _spread(weight, y, rows))
