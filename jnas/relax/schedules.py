"""Temperatures that fall from epoch to epoch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.relax import base

__all__ = ["exponential_temperature", "linear_temperature"]


def linear_temperature(
    start: float,
    end: float,
    *,
    epochs: int,
    steps_per_epoch: int,
    reach_end: bool = True,
) -> Callable[[jax.Array], jax.Array]:
    """A temperature that changes linearly from epoch to epoch.

    Args:
      start: in the first epoch (GDAS 10, SNAS 1).
      end: at the end (GDAS 0.1, SNAS 0.03).
      epochs: how many.
      steps_per_epoch: steps of one.
      reach_end: whether the last epoch has ``end`` (GDAS), or the epoch after it would
        (SNAS).

    Returns:
      ``step -> temperature``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> tau = linear_temperature(10.0, 0.1, epochs=250, steps_per_epoch=2)
      >>> float(tau(0)), round(float(tau(499)), 4)
      (10.0, 0.1)
    """
    base.check_temperature(start)
    base.check_temperature(end)
    _check_count(epochs, "epochs")
    _check_count(steps_per_epoch, "steps_per_epoch")
    last = max(epochs - 1, 1) if reach_end else epochs

    def temperature(step):
        epoch = jnp.minimum(jnp.asarray(step) // steps_per_epoch, last)
        return start + (end - start) * (epoch / last)

    return temperature


def exponential_temperature(
    start: float, rate: float, *, steps_per_epoch: int
) -> Callable[[jax.Array], jax.Array]:
    """A temperature of ``start * exp(-rate * epoch)``.

    Args:
      start: in the first epoch; FBNet 5.
      rate: FBNet 0.045.
      steps_per_epoch: steps of one epoch.

    Returns:
      ``step -> temperature``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> tau = exponential_temperature(5.0, 0.045, steps_per_epoch=10)
      >>> float(tau(9)), round(float(tau(10)), 2)
      (5.0, 4.78)
    """
    base.check_temperature(start)
    if not rate >= 0:
        raise JnasError(f"rate must be >= 0, got {rate!r}")
    _check_count(steps_per_epoch, "steps_per_epoch")

    def temperature(step):
        return start * jnp.exp(-rate * (jnp.asarray(step) // steps_per_epoch))

    return temperature


def _check_count(value: int, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise JnasError(f"{what} must be a positive integer, got {value!r}")
