"""The contract of an objective: what is asked of a candidate, and what that costs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Objective"]


class Objective(NamedTuple):
    """Scores of candidates: a table, a trained supernet, real training, anything.

    Letters: ``n`` candidates of ``L`` genes, ``M`` scores each.

    Attributes:
      space: whose genes are scored.
      evaluate: ``(genes int32 [n, L], key, fidelity float32 [n]) -> (scores, costs)``;
        scores are ``[n]``, or ``[n, M]`` where several things are wanted at once,
        higher is better, and what failed or is unknown is NaN; costs are ``[n]`` in
        ``cost_unit``. A fidelity is the share of the full effort, 1 for all of it.
      name: name of the objective.
      score_unit: what the scores are, such as "validation accuracy, %".
      cost_unit: what the costs are, such as "s".
      traceable: whether ``evaluate`` may be traced by ``jit``, ``vmap`` and ``scan``.
      config: how it was made, for the record.

    Example:
      >>> import jnas
      >>> def evaluate(genes, key, fidelity):
      ...     return jnp.sum(genes, -1) * 1.0, fidelity
      >>> wish = Objective(jnas.spaces.nasbench201(), evaluate, "sum", traceable=True)
      >>> wish(jnp.array([[0, 1, 2, 0, 0, 3]])).tolist()
      [6.0]
    """

    space: Any
    evaluate: Callable[..., tuple[jax.Array, jax.Array]]
    name: str
    score_unit: str = "score"
    cost_unit: str = "evaluations"
    traceable: bool = False
    config: dict[str, Any] | None = None

    def __call__(self, genes: Any, key: Any = None, fidelity: Any = None) -> jax.Array:
        """The scores alone, by default of the key 0 and at full fidelity."""
        key = jax.random.key(0) if key is None else key
        if fidelity is None:
            fidelity = jnp.ones(len(genes), jnp.float32)
        return self.evaluate(genes, key, fidelity)[0]
