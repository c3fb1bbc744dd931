"""Which cells of NAS-Bench-201 are the same network.

A cell is written as what its output computes, from the input on, and cells with the
same text are the same network. Three rules of simplification are in use; the counts of
classes are those of the benchmark's own code (Dong and Yang, NAS-Bench-201, ICLR 2020,
name 6,466 unique cells).
"""

import functools
import itertools
from typing import Any

import numpy as np

from jnas import errors, spaces

__all__ = ["classes", "connected", "term"]

RULES = ("official", "skips", "drop_zeros")
_ZERO = "#"


def classes(genes: Any, rule: str = "official") -> np.ndarray:
    """Returns the isomorphism class of cells of NAS-Bench-201.

    Rules, each with its number of classes among the 15,625 cells:

    * ``"official"`` (6,466): what comes through ``none`` or from a node that is zero
      is a zero, ``skip_connect`` passes on, and zeros stay in sums.
    * ``"skips"`` (12,751): only ``skip_connect`` is simplified.
    * ``"drop_zeros"`` (5,390): as the official rule, but zeros leave the sums, too;
      these cells compute the same.

    Args:
      genes: integers ``[..., 6]`` of ``jnas.spaces.nasbench201()``.
      rule: see above.

    Returns:
      int32 ``[...]``, numbers of classes from 0 in the order of the first gene vector.

    Raises:
      JnasError: no genes of that space, or an unknown rule.

    Example:
      >>> classes([[0, 0, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0], [1, 0, 0, 3, 0, 0],
      ...          [0, 0, 0, 3, 0, 0]], "drop_zeros").tolist()
      [0, 0, 3, 3]
    """
    if rule not in RULES:
        raise errors.unknown_name("rule of classes", rule, RULES)
    return _all_classes(rule)[_codes(genes)]


def connected(genes: Any) -> np.ndarray:
    """Tells which cells have a path from input to output; 341 of 15,625 have none.

    Args:
      genes: integers ``[..., 6]`` of ``jnas.spaces.nasbench201()``.

    Returns:
      Booleans ``[...]``.

    Raises:
      JnasError: no genes of that space.

    Example:
      >>> connected([[0, 0, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0]]).tolist()
      [True, False]
    """
    array = _checked(genes)
    reached = {0: np.ones(array.shape[:-1], bool)}
    for edge, (source, target) in enumerate(_edges()):
        passes = reached[source] & (array[..., edge] != 0)
        reached[target] = passes | reached.get(target, False)
    return reached[3]


def _edges() -> tuple[tuple[int, int], ...]:
    return spaces.nasbench201().group("cell").edges


def _checked(genes: Any) -> np.ndarray:
    array = np.asarray(genes)
    if not np.all(spaces.nasbench201().valid(array)):
        raise errors.JnasError("genes of nasbench201 must be within 0..4")
    return array


def _codes(genes: Any) -> np.ndarray:
    array = _checked(genes)
    return np.ravel_multi_index(
        tuple(np.moveaxis(array, -1, 0)), spaces.nasbench201().genes
    )


@functools.cache
def _all_classes(rule: str) -> np.ndarray:
    """The class of every gene vector, in the order of their codes."""
    edges = _edges()
    names = spaces.nasbench201().group("cell").operations
    numbers: dict[str, int] = {}
    found = []
    for genes in itertools.product(*map(range, spaces.nasbench201().genes)):
        nodes = {0: "0"}
        for target in (1, 2, 3):
            terms = [
                term(names[operation], nodes[edge[0]], rule)
                for operation, edge in zip(genes, edges, strict=True)
                if edge[1] == target
            ]
            if rule == "drop_zeros":
                terms = [term for term in terms if term != _ZERO] or [_ZERO]
            nodes[target] = "+".join(sorted(terms))
        found.append(numbers.setdefault(nodes[3], len(numbers)))
    return np.asarray(found, np.int32)


def term(operation: str, source: str, rule: str = "official") -> str:
    """What an edge passes on, as a text.

    With the operations' official names: sums of sums are joined without brackets, so
    that the order of names decides about a hundred classes (their number stays).

    Args:
      operation: of the edge.
      source: text of the node it leaves, "#" for a zero.
      rule: one of those of `classes`.

    Returns:
      The text, "#" for a zero.

    Example:
      >>> term("nor_conv_1x1", "0"), term("skip_connect", "0"), term("none", "0")
      ('(0)@nor_conv_1x1', '0', '#')
    """
    if rule != "skips" and (operation == "none" or source == _ZERO):
        return _ZERO
    return source if operation == "skip_connect" else f"({source})@{operation}"
