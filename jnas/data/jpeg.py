"""Sets of encoded images in one ``.npz`` file: JPEG (or PNG) bytes end to end.

The file holds, for the parts ``train`` and ``test``: ``{part}_jpeg``, the bytes of all
images one after the other (uint8); ``{part}_offsets``, where each begins, with the
end of the last (`N + 1` integers); and ``{part}_labels`` (`N` integers). It may also
hold ``class_names`` (`K` texts). An eighth of
the size of the pixels, and like every ``.npz`` read here it is read without pickle.

Split: the training part is halved in order, the test part is test. A file called
``cifar10_jpeg.npz`` is CIFAR-10: it gets the augmentation usual for that set. (Its
pixels differ from the originals by what the compression loses.)
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jnas import errors
from jnas.data import base, checks, cifar, folders, streamed

__all__ = ["ARRAYS", "find_cifar10", "from_blobs"]

PARTS = ("train", "test")
ARRAYS = {f"{part}_{kind}" for part in PARTS for kind in ("jpeg", "offsets", "labels")}
NAMES = "class_names"
CIFAR10 = "cifar10_jpeg"


@dataclasses.dataclass(frozen=True, eq=False)
class Blobs:
    """Rows of encoded images that lie end to end."""

    content: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[bytes, Any]:
        start, end = self.offsets[position], self.offsets[position + 1]
        return self.content[start:end].tobytes(), self.labels[position]


def from_blobs(
    arrays: Mapping[str, np.ndarray],
    name: str,
    *,
    stream: bool = False,
    resize: int | None = None,
    source: str = "",
) -> base.Dataset | streamed.StreamDataset:
    """Makes a dataset of the arrays of such a file.

    Args:
      arrays: by name, see the module.
      name: of the dataset.
      stream: keep the bytes, and decode images when they are needed.
      resize: side that images are resized to.
      source: where the arrays come from.

    Returns:
      The dataset, decoded by one thread a core unless it is streamed.

    Raises:
      JnasError: the arrays don't fit each other, or an image cannot be decoded.
    """
    sources = {part: _blobs(arrays, part) for part in PARTS}
    labels = [int(part.labels.max()) for part in sources.values()]
    options: dict[str, Any] = {"num_classes": 1 + max(labels)}
    if name == CIFAR10:
        options["augment"] = cifar.AUGMENT
    if NAMES in arrays:
        names = arrays[NAMES]
        if names.dtype.kind != "U" or names.ndim != 1:
            raise errors.JnasError(
                f"{NAMES} must be texts [K], got {names.dtype} {list(names.shape)}"
            )
        options["class_names"] = tuple(map(str, names))
        options["num_classes"] = len(names)
    return streamed.in_order(
        name,
        sources["train"],
        sources["test"],
        stream=stream,
        resize=resize,
        source=source or name,
        **options,
    )


def _blobs(arrays: Mapping[str, np.ndarray], part: str) -> Blobs:
    """Checks the three arrays of one part."""
    content, offsets, labels = (
        arrays[f"{part}_{kind}"] for kind in ("jpeg", "offsets", "labels")
    )
    if content.dtype != np.uint8 or content.ndim != 1:
        raise errors.JnasError(
            f"{part}_jpeg must be bytes (uint8 [M]), got {content.dtype} "
            f"{list(content.shape)}"
        )
    labels = checks.as_labels(labels, f"{part}_labels")
    if not len(labels):
        raise errors.JnasError(f"{part}_labels are empty: give examples")
    if offsets.dtype.kind not in "iu" or offsets.shape != (len(labels) + 1,):
        raise errors.JnasError(
            f"{part}_offsets must be {len(labels) + 1} integers, one more than labels, "
            f"got {offsets.dtype} {list(offsets.shape)}"
        )
    offsets = offsets.astype(np.int64)
    whole = offsets[0] == 0 and offsets[-1] == len(content)
    if not whole or (np.diff(offsets) <= 0).any():
        raise errors.JnasError(
            f"{part}_offsets must ascend from 0 to the {len(content)} bytes of "
            f"{part}_jpeg, got {offsets[0]} .. {offsets[-1]}: write the file again"
        )
    return Blobs(content, offsets, labels)


def find_cifar10(data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Returns the path of ``cifar10_jpeg.npz``, or raises a `JnasError`."""
    searched = folders.candidates("cifar10", data_dir)
    for folder in searched:
        path = folder / f"{CIFAR10}.npz"
        if path.is_file():
            return path
    raise errors.JnasError(
        f"{CIFAR10}.npz is not on this machine (searched "
        f"{', '.join(map(str, searched))}): put it into one of these folders, set "
        "JNAS_DATA, or load cifar10 from the official archive"
    )
