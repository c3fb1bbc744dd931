"""Examples that are read when they are needed, from any object with rows.

A *source* is anything with ``len(source)`` and ``source[i]``: a data source of
tensorflow-datasets or Grain, a Hugging Face set, a PyTorch map-style dataset, a class
of the user's own. `StreamSplit` is a checked view of one or several: every row that
passes through it is a uint8 image of one shape and a label in range, or ends in one
line that names its position in the user's own source.

Shape letters: `N` examples, `M` of them, `H W C` image, `K` classes.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jnas import errors
from jnas.data import base, checks, pixels

__all__ = ["DataSource", "Rows", "StreamSplit", "sample_positions"]


@runtime_checkable
class DataSource(Protocol):
    """What can be streamed: rows by position, in any order and from several threads.

    A row is ``{"image": ..., "label": ...}`` (more entries do no harm) or a pair
    ``(image, label)``. The image is a uint8 array `[H, W]` or `[H, W, C]`, a Pillow
    image, or the bytes of an image file; the label is an integer.

    Example:
      >>> class Squares:
      ...     def __len__(self):
      ...         return 10
      ...     def __getitem__(self, i):
      ...         return np.full((8, 8), i * i, np.uint8), i % 2
      >>> isinstance(Squares(), DataSource)
      True
    """

    def __len__(self) -> int:
        """How many rows there are."""
        ...

    def __getitem__(self, position: Any, /) -> Any:
        """The row at a position from 0."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """A source with what is known of its rows; ``rows[i]`` is checked.

    Attributes:
      source: has the rows.
      what: what messages call it, e.g. ``"train"``.
      num_classes: `K`.
      keys: the entries of a row that hold image and label.
      resize: side that images are resized to, or None to take them as they are.
      channels: that Pillow images and image files are converted to; None: as the
        first row has it.
      shape: of every image; None only until the first row is known.
    """

    source: Any
    what: str
    num_classes: int
    keys: tuple[str, str] = ("image", "label")
    resize: int | None = None
    channels: int | None = None
    shape: tuple[int, int, int] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, position: int) -> tuple[np.ndarray, int]:
        try:
            row = self.source[position]
        except errors.JnasError as error:
            raise self._wrong(position, error) from error
        # The user's own code, or a library's: it may raise anything.
        except Exception as error:
            reason = " ".join(str(error).split()) or "no message"
            told = f"cannot be read ({type(error).__name__}: {reason})"
            raise self._wrong(position, told) from error
        image, label = self._pair(row, position)
        try:
            array = self._image(image)
            number = _label(label)
        except errors.JnasError as error:
            raise self._wrong(position, error) from error
        if self.shape is not None and array.shape != self.shape:
            hint = "resize them, or give resize="
            if array.shape[:2] == self.shape[:2]:
                hint = "give images of as many channels"
            raise self._wrong(
                position,
                f"must have the shape of the first image {list(self.shape)}, got "
                f"{list(array.shape)}: {hint}",
            )
        if number >= self.num_classes:
            raise self._wrong(
                position,
                f"must have a label in 0..{self.num_classes - 1}, got {number}: "
                "renumber the classes or give the right num_classes",
            )
        return array, number

    def _pair(self, row: Any, position: int) -> tuple[Any, Any]:
        if isinstance(row, Mapping):
            missing = [key for key in self.keys if key not in row]
            if missing:
                raise self._wrong(
                    position,
                    f"must have the entries {' and '.join(self.keys)}, got "
                    f"{', '.join(map(str, row)) or 'none'}: give keys=(image, label)",
                )
            return row[self.keys[0]], row[self.keys[1]]
        if isinstance(row, tuple | list) and len(row) == 2:
            return row[0], row[1]
        raise self._wrong(
            position,
            "must be a dict with image and label or a pair (image, label), got "
            f"{type(row).__name__}",
        )

    def _image(self, image: Any) -> np.ndarray:
        channels = self.shape[2] if self.shape is not None else self.channels
        if isinstance(image, Mapping) and isinstance(image.get("bytes"), bytes):
            image = image["bytes"]  # Hugging Face's undecoded images
        if isinstance(image, bytes):
            return pixels.decode(image, channels, self.resize)
        return pixels.as_array(image, channels, self.resize)

    def _wrong(self, position: int, told: object) -> errors.JnasError:
        # A source may know a better name than the number, e.g. a file.
        where = getattr(self.source, "where", None)
        place = f" ({where(position)})" if where is not None else ""
        return errors.JnasError(f"{self.what} example {position}{place}: {told}")


def _label(label: Any) -> int:
    """Checks one label; the usual kinds without the cost of an array."""
    if isinstance(label, int | np.integer) and type(label) is not bool and label >= 0:
        return int(label)
    return int(checks.as_labels(np.asarray(label)[None], "label")[0])


@dataclasses.dataclass(frozen=True, eq=False)
class StreamSplit:
    """One part of a streamed dataset; the counterpart of `Split`.

    Attributes:
      rows: the sources that hold the examples.
      index: int64 `[N]`, positions in all of `rows`, one after the other.
      image_shape: height, width and channels of one image.

    Example:
      >>> images = np.zeros((10, 8, 8), np.uint8)
      >>> source = [(image, 1) for image in images]
      >>> rows = Rows(source, "train", 2, shape=(8, 8, 1))
      >>> split = StreamSplit((rows,), np.arange(10), (8, 8, 1))
      >>> len(split), split[3]["label"], split.read(np.arange(4))[0].shape
      (10, 1, (4, 8, 8, 1))
    """

    rows: tuple[Rows, ...]
    index: np.ndarray
    image_shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, (len(self), *self.image_shape)))
        return f"StreamSplit({shape})"

    def __getitem__(self, position: int) -> dict[str, Any]:
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} examples")
        image, label = self._row(position)
        return {"image": image, "label": label}

    def _row(self, position: int) -> tuple[np.ndarray, int]:
        place = int(self.index[position])
        for rows in self.rows:
            if place < len(rows):
                return rows[place]
            place -= len(rows)
        raise IndexError(position)

    def take(self, index: np.ndarray | slice) -> "StreamSplit":
        """Returns the part with the examples at `index`; nothing is read."""
        return dataclasses.replace(self, index=self.index[index])

    def join(self, other: "StreamSplit") -> "StreamSplit":
        """Returns the examples of this part, then those of another one."""
        if self.rows == other.rows:
            index = np.concatenate([self.index, other.index])
            return dataclasses.replace(self, index=index)
        own = sum(len(rows) for rows in self.rows)
        index = np.concatenate([self.index, other.index + own])
        return StreamSplit(self.rows + other.rows, index, self.image_shape)

    def read(
        self, index: np.ndarray, threads: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads examples into memory.

        Args:
          index: integers `[M]`, positions in this part.
          threads: how many read at once; None: one a core.

        Returns:
          uint8 `[M, H, W, C]` and int32 `[M]`.

        Raises:
          JnasError: an example is bad; the line names its position in the source.
        """
        image = np.empty((len(index), *self.image_shape), np.uint8)
        label = np.empty(len(index), np.int32)

        def one(slot: int) -> None:
            image[slot], label[slot] = self._row(index[slot])

        pixels.in_threads(one, len(index), threads)
        return image, label

    def load(self, threads: int | None = None) -> base.Split:
        """Reads all examples into memory; see `read`."""
        needed = len(self) * math.prod(self.image_shape)
        if needed > pixels.host_memory():
            raise errors.JnasError(
                f"{len(self)} images of {list(self.image_shape)} take "
                f"{needed / 1e9:.0f} GB, more than this machine's memory: use "
                "stream=True, or a smaller resize="
            )
        return base.Split(*self.read(np.arange(len(self)), threads))


def sample_positions(size: int, most: int) -> np.ndarray:
    """Positions evenly spread over a part, the first and the last among them.

    Example:
      >>> sample_positions(10, 4).tolist(), sample_positions(3, 8).tolist()
      ([0, 3, 6, 9], [0, 1, 2])
    """
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))


def fingerprint(part: base.Examples, most: int = 32) -> str:
    """Returns 16 hex digits of a part's size and of examples spread over it.

    Reading all of a large set would take hours, so a change may go unnoticed.
    """
    index = sample_positions(len(part), most)
    image, label = part.read(index)
    digest = hashlib.sha256(f"{len(part)}|{part.image_shape}|".encode())
    digest.update(np.ascontiguousarray(image).data)
    digest.update(np.ascontiguousarray(label, "<i4").data)
    return digest.hexdigest()[:16]
