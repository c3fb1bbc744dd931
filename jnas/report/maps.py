"""The section of a report with the heat maps of architecture probabilities."""

from collections.abc import Sequence

import numpy as np

from jnas import spaces
from jnas.report import heatmaps, page
from jnas.report.page import Pictures
from jnas.report.runs import Run

__all__ = ["probabilities"]

_MOST_EDGES = 60  # maps over time on one page
_TRIANGLE = 5  # edges into one node that fit side by side


def probabilities(runs: Sequence[Run], names: Sequence[str], shown: Pictures) -> str:
    """The architecture's probabilities over time, and at the end."""
    parts, left, skipped = [], _MOST_EDGES, []
    for run, name in zip(runs, names, strict=True):
        if run.probabilities is None:
            continue
        space = run.space or heatmaps.stand_in(run.probabilities)
        edges = sum(group.num_edges for group in space.groups)
        if edges > left:
            skipped.append(name)
            continue
        left -= edges
        inner = _heat_maps(run, space, shown)
        if len(runs) > 1:
            inner = page.fold(name, inner, opened=not parts)
        parts.append(inner)
    if not parts and not skipped:
        return ""
    if skipped:
        parts.append(
            '<p class="soft">Left out to keep this page small; <code>jnas report'
            f"</code> of one of them shows it: {page.text(', '.join(skipped))}</p>"
        )
    note = (
        '<p class="soft">One map for each edge (node←source): epochs from left to '
        "right, operations from top to bottom, darker is more probable, in one scale. "
        "Framed: the operation of the found genotype; grey: edges that it drops.</p>"
    )
    return page.section(
        "probabilities", "Architecture probabilities over time", note, *parts
    )


def _heat_maps(run: Run, space: spaces.Space, shown: Pictures) -> str:
    epochs, tables = heatmaps.series(run.history)
    highest = max(float(table.max()) for table in tables.values())
    parts = []
    for group in space.groups:
        table = tables[group.name]
        over_time = _over_time(epochs, table, group, run.genotype, highest, shown)
        end = _at_the_end(table[-1], group, highest, shown, int(epochs[-1]))
        parts.append(
            f'<h3>{page.text(group.name)}</h3><div class="maps">{over_time}{end}</div>'
        )
    return "".join(parts)


def _over_time(
    epochs: np.ndarray,
    table: np.ndarray,
    group: spaces.Group,
    genotype: spaces.Genotype | None,
    highest: float,
    shown: Pictures,
) -> str:
    """A map for each edge, in lines by node where there is room for that."""
    from matplotlib import figure

    widest = max(len(group.incoming(node)) for node in group.nodes)
    triangle = widest <= _TRIANGLE and len(group.nodes) > 1
    titles = heatmaps.edge_titles(group, genotype)
    size = (1.9, 0.14 * group.num_operations + 0.4)
    drawn = []
    for line, node in enumerate(group.nodes):
        for column, edge in enumerate(group.incoming(node)):
            fig = figure.Figure(figsize=size)
            box = (0.41, 0.2 / size[1], 0.575, 1 - 0.38 / size[1])
            heatmaps.draw_edge(
                fig.add_axes(box),
                epochs,
                table[:, edge],
                group.operations,
                titles[edge],
                highest,
            )
            place = f"--row:{line + 1};--column:{column + 1}" if triangle else ""
            label = f"{group.name}, edge {titles[edge][0]}"
            drawn.append(shown.inline(fig, label, style=place))
    kind = f'edges triangle" style="--columns:{widest}' if triangle else "edges"
    return f'<div class="{kind}">{"".join(drawn)}</div>'


def _at_the_end(
    table: np.ndarray, group: spaces.Group, highest: float, shown: Pictures, epoch: int
) -> str:
    from matplotlib import figure

    wide, tall = 0.52 * group.num_operations, 0.27 * group.num_edges
    below = 0.2 + 0.045 * max(len(name) for name in group.operations)
    size = (wide + 0.9, tall + below + 0.3)
    fig = figure.Figure(figsize=size)
    ax = fig.add_axes((0.75 / size[0], below / size[1], wide / size[0], tall / size[1]))
    heatmaps.draw_group(ax, table, group, highest)
    ax.set_title(f"epoch {epoch}", fontsize=9, loc="left")
    label = f"{group.name}, probabilities of epoch {epoch}"
    return f'<div class="end">{shown.wide(fig, label, inch=72)}</div>'
