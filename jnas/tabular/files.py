"""Files of tables: where they are, how they are read, checked and written.

A table is one ``.npz`` of plain arrays, read without pickle. An array ``checksum``, the
SHA-256 of all others, is verified where it is present; converters write it.
"""

import hashlib
import lzma
import os
import pathlib
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from jnas import errors
from jnas.data import folders

__all__ = ["Arrays", "checksum", "default_folder", "find", "read", "write"]

CHECKSUM = "checksum"
# The folder of tables within the user's data folder.
FOLDER = "tables"


def default_folder() -> pathlib.Path:
    """The folder of tables that converters write to by default.

    Example:
      >>> default_folder().name
      'tables'
    """
    return folders.user_folder() / FOLDER


def find(
    names: Sequence[str], path: str | os.PathLike[str] | None = None
) -> pathlib.Path | None:
    """Looks for a table.

    Args:
      names: names that its file may have, the first is preferred.
      path: the file itself or its folder, the only place then; by default
        ``$JNAS_DATA`` and the user's data folder, both also in a folder ``tables``.

    Returns:
      The first file there is, or None.

    Example:
      >>> find(["no-such-table.npz"]) is None
      True
    """
    if path is not None:
        given = pathlib.Path(path).expanduser()
        if not given.is_dir():
            return given if given.exists() else None
    for folder in folders.candidates(FOLDER, path):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


class Arrays:
    """The arrays of one file, taken with checks whose errors name the file.

    Args:
      path: the file, for messages.
      arrays: what it holds.

    Example:
      >>> arrays = Arrays("t.npz", {"a": np.zeros((3, 2))})
      >>> arrays.take("a", (3, None)).shape
      (3, 2)
      >>> arrays.take("a", (4, None))
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: array 'a' of t.npz must be f [4, any], got float64 [3, 2]
    """

    def __init__(self, path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]):
        self.path = path
        self.arrays = arrays

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def take(
        self, name: str, shape: tuple[int | None, ...], kinds: str = "f"
    ) -> np.ndarray:
        """Returns an array that must be there.

        Args:
          name: its name.
          shape: its shape, None for any length.
          kinds: letters of NumPy's kinds of dtypes that it may have.

        Returns:
          The array.

        Raises:
          JnasError: it is missing or of another shape or dtype.
        """
        if name not in self.arrays:
            raise errors.JnasError(
                f"{self.path} has no array {name!r}, it holds "
                f"{', '.join(sorted(self.arrays)) or 'none'}"[:400]
            )
        found = self.arrays[name]
        fits = len(shape) == found.ndim and all(
            wanted in (None, length)
            for wanted, length in zip(shape, found.shape, strict=True)
        )
        if not fits or found.dtype.kind not in kinds:
            listed = ", ".join("any" if n is None else str(n) for n in shape)
            raise errors.JnasError(
                f"array {name!r} of {self.path} must be {'/'.join(kinds)} [{listed}], "
                f"got {found.dtype.name} {list(found.shape)}"
            )
        return found

    def measured(
        self,
        name: str,
        shape: tuple[int | None, ...],
        highest: float = np.inf,
        kinds: str = "f",
    ) -> np.ndarray:
        """Returns an array of measurements: in [0, highest] or NaN, not all NaN.

        Args:
          name: its name.
          shape: its shape, None for any length.
          highest: the largest value that can be.
          kinds: letters of NumPy's kinds of dtypes that it may have.

        Returns:
          The array.

        Raises:
          JnasError: it is missing, of another kind, or holds what can't be.
        """
        found = self.take(name, shape, kinds)
        known = found[~np.isnan(found)] if found.dtype.kind == "f" else found
        if not known.size:
            raise errors.JnasError(f"array {name!r} of {self.path} holds only NaN")
        low, high = known.min(), known.max()
        if not (low >= 0 and high <= highest and np.isfinite(high)):
            raise errors.JnasError(
                f"array {name!r} of {self.path} must be within 0..{highest:g}, got "
                f"{low:g}..{high:g}"
            )
        return found


def read(path: str | os.PathLike[str]) -> Arrays:
    """Reads a table's arrays and verifies its checksum, where it has one.

    Args:
      path: an ``.npz`` file.

    Returns:
      The arrays, but for the checksum.

    Raises:
      JnasError: in one line, for whatever is wrong with the file.
    """
    path = pathlib.Path(path)
    try:
        # Opened here, because np.load leaves a file that it cannot read open.
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise errors.JnasError(f"{path} is one bare array, no .npz of a table")
            with stored:
                arrays = {name: stored[name] for name in stored.files}
    except errors.JnasError:
        raise
    except FileNotFoundError as error:
        raise errors.JnasError(f"there is no file {path}") from error
    # Damaged headers hold wrong lengths, versions, texts and methods of packing.
    except (
        OSError, ValueError, EOFError, KeyError, IndexError, TypeError, SyntaxError,
        OverflowError, MemoryError, RuntimeError,
        zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno is not None:
            raise errors.JnasError(
                f"cannot read {path}: {error.strerror or error}"
            ) from error
        reason = " ".join(str(error).split())[:200]
        raise errors.JnasError(
            f"{path} is damaged or no .npz file ({reason}): convert or copy it again"
        ) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise errors.JnasError(f"{path} holds {name!r}, which is no array")
    told = arrays.pop(CHECKSUM, None)
    if told is not None and told.tobytes() != checksum(arrays).tobytes():
        raise errors.JnasError(
            f"{path} is damaged: its arrays don't fit its checksum: convert or copy it "
            "again"
        )
    return Arrays(path, arrays)


def checksum(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """SHA-256 of arrays: their names, dtypes, shapes and bytes, in order of names.

    Args:
      arrays: the arrays.

    Returns:
      uint8 [32].

    Example:
      >>> checksum({"a": np.zeros(3)}).shape
      (32,)
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def write(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]
) -> pathlib.Path:
    """Writes a table with its checksum: the whole file, or nothing.

    Args:
      path: the file.
      arrays: what to write.

    Returns:
      The path.

    Raises:
      JnasError: it can't be written.
    """
    path = pathlib.Path(path)
    kept = {name: array for name, array in arrays.items() if name != CHECKSUM}
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = pathlib.Path(file.name)
            stored: dict[str, np.ndarray] = {**kept, CHECKSUM: checksum(kept)}
            np.savez_compressed(file, allow_pickle=False, **stored)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise errors.JnasError(
            f"cannot write {path}: {error.strerror or error}"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path
