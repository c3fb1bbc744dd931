"""Checks of what users hand in: images, labels, statistics; one clear line each.

Shape letters: `N` examples, `H W C` image, `K` classes.
"""

from typing import Any

import numpy as np

from jnas import errors

__all__ = ["as_images", "as_labels", "check_range", "check_statistics"]


def as_images(images: Any, what: str = "images") -> np.ndarray:
    """Checks images given by a user and returns them as `[N, H, W, C]`.

    Args:
      images: uint8 `[N, H, W]` or `[N, H, W, C]`.
      what: what the message calls them.

    Returns:
      uint8 `[N, H, W, C]`.

    Raises:
      JnasError: for another type or rank, saying how to convert.

    Example:
      >>> as_images(np.zeros((2, 8, 8), np.uint8)).shape
      (2, 8, 8, 1)
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise errors.JnasError(
            f"{what} must be uint8 in 0..255, got {images.dtype}{_conversion(images)}"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise errors.JnasError(
            f"{what} must be [N, H, W] or [N, H, W, C], got shape {list(images.shape)}"
        )
    return images


def _conversion(images: np.ndarray) -> str:
    """Says how to make uint8 images of these, as the end of an error message."""
    if images.dtype.kind not in "fiu" or not images.size:
        return ": give arrays of pixels"
    low, high = images.min(), images.max()
    found = f" in [{low:g}, {high:g}]"
    if not (np.isfinite(low) and np.isfinite(high)):
        return f"{found}: replace what is not finite first"
    if images.dtype.kind == "f" and low >= 0 and high <= 1:
        return f"{found}: convert with np.round(images * 255).astype(np.uint8)"
    if low >= 0 and high <= 255:
        return f"{found}: convert with np.round(images).astype(np.uint8)"
    return f"{found}: scale to 0..255 first, then .astype(np.uint8)"


def as_labels(labels: Any, what: str = "labels") -> np.ndarray:
    """Checks labels given by a user and returns them as int32 `[N]`.

    Args:
      labels: `[N]`, any integer type.
      what: what the message calls them.

    Returns:
      int32 `[N]`.

    Raises:
      JnasError: for another type or rank, or a label that is negative or too large.

    Example:
      >>> as_labels([0, 2, 1]).dtype
      dtype('int32')
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise errors.JnasError(
            f"{what} must be integers 0..K-1, got {labels.dtype}: convert with "
            "np.unique(labels, return_inverse=True)[1]"
        )
    if labels.ndim != 1:
        hint = "use labels.argmax(-1) if they are one-hot"
        if labels.ndim == 2 and labels.shape[1] == 1:
            hint = "use labels.ravel()"
        raise errors.JnasError(
            f"{what} must be [N], got shape {list(labels.shape)}: {hint}"
        )
    wrong = np.flatnonzero((labels < 0) | (labels > np.iinfo(np.int32).max))
    if len(wrong):
        raise errors.JnasError(
            f"{what} must be integers 0..K-1, got {labels[wrong[0]]} at position "
            f"{wrong[0]}: renumber the classes from 0"
        )
    return labels.astype(np.int32)


def check_range(label: np.ndarray, num_classes: int, what: str) -> None:
    """Raises when a label lies outside 0..K-1, naming the first such label."""
    wrong = np.flatnonzero((label < 0) | (label >= num_classes))
    if len(wrong):
        raise errors.JnasError(
            f"{what} labels must lie in 0..{num_classes - 1}, got "
            f"{int(label[wrong[0]])} at position {wrong[0]}: renumber the classes "
            "or give the right num_classes"
        )


def check_statistics(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int
) -> None:
    """Raises a `JnasError` unless mean and std fit the channels and can be used."""
    if len(mean) != channels or len(std) != channels:
        raise errors.JnasError(
            f"mean and std need one number per channel ({channels}), got {len(mean)} "
            f"and {len(std)}"
        )
    for channel in range(channels):
        # Written so that NaN fails too.
        if not (abs(mean[channel]) < np.inf and 0 < std[channel] < np.inf):
            raise errors.JnasError(
                f"mean must be finite and std > 0, got mean {mean[channel]} and std "
                f"{std[channel]} in channel {channel}: a constant channel carries "
                "nothing, remove it"
            )
