"""The command line: ``jnas search``, ``jnas retrain``, ``jnas list``.

Heavy imports happen inside the commands, so that ``--help`` is quick.
"""

import dataclasses
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Annotated, Any

from jnas.errors import JnasError

__all__ = ["List", "Retrain", "Search", "entry", "main"]

# XLA:CPU allocates its temporaries anew at each step; without these settings of glibc's
# allocator the pages are returned to and fetched from the system every time, which
# doubles the time of memory-bound parts. They are read at start-up only.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}


@dataclasses.dataclass(frozen=True)
class Search:
    """Search an architecture, retrain it, and compare it with baselines.

    Without arguments: first-order DARTS in the NAS-Bench-201 space on the UCI digits
    that come with scikit-learn, then retraining of the found cell, of a random one and
    of the all-skip one under the same budget. The same command again goes on where it
    stopped, or shows the result if it is complete.
    """

    method: str = "darts"
    """How to search (see: jnas list)."""
    space: str = "nasbench201"
    """What to search (see: jnas list)."""
    data: str = "digits"
    """On what: a name (see: jnas list), an .npz file with images and labels, or a text
    file (.txt, .txt.gz; words:FILE reads it by word)."""
    data_dir: Path | None = None
    """Folder of the data files; by default $JNAS_DATA and the usual places."""
    epochs: int = 50
    """Length of the search."""
    batch_size: int = 64
    """Of search and retraining."""
    channels: int = 8
    """Channels of the first stage, in the supernet and the final networks."""
    cells: int | None = None
    """Cells of the supernet and the final networks (space darts; default 8)."""
    cells_per_stage: int | None = None
    """Cells in each of three stages (space nasbench201; default 1)."""
    width: int = 64
    """Width of recurrent networks (space darts_rnn)."""
    bptt: int = 35
    """Times of a window of text."""
    order: int = 1
    """1, or 2: differentiate through one virtual weight step (darts, darts_rnn)."""
    second_order: str = "exact"
    """For order 2: exact, or finite_difference as in the published results."""
    learning_rate: float | None = None
    """Of the supernet's weights (default: the method's)."""
    arch_learning_rate: float | None = None
    """Of the architecture (default: the published one, scaled to short searches)."""
    seed: int = 0
    """Of the search."""
    retrain_epochs: int = 30
    """Length of each retraining; 0 leaves it out."""
    retrain_seeds: int = 3
    """How many trainings per network."""
    retrain_learning_rate: float | None = None
    """At the start of the retraining (default: the recipe's)."""
    baselines: bool = True
    """Retrain a random and the all-skip genotype, too."""
    workdir: Path | None = None
    """Where everything is written (default: runs/METHOD-SPACE-DATA-seedN)."""


@dataclasses.dataclass(frozen=True)
class Retrain:
    """Train the network of one genotype from scratch and test it."""

    genotype: str
    """A published name (DARTS_V2), its text, JSON, or a file that holds one."""
    data: str = "digits"
    """A name (see: jnas list), an .npz file with images and labels, or a text file."""
    data_dir: Path | None = None
    """Folder of the data files; by default $JNAS_DATA and the usual places."""
    epochs: int = 30
    """Length of each training."""
    batch_size: int = 64
    """Images per step."""
    channels: int = 8
    """Channels of the first stage."""
    cells: int | None = None
    """Cells (DARTS-like genotypes; default 8)."""
    cells_per_stage: int | None = None
    """Cells in each of three stages (NAS-Bench-201; default 1)."""
    width: int = 64
    """Width of recurrent networks."""
    bptt: int = 35
    """Times of a window of text."""
    learning_rate: float | None = None
    """At the start (default: the recipe's)."""
    auxiliary: bool = False
    """Train with the auxiliary head (DARTS-like genotypes, images from 32x32)."""
    seeds: int = 3
    """How many trainings."""
    workdir: Path | None = None
    """Where checkpoints and metrics are written (default: nowhere)."""


@dataclasses.dataclass(frozen=True)
class List:
    """Show methods, spaces, genotypes and datasets with one line each."""


def _size(space_is_stages: bool, args: Search | Retrain) -> dict[str, Any]:
    """The network's depth, with defaults that suit small machines."""
    if space_is_stages:
        if args.cells is not None:
            raise JnasError("--cells is for DARTS-like cells: use --cells-per-stage")
        return {"cells_per_stage": args.cells_per_stage or 1}
    if args.cells_per_stage is not None:
        raise JnasError("--cells-per-stage is for NAS-Bench-201 cells: use --cells")
    return {"cells": args.cells or 8}


def _check_kinds(args: Search, space: Any, data: Any) -> None:
    """Method, space and data must all be for text, or none of them."""
    from jnas import data as datasets

    recurrent = "recurrent" in space.names
    is_text = isinstance(data, datasets.TextDataset)
    told = {
        f"--method {args.method}": args.method == "darts_rnn",
        f"--space {args.space}": recurrent,
        f"--data {args.data}": is_text,
    }
    if len(set(told.values())) > 1:
        texts = [name for name, value in told.items() if value]
        others = [name for name, value in told.items() if not value]
        raise JnasError(
            f"{' and '.join(texts)} {'are' if len(texts) > 1 else 'is'} for text, "
            f"{' and '.join(others)} for images: for text use --method darts_rnn "
            "--space darts_rnn --data tinyshakespeare"
        )


def _positive(args: Any, *names: str) -> None:
    for name in names:
        if getattr(args, name) < 1:
            option = "--" + name.replace("_", "-")
            raise JnasError(f"{option} must be at least 1, got {getattr(args, name)}")


def _search(args: Search) -> None:
    from jnas import data as datasets
    from jnas import presets, report, run, spaces
    from jnas.run import comparing

    _positive(args, "epochs", "batch_size", "channels", "width", "retrain_seeds")
    if args.retrain_epochs < 0:
        raise JnasError(f"--retrain-epochs must be >= 0, got {args.retrain_epochs}")
    method = presets.get(args.method)
    space = spaces.get(args.space)
    data = datasets.load(args.data, data_dir=args.data_dir)
    _check_kinds(args, space, data)
    options: dict[str, Any] = {
        "arch_learning_rate": args.arch_learning_rate,
        "order": args.order,
        "second_order": args.second_order,
    }
    if args.learning_rate is not None:
        options["learning_rate"] = args.learning_rate
    is_text = isinstance(data, datasets.TextDataset)
    if is_text:
        retraining: dict[str, Any] = {"width": args.width, "bptt": args.bptt}
        options |= {**retraining, "vocab_size": data.vocab_size}
        feed = datasets.text_feed(
            data.train, data.validation, batch_size=args.batch_size, bptt=args.bptt
        )
        steps = feed.steps_per_epoch
    else:
        size = _size("reduce" not in space.names, args)
        retraining = {"channels": args.channels, **size}
        options |= {**retraining, "num_classes": data.num_classes}
        steps = -(-len(data.train) // args.batch_size)
    search = method(space, epochs=args.epochs, steps_per_epoch=steps, **options)
    data_name = Path(args.data).stem.replace(":", "-")
    default = Path("runs") / f"{args.method}-{args.space}-{data_name}-seed{args.seed}"
    workdir = args.workdir or default
    console = _console()
    console.print(
        f"[bold]{args.method}[/] in space [bold]{args.space}[/] on [bold]{data.name}[/]"
        f": {len(data.train)} train, {len(data.validation)} validation, "
        f"{len(data.test)} test {'tokens' if is_text else 'images'}; writing to "
        f"{workdir}",
        soft_wrap=True,
    )
    found = run.search(
        search,
        data,
        epochs=args.epochs,
        batch_size=args.batch_size,
        seed=args.seed,
        workdir=workdir / "search",
        save_every_epochs=max(1, args.epochs // 10),
    )
    report.draw(found.genotype, workdir / "cells.png")
    _draw_history(report, found.history, workdir / "history.png")
    probabilities = search.probabilities(found.state.arch).weights
    report.plot_arch(probabilities, space, workdir / "arch.png")
    (workdir / "genotype.json").write_text(found.genotype.to_json() + "\n")
    console.print(
        f"found {found.genotype}", highlight=False, markup=False, soft_wrap=True
    )

    notes = _verdict(comparing, found)
    for note in notes:
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    rows = {}
    if args.retrain_epochs:
        candidates = {"found": found.genotype}
        if args.baselines:
            candidates["random"] = comparing.random_genotype(space, args.seed)
            plain = "all identity" if is_text else "all skip"
            candidates[plain] = comparing.all_skip(space)
        recipe: dict[str, Any] = {}
        if args.retrain_learning_rate is not None:
            recipe["learning_rate"] = args.retrain_learning_rate
        for label, genotype in candidates.items():
            rows[label] = run.retrain(
                genotype,
                data,
                epochs=args.retrain_epochs,
                batch_size=args.batch_size,
                seeds=range(args.retrain_seeds),
                label=label,
                workdir=workdir / "retrain" / label.replace(" ", "-"),
                **retraining,
                **recipe,
            )
        _table(console, rows)
    comparing.write_summary(
        workdir / "summary.json",
        config={**_plain(args), "search": search.config},
        genotype=found.genotype,
        search_seconds=found.seconds,
        rows=rows,
        notes=notes,
    )
    console.print(
        f"search {found.seconds:.0f} s; see {workdir}/: summary.json, genotype.json, "
        "cells.png, history.png, arch.png",
        highlight=False,
        soft_wrap=True,
    )


def _draw_history(report: Any, rows: list[dict[str, Any]], path: Path) -> None:
    axes = report.plot_history(rows)
    axes[0].figure.savefig(path, dpi=150, bbox_inches="tight")


def _verdict(comparing: Any, found: Any) -> list[str]:
    notes = []
    collapsed = comparing.collapse(found.genotype)
    if collapsed:
        notes.append(collapsed)
    entropy = found.history[-1].get("arch_entropy") if found.history else None
    if entropy is not None and entropy > 0.98:
        notes.append(
            f"undecided: the architecture's entropy is {entropy:.0%} of uniform; "
            "search longer or raise --arch-learning-rate"
        )
    skipped = [row.get("arch_skipped") or 0.0 for row in found.history]
    if any(skipped):
        notes.append(
            f"skipped: {sum(skipped) / len(skipped):.1%} of the arch steps, as their "
            "hypergradient was not finite; try a smaller --learning-rate"
        )
    return notes


def _retrain(args: Retrain) -> None:
    from jnas import data as datasets
    from jnas import run
    from jnas.spaces import Genotype

    _positive(args, "epochs", "batch_size", "channels", "width", "seeds")
    text = args.genotype
    if Path(text).suffix and Path(text).is_file():
        text = Path(text).read_text()
    genotype = Genotype.parse(text)
    data = datasets.load(args.data, data_dir=args.data_dir)
    options: dict[str, Any] = {}
    if args.learning_rate is not None:
        options["learning_rate"] = args.learning_rate
    if genotype.names == ("recurrent",):
        options |= {"width": args.width, "bptt": args.bptt}
    else:
        options |= {"channels": args.channels, "auxiliary": args.auxiliary}
        options |= _size(genotype.names == ("cell",), args)
    row = run.retrain(
        genotype,
        data,
        epochs=args.epochs,
        batch_size=args.batch_size,
        seeds=range(args.seeds),
        workdir=args.workdir,
        **options,
    )
    _table(_console(), {"given": row})


def _list(args: List) -> None:
    del args
    from rich.table import Table

    from jnas import data as datasets
    from jnas import presets, spaces

    console = _console()
    lines = {
        "methods": presets.names(),
        "spaces": {
            name: f"{spaces.get(name).size:.3g} candidates; groups "
            + ", ".join(
                f"{g.name} ({g.num_edges} edges x {g.num_operations} operations)"
                for g in spaces.get(name).groups
            )
            for name in spaces.names()
        },
        "genotypes": {n: "published" for n in spaces.genotype_names()},
        "data": datasets.names(),
    }
    for title, entries in lines.items():
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for name, line in entries.items():
            table.add_row(name, line)
        console.print(table)


def _console() -> Any:
    from rich.console import Console

    return Console()


def _plain(args: Any) -> dict[str, Any]:
    return {
        k: str(v) if isinstance(v, Path) else v
        for k, v in dataclasses.asdict(args).items()
    }


def _table(console: Any, rows: dict[str, Any]) -> None:
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


def _use_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX is told where."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(Path(root) / "jnas" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the arguments, by default those of the process.

    Returns:
      The exit status: 0, 2 for an error of the user's, 128 + signal when stopped.

    Example:
      >>> main(["list"])  # doctest: +ELLIPSIS
      methods...
      0
    """
    import tyro

    command: Any = tyro.cli(
        Annotated[Search, tyro.conf.subcommand("search")]
        | Annotated[Retrain, tyro.conf.subcommand("retrain")]
        | Annotated[List, tyro.conf.subcommand("list")],
        prog="jnas",
        description="Differentiable neural architecture search in JAX.",
        args=argv,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.PositionalRequiredArgs),
    )
    run = {Search: _search, Retrain: _retrain, List: _list}[type(command)]
    try:
        if not isinstance(command, List):
            _use_cache()
        run(command)
    except JnasError as error:
        message = " ".join(str(error).split())
        print(f"jnas: {message}", file=sys.stderr)
        signum = getattr(error, "signum", None)
        return 2 if signum is None else 128 + signum
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"jnas: can't use{where}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def entry() -> None:
    """The program ``jnas``: sets the allocator on Linux, then runs `main`."""
    if sys.platform == "linux" and not any(name in os.environ for name in _ALLOCATOR):
        env = {**os.environ, **_ALLOCATOR}
        os.execve(sys.executable, [sys.executable, "-m", "jnas", *sys.argv[1:]], env)
    sys.exit(main())
