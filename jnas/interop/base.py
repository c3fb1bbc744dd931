"""What every format shares: the checks of what is given, and the tables' tools."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.errors import JnasError
from jnas.interop.layouts import (
    DEPTHWISE,
    KERNEL,
    LINEAR,
    POINTWISE,
    SAME,
    Entry,
    Layout,
    affine_norm,
    plain_norm,
    weight,
)
from jnas.interop.trees import dump, load
from jnas.networks import Network
from jnas.supernet import Supernet

__all__ = [
    "DEPTHWISE",
    "KERNEL",
    "LINEAR",
    "POINTWISE",
    "SAME",
    "Entry",
    "Layout",
    "affine_norm",
    "checked_arrays",
    "dump",
    "family",
    "input_shape",
    "load",
    "matrix",
    "no_counterpart",
    "plain_norm",
    "weight",
]


def family(net: Any) -> str:
    """Which of the reference's kinds of network ours is.

    Args:
      net: a supernet or a final network.

    Returns:
      "recurrent", "cells" (DARTS' skeleton) or "stages" (NAS-Bench-201's).

    Raises:
      JnasError: it is neither, or was not built by jnas.

    Example:
      >>> import jnas
      >>> family(jnas.networks.build("DARTS_V2", channels=4, cells=3))
      'cells'
    """
    if not isinstance(net, Supernet | Network):
        raise JnasError(
            "net must be a network of jnas (from jnas.supernet or jnas.networks), got "
            f"{type(net).__name__}"
        )
    names = (net.space if isinstance(net, Supernet) else net.genotype).names
    if names == ("recurrent",):
        return "recurrent"
    config = net.config or {}
    if names == ("normal",):
        raise JnasError(
            "arrays of the papers' code are known for DARTS networks with both cells: "
            "this one's reduction cells are fixed; use jnas.networks.export_module or "
            "jnas.networks.build's own weights"
        )
    if config.get("cells") is not None:
        return "cells"
    if config.get("cells_per_stage") is not None:
        return "stages"
    raise JnasError(
        "the papers' code has no counterpart of this network: only those of "
        "jnas.supernet.build and jnas.networks.build can be loaded and exported, got "
        f"config {config}"
    )


def no_counterpart(what: str, known: Iterable[str]) -> JnasError:
    """The error for a part of a network that the papers' code does not have.

    Args:
      what: the part.
      known: the operations that it has.

    Returns:
      The error, to be raised by the caller.

    Example:
      >>> str(no_counterpart("operation 'mine'", ["none"]))
      "the papers' code has no counterpart of operation 'mine' (it has: none)"
    """
    return JnasError(
        f"the papers' code has no counterpart of {what} (it has: "
        f"{', '.join(sorted(known))})"
    )


def checked_arrays(
    arrays: Mapping[str, Any],
    ignored: Iterable[str] = (),
    only: Iterable[str] | None = None,
) -> dict[str, np.ndarray]:
    """A state dict as NumPy arrays, without what has no counterpart.

    Args:
      arrays: name -> array. A leading "module." is stripped from names, entries named
        "num_batches_tracked" are left out.
      ignored: further names to leave out.
      only: the names to take, by default all.

    Returns:
      name -> array.

    Raises:
      JnasError: not a mapping, or a value is no array of real floating-point numbers.

    Example:
      >>> list(checked_arrays({"module.w": np.zeros(2), "bn.num_batches_tracked": 0}))
      ['w']
    """
    if not isinstance(arrays, Mapping):
        raise JnasError(
            "arrays must map names to NumPy arrays, got "
            f"{type(arrays).__name__}: pass {{k: v.numpy() for k, v in "
            "state_dict.items()}"
        )
    result: dict[str, np.ndarray] = {}
    for key, value in arrays.items():
        if not isinstance(key, str):
            raise JnasError(f"names of arrays must be strings, got {key!r}")
        name = key.removeprefix("module.")
        if name.split(".")[-1] == "num_batches_tracked" or name in ignored:
            continue
        if only is not None and name not in only:
            continue
        if name in result:
            raise JnasError(
                f"array {name!r} is given twice, with and without 'module.': keep one"
            )
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            raise JnasError(
                f"array {name!r} must be a NumPy array, got {type(value).__name__}"
            )
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise JnasError(
                f"array {name!r} must be a NumPy array, got {type(value).__name__}: "
                "convert it, e.g. by tensor.detach().cpu().numpy()"
            ) from error
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise JnasError(
                f"array {name!r} must hold floating-point numbers, got {array.dtype}"
            )
        result[name] = array
    return result


def matrix(arrays: Mapping[str, np.ndarray], name: str) -> jax.Array:
    """Architecture parameters: an entry that must be a matrix.

    Args:
      arrays: from `checked_arrays`.
      name: of the entry.

    Returns:
      The array, ``[edges, operations]``.

    Raises:
      JnasError: it is missing or no matrix.

    Example:
      >>> matrix({"alphas": np.zeros((2, 3))}, "alphas").shape
      (2, 3)
    """
    if name not in arrays:
        raise JnasError(
            f"the arrays have no {name!r}: pass those of a search network, with its "
            "architecture parameters"
        )
    if arrays[name].ndim != 2:
        raise JnasError(
            f"{name} must be [edges, operations], got shape {list(arrays[name].shape)}"
        )
    return jnp.asarray(arrays[name])


def input_shape(arrays: Mapping[str, np.ndarray], stem: str, size: int):
    """The images a checkpoint was made for: the channels are those of its stem.

    Args:
      arrays: the state dict.
      stem: name of the first convolution's weight.
      size: height and width.

    Returns:
      A shape struct ``[1, size, size, channels]``; 3 channels without a stem.

    Example:
      >>> input_shape({"conv": np.zeros((8, 1, 3, 3))}, "conv", 8).shape
      (1, 8, 8, 1)
    """
    kernel = arrays.get(stem)
    channels = 3 if kernel is None or kernel.ndim != 4 else kernel.shape[1]
    return jax.ShapeDtypeStruct((1, size, size, max(channels, 1)), jnp.float32)
