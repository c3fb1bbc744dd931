"""Candidates by their weight under a mixture: the best ones, and draws.

The weight of a candidate is the product of the weights of what it keeps; where every
edge is kept, that is its probability under independent choices. Exact for any space
with genes: slots (a node that keeps some of its edges, or one edge) are independent, so
the k best are found by merging the k best of one slot after the other.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from jnas.mixture import Mixture
from jnas.select import picking
from jnas.spaces import Space
from jnas.spaces.layout import Slot

__all__ = ["best", "draw"]

# Weights of 0 (rounded softmax) stay comparable, and come last.
_TINY = 1e-300

# (sum of log weights, genes of the slot), best first
Ranked = list[tuple[float, tuple[int, ...]]]


def best(mixture: Mixture, space: Space, count: int) -> np.ndarray:
    """The candidates of the highest weights.

    Args:
      mixture: the weights.
      space: the space.
      count: how many.

    Returns:
      Genes int32 ``[n, L]``, best first; ``n`` is ``count``, or the number of all
      candidates if there are fewer. Ties are in a fixed order.

    Raises:
      JnasError: if a weight is not finite, or the space has no genes.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> mixture = jnas.mixture.from_genotype(space, space.decode([3, 0, 1, 2, 4, 3]))
      >>> best(mixture, space, 1).tolist()
      [[3, 0, 1, 2, 4, 3]]
    """
    logs = _logs(mixture, space)
    ranked: Ranked = [(0.0, ())]
    for index, slot in space.slots:
        ranked = _merge(ranked, _slot_ranking(slot, logs[index], count), count)
    return np.array([genes for _, genes in ranked], np.int32)


def draw(mixture: Mixture, space: Space, rng: np.random.Generator) -> np.ndarray:
    """Draws a candidate with a probability proportional to its weight.

    Args:
      mixture: the weights.
      space: the space.
      rng: moves on.

    Returns:
      Genes int32 ``[L]``.

    Raises:
      JnasError: if a weight is not finite, or the space has no genes.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> mixture = jnas.mixture.from_genotype(space, space.decode([3, 0, 1, 2, 4, 3]))
      >>> draw(mixture, space, np.random.default_rng(0)).tolist()
      [3, 0, 1, 2, 4, 3]
    """
    logs = _logs(mixture, space)
    genes: list[int] = []
    for index, slot in space.slots:
        own = {
            edge: logs[index][edge, list(operations)]
            for edge, operations in zip(slot.edges, slot.operations, strict=True)
        }
        masses = {edge: np.logaddexp.reduce(values) for edge, values in own.items()}
        totals = [sum(masses[edge] for edge in kept) for kept in slot.kept]
        kept = slot.kept[_choose(rng, totals)]
        lists = dict(zip(slot.edges, slot.operations, strict=True))
        genes += slot.write({e: lists[e][_choose(rng, own[e])] for e in kept})
    return np.array(genes, np.int32)


def _logs(mixture: Mixture, space: Space) -> list[np.ndarray]:
    return [
        np.log(np.maximum(picking.strengths(mixture, group), _TINY))
        for group in space.groups
    ]


def _choose(rng: np.random.Generator, logs: Sequence[float] | np.ndarray) -> int:
    weights = np.exp(np.asarray(logs) - np.max(logs))
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def _slot_ranking(slot: Slot, logs: np.ndarray, count: int) -> Ranked:
    """The best choices of a slot."""
    lists = dict(zip(slot.edges, slot.operations, strict=True))
    found = []
    for kept in slot.kept:
        ranked: Ranked = [(0.0, ())]
        for edge in kept:
            options: Ranked = [(float(logs[edge, op]), (op,)) for op in lists[edge]]
            ranked = _merge(ranked, _sorted(options)[:count], count)
        found += [
            (score, tuple(slot.write(dict(zip(kept, operations, strict=True)))))
            for score, operations in ranked
        ]
    return _sorted(found)[:count]


def _merge(first: Ranked, second: Ranked, count: int) -> Ranked:
    """The best sums of one of each."""
    # Of sorted lists, pair (i, j) has (i + 1) * (j + 1) - 1 pairs that are no worse.
    pairs = [
        (a + b, left + right)
        for i, (a, left) in enumerate(first)
        for b, right in itertools.islice(second, count // (i + 1))
    ]
    return _sorted(pairs)[:count]


def _sorted(ranked: Ranked) -> Ranked:
    return sorted(ranked, key=lambda entry: (-entry[0], entry[1]))
