"""Which published fix prevents the collapse of DARTS? Every preset in one setting.

One row of JSON a method and seed, appended at once, so that the same command goes on
where it was stopped; then a table and a picture::

    python benchmarks/collapse.py --out collapse            # all of it, two processes
    python benchmarks/collapse.py --out quick --quick       # a few minutes
    python benchmarks/collapse.py --out gpu --jobs 1 --minutes 8 --channels 16 \
--side 32 --images 4000 --retrain-images 40000 --retrain-epochs 60  # a slice on a GPU

A slice ends when what is being dispatched then is done, and writes the table of the
rows so far; the same command goes on from the last checkpoint.

The setting (the defaults of `Config`) is one in which plain DARTS collapses in most
seeds: a search on few images, which the supernet learns by heart, many epochs and fast
learning rates. It was chosen by looking only at the seeds 0 to 7 of plain DARTS, random
cells, random search and all skips (``collapse-setting-*.jsonl``), and frozen before
anything was run on the seeds 100 to 107, which are what is reported.

Protocol, the same for all: the NAS-Bench-201 space, images of Fashion-MNIST averaged to
``side``, drawn anew for each seed, in two halves for a search, with equally many of
each class (one more or less). All presets have the learning rates and the first-order
gradients of the setting, and their own figures otherwise. The found cell is trained
once from scratch on more images, with the seed of its search, and tested on all 10,000
test images; where two searches with one seed find the same cell, it is trained once.

``random_search`` draws ``candidates`` cells, trains each for as many steps as make the
same number of gradients in all as a search computes, and takes the best on the
validation half. ``random`` are cells drawn uniformly, ``all_skip`` is the one cell of
skip connections. Differences are to ``random_search``, paired by seed.
"""

import dataclasses
import functools
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import collapse_table
import methods
import tyro

BASELINES = ("random_search", "random", "all_skip")
# Spaces or data of their own.
OTHERS = ("darts_rnn", "gdas_frc")
QUICK = ("darts", "darts_minus", "gdas", "random_search", "random", "all_skip")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
      out: folder of ``collapse.jsonl``, ``collapse.md`` and ``collapse.png``.
      methods: names of presets and baselines; default all of them.
      seeds: of searches and retrainings.
      quick: the seeds 0 and 1, few methods, a third of the epochs.
      images: of a search, half of them for the architecture.
      retrain_images: of a retraining, those of the search among them.
      side: of the images: 8, 16 or 32.
      augment: whether searches see shifted and flipped images; retrainings do.
      epochs: of a search; of all stages together, where a method has several.
      retrain_epochs: of the found cells.
      channels: of the first stage, in supernet and final network.
      cells_per_stage: in each of three stages.
      batch_size: of a search.
      retrain_batch_size: of the found cells.
      learning_rate: of the weights in searches.
      arch_learning_rate: of arch.
      candidates: of the random search.
      data_dir: folder of the data files.
      jobs: processes; on a CPU each has cores of its own.
      minutes: stop after so many, to be gone on with by the same command.
      table: make table and picture of the rows there are and run nothing.
      worker: number of this process among the jobs; used by the script itself.
    """

    out: Path
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = tuple(range(100, 108))
    quick: bool = False
    images: int = 512
    retrain_images: int = 8192
    side: int = 8
    augment: bool = False
    epochs: int = 100
    retrain_epochs: int = 20
    channels: int = 4
    cells_per_stage: int = 2
    batch_size: int = 32
    retrain_batch_size: int = 128
    learning_rate: float = 0.1
    arch_learning_rate: float = 0.1
    candidates: int = 12
    data_dir: Path | None = None
    jobs: int = 2
    minutes: float | None = None
    table: bool = False
    worker: int | None = None


NO_SETTING = ("out", "methods", "seeds", "data_dir", "jobs", "minutes", "table")


def setting(config: Config) -> dict[str, Any]:
    """What makes rows comparable."""
    return {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if name not in (*NO_SETTING, "worker", "quick")
    }


@functools.lru_cache(maxsize=1)
def compose(method: str, config: Config) -> Any:
    """The search of a preset; one object, so that its seeds share programs."""
    import jnas

    preset = jnas.presets.get(method)
    options: dict[str, Any] = {
        "channels": config.channels,
        "cells_per_stage": config.cells_per_stage,
        "num_classes": 10,
        "epochs": config.epochs,
        "steps_per_epoch": -(-config.images // 2 // config.batch_size),
        "learning_rate": config.learning_rate,
        "arch_learning_rate": config.arch_learning_rate,
    }
    if method in ("r_darts_l2", "r_darts_dp", "darts_es", "darts_ada"):
        options["order"] = 1
    if method == "hessian_darts":
        options["kind"] = "trace"  # the cheapest
    if method in ("p_darts", "drnas_progressive"):
        stages = len(preset(jnas.spaces.nasbench201(), **options).stages)
        options["epochs"] = max(1, config.epochs // stages)
    space = jnas.spaces.nasbench201()
    search = preset(space, **options)
    if getattr(search, "config", {}).get("data") == "full":
        options["steps_per_epoch"] = -(-config.images // config.batch_size)
        search = preset(space, **options)
    return search


def images(config: Config, seed: int) -> tuple[Any, Any]:
    """The data of a retraining, and the part of it that the search sees."""
    from jnas import data as datasets

    half, few = config.retrain_images // 2, config.images // 2
    whole = dataclasses.replace(config, images=2 * half)
    data: Any = methods.images(whole, seed)
    part = {
        name: getattr(data, name).take(balanced(getattr(data, name).label)[:few])
        for name in ("train", "validation")
    }
    if not config.augment:
        part["augment"] = datasets.Augment(crop=0, flip=False)
    return data, dataclasses.replace(data, **part)


def balanced(label: Any) -> Any:
    """An order in which the first images are of all classes in turn."""
    import numpy as np

    turn = np.zeros(len(label), int)
    for one in np.unique(label):
        turn[label == one] = np.arange((label == one).sum())
    return np.argsort(turn, kind="stable")


def find(method: str, config: Config, data: Any, seed: int, folder: Path) -> dict:
    """Searches, or draws a baseline."""
    import jnas
    from jnas import run
    from jnas.progressive import Progressive
    from jnas.run import comparing

    space = jnas.spaces.nasbench201()
    none = {"lambda_max": None, "entropy": None, "seconds": 0.0}
    if method == "all_skip":
        return {"genotype": comparing.all_skip(space), **none}
    if method == "random":
        return {"genotype": comparing.random_genotype(space, seed), **none}
    if method == "random_search":
        import collapse_random

        return {**none, **collapse_random.best(config, data, seed, folder)}
    search = compose(method, config)
    options: dict[str, Any] = {
        "batch_size": config.batch_size,
        "seed": seed,
        "progress": False,
        "report": False,
        "workdir": folder / "search",
        "save_every_epochs": config.epochs,  # and every minute
    }
    if isinstance(search, Progressive):
        # Every seed prunes another space, so its curvature would be compiled anew.
        found = run.progressive(search, data, diagnose_every=0, **options)
    else:
        found = run.search(
            search,
            data,
            epochs=config.epochs,
            diagnose_every=config.epochs,
            **options,
        )
    last = found.history[-1]
    return {
        "genotype": found.genotype,
        "lambda_max": last.get("lambda_max"),
        "entropy": last.get("arch_entropy"),
        "seconds": methods.seconds(found.history),
        "epochs_run": len(found.history),
    }


def measure(method: str, config: Config, seed: int, folder: Path) -> dict[str, Any]:
    """One row."""
    from jnas import run
    from jnas.diagnostics import derived_skip_share
    from jnas.report import collapse
    from jnas.run.environment import environment

    begin = time.perf_counter()
    data, small = images(config, seed)
    found = find(method, config, small, seed, folder)
    genotype = found.pop("genotype")
    empty, edges, _ = collapse.empty_edges(genotype)["cell"]
    trained = known(genotype, seed, config)
    if trained is None:
        result = run.retrain(
            genotype,
            data,
            seeds=(seed,),
            channels=config.channels,
            batch_size=config.retrain_batch_size,
            epochs=config.retrain_epochs,
            cells_per_stage=config.cells_per_stage,
            progress=False,
            workdir=None if config.minutes is None else folder / "retrain",
        )
        trained = {
            "test_accuracy": result.accuracies[0],
            "parameters": result.parameters,
            "trained_for": method,
        }
    return {
        "method": method,
        "seed": seed,
        "skip_share": derived_skip_share(genotype),
        "empty_share": empty / edges,
        "lambda_max": found["lambda_max"],
        "arch_entropy": found["entropy"],
        "search_seconds": round(found["seconds"], 2),
        "epochs_run": found.get("epochs_run"),
        "wall_seconds": round(time.perf_counter() - begin, 2),
        **trained,
        "genotype": str(genotype),
        **setting(config),
        **environment(),
        "commit": commit(),
    }


def known(genotype: Any, seed: int, config: Config) -> dict[str, Any] | None:
    """What training a cell with a seed gave already: with the same code and device.

    It would be the same bits.
    """
    from jnas.run.environment import environment

    same = {"genotype": str(genotype), "seed": seed, "commit": commit()}
    same |= environment()
    for row in collapse_table.read(config.out):
        if all(row.get(name) == value for name, value in same.items()):
            given = {name: row[name] for name in ("test_accuracy", "parameters")}
            return given | {"trained_for": row.get("trained_for", row["method"])}
    return None


@functools.cache
def commit() -> str:
    """Of the code that runs; "+" where files differ from it."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=here, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()


def plan(config: Config) -> list[tuple[str, int]]:
    """All rows, method by method, so that a program is compiled once for all seeds."""
    from jnas import presets

    names = config.methods or (
        *BASELINES,
        *(name for name in presets.names() if name not in OTHERS),
    )
    for name in names:
        if name not in BASELINES:
            presets.get(name)  # an unknown one is told now
    return [(name, seed) for name in names for seed in config.seeds]


def work(config: Config, number: int) -> None:
    """Runs the share of one process of what is missing."""
    if config.jobs > 1 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        own = cores[number :: config.jobs]
        os.sched_setaffinity(0, own or cores)
    import jax

    from jnas.run import Interrupted

    # The same network is compiled for every seed, in a process of its own or not.
    cache = Path(tempfile.gettempdir()) / "jnas-benchmark-cache"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    logging.getLogger("jnas").setLevel(logging.ERROR)  # rows tell of collapses
    signal.signal(signal.SIGTERM, _stop)
    end = threading.Timer(
        60 * (config.minutes or math.inf),
        lambda: os.kill(os.getpid(), signal.SIGTERM),
    )
    end.daemon = True
    if config.minutes is not None:
        end.start()
    try:
        before = None
        for method, seed in missing(config, number):
            if method != before:
                jax.clear_caches()  # every found cell is a program of its own
            before = method
            folder = config.out / "runs" / f"{method}-{seed}"
            row = measure(method, config, seed, folder)
            collapse_table.append(config.out / f"rows{number}.jsonl", row)
            shutil.rmtree(folder, ignore_errors=True)
            print(
                f"{method} {seed}: {row['test_accuracy']:.2%}, "
                f"skips {row['skip_share']:.0%}, {row['wall_seconds']:.0f} s",
                flush=True,
            )
    except (Interrupted, _Stopped):
        pass  # the table of what there is follows
    finally:
        end.cancel()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def missing(config: Config, number: int) -> Iterator[tuple[str, int]]:
    """The rows that are not there yet, of the methods that this process claims."""
    done = {(r["method"], r["seed"]) for r in collapse_table.read(config.out)}
    for method, seed in plan(config):
        path = config.out / "claimed" / method
        if (method, seed) not in done and claim(path, number):
            yield method, seed


class _Stopped(BaseException):
    """The time is up outside of a search or training, which save themselves.

    Nothing that handles errors may take it for one.
    """


def _stop(*_: Any) -> None:
    raise _Stopped


def claim(path: Path, number: int) -> bool:
    """Whether a method is this process' to run: the first one to ask has it."""
    path.parent.mkdir(exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(str(number))
    except FileExistsError:
        return path.read_text() == str(number)
    return True


def main(config: Config) -> None:
    """Runs what is missing, then writes table and picture."""
    if config.quick:
        config = dataclasses.replace(
            config,
            methods=config.methods or QUICK,
            seeds=(0, 1),
            epochs=max(1, config.epochs // 3),
            retrain_epochs=max(1, config.retrain_epochs // 2),
            candidates=max(1, config.candidates // 3),
        )
    config.out.mkdir(parents=True, exist_ok=True)
    if config.worker is not None:
        work(config, config.worker)
        return
    collapse_table.check(config.out, setting(config))
    begin = time.perf_counter()
    shutil.rmtree(config.out / "claimed", ignore_errors=True)
    if not config.table:
        if config.jobs == 1:
            work(config, 0)
        else:
            signal.signal(signal.SIGTERM, _stop)
            again = [sys.executable, __file__, *sys.argv[1:]]
            workers = [
                subprocess.Popen([*again, "--worker", str(number)])
                for number in range(config.jobs)
            ]
            try:
                failed = any([worker.wait() for worker in workers])
            except (KeyboardInterrupt, _Stopped):
                for worker in workers:
                    worker.terminate()
                failed = any([worker.wait() for worker in workers])
            if failed:
                sys.exit("a process failed; the same command goes on")
    shutil.rmtree(config.out / "claimed", ignore_errors=True)
    wanted = plan(config)
    collapse_table.write(config.out, wanted, time.perf_counter() - begin)


if __name__ == "__main__":
    main(tyro.cli(Config))
