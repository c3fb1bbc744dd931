"""Checkpoints: what a run needs to go on, bit for bit.

One Orbax checkpoint a folder ``<step>``, which any Orbax reader opens. It holds host
copies of the leaves under the names of their paths. The differences from handing the
tree to Orbax directly, and why:

* Host copies are made before the next step runs, so donated buffers are safe and
  the writing goes on in a thread beside the computation.
* Keys are stored as their data, with the name of their generator; arrays without
  elements, which Orbax refuses, by their shape alone.
* ``jnas.json`` in the folder tells what the leaves are and holds a checksum of every
  file, and of itself. These are checked before Orbax sees the folder: a flipped bit
  is no valid restart, and Orbax tells of damage by pages of tracebacks in the log.
* A folder gets its name only when it is complete, and loses it before it is deleted,
  so a process killed at any moment leaves whole checkpoints (`os.replace` is atomic).
"""

import contextlib
import json
import logging
import os
import re
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.errors import JnasError
from jnas.run import metrics
from jnas.run.workdir import one_line

__all__ = ["Checkpoints", "Saved"]

FORMAT = 1
_ABOUT = "jnas.json"
_SAVING = ".saving-"
_DELETING = ".deleting-"
_log = logging.getLogger("jnas")


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      step: the number of finished steps.
      state: the state.
      sums: the sums of the metrics since the epoch began.
      extra: plain numbers and texts.
    """

    step: int
    state: Any
    sums: dict[str, jax.Array]
    extra: dict[str, Any]


class Checkpoints:
    """The checkpoints in one folder; the latest `keep` are kept.

    Attributes:
      seconds: how long the last save took, in its thread.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     checkpoints = Checkpoints(Path(folder), keep=2)
      ...     checkpoints.save(7, {"x": jnp.ones(3)}, {}, seconds=0.5)
      ...     checkpoints.wait()
      ...     saved = checkpoints.load(7, {"x": jax.ShapeDtypeStruct((3,), "float32")})
      >>> saved.step, saved.state
      (7, {'x': Array([1., 1., 1.], dtype=float32)})
    """

    def __init__(self, folder: Path, *, keep: int, period: int = 1):
        """Names the folder; of the multiples of ``period`` so many are kept, too."""
        self._folder = folder.absolute()  # Orbax takes no other
        self._keep, self._period = keep, period
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.seconds = 0.0

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending; other entries are ignored."""
        if not self._folder.exists():
            return []
        if not self._folder.is_dir():
            raise JnasError(
                f"{self._folder} must be a folder of checkpoints, got a file: choose "
                f"another workdir, or delete {self._folder.parent} to start again"
            )
        return sorted(
            int(entry.name)
            for entry in self._folder.iterdir()
            if re.fullmatch("0|[1-9][0-9]*", entry.name) and entry.is_dir()
        )

    def save(
        self,
        step: int,
        state: Any,
        sums: dict[str, Any],
        **extra: float | bool | str | None,
    ) -> None:
        """Copies everything to the host and starts to write it, after any save before.

        Args:
          step: the name of the checkpoint.
          state: a pytree of arrays; its buffers may be donated once this returns.
          sums: scalars by name; likewise.
          **extra: plain numbers and texts to keep with it.

        Raises:
          JnasError: if the save before this one failed.
        """
        arrays, leaves = _to_host({**_named(state, "state"), **_named(sums, "sums")})
        about = {"format": FORMAT, "step": step, "leaves": leaves, "extra": extra}
        self.wait()
        self._thread = threading.Thread(
            target=self._write, args=(step, arrays, about), name=f"jnas-save-{step}"
        )
        self._thread.start()

    def wait(self) -> None:
        """Returns when everything is on the disk.

        Raises:
          JnasError: if it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise JnasError(
                f"can't write a checkpoint in {self._folder} ({one_line(error)}): "
                "check the space and permissions there; earlier checkpoints are intact"
            ) from error

    def latest(self, template: Any) -> Saved | None:
        """Loads the latest checkpoint.

        Args:
          template: the state with `jax.ShapeDtypeStruct` as leaves.

        Returns:
          What it holds, or None if there is none.

        Raises:
          JnasError: if it is damaged, naming the latest one that is not.
        """
        steps = self.steps()
        if not steps:
            return None
        try:
            return self.load(steps[-1], template)
        except _DamagedError as damage:
            raise JnasError(f"{damage}; {self._advice(steps, template)}") from damage

    def load(self, step: int, template: Any) -> Saved:
        """Loads one checkpoint into fresh buffers.

        Args:
          step: its name.
          template: the state with `jax.ShapeDtypeStruct` as leaves.

        Returns:
          What it holds, with the bits that were saved.

        Raises:
          JnasError: if it is not whole, or not of this state.
        """
        path = self._folder / str(step)
        try:
            about = _check_files(path)
            from orbax.checkpoint import v1 as ocp

            with _quiet():
                stored = ocp.load(str(path))
            return _from_host(about, stored, step, template)
        # what passed the checks and is still no checkpoint may raise almost anything
        except Exception as error:
            raise _DamagedError(
                f"checkpoint {path} is damaged or not of this run ({one_line(error)})"
            ) from error

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints after a step, the latest first.

        Args:
          step: of the last one that stays.
        """
        for later in reversed(self.steps()):
            if later > step:
                self._delete(later)

    def clear(self) -> None:
        """Removes what saves and deletions that were killed have left behind."""
        if self._folder.is_dir():
            for entry in self._folder.iterdir():
                if entry.name.startswith((_SAVING, _DELETING)):
                    shutil.rmtree(entry, ignore_errors=True)

    def _advice(self, steps: list[int], template: Any) -> str:
        for step in reversed(steps[:-1]):
            with contextlib.suppress(_DamagedError):
                self.load(step, template)
                bad = [str(s) for s in steps if s > step]
                return (
                    f"the earlier checkpoint {step} is intact: remove the folder(s) "
                    f"{', '.join(bad)} there to go on from it"
                )
        return f"no earlier one is intact: delete {self._folder.parent} to start again"

    def _write(self, step: int, arrays: dict[str, Any], about: dict[str, Any]) -> None:
        try:
            from orbax.checkpoint import v1 as ocp

            start = time.perf_counter()
            self._folder.mkdir(exist_ok=True)
            part = self._folder / f"{_SAVING}{step}"
            shutil.rmtree(part, ignore_errors=True)
            tree: Any = {"leaves": arrays, "step": np.asarray(step)}
            with _quiet():
                ocp.save(str(part), tree)
            about["files"] = {
                path.relative_to(part).as_posix(): _checksum(path.read_bytes())
                for path in sorted(part.rglob("*"))
                if path.is_file()
            }
            about["crc32"] = _own_checksum(about)
            metrics.write_atomically(part / _ABOUT, json.dumps(about) + "\n")
            os.replace(part, self._folder / str(step))
            self._delete_old()
            self.seconds = time.perf_counter() - start
            _log.debug("saved step %d in %.2f s", step, self.seconds)
        except BaseException as error:  # it is raised by `wait`
            self._error = error

    def _delete_old(self) -> None:
        steps = self.steps()
        marked = [step for step in steps if step % self._period == 0]
        kept = {*steps[-min(self._keep, 2) :], *marked[-self._keep :]}
        for step in steps:
            if step not in kept:
                self._delete(step)

    def _delete(self, step: int) -> None:
        away = self._folder / f"{_DELETING}{step}"
        shutil.rmtree(away, ignore_errors=True)
        os.replace(self._folder / str(step), away)
        shutil.rmtree(away, ignore_errors=True)


class _DamagedError(JnasError):
    """A checkpoint that can't be used."""


def _to_host(tree: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copies the leaves; returns them by name, and what is known of each."""
    data = {n: jax.random.key_data(x) if _is_key(x) else x for n, x in tree.items()}
    arrays: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for name, values in jax.device_get(data).items():
        leaf = tree[name]
        about[name] = {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        if _is_key(leaf):
            about[name]["generator"] = str(jax.random.key_impl(leaf))
        if leaf.size:
            # on the CPU device_get may give a view of a buffer that is donated next
            arrays[name] = np.array(values, order="C", copy=True)
    return arrays, about


def _from_host(about: Any, stored: Any, step: int, template: Any) -> Saved:
    """Rebuilds the state; a ValueError says what is wrong."""
    if about["step"] != step or int(stored["step"]) != step:
        raise ValueError(f"it is of step {about['step']}")
    wanted = _named(template, "state")
    sums = [name for name in about["leaves"] if name.split(".")[0] == "sums"]
    if set(about["leaves"]) - set(sums) != set(wanted):
        differing = sorted((set(about["leaves"]) - set(sums)) ^ set(wanted))
        raise ValueError(f"its arrays differ, as in {differing[:3]}")

    def restore(name: str, leaf: Any = None) -> jax.Array:
        known = about["leaves"][name]
        kind = f"{known['dtype']}{known['shape']}"
        if leaf is not None and kind != f"{leaf.dtype}{list(leaf.shape)}":
            raise ValueError(f"{name} is {kind}, not {leaf.dtype}{list(leaf.shape)}")
        if 0 in known["shape"]:
            return jnp.zeros(known["shape"], leaf.dtype if leaf else known["dtype"])
        array = np.asarray(stored["leaves"][name])
        # device_put may alias the memory of NumPy, and the state is donated
        value = jnp.array(array, copy=True)
        if "generator" in known:
            value = jax.random.wrap_key_data(value, impl=known["generator"])
        if f"{value.dtype}{list(value.shape)}" != kind:
            raise ValueError(f"{name} came out as {value.dtype}{list(value.shape)}")
        return value

    state = [restore(name, leaf) for name, leaf in wanted.items()]
    return Saved(
        step=step,
        state=jax.tree.unflatten(jax.tree.structure(template), state),
        sums={name.removeprefix("sums."): restore(name) for name in sums},
        extra=about["extra"],
    )


def _named(tree: Any, root: str) -> dict[str, Any]:
    """The leaves under unique names, short ones where these suffice."""
    entries = jax.tree_util.tree_flatten_with_path(tree)[0]
    paths, leaves = [path for path, _ in entries], [leaf for _, leaf in entries]
    keystr = jax.tree_util.keystr
    names = [".".join([root, *(keystr((k,), simple=True) for k in p)]) for p in paths]
    if len(set(names)) < len(names):
        names = [root + keystr(path) for path in paths]
    return dict(zip(names, leaves, strict=True))


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _check_files(folder: Path) -> dict[str, Any]:
    """Reads what the folder should hold; a ValueError says what is wrong with it."""
    if not (folder / _ABOUT).is_file():
        raise ValueError(f"it has no {_ABOUT}")
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    if about["crc32"] != _own_checksum(about):
        raise ValueError(f"the checksum of {_ABOUT} does not match")
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {about['format']}, expected {FORMAT}")
    for name, expected in about["files"].items():
        if not (folder / name).is_file():
            raise ValueError(f"the file {name} is missing")
        if _checksum((folder / name).read_bytes()) != expected:
            raise ValueError(f"the checksum of the file {name} does not match")
    return about


def _own_checksum(about: dict[str, Any]) -> int:
    rest = {name: value for name, value in about.items() if name != "crc32"}
    return _checksum(json.dumps(rest, sort_keys=True).encode())


def _checksum(data: bytes) -> int:
    return zlib.crc32(data)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what Orbax tells of each save out of the log of the application."""

    def loud(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or "orbax" not in record.pathname

    logger = logging.getLogger("absl")
    logger.addFilter(loud)
    try:
        yield
    finally:
        logger.removeFilter(loud)
