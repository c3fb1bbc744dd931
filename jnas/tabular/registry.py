"""The tables by name."""

import os
from collections.abc import Callable

from jnas import errors
from jnas.tabular import base
from jnas.tabular.table101 import nasbench101
from jnas.tabular.table125 import cells125
from jnas.tabular.table201 import nasbench201

__all__ = ["get", "names"]

_TABLES: dict[str, Callable[..., base.Table]] = {
    "cells125": cells125,
    "nasbench101": nasbench101,
    "nasbench201": nasbench201,
}


def names() -> tuple[str, ...]:
    """Names of the tables that there can be.

    Example:
      >>> "nasbench201" in names()
      True
    """
    return tuple(_TABLES)


def get(name: str, path: str | os.PathLike[str] | None = None) -> base.Table:
    """Reads a table by its name.

    Args:
      name: one of `names`.
      path: the file or its folder; by default ``$JNAS_DATA`` and the user's folder.

    Returns:
      The table.

    Raises:
      JnasError: an unknown name, no such file or a malformed one.
    """
    if name not in _TABLES:
        raise errors.unknown_name("table", name, _TABLES)
    return _TABLES[name](path)
