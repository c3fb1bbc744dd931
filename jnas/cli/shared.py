"""What several commands need: checks of options, tables, the compilation cache."""

import dataclasses
import math
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from jnas.errors import JnasError

__all__ = [
    "console",
    "load",
    "not_negative",
    "plain",
    "positive",
    "size",
    "table",
    "use_cache",
]


def size(space_is_stages: bool, args: Any) -> dict[str, Any]:
    """The network's depth, with defaults that suit small machines."""
    if space_is_stages:
        if args.cells is not None:
            raise JnasError("--cells is for DARTS-like cells: use --cells-per-stage")
        return {"cells_per_stage": args.cells_per_stage or 1}
    if args.cells_per_stage is not None:
        raise JnasError("--cells-per-stage is for NAS-Bench-201 cells: use --cells")
    return {"cells": args.cells or 8}


def positive(args: Any, *names: str) -> None:
    """Refuses options that must be at least 1."""
    for name in names:
        if getattr(args, name) < 1:
            option = "--" + name.replace("_", "-")
            raise JnasError(f"{option} must be at least 1, got {getattr(args, name)}")


def not_negative(args: Any, *names: str) -> None:
    """Refuses options that must be at least 0."""
    for name in names:
        if getattr(args, name) < 0:
            option = "--" + name.replace("_", "-")
            raise JnasError(f"{option} must be >= 0, got {getattr(args, name)}")


def load(args: Any) -> Any:
    """The dataset of a command's options."""
    from jnas import data as datasets

    if args.image_size is not None:
        positive(args, "image_size")
        if args.image_size < 8:
            raise JnasError(f"--image-size must be at least 8, got {args.image_size}")
    return datasets.load(
        args.data, data_dir=args.data_dir, stream=args.stream, resize=args.image_size
    )


def console() -> Any:
    """Where commands print."""
    from rich.console import Console

    return Console()


def plain(args: Any) -> dict[str, Any]:
    """The arguments of a command, made of JSON's types."""
    return {name: _json(value) for name, value in dataclasses.asdict(args).items()}


def _json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_json(item) for item in value]
    return value


def table(console: Any, rows: dict[str, Any]) -> None:
    """Prints what retraining gave."""
    from rich.table import Table

    seeds = {len(row.seeds) for row in rows.values()}
    table = Table(
        title=f"retrained from scratch, test split, {max(seeds)} seed(s), mean ± "
        "standard error",
        title_justify="left",
    )
    table.add_column("network", no_wrap=True)
    table.add_column("genotype", overflow="fold")
    is_text = all(row.bits for row in rows.values())
    figure = "test bits" if is_text else "test accuracy"
    for column in ("parameters", figure, "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for label, row in rows.items():
        error = f" ± {row.standard_error:.2%}" if len(row.seeds) > 1 else ""
        table.add_row(
            label,
            _folded(row.genotype),
            f"{row.parameters:,}",
            _spread(row.bits) if is_text else f"{row.mean:.2%}{error}",
            f"{sum(row.seconds):.0f}",
        )
    console.print(table)


def _spread(values: Any) -> str:
    """Mean and standard error of some values."""
    mean = f"{statistics.fmean(values):.4f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values) / math.sqrt(len(values)):.4f}"


def _folded(genotype: Any) -> str:
    """A genotype's text for a narrow column: a line per node, no markup."""
    text = str(genotype).replace("|+|", "|+\n|").replace("[", "\\[")
    if genotype.names == ("recurrent",):
        text = text.replace("), (", "),\n(").replace(", concat", ",\nconcat")
    return text.replace(", reduce=", ",\nreduce=")


def use_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX is told where.

    Where that can't be written, one line says so, and the command runs without.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(root) / "jnas" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        print(
            f"jnas: can't keep compiled programs in {folder} "
            f"({error.strerror or error}), so every run compiles anew: set "
            "XDG_CACHE_HOME to a folder that can be written",
            file=sys.stderr,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
