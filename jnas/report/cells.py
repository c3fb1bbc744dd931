"""Pictures of cells: what a search found, at a glance.

Drawn with matplotlib's object interface only, so no global state of pyplot is touched
and no display is needed.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jnas import errors, spaces
from jnas.report import files, layout, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "plot_cell", "plot_cells"]

_FONT = 7.5  # points
_TITLE = 0.30  # inches above a cell
_BETWEEN = 0.25  # inches between two cells


def plot_cell(
    genotype: spaces.Genotype | str,
    group: str,
    *,
    ax: "Axes | None" = None,
    arch_probabilities: Any = None,
) -> "Axes":
    """Draws one cell of a genotype.

    States stand from left to right; each edge bears the name of its operation. Text
    shrinks with the axes, so labels never overlap.

    Args:
      genotype: a genotype, or a text that ``Genotype.parse`` understands.
      group: name of the cell, e.g. ``"normal"``.
      ax: axes to draw in; by default those of a new figure of fitting size.
      arch_probabilities: ``[E, O]`` for this group, or a dictionary with it; edges
        then bear the probability of their operation too.

    Returns:
      The axes; ``ax.figure.savefig`` saves the picture.

    Raises:
      JnasError: if there is no such cell, or the probabilities do not fit.

    Example:
      >>> ax = plot_cell("DARTS_V2", "normal")
      >>> sorted({text.get_text() for text in ax.texts})[-2:]
      ['sep_conv_3x3', 'skip_connect']
    """
    from matplotlib import figure

    genotype = _genotype(genotype)
    labels = _labels(genotype, group, arch_probabilities)
    arranged = _arrange(genotype, group, labels)
    if ax is None:
        fig = figure.Figure(figsize=_size(arranged))
        ax = fig.add_axes((0, 0, 1, 1))
    _plot(ax, genotype[group], arranged, labels, title=group)
    return ax


def plot_cells(genotype: spaces.Genotype | str) -> tuple["Axes", ...]:
    """Draws all cells of a genotype side by side.

    Args:
      genotype: a genotype, or a text that ``Genotype.parse`` understands.

    Returns:
      The axes, one for each cell, in one figure.

    Example:
      >>> len(plot_cells("DARTS_V2"))
      2
    """
    from matplotlib import figure

    genotype = _genotype(genotype)
    parts = []
    for name in genotype.names:
        labels = _labels(genotype, name, None)
        parts.append((name, labels, _arrange(genotype, name, labels)))
    sizes = [_size(arranged) for _, _, arranged in parts]
    width = sum(size[0] for size in sizes) + _BETWEEN * (len(sizes) - 1)
    height = max(size[1] for size in sizes)
    fig = figure.Figure(figsize=(width, height))
    left, axes = 0.0, []
    for (name, labels, arranged), size in zip(parts, sizes, strict=True):
        # titles are level with each other
        bounds = (left / width, 1 - size[1] / height, size[0] / width, size[1] / height)
        axes.append(fig.add_axes(bounds))
        _plot(axes[-1], genotype[name], arranged, labels, title=name)
        left += size[0] + _BETWEEN
    return tuple(axes)


def draw(genotype: spaces.Genotype | str, path: str | os.PathLike[str]) -> None:
    """Saves a picture of all cells of a genotype, side by side.

    Args:
      genotype: a genotype, or a text that ``Genotype.parse`` understands.
      path: file to write; its suffix says the format (.png, .svg, .pdf).

    Raises:
      JnasError: if the suffix is another, or the folder does not exist.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     draw("DARTS_V2", pathlib.Path(folder) / "cells.svg")
      ...     (pathlib.Path(folder) / "cells.svg").exists()
      True
    """
    path = files.picture(pathlib.Path(path))
    files.save(plot_cells(genotype)[0].figure, path)


def _genotype(genotype: spaces.Genotype | str) -> spaces.Genotype:
    if isinstance(genotype, str):
        return spaces.Genotype.parse(genotype)
    return genotype


def _labels(genotype: spaces.Genotype, group: str, probabilities: Any) -> list[str]:
    edges = genotype[group].edges
    if isinstance(probabilities, Mapping):
        if group not in probabilities:
            raise errors.unknown_name("group of probabilities", group, probabilities)
        probabilities = probabilities[group]
    if probabilities is None:
        return [edge.operation for edge in edges]
    choices = spaces.get(genotype.space).group(group)
    table = np.asarray(probabilities)
    if table.shape != (choices.num_edges, choices.num_operations):
        raise errors.JnasError(
            f"arch_probabilities have shape {list(table.shape)}: expected "
            f"[{choices.num_edges}, {choices.num_operations}] for group {group!r}"
        )
    labels = []
    for edge in edges:
        pair = (edge.source, edge.target)
        if pair not in choices.edges or edge.operation not in choices.operations:
            raise errors.JnasError(
                f"edge {edge.target}<-{edge.source} {edge.operation!r} of cell "
                f"{group!r} is not in space {genotype.space!r}: draw it without "
                "arch_probabilities"
            )
        row = choices.edges.index(pair)
        column = choices.operations.index(edge.operation)
        labels.append(f"{edge.operation} {table[row, column]:.2f}")
    return labels


def _arrange(genotype: spaces.Genotype, group: str, labels: list[str]) -> layout.Layout:
    from matplotlib import font_manager, textpath

    font = font_manager.FontProperties(size=_FONT)
    with files.any_text():
        widest = max(
            textpath.TextPath((0, 0), files.plain(label), prop=font).get_extents().width
            for label in set(labels)
        )
    cell = genotype[group]
    inputs = layout.num_inputs(cell, group)
    return layout.arrange(cell, label_width=widest / 72, inputs=inputs)


def _size(arranged: layout.Layout) -> tuple[float, float]:
    """Natural width and height in inches."""
    return (
        arranged.right - arranged.left,
        arranged.top - arranged.bottom + _TITLE,
    )


def _plot(
    ax: "Axes",
    cell: spaces.Cell,
    arranged: layout.Layout,
    labels: list[str],
    *,
    title: str,
) -> None:
    from matplotlib import patches

    width, height = _size(arranged)
    # text has a size in points, the rest follows the axes: keep them in step
    box = ax.get_window_extent()
    dpi = ax.figure.dpi
    scale = min(1.0, box.width / dpi / width, box.height / dpi / height)
    ax.set_xlim(arranged.left, arranged.right)
    ax.set_ylim(arranged.bottom, arranged.top + _TITLE)
    ax.set_aspect("equal", anchor="NW")
    ax.set_axis_off()
    ax.text(
        arranged.left + 0.12,
        arranged.top + 0.02,
        files.plain(title),
        fontsize=10 * scale,
        fontweight="bold",
        color=palette.INK,
        va="bottom",
    )
    for route in arranged.outputs:
        _line(ax, route, scale, color="#BBBBBB", linewidth=1.0, zorder=1)
    for edge, route, label in zip(cell.edges, arranged.routes, labels, strict=True):
        absent = edge.operation == "none"
        _line(
            ax,
            route,
            scale,
            color=palette.color(edge.operation),
            linewidth=0.8 if absent else 1.6,
            linestyle=(0, (3, 2)) if absent else "-",
            zorder=2,
        )
        ax.text(
            *route.label,
            files.plain(label),
            fontsize=_FONT * scale,
            color=palette.GREY if absent else palette.INK,
            ha="center",
            va="center",
            gid="edge",
            zorder=4,
            bbox={"boxstyle": "square,pad=0.12", "color": "white", "linewidth": 0},
        )
    for state in arranged.states:
        outer = not state.name.isdigit()
        ax.add_patch(
            patches.FancyBboxPatch(
                (state.x - state.width / 2, state.y - layout.NODE[1] / 2),
                state.width,
                layout.NODE[1],
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor="#E4E4E4" if outer else "white",
                edgecolor=palette.INK,
                linewidth=1.0 * scale,
                zorder=5,
            )
        )
        ax.text(
            state.x,
            state.y,
            f"${state.name}$" if "_" in state.name else state.name,
            fontsize=(9 if outer else 8.5) * scale,
            color=palette.INK,
            ha="center",
            va="center",
            gid="state",
            zorder=6,
        )


def _line(ax: "Axes", route: layout.Route, scale: float, **style: Any) -> None:
    from matplotlib import patches
    from matplotlib import path as paths

    points, codes = [route.start], [paths.Path.MOVETO]
    for first, second in (
        (route.start, route.bend_out),
        (route.bend_in, route.end),
    ):
        if second == route.end:
            points.append(first)
            codes.append(paths.Path.LINETO)
        middle = (first[0] + second[0]) / 2
        points += [(middle, first[1]), (middle, second[1]), second]
        codes += [paths.Path.CURVE4] * 3
    style["linewidth"] *= scale
    ax.add_patch(
        patches.FancyArrowPatch(
            path=paths.Path(points, codes),
            arrowstyle="-|>,head_length=0.35,head_width=0.18",
            mutation_scale=10 * scale,
            shrinkA=0,
            shrinkB=0,
            **style,
        )
    )
