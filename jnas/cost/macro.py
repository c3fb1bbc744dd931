"""The networks around the cells: stems, preprocessing, reductions, classifiers.

A network is a base (everything that does not depend on the selected operations) and
a sequence of cells; ``plan`` returns the exact cost of the base and, for each cell,
the width and the size at which its operations work.

Two outer networks are known, recognised by their groups: that of DARTS (groups
``normal`` and ``reduce``, also for spaces with other candidates or more nodes, or
``normal`` alone, where the reduction cells are fixed and belong to the base) and that
of NAS-Bench-201 (one group ``cell``).

Sources: Liu et al., DARTS, ICLR 2019, section 3 and appendix A; Dong and Yang,
NAS-Bench-201, ICLR 2020, section 2.1; Dong and Yang, Searching for a Robust Neural
Architecture in Four GPU Hours, CVPR 2019 (the fixed reduction cell, counted in groups,
as it is published: 8, or as many as divide 8 and the channels).
"""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jnas import errors
from jnas.cost import operations

__all__ = ["CellPlan", "Plan", "plan"]

STEMS = ("cifar", "imagenet")


class CellPlan(NamedTuple):
    """Where one cell of a network works.

    Attributes:
      group: name of the cell's group of choices.
      channels: width of its operations.
      size: height and width of its inputs after preprocessing.
      inputs: number of input states; edges from them are strided in a reduction.
      stride: stride of the edges that leave an input state.

    Example:
      >>> CellPlan("cell", channels=16, size=(32, 32), inputs=1, stride=1).channels
      16
    """

    group: str
    channels: int
    size: operations.Size
    inputs: int
    stride: int

    def operation_cost(
        self, operation: str, source: int, *, affine: bool
    ) -> operations.Cost:
        """Cost of an operation on an edge that leaves state ``source``."""
        from_input = source < self.inputs
        return operations.operation_cost(
            operation,
            channels=self.channels,
            size=self.size if from_input or self.stride == 1 else self.output_size,
            stride=self.stride if from_input else 1,
            affine=affine,
        )

    @property
    def output_size(self) -> operations.Size:
        """Height and width of the cell's nodes."""
        return operations.halve(self.size) if self.stride == 2 else self.size


class Plan(NamedTuple):
    """A network without the operations of its cells.

    Attributes:
      base: cost of everything but the selected operations and the auxiliary head.
      cells: one entry for each cell, in order.
      auxiliary_parameters: weights of the auxiliary classifier, which is used in
        training only (0 if the outer network has none).

    Example:
      >>> Plan(operations.Cost(1, 2), cells=(), auxiliary_parameters=0).base.parameters
      1
    """

    base: operations.Cost
    cells: tuple[CellPlan, ...]
    auxiliary_parameters: int


def plan(
    concat: Mapping[str, int],
    *,
    channels: int,
    cells: int | None,
    cells_per_stage: int | None,
    num_classes: int,
    image_shape: Sequence[int] | None,
    stem: str,
    affine: bool,
) -> Plan:
    """Lays out the network of a space or of a genotype.

    Args:
      concat: number of states that the cells of each group put out (concatenated).
      channels: width of the first cells.
      cells: number of cells of a DARTS network.
      cells_per_stage: number of cells in each of the three stages of NAS-Bench-201.
      num_classes: number of classes.
      image_shape: height, width, channels; by default those of the stem's data set.
      stem: ``"cifar"``, or ``"imagenet"`` (DARTS only: three strided convolutions).
      affine: whether batch normalisation in cells has a scale and a shift.

    Returns:
      The plan.

    Raises:
      JnasError: if an argument is out of range or the outer network is unknown.

    Example:
      >>> plan({"cell": 1}, channels=16, cells=None, cells_per_stage=5,
      ...      num_classes=10, image_shape=None, stem="cifar", affine=True).base
      Cost(parameters=73306, multiply_adds=7783050)
    """
    if stem not in STEMS:
        raise errors.unknown_name("stem", stem, STEMS)
    if image_shape is None:
        image_shape = (224, 224, 3) if stem == "imagenet" else (32, 32, 3)
    try:
        shape = tuple(image_shape)
    except TypeError:
        shape = ()
    if len(shape) != 3:
        raise errors.JnasError(
            f"image_shape must be (height, width, channels), got {image_shape!r}: "
            "use e.g. (32, 32, 3)"
        )
    shape = tuple(
        _positive(f"image_shape's {name}", value)
        for name, value in zip(("height", "width", "channels"), shape, strict=True)
    )
    channels = _positive("channels", channels)
    num_classes = _positive("num_classes", num_classes)
    if set(concat) in ({"normal", "reduce"}, {"normal"}):
        count = _only("cells", cells, "cells_per_stage", cells_per_stage, "DARTS")
        return _darts(concat, channels, count, num_classes, shape, stem, affine)
    if set(concat) == {"cell"}:
        name = "NAS-Bench-201"
        count = _only("cells_per_stage", cells_per_stage, "cells", cells, name)
        if concat["cell"] != 1:
            raise errors.JnasError(
                f"a cell of a {name} network puts out one state, got a concatenation "
                f"of {concat['cell']}"
            )
        if stem != "cifar":
            raise errors.JnasError(
                f"stem must be 'cifar' for a {name} network, got {stem!r}: its paper "
                "defines no other"
            )
        return _nasbench201(channels, count, num_classes, shape)
    raise errors.JnasError(
        f"no outer network is known for groups {sorted(concat)}: expected "
        "['normal', 'reduce'] or ['normal'] (DARTS) or ['cell'] (NAS-Bench-201)"
    )


def _positive(name: str, value: object) -> int:
    """Checks a count; numpy integers are welcome, booleans are mistakes."""
    try:
        number = operator.index(value)  # pyrefly: ignore
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise errors.JnasError(
            f"{name} must be an integer >= 1, got {value!r}: use e.g. 16"
        )
    if number < 1:
        raise errors.JnasError(
            f"{name} must be an integer >= 1, got {number}: use a positive number"
        )
    return number


def _only(
    needed: str, value: int | None, other: str, unwanted: int | None, network: str
) -> int:
    """Checks that the depth is given in the words of this kind of network."""
    if value is None:
        raise errors.JnasError(
            f"{needed} is missing: the depth of a {network} network is given by "
            f"{needed}=..."
        )
    if unwanted is not None:
        raise errors.JnasError(
            f"{other}={unwanted!r} does not apply to a {network} network: give "
            f"{needed} alone"
        )
    return _positive(needed, value)


class _Base:
    """Adds up layers outside the choices."""

    def __init__(self) -> None:
        self.parameters = 0
        self.multiply_adds = 0

    def conv(
        self, sources: int, targets: int, kernel: int, size: operations.Size
    ) -> None:
        """Convolution without bias; ``size`` is that of its output."""
        weights = sources * targets * kernel**2
        self.parameters += weights
        self.multiply_adds += weights * size[0] * size[1]

    def norm(self, channels: int) -> None:
        self.parameters += 2 * channels

    def linear(self, sources: int, targets: int) -> None:
        weights = sources * targets + targets
        self.parameters += weights
        self.multiply_adds += weights

    def cost(self) -> operations.Cost:
        return operations.Cost(self.parameters, self.multiply_adds)


def _darts(
    concat: Mapping[str, int],
    channels: int,
    num_cells: int,
    num_classes: int,
    image_shape: Sequence[int],
    stem: str,
    affine: bool,
) -> Plan:
    base = _Base()
    size, colours = (image_shape[0], image_shape[1]), image_shape[2]
    if stem == "cifar":
        # the stem's normalisation is affine even in search
        previous = before = 3 * channels
        base.conv(colours, previous, 3, size)
        base.norm(previous)
    else:
        if channels % 2:
            raise errors.JnasError(
                f"channels must be even with the imagenet stem, got {channels}: its "
                "first convolution has half of them"
            )
        previous = before = channels
        for sources, targets in (
            (colours, channels // 2),
            (channels // 2, channels),
            (channels, channels),
        ):
            size = operations.halve(size)
            base.conv(sources, targets, 3, size)
            base.norm(targets)
    cells = []
    auxiliary = _Base()
    for index in range(num_cells):
        is_reduction = index in (num_cells // 3, 2 * num_cells // 3)
        if is_reduction:
            channels *= 2
        # both preprocessing layers give states of the size of the newer one: the
        # older one, if larger, goes through a factorized reduction of equal cost
        for sources in (before, previous):
            base.conv(sources, channels, 1, size)
            if affine:
                base.norm(channels)
        group = "reduce" if is_reduction else "normal"
        cell = CellPlan(group, channels, size, 2, 2 if is_reduction else 1)
        if group in concat:
            cells.append(cell)
        else:
            _fixed_reduction(base, channels, size, affine)
        before, previous = previous, concat.get(group, _FIXED_STATES) * channels
        size = cell.output_size
        if index == 2 * num_cells // 3:
            _auxiliary_head(auxiliary, previous, num_classes, stem)
    base.linear(previous, num_classes)
    return Plan(base.cost(), tuple(cells), auxiliary.parameters)


_FIXED_STATES = 4  # in the output of a fixed reduction cell


def _fixed_reduction(
    base: _Base, channels: int, size: operations.Size, affine: bool
) -> None:
    """1x3, 3x1 and 1x1 convolutions of both inputs; max pools."""
    down = operations.halve(size)
    inside = channels // math.gcd(8, channels)  # channels of a group
    for _ in range(2):
        base.conv(3 * inside, channels, 1, (size[0], down[1]))
        base.conv(3 * inside, channels, 1, down)
        base.conv(channels, channels, 1, down)
    if affine:
        for _ in range(6):
            base.norm(channels)


def _auxiliary_head(head: _Base, sources: int, num_classes: int, stem: str) -> None:
    head.conv(sources, 128, 1, (1, 1))
    head.norm(128)
    head.conv(128, 768, 2, (1, 1))
    if stem == "cifar":
        # the ImageNet head of the reference has no second normalisation
        head.norm(768)
    head.linear(768, num_classes)


def _nasbench201(
    channels: int, cells_per_stage: int, num_classes: int, image_shape: Sequence[int]
) -> Plan:
    base = _Base()
    size = (image_shape[0], image_shape[1])
    base.conv(image_shape[2], channels, 3, size)
    base.norm(channels)
    cells = []
    for stage in range(3):
        if stage:
            # residual block: two 3x3 convolutions and a pooled 1x1 shortcut
            size = operations.halve(size)
            base.conv(channels, 2 * channels, 3, size)
            base.norm(2 * channels)
            base.conv(2 * channels, 2 * channels, 3, size)
            base.norm(2 * channels)
            base.conv(channels, 2 * channels, 1, size)
            channels *= 2
        cells += [CellPlan("cell", channels, size, 1, 1)] * cells_per_stage
    base.norm(channels)
    base.linear(channels, num_classes)
    return Plan(base.cost(), tuple(cells), 0)
