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

from jnas.discrete import trial_log
from jnas.discrete.result import Result
from jnas.errors import JnasError

__all__ = ["TRIALS", "append", "check_setting", "complete_seeds"]

TRIALS = "trials.jsonl"
_SETTING = "setting.json"


def check_setting(folder: Path, setting: dict[str, Any]) -> None:
    """Makes the folder, or refuses one that holds trials of another setting.

    Args:
      folder: where trials are logged.
      setting: what they depend on.

    Raises:
      JnasError: the folder belongs to something else, or can't be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JnasError(
            f"workdir {folder} can't be made ({error.strerror or error}): choose "
            "another folder"
        ) from None
    path = folder / _SETTING
    wanted = trial_log.plain(setting)
    if not path.exists():
        if (folder / TRIALS).exists():
            raise JnasError(
                f"{folder} has a {TRIALS} but no {_SETTING}: give another folder"
            )
        _write(path, json.dumps(wanted, indent=1) + "\n")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise JnasError(f"{path} can't be read ({error})") from None
    if not isinstance(found, dict) or found != wanted:
        other = found if isinstance(found, dict) else {}
        names = [n for n in {**wanted, **other} if wanted.get(n) != other.get(n)]
        shown = "; ".join(
            f"{n} {_short(other.get(n))} there, {_short(wanted.get(n))} now"
            for n in names[:3]
        )
        raise JnasError(
            f"{folder} holds trials of another setting ({shown}): give another folder "
            "or the same options"
        )


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
        _write(path, "".join(kept))
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


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _write(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
