"""The search spaces that jnas ships.

* DARTS: Liu, Simonyan and Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
  section 3.1; operations and edges in the order of the authors' code.
* NAS-Bench-201: Dong and Yang, NAS-Bench-201: Extending the Scope of Reproducible
  Neural Architecture Search, ICLR 2020 (the topology space of NATS-Bench).
"""

import functools

from jnas.spaces import base, text

__all__ = ["darts", "nasbench201"]


@functools.cache
def darts() -> base.Space:
    """Returns the convolutional cell space of DARTS.

    Two cells, "normal" and "reduce", each of two inputs (states 0 and 1) and four
    nodes (2 to 5) with an edge from every earlier state, 14 edges in all, and 8
    operations. A genotype keeps two edges per node and never selects "none".

    Returns:
      The space, of (180 * 7^8)^2 candidates.

    Example:
      >>> space = darts()
      >>> space.names, space.group("normal").num_edges, len(space.genes)
      (('normal', 'reduce'), 14, 22)
    """
    nodes = range(2, 6)
    groups = tuple(
        base.Group(
            name=name,
            operations=text.DARTS_OPERATIONS,
            edges=tuple((source, node) for node in nodes for source in range(node)),
            inputs=2,
            concat=tuple(nodes),
        )
        for name in ("normal", "reduce")
    )
    return base.Space("darts", groups, keep=2, never=("none",))


@functools.cache
def nasbench201() -> base.Space:
    """Returns the cell space of NAS-Bench-201.

    One cell of one input (state 0) and three nodes, the last of which is the output,
    with an edge from every earlier state and 5 operations; every edge is in the
    genotype, "none" included.

    Returns:
      The space, of 5^6 = 15,625 candidates.

    Example:
      >>> space = nasbench201()
      >>> space.size, space.group("cell").edge_names
      (15625, ('1<-0', '2<-0', '2<-1', '3<-0', '3<-1', '3<-2'))
    """
    group = base.Group(
        name="cell",
        operations=text.NASBENCH201_OPERATIONS,
        edges=tuple((source, node) for node in range(1, 4) for source in range(node)),
        inputs=1,
        concat=(3,),
    )
    return base.Space("nasbench201", (group,))
