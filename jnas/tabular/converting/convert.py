"""Which converter reads what, and the file that comes out."""

import os
import pathlib
from collections.abc import Callable

from jnas import errors
from jnas.tabular import files, table101, table201
from jnas.tabular.converting import nats, official101

__all__ = ["convert"]

NAMES = ("nasbench101", "nasbench201")
Progress = Callable[[int, int], None]


def convert(
    name: str,
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    workers: int = 1,
    partial: bool = False,
    progress: Progress | None = None,
) -> pathlib.Path:
    """Converts an official release to the compact file that jnas reads.

    What can be converted:

    * ``nasbench201``: the folder ``NATS-tss-v1_0-...-simple`` of NATS-Bench;
    * ``nasbench101``: ``nasbench_only108.tfrecord`` or ``nasbench_full.tfrecord``;
    * either: a compact ``.npz``, which is checked and copied, for ``nasbench201`` also
      the one of latencies.

    Args:
      name: of the table.
      path: the official file or folder.
      folder: where to write, by default the folder of tables in the user's data folder,
        where jnas finds it.
      workers: number of processes that read (NATS-Bench's 15,625 files).
      partial: whether cells may be missing.
      progress: called with what is done and the total.

    Returns:
      The file that was written, complete or not at all.

    Raises:
      JnasError: an unknown name, or a file that is missing or malformed.
    """
    if name not in NAMES:
        raise errors.unknown_name("table to convert", name, NAMES)
    source = pathlib.Path(path).expanduser()
    if not source.exists():
        raise errors.JnasError(f"there is no {source}")
    if isinstance(workers, bool) or workers < 1:
        raise errors.JnasError(f"workers must be >= 1, got {workers}")
    target = files.default_folder() if folder is None else pathlib.Path(folder)
    target = target.expanduser()
    if target.exists() and not target.is_dir():
        raise errors.JnasError(f"{target} is no folder")
    if source.suffix == ".npz":
        arrays = files.read(source)
        if name == "nasbench101":
            file = table101.FILES[0]
            table101.table(arrays)
        elif "latency_ms" in arrays:
            file = table201.LATENCY_FILE
            table201.latencies(arrays, table201.cells(arrays))
        else:
            file = table201.FILE
            table201.table(arrays)
        return files.write(target / file, arrays.arrays)
    if name == "nasbench201":
        found = nats.read(source, workers=workers, partial=partial, progress=progress)
        table201.table(files.Arrays(source, found))
        return files.write(target / table201.FILE, found)
    found = official101.read(source, progress=progress)
    table101.table(files.Arrays(source, found))
    return files.write(target / table101.FILES[0], found)
