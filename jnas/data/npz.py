"""A user's own set from one ``.npz`` file.

Either the arrays ``image`` and ``label`` (split by the library), or ``x_train``,
``y_train``, ``x_test``, ``y_test`` and optionally ``x_val``, ``y_val``; or encoded
images as `jnas.data.jpeg` describes. Files are read without pickle, so that opening one
can never run code.
"""

import os
import pathlib
import zipfile
import zlib

import numpy as np

from jnas import errors
from jnas.data import base, jpeg, splits, streamed

__all__ = ["load"]

ALL = ("image", "label")
TRAIN = ("x_train", "y_train")
VALIDATION = ("x_val", "y_val")
TEST = ("x_test", "y_test")
ALLOWED = (set(ALL), {*TRAIN, *TEST}, {*TRAIN, *VALIDATION, *TEST})
LAYOUTS = (
    "image, label or x_train, y_train, x_test, y_test with or without x_val, y_val, "
    "or {train,test}_{jpeg,offsets,labels} with or without "
    "class_names"
)


def load(
    path: str | os.PathLike[str], *, stream: bool = False, resize: int | None = None
) -> base.Dataset | streamed.StreamDataset:
    """Loads a dataset from an ``.npz`` file; its name is the file's.

    Args:
      path: the file.
      stream: of encoded images: decode them when they are needed.
      resize: of encoded images: side that they are resized to.

    Returns:
      The dataset; see `jnas.data.from_arrays` for checks and the split rule. It has
      no augmentation: set one with ``dataclasses.replace``.

    Raises:
      JnasError: in one line, for whatever is wrong with the file or its arrays.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "mine.npz")
      ...     image = np.zeros((20, 8, 8), np.uint8)
      ...     image[:, 0] = 255
      ...     np.savez(path, image=image, label=np.arange(20) % 2)
      ...     load(path).name
      'mine'
    """
    path = pathlib.Path(path).expanduser()
    arrays = _read(path)
    keys = set(arrays)
    if keys - {jpeg.NAMES} == jpeg.ARRAYS:
        options = {"stream": stream, "resize": resize, "source": path.name}
        try:
            return jpeg.from_blobs(arrays, path.stem, **options)
        except errors.JnasError as error:
            raise errors.JnasError(f"{path}: {error}") from error
    if keys not in ALLOWED:
        raise errors.JnasError(
            f"{path} must hold exactly the arrays {LAYOUTS}, got "
            f"{', '.join(sorted(keys)) or 'none'}"
        )
    if resize is not None:
        raise errors.JnasError(
            f"{path} holds pixels, and resize is for encoded images: leave it out"
        )
    try:
        if keys == set(ALL):
            return splits.from_arrays(
                *_pair(arrays, ALL), name=path.stem, source=path.name
            )
        return splits.from_arrays(
            *_pair(arrays, TRAIN),
            validation=_pair(arrays, VALIDATION) if "x_val" in keys else None,
            test=_pair(arrays, TEST),
            name=path.stem,
            source=path.name,
        )
    except errors.JnasError as error:
        raise errors.JnasError(f"{path}: {error}") from error


def _pair(
    arrays: dict[str, np.ndarray], keys: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images and the labels stored under these two names."""
    return arrays[keys[0]], arrays[keys[1]]


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all arrays, turning every way a file can be bad into one line."""
    key = ""
    try:
        arrays = {}
        # Opened here, because np.load leaves a file that it cannot read open.
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise errors.JnasError(
                    f"{path} holds one bare array: save images and labels together "
                    "with np.savez(path, image=..., label=...)"
                )
            with stored:
                for key in stored.files:
                    arrays[key] = stored[key]
    except errors.JnasError:
        raise
    except FileNotFoundError as error:
        raise errors.JnasError(f"there is no file {path}") from error
    except OSError as error:
        raise errors.JnasError(
            f"cannot read {path}: {error.strerror or error}"
        ) from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        reason = " ".join(str(error).split())
        if "allow_pickle" in reason:
            what = f"array {key!r} of {path}" if key else str(path)
            raise errors.JnasError(
                f"{what} cannot be read without pickle, which could run code: save "
                "plain uint8 and integer arrays with np.savez"
            ) from error
        raise errors.JnasError(
            f"{path} is damaged or no .npz file ({reason}): write it again with "
            "np.savez"
        ) from error
    return arrays
