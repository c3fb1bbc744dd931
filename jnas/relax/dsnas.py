"""One-hot samples with a score gradient: Hu et al., DSNAS, CVPR 2020.

A candidate k is drawn from softmax(alpha) on every edge and it alone is computed, with
weight 1. The gradient of alpha is that of log p_k times the edge's reward, the
derivative of the loss by that weight. There is no temperature.

This is one term: h_k = 1 + log p_k - sg(log p_k), whose derivative by alpha is just
(dL/dh_k) times the gradient of log p_k.
"""

import jax
import jax.numpy as jnp

from jnas.relax import base

__all__ = ["dsnas"]


def dsnas(init_scale: float = 1e-3) -> base.Relaxation:
    """One sampled candidate an edge; its log-probability carries the gradient.

    Args:
      init_scale: standard deviation of the initial alpha.

    Returns:
      The relaxation; arch is ``{group: float32 [E, O]}``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> arch = dsnas().init(jax.random.key(0), space)
      >>> mixture = dsnas().sample(
      ...     arch, key=jax.random.key(1), step=0, phase="arch", space=space)
      >>> mixture.weights["cell"].sum(-1).tolist()
      [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

    References:
      Hu, Xie, Zheng, Liu, Shi, Liu, Lin, DSNAS: Direct Neural Architecture Search
      without Parameter Retraining, CVPR 2020, https://arxiv.org/abs/2002.09128
    """
    base.check_scale(init_scale)

    def sample(arch, *, key, step=None, phase=None, space=None, **context):
        del step, phase, context

        def draw(key, name, alpha):
            log_p = base.log_probabilities(alpha, base.allowed(space, name))
            k = jnp.argmax(log_p + base.gumbel(key, alpha), axis=-1)[:, None]
            chosen = jnp.take_along_axis(log_p, k, axis=-1)
            gate = 1 + (chosen - jax.lax.stop_gradient(chosen))
            one_hot = jax.nn.one_hot(k[:, 0], alpha.shape[-1], dtype=alpha.dtype)
            return one_hot * gate, k

        return base.path_mixture(base.by_group(draw, key, arch))

    return base.over_logits(sample, init_scale)
