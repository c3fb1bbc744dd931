"""Saves the state of a strategy: arrays in a .npz file, no pickle."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.discrete import folders
from jnas.discrete.base import Strategy
from jnas.errors import JnasError

__all__ = ["load_state", "save_state"]


def save_state(path: str | os.PathLike[str], strategy: Strategy, state: Any) -> None:
    """Writes a state, whole or not at all.

    Args:
      path: the file, ``.npz``.
      strategy: whose state it is.
      state: the state; its leaves are arrays (a strategy whose state lives on the host
        keeps arrays, too).

    Raises:
      JnasError: the path does not end in ``.npz``, or can't be written.

    Example:
      >>> import tempfile
      >>> from jnas.discrete import random_search
      >>> strategy = random_search("nasbench201")
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder) / "state.npz"
      ...     save_state(path, strategy, strategy.init(jax.random.key(0)))
      ...     load_state(path, strategy).asked.tolist()
      0
    """
    path = _checked(path)
    arrays = {"strategy": np.array(strategy.name), "config": _config(strategy)}
    for place, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        arrays["state" + jax.tree_util.keystr(place)] = _numpy(leaf)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            np.savez(file, **arrays)  # pyrefly: ignore
        os.replace(part, path)
    except OSError as error:
        raise JnasError(
            f"{path} can't be written ({error.strerror or error}): choose another path"
        ) from None


def load_state(path: str | os.PathLike[str], strategy: Strategy) -> Any:
    """Reads a state that `save_state` wrote.

    Args:
      path: the file.
      strategy: the strategy, made with the same arguments.

    Returns:
      The state, bit by bit.

    Raises:
      JnasError: there is no such file, it is damaged, or it is of another strategy.
    """
    path = _checked(path)
    try:
        # NumPy leaves a damaged file open that it opened itself.
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = dict(file)
    except FileNotFoundError:
        raise JnasError(f"there is no saved state {path}") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise JnasError(f"{path} is no saved state, or damaged ({error})") from None
    name = str(arrays.pop("strategy", "unknown"))
    if name != strategy.name:
        raise JnasError(
            f"{path} is the state of {name}, not of {strategy.name}: make the strategy "
            "that was saved"
        )
    _compare(path, strategy, str(arrays.pop("config", "null")))
    like = strategy.init(jax.random.key(0))
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    read = []
    for place, leaf in leaves:
        key = "state" + jax.tree_util.keystr(place)
        own = _numpy(leaf)
        found = arrays.pop(key, None)
        if found is None or found.shape != own.shape or found.dtype != own.dtype:
            got = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise JnasError(
                f"{path} holds {got} for {key}, expected {own.dtype}"
                f"{list(own.shape)}: make the strategy with the arguments of then"
            )
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            read.append(jax.random.wrap_key_data(jnp.asarray(found)))
        else:
            read.append(found if isinstance(leaf, np.ndarray) else jnp.asarray(found))
    if arrays:
        raise JnasError(
            f"{path} holds more than {strategy.name} has, such as {min(arrays)}: make "
            "the strategy with the arguments of then"
        )
    return treedef.unflatten(read)


def _checked(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix != ".npz":
        raise JnasError(f"a state is saved in a .npz file, got {str(path)!r}")
    return path


def _config(strategy: Strategy) -> np.ndarray:
    """The hyper-parameters, as a text."""
    return np.array(json.dumps(folders.plain(strategy.config), sort_keys=True))


def _compare(path: Path, strategy: Strategy, text: str) -> None:
    """Refuses a state of other hyper-parameters."""
    before, now = json.loads(text) or {}, json.loads(str(_config(strategy))) or {}
    for option in {**before, **now}:
        if before.get(option) != now.get(option):
            raise JnasError(
                f"{path} is a state of {strategy.name} with {option} = "
                f"{before.get(option)!r}, this one has {now.get(option)!r}: make the "
                "strategy with the arguments of then"
            )


def _numpy(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)
