"""The folder of a search: what it is of, and that it goes on only with the same."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from jnas import spaces
from jnas.errors import JnasError

__all__ = ["check_settings", "described", "made", "plain", "write"]

# Kept for the record.
_UNCOMPARED = ("jnas",)


def plain(value: Any) -> Any:
    """What JSON makes of a value; objects that it does not know become their type.

    Args:
      value: anything.

    Returns:
      Dicts, lists, strings, numbers, booleans and None.

    Example:
      >>> plain({"rate": np.float32(0.5), "sizes": (1, 2), "f": len})
      {'rate': 0.5, 'sizes': [1, 2], 'f': 'builtin_function_or_method'}
    """

    def other(x):
        if isinstance(x, np.generic):
            return x.item()
        if hasattr(x, "tolist"):
            return x.tolist()
        return type(x).__name__

    return json.loads(json.dumps(value, default=other))


def described(space: Any) -> dict[str, Any]:
    """What tells spaces apart, of JSON's types.

    Args:
      space: a space.

    Returns:
      Its name and genes, and a digest of a `jnas.Space`.

    Example:
      >>> described(spaces.nasbench201())["genes"]
      [5, 5, 5, 5, 5, 5]
    """
    found = {"name": getattr(space, "name", None), "genes": list(space.genes)}
    if isinstance(space, spaces.Space):
        found["sha256"] = hashlib.sha256(repr(space).encode()).hexdigest()[:16]
    return found


def made(folder: Path) -> Path:
    """The folder, made if need be.

    Args:
      folder: its path.

    Returns:
      The path.

    Raises:
      JnasError: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JnasError(
            f"workdir {folder} can't be made ({error.strerror or error}): choose "
            "another folder"
        ) from None
    return folder


def write(path: Path, text: str) -> None:
    """Writes a file, whole or not at all.

    Args:
      path: the file.
      text: what it is to hold.
    """
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def check_settings(path: Path, settings: dict[str, Any], log: str) -> None:
    """Writes the settings at the first start, compares with them at a later one.

    Args:
      path: file of the settings, in the folder of the log.
      settings: what the trials depend on.
      log: name of the log's file.

    Raises:
      JnasError: the folder has trials of other settings, or of unknown ones.
    """
    settings, folder = plain(settings), path.parent
    if not path.exists():
        trials = folder / log
        if trials.exists() and trials.stat().st_size:
            raise JnasError(
                f"{folder} has a log of trials ({log}) but no {path.name}: it can't be "
                "gone on with; choose another folder"
            )
        write(path, json.dumps(settings, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        before = None
    if not isinstance(before, dict):
        raise JnasError(f"{path} is damaged: choose another folder")
    there, now = ({k: v for k, v in x.items() if k not in _UNCOMPARED} for x in
                  (before, settings))  # fmt: skip
    found = _differences(there, now)
    if found:
        raise JnasError(
            f"{folder} holds trials of another setting ({'; '.join(found[:3])}): use "
            "the options of then, or another folder"
        )


def _differences(there: Any, now: Any, name: str = "") -> list[str]:
    """Where two settings differ, down to single options."""
    if there == now:
        return []
    if isinstance(there, dict) and isinstance(now, dict):
        return [
            line
            for option in {**there, **now}
            for line in _differences(
                there.get(option), now.get(option), f"{name}.{option}".strip(".")
            )
        ]
    return [f"{name} {_short(there)} there, {_short(now)} now"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
