"""Dirichlet samples: Chen et al., DrNAS, ICLR 2021, section 3.

theta ~ Dirichlet(beta) on every edge, beta = elu(alpha) + 1, and the gradient goes
through the sample. The deterministic view, for selection, is softmax(alpha), as in the
authors' code; the mean of theta is beta over its sum.

The sample is made of gamma variates s, theta = s / sum(s), and its gradient is that of
their implicit reparameterisation: ds/dbeta at a fixed value of the distribution
function. (The authors' PyTorch uses that of the marginal beta distributions, another
estimator of the same expectation.)

Floor: beta falls to 0 for very negative alpha, where samples are all but one-hot and
their gradients grow as 1 / beta^2. It is kept at `FLOOR` or above, which alpha reaches
at -6.9; below, the gradient of alpha is 0 and only weight decay leads back.
"""

import jax
import jax.numpy as jnp
from jax.scipy import special

from jnas.mixture import Mixture
from jnas.relax import base

__all__ = ["FLOOR", "concentration", "dirichlet"]

FLOOR = 1e-3
# Below this value of log s the first term of the series around s = 0 is exact.
_SMALL = -20.0


def concentration(alpha: jax.Array) -> jax.Array:
    """The beta of a Dirichlet distribution: ``elu(alpha) + 1``, at least `FLOOR`.

    Args:
      alpha: any shape.

    Returns:
      Positive, of the same shape.

    Example:
      >>> concentration(jnp.array([0.0, 2.0])).tolist()
      [1.0, 3.0]
    """
    # exp(alpha) rather than expm1(alpha) + 1, which rounds small values off.
    beta = jnp.where(alpha > 0, alpha + 1, jnp.exp(jnp.minimum(alpha, 0)))
    return jnp.maximum(beta, FLOOR)


def dirichlet(init_scale: float = 1e-3) -> base.Relaxation:
    """Mixture weights drawn from a Dirichlet distribution on every edge.

    Args:
      init_scale: standard deviation of the initial alpha; 1e-3 in the paper's code.

    Returns:
      The relaxation; arch is ``{group: float32 [E, O]}``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> arch = dirichlet().init(jax.random.key(0), space)
      >>> mixture = dirichlet().sample(
      ...     arch, key=jax.random.key(1), step=0, phase="arch", space=space)
      >>> round(float(mixture.weights["cell"][0].sum()), 5)
      1.0

    References:
      Chen, Wang, Cheng, Tang, Hsieh, DrNAS: Dirichlet Neural Architecture Search, ICLR
      2021, https://arxiv.org/abs/2006.10355
    """
    base.check_scale(init_scale)

    def sample(arch, *, key, step=None, phase=None, space=None, **context):
        del step, phase, context

        def draw(key, name, alpha):
            logs = _log_gamma(key, concentration(alpha))
            return base.probabilities(logs, base.allowed(space, name))

        return Mixture(base.by_group(draw, key, arch))

    return base.over_logits(sample, init_scale)


def _log_gamma(key, beta):
    """Logarithms of gamma variates, differentiable by their shape parameters."""
    logs = jax.random.loggamma(key, jax.lax.stop_gradient(beta), dtype=beta.dtype)
    return _reparameterised(beta, logs)


@jax.custom_jvp
def _reparameterised(beta, logs):
    """``logs``, with the implicit derivative by ``beta``.

    `jax.random.loggamma` has one of its own, but takes it at exp(logs), which
    underflows for most samples of small shape parameters.
    """
    del beta
    return logs


@_reparameterised.defjvp
def _reparameterised_jvp(primals, tangents):
    beta, logs = primals
    small = logs < _SMALL
    s = jnp.exp(jnp.where(small, _SMALL, logs))
    # The distribution function is s^beta / Gamma(beta + 1) for small s.
    series = (special.digamma(beta + 1) - logs) / beta
    slope = jnp.where(small, series, jax.lax.random_gamma_grad(beta, s) / s)
    return logs, slope * tangents[0] + tangents[1]
