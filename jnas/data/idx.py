"""Fashion-MNIST from its original idx files, and the reader for that format.

The files (Xiao, Rasul & Vollgraf 2017, https://arxiv.org/abs/1708.07747) are looked
for as `jnas.data.folders` says; Debian and Ubuntu ship them as the package
``dataset-fashion-mnist``. Split: the official 60,000 training images halved in order
as DARTS does with CIFAR-10, the official 10,000 test images. Augmentation as usual
for the set (e.g. Zhong et al. 2017, https://arxiv.org/abs/1708.04896): pad 4 and crop,
flip.

idx: two zero bytes, a type (8 = unsigned byte), the rank, one big-endian uint32 per
axis, then the values.
"""

import gzip
import math
import os
import pathlib
import struct
import zlib

import numpy as np

from jnas import errors
from jnas.data import base, checks, folders, splits

__all__ = ["load_fashion_mnist", "read_idx"]

PACKAGE = "dataset-fashion-mnist"
SYSTEM_FOLDERS = ("/usr/share/datasets/fashion-mnist",)
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# File name, expected shape.
FILES = {
    "train images": ("train-images-idx3-ubyte", (60_000, 28, 28)),
    "train labels": ("train-labels-idx1-ubyte", (60_000,)),
    "test images": ("t10k-images-idx3-ubyte", (10_000, 28, 28)),
    "test labels": ("t10k-labels-idx1-ubyte", (10_000,)),
}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads one idx file of unsigned bytes, gzipped when it ends in ``.gz``.

    Args:
      path: the file.

    Returns:
      uint8, with the rank and shape the file declares.

    Raises:
      JnasError: in one line, when the file is missing, truncated, too long, not
        gzip, or not idx of unsigned bytes.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "labels")
      ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
      ...     read_idx(path).tolist()
      [7, 8, 9]
    """
    path = pathlib.Path(path)
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise errors.JnasError(
            f"cannot unpack {path}: {error}: the file is damaged or incomplete, "
            "fetch it again"
        ) from error
    except OSError as error:
        raise errors.JnasError(
            f"cannot read {path}: {error.strerror or error}"
        ) from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != 8:
        raise errors.JnasError(
            f"{path} is not an idx file of unsigned bytes: it must start with the "
            f"bytes 0 0 8, got {' '.join(map(str, content[:3])) or 'an empty file'}"
        )
    rank = content[3]
    if rank > 4:
        raise errors.JnasError(
            f"{path} is damaged: images have at most 4 dimensions, its header says "
            f"{rank}: fetch it again"
        )
    start = 4 + 4 * rank
    if len(content) < start:
        raise errors.JnasError(
            f"{path} is damaged: it must have a header of {start} bytes, got "
            f"{len(content)} bytes in all: fetch it again"
        )
    shape = struct.unpack(f">{rank}I", content[4:start])
    expected = math.prod(shape)
    if len(content) - start != expected:
        raise errors.JnasError(
            f"{path} is damaged: its header promises {expected} bytes (shape "
            f"{list(shape)}), got {len(content) - start}: fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def load_fashion_mnist(
    data_dir: str | os.PathLike[str] | None = None,
) -> base.Dataset:
    """Loads Fashion-MNIST.

    Args:
      data_dir: the folder with the four files (or with a folder ``fashion-mnist``).

    Returns:
      The dataset, images `[N, 28, 28, 1]`, 10 classes.

    Raises:
      JnasError: when the files are not found or damaged.
    """
    searched = folders.candidates("fashion-mnist", data_dir, SYSTEM_FOLDERS)
    paths = _find(searched)
    arrays = {}
    for part, (_, shape) in FILES.items():
        arrays[part] = read_idx(paths[part])
        if arrays[part].shape != shape:
            raise errors.JnasError(
                f"{paths[part]} must hold the {list(shape)} values of Fashion-MNIST, "
                f"got shape {list(arrays[part].shape)}: fetch it again"
            )
    whole = base.Split(
        checks.as_images(arrays["train images"]),
        checks.as_labels(arrays["train labels"]),
    )
    train, validation = splits.halve(whole)
    return splits.assemble(
        "fashion_mnist",
        train,
        validation,
        base.Split(
            checks.as_images(arrays["test images"]),
            checks.as_labels(arrays["test labels"]),
        ),
        num_classes=10,
        augment=base.Augment(crop=4, flip=True),
        class_names=CLASS_NAMES,
        source="Fashion-MNIST idx files (official test; training set halved in order)",
    )


def _find(searched: list[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Returns the four paths from the first folder that has any of them."""
    for folder in searched:
        paths, missing = {}, []
        for part, (name, _) in FILES.items():
            for path in (folder / f"{name}.gz", folder / name):
                if path.is_file():
                    paths[part] = path
                    break
            else:
                missing.append(f"{name}[.gz]")
        if paths and missing:
            raise errors.JnasError(
                f"{folder} has only some of the Fashion-MNIST files: add "
                f"{', '.join(missing)}"
            )
        if paths:
            return paths
    raise errors.JnasError(
        "Fashion-MNIST is not on this machine (searched "
        f"{', '.join(map(str, searched))}): install the Debian/Ubuntu package "
        f"{PACKAGE}, or put the four idx .gz files into one of these folders, or set "
        "JNAS_DATA"
    )
