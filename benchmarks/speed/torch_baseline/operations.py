"""Candidate operations of both spaces, channels first."""

import torch
from torch import nn

__all__ = ["darts_operation", "nasbench201_operation"]


class Zero(nn.Module):
    """Zeros, computed from the input as the published modules do."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class ConvNorm(nn.Module):
    """ReLU, convolutions, batch norm: one or several after another.

    Args:
      *parts: of each: list of convolutions (a depthwise one and a pointwise one, say).
      channels: of the output.
      affine: whether the norms scale and shift.
    """

    def __init__(self, *parts: list[nn.Conv2d], channels: int, affine: bool):
        super().__init__()
        layers: list[nn.Module] = []
        for convolutions in parts:
            norm = nn.BatchNorm2d(channels, affine=affine)
            layers += [nn.ReLU(), *convolutions, norm]
        self.op = nn.Sequential(*layers)

    def forward(self, x):
        return self.op(x)


class FactorizedReduce(nn.Module):
    """Stride 2 by two pointwise convolutions of pixels that alternate."""

    def __init__(self, inputs: int, channels: int, affine: bool):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(inputs, channels // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, channels // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x):
        x = self.relu(x)
        halves = [self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])]
        return self.bn(torch.cat(halves, dim=1))


def separable(channels: int, kernel: int, stride: int, dilation: int = 1):
    """A depthwise and a pointwise convolution."""
    depthwise = nn.Conv2d(
        channels,
        channels,
        kernel,
        stride=stride,
        padding=dilation * (kernel - 1) // 2,
        dilation=dilation,
        groups=channels,
        bias=False,
    )
    return [depthwise, nn.Conv2d(channels, channels, 1, bias=False)]


def pool(kind: str, stride: int) -> nn.Module:
    """A 3x3 pool that ignores the padding."""
    if kind == "max":
        return nn.MaxPool2d(3, stride=stride, padding=1)
    return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)


def darts_operation(name: str, channels: int, stride: int) -> nn.Module:
    """A candidate of the DARTS space, norms without scale and shift."""
    kind, _, size = name.partition("_conv_")
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        if stride == 1:
            return nn.Identity()
        return FactorizedReduce(channels, channels, affine=False)
    if name.endswith("pool_3x3"):
        norm = nn.BatchNorm2d(channels, affine=False)
        return nn.Sequential(pool(name[:3], stride), norm)
    kernel = int(size[0])
    if kind == "sep":
        parts = [separable(channels, kernel, stride), separable(channels, kernel, 1)]
    else:
        parts = [separable(channels, kernel, stride, dilation=2)]
    return ConvNorm(*parts, channels=channels, affine=False)


def nasbench201_operation(name: str, channels: int) -> nn.Module:
    """A candidate of the NAS-Bench-201 space, norms without scale and shift."""
    if name == "none":
        return Zero(1)
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return pool("avg", 1)
    kernel = int(name[-1])
    # Where norms don't shift, the convolutions have a bias, as published.
    conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=True)
    return ConvNorm([conv], channels=channels, affine=False)
