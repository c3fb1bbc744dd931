"""Pictures of a run: its curves over the epochs, and its architecture as a heat map.

Drawn with matplotlib's object interface only, like the cells.
"""

import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jnas import errors, spaces
from jnas.report import files, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_arch", "plot_history"]

# last word of a metric's name: panel; whatever has another last word is not drawn
_PANELS = ("loss", "accuracy", "entropy", "share")
_SERIES = {
    "train": "#0072B2",
    "val": "#D55E00",
    "validation": "#D55E00",
    "test": "#009E73",
    "arch": "#CC79A7",
    "skip": "#E69F00",
}
_OTHERS = ("#56B4E9", "#000000", "#F0E442", palette.GREY)


def plot_history(
    rows: Iterable[Mapping[str, Any]], ax: "Axes | None" = None
) -> tuple["Axes", ...]:
    """Draws the metrics of a run over its epochs.

    There is one panel for losses, one for accuracies, one for entropies and one for
    shares: a metric belongs to the panel that is the last word of its name, as in
    ``train_loss`` or ``skip_share``. Values that are absent or not finite are left out.

    Args:
      rows: one mapping for each epoch, with ``"epoch"`` and metrics.
      ax: axes whose place the panels share; by default a new figure.

    Returns:
      The axes of the panels that have data.

    Raises:
      JnasError: if a row has no epoch, or there is nothing to draw.

    Example:
      >>> rows = [{"epoch": 0, "train_loss": 2.3}, {"epoch": 1, "train_loss": 1.9}]
      >>> [panel.get_ylabel() for panel in plot_history(rows)]
      ['loss']
    """
    from matplotlib import figure, ticker

    panels = _panels(rows)
    if ax is None:
        size = (3.4 * len(panels), 2.8)
        fig = figure.Figure(figsize=size, layout="constrained")
        axes = [fig.add_subplot(1, len(panels), i + 1) for i in range(len(panels))]
    else:
        ax.set_axis_off()
        axes = _split(ax, len(panels))
    for panel, (name, series) in zip(axes, panels.items(), strict=True):
        others = iter(_OTHERS * len(series))
        for metric, points in series.items():
            words = metric.split("_")
            epochs, values = zip(*points, strict=True)
            panel.plot(
                epochs,
                values,
                label=" ".join(words[:-1]) or name,
                color=_SERIES.get(words[0]) or next(others),
                linewidth=1.6,
                marker="o" if len(points) <= 30 else None,
                markersize=3,
            )
        panel.set_xlabel("epoch")
        panel.set_ylabel(f"{name} (of uniform)" if name == "entropy" else name)
        panel.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
        panel.grid(color="#E4E4E4", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        if name == "share":
            panel.set_ylim(-0.02, 1.02)
        panel.legend(frameon=False, fontsize=8)
    return tuple(axes)


def plot_arch(
    probabilities: Mapping[str, Any],
    space: spaces.Space | str,
    path: str | os.PathLike[str],
) -> None:
    """Saves a heat map of the probability of each operation on each edge.

    The largest value of each edge is in bold.

    Args:
      probabilities: for each group of the space an array ``[E, O]``.
      space: the space or its name.
      path: file to write; its suffix says the format (.png, .svg, .pdf).

    Raises:
      JnasError: if groups or shapes are not those of the space, or the file can't be
        written there.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "arch.png"
      ...     plot_arch({"cell": np.full((6, 5), 0.2)}, "nasbench201", path)
      ...     path.exists()
      True
    """
    from matplotlib import figure

    path = files.picture(pathlib.Path(path))
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
    left, images = beside, []
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
        images.append(_heat_map(ax, tables[group.name], group, highest))
        left += size[0] + beside
    bar = fig.add_axes(
        (
            (left - beside + 0.2) / total[0],
            1 - (0.35 + height * rows) / total[1],
            0.12 / total[0],
            height * rows / total[1],
        )
    )
    fig.colorbar(images[0], cax=bar).ax.tick_params(labelsize=8)
    files.save(fig, path)


def _panels(
    rows: Iterable[Mapping[str, Any]],
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Sorts the metrics: panel, metric, points (epoch, value)."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {
        name: {} for name in _PANELS
    }
    for index, row in enumerate(rows):
        if "epoch" not in row:
            raise errors.JnasError(
                f"row {index} of the history has no 'epoch', got {sorted(row)}"
            )
        for metric, value in row.items():
            panel = panels.get(metric.split("_")[-1])
            if panel is None or value is None or not math.isfinite(value):
                continue
            panel.setdefault(metric, []).append((row["epoch"], value))
    panels = {name: series for name, series in panels.items() if series}
    if not panels:
        raise errors.JnasError(
            "the history has nothing to draw: expected metrics whose names end in "
            f"{', '.join(_PANELS)}, such as 'train_loss'"
        )
    return panels


def _split(ax: "Axes", number: int) -> list["Axes"]:
    """Panels side by side in the place of one axes."""
    gap = 0.28 if number > 1 else 0.0
    width = 1 / (number + gap * (number - 1))
    return [
        ax.inset_axes((index * width * (1 + gap), 0.08, width, 0.92))
        for index in range(number)
    ]


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


def _heat_map(
    ax: "Axes", table: np.ndarray, group: spaces.Group, highest: float
) -> Any:
    image = ax.imshow(table, aspect="auto", cmap="Blues", vmin=0, vmax=highest)
    ax.set_xticks(
        range(group.num_operations),
        group.operations,
        rotation=40,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )
    ax.set_yticks(range(group.num_edges), group.edge_names, fontsize=8)
    ax.tick_params(length=0)
    ax.set_title(group.name, fontsize=10, fontweight="bold", loc="left")
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
    return image
