"""NATS-Bench's topology space from its "simple" folder.

The folder ``NATS-tss-v1_0-3ffb9-simple`` holds ``meta.pickle.pbz2``, a dictionary with
the list ``meta_archs`` of the 15,625 cells, and ``000000.pickle.pbz2`` ... with all
runs of one cell: ``{"12" or "200": {"arch_str": ..., "all_results": {(set, seed):
run}}}``. Of a run are read ``epochs``, ``train_times`` {epoch: seconds} and
``eval_acc1es`` {"split@epoch": percent}.

The layout is the one in the code that wrote and reads these files (D-X-Y/NATS-Bench,
nats_bench/api_utils.py; D-X-Y/AutoDL-Projects, exps/NATS-Bench/tss-collect.py). This
reader was checked against files made after that code, not against the release itself.
"""

import bz2
import concurrent.futures
import functools
import multiprocessing
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from jnas import errors, spaces
from jnas.data import pickles
from jnas.tabular import base, classes201, table201

__all__ = ["read"]

META = "meta.pickle.pbz2"
# What is taken of which run: {name of a set there: (dataset, {metric: split})}.
TAKEN = {
    "cifar10-valid": ("cifar10", {"val": "x-valid"}),
    "cifar10": ("cifar10", {"test": "ori-test"}),
    "cifar100": (
        "cifar100",
        {"val": "x-valid", "test": "x-test", "valtest": "ori-test"},
    ),
    "ImageNet16-120": (
        "imagenet16",
        {"val": "x-valid", "test": "x-test", "valtest": "ori-test"},
    ),
}
# CIFAR-10's time is that of training on one half.
TIMED = ("cifar10-valid", "cifar100", "ImageNet16-120")
# Unpacked, a file has a few MB; with weights it would have hundreds.
LARGEST = 2**29

# (array, seed, value) of one cell.
Figure = tuple[str, int, float]


def read(
    folder: pathlib.Path,
    *,
    workers: int = 1,
    partial: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Reads the folder.

    Args:
      folder: ``NATS-tss-v1_0-...-simple``.
      workers: number of processes.
      partial: whether the files of cells may be missing.
      progress: called with the number of files read and the total.

    Returns:
      The arrays of the compact file; see `jnas.tabular.table201`.

    Raises:
      JnasError: the folder is another one, or a file is missing or malformed.
    """
    if not folder.is_dir() or not (folder / META).is_file():
        raise errors.JnasError(
            f"{folder} is no folder with {META}: give the unpacked folder "
            "NATS-tss-v1_0-3ffb9-simple of NATS-Bench"
        )
    names, genes = _cells(folder)
    paths: dict[int, pathlib.Path] = {}
    for row in range(len(names)):
        for stem in (f"{row:06d}", str(row)):
            path = folder / f"{stem}.pickle.pbz2"
            if row not in paths and path.is_file():
                paths[row] = path
    missing = len(names) - len(paths)
    if not paths or (missing and not partial):
        first = next(row for row in range(len(names)) if row not in paths)
        raise errors.JnasError(
            f"{folder} lacks the files of {missing} of {len(names)} cells, first "
            f"{first:06d}.pickle.pbz2: unpack it again, or allow a partial table"
        )
    rows = sorted(paths)
    tasks = [(paths[row], names[row]) for row in rows]
    figures: list[list[Figure]] = []
    for found in _figures(tasks, workers):
        figures.append(found)
        if progress is not None:
            progress(len(figures), len(tasks))
    return _arrays(genes[rows], figures)


def _cells(folder: pathlib.Path) -> tuple[list[str], np.ndarray]:
    """Texts and genes of all cells, in the official order."""
    meta = _unpickled(folder / META)
    names = meta.get("meta_archs") if isinstance(meta, dict) else None
    if not isinstance(names, list) or not names:
        raise errors.JnasError(f"{folder / META} has no list meta_archs")
    space = spaces.nasbench201()
    try:
        genes = [space.encode(spaces.Genotype.parse(name)) for name in names]
    except (errors.JnasError, TypeError, AttributeError) as error:
        raise errors.JnasError(
            f"{folder / META} lists what are no cells of the topology space ({error}): "
            "give the folder NATS-tss-..., not NATS-sss-..."
        ) from error
    return names, np.stack(genes)


def _figures(
    tasks: list[tuple[pathlib.Path, str]], workers: int
) -> Iterator[list[Figure]]:
    if workers == 1:
        yield from map(figures_of, tasks)
        return
    # A forked process would inherit JAX's threads.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        try:
            yield from pool.map(figures_of, tasks, chunksize=16)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def figures_of(task: tuple[pathlib.Path, str]) -> list[Figure]:
    """Reads the file of one cell.

    Args:
      task: the file, and the text of its cell.

    Returns:
      Triples (array of the compact file, seed, value).

    Raises:
      JnasError: the file is malformed or that of another cell.
    """
    path, name = task
    content = _unpickled(path)
    try:
        return list(_runs(content, name))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise errors.JnasError(
            f"{path} has another layout than NATS-Bench's ({reason[:200]})"
        ) from error


def _runs(content: Any, name: str) -> Iterable[Figure]:
    for epochs in table201.EPOCHS:
        results = content[str(epochs)]
        if results["arch_str"] != name:
            raise ValueError(f"it is of the cell {results['arch_str']!r}, not {name!r}")
        for (there, seed), run in results["all_results"].items():
            if there not in TAKEN:
                raise ValueError(f"unknown set {there!r}")
            if run["epochs"] != epochs:
                raise ValueError(f"{run['epochs']} epochs where {epochs} were expected")
            dataset, metrics = TAKEN[there]
            for metric, split in metrics.items():
                value = run["eval_acc1es"].get(f"{split}@{epochs - 1}")
                if value is not None:
                    yield f"{dataset}_{metric}_{epochs}", int(seed), float(value)
            times = run["train_times"]
            if there in TIMED and times is not None:
                seconds = float(sum(times[i] for i in range(epochs)))
                yield f"{dataset}_train_seconds_{epochs}", int(seed), seconds


def _unpickled(path: pathlib.Path) -> Any:
    try:
        packed = path.read_bytes()
        unpacker = bz2.BZ2Decompressor()
        content = unpacker.decompress(packed, LARGEST)
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise errors.JnasError(
                f"cannot read {path}: {error.strerror or error}"
            ) from error
        raise errors.JnasError(
            f"{path} is damaged or not packed by bzip2: fetch it again"
        ) from error
    if not unpacker.eof:
        what = "is cut off" if len(content) < LARGEST else "is too large"
        raise errors.JnasError(f"{path} {what}: fetch it again")
    return pickles.read(content, str(path))


def _arrays(genes: np.ndarray, figures: list[list[Figure]]) -> dict[str, np.ndarray]:
    """The compact arrays of the figures of each row."""
    group = spaces.nasbench201().group("cell")
    count = len(genes)
    seeds = sorted({seed for row in figures for _, seed, _ in row})
    column = {seed: i for i, seed in enumerate(seeds)}
    empty = functools.partial(np.full, (count, len(seeds)), np.nan)
    runs: dict[str, np.ndarray] = {}
    for row, found in enumerate(figures):
        for name, seed, value in found:
            if name not in runs:
                runs[name] = empty()
            runs[name][row, column[seed]] = value
    arrays: dict[str, np.ndarray] = {
        "ops": genes.astype(np.int8),
        "op_names": np.array(group.operations),
        "edges": np.array(group.edges, np.int8),
        "unique_id": classes201.classes(genes).astype(np.int16),
        "seeds": np.array(seeds, np.int32),
    }
    for name, values in runs.items():
        arrays[name] = base.mean(values[..., None])[:, 0].astype(np.float32)
        if "seconds" not in name:
            arrays[f"{name}_seeds"] = values.astype(np.float32)
    if "cifar10_val_200" in runs:
        known = np.isfinite(runs["cifar10_val_200"]).sum(1)
        arrays["n_seeds_200"] = known.astype(np.int8)
    for dataset in table201.DATASETS:
        params, flops = table201.costs(dataset, genes)
        arrays[f"{dataset}_params"], arrays[f"{dataset}_flops"] = params, flops
    return arrays
