"""The auxiliary classifier that helps to train deep networks of DARTS' family.

It reads the output of cell ``2 * cells // 3``: ReLU, 5x5 average pool, 1x1 convolution
to 128, norm, ReLU, 2x2 convolution to 768, norm, ReLU, linear. As in the authors' code
(Liu et al., ICLR 2019) the ImageNet head pools with stride 2 and lacks the second norm.

Deviations: images larger than the authors' (32x32 and 224x224) leave several positions
after the second convolution; their mean is classified, where the authors' code fails.
The code's in-place ReLU, which rewrites the cell's output, is not repeated; it changed
nothing unless that cell is the network's last.
"""

from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import lax

from jnas.errors import JnasError
from jnas.supernet import initial, layers

__all__ = ["AuxiliaryHead", "check_size"]

_POOL = 5
_HIDDEN, _WIDE = 128, 768
# Of the pool: images of 32x32 (224x224) are 8x8 (7x7) here, and 2x2 after it.
_STRIDE = {"cifar": 3, "imagenet": 2}
_REDUCED = {"cifar": 4, "imagenet": 32}


def check_size(height: int, width: int, stem: str) -> None:
    """Refuses images that are too small to reach the end of the head.

    Args:
      height: of the network's input images.
      width: likewise.
      stem: "cifar" or "imagenet".

    Raises:
      JnasError: with the smallest size.

    Example:
      >>> check_size(32, 32, "cifar")
    """
    least = (_POOL + _STRIDE[stem]) * _REDUCED[stem]
    if min(height, width) < least:
        raise JnasError(
            f"the auxiliary head needs images of at least {least}x{least}, got "
            f"{height}x{width}: enlarge the images or build with auxiliary=False"
        )


class AuxiliaryHead(nn.Module):
    """The head; see the module's text.

    Attributes:
      num_classes: outputs.
      stem: "cifar" or "imagenet".
    """

    num_classes: int
    stem: str = "cifar"

    @nn.compact
    def __call__(self, x: jax.Array, statistics: str) -> jax.Array:
        """``[B, H, W, C] -> [B, num_classes]``."""
        stride, dtype = _STRIDE[self.stem], layers.storage_dtype(x.dtype)
        window, strides = (1, _POOL, _POOL, 1), (1, stride, stride, 1)
        zero = np.zeros((), x.dtype)
        x = lax.reduce_window(nn.relu(x), zero, lax.add, window, strides, "VALID")
        x = layers.Conv(_HIDDEN, 1, name="conv_a")(x / _POOL**2)
        x = nn.relu(layers.BatchNorm(name="norm_a")(x, statistics))
        init = initial.fan_in_uniform(4 * _HIDDEN)
        kernel: Any = self.param("conv_b", init, (2, 2, _HIDDEN, _WIDE), dtype)
        # Not `kernels.conv`, which pads windows of odd size.
        layout = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(
            x, kernel.astype(x.dtype), (1, 1), "VALID", dimension_numbers=layout
        )
        if self.stem == "cifar":
            x = layers.BatchNorm(name="norm_b")(x, statistics)
        x = nn.relu(x).astype(dtype).mean((1, 2))
        return layers.Dense(self.num_classes, name="classifier")(x)
