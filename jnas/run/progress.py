"""Showing how a run goes: a live line on a terminal, a few plain lines elsewhere."""

import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["Progress"]

_LINES = 20
_LIVE = ("loss", "accuracy", "arch_entropy", "skip_share", "lambda_max")
_LEFT_OUT = ("mixture_", "derived_")  # in the rows and the report


class Progress:
    """The display of one run; everything goes to standard error.

    On a terminal: a bar with the epoch, the time to go, the live metrics and the
    images per second; what is printed or warned meanwhile appears above it.
    Elsewhere: at most about twenty lines, one at the end of an epoch.

    Example:
      >>> with Progress("search", epochs=2, steps_per_epoch=5, enabled=False) as shown:
      ...     shown.chunk(5, {"train_loss": 0.5}, rate=None)
    """

    def __init__(
        self,
        label: str,
        *,
        epochs: int,
        steps_per_epoch: int,
        start: int = 0,
        enabled: bool = True,
    ):
        self._label = label
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._start = start
        self._enabled = enabled
        self._every = max(1, -(-epochs // _LINES))
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if self._enabled:
            from rich import console

            terminal = console.Console(stderr=True)
            if terminal.is_terminal:
                self._open(terminal)
        return self

    def __exit__(self, *raised: object) -> None:
        # before the traceback is printed, so that it starts on a line of its own
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def chunk(self, step: int, values: Mapping[str, float], rate: float | None) -> None:
        """Shows the values of the latest chunk."""
        if self._bar is not None:
            epoch = min(step // self._steps_per_epoch + 1, self._epochs)
            self._bar.update(
                self._task,
                completed=step,
                epoch=f"epoch {epoch}/{self._epochs}",
                metrics=describe(values, rate),
            )

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Tells of a finished epoch where there is no bar."""
        epoch = row["epoch"]
        due = epoch % self._every == 0 or epoch == self._epochs
        if self._enabled and self._bar is None and due:
            text = describe(row, row.get("images_per_second"))
            print(
                f"{self._label}: epoch {epoch}/{self._epochs}, step {row['step']}, "
                f"{row['seconds']:.1f} s{', ' if text else ''}{text}",
                file=sys.stderr,
                flush=True,
            )

    def _open(self, terminal: Any) -> None:
        from rich import progress, table

        # On a narrow terminal the metrics wrap; nothing else is shortened.
        wrapping = table.Column(no_wrap=False, overflow="fold")
        self._bar = progress.Progress(
            progress.TextColumn("{task.description} {task.fields[epoch]}"),
            progress.BarColumn(bar_width=24),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn(
                "{task.fields[metrics]}", markup=False, table_column=wrapping
            ),
            console=terminal,
            transient=False,
        )
        self._task = self._bar.add_task(
            self._label,
            total=self._epochs * self._steps_per_epoch,
            completed=self._start,
            epoch=f"epoch 1/{self._epochs}",
            metrics="compiling",
        )
        self._bar.start()


def describe(values: Mapping[str, Any], rate: float | None) -> str:
    """Puts the metrics worth watching live on a line.

    Args:
      values: metrics by name.
      rate: images per second, if known.

    Returns:
      The line.

    Example:
      >>> describe({"train_loss": 1.25, "epoch": 1, "val_accuracy": 0.5}, 1234.0)
      'train_loss 1.250, val_accuracy 0.500, 1234 images/s'
    """
    parts = [
        f"{name} {value:.3f}"
        for name, value in values.items()
        if isinstance(value, float)
        and name.endswith(_LIVE)
        and not name.startswith(_LEFT_OUT)
    ]
    if rate:
        parts.append(f"{rate:.0f} images/s")
    return ", ".join(parts)
