"""ReinMax: Liu et al., Bridging Discrete and Backpropagation, NeurIPS 2023.

A one-hot D is drawn from p = softmax(alpha), and its gradient is the straight-through
one made accurate to second order (Heun's method):

    q = softmax(sg(log((D + softmax(alpha / temperature)) / 2) - alpha) + alpha)
    y = 2 q - p / 2,      value D, gradient that of y.

For functions that are quadratic in the one-hot its expectation is the exact gradient
(at temperature 1). The architecture's half-step evaluates all candidates for it; the
weights' half-step only the drawn one.
"""

import jax
import jax.numpy as jnp

from jnas.mixture import Mixture
from jnas.relax import base

__all__ = ["reinmax"]


def reinmax(temperature: float = 1.0, init_scale: float = 1e-3) -> base.Relaxation:
    """One-hot samples with a second-order straight-through gradient.

    Args:
      temperature: of the distribution that the sample is averaged with; positive.
      init_scale: standard deviation of the initial alpha.

    Returns:
      The relaxation; arch is ``{group: float32 [E, O]}``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> arch = reinmax().init(jax.random.key(0), space)
      >>> mixture = reinmax().sample(
      ...     arch, key=jax.random.key(1), step=0, phase="arch", space=space)
      >>> mixture.weights["cell"].sum(-1).tolist()
      [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

    References:
      Liu, Dong, Liu, Yu, Gao, Bridging Discrete and Backpropagation:
      Straight-Through and Beyond, NeurIPS 2023, https://arxiv.org/abs/2304.08612
    """
    base.check_temperature(temperature)
    base.check_scale(init_scale)

    def sample(arch, *, key, step=None, phase=None, space=None, **context):
        del step, context

        def draw(key, name, alpha):
            mask, held = base.allowed(space, name), jax.lax.stop_gradient(alpha)
            log_p = base.log_probabilities(alpha, mask)
            p = jnp.exp(log_p)
            k = jnp.argmax(log_p + base.gumbel(key, alpha), axis=-1)
            one_hot = jax.nn.one_hot(k, alpha.shape[-1], dtype=alpha.dtype)
            average = (one_hot + base.probabilities(alpha / temperature, mask)) / 2
            # Of what has no mass the logarithm must stay finite.
            target = jnp.log(jnp.maximum(average, jnp.finfo(alpha.dtype).tiny))
            logits = jax.lax.stop_gradient(target) + (alpha - held)
            y = 2 * base.probabilities(logits, mask) - p / 2
            return one_hot + (y - jax.lax.stop_gradient(y)), k[:, None]

        drawn = base.by_group(draw, key, arch)
        if phase == "weights":
            return base.path_mixture(drawn)
        return Mixture({name: weights for name, (weights, _) in drawn.items()})

    return base.over_logits(sample, init_scale)
