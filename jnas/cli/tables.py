"""``jnas tables``: which benchmark tables there are, and converting official files."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

__all__ = ["Convert", "ListTables", "Tables", "run"]


@dataclasses.dataclass(frozen=True)
class Convert:
    """Convert an official release to the compact file that jnas reads.

    Official files are read as data, nothing in them is run. nasbench201 takes the
    folder NATS-tss-v1_0-3ffb9-simple of NATS-Bench, nasbench101 the file
    nasbench_only108.tfrecord or nasbench_full.tfrecord; both take a compact .npz, too.
    """

    table: str
    """nasbench201 or nasbench101."""
    path: Path
    """The official file or folder, or a compact .npz."""
    to: Path | None = None
    """The folder to write into; by default the user's jnas folder, where jnas finds the
    table."""
    workers: int = 1
    """Processes that read the 15,625 files of NATS-Bench."""
    partial: bool = False
    """Whether files of cells may be missing."""


@dataclasses.dataclass(frozen=True)
class ListTables:
    """Show which tables are there, where, with how many cells and which datasets."""


@dataclasses.dataclass(frozen=True)
class Tables:
    """List benchmark tables, or convert official files to the compact ones."""

    command: (
        Annotated[Convert, tyro.conf.subcommand("convert")]
        | Annotated[ListTables, tyro.conf.subcommand("list")]
    )


def run(args: Tables) -> None:
    """Runs the command.

    Args:
      args: what to do.

    Raises:
      JnasError: the file to convert is missing or malformed.
    """
    if isinstance(args.command, Convert):
        _convert(args.command)
    else:
        _list()


def _convert(args: Convert) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from jnas.tabular import converting

    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(f"reading {args.path.name}", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        written = converting.convert(
            args.table,
            args.path,
            args.to,
            workers=args.workers,
            partial=args.partial,
            progress=progress,
        )
    print(f"wrote {written}")


def _list() -> None:
    from rich.table import Table

    from jnas import tabular
    from jnas.cli import shared
    from jnas.errors import JnasError

    table = Table(title="tables", title_justify="left", box=None)
    for name in ("name", "cells", "datasets", "where"):
        table.add_column(name, overflow="fold", no_wrap=name == "name")
    for name in tabular.names():
        cells, datasets = "-", "-"
        try:
            found: Any = tabular.get(name)
        except JnasError as error:
            where = str(error)
        else:
            cells, datasets = f"{len(found):,}", ", ".join(found.datasets)
            where = found.source
        table.add_row(name, cells, datasets, where.replace("[", "\\["))
    shared.console().print(table)
