"""A picture of retrained networks side by side: every seed, mean, standard error."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jnas import errors
from jnas.report import files, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_comparison", "standard_error"]


def plot_comparison(
    values: Mapping[str, Sequence[float]],
    *,
    label: str = "test accuracy",
    colors: Mapping[str, str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws the figures of several networks: seeds as dots, mean ± standard error.

    Args:
      values: the figure of each seed, by network.
      label: what the figure is; accuracies are shown in percent.
      colors: of networks; by default each has its own.
      ax: where; by default a new figure.

    Returns:
      The axes, with one line of text for each network, the first on top.

    Raises:
      JnasError: if a network has no value.

    Example:
      >>> ax = plot_comparison({"found": [0.9, 0.92], "random": [0.88]})
      >>> [label.get_text() for label in ax.get_yticklabels()]
      ['found', 'random']
    """
    from matplotlib import figure

    empty = [name for name, seeds in values.items() if not len(seeds)]
    if empty or not values:
        raise errors.JnasError(
            f"{empty[0] if empty else 'the comparison'!r} has no value to draw: give "
            "at least one seed's for each network"
        )
    if ax is None:
        size = (5.2, 0.9 + 0.42 * len(values))
        ax = figure.Figure(figsize=size, layout="constrained").add_subplot()
    scale = 100.0 if "accuracy" in label else 1.0
    for row, (name, seeds) in enumerate(values.items()):
        scaled = [scale * value for value in seeds]
        color = (colors or {}).get(name, palette.GROUPS[row % len(palette.GROUPS)])
        # dots of equal seeds stay visible: each a little lower than the one before
        offsets = [
            0.12 + 0.16 * i / max(1, len(scaled) - 1) for i in range(len(scaled))
        ]
        ax.plot(
            scaled,
            [row + offset for offset in offsets],
            linestyle="none",
            marker="o",
            markersize=5,
            markeredgewidth=0,
            color=color,
            alpha=0.6,
            gid="seeds",
        )
        error = standard_error(scaled)
        ax.errorbar(
            statistics.fmean(scaled),
            row - 0.08,
            xerr=error,
            fmt="D",
            markersize=5.5,
            capsize=4,
            elinewidth=1.6,
            color=color,
        )
    ax.set_yticks(
        range(len(values)), [files.plain(name) for name in values], fontsize=9
    )
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.set_xlabel(f"{label}, %" if scale == 100 else label)
    ax.margins(x=0.08)
    ax.grid(axis="x", color="#E4E4E4", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return ax


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the mean.

    Args:
      values: at least one number.

    Returns:
      Their sample standard deviation over the square root of their number; None for
      one, which has no spread.

    Example:
      >>> standard_error([1.0, 3.0]), standard_error([1.0])
      (1.0, None)
    """
    if len(values) < 2:
        return None
    return statistics.stdev(values) / math.sqrt(len(values))
