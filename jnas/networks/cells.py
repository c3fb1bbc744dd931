"""One cell of a final network: the edges of a genotype, one operation each.

Every edge has its own parameters, named by its place in the genotype. Edges with the
same operation that leave the same state are evaluated together, as in the supernet, so
that the program has fewer and wider convolutions. Normalisations have a scale and a
shift, and pools have none (Liu et al., DARTS, ICLR 2019, in the authors' code).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jnas.spaces import Cell
from jnas.supernet import initial, kernels, layers, operations

__all__ = ["GenotypeCell", "drop_path_scales", "edge_name", "uniform_noise"]


def edge_name(index: int, operation: str) -> str:
    """The name of an edge's weights in those of its cell.

    Args:
      index: place in the genotype's list of edges.
      operation: what it carries.

    Returns:
      The name.

    Example:
      >>> edge_name(0, "sep_conv_3x3")
      'edge0_sep_conv_3x3'
    """
    return f"edge{index}_{operation}"


def uniform_noise(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """What drop path draws, uniform in [0, 1): an edge is kept where it is < keep."""
    return jax.random.uniform(key, shape, dtype)


def drop_path_scales(
    key: jax.Array, rate: Any, shape: tuple[int, ...], dtype: Any
) -> jax.Array:
    """Factors of drop path: 0 with probability ``rate``, else ``1 / (1 - rate)``.

    Args:
      key: consumed.
      rate: scalar in [0, 1], may be traced.
      shape: of the result.
      dtype: of the result.

    Returns:
      The factors; all are exactly 1 at rate 0.

    Example:
      >>> drop_path_scales(jax.random.key(0), 0.0, (2,), jnp.float32).tolist()
      [1.0, 1.0]
    """
    keep = 1 - jnp.asarray(rate, dtype)
    kept = uniform_noise(key, shape, dtype) < keep
    return jnp.where(kept, 1 / jnp.where(keep > 0, keep, 1), jnp.zeros((), dtype))


class _NormVariables(NamedTuple):
    """One edge's batch normalisation; the statistics are Linen variables."""

    scale: Any
    bias: Any
    mean: Any
    var: Any


class _EdgeVariables(nn.Module):
    """Holds the parameters and running statistics of one edge."""

    shapes: dict[str, operations.Parameter]
    norms: tuple[str, ...]
    channels: int
    dtype: Any

    @nn.compact
    def __call__(self):
        params = {
            name: self.param(name, initial.fan_in_uniform(fan_in), shape, self.dtype)
            for name, (shape, fan_in) in self.shapes.items()
        }
        shape, norms = (self.channels,), {}
        for name in self.norms:
            norms[name] = _NormVariables(
                self.param(f"{name}_scale", initial.constant(1.0), shape, self.dtype),
                self.param(f"{name}_bias", initial.constant(0.0), shape, self.dtype),
                self._statistic(f"{name}_mean", jnp.zeros),
                self._statistic(f"{name}_var", jnp.ones),
            )
        return params, norms

    def _statistic(self, name, fill):
        shape = (self.channels,)
        return self.variable("batch_stats", name, fill, shape, self.dtype)


def _norm_fn(
    norms: list[dict[str, _NormVariables]], statistics: str, update: bool
) -> operations.NormFn:
    """Batch normalisation of several edges' channels at once, each with its own."""

    def norm(name, y, weight=None):
        del weight  # only supernets weigh their edges
        edges = [own[name] for own in norms]
        scale = jnp.concatenate([edge.scale for edge in edges])
        bias = jnp.concatenate([edge.bias for edge in edges])
        if statistics == "batch":
            z, mean, var = kernels.normalise(y, scale, layers.EPSILON)
            var = layers.unbiased(var, y.size // y.shape[-1])
            for index, edge in enumerate(edges if update else ()):
                rows = slice(index * len(edge.scale), (index + 1) * len(edge.scale))
                edge.mean.value = layers.running_update(edge.mean.value, mean[rows])
                edge.var.value = layers.running_update(edge.var.value, var[rows])
        else:
            mean = jnp.concatenate([edge.mean.value for edge in edges])
            var = jnp.concatenate([edge.var.value for edge in edges])
            factor = lax.rsqrt(var + layers.EPSILON) * scale
            centred = y - kernels.per_channel(mean)
            z = (centred * kernels.per_channel(factor)).astype(y.dtype)
        return z + kernels.per_channel(bias).astype(y.dtype)

    return norm


class GenotypeCell(nn.Module):
    """A cell that evaluates the edges of a genotype.

    Attributes:
      cell: its edges and output.
      inputs: number of input states.
      channels: ``C`` of every node.
      reduction: whether edges from the cell's inputs have stride 2.
    """

    cell: Cell
    inputs: int
    channels: int
    reduction: bool = False

    @nn.compact
    def __call__(
        self,
        inputs: list[jax.Array],
        statistics: str,
        train: bool,
        scales: jax.Array | None,
    ) -> jax.Array:
        """Evaluates the cell.

        Args:
          inputs: the input states, each ``[B, H, W, C]``.
          statistics: "batch" or "running".
          train: passed to registered operations that ask for it.
          scales: ``[E, B]``, the factors of drop path, or None.

        Returns:
          ``[B, H', W', C * len(concat)]``.
        """
        edges = self.cell.edges
        states = dict(enumerate(inputs))
        terms: dict[int, list[jax.Array]] = {edge.target: [] for edge in edges}
        last = {n: max(e.source for e in edges if e.target == n) for n in terms}
        for source in sorted({edge.source for edge in edges}):
            x = states[source]
            stride = 2 if self.reduction and source < self.inputs else 1
            for index, y in self._leaving(x, source, stride, statistics, train):
                if scales is not None and _droppable(edges[index].operation, stride):
                    # In at least float32: a rounded 1 / keep would be a bias.
                    scale = scales[index][:, None, None, None]
                    y = (y.astype(scale.dtype) * scale).astype(y.dtype)
                terms[edges[index].target].append(y)
            for node in sorted(n for n in terms if last[n] == source):
                parts = terms[node] or [jnp.zeros_like(x[:, ::stride, ::stride])]
                # Materialised for the same reason as in the supernet's cells.
                total = sum(parts[1:], parts[0])
                states[node] = lax.optimization_barrier(total)
        outputs = [states[s] for s in self.cell.concat]
        return outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=-1)

    def _leaving(
        self, x: jax.Array, source: int, stride: int, statistics: str, train: bool
    ) -> Iterator[tuple[int, jax.Array]]:
        """Evaluates the edges that leave a state: pairs (index, ``[B, H', W', C]``)."""
        alike: dict[str, list[int]] = {}
        for index, edge in enumerate(self.cell.edges):
            if edge.source == source:
                alike.setdefault(edge.operation, []).append(index)
        for name, members in alike.items():
            operation = operations.get_operation(name)
            if isinstance(operation, operations.Operation):
                y = self._stacked(operation, name, members, x, stride, statistics)
                # Without parameters there is one result for all the edges.
                parts = lax.split(y, (1,) * y.shape[-2], axis=y.ndim - 2)
                for position, index in enumerate(members):
                    part = parts[position if len(parts) > 1 else 0]
                    yield index, jnp.squeeze(part, -2)
            elif operation is not None:
                for index in members:
                    candidate = operation(self.channels, stride)
                    if isinstance(candidate, nn.Module):
                        label = edge_name(index, name)
                        candidate = candidate.clone(parent=self, name=label)
                    yield index, operations.call_candidate(candidate, x, train)

    def _stacked(self, operation, name, members, x, stride, statistics):
        shapes = operation.parameters(self.channels, stride, True)
        # The norms of operations that are shared by a state's edges are the pools',
        # which only search networks have.
        names = () if operation.per_state else operation.norms(stride)
        dtype = layers.storage_dtype(x.dtype)
        params, norms = [], []
        for index in members if shapes or names else ():
            module = _EdgeVariables(
                shapes, names, self.channels, dtype, name=edge_name(index, name)
            )
            edge_params, edge_norms = module()
            params.append(edge_params)
            norms.append(edge_norms)
        stacked = {k: jnp.stack([p[k] for p in params]) for k in shapes}
        norm = _norm_fn(norms, statistics, not self.is_initializing())
        return operation.apply(stacked, norm, x, stride, None)


def _droppable(name: str, stride: int) -> bool:
    operation = operations.get_operation(name)
    if isinstance(operation, operations.Operation):
        return operation.droppable(stride)
    return True
