"""Files of named arrays with a description: .npz, .safetensors, or an Orbax folder.

All three hold the same: arrays under names such as ``weights/skeleton/...``, and a JSON
object, which has the SHA-256 of everything. Nothing in them is ever executed: no
pickle, only shapes, types, numbers and text are read.
"""

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jnas.errors import JnasError
from jnas.run.workdir import one_line

__all__ = ["FORMAT", "check_path", "read", "write"]

FORMAT = 1
_KIND = "jnas network"
_ABOUT = "metadata"  # of .npz: the entry; of a folder: the file, with .json
_FILES = "checksums.json"  # of a folder
_INSTALL = "pip install 'jnas[safetensors]', or use a path that ends in .npz"


def check_path(path: Path) -> None:
    """Raises `JnasError` where nothing could be written; before a long training, say.

    Args:
      path: as of `write`.

    Raises:
      JnasError: the suffix is another one, a library is missing, or the path is taken
        by something else.

    Example:
      >>> check_path(Path("net.npz"))
    """
    _format(path)
    if path.suffix == ".safetensors":
        _safetensors()
    if path.exists() and path.is_dir() != (not path.suffix):
        kind = "folder" if path.is_dir() else "file"
        raise JnasError(f"{path} is a {kind} already: choose another path")
    if path.is_dir() and any(path.iterdir()) and not _is_ours(path):
        raise JnasError(
            f"{path} is a folder with other things in it: choose another path"
        )


def write(path: Path, arrays: Mapping[str, np.ndarray], about: dict[str, Any]) -> None:
    """Writes a file or folder, so that a reader finds the old or the new, no mixture.

    Args:
      path: ends in ``.npz`` or ``.safetensors``, or has no suffix: an Orbax folder.
      arrays: by name.
      about: what describes them, of JSON's types.

    Raises:
      JnasError: the path can't be written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write(Path(folder, "x.npz"), {"a": np.arange(3)}, {"note": "mine"})
      ...     arrays, about = read(Path(folder, "x.npz"))
      >>> arrays["a"].tolist(), about["note"]
      ([0, 1, 2], 'mine')
    """
    check_path(path)
    import jnas

    save = _format(path)[0]
    about = {"kind": _KIND, "format": FORMAT, "jnas": jnas.__version__, **about}
    about["checksum"] = _checksum(arrays, about)
    part = path.with_name(path.name + ".part" + path.suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(part)
        save(part, dict(arrays), json.dumps(about, allow_nan=False))
        if path.is_dir():  # a full folder is not replaced by the system
            old = path.with_name(path.name + ".old")
            _remove(old)
            os.replace(path, old)
            os.replace(part, path)
            _remove(old)
        else:
            os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            _remove(part)
        raise JnasError(
            f"can't write {path} ({error.strerror or one_line(error)}): check the "
            "space and permissions there"
        ) from error


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `write` wrote, and checks every byte of it.

    Args:
      path: of the file or folder.

    Returns:
      The arrays by name, and what describes them.

    Raises:
      JnasError: there is nothing, it is damaged, of another program, or of a newer
        version.

    Example:
      >>> read(Path("no.npz"))
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: there is no file or folder no.npz
    """
    if not path.exists():
        raise JnasError(f"there is no file or folder {path}")
    load = _format(path)[1]
    try:
        arrays, text = load(path)
        about = None if text is None else json.loads(text)
    except JnasError:
        raise
    # What is no such file may raise almost anything.
    except Exception as error:
        raise JnasError(
            f"{path} is damaged or no exported network ({one_line(error)}): export it "
            "again"
        ) from error
    if not isinstance(about, dict) or about.get("kind") != _KIND:
        raise JnasError(
            f"{path} is no network exported by jnas: it has no description of one; "
            "make it with jnas.run.save_weights or `jnas retrain --export`"
        )
    form = about.get("format")
    if type(form) is int and form > FORMAT:
        raise JnasError(
            f"{path} has format {form}, written by jnas {about.get('jnas')!s:.20}; "
            f"this jnas reads up to {FORMAT}: install a newer one"
        )
    checksum = about.pop("checksum", None)
    if form != FORMAT or checksum != _checksum(arrays, about):
        raise JnasError(
            f"{path} is damaged: its checksum does not match; export it again"
        )
    return arrays, about


def _format(path: Path) -> Any:
    """How to write and how to read a path."""
    known = {".npz": (_write_npz, _read_npz), "": (_write_orbax, _read_orbax)}
    known[".safetensors"] = (_write_safetensors, _read_safetensors)
    suffix = "" if path.is_dir() else path.suffix
    if suffix not in known:
        raise JnasError(
            f"the path of an exported network must end in .npz or .safetensors, or be "
            f"that of an Orbax folder (no suffix), got {str(path)!r}"
        )
    return known[suffix]


def _checksum(arrays: Mapping[str, np.ndarray], about: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        little = array.astype(array.dtype.newbyteorder("<"))
        digest.update(f"|{name}:{array.dtype.name}:{array.shape}|".encode())
        digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()


def _write_npz(path: Path, arrays: dict[str, np.ndarray], text: str) -> None:
    with open(path, "wb") as file:
        np.savez(file, **{**arrays, _ABOUT: np.array(text)})  # pyrefly: ignore
        file.flush()
        os.fsync(file.fileno())


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    if not zipfile.is_zipfile(path):
        raise ValueError("not a whole .npz archive")
    # Opened here, for NumPy leaves a file that it can't read open.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
        if _ABOUT not in stored:
            return {}, None
        text = stored[_ABOUT]
        if text.dtype.kind != "U" or text.shape:
            return {}, None
        names = [name for name in stored.files if name != _ABOUT]
        return {name: stored[name] for name in names}, text.item()


def _write_safetensors(path: Path, arrays: dict[str, np.ndarray], text: str) -> None:
    library = _safetensors()
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    data = library.numpy.save(arrays, metadata={"jnas": text})
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    with _safetensors().safe_open(str(path), framework="np") as stored:
        text = (stored.metadata() or {}).get("jnas")
        names = [] if text is None else stored.keys()
        return {name: stored.get_tensor(name) for name in names}, text


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise JnasError(f"this format needs a library: {_INSTALL}") from error
    return safetensors


def _write_orbax(path: Path, arrays: dict[str, np.ndarray], text: str) -> None:
    from orbax.checkpoint import v1 as ocp

    tree: Any = dict(arrays)
    ocp.save(str(path.absolute()), tree)
    files = {name: zlib.crc32(part.read_bytes()) for name, part in _parts(path)}
    (path / _FILES).write_text(json.dumps(files), encoding="utf-8")
    (path / f"{_ABOUT}.json").write_text(text, encoding="utf-8")


def _read_orbax(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    if not _is_ours(path):
        return {}, None
    # Before Orbax reads them: it tells of damage in pages, from other threads.
    files = json.loads((path / _FILES).read_text(encoding="utf-8"))
    if files != {name: zlib.crc32(part.read_bytes()) for name, part in _parts(path)}:
        raise ValueError("a file in it is missing, new or changed")
    from orbax.checkpoint import v1 as ocp

    stored: Any = ocp.load(str(path.absolute()))
    text = (path / f"{_ABOUT}.json").read_text(encoding="utf-8")
    return {name: np.asarray(array) for name, array in stored.items()}, text


def _parts(path: Path) -> list[tuple[str, Path]]:
    """The files that Orbax wrote, by name."""
    own = {path / _FILES, path / f"{_ABOUT}.json"}
    found = sorted(p for p in path.rglob("*") if p.is_file() and p not in own)
    return [(p.relative_to(path).as_posix(), p) for p in found]


def _is_ours(path: Path) -> bool:
    return (path / f"{_ABOUT}.json").is_file()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
