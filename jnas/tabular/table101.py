"""NAS-Bench-101: the table of its cells, looked up by their canonical form.

Source: Ying et al., NAS-Bench-101, ICML 2019.

The compact file ``nasbench101.npz`` (or ``nasbench101_20k.npz``, a random part) has a
row for each cell; ``N`` rows, ``S`` seeds, ``E`` in 4, 12, 36 and 108 epochs:

* ``adjacency`` 0/1 ``[N, 7, 7]``, ``num_vertices`` int ``[N]`` (the output is the last
  vertex of a cell, what follows is empty), ``ops`` int ``[N, 7]``, numbers in
  ``op_names``, -1 for input, output and what is empty;
* ``val_acc_E`` float ``[N]``, fractions, and optionally ``test_acc_E``; instead of them
  or beside them ``val_acc_E_seeds`` ``[N, S]``; 108 epochs must be there;
* ``train_seconds_108`` float ``[N]``, optionally those of other epochs;
* ``params`` int ``[N]``, ``module_hash`` 16 bytes ``[N]``, and optionally ``checksum``.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas import errors
from jnas.tabular import base, files, graphs, space101
from jnas.tabular.columns import Column, OnDevice

__all__ = ["nasbench101"]

NAME = "nasbench101"
FILES = ("nasbench101.npz", "nasbench101_20k.npz")
EPOCHS = (4, 12, 36, 108)
# Rows whose hash is computed when a file is read: mixed-up rows show in any of them.
_CHECKED = 32
HELP = (
    "get nasbench_only108.tfrecord or nasbench_full.tfrecord "
    "(https://github.com/google-research/nasbench), then 'jnas tables convert "
    "nasbench101 FILE'; or set JNAS_DATA to the folder that holds the converted file"
)


def nasbench101(path: str | os.PathLike[str] | None = None) -> base.Table:
    """Reads the table of NAS-Bench-101, or of a part of its cells.

    Dataset ``cifar10`` with the metrics ``val`` (and ``test``, where the file has it)
    after 4, 12, 36 and 108 epochs, in percent, ``train_seconds`` and ``params``.
    Isomorphic cells find the same row; valid cells that aren't in the file are NaN.

    Costs are simulated seconds of training: those of 108 epochs, scaled by the number
    of epochs where the file does not have others. Each number of epochs is a run of its
    own with its own schedule.

    Args:
      path: the file or its folder; by default ``$JNAS_DATA`` and the user's folder.

    Returns:
      The table; the space is a `jnas.tabular.NasBench101Space`.

    Raises:
      JnasError: there is no such file (the line says how to get it), or it is
        malformed.
    """
    found = files.find(FILES, path)
    if found is None:
        raise errors.JnasError(f"there is no {path or FILES[0]}: {HELP}")
    return table(files.read(found))


def table(arrays: files.Arrays) -> base.Table:
    """Makes the table of the arrays of its file.

    Args:
      arrays: those of the file.

    Returns:
      The table.

    Raises:
      JnasError: the arrays are malformed.
    """
    space = space101.NasBench101Space()
    genes = cells(arrays)
    rows = len(genes)
    columns = {}
    for metric, unit in (("val", "validation"), ("test", "test")):
        column = _measured(arrays, metric, f"{unit} accuracy, %", rows)
        if column is not None:
            columns[metric] = column
    seconds = _seconds(arrays, EPOCHS, rows)
    columns["train_seconds"] = Column(
        seconds, EPOCHS, None, seconds, "seconds of training"
    )
    params = arrays.measured("params", (rows,), kinds="iu")
    columns["params"] = Column(params, unit="parameters")
    note = (
        "seconds are those of 108 epochs of training"
        + ("" if "train_seconds_4" in arrays else ", scaled by the number of epochs,")
        + " without validation"
    )
    find = by_canonical(_canonical(genes))
    return base.Table(
        NAME,
        space,
        genes,
        {"cifar10": columns},
        find,
        note=note,
        source=str(arrays.path),
    )


def by_canonical(codes: np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """Returns the look-up by canonical form: a binary search over sorted pairs.

    Args:
      codes: int32 ``[N, 2]`` of the rows, all different.

    Returns:
      ``(genes int32 [..., 26]) -> int32 [...]``, traceable, -1 for unknown cells.

    Raises:
      JnasError: two rows are the same cell.
    """
    order = np.lexsort((codes[:, 1], codes[:, 0]))
    codes = codes[order]
    if np.any(np.all(codes[1:] == codes[:-1], axis=1)):
        raise errors.JnasError("a table has the same cell twice")
    count = len(codes)
    first, second = OnDevice(codes[:, 0].copy()), OnDevice(codes[:, 1].copy())
    rows = OnDevice(order.astype(np.int32))

    def find(genes):
        wanted = graphs.canonical(genes, jnp)
        high, low = wanted[..., 0], wanted[..., 1]

        def step(number, place):
            other = place + (1 << (count.bit_length() - 1 - number))
            at = jnp.minimum(other, count) - 1
            one, two = first()[at], second()[at]
            smaller = (one < high) | ((one == high) & (two < low))
            return jnp.where((other <= count) & smaller, other, place)

        # Number of codes that are smaller, from its highest bit down.
        start = jnp.zeros(high.shape, jnp.int32)
        place = jax.lax.fori_loop(0, count.bit_length(), step, start)
        at = jnp.minimum(place, count - 1)
        same = (first()[at] == high) & (second()[at] == low) & (place < count)
        return jnp.where(same & graphs.valid(genes), rows()[at], -1)

    # Compiled by itself, since step by step a call would take a tenth of a second.
    return jax.jit(find)


def cells(arrays: files.Arrays) -> np.ndarray:
    """Reads the cells of a file as genes: the output becomes vertex 6."""
    size = graphs.VERTICES
    adjacency = arrays.take("adjacency", (None, size, size), "iub").astype(np.int32)
    count = len(adjacency)
    ops = arrays.take("ops", (count, size), "i").astype(np.int32)
    vertices = arrays.take("num_vertices", (count,), "iu").astype(np.int32)
    names = arrays.take("op_names", (None,), "U").tolist()
    if tuple(names) != space101.OPERATIONS:
        raise errors.JnasError(
            f"array 'op_names' of {arrays.path} must be {list(space101.OPERATIONS)}, "
            f"got {names}"[:400]
        )

    def refuse(rows: Any, what: str) -> None:
        if np.any(rows):
            raise errors.JnasError(
                f"{arrays.path}, row {int(np.argmax(rows))}: {what} ({int(rows.sum())} "
                "rows in all)"
            )

    refuse((vertices < 2) | (vertices > size), f"num_vertices must be 2..{size}")
    inside = np.arange(size)[None] < vertices[:, None]
    square = inside[:, :, None] & inside[:, None, :]
    upper = np.triu(np.ones((size, size), bool), 1)[None] & square
    wrong = ((adjacency != 0) & (adjacency != 1)) | ((adjacency != 0) & ~upper)
    refuse(
        wrong.any((1, 2)),
        "the matrix is not of 0 and 1 above the diagonal, within the cell's vertices",
    )
    inner = (np.arange(size)[None] > 0) & (
        np.arange(size)[None] < vertices[:, None] - 1
    )
    good = np.where(inner, (ops >= 0) & (ops < len(names)), ops == -1)
    refuse(~good.all(1), "ops must be numbers of op_names for inner vertices, else -1")
    # The column of the output moves to the end; vertices in between have no edges.
    last = vertices - 1
    into_output = np.take_along_axis(adjacency, last[:, None, None], axis=2)[..., 0]
    matrix = adjacency * (np.arange(size)[None, None] < last[:, None, None])
    matrix[:, :, -1] = into_output
    genes = np.zeros((count, len(graphs.CARDINALITIES)), np.int32)
    for bit, (source, target) in enumerate(graphs.EDGES):
        genes[:, bit] = matrix[:, source, target]
    genes[:, len(graphs.EDGES) :] = np.where(inner, ops, 0)[:, 1:-1]
    if not count:
        raise errors.JnasError(f"{arrays.path} has no cells")
    refuse(~graphs.valid(genes), "this is no valid cell")
    _check_hashes(arrays, genes)
    return genes


def _check_hashes(arrays: files.Arrays, genes: np.ndarray) -> None:
    """Compares some hashes with those of the file."""
    stored = arrays.take("module_hash", (len(genes),), "V")
    space = space101.NasBench101Space()
    for row in np.unique(np.linspace(0, len(genes) - 1, _CHECKED).astype(int)):
        told, right = stored[row].tobytes().hex(), space.hash(genes[row])
        if told != right:
            raise errors.JnasError(
                f"array 'module_hash' of {arrays.path} is not that of the cell in row "
                f"{row} (got {told}, expected {right}): its rows are mixed up"
            )


def _canonical(genes: np.ndarray) -> np.ndarray:
    """Canonical forms on the host, in pieces that fit its memory."""
    pieces = range(0, len(genes), 20_000)
    return np.concatenate([graphs.canonical(genes[i : i + 20_000]) for i in pieces])


def _measured(arrays: files.Arrays, metric: str, unit: str, rows: int) -> Column | None:
    """A column of accuracies, in percent."""
    means, seeds = [], []
    known = []
    for epochs in EPOCHS:
        name = f"{metric}_acc_{epochs}"
        runs = None
        if f"{name}_seeds" in arrays:
            runs = arrays.measured(f"{name}_seeds", (rows, None), 1)
            runs = 100 * runs.astype(np.float64)
        # What must be there is asked for, so that the error names it.
        wanted = runs is None and (metric, epochs) == ("val", EPOCHS[-1])
        if name in arrays or wanted:
            means.append(100 * arrays.measured(name, (rows,), 1).astype(np.float64))
        elif runs is not None:
            means.append(base.mean(runs[..., None])[:, 0])
        else:
            continue
        seeds.append(runs)
        known.append(epochs)
    if not known:
        return None
    joined = None
    if any(runs is not None for runs in seeds):
        most = max(runs.shape[1] for runs in seeds if runs is not None)
        joined = np.full((rows, most, len(known)), np.nan, np.float32)
        for place, runs in enumerate(seeds):
            if runs is not None:
                joined[:, : runs.shape[1], place] = runs
    epochs = tuple(known)
    seconds = _seconds(arrays, epochs, rows)
    return Column(np.stack(means, -1), epochs, joined, seconds, unit)


def _seconds(arrays: files.Arrays, epochs: tuple[int, ...], rows: int) -> np.ndarray:
    """Seconds of training ``[N, F]``, scaled from 108 epochs where there are none."""
    longest = arrays.measured(f"train_seconds_{EPOCHS[-1]}", (rows,))
    columns = []
    for number in epochs:
        name = f"train_seconds_{number}"
        if name in arrays:
            columns.append(arrays.measured(name, (rows,)).astype(np.float64))
        else:
            columns.append(longest.astype(np.float64) * number / EPOCHS[-1])
    return np.stack(columns, -1)
