"""``jnas search``: search, retrain, compare."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any, Literal

from jnas.cli import config, shared
from jnas.errors import JnasError

__all__ = ["Search", "finished", "run"]


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
    """On what: a name (see: jnas list), an .npz file with images and labels, a folder
    of images, or a text file (.txt, .txt.gz; words:FILE reads it by word)."""
    data_dir: Path | None = None
    """Folder of the data files; by default $JNAS_DATA and the usual places."""
    image_size: int | None = None
    """Side that images of folders and other encoded images are resized to."""
    stream: bool = False
    """Read images batch by batch, for sets larger than the device's memory (needs
    Grain: pip install jnas[grain])."""
    epochs: int = 50
    """Length of the search, or of each of its stages."""
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
    order: int | None = None
    """1, or 2: differentiate through one virtual weight step (darts, darts_rnn)."""
    second_order: str | None = None
    """For order 2: exact, or finite_difference as in the published results."""
    learning_rate: float | None = None
    """Of the supernet's weights (default: the method's)."""
    arch_learning_rate: float | None = None
    """Of the architecture (default: the published one, scaled to short searches)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the networks compute in, in search and retraining; weights, statistics,
    losses and the architecture are float32 in any case."""
    seed: int = 0
    """Of the search."""
    retrain_epochs: int | None = None
    """Length of each retraining (default: 30, or the recipe's); 0 leaves it out."""
    retrain_recipe: str | None = None
    """Retrain by a published recipe, at its size (see: jnas list), instead of a short
    training at the size of the search."""
    retrain_seeds: int = 3
    """How many trainings per network."""
    retrain_learning_rate: float | None = None
    """At the start of the retraining (default: the recipe's)."""
    baselines: bool = True
    """Retrain a random and the all-skip genotype, too."""
    on_nan: Literal["stop", "skip", "rollback"] = "stop"
    """When a loss is not finite: stop and say so, leave such steps out, or go back to
    the last checkpoint and on with the data in another order."""
    workdir: Path | None = None
    """Where everything is written (default: runs/METHOD-SPACE-DATA-seedN)."""
    config: Path | None = None
    """Start from the options of a configuration file, such as the config.json of a run;
    options given here go before them."""


def run(args: Search) -> None:
    """Runs the command."""
    from jnas import data as datasets
    from jnas.networks import recipes
    from jnas.run.workdir import claim

    shared.positive(args, "epochs", "batch_size", "channels", "width", "retrain_seeds")
    shared.not_negative(args, "seed")
    if args.retrain_epochs is not None:
        shared.not_negative(args, "retrain_epochs")
    if args.retrain_recipe is not None:
        recipes.get(args.retrain_recipe)  # not after hours
    search, space, data, retraining = _built(args)
    is_text = isinstance(data, datasets.TextDataset)
    data_name = Path(args.data).stem.replace(":", "-")
    default = Path("runs") / f"{args.method}-{args.space}-{data_name}-seed{args.seed}"
    workdir = args.workdir or default
    console = shared.console()
    console.print(
        f"[bold]{args.method}[/] in space [bold]{args.space}[/] on [bold]{data.name}[/]"
        f": {len(data.train)} train, {len(data.validation)} validation, "
        f"{len(data.test)} test {'tokens' if is_text else 'images'}; writing to "
        f"{workdir}",
        soft_wrap=True,
    )
    meant = (search.config or {}).get("published_batch_size")
    if args.learning_rate is None and meant not in (None, args.batch_size):
        scaled = search.config["learning_rate"] * args.batch_size / meant
        console.print(
            f"note: {args.method}'s learning rate {search.config['learning_rate']:g} "
            f"was published for batches of {meant}; scaled to {args.batch_size} it is "
            f"--learning-rate {scaled:.2g}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    with claim(workdir):
        _run(args, search, space, data, retraining, workdir, console)


def finished(folder: Path) -> tuple[Any, Any, Any, int]:
    """What a finished search left, for objectives that inherit its weights.

    Args:
      folder: its folder.

    Returns:
      The supernet, the state of the search, the dataset, and the batch size.

    Raises:
      JnasError: the folder holds no finished search of one stage.
    """
    from jnas import run as runs
    from jnas.progressive import Progressive

    args = config.read(folder, "search", Search)
    if not (folder / "genotype.json").exists():
        raise JnasError(
            f"the search in {folder} is not finished: run the command that began it "
            "again, and it goes on"
        )
    search, _, data, _ = _built(args)
    if isinstance(search, Progressive):
        raise JnasError(
            f"{args.method} searches in stages, whose supernets differ: name a search "
            "of another method, such as spos"
        )
    found = runs.search(
        search, data, epochs=args.epochs, progress=False, **_loop_options(args, folder)
    )
    return search.supernet, found.state, data, args.batch_size


def _built(args: Search) -> tuple[Any, Any, Any, dict[str, Any]]:
    """The search, its space, its data, and the options of the retraining."""
    from jnas import presets, spaces
    from jnas.run import material

    method = presets.get(args.method)
    space = spaces.get(args.space)
    data = shared.load(args)
    _check_kinds(args, space, data)
    options, retraining = _options(args, method, space, data)
    search = method(space, **options)
    if material.uses_all(search.config or {}):
        # Its epochs are those of both parts; the schedules have to know.
        options["steps_per_epoch"] = -(-len(data.full) // args.batch_size)
        search = method(space, **options)
    return search, space, data, retraining


def _loop_options(args: Search, workdir: Path) -> dict[str, Any]:
    """What `jnas.run.search` is told: the same again, when it goes on."""
    return {
        "batch_size": args.batch_size,
        "seed": args.seed,
        "workdir": workdir / "search",
        "on_nan": args.on_nan,
        "stream": args.stream,
        "report": False,  # one of the whole folder follows
        "save_every_epochs": max(1, args.epochs // 10),
    }


def _options(args: Search, method: Any, space: Any, data: Any) -> tuple[dict, dict]:
    """The options of the method, and those of the retraining."""
    from jnas import data as datasets

    options: dict[str, Any] = {
        "epochs": args.epochs,
        "arch_learning_rate": args.arch_learning_rate,
        "dtype": args.dtype,
    }
    known = inspect.signature(method).parameters
    for name, default in (("order", 1), ("second_order", "exact")):
        value = getattr(args, name)
        if name in known:
            options |= {} if value is None else {name: value}
        elif value not in (None, default):
            option = "--" + name.replace("_", "-")
            raise JnasError(
                f"{option} {value} is for methods that have a second order, "
                f"{args.method} has not: leave it out, or use --method darts"
            )
    if args.learning_rate is not None:
        options["learning_rate"] = args.learning_rate
    if isinstance(data, datasets.TextDataset):
        retraining: dict[str, Any] = {"width": args.width, "bptt": args.bptt}
        options |= {**retraining, "vocab_size": data.vocab_size}
        feed = datasets.text_feed(
            data.train, data.validation, batch_size=args.batch_size, bptt=args.bptt
        )
        options["steps_per_epoch"] = feed.steps_per_epoch
    else:
        size = shared.size(not space.is_darts_like, args)
        retraining = {"channels": args.channels, **size}
        options |= {**retraining, "num_classes": data.num_classes}
        options["steps_per_epoch"] = -(-len(data.train) // args.batch_size)
    return options, retraining


def _run(args, search, space, data, retraining, workdir, console) -> None:
    """Searches, draws, retrains and reports in a folder that is claimed."""
    from jnas import report
    from jnas import run as runs
    from jnas.progressive import Progressive
    from jnas.run import comparing
    from jnas.run.metrics import write_atomically

    options_file = workdir / "config.json"
    if not options_file.exists():
        # From the start, so that it can be told what a killed run was.
        write_atomically(options_file, config.text("search", args))
    options = _loop_options(args, workdir)
    if isinstance(search, Progressive):
        found = runs.progressive(search, data, **options)
        last = found.search
    else:
        found = runs.search(search, data, epochs=args.epochs, **options)
        last = search
    # The search accepted these options for this folder, so they are what it holds.
    write_atomically(options_file, config.text("search", args))
    report.draw(found.genotype, workdir / "cells.png")
    _draw_history(report, found.history, workdir / "history.png")
    probabilities = last.mixture(found.state).weights
    report.plot_arch(probabilities, last.supernet.space, workdir / "arch.png")
    write_atomically(workdir / "genotype.json", found.genotype.to_json() + "\n")
    console.print(
        f"found {found.genotype}", highlight=False, markup=False, soft_wrap=True
    )
    notes = _notes(found)
    for note in notes:
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    rows = _compare(args, found.genotype, space, data, retraining, workdir)
    if rows:
        shared.table(console, rows)
    comparing.write_summary(
        workdir / "summary.json",
        config={**shared.plain(args), "search": search.config},
        genotype=found.genotype,
        search_seconds=found.seconds,
        rows=rows,
        notes=notes,
    )
    page = report.write_html([workdir], workdir / "report.html")
    console.print(
        f"search {found.seconds:.0f} s; see {page} and {workdir}/: summary.json, "
        "genotype.json, cells.png, history.png, arch.png",
        highlight=False,
        soft_wrap=True,
    )


def _compare(args, genotype, space, data, retraining, workdir) -> dict[str, Any]:
    """Retrains the found genotype and the baselines under one budget."""
    from jnas import run as runs
    from jnas.run import comparing

    if args.retrain_epochs == 0:
        return {}
    candidates = {"found": genotype}
    if args.baselines:
        candidates["random"] = comparing.random_genotype(space, args.seed)
        plain = "all identity" if "recurrent" in space.names else "all skip"
        candidates[plain] = comparing.all_skip(space)
    if args.retrain_recipe is None:
        options = {**retraining, "batch_size": args.batch_size}
        options["epochs"] = args.retrain_epochs or 30
    else:
        options = {"recipe": args.retrain_recipe}
        if args.retrain_epochs:
            options["epochs"] = args.retrain_epochs
    options["dtype"] = args.dtype
    if args.retrain_learning_rate is not None:
        options["learning_rate"] = args.retrain_learning_rate
    return {
        label: runs.retrain(
            candidate,
            data,
            seeds=range(args.retrain_seeds),
            label=label,
            workdir=workdir / "retrain" / label.replace(" ", "-"),
            on_nan=args.on_nan,
            stream=args.stream,
            **options,
        )
        for label, candidate in candidates.items()
    }


def _draw_history(report: Any, rows: list[dict[str, Any]], path: Path) -> None:
    axes = report.plot_history(rows)
    axes[0].figure.savefig(path, dpi=150, bbox_inches="tight")


def _notes(found: Any) -> list[str]:
    """What the result has to be read with."""
    notes = []
    if found.verdict.level in ("undecided", "collapsing", "collapsed"):
        notes.append(found.verdict.text)
    skipped = [row.get("arch_skipped") or 0.0 for row in found.history]
    if any(skipped):
        notes.append(
            f"skipped: {sum(skipped) / len(skipped):.1%} of the arch steps, as their "
            "hypergradient was not finite; try a smaller --learning-rate"
        )
    return notes


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
