"""The objectives of ``jnas discrete``, by name."""

import dataclasses
from collections.abc import Callable
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
    """

    name: str
    objective: Any
    signal_name: str
    report: Callable[[np.ndarray], np.ndarray] | None = None
    report_name: str | None = None
    best_signal: float | None = None
    best_report: float | None = None

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
    if name not in _METRICS:
        raise unknown_name("objective", name, _METRICS)
    return _table(name, args, console)


def _table(name: str, args: Any, console: Any) -> Chosen:
    from jnas import tabular
    from jnas.tabular import files

    if name == "nasbench201" and files.find([f"{name}.npz"]) is None:
        if args.dataset is not None or args.signal or args.report is not None:
            tabular.nasbench201()  # its error says how to get the file
        console.print(
            "note: NAS-Bench-201's table is not here (jnas tables list tells how to "
            f"get it), so the one that comes with jnas is searched: {_SHIPPED}",
            style="yellow",
            soft_wrap=True,
            highlight=False,
        )
        name = _SHIPPED
    table = getattr(tabular, name)()
    dataset = table.datasets[0] if args.dataset is None else args.dataset
    signals, report = _METRICS[name]
    signals = args.signal or signals
    report = report if args.report is None else args.report
    metric = signals[0] if len(signals) == 1 else signals
    objective = table.objective(dataset, metric, noise=args.noise)
    if signals[0].startswith("-"):
        raise JnasError(
            f"the first --signal is what the best is told by, got {signals[0]!r}: name "
            "one to maximise first"
        )
    unit = table.column(dataset, signals[0]).unit

    def values(genes):
        return np.asarray(table.values(np.asarray(genes, np.int32), dataset, report))

    return Chosen(
        name=name,
        objective=objective,
        signal_name=f"{signals[0]} ({unit})",
        report=None if report is None else values,
        report_name=report and f"{report} ({table.column(dataset, report).unit})",
        best_signal=table.best(dataset, signals[0])[1],
        best_report=None if report is None else table.best(dataset, report)[1],
    )
