"""How many images a second arrive: decoded, fed from the device, streamed.

Run it alone on the machine, on any set that jnas can stream, e.g.::

    JNAS_DATA=data python benchmarks/feed.py --data cifar10_jpeg --out feed.jsonl

One row of JSON for each measurement, and a table in Markdown. What counts is the
comparison with the images a second that a training or search step consumes
(benchmarks/step.py: two batches a step over ``step_s_median``); with ``--step`` a step
of the NAS-Bench-201 supernet is measured here, too. Measurements:

* decode: reading examples into memory, by threads;
* feed: `jnas.data.feed`, the set on the device, both batches of a step, augmented;
* stream: `jnas.data.stream`, read ahead and decoded while training goes; once the host
  batches alone, once until they are augmented on the device;
* stream, memory: the same of a set that is in the host's memory.
"""

import dataclasses
import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import jnas
import jnas.data
from jnas.data import pixels
from jnas.run.environment import environment


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured."""

    data: str = "cifar10_jpeg"
    """A set that can be streamed: a name, a folder of images, a JPEG archive."""
    data_dir: Path | None = None
    """Where it is; by default $JNAS_DATA and the usual places."""
    resize: int | None = None
    """Side of the images."""
    examples: int = 4000
    """How many are decoded for a rate."""
    batch_sizes: tuple[int, ...] = (64, 96)
    """Of both batches of a step."""
    steps: int = 60
    """Timed steps of each feed, after a few that are not."""
    repeats: int = 3
    """Of each measurement; the median is reported."""
    step: bool = False
    """Measure the search step of NAS-Bench-201 (5 cells a stage, 16 channels), too."""
    out: Path | None = None
    """JSONL file to append to."""


def main(config: Config) -> None:
    """Measures, writes and prints."""
    data = jnas.data.load(
        config.data, data_dir=config.data_dir, stream=True, resize=config.resize
    )
    if not isinstance(data, jnas.data.StreamDataset):
        raise SystemExit(f"{config.data} cannot be streamed")
    cores = pixels.default_threads()
    rows = decode(config, data, sorted({1, cores}))
    memory = data.load()
    for batch_size in config.batch_sizes:
        rows += feeds(config, data, memory, batch_size, cores)
    if config.step:
        rows.append(step(config, data.image_shape))
    about = {"data": config.data, "image": list(data.image_shape), "cores": cores}
    about |= {"commit": commit()} | environment()
    rows = [row | about for row in rows]
    if config.out is not None:
        with config.out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    print(table(rows))


def rate(seconds: list[float], images: int) -> dict[str, float]:
    """Images a second: the median and the spread of the repeats."""
    rates = sorted(images / value for value in seconds)
    return {
        "images_per_second": round(statistics.median(rates), 1),
        "lowest": round(rates[0], 1),
        "highest": round(rates[-1], 1),
    }


def decode(config: Config, data: Any, threads: list[int]) -> list[dict[str, Any]]:
    """Rates of reading examples into memory."""
    part = data.train
    index = np.arange(min(config.examples, len(part)))
    rows = []
    for count in threads:
        seconds = []
        for _ in range(config.repeats):
            start = time.perf_counter()
            part.read(index, threads=count)
            seconds.append(time.perf_counter() - start)
        found = rate(seconds, len(index))
        rows.append({"what": "decode", "threads": count, "batch_size": 0, **found})
    return rows


def feeds(
    config: Config, data: Any, memory: Any, batch_size: int, cores: int
) -> list[dict[str, Any]]:
    """Rates of the feed and of the streams."""
    options = {
        "batch_size": batch_size,
        "mean": data.mean,
        "std": data.std,
        "augment": jnas.data.Augment(crop=4, flip=True),
    }
    key = jax.random.key(0)
    call = jax.jit(lambda feed, key, step: feed(key, step))
    images = 2 * batch_size * config.steps
    feed = jnas.data.feed(memory.train, memory.validation, **options)

    def fed() -> None:
        for number in range(config.steps):
            jax.block_until_ready(call(feed, key, number))

    rows = [("feed", 0, timed(fed, config.repeats))]
    for what, parts in (("stream", data), ("stream, memory", memory)):
        stream = jnas.data.stream(
            parts.train, parts.validation, threads=cores, **options
        )
        with stream.open(seed=0) as iterator:

            def host(iterator=iterator) -> None:
                for _ in range(config.steps):
                    next(iterator)

            def device(iterator=iterator, stream=stream) -> None:
                for number in range(config.steps):
                    batches = stream.fed([next(iterator)], number)
                    jax.block_until_ready(call(batches, key, number))

            rows.append((what, cores, timed(host, config.repeats)))
            found = timed(device, config.repeats)
            rows.append((f"{what}, to the device", cores, found))
    return [
        {
            "what": what,
            "threads": threads,
            "batch_size": batch_size,
            **rate(seconds, images),
        }
        for what, threads, seconds in rows
    ]


def timed(work: Any, repeats: int) -> list[float]:
    """Seconds of each repeat, after one that compiles and fills the buffers."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def step(config: Config, shape: tuple[int, ...]) -> dict[str, Any]:
    """Rate at which the search step of NAS-Bench-201 consumes images."""
    batch_size = config.batch_sizes[0]
    search = jnas.presets.darts(
        jnas.spaces.get("nasbench201"), channels=16, cells_per_stage=5
    )
    rng = np.random.default_rng(0)

    def batch() -> dict[str, Any]:
        return {
            "image": rng.normal(size=(batch_size, *shape)).astype(np.float32),
            "label": rng.integers(0, 10, batch_size).astype(np.int32),
        }

    batches = jax.device_put((batch(), batch()))
    state = search.init(jax.random.key(0), batches[0]["image"])
    function = jax.jit(
        search.step, donate_argnums=0, compiler_options=jnas.compiling.options()
    )
    seconds = []
    for _ in range(config.repeats + 1):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(function(state, *batches))
        seconds.append(time.perf_counter() - start)
    found = rate(seconds[1:], 2 * batch_size)
    what = "step of nasbench201, C16 N5"
    return {"what": what, "threads": 0, "batch_size": batch_size, **found}


def commit() -> str | None:
    """The commit of the code, where that is known."""
    run = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    return run.stdout.strip() or None


def table(rows: list[dict[str, Any]]) -> str:
    """A table in Markdown."""
    lines = [
        "| measurement | threads | batch | images/s | lowest to highest |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['what']} | {row['threads'] or '-'} | {row['batch_size'] or '-'} "
            f"| {row['images_per_second']:,.0f} "
            f"| {row['lowest']:,.0f} to {row['highest']:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Config))
