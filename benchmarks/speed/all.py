"""Runs the measurements of this folder within a budget, most important first.

One command::

    python benchmarks/speed/all.py --out DIR --minutes 9

Each part is a process of its own that appends its rows to ``DIR/SCRIPT.jsonl`` as soon
as it has them, so nothing is lost where it is cut. A part begins only if the time that
it takes at least is left, and is ended when its own time or the budget is over;
``DIR/parts.jsonl`` says what was done, cut or left out. After every part
``DIR/tables.md`` has all tables; the plots come last. Run again with ``--parts`` and
the same folder, it adds rows.

On a GPU the sizes are the published ones (channels 16; 8 cells of DARTS, 5 per stage of
NAS-Bench-201; 32x32, batch 64), on a CPU small ones unless ``--full`` is given.
Programs that several parts need are compiled once (``DIR/cache``): the first part's
compile time is a cold one, and rows say which. XLA measures kernels on a GPU while it
compiles, which is why parts are not run side by side.
"""

import dataclasses
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import common

HERE = Path(__file__).resolve().parent
SCRIPTS = ("steps", "scaling", "roofline", "memory", "compile")
SMALL = (
    *("--channels", "8", "--cells", "3", "--cells-per-stage", "1"),
    *("--side", "16", "--batch-size", "32"),
)
EPOCHS = 50  # of the published search


class Part(NamedTuple):
    """One process.

    Attributes:
      name: of the part.
      arguments: the script, without ".py", and its options.
      least: seconds without which it is not begun.
      most: seconds after which it is ended.
    """

    name: str
    arguments: tuple[str, ...]
    least: float
    most: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is run.

    Attributes:
      out: folder of rows, tables and plots.
      minutes: the budget.
      parts: names of parts; default all of the device.
      device: "cpu" or "gpu"; default: what JAX finds.
      full: the published sizes on a CPU, too, which takes hours.
      plan: print the parts and run nothing.
    """

    out: Path
    minutes: float = 9.0
    parts: tuple[str, ...] = ()
    device: str | None = None
    full: bool = False
    plan: bool = False


def parts_of(device: str, full: bool) -> list[Part]:
    """All parts, the most important first."""

    def part(name, text, least, most):
        arguments = tuple(text.split())
        if arguments[0] in ("steps", "scaling") and not full:
            arguments += ("--limit", "40")  # rather fewer rounds than no row
        return Part(name, arguments, least, most)

    if device != "cpu":
        return [
            part("nasbench201", "steps --cases nasbench201", 40, 110),
            part("darts", "steps --cases darts", 60, 240),
            part("seeds", "scaling --factors seeds --seeds 8", 40, 120),
            part("roofline", "roofline --spaces nasbench201", 25, 60),
            part("gdas", "steps --cases gdas", 40, 120),
            part("darts-roofline", "roofline --spaces darts --no-ceilings", 40, 60),
            part("darts-bf16", "steps --cases darts --dtype bfloat16", 60, 240),
            part(
                "darts-seeds",
                "scaling --factors seeds --seeds 8 --spaces darts",
                90,
                300,
            ),
            part("compile", "compile --spaces nasbench201", 60, 150),
            part(
                "memory",
                "memory --spaces nasbench201 --forms plain remat bfloat16 sampled",
                60,
                200,
            ),
            part(
                "darts-bf16-channels-last",
                "steps --cases darts --dtype bfloat16 --channels-last",
                60,
                240,
            ),
            part("batch", "scaling --factors batch_size --batch-sizes 256", 50, 150),
            part("darts-compile", "compile --spaces darts", 150, 400),
            part("darts-memory", "memory --spaces darts --forms plain remat", 150, 400),
        ]
    # Of small sizes, a program compiles in seconds; of the published ones in minutes.
    least, most = (4.0, 25.0) if full else (1.0, 1.0)
    shapes = "" if full else "--batch-sizes 16 64 --widths 4 16 --depths-per-stage 2"
    seeds = "--factors seeds --seeds 2 4"
    found = [
        part("nasbench201", "steps --cases nasbench201 gdas", 60, 240),
        part("darts", "steps --cases darts", 90, 400),
        part("roofline", "roofline", 90, 400),
        part("seeds", f"scaling {seeds}", 60, 300),
        part("compile", "compile", 90, 400),
        part(
            "scaling", f"scaling --factors batch_size channels cells {shapes}", 90, 400
        ),
        part("memory", "memory --spaces nasbench201", 90, 400),
    ]
    return [
        own._replace(
            arguments=(*own.arguments, *(() if full else SMALL)),
            least=least * own.least,
            most=most * own.most,
        )
        for own in found
    ]


def allowed(part: Part, left: float) -> float | None:
    """Seconds that a part may take, or None if it is not to begin."""
    return min(part.most, left) if left >= part.least else None


def run(part: Part, config: Config, seconds: float) -> str:
    """Runs a part for at most so long; what became of it, in a word or a line."""
    script, *options = part.arguments
    command = [sys.executable, str(HERE / f"{script}.py"), *options]
    command += ["--out", str(config.out / f"{script}.jsonl")]
    environment = dict(os.environ)
    if script in ("steps", "scaling", "roofline"):
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": str(config.out / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    with (config.out / f"{part.name}.log").open("w") as log:
        # A group of its own, since some parts start processes themselves.
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status is None:
        return f"cut after {seconds:.0f} s"
    if status:
        lines = (config.out / f"{part.name}.log").read_text().strip().splitlines()
        return f"failed: {lines[-1][:200] if lines else f'status {status}'}"
    return "done"


def projected(row: dict[str, Any]) -> float | None:
    """Seconds of a DARTS CIFAR-10 search of 50 epochs by a measured step, or None.

    The row must be of the published sizes. Start, trace, compile and all steps; without
    augmentation, checkpoints and diagnoses.
    """
    published = {"channels": 16, "cells": 8, "side": 32, "batch_size": 64}
    if row.get("case") != "darts" or "jnas_s" not in row:
        return None
    if any(row[name] != value for name, value in published.items()):
        return None
    before = row["init_s"] + row["lower_s"] + row["compile_s"]
    return before + EPOCHS * common.STEPS_PER_EPOCH * row["jnas_s"]


def tables(folder: Path, done: list[dict[str, Any]]) -> str:
    """Everything that was measured, as Markdown."""
    text = []
    for script in SCRIPTS:
        rows = common.read(folder / f"{script}.jsonl")
        if not rows:
            continue
        last = rows[-1]
        versions = [f"{name} {last[name]}" for name in ("jax", "torch") if name in last]
        about = [last.get("device", ""), *versions, f"commit {last.get('commit')}"]
        text += [f"## {script}", ", ".join(filter(None, about))]
        text.append(importlib.import_module(script).table(rows))
        for row in rows:
            found = projected(row)
            if found is None:
                continue
            text.append(
                f"{EPOCHS} epochs of {common.STEPS_PER_EPOCH} steps, "
                f"{common.shape_of(row)}, with compilation ({row['cache']}): "
                f"{found / 60:.1f} minutes by these figures (augmentation and "
                "diagnoses not counted)."
            )
    lines = [[row["part"], row["command"], row["became"], row["s"]] for row in done]
    text += ["## Parts", common.markdown(("part", "command", "", "seconds"), lines)]
    return "\n\n".join(text) + "\n"


def plots(folder: Path) -> None:
    """The plot of each script that has rows."""
    for script in SCRIPTS:
        rows = common.read(folder / f"{script}.jsonl")
        if not rows:
            continue
        try:
            importlib.import_module(script).plot(rows, folder / f"{script}.png")
        except (Exception, SystemExit) as error:  # the rows are what counts
            print(f"no plot of {script}: {error}", flush=True)


def device_of() -> str:
    """What JAX finds, asked in a process of its own, which frees the device again."""
    found = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.default_backend())"],
        capture_output=True,
        text=True,
    )
    if found.returncode:
        raise SystemExit(f"JAX does not start: {found.stderr.strip()[-200:]}")
    return found.stdout.split()[-1]


def main(config: Config) -> None:
    """Runs what fits."""
    begin = time.monotonic()
    if config.minutes <= 0:
        raise SystemExit(f"--minutes must be positive, got {config.minutes}")
    device = config.device or device_of()
    parts = parts_of(device, config.full)
    common.check_names("--parts", config.parts, [part.name for part in parts])
    if config.parts:
        parts = [part for part in parts if part.name in config.parts]
    if config.plan:
        for part in parts:
            print(part.name, f"{part.least:.0f}-{part.most:.0f} s", *part.arguments)
        return
    config.out.mkdir(parents=True, exist_ok=True)
    # Of an earlier run, whose programs would make the first part's compilation warm.
    if not config.parts:
        shutil.rmtree(config.out / "cache", ignore_errors=True)
    log = config.out / "parts.jsonl"
    for part in parts:
        left = 60 * config.minutes - (time.monotonic() - begin)
        start = time.monotonic()
        seconds = allowed(part, left)
        if seconds is None:
            became = f"left out: {max(left, 0):.0f} s left, {part.least:.0f} needed"
        else:
            became = run(part, config, seconds)
        spent = round(time.monotonic() - start, 1)
        command = " ".join(part.arguments)
        row = {"part": part.name, "command": command, "became": became, "s": spent}
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{part.name}: {became} ({spent:.0f} s)", flush=True)
        if seconds is not None:
            (config.out / "tables.md").write_text(tables(config.out, common.read(log)))
    text = tables(config.out, common.read(log))
    (config.out / "tables.md").write_text(text)
    print(text)
    plots(config.out)


if __name__ == "__main__":
    common.entry(main, Config)
