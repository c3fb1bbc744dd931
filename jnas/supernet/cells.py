"""One searchable cell: a directed graph whose edges are mixed operations.

Each state's outgoing edges are evaluated together, or, where a mixture names active
candidates, those alone (`sampled`). Node states are materialised: otherwise the
compiler recomputes a node's whole sum for every read of a pooling window.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jnas.spaces import Group
from jnas.supernet import auxiliary as auxiliaries
from jnas.supernet import dropping as droppings
from jnas.supernet import kernels, layers, operations, partial, sampled
from jnas.supernet import stacked as stacking

__all__ = ["CellMixture", "MixedCell"]


class CellMixture(NamedTuple):
    """What a mixture says of one cell besides the weights, each or None.

    Attributes:
      offsets: ``[E]``, added to every entry of the edges' outputs.
      edges: ``[E]``, the weights of the edges (those of the operations have them in).
      active: ``int32 [E, A]``, the candidates to compute.
      auxiliary: ``[E]``, the weights of the auxiliary skips.
    """

    offsets: jax.Array | None = None
    edges: jax.Array | None = None
    active: jax.Array | None = None
    auxiliary: jax.Array | None = None


class MixedCell(nn.Module):
    """A cell of the supernet: every edge is a weighted sum of all its candidates.

    Attributes:
      group: the graph and its candidate operations.
      channels: ``C`` of every node.
      reduction: whether edges from the cell's inputs have stride 2.
      pool_norm: whether pools are normalised (DARTS) or not (NAS-Bench-201).
      partial: the operations see the first of so many parts of the channels, the
        others go around them (PC-DARTS).
    """

    group: Group
    channels: int
    reduction: bool = False
    pool_norm: bool = True
    partial: int = 1

    @nn.compact
    def __call__(
        self,
        inputs: list[jax.Array],
        weights: jax.Array,
        statistics: str,
        train: bool,
        mixed: CellMixture | None = None,
        dropping: droppings.Dropping | None = None,
    ) -> jax.Array:
        """Evaluates the cell.

        Args:
          inputs: the input states, each ``[B, H, W, C]``.
          weights: ``[E, O]``, times those of the edges.
          statistics: "batch" or "running".
          train: passed to registered operations that ask for it.
          mixed: the rest of the mixture.
          dropping: drop path and skip dropout, or None.

        Returns:
          ``[B, H', W', C * len(concat)]``.
        """
        group, dtype = self.group, layers.storage_dtype(inputs[0].dtype)
        mixed = mixed or CellMixture()
        width = self.channels // self.partial
        stacked, own = {}, {}
        for index, name in enumerate(group.operations):
            operation = operations.get_operation(name, self.pool_norm)
            if isinstance(operation, operations.Operation):
                stacked[index] = stacking.Stacked(
                    name, operation, group, width, self.reduction, dtype, self
                )
            elif operation is not None:
                own[index] = operation

        is_sampled = mixed.active is not None and not self.is_initializing()
        if is_sampled:
            evaluate = sampled.Sampled(
                self, stacked, own, width, weights, mixed.active, statistics, train
            )
        else:
            evaluate = _Dense(self, stacked, own, width, weights, statistics, train)
        beside = None
        if mixed.auxiliary is not None:
            beside = auxiliaries.AuxiliarySkips(
                self, width, mixed.auxiliary, statistics, dtype
            )
        states = dict(enumerate(inputs))
        terms: dict[int, list[jax.Array]] = {node: [] for node in group.nodes}
        around: dict[int, list[jax.Array]] = {node: [] for node in group.nodes}
        last = {
            node: max(s for s, t in group.edges if t == node) for node in group.nodes
        }
        for source, leaving in stacking.outgoing(group).items():
            x = states[source]
            stride = stacking.stride_of(group, source, self.reduction)
            bypass = partial.bypass(x, self.partial, stride)
            x = x[..., :width] if self.partial > 1 else x
            outputs = evaluate(x, source, leaving, dropping)
            if beside is not None:
                skips = beside(x, source)
                outputs = [a + b for a, b in zip(outputs, skips, strict=True)]
            for edge, part in zip(leaving, outputs, strict=True):
                node = group.edges[edge][1]
                kept = None if dropping is None else dropping.path(edge, part)
                if mixed.offsets is not None:
                    part = part + mixed.offsets[edge].astype(part.dtype)
                terms[node].append(part if kept is None else part * kept)
                if bypass is not None:
                    past = bypass
                    if mixed.edges is not None:
                        past = past * mixed.edges[edge].astype(past.dtype)
                    around[node].append(past if kept is None else past * kept)
            for node in [n for n in group.nodes if last[n] == source]:
                total = _add(terms[node])
                if self.partial > 1:
                    total = partial.joined(total, _add(around[node]), self.partial)
                # The operands of conditionals are stored anyway.
                states[node] = total if is_sampled else kernels.materialise(total)
        if statistics == "batch" and not self.is_initializing():
            evaluate.update_statistics()
            if beside is not None:
                beside.update_statistics()
        outputs = [states[s] for s in group.concat]
        return outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=-1)


def _add(terms: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, terms)


class _Dense:
    """All candidates of the edges that leave a state, together."""

    def __init__(self, cell, stacked, own, width, weights, statistics, train):
        self._cell, self._stacked, self._own = cell, stacked, own
        self._width, self._weights = width, weights
        self._statistics, self._train = statistics, train

    def __call__(self, x, source, leaving, dropping):
        """The output of each edge, ``[B, H', W', C]``, summed over its candidates."""
        group = self._cell.group
        stride = stacking.stride_of(group, source, self._cell.reduction)
        by_edges: dict[tuple[int, ...], list[jax.Array]] = {}
        for index, operation in self._stacked.items():
            edges = operation.leaving[source]
            if not edges:
                continue
            weight = jnp.stack([self._weights[e, index] for e in edges])
            y = operation(x, source, weight, self._statistics)
            if dropping is not None and stride == 1:
                y = dropping.skip(edges, operation.name, y)
            by_edges.setdefault(tuple(edges), []).append(y)
        for index, factory in self._own.items():
            name = group.operations[index]
            edges = stacking.choosing(group, name)[source]
            outputs = []
            for edge in edges:
                candidate = own_candidate(
                    self._cell, factory, name, edge, self._width, stride
                )
                outputs.append(operations.call_candidate(candidate, x, self._train))
            if outputs:
                y = jnp.stack(outputs, axis=-2)
                weight = jnp.stack([self._weights[e, index] for e in edges])
                weight = weight.reshape(1, 1, 1, -1, 1).astype(y.dtype)
                by_edges.setdefault(tuple(edges), []).append(y * weight)
        # Summed and materialised before it is split over the target nodes, so that
        # the gradient of all operations is one array, too.
        sums = {
            edges: kernels.materialise(_add(parts)) for edges, parts in by_edges.items()
        }
        found: dict[int, list[jax.Array]] = {edge: [] for edge in leaving}
        for edges, total in sums.items():
            split = lax.split(total, (1,) * len(edges), axis=total.ndim - 2)
            for edge, part in zip(edges, split, strict=True):
                found[edge].append(jnp.squeeze(part, -2))
        for edge in leaving:
            if not found[edge]:  # it can only choose "none"
                size = [-(-n // stride) for n in x.shape[1:3]]
                found[edge] = [jnp.zeros((x.shape[0], *size, x.shape[-1]), x.dtype)]
        return [_add(found[edge]) for edge in leaving]

    def update_statistics(self):
        """Of the built-in operations; registered ones do so themselves."""
        for operation in self._stacked.values():
            operation.update_statistics()


def own_candidate(cell, factory, name, edge, width, stride):
    """A registered operation of an edge; a module is made part of the cell."""
    candidate = factory(width, stride)
    if isinstance(candidate, nn.Module):
        candidate = candidate.clone(parent=cell, name=f"{name}_{edge}")
    return candidate
