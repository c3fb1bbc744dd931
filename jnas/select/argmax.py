"""Selection by magnitude: Liu et al., DARTS, ICLR 2019, section 2.4.

In spaces where every edge stays (NAS-Bench-201), the strongest candidate of each edge,
"none" included unless the space excludes it. Where each node keeps k edges (DARTS: 2),
the strength of an edge is its strongest selectable candidate; the k strongest edges
stay, listed by strength as the authors' code does; ties go to the lower source. The
softmax is over all candidates, also those that can't be selected.
"""

from typing import Any

import numpy as np

from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.select import base
from jnas.spaces import Cell, Edge, Genotype, Space

__all__ = ["argmax"]


def _pick(weights: np.ndarray, space: Space, group: Any) -> Cell:
    allowed = [i for i, name in enumerate(group.operations) if name not in space.never]
    best = [allowed[int(np.argmax(row[allowed]))] for row in weights]
    edges = []
    for node in group.nodes:
        incoming = sorted(group.incoming(node), key=lambda e: group.edges[e][0])
        if space.keep is not None:
            # sorted() is stable, so equal strengths keep the order of sources.
            incoming = sorted(incoming, key=lambda e: -weights[e, best[e]])
            incoming = incoming[: space.keep]
        for e in incoming:
            source, target = group.edges[e]
            edges.append(Edge(group.operations[best[e]], source, target))
    return Cell(tuple(edges), group.concat)


def argmax() -> base.Selector:
    """The strongest candidates by mixture weight.

    Returns:
      The selector.

    Raises:
      JnasError: from ``select``, when a weight is not finite.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> g = space.decode([3, 0, 1, 2, 4, 3])
      >>> argmax().select(None, jnas.mixture.from_genotype(space, g), space=space) == g
      True

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055
    """

    def select(arch: Any, mixture: Mixture, *, space: Space, **context) -> Genotype:
        del arch, context
        cells = []
        for group in space.groups:
            weights = np.asarray(mixture.weights[group.name], np.float64)
            if weights.ndim == 3:  # per-cell mixtures: one genotype for all cells
                weights = weights.mean(axis=0)
            if mixture.edges is not None:
                weights = weights * np.asarray(mixture.edges[group.name])[:, None]
            if not np.all(np.isfinite(weights)):
                raise JnasError(
                    f"mixture of group {group.name!r} is not finite: the search "
                    "diverged, derive from an earlier checkpoint"
                )
            cells.append((group.name, _pick(weights, space, group)))
        return Genotype(space.name, tuple(cells))

    return base.Selector(select)
