"""Files out of a tar archive or a folder, without unpacking anything to the disk."""

import bz2
import gzip
import hashlib
import logging
import lzma
import pathlib
import tarfile
import zlib
from collections.abc import Collection
from typing import Any

from jnas import errors

__all__ = ["check_md5", "is_archive", "md5", "members"]

_log = logging.getLogger("jnas")
ENDINGS = (".tar.gz", ".tgz", ".tar")


def is_archive(name: str) -> bool:
    """Whether a file's name is that of a tar archive.

    Example:
      >>> is_archive("cifar-10-python.tar.gz"), is_archive("photos.zip")
      (True, False)
    """
    return name.lower().endswith(ENDINGS)


def members(path: pathlib.Path, names: Collection[str]) -> dict[str, bytes]:
    """Reads the files with these names, wherever they are in the archive.

    Args:
      path: a tar archive, packed or not, or a folder, whose own files are meant.
      names: last parts of paths.

    Returns:
      The contents of those that are there, by name; of equal names the first one.

    Raises:
      JnasError: the archive is damaged, or a file cannot be read.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = pathlib.Path(folder, "a").write_bytes(b"first")
      ...     members(pathlib.Path(folder), {"a", "b"})
      {'a': b'first'}
    """
    try:
        if path.is_dir():
            files = {name: path / name for name in names}
            return {n: f.read_bytes() for n, f in files.items() if f.is_file()}
        with _unpacked(path) as stream:
            found = _members(stream, names)
            # The checksum is at the end, behind the padding that tar does not read.
            while stream.read(2**20):
                pass
        return found
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is None:  # gzip and bzip2 tell of damage this way
            raise _damaged(path, error) from error
        raise errors.JnasError(
            f"cannot read {path}: {error.strerror or error}"
        ) from error
    # Damaged headers hold wrong numbers and texts.
    except (ValueError, OverflowError, MemoryError) as error:
        raise _damaged(path, error) from error


def _unpacked(path: pathlib.Path) -> Any:
    """Opens a tar archive that may be packed."""
    with path.open("rb") as file:
        start = file.read(6)
    if start[:2] == b"\x1f\x8b":
        return gzip.open(path)
    if start[:3] == b"BZh":
        return bz2.open(path)
    if start == b"\xfd7zXZ\0":
        return lzma.open(path)
    return path.open("rb")


def _members(stream: Any, names: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            # Links and devices could lead out of the archive.
            if member.isreg() and name in names and name not in found:
                content = archive.extractfile(member)
                if content is not None:
                    found[name] = content.read()
    return found


def md5(content: bytes | pathlib.Path) -> str:
    """Returns the MD5 sum of bytes or of a file, as publishers of data give it.

    Example:
      >>> md5(b"")
      'd41d8cd98f00b204e9800998ecf8427e'
    """
    if isinstance(content, bytes):
        return hashlib.md5(content, usedforsecurity=False).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.md5(usedforsecurity=False)
        ).hexdigest()


def check_md5(content: bytes, published: str, path: pathlib.Path) -> bool:
    """Warns where a file's MD5 sum is not the published one; returns whether it is."""
    same = md5(content) == published
    if not same:
        _log.warning(
            "%s does not have the published checksum: it was repacked or changed", path
        )
    return same


def _damaged(path: pathlib.Path, error: BaseException) -> errors.JnasError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return errors.JnasError(
        f"{path} is damaged or no tar archive ({reason}): fetch it again"
    )
