"""Magnitude against strength: the mixture's weights and what removals cost.

Perturbation-based selection (DARTS-PT, Wang et al., ICLR 2021) measures both when it
decides an edge. Where the weights told what operations are worth, the points would rise
together.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jnas.errors import JnasError
from jnas.report import page, palette
from jnas.report.page import Pictures
from jnas.report.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["agreement", "plot_strengths", "section"]

_SIZE = (4.6, 3.4)  # of a panel, inches


def agreement(record: Mapping[str, Any]) -> tuple[int, int, float | None]:
    """How far the weights of a mixture tell what removals cost.

    Args:
      record: of one group: "magnitude" and "strength", ``[E, O]``, None where nothing
        was measured, and "chosen" ``[E]``.

    Returns:
      On how many edges the operation of the largest weight was chosen, of how many that
      were decided, and the mean over edges of Spearman's rank correlation (None where
      no edge has two different values of each).

    Example:
      >>> agreement(
      ...     {"magnitude": [[0.2, 0.8]], "strength": [[0.5, 0.1]], "chosen": [0]})
      (0, 1, -1.0)
    """
    same, decided, correlations = 0, 0, []
    for weights, drops, chosen in zip(
        record["magnitude"], record["strength"], record["chosen"], strict=True
    ):
        pairs = _pairs(weights, drops)
        if not pairs:
            continue
        decided += 1
        columns, x, y = zip(*pairs, strict=True)
        same += columns[int(np.argmax(x))] == chosen
        a, b = _ranks(x), _ranks(y)
        if a.std() > 0 and b.std() > 0:
            correlations.append(float(np.corrcoef(a, b)[0, 1]))
    mean = round(float(np.mean(correlations)), 6) if correlations else None
    return same, decided, mean


def plot_strengths(
    record: Mapping[str, Any],
    operations: Sequence[str] | None = None,
    ax: "Axes | None" = None,
    title: str = "",
) -> "Axes":
    """Draws what the removal of each operation costs over its weight in the mixture.

    Args:
      record: of one group, as of `agreement` (in ``regularizer.json``, "strengths").
      operations: names of the columns, for colours.
      ax: where to draw; by default a new figure.
      title: of the panel.

    Returns:
      The axes. Chosen operations are filled.

    Raises:
      JnasError: nothing was measured.

    Example:
      >>> axes = plot_strengths(
      ...     {"magnitude": [[0.2, 0.8]], "strength": [[0.5, 0.1]], "chosen": [0]})
      >>> axes.get_xlabel()
      'weight in the mixture'
    """
    from matplotlib import figure, lines

    points = [
        (column, x, y, column == chosen)
        for weights, drops, chosen in zip(
            record["magnitude"], record["strength"], record["chosen"], strict=True
        )
        for column, x, y in _pairs(weights, drops)
    ]
    if not points:
        raise JnasError(
            "nothing was measured: strengths are written by searches that decide by "
            "perturbation (darts_pt)"
        )
    if ax is None:
        ax = figure.Figure(figsize=_SIZE, layout="constrained").add_subplot()
    names = list(operations or [])
    markers = _markers(names)
    for column, x, y, chosen in points:
        color = palette.color(names[column]) if column < len(names) else palette.GREY
        ax.plot(
            x,
            y,
            markers.get(column, "o"),
            markersize=6,
            color=color,
            markerfacecolor=color if chosen else "none",
            markeredgewidth=1.2,
        )
    ax.axhline(0, color=palette.GREY, linewidth=0.6, zorder=0)
    ax.set_xlabel("weight in the mixture")
    ax.set_ylabel("loss by removal")
    ax.set_title(title, loc="left", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    used = dict.fromkeys(column for column, *_ in points)
    keys = [
        lines.Line2D(
            [], [], marker=markers[c], linestyle="", color=palette.color(names[c])
        )
        for c in used
        if c < len(names)
    ]
    shown = [names[c] for c in used if c < len(names)]
    if keys:
        ax.legend(keys, shown, frameon=False, fontsize=7, loc="best")
    return ax


def section(runs: Sequence[Run], names: Sequence[str], shown: Pictures) -> str:
    """The section of a report: a panel for each cell of each run that has strengths."""
    parts = []
    for run, name in zip(runs, names, strict=True):
        drawn = []
        for cell, record in (run.strengths or {}).items():
            same, decided, correlation = agreement(record)
            if not decided:
                continue
            group = None if run.space is None else run.space.group(cell)
            operations = None if group is None else group.operations
            axes = plot_strengths(record, operations, title=cell)
            told = f"the largest weight was chosen on {same} of {decided} edges"
            if correlation is not None:
                told += f"; mean rank correlation {correlation:.2f}"
            label = f"what removals cost by weight in {cell}"
            picture = shown.inline(axes.get_figure(), label)
            drawn.append(f'<div>{picture}<p class="soft">{page.text(told)}</p></div>')
        if drawn:
            inner = f'<div class="panels">{"".join(drawn)}</div>'
            if len(runs) > 1:
                inner = page.fold(name, inner, opened=not parts)
            parts.append(inner)
    if not parts:
        return ""
    note = (
        '<p class="soft">Each point is an operation of an edge when the edge was '
        "decided: its weight in the mixture, and by how much the validation metric got "
        "worse without it. Filled: chosen.</p>"
    )
    return page.section("strengths", "Weights and what removals cost", *parts, note)


def _markers(names: Sequence[str]) -> dict[int, str]:
    """A shape for each operation among those of its family, which share a colour."""
    families = [palette.family(name) for name in names]
    return {
        column: "os^Dv"[families[:column].count(family) % 5]
        for column, family in enumerate(families)
    }


def _pairs(weights: Any, drops: Any) -> list[tuple[int, float, float]]:
    """(column, weight, loss) of what was measured."""
    return [
        (column, float(x), float(y))
        for column, (x, y) in enumerate(zip(weights, drops, strict=True))
        if x is not None and y is not None
    ]


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks; equal values share their mean."""
    array = np.asarray(values)
    below = (array[None] < array[:, None]).sum(axis=1)
    equal = (array[None] == array[:, None]).sum(axis=1)
    return below + (equal - 1) / 2
