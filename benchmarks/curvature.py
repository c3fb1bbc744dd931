"""Curvature with and without each fix: what a step costs, and lambda_max by epoch.

Two measurements, each a row of JSON per method (and seed), appended at once; then a
picture and Markdown tables::

    python benchmarks/curvature.py --out cost.jsonl --what cost
    python benchmarks/curvature.py --out curves.jsonl --what curves
    python benchmarks/curvature.py --out curves.jsonl --what plot --picture docs/x.png

"cost": whole search steps (both halves) of every preset take turns with plain
first-order DARTS on the same network and batches; ``ratio`` is the median over the
rounds of the one by the other in the same round. Nothing passes or fails.

"curves": searches on a part of Fashion-MNIST, averaged to 16x16 (`methods.images`), in
the NAS-Bench-201 cell; lambda_max is measured after every epoch on the same validation
batch. Presets keep the figures of their papers but for what `jnas` scales in short
searches; all take first-order gradients here, so that only the fix differs.
"""

import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import jax
import methods
import numpy as np
import tyro

import jnas
from jnas import presets, run
from jnas.run.environment import environment

PLAIN = "darts"
OPTIONS: dict[str, dict[str, Any]] = {
    "darts": {},
    "sdarts_rs": {},
    "sdarts_adv": {},
    "r_darts_l2": {"order": 1},
    "r_darts_dp": {"order": 1},
    "darts_es": {"order": 1},
    "darts_ada": {"order": 1},
    "hessian_darts": {},
    "hessian_darts-frobenius": {"kind": "frobenius"},
    "hessian_darts-trace": {"kind": "trace"},
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
      out: JSONL file that rows are appended to.
      what: see the module.
      methods: some of them; default all.
      seeds: number of searches per method, for "curves".
      images: training images, half of them for the architecture.
      side: of the images; 16 or 32.
      epochs: of a search.
      space: that is searched.
      channels: of the first stage.
      cells_per_stage: in each of three stages (nasbench201).
      cells: of the supernet (darts).
      batch_size: of both batches.
      rounds: timed rounds of "cost".
      data_dir: folder of the data files.
      picture: where "plot" draws.
    """

    out: Path
    what: Literal["cost", "curves", "plot"] = "cost"
    methods: tuple[str, ...] = ()
    seeds: int = 2
    images: int = 2000
    side: int = 16
    epochs: int = 30
    space: Literal["nasbench201", "darts"] = "nasbench201"
    channels: int = 8
    cells_per_stage: int = 1
    cells: int = 3
    batch_size: int = 64
    rounds: int = 7
    data_dir: Path | None = None
    picture: Path | None = None


def compose(name: str, config: Config) -> jnas.search.Search:
    """The search of a preset."""
    size = {"cells_per_stage": config.cells_per_stage}
    if config.space == "darts":
        size = {"cells": config.cells}
    return presets.get(name.partition("-")[0])(
        jnas.spaces.get(config.space),
        channels=config.channels,
        **size,
        epochs=config.epochs,
        steps_per_epoch=-(-config.images // 2 // config.batch_size),
        **OPTIONS[name],
    )


def names(config: Config) -> tuple[str, ...]:
    """The methods asked for."""
    return config.methods or tuple(OPTIONS)


def settings(config: Config) -> dict[str, Any]:
    """What a row says of how it was made."""
    left_out = ("out", "what", "methods", "data_dir", "picture")
    options = {k: v for k, v in dataclasses.asdict(config).items() if k not in left_out}
    return {**options, **environment()}


def write(config: Config, row: dict[str, Any]) -> None:
    """Appends a row and shows it."""
    with open(config.out, "a", encoding="utf-8") as file:
        file.write(json.dumps({**row, **settings(config)}) + "\n")
    shown = {k: v for k, v in row.items() if not isinstance(v, list)}
    print(json.dumps(shown), flush=True)


def cost(config: Config) -> None:
    """Times the steps of all methods in turns."""
    shape = (config.batch_size, config.side, config.side, 1)
    rng = np.random.default_rng(0)
    batches = [
        {
            "image": np.asarray(rng.normal(size=shape), np.float32),
            "label": rng.integers(0, 10, config.batch_size),
        }
        for _ in range(2)
    ]
    measured = [PLAIN, *(name for name in names(config) if name != PLAIN)]
    steps, states, compiled, rows = {}, {}, {}, {}
    for name in measured:
        search = compose(name, config)
        states[name] = search.init(jax.random.key(0), batches[0]["image"])
        start = time.perf_counter()
        step = jax.jit(search.step, compiler_options=jnas.compiling.options())
        steps[name] = step.lower(states[name], *batches).compile()
        compiled[name] = time.perf_counter() - start
        jax.block_until_ready(steps[name](states[name], *batches))
        rows[name] = []
        if name == PLAIN:
            sharpness = jax.jit(search.lambda_max)
            start = time.perf_counter()
            jax.block_until_ready(sharpness(states[name], batches[1]))
            compiled["lambda_max"] = time.perf_counter() - start
    rows["lambda_max"] = []
    for _ in range(config.rounds):
        for name in measured:
            start = time.perf_counter()
            states[name], _ = jax.block_until_ready(steps[name](states[name], *batches))
            rows[name].append(time.perf_counter() - start)
        start = time.perf_counter()
        jax.block_until_ready(sharpness(states[PLAIN], batches[1]))
        rows["lambda_max"].append(time.perf_counter() - start)
    for name, seconds in rows.items():
        ratios = [a / b for a, b in zip(seconds, rows[PLAIN], strict=True)]
        write(
            config,
            {
                "what": "cost",
                "method": name,
                "ratio": round(statistics.median(ratios), 3),
                "ratios": [round(ratio, 3) for ratio in ratios],
                "step_seconds": round(statistics.median(seconds), 4),
                "compile_seconds": round(compiled[name], 2),
            },
        )


def curves(config: Config) -> None:
    """Searches with lambda_max after every epoch; what the file has is left out."""
    done = set()
    if config.out.exists():
        lines = config.out.read_text(encoding="utf-8").splitlines()
        done = {(row["method"], row["seed"]) for row in map(json.loads, lines)}
    for seed in range(config.seeds):
        data = methods.images(
            methods.Config(
                out=config.out,
                images=config.images,
                side=config.side,
                data_dir=config.data_dir,
            ),
            seed,
        )
        for name in names(config):
            if (name, seed) in done:
                continue
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                found = run.search(
                    compose(name, config),
                    data,
                    epochs=config.epochs,
                    batch_size=config.batch_size,
                    seed=seed,
                    workdir=folder,
                    report=False,
                    progress=False,
                    diagnose_every=1,
                )
            keys = ("lambda_max", "mixture_accuracy", "derived_accuracy", "skip_share")
            write(
                config,
                {
                    "what": "curves",
                    "method": name,
                    "seed": seed,
                    **{key: [row[key] for row in found.history] for key in keys},
                    "genotype": str(found.genotype),
                    "stopped": found.stopped,
                    "total_seconds": round(time.perf_counter() - start, 1),
                },
            )


def plot(config: Config) -> None:
    """Draws the curves, a panel a method with plain DARTS behind each."""
    from matplotlib.figure import Figure

    lines = config.out.read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["what"] == "curves"]
    kinds = [name for name in OPTIONS if any(r["method"] == name for r in rows)]
    wide = min(4, len(kinds))
    high = -(-len(kinds) // wide)
    figure = Figure(figsize=(3 * wide, 2.4 * high), layout="constrained")
    axes = figure.subplots(high, wide, sharex=True, sharey=True, squeeze=False)
    for axis, name in zip(axes.flat, kinds, strict=False):
        for row in rows:
            values = row["lambda_max"]
            epochs = range(1, len(values) + 1)
            if row["method"] == name:
                axis.plot(epochs, values, color="#0072b2", linewidth=1.4)
            elif row["method"] == PLAIN:
                axis.plot(epochs, values, color="#bbbbbb", linewidth=1, zorder=1)
        axis.set_title(name, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(kinds) :]:
        axis.set_visible(False)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("largest eigenvalue of the Hessian by arch", fontsize=9)
    figure.savefig(config.picture or config.out.with_suffix(".png"), dpi=130)


if __name__ == "__main__":
    given = tyro.cli(Config, description=__doc__)
    {"cost": cost, "curves": curves, "plot": plot}[given.what](given)
