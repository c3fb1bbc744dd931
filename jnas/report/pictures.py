"""The pictures of a report: which there are, as files and as parts of a page."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jnas.errors import JnasError
from jnas.report import (
    cells,
    comparison,
    curves,
    dot,
    files,
    heatmaps,
    palette,
    records,
    shares,
    spread,
    strengths,
)
from jnas.report import runs as reading
from jnas.report.runs import Run
from jnas.report.trained import Network

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "colors",
    "compared",
    "networks",
    "search_histories",
    "training_histories",
    "write_figures",
]


def write_figures(
    runs: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    formats: Sequence[str] = ("png", "svg"),
) -> list[Path]:
    """Writes every picture of some runs into a folder, and their cells as DOT text.

    Args:
      runs: folders of runs.
      folder: where; it is made if it does not exist. Pictures of the same names are
        replaced, other files are left alone.
      formats: of the pictures: "png", "svg", "pdf".

    Returns:
      The files.

    Raises:
      JnasError: a folder is no run's, a file is damaged, a format is unknown, or the
        folder can't be written to.

    Example:
      >>> write_figures("no/such/run", "figures")
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: run folder no/such/run does not exist: give the folder \
that a search wrote
    """
    import matplotlib

    found = reading.read_all(runs)
    folder = Path(folder)
    wanted = [files.check_format(name) for name in formats]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JnasError(
            f"can't make folder {folder}: {error.strerror or error}"
        ) from error
    written: list[Path] = []

    def save(axes: "Axes", name: str) -> None:
        for suffix in wanted:
            written.append(folder / f"{name}.{suffix}")
            files.save(axes.figure, written[-1])

    try:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # not the style of whoever calls
            for name, axes in _pictures(found).items():
                save(axes, name)
        for name, text in _dots(found).items():
            written.append(folder / f"{name}.dot")
            written[-1].write_text(text, encoding="utf-8")
    except OSError as error:
        raise JnasError(
            f"can't write to {folder}: {error.strerror or error}"
        ) from error
    return written


def _pictures(runs: Sequence[Run]) -> dict[str, "Axes"]:
    """One axes of each figure by the figure's name."""
    found: dict[str, Axes] = {}
    for run, prefix in zip(runs, _prefixes(runs), strict=True):
        if run.genotype is not None:
            found[f"{prefix}cells"] = cells.plot_cells(run.genotype)[0]
        if run.probabilities is not None:
            space = run.space or heatmaps.stand_in(run.probabilities)
            found[f"{prefix}arch"] = heatmaps.plot_arch(run.probabilities, space)[0]
            found[f"{prefix}arch_history"] = heatmaps.plot_arch_history(
                run.history, run.space, genotype=run.genotype
            )[0]
        if shares.series(run.history):
            found[f"{prefix}shares"] = shares.plot_shares(run.history)[0]
        for cell, record in (run.strengths or {}).items():
            if strengths.agreement(record)[1]:
                group = None if run.space is None else run.space.group(cell)
                names = None if group is None else group.operations
                axes = strengths.plot_strengths(record, names, title=cell)
                found[f"{prefix}strengths_{cell}"] = axes
    for name, histories in (
        ("history", search_histories(runs)),
        ("retraining", training_histories(runs)),
    ):
        if curves.collect(histories):
            found[name] = curves.plot_histories(histories)[0]
    for label, values in compared(runs).items():
        name = "comparison" if "accuracy" in label else "comparison_bits"
        found[name] = comparison.plot_comparison(
            values, label=label, colors=colors(runs)
        )
    return found


def _dots(runs: Sequence[Run]) -> dict[str, str]:
    return {
        prefix + _safe(group): dot.to_dot(run.genotype, group)
        for run, prefix in zip(runs, _prefixes(runs), strict=True)
        if run.genotype is not None
        for group in run.genotype.names
    }


def search_histories(
    runs: Sequence[Run], most: int | None = None
) -> dict[str, list[Sequence[Mapping[str, Any]]]]:
    """The rows of searches by setting, with the stability of their genotypes.

    Args:
      runs: the runs.
      most: how many rows of each; if there are more, every second, third, ... is kept.

    Returns:
      As `jnas.report.plot_histories` takes them; runs without rows are left out.

    Example:
      >>> search_histories([])
      {}
    """
    groups: dict[str, list[Sequence[Mapping[str, Any]]]] = {}
    for setting in spread.settings(runs):
        for run in (runs[index] for index in setting.indices):
            if not run.history:
                continue
            shares = spread.stability(run.history)
            rows = [
                {**row, "genotype_stability": share}
                for row, share in zip(run.history, shares, strict=True)
            ]
            groups.setdefault(setting.label, []).append(records.thinned(rows, most))
    return groups


def training_histories(
    runs: Sequence[Run], most: int | None = None
) -> dict[str, list[Sequence[Mapping[str, Any]]]]:
    """The rows of retrainings by network, and by setting if there are several.

    Args:
      runs: the runs.
      most: as in `search_histories`.

    Returns:
      As `jnas.report.plot_histories` takes them: each seed of each run on its own.

    Example:
      >>> training_histories([])
      {}
    """
    groups: dict[str, list[Sequence[Mapping[str, Any]]]] = {}
    for setting in spread.settings(runs):
        for network in (n for index in setting.indices for n in runs[index].networks):
            name = network.label
            name += f", {setting.label}" if setting.label else ""
            for rows in filter(None, network.histories.values()):
                groups.setdefault(name, []).append(records.thinned(rows, most))
    return groups


def compared(runs: Sequence[Run]) -> dict[str, dict[str, tuple[float, ...]]]:
    """What networks reached: for each kind of figure, the values by network.

    Args:
      runs: the runs.

    Returns:
      As `jnas.report.plot_comparison` takes them, by its label; networks of one label
      are next to each other.

    Example:
      >>> compared([])
      {}
    """
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for _, name, network in networks(runs):
        if network.values:
            bits = "test bits per token, lower is better"
            kind = bits if network.bits else "test accuracy"
            found.setdefault(kind, {})[name] = network.values
    return found


def colors(runs: Sequence[Run]) -> dict[str, str]:
    """The colours of networks in a comparison: one for each label.

    Args:
      runs: the runs.

    Returns:
      {name as in `compared`: colour}.

    Example:
      >>> colors([])
      {}
    """
    rows = networks(runs)
    order = list(dict.fromkeys(label for label, _, _ in rows))
    return {
        name: palette.GROUPS[order.index(label) % len(palette.GROUPS)]
        for label, name, _ in rows
    }


def networks(runs: Sequence[Run]) -> list[tuple[str, str, Network]]:
    """All networks of some runs, those of one label together.

    Args:
      runs: the runs.

    Returns:
      For each its label, its name (with the run's, if there are several) and itself.

    Example:
      >>> networks([])
      []
    """
    several = len(runs) > 1
    rows = [
        (
            network.label,
            f"{network.label}, {name}" if several else network.label,
            network,
        )
        for run, name in zip(runs, spread.names(runs), strict=True)
        for network in run.networks
    ]
    order = list(dict.fromkeys(label for label, _, _ in rows))
    return sorted(rows, key=lambda row: order.index(row[0]))


def _prefixes(runs: Sequence[Run]) -> list[str]:
    if len(runs) == 1:
        return [""]
    names = [_safe(name) for name in spread.names(runs)]
    if len(set(names)) < len(names):
        names = [f"{number}-{name}" for number, name in enumerate(names, start=1)]
    return [f"{name}-" for name in names]


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-") or "cell"
