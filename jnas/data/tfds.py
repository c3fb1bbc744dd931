"""Image sets prepared by tensorflow-datasets, read without TensorFlow.

Only sets that are prepared already, in the ``array_record`` (or ``parquet``) format:
preparing a stock set needs TensorFlow once, on any machine; reading does not. Nothing
is downloaded. The whole set is decoded into memory once.

Split: an official test split is test (an official validation split serves where there
is none). Where both exist, the official validation split is the validation half.
Otherwise the training set is halved in the order of the prepared files. That order is
a fixed shuffle made at preparation, so the halves differ from DARTS' first and last
25,000 of CIFAR-10, though not in distribution. With a training split alone, the rule
of `jnas.data.from_arrays` applies.
"""

import os
import pathlib
from typing import Any

import numpy as np

from jnas import errors
from jnas.data import base, checks, folders, splits

__all__ = ["load"]


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    augment: base.Augment | None = None,
) -> base.Dataset:
    """Loads an image classification set through ``tensorflow_datasets``.

    Args:
      name: as tensorflow-datasets calls it, e.g. ``"cifar10"``.
      data_dir: its data folder. By default ``$JNAS_DATA`` or the user's jnas folder
        where they hold the set, else tensorflow-datasets' own default.
      augment: augmentation for training; by default none.

    Returns:
      The dataset.

    Raises:
      JnasError: when the set is unknown, not prepared, prepared in a format that
        cannot be read, or not images of one size with one label.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise errors.JnasError(
            f"the dataset {name!r} is read with tensorflow-datasets, which cannot be "
            f"imported ({error}): install tensorflow-datasets"
        ) from error
    place = _place(name, data_dir)
    try:
        builder = tensorflow_datasets.builder(name, data_dir=place)
    except (ValueError, ImportError, OSError, AssertionError) as error:
        # Its own message goes on to list a thousand names.
        reason = str(error).strip().partition("\n")[0]
        raise errors.JnasError(
            f"tensorflow-datasets cannot open {name!r}: {reason}"
        ) from error
    return _from_builder(name, builder, augment)


def _place(name: str, data_dir: str | os.PathLike[str] | None) -> str | None:
    """Returns the data folder to hand on, None for tensorflow-datasets' default."""
    if data_dir is not None:
        return os.fspath(pathlib.Path(data_dir).expanduser())
    own = name.partition(":")[0].partition("/")[0]
    for folder in folders.candidates(own):
        if folder.name == own and folder.is_dir():
            return os.fspath(folder.parent)
    return None


def _from_builder(
    name: str, builder: Any, augment: base.Augment | None
) -> base.Dataset:
    """Reads the splits of an opened set."""
    features = builder.info.features
    if features is None or not {"image", "label"} <= set(features):
        raise errors.JnasError(
            f"{name!r} must have the features image and label, got "
            f"{', '.join(features or ()) or 'none'}: choose an image "
            "classification set"
        )
    available = set(builder.info.splits)
    if not available:
        raise _not_prepared(name, builder)
    held_out = next((part for part in ("test", "validation") if part in available), "")
    if "train" not in available:
        raise errors.JnasError(
            f"{name!r} must have a train split, got {', '.join(sorted(available))}"
        )
    labels = features["label"]
    if getattr(labels, "num_classes", None) is None:
        raise errors.JnasError(
            f"{name!r} must have one class label per image, got the label feature "
            f"{type(labels).__name__}: choose an image classification set"
        )
    options = {
        "num_classes": labels.num_classes,
        "augment": augment or base.Augment(),
        "class_names": tuple(labels.names) if labels.names else None,
        "name": name,
    }
    source = f"tensorflow-datasets {builder.info.full_name}"
    train = _read(name, builder, "train")
    if not held_out:
        return splits.from_arrays(train.image, train.label, source=source, **options)
    test = _read(name, builder, held_out)
    if held_out == "test" and "validation" in available:
        validation = _read(name, builder, "validation")
        rule = "official splits"
    else:
        train, validation = splits.halve(train)
        rule = f"official {held_out} as test; train halved in order"
    return splits.assemble(
        train=train,
        validation=validation,
        test=test,
        source=f"{source} ({rule})",
        **options,
    )


def _read(name: str, builder: Any, part: str) -> base.Split:
    """Decodes one split into memory."""
    try:
        rows = builder.as_data_source(split=part)
    except NotImplementedError as error:
        raise errors.JnasError(
            f"{name!r} is prepared in a format without random access: convert it with "
            "tensorflow-datasets' convert_format to array_record"
        ) from error
    image: np.ndarray | None = None
    label = np.empty(len(rows), np.int32)
    for position in range(len(rows)):
        row = rows[position]
        pixels = np.asarray(row["image"])
        if image is None:
            image = np.empty((len(rows), *pixels.shape), pixels.dtype)
        if pixels.shape != image.shape[1:]:
            raise errors.JnasError(
                f"{name!r} must have images of one size, got {list(pixels.shape)} "
                f"after {list(image.shape[1:])} (position {position} of {part}): "
                "resize them into an .npz file"
            )
        image[position], label[position] = pixels, row["label"]
    if image is None:
        raise errors.JnasError(f"the split {part} of {name!r} is empty")
    what = f"of the {part} split of {name!r}"
    return base.Split(
        checks.as_images(image, f"images {what}"),
        checks.as_labels(label, f"labels {what}"),
    )


def _not_prepared(name: str, builder: Any) -> errors.JnasError:
    """Builds the error that says how to prepare a set."""
    folder = os.fspath(builder.data_dir)
    return errors.JnasError(
        f"the dataset {name!r} is not prepared in {folder}: on a machine with "
        f"TensorFlow run tensorflow_datasets.builder({name!r}, "
        "file_format='array_record', data_dir=...).download_and_prepare() once and "
        "give that data_dir, or save the arrays as .npz and load that file"
    )
