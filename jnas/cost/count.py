"""Parameters and multiply-adds of one final network, and of any tree of arrays."""

import math
from collections.abc import Sequence
from typing import Any

from jnas import errors, spaces
from jnas.cost import macro, operations

__all__ = ["count", "num_parameters"]


def count(
    genotype: spaces.Genotype | str,
    *,
    channels: int,
    cells: int | None = None,
    cells_per_stage: int | None = None,
    num_classes: int = 10,
    image_shape: Sequence[int] | None = None,
    stem: str = "cifar",
    auxiliary: bool = False,
) -> operations.Cost:
    """Exact cost of the final network of a genotype, without building it.

    Args:
      genotype: a genotype, or a text that ``Genotype.parse`` understands.
      channels: width of the first cells.
      cells: number of cells (DARTS).
      cells_per_stage: number of cells in each of three stages (NAS-Bench-201).
      num_classes: number of classes.
      image_shape: height, width, channels; by default (32, 32, 3), with the
        ImageNet stem (224, 224, 3).
      stem: ``"cifar"`` or ``"imagenet"`` (DARTS only).
      auxiliary: whether to add the parameters of the auxiliary classifier. The
        multiply-adds are those of inference, where it is absent, in either case.

    Returns:
      The cost.

    Raises:
      JnasError: if an argument is wrong or an operation's cost is not known.

    Example:
      >>> count("DARTS_V2", channels=36, cells=20)
      Cost(parameters=3349342, multiply_adds=528359050)
    """
    if isinstance(genotype, str):
        genotype = spaces.Genotype.parse(genotype)
    plan = macro.plan(
        {name: len(cell.concat) for name, cell in genotype.cells},
        channels=channels,
        cells=cells,
        cells_per_stage=cells_per_stage,
        num_classes=num_classes,
        image_shape=image_shape,
        stem=stem,
        affine=True,
    )
    if auxiliary and not plan.auxiliary_parameters:
        raise errors.JnasError(
            "auxiliary=True does not apply: the NAS-Bench-201 network has no "
            "auxiliary classifier"
        )
    parameters, multiply_adds = plan.base
    for cell in plan.cells:
        for edge in genotype[cell.group].edges:
            if edge.target < cell.inputs:
                raise errors.JnasError(
                    f"cell {cell.group!r} has an edge into state {edge.target}: "
                    f"states 0..{cell.inputs - 1} of this network's cells are inputs"
                )
            cost = cell.operation_cost(edge.operation, edge.source, affine=True)
            parameters += cost.parameters
            multiply_adds += cost.multiply_adds
    if auxiliary:
        parameters += plan.auxiliary_parameters
    return operations.Cost(parameters, multiply_adds)


def num_parameters(tree: Any) -> int:
    """Number of values in a tree of arrays.

    Args:
      tree: any pytree of arrays or of ``jax.ShapeDtypeStruct``.

    Returns:
      The sum of the sizes of its leaves.

    Raises:
      JnasError: if a leaf has no shape.

    Example:
      >>> import numpy as np
      >>> num_parameters({"kernel": np.zeros((3, 4)), "bias": np.zeros(4)})
      16
    """
    import jax

    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not hasattr(leaf, "shape"):
            raise errors.JnasError(
                f"leaf {jax.tree_util.keystr(path) or 'at the root'} is a "
                f"{type(leaf).__name__}: expected an array or a ShapeDtypeStruct"
            )
        total += math.prod(leaf.shape)
    return total
