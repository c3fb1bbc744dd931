"""Parameters and multiply-adds of one candidate operation, by formula.

Letters: ``C`` channels (every candidate keeps their number), ``k`` kernel size,
``h, w`` the size of the operation's *output*.  Strided convolutions pad
symmetrically, so stride 2 gives ``ceil(h / 2)``.

Convention: multiply-adds are those of convolutions and linear layers, an added bias
counting as one; pooling, batch normalisation, activations and sums are not counted.
This is the convention of NAS-Bench-201 and, up to the classifier's bias, of the
figures printed for networks of the DARTS space.

Sources: Liu et al., DARTS, ICLR 2019 (candidates of the cell space); Dong and Yang,
NAS-Bench-201, ICLR 2020; Zela et al., Understanding and Robustifying Differentiable
Architecture Search, ICLR 2020 (``noise``).
"""

from collections.abc import Callable
from typing import NamedTuple

from jnas import errors

__all__ = ["Cost", "halve", "operation_cost", "operation_names"]

Size = tuple[int, int]


class Cost(NamedTuple):
    """Exact size of a network or of a part of it.

    Attributes:
      parameters: number of trainable weights.
      multiply_adds: multiply-adds of convolutions and linear layers for one image.

    Example:
      >>> Cost(parameters=3, multiply_adds=5) == (3, 5)
      True
    """

    parameters: int
    multiply_adds: int


def halve(size: Size) -> Size:
    """Size after a stride-2 operation with symmetric padding.

    Args:
      size: height and width before.

    Returns:
      Height and width after, each rounded up.

    Example:
      >>> halve((32, 7))
      (16, 4)
    """
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def operation_names() -> tuple[str, ...]:
    """Names of the operations whose cost is known.

    Returns:
      The names, sorted.

    Example:
      >>> "sep_conv_3x3" in operation_names()
      True
    """
    return tuple(sorted(_COSTS))


def operation_cost(
    operation: str, *, channels: int, size: Size, stride: int, affine: bool
) -> Cost:
    """Cost of one candidate operation.

    Args:
      operation: name of the candidate, e.g. ``"sep_conv_3x3"``.
      channels: number of input and output channels.
      size: height and width of the *input*.
      stride: 1 or 2.
      affine: whether batch normalisation has a scale and a shift. Without them the
        convolutions of NAS-Bench-201 have a bias instead.

    Returns:
      The cost.

    Raises:
      JnasError: if the operation is unknown.

    Example:
      >>> operation_cost(
      ...     "sep_conv_3x3", channels=16, size=(32, 32), stride=1, affine=True
      ... )
      Cost(parameters=864, multiply_adds=819200)
    """
    if operation not in _COSTS:
        raise errors.unknown_name("operation", operation, _COSTS)
    return _COSTS[operation](channels, size, stride, affine)


_Formula = Callable[[int, Size, int, bool], Cost]


def _output_area(size: Size, stride: int) -> int:
    height, width = halve(size) if stride == 2 else size
    return height * width


def _free(channels: int, size: Size, stride: int, affine: bool) -> Cost:
    """Operations without weights whose arithmetic is not counted."""
    del channels, size, stride, affine
    return Cost(0, 0)


def _skip_connect(channels: int, size: Size, stride: int, affine: bool) -> Cost:
    """Identity, or two interleaved 1x1 convolutions of half the width at stride 2."""
    if stride == 1:
        return Cost(0, 0)
    weights = channels * channels
    return Cost(weights + 2 * channels * affine, weights * _output_area(size, stride))


def _separable(kernel: int, repeats: int) -> _Formula:
    """Depthwise kxk then pointwise 1x1 then normalisation, ``repeats`` times.

    The stride is taken by the first depthwise convolution, so everything is computed
    at the output's size.
    """

    def cost(channels: int, size: Size, stride: int, affine: bool) -> Cost:
        weights = repeats * (channels * kernel**2 + channels**2)
        scales = repeats * 2 * channels * affine
        return Cost(weights + scales, weights * _output_area(size, stride))

    return cost


def _conv_7x1_1x7(channels: int, size: Size, stride: int, affine: bool) -> Cost:
    """Full (1, 7) then (7, 1) convolution; the first one halves the width only."""
    weights = 7 * channels**2
    between = size[0] * (halve(size)[1] if stride == 2 else size[1])
    return Cost(
        2 * weights + 2 * channels * affine,
        weights * (between + _output_area(size, stride)),
    )


def _nor_conv(kernel: int) -> _Formula:
    """ReLU, kxk convolution, normalisation of NAS-Bench-201."""

    def cost(channels: int, size: Size, stride: int, affine: bool) -> Cost:
        weights = channels**2 * kernel**2
        bias = 0 if affine else channels
        scales = 2 * channels if affine else 0
        return Cost(
            weights + bias + scales, (weights + bias) * _output_area(size, stride)
        )

    return cost


_COSTS: dict[str, _Formula] = {
    "none": _free,
    "noise": _free,
    "max_pool_3x3": _free,
    "avg_pool_3x3": _free,
    "skip_connect": _skip_connect,
    "sep_conv_3x3": _separable(3, repeats=2),
    "sep_conv_5x5": _separable(5, repeats=2),
    "sep_conv_7x7": _separable(7, repeats=2),
    "dil_conv_3x3": _separable(3, repeats=1),
    "dil_conv_5x5": _separable(5, repeats=1),
    "conv_7x1_1x7": _conv_7x1_1x7,
    "nor_conv_1x1": _nor_conv(1),
    "nor_conv_3x3": _nor_conv(3),
}
