"""The log of a study: JSON lines that are enough to go on from.

Every line is one event, written whole by one call: what was asked ("ask"), and what
each trial gave ("tell"). A last line that a kill cut short is dropped.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from jnas.discrete import folders
from jnas.errors import JnasError

try:
    import fcntl
except ImportError:  # not a POSIX system: go without the lock
    fcntl = None

__all__ = [
    "LOG",
    "SETTINGS",
    "TrialLog",
    "from_number",
    "number",
    "read",
]

LOG = "trials.jsonl"
SETTINGS = "study.json"


def number(value: Any) -> Any:
    """A float32 as JSON has it, exactly: the shortest text, None for NaN.

    Args:
      value: a float32, or an array of some.

    Returns:
      A float, None, a text for an infinity, or a list of them.

    Example:
      >>> number(np.array([0.1, np.nan, np.inf], np.float32))
      [0.1, None, 'inf']
    """
    array = np.asarray(value, np.float32)
    if array.ndim:
        return [number(x) for x in array]
    if math.isnan(array):
        return None
    return float(str(array)) if math.isfinite(array) else str(array)


def from_number(value: Any) -> np.ndarray:
    """The float32 that `number` wrote.

    Args:
      value: as `number` returns it.

    Returns:
      A float32 array of the shape.

    Example:
      >>> from_number([0.1, None, "-inf"]).tolist()
      [0.10000000149011612, nan, -inf]
    """
    if isinstance(value, list):
        return np.stack([from_number(x) for x in value])
    return np.asarray(math.nan if value is None else float(value), np.float32)


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    r"""The events of a log, but for a last line that was cut short.

    Args:
      path: the file.

    Returns:
      The rows in order; none if there is no file.

    Raises:
      JnasError: a line is damaged.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder) / LOG
      ...     _ = path.write_text('{"event": "ask", "ids": [0]}\n{"event": "te')
      ...     read(path)
      [{'event': 'ask', 'ids': [0]}]
    """
    path = Path(path)
    if not path.exists():
        return []
    content = path.read_bytes()
    rows = []
    for i, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or row.get("event") not in ("ask", "tell"):
            raise JnasError(
                f"{path} is damaged at line {i}: restore it, or delete the lines from "
                "there on to repeat these trials"
            )
        rows.append(row)
    return rows


class TrialLog:
    """The log of one study, in a folder that no other process writes to.

    Args:
      workdir: the folder; None keeps nothing.
      settings: what the study is; a study goes on only with the same.

    Attributes:
      rows: the events of before.

    Raises:
      JnasError: the folder is another study's or in use, or the log is damaged.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     with TrialLog(folder, {"seed": 0}) as log:
      ...         log.append({"event": "ask", "ids": [0]})
      ...     with TrialLog(folder, {"seed": 0}) as log:
      ...         log.rows
      [{'event': 'ask', 'ids': [0]}]
    """

    def __init__(self, workdir: str | os.PathLike[str] | None, settings: dict):
        self.rows: list[dict[str, Any]] = []
        self._file = None
        if workdir is None:
            return
        folder = folders.made(Path(workdir))
        path = folder / LOG
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise JnasError(
                f"workdir {folder} can't be written ({error.strerror or error}): "
                "choose another folder"
            ) from None
        try:
            self._lock(folder)
            folders.check_settings(folder / SETTINGS, settings, LOG)
            self.rows = read(path)
            content = path.read_bytes()
            os.ftruncate(self._file, content.rfind(b"\n") + 1)
        except BaseException:
            self.close()
            raise

    def _lock(self, folder: Path) -> None:
        if fcntl is None or self._file is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JnasError(
                f"workdir {folder} is in use by another study: wait for it, stop it, "
                "or choose another folder"
            ) from None
        except OSError:
            pass  # a file system without locks

    def append(self, *rows: dict[str, Any]) -> None:
        """Adds events; they are in the file when this returns.

        Args:
          *rows: of JSON's types.
        """
        if self._file is None:
            return
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        left = memoryview(text.encode())
        while left:
            left = left[os.write(self._file, left) :]

    def close(self) -> None:
        """Lets go of the folder."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> "TrialLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
