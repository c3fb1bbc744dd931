"""Cells as Graphviz text, for those who lay out and style pictures themselves."""

from jnas import spaces
from jnas.report import layout, palette

__all__ = ["to_dot"]


def to_dot(genotype: spaces.Genotype | str, group: str) -> str:
    """Writes one cell in the DOT language of Graphviz.

    Args:
      genotype: a genotype, or a text that ``Genotype.parse`` understands.
      group: name of the cell, e.g. ``"normal"``.

    Returns:
      The text, one statement on each line.

    Raises:
      JnasError: if there is no such cell.

    Example:
      >>> cell = spaces.Cell((spaces.Edge("skip_connect", 0, 1),), (1,))
      >>> print(to_dot(spaces.Genotype("mine", (("cell", cell),)), "cell"))
      digraph "cell" {
        rankdir=LR;
        node [shape=box, style="rounded,filled", fillcolor=white];
        s0 [label="in", fillcolor="#E4E4E4"];
        s1 [label="out", fillcolor="#E4E4E4"];
        s0 -> s1 [label="skip_connect", color="#D55E00"];
      }
      <BLANKLINE>
    """
    if isinstance(genotype, str):
        genotype = spaces.Genotype.parse(genotype)
    cell = genotype[group]
    inputs = layout.num_inputs(cell, group)
    names, has_output = layout.state_names(cell, inputs)
    drawn = layout.drawn_states(cell, inputs) + [len(names) - 1] * has_output
    lines = [
        f"digraph {_quoted(group)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor=white];',
    ]
    for state in drawn:
        name = names[state]
        fill = "" if name.isdigit() else ', fillcolor="#E4E4E4"'
        lines.append(f"  s{state} [label={_quoted(name)}{fill}];")
    for edge in cell.edges:
        style = ", style=dashed" if edge.operation == "none" else ""
        lines.append(
            f"  s{edge.source} -> s{edge.target} [label={_quoted(edge.operation)}, "
            f'color="{palette.color(edge.operation)}"{style}];'
        )
    if has_output:
        output = len(names) - 1
        lines += [
            f'  s{state} -> s{output} [color="#BBBBBB"];' for state in cell.concat
        ]
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
