"""Sampled evaluation: of each edge only the active candidates are computed.

Which ones they are is known on the device only, so every edge is a conditional
(``lax.switch``) over its candidates; the others cost nothing, neither forward nor
backward. Values and gradients are those of the dense evaluation at the same mixture;
running statistics move for the candidates that were computed and for no other.

Edges of equal shape share one traced function, so tracing does not grow with the
number of cells. Under ``vmap`` over the sample a conditional becomes a selection and
every candidate runs: map over seeds with one sample for all, or run them in turn.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jnas.supernet import layers, operations, stacked

__all__ = ["Sampled"]


class _Branch(NamedTuple):
    """One candidate of an edge, static.

    Attributes:
      column: of the candidate.
      operation: a built-in operation, a registered factory, or None for "none".
      is_skip: whether skip dropout acts on it.
    """

    column: int
    operation: Any
    is_skip: bool = False


class Sampled:
    """The active candidates of every edge of one cell."""

    def __init__(self, cell, stacks, own, width, weights, active, statistics, train):
        self._cell, self._stacked, self._own = cell, stacks, own
        self._width, self._statistics, self._train = width, statistics, train
        # A candidate that is named twice counts once.
        seen = active[:, :, None] == active[:, None, :]
        earlier = jnp.tril(jnp.ones(seen.shape[1:], bool), -1)[None]
        again = jnp.any(seen & earlier, axis=-1)
        self._active = active
        self._weights = jnp.where(
            again, 0.0, jnp.take_along_axis(weights, active, axis=1)
        )
        self._again = again
        self._found: dict[tuple[int, int], Any] = {}  # (edge, slot): statistics

    def __call__(self, x, source, leaving, dropping):
        """The output of each edge, ``[B, H', W', C]``."""
        outputs = []
        for edge in leaving:
            factor = None
            if dropping is not None and "skip_dropout" in dropping.rates:
                ones = jnp.ones((*x.shape[:3], 1, x.shape[-1]), x.dtype)
                factor = dropping.skip([edge], "skip_connect", ones)
            parts = [
                self._slot(x, source, edge, slot, factor)
                for slot in range(self._active.shape[1])
            ]
            outputs.append(functools.reduce(jnp.add, parts))
        return outputs

    def _slot(self, x, source, edge, slot, factor):
        group = self._cell.group
        stride = stacked.stride_of(group, source, self._cell.reduction)
        branches, arrays = [], []
        for column, name in enumerate(group.operations):
            if not group.allowed[edge, column]:
                branches.append(_Branch(column, None))
                arrays.append(((), ()))
            elif column in self._stacked:
                stack = self._stacked[column]
                is_skip = name == "skip_connect" and stride == 1 and factor is not None
                branches.append(_Branch(column, stack.operation, is_skip))
                arrays.append(self._rows(stack, source, edge))
            elif column in self._own:
                branches.append(_Branch(column, self._own[column]))
                arrays.append((self._own_variables(column, edge), ()))
            else:
                branches.append(_Branch(column, None))
                arrays.append(((), ()))
        run = _edge_function(tuple(branches), stride, self._statistics, self._train)
        index = self._active[edge, slot]
        weight = self._weights[edge, slot].reshape(1)
        y, found = run(index, weight, x, tuple(arrays), factor)
        self._found[edge, slot] = found
        return y

    def _rows(self, stack, source, edge):
        """``(parameters, running statistics)`` of one edge, ``[1, ...]`` each."""
        params: Any = {}
        if edge in stack.rows.edges:
            row = stack.rows.edges.index(edge)
            params = {
                k: lax.slice_in_dim(v, row, row + 1) for k, v in stack.params.items()
            }
        stats: Any = {}
        rows = stack.stat_rows[source]
        if rows.stop > rows.start:
            row = rows.start
            if not stack.operation.per_state:
                row += stack.leaving[source].index(edge)
            stats = {
                k: (m.value[row], v.value[row]) for k, (m, v) in stack.stats.items()
            }
        return params, stats

    def _own_variables(self, column, edge):
        label = f"{self._cell.group.operations[column]}_{edge}"
        found = self._cell.variables
        return {name: part[label] for name, part in found.items() if label in part}

    def update_statistics(self):
        """Moves the running statistics of what was computed."""
        for column, stack in self._stacked.items():
            hits = (self._active == column) & ~self._again
            for name, (mean, var) in stack.stats.items():
                rows: dict[int, list[int]] = {}
                for source, leaving in stack.leaving.items():
                    span = stack.stat_rows[source]
                    for i, edge in enumerate(leaving if span.stop > span.start else []):
                        shared = 0 if stack.operation.per_state else i
                        rows.setdefault(span.start + shared, []).append(edge)
                for variable, part in ((mean, 0), (var, 1)):
                    variable.value = jnp.stack(
                        [
                            self._moved(
                                variable.value[row], hits, column, name, part, edges
                            )
                            for row, edges in sorted(rows.items())
                        ]
                    )
        group = self._cell.group
        for (edge, slot), found in self._found.items():
            for column, changed in found.own.items():
                name = f"{group.operations[column]}_{edge}"
                # Another slot may have computed it before.
                hit = self._active[edge, slot] == column
                for collection, new in changed.items():
                    old = self._cell.get_variable(collection, name)
                    self._cell.put_variable(
                        collection,
                        name,
                        jax.tree.map(lambda a, b, h=hit: jnp.where(h, a, b), new, old),
                    )

    def _moved(self, old, hits, column, name, part, edges):
        """A running statistic after the batch, where one of the edges computed it."""
        new = old
        # Edges that share a statistic have the same batch value: any will do.
        for edge in edges:
            for slot in range(self._active.shape[1]):
                batch = self._found[edge, slot].norms[column][name][part]
                moved = layers.running_update(old, batch)
                new = jnp.where(hits[edge, slot], moved, new)
        return new


class _Found(NamedTuple):
    """What an edge leaves behind.

    Attributes:
      norms: ``{column: {norm: (mean, unbiased variance)}}``, zeros of what did not run.
      own: ``{column: changed collections}`` of registered operations.
    """

    norms: dict[int, dict[str, Any]]
    own: dict[int, dict[str, Any]]


@functools.lru_cache(maxsize=512)
def _edge_function(branches: tuple[_Branch, ...], stride, statistics, train):
    """The jitted ``(index, weight, x, arrays, factor) -> (y, _Found)`` of an edge."""

    def run(index, weight, x, arrays, factor):
        size = [-(-n // stride) for n in x.shape[1:3]]
        shape = (x.shape[0], *size, x.shape[-1])
        idle = _Found(
            {
                b.column: {
                    name: tuple(jnp.zeros_like(part) for part in pair)
                    for name, pair in stats.items()
                }
                for b, (_, stats) in zip(branches, arrays, strict=True)
                if stats and statistics == "batch"
            },
            {
                b.column: {k: v for k, v in own.items() if k != "params"}
                for b, (own, _) in zip(branches, arrays, strict=True)
                if b.operation is not None
                and not isinstance(b.operation, operations.Operation)
            },
        )

        def branch(static, params, stats):
            if static.operation is None:
                return lambda weight, x: (jnp.zeros(shape, x.dtype), idle)
            if isinstance(static.operation, operations.Operation):
                return functools.partial(
                    built_in, static=static, params=params, stats=stats
                )
            return functools.partial(own_one, static=static, variables=params)

        def built_in(weight, x, *, static, params, stats):
            new: dict[str, Any] = {}

            def norm(name, y, weight=None):
                if statistics == "batch":
                    z, mean, var = stacked.normalised(y, weight, 1)
                    new[name] = (mean, var)
                    return z
                return stacked.by_running(y, weight, *stats[name])

            y = static.operation.apply(params, norm, x, stride, weight)
            if static.is_skip:
                y = y * factor
            found = idle
            if new:
                found = idle._replace(norms={**idle.norms, static.column: new})
            return jnp.squeeze(y, -2), found

        def own_one(weight, x, *, static, variables):
            candidate = static.operation(x.shape[-1], stride)
            if not isinstance(candidate, nn.Module):
                y = operations.call_candidate(candidate, x, train)
                return y * weight.reshape(1, 1, 1, 1).astype(y.dtype), idle
            state = {k: v for k, v in variables.items() if k != "params"}
            named = "train" in operations.call_parameters(candidate)
            options = {"train": train} if named else {}
            y, changed = candidate.apply(variables, x, mutable=list(state), **options)
            found = idle._replace(own={**idle.own, static.column: {**state, **changed}})
            return y * weight.reshape(1, 1, 1, 1).astype(y.dtype), found

        # A conditional keeps room for what the backward pass of each candidate needs,
        # and fills it with zeros for those that did not run. Computing the one that
        # did again is cheaper.
        calls = [
            jax.checkpoint(branch(static, params, stats))
            for static, (params, stats) in zip(branches, arrays, strict=True)
        ]
        return lax.switch(index, calls, weight, x)

    return jax.jit(run)
