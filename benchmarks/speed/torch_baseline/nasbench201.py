"""The NAS-Bench-201 supernet (Dong, Yang, ICLR 2020), dense and as in GDAS."""

import torch
from torch import nn

from torch_baseline.operations import ConvNorm, nasbench201_operation

__all__ = ["OPERATIONS", "Supernet", "gumbel_path", "new_arch"]

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = tuple((node, source) for node in range(1, 4) for source in range(node))


class Cell(nn.Module):
    """Four nodes, each the sum over all before it."""

    def __init__(self, channels: int):
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{node}<-{source}": nn.ModuleList(
                    nasbench201_operation(name, channels) for name in OPERATIONS
                )
                for node, source in EDGES
            }
        )

    def forward(self, x, weights, path=None):
        states = [x]
        for node in range(1, 4):
            terms = []
            for source in range(node):
                edge = EDGES.index((node, source))
                operations = self.edges[f"{node}<-{source}"]
                state = states[source]
                if path is None:
                    outputs = [
                        w * op(state)
                        for w, op in zip(weights[edge], operations, strict=True)
                    ]
                else:
                    # The others enter as their bare weight, which is 0.
                    outputs = [
                        w * op(state) if i == path[edge] else w
                        for i, (w, op) in enumerate(
                            zip(weights[edge], operations, strict=True)
                        )
                    ]
                terms.append(sum(outputs))
            states.append(sum(terms))
        return states[-1]


class ResidualBlock(nn.Module):
    """Halves the resolution between two stages."""

    def __init__(self, inputs: int, channels: int):
        super().__init__()

        def part(inputs, stride):
            conv = nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False)
            return ConvNorm([conv], channels=channels, affine=True)

        self.conv_a, self.conv_b = part(inputs, 2), part(channels, 1)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(inputs, channels, 1, bias=False)
        )

    def forward(self, x):
        return self.downsample(x) + self.conv_b(self.conv_a(x))


class Supernet(nn.Module):
    """Three stages of cells; logits by images.

    Args:
      channels: of the first stage.
      cells_per_stage: how many.
      num_classes: outputs.
    """

    def __init__(self, channels: int, cells_per_stage: int, num_classes: int = 10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.cells = nn.ModuleList()
        for stage in range(3):
            if stage:
                self.cells.append(ResidualBlock(channels, 2 * channels))
                channels *= 2
            self.cells.extend(Cell(channels) for _ in range(cells_per_stage))
        self.lastact = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images, arch, path=None, weights=None):
        """Logits; with a path only its operations are computed."""
        if weights is None:
            weights = torch.softmax(arch[0], dim=-1)
        x = self.stem(images)
        for cell in self.cells:
            x = cell(x, weights, path) if isinstance(cell, Cell) else cell(x)
        return self.classifier(self.lastact(x).mean(dim=(2, 3)))


def gumbel_path(alpha, exponential, tau: float):
    """One candidate of each edge, and weights whose values are its one-hot.

    Args:
      alpha: ``[6, 5]``.
      exponential: standard exponential numbers, likewise.
      tau: the temperature.

    Returns:
      ``(path, weights)``: list of columns; straight-through weights.
    """
    logits = (torch.log_softmax(alpha, dim=-1) - exponential.log()) / tau
    soft = torch.softmax(logits, dim=-1)
    index = soft.argmax(dim=-1, keepdim=True)
    hard = torch.zeros_like(soft).scatter_(-1, index, 1.0)
    return index.flatten().tolist(), hard - soft.detach() + soft


def new_arch() -> list[torch.Tensor]:
    """Alpha of the cells."""
    return [(1e-3 * torch.randn(len(EDGES), len(OPERATIONS))).requires_grad_()]
