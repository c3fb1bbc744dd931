"""NAS-Bench-101 from its official TFRecord file.

Each record is JSON: ``[module_hash, epochs, adjacency, operations, metrics]``, the
matrix as a text of 0 and 1 row by row, the operations joined by commas, and the metrics
a base64 text of the protocol buffer ``ModelMetrics``: evaluations in field 1, trainable
parameters in field 2. An evaluation has doubles: the epoch in field 1, seconds of
training in 2, and accuracies (fractions) on training, validation and test images in 3,
4 and 5. There are three evaluations: at the start, half way and at the end of training,
of which the last is taken.

The layout is the one in the benchmark's code (google-research/nasbench, nasbench/api.py
and nasbench/lib/model_metrics.proto). This reader was checked against files made after
that code, not against the release itself.
"""

import array
import base64
import json
import math
import pathlib
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jnas import errors
from jnas.tabular import base, graphs, space101, table101
from jnas.tabular.converting import tfrecord

__all__ = ["fields", "read"]

# Progress is told this often.
_EVERY = 1000


class _Run(NamedTuple):
    """The last evaluation of one run."""

    seconds: float
    val: float
    test: float
    parameters: int


def read(
    path: pathlib.Path, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, np.ndarray]:
    """Reads the file and recomputes the hash of every cell in it.

    Args:
      path: ``nasbench_only108.tfrecord`` or ``nasbench_full.tfrecord``.
      progress: called with the number of bytes read and the total.

    Returns:
      The arrays of the compact file; see `jnas.tabular.table101`.

    Raises:
      JnasError: the file is no such one or damaged.
    """
    size = path.stat().st_size
    rows: dict[str, int] = {}
    specs: list[space101.Spec] = []
    # Of each run: row, epochs, parameters; seconds and two accuracies.
    whole, real = array.array("q"), array.array("d")
    for number, (content, end) in enumerate(tfrecord.records(path)):
        try:
            digest, epochs, spec, run = _parsed(content, rows)
        except (ValueError, TypeError, KeyError, IndexError, struct.error) as error:
            if isinstance(error, errors.JnasError):
                reason = str(error)
            else:
                reason = f"{type(error).__name__}: {error}"
            raise errors.JnasError(
                f"{path}, record {number}, has another layout than NAS-Bench-101's "
                f"({' '.join(reason.split())[:200]})"
            ) from error
        if spec is not None:
            rows[digest] = len(specs)
            specs.append(spec)
        whole.extend((rows[digest], epochs, run.parameters))
        real.extend((run.seconds, run.val, run.test))
        if progress is not None and number % _EVERY == 0:
            progress(end, size)
    if not specs:
        raise errors.JnasError(f"{path} has no records")
    if progress is not None:
        progress(size, size)
    return _arrays(
        path,
        rows,
        specs,
        np.array(whole, np.int64).reshape(-1, 3),
        np.array(real).reshape(-1, 3),
    )


def _parsed(
    content: bytes, known: dict[str, int]
) -> tuple[str, int, space101.Spec | None, _Run]:
    """One record; the cell is taken apart and verified only when it is new."""
    digest, epochs, matrix, operations, metrics = json.loads(content)
    if epochs not in table101.EPOCHS or isinstance(epochs, bool):
        raise ValueError(f"epochs {epochs!r}")
    run = _metrics(base64.b64decode(metrics, validate=True))
    if digest in known:
        return digest, epochs, None, run
    if len(bytes.fromhex(digest)) != 16:
        raise ValueError(f"the hash {digest!r}")
    side = math.isqrt(len(matrix))
    if side * side != len(matrix) or set(matrix) - {"0", "1"}:
        raise ValueError(f"the matrix {matrix!r}")
    adjacency = np.array([int(bit) for bit in matrix], np.int8).reshape(side, side)
    space = space101.NasBench101Space()
    spec = space.prune(space101.Spec(adjacency, tuple(operations.split(","))))
    space.encode(spec)  # raises where it is no valid cell
    right = space.hash(spec)
    if right != digest:
        raise ValueError(f"the hash is {digest}, but that of its cell is {right}")
    return digest, epochs, spec, run


def _metrics(content: bytes) -> _Run:
    evaluations = []
    parameters = -1
    for field, value in fields(content):
        if field == 1:
            evaluations.append(dict(fields(value)))
        elif field == 2:
            parameters = value
    if len(evaluations) != 3 or parameters < 0:
        raise ValueError(f"{len(evaluations)} evaluations, {parameters} parameters")
    last = evaluations[-1]
    return _Run(last[2], last[4], last[5], parameters)


def fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer: numbers, doubles and byte strings.

    Args:
      content: the message.

    Yields:
      The number of a field and its value: an int of a varint, a float of 8 bytes, or
      bytes of what has a length.

    Raises:
      ValueError: the message is damaged or has fields of another kind.

    Example:
      >>> list(fields(bytes([0x10, 0xAC, 0x02, 0x0A, 0x01, 0x41])))
      [(2, 300), (1, b'A')]
    """
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(content, place)
        elif kind == 1:
            (value,) = struct.unpack_from("<d", content, place)
            place += 8
        elif kind == 2:
            length, place = _varint(content, place)
            value = content[place : place + length]
            place += length
            if len(value) < length:
                raise ValueError("a message that is cut off")
        else:
            raise ValueError(f"a field of the kind {kind}")
        yield key >> 3, value


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than ten bytes")


def _arrays(
    path: pathlib.Path,
    rows: dict[str, int],
    specs: list[space101.Spec],
    whole: np.ndarray,
    real: np.ndarray,
) -> dict[str, np.ndarray]:
    count, size = len(specs), graphs.VERTICES
    adjacency = np.zeros((count, size, size), np.uint8)
    ops = np.full((count, size), -1, np.int8)
    vertices = np.zeros(count, np.int8)
    for row, spec in enumerate(specs):
        side = len(spec.operations)
        adjacency[row, :side, :side] = spec.adjacency
        inner = [space101.OPERATIONS.index(name) for name in spec.operations[1:-1]]
        ops[row, 1 : side - 1] = inner
        vertices[row] = side
    params = np.zeros(count, np.int32)
    params[whole[:, 0]] = whole[:, 2]
    if np.any(params[whole[:, 0]] != whole[:, 2]):
        raise errors.JnasError(f"{path} tells different parameters of one cell")
    digests = b"".join(bytes.fromhex(digest) for digest in rows)
    arrays: dict[str, np.ndarray] = {
        "adjacency": adjacency,
        "ops": ops,
        "num_vertices": vertices,
        "op_names": np.array(space101.OPERATIONS),
        "params": params,
        "module_hash": np.frombuffer(digests, "V16"),
    }
    for epochs in table101.EPOCHS:
        chosen = whole[:, 1] == epochs
        if not chosen.any():
            continue
        row = whole[chosen, 0]
        number = _repeats(row, count)
        shape = (count, number.max() + 1)
        for i, name in enumerate(("train_seconds", "val_acc", "test_acc")):
            runs = np.full(shape, np.nan)
            runs[row, number] = real[chosen, i]
            mean = base.mean(runs[..., None])[:, 0].astype(np.float32)
            arrays[f"{name}_{epochs}"] = mean
            if name != "train_seconds":
                arrays[f"{name}_{epochs}_seeds"] = runs.astype(np.float32)
    if f"val_acc_{table101.EPOCHS[-1]}" not in arrays:
        raise errors.JnasError(f"{path} has no runs of 108 epochs")
    return arrays


def _repeats(rows: np.ndarray, count: int) -> np.ndarray:
    """The number of each run among those of its row, in the order of the file."""
    order = np.argsort(rows, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])
    numbers = np.empty(len(rows), np.int64)
    numbers[order] = np.arange(len(rows)) - starts[rows[order]]
    return numbers
