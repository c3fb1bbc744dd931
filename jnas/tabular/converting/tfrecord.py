"""Records of a TFRecord file, without TensorFlow.

Each record is: its length (8 bytes, little-endian), the masked CRC-32C of these bytes
(4), the content, and the masked CRC-32C of that (4). Checksums are computed for many
records at once, a column of bytes at a time.

Source: TensorFlow's documentation of the format; RFC 3720, appendix B.4, for CRC-32C.
"""

import pathlib
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from jnas import errors

__all__ = ["masked_crc", "records"]

# Records whose checksums are computed together.
TOGETHER = 4096
# The benchmark's records have a few hundred bytes.
LARGEST = 2**24
_POLYNOMIAL = 0x82F63B78


def _table() -> np.ndarray:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = (values >> 1) ^ (_POLYNOMIAL * (values & 1)).astype(np.uint32)
    return values


_TABLE = _table()


def masked_crc(contents: list[bytes]) -> np.ndarray:
    """The masked CRC-32C of each content.

    Args:
      contents: ``n`` byte strings.

    Returns:
      uint32 ``[n]``.

    Example:
      >>> crc = masked_crc([b"123456789"])  # unmasked it is e3069283
      >>> back = (crc - np.uint32(0xA282EAD8)) & np.uint32(0xFFFFFFFF)
      >>> hex(int(((back >> 17) | (back << 15))[0]))
      '0xe3069283'
    """
    lengths = np.array([len(content) for content in contents], np.int64)
    longest = int(lengths.max(initial=0))
    padded = b"".join(content.ljust(longest, b"\0") for content in contents)
    columns = np.frombuffer(padded, np.uint8).reshape(len(contents), longest).T
    crc = np.full(len(contents), 0xFFFFFFFF, np.uint32)
    for place, column in enumerate(np.ascontiguousarray(columns)):
        step = _TABLE[(crc ^ column) & 0xFF] ^ (crc >> 8)
        crc = np.where(place < lengths, step, crc)
    crc = ~crc
    rotated = (crc >> 15) | (crc << 17)
    return rotated + np.uint32(0xA282EAD8)


def records(path: pathlib.Path) -> Iterator[tuple[bytes, int]]:
    """Reads records one after the other, with their checksums verified.

    Args:
      path: the file.

    Yields:
      The content of a record, and the place in the file behind it.

    Raises:
      JnasError: the file can't be read, is cut off or damaged.
    """
    try:
        with path.open("rb") as file:
            batch: list[tuple[bytes, bytes, int, int, int]] = []
            while record := _record(path, file):
                batch.append(record)
                if len(batch) == TOGETHER:
                    yield from _verified(path, batch)
                    batch = []
            yield from _verified(path, batch)
    except OSError as error:
        raise errors.JnasError(
            f"cannot read {path}: {error.strerror or error}"
        ) from error


def _record(
    path: pathlib.Path, file: BinaryIO
) -> tuple[bytes, bytes, int, int, int] | None:
    """Header, content, both checksums and the end of a record; None at the end."""
    start = file.read(12)
    if not start:
        return None
    content, length, header_crc = b"", 0, 0
    if len(start) == 12:
        length, header_crc = struct.unpack("<QI", start)
        if length > LARGEST:
            raise errors.JnasError(
                f"{path} is damaged or no TFRecord file (a record of {length} bytes): "
                "fetch it again"
            )
        content = file.read(length + 4)
    if len(start) < 12 or len(content) < length + 4:
        raise errors.JnasError(f"{path} is cut off: fetch it again")
    (crc,) = struct.unpack("<I", content[length:])
    return start[:8], content[:length], header_crc, crc, file.tell()


def _verified(
    path: pathlib.Path, batch: list[tuple[bytes, bytes, int, int, int]]
) -> Iterator[tuple[bytes, int]]:
    if not batch:
        return
    headers, contents, header_crcs, crcs, ends = map(list, zip(*batch, strict=True))
    for parts, told in ((headers, header_crcs), (contents, crcs)):
        wrong = np.flatnonzero(masked_crc(parts) != np.array(told, np.uint32))
        if len(wrong):
            raise errors.JnasError(
                f"{path} is damaged: the record that ends at byte {ends[wrong[0]]} "
                "doesn't fit its checksum: fetch it again"
            )
    yield from zip(contents, ends, strict=True)
