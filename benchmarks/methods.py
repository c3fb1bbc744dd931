"""Every preset on Fashion-MNIST: search, retrain, compare with random architectures.

One row of JSON a method and seed, appended at once, so that the same command goes on
where it was stopped; then a Markdown table::

    python benchmarks/methods.py --out methods.jsonl
    python benchmarks/methods.py --out methods.jsonl --table

Protocol, the same for all: the NAS-Bench-201 cell in a small network (`Config`), images
of Fashion-MNIST averaged to 16x16, a part of its training images in two halves, drawn
anew for each seed; the found cell is trained once from scratch on both
halves, with the seed of its search, and tested on all 10,000 test images. Presets keep
the figures of their papers but for the learning rate of the weights, which is scaled
linearly with the batch, and what `jnas` scales in short searches. ``random`` are cells
drawn uniformly, ``all-skip`` the one cell of skip connections.

The size is for two cores. It shows which method finds what here, and is no substitute
for the papers' experiments.
"""

import dataclasses
import functools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import jnas
from jnas import data as datasets
from jnas import presets, run
from jnas.progressive import Progressive
from jnas.run import comparing
from jnas.run.environment import environment

SPACES = {"gdas_frc": "darts_frc"}  # what can't be searched in the common space
BASELINES = ("random", "all-skip")
TEXT = ("darts_rnn",)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
      out: JSONL file that rows are appended to.
      methods: names of presets and baselines; default all of them.
      seeds: number of searches per method.
      images: training images, half of them for the architecture.
      side: 16 (averages of 2x2 pixels) or 32, padded.
      epochs: of a search; of each stage, where a method has several.
      retrain_epochs: of the found cells.
      channels: of the first stage, in supernet and final network.
      cells_per_stage: in each of three stages.
      cells: of the networks of methods that need DARTS' cells.
      batch_size: of both.
      data_dir: folder of the data files.
      table: print the table of ``out`` and run nothing.
    """

    out: Path
    methods: tuple[str, ...] = ()
    seeds: int = 5
    images: int = 4000
    side: int = 16
    epochs: int = 12
    retrain_epochs: int = 12
    channels: int = 8
    cells_per_stage: int = 1
    cells: int = 3
    batch_size: int = 64
    data_dir: Path | None = None
    table: bool = False


@functools.cache
def _whole(data_dir: Path | None) -> datasets.Dataset:
    """Read once for all seeds."""
    return datasets.load("fashion_mnist", data_dir=data_dir)


def images(config: Config, seed: int) -> datasets.Dataset:
    """A part of the training images, drawn by the seed; all test images."""
    whole = _whole(config.data_dir)

    def smaller(split: datasets.Split) -> datasets.Split:
        pixels = np.pad(split.image, [(0, 0), (2, 2), (2, 2), (0, 0)])
        while pixels.shape[1] > config.side:
            n, h, w, c = pixels.shape
            blocks = pixels.reshape(n, h // 2, 2, w // 2, 2, c)
            pixels = np.round(blocks.mean(axis=(2, 4))).astype(np.uint8)
        return datasets.Split(pixels, split.label)

    rng = np.random.default_rng([seed, 0])
    half = config.images // 2
    parts = {
        name: smaller(split.take(rng.choice(len(split), half, replace=False)))
        for name, split in (("train", whole.train), ("validation", whole.validation))
    }
    return dataclasses.replace(
        whole,
        **parts,
        test=smaller(whole.test),
        augment=datasets.Augment(crop=2, flip=True),
    )


def compose(method: str, config: Config) -> Any:
    """The search of a preset, its weights' learning rate scaled to the batch."""
    space = jnas.spaces.get(SPACES.get(method, "nasbench201"))
    preset = presets.get(method)
    options: dict[str, Any] = {
        "channels": config.channels,
        "num_classes": 10,
        "epochs": config.epochs,
        "steps_per_epoch": -(-config.images // 2 // config.batch_size),
        **depth(method, config),
    }
    search = preset(space, **options)
    published = search.config
    if published.get("data") == "full":
        options["steps_per_epoch"] = -(-config.images // config.batch_size)
    scale = config.batch_size / published["published_batch_size"]
    return preset(space, **options, learning_rate=published["learning_rate"] * scale)


def depth(method: str, config: Config) -> dict[str, int]:
    """The option that sets the number of cells."""
    if method in SPACES:
        return {"cells": config.cells}
    return {"cells_per_stage": config.cells_per_stage}


def seconds(history: list[dict[str, Any]]) -> float:
    """Wall time of the epochs without compilation: medians by kind of epoch."""
    kinds: dict[Any, list[float]] = {}
    for row in history:
        kinds.setdefault((row.get("stage"), "val_loss" in row), []).append(
            row["seconds"]
        )
    return sum(len(spent) * statistics.median(spent) for spent in kinds.values())


def find(method: str, config: Config, data: datasets.Dataset, seed: int) -> dict:
    """Searches, or draws a baseline."""
    if method in BASELINES:
        space = jnas.spaces.nasbench201()
        drawn = comparing.all_skip(space)
        if method == "random":
            drawn = comparing.random_genotype(space, seed)
        return {"genotype": drawn, "seconds": 0.0, "cpu_seconds": 0.0}
    start = time.process_time()
    search = compose(method, config)
    options: dict[str, Any] = {
        "batch_size": config.batch_size,
        "seed": seed,
        "progress": False,
    }
    if isinstance(search, Progressive):
        found = run.progressive(search, data, **options)
    else:
        found = run.search(search, data, epochs=config.epochs, **options)
    return {
        "genotype": found.genotype,
        "seconds": seconds(found.history),
        "cpu_seconds": time.process_time() - start,
    }


def measure(method: str, config: Config, seed: int) -> dict[str, Any]:
    """One row."""
    data = images(config, seed)
    found = find(method, config, data, seed)
    start = time.perf_counter()
    trained = run.retrain(
        found["genotype"],
        data,
        seeds=(seed,),
        channels=config.channels,
        batch_size=config.batch_size,
        epochs=config.retrain_epochs,
        progress=False,
        **depth(method, config),
    )
    settings = {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if name not in ("out", "methods", "seeds", "data_dir", "table")
    }
    return {
        "method": method,
        "space": SPACES.get(method, "nasbench201"),
        "seed": seed,
        "test_accuracy": trained.accuracies[0],
        "parameters": trained.parameters,
        "search_seconds": round(found["seconds"], 2),
        "search_cpu_seconds": round(found["cpu_seconds"], 2),
        "retrain_seconds": round(time.perf_counter() - start, 2),
        "genotype": str(found["genotype"]),
        **settings,
        **environment(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line a method, mean and standard deviation over the seeds."""
    lines = [
        "| method | searches | test accuracy, % | parameters | seconds per search |",
        "|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        cells = [method, str(len(own))]
        for name, scale, digits in (
            ("test_accuracy", 100.0, 2),
            ("parameters", 1.0, 0),
            ("search_seconds", 1.0, 1),
        ):
            values = [scale * row[name] for row in own]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(
                f"{statistics.fmean(values):,.{digits}f} ± {spread:,.{digits}f}"
            )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that there are; a line that a kill cut short is none."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            print(f"{path}: a line is damaged and left out")
    return rows


def main(config: Config) -> None:
    """Runs what is missing, then prints the table."""
    names = config.methods or (
        *(name for name in presets.names() if name not in TEXT),
        *BASELINES,
    )
    if not config.table:
        # The same network is compiled for every seed, in a process of its own or not.
        cache = Path(tempfile.gettempdir()) / "jnas-benchmark-cache"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        done = {(row["method"], row["seed"]) for row in read(config.out)}
        for seed in range(config.seeds):
            for method in names:
                if (method, seed) in done:
                    continue
                row = measure(method, config, seed)
                with config.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                accuracy = f"{row['test_accuracy']:.2%}"
                print(method, seed, accuracy, f"{row['search_seconds']} s", flush=True)
    print(table(read(config.out)))


if __name__ == "__main__":
    main(tyro.cli(Config))
