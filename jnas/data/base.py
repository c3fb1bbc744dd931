"""What a dataset is here: uint8 images and integer labels in three checked splits.

Everything that a user can hand in is validated once, here, so that the code behind
never has to ask again. Images stay uint8 from the file to the device (a quarter of
the memory of float32); scaling and augmentation happen inside the compiled step.

Shape letters: `N` examples, `H W C` image, `K` classes.
"""

import dataclasses
import hashlib
from typing import Protocol

import numpy as np

from jnas import errors
from jnas.data import checks

__all__ = [
    "Augment",
    "Dataset",
    "Examples",
    "Split",
    "channel_statistics",
    "check_classes",
    "check_side",
]

# Below this size the pooling layers of every shipped network reach 1x1 too early.
SMALLEST_SIDE = 8


@dataclasses.dataclass(frozen=True)
class Augment:
    """Which random changes a training image undergoes; the default is none.

    Attributes:
      crop: pixels of black padding on every side before a random crop back to the
        original size.
      flip: whether to mirror left and right with probability one half.
      cutout: side of the square that is set to 0 (the mean colour) after
        normalisation (DeVries & Taylor 2017); 0 for none.
      resized_crop: smallest and largest share of the image that a box is cut out of
        and enlarged from, e.g. (0.08, 1.0); instead of `crop`.
      jitter: strengths of random brightness, contrast, saturation and hue, e.g.
        (0.4, 0.4, 0.4, 0.2); for images with three channels.

    Example:
      >>> Augment(crop=4, flip=True).cutout
      0
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    resized_crop: tuple[float, float] | None = None
    jitter: tuple[float, float, float, float] | None = None

    def __post_init__(self):
        for field in ("crop", "cutout"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise errors.JnasError(
                    f"augment {field} must be a whole number of pixels >= 0, "
                    f"got {value!r}: use 0 to switch it off"
                )
        if not isinstance(self.flip, bool):
            raise errors.JnasError(
                f"augment flip must be True or False, got {self.flip!r}: "
                "the probability is always one half"
            )
        if self.resized_crop is not None:
            low, high = self._numbers("resized_crop", 2)
            if not 0 < low <= high <= 1:
                raise errors.JnasError(
                    "augment resized_crop must be shares with 0 < low <= high <= 1, "
                    f"got {self.resized_crop!r}: e.g. (0.08, 1.0)"
                )
            if self.crop:
                raise errors.JnasError(
                    "augment crop and resized_crop exclude each other, got both: set "
                    "crop to 0"
                )
        if self.jitter is not None:
            *others, hue = self._numbers("jitter", 4)
            if not (all(0 <= value < np.inf for value in others) and 0 <= hue <= 0.5):
                raise errors.JnasError(
                    "augment jitter must be brightness, contrast and saturation >= 0 "
                    f"and hue in 0..0.5, got {self.jitter!r}: e.g. (0.4, 0.4, 0.4, 0.2)"
                )

    def _numbers(self, field: str, count: int) -> tuple[float, ...]:
        """Makes a field a tuple of floats, so that it can be hashed and compared."""
        value = getattr(self, field)
        numbers = isinstance(value, tuple | list) and all(
            isinstance(x, int | float) and not isinstance(x, bool) for x in value
        )
        if not numbers or len(value) != count:
            raise errors.JnasError(
                f"augment {field} must be {count} numbers, got {value!r}: use None to "
                "switch it off"
            )
        value = tuple(map(float, value))
        object.__setattr__(self, field, value)
        return value

    def check(self, height: int, width: int, channels: int) -> None:
        """Raises a `JnasError` when the pixels do not fit an image of this size."""
        side = min(height, width)
        if self.crop >= side:
            raise errors.JnasError(
                f"augment crop must be smaller than the image ({height}x{width}), "
                f"got {self.crop}: a crop could be all black"
            )
        if self.cutout > side:
            raise errors.JnasError(
                f"augment cutout must be at most the image side ({side}), "
                f"got {self.cutout}: use a smaller square"
            )
        if self.jitter is not None and channels != 3:
            raise errors.JnasError(
                f"augment jitter needs images of 3 channels, got {channels}: leave it "
                "out"
            )


class Examples(Protocol):
    """What batches are made of: a `Split`, or examples that are read when needed."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns uint8 `[M, H, W, C]` and int32 `[M]` at the `M` positions `index`."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One part of a dataset.

    Attributes:
      image: uint8 `[N, H, W, C]`.
      label: int32 `[N]`.

    Example:
      >>> import numpy as np
      >>> part = Split(np.zeros((5, 8, 8, 1), np.uint8), np.zeros(5, np.int32))
      >>> len(part)
      5
    """

    image: np.ndarray
    label: np.ndarray

    def __post_init__(self):
        image, label = self.image, self.label
        if not (isinstance(image, np.ndarray) and isinstance(label, np.ndarray)):
            raise errors.JnasError(
                f"a Split takes NumPy arrays, got {type(image).__name__} and "
                f"{type(label).__name__}: use jnas.data.from_arrays"
            )
        if image.dtype != np.uint8 or image.ndim != 4:
            raise errors.JnasError(
                f"a Split's image must be uint8 [N, H, W, C], got {image.dtype} "
                f"{list(image.shape)}: use jnas.data.from_arrays"
            )
        if label.dtype != np.int32 or label.ndim != 1:
            raise errors.JnasError(
                f"a Split's label must be int32 [N], got {label.dtype} "
                f"{list(label.shape)}: use jnas.data.from_arrays"
            )
        if len(image) != len(label):
            raise errors.JnasError(
                f"images and labels must be equally many, got {len(image)} images "
                f"and {len(label)} labels"
            )
        if not len(image):
            raise errors.JnasError("a Split needs at least one example, got 0")
        check_side(image.shape[1:])

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        return f"Split({' x '.join(map(str, self.image.shape))})"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        height, width, channels = self.image.shape[1:]
        return height, width, channels

    def take(self, index: np.ndarray | slice) -> "Split":
        """Returns the examples at `index`, in that order."""
        return Split(self.image[index], self.label[index])

    def read(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images and labels at `index`, in that order, as new arrays."""
        return self.image[index], self.label[index]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their split rule and what the training code needs to know of them.

    ``train`` and ``validation`` are the two halves of the bilevel search (weights
    are trained on the first, the architecture on the second). Retraining uses both
    (``full``). ``test`` is for the final report only; no choice may depend on it.

    Attributes:
      name: the name users load it by.
      train: examples that train the weights of a search.
      validation: examples that train the architecture of a search.
      test: held-out examples.
      num_classes: `K`; labels lie in 0..K-1.
      mean: per channel mean of pixel/255 over train and validation.
      std: per channel standard deviation likewise (population form).
      augment: the augmentation usual for this set.
      class_names: `K` readable names, or None.
      source: one line: where the arrays come from and how they were split.

    Example:
      >>> import jnas.data
      >>> data = jnas.data.load("digits")
      >>> len(data.train), len(data.validation), len(data.test), data.image_shape
      (719, 718, 360, (8, 8, 1))
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment = Augment()
    class_names: tuple[str, ...] | None = None
    source: str = ""

    def __post_init__(self):
        check_classes(self.num_classes, self.class_names)
        for part in ("train", "validation", "test"):
            split = getattr(self, part)
            if split.image.shape[1:] != self.train.image.shape[1:]:
                raise errors.JnasError(
                    f"all splits must have one image shape, got "
                    f"{list(split.image.shape[1:])} in {part} and "
                    f"{list(self.image_shape)} in train"
                )
            checks.check_range(split.label, self.num_classes, part)
        present = np.bincount(self.train.label, minlength=self.num_classes)
        empty = np.flatnonzero(present == 0)
        if len(empty):
            raise errors.JnasError(
                f"every class needs an example in train, got none of class "
                f"{', '.join(map(str, empty[:5]))}{', ...' if len(empty) > 5 else ''} "
                f"(classes 0..{self.num_classes - 1}): number the labels without "
                "gaps from 0, or add examples"
            )
        checks.check_statistics(self.mean, self.std, self.image_shape[-1])
        self.augment.check(*self.image_shape)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return self.train.image_shape

    @property
    def full(self) -> Split:
        """Train followed by validation: what a final network is retrained on (a copy).

        For sets that are halved in order this is the official training set in its
        official order.
        """
        parts = (self.train, self.validation)
        return Split(
            np.concatenate([part.image for part in parts]),
            np.concatenate([part.label for part in parts]),
        )

    def fingerprint(self) -> str:
        """Returns 16 hex digits that change when any pixel, label or split does.

        Example:
          >>> import jnas.data
          >>> jnas.data.load("digits").fingerprint()
          'f91ec546db5c1acb'
        """
        digest = hashlib.sha256(self.name.encode())
        for split in (self.train, self.validation, self.test):
            digest.update(f"|{split.image.shape}|".encode())
            digest.update(np.ascontiguousarray(split.image).data)
            # The byte order is fixed so that all machines agree.
            digest.update(np.ascontiguousarray(split.label, "<i4").data)
        return digest.hexdigest()[:16]


def check_side(shape: tuple[int, ...]) -> None:
    """Raises a `JnasError` unless images of this `[H, W, C]` can be used."""
    if min(shape[:2]) < SMALLEST_SIDE:
        hint = "enlarge them first"
        if shape[0] in (1, 3):
            hint = "channels come last: use images.transpose(0, 2, 3, 1)"
        raise errors.JnasError(
            f"images must be at least {SMALLEST_SIDE}x{SMALLEST_SIDE} "
            f"[N, H, W, C], got [H, W, C] = {list(shape)}: {hint}"
        )
    if shape[2] < 1:
        raise errors.JnasError(
            f"images need at least one channel, got [H, W, C] = {list(shape)}"
        )


def check_classes(num_classes: int, class_names: tuple[str, ...] | None) -> None:
    """Raises a `JnasError` unless the classes are a choice and their names fit."""
    if num_classes < 2:
        raise errors.JnasError(
            f"num_classes must be >= 2, got {num_classes}: a classifier needs a choice"
        )
    if class_names is not None and len(class_names) != num_classes:
        raise errors.JnasError(
            f"class_names must have one name per class ({num_classes}), "
            f"got {len(class_names)}"
        )


def channel_statistics(
    *splits: Split,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of pixel/255 per channel over the splits.

    Computed from whole-number counts of the 256 values, so the result is the same to
    the last bit on every machine and in any order of the examples.

    Args:
      *splits: the parts to count.

    Returns:
      mean and std (population form), one float per channel each.

    Example:
      >>> part = Split(np.full((1, 8, 8, 1), 51, np.uint8), np.zeros(1, np.int32))
      >>> channel_statistics(part)
      ((0.2,), (0.0,))
    """
    value = np.arange(256)
    mean, std = [], []
    for channel in range(splits[0].image.shape[-1]):
        counts = np.zeros(256, np.int64)
        for split in splits:
            counts += np.bincount(split.image[..., channel].ravel(), minlength=256)
        number = int(counts.sum())
        total = int((counts * value).sum())
        square = int((counts * value**2).sum())
        mean.append(total / number / 255)
        # Whole numbers of any size in Python: nothing cancels.
        std.append(float(np.sqrt((square * number - total**2) / number**2)) / 255)
    return tuple(mean), tuple(std)
