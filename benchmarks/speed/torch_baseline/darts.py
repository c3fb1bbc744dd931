"""The DARTS supernet: Liu, Simonyan, Yang, ICLR 2019."""

import torch
from torch import nn

from torch_baseline.operations import ConvNorm, FactorizedReduce, darts_operation

__all__ = ["OPERATIONS", "Supernet", "new_arch"]

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = 4
EDGES = sum(2 + node for node in range(NODES))


def pointwise(inputs: int, channels: int) -> ConvNorm:
    """ReLU, 1x1 convolution, norm."""
    convolution = nn.Conv2d(inputs, channels, 1, bias=False)
    return ConvNorm([convolution], channels=channels, affine=False)


class MixedOperation(nn.Module):
    """All candidates of an edge, weighted."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self._ops = nn.ModuleList(
            darts_operation(name, channels, stride) for name in OPERATIONS
        )

    def forward(self, x, weights):
        return sum(w * op(x) for w, op in zip(weights, self._ops, strict=True))


class Cell(nn.Module):
    """Two inputs, four nodes that sum over all states before them."""

    def __init__(self, before: int, last: int, channels: int, reduction, reduced):
        super().__init__()
        self.reduction = reduction
        self.preprocess0 = (
            FactorizedReduce(before, channels, affine=False)
            if reduced
            else pointwise(before, channels)
        )
        self.preprocess1 = pointwise(last, channels)
        self._ops = nn.ModuleList(
            MixedOperation(channels, 2 if reduction and source < 2 else 1)
            for node in range(NODES)
            for source in range(2 + node)
        )

    def forward(self, before, last, weights):
        states = [self.preprocess0(before), self.preprocess1(last)]
        edge = 0
        for _ in range(NODES):
            terms = []
            for state in states:
                terms.append(self._ops[edge](state, weights[edge]))
                edge += 1
            states.append(sum(terms))
        return torch.cat(states[-NODES:], dim=1)


class Supernet(nn.Module):
    """Cells of which those at one and two thirds reduce; logits by images.

    Args:
      channels: of the first cells; the stem has three times as many.
      cells: how many.
      num_classes: outputs.
    """

    def __init__(self, channels: int, cells: int, num_classes: int = 10):
        super().__init__()
        width = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        self.cells = nn.ModuleList()
        before, last, reduced = width, width, False
        for position in range(cells):
            reduction = position in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            self.cells.append(Cell(before, last, channels, reduction, reduced))
            before, last, reduced = last, NODES * channels, reduction
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, images, arch):
        """Logits; arch is alpha of the normal and of the reduction cells."""
        normal, reduce = (torch.softmax(alpha, dim=-1) for alpha in arch)
        before = last = self.stem(images)
        for cell in self.cells:
            weights = reduce if cell.reduction else normal
            before, last = last, cell(before, last, weights)
        return self.classifier(last.mean(dim=(2, 3)))


def new_arch() -> list[torch.Tensor]:
    """Alpha of the normal and the reduction cells."""
    return [
        (1e-3 * torch.randn(EDGES, len(OPERATIONS))).requires_grad_() for _ in range(2)
    ]
