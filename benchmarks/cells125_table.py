"""Rows, table, figures and picture of `cells125.py`."""

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder; a line that a kill cut short is none."""
    path, rows = folder / "rows.jsonl", []
    if path.exists():
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    return rows


def check(folder: Path, setting: dict[str, Any]) -> None:
    """Ends where the folder has rows of another setting."""
    for row in read(folder):
        for name, value in setting.items():
            if row["setting"].get(name) != value:
                raise SystemExit(
                    f"{folder} has rows with {name}={row['setting'].get(name)}, not "
                    f"{value}: give another --out or the same options"
                )


def commit() -> str:
    """Of the code that runs; "+" where files differ from it."""
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()


def write(config: Any, wanted: Any) -> None:
    del config, wanted
