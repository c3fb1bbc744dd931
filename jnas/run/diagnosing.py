"""The collapse diagnosis of a running search: curvature and gap at a cadence.

Shares, entropy and genotype cost nothing and are in every row. The largest eigenvalue
and the discretisation gap are measured after the epochs 1, 1 + k, 1 + 2k, ... and the
last one. k is chosen by arithmetic, not by the clock, so that a resumed run has the
rows of one that was left alone.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jnas import compiling
from jnas.diagnostics import Diagnostics, compare
from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.run import material
from jnas.spaces import Genotype

__all__ = ["COST", "Diagnosis", "cadence"]

# What a diagnosis costs, in search steps: 20 Hessian-vector products, each of 0.35 to
# 0.8 of a first-order step (CPU, NAS-Bench-201 and DARTS nets), and 2 x 8 forward
# passes. A bound on purpose, so that the share stays below one tenth.
COST = 20
_BATCHES = 8


def cadence(steps_per_epoch: int, epochs: int, share: float = 0.1) -> int:
    """Every how many epochs to diagnose for a share of the search's time.

    Args:
      steps_per_epoch: of the search.
      epochs: of the search.
      share: the most that diagnosing may take, compilation aside.

    Returns:
      The number of epochs; 0 if even one diagnosis would be too much.

    Example:
      >>> cadence(391, 50), cadence(12, 50), cadence(2, 4)
      (1, 17, 0)
    """
    if share * steps_per_epoch * epochs < COST:
        return 0
    return max(1, math.ceil(COST / (share * steps_per_epoch)))


class Diagnosis:
    """Measures at its epochs, and remembers the last result.

    Attributes:
      last: what was measured after the present epoch, or None.
    """

    def __init__(
        self,
        search: Any,
        data: Any,
        batch_size: int,
        *,
        epochs: int,
        steps_per_epoch: int,
        every: int | None,
    ):
        """Plans the epochs.

        Args:
          search: the search.
          data: the dataset.
          batch_size: of the validation batches.
          epochs: of the search.
          steps_per_epoch: of the search.
          every: epochs from one to the next; None: `cadence`; 0: none but those that
            a regularizer needs.

        Raises:
          JnasError: ``every`` is out of range.
        """
        if every is not None and (
            isinstance(every, bool) or not isinstance(every, int) or every < 0
        ):
            raise JnasError(
                f"diagnose_every must be a whole number of epochs >= 0, got {every!r}: "
                "leave it out for one that takes a tenth of the time at most"
            )
        self._search, self._data, self._batch_size = search, data, batch_size
        self._epochs, self._steps = epochs, steps_per_epoch
        self._every = cadence(steps_per_epoch, epochs) if every is None else every
        self._wanted = search.regularizer.curvature_every
        options = compiling.options()
        self._measure = jax.jit(search.evaluate, compiler_options=options)
        self._sharpness = jax.jit(search.lambda_max, compiler_options=options)
        self.last: Diagnostics | None = None

    def due(self, epoch: int) -> bool:
        """Whether there is something to measure after an epoch, counted from 1."""
        if self._wanted and (epoch - 1) % self._wanted == 0:
            return True
        if not self._every:
            return False
        return (epoch - 1) % self._every == 0 or epoch == self._epochs

    def row(self, state: Any, mixed: Mixture, genotype: Genotype) -> dict[str, float]:
        """Measures if it is time to.

        Args:
          state: after an epoch.
          mixed: its deterministic mixture.
          genotype: derived from that.

        Returns:
          What to add to the row of the epoch.

        Raises:
          JnasError: the validation part has no full batch.
        """
        epoch = int(state.step) // self._steps
        self.last = None
        if not self.due(epoch):
            return {}
        measured = self.evaluator(state, _BATCHES)

        def measure(candidate):
            totals = measured(candidate)
            return totals.pop("loss"), totals

        supernet = self._search.supernet
        self.last = found = compare(
            supernet.space,
            supernet.config,
            mixed,
            genotype,
            measure=measure,
            lambda_max=float(self._sharpness(state, next(self._batches(1)[1]))),
        )
        row = {"lambda_max": found.lambda_max}
        for name, loss, own in (
            ("mixture", found.loss, found.metrics),
            ("derived", found.derived_loss, found.derived_metrics),
        ):
            row |= {f"{name}_loss": loss}
            row |= {f"{name}_{key}": value for key, value in own.items()}
        return row

    def evaluator(
        self, state: Any, most: int | None = None
    ) -> Callable[[Mixture], dict[str, float]]:
        """Makes what measures mixtures on the validation part.

        Args:
          state: whose weights and statistics are used.
          most: batches; None: all.

        Returns:
          ``mixture -> metrics``, "loss" among them, means over full batches; it raises
          `JnasError` where there is none.
        """

        def evaluate(mixed):
            totals: dict[str, float] = {}
            count, batches = self._batches(most)
            for batch in batches:
                loss, metrics = self._measure(state, mixed, batch)
                for name, value in {"loss": loss, **metrics}.items():
                    totals[name] = totals.get(name, 0.0) + float(value) / count
            return totals

        return evaluate

    def _batches(self, most: int | None) -> tuple[int, Iterator[Any]]:
        """Full validation batches, as batch statistics need equal sizes."""
        count, batches = material.validation_batches(
            self._data, self._batch_size, self._search.config
        )
        count = min(count, most or count)
        if not count:
            raise JnasError(
                f"the validation part of {self._data.name!r} has no full batch of "
                f"{self._batch_size}: use a smaller batch_size"
            )
        return count, itertools.islice(batches, count)
