"""What it takes until a search takes its first step: cold, and with a warm cache.

Each measurement is a process of its own, so nothing is compiled yet; the second one of
a case finds the first one's persistent cache. Rows of JSON and a Markdown table::

    python benchmarks/speed/compile.py --out compile.jsonl

Figures only: it never passes or fails.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro

STEP = Path(__file__).resolve().parents[1] / "step.py"
PARTS = ("init_s", "lower_s", "compile_s", "first_step_s")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
      out: JSONL file to append to.
      spaces: "darts" and "nasbench201".
      channels: of the first stage.
      cells: of the DARTS network.
      cells_per_stage: of the NAS-Bench-201 network.
      side: image side.
      batch_size: of both batches.
      table: print the table of ``out`` and measure nothing.
    """

    out: Path
    spaces: tuple[str, ...] = ("nasbench201", "darts")
    channels: int = 16
    cells: int = 8
    cells_per_stage: int = 5
    side: int = 32
    batch_size: int = 64
    table: bool = False


def measure(space: str, config: Config, cache: str) -> dict[str, Any]:
    """One process that composes a search, compiles its step and takes it."""
    cells = config.cells if space == "darts" else config.cells_per_stage
    options = {
        "space": space,
        "channels": config.channels,
        "cells": cells,
        "side": config.side,
        "batch-size": config.batch_size,
        "steps": 1,
    }
    command = [sys.executable, str(STEP)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    from jnas import cli

    environment = (
        cli._ALLOCATOR
        | os.environ
        | {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    )
    begin = time.perf_counter()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()[-400:]}")
    row = json.loads(done.stdout.splitlines()[-1])
    return row | {"process_s": round(time.perf_counter() - begin, 3)}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| space | cache | first values, s | trace, s | compile, s | first step, s | "
        "whole process, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["space"], row["cache"]]
        cells += [f"{row[name]:.1f}" for name in (*PARTS, "process_s")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(config: Config) -> None:
    """Measures, then prints the table of all rows."""
    for space in () if config.table else config.spaces:
        with tempfile.TemporaryDirectory() as cache:
            for kind in ("cold", "warm"):
                row = measure(space, config, cache) | {"cache": kind}
                with config.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(table([json.loads(line) for line in config.out.read_text().splitlines()]))


if __name__ == "__main__":
    main(tyro.cli(Config))
