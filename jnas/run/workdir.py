"""The folder of a run: its lock, and the description that a resumed run must match.

``config.json`` is written at the first start. A later start in the same folder goes
on only if it describes the same run: another seed, schedule or model would mix two
experiments, and the bits of the result would depend on when the first was stopped.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from jnas.errors import JnasError
from jnas.run import metrics

try:
    import fcntl
except ImportError:  # not a POSIX system: go without the lock
    fcntl = None

__all__ = ["claim", "fingerprint", "match_config"]

FORMAT = 1
_SHOWN = 6
_ABSENT = object()


def fingerprint(tree: Any) -> str:
    """Describes a pytree by a hash of its paths, shapes and dtypes, not its values.

    Args:
      tree: a pytree of arrays or of `jax.ShapeDtypeStruct`.

    Returns:
      The hash and, for people, the counts of arrays and numbers.

    Example:
      >>> import numpy as np
      >>> fingerprint({"w": np.zeros((3, 2), np.float32)})
      'sha256:8f6b423e083fcb82 (1 arrays, 6 numbers)'
    """
    hasher = hashlib.sha256()
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path)
        hasher.update(f"{name}:{leaf.shape}:{leaf.dtype}\n".encode())
    numbers = sum(leaf.size for _, leaf in leaves)
    return f"sha256:{hasher.hexdigest()[:16]} ({len(leaves)} arrays, {numbers} numbers)"


@contextlib.contextmanager
def claim(workdir: Path) -> Iterator[None]:
    """Makes the folder if need be and keeps other processes out of it.

    The kernel releases the lock when the process ends, however it ends.

    Args:
      workdir: the folder.

    Raises:
      JnasError: if the folder can't be written or another process works in it.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, claim(Path(folder)):
      ...     Path(folder, ".lock").exists()
      True
    """
    if workdir.exists() and not workdir.is_dir():
        raise JnasError(
            f"workdir {workdir} must be a folder, got a file: choose another path"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = os.open(workdir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise JnasError(
            f"workdir {workdir} can't be written ({error.strerror or error}): choose "
            "another path or change its permissions"
        ) from error
    try:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(lock, 32).decode(errors="replace").strip()
                raise JnasError(
                    f"workdir {workdir} is in use by another run (process "
                    f"{holder or 'unknown'}): wait for it, stop it, or choose another "
                    "workdir"
                ) from error
            except OSError:
                pass  # a file system without locks
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def match_config(workdir: Path, description: dict[str, Any]) -> None:
    """Writes ``config.json`` at the first start, compares with it at a later one.

    Args:
      workdir: the folder of the run.
      description: what the run is; made of JSON's types.

    Raises:
      JnasError: naming each field that differs, or if the file can't be read.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     match_config(Path(folder), {"seed": 0})
      ...     match_config(Path(folder), {"seed": 0})
    """
    path = workdir / "config.json"
    description = metrics.as_json({"format": FORMAT, **description}, "config")
    if not path.exists():
        text = json.dumps(description, indent=2, allow_nan=False) + "\n"
        metrics.write_atomically(path, text)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError("not an object")
    except (ValueError, OSError, RecursionError) as error:
        raise JnasError(
            f"{path} can't be read ({one_line(error)}): choose another workdir, or "
            "delete this one to start again"
        ) from error
    got, expected = _fields(description), _fields(before)
    differing = [
        f"{name}: got {_show(got, name)}, expected {_show(expected, name)}"
        for name in dict.fromkeys([*got, *expected])
        if got.get(name, _ABSENT) != expected.get(name, _ABSENT)
    ]
    if differing:
        more = len(differing) - _SHOWN
        listed = "; ".join(differing[:_SHOWN]) + (f"; {more} more" if more > 0 else "")
        raise JnasError(
            f"workdir {workdir} holds another run ({listed}): give the settings it "
            "was started with, choose another workdir, or delete it to start again"
        )


def _fields(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts to dotted names."""
    if not isinstance(tree, dict) or (prefix and not tree):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _fields(value, f"{prefix}.{name}" if prefix else name)
    return flat


def _show(fields: dict[str, Any], name: str) -> str:
    return json.dumps(fields[name]) if name in fields else "nothing"


def one_line(error: BaseException) -> str:
    """The message of an error, or its type, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
