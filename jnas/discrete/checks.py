"""Checks of hyper-parameters, one clear line each."""

import math
import operator
from typing import Any

from jnas.errors import JnasError

__all__ = ["count", "positive", "share"]


def count(name: str, value: Any, least: int = 1) -> int:
    """Returns an integer of at least ``least``.

    Example:
      >>> count("population", 0)
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: population must be an integer >= 1, got 0
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise JnasError(f"{name} must be an integer >= {least}, got {value!r}")
    return number


def share(name: str, value: Any) -> float:
    """Returns a number in [0, 1].

    Example:
      >>> share("identity", 2)
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: identity must be in [0, 1], got 2
    """
    number = _number(value)
    if not 0 <= number <= 1:
        raise JnasError(f"{name} must be in [0, 1], got {value!r}")
    return number


def positive(name: str, value: Any, zero: bool = False) -> float:
    """Returns a finite number > 0, or >= 0 with ``zero``.

    Example:
      >>> positive("learning_rate", -1.0)
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: learning_rate must be finite and > 0, got -1.0
    """
    number = _number(value)
    if not (number > 0 or (zero and number == 0)) or not math.isfinite(number):
        raise JnasError(
            f"{name} must be finite and {'>=' if zero else '>'} 0, got {value!r}"
        )
    return number


def _number(value: Any) -> float:
    """The value as a float, NaN for what is no number."""
    try:
        return math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        return math.nan
