"""A benchmark table: what every candidate of a space scores, looked up by gathers.

Letters: ``N`` candidates in the table, ``L`` genes, ``n`` queries.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas import errors, objective
from jnas.tabular import columns as columns_lib
from jnas.tabular.columns import Column, mean

__all__ = ["Column", "Table", "by_code", "mean"]

NOISES = ("mean", "sample")
# Epochs of one metric that messages list one by one.
_LISTED = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Measured results of candidates, on the host until they are looked up.

    Look-ups may be traced, mapped and differentiated around; device arrays are made
    when first needed. Numbers on the device are float32.

    A metric is named by its column, such as ``"val"``; ``"val_12"`` is the value
    after exactly 12 epochs.

    Attributes:
      name: name of the table.
      space: whose candidates are known.
      genes: int32 ``[N, L]``, the candidate of each row.
      columns: ``{dataset: {metric: Column}}``.
      find: ``(genes int32 [..., L]) -> int32 [...]``, traceable, the row of each
        candidate, -1 for those that aren't in the table; see `by_code`.
      note: what users should know of the figures, one line.
      facts: ``{name: array [N]}``, what else is known of the cells, on the host.
      source: the file that it was read from.

    Raises:
      JnasError: the arrays don't fit each other.

    Example:
      >>> import jnas
      >>> group = jnas.spaces.Group("cell", ("skip", "conv"), ((0, 1),), 1, (1,))
      >>> space = jnas.Space("tiny", (group,))
      >>> val = Column([[50.0, 60.0], [40.0, 90.0]], epochs=(1, 10), unit="accuracy, %")
      >>> rows = np.array([[0], [1]], np.int32)
      >>> table = Table("t", space, rows, {"d": {"val": val}}, by_code((2,), rows))
      >>> table.values(jnp.array([[1], [0], [7]]), "d", "val_10").tolist()
      [90.0, 60.0, nan]
      >>> table
      Table t: 2 cells of tiny; d: val (1, 10 epochs)
    """

    name: str
    space: Any
    genes: np.ndarray
    columns: Mapping[str, Mapping[str, Column]]
    find: Callable[[jax.Array], jax.Array]
    note: str = ""
    facts: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    source: str = ""

    def __post_init__(self):
        shape, length = np.shape(self.genes), len(self.space.genes)
        if len(shape) != 2 or shape[1] != length or not shape[0]:
            raise errors.JnasError(
                f"table {self.name!r} needs genes [N, {length}], got {list(shape)}"
            )
        if not self.columns or not all(self.columns.values()):
            raise errors.JnasError(f"table {self.name!r} has a dataset without columns")
        for dataset, metrics in self.columns.items():
            for metric, column in metrics.items():
                if len(column) != shape[0]:
                    raise errors.JnasError(
                        f"table {self.name!r} has {shape[0]} candidates, but "
                        f"{metric!r} of {dataset!r} has {len(column)} values"
                    )
        for fact, array in self.facts.items():
            if len(array) != shape[0]:
                raise errors.JnasError(
                    f"table {self.name!r} has {shape[0]} candidates, but {fact!r} "
                    f"has {len(array)}"
                )

    def __len__(self) -> int:
        return len(self.genes)

    def __repr__(self) -> str:
        return self.describe()

    def describe(self) -> str:
        """One line: how many candidates, which datasets, metrics and epochs."""
        told: dict[str, list[str]] = {}
        for dataset in self.datasets:
            texts = []
            families: dict[str, int] = {}
            for metric, column in self.columns[dataset].items():
                family, several, _ = metric.partition("_")
                if len(column.epochs) > _LISTED:
                    texts.append(
                        f"{metric} ({len(column.epochs)} times in "
                        f"{column.epochs[0]}..{column.epochs[-1]} epochs)"
                    )
                elif column.epochs:
                    listed = ", ".join(map(str, column.epochs))
                    texts.append(f"{metric} ({listed} epochs)")
                elif several:
                    families[family] = families.get(family, 0) + 1
                else:
                    texts.append(metric)
            texts += [f"{family}_* ({n})" for family, n in families.items()]
            told.setdefault(", ".join(texts), []).append(dataset)
        listed = "; ".join(f"{', '.join(d)}: {text}" for text, d in told.items())
        return f"Table {self.name}: {len(self)} cells of {self.space.name}; {listed}"

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets."""
        return tuple(self.columns)

    def metrics(self, dataset: str) -> tuple[str, ...]:
        """Names of all metrics of a dataset, each also with its epochs."""
        found: list[str] = []
        for metric, column in self._of(dataset).items():
            found += [metric, *(f"{metric}_{e}" for e in column.epochs)]
        return tuple(found)

    def column(self, dataset: str, metric: str) -> Column:
        """Returns one column.

        Args:
          dataset: one of `datasets`.
          metric: one of `metrics`, with the number of epochs behind it or not.

        Returns:
          The column; of a name with a number of epochs that has no others.

        Raises:
          JnasError: there is none; the line lists what there is.
        """
        there = self._of(dataset)
        if metric in there:
            return there[metric]
        name, _, epochs = metric.rpartition("_")
        if name in there and epochs.isdecimal() and int(epochs) in there[name].epochs:
            return there[name].at(int(epochs))
        known = []
        for other, column in there.items():
            epochs = column.epochs
            epochs = epochs if len(epochs) <= _LISTED else (epochs[0], epochs[-1])
            known += [other, *(f"{other}_{e}" for e in epochs)]
        raise errors.unknown_name(f"metric of {self.name}, {dataset}", metric, known)

    def rows(self, genes: Any) -> jax.Array:
        """Returns the rows of candidates; traceable.

        Args:
          genes: int32 ``[..., L]``.

        Returns:
          int32 ``[...]``, -1 for what is not in the table.

        Raises:
          JnasError: genes of another length or no integers.
        """
        genes = jnp.asarray(genes)
        length = len(self.space.genes)
        whole = jnp.issubdtype(genes.dtype, jnp.integer)
        if genes.ndim < 1 or genes.shape[-1] != length or not whole:
            raise errors.JnasError(
                f"genes of {self.space.name} must be integers [..., {length}], got "
                f"{genes.dtype.name} {list(genes.shape)}"
            )
        return self.find(genes)

    def values(self, genes: Any, dataset: str, metric: str) -> jax.Array:
        """Looks candidates up, after the most epochs that the metric knows; traceable.

        Args:
          genes: int32 ``[..., L]``.
          dataset: one of `datasets`.
          metric: one of `metrics`.

        Returns:
          float32 ``[...]``, NaN for what is not known.

        Raises:
          JnasError: unknown names, or genes of another length.
        """
        column = self.column(dataset, metric)
        rows = self.rows(genes)
        last = jnp.full(rows.shape, max(0, len(column.epochs) - 1), jnp.int32)
        return column.gather(rows, last)

    def best(self, dataset: str, metric: str) -> tuple[np.ndarray, float]:
        """The candidate with the highest value after the most epochs; on the host.

        Returns:
          Its genes int32 ``[L]``, the first of equals, and the value.

        Raises:
          JnasError: unknown names, or nothing is known.
        """
        column = self.column(dataset, metric)
        values = column.values[:, -1].astype(np.float64)
        values = np.where(np.isfinite(values), values, -np.inf)
        row = int(np.argmax(values))
        if values[row] == -np.inf:
            raise errors.JnasError(f"{self.name} knows no {metric} of {dataset}")
        return np.array(self.genes[row], np.int32), float(values[row])

    def objective(
        self, dataset: str, metric: str | Sequence[str], *, noise: str = "mean"
    ) -> objective.Objective:
        """Returns the objective that looks candidates up: what a study calls.

        A metric with one number of epochs, such as ``"val_12"``, ignores the fidelity
        of a query. One with several, such as ``"val"``, gives the largest number of
        epochs that is at most ``fidelity`` times the most, but at least the smallest.
        The cost is the simulated time of training with these epochs: 0 for metrics
        that need no training and for unknown candidates, and the number of epochs
        where the table knows no times.

        Args:
          dataset: one of `datasets`.
          metric: one of `metrics`, or several for as many scores. A ``"-"`` before a
            name turns the sign, for what should be small: ``"-params"``.
          noise: ``"mean"`` of the seeds, or ``"sample"``: each query draws one of the
            candidate's known seeds with the key (the same for all its metrics), and
            gets the mean where no seed is known by itself.

        Returns:
          The objective, traceable. Of several metrics scores are ``[n, M]`` and the
          cost is the highest.

        Raises:
          JnasError: unknown names, or a metric that no seeds are known of.
        """
        if noise not in NOISES:
            raise errors.unknown_name("noise", noise, NOISES)
        names = (metric,) if isinstance(metric, str) else tuple(metric)
        if not names:
            raise errors.JnasError("an objective needs at least one metric")
        signs = [-1.0 if name.startswith("-") else 1.0 for name in names]
        found = [self.column(dataset, name.removeprefix("-")) for name in names]
        for name, column in zip(names, found, strict=True):
            if noise == "sample" and column.epochs and column.seeds is None:
                seeded = [
                    other
                    for other in self.metrics(dataset)
                    if self.column(dataset, other).seeds is not None
                ]
                raise errors.JnasError(
                    f"{self.name} knows no seeds of {name} of {dataset}, only their "
                    f"mean: use noise 'mean', or one of {', '.join(seeded) or 'none'}"
                )

        def evaluate(genes, key, fidelity):
            rows = self.rows(genes)
            draw = jax.random.uniform(key, rows.shape) if noise == "sample" else None
            scores, costs = [], jnp.zeros(rows.shape, jnp.float32)
            for sign, column in zip(signs, found, strict=True):
                place = column.place(jnp.asarray(fidelity))
                place = jnp.broadcast_to(place, rows.shape)
                drawn = None if column.seeds is None else draw
                scores.append(sign * column.gather(rows, place, drawn))
                costs = jnp.maximum(costs, column.cost(rows, place))
            if isinstance(metric, str):
                return scores[0], costs
            return jnp.stack(scores, axis=-1), costs

        timed = all(column.seconds is not None or not column.epochs for column in found)
        return objective.Objective(
            space=self.space,
            evaluate=evaluate,
            name=f"{self.name}/{dataset}/{','.join(names)}",
            score_unit=", ".join(column.unit for column in found),
            cost_unit="s" if timed else "epochs",
            traceable=True,
            config={
                "table": self.name,
                "dataset": dataset,
                "metric": metric if isinstance(metric, str) else list(names),
                "noise": noise,
            },
        )

    def _of(self, dataset: str) -> Mapping[str, Column]:
        if dataset not in self.columns:
            raise errors.unknown_name(
                f"dataset of {self.name}", dataset, self.columns.keys()
            )
        return self.columns[dataset]


def by_code(
    cardinalities: Sequence[int], genes: np.ndarray
) -> Callable[[jax.Array], jax.Array]:
    """Returns the look-up of a small space: genes to one number, then one gather.

    Args:
      cardinalities: number of values of each of the ``L`` genes.
      genes: int32 ``[N, L]``, the candidate of each row of the table.

    Returns:
      ``(genes int32 [..., L]) -> int32 [...]``, traceable, -1 for unknown candidates.

    Raises:
      JnasError: the space is too large for that, or rows are no candidates or twice
        the same.

    Example:
      >>> find = by_code((2, 3), np.array([[1, 2], [0, 0]]))
      >>> find(jnp.array([[0, 0], [1, 2], [1, 1], [9, 0]])).tolist()
      [1, 0, -1, -1]
    """
    sizes = tuple(cardinalities)
    genes = np.asarray(genes)
    if math.prod(sizes) > 2**24:
        raise errors.JnasError(
            f"a space of {math.prod(sizes):.3g} candidates is too large for a list of "
            "all of them"
        )
    if not np.all((genes >= 0) & (genes < np.asarray(sizes))):
        raise errors.JnasError("rows of a table are no candidates of its space")
    codes = np.ravel_multi_index(tuple(genes.T), sizes)
    if len(np.unique(codes)) != len(codes):
        raise errors.JnasError("a table has the same candidate twice")
    index = np.full(math.prod(sizes), -1, np.int32)
    index[codes] = np.arange(len(codes), dtype=np.int32)
    on_device = columns_lib.OnDevice(index)

    def find(genes):
        code = jnp.zeros(genes.shape[:-1], jnp.int32)
        inside = jnp.ones(genes.shape[:-1], bool)
        for i, size in enumerate(sizes):
            gene = genes[..., i].astype(jnp.int32)
            inside &= (gene >= 0) & (gene < size)
            code = code * size + gene
        return jnp.where(inside, on_device()[jnp.where(inside, code, 0)], -1)

    return find
