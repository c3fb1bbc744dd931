"""Sparsity of the mixture: the mean over edges of sum_o p_o^power.

With power 1 this is the L1 norm, which closes gates (`relax.sigmoid`) and does nothing
to rows that sum to one. A power below 1 favours few large weights there, too: 1 for a
one-hot row, ``O^(1 - power)`` for a uniform one.
"""

import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.regularizers import base, checks

__all__ = ["sparsity"]

# Where the gradient of p^power is cut: at 0 it would be infinite.
_LEAST = 1e-6


def sparsity(strength: checks.Scheduled = 0.1, power: float = 0.5) -> base.Regularizer:
    """Penalises edges that use many candidates.

    Args:
      strength: a number or a function of the step; the number 0 gives `identity`.
      power: in (0, 1].

    Returns:
      The regularizer; its state is ``{group: bool [E, O]}``, what edges can choose.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> import types
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> part = sparsity(1.0, power=0.5)
      >>> state = part.init(types.SimpleNamespace(space=space), None)
      >>> value = part.penalty(state, mixture=jnas.mixture.uniform(space), phase="arch")
      >>> round(float(value), 4)  # 5^0.5
      2.2361

    References:
      The L1 norm: Tibshirani, Regression Shrinkage and Selection via the Lasso, 1996;
      of architecture weights: Zhang, Huang, Sun, DSO-NAS, 2018,
      https://arxiv.org/abs/1811.01567
    """
    checks.strength(strength)
    checks.number(power, "power", positive=True)
    if power > 1:
        raise JnasError(f"power must be in (0, 1], got {power!r}")
    if checks.is_zero(strength):
        return base.identity()

    def penalty(state, *, mixture, phase, step=0, **context):
        del context
        if phase != "arch":
            return 0.0
        parts = []
        for name, mask in state.items():
            p = jnp.maximum(jnp.abs(mixture.weights[name]), _LEAST)
            parts.append(jnp.sum(jnp.where(mask, p**power, 0.0), axis=-1).ravel())
        value = jnp.mean(jnp.concatenate(parts))
        return checks.value_at(strength, step) * value

    return base.Regularizer(init=checks.choosable, penalty=penalty)
