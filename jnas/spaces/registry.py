"""Spaces by name: those that jnas ships and those that a user adds."""

import functools
from collections.abc import Callable

from jnas import errors
from jnas.spaces import base, builtin, cells, groups, robust

__all__ = ["get", "names", "register"]

_FACTORIES: dict[str, Callable[[], base.Space]] = {
    "darts": builtin.darts,
    "darts_frc": builtin.darts_frc,
    "darts_rnn": builtin.darts_rnn,
    "nasbench201": builtin.nasbench201,
    **{
        f"robust_darts_{name.lower()}": functools.partial(robust.robust_darts, name)
        for name in ("S1", "S2", "S3", "S4")
    },
}


def get(name: str) -> base.Space:
    """Returns the space of that name.

    Args:
      name: one of `names()`.

    Returns:
      The space.

    Raises:
      JnasError: for another name, with close matches.

    Example:
      >>> get("darts").keep
      2
    """
    if not isinstance(name, str) or name not in _FACTORIES:
        raise errors.unknown_name("space", name, _FACTORIES)
    space = _FACTORIES[name]()
    if not isinstance(space, base.Space):
        raise errors.JnasError(
            f"the factory of space {name!r} must return a Space, got "
            f"{cells.shown(space)}"
        )
    return space


def names() -> tuple[str, ...]:
    """Returns the names that `get` knows, sorted.

    Example:
      >>> {"darts", "nasbench201"} <= set(names())
      True
    """
    return tuple(sorted(_FACTORIES))


def register(name: str, factory: Callable[[], base.Space]) -> None:
    """Adds a space, so that `get` and the command line find it by name.

    Args:
      name: a name that is not taken.
      factory: called without arguments whenever the space is asked for.

    Raises:
      JnasError: if the name is taken or is no name, or the factory can't be called.

    Example:
      >>> register("darts", lambda: get("nasbench201"))
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: space 'darts' exists already: choose another name
    """
    groups.check_name(name, "a space's name")
    if name in _FACTORIES:
        raise errors.JnasError(f"space {name!r} exists already: choose another name")
    if not callable(factory):
        raise errors.JnasError(
            f"the factory of space {name!r} must be callable, got "
            f"{cells.shown(factory)}: pass a function that returns the Space"
        )
    _FACTORIES[name] = factory
