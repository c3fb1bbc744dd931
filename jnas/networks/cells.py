"""One cell of a final network: the edges of a genotype, one operation each.

Every edge has its own parameters, named by its place in the genotype. Edges are
evaluated one by one: joining those of the same operation, as the supernet does, was
measured to compile and run slower. Normalisations have a scale and a shift, and pools
have none (Liu et al., DARTS, ICLR 2019, in the authors' code).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jnas.spaces import Cell
from jnas.supernet import initial, layers, operations

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


class _EdgeOperation(nn.Module):
    """A built-in operation with the parameters of one edge."""

    operation: operations.Operation
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: str) -> jax.Array:
        """``[B, H, W, C] -> [B, H', W', C]``."""

        def norm(name, y, weight=None):
            del weight  # only supernets weigh their edges
            return layers.BatchNorm(name=name)(y, statistics)

        params = {}
        shapes = self.operation.parameters(self.channels, self.stride, True)
        for name, (shape, fan_in) in shapes.items():
            init = initial.fan_in_uniform(fan_in)
            value: Any = self.param(name, init, shape, layers.storage_dtype(x.dtype))
            params[name] = value[None]  # one edge
        if self.operation.random:
            params["noise"] = operations.drawn(self, x, self.stride, 1)
        y = self.operation.apply(params, norm, x, self.stride, None)
        return jnp.squeeze(y, axis=-2)


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
        states = dict(enumerate(inputs))
        for node in sorted({edge.target for edge in self.cell.edges}):
            terms = []
            for index, (name, source, target) in enumerate(self.cell.edges):
                if target != node:
                    continue
                x = states[source]
                stride = 2 if self.reduction and source < self.inputs else 1
                own = None if scales is None else scales[index]
                terms.append(self._edge(index, name, stride, x, statistics, train, own))
            # Materialised for the same reason as in the supernet's cells.
            states[node] = lax.optimization_barrier(sum(terms[1:], terms[0]))
        outputs = [states[s] for s in self.cell.concat]
        return outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=-1)

    def _edge(self, index, name, stride, x, statistics, train, scale):
        operation, label = operations.get_operation(name), edge_name(index, name)
        if operation is None:
            return jnp.zeros_like(x[:, ::stride, ::stride])
        if isinstance(operation, operations.Operation):
            module = _EdgeOperation(operation, self.channels, stride, name=label)
            y = module(x, statistics)
            droppable = operation.droppable(stride)
        else:
            candidate = operation(self.channels, stride)
            if isinstance(candidate, nn.Module):
                candidate = candidate.clone(parent=self, name=label)
            y = operations.call_candidate(candidate, x, train)
            droppable = True
        if scale is None or not droppable:
            return y
        # In at least float32: a rounded 1 / keep would be a bias.
        return (y.astype(scale.dtype) * scale[:, None, None, None]).astype(y.dtype)
