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
from jax.ad_checkpoint import checkpoint_name

from jnas.supernet import kernels, layers, operations, stacked

__all__ = ["KEPT", "Sampled"]

# The name of what rematerialised cells keep, too: computing the candidates again would
# cost more than it saves.
KEPT = "jnas_sampled_edge"


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
            branch, own = _Branch(column, None), ({}, {})
            if not group.allowed[edge, column]:
                pass
            elif column in self._stacked:
                stack = self._stacked[column]
                is_skip = name == "skip_connect" and stride == 1 and factor is not None
                branch = _Branch(column, stack.operation, is_skip)
                own = self._rows(stack, x, source, edge)
            elif column in self._own:
                branch = _Branch(column, self._own[column])
                own = self._own_variables(column, edge)
            branches.append(branch)
            arrays.append(own)
        run = _edge_function(tuple(branches), stride, self._statistics, self._train)
        index = self._active[edge, slot]
        weight = self._weights[edge, slot].reshape(1)
        params, rest = zip(*arrays, strict=True)
        y, found = run(index, weight, x, params, rest, factor)
        self._found[edge, slot] = found
        return y

    def _rows(self, stack, x, source, edge):
        """``(parameters, running statistics)`` of one edge, ``[1, ...]`` each."""
        params: Any = {}
        if edge in stack.rows.edges:
            row = stack.rows.edges.index(edge)
            params = {
                k: lax.slice_in_dim(v, row, row + 1) for k, v in stack.params.items()
            }
        if stack.operation.random:
            params = {"noise": stack.drawn(x, source, 1)}
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
        found = {
            name: part[label]
            for name, part in self._cell.variables.items()
            if label in part
        }
        learned = {k: v for k, v in found.items() if k == "params"}
        return learned, {k: v for k, v in found.items() if k != "params"}

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


class _Parts(NamedTuple):
    """The output of an edge, ``(kept - centre) * scale``.

    Attributes:
      kept: ``[B, H, W, C]``.
      centre: ``[C]``.
      scale: ``[C]``, times the mixture weight.
    """

    kept: jax.Array
    centre: jax.Array
    scale: jax.Array


def _spread(weight, y):
    """A weight ``[1]`` as a scale of each channel."""
    return jnp.broadcast_to(weight, y.shape[-1:]).astype(layers.storage_dtype(y.dtype))


@jax.custom_vjp
def _instead(z: jax.Array, kept: jax.Array) -> jax.Array:
    """The kept value of ``z``, with the gradient of ``z``, which is not computed."""
    del z
    return kept


_instead.defvjp(lambda z, kept: (kept, None), lambda _, g: (g, jnp.zeros_like(g)))


@functools.lru_cache(maxsize=512)
def _edge_function(branches: tuple[_Branch, ...], stride, statistics, train):
    """The function of an edge, of the index and all arguments of a candidate.

    ``params`` and ``rest`` have an entry for each candidate: what is learned, and what
    is not.
    """

    def shape(x):
        size = [-(-n // stride) for n in x.shape[1:3]]
        return (x.shape[0], *size, x.shape[-1])

    def idle(rest):
        """What an edge leaves behind where nothing ran."""
        norms, own = {}, {}
        for b, part in zip(branches, rest, strict=True):
            if isinstance(b.operation, operations.Operation):
                if part and statistics == "batch":
                    norms[b.column] = jax.tree.map(jnp.zeros_like, part)
            elif b.operation is not None:
                own[b.column] = part
        return _Found(norms, own)

    def candidate(place):
        """``(parts, output)`` of a candidate, functions of the same operands.

        ``parts(weight, x, params, rest, factor) -> (_Parts, _Found)``, and
        ``output(weight, x, params, rest, factor, kept) -> y``, which takes the kept
        array for what it would compute itself, but for its gradient.
        """
        static = branches[place]
        names = ()
        if isinstance(static.operation, operations.Operation):
            names = static.operation.norms(stride)

        def whole(y, weight, found):
            """The parts of what needs no normalisation."""
            return _Parts(
                y,
                jnp.zeros(y.shape[-1], layers.storage_dtype(y.dtype)),
                _spread(weight, y),
            ), found

        def nothing(weight, x, params, rest, factor):
            del params, factor
            return whole(jnp.zeros(shape(x), x.dtype), 0 * weight, idle(rest))

        def no_output(weight, x, params, rest, factor, kept):
            del weight, params, rest, factor, kept
            return jnp.zeros(shape(x), x.dtype)

        def norms(rest, new, last):
            """All but the last normalisation, which is the caller's."""

            def norm(name, y, weight=None):
                if name == names[-1]:
                    return last(name, y, weight)
                if statistics == "batch":
                    z, mean, var = stacked.normalised(y, weight, 1)
                    new[name] = (mean, var)
                    return z
                return stacked.by_running(y, weight, *rest[place][name])

            return norm

        def built_in(weight, x, params, rest, factor):
            new: dict[str, Any] = {}
            parts = []

            def last(name, y, _):
                wide = y.astype(layers.storage_dtype(y.dtype))
                if statistics == "batch":
                    mean, var = kernels.moments(wide)
                    new[name] = (mean, layers.unbiased(var, y.size // y.shape[-1]))
                else:
                    mean, var = (v.reshape(-1) for v in rest[place][name])
                scale = lax.rsqrt(var + layers.EPSILON) * _spread(weight, wide)
                parts.append(_Parts(y, mean, scale))
                return y

            norm = norms(rest, new, last)
            # The weight is in the parts; with one, pools are normalised, too.
            given = weight if names else None
            y = static.operation.apply(params[place], norm, x, stride, given)
            if not parts:
                y = jnp.squeeze(y, -2)
                if static.is_skip:
                    y = y * jnp.squeeze(factor, -2)
                return whole(y, weight, idle(rest))
            found = idle(rest)
            if new:
                found = found._replace(norms={**found.norms, static.column: new})
            return parts[0], found

        def built_in_output(weight, x, params, rest, factor, kept):
            def last(name, y, weight):
                y = _instead(y, kept)
                if statistics == "batch":
                    return stacked.normalised(y, weight, 1)[0]
                return stacked.by_running(y, weight, *rest[place][name])

            norm = norms(rest, {}, last)
            given = weight if names else None
            y = static.operation.apply(params[place], norm, x, stride, given)
            y = jnp.squeeze(y, -2)
            if not names:
                if static.is_skip:
                    y = y * jnp.squeeze(factor, -2)
                y = _instead(y, kept) * weight.reshape(1, 1, 1, 1).astype(y.dtype)
            return y

        def own_one(weight, x, params, rest, factor):
            del factor
            made = static.operation(x.shape[-1], stride)
            found = idle(rest)
            if isinstance(made, nn.Module):
                state = rest[place]
                named = "train" in operations.call_parameters(made)
                options = {"train": train} if named else {}
                variables = {**state, **params[place]}
                y, changed = made.apply(variables, x, mutable=list(state), **options)
                changed = {**state, **changed}
                found = found._replace(own={**found.own, static.column: changed})
            else:
                y = operations.call_candidate(made, x, train)
            return whole(y, weight, found)

        def own_output(weight, x, params, rest, factor, kept):
            y = own_one(weight, x, params, rest, factor)[0].kept
            return _instead(y, kept) * weight.reshape(1, 1, 1, 1).astype(y.dtype)

        if static.operation is None:
            return nothing, no_output
        if isinstance(static.operation, operations.Operation):
            return built_in, built_in_output
        return own_one, own_output

    candidates = [candidate(place) for place in range(len(branches))]

    # A conditional would keep room for what the backward pass of each candidate needs,
    # filled with zeros for those that did not run. Here one array serves all, the value
    # before the last normalisation; that is applied outside, together with the sum over
    # the edges, and what else the backward pass needs is computed again.
    @jax.jit
    def forward(index, weight, x, params, rest, factor):
        def call(run):
            def branch(weight, x, params, rest, factor):
                def parts(weight, x, params):
                    return run(weight, x, params, rest, factor)

                # Only the values; but what the kernels' own rules compute, so that
                # forward mode can differentiate it.
                values, _, found = jax.vjp(parts, weight, x, params, has_aux=True)
                return values, found

            return branch

        calls = [call(run) for run, _ in candidates]
        return lax.switch(index, calls, weight, x, params, rest, factor)

    def outside(index, weight, x, params, rest, factor):
        parts, found = forward(index, weight, x, params, rest, factor)
        parts = jax.tree.map(lambda part: checkpoint_name(part, KEPT), parts)
        y = parts.kept - kernels.per_channel(parts.centre)
        y = (y * kernels.per_channel(parts.scale)).astype(x.dtype)
        found = jax.tree.map(lax.stop_gradient, found)
        return (y, found), (index, weight, x, params, rest, factor, parts.kept)

    @jax.jit
    def backward(residuals, cotangents):
        index, weight, x, params, rest, factor, kept = residuals
        gradient, _ = cotangents  # statistics have no gradient

        def call(place, run):
            def branch(gradient, weight, x, params, rest, factor, kept):
                def output(weight, x, own):
                    own = (*params[:place], own, *params[place + 1 :])
                    return run(weight, x, own, rest, factor, kept)

                _, pull = jax.vjp(output, weight, x, params[place])
                d_weight, d_x, d_own = pull(gradient)
                zeros = jax.tree.map(jnp.zeros_like, params)
                return d_weight, d_x, (*zeros[:place], d_own, *zeros[place + 1 :])

            return branch

        calls = [call(place, run) for place, (_, run) in enumerate(candidates)]
        operands = gradient, weight, x, params, rest, factor, kept
        return (None, *lax.switch(index, calls, *operands), None, None)

    # The rules are jitted and not the whole, which forward mode could not enter.
    edge = jax.custom_vjp(lambda *arguments: outside(*arguments)[0])
    edge.defvjp(outside, backward)
    return edge
