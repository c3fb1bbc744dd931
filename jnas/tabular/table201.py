"""NAS-Bench-201, the topology space of NATS-Bench: all 15,625 cells.

Sources: Dong and Yang, NAS-Bench-201, ICLR 2020; Dong, Liu, Musial and Gabrys,
NATS-Bench, TPAMI 2021. Latencies: Lee et al., HELP, NeurIPS 2021; Li et al.,
HW-NAS-Bench, ICLR 2021.

The compact file ``nasbench201.npz`` has a row for each cell; ``N`` rows, ``S`` seeds:

* ``ops`` int ``[N, 6]`` with ``op_names`` and ``edges``, the cells;
* ``{set}_{val,test}_{12,200}`` float ``[N]``, accuracies in percent, mean of the seeds,
  for the sets cifar10, cifar100 and imagenet16; ``..._seeds`` ``[N, S]`` where the
  seeds are known; ``{set}_valtest_...`` of both halves of the test images together;
* ``{set}_train_seconds_200`` float ``[N]``, optionally those of 12 epochs;
* ``{set}_params``, ``{set}_flops`` int ``[N]``;
* optionally ``unique_id`` and ``n_seeds_200`` int ``[N]``, and ``checksum``.
"""

import os

import numpy as np

from jnas import cost, errors, spaces
from jnas.tabular import base, classes201, files
from jnas.tabular.columns import Column

__all__ = ["nasbench201"]

NAME = "nasbench201"
FILE = "nasbench201.npz"
LATENCY_FILE = "nasbench201_latency.npz"
DATASETS = {"cifar10": (10, 32), "cifar100": (100, 32), "imagenet16": (120, 16)}
EPOCHS = (12, 200)
MEASURED = {
    "val": "validation accuracy, %",
    "test": "test accuracy, %",
    "valtest": "accuracy on validation and test images, %",
}
NOTE = (
    "seconds are those of 200 epochs of training, scaled by the number of epochs, "
    "without validation; the 12-epoch runs have a schedule of their own"
)
HELP = (
    "get the folder NATS-tss-v1_0-3ffb9-simple of NATS-Bench "
    "(https://github.com/D-X-Y/NATS-Bench), then 'jnas tables convert nasbench201 "
    "FOLDER'; or set JNAS_DATA to the folder that holds the converted file"
)


def nasbench201(
    path: str | os.PathLike[str] | None = None,
    latency: str | os.PathLike[str] | None = None,
) -> base.Table:
    """Reads the table of NAS-Bench-201.

    Datasets ``cifar10``, ``cifar100`` and ``imagenet16`` (ImageNet16-120) with the
    metrics ``val`` and ``test`` after 12 and 200 epochs (``val_12``, ``test_200``),
    ``valtest`` where known, ``train_seconds``, ``params``, ``flops``, and for cifar10
    ``latency_{device}`` in ms, where the second file is found.

    Costs are simulated seconds: of 200 epochs of training, scaled by the number of
    epochs; validation is not in it. Networks of ``val`` of cifar10 are trained on
    25,000 images, those of ``test`` on 50,000 for twice as long; in the official files,
    too, the time follows the number of images.

    `Table.facts` has ``class`` (by the official rule, see `jnas.tabular.classes`),
    ``connected`` and, where the file has them, ``unique_id`` and ``n_seeds_200``.

    Args:
      path: the file or its folder; by default ``$JNAS_DATA`` and the user's folder.
      latency: the file of latencies or its folder; by default beside the table.

    Returns:
      The table; the space is ``jnas.spaces.nasbench201()``.

    Raises:
      JnasError: there is no such file (the line says how to get it), or it is
        malformed.
    """
    found = files.find([FILE], path)
    if found is None:
        raise errors.JnasError(f"there is no {path or FILE}: {HELP}")
    second = files.find([LATENCY_FILE], found.parent if latency is None else latency)
    if second is None and latency is not None:
        raise errors.JnasError(f"there is no file of latencies {latency}")
    return table(files.read(found), None if second is None else files.read(second))


def table(arrays: files.Arrays, latency: files.Arrays | None = None) -> base.Table:
    """Makes the table of the arrays of its file.

    Args:
      arrays: those of the file.
      latency: those of the second file.

    Returns:
      The table.

    Raises:
      JnasError: the arrays are malformed.
    """
    space = spaces.nasbench201()
    genes = cells(arrays)
    columns = {name: _columns(arrays, name, len(genes)) for name in DATASETS}
    check_costs(arrays, genes)
    if latency is not None:
        columns["cifar10"] |= latencies(latency, genes)
    facts = {
        "class": classes201.classes(genes),
        "connected": classes201.connected(genes),
    }
    for name in ("unique_id", "n_seeds_200"):
        if name in arrays:
            facts[name] = arrays.take(name, (len(genes),), "iu")
    return base.Table(
        NAME,
        space,
        genes,
        columns,
        base.by_code(space.genes, genes),
        note=NOTE,
        facts=facts,
        source=str(arrays.path),
    )


def cells(arrays: files.Arrays) -> np.ndarray:
    """Reads the cells of a file, in the space's own order of edges and operations."""
    space = spaces.nasbench201()
    group = space.group("cell")
    ops = arrays.take("ops", (None, group.num_edges), "iu")
    for name, wanted in (("op_names", group.operations), ("edges", group.edges)):
        if name in arrays:
            told = arrays.arrays[name].tolist()
            told = [tuple(x) if isinstance(x, list) else x for x in told]
            if told != list(wanted):
                raise errors.JnasError(
                    f"array {name!r} of {arrays.path} must be {list(wanted)}, got "
                    f"{told}"[:400]
                )
    if not len(ops) or ops.min() < 0 or ops.max() >= group.num_operations:
        raise errors.JnasError(
            f"array 'ops' of {arrays.path} must have rows of numbers 0.."
            f"{group.num_operations - 1}"
        )
    genes = ops.astype(np.int32)
    if len(np.unique(genes, axis=0)) != len(genes):
        raise errors.JnasError(f"array 'ops' of {arrays.path} has a cell twice")
    return genes


def costs(dataset: str, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and multiply-adds of the networks of cells.

    Of the published network: 16 channels, 5 cells in each stage. Both are a constant
    plus a share of each operation.

    Args:
      dataset: one of `DATASETS`.
      genes: ``[N, 6]``.

    Returns:
      int32 ``[N]`` and int64 ``[N]``.
    """
    space = spaces.nasbench201()
    classes, side = DATASETS[dataset]

    def one(vector: list[int]) -> np.ndarray:
        found = cost.count(
            space.decode(vector),
            channels=16,
            cells_per_stage=5,
            num_classes=classes,
            image_shape=(side, side, 3),
        )
        return np.array([found.parameters, found.multiply_adds], np.int64)

    base_cost = one([0] * 6)
    operations = range(space.group("cell").num_operations)
    # The operation on the first edge; the shares are the same on every edge.
    shares = np.stack([one([o, 0, 0, 0, 0, 0]) - base_cost for o in operations])
    total = base_cost[None] + shares[genes].sum(1)
    return total[:, 0].astype(np.int32), total[:, 1]


def check_costs(arrays: files.Arrays, genes: np.ndarray) -> None:
    """Refuses a file whose costs are not those of its cells: rows are mixed up."""
    for dataset in DATASETS:
        for name, right in zip(("params", "flops"), costs(dataset, genes), strict=True):
            told = arrays.take(f"{dataset}_{name}", (len(genes),), "iu")
            wrong = np.flatnonzero(told != right)
            if len(wrong):
                raise errors.JnasError(
                    f"array '{dataset}_{name}' of {arrays.path} is not that of the "
                    f"cells in its array 'ops' in {len(wrong)} rows, first in row "
                    f"{wrong[0]} (got {told[wrong[0]]}, expected {right[wrong[0]]}): "
                    "its rows are in different orders"
                )


def _columns(arrays: files.Arrays, dataset: str, rows: int) -> dict[str, Column]:
    """The columns of one dataset."""
    seconds = arrays.measured(f"{dataset}_train_seconds_200", (rows,))
    seconds = seconds[:, None].astype(np.float64) * np.divide(EPOCHS, 200)[None]
    if f"{dataset}_train_seconds_12" in arrays:
        seconds[:, 0] = arrays.measured(f"{dataset}_train_seconds_12", (rows,))
    columns = {}
    for metric, unit in MEASURED.items():
        means, seeds = {}, {}
        for epochs in EPOCHS:
            name = f"{dataset}_{metric}_{epochs}"
            if name in arrays or metric != "valtest":
                means[epochs] = arrays.measured(name, (rows,), 100)
            if f"{name}_seeds" in arrays:
                found = arrays.measured(f"{name}_seeds", (rows, None), 100)
                seeds[epochs] = found
                if metric == "valtest" and epochs not in means:
                    means[epochs] = base.mean(found[..., None])[:, 0]
        if not means:
            continue
        known = tuple(means)
        # Where CIFAR-10 is tested, training is on both halves of the training images.
        twice = 2 if (dataset, metric) == ("cifar10", "test") else 1
        places = [EPOCHS.index(epochs) for epochs in known]
        columns[metric] = Column(
            np.stack([means[epochs] for epochs in known], -1),
            known,
            _joined(seeds, known, rows) if seeds else None,
            twice * seconds[:, places],
            unit,
        )
    columns["train_seconds"] = Column(
        seconds, EPOCHS, None, seconds, "seconds of training"
    )
    params = arrays.measured(f"{dataset}_params", (rows,), kinds="iu")
    flops = arrays.measured(f"{dataset}_flops", (rows,), kinds="iu")
    columns["params"] = Column(params, unit="parameters")
    columns["flops"] = Column(flops, unit="multiply-adds")
    return columns


def _joined(
    seeds: dict[int, np.ndarray], epochs: tuple[int, ...], rows: int
) -> np.ndarray:
    """Seeds of several numbers of epochs, ``[N, S, F]``, NaN where not known."""
    most = max(found.shape[1] for found in seeds.values())
    joined = np.full((rows, most, len(epochs)), np.nan, np.float32)
    for place, number in enumerate(epochs):
        if number in seeds:
            joined[:, : seeds[number].shape[1], place] = seeds[number]
    return joined


def latencies(arrays: files.Arrays, genes: np.ndarray) -> dict[str, Column]:
    """A column for each device, its rows brought into the order of the table.

    Args:
      arrays: those of the file of latencies.
      genes: the cells of the table, ``[N, 6]``.

    Returns:
      ``{metric: Column}``.
    """
    ops = cells(arrays)
    devices = arrays.take("devices", (None,), "U").tolist()
    values = arrays.measured("latency_ms", (len(ops), len(devices)))
    if len(set(devices)) != len(devices):
        raise errors.JnasError(f"array 'devices' of {arrays.path} has a name twice")
    rows = {cell: row for row, cell in enumerate(map(tuple, ops.tolist()))}
    order = np.array([rows.get(cell, -1) for cell in map(tuple, genes.tolist())])
    ordered = np.where((order >= 0)[:, None], values[order], np.nan)
    return {
        f"latency_{device}": Column(ordered[:, i], unit="latency, ms")
        for i, device in enumerate(devices)
    }
