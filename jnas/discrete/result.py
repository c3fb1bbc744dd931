"""What searches with many seeds found: trials, incumbents, curves.

Letters: ``S`` seeds, ``T`` evaluations of each, ``L`` genes, ``M`` scores, ``G`` points
of a grid.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jnas.errors import JnasError

__all__ = ["Curve", "Result", "spread"]


class Curve(NamedTuple):
    """Incumbents of all seeds, on a grid.

    Attributes:
      x: ``[G]``, evaluations or accumulated costs.
      values: ``[S, G]``, NaN before a seed's first incumbent.
      mean: ``[G]``, over the seeds that have one; NaN where none has.
      std: ``[G]``, sample standard deviation; 0 where there is one seed.
    """

    x: np.ndarray
    values: np.ndarray
    mean: np.ndarray
    std: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The trials of a strategy on an objective, for some seeds.

    Attributes:
      genes: int32 ``[S, T, L]``, in the order of telling.
      scores: float32 ``[S, T]``, or ``[S, T, M]``; NaN where an evaluation failed.
      costs: float32 ``[S, T]``, in ``cost_unit``.
      seeds: the seeds.
      space: whose genes they are.
      strategy: its config.
      objective: name of the objective.
      score_unit: what the scores are.
      cost_unit: what the costs are.

    Example:
      >>> scores = np.array([[1.0, 3.0, np.nan, 2.0]])
      >>> genes = np.arange(4).reshape(1, 4, 1)
      >>> found = Result(genes, scores, np.ones((1, 4)), (0,), None)
      >>> found.best_so_far().tolist(), found.best()[0].tolist()
      ([[1.0, 3.0, 3.0, 3.0]], [[1]])
    """

    genes: np.ndarray
    scores: np.ndarray
    costs: np.ndarray
    seeds: tuple[int, ...]
    space: Any
    strategy: dict[str, Any] = dataclasses.field(default_factory=dict)
    objective: str = ""
    score_unit: str = "score"
    cost_unit: str = "evaluations"

    def first_scores(self) -> np.ndarray:
        """Float64 ``[S, T]``, the (first) score, -inf where it is not finite."""
        scores = np.asarray(self.scores, np.float64)
        scores = scores[..., 0] if scores.ndim == 3 else scores
        return np.where(np.isfinite(scores), scores, -np.inf)

    def incumbents(self) -> np.ndarray:
        """Int ``[S, T]``, which trial is the best so far; -1 before any succeeded."""
        scores = self.first_scores()
        best = np.maximum.accumulate(scores, axis=1)
        numbers = np.arange(scores.shape[1])
        # A trial leads from where it is strictly better than all before.
        before = np.concatenate(
            [np.full((len(scores), 1), -np.inf), best[:, :-1]], axis=1
        )
        leads = np.where(scores > before, numbers[None], -1)
        return np.maximum.accumulate(leads, axis=1)

    def best_so_far(self) -> np.ndarray:
        """Float64 ``[S, T]``, the incumbents' scores, NaN before any succeeded."""
        best = np.maximum.accumulate(self.first_scores(), axis=1)
        return np.where(np.isfinite(best), best, np.nan)

    def best(
        self, evaluations: int | None = None, budget: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The incumbent of each seed, at the end or within a budget.

        Args:
          evaluations: only the first so many trials count.
          budget: only trials that end within these accumulated costs count.

        Returns:
          Genes int32 ``[S, L]`` and scores ``[S]``; NaN (and the first candidate) where
          there is no incumbent.

        Raises:
          JnasError: ``evaluations`` is not in 1..T.
        """
        count = self.scores.shape[1]
        until = count if evaluations is None else evaluations
        if not 1 <= until <= count:
            raise JnasError(f"evaluations must be in 1..{count}, got {evaluations}")
        last = np.full(len(self.genes), until - 1)
        if budget is not None:
            last = np.minimum(last, self._spent_by(budget) - 1)
        rows = np.arange(len(self.genes))
        which = np.where(last >= 0, self.incumbents()[rows, last], -1)
        scores = np.where(which >= 0, self.first_scores()[rows, which], np.nan)
        return self.genes[rows, np.maximum(which, 0)], scores

    def front(self) -> tuple[np.ndarray, np.ndarray]:
        """The best trade-offs of several scores, among the trials of all seeds.

        Returns:
          Genes int32 ``[F, L]`` and scores ``[F, M]`` of distinct candidates that no
          other dominates, by falling first score.

        Raises:
          JnasError: the trials have one score each.
        """
        if self.scores.ndim != 3:
            raise JnasError(
                "a front needs several scores of each trial, these have one: use best"
            )
        genes = self.genes.reshape(-1, self.genes.shape[-1])
        scores = np.asarray(self.scores, np.float64).reshape(len(genes), -1)
        rows = np.flatnonzero(np.isfinite(scores).all(axis=1))
        # What comes later in this order dominates nothing that came before.
        rows = rows[np.lexsort(-scores[rows].T[::-1])]
        kept: list[int] = []
        for row in rows:
            held = scores[kept]
            no_worse = np.all(held >= scores[row], axis=1)
            better = np.any(held > scores[row], axis=1)
            again = np.all(genes[kept] == genes[row], axis=1)
            if not np.any(no_worse & (better | again)):
                kept.append(row)
        return genes[kept], scores[kept]

    def spent(self) -> np.ndarray:
        """Float64 ``[S, T]``, accumulated costs; trials of unknown cost add nothing."""
        return np.cumsum(np.nan_to_num(np.asarray(self.costs, np.float64)), axis=1)

    def _spent_by(self, budget: float) -> np.ndarray:
        """Int ``[S]``, the number of trials that end within the budget."""
        return (self.spent() <= budget).sum(axis=1)

    def curve(self, report: Callable[[np.ndarray], Any] | None = None) -> Curve:
        """Incumbents against the number of evaluations.

        Args:
          report: ``(genes [N, L]) -> values [N]``, what to tell of incumbents instead
            of their scores, such as a table's test accuracy.

        Returns:
          The curve, with ``G = T``.
        """
        values = self._told(report)
        return _curve(np.arange(1, values.shape[1] + 1), values)

    def curve_by_cost(
        self,
        report: Callable[[np.ndarray], Any] | None = None,
        points: int = 200,
        budget: float | None = None,
    ) -> Curve:
        """Incumbents against accumulated costs.

        Args:
          report: as for `curve`.
          points: number ``G`` of points.
          budget: where the grid ends, by default where the quickest seed does.

        Returns:
          The curve; the grid begins where the slowest seed has its first result.
        """
        values, spent = self._told(report), self.spent()
        end = spent[:, -1].min() if budget is None else budget
        grid = np.linspace(min(spent[:, 0].max(), end), end, points)
        rows = []
        for own, steps in zip(values, spent, strict=True):
            place = np.searchsorted(steps, grid, side="right") - 1
            rows.append(np.where(place >= 0, own[np.maximum(place, 0)], np.nan))
        return _curve(grid, np.stack(rows))

    def _told(self, report: Callable[[np.ndarray], Any] | None) -> np.ndarray:
        if report is None:
            return self.best_so_far()
        which = self.incumbents()
        flat = self.genes[np.arange(len(which))[:, None], np.maximum(which, 0)]
        # Incumbents change rarely: each is looked up once.
        unique, places = np.unique(
            flat.reshape(-1, flat.shape[-1]), axis=0, return_inverse=True
        )
        values = np.asarray(report(unique), np.float64)[places.reshape(which.shape)]
        return np.where(which >= 0, values, np.nan)


def spread(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and standard error over what is finite.

    Args:
      values: floats ``[S]``.

    Returns:
      ``{"mean", "std", "standard_error", "count"}``; NaN where there is nothing, the
      deviations NaN for a single value.

    Example:
      >>> spread(np.array([1.0, 3.0, np.nan]))["mean"]
      2.0
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    count = len(values)
    std = float(values.std(ddof=1)) if count > 1 else math.nan
    return {
        "mean": float(values.mean()) if count else math.nan,
        "std": std,
        "standard_error": std / math.sqrt(count) if count > 1 else math.nan,
        "count": count,
    }


def _curve(x: np.ndarray, values: np.ndarray) -> Curve:
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    squares = np.where(known, (values - mean[None]) ** 2, 0).sum(axis=0)
    std = np.sqrt(squares / np.maximum(count - 1, 1))
    return Curve(x, values, mean, np.where(count > 0, std, np.nan))
