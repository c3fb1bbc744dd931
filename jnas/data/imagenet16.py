"""ImageNet16-120: the first 120 classes of ImageNet at 16x16 pixels, of NAS-Bench-201.

The files are those of downsampled ImageNet (Chrabaszcz, Loshchilov & Hutter 2017,
https://arxiv.org/abs/1707.08819): ``train_data_batch_1`` to ``10`` and ``val_data``,
pickles of ``data`` uint8 `[N, 768]` and ``labels`` from 1, which are read as data and
never run (`jnas.data.pickles`).

Split, as in NAS-Bench-201 (Dong & Yang 2020, https://arxiv.org/abs/2001.00326): all
training images (151,700) train the weights of a search; the official validation set
(6,000) is divided into validation and test. Its authors' division is used where their
file ``imagenet-16-120-test-split.txt`` lies beside the batches, else stratified halves
with seed 0. Mean and standard deviation are theirs; augmentation too: pad 2 and crop,
flip.
"""

import json
import os
import pathlib

import numpy as np

from jnas import errors
from jnas.data import archives, base, checks, folders, pickles, splits

__all__ = ["NAME", "is_folder", "load"]

NAME = "imagenet16_120"
CLASSES = 120
SIDE = 16
PIXELS = 3 * SIDE * SIDE
MEAN = tuple(value / 255 for value in (122.68, 116.66, 104.01))
STD = tuple(value / 255 for value in (63.22, 61.26, 65.09))
AUGMENT = base.Augment(crop=2, flip=True)
TRAIN = tuple(f"train_data_batch_{number}" for number in range(1, 11))
TEST = "val_data"
DIVISION = "imagenet-16-120-test-split.txt"
# Published with the benchmark's code.
MD5S = {
    "train_data_batch_1": "27846dcaa50de8e21a7d1a35f30f0e91",
    "train_data_batch_2": "c7254a054e0e795c69120a5727050e3f",
    "train_data_batch_3": "4333d3df2e5ffb114b05d2ffc19b1e87",
    "train_data_batch_4": "1620cdf193304f4a92677b695d70d10f",
    "train_data_batch_5": "348b3c2fdbb3940c4e9e834affd3b18d",
    "train_data_batch_6": "6e765307c242a1b3d7d5ef9139b48945",
    "train_data_batch_7": "564926d8cbf8fc4818ba23d2faac7564",
    "train_data_batch_8": "f4755871f718ccb653440b9dd0ebac66",
    "train_data_batch_9": "bb6dd660c38c58552125b1a92f86b5d4",
    "train_data_batch_10": "8f03f34ac4b42271a294f91bf480f29b",
    "val_data": "3410e3017fdaefba8d5073aaa65e4bd6",
}


def is_folder(path: pathlib.Path) -> bool:
    """Whether a folder has the batches of downsampled ImageNet."""
    return (path / TRAIN[0]).is_file()


def load(
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> base.Dataset:
    """Loads ImageNet16-120.

    Args:
      folder: with the eleven files; None: search for them.
      data_dir: the only place to search (also its folder ``ImageNet16``); by default
        see `jnas.data.folders`.

    Returns:
      The dataset, images `[N, 16, 16, 3]`, 120 classes.

    Raises:
      JnasError: files are missing or damaged.
    """
    place = _find(data_dir) if folder is None else pathlib.Path(folder).expanduser()
    missing = [name for name in (*TRAIN, TEST) if not (place / name).is_file()]
    if missing:
        raise errors.JnasError(
            f"{place} has only some of the files of ImageNet16: add "
            f"{', '.join(missing)}"
        )
    read = [_read(place / name) for name in TRAIN]
    train = base.Split(*(np.concatenate(column) for column in zip(*read, strict=True)))
    held_out = base.Split(*_read(place / TEST))
    validation, test, rule = _divide(held_out, place / DIVISION)
    return base.Dataset(
        name=NAME,
        train=train,
        validation=held_out.take(validation),
        test=held_out.take(test),
        num_classes=CLASSES,
        mean=MEAN,
        std=STD,
        augment=AUGMENT,
        source=f"downsampled ImageNet, 16x16, first {CLASSES} classes ({rule})",
    )


def _find(data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    searched = folders.candidates("ImageNet16", data_dir)
    for place in searched:
        if is_folder(place):
            return place
    raise errors.JnasError(
        f"ImageNet16 is not on this machine (searched {', '.join(map(str, searched))}):"
        f" put {TRAIN[0]} .. {TRAIN[-1]} and {TEST} into one of these folders, or set "
        "JNAS_DATA"
    )


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the images and labels of the first classes from one file."""
    content = archives.members(path.parent, {path.name})[path.name]
    archives.check_md5(content, MD5S[path.name], path)
    stored = pickles.read(content, str(path))
    if not isinstance(stored, dict):
        raise errors.JnasError(
            f"{path} must hold a dictionary, got {type(stored).__name__}"
        )
    stored = {
        key.decode("latin-1") if isinstance(key, bytes) else key: value
        for key, value in stored.items()
    }
    data, labels = stored.get("data"), stored.get("labels")
    if not isinstance(data, np.ndarray) or labels is None:
        raise errors.JnasError(
            f"{path} must hold the array data and labels, got "
            f"{', '.join(map(str, stored)) or 'nothing'}"
        )
    labels = checks.as_labels(np.asarray(labels), f"{path}: labels")
    if data.dtype != np.uint8 or data.shape != (len(labels), PIXELS):
        raise errors.JnasError(
            f"{path}: data must be uint8 [{len(labels)}, {PIXELS}], got {data.dtype} "
            f"{list(data.shape)}: fetch the 16x16 files again"
        )
    if len(labels) and labels.min() < 1:
        raise errors.JnasError(f"{path}: labels must begin at 1, got {labels.min()}")
    kept = labels <= CLASSES
    images = data[kept].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels[kept] - 1


def _divide(
    held_out: base.Split, path: pathlib.Path
) -> tuple[np.ndarray, np.ndarray, str]:
    """Positions of validation and test, and the rule."""
    if not path.is_file():
        size = (len(held_out) + 1) // 2
        sizes = (size, len(held_out) - size)
        validation, test = splits.stratify(held_out.label, sizes)
        return validation, test, "official validation set: stratified halves, seed 0"
    try:
        stored = json.loads(path.read_text())
        # ["int", ["1", "2", ...]]
        validation, test = (
            np.array([int(text) for text in stored[part][1]], np.int64)
            for part in ("xvalid", "xtest")
        )
        both = np.sort(np.concatenate([validation, test]))
        if not np.array_equal(both, np.arange(len(held_out))):
            raise ValueError(f"it does not divide 0..{len(held_out) - 1}")
    except (ValueError, TypeError, KeyError, IndexError, OSError) as error:
        raise errors.JnasError(
            f"{path} is no division of the validation set ({error}): fetch it again, "
            "or remove it"
        ) from error
    return validation, test, "official validation set: the benchmark's division"
