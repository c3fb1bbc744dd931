"""What several regularizers check and share."""

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.relax.base import is_number

__all__ = [
    "Scheduled",
    "by_epoch",
    "choosable",
    "count",
    "due",
    "is_zero",
    "logits",
    "number",
    "rate",
    "span",
    "statistics",
    "strength",
    "value_at",
]

# A rate, a strength, a radius: a number, or a function of the step.
Scheduled = float | Callable[[jax.Array], jax.Array]


def number(value: Any, what: str, positive: bool = False) -> None:
    """Raises unless a value is a finite number, not negative.

    Args:
      value: anything.
      what: its name in the error.
      positive: whether 0 is out of range, too.

    Raises:
      JnasError: if it is not.

    Example:
      >>> number(0.5, "strength")
    """
    if is_number(value) and (value > 0 if positive else value >= 0):
        return
    bound = "> 0" if positive else ">= 0"
    raise JnasError(f"{what} must be a finite number {bound}, got {value!r}")


def count(value: Any, what: str) -> None:
    """Raises unless a value is a positive integer.

    Args:
      value: anything.
      what: its name in the error.

    Raises:
      JnasError: if it is not.

    Example:
      >>> count(25, "epochs")
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise JnasError(f"{what} must be a positive integer, got {value!r}")


def strength(value: Any, what: str = "strength") -> None:
    """Raises unless a strength is a finite number >= 0, or a schedule.

    Args:
      value: the strength, or a function of the step.
      what: its name in the error.

    Raises:
      JnasError: if it is not.

    Example:
      >>> strength(1e-3)
    """
    if not callable(value):
        number(value, what)


def is_zero(value: Any) -> bool:
    """Whether a strength or rate is the number 0, for which nothing need be done.

    Args:
      value: a number, or a function of the step, which may become anything.

    Returns:
      True for the number only.

    Example:
      >>> is_zero(0.0), is_zero(lambda step: 0.0)
      (True, False)
    """
    return not callable(value) and value == 0


def rate(value: Any) -> None:
    """Raises unless a rate is a probability below 1, or a schedule.

    Args:
      value: a number, or a function of the step.

    Raises:
      JnasError: if it is neither.

    Example:
      >>> rate(0.2)
    """
    if callable(value):
        return
    if not (is_number(value) and 0 <= value < 1):
        raise JnasError(
            f"rate must be a number in [0, 1) or a function of the step, got {value!r}"
        )


def span(first: Any, last: Any) -> None:
    """Raises unless two numbers of epochs are in order.

    Args:
      first: epochs done, >= 1.
      last: epochs done, >= first.

    Raises:
      JnasError: if they are not.

    Example:
      >>> span(50, 130)
    """
    count(first, "first")
    count(last, "last")
    if last < first:
        raise JnasError(f"last must be >= first, got first={first} and last={last}")


def due(epoch: int, total: int, first: int, last: int) -> int:
    """How many of some events at equal distances are due.

    Distances are rounded up to epochs; where there are fewer epochs than events,
    several are due at once.

    Args:
      epoch: epochs done.
      total: how many events there are.
      first: epochs done before the first one.
      last: epochs done before the last one.

    Returns:
      The number, at most ``total``.

    Example:
      >>> [due(epoch, 6, 100, 124) for epoch in (99, 100, 104, 105, 119, 120, 124)]
      [0, 1, 1, 2, 4, 5, 6]
      >>> [due(epoch, 6, 1, 2) for epoch in (1, 2)]
      [3, 6]
    """
    length = last - first
    whole = math.ceil if length >= total - 1 else round
    times = (first + whole(n * length / max(total - 1, 1)) for n in range(total))
    return sum(epoch >= time for time in times)


def statistics(value: Any, when: str) -> None:
    """Raises unless a value names statistics of batch norms.

    Args:
      value: anything.
      when: where they are used, in the error.

    Raises:
      JnasError: if it is neither "batch" nor "running".

    Example:
      >>> statistics("batch", "in the curvature")
    """
    if value not in ("batch", "running"):
        raise JnasError(
            f"statistics must be 'batch' or 'running', got {value!r}: the batch norms' "
            f"{when}"
        )


def value_at(value: Scheduled, step: Any) -> jax.Array:
    """A rate, strength or radius at a step.

    Args:
      value: a number, or a function of the step.
      step: the number of finished weight steps.

    Returns:
      A scalar array.

    Example:
      >>> float(value_at(lambda step: 0.125 * step, 2))
      0.25
    """
    found = value(step) if callable(value) else value
    return jnp.asarray(found, jnp.result_type(float))


def by_epoch(
    start: float, end: float, *, epochs: int, steps_per_epoch: int
) -> Callable[[jax.Array], jax.Array]:
    """A schedule in equal stairs, one an epoch, that would reach its end after them.

    Args:
      start: in the first epoch.
      end: what it would be after the last one.
      epochs: how many.
      steps_per_epoch: steps of one.

    Returns:
      ``step -> value``.

    Raises:
      JnasError: a length is out of range.

    Example:
      >>> float(by_epoch(0.0, 0.5, epochs=4, steps_per_epoch=10)(25))
      0.25
    """
    count(epochs, "epochs")
    count(steps_per_epoch, "steps_per_epoch")

    def at(step):
        epoch = jnp.minimum(jnp.asarray(step) // steps_per_epoch, epochs)
        return start + (end - start) * epoch / epochs

    return at


def logits(
    arch: Any, masks: dict[str, jax.Array], what: str, relaxation: str
) -> dict[str, jax.Array]:
    """The logits of an arch, by themselves or as "operations" (`edge_normalised`).

    Args:
      arch: architecture parameters.
      masks: by group, what edges can choose (`choosable`).
      what: who needs them, in the error.
      relaxation: one that makes such an arch, in the error.

    Returns:
      ``{group: [E, O]}``.

    Raises:
      JnasError: there are none of the groups.

    Example:
      >>> logits({"cell": 0.5}, {"cell": None}, "beta_decay", "softmax")
      {'cell': 0.5}
    """
    for found in (arch, arch.get("operations") if isinstance(arch, dict) else None):
        if isinstance(found, dict) and set(found) == set(masks):
            return found
    raise JnasError(
        f"{what} needs an arch with logits of {sorted(masks)}, as "
        f"relax.{relaxation}() makes them, got {type(arch).__name__} "
        f"{sorted(arch) if isinstance(arch, dict) else ''}".rstrip()
    )


def choosable(supernet: Any, arch: Any = None, **context: Any) -> dict[str, jax.Array]:
    """What each edge of a supernet's space can choose: an ``init`` of regularizers.

    Args:
      supernet: anything with a ``space``.
      arch: not used.
      **context: not used.

    Returns:
      ``{group: bool [E, O]}``.

    Example:
      >>> import types, jnas
      >>> supernet = types.SimpleNamespace(space=jnas.spaces.nasbench201())
      >>> choosable(supernet)["cell"].shape
      (6, 5)
    """
    del arch, context
    return {g.name: jnp.asarray(g.allowed) for g in supernet.space.groups}
