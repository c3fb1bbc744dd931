"""The outer skeletons: stem, stacked cells, reductions, classifier.

`DartsSkeleton` (Liu et al., DARTS, ICLR 2019): reduction *cells* at one and two thirds
of the depth. `StagesSkeleton` (Dong & Yang, NAS-Bench-201, ICLR 2020): three stages of
equal cells with residual blocks between them. Both serve search networks and final
networks: they are given the cells to build.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jnas.supernet import layers

__all__ = [
    "DartsSkeleton",
    "ResidualBlock",
    "StagesSkeleton",
    "check_images",
    "reduction_positions",
]


def reduction_positions(cells: int) -> tuple[int, ...]:
    """Positions of the reduction cells among ``cells``: at 1/3 and 2/3.

    Args:
      cells: the number of cells.

    Returns:
      Ascending positions; equal ones are listed once.

    Example:
      >>> reduction_positions(8), reduction_positions(20)
      ((2, 5), (6, 13))
    """
    return tuple(sorted({cells // 3, 2 * cells // 3}))


def check_images(inputs: Any, multiple: int = 4) -> None:
    """Refuses inputs that the skeletons cannot reduce twice.

    Args:
      inputs: array or shape struct, must be ``[B, H, W, C]`` floating.
      multiple: what height and width must be a multiple of.

    Raises:
      JnasError: rank, size or dtype is wrong.
    """
    from jnas.errors import JnasError

    shape = tuple(inputs.shape)
    if len(shape) != 4:
        raise JnasError(
            f"images must have 4 dimensions [batch, height, width, channels], got "
            f"shape {list(shape)}: add the missing ones, e.g. x[..., None]"
        )
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise JnasError(
            f"images must be floating point inside the network, got {inputs.dtype}: "
            "normalise them first (jnas.data.feed does)"
        )
    height, width = shape[1:3]
    if min(height, width) < 8 or height % multiple or width % multiple:
        raise JnasError(
            f"image height and width must be at least 8 and multiples of {multiple} "
            f"(two reductions), got {height}x{width}: pad or resize the images"
        )


class ResidualBlock(nn.Module):
    """NAS-Bench-201's reduction: two 3x3 convolutions and an average-pooled shortcut.

    Attributes:
      features: output channels; the image is halved.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: str) -> jax.Array:
        """``[B, H, W, C] -> [B, H / 2, W / 2, features]``."""
        y = layers.ReluConvNorm(self.features, 3, 2, affine=True, name="conv_a")(
            x, statistics
        )
        y = layers.ReluConvNorm(self.features, 3, 1, affine=True, name="conv_b")(
            y, statistics
        )
        # A 2x2 average pool with stride 2 is the mean of four strided views.
        pooled = (
            x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]
        ) / 4
        return y + layers.Conv(self.features, 1, name="shortcut")(pooled)


def _classify(x: jax.Array, num_classes: int) -> jax.Array:
    wide = layers.storage_dtype(x.dtype)
    pooled = jnp.mean(x.astype(wide), axis=(1, 2))
    return layers.Dense(num_classes, name="classifier")(pooled)


class DartsSkeleton(nn.Module):
    """Stem, cells with two inputs each, global average pool, linear classifier.

    Attributes:
      make_cell: ``(position, channels, reduction) -> (states, *args) -> output``,
        called inside this module (so that what it builds is named here).
      channels: of the first cells; doubled at each reduction.
      cells: how many.
      num_classes: outputs.
      affine: of the normalisations before each cell.
      dtype: compute dtype.
      imagenet_stem: three stride-2 convolutions instead of one of stride 1.
    """

    make_cell: Callable[[int, int, bool], Callable[..., jax.Array]]
    channels: int
    cells: int
    num_classes: int
    affine: bool
    dtype: Any = jnp.float32
    imagenet_stem: bool = False

    @nn.compact
    def __call__(
        self, images: jax.Array, statistics: str, cell_args: tuple = ()
    ) -> tuple[jax.Array, jax.Array]:
        """Evaluates the network.

        Args:
          images: ``[B, H, W, C]``.
          statistics: "batch" or "running".
          cell_args: further arguments of every cell.

        Returns:
          ``(logits [B, num_classes], output of cell 2 * cells // 3)``; an auxiliary
          classifier reads the latter.
        """
        x = images.astype(self.dtype)
        if self.imagenet_stem:
            earlier, last = self._imagenet_stem(x, statistics)
        else:
            stem = layers.Conv(3 * self.channels, 3, name="stem_conv")(x)
            stem = layers.BatchNorm(True, name="stem_norm")(stem, statistics)
            earlier = last = stem
        channels = self.channels
        reductions = reduction_positions(self.cells)
        middle = last
        reduced_before = self.imagenet_stem
        for position in range(self.cells):
            reduction = position in reductions
            channels *= 2 if reduction else 1
            if reduced_before:
                pre0 = layers.FactorizedReduce(
                    channels, self.affine, name=f"preprocess0_{position}"
                )
            else:
                pre0 = layers.ReluConvNorm(
                    channels, affine=self.affine, name=f"preprocess0_{position}"
                )
            pre1 = layers.ReluConvNorm(
                channels, affine=self.affine, name=f"preprocess1_{position}"
            )
            states = [pre0(earlier, statistics), pre1(last, statistics)]
            cell = self.make_cell(position, channels, reduction)
            earlier, last = last, cell(states, *cell_args)
            reduced_before = reduction
            if position == 2 * self.cells // 3:
                middle = last
        return _classify(last, self.num_classes), middle

    def _imagenet_stem(self, x, statistics):
        half, full = self.channels // 2, self.channels
        y = layers.Conv(half, 3, 2, name="stem0_conv_a")(x)
        y = nn.relu(layers.BatchNorm(True, name="stem0_norm_a")(y, statistics))
        y = layers.Conv(full, 3, 2, name="stem0_conv_b")(y)
        first = layers.BatchNorm(True, name="stem0_norm_b")(y, statistics)
        y = layers.Conv(full, 3, 2, name="stem1_conv")(nn.relu(first))
        return first, layers.BatchNorm(True, name="stem1_norm")(y, statistics)


class StagesSkeleton(nn.Module):
    """Stem, three stages of cells with one input, residual reductions, classifier.

    Attributes:
      make_cell: ``(position, channels, reduction) -> (states, *args) -> output``.
      channels: of the first stage; doubled at each reduction.
      cells_per_stage: cells in each of the three stages.
      num_classes: outputs.
      dtype: compute dtype.
    """

    make_cell: Callable[[int, int, bool], Callable[..., jax.Array]]
    channels: int
    cells_per_stage: int
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, statistics: str, cell_args: tuple = ()
    ) -> tuple[jax.Array, jax.Array]:
        """Evaluates the network; arguments and result as in `DartsSkeleton`."""
        x = images.astype(self.dtype)
        x = layers.Conv(self.channels, 3, name="stem_conv")(x)
        x = layers.BatchNorm(True, name="stem_norm")(x, statistics)
        position = 0
        for stage in range(3):
            channels = self.channels * 2**stage
            if stage:
                x = ResidualBlock(channels, name=f"reduction_{stage}")(x, statistics)
            for _ in range(self.cells_per_stage):
                x = self.make_cell(position, channels, False)([x], *cell_args)
                position += 1
        x = nn.relu(layers.BatchNorm(True, name="last_norm")(x, statistics))
        return _classify(x, self.num_classes), x
