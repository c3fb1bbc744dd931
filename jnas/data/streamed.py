"""Datasets whose examples are read when needed: the counterpart of `Dataset`.

Nothing is read to make one but the first example, and a sample to measure mean and
standard deviation where they are not given.
"""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from jnas import errors
from jnas.data import base, checks, rows, splits

__all__ = ["StreamDataset", "assemble", "in_order", "parts_of", "taken"]

# Enough that the mean is right to a hundredth of the standard deviation or so.
SAMPLE = 2048


@dataclasses.dataclass(frozen=True, eq=False)
class StreamDataset:
    """Streamed parts and what the training code needs to know; see `Dataset`.

    Attributes:
      name: what it is called.
      train: examples that train the weights of a search.
      validation: examples that train the architecture of a search.
      test: held-out examples.
      num_classes: `K`; labels lie in 0..K-1.
      mean: per channel mean of pixel/255.
      std: per channel standard deviation likewise.
      augment: augmentation of training batches.
      class_names: `K` readable names, or None.
      source: one line: where the examples come from and how they were split.
    """

    name: str
    train: rows.StreamSplit
    validation: rows.StreamSplit
    test: rows.StreamSplit
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: base.Augment = dataclasses.field(default_factory=base.Augment)
    class_names: tuple[str, ...] | None = None
    source: str = ""

    def __post_init__(self):
        base.check_classes(self.num_classes, self.class_names)
        checks.check_statistics(self.mean, self.std, self.image_shape[-1])
        self.augment.check(*self.image_shape)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return self.train.image_shape

    @property
    def full(self) -> rows.StreamSplit:
        """Train followed by validation: what a final network is retrained on."""
        return self.train.join(self.validation)

    def fingerprint(self) -> str:
        """Returns 16 hex digits of the sizes and of some examples of every part.

        Unlike `Dataset.fingerprint` it cannot notice every change: it reads 32
        examples a part.
        """
        digest = hashlib.sha256(self.name.encode())
        for part in (self.train, self.validation, self.test):
            digest.update(f"|{rows.fingerprint(part)}".encode())
            digest.update(np.ascontiguousarray(part.index, "<i8").data)
        return digest.hexdigest()[:16]

    def load(self) -> base.Dataset:
        """Reads everything into memory.

        Returns:
          The dataset with the same parts; mean and std stay as they are here.

        Raises:
          JnasError: an example is bad, or a class has none.
        """
        parts = (self.train, self.validation, self.test)
        train, validation, test = (part.load() for part in parts)
        return base.Dataset(
            name=self.name,
            train=train,
            validation=validation,
            test=test,
            num_classes=self.num_classes,
            mean=self.mean,
            std=self.std,
            augment=self.augment,
            class_names=self.class_names,
            source=self.source,
        )


def in_order(
    name: str,
    train: Any,
    test: Any,
    *,
    num_classes: int,
    stream: bool,
    validation: Any | None = None,
    resize: int | None = None,
    channels: int | None = None,
    augment: base.Augment | None = None,
    class_names: tuple[str, ...] | None = None,
    source: str = "",
) -> base.Dataset | StreamDataset:
    """Makes a dataset of sources with an official test part.

    Args:
      name: of the dataset.
      train: a source; without `validation` it is halved in order, as DARTS does with
        CIFAR-10.
      test: a source.
      num_classes: `K`.
      stream: read the examples when they are needed; else now, into memory.
      validation: a source.
      resize: side that images are resized to.
      channels: 1 or 3 to convert images to.
      augment: augmentation for training; by default none.
      class_names: `K` readable names.
      source: where the examples come from; the split rule is appended.

    Returns:
      The dataset.
    """
    given = {"train": train, "validation": validation, "test": test}
    sources = {part: rows for part, rows in given.items() if rows is not None}
    parts: dict[str, Any] = dict(
        parts_of(sources, num_classes, resize=resize, channels=channels)
    )
    rule = "official parts"
    if validation is None:
        parts["train"], parts["validation"] = _halves(parts["train"])
        rule = "official test; training set halved in order"
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "augment": base.Augment() if augment is None else augment,
        "class_names": class_names,
        "source": f"{source} ({rule})",
    }
    if stream:
        return assemble(name, **parts, **options)
    loaded: dict[str, Any] = {part: split.load() for part, split in parts.items()}
    return splits.assemble(name, **loaded, **options)


def assemble(
    name: str,
    train: rows.StreamSplit,
    validation: rows.StreamSplit,
    test: rows.StreamSplit,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    **options: Any,
) -> StreamDataset:
    """Builds a streamed dataset, measuring mean and std on a sample if need be."""
    if mean is None or std is None:
        found = _statistics(train, validation)
        mean, std = mean or found[0], std or found[1]
    mean, std = tuple(map(float, mean)), tuple(map(float, std))
    return StreamDataset(
        name=name,
        train=train,
        validation=validation,
        test=test,
        mean=mean,
        std=std,
        **options,
    )


def parts_of(
    sources: dict[str, Any], num_classes: int, **options: Any
) -> dict[str, rows.StreamSplit]:
    """Makes checked parts of sources; the first training example tells the shape.

    Args:
      sources: by part; ``"train"`` is one of them.
      num_classes: `K`.
      **options: of `jnas.data.rows.Rows`.

    Returns:
      The parts.
    """
    probe, _ = rows.Rows(sources["train"], "train", num_classes, **options)[0]
    height, width, channels = probe.shape
    base.check_side(probe.shape)
    parts = {}
    for part, given in sources.items():
        checked = rows.Rows(given, part, num_classes, shape=probe.shape, **options)
        parts[part] = rows.StreamSplit(
            (checked,), np.arange(len(given)), (height, width, channels)
        )
    return parts


def _halves(split: rows.StreamSplit) -> tuple[rows.StreamSplit, rows.StreamSplit]:
    """The first and the second half in order; an odd example goes first."""
    middle = (len(split) + 1) // 2
    order = np.arange(len(split))
    return taken(split, order[:middle]), taken(split, order[middle:])


def taken(split: rows.StreamSplit, index: np.ndarray) -> rows.StreamSplit:
    """Returns the examples at `index`, in ascending order; there must be some."""
    if not len(index):
        raise errors.JnasError(
            f"{len(split)} examples are too few to divide into train, validation and "
            "test: give more"
        )
    # Sorted, so that files are read in their order where nothing shuffles.
    return split.take(np.sort(index))


def _statistics(
    *parts: rows.StreamSplit,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of examples spread over the parts."""
    sample = [
        base.Split(*part.read(rows.sample_positions(len(part), SAMPLE // len(parts))))
        for part in parts
    ]
    return base.channel_statistics(*sample)
