"""The text form of recurrent cells in DARTS' code.

``Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ...], concat=range(1, 9))``: one
operation and one source per node, in node order; state 0 is computed from the cell's
inputs. (Liu et al., DARTS: Differentiable Architecture Search, ICLR 2019, section 3.2.)
"""

import re

from jnas import errors
from jnas.spaces import calls, cells

__all__ = ["OPERATIONS", "begins", "read", "write"]

Cells = tuple[tuple[str, cells.Cell], ...]

# The candidates of the search space, in the order of its arch columns.
OPERATIONS = ("none", "tanh", "relu", "sigmoid", "identity")
_FIELDS = ("recurrent", "concat")
_EXAMPLE = "Genotype(recurrent=[('tanh', 0), ...], concat=range(1, 9))"
_START = re.compile(r"Genotype\(\s*(recurrent|concat)\s*=")


def begins(text: str) -> bool:
    """Tells whether a text is meant in this form.

    Args:
      text: any text, without blanks around it.

    Returns:
      Whether it begins as such.

    Example:
      >>> begins("Genotype(recurrent=[]"), begins("Genotype(normal=[]")
      (True, False)
    """
    return _START.match(text) is not None


def write(parts: Cells) -> str | None:
    """Writes the text of a recurrent cell.

    Args:
      parts: the cells, checked.

    Returns:
      The text, or None where the form can't tell the cell.

    Example:
      >>> cell = cells.Cell((cells.Edge("tanh", 0, 1),), (1,))
      >>> write((("recurrent", cell),))
      "Genotype(recurrent=[('tanh', 0)], concat=range(1, 2))"
    """
    if tuple(name for name, _ in parts) != ("recurrent",):
        return None
    edges, concat = parts[0][1]
    if [edge.target for edge in edges] != list(range(1, len(edges) + 1)):
        return None
    listed = [(edge.operation, edge.source) for edge in edges]
    return f"Genotype(recurrent={listed}, concat={calls.written_states(concat)})"


def read(text: str) -> Cells:
    """Reads the text of a recurrent cell; nothing is evaluated.

    Args:
      text: the text.

    Returns:
      The cell "recurrent"; its structure is not yet checked.

    Raises:
      JnasError: saying what in the text is wrong.

    Example:
      >>> read("Genotype(recurrent=[('tanh', 0)], concat=[1])")[0][1].edges
      (Edge(operation='tanh', source=0, target=1),)
    """
    fields = calls.arguments(text, _FIELDS, _EXAMPLE)
    concat = calls.states(fields["concat"], "concat")
    edges = []
    for i, (operation, source) in enumerate(
        calls.pairs(fields["recurrent"], "recurrent")
    ):
        if source > i:
            raise errors.JnasError(
                f"recurrent[{i}]: wrong source {source} of node {i + 1}: expected "
                f"0..{i}"
            )
        edges.append(cells.Edge(operation, source, i + 1))
    return (("recurrent", cells.Cell(tuple(edges), concat)),)
