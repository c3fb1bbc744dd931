"""Any differentiable cost of a mixture: latency models, energy, counts, preferences.

Tables of costs per candidate have `expected_cost` with the published forms.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.regularizers import base, checks

__all__ = ["cost"]


def cost(
    function: Callable[[Mixture], Any], strength: checks.Scheduled = 1.0
) -> base.Regularizer:
    """Adds ``strength * function(mixture)`` to the loss of the architecture.

    Args:
      function: ``(mixture) -> scalar``, differentiable by the weights of the sampled
        mixture; any JAX code, e.g. a learned latency predictor.
      strength: a number or a function of the step; the number 0 gives `identity`.

    Returns:
      The regularizer, without state.

    Raises:
      JnasError: an argument is wrong; ``penalty``: the function gives no scalar.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> pools = lambda mixture: mixture.weights["cell"][:, 4].sum()
      >>> value = cost(pools, 0.5).penalty(
      ...     (), mixture=jnas.mixture.uniform(space), phase="arch")
      >>> round(float(value), 4)
      0.6

    References:
      A learned predictor as the cost: Cai, Zhu, Han, ProxylessNAS, ICLR 2019,
      https://arxiv.org/abs/1812.00332
    """
    if not callable(function):
        raise JnasError(
            f"function must be callable as function(mixture), got "
            f"{type(function).__name__}: tables of costs have expected_cost"
        )
    checks.strength(strength)
    if checks.is_zero(strength):
        return base.identity()

    def penalty(state, *, mixture, phase, step=0, **context):
        del state, context
        if phase != "arch":
            return 0.0
        value = jnp.asarray(function(mixture))
        if value.shape:
            raise JnasError(
                f"the cost of a mixture must be a scalar, got shape "
                f"{list(value.shape)}: sum it up"
            )
        return checks.value_at(strength, step) * value

    return base.Regularizer(penalty=penalty)
