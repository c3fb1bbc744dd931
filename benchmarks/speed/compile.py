"""What it takes until a search takes its first step: cold, and with a warm cache.

Each measurement is a process of its own, so nothing is compiled yet; the second one of
a space finds the first one's persistent cache. Rows of JSON, a Markdown table and a
plot::

    python benchmarks/speed/compile.py --out compile.jsonl

"First values" composes the search and computes its initial state, "trace" makes the
program of the loop's step (`common`) and lowers it, "compile" is XLA's part; the first
dispatch is a step on a CPU, a scan of several on an accelerator.

Figures only: it never passes or fails.
"""

import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import common

PARTS = {
    "init_s": "first values",
    "lower_s": "trace",
    "compile_s": "compile",
    "first_s": "first dispatch",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.Sizes):
    """What is measured.

    Attributes:
      out: JSONL file to append to.
      spaces: "darts" and "nasbench201".
      kinds: "cold", then "warm", which needs the cold one before it.
      timeout: seconds after which one measurement is given up.
      table: print the table of ``out`` and measure nothing.
      plot: PNG file of the table.
      inner: measure the first space in this very process and print the row.
    """

    out: Path
    spaces: tuple[str, ...] = common.SPACES
    kinds: tuple[str, ...] = ("cold", "warm")
    timeout: float = 1200.0
    table: bool = False
    plot: Path | None = None
    inner: bool = False


def measure(space: str, config: Config) -> dict[str, Any]:
    """Composes a search, compiles its step and takes it."""
    step = common.compile_step(common.compose(space, config), config)
    begin = time.perf_counter()
    step.take()
    told = step.told | {"first_s": time.perf_counter() - begin}
    return told | common.about(config)


def in_process(space: str, config: Config, cache: str) -> dict[str, Any]:
    """The same in a process of its own, which is timed as a whole."""
    arguments = [__file__, "--out", str(config.out), "--inner", "--spaces", space]
    environment = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    begin = time.perf_counter()
    row = common.run_child(
        [*arguments, *common.options_of(config)], environment, config.timeout
    )
    return row | {"process_s": time.perf_counter() - begin}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = []
    for row in rows:
        cells = [row["space"], common.shape_of(row), row["cache"]]
        if "failed" in row:
            cells += [row["failed"]]
        cells += ["" if name not in row else f"{row[name]:.1f}" for name in PARTS]
        lines.append([*cells[: 3 + len(PARTS)], f"{row['process_s']:.1f}"])
    header = ["space", "sizes", "cache", *(f"{name}, s" for name in PARTS.values())]
    return common.markdown([*header, "whole process, s"], lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """The parts of each process as stacked bars."""
    rows = [row for row in rows if "failed" not in row]
    figure, (ax,) = common.figure(height=1.2 + 0.45 * len(rows))
    start = [0.0] * len(rows)
    shades = ("#bbbbbb", "#66ccee", "#4477aa", "#ee6677", "#dddddd")
    for name, shade in zip((*PARTS, "rest"), shades, strict=True):
        lengths = [
            row[name] if name in row else row["process_s"] - sum(row[p] for p in PARTS)
            for row in rows
        ]
        label = PARTS.get(name, "start of Python and JAX")
        ax.barh(range(len(rows)), lengths, left=start, color=shade, label=label)
        start = [a + b for a, b in zip(start, lengths, strict=True)]
    names = [f"{r['space']}, {r['cache']}\n{common.shape_of(r)}" for r in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=7)
    ax.invert_yaxis()
    ax.set_xlabel("seconds")
    figure.legend(loc="outside upper center", ncols=3, fontsize=7, frameon=False)
    figure.savefig(path)


def main(config: Config) -> None:
    """Measures, then prints the table of all rows."""
    common.check_names("--spaces", config.spaces, common.SPACES)
    common.check_names("--kinds", config.kinds, ("cold", "warm"))
    if config.inner:
        common.prepare(config)
        print(json.dumps(measure(config.spaces[0], config)))
        return
    for space in () if config.table else config.spaces:
        with tempfile.TemporaryDirectory() as cache:
            for kind in config.kinds:
                row = in_process(space, config, cache)
                if "failed" in row:
                    row |= {"cache": kind, **sizes(config)}
                common.append(config.out, {"space": space, **row})
                if "failed" in row:
                    break
    common.show(config, table, plot)


def sizes(config: Config) -> dict[str, Any]:
    """Those of a measurement that gave no row."""
    given = {f.name: getattr(config, f.name) for f in dataclasses.fields(common.Sizes)}
    return given | {"commit": common.commit(), "cpus": os.cpu_count()}


if __name__ == "__main__":
    common.entry(main, Config)
