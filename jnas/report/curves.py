"""Pictures of metrics over the epochs: of one run, or of several side by side.

Drawn with matplotlib's object interface only, like the cells.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jnas import errors
from jnas.report import files, palette, records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "collect", "draw_panel", "frame", "mean_curve", "plot_histories"]
__all__ += ["plot_history", "stage_starts"]

# last word of a metric's name: panel and its axis; metrics with another are not drawn
_PANELS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "bits": "bits per token",
    "entropy": "entropy (of uniform)",
    "share": "share",
    "stability": "edges as in the end",
    "max": "largest eigenvalue by arch",
}
_SERIES = {
    "train": "#0072B2",
    "val": "#D55E00",
    "validation": "#D55E00",
    "test": "#009E73",
    "arch": "#CC79A7",
    "skip": "#E69F00",
    "mixture": "#56B4E9",
    "derived": "#000000",
    "lambda": "#0072B2",
}
_OTHERS = ("#56B4E9", "#000000", "#F0E442", palette.GREY)
_STYLES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
_MARKED = 30  # points that still get markers

Points = tuple[tuple[float, float], ...]


class Curve(NamedTuple):
    """One metric of one group of runs.

    Attributes:
      group: name of the group.
      metric: name of the metric, such as "train_loss".
      runs: for each run its points (epoch, value).

    Example:
      >>> Curve("a", "train_loss", (((1, 2.0),),)).metric
      'train_loss'
    """

    group: str
    metric: str
    runs: tuple[Points, ...]


def plot_history(
    rows: Iterable[Mapping[str, Any]], ax: "Axes | None" = None
) -> tuple["Axes", ...]:
    """Draws the metrics of a run over its epochs.

    There is one panel for losses, one for accuracies, and one each for bits, entropies,
    shares and stability: a metric belongs to the panel that is the last word of its
    name, as in ``train_loss`` or ``skip_share``. Values that are absent or not finite
    are left out. Where ``"stage"`` changes, the curves are broken by a dotted line.

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
    return plot_histories({"": [rows]}, ax)


def plot_histories(
    histories: Mapping[str, Sequence[Iterable[Mapping[str, Any]]]],
    ax: "Axes | None" = None,
) -> tuple["Axes", ...]:
    """Draws the metrics of several runs over their epochs, in groups.

    Each run is a thin line; of a group with several runs there is a thick line, the
    mean, in a band from the lowest to the highest, over the epochs that all of them
    have. The panels are those of `plot_history`.

    Args:
      histories: the rows of each run, by the group's name: runs that differ in their
        seed only belong in one group.
      ax: axes whose place the panels share; by default a new figure.

    Returns:
      The axes of the panels that have data.

    Raises:
      JnasError: if a row has no epoch, or there is nothing to draw.

    Example:
      >>> one, two = [{"epoch": 1, "val_loss": 2}], [{"epoch": 1, "val_loss": 4}]
      >>> (panel,) = plot_histories({"order 1": [one, two]})
      >>> [line.get_ydata().tolist() for line in panel.get_lines()]
      [[2.0], [4.0], [3.0]]
    """
    from matplotlib import figure

    panels = collect(histories)
    if not panels:
        raise errors.JnasError(
            "the history has nothing to draw: expected metrics whose names end in "
            f"{', '.join(_PANELS)}, such as 'train_loss'"
        )
    if ax is None:
        size = (3.4 * len(panels), 2.8)
        fig = figure.Figure(figsize=size, layout="constrained")
        axes = [fig.add_subplot(1, len(panels), i + 1) for i in range(len(panels))]
    else:
        ax.set_axis_off()
        axes = _split(ax, len(panels))
    for panel, (name, curves) in zip(axes, panels.items(), strict=True):
        draw_panel(panel, name, curves)
    return tuple(axes)


def collect(
    histories: Mapping[str, Sequence[Iterable[Mapping[str, Any]]]],
) -> dict[str, list[Curve]]:
    """Sorts the metrics of runs by the panel in which they are drawn.

    Args:
      histories: as in `plot_histories`.

    Returns:
      The curves of each panel that has some; between stages of a run a point that is
      not a number.

    Raises:
      JnasError: if a row has no epoch.

    Example:
      >>> collect({"": [[{"epoch": 1, "skip_share": 0.5, "learning_rate": 0.1}]]})
      {'share': [Curve(group='', metric='skip_share', runs=(((1, 0.5),),))]}
    """
    found: dict[str, dict[tuple[str, str], list[Points]]] = {p: {} for p in _PANELS}
    for group, runs in histories.items():
        for rows in runs:
            series: dict[str, list[tuple[float, float]]] = {}
            stage = None
            for index, row in enumerate(rows):
                if "epoch" not in row:
                    raise errors.JnasError(
                        f"row {index} of the history has no 'epoch', got {sorted(row)}"
                    )
                if row.get("stage") != stage:
                    for points in series.values():  # what comes is another network's
                        points.append((row["epoch"] - 0.5, math.nan))
                    stage = row.get("stage")
                for metric, entry in row.items():
                    value = records.number(entry)
                    if metric.split("_")[-1] in _PANELS and value is not None:
                        series.setdefault(metric, []).append((row["epoch"], value))
            for metric, points in series.items():
                panel = found[metric.split("_")[-1]]
                panel.setdefault((group, metric), []).append(tuple(points))
    return {
        name: [Curve(*key, tuple(runs)) for key, runs in panel.items()]
        for name, panel in found.items()
        if panel
    }


def mean_curve(
    runs: Sequence[Points],
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Mean, lowest and highest of several runs, where all of them have a value.

    Args:
      runs: the points of each run.

    Returns:
      Epochs, means, lowest and highest values.

    Example:
      >>> mean_curve([((1, 2.0), (2, 5.0)), ((1, 4.0),)])
      ([1], [3.0], [2.0], [4.0])
    """
    tables = [dict(points) for points in runs]
    epochs = sorted(set(tables[0]).intersection(*tables[1:]))
    columns = [[table[epoch] for table in tables] for epoch in epochs]
    return (
        epochs,
        [statistics.fmean(column) for column in columns],
        [min(column) for column in columns],
        [max(column) for column in columns],
    )


def draw_panel(panel: "Axes", name: str, curves: Sequence[Curve]) -> None:
    """Draws one panel of `plot_histories`.

    Args:
      panel: where.
      name: of the panel, the last word of its metrics' names.
      curves: what.

    Example:
      >>> from matplotlib.figure import Figure
      >>> panel = Figure().add_subplot()
      >>> draw_panel(panel, "loss", [Curve("", "train_loss", (((1, 2.0),),))])
      >>> panel.get_ylabel()
      'loss'
    """
    from matplotlib import lines

    groups = list(dict.fromkeys(curve.group for curve in curves))
    metrics = list(dict.fromkeys(curve.metric for curve in curves))
    others = iter(_OTHERS * len(metrics))
    # one group: a colour for each metric; several: one for each group, and line styles
    by_metric = {m: _SERIES.get(m.split("_")[0]) or next(others) for m in metrics}
    by_group = {
        g: palette.GROUPS[i % len(palette.GROUPS)] for i, g in enumerate(groups)
    }
    style = {m: _STYLES[i % len(_STYLES)] for i, m in enumerate(metrics)}
    single = len(groups) == 1
    for curve in curves:
        _draw_curve(
            panel,
            curve,
            by_metric[curve.metric] if single else by_group[curve.group],
            "-" if single else style[curve.metric],
        )
    for place in stage_starts(curves):
        panel.axvline(place, color="#808080", linewidth=1.1, linestyle=":", zorder=1)
    epochs = {point[0] for curve in curves for points in curve.runs for point in points}
    frame(panel, _PANELS[name], epochs, share=name in ("share", "stability"))
    if single:
        keys = [lines.Line2D([], [], color=by_metric[m], lw=1.6) for m in metrics]
        names = [_short(metric, name) for metric in metrics]
    else:
        keys = [lines.Line2D([], [], color=by_group[g], lw=1.6) for g in groups]
        names = list(groups)
        if len(metrics) > 1:
            keys += [
                lines.Line2D([], [], color=palette.INK, lw=1.2, linestyle=style[m])
                for m in metrics
            ]
            names += [_short(metric, name) for metric in metrics]
    if len(names) > 1:
        panel.legend(keys, [files.plain(n) for n in names], frameon=False, fontsize=8)


def frame(
    panel: "Axes", label: str, epochs: Iterable[float], *, share: bool = False
) -> None:
    """Axes, ticks and grid of a panel over the epochs.

    Args:
      panel: where.
      label: of the vertical axis.
      epochs: all that are shown.
      share: whether the values are in [0, 1].

    Example:
      >>> from matplotlib.figure import Figure
      >>> panel = Figure().add_subplot()
      >>> frame(panel, "loss", [3])
      >>> panel.get_xticks().tolist(), panel.get_ylabel()
      ([3], 'loss')
    """
    from matplotlib import ticker

    panel.set_xlabel("epoch")
    panel.set_ylabel(label)
    epochs = sorted(set(epochs))
    if len(epochs) == 1:
        panel.set_xticks(epochs)
    else:
        panel.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    panel.grid(color="#E4E4E4", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    if share:
        panel.set_ylim(-0.02, 1.02)


def stage_starts(curves: Iterable[Curve]) -> list[float]:
    """Where the stages of a run begin, but for the first.

    Args:
      curves: of `collect`.

    Returns:
      Places between epochs, ascending.

    Example:
      >>> rows = [{"epoch": n, "stage": n, "val_loss": 1.0} for n in (1, 2)]
      >>> stage_starts(collect({"": [rows]})["loss"])
      [1.5]
    """
    points = (point for curve in curves for run in curve.runs for point in run)
    return sorted({epoch for epoch, value in points if math.isnan(value)})


def _draw_curve(panel: "Axes", curve: Curve, color: str, style: Any) -> None:
    several = len(curve.runs) > 1
    label = " ".join(curve.metric.split("_")[:-1]) or curve.metric
    for points in curve.runs:
        epochs, values = zip(*points, strict=True)
        panel.plot(
            epochs,
            values,
            label=label,
            color=color,
            linestyle=style,
            linewidth=0.7 if several else 1.6,
            alpha=0.55 if several else 1.0,
            marker="o" if len(points) <= (1 if several else _MARKED) else None,
            markersize=3,
        )
    if several:
        epochs, means, lowest, highest = mean_curve(curve.runs)
        panel.fill_between(
            epochs, lowest, highest, color=color, alpha=0.13, linewidth=0
        )
        panel.plot(
            epochs,
            means,
            label=f"{label}, mean",
            color=color,
            linestyle=style,
            linewidth=2.2,
            marker="o" if len(epochs) == 1 else None,
            markersize=4,
        )


def _short(metric: str, panel: str) -> str:
    return " ".join(metric.split("_")[:-1]) or panel


def _split(ax: "Axes", number: int) -> list["Axes"]:
    """Panels side by side in the place of one axes."""
    gap = 0.28 if number > 1 else 0.0
    width = 1 / (number + gap * (number - 1))
    return [
        ax.inset_axes((index * width * (1 + gap), 0.08, width, 0.92))
        for index in range(number)
    ]
