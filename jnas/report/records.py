"""Reading the small files of a run: checked, and every trouble told in one line."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jnas.errors import JnasError

__all__ = [
    "first",
    "folders",
    "number",
    "numbers",
    "read_object",
    "read_rows",
    "table",
    "thinned",
    "whole",
]

_FORMAT = 1


def read_object(path: Path) -> dict[str, Any] | None:
    """Reads a file that holds one JSON object.

    Args:
      path: the file.

    Returns:
      The object, or None if there is no such file.

    Raises:
      JnasError: if it can't be read, is no object, or of a later format.

    Example:
      >>> read_object(Path("no/such/summary.json")) is None
      True
    """
    text = _text(path)
    if text is None:
        return None
    content = _parsed(text, str(path))
    form = content.get("format", _FORMAT)
    if type(form) is not int or form != _FORMAT:
        newer = type(form) is int and form > _FORMAT
        fix = "update jnas to read it" if newer else "restore or remove the file"
        raise JnasError(f"{path}: format must be {_FORMAT}, got {form!r:.40}: {fix}")
    return content


def read_rows(path: Path) -> tuple[dict[str, Any], ...]:
    """Reads the rows of a ``metrics.jsonl``, also while a run still writes it.

    Args:
      path: the file; a missing one has no rows.

    Returns:
      The rows, without a last line that is torn.

    Raises:
      JnasError: if any other line is not a row, or epochs do not ascend.

    Example:
      >>> read_rows(Path("no/such/metrics.jsonl"))
      ()
    """
    whole, _, _ = (_text(path) or "").rpartition("\n")
    rows: list[dict[str, Any]] = []
    for index, line in enumerate(whole.split("\n") if whole else []):
        row = _parsed(line, f"{path}, line {index + 1}")
        epoch = row.get("epoch")
        if type(epoch) is not int or not 0 <= epoch < 10**9:
            raise JnasError(
                f"{path}, line {index + 1} has no epoch: remove that line or the file"
            )
        if rows and epoch <= rows[-1]["epoch"]:
            raise JnasError(
                f"{path}, line {index + 1} has epoch {epoch} after epoch "
                f"{rows[-1]['epoch']}: two runs have written there, remove one's lines"
            )
        rows.append(row)
    return tuple(rows)


def number(value: Any) -> float | None:
    """Returns a finite number as a float, anything else as None.

    Args:
      value: anything.

    Returns:
      The number, or None.

    Example:
      >>> number(3), number(float("nan")), number("3"), number(True)
      (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def numbers(values: Any, what: str) -> tuple[float, ...]:
    """Returns a list of finite numbers as floats.

    Args:
      values: what a file holds.
      what: how an error names it.

    Returns:
      The numbers.

    Raises:
      JnasError: if it is not a list, or a part is no finite number.

    Example:
      >>> numbers([1, 0.5], "accuracies")
      (1.0, 0.5)
    """
    found = [number(value) for value in values] if isinstance(values, list) else [None]
    if None in found:
        raise JnasError(
            f"{what} must be a list of finite numbers, got {values!r:.60}: restore or "
            "remove the file"
        )
    return tuple(value for value in found if value is not None)


def table(values: Any, what: str) -> tuple[tuple[float, ...], ...]:
    """Returns a list of lists of numbers, all of one length, as floats.

    Args:
      values: what a file holds.
      what: how an error names it.

    Returns:
      The rows.

    Raises:
      JnasError: if it is not such a table.

    Example:
      >>> table([[0.5, 0.5], [1, 0]], "probabilities")
      ((0.5, 0.5), (1.0, 0.0))
    """
    rows = values if isinstance(values, list) else [None]
    checked = tuple(numbers(row, what) for row in rows)
    if not checked or not checked[0] or len({len(row) for row in checked}) != 1:
        raise JnasError(
            f"{what} must be rows of one length: restore or remove the file"
        )
    return checked


def whole(value: Any) -> int | None:
    """Returns an integer, anything else as None.

    Args:
      value: anything.

    Returns:
      The integer, or None.

    Example:
      >>> whole(3), whole(3.0), whole(True)
      (3, None, None)
    """
    return value if type(value) is int else None


def first(content: Mapping[str, Any], *names: str) -> float | None:
    """Returns the first finite number among some entries.

    Args:
      content: an object.
      *names: of entries.

    Returns:
      The number, or None if there is none.

    Example:
      >>> first({"accuracy": 0.5}, "test_accuracy", "accuracy")
      0.5
    """
    found = (number(content.get(name)) for name in names)
    return next((value for value in found if value is not None), None)


def folders(path: Path) -> list[Path]:
    """Lists the folders in a folder.

    Args:
      path: the folder.

    Returns:
      Those in it, sorted; none where there is no such folder.

    Raises:
      JnasError: if it can't be read.

    Example:
      >>> folders(Path("no/such/folder"))
      []
    """
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise JnasError(f"can't read {path}: {error.strerror or error}") from error


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise JnasError(f"can't read {path}: {error.strerror or error}") from error


def _parsed(text: str, what: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise JnasError(
            f"{what} is not JSON ({reason}): restore or remove it"
        ) from error
    if not isinstance(content, Mapping):
        raise JnasError(
            f"{what} must be a JSON object, got {text!r:.40}: restore or remove it"
        )
    return dict(content)


def thinned(
    rows: Sequence[Mapping[str, Any]], most: int | None
) -> Sequence[Mapping[str, Any]]:
    """Every second, third, ... row if there are too many; the last one stays.

    Args:
      rows: the rows.
      most: how many; None: all.

    Returns:
      The rows left.

    Example:
      >>> thinned([{"epoch": n} for n in range(1, 6)], 3)
      [{'epoch': 1}, {'epoch': 3}, {'epoch': 5}]
    """
    if most is None or len(rows) <= most:
        return rows
    step = -(-len(rows) // most)
    # counted from the end, so that the last row is among them
    return rows[(len(rows) - 1) % step :: step]
