"""Metrics: flat names for what a step reports, and the rows of ``metrics.jsonl``.

One JSON object a line and epoch. The file belongs to the checkpoints: on resume the
rows after the restored step are dropped, so a run that was stopped and went on has
the rows of one that was not (but for the times).
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from jnas.errors import JnasError

__all__ = ["Rows", "as_json", "flatten", "of_seed", "read_rows", "split_seed"]

_OF_SEED = " of seed "


def flatten(info: Any) -> dict[str, Any]:
    """Gives every leaf of a step's report a flat name.

    The rule: the field names, dict keys and indices on the way to the leaf, joined by
    ``_``; a trailing ``_metrics`` of any of them is dropped.

    Args:
      info: a pytree (named tuples, dicts, None) with scalars as leaves.

    Returns:
      A dict from names to leaves, in the order of the tree.

    Raises:
      JnasError: if two leaves have the same name, or one has none.

    Example:
      >>> flatten({"train_loss": 1.0, "train_metrics": {"accuracy": 0.5}, "x": None})
      {'train_loss': 1.0, 'train_accuracy': 0.5}
    """
    flat: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(info)[0]:
        parts = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
        name = "_".join(part.removesuffix("_metrics") for part in parts)
        if not name:
            raise JnasError(
                "the info of a step must be a dict or a named tuple of scalars, got "
                f"a bare {type(leaf).__name__}: give it a name, as in {{'loss': x}}"
            )
        if name in flat:
            raise JnasError(
                f"the info of a step has two entries named {name!r} (names are joined "
                "by '_', and '_metrics' is dropped): rename one of them"
            )
        flat[name] = leaf
    return flat


def of_seed(name: str, seed: int | None) -> str:
    """Names a metric of one seed where a step reports those of several.

    Args:
      name: of the metric.
      seed: the seed; None: of no one seed.

    Returns:
      The name.

    Example:
      >>> of_seed("val_loss", 3), of_seed("val_loss", None)
      ('val_loss of seed 3', 'val_loss')
    """
    return name if seed is None else f"{name}{_OF_SEED}{seed}"


def split_seed(name: str) -> tuple[str, int | None]:
    """The metric and the seed, or None, of a name that `of_seed` made.

    Args:
      name: the name.

    Returns:
      Both.

    Example:
      >>> split_seed("val_loss of seed 3"), split_seed("val_loss")
      (('val_loss', 3), ('val_loss', None))
    """
    metric, _, seed = name.rpartition(_OF_SEED)
    return (metric, int(seed)) if metric and seed.isdecimal() else (name, None)


def as_json(value: Any, what: str) -> Any:
    """Turns a value into what JSON can hold.

    NumPy and JAX scalars become Python numbers; a number that is not finite becomes
    None, for JSON has no name for it.

    Args:
      value: anything made of numbers, strings, None, lists, tuples and mappings.
      what: how an error names it.

    Returns:
      The value, made of Python's own types.

    Raises:
      JnasError: if a part of it is of another kind.

    Example:
      >>> as_json({"a": (1, float("nan"))}, "x")
      {'a': [1, None]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): as_json(v, f"{what}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v, f"{what}[{i}]") for i, v in enumerate(value)]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return as_json(value.item(), what)
    raise JnasError(
        f"{what} must be a number, a string, None or a list or dict of these, got "
        f"{type(value).__name__}: convert it first"
    )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a metrics file.

    Args:
      path: the file; a missing one has no rows.

    Returns:
      The rows. A last line that is torn (the process was killed while it wrote) is
      left out.

    Raises:
      JnasError: if any other line is not a row.

    Example:
      >>> read_rows(Path("no/such/metrics.jsonl"))
      []
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JnasError(f"can't read {path}: {error.strerror or error}") from error
    whole, _, _ = text.rpartition("\n")
    rows = []
    for number, line in enumerate(whole.split("\n") if whole else [], start=1):
        try:
            row = json.loads(line)
            row["epoch"], row["step"], row["seconds"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise JnasError(
                f"{path}, line {number} is not a row of metrics: remove that line or "
                "the file"
            ) from error
        rows.append(row)
    return rows


class Rows:
    """The rows of a run, in memory and (with a path) in a file.

    Example:
      >>> rows = Rows(None, upto=0)
      >>> rows.append({"epoch": 1, "step": 10, "seconds": 0.5})
      >>> len(rows.history)
      1
    """

    def __init__(self, path: Path | None, *, upto: int):
        """Reads the file and drops its rows after step `upto`, in one move."""
        self.path = path
        self.history: list[dict[str, Any]] = []
        if path is None:
            return
        self.history = [row for row in read_rows(path) if row["step"] <= upto]
        text = "".join(_line(row) for row in self.history)
        if path.exists() and path.read_bytes() != text.encode():
            write_atomically(path, text)

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row; it is on the disk when this returns."""
        self.history.append(row)
        if self.path is not None:
            with _told(self.path), open(self.path, "a", encoding="utf-8") as file:
                file.write(_line(row))
                file.flush()
                os.fsync(file.fileno())


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file's text so that a reader finds the old or the new, no mixture.

    Args:
      path: the file.
      text: all of it.

    Raises:
      JnasError: it can't be written; what was there before is there still.
    """
    part = path.with_name(path.name + ".part")
    with _told(path):
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JnasError(
            f"can't write {path} ({error.strerror or error}): check the space and "
            "permissions there; what was saved before is intact"
        ) from error


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
