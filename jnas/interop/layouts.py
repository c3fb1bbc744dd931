"""Tables of names: which array of the reference is which leaf of ours, laid out how.

A format is a list of `Entry`; one list serves both directions.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = [
    "DEPTHWISE",
    "KERNEL",
    "LINEAR",
    "POINTWISE",
    "SAME",
    "Entry",
    "Layout",
    "affine_norm",
    "plain_norm",
    "weight",
]


class Layout(NamedTuple):
    """How an array is laid out on the two sides.

    Attributes:
      load: from the reference's array to ours.
      dump: back; ``dump(load(x))`` is ``x``.
    """

    load: Callable[[np.ndarray], np.ndarray]
    dump: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda a: a, lambda a: a)
# Kernels are [out, in, height, width] there and [height, width, in, out] here.
KERNEL = Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
# One input per output: [channels, 1, height, width] there.
DEPTHWISE = Layout(
    lambda a: a[:, 0].transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1)[:, None]
)
# Windows of one pixel: [out, in, 1, 1] there, [in, out] here.
POINTWISE = Layout(lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])
LINEAR = Layout(lambda a: a.T, lambda a: a.T)


class Entry(NamedTuple):
    """One array of the reference.

    Attributes:
      name: in the state dict.
      collection: "params", or the collection of the model state.
      path: keys of our leaf.
      layout: of the array.
      row: of our leaf, if it stacks several arrays; else None. Statistics may share a
        row: they are the same numbers.
    """

    name: str
    collection: str
    path: tuple[str, ...]
    layout: Layout = SAME
    row: int | None = None


def weight(name: str, path: tuple[str, ...], layout: Layout) -> list[Entry]:
    """The entry of a module that has only a weight.

    Args:
      name: of the module in the state dict.
      path: of our leaf.
      layout: of the array.

    Returns:
      One entry.

    Example:
      >>> weight("stem.0", ("skeleton", "stem_conv", "kernel"), KERNEL)[0].name
      'stem.0.weight'
    """
    return [Entry(f"{name}.weight", "params", path, layout)]


def affine_norm(name: str, path: tuple[str, ...]) -> list[Entry]:
    """The entries of a batch normalisation with scale and shift.

    Args:
      name: of the module in the state dict.
      path: of our layer.

    Returns:
      Four entries.

    Example:
      >>> [entry.name for entry in affine_norm("bn", ("norm",))]
      ['bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var']
    """
    return [
        Entry(f"{name}.weight", "params", (*path, "scale")),
        Entry(f"{name}.bias", "params", (*path, "bias")),
        *plain_norm(name, path),
    ]


def plain_norm(name: str, path: tuple[str, ...]) -> list[Entry]:
    """The running statistics of a batch normalisation: two entries.

    Args:
      name: of the module in the state dict.
      path: of our layer.

    Returns:
      Two entries.

    Example:
      >>> [entry.path for entry in plain_norm("bn", ("norm",))]
      [('norm', 'mean'), ('norm', 'var')]
    """
    return [
        Entry(f"{name}.running_mean", "batch_stats", (*path, "mean")),
        Entry(f"{name}.running_var", "batch_stats", (*path, "var")),
    ]
