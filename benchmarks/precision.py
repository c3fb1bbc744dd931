"""Searches in bfloat16 and float32: accuracy of the supernet and of what is found.

Digits, first-order DARTS in the NAS-Bench-201 space; the same seeds in both, so the
same initial values and order of the data. The found cell is trained once from scratch
in the dtype and with the seed of its search. One row of JSON a dtype and seed, appended
at once, so that the same command goes on where it was stopped; then a Markdown table::

    python benchmarks/precision.py --out precision.jsonl

On a CPU without bfloat16 arithmetic that is emulated, and slower than float32.
"""

import dataclasses
import functools
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import tyro

import jnas
from jnas.run.diagnosing import Diagnosis
from jnas.run.environment import environment

DTYPES = ("float32", "bfloat16")
FIGURES = {
    "validation_accuracy": "supernet, validation",
    "test_accuracy": "found cell retrained, test",
}
# 97.5 % of Student's distribution, by degrees of freedom: two groups of n seeds have
# 2 n - 2 of them.
STUDENT = {2: 4.303, 4: 2.776, 6: 2.447, 8: 2.306, 10: 2.228, 14: 2.145, 18: 2.101}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
      out: JSONL file that rows are appended to.
      seeds: searches of each dtype.
      epochs: of a search.
      retrain_epochs: of a found cell; 0 leaves the retraining out.
      channels: of the first stage.
      cells_per_stage: in each of three stages.
      batch_size: of both.
    """

    out: Path
    seeds: int = 5
    epochs: int = 20
    retrain_epochs: int = 15
    channels: int = 8
    cells_per_stage: int = 1
    batch_size: int = 64


@functools.cache
def composed(dtype: str, config: Config) -> jnas.search.Search:
    """The search of a dtype, one for all seeds."""
    images = len(jnas.data.load("digits").train)
    return jnas.presets.darts(
        jnas.spaces.nasbench201(),
        channels=config.channels,
        cells_per_stage=config.cells_per_stage,
        epochs=config.epochs,
        steps_per_epoch=-(-images // config.batch_size),
        dtype=dtype,
    )


def measure(dtype: str, seed: int, config: Config) -> dict[str, Any]:
    """One search and its retraining."""
    search, data = composed(dtype, config), jnas.data.load("digits")
    sizes = {"epochs": config.epochs, "batch_size": config.batch_size}
    start = time.perf_counter()
    found = jnas.run.search(
        search, data, seed=seed, progress=False, diagnose_every=0, **sizes
    )
    row = {"search_s": time.perf_counter() - start, "genotype": str(found.genotype)}
    steps = search.config["steps_per_epoch"]
    epochs = [r["seconds"] for r in found.history[1:]] or [math.nan]
    row["step_s"] = statistics.median(epochs) / steps  # the first epoch compiles
    judge = Diagnosis(
        search,
        data,
        config.batch_size,
        epochs=config.epochs,
        steps_per_epoch=steps,
        every=0,
    )
    measured = judge.evaluator(found.state)(search.mixture(found.state))
    row |= {f"validation_{name}": value for name, value in measured.items()}
    if config.retrain_epochs:
        result = jnas.run.retrain(
            found.genotype,
            data,
            seeds=(seed,),
            progress=False,
            dtype=dtype,
            channels=config.channels,
            cells_per_stage=config.cells_per_stage,
            **sizes | {"epochs": config.retrain_epochs},
        )
        row["test_accuracy"] = result.mean
    setting = dataclasses.asdict(config)
    del setting["out"], setting["seeds"]
    return {"dtype": dtype, "seed": seed, **row, **setting, **environment()}


def compare(first: list[float], second: list[float]) -> tuple[float, float, float]:
    """``(difference of the means, its standard error, the most that chance explains)``.

    The last is Student's two-sided limit at 5 %, for so many seeds in each.
    """
    n = len(first)
    difference = statistics.fmean(second) - statistics.fmean(first)
    variance = statistics.variance(first) + statistics.variance(second)
    error = math.sqrt(variance / n)
    return difference, error, STUDENT[2 * n - 2] * error


def table(rows: list[dict[str, Any]]) -> str:
    """Mean ± standard deviation over the seeds, and the difference."""
    names = [name for name in FIGURES if name in rows[0]]
    lines = [
        "| dtype | seeds | " + " | ".join(FIGURES[n] for n in names) + " | a step |"
    ]
    lines.append("|---" * (len(names) + 3) + "|")
    values: dict[str, list[list[float]]] = {name: [] for name in names}
    for dtype in DTYPES:
        own = [row for row in rows if row["dtype"] == dtype]
        cells = []
        for name in names:
            figures = [row[name] for row in own]
            values[name].append(figures)
            spread = statistics.stdev(figures)
            cells.append(f"{statistics.fmean(figures):.2%} ± {spread:.2%}")
        step = statistics.median(row["step_s"] for row in own)
        cells.append(f"{1000 * step:.0f} ms")
        lines.append(f"| {dtype} | {len(own)} | " + " | ".join(cells) + " |")
    cells = []
    for name in names:
        difference, error, limit = compare(*values[name])
        cells.append(
            f"{difference:+.2%}, standard error {error:.2%}, limit {limit:.2%}"
        )
    lines.append("| difference | | " + " | ".join(cells) + " | |")
    return "\n".join(lines)


def main(config: Config) -> None:
    """Runs what is missing, then prints the table."""
    if 2 * config.seeds - 2 not in STUDENT:
        known = sorted(n // 2 + 1 for n in STUDENT)
        raise SystemExit(f"--seeds must be one of {known}, got {config.seeds}")
    rows = []
    if config.out.exists():
        rows = [json.loads(line) for line in config.out.read_text().splitlines()]
    for row in rows:
        for name, value in dataclasses.asdict(config).items():
            if row.get(name, value) != value:
                raise SystemExit(
                    f"{config.out} has rows with {name}={row[name]}, not {value}: give "
                    "another --out or the same options"
                )
    done = {(row["dtype"], row["seed"]) for row in rows}
    for seed in range(config.seeds):
        for dtype in DTYPES:
            if (dtype, seed) not in done:
                rows.append(measure(dtype, seed, config))
                with config.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print(table([row for row in rows if row["seed"] < config.seeds]))


if __name__ == "__main__":
    main(tyro.cli(Config))
