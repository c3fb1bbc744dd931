"""Where our trees keep what the reference has per edge."""

from jnas.interop.layouts import Entry
from jnas.spaces import Cell, Group
from jnas.supernet import operations
from jnas.supernet.stacked import operation_rows

__all__ = ["sorted_edges", "stacked_norm", "stacked_rows"]


def stacked_norm(name: str, path: tuple[str, ...], row: int) -> list[Entry]:
    """The running statistics of one row of a supernet's stacked normalisation.

    Args:
      name: of the module in the state dict.
      path: of the operation, and the name of the normalisation.
      row: in our stack.

    Returns:
      Two entries.

    Example:
      >>> stacked_norm("bn", ("cell_0", "skip_connect", "norm"), 0)[0].path
      ('cell_0', 'skip_connect', 'norm_mean')
    """
    *parents, own = path
    return [
        Entry(
            f"{name}.running_{half}",
            "batch_stats",
            (*parents, f"{own}_{half}"),
            row=row,
        )
        for half in ("mean", "var")
    ]


def stacked_rows(
    group: Group, operation: str, channels: int, reduction: bool
) -> dict[int, int]:
    """Which row of an operation's stacked weights belongs to an edge.

    Args:
      group: the cell's graph.
      operation: a built-in operation.
      channels: any number of channels.
      reduction: whether edges from the cell's inputs have stride 2.

    Returns:
      {edge: row}, without the edges where the operation has no weights.

    Example:
      >>> import jnas
      >>> group = jnas.spaces.nasbench201().group("cell")
      >>> stacked_rows(group, "nor_conv_1x1", 4, False)
      {0: 0, 1: 1, 3: 2, 2: 3, 4: 4, 5: 5}
    """
    found = operations.get_operation(operation)
    if not isinstance(found, operations.Operation):
        return {}
    edges = operation_rows(group, operation, channels, reduction).edges
    return {edge: row for row, edge in enumerate(edges)}


def sorted_edges(cell: Cell) -> list[tuple[int, int, str]]:
    """A genotype's edges in the order of the reference's lists, node by node.

    Args:
      cell: of a genotype.

    Returns:
      (place in the genotype, source, operation) of each.

    Example:
      >>> from jnas.spaces import Cell, Edge
      >>> sorted_edges(Cell((Edge("none", 0, 2), Edge("none", 1, 1)), (2,)))
      [(1, 1, 'none'), (0, 0, 'none')]
    """
    order = sorted(range(len(cell.edges)), key=lambda i: cell.edges[i].target)
    return [(i, cell.edges[i].source, cell.edges[i].operation) for i in order]
