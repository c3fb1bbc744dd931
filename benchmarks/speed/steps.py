"""One search step of jnas against the same step in eager PyTorch.

Whole steps (both halves) on the same sizes, in one process, in turn, round after round,
so that what else the machine does falls on both alike; both libraries use as many
threads. Rows of JSON and a Markdown table::

    python benchmarks/speed/steps.py --out steps.jsonl
    python benchmarks/speed/steps.py --out steps.jsonl --cases darts nasbench201
    python benchmarks/speed/steps.py --out steps.jsonl --table

The PyTorch side is `torch_baseline`, written as the published code computes it and
checked against numbers of that code (`torch_baseline/check.py`); it needs PyTorch
(``pip install torch``), which nothing else here does. Second order is DARTS' finite
difference on both sides, and jnas' exact derivative beside it.

Figures only: it never passes or fails. On a CPU the script starts itself anew with the
allocator's settings of `jnas.cli`, which both sides profit from.
"""

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

CASES = (
    "nasbench201",
    "gdas",
    "nasbench201_second",
    "nasbench201_exact",
    "darts",
    "darts_second",
    "darts_exact",
)
NO_SETTING = ("out", "cases", "table")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
      out: JSONL file to append to.
      cases: a space, with first order; "second" by finite differences; "exact" of jnas
        only, against the same PyTorch step as "second"; "gdas": one sampled path.
      channels: of the first stage.
      cells: of the DARTS network.
      cells_per_stage: of the NAS-Bench-201 network.
      side: image side.
      batch_size: of both batches.
      rounds: timed steps of each, after one that is not.
      threads: of both libraries on a CPU; default: all cores that the process may use.
      seed: of weights, paths and images.
      table: print the table of ``out`` and measure nothing.
    """

    out: Path
    cases: tuple[str, ...] = CASES
    channels: int = 16
    cells: int = 8
    cells_per_stage: int = 5
    side: int = 32
    batch_size: int = 64
    rounds: int = 5
    threads: int | None = None
    seed: int = 0
    table: bool = False


def batches(config: Config) -> list[dict[str, Any]]:
    """A training and a validation batch; noise, as only speed is looked at."""
    import numpy as np

    rng = np.random.default_rng(config.seed)
    shape = (config.batch_size, config.side, config.side, 3)
    return [
        {
            "image": rng.normal(size=shape).astype(np.float32),
            "label": rng.integers(0, 10, config.batch_size).astype(np.int32),
        }
        for _ in range(2)
    ]


def with_jnas(case: str, config: Config) -> tuple[Callable[[], Any], dict[str, Any]]:
    """``(take one step, what compiling took)``."""
    import jax

    import jnas

    space, _, kind = case.partition("_")
    options: dict[str, Any] = {"channels": config.channels}
    if space == "darts":
        options["cells"] = config.cells
    else:
        options["cells_per_stage"] = config.cells_per_stage
    if kind:
        method = "finite_difference" if kind == "second" else "exact"
        options |= {"order": 2, "second_order": method}
    preset = jnas.presets.gdas if space == "gdas" else jnas.presets.darts
    name = "darts" if space == "darts" else "nasbench201"
    search = preset(jnas.spaces.get(name), **options)
    train, val = jax.device_put(batches(config))
    state = search.init(jax.random.key(config.seed), train["image"])
    begin = time.perf_counter()
    lowered = jax.jit(search.step, donate_argnums=0).lower(state, train, val)
    traced = time.perf_counter()
    compiled = lowered.compile()
    told = {
        "lower_s": traced - begin,
        "compile_s": time.perf_counter() - traced,
        "temporaries_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
    }

    def step():
        nonlocal state
        state, info = compiled(state, train, val)
        jax.block_until_ready((state, info))

    return step, told


def with_torch(case: str, config: Config) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The same in PyTorch."""
    import torch
    from torch_baseline import darts, nasbench201, steps

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(config.seed)
    space, _, kind = case.partition("_")
    options: dict[str, Any] = {"order": 2 if kind else 1}
    if space == "darts":
        net = darts.Supernet(config.channels, config.cells)
        arch = darts.new_arch()
    else:
        net = nasbench201.Supernet(config.channels, config.cells_per_stage)
        arch = nasbench201.new_arch()
        options |= {"nesterov": True, "weight_decay": 5e-4}
    if space == "gdas":

        def forward(net, images, arch):
            drawn = torch.empty_like(arch[0]).exponential_()
            path, weights = nasbench201.gumbel_path(arch[0], drawn, 10.0)
            return net(images, arch, path, weights)

        options["forward"] = forward
    arch = [a.detach().to(device).requires_grad_() for a in arch]
    search = steps.Search(net.to(device), arch, **options)
    train, val = (
        (
            torch.from_numpy(b["image"].transpose(0, 3, 1, 2).copy()).to(device),
            torch.from_numpy(b["label"]).long().to(device),
        )
        for b in batches(config)
    )

    def step():
        # The losses are read, so the device has finished.
        if space == "darts" or kind:
            search.arch_step(train, val)
            search.weight_step(train)
        else:
            search.weight_step(train)
            search.arch_step(train, val)

    return step, {"torch": torch.__version__, "torch_device": device}


def measure(case: str, config: Config) -> dict[str, Any]:
    """One row."""
    import jax
    import torch

    from jnas.run.environment import environment

    if torch.cuda.is_available() != (jax.default_backend() == "gpu"):
        raise SystemExit(
            f"JAX runs on {jax.default_backend()} and PyTorch does not: install both "
            "for the same device"
        )
    ours, told = with_jnas(case, config)
    theirs, about = with_torch(case, config)
    seconds: dict[str, list[float]] = {"jnas": [], "torch": []}
    for number in range(config.rounds + 1):
        for name, step in (("jnas", ours), ("torch", theirs)):
            begin = time.perf_counter()
            step()
            if number:
                seconds[name].append(time.perf_counter() - begin)
    ratios = [b / a for a, b in zip(seconds["jnas"], seconds["torch"], strict=True)]
    row: dict[str, Any] = {"case": case}
    for name, spent in seconds.items():
        row[f"{name}_s"] = statistics.median(spent)
        row[f"{name}_s_min"], row[f"{name}_s_max"] = min(spent), max(spent)
    row |= {
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        **told,
        **about,
        **environment(),
    }
    sizes = dataclasses.asdict(config)
    return row | {
        name: value for name, value in sizes.items() if name not in NO_SETTING
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| step | jnas, s | PyTorch, s | PyTorch / jnas (min-max) | compile, s | "
        "temporaries, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row["case"],
            f"{row['jnas_s']:.3f}",
            f"{row['torch_s']:.3f}",
            f"{row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})",
            f"{row['compile_s']:.0f}",
            f"{row['temporaries_mib']:,.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(config: Config) -> None:
    """Measures, then prints the table of all rows."""
    for case in config.cases:
        if case not in CASES:
            raise SystemExit(f"unknown case {case!r}: one of {', '.join(CASES)}")
    if not config.table:
        _restart_with_allocator()
        threads = config.threads or len(os.sched_getaffinity(0))
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import torch

        torch.set_num_threads(threads)
        config = dataclasses.replace(config, threads=threads)
        for case in config.cases:
            row = measure(case, config)
            row = {
                k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()
            }
            with config.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{case}: {row['ratio']} times as fast", flush=True)
    print(table([json.loads(line) for line in config.out.read_text().splitlines()]))


def _restart_with_allocator() -> None:
    """Glibc reads its allocator's settings at the start of a process only."""
    from jnas import cli

    wanted = cli._ALLOCATOR
    if sys.platform == "linux" and not any(name in os.environ for name in wanted):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


if __name__ == "__main__":
    main(tyro.cli(Config))
