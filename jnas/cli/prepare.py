"""``jnas prepare``: a set for tensorflow-datasets, without TensorFlow."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["Prepare", "run"]


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Prepare CIFAR-10 or CIFAR-100 for tensorflow-datasets, without TensorFlow.

    Reads the official archive and writes what tensorflow_datasets.data_source then
    reads as plain cifar10 or cifar100. jnas itself also reads the archive directly.
    """

    name: str
    """cifar10 or cifar100."""
    archive: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """The official archive (cifar-10-python.tar.gz, cifar-10-binary.tar.gz, ...) or its
    unpacked folder; by default $JNAS_DATA and the usual places are searched."""
    data_dir: Path | None = None
    """The data folder of tensorflow-datasets to write into; by default the user's jnas
    folder, where jnas finds the set."""


def run(args: Prepare) -> None:
    """Prepares the set.

    Args:
      args: which set, from what, where to.

    Raises:
      JnasError: the archive cannot be used or the folder not be written.
    """
    from jnas.data import builders, folders

    data_dir = folders.user_folder() if args.data_dir is None else args.data_dir
    folder = builders.prepare(args.name, args.archive, data_dir)
    print(
        f"wrote {folder}; read it with jnas (--data {args.name} --data-dir {data_dir}) "
        f"or tensorflow_datasets.data_source({args.name!r}, "
        f"data_dir={str(data_dir)!r}, download=False)"
    )
