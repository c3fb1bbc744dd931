"""Independent gates: Chu et al., FairDARTS, ECCV 2020, equation 3.

Each candidate is weighed by the sigmoid of its alpha, so candidates of an edge do not
compete and its weights don't sum to 1. The paper's code starts at alpha = 0 (all gates
half open), leaves "none" out of the space, and needs the zero-one loss to decide.
"""

import jax
import jax.numpy as jnp

from jnas.mixture import Mixture
from jnas.relax import base
from jnas.spaces import Space

__all__ = ["sigmoid"]


def sigmoid(init_scale: float = 0.0) -> base.Relaxation:
    """Every candidate is weighed by ``sigmoid(alpha)``.

    Args:
      init_scale: standard deviation of the initial alpha; 0 in the paper's code.

    Returns:
      The relaxation; arch is ``{group: float32 [E, O]}``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> import jnas
      >>> relaxation = sigmoid()
      >>> arch = relaxation.init(jax.random.key(0), jnas.spaces.nasbench201())
      >>> relaxation.probabilities(arch).weights["cell"][0].tolist()
      [0.5, 0.5, 0.5, 0.5, 0.5]

    References:
      Chu, Zhou, Zhang, Li, Fair DARTS: Eliminating Unfair Advantages in Differentiable
      Architecture Search, ECCV 2020, https://arxiv.org/abs/1911.12126
    """
    base.check_scale(init_scale)

    def init(key: jax.Array, space: Space):
        return base.normal_logits(key, space, init_scale)

    def probabilities(arch, *, space=None, **context):
        del context
        weights = {}
        for name, alpha in arch.items():
            mask = base.allowed(space, name)
            gates = jax.nn.sigmoid(alpha)
            weights[name] = gates if mask is None else jnp.where(mask, gates, 0.0)
        return Mixture(weights)

    def sample(arch, *, key=None, step=None, phase=None, space=None, **context):
        del key, step, phase, context
        return probabilities(arch, space=space)

    return base.Relaxation(init, sample, probabilities)
