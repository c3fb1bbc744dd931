"""Edges and cells: the plain pieces that a genotype is made of, and their checks.

States of a cell are numbered: its inputs first, then its nodes in order. An edge
carries one operation from a state to a later one.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jnas import errors

__all__ = [
    "MAX_STATES",
    "Cell",
    "Edge",
    "checked",
    "checked_cell",
    "sequence",
    "shown",
    "state",
]

# Far above any published cell; it stops a damaged file from asking for gigabytes.
MAX_STATES = 10_000


class Edge(NamedTuple):
    """One operation between two states of a cell.

    Attributes:
      operation: name of the operation.
      source: number of the state that it reads.
      target: number of the node that it feeds, greater than ``source``.

    Example:
      >>> Edge("skip_connect", source=0, target=2)
      Edge(operation='skip_connect', source=0, target=2)
    """

    operation: str
    source: int
    target: int


class Cell(NamedTuple):
    """The edges of one cell and the states that make its output.

    Attributes:
      edges: the edges in the order in which they were listed.
      concat: the states that are concatenated (or, if one, taken) as the output.

    Example:
      >>> Cell((Edge("skip_connect", 0, 1),), concat=(1,)).concat
      (1,)
    """

    edges: tuple[Edge, ...]
    concat: tuple[int, ...]


def state(value: object, what: str) -> int:
    """Returns `value` as a state number.

    Args:
      value: an integer of Python or NumPy, 0 <= value < `MAX_STATES`.
      what: what it is, for the message.

    Returns:
      The number as an int.

    Raises:
      JnasError: if it is not such a number.

    Example:
      >>> state(3, "source")
      3
    """
    if type(value) is not int:
        try:
            if isinstance(value, bool):
                raise TypeError
            value = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            raise errors.JnasError(
                f"{what} must be a state number, got {shown(value)}: use an integer"
            ) from None
    if not 0 <= value < MAX_STATES:
        raise errors.JnasError(
            f"{what} must be in 0..{MAX_STATES - 1}, got {shown(value)}: "
            "states are numbered from 0"
        )
    return value


def checked(
    cells: Iterable[tuple[str, Cell]],
) -> tuple[tuple[str, Cell], ...]:
    """Returns the cells with every part checked and in its hashable type.

    Args:
      cells: pairs (name, (edges, concat)); edges are (operation, source, target).

    Returns:
      The same cells made of tuples, `Edge` and `Cell`.

    Raises:
      JnasError: naming the cell and the part that is wrong.

    Example:
      >>> checked([["cell", Cell([Edge("none", 0, 1)], [1])]])[0][1].concat
      (1,)
    """
    result = []
    for pair in sequence(cells, "cells", "pairs (name, cell)"):
        name, cell = sequence(pair, "a named cell", "(name, cell)", 2)
        if not isinstance(name, str) or not name or not name.isprintable():
            raise errors.JnasError(
                f"a cell's name must be printable text, got {shown(name)}"
            )
        if any(name == other for other, _ in result):
            raise errors.JnasError(f"cell {shown(name)} is given twice: name it once")
        edges, concat = sequence(cell, f"cell {name!r}", "(edges, concat)", 2)
        result.append((name, checked_cell(name, edges, concat)))
    if not result:
        raise errors.JnasError("a genotype needs at least one cell, got none")
    return tuple(result)


def shown(value: object) -> str:
    """Returns a short, one-line repr of anything, for messages.

    Example:
      >>> shown("x" * 100)[-8:]
      "xxxx'..."
    """
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else f"{value[:60]!r}..."
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # an int of more than 4,300 digits, say
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= 60 else f"{text[:60]}..."


def sequence(
    value: object,
    what: str,
    expected: str = "a list or tuple",
    length: int | None = None,
) -> Sequence:
    """Returns `value` if it is a list or tuple (of the given length).

    Args:
      value: what the user gave.
      what: what it is, for the message.
      expected: how it should look, for the message.
      length: its length, if that is fixed.

    Returns:
      The value.

    Raises:
      JnasError: if it is anything else.

    Example:
      >>> sequence([1, 2], "an edge", "(source, target)", 2)
      [1, 2]
    """
    if not isinstance(value, (list, tuple)) or (
        length is not None and len(value) != length
    ):
        raise errors.JnasError(f"{what} must be {expected}, got {shown(value)}")
    return value


def checked_cell(name: str, edges: object, concat: object) -> Cell:
    """Returns one cell with every part checked and in its hashable type.

    Args:
      name: its name, for messages.
      edges: a list or tuple of (operation, source, target).
      concat: a list or tuple of state numbers.

    Returns:
      The cell.

    Raises:
      JnasError: naming the part that is wrong.

    Example:
      >>> checked_cell("cell", [("none", 0, 1)], [1])
      Cell(edges=(Edge(operation='none', source=0, target=1),), concat=(1,))
    """
    result = []
    for i, edge in enumerate(sequence(edges, f"cell {name!r}", "a list of edges")):
        what = f"cell {name!r} edge {i}"
        operation, source, target = sequence(
            edge, what, "(operation, source, target)", 3
        )
        if (
            not isinstance(operation, str)
            or not operation
            or not operation.isprintable()
        ):
            raise errors.JnasError(
                f"{what}: an operation must be printable text, got {shown(operation)}"
            )
        source = state(source, f"{what}: source")
        target = state(target, f"{what}: target")
        if source >= target:
            raise errors.JnasError(
                f"{what}: wrong source {source} of node {target}: "
                f"expected 0..{target - 1}, a node reads earlier states"
                if target
                else f"{what}: wrong target 0: state 0 is an input of the cell"
            )
        result.append(Edge(operation, source, target))
    if not result:
        raise errors.JnasError(f"cell {name!r} needs at least one edge, got none")
    what = f"cell {name!r} concat"
    outputs = tuple(
        state(number, what) for number in sequence(concat, what, "a list of states")
    )
    last = max(edge.target for edge in result)
    if not outputs or len(set(outputs)) != len(outputs) or max(outputs) > last:
        raise errors.JnasError(
            f"{what} must list distinct states of 0..{last}, got {shown(list(outputs))}"
        )
    return Cell(tuple(result), outputs)
