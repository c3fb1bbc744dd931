"""Folders of images, one folder a class, as ImageNet's training set is laid out.

Either ``FOLDER/train/CLASS/...`` with ``val`` and/or ``test`` beside ``train``, or
``FOLDER/CLASS/...`` alone. Class numbers follow the sorted names of the class folders.
Images (JPEG, PNG, WebP, BMP, PPM) may lie in sub-folders of a class; other files and
names with a leading dot are ignored. They become RGB, or grey where a sample of them
says that all are grey.

Split: ``test`` is test, and ``val`` the validation part; with only one of them, that
one is test. What is missing is divided from the training part as
`jnas.data.from_arrays` does it (stratified, seed 0), streamed or not: the classes are
known without reading.
"""

import os
import pathlib
from typing import Any

import numpy as np

from jnas import errors
from jnas.data import base, pixels, rows, splits, streamed

__all__ = ["ImageFiles", "load"]

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm")
# The names that each part's folder may have.
PARTS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
SAMPLE = 32


class ImageFiles:
    """Rows of image files: the bytes of a file and its label.

    Attributes:
      folder: that the paths are relative to.
      paths: of the files.
      labels: int32 `[N]`.
    """

    def __init__(self, folder: pathlib.Path, paths: list[str], labels: np.ndarray):
        self.folder, self.paths, self.labels = folder, paths, labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[bytes, int]:
        return (self.folder / self.where(position)).read_bytes(), int(
            self.labels[position]
        )

    def where(self, position: int) -> str:
        """The path of one file, for messages."""
        return self.paths[position]


def load(
    folder: str | os.PathLike[str],
    *,
    stream: bool = False,
    resize: int | None = None,
    augment: base.Augment | None = None,
) -> base.Dataset | streamed.StreamDataset:
    """Loads the images in a folder; the dataset's name is the folder's.

    Args:
      folder: with a folder for each class, see the module.
      stream: decode images when they are needed, not now.
      resize: side of the images: the shorter side is scaled to it, then the centre
        is cut out. Needed unless all images have one size.
      augment: augmentation for training; by default none.

    Returns:
      The dataset.

    Raises:
      JnasError: in one line, for whatever is wrong with the folder or an image.
    """
    folder = pathlib.Path(folder).expanduser()
    if not folder.is_dir():
        raise errors.JnasError(f"there is no folder {folder}")
    try:
        return _load(folder, stream, resize, augment)
    except OSError as error:
        where = error.filename or folder
        raise errors.JnasError(
            f"cannot read {where}: {error.strerror or error}"
        ) from error


def _load(
    folder: pathlib.Path,
    stream: bool,
    resize: int | None,
    augment: base.Augment | None,
) -> base.Dataset | streamed.StreamDataset:
    found = _part_folders(folder)
    names = _class_names(found["train"])
    sources = {part: _files(place, names) for part, place in found.items()}
    if "test" not in sources and "validation" in sources:
        sources["test"] = sources.pop("validation")
    options = {"resize": resize, "channels": _channels(sources["train"])}
    parts = streamed.parts_of(sources, len(names), **options)
    rule = _divide(parts, sources["train"].labels)
    about: dict[str, Any] = {
        "num_classes": len(names),
        "augment": base.Augment() if augment is None else augment,
        "class_names": names,
        "source": f"folder {folder.name} ({rule})",
    }
    name = folder.resolve().name
    train, validation, test = (parts[p] for p in ("train", "validation", "test"))
    if stream:
        return streamed.assemble(name, train, validation, test, **about)
    return splits.assemble(name, train.load(), validation.load(), test.load(), **about)


def _part_folders(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folders of the parts; the folder itself as train where it has no parts."""
    found = {}
    for part, allowed in PARTS.items():
        present = [folder / name for name in allowed if (folder / name).is_dir()]
        if len(present) > 1:
            raise errors.JnasError(
                f"{folder} has several {part} folders "
                f"({', '.join(place.name for place in present)}): keep one"
            )
        if present:
            found[part] = present[0]
    if not found:
        return {"train": folder}
    if "train" not in found:
        raise errors.JnasError(
            f"{folder} has {', '.join(place.name for place in found.values())} but no "
            "folder train: add it, or give a folder with one folder a class"
        )
    return found


def _class_names(place: pathlib.Path) -> tuple[str, ...]:
    names = sorted(
        entry.name
        for entry in place.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if len(names) < 2:
        raise errors.JnasError(
            f"{place} must have a folder for each of at least 2 classes, got "
            f"{', '.join(names) or 'none'}: sort the images into class folders, e.g. "
            f"{place / 'cat' / '1.jpg'}"
        )
    return tuple(names)


def _files(place: pathlib.Path, names: tuple[str, ...]) -> ImageFiles:
    """Lists the images of one part; every class must have some."""
    own = set(_class_names(place))
    if own - set(names):
        raise errors.JnasError(
            f"{place} has the class {sorted(own - set(names))[0]!r}, which train "
            "lacks: all parts must have the same class folders"
        )
    paths, labels = [], []
    for number, name in enumerate(names):
        images = _images(place / name, place)
        if not images and place.name not in PARTS["test"] + PARTS["validation"]:
            raise errors.JnasError(
                f"the class folder {place / name} has no images "
                f"({', '.join(ENDINGS)}): add some, or remove it"
            )
        paths += images
        labels += [number] * len(images)
    if not paths:
        raise errors.JnasError(f"{place} has no images: add some, or remove it")
    return ImageFiles(place, paths, np.array(labels, np.int32))


def _images(folder: pathlib.Path, place: pathlib.Path) -> list[str]:
    """The images under a class folder, relative to the part, in sorted order."""
    found = []
    for where, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                found.append(os.path.relpath(os.path.join(where, name), place))
    return found


def _channels(source: ImageFiles) -> int:
    """1 where all images of a sample are grey, else 3."""
    sample = rows.sample_positions(len(source), SAMPLE)
    return 1 if all(pixels.is_grey(source[int(i)][0]) for i in sample) else 3


def _divide(parts: dict[str, rows.StreamSplit], labels: np.ndarray) -> str:
    """Makes the parts that are missing; returns one line that says how."""
    rule = "given parts"
    positions = np.arange(len(labels))
    if "test" not in parts:
        count = round(len(labels) * splits.TEST_SHARE)
        held_out, positions = splits.stratify(labels, (count, len(labels) - count))
        parts["test"] = parts["train"].take(held_out)
        rule = f"test: {count} stratified examples, seed {splits.SEED}"
    if "validation" not in parts:
        first = (len(positions) + 1) // 2
        halves = splits.stratify(labels[positions], (first, len(positions) - first))
        train = parts["train"]
        parts["train"], parts["validation"] = (
            train.take(positions[half]) for half in halves
        )
        rule += f"; train and validation: stratified halves, seed {splits.SEED}"
    return rule
