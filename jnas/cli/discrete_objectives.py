"""The objectives of ``jnas discrete``, by name."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jnas.errors import JnasError, unknown_name

__all__ = ["Chosen", "choose"]

# What is seen and what is reported by default, of each table.
_METRICS = {
    "nasbench201": (("val_12",), "test_200"),
    "nasbench101": (("val_108",), None),
    "cells125": (("val",), "test"),
}
_SHIPPED = "cells125"
_OTHERS = ("training", "supernet")
# Options that only one objective reads.
_ONLY = {
    "training": (
        *("space", "data", "data_dir", "epochs", "batch_size", "channels", "cells"),
        *("cells_per_stage", "program", "workers", "dask"),
    ),
    "supernet": ("search",),
    "tables": ("dataset", "signal", "minimize", "report", "noise", "budget"),
}


@dataclasses.dataclass(frozen=True)
class Chosen:
    """An objective and what is told of its candidates.

    Attributes:
      name: short, for folders.
      objective: the objective.
      signal_name: the metric that strategies see.
      report: ``(genes [N, L]) -> values [N]``; None: nothing but the signal.
      report_name: the metric that is reported.
      best_signal: the best value there is, where that is known.
      best_report: the same of the report.
      cost_name: what the cost is.
      seeds: how many by default.
      evaluations: of each by default.
      studied: options of `jnas.discrete.study`, where seeds are studied in turn.
    """

    name: str
    objective: Any
    signal_name: str
    report: Callable[[np.ndarray], np.ndarray] | None = None
    report_name: str | None = None
    best_signal: float | None = None
    best_report: float | None = None
    cost_name: str = "cost"
    seeds: int = 1
    evaluations: int = 30
    studied: dict[str, Any] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def evaluators(self, args: Any) -> Iterator[dict[str, Any]]:
        """What evaluates candidates side by side, for as long as it is needed."""
        if args.dask is not None:
            from jnas import discrete

            with discrete.dask_executor(args.dask) as executor:
                yield {**self.studied, "executor": executor}
        elif args.workers > 1:
            own = {"executor": "processes", "parallel": args.workers}
            yield {**self.studied, **own}
        else:
            yield self.studied

    def text(self, genes: np.ndarray) -> str:
        """A candidate as people read it."""
        return str(self.objective.space.decode(genes))


def choose(args: Any, console: Any) -> Chosen:
    """Returns the objective of a command's options.

    Args:
      args: the options.
      console: where notes are printed.

    Raises:
      JnasError: the name is unknown, or an option does not fit it.
    """
    name = args.objective
    if name not in (*_METRICS, *_OTHERS):
        raise unknown_name("objective", name, (*_METRICS, *_OTHERS))
    own = name if name in _OTHERS else "tables"
    defaults = {field.name: field.default for field in dataclasses.fields(args)}
    for other, options in _ONLY.items():
        for option in options if other != own else ():
            if getattr(args, option) != defaults[option]:
                text = "--" + option.replace("_", "-")
                raise JnasError(f"{text} is for {other}, not for --objective {name}")
    if args.dask is not None and args.workers > 1:
        raise JnasError("--workers is for this machine: leave it or --dask out")
    if name == "training":
        return _training(args)
    if name == "supernet":
        return _supernet(args)
    return _table(name, args, console)


def _training(args: Any) -> Chosen:
    from jnas import data as datasets
    from jnas import discrete, spaces
    from jnas.cli import shared

    space = spaces.get(args.space)
    size = shared.size(not space.is_darts_like, args)
    # A name is loaded by each worker; files are read here and sent.
    data: Any = args.data
    if args.data_dir is not None or args.data not in datasets.names():
        data = datasets.load(args.data, data_dir=args.data_dir)
    objective = discrete.training(
        space,
        data,
        program=args.program,
        epochs=args.epochs,
        batch_size=args.batch_size,
        channels=args.channels,
        **size,
    )
    return Chosen(
        "training", objective, objective.score_unit, cost_name="training time"
    )


def _supernet(args: Any) -> Chosen:
    from jnas import discrete
    from jnas.cli import search

    if args.search is None:
        raise JnasError("--objective supernet needs --search, the folder of a search")
    net, state, data, batch_size = search.finished(args.search)
    objective = discrete.supernet(
        net, state.weights, state.model_state, data, batch_size=batch_size
    )
    # Mapped over seeds it would compute every operation of every edge.
    objective = objective._replace(traceable=False)
    return Chosen("supernet", objective, objective.score_unit, studied={"chunk": 16})


def _table(name: str, args: Any, console: Any) -> Chosen:
    from jnas import tabular
    from jnas.tabular import files

    if name == "nasbench201" and files.find([f"{name}.npz"]) is None:
        own = (args.dataset, args.signal, args.minimize, args.report, args.budget)
        if any(own):
            tabular.nasbench201()  # its error says how to get the file
        console.print(
            "note: NAS-Bench-201's table is not here (jnas tables list tells how to "
            f"get it), so the one that comes with jnas is searched: {_SHIPPED}",
            style="yellow",
            soft_wrap=True,
            highlight=False,
        )
        name = _SHIPPED
    table: Any = tabular.get(name)
    if len(table) < table.space.size:
        console.print(
            f"note: {table.source} has {len(table):,} of the {table.space.size:,} "
            f"cells of {table.space.name}: others that a strategy asks for have no "
            "score and cost nothing, so this is no fair comparison of strategies",
            style="yellow",
            soft_wrap=True,
            highlight=False,
        )
    dataset = table.datasets[0] if args.dataset is None else args.dataset
    signals, report = _METRICS[name]
    signals = args.signal or signals
    report = report if args.report is None else args.report
    # A table turns the sign of what should be small.
    every = (*signals, *("-" + name for name in args.minimize))
    metric = every[0] if len(every) == 1 else every
    objective = table.objective(dataset, metric, noise=args.noise)
    units = {
        metric: table.column(dataset, metric).unit for metric in (signals[0], report)
        if metric is not None
    }  # fmt: skip

    def best(metric):
        # The highest number of parameters is not the best.
        known = metric in units and "accuracy" in units[metric]
        return table.best(dataset, metric)[1] if known else None

    def values(genes):
        return np.asarray(table.values(np.asarray(genes, np.int32), dataset, report))

    return Chosen(
        name=name,
        objective=objective,
        signal_name=f"{signals[0]} ({units[signals[0]]})",
        report=None if report is None else values,
        report_name=None if report is None else f"{report} ({units[report]})",
        best_signal=best(signals[0]),
        best_report=best(report),
        cost_name="simulated time" if objective.cost_unit == "s" else "cost",
        seeds=100,
        evaluations=50 if name == _SHIPPED else 300,
    )
