"""``jnas discrete``: strategies without gradients on an objective."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jnas.cli import shared
from jnas.errors import JnasError

__all__ = ["Discrete", "run"]


@dataclasses.dataclass(frozen=True)
class Discrete:
    """Search with strategies that need no gradients, for many seeds.

    Without arguments: regularized evolution on NAS-Bench-201's table (CIFAR-10, the
    validation accuracy of the 12-epoch runs, reported by the test accuracy after 200
    epochs), or on the small table that comes with jnas where that one is not found.
    Writes every trial, a summary and a picture of the incumbents; the same command
    again goes on where it stopped.
    """

    strategy: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")] = (
        "regularized_evolution",
    )
    """One or several strategies (see: jnas list)."""
    objective: str = "nasbench201"
    """What scores candidates: a table (see: jnas tables list); training, which trains
    each from scratch; or supernet, which inherits the weights of a finished search."""
    dataset: str | None = None
    """The table's dataset (default: its first)."""
    signal: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="METRIC [METRIC ...]")
    ] = ()
    """What the strategy sees, such as val_12; more than one for strategies of several
    objectives, such as nsga2."""
    minimize: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="METRIC [METRIC ...]")
    ] = ()
    """What such strategies shall make small, too, such as flops."""
    report: str | None = None
    """What is reported of the incumbents, such as test_200."""
    noise: str = "mean"
    """mean: a table's mean over its seeds; sample: each query draws one of them."""
    seeds: int | None = None
    """How many searches of each strategy (default: 100 on tables, else 1)."""
    evaluations: int | None = None
    """Of each search (default: 300 on published tables, 50 on cells125, else 30)."""
    budget: float | None = None
    """Report the incumbents within this simulated time, too (in the table's unit)."""
    batch: int | None = None
    """Candidates that are evaluated before the strategy learns (default: its own)."""
    set: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE [NAME=VALUE ...]")
    ] = ()
    """Hyper-parameters of the strategies that know them, such as population=100."""
    space: str = "nasbench201"
    """Objective training: the space (see: jnas list)."""
    data: str = "digits"
    """Objective training: the data (see: jnas list)."""
    data_dir: Path | None = None
    """Objective training: folder of the data files."""
    epochs: int = 10
    """Objective training: epochs of each candidate."""
    batch_size: int = 64
    """Objective training: images of a step."""
    channels: int = 8
    """Objective training: channels of the first stage."""
    cells: int | None = None
    """Objective training: cells of the network (DARTS-like spaces; default 8)."""
    cells_per_stage: int | None = None
    """Objective training: cells in each of three stages (others; default 1)."""
    program: Literal["network", "supernet"] = "network"
    """Objective training: compile each candidate's own network, or one program for all,
    whose cells normalise otherwise."""
    workers: int = 1
    """Objective training: processes that evaluate candidates."""
    dask: str | None = None
    """Objective training: address of a Dask scheduler, whose workers evaluate instead
    (needs pip install jnas[dask])."""
    search: Path | None = None
    """Objective supernet: folder of a finished jnas search."""
    workdir: Path | None = None
    """Where everything is written (default: runs/discrete-OBJECTIVE)."""
    config: Path | None = None
    """Start from the options of a configuration file, such as the config.json of a run;
    options given here go before them."""


def run(args: Discrete) -> None:
    """Runs the command."""
    from jnas import discrete
    from jnas.cli import config, discrete_objectives
    from jnas.run.metrics import as_json, write_atomically
    from jnas.run.workdir import claim

    given = [
        n for n in ("seeds", "evaluations", "batch") if getattr(args, n) is not None
    ]
    shared.positive(args, *given, "epochs", "channels", "workers", "batch_size")
    if args.budget is not None and not 0 < args.budget < math.inf:
        raise JnasError(f"--budget must be a positive number, got {args.budget}")
    if not args.strategy:
        raise JnasError("--strategy needs at least one name (see: jnas list)")
    if len(set(args.strategy)) < len(args.strategy):
        raise JnasError("--strategy names one twice: give each once")
    console = shared.console()
    chosen = discrete_objectives.choose(args, console)
    seeds = args.seeds or chosen.seeds
    evaluations = args.evaluations or chosen.evaluations
    args = dataclasses.replace(args, seeds=seeds, evaluations=evaluations)
    if chosen.name in ("nasbench201", "nasbench101", "cells125"):
        # What was searched, should the table that was asked for not be here.
        args = dataclasses.replace(args, objective=chosen.name)
    options = _options(args)
    strategies = {
        name: discrete.make(name, chosen.objective.space, evaluations, **own)
        for name, own in options.items()
    }
    for strategy in strategies.values():
        if strategy.scores is not None and _scores(args) == 1:
            raise JnasError(
                f"{strategy.name} is for several objectives, got one: add another of a "
                "table, such as --minimize flops"
            )
        discrete.check_fit(strategy, chosen.objective, evaluations)
        first = (strategy.config or {}).get("population", 0)
        if first >= evaluations:
            console.print(
                f"note: {strategy.name} draws its first {first} candidates at random, "
                f"and gets {evaluations} evaluations: give more, or a smaller --set "
                "population",
                style="yellow",
                soft_wrap=True,
                highlight=False,
            )
    workdir = args.workdir or Path("runs") / f"discrete-{chosen.name}"
    console.print(
        f"[bold]{chosen.objective.name}[/]: {chosen.objective.score_unit}; "
        f"{_seeds(seeds)} of {evaluations} evaluations; writing to {workdir}",
        soft_wrap=True,
        highlight=False,
    )
    with claim(workdir), chosen.evaluators(args) as how:
        with _described(workdir / "config.json", config.text("discrete", args)):
            try:
                results = {
                    name: _search(
                        strategy, chosen.objective, args, workdir / name, console, how
                    )
                    for name, strategy in strategies.items()
                }
            except KeyboardInterrupt:
                console.print("stopped: the same command goes on", style="yellow")
                raise
        summary = _summary(args, chosen, results)
        text = json.dumps(as_json(summary, "summary"), indent=1, allow_nan=False)
        write_atomically(workdir / "summary.json", text + "\n")
        _draw(chosen, results, workdir / "incumbents.png")
    _print(console, chosen, summary)
    log = next(iter(sorted((workdir / args.strategy[0]).rglob("trials.jsonl"))))
    log = log.relative_to(workdir / args.strategy[0])
    for row in summary["strategies"]:
        if "front" in row:
            console.print(
                f"{row['strategy']}: {len(row['front'])} candidates that no other "
                "dominates (front in summary.json)",
                highlight=False,
                soft_wrap=True,
            )
    console.print(
        f"see {workdir}/: incumbents.png, summary.json, STRATEGY/{log}",
        soft_wrap=True,
        highlight=False,
    )


@contextlib.contextmanager
def _described(path: Path, text: str) -> Iterator[None]:
    """Writes a file; where what follows is refused, the one before is put back."""
    from jnas.run.metrics import write_atomically

    before = path.read_text(encoding="utf-8") if path.exists() else None
    write_atomically(path, text)
    try:
        yield
    except JnasError:
        if before is not None:
            write_atomically(path, before)
        raise


def _search(strategy, objective, args, folder, console, studied) -> Any:
    """All seeds of one strategy, with a bar on terminals."""
    from rich.progress import Progress

    from jnas import discrete

    with Progress(
        console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        traced = strategy.traceable and objective.traceable
        total = args.seeds * (1 if traced else args.evaluations)
        task = progress.add_task(strategy.name, total=total)
        failures: list[str] = []

        def on_trial(row):
            progress.advance(task)
            if row.get("error"):
                failures.append(row["error"])

        how: dict[str, Any] = {**studied, "on_trial": on_trial}
        if traced:
            how = {"progress": lambda done, _: progress.update(task, completed=done)}
        result = discrete.run(
            strategy,
            objective,
            evaluations=args.evaluations,
            seeds=args.seeds,
            batch=args.batch,
            workdir=folder,
            **how,
        )
    if failures:
        console.print(
            f"{len(failures)} of {total} trials of {strategy.name} failed, the first "
            f"with: {failures[0]}",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if traced and not np.isfinite(result.scores).any():
        raise JnasError(
            f"none of the candidates of {strategy.name} is in the table: give more "
            "--evaluations or --seeds, and another --workdir"
        )
    if not np.isfinite(result.scores).any():
        raise JnasError(
            f"no trial of {strategy.name} gave a score: see {folder}, and give another "
            "--workdir once that is mended"
        )
    return result


def _options(args: Discrete) -> dict[str, dict[str, Any]]:
    """The hyper-parameters of each strategy; each must be known to one of them."""
    from jnas.discrete import registry

    given = {}
    for text in args.set:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise JnasError(f"--set takes NAME=VALUE, got {text!r}")
        try:
            given[name.replace("-", "_")] = json.loads(value)
        except ValueError:  # a word
            given[name.replace("-", "_")] = value
    options: dict[str, dict[str, Any]] = {}
    for name in args.strategy:
        known = registry.options(name)
        options[name] = {n: v for n, v in given.items() if n in known}
        if "scores" in known and _scores(args) > 1:
            options[name].setdefault("scores", _scores(args))
    for name in given:
        if not any(name in own for own in options.values()):
            known = {n for own in args.strategy for n in registry.options(own)}
            raise JnasError(
                f"--set {name}: {', '.join(args.strategy)} know"
                f"{'s' if len(args.strategy) == 1 else ''} no such option, only "
                f"{', '.join(sorted(known)) or 'none'}"
            )
    return options


def _scores(args: Discrete) -> int:
    """How many scores a candidate has."""
    return max(1, len(args.signal)) + len(args.minimize)


def _summary(args: Discrete, chosen: Any, results: dict[str, Any]) -> dict[str, Any]:
    """What is told of each strategy, made of JSON's types."""
    from jnas.discrete import spread
    from jnas.run.environment import environment

    rows = []
    for name, result in results.items():
        genes, scores = result.best()
        row: dict[str, Any] = {
            "strategy": name,
            "config": result.strategy,
            "seeds": len(result.seeds),
            "evaluations": result.scores.shape[1],
            "signal": spread(scores),
            "spent": spread(result.spent()[:, -1]),
            "without_score": float(np.mean(~np.isfinite(result.first_scores()))),
        }
        if chosen.report is not None:
            row["report"] = spread(chosen.report(genes))
        if args.budget is not None:
            within, found = result.best(budget=args.budget)
            row["signal_in_budget"] = spread(found)
            if chosen.report is not None:
                values = np.where(np.isfinite(found), chosen.report(within), np.nan)
                row["report_in_budget"] = spread(values)
        place = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))
        row["best"] = {
            "genes": genes[place].tolist(),
            "candidate": chosen.text(genes[place]),
        }
        if result.scores.ndim == 3:
            row["front"] = [
                {"genes": genes.tolist(), "scores": scores.tolist()}
                for genes, scores in zip(*result.front(), strict=True)
            ]
        rows.append(row)
    return {
        "objective": chosen.objective.name,
        "objective_config": chosen.objective.config,
        "score_unit": chosen.objective.score_unit,
        "cost_unit": chosen.objective.cost_unit,
        "report": chosen.report_name,
        "best_signal": chosen.best_signal,
        "best_report": chosen.best_report,
        "budget": args.budget,
        "strategies": rows,
        "environment": environment(),
    }


def _print(console: Any, chosen: Any, summary: dict[str, Any]) -> None:
    from rich.table import Table

    rows, budget = summary["strategies"], summary["budget"]
    count = rows[0]["seeds"]
    spread = ", mean ± standard deviation" if count > 1 else ""
    table = Table(title=f"incumbents of {_seeds(count)}{spread}", title_justify="left")
    keys = ["signal", *(["report"] if chosen.report_name else []), "spent"]
    labels = {
        "signal": _short(chosen.signal_name),
        "report": _short(chosen.report_name or ""),
        "spent": f"{chosen.cost_name}, {summary['cost_unit']}",
    }
    table.add_column("strategy", no_wrap=True)
    for key in keys:
        table.add_column(labels[key], justify="right")
    # Which is the case for tables of a part of their space, and for failures.
    missing = any(row["without_score"] for row in rows)
    if missing:
        table.add_column("without score", justify="right")
    for row in rows:
        cells = [_spread(row[key], _digits(row[key], key)) for key in keys]
        share = [f"{100 * row['without_score']:.1f} %"] if missing else []
        table.add_row(row["strategy"], *cells, *share)
        if budget is not None:
            within = [row.get(f"{key}_in_budget") for key in keys]
            table.add_row(
                f"  in {budget:,g} {summary['cost_unit']}",
                *("" if found is None else _spread(found, 2) for found in within),
            )
    best = {"signal": chosen.best_signal, "report": chosen.best_report}
    if any(value is not None for value in best.values()):
        known = [best.get(key) for key in keys]
        table.add_section()
        table.add_row(
            "best there is", *("" if b is None else f"{b:.2f}" for b in known)
        )
    console.print(table)


def _short(name: str) -> str:
    """A metric with the last word of its unit: "val_12, %"."""
    metric, opened, unit = name.partition(" (")
    words = unit.rstrip(")").rpartition(", ")
    return f"{metric}, {words[2]}" if opened and words[1] else name


def _seeds(count: int) -> str:
    return f"{count:,} seed" + "s" * (count > 1)


def _digits(found: dict[str, float], key: str) -> int:
    """Costs may be fractions of a second or millions of operations."""
    return 0 if key == "spent" and not found["mean"] < 100 else 2


def _spread(found: dict[str, float], digits: int) -> str:
    if not found["count"]:
        return "none"
    mean = f"{found['mean']:,.{digits}f}"
    return mean if math.isnan(found["std"]) else f"{mean} ± {found['std']:,.{digits}f}"


def _draw(chosen: Any, results: dict[str, Any], path: Path) -> None:
    from jnas.report import files, incumbents

    report = chosen.report
    name = chosen.report_name or chosen.signal_name
    best = chosen.best_report if report is not None else chosen.best_signal
    steps, times = {}, {}
    for label, result in results.items():
        curve = result.curve(report)
        steps[label] = (curve.x, curve.mean, curve.std)
        curve = result.curve_by_cost(report)
        times[label] = (curve.x, curve.mean, curve.std)
    panels = [incumbents.Panel("evaluations", name, steps, best)]
    if chosen.objective.cost_unit != "evaluations":
        unit = chosen.objective.cost_unit
        panels.append(
            incumbents.Panel(f"{chosen.cost_name}, {unit}", name, times, best)
        )
    count = len(next(iter(results.values())).seeds)
    spread = ", mean ± standard deviation" if count > 1 else ""
    title = f"{chosen.objective.name}: {_seeds(count)}{spread}"
    files.save(incumbents.plot_incumbents(panels, title), path)
