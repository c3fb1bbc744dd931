"""Selection by a threshold: Chu et al., FairDARTS, ECCV 2020, section 4.1.

Of each node the k strongest edges by their strongest candidate, and of these only those
that reach the threshold: a sparse cell. Nodes without edges are left out of the output.

Deviations: edges that read a node without edges are left out (the authors' network
ignores them), and a cell in which nothing reaches the output keeps the one path whose
weakest edge is strongest, so that a search that has not yet decided can be read, too
(the authors' code fails). The authors' final network applies drop path to the sum of a
node, ours to each operation.
"""

import dataclasses
from typing import Any

from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.select import base, picking
from jnas.spaces import Genotype, Group, Space

__all__ = ["threshold"]


def threshold(value: float = 0.85, per_node: int = 2) -> base.Selector:
    """The strongest edges of each node, if they are strong enough.

    Args:
      value: the weight that a candidate must have at least.
      per_node: number of edges that a node keeps at most.

    Returns:
      The selector, for spaces whose edges are optional, or that keep every edge and
      can select "none", which then stands for what is left out.

    Raises:
      JnasError: an option is out of range; from ``select``, when the space needs more
        edges or a weight is not finite.

    Example:
      >>> import dataclasses, jnas, numpy as np
      >>> space = dataclasses.replace(jnas.spaces.darts(), optional=True)
      >>> weights = {name: np.zeros((14, 8)) for name in space.names}
      >>> for rows in weights.values():
      ...     rows[0, 4], rows[3, 3], rows[4, 3] = 0.9, 0.86, 0.84
      >>> mixture = jnas.Mixture(weights)
      >>> threshold().select(None, mixture, space=space)["normal"].concat
      (2, 3)

    References:
      Chu, Zhou, Zhang, Li, Fair DARTS: Eliminating Unfair Advantages in Differentiable
      Architecture Search, ECCV 2020, https://arxiv.org/abs/1911.12126
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise JnasError(f"value must be a number, got {value!r}: use e.g. 0.85")
    if isinstance(per_node, bool) or not isinstance(per_node, int) or per_node < 1:
        raise JnasError(f"per_node must be an integer >= 1, got {per_node!r}")

    def select(arch: Any, mixture: Mixture, *, space: Space, **context) -> Genotype:
        del arch, context
        nothing = None if space.optional else _nothing(space)
        sparse = space
        if nothing is not None:
            sparse = dataclasses.replace(space, optional=True, never=(nothing,))
        if space.keep is not None and per_node > space.keep:
            raise JnasError(
                f"threshold keeps up to {per_node} edges per node, space "
                f"{space.name!r} at most {space.keep}: use per_node={space.keep}"
            )
        picks = {
            group.name: picking.pick(
                picking.strengths(mixture, group),
                sparse,
                group,
                least=value,
                per_node=per_node,
            )
            for group in space.groups
        }
        if nothing is not None:
            picks = {
                group.name: _filled(picks[group.name], group, nothing)
                for group in space.groups
            }
        return picking.genotype(space, picks)

    return base.Selector(select)


def _nothing(space: Space) -> str:
    """The operation that stands for an edge that is left out."""
    written = space.keep is None and all(
        "none" in group.operations
        and "none" not in space.never
        and bool(group.allowed[:, group.columns["none"]].all())
        for group in space.groups
    )
    if not written:
        raise JnasError(
            f"threshold leaves edges out, which space {space.name!r} does not let: "
            "search dataclasses.replace(space, optional=True)"
        )
    return "none"


def _filled(picks: picking.Picks, group: Group, nothing: str) -> picking.Picks:
    """With every edge, in the order of the nodes and their sources."""
    columns = dict(picks)
    return [
        (row, columns.get(row, group.columns[nothing]))
        for node in group.nodes
        for row in sorted(group.incoming(node), key=lambda e: group.edges[e][0])
    ]
