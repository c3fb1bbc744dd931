"""Projection while a search goes on: DARTS-PT (Wang et al., ICLR 2021), section 4.

After epoch ``first``, and from there at equal distances up to epoch ``last``, one edge
of every group is decided as in `select.removing`; when all edges of a group are, its
nodes are thinned one after another. In between the supernet (and arch, if it still
learns) is tuned with what has been decided.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.errors import JnasError
from jnas.regularizers import base, checks
from jnas.select import decisions as deciding
from jnas.select import picking, removing
from jnas.spaces import Space

__all__ = ["Projected", "projection", "projections"]


class Projected(NamedTuple):
    """What has been decided, and what was measured on the way.

    Attributes:
      decisions: what is decided.
      done: int32, projections done.
      magnitude: ``{group: float32 [E, O]}``, the mixture when the edge was decided; NaN
        before.
      strength: likewise, by how much the metric got worse without each operation.
    """

    decisions: deciding.Decisions
    done: jax.Array
    magnitude: dict[str, jax.Array]
    strength: dict[str, jax.Array]


def projections(space: Space) -> int:
    """How many projections decide a space: edges and nodes of its largest group.

    Args:
      space: the space.

    Returns:
      The number.

    Example:
      >>> import jnas
      >>> projections(jnas.spaces.darts()), projections(jnas.spaces.nasbench201())
      (17, 6)
    """
    return max(
        g.num_edges + len(removing.nodes_to_thin(space, g)) for g in space.groups
    )


def projection(
    first: int, last: int, *, metric: str | None = None, sequential: bool = False
) -> base.Regularizer:
    """Discretises a search step by step, by what the removal of operations costs.

    Args:
      first: epochs done before the first projection.
      last: epochs done before the last one, >= first; the authors' scripts have 5
        epochs from one projection to the next. Where there are fewer epochs than
        projections, several follow each other.
      metric: of the evaluation; None: "accuracy" if there is one, else "loss".
        An unknown one is told after the first epoch.
      sequential: as in `select.perturbation`.

    Returns:
      The regularizer; its state is a `Projected`. Its record has ``strengths``: for
      each group the ``magnitude`` and the ``strength`` of each operation of each edge.

    Raises:
      JnasError: an argument is out of range; ``init``: the space's edges are optional.

    Example:
      >>> part = projection(first=50, last=130)
      >>> import types, jnas
      >>> state = part.init(types.SimpleNamespace(space=jnas.spaces.darts()), None)
      >>> part.project(state, jnas.mixture.uniform(jnas.spaces.darts())).edges is None
      True

    References:
      Wang, Cheng, Chen, Tang, Hsieh, Rethinking Architecture Selection in
      Differentiable NAS, ICLR 2021, https://arxiv.org/abs/2108.04392;
      ruocwang/darts-pt
    """
    checks.span(first, last)

    def init(supernet, arch, **context):
        del arch, context
        space = supernet.space
        removing.check_space(space)
        # Two of them: buffers that are given away must not be one and the same.
        magnitude, strength = (
            {
                g.name: jnp.full((g.num_edges, g.num_operations), jnp.nan, jnp.float32)
                for g in space.groups
            }
            for _ in "ab"
        )
        return Projected(
            deciding.nothing(space), jnp.zeros([], jnp.int32), magnitude, strength
        )

    def project(state, mixture):
        return deciding.apply(state.decisions, mixture)

    def epoch_end(state, *, epoch, mixture, evaluate, supernet, key, **context):
        del context
        space = supernet.space
        if metric is not None and epoch == 1 and evaluate is not None:
            removing.score(evaluate(mixture), metric)  # a wrong name is told now
        due = checks.due(epoch, projections(space), first, last)
        done = int(state.done)
        if done >= due:
            return state, base.Action()
        if evaluate is None:
            raise JnasError(
                "projection measures on validation data, so epoch_end needs "
                "evaluate=..., a function of a mixture that returns {'loss': ..., "
                "'accuracy': ...}; jnas.run.search passes it"
            )
        rng = picking.generator(key, "projection()")
        # What a sample leaves out must not be left out of what is measured.
        mixture = mixture._replace(active=None)
        decisions = state.decisions
        told: dict[str, Any] = {
            field: {n: np.array(v) for n, v in getattr(state, field).items()}
            for field in ("magnitude", "strength")
        }
        for number in range(done, due):
            for group in space.groups:
                decisions = _one(
                    number, decisions, mixture, space, group, evaluate, rng, told
                )
        decisions, told = jax.tree.map(jnp.asarray, (decisions, told))
        return (
            Projected(decisions, jnp.asarray(due, jnp.int32), **told),
            base.Action(),
        )

    def _one(number, decisions, mixture, space, group, evaluate, rng, told):
        """The projection of that number in a group."""
        name = group.name
        if number < group.num_edges:
            edge = int(rng.choice(decisions.undecided(name)))
            decisions, found = removing.decide_operation(
                decisions, mixture, space, name, edge, evaluate, metric
            )
            told["magnitude"][name][edge] = found.magnitude
            told["strength"][name][edge] = found.strength
            return decisions
        kept = np.asarray(decisions.kept[name])
        crowded = [
            node
            for node in removing.nodes_to_thin(space, group)
            if kept[list(group.incoming(node))].sum() > space.keep
        ]
        if not crowded:
            return decisions
        return removing.decide_node(
            decisions,
            mixture,
            space,
            name,
            int(rng.choice(crowded)),
            evaluate,
            metric,
            sequential=sequential,
        )

    def record(state, **context):
        del context
        if not int(state.done):
            return {}

        def rows(values):
            # JSON has no NaN.
            return [
                [round(x, 6) if math.isfinite(x) else None for x in row]
                for row in np.asarray(values, np.float64).tolist()
            ]

        return {
            "strengths": {
                name: {
                    "magnitude": rows(state.magnitude[name]),
                    "strength": rows(state.strength[name]),
                    "chosen": np.asarray(state.decisions.chosen[name]).tolist(),
                    "kept": np.asarray(state.decisions.kept[name]).tolist(),
                }
                for name in state.magnitude
            }
        }

    return base.Regularizer(
        init=init, project=project, epoch_end=epoch_end, record=record
    )
