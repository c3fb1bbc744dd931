"""The fixed reduction cell of GDAS (FRC), of supernets and final networks.

Each of the two inputs goes, with weights of its own, through a 1x3 and a 3x1
convolution in 8 groups with a 1x1 convolution behind them, and through a max pool. The
four results are concatenated; there is nothing to choose.

Source: Dong and Yang, Searching for a Robust Neural Architecture in Four GPU Hours,
CVPR 2019; layers as in the authors' code. In final networks drop path acts on each of
the four results. Deviations: channels that 8 does not divide have fewer groups, as many
as divide both; in supernets normalisations have no scale and shift, as those beside
them, and drop path, which there drops the outputs of searched edges, leaves the cell
alone.

Grouped convolutions are slow on the CPU backend. Without a bias and a nonlinearity
between them the two are one 3x3 convolution of stride 2, whose kernel is formed from
the two published ones in each pass (`joined_kernel`).
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jnas.supernet import initial, kernels, layers

__all__ = ["PATHS", "FixedReduction", "groups_of", "joined_kernel"]

PATHS = 4  # what drop path acts on, and states in the output


def groups_of(channels: int) -> int:
    """The groups of the convolutions: 8, or as many as divide the channels, too.

    Args:
      channels: of the cell's states.

    Returns:
      The number.

    Example:
      >>> groups_of(72), groups_of(4)
      (8, 4)
    """
    return math.gcd(8, channels)


def joined_kernel(across: jax.Array, down: jax.Array) -> jax.Array:
    """The kernel of one dense convolution in place of two grouped ones.

    Args:
      across: ``[1, 3, C / groups, C]``, of stride (1, 2) and padding (0, 1).
      down: ``[3, 1, C / groups, C]``, of stride (2, 1) and padding (1, 0), behind it.

    Returns:
      ``[3, 3, C, C]``, of stride 2 and padding 1, zero between the groups.

    Example:
      >>> kernel = joined_kernel(jnp.ones((1, 3, 2, 4)), jnp.ones((3, 1, 2, 4)))
      >>> kernel[0, 0].tolist()[0]
      [2.0, 2.0, 0.0, 0.0]
    """
    size, channels = across.shape[2:]
    groups = channels // size
    first = across[0].reshape(3, size, groups, size)
    second = down[:, 0].reshape(3, size, groups, size)
    blocks = jnp.einsum("jigm,amgo->ajgio", first, second)
    eye = jnp.eye(groups, dtype=blocks.dtype)[None, None, :, None, :, None]
    full = blocks[:, :, :, :, None, :] * eye
    return full.reshape(3, 3, channels, channels)


class _Halving(nn.Module):
    """ReLU, the two grouped convolutions, BN, ReLU, 1x1 convolution, BN."""

    affine: bool

    @nn.compact
    def __call__(self, x: jax.Array, statistics: str) -> jax.Array:
        """``[B, H, W, C] -> [B, H / 2, W / 2, C]``."""
        channels = x.shape[-1]
        size = channels // groups_of(channels)
        dtype = layers.storage_dtype(x.dtype)
        init = initial.fan_in_uniform(3 * size)
        across = self.param("conv0", init, (1, 3, size, channels), dtype)
        down = self.param("conv1", init, (3, 1, size, channels), dtype)
        kernel = joined_kernel(across, down).astype(x.dtype)
        y = kernels.conv(nn.relu(x), kernel, 2)
        y = layers.BatchNorm(self.affine, name="norm0")(y, statistics)
        init = initial.fan_in_uniform(channels)
        pointwise = self.param("pointwise", init, (channels, channels), dtype)
        y = kernels.conv(nn.relu(y), pointwise[None, None].astype(x.dtype))
        return layers.BatchNorm(self.affine, name="norm1")(y, statistics)


class FixedReduction(nn.Module):
    """The fixed cell, behind the preprocessing of its two inputs.

    Attributes:
      affine: of the normalisations.
    """

    affine: bool = False

    @nn.compact
    def __call__(
        self,
        inputs: list[jax.Array],
        statistics: str,
        scales: jax.Array | None = None,
    ) -> jax.Array:
        """Evaluates the cell.

        Args:
          inputs: the two states, each ``[B, H, W, C]``, even ``H`` and ``W``.
          statistics: "batch" or "running".
          scales: ``[4, B]``, the factors of drop path, or None.

        Returns:
          ``[B, H / 2, W / 2, 4 C]``.
        """
        outputs = [
            _Halving(self.affine, name=f"halving{i}")(x, statistics)
            for i, x in enumerate(inputs)
        ]
        for i, x in enumerate(inputs):
            norm = layers.BatchNorm(self.affine, name=f"pool{i}")
            outputs.append(norm(kernels.max_pool(x, 2), statistics))
        if scales is not None:
            # In at least float32: a rounded 1 / keep would be a bias.
            outputs = [
                (y.astype(scale.dtype) * scale[:, None, None, None]).astype(y.dtype)
                for y, scale in zip(outputs, scales[:PATHS], strict=True)
            ]
        return jnp.concatenate(outputs, axis=-1)
