"""Images from encoded bytes or Pillow objects, and their resizing, as uint8 arrays.

Pillow is imported when the first image is decoded; without the interpreter lock, so
several threads decode at once.

Shape letters: `H W C` image.
"""

import io
import os
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from jnas import errors
from jnas.data import checks

__all__ = [
    "as_array",
    "decode",
    "default_threads",
    "host_memory",
    "in_threads",
    "is_grey",
    "is_pillow",
    "resize",
]

GREY = ("L", "1", "LA")
# What the 256 values of a channel cannot hold; Pillow would clip without a word.
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def pillow() -> Any:
    """Returns the module ``PIL.Image``, or raises a `JnasError` without Pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise errors.JnasError(
            f"JPEG and PNG images are read with Pillow, which cannot be imported "
            f"({error}): install pillow"
        ) from error
    return Image


def is_pillow(image: object) -> bool:
    """Whether this is a Pillow image (asked without importing Pillow)."""
    return type(image).__module__.partition(".")[0] == "PIL"


def decode(
    content: bytes, channels: int | None = None, size: int | None = None
) -> np.ndarray:
    """Decodes an image file's content: JPEG, PNG and what else Pillow knows.

    Args:
      content: the bytes of the file.
      channels: 1 or 3 to convert to grey or to RGB; None: as the file has it.
      size: side to resize to, see `resize`.

    Returns:
      uint8 `[H, W, C]`.

    Raises:
      JnasError: the bytes are damaged, or no image of 8 bits a channel.

    Example:
      >>> file = io.BytesIO()
      >>> pillow().new("L", (9, 8), 7).save(file, "PNG")
      >>> decode(file.getvalue(), channels=3).shape
      (8, 9, 3)
    """
    module = pillow()
    try:
        image = module.open(io.BytesIO(content))
        image.load()
    # A damaged file can make Pillow's readers raise almost anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if type(error).__name__ == "UnidentifiedImageError":
            reason = "no image format that Pillow knows"
        raise errors.JnasError(
            f"the image cannot be decoded ({reason}): the file is damaged or no image, "
            "replace or remove it"
        ) from error
    return as_array(image, channels, size)


def is_grey(content: bytes) -> bool:
    """Whether an image file's header says that it has no colours; False if damaged."""
    try:
        return pillow().open(io.BytesIO(content)).mode in GREY
    except Exception:  # the reader of the pixels tells what is wrong
        return False


def as_array(
    image: Any, channels: int | None = None, size: int | None = None
) -> np.ndarray:
    """Returns the pixels of a Pillow image or of an array.

    Args:
      image: a Pillow image, or uint8 `[H, W]` or `[H, W, C]`.
      channels: 1 or 3 to convert a Pillow image; None: grey stays grey, all else
        becomes RGB. Arrays are not converted.
      size: side to resize to, see `resize`.

    Returns:
      uint8 `[H, W, C]`.

    Raises:
      JnasError: more than 8 bits a channel, or an array of another kind.

    Example:
      >>> as_array(np.zeros((8, 8), np.uint8)).shape
      (8, 8, 1)
    """
    if not is_pillow(image):
        array = np.asarray(image)
        if array.ndim not in (2, 3):
            raise errors.JnasError(
                f"image must be [H, W] or [H, W, C], got shape {list(array.shape)}"
            )
        array = checks.as_images(array[None], "image")[0]
        if size is None or array.shape[:2] == (size, size):
            return array
        if array.shape[2] not in (1, 3):
            raise errors.JnasError(
                f"only images of 1 or 3 channels can be resized, got {array.shape[2]}"
            )
        channels = array.shape[2]
        image = pillow().fromarray(array[..., 0] if channels == 1 else array)
    if image.mode in DEEP:
        raise errors.JnasError(
            f"image must have 8 bits a channel, got Pillow's mode {image.mode!r}: "
            "scale it to 0..255 and save it anew"
        )
    if channels is None:
        channels = 1 if image.mode in GREY else 3
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if size is not None:
        image = resize(image, size)
    array = np.array(image)
    return array[..., None] if array.ndim == 2 else array


def resize(image: Any, size: int) -> Any:
    """Scales the shorter side to `size` (bilinear, antialiased), then crops the centre.

    Args:
      image: a Pillow image of mode L or RGB.
      size: side of the square result.

    Returns:
      A Pillow image of `size` x `size`; the same one where it has this size.

    Example:
      >>> resize(pillow().new("L", (20, 10)), 8).size
      (8, 8)
    """
    width, height = image.size
    if width == height == size:
        return image
    short = min(width, height)
    wide, high = (max(size, round(side * size / short)) for side in (width, height))
    # Only what the crop keeps is computed: the box is the crop in the old pixels.
    left, top = (wide - size) // 2, (high - size) // 2
    across, down = width / wide, height / high
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), pillow().Resampling.BILINEAR, box=box)


def default_threads() -> int:
    """Returns how many threads decode where the user does not say: one a core."""
    # Those this process may use, where the platform tells.
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(16, cores)


def host_memory() -> float:
    """Returns the bytes of memory that this machine has; infinity if it won't tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def in_threads(
    work: Callable[[int], None], count: int, threads: int | None = None
) -> None:
    """Calls ``work(i)`` for each i below `count`, in stretches shared by threads.

    Args:
      work: stores its result itself; the first error, in order, is raised.
      count: how often.
      threads: how many; None: one a core; 1 stays in this thread.

    Example:
      >>> found = np.zeros(5, int)
      >>> in_threads(lambda i: found.__setitem__(i, i * i), 5, threads=2)
      >>> found.tolist()
      [0, 1, 4, 9, 16]
    """
    threads = default_threads() if threads is None else threads
    stretches = _stretches(count, threads)

    def several(stretch: range) -> None:
        for position in stretch:
            work(position)

    if threads == 1 or count < 32:
        return several(range(count))
    with futures.ThreadPoolExecutor(threads, "jnas-read") as pool:
        running = [pool.submit(several, stretch) for stretch in stretches]
        try:
            for future in running:
                future.result()
        except BaseException:
            for future in running:
                future.cancel()
            raise
    return None


def _stretches(count: int, threads: int) -> Sequence[range]:
    size = max(1, -(-count // (8 * threads)))
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
