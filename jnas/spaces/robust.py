"""The spaces in which DARTS fails: RobustDARTS' S1 to S4.

Zela, Elsken, Saikia, Marrakchi, Brox and Hutter, Understanding and Robustifying
Differentiable Architecture Search, ICLR 2020, section 3: the cells of DARTS with few
operations on each edge. In S1 every edge has the two that a search of the whole space
liked best there.
"""

import dataclasses
import functools

from jnas import errors
from jnas.spaces import base, builtin

__all__ = ["robust_darts"]

_SHORT = {
    "avg": "avg_pool_3x3",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "max": "max_pool_3x3",
    "none": "none",
    "noise": "noise",
    "sep3": "sep_conv_3x3",
    "skip": "skip_connect",
}
# By edge, in the order of `darts`, as in the authors' code.
_S1_NORMAL = (
    "skip dil3, skip dil5, skip dil5, skip sep3, skip dil3, max skip, skip sep3, "
    "skip sep3, skip dil3, skip sep3, max skip, skip dil3, dil3 dil5, dil3 dil5"
)
_S1_REDUCE = (
    "max avg, max dil3, max avg, max avg, skip dil5, max avg, max sep3, "
    "skip dil3, skip dil5, max avg, max avg, skip dil5, skip dil5, skip dil5"
)
_SAME = {"S2": "skip sep3", "S3": "none skip sep3", "S4": "noise sep3"}


@functools.cache
def robust_darts(name: str) -> base.Space:
    """Returns one of RobustDARTS' spaces.

    All have the two cells of `darts` and keep two edges per node; "none", which S3
    has, is never selected.

    * S1: on each edge two operations of its own.
    * S2: skip_connect or sep_conv_3x3.
    * S3: none, skip_connect or sep_conv_3x3.
    * S4: noise, which puts fresh normal noise in place of its input, or sep_conv_3x3.

    Args:
      name: "S1", "S2", "S3" or "S4".

    Returns:
      The space, ``robust_darts_s1`` and so on.

    Raises:
      JnasError: for another name.

    Example:
      >>> space = robust_darts("S2")
      >>> space.name, space.group("normal").operations
      ('robust_darts_s2', ('skip_connect', 'sep_conv_3x3'))
    """
    known = ("S1", *_SAME)
    if name not in known:
        raise errors.unknown_name("space of RobustDARTS", name, known)
    lists = {
        "normal": _lists(_S1_NORMAL if name == "S1" else _SAME[name]),
        "reduce": _lists(_S1_REDUCE if name == "S1" else _SAME[name]),
    }
    whole = builtin.darts()
    if name == "S4":  # the cells of DARTS, but its operations lack the noise
        groups = tuple(
            dataclasses.replace(group, operations=lists[group.name][0])
            for group in whole.groups
        )
        return base.Space("robust_darts_s4", groups, keep=2)
    return dataclasses.replace(
        whole.restrict(lists), name=f"robust_darts_{name.lower()}"
    )


def _lists(text: str) -> list[tuple[str, ...]]:
    """The operations of every edge."""
    edges = [tuple(_SHORT[word] for word in part.split()) for part in text.split(",")]
    return edges if len(edges) > 1 else edges * 14
