"""What a table knows of its candidates: one column for each measured thing.

Letters: ``N`` candidates, ``S`` seeds, ``F`` numbers of epochs, ``n`` queries.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas import errors

__all__ = ["Column", "OnDevice", "mean"]


class OnDevice:
    """An array of the host that moves to the device when it is first used.

    Reading a table thus starts no backend. The first use may be inside a trace.

    Example:
      >>> OnDevice(np.arange(3, dtype=np.int32))()
      Array([0, 1, 2], dtype=int32)
    """

    def __init__(self, host: np.ndarray):
        self.host = host
        self._device: jax.Array | None = None

    def __call__(self) -> jax.Array:
        """The array on the device."""
        if self._device is None:
            # Not a value of the trace that happens to be the first user.
            with jax.ensure_compile_time_eval():
                self._device = jnp.asarray(self.host)
        return self._device


def mean(seeds: np.ndarray) -> np.ndarray:
    """Mean over the known seeds.

    Args:
      seeds: ``[N, S, F]``, NaN where not run.

    Returns:
      float64 ``[N, F]``, NaN where no seed is known.

    Example:
      >>> mean(np.array([[[1.0, np.nan], [4.0, np.nan]]])).tolist()
      [[2.5, nan]]
    """
    known = np.isfinite(seeds)
    count = known.sum(1)
    total = np.where(known, seeds, 0).astype(np.float64).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """One measured thing of every candidate, where it was trained after some epochs.

    Attributes:
      values: ``[N]`` or ``[N, F]``, higher or lower as it was measured, NaN where
        unknown; None for the mean of what is known of `seeds`. Kept as ``[N, F]``.
      epochs: the ``F`` numbers of epochs, ascending; () for what needs no training,
        such as the number of parameters (then ``F = 1``).
      seeds: ``[N, S, F]`` (or ``[N, S]`` where ``F = 1``), the runs that `values` is
        the mean of, NaN where not run; None where only the mean is known.
      seconds: ``[N]`` or ``[N, F]``, simulated seconds of training with these epochs;
        None where that is not known.
      unit: what it is, such as ``"validation accuracy, %"``.

    Raises:
      JnasError: the shapes don't fit each other, or nothing is known.

    Example:
      >>> column = Column(None, epochs=(1, 2), seeds=[[[1, 2], [3, np.nan]]])
      >>> column.values.tolist(), column.known
      ([[2.0, 2.0]], True)
    """

    values: Any = None
    epochs: tuple[int, ...] = ()
    seeds: Any = None
    seconds: Any = None
    unit: str = "score"

    def __post_init__(self):
        epochs = tuple(self.epochs)
        if list(epochs) != sorted({e for e in epochs if e > 0}):
            raise errors.JnasError(
                f"the epochs of a column must be positive and ascending, got {epochs}"
            )
        width = max(1, len(epochs))
        seeds = self.seeds
        if seeds is not None:
            seeds = _numbers("seeds", seeds)
            seeds = seeds[..., None] if seeds.ndim == 2 and width == 1 else seeds
            if seeds.ndim != 3 or seeds.shape[-1] != width or not seeds.shape[1]:
                raise errors.JnasError(
                    f"seeds of a column must be [N, S, {width}], got "
                    f"{list(seeds.shape)}"
                )
        elif self.values is None:
            raise errors.JnasError("a column needs values or seeds")
        values = mean(seeds) if self.values is None else self.values  # pyrefly: ignore
        values = _wide("values", values, width)
        seconds = self.seconds
        if seconds is not None:
            seconds = _wide("seconds", seconds, width)
        lengths = {len(a) for a in (values, seeds, seconds) if a is not None}
        if len(lengths) != 1:
            raise errors.JnasError(
                f"the arrays of a column have different lengths: {sorted(lengths)}"
            )
        object.__setattr__(self, "epochs", epochs)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "seeds", seeds)
        object.__setattr__(self, "seconds", seconds)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def known(self) -> bool:
        """Whether anything is known at all."""
        return bool(np.any(np.isfinite(self.values)))

    def at(self, epochs: int) -> "Column":
        """The column of one of the numbers of epochs alone, made once."""
        if epochs not in self._single:
            place = self.epochs.index(epochs)
            keep = slice(place, place + 1)
            seeds = None if self.seeds is None else self.seeds[:, :, keep]
            self._single[epochs] = Column(
                values=self.values[:, keep],
                epochs=(epochs,),
                seeds=None if seeds is None or np.isnan(seeds).all() else seeds,
                seconds=None if self.seconds is None else self.seconds[:, keep],
                unit=self.unit,
            )
        return self._single[epochs]

    def place(self, fidelity: jax.Array) -> jax.Array:
        """Which of the epochs a share of the most of them pays for, int32.

        The largest that is not above ``fidelity * epochs[-1]``, but at least the first.
        """
        place = jnp.zeros(jnp.shape(fidelity), jnp.int32)
        for other in self.epochs[1:]:
            # Epochs are whole numbers: the slack only takes up rounding.
            reached = fidelity * self.epochs[-1] >= other - 1e-3
            place = place + reached.astype(jnp.int32)
        return place

    def gather(
        self, rows: jax.Array, place: jax.Array, draw: jax.Array | None = None
    ) -> jax.Array:
        """The values of some candidates, float32.

        Args:
          rows: int32 of any shape, -1 for unknown candidates.
          place: int32 of that shape, which of the epochs.
          draw: numbers in [0, 1) of that shape that choose one of the known seeds;
            None for the mean. Where no seed is known by itself it is the mean, too.
        """
        found = self._values()[jnp.maximum(rows, 0), place]
        if draw is not None:
            runs, count = self._runs[0](), self._runs[1]()
            safe = jnp.maximum(rows, 0)
            number = count[safe, place]
            seed = jnp.minimum(draw * number, number - 1).astype(jnp.int32)
            drawn = runs[safe, jnp.maximum(seed, 0), place]
            found = jnp.where(number > 0, drawn, found)
        return jnp.where(rows >= 0, found, jnp.nan)

    def cost(self, rows: jax.Array, place: jax.Array) -> jax.Array:
        """What the training took, float32: 0 for unknown candidates, never trained.

        In simulated seconds, or in epochs where the table knows no times.
        """
        if self.seconds is not None:
            cost = self._seconds()[jnp.maximum(rows, 0), place]
        elif self.epochs:
            cost = self._epochs()[place]
        else:
            cost = jnp.zeros(rows.shape, jnp.float32)
        return jnp.where((rows >= 0) & (cost == cost), cost, 0.0)

    @functools.cached_property
    def _single(self) -> "dict[int, Column]":
        return {}

    @functools.cached_property
    def _values(self) -> OnDevice:
        return OnDevice(self.values.astype(np.float32))

    @functools.cached_property
    def _seconds(self) -> OnDevice:
        return OnDevice(self.seconds.astype(np.float32))

    @functools.cached_property
    def _epochs(self) -> OnDevice:
        return OnDevice(np.asarray(self.epochs, np.float32))

    @functools.cached_property
    def _runs(self) -> tuple[OnDevice, OnDevice]:
        """The runs with the known ones first, and how many these are, [N, F]."""
        known = np.isfinite(self.seeds)
        order = np.argsort(~known, axis=1, kind="stable")
        runs = np.take_along_axis(self.seeds, order, axis=1).astype(np.float32)
        return OnDevice(runs), OnDevice(known.sum(1).astype(np.float32))


def _numbers(what: str, array: Any) -> np.ndarray:
    try:
        array = np.asarray(array)
    except ValueError:  # ragged
        array = np.empty(0, object)
    if array.dtype.kind not in "iuf":
        raise errors.JnasError(
            f"{what} of a column must be numbers, got {array.dtype.name}"
        )
    return array


def _wide(what: str, array: Any, width: int) -> np.ndarray:
    array = _numbers(what, array)
    array = array[:, None] if array.ndim == 1 and width == 1 else array
    if array.ndim != 2 or array.shape[1] != width:
        raise errors.JnasError(
            f"{what} of a column must be [N, {width}], one for each number of epochs, "
            f"got {list(array.shape)}"
        )
    return array
