"""The table that jnas ships: all 125 cells of a small space, trained from scratch.

``benchmarks/cells125.py`` made it; ``docs/tables.md`` has its setting and figures. The
operations, the simplification of cells and the network are those of NAS-Bench-201
(Dong and Yang, ICLR 2020); the measurements are our own.

The file ``cells125.npz`` has a row for each cell; ``S`` seeds, ``F`` epochs:

* ``genes`` int ``[125, 3]``; ``seeds`` int ``[S]``;
* ``val``, ``test``, ``train`` int ``[125, S, F]``, numbers of images that are
  classified right after each epoch; of the training images, while learned from;
* ``seconds``, ``eval_seconds`` float ``[125, S, F]``, processor time of one core that
  the epoch's steps took, and classifying the validation images after it;
* ``params``, ``multiply_adds`` int ``[125]`` of the final networks;
* ``meta``, a text of JSON: setting, numbers of images, versions, device, command.
"""

import functools
import importlib.resources
import itertools
import json
import os
from typing import Any

import numpy as np

from jnas import errors, spaces
from jnas.spaces import text
from jnas.tabular import base, files
from jnas.tabular.classes201 import term
from jnas.tabular.columns import Column

__all__ = ["cells125", "cells125_meta", "cells125_space"]

NAME = "cells125"
FILE = "cells125.npz"
DATASET = "fashion_mnist"
NOTE = (
    "small networks trained for seconds: a table for trying out, not a result; "
    "seconds are processor time of one core, median of the seeds, training steps only"
)
COUNTED = {"val": "validation accuracy, %", "test": "test accuracy, %"}


@functools.cache
def cells125_space() -> spaces.Space:
    """Returns the space of the table: NAS-Bench-201's with a node less.

    One cell of one input (state 0) and two nodes, the last of which is the output, with
    an edge from every earlier state and NAS-Bench-201's 5 operations.

    Returns:
      The space, of 5^3 = 125 candidates.

    Example:
      >>> cells125_space().size, cells125_space().group("cell").edge_names
      (125, ('1<-0', '2<-0', '2<-1'))
    """
    group = spaces.Group(
        name="cell",
        operations=text.NASBENCH201_OPERATIONS,
        edges=((0, 1), (0, 2), (1, 2)),
        inputs=1,
        concat=(2,),
    )
    return spaces.Space(NAME, (group,))


def cells125(path: str | os.PathLike[str] | None = None) -> base.Table:
    """Reads the table that is shipped with jnas: no other file is needed.

    The dataset ``fashion_mnist`` has the metrics ``val`` and ``test``, in percent, of
    every seed after every epoch (``val_1``, ``val_2``, ...), ``train_seconds``,
    ``params`` and ``flops`` (multiply-adds). A query with ``noise="sample"`` draws one
    of the seeds.

    An early epoch is an early point of one curve, whose learning rate falls to 0 at the
    end of the last epoch; it is no shorter training of its own, unlike in
    NAS-Bench-201. Costs are seconds of training; see `cells125_meta` for the device.

    `Table.facts` has ``class``, equal for cells that are the same by the rule of
    NAS-Bench-201 (see `jnas.tabular.classes`), and ``connected``.

    Args:
      path: another file that ``benchmarks/cells125.py`` wrote, or its folder.

    Returns:
      The table; the space is `cells125_space`.

    Raises:
      JnasError: the given file is missing or malformed.

    Example:
      >>> table = cells125()
      >>> len(table), table.metrics("fashion_mnist")[:2]
      (125, ('val', 'val_1'))
    """
    return table(_read(path))


def cells125_meta(path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """How the table was made.

    Args:
      path: another file that ``benchmarks/cells125.py`` wrote, or its folder.

    Returns:
      ``setting`` (options of the benchmark, with the numbers of images), ``command``,
      ``environment`` (versions and device), ``commit``, ``data``.

    Raises:
      JnasError: the given file is missing or malformed.

    Example:
      >>> cells125_meta()["setting"]["side"]
      8
    """
    return _meta(_read(path))


def _read(path: str | os.PathLike[str] | None) -> files.Arrays:
    if path is not None:
        given = files.find([FILE], path)
        if given is None:
            raise errors.JnasError(f"there is no file {path}, or no {FILE} in it")
        return files.read(given)
    shipped = importlib.resources.files("jnas.tabular") / FILE
    with importlib.resources.as_file(shipped) as found:
        return files.read(found)


def _meta(arrays: files.Arrays) -> dict[str, Any]:
    try:
        meta = json.loads(str(arrays.take("meta", (), "U")))
        counts = {name: int(meta["setting"][name]) for name in ("validation", "test")}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise errors.JnasError(
            f"array 'meta' of {arrays.path} must be JSON with a setting of so many "
            f"images: {type(error).__name__} {error}"
        ) from error
    if min(counts.values()) < 1:
        raise errors.JnasError(f"{arrays.path} tells of {counts} images")
    return meta


def table(arrays: files.Arrays) -> base.Table:
    """Makes the table of the arrays of its file.

    Args:
      arrays: those of the file.

    Returns:
      The table.

    Raises:
      JnasError: the arrays are malformed.
    """
    space = cells125_space()
    setting = _meta(arrays)["setting"]
    genes = arrays.take("genes", (space.size, len(space.genes)), "iu").astype(np.int32)
    number = len(arrays.take("seeds", (None,), "iu"))
    shape = (len(genes), number, arrays.take("val", (None,) * 3, "iu").shape[2])
    spent = arrays.measured("seconds", shape).astype(np.float64)
    # Medians of sums, which grow as every seed's do.
    seconds = np.median(np.cumsum(spent, axis=-1), axis=1)
    epochs = tuple(range(1, shape[2] + 1))
    columns = {}
    for name, unit in COUNTED.items():
        images = int(setting["validation" if name == "val" else name])
        right = arrays.measured(name, shape, images, "iu")
        seeds = right.astype(np.float64) * (100 / images)
        columns[name] = Column(None, epochs, seeds, seconds, unit)
    columns["train_seconds"] = Column(
        seconds, epochs, None, seconds, "seconds of training"
    )
    for name, array in (("params", "params"), ("flops", "multiply_adds")):
        found = arrays.measured(array, (len(genes),), kinds="iu")
        unit = "parameters" if name == "params" else "multiply-adds"
        columns[name] = Column(found, unit=unit)
    return base.Table(
        NAME,
        space,
        genes,
        {DATASET: columns},
        base.by_code(space.genes, genes),
        note=NOTE,
        facts={"class": classes(genes), "connected": connected(genes)},
        source=str(arrays.path),
    )


def classes(genes: np.ndarray) -> np.ndarray:
    """The isomorphism class of cells: NAS-Bench-201's official rule.

    What comes through ``none`` or from a node that is zero is a zero (``#``),
    ``skip_connect`` passes on, zeros stay in sums, and the order in sums is nothing.

    Args:
      genes: integers ``[N, 3]``.

    Returns:
      int32 ``[N]``, numbers of classes from 0 in the order of the first gene vector.

    Example:
      >>> classes(np.array([[0, 0, 0], [3, 0, 0], [0, 0, 3], [3, 0, 1], [0, 3, 0]]))
      array([0, 0, 0, 3, 3], dtype=int32)
    """
    group = cells125_space().group("cell")
    numbers: dict[str, int] = {}
    by_genes = {}
    for vector in itertools.product(range(group.num_operations), repeat=3):
        first, direct, second = (group.operations[gene] for gene in vector)
        terms = [term(direct, "0"), term(second, term(first, "0"))]
        written = "+".join(sorted(terms))
        by_genes[vector] = numbers.setdefault(written, len(numbers))
    return np.array([by_genes[tuple(row)] for row in genes.tolist()], np.int32)


def connected(genes: np.ndarray) -> np.ndarray:
    """Which cells have a path from input to output; 9 of 125 have none.

    Args:
      genes: integers ``[N, 3]``.

    Returns:
      Booleans ``[N]``.

    Example:
      >>> connected(np.array([[3, 0, 0], [1, 0, 2], [0, 4, 0]])).tolist()
      [False, True, True]
    """
    first, direct, second = (genes != 0).T
    return direct | (first & second)
