"""The trials of many seeds on disk: a line of JSON each, whole seeds only.

A seed's trials follow from its number alone, so a run that was stopped goes on with the
seeds that are not complete, and ends with the lines of one that was not stopped.
"""

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from jnas.discrete import folders
from jnas.discrete.result import Result
from jnas.errors import JnasError

__all__ = ["SETTINGS", "TRIALS", "append", "check_setting", "complete_seeds"]

TRIALS = "trials.jsonl"
SETTINGS = "setting.json"


def check_setting(folder: Path, setting: dict[str, Any]) -> None:
    """Makes the folder, or refuses one that holds trials of another setting.

    Args:
      folder: where trials are logged.
      setting: what they depend on.

    Raises:
      JnasError: the folder belongs to something else, or can't be read.
    """
    folders.check_settings(folders.made(folder) / SETTINGS, setting, TRIALS)


def append(folder: Path, result: Result, count: int) -> None:
    """Adds the trials of the first ``count`` seeds of a result.

    Args:
      folder: the folder.
      result: the trials.
      count: number of its seeds that are new.
    """
    lines = []
    for i, seed in enumerate(result.seeds[:count]):
        trials = zip(result.genes[i], result.scores[i], result.costs[i], strict=True)
        for number, (genes, score, cost) in enumerate(trials):
            row = {
                "seed": seed,
                "id": number,
                "genes": genes.tolist(),
                "score": _plain(score.tolist()),
                "cost": _plain(cost.tolist()),
            }
            lines.append(json.dumps(row) + "\n")
    with (folder / TRIALS).open("a", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def complete_seeds(
    folder: Path, evaluations: int
) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Reads the trials of the complete seeds, and removes what is left of others.

    Args:
      folder: the folder.
      evaluations: number of trials of a complete seed.

    Returns:
      ``{seed: (genes [T, L], scores [T] or [T, M], costs [T])}``.

    Raises:
      JnasError: a line in the middle is damaged.
    """
    path = folder / TRIALS
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows: dict[int, list[dict[str, Any]]] = {}
    texts: dict[int, list[str]] = {}
    for number, line in enumerate(lines):
        row = None
        with contextlib.suppress(ValueError):
            row = json.loads(line)
        last = number == len(lines) - 1
        if last and not (line.endswith("\n") and _is_row(row)):
            break  # a kill cut it short, maybe by no more than the end of the line
        if not _is_row(row):
            raise JnasError(
                f"{path} line {number + 1} is no trial: restore the file, or give "
                "another folder"
            )
        assert isinstance(row, dict)
        rows.setdefault(row["seed"], []).append(row)
        texts.setdefault(row["seed"], []).append(line)
    found = {}
    for seed, own in rows.items():
        if [row["id"] for row in own] == list(range(evaluations)):
            found[seed] = (
                np.array([row["genes"] for row in own], np.int32),
                np.array([_number(row["score"]) for row in own], np.float32),
                np.array([_number(row["cost"]) for row in own], np.float32),
            )
    kept = [line for seed in found for line in texts[seed]]
    if len(kept) < len(lines):
        folders.write(path, "".join(kept))
    return found


def _is_row(row: Any) -> bool:
    names = ("seed", "id", "genes", "score", "cost")
    return isinstance(row, dict) and all(name in row for name in names)


def _plain(value: Any) -> Any:
    """JSON has no name for numbers that are not finite: null, and texts."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if math.isfinite(value) else None if math.isnan(value) else str(value)


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(item) for item in value]
    return math.nan if value is None else float(value)
