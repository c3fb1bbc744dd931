"""Perturbation-based selection without tuning: Wang et al., DARTS-PT, ICLR 2021."""

from typing import Any

import numpy as np

from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.select import base, picking, removing
from jnas.select.decisions import apply, nothing
from jnas.spaces import Genotype, Space

__all__ = ["perturbation"]


def perturbation(
    metric: str | None = None, *, sequential: bool = False
) -> base.Selector:
    """Selects by perturbation from a finished search, without tuning in between.

    Edges are decided in random order, one of each group in turn, then nodes.

    Args:
      metric: of ``evaluate``; the smallest "loss" wins, the largest of anything else.
        None: "accuracy" if there is one, else "loss".
      sequential: see `removing.decide_node`.

    Returns:
      The selector; ``select`` needs ``evaluate(mixture) -> {name: value}`` and a key.

    Raises:
      JnasError: from ``select``, when ``evaluate`` or the key is missing, no value is
        finite, or the edges of the space are optional.

    Example:
      >>> import jax, jnas
      >>> space = jnas.spaces.nasbench201()
      >>> def evaluate(mixture):  # 3x3 convolutions are needed
      ...     return {"accuracy": float(mixture.weights["cell"][:, 3].sum())}
      >>> g = perturbation().select(
      ...     None, jnas.mixture.uniform(space), space=space, evaluate=evaluate,
      ...     key=jax.random.key(0))
      >>> {edge.operation for edge in g["cell"].edges}
      {'nor_conv_3x3'}

    References:
      Wang, Cheng, Chen, Tang, Hsieh, Rethinking Architecture Selection in
      Differentiable NAS, ICLR 2021, https://arxiv.org/abs/2108.04392;
      ruocwang/darts-pt
    """

    def select(
        arch: Any,
        mixture: Mixture,
        *,
        space: Space,
        evaluate: removing.Evaluate | None = None,
        key=None,
        **context,
    ) -> Genotype:
        del arch, context
        if evaluate is None:
            raise JnasError(
                "perturbation measures on validation data: pass evaluate=..., a "
                "function of a mixture that returns {'loss': ..., 'accuracy': ...}"
            )
        removing.check_space(space)
        for group in space.groups:
            picking.strengths(mixture, group)  # raises where it is not finite
        rng = picking.generator(key, "perturbation()")
        decided = nothing(space)
        mixture = mixture._replace(active=None)
        edges, nodes = (
            _rounds({g.name: rng.permutation(places(g)) for g in space.groups})
            for places in (
                lambda group: group.num_edges,
                lambda group: removing.nodes_to_thin(space, group),
            )
        )
        for name, edge in edges:
            decided, _ = removing.decide_operation(
                decided, mixture, space, name, edge, evaluate, metric
            )
        for name, node in nodes:
            decided = removing.decide_node(
                decided,
                mixture,
                space,
                name,
                node,
                evaluate,
                metric,
                sequential=sequential,
            )
        final = apply(decided, mixture)
        return picking.genotype(
            space,
            {
                group.name: picking.pick(picking.strengths(final, group), space, group)
                for group in space.groups
            },
        )

    return base.Selector(select, needs_evaluation=True)


def _rounds(places: dict[str, np.ndarray]) -> list[tuple[str, int]]:
    """The first place of every group, then the second ones, ..."""
    most = max(len(own) for own in places.values())
    return [
        (name, int(own[i]))
        for i in range(most)
        for name, own in places.items()
        if i < len(own)
    ]
