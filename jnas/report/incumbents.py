"""The picture of searches: incumbents against evaluations and against costs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jnas.errors import JnasError
from jnas.report import palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Panel", "plot_incumbents"]

_STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))


class Panel(NamedTuple):
    """One panel: curves over a common axis.

    Attributes:
      x_label: name and unit of the axis.
      y_label: name and unit of the values.
      curves: ``{label: (x [G], mean [G], std [G])}``.
      best: the best value there is, drawn as a line; None if it is not known.
    """

    x_label: str
    y_label: str
    curves: Mapping[str, tuple[Any, Any, Any]]
    best: float | None = None


def plot_incumbents(panels: Sequence[Panel], title: str = "") -> "Figure":
    """Draws mean ± standard deviation over the seeds, a panel beside the other.

    The vertical range is that of the second half of the curves, widened: what all
    searches find in their first steps would hide what sets them apart.

    Args:
      panels: at least one.
      title: of the figure.

    Returns:
      A figure of matplotlib.

    Raises:
      JnasError: there is nothing to draw.

    Example:
      >>> curve = (np.arange(1, 4), np.array([1.0, 2.0, 2.5]), np.full(3, 0.1))
      >>> figure = plot_incumbents([Panel("evaluations", "accuracy", {"a": curve})])
      >>> len(figure.axes)
      1
    """
    from matplotlib.figure import Figure

    if not panels or not all(panel.curves for panel in panels):
        raise JnasError("there are no curves to draw: give at least one in each panel")
    figure = Figure(figsize=(1.2 + 4.6 * len(panels), 4.0), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for ax, panel in zip(axes, panels, strict=True):
        low, high = np.inf, -np.inf
        for number, (label, (x, mean, std)) in enumerate(panel.curves.items()):
            x, mean, std = map(np.asarray, (x, mean, std))
            color = palette.GROUPS[number % len(palette.GROUPS)]
            style = _STYLES[number // len(palette.GROUPS) % len(_STYLES)]
            # An incumbent holds until there is another one.
            steps = {"color": color, "drawstyle": "steps-post"}
            ax.plot(x, mean, ls=style, lw=1.6, label=label, **steps)
            band = {"color": color, "alpha": 0.10, "lw": 0, "step": "post"}
            ax.fill_between(x, mean - std, mean + std, **band)
            known = np.isfinite(mean)
            if known.any():
                later = known & (x >= x[0] + (x[-1] - x[0]) * 0.15)
                later = later if later.any() else known
                low = min(low, mean[later].min() - std[later].max() / 2)
                high = max(high, (mean + std)[later].max())
        if panel.best is not None and np.isfinite(panel.best):
            ax.axhline(panel.best, color=palette.GREY, lw=0.9, ls=(0, (4, 3)), zorder=0)
            ax.annotate(
                f"best there is: {panel.best:.2f}",
                (0.99, panel.best),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=palette.GREY,
            )
            high = max(high, panel.best)
        if np.isfinite(low) and high > low:
            ax.set_ylim(low - 0.05 * (high - low), high + 0.08 * (high - low))
        ax.set_xlabel(panel.x_label)
        ax.set_ylabel(panel.y_label)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e3e6ea", lw=0.6)
        ax.set_axisbelow(True)
    columns = min(5, len(panels[0].curves))
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
    )
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure
