"""The search spaces that jnas ships.

* DARTS: Liu, Simonyan and Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
  sections 3.1 (convolutional) and 3.2 (recurrent); operations and edges in the order of
  the authors' code.
* DARTS with a fixed reduction cell: Dong and Yang, Searching for a Robust Neural
  Architecture in Four GPU Hours, CVPR 2019 ("GDAS (FRC)").
* NAS-Bench-201: Dong and Yang, NAS-Bench-201: Extending the Scope of Reproducible
  Neural Architecture Search, ICLR 2020 (the topology space of NATS-Bench).
"""

import functools

from jnas.spaces import base, recurrent_text, text

__all__ = ["darts", "darts_frc", "darts_rnn", "nasbench201"]


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
def darts_frc() -> base.Space:
    """Returns the normal cell of DARTS alone, between fixed reduction cells.

    What is searched is the group "normal" of `darts`. The reduction cells are those of
    GDAS (FRC): of both inputs a 1x3 and a 3x1 convolution in 8 groups with a 1x1
    convolution behind them, and a max pool, concatenated.

    Returns:
      The space, of 180 * 7^8 = 1,037,664,180 candidates.

    Example:
      >>> space = darts_frc()
      >>> space.names, space.fixed, space.size
      (('normal',), ('reduce',), 1037664180)
    """
    whole = darts()
    return base.Space(
        "darts_frc",
        (whole.group("normal"),),
        keep=whole.keep,
        never=whole.never,
        fixed=("reduce",),
    )


@functools.cache
def darts_rnn() -> base.Space:
    """Returns the recurrent cell space of DARTS.

    One cell, "recurrent": state 0 is computed from the input and the previous hidden
    state, then come eight nodes with an edge from every earlier state, 36 edges in all,
    and 5 operations. A genotype keeps one edge per node and never selects "none". The
    output is the mean of the nodes.

    Returns:
      The space, of 8! * 4^8 = 2,642,411,520 candidates.

    Example:
      >>> space = darts_rnn()
      >>> space.size, space.group("recurrent").edge_names[:3]
      (2642411520, ('1<-0', '2<-0', '2<-1'))
    """
    nodes = range(1, 9)
    group = base.Group(
        name="recurrent",
        operations=recurrent_text.OPERATIONS,
        edges=tuple((source, node) for node in nodes for source in range(node)),
        inputs=1,
        concat=tuple(nodes),
    )
    return base.Space("darts_rnn", (group,), keep=1, never=("none",))


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
