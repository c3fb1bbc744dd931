"""A streamed dataset from any objects that have rows: the user's, Grain's, others'."""

import dataclasses
from typing import Any

import numpy as np

from jnas import errors
from jnas.data import base, checks, rows, streamed

__all__ = ["from_sources"]

SEED = 0
TEST_SHARE = 0.2


def from_sources(
    train: Any,
    *,
    validation: Any | None = None,
    test: Any | None = None,
    num_classes: int | None = None,
    keys: tuple[str, str] = ("image", "label"),
    resize: int | None = None,
    channels: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    augment: base.Augment | None = None,
    class_names: tuple[str, ...] | None = None,
    name: str = "source",
    source: str = "",
) -> streamed.StreamDataset:
    """Makes a streamed dataset of any objects with ``len`` and rows by position.

    Without `test`, a fifth of the examples (rounded) becomes the test part; without
    `validation`, what is left is halved (an odd example goes to train). Both divisions
    are a random choice with seed 0; they are not stratified as those of
    `jnas.data.from_arrays` are, for that would read every label.

    Args:
      train: a `DataSource`, or a pair of arrays (images, labels), which may be
        memory-mapped. Several threads read it at once.
      validation: likewise; needs `test` too.
      test: likewise.
      num_classes: `K`; by default the number of class names, those given or those of a
        Hugging Face set, or for pairs of arrays the largest label + 1.
      keys: the entries of a row that hold image and label; Hugging Face's CIFAR-100
        has ``("img", "fine_label")``.
      resize: side that images are resized to (shorter side, then the centre).
      channels: 1 or 3 to convert Pillow images and image files to.
      mean: per channel mean of pixel/255; by default measured on 2,048 examples.
      std: per channel standard deviation likewise.
      augment: augmentation for training; by default none.
      class_names: `K` readable names.
      name: the dataset's name.
      source: where the examples come from; the split rule is appended.

    Returns:
      The dataset; `jnas.data.stream` makes its batches.

    Raises:
      JnasError: in one line, for whatever is wrong.

    Example:
      >>> class Mine:
      ...     def __len__(self):
      ...         return 50
      ...     def __getitem__(self, i):
      ...         return {"image": np.full((8, 8, 3), 5 * i, np.uint8), "label": i % 5}
      >>> data = from_sources(Mine(), num_classes=5)
      >>> len(data.train), len(data.validation), len(data.test), data.image_shape
      (20, 20, 10, (8, 8, 3))
    """
    if validation is not None and test is None:
        raise errors.JnasError(
            "a validation part without a test part is ambiguous: give test too, or "
            "join them and let the library split"
        )
    if resize is not None and not (type(resize) is int and resize >= 1):
        raise errors.JnasError(f"resize must be a whole number >= 1, got {resize!r}")
    if channels not in (None, 1, 3):
        raise errors.JnasError(f"channels must be 1, 3 or None, got {channels!r}")
    sources = {"train": train, "validation": validation, "test": test}
    sources = {
        part: _as_source(given, part)
        for part, given in sources.items()
        if given is not None
    }
    class_names = class_names or _names(sources["train"], keys[1])
    if num_classes is None:
        num_classes = _count(sources, class_names)
    base.check_classes(num_classes, class_names)
    options = {"keys": keys, "resize": resize, "channels": channels}
    parts = streamed.parts_of(sources, num_classes, **options)
    rule = _divide(parts)
    return streamed.assemble(
        name,
        **parts,
        num_classes=num_classes,
        mean=mean,
        std=std,
        augment=base.Augment() if augment is None else augment,
        class_names=class_names,
        source=f"{source or type(train).__name__} ({rule})",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Arrays:
    """Rows of a pair of arrays, e.g. memory-mapped ones."""

    image: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, position: int) -> tuple[np.ndarray, Any]:
        return np.asarray(self.image[position]), self.label[position]


def _as_source(given: Any, part: str) -> Any:
    """Checks what a user gives as rows."""
    is_pair = isinstance(given, tuple) and len(given) == 2
    if is_pair and hasattr(given[0], "shape"):
        image, label = given[0], checks.as_labels(given[1], f"{part} labels")
        if len(image) != len(label):
            raise errors.JnasError(
                f"{part} images and labels must be equally many, got {len(image)} "
                f"images and {len(label)} labels"
            )
        given = _Arrays(image, label)
    # A dict has both methods but no rows by position.
    if isinstance(given, dict | str | bytes) or not isinstance(given, rows.DataSource):
        raise errors.JnasError(
            f"{part} must have len(source) and source[i], got {type(given).__name__}: "
            "give an object with __len__ and __getitem__, or a pair (images, labels)"
        )
    if not len(given):
        raise errors.JnasError(f"the {part} source is empty: give examples")
    return given


def _names(source: Any, key: str) -> tuple[str, ...] | None:
    """The class names that a Hugging Face set knows."""
    features = getattr(source, "features", None)
    names = getattr(features.get(key), "names", None) if features else None
    return tuple(names) if names else None


def _count(sources: dict[str, Any], class_names: tuple[str, ...] | None) -> int:
    """The number of classes, where that can be known without reading."""
    if class_names is not None:
        return len(class_names)
    if all(isinstance(source, _Arrays) for source in sources.values()):
        return 1 + max(int(source.label.max()) for source in sources.values())
    raise errors.JnasError(
        "num_classes must be given: a streamed set is not read through to count them"
    )


def _divide(parts: dict[str, rows.StreamSplit]) -> str:
    """Makes the parts that are missing; returns one line that says how."""
    if {"validation", "test"} <= set(parts):
        return "given parts"
    order = np.random.default_rng(SEED).permutation(len(parts["train"]))
    rule = "given test part"
    if "test" not in parts:
        count = round(len(order) * TEST_SHARE)
        parts["test"] = streamed.taken(parts["train"], order[:count])
        order = order[count:]
        rule = f"test: {count} random examples, seed {SEED}"
    middle = (len(order) + 1) // 2
    halves = order[:middle], order[middle:]
    parts["train"], parts["validation"] = (
        streamed.taken(parts["train"], x) for x in halves
    )
    return f"{rule}; train and validation: random halves, seed {SEED}"
