"""Image sets prepared by tensorflow-datasets, read without TensorFlow.

Only sets that are prepared already, in the ``array_record`` (or ``parquet``) format:
preparing a stock set needs TensorFlow once, on any machine; reading does not. Nothing
is downloaded. The whole set is decoded into memory once, by a thread a core, or
streamed: then examples are decoded when they are needed.

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

from jnas import errors
from jnas.data import base, folders, sourced, splits, streamed

__all__ = ["MissingError", "load"]


class MissingError(errors.JnasError):
    """The prepared set, or tensorflow-datasets, is not on this machine."""


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    augment: base.Augment | None = None,
    stream: bool = False,
    resize: int | None = None,
) -> base.Dataset | streamed.StreamDataset:
    """Loads an image classification set through ``tensorflow_datasets``.

    Args:
      name: as tensorflow-datasets calls it, e.g. ``"cifar10"``.
      data_dir: its data folder. By default ``$JNAS_DATA`` or the user's jnas folder
        where they hold the set, else tensorflow-datasets' own default.
      augment: augmentation for training; by default none.
      stream: decode examples when they are needed, not now.
      resize: side that images are resized to.

    Returns:
      The dataset.

    Raises:
      MissingError: tensorflow-datasets or the prepared set is not there.
      JnasError: when the set is unknown, prepared in a format that
        cannot be read, or not images of one size with one label.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise MissingError(
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
    return _from_builder(name, builder, augment, stream, resize)


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
    name: str,
    builder: Any,
    augment: base.Augment | None,
    stream: bool,
    resize: int | None,
) -> base.Dataset | streamed.StreamDataset:
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
        "source": f"tensorflow-datasets {builder.info.full_name}",
    }
    train = _rows(name, builder, "train")
    try:
        if not held_out:
            return _train_only(name, train, stream, resize, options)
        validation = None
        if held_out == "test" and "validation" in available:
            validation = _rows(name, builder, "validation")
        test = _rows(name, builder, held_out)
        common = {"stream": stream, "resize": resize, "validation": validation}
        return streamed.in_order(name, train, test, **common, **options)
    except errors.JnasError as error:
        raise errors.JnasError(f"{name!r}: {error}") from error


def _train_only(
    name: str, train: Any, stream: bool, resize: int | None, options: dict[str, Any]
) -> base.Dataset | streamed.StreamDataset:
    """Divides a set without a test split by the library's rules."""
    if stream:
        return sourced.from_sources(train, name=name, resize=resize, **options)
    count = options["num_classes"]
    part = streamed.parts_of({"train": train}, count, resize=resize)["train"].load()
    return splits.from_arrays(part.image, part.label, name=name, **options)


def _rows(name: str, builder: Any, part: str) -> Any:
    """Opens one split."""
    try:
        rows = builder.as_data_source(split=part)
    except NotImplementedError as error:
        raise errors.JnasError(
            f"{name!r} is prepared in a format without random access: convert it with "
            "tensorflow-datasets' convert_format to array_record"
        ) from error
    if not len(rows):
        raise errors.JnasError(f"the split {part} of {name!r} is empty")
    return rows


def _not_prepared(name: str, builder: Any) -> errors.JnasError:
    """Builds the error that says how to prepare a set."""
    folder = os.fspath(builder.data_dir)
    return MissingError(
        f"the dataset {name!r} is not prepared in {folder}: on a machine with "
        f"TensorFlow run tensorflow_datasets.builder({name!r}, "
        "file_format='array_record', data_dir=...).download_and_prepare() once and "
        "give that data_dir, or save the arrays as .npz and load that file"
    )
