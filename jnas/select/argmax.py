"""Selection by magnitude: Liu et al., DARTS, ICLR 2019, section 2.4.

In spaces where every edge stays (NAS-Bench-201), the strongest candidate of each edge,
"none" included unless the space excludes it. Where each node keeps k edges (DARTS: 2),
the strength of an edge is its strongest selectable candidate; the k strongest edges
stay, listed by strength as the authors' code does; ties go to the lower source. The
softmax is over all candidates, also those that can't be selected. Where the mixture
weighs edges (PC-DARTS), strengths are products.

Where edges are optional, those are left out on which an operation that can't be
selected ("none") is strongest. If nothing reaches a cell's output then, the one path
stays whose weakest edge is strongest. So SNAS' cells, which keep every edge, can be
searched as they are published, with their "none" written
(``dataclasses.replace(spaces.darts(), keep=None, never=())``), or without
(``keep=None, optional=True``).
"""

from collections.abc import Sequence
from typing import Any

from jnas.mixture import Mixture
from jnas.select import base, picking
from jnas.spaces import Genotype, Space
from jnas.spaces.groups import distinct_names

__all__ = ["argmax"]


def argmax(exclude: Sequence[str] = ()) -> base.Selector:
    """The strongest candidates by mixture weight.

    Args:
      exclude: operations that are not selected although the space lets them, such as
        "none" of NAS-Bench-201. (What a space never selects, it says itself.)

    Returns:
      The selector.

    Raises:
      JnasError: an operation is unknown; from ``select``, when a weight is not finite
        or an edge has no candidate left.

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
    exclude = distinct_names(exclude, "exclude")

    def select(arch: Any, mixture: Mixture, *, space: Space, **context) -> Genotype:
        del arch, context
        picking.check_excluded(exclude, space)
        return picking.genotype(
            space,
            {
                group.name: picking.pick(
                    picking.strengths(mixture, group), space, group, exclude=exclude
                )
                for group in space.groups
            },
        )

    return base.Selector(select)
