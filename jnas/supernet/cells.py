"""One searchable cell: a directed graph whose edges are mixed operations.

The parameters of an operation are stacked over the edges that have them, sorted by
source (so that the edges leaving one state are neighbouring rows). Each state's
outgoing edges are evaluated together, and node states are materialised: otherwise the
compiler recomputes a node's whole sum for every read of a pooling window.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jnas.spaces import Group
from jnas.supernet import initial, kernels, layers, operations

__all__ = ["MixedCell", "Rows", "operation_rows"]


class Rows(NamedTuple):
    """Which edges the rows of an operation's stacked parameters belong to.

    Attributes:
      edges: edge number (row of arch) of each parameter row.
      blocks: per source state, the slice of rows that leave it.
    """

    edges: tuple[int, ...]
    blocks: dict[int, slice]


def _stride(group: Group, source: int, reduction: bool) -> int:
    return 2 if reduction and source < group.inputs else 1


def _outgoing(group: Group) -> dict[int, list[int]]:
    sources = sorted({source for source, _ in group.edges})
    return {
        s: [e for e, (source, _) in enumerate(group.edges) if source == s]
        for s in sources
    }


def operation_rows(
    group: Group, operation: operations.Operation, channels: int, reduction: bool
) -> Rows:
    """The layout of an operation's stacked parameters in a cell.

    Args:
      group: the cell's graph.
      operation: the operation.
      channels: the cell's channels.
      reduction: whether edges from the cell's inputs have stride 2.

    Returns:
      The rows; empty for operations without parameters.
    """
    edges: list[int] = []
    blocks = {}
    for source, leaving in _outgoing(group).items():
        stride = _stride(group, source, reduction)
        start = len(edges)
        if operation.parameters(channels, stride, False):
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


class _Stacked:
    """One operation in one cell: slices the stacks by source, collects statistics."""

    def __init__(self, operation, group, channels, reduction, dtype, name):
        self.operation, self.group, self.reduction = operation, group, reduction
        self.rows = operation_rows(group, operation, channels, reduction)
        self.outgoing = _outgoing(group)
        shapes: dict[str, operations.Parameter] = {}
        # Rows of the running statistics: one per edge, or per state if shared.
        self.stat_rows: dict[int, slice] = {}
        total = 0
        names: tuple[str, ...] = ()
        for source, leaving in self.outgoing.items():
            stride = _stride(group, source, reduction)
            shapes |= operation.parameters(channels, stride, False)
            count = 1 if operation.per_state else len(leaving)
            count = count if operation.norms(stride) else 0
            names = names or operation.norms(stride)
            self.stat_rows[source] = slice(total, total + count)
            total += count
        self.params, self.stats = _OperationVariables(
            shapes=shapes,
            rows=len(self.rows.edges),
            norms={n: (total, channels) for n in names} if total else {},
            dtype=dtype,
            name=name,
        )()
        self.new: dict[str, list] = {name: [] for name in self.stats}

    def __call__(self, x, source, weight, statistics):
        block = self.rows.blocks[source]
        params = (
            {
                k: lax.slice_in_dim(v, block.start, block.stop)
                for k, v in self.params.items()
            }
            if block.stop > block.start
            else {}
        )
        stat_rows = self.stat_rows[source]

        def norm(name, y, weight=None):
            channels = y.shape[-1] // (stat_rows.stop - stat_rows.start)
            scale = None if weight is None else jnp.repeat(weight, channels)
            if statistics == "batch":
                scale = (
                    None
                    if scale is None
                    else scale.astype(layers.storage_dtype(y.dtype))
                )
                z, mean, var = kernels.normalise(y, scale, layers.EPSILON)
                var = layers.unbiased(var, y.size // y.shape[-1])
                self.new[name].append((mean, var))
                return z
            mean, var = (v.value[stat_rows].reshape(-1) for v in self.stats[name])
            return layers.normalise_running(y, mean, var, scale)

        stride = _stride(self.group, source, self.reduction)
        return self.operation.apply(params, norm, x, stride, weight)

    def update_statistics(self):
        for name, parts in self.new.items():
            for variable, new in zip(
                self.stats[name], zip(*parts, strict=True), strict=True
            ):
                joined = jnp.concatenate(new).reshape(variable.value.shape)
                variable.value = layers.running_update(variable.value, joined)


class MixedCell(nn.Module):
    """A cell of the supernet: every edge is a weighted sum of all its candidates.

    Attributes:
      group: the graph and its candidate operations.
      channels: ``C`` of every node.
      reduction: whether edges from the cell's inputs have stride 2.
      pool_norm: whether pools are normalised (DARTS) or not (NAS-Bench-201).
    """

    group: Group
    channels: int
    reduction: bool = False
    pool_norm: bool = True

    @nn.compact
    def __call__(
        self, inputs: list[jax.Array], weights: jax.Array, statistics: str, train: bool
    ) -> jax.Array:
        """Evaluates the cell.

        Args:
          inputs: the input states, each ``[B, H, W, C]``.
          weights: ``[E, O]``.
          statistics: "batch" or "running".
          train: passed to registered operations that ask for it.

        Returns:
          ``[B, H', W', C * len(concat)]``.
        """
        group, dtype = self.group, layers.storage_dtype(inputs[0].dtype)
        stacked, own = {}, {}
        for index, name in enumerate(group.operations):
            operation = operations.get_operation(name, self.pool_norm)
            if isinstance(operation, operations.Operation):
                stacked[index] = _Stacked(
                    operation, group, self.channels, self.reduction, dtype, name
                )
            elif operation is not None:
                own[index] = operation

        states = dict(enumerate(inputs))
        terms: dict[int, list[jax.Array]] = {node: [] for node in group.nodes}
        last = {
            node: max(s for s, t in group.edges if t == node) for node in group.nodes
        }
        for source, leaving in _outgoing(group).items():
            x = states[source]
            rows = jnp.stack([weights[e] for e in leaving])
            stride = _stride(group, source, self.reduction)
            parts = [
                operation(x, source, rows[:, index], statistics)
                for index, operation in stacked.items()
            ]
            for index, factory in own.items():
                outputs = []
                for edge in leaving:
                    candidate = factory(self.channels, stride)
                    if isinstance(candidate, nn.Module):
                        label = f"{group.operations[index]}_{edge}"
                        candidate = candidate.clone(parent=self, name=label)
                    outputs.append(operations.call_candidate(candidate, x, train))
                y = jnp.stack(outputs, axis=-2)
                weight = rows[:, index].reshape(1, 1, 1, -1, 1)
                parts.append(y * weight.astype(y.dtype))
            # Summed and materialised before it is split over the target nodes, so that
            # the gradient of all operations is one array, too.
            total = kernels.materialise(sum(parts[1:], parts[0]))
            split = lax.split(total, (1,) * len(leaving), axis=total.ndim - 2)
            for edge, part in zip(leaving, split, strict=True):
                terms[group.edges[edge][1]].append(jnp.squeeze(part, -2))
            for node in [n for n in group.nodes if last[n] == source]:
                total = sum(terms[node][1:], terms[node][0])
                states[node] = kernels.materialise(total)
        if statistics == "batch" and not self.is_initializing():
            for operation in stacked.values():
                operation.update_statistics()
        outputs = [states[s] for s in group.concat]
        return outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=-1)
