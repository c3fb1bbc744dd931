"""What exported modules of both styles share: which edges count, and their layers."""

from typing import NamedTuple

from jnas.errors import JnasError
from jnas.spaces import Cell, Edge, Genotype
from jnas.supernet import operations

__all__ = ["LAYERS", "Node", "Plan", "check_operations", "edge_name", "plan"]

# name of the operation: class in the templates, window.
LAYERS: dict[str, tuple[str, int | None]] = {
    "sep_conv_3x3": ("SepConv", 3),
    "sep_conv_5x5": ("SepConv", 5),
    "sep_conv_7x7": ("SepConv", 7),
    "dil_conv_3x3": ("DilConv", 3),
    "dil_conv_5x5": ("DilConv", 5),
    "conv_7x1_1x7": ("Conv7x1", None),
    "nor_conv_1x1": ("ReluConvNorm", 1),
    "nor_conv_3x3": ("ReluConvNorm", 3),
}
POOLS = {"max_pool_3x3": "max_pool", "avg_pool_3x3": "avg_pool"}
_PLAIN = ("none", "skip_connect")


class Node(NamedTuple):
    """A node that counts.

    Attributes:
      state: its number.
      edges: (place in the genotype's list, edge) of what is added up.
    """

    state: int
    edges: tuple[tuple[int, Edge], ...]


class Plan(NamedTuple):
    """What of a cell is written out.

    Attributes:
      nodes: in order; those that the output does not depend on are left out.
      inputs: the input states that are read.
      concat: the states of the output.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    concat: tuple[int, ...]


def edge_name(index: int) -> str:
    """The name of an edge's layer in exported modules."""
    return f"edge{index}"


def check_operations(genotype: Genotype) -> None:
    """Refuses operations that exported modules have no layer for.

    Args:
      genotype: a convolutional genotype.

    Raises:
      JnasError: naming the operation.

    Example:
      >>> check_operations(Genotype.parse("DARTS_V2"))
    """
    for name, cell in genotype.cells:
        for index, edge in enumerate(cell.edges):
            operation = edge.operation
            if operation in LAYERS or operation in POOLS or operation in _PLAIN:
                continue
            known = operations.get_operation(operation)  # else close matches
            if isinstance(known, operations.Operation) and known.random:
                raise JnasError(
                    f"operation {operation!r} (edge {index} of cell {name!r}) draws "
                    "random numbers, which exported modules don't: export another "
                    "genotype, or keep using jnas.networks.build"
                )
            raise JnasError(
                f"operation {operation!r} (edge {index} of cell {name!r}) is your own, "
                "and jnas can't write its source: export knows the built-in "
                "operations only; export another genotype, or keep using "
                "jnas.networks.build"
            )


def plan(cell: Cell, inputs: int) -> Plan:
    """What of a cell its output depends on.

    Edges that carry "none" are left out wherever a node has others.

    Args:
      cell: the cell.
      inputs: number of its input states.

    Returns:
      The plan.

    Example:
      >>> edges = (Edge("none", 0, 1), Edge("skip_connect", 0, 1),
      ...          Edge("max_pool_3x3", 0, 2))
      >>> plan(Cell(edges, (1,)), 1).nodes
      (Node(state=1, edges=((1, Edge(operation='skip_connect', source=0, target=1)),)),)
    """
    nodes: list[Node] = []
    wanted = set(cell.concat)
    for state in sorted({edge.target for edge in cell.edges}, reverse=True):
        if state not in wanted:
            continue
        entering = [(i, e) for i, e in enumerate(cell.edges) if e.target == state]
        some = [(i, e) for i, e in entering if e.operation != "none"]
        nodes.append(Node(state, tuple(some or entering[:1])))
        wanted |= {edge.source for _, edge in nodes[-1].edges}
    return Plan(
        tuple(reversed(nodes)),
        tuple(state for state in range(inputs) if state in wanted),
        cell.concat,
    )


def stride(edge: Edge, inputs: int, reduction: bool) -> int:
    """The stride of an edge of a cell."""
    return 2 if reduction and edge.source < inputs else 1


def has_layer(edge: Edge, stride: int) -> bool:
    """Whether an edge has weights."""
    reduces = edge.operation == "skip_connect" and stride == 2
    return reduces or edge.operation in LAYERS


def plain_term(edge: Edge, stride: int) -> str:
    """The expression of an edge without weights."""
    x = f"s{edge.source}"
    if edge.operation in POOLS:
        return f"{POOLS[edge.operation]}({x}{', 2' if stride == 2 else ''})"
    if edge.operation == "none":
        return f"jnp.zeros_like({x}{'[:, ::2, ::2]' if stride == 2 else ''})"
    return x


def is_dropped(edge: Edge, stride: int) -> bool:
    """Whether drop path acts on an edge."""
    return edge.operation in POOLS or has_layer(edge, stride)


def sums(plan: Plan, terms: dict[int, str]) -> list[str]:
    """The lines that add up each node from the expressions of its edges."""
    lines = []
    for node in plan.nodes:
        for number, (index, _) in enumerate(node.edges):
            before = f"s{node.state} + " if number else ""
            lines.append(f"        s{node.state} = {before}{terms[index]}")
    return lines


def output(plan: Plan) -> list[str]:
    """The lines that return the output of a cell."""
    states = [f"s{state}" for state in plan.concat]
    if len(states) == 1:
        return [f"        return {states[0]}"]
    line = f"        return jnp.concatenate([{', '.join(states)}], axis=-1)"
    if len(line) <= 88:
        return [line]
    lines = ["        outputs = []"]
    for start in range(0, len(states), 10):
        lines.append(f"        outputs += [{', '.join(states[start : start + 10])}]")
    return [*lines, "        return jnp.concatenate(outputs, axis=-1)"]


def drop(term: str, index: int, dropped: bool) -> str:
    """Wraps the expression of an edge in drop path."""
    return f"drop({term}, scales, {index})" if dropped else term
