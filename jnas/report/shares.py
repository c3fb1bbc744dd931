"""Pictures of what in each cell has nothing to learn, over the epochs of a search."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jnas import errors
from jnas.report import collapse, curves, page, palette, records
from jnas.report.page import Pictures
from jnas.report.runs import Run
from jnas.spaces import kinds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_shares", "section", "series"]

_COLORS = {
    "skip": "#E69F00",
    "pool": "#0072B2",
    "none": "#000000",
    "noise": "#CC79A7",
}
_SIZE = (4.3, 3.0)  # of a panel, inches

# {cell: {(kind, "mixture" | "derived"): [(epoch, share)]}}
Series = dict[str, dict[tuple[str, str], list[tuple[int, float]]]]


def series(rows: Iterable[Mapping[str, Any]]) -> Series:
    """Gathers the shares of skips, pools, ... by cell.

    Args:
      rows: of the epochs; "shares" has those of the mixture, "genotype" the derived
        cells.

    Returns:
      Points (epoch, share) by cell, by kind and by what it is a share of; empty if the
      rows have no shares.

    Example:
      >>> series([{"epoch": 1, "shares": {"cell": {"skip": 0.25}}}])
      {'cell': {('skip', 'mixture'): [(1, 0.25)]}}
    """
    found: Series = {}
    for row in rows:
        own = row.get("shares")
        if not isinstance(own, Mapping):
            continue
        genotype = collapse.genotype_of(row)
        cells = {} if genotype is None else dict(genotype.cells)
        for name, parts in own.items():
            lines = found.setdefault(name, {})
            told = (
                [kinds.kind(edge.operation) for edge in cells[name].edges]
                if (name in cells)
                else []
            )
            for kind, share in parts.items():
                point = (row["epoch"], share)
                lines.setdefault((kind, "mixture"), []).append(point)
                if told:
                    point = (row["epoch"], told.count(kind) / len(told))
                    lines.setdefault((kind, "derived"), []).append(point)
    return {name: lines for name, lines in found.items() if lines}


def plot_shares(
    rows: Iterable[Mapping[str, Any]], ax: "Axes | None" = None
) -> tuple["Axes", ...]:
    """Draws, for each cell, how much of it has nothing to learn over the epochs.

    Solid lines are mean probabilities in the mixture, dashed ones shares of the derived
    cell's edges.

    Args:
      rows: of ``metrics.jsonl``, one an epoch.
      ax: axes for a space of one cell; by default a new figure.

    Returns:
      The axes, one for each cell.

    Raises:
      JnasError: the rows have no shares, or several cells and an ``ax``.

    Example:
      >>> rows = [{"epoch": e, "shares": {"cell": {"skip": e / 4}}} for e in (1, 2)]
      >>> (panel,) = plot_shares(rows)
      >>> panel.get_title(loc="left")
      'cell'
    """
    from matplotlib import figure

    found = series(rows)
    if not found:
        raise errors.JnasError(
            "the history has no shares to draw: expected 'shares' in its rows, which "
            "jnas.run.search writes"
        )
    if ax is not None and len(found) > 1:
        raise errors.JnasError(
            f"ax is for one cell, got {len(found)}: {', '.join(found)}; leave it out"
        )
    if ax is None:
        size = (_SIZE[0] * len(found), _SIZE[1])
        fig = figure.Figure(figsize=size, layout="constrained")
        axes = list(fig.subplots(1, len(found), squeeze=False)[0])
    else:
        axes = [ax]
    for panel, (name, lines) in zip(axes, found.items(), strict=True):
        _draw(panel, name, lines)
    return tuple(axes)


def section(
    runs: Sequence[Run], names: Sequence[str], shown: Pictures, most: int | None = None
) -> str:
    """The section of a report: for each run a panel a cell, of ``most`` epochs."""
    from matplotlib import figure

    parts = []
    for run, name in zip(runs, names, strict=True):
        drawn = []
        for cell, lines in series(records.thinned(run.history, most)).items():
            fig = figure.Figure(figsize=_SIZE, layout="constrained")
            _draw(fig.add_subplot(), cell, lines)
            drawn.append(shown.inline(fig, f"what has nothing to learn in {cell}"))
        if drawn:
            inner = f'<div class="panels">{"".join(drawn)}</div>'
            if len(runs) > 1:
                inner = page.fold(name, inner, opened=not parts)
            parts.append(inner)
    if not parts:
        return ""
    note = (
        '<p class="soft">Solid: mean probability in the mixture; dashed: share of the '
        "derived cell's edges. Cells collapse where these rise towards 1.</p>"
    )
    return page.section("shares", "What has nothing to learn", *parts, note)


def _draw(
    panel: "Axes", name: str, lines: Mapping[tuple[str, str], list[tuple[int, float]]]
) -> None:
    from matplotlib import lines as artists

    for (kind, of), points in lines.items():
        epochs, values = zip(*points, strict=True)
        panel.plot(
            epochs,
            values,
            color=_COLORS.get(kind, palette.GREY),
            linestyle="-" if of == "mixture" else (0, (4, 2)),
            linewidth=1.6 if of == "mixture" else 1.1,
            marker="o" if len(points) == 1 else None,
            markersize=3,
        )
    shown = list(dict.fromkeys(kind for kind, _ in lines))
    keys = [
        artists.Line2D([], [], color=_COLORS.get(kind, palette.GREY), lw=1.6)
        for kind in shown
    ]
    panel.legend(keys, shown, frameon=False, fontsize=8)
    panel.set_title(name, loc="left", fontsize=9)
    epochs = [epoch for points in lines.values() for epoch, _ in points]
    curves.frame(panel, "share of the cell", epochs, share=True)
