"""The cost of every candidate operation of a space, in every cell of its network.

The cost of a network is that of a base plus the sum of the costs of its selected
operations, so under a mixture it is a linear function of the mixture's weights:
``CostTable.expected`` is exact, differentiable, and free of any latency model.

Letters: ``N`` candidates, ``L`` genes, ``E`` edges, ``O`` operations of a group,
``cells`` the number of cells of that group.  Sources and the convention for
multiply-adds are those of ``jnas.cost.operations``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jnas import errors, spaces
from jnas.cost import macro

__all__ = ["CostTable", "count_genes", "operation_costs", "supernet_parameters"]

Weights = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class CostTable:
    """Costs of a space's network, split by choice.

    Attributes:
      base_parameters: weights that do not depend on the choices.
      base_multiply_adds: multiply-adds that do not depend on the choices.
      parameters: for each group an int64 array ``[cells, E, O]``.
      multiply_adds: the same for multiply-adds.

    Example:
      >>> table = operation_costs("nasbench201", channels=16, cells_per_stage=5)
      >>> table.base_parameters, table.parameters["cell"].shape
      (73306, (15, 6, 5))
    """

    base_parameters: int
    base_multiply_adds: int
    parameters: dict[str, np.ndarray]
    multiply_adds: dict[str, np.ndarray]

    def expected(self, weights: Weights) -> tuple[Any, Any]:
        """Cost under a mixture: the base plus the weighted sum of the choices.

        Pure arithmetic, so it may be differentiated, vmapped and jitted when the
        weights are jax arrays (float32 then, good to about seven digits). With numpy
        weights the sum is in float64 and with integers exact.

        Args:
          weights: for each group an array ``[E, O]``, or ``[cells, E, O]`` where the
            cells differ: probabilities, a sample, or a genotype's ``one_hot``.

        Returns:
          Parameters and multiply-adds, scalars.

        Raises:
          JnasError: if groups or shapes are not those of the space.

        Example:
          >>> table = operation_costs("nasbench201", channels=16, cells_per_stage=5)
          >>> table.expected({"cell": np.full((6, 5), 0.2)})
          (np.float64(398554.0), np.float64(54968970.0))
        """
        if set(weights) != set(self.parameters):
            raise errors.JnasError(
                f"weights are for groups {sorted(weights)}, expected "
                f"{sorted(self.parameters)}: give one array for each group"
            )
        totals: list[Any] = [0, 0]
        for group in self.parameters:
            # numpy arrays and plain lists are summed in numpy, all else by itself
            values = weights[group]
            if not hasattr(values, "dtype") or isinstance(values, np.ndarray):
                values = np.asarray(values)
                if np.issubdtype(values.dtype, np.floating):
                    values = values.astype(np.float64)
            for index, costs in enumerate(
                (self.parameters[group], self.multiply_adds[group])
            ):
                totals[index] = totals[index] + _weighted(group, values, costs)
        bases: list[Any] = [self.base_parameters, self.base_multiply_adds]
        if not isinstance(totals[0], np.generic):
            # beside other arrays an int may be too large for 32 bits
            bases = [float(constant) for constant in bases]
        return bases[0] + totals[0], bases[1] + totals[1]


def _weighted(group: str, values: Any, costs: np.ndarray) -> Any:
    shape = tuple(values.shape)
    if shape == costs.shape[1:]:
        costs = costs.sum(axis=0)
    elif shape != costs.shape:
        raise errors.JnasError(
            f"weights of group {group!r} have shape {shape}: expected "
            f"{costs.shape[1:]} (edges, operations) or {costs.shape} (cells first)"
        )
    if isinstance(values, np.ndarray):
        return (values * costs).sum()
    # as int64 the costs would be cut to int32 where jax has no 64-bit numbers
    wide = np.float64 if values.dtype == np.float64 else np.float32
    return (values.astype(wide) * costs.astype(wide)).sum()


def operation_costs(
    space: str | spaces.Space,
    *,
    channels: int,
    cells: int | None = None,
    cells_per_stage: int | None = None,
    num_classes: int = 10,
    image_shape: Sequence[int] | None = None,
    stem: str = "cifar",
    affine: bool = True,
) -> CostTable:
    """Costs of all candidate operations of a space in its network.

    Where edges are optional, nodes without edges are left out of a genotype's output,
    which makes the base smaller; the table does not know of that, `count` does.

    Args:
      space: a space or its name.
      channels: width of the first cells.
      cells: number of cells (DARTS).
      cells_per_stage: number of cells in each of three stages (NAS-Bench-201).
      num_classes: number of classes.
      image_shape: height, width, channels; by default (32, 32, 3), with the
        ImageNet stem (224, 224, 3).
      stem: ``"cifar"`` or ``"imagenet"`` (DARTS only).
      affine: True for final networks, False for supernets, whose cells normalise
        without scale and shift.

    Returns:
      The table.

    Raises:
      JnasError: if an argument is wrong.

    Example:
      >>> table = operation_costs("darts", channels=16, cells=8, affine=False)
      >>> table.parameters["reduce"].shape
      (2, 14, 8)
    """
    space = _space(space)
    plan = macro.plan(
        {group.name: len(group.concat) for group in space.groups},
        channels=channels,
        cells=cells,
        cells_per_stage=cells_per_stage,
        num_classes=num_classes,
        image_shape=image_shape,
        stem=stem,
        affine=affine,
    )
    parameters, multiply_adds = {}, {}
    for group in space.groups:
        mine = [cell for cell in plan.cells if cell.group == group.name]
        if any(cell.inputs != group.inputs for cell in mine):
            raise errors.JnasError(
                f"group {group.name!r} has {group.inputs} input states: cells of this "
                f"network have {mine[0].inputs}"
            )
        shape = (len(mine), group.num_edges, group.num_operations)
        costs = np.array(
            [
                cell.operation_cost(operation, source, affine=affine)
                for cell in mine
                for source, _ in group.edges
                for operation in group.operations
            ],
            np.int64,
        ).reshape(*shape, 2)
        # what an edge can't choose is in no network, nor in the supernet
        costs *= group.allowed[..., None]
        parameters[group.name] = costs[..., 0]
        multiply_adds[group.name] = costs[..., 1]
    return CostTable(
        plan.base.parameters, plan.base.multiply_adds, parameters, multiply_adds
    )


def supernet_parameters(space: str | spaces.Space, **network: Any) -> int:
    """Number of weights of a supernet that holds every candidate operation.

    Args:
      space: a space or its name.
      **network: as for ``operation_costs``, without ``affine``.

    Returns:
      The number of weights, architecture parameters not included.

    Raises:
      JnasError: if an argument is wrong.

    Example:
      >>> supernet_parameters("darts", channels=16, cells=8)
      1930618
    """
    table = operation_costs(space, affine=False, **network)
    return table.base_parameters + sum(
        int(costs.sum()) for costs in table.parameters.values()
    )


def count_genes(
    space: str | spaces.Space, genes: np.ndarray | Sequence[Any], **network: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Costs of many candidates at once.

    Args:
      space: a space or its name.
      genes: integers ``[N, L]`` in the range of ``space.genes``.
      **network: as for ``operation_costs``.

    Returns:
      Parameters and multiply-adds, int64 ``[N]`` each.

    Raises:
      JnasError: if the genes are not valid or an argument is wrong.

    Example:
      >>> genes = [[0, 0, 0, 0, 0, 0], [3, 3, 3, 3, 3, 3]]
      >>> count_genes("nasbench201", genes, channels=16, cells_per_stage=5)[0]
      array([  73306, 1531546])
    """
    space = _space(space)
    table = operation_costs(space, **network)
    rows = np.asarray(genes)
    length = len(space.genes)
    if rows.ndim != 2 or rows.shape[1] != length or rows.dtype.kind not in "iu":
        raise errors.JnasError(
            f"genes must be integers of shape [N, {length}] for space "
            f"{space.name!r}, got {rows.dtype} {list(rows.shape)}"
        )
    wrong = np.argwhere((rows < 0) | (rows >= np.asarray(space.genes)))
    if len(wrong):
        row, gene = wrong[0]
        raise errors.JnasError(
            f"genes[{row}, {gene}] is {rows[row, gene]}: expected 0 to "
            f"{space.genes[gene] - 1} in space {space.name!r}"
        )
    parameters = np.full(len(rows), table.base_parameters, np.int64)
    multiply_adds = np.full(len(rows), table.base_multiply_adds, np.int64)
    per_choice = {
        group: (table.parameters[group].sum(0), table.multiply_adds[group].sum(0))
        for group in table.parameters
    }
    for group, edge, operation in _picks(space, rows):
        parameters += per_choice[group][0][edge, operation]
        multiply_adds += per_choice[group][1][edge, operation]
    return parameters, multiply_adds


def _picks(
    space: spaces.Space, rows: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Reads genes as choices: group, edge ``[N]``, operation ``[N]``."""
    for index, slot in space.slots:
        for edge, operation in slot.columns(rows):
            yield space.groups[index].name, edge, operation


def _space(space: str | spaces.Space) -> spaces.Space:
    return spaces.get(space) if isinstance(space, str) else space
