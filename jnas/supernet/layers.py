"""Linen layers with PyTorch's semantics: initial values, padding, batch statistics.

The reference results of the field were produced with these (METHODS: kaiming-uniform
initial values, running statistics that move by 0.1 and store the unbiased variance).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jnas.errors import JnasError
from jnas.supernet import kernels
from jnas.supernet.initial import constant, fan_in_uniform

__all__ = [
    "BatchNorm",
    "Conv",
    "Dense",
    "FactorizedReduce",
    "ReluConvNorm",
    "check_dtype",
    "factorized_reduce",
    "running_update",
    "storage_dtype",
]

EPSILON = 1e-5
MOMENTUM = 0.1


def check_dtype(dtype: Any) -> np.dtype:
    """The compute dtype that a caller means.

    Args:
      dtype: a floating type or its name.

    Returns:
      It as NumPy has it.

    Raises:
      JnasError: it is none.

    Example:
      >>> check_dtype("bfloat16") == jnp.bfloat16
      True
    """
    try:
        found = None if dtype is None else jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        told = repr(dtype) if found is None else found.name
        raise JnasError(
            f"dtype must be a floating type, got {told}: use 'float32' or 'bfloat16'"
        )
    return found


def storage_dtype(dtype: Any) -> Any:
    """The dtype of parameters and statistics for a compute dtype: at least float32.

    Args:
      dtype: the compute dtype.

    Returns:
      float32, or float64 for float64.

    Example:
      >>> storage_dtype(jnp.bfloat16).__name__
      'float32'
    """
    return jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32


def running_update(old: jax.Array, new: jax.Array) -> jax.Array:
    """Moves a running statistic by 0.1 towards the batch's.

    Args:
      old: running value.
      new: the batch's value (for variances: unbiased).

    Returns:
      ``0.9 * old + 0.1 * new``.

    Example:
      >>> round(float(running_update(jnp.array(1.0), jnp.array(2.0))), 6)
      1.1
    """
    return (1 - MOMENTUM) * old + MOMENTUM * new


def unbiased(variance: jax.Array, count: int) -> jax.Array:
    """The unbiased variance from the biased one of ``count`` values."""
    return variance * (count / max(count - 1, 1))


def normalise_running(
    y: jax.Array, mean: jax.Array, variance: jax.Array, scale: jax.Array | None
) -> jax.Array:
    """Normalises ``[B, H, W, C]`` by given statistics, times a scale, each ``[C]``."""
    factor = lax.rsqrt(variance + EPSILON)
    factor = factor if scale is None else factor * scale
    centred = y - kernels.per_channel(mean)
    return (centred * kernels.per_channel(factor)).astype(y.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over ``[B, H, W]``; one layer's statistics are ``[C]``.

    Attributes:
      affine: whether there are a scale and a shift.
    """

    affine: bool = True

    @nn.compact
    def __call__(self, y: jax.Array, statistics: str) -> jax.Array:
        """Normalises; "batch" updates the running statistics, "running" uses them."""
        dtype = storage_dtype(y.dtype)
        features = y.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, features, dtype)
        var = self.variable("batch_stats", "var", jnp.ones, features, dtype)
        scale = shift = None
        if self.affine:
            scale = self.param("scale", constant(1.0), features, dtype)
            shift = self.param("bias", constant(0.0), features, dtype)
        if statistics == "batch":
            z, batch_mean, batch_var = kernels.normalise(y, scale, EPSILON)
            if not self.is_initializing():
                count = y.size // y.shape[-1]
                mean.value = running_update(mean.value, batch_mean)
                var.value = running_update(var.value, unbiased(batch_var, count))
        else:
            z = normalise_running(y, mean.value, var.value, scale)
        return z if shift is None else z + kernels.per_channel(shift).astype(y.dtype)


class Conv(nn.Module):
    """Convolution with symmetric padding.

    Attributes:
      features: output channels.
      window: odd size, or a pair.
      stride: both directions.
      bias: whether a bias is added.
    """

    features: int
    window: int = 3
    stride: int = 1
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features]``."""
        fan_in = self.window * self.window * x.shape[-1]
        shape = (self.window, self.window, x.shape[-1], self.features)
        dtype = storage_dtype(x.dtype)
        kernel = self.param("kernel", fan_in_uniform(fan_in), shape, dtype)
        y = kernels.conv(x, kernel.astype(x.dtype), self.stride)
        if self.bias:
            bias = self.param("bias", fan_in_uniform(fan_in), shape[-1:], dtype)
            y = y + kernels.per_channel(bias).astype(x.dtype)
        return y


class Dense(nn.Module):
    """Linear layer in at least float32 with PyTorch's initial values.

    Attributes:
      features: outputs.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, C] -> [B, features]``."""
        dtype = storage_dtype(x.dtype)
        init = fan_in_uniform(x.shape[-1])
        kernel = self.param("kernel", init, (x.shape[-1], self.features), dtype)
        bias = self.param("bias", init, (self.features,), dtype)
        return x.astype(dtype) @ kernel + bias[None]


class ReluConvNorm(nn.Module):
    """ReLU, convolution, batch normalisation.

    Attributes:
      features: output channels.
      window: odd size.
      stride: both directions.
      affine: of the normalisation.
    """

    features: int
    window: int = 1
    stride: int = 1
    affine: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, statistics: str) -> jax.Array:
        """``[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features]``."""
        y = Conv(self.features, self.window, self.stride, name="conv")(nn.relu(x))
        return BatchNorm(self.affine, name="norm")(y, statistics)


def factorized_reduce(
    x: jax.Array, even: jax.Array, odd: jax.Array, edges: int = 1
) -> jax.Array:
    """Halves the image by two 1x1 convolutions, one on the pixels shifted by one.

    Args:
      x: ``[B, H, W, C]`` after ReLU, even ``H`` and ``W``.
      even: ``[edges, C, D]``, applied to pixels (0, 0), (0, 2), ...
      odd: ``[edges, C, D']``, applied to pixels (1, 1), (1, 3), ...
      edges: how many reductions share the input.

    Returns:
      ``[B, H / 2, W / 2, edges * (D + D')]``, each edge's channels together.

    Example:
      >>> k = jnp.ones((1, 3, 2))
      >>> factorized_reduce(jnp.ones((1, 8, 8, 3)), k, k).shape
      (1, 4, 4, 4)
    """
    parts = []
    for kernel, pixels in ((even, x[:, ::2, ::2]), (odd, x[:, 1::2, 1::2])):
        joined = jnp.moveaxis(kernel, 0, 1).reshape(1, 1, x.shape[-1], -1)
        y = kernels.conv(pixels, joined.astype(x.dtype))
        parts.append(y.reshape(*y.shape[:3], edges, -1))
    y = jnp.concatenate(parts, -1)
    return y.reshape(*y.shape[:3], -1)


class FactorizedReduce(nn.Module):
    """ReLU, `factorized_reduce`, batch normalisation.

    Attributes:
      features: output channels.
      affine: of the normalisation.
    """

    features: int
    affine: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, statistics: str) -> jax.Array:
        """``[B, H, W, C] -> [B, H / 2, W / 2, features]``."""
        channels, half = x.shape[-1], self.features // 2
        dtype, init = storage_dtype(x.dtype), fan_in_uniform(channels)
        even = self.param("even", init, (channels, half), dtype)
        odd = self.param("odd", init, (channels, self.features - half), dtype)
        y = factorized_reduce(nn.relu(x), even[None], odd[None])
        return BatchNorm(self.affine, name="norm")(y, statistics)
