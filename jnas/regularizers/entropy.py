"""Entropy of the mixture as a penalty or a reward.

    strength * mean over edges of H(p_e) / log O_e

in [0, strength]: minimised it makes edges decide, so that less is lost when the cell is
derived; ``toward="uniform"`` has the other sign and keeps a search from deciding too
early. Rows need not sum to one (gates): they are normalised first.
"""

import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.regularizers import base, checks

__all__ = ["entropy"]

_SIGNS = {"decided": 1.0, "uniform": -1.0}


def entropy(
    strength: checks.Scheduled = 0.1, toward: str = "decided"
) -> base.Regularizer:
    """Pushes each edge's mixture towards a decision, or away from one.

    Args:
      strength: a number or a function of the step; the number 0 gives `identity`.
      toward: "decided" (a penalty) or "uniform" (a reward).

    Returns:
      The regularizer; its state is ``{group: bool [E, O]}``, what edges can choose.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> import types, jnas
      >>> space = jnas.spaces.nasbench201()
      >>> part = entropy(0.5)
      >>> state = part.init(types.SimpleNamespace(space=space), None)
      >>> value = part.penalty(state, mixture=jnas.mixture.uniform(space), phase="arch")
      >>> round(float(value), 4)
      0.5

    References:
      Grandvalet, Bengio, Semi-supervised Learning by Entropy Minimization, NeurIPS
      2004; in architecture search, e.g. ASAP (Noy et al., AISTATS 2020),
      https://arxiv.org/abs/1904.04123, anneals the same quantity.
    """
    checks.strength(strength)
    if toward not in _SIGNS:
        raise JnasError(f"toward must be 'decided' or 'uniform', got {toward!r}")
    if checks.is_zero(strength):
        return base.identity()

    def penalty(state, *, mixture, phase, step=0, **context):
        del context
        if phase != "arch":
            return 0.0
        parts = []
        for name, mask in state.items():
            p = jnp.where(mask, mixture.weights[name], 0.0)
            p = p / jnp.maximum(jnp.sum(p, axis=-1, keepdims=True), 1e-12)
            # The inner where: no gradient of a logarithm of 0.
            logs = jnp.log(jnp.where(p > 0, p, 1.0))
            most = jnp.log(jnp.maximum(jnp.sum(mask, axis=-1), 2))
            parts.append((-jnp.sum(p * logs, axis=-1) / most).ravel())
        value = jnp.mean(jnp.concatenate(parts))
        return _SIGNS[toward] * checks.value_at(strength, step) * value

    return base.Regularizer(init=checks.choosable, penalty=penalty)
