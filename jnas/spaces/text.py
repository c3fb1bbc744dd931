"""The published text forms of genotypes, read without ever evaluating them.

* DARTS (Liu et al., DARTS: Differentiable Architecture Search, ICLR 2019, and the
  code that descends from it): ``Genotype(normal=[('sep_conv_3x3', 0), ...],
  normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))``. Two edges
  per node in node order, states 0 and 1 are the inputs. Where a list names every
  earlier state of every node (as SNAS publishes its cells) and the concat fits that
  reading, it is read so.
* The same without ``reduce`` and ``reduce_concat``, where the reduction cells are fixed
  (a form of jnas': the authors of GDAS publish both cells in code).
* The recurrent cell of DARTS: see `jnas.spaces.recurrent_text`.
* NAS-Bench-201 (Dong & Yang, ICLR 2020): ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.
"""

import functools
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jnas import errors
from jnas.spaces import calls, cells, recurrent_text

__all__ = [
    "DARTS_OPERATIONS",
    "NASBENCH201_OPERATIONS",
    "check_operations",
    "read",
    "write",
]

Cells = tuple[tuple[str, cells.Cell], ...]

# The candidates of the DARTS search space, in the order of its arch columns.
DARTS_OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NASBENCH201_OPERATIONS = (
    "none",
    "skip_connect",
    "nor_conv_1x1",
    "nor_conv_3x3",
    "avg_pool_3x3",
)
# Published genotypes also use operations that the search space does not offer:
# those of NASNet and AmoebaNet, and the noise of RobustDARTS' space S4.
_DARTS_PUBLISHED = (*DARTS_OPERATIONS, "sep_conv_7x7", "conv_7x1_1x7", "noise")
_ARGUMENT = re.compile(r"(\w+)\s*=")
_DARTS_CELLS, _FRC_CELLS = ("normal", "reduce"), ("normal",)
_MAX_LENGTH = 20_000
_NASBENCH201_NODES = 3


def write(space: str, parts: Cells) -> str | None:
    """Writes the published text form.

    Args:
      space: name of the space.
      parts: the cells, checked.

    Returns:
      The text, or None where the space has no published form or the cells can't be
      told by it (reading it again would give something else).

    Example:
      >>> write("mine", (("cell", cells.Cell((cells.Edge("none", 0, 1),), (1,))),))
    """
    form = _FORMS.get(space)
    text = None if form is None else form.write(parts)
    return None if text is None or len(text) > _MAX_LENGTH else text


def read(text: str) -> tuple[str, Cells]:
    """Reads a published text form.

    Args:
      text: one of the forms in this module's header; blanks around it are ignored.

    Returns:
      The name of the space and the cells, whose structure is not yet checked.

    Raises:
      JnasError: saying what in the text is wrong.

    Example:
      >>> space, parts = read("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
      >>> space, len(parts[0][1].edges)
      ('nasbench201', 6)
    """
    text = text.strip()
    if len(text) > _MAX_LENGTH:
        raise errors.JnasError(
            f"a genotype's text has at most {_MAX_LENGTH} characters, got {len(text)}"
        )
    for space, form in _FORMS.items():
        if form.begins(text):
            return space, form.read(text)
    raise errors.JnasError(
        f"not a genotype: got {cells.shown(text)}, expected "
        "Genotype(normal=[...], ...), Genotype(recurrent=[...], ...), "
        "|op~0|+|op~0|op~1|+|op~0|op~1|op~2| or JSON"
    )


def check_operations(space: str, parts: Iterable[tuple[str, cells.Cell]]) -> None:
    """Raises for an operation that a space with a published form does not know.

    Args:
      space: name of the space; a space that is not published may use any operation.
      parts: the cells.

    Raises:
      JnasError: naming the operation, with close matches.

    Example:
      >>> check_operations("mine", [])
    """
    form = _FORMS.get(space)
    if form is None:
        return
    for _, cell in parts:
        for edge in cell.edges:
            if edge.operation not in form.operations:
                raise errors.unknown_name(
                    f"operation of {space}",
                    edge.operation
                    if len(edge.operation) <= 60
                    else f"{edge.operation[:60]}...",
                    form.operations,
                )


def _write_darts(parts: Cells, names: tuple[str, ...] = _DARTS_CELLS) -> str | None:
    if tuple(name for name, _ in parts) != names:
        return None
    # Pairs have no targets, so cells of another shape can't be told by them.
    for triples in (False, True):
        fields = []
        for name, cell in parts:
            edges = [
                (edge.operation, edge.target, edge.source)
                if triples
                else (edge.operation, edge.source)
                for edge in cell.edges
            ]
            concat = calls.written_states(cell.concat)
            fields.append(f"{name}={edges}, {name}_concat={concat}")
        text = f"Genotype({', '.join(fields)})"
        try:
            if _read_darts(text, names) == parts:
                return text
        except errors.JnasError:
            pass
    return None


def _read_darts(text: str, names: tuple[str, ...] = _DARTS_CELLS) -> Cells:
    expected = tuple(f"{name}{end}" for name in names for end in ("", "_concat"))
    shown = [f"{name}=[...], {name}_concat=range(2, 6)" for name in names]
    fields = calls.arguments(text, expected, f"Genotype({', '.join(shown)})")
    parts = []
    for name in names:
        concat = calls.states(fields[f"{name}_concat"], f"{name}_concat")
        triples = calls.triples(fields[name], name)
        if triples is not None:
            edges = tuple(cells.Edge(op, source, node) for op, node, source in triples)
            edges, fed = _connected(edges)
            concat = tuple(state for state in concat if state in fed)
        else:
            pairs = calls.pairs(fields[name], name)
            targets = _darts_targets([source for _, source in pairs], concat, name)
            edges = tuple(
                cells.Edge(operation, source, target)
                for (operation, source), target in zip(pairs, targets, strict=True)
            )
        for i, edge in enumerate(edges):
            if edge.source >= edge.target:
                raise errors.JnasError(
                    f"{name}[{i}]: wrong source {edge.source} of node {edge.target}: "
                    f"expected 0..{edge.target - 1}"
                )
        parts.append((name, cells.Cell(edges, concat)))
    return tuple(parts)


def _connected(
    edges: tuple[cells.Edge, ...],
) -> tuple[tuple[cells.Edge, ...], set[int]]:
    """The edges that read an input or a node with edges; and these states."""
    fed = {0, 1}
    for edge in sorted(edges, key=lambda edge: edge.target):
        # wrong sources are told by the caller
        if edge.source in fed or edge.source >= edge.target:
            fed.add(edge.target)
    return tuple(
        edge for edge in edges if edge.source in fed or edge.source >= edge.target
    ), fed


def _darts_targets(sources: list[int], concat: tuple[int, ...], what: str) -> list[int]:
    """Tells which node each listed edge feeds."""
    every: list[tuple[int, int]] = []
    nodes = 0
    while len(every) < len(sources):
        every.extend((source, nodes + 2) for source in range(nodes + 2))
        nodes += 1
    complete = [source for source, _ in every] == sources
    if complete and max(concat, default=0) < nodes + 2:
        return [target for _, target in every]
    if len(sources) % 2:
        raise errors.JnasError(
            f"{what}: wrong node count: {len(sources)} edges don't make whole nodes: "
            "expected two edges per node, or all edges of every node"
        )
    return [2 + i // 2 for i in range(len(sources))]


def _write_nasbench201(parts: Cells) -> str | None:
    if len(parts) != 1 or parts[0][0] != "cell":
        return None
    edges, concat = parts[0][1]
    order = tuple((edge.source, edge.target) for edge in edges)
    if order != _NASBENCH201_EDGES or concat != (_NASBENCH201_NODES,):
        return None
    columns = [f"{edge.operation}~{edge.source}" for edge in edges]
    return f"|{columns[0]}|+|{'|'.join(columns[1:3])}|+|{'|'.join(columns[3:])}|"


def _read_nasbench201(text: str) -> Cells:
    groups = text.split("+")
    if len(groups) != _NASBENCH201_NODES:
        raise errors.JnasError(
            f"{cells.shown(text)}: wrong node count {len(groups)}: expected "
            f"{_NASBENCH201_NODES} groups joined by '+'"
        )
    edges = []
    for target, group in enumerate(groups, start=1):
        items = group.split("|")
        if items[0] or items[-1] or len(items) != target + 2:
            raise errors.JnasError(
                f"{cells.shown(text)}: node {target} is {cells.shown(group)}: "
                f"expected {target} 'operation~source' between '|'"
            )
        for source, item in enumerate(items[1:-1]):
            operation, _, number = item.rpartition("~")
            if number != str(source):
                raise errors.JnasError(
                    f"{cells.shown(text)}: wrong source in {cells.shown(item)} of node "
                    f"{target}: expected 'operation~{source}'"
                )
            edges.append(cells.Edge(operation, source, target))
    return (("cell", cells.Cell(tuple(edges), (_NASBENCH201_NODES,))),)


_NASBENCH201_EDGES = tuple(
    (source, target)
    for target in range(1, _NASBENCH201_NODES + 1)
    for source in range(target)
)


class _Form(NamedTuple):
    begins: Callable[[str], bool]  # whether a text is of this form
    operations: tuple[str, ...]
    write: Callable[[Cells], str | None]
    read: Callable[[str], Cells]


_FORMS = {
    "darts_rnn": _Form(
        recurrent_text.begins,
        recurrent_text.OPERATIONS,
        recurrent_text.write,
        recurrent_text.read,
    ),
    # These after the recurrent one, whose texts begin alike.
    "darts_frc": _Form(
        lambda text: (
            text.startswith("Genotype(")
            and set(_ARGUMENT.findall(text)) == {"normal", "normal_concat"}
        ),
        _DARTS_PUBLISHED,
        functools.partial(_write_darts, names=_FRC_CELLS),
        functools.partial(_read_darts, names=_FRC_CELLS),
    ),
    "darts": _Form(
        lambda text: text.startswith("Genotype("),
        _DARTS_PUBLISHED,
        _write_darts,
        _read_darts,
    ),
    "nasbench201": _Form(
        lambda text: text.startswith("|"),
        NASBENCH201_OPERATIONS,
        _write_nasbench201,
        _read_nasbench201,
    ),
}
