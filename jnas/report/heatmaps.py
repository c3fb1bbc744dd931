"""Heat maps of architecture probabilities: at one time, and over the epochs."""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jnas import errors, spaces
from jnas.report import files, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Series",
    "draw_edge",
    "draw_group",
    "edge_titles",
    "plot_arch",
    "plot_arch_history",
    "series",
    "stand_in",
]

_CMAP = "Blues"
_CHOSEN = "#D55E00"  # around the operation that was chosen
_COLUMNS = 1500  # a picture of more epochs shows as many of them, evenly chosen

# Epochs, and for each group the probabilities [T, E, O].
Series = tuple[np.ndarray, dict[str, np.ndarray]]


def plot_arch(
    probabilities: Mapping[str, Any],
    space: spaces.Space | str,
    path: str | os.PathLike[str] | None = None,
) -> tuple["Axes", ...]:
    """Draws a heat map of the probability of each operation on each edge.

    The largest value of each edge is in bold.

    Args:
      probabilities: for each group of the space an array ``[E, O]``.
      space: the space or its name.
      path: file to write, if any; its suffix says the format (.png, .svg, .pdf).

    Returns:
      The axes, one for each group of the space, in one figure.

    Raises:
      JnasError: if groups or shapes are not those of the space, or the file can't be
        written there.

    Example:
      >>> (ax,) = plot_arch({"cell": np.full((6, 5), 0.2)}, "nasbench201")
      >>> ax.get_title(loc="left"), ax.texts[0].get_text()
      ('cell', '0.20')
    """
    from matplotlib import figure

    target = None if path is None else files.picture(pathlib.Path(path))
    if isinstance(space, str):
        space = spaces.get(space)
    tables = _tables(probabilities, space)
    # inches: a cell of the map, and the room that names take beside and below it
    width, height, beside, below = 0.52, 0.27, 0.75, 1.05
    columns = [group.num_operations for group in space.groups]
    rows = max(group.num_edges for group in space.groups)
    total = (
        width * sum(columns) + beside * (len(columns) + 1) + 0.3,
        height * rows + below + 0.4,
    )
    fig = figure.Figure(figsize=total)
    # one scale for all groups, so that colours can be compared
    highest = max(float(table.max()) for table in tables.values())
    left, axes = beside, []
    for group in space.groups:
        size = (width * group.num_operations, height * group.num_edges)
        ax = fig.add_axes(
            (
                left / total[0],
                1 - (0.35 + size[1]) / total[1],
                size[0] / total[0],
                size[1] / total[1],
            )
        )
        draw_group(ax, tables[group.name], group, highest)
        axes.append(ax)
        left += size[0] + beside
    bar = fig.add_axes(
        (
            (left - beside + 0.2) / total[0],
            1 - (0.35 + height * rows) / total[1],
            0.12 / total[0],
            height * rows / total[1],
        )
    )
    fig.colorbar(axes[0].images[0], cax=bar).ax.tick_params(labelsize=8)
    if target is not None:
        files.save(fig, target)
    return tuple(axes)


def plot_arch_history(
    rows: Iterable[Mapping[str, Any]],
    space: spaces.Space | str | None = None,
    *,
    genotype: spaces.Genotype | str | None = None,
) -> tuple["Axes", ...]:
    """Draws the probability of each operation on each edge over the epochs.

    There is a small heat map for each edge: epochs from left to right, operations from
    top to bottom, all in one scale of colours. The maps of a group stand together, a
    line for each node that edges lead to.

    Args:
      rows: one mapping for each epoch, with ``"epoch"`` and ``"probabilities"``, which
        has a table ``[E, O]`` for each group; rows without are left out.
      space: the space or its name; without it, edges and operations have numbers.
      genotype: what was derived: its choices are framed, edges that it drops are grey.

    Returns:
      The axes, in the order of groups and edges.

    Raises:
      JnasError: if there are no probabilities, or they do not fit the space.

    Example:
      >>> rows = [{"epoch": 1, "probabilities": {"cell": [[0.2] * 5] * 6}}]
      >>> axes = plot_arch_history(rows, "nasbench201")
      >>> [ax.get_title(loc="left") for ax in axes[:3]]
      ['1←0', '2←0', '2←1']
    """
    from matplotlib import figure

    epochs, tables = series(rows)
    if space is None:
        space = stand_in(tables)
    elif isinstance(space, str):
        space = spaces.get(space)
    _tables({name: table[0] for name, table in tables.items()}, space)
    if isinstance(genotype, str):
        genotype = spaces.Genotype.parse(genotype)
    highest = max(float(table.max()) for table in tables.values())
    # inches
    names, wide, gap, head = 0.95, 1.45, 0.22, 0.42
    columns = max(len(group.incoming(n)) for group in space.groups for n in group.nodes)
    tall = [0.14 * group.num_operations for group in space.groups]
    between = 0.34
    heights = [
        head + len(group.nodes) * (height + between) + 0.2
        for group, height in zip(space.groups, tall, strict=True)
    ]
    total = (names + columns * (wide + gap) + 0.75, sum(heights) + 0.1)
    fig = figure.Figure(figsize=total)
    top, axes = total[1], []
    for group, height, room in zip(space.groups, tall, heights, strict=True):
        fig.text(
            0.1 / total[0],
            (top - 0.2) / total[1],
            files.plain(group.name),
            fontsize=11,
            fontweight="bold",
            color=palette.INK,
            va="center",
        )
        titles = edge_titles(group, genotype)
        for line, node in enumerate(group.nodes):
            bottom = top - head - (line + 1) * (height + between) + between - 0.1
            for column, edge in enumerate(group.incoming(node)):
                left = names + column * (wide + gap)
                ax = fig.add_axes(
                    (
                        left / total[0],
                        bottom / total[1],
                        wide / total[0],
                        height / total[1],
                    )
                )
                draw_edge(
                    ax,
                    epochs,
                    tables[group.name][:, edge],
                    group.operations,
                    titles[edge],
                    highest,
                    labelled=column == 0,
                    timed=line == len(group.nodes) - 1,
                )
                axes.append(ax)
                if column == 0 and line == len(group.nodes) - 1:
                    ax.set_xlabel("epoch", fontsize=7, labelpad=1)
        top -= room
    bar = fig.add_axes(
        ((total[0] - 0.6) / total[0], 1 - 1.4 / total[1], 0.1 / total[0], 1 / total[1])
    )
    fig.colorbar(axes[0].images[0], cax=bar).ax.tick_params(labelsize=7)
    bar.set_title("probability", fontsize=7, loc="right")
    return tuple(axes)


def series(rows: Iterable[Mapping[str, Any]]) -> Series:
    """Stacks the probabilities of a run.

    Args:
      rows: as in `plot_arch_history`.

    Returns:
      Epochs ``[T]`` and for each group the probabilities ``[T, E, O]``.

    Raises:
      JnasError: if there are none, or their groups or shapes change.

    Example:
      >>> epochs, tables = series([{"epoch": 1, "probabilities": {"cell": [[1.0]]}}])
      >>> epochs.tolist(), tables["cell"].shape
      ([1], (1, 1, 1))
    """
    kept = [row for row in rows if row.get("probabilities")]
    if not kept:
        raise errors.JnasError(
            "the history has no probabilities to draw: expected rows with an entry "
            "'probabilities', as jnas.run.search writes them"
        )
    first = {n: np.shape(table) for n, table in kept[0]["probabilities"].items()}
    for row in kept:
        shapes = {n: np.shape(table) for n, table in row["probabilities"].items()}
        if shapes != first or any(len(shape) != 2 for shape in shapes.values()):
            raise errors.JnasError(
                f"probabilities of epoch {row['epoch']} have shapes {shapes}: expected "
                f"one table [E, O] for each group, as in the first row ({first})"
            )
    epochs = np.asarray([row["epoch"] for row in kept])
    return epochs, {
        name: np.asarray([row["probabilities"][name] for row in kept], np.float64)
        for name in first
    }


def stand_in(tables: Mapping[str, np.ndarray]) -> spaces.Space:
    """A space with numbers for names, where the real one is not known.

    Args:
      tables: for each group an array that ends in ``[E, O]``.

    Returns:
      A space of such groups.

    Example:
      >>> stand_in({"cell": np.ones((2, 3))}).group("cell").operations
      ('operation 0', 'operation 1', 'operation 2')
    """
    groups = []
    for name, table in tables.items():
        edges, operations = np.shape(table)[-2:]
        groups.append(
            spaces.Group(
                name,
                tuple(f"operation {index}" for index in range(operations)),
                tuple((0, index + 1) for index in range(edges)),
                1,
                (edges,),
            )
        )
    return spaces.Space("unknown", tuple(groups))


def edge_titles(
    group: spaces.Group, genotype: spaces.Genotype | None
) -> list[tuple[str, str | None]]:
    """Says of each edge its name and what a genotype chose there.

    Args:
      group: of the space.
      genotype: what was derived, or None.

    Returns:
      Pairs (name, operation); the operation is None where none is known or kept.

    Example:
      >>> group = spaces.nasbench201().group("cell")
      >>> edge_titles(group, spaces.nasbench201().decode([1] * 6))[0]
      ('1←0', 'skip_connect')
    """
    chosen: dict[tuple[int, int], str] = {}
    if genotype is not None and group.name in genotype.names:
        cell = genotype[group.name]
        chosen = {(edge.source, edge.target): edge.operation for edge in cell.edges}
    return [(f"{edge[1]}←{edge[0]}", chosen.get(edge)) for edge in group.edges]


def draw_edge(
    ax: "Axes",
    epochs: np.ndarray,
    table: np.ndarray,
    operations: tuple[str, ...],
    title: tuple[str, str | None],
    highest: float,
    *,
    labelled: bool = True,
    timed: bool = True,
) -> None:
    """Draws the probabilities of one edge over the epochs.

    Args:
      ax: where.
      epochs: ``[T]``, ascending.
      table: ``[T, O]``.
      operations: names of the rows of the picture.
      title: name of the edge, and the operation that was chosen there or None.
      highest: the probability of the darkest colour.
      labelled: whether operations are named.
      timed: whether epochs are named.

    Example:
      >>> from matplotlib.figure import Figure
      >>> ax = Figure().add_subplot()
      >>> draw_edge(ax, np.arange(3), np.ones((3, 2)), ("a", "b"), ("1←0", "a"), 1.0)
      >>> ax.images[0].get_array().shape
      (2, 3)
    """
    from matplotlib import patches, ticker

    first, last = int(epochs[0]), int(epochs[-1])
    count = min(last - first + 1, _COLUMNS)
    if count != len(epochs):  # gaps, or too many: the value of the epoch before
        shown = np.linspace(first, last, count)
        table = table[np.searchsorted(epochs, shown, side="right") - 1]
    ax.imshow(
        table.T,
        aspect="auto",
        interpolation="nearest",
        cmap=_CMAP,
        vmin=0,
        vmax=highest,
        extent=(first - 0.5, last + 0.5, len(operations) - 0.5, -0.5),
    )
    name, chosen = title
    ax.set_title(
        name,
        fontsize=8,
        loc="left",
        pad=2,
        color=palette.INK if chosen else palette.GREY,
    )
    if chosen:
        ax.set_title(files.plain(chosen), fontsize=7, loc="right", pad=2)
    if chosen in operations:
        ax.add_patch(
            patches.Rectangle(
                (first - 0.5, operations.index(chosen) - 0.5),
                last - first + 1,
                1,
                fill=False,
                edgecolor=_CHOSEN,
                linewidth=1.1,
                zorder=3,
                clip_on=False,
            )
        )
    ax.tick_params(length=0, pad=2)
    if labelled:
        ax.set_yticks(
            range(len(operations)), [files.plain(o) for o in operations], fontsize=7
        )
    else:
        ax.set_yticks([])
    if timed:
        ax.xaxis.set_major_locator(
            ticker.MaxNLocator(4, integer=True)
            if first < last
            else ticker.FixedLocator([first])
        )
        ax.tick_params(axis="x", labelsize=7)
    else:
        ax.set_xticks([])
    ax.spines[:].set_color("#BBBBBB")
    ax.spines[:].set_linewidth(0.5)


def draw_group(
    ax: "Axes", table: np.ndarray, group: spaces.Group, highest: float
) -> None:
    """Draws the probabilities of one group as a heat map with numbers.

    Args:
      ax: where.
      table: ``[E, O]``.
      group: the group.
      highest: the probability of the darkest colour.

    Example:
      >>> from matplotlib.figure import Figure
      >>> ax = Figure().add_subplot()
      >>> group = spaces.nasbench201().group("cell")
      >>> draw_group(ax, np.full((6, 5), 0.2), group, 1.0)
      >>> len(ax.texts)
      30
    """
    ax.imshow(table, aspect="auto", cmap=_CMAP, vmin=0, vmax=highest)
    ax.set_xticks(
        range(group.num_operations),
        [files.plain(name) for name in group.operations],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )
    ax.set_yticks(range(group.num_edges), group.edge_names, fontsize=8)
    ax.tick_params(length=0)
    ax.set_title(files.plain(group.name), fontsize=10, fontweight="bold", loc="left")
    ax.spines[:].set_visible(False)
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            ax.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=7.5,
                fontweight="bold" if column == values.argmax() else "normal",
                # dark blue needs light text
                color="white" if value > 0.55 * highest else palette.INK,
            )


def _tables(
    probabilities: Mapping[str, Any], space: spaces.Space
) -> dict[str, np.ndarray]:
    if set(probabilities) != set(space.names):
        raise errors.JnasError(
            f"probabilities are for groups {sorted(probabilities)}, expected "
            f"{sorted(space.names)}: give one array for each group"
        )
    tables = {}
    for group in space.groups:
        table = np.asarray(probabilities[group.name], np.float64)
        shape = (group.num_edges, group.num_operations)
        if table.shape != shape:
            raise errors.JnasError(
                f"probabilities of group {group.name!r} have shape "
                f"{list(table.shape)}: expected {list(shape)}"
            )
        tables[group.name] = table
    return tables
