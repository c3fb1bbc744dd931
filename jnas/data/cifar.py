"""CIFAR-10 and CIFAR-100 from their official archives, python or binary version.

The archives (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html) are read
where they lie, packed or unpacked; nothing is unpacked to the disk. The python version
consists of pickles, which are read as data and never run (`jnas.data.pickles`).
Checksums are compared with the published ones; a difference is a warning and stands in
the dataset's ``source``, for a repacked archive is as good.

Split, as in DARTS: the 50,000 training images halved in order, the 10,000 test images.
Augmentation: pad 4 and crop, flip.
"""

import logging
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jnas import errors
from jnas.data import archives, base, checks, cifar_files, folders, pickles, splits

__all__ = ["AUGMENT", "Content", "find", "is_folder", "load", "read"]

AUGMENT = base.Augment(crop=4, flip=True)
SIDE = 32
PIXELS = 3 * SIDE * SIDE
_log = logging.getLogger("jnas")


class Content(NamedTuple):
    """What an archive holds.

    Attributes:
      name: ``"cifar10"`` or ``"cifar100"``.
      image: uint8 `[N, 32, 32, 3]` of ``"train"`` and ``"test"``, in official order.
      label: int32 `[N]` likewise.
      coarse: the superclasses of CIFAR-100 likewise; empty for CIFAR-10.
      class_names: of the labels, or None where the archive has none.
      coarse_names: likewise.
      source: one line: which archive, and whether its checksum is the published one.
    """

    name: str
    image: dict[str, np.ndarray]
    label: dict[str, np.ndarray]
    coarse: dict[str, np.ndarray]
    class_names: tuple[str, ...] | None
    coarse_names: tuple[str, ...] | None
    source: str


def find(
    name: str, data_dir: str | os.PathLike[str] | None = None
) -> pathlib.Path | None:
    """Returns the first official archive of a set, or its unpacked folder.

    Args:
      name: ``"cifar10"`` or ``"cifar100"``.
      data_dir: the only place to search; by default see `jnas.data.folders`.

    Returns:
      Its path, or None.
    """
    for folder in folders.candidates(name, data_dir):
        for layout in cifar_files.LAYOUTS[name]:
            for path in (folder / layout.archive, folder / layout.folder):
                if path.exists():
                    return path
    return None


def not_found(name: str, data_dir: str | os.PathLike[str] | None) -> errors.JnasError:
    """Builds the error that names all ways to bring the set."""
    searched = ", ".join(map(str, folders.candidates(name, data_dir)))
    known = " or ".join(layout.archive for layout in cifar_files.LAYOUTS[name])
    return errors.JnasError(
        f"{name} is not on this machine (searched {searched}): put the official "
        f"{known} (or its unpacked folder) there or give its path; or give a data_dir "
        "where tensorflow-datasets (or jnas prepare) has prepared it as array_record; "
        "or set JNAS_DATA"
    )


def load(path: str | os.PathLike[str], name: str | None = None) -> base.Dataset:
    """Loads CIFAR-10 or CIFAR-100 from an official archive or its unpacked folder.

    Args:
      path: of the archive or folder.
      name: which of the two it must be; None: what it is.

    Returns:
      The dataset, images `[N, 32, 32, 3]`, 10 or 100 (fine) classes.

    Raises:
      JnasError: it is not one of the official layouts, or damaged.
    """
    content = read(path, name)
    parts = {}
    for part in ("train", "test"):
        parts[part] = base.Split(content.image[part], content.label[part])
    train, validation = splits.halve(parts["train"])
    return splits.assemble(
        content.name,
        train,
        validation,
        parts["test"],
        num_classes=cifar_files.CLASSES[content.name],
        augment=AUGMENT,
        class_names=content.class_names,
        source=f"{content.source} (official test; training set halved in order)",
    )


def read(path: str | os.PathLike[str], name: str | None = None) -> Content:
    """Reads everything that an official archive or its unpacked folder holds.

    Args:
      path: of the archive or folder.
      name: which of the two sets it must be; None: what it is.

    Returns:
      The contents.

    Raises:
      JnasError: it is not one of the official layouts, or damaged.
    """
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise errors.JnasError(f"there is no file or folder {path}")
    allowed = {name: cifar_files.LAYOUTS[name]} if name else cifar_files.LAYOUTS
    wanted = {
        file
        for layouts in allowed.values()
        for layout in layouts
        for file in _files(layout)
    }
    found = archives.members(path, wanted)
    for kind, layouts in allowed.items():
        for layout in layouts:
            if {*layout.train, layout.test} <= set(found):
                return _content(kind, layout, path, found)
    partly = [file for file in sorted(found) if file in wanted]
    raise errors.JnasError(
        f"{path} is no complete archive of {name or 'CIFAR-10 or CIFAR-100'} (found "
        f"{', '.join(partly) or 'none of its files'}): give the official "
        f"{' or '.join(x.archive for xs in allowed.values() for x in xs)}, or its "
        "unpacked folder"
    )


def is_folder(path: pathlib.Path) -> bool:
    """Whether a folder has a file that only an unpacked CIFAR archive has."""
    marks = ("data_batch_1", "data_batch_1.bin", "fine_label_names.txt")
    if any((path / mark).is_file() for mark in marks):
        return True
    return all((path / mark).is_file() for mark in ("train", "test", "meta"))


def _files(layout: cifar_files.Layout) -> set[str]:
    return {*layout.train, layout.test, *(file for file, _ in layout.names)}


def _content(
    name: str, layout: cifar_files.Layout, path: pathlib.Path, found: dict[str, bytes]
) -> Content:
    """Puts the files of one layout together."""
    reader = _read_binary if layout.binary else _read_python
    image: dict[str, np.ndarray] = {}
    labels: dict[str, list[np.ndarray]] = {}
    for part, files in (("train", layout.train), ("test", (layout.test,))):
        pieces = [reader(found[file], layout, f"{path}: {file}") for file in files]
        pixels = np.concatenate([piece[0] for piece in pieces])
        image[part] = np.ascontiguousarray(
            pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        )
        labels[part] = [
            np.concatenate([piece[1][kind] for piece in pieces])
            for kind in range(len(layout.labels))
        ]
        checks.check_range(
            labels[part][0], cifar_files.CLASSES[name], f"{path}: {part}"
        )
        if len(labels[part]) > 1:
            what = f"{path}: coarse {part}"
            checks.check_range(labels[part][1], cifar_files.COARSE_CLASSES, what)
    names = [_names(found, file, key, path) for file, key in layout.names]
    for kind, number in (
        (0, cifar_files.CLASSES[name]),
        (1, cifar_files.COARSE_CLASSES),
    ):
        known = names[kind] if kind < len(names) else None
        if known is not None and len(known) != number:
            raise errors.JnasError(
                f"{path} must name {number} classes, got {len(known)}: fetch it again"
            )
    return Content(
        name,
        image,
        {part: kinds[0] for part, kinds in labels.items()},
        {part: kinds[1] for part, kinds in labels.items() if len(kinds) > 1},
        names[0] or (cifar_files.NAMES if name == "cifar10" else None),
        names[1] if len(names) > 1 else None,
        f"{path.name}, {_verified(layout, path, found)}",
    )


def _verified(
    layout: cifar_files.Layout, path: pathlib.Path, found: dict[str, bytes]
) -> str:
    """Compares checksums; returns what the source line says of them."""
    if path.is_file() and archives.md5(path) == layout.md5:
        return "checksum as published"
    sums = {file: archives.md5(found[file]) for file in layout.md5s}
    if layout.md5s and sums == layout.md5s:
        return "checksums of the files as published"
    if path.is_dir() and not layout.md5s:
        return "no checksums are published for the unpacked files"
    _log.warning(
        "%s does not have the published checksum: it was repacked or changed", path
    )
    return "checksum not the published one"


def _read_python(
    content: bytes, layout: cifar_files.Layout, what: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Reads one batch of the python version."""
    stored = _with_text_keys(pickles.read(content, what), what)
    missing = [key for key in ("data", *layout.labels) if key not in stored]
    if missing:
        raise errors.JnasError(
            f"{what} must hold data and {', '.join(layout.labels)}, got "
            f"{', '.join(map(str, stored)) or 'nothing'}"
        )
    data = stored["data"]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2:
        raise errors.JnasError(f"{what}: data must be a uint8 array [N, {PIXELS}]")
    labels = []
    for key in layout.labels:
        values = checks.as_labels(np.asarray(stored[key]), f"{what}: {key}")
        if len(values) != len(data):
            raise errors.JnasError(
                f"{what} must have as many {key} as images ({len(data)}), got "
                f"{len(values)}: fetch it again"
            )
        labels.append(values)
    if not len(data) or data.shape[1] != PIXELS:
        raise errors.JnasError(
            f"{what}: data must be [N, {PIXELS}], got {list(data.shape)}"
        )
    return data, labels


def _read_binary(
    content: bytes, layout: cifar_files.Layout, what: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Reads one file of the binary version: label bytes, then pixels, per image."""
    count = len(layout.labels)
    if not content or len(content) % (count + PIXELS):
        raise errors.JnasError(
            f"{what} must hold records of {count + PIXELS} bytes, got {len(content)} "
            "bytes in all: fetch it again"
        )
    table = np.frombuffer(content, np.uint8).reshape(-1, count + PIXELS)
    # The class is next to the pixels, the superclass before it.
    labels = [table[:, count - 1 - kind].astype(np.int32) for kind in range(count)]
    return table[:, count:], labels


def _names(
    found: dict[str, bytes], file: str, key: str, path: pathlib.Path
) -> tuple[str, ...] | None:
    """Reads class names, where the archive has them."""
    if file not in found:
        return None
    if not key:
        lines = found[file].decode("utf-8", "replace").split("\n")
        return tuple(line.strip() for line in lines if line.strip())
    what = f"{path}: {file}"
    names = _with_text_keys(pickles.read(found[file], what), what).get(key)
    if not isinstance(names, list) or not all(
        isinstance(name, str | bytes) for name in names
    ):
        raise errors.JnasError(f"{what} must hold a list {key} of names")
    return tuple(_text(name) for name in names)


def _with_text_keys(stored: Any, what: str) -> dict[str, Any]:
    if not isinstance(stored, dict):
        raise errors.JnasError(
            f"{what} must hold a dictionary, got {type(stored).__name__}"
        )
    return {_text(key): value for key, value in stored.items()}


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
