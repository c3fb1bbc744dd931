"""The concrete distribution: Xie et al., SNAS, ICLR 2019; Wu et al., FBNet, CVPR 2019.

Z = softmax((alpha + Gumbel noise) / temperature) on every edge; all candidates run, and
the gradient is the pathwise one. SNAS calls alpha "log alpha" and starts it at N(1,
0.01); FBNet starts it at 1/9 everywhere. An additive constant changes nothing, so the
two differ in their schedules of the temperature alone (`linear_temperature`,
`exponential_temperature`).
"""

from jnas.mixture import Mixture
from jnas.relax import base

__all__ = ["concrete", "gumbel_soft"]


def gumbel_soft(
    temperature: base.Temperature = 1.0,
    init_mean: float = 0.0,
    init_scale: float = 1e-3,
) -> base.Relaxation:
    """Softened Gumbel samples (Gumbel-softmax).

    Args:
      temperature: positive, or a function of the step; SNAS 1 falling to 0.03, FBNet 5
        times 0.956 to the power of the epoch.
      init_mean: of the initial alpha.
      init_scale: standard deviation of the initial alpha.

    Returns:
      The relaxation; arch is ``{group: float32 [E, O]}``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> import jax, jnas
      >>> space = jnas.spaces.nasbench201()
      >>> relaxation = gumbel_soft(temperature=0.5)
      >>> arch = relaxation.init(jax.random.key(0), space)
      >>> mixture = relaxation.sample(
      ...     arch, key=jax.random.key(1), step=0, phase="arch", space=space)
      >>> round(float(mixture.weights["cell"][0].sum()), 5)
      1.0

    References:
      Xie, Zheng, Liu, Lin, SNAS: Stochastic Neural Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1812.09926; Wu et al., FBNet, CVPR 2019,
      https://arxiv.org/abs/1812.03443
    """
    base.check_temperature(temperature, schedule=True)
    base.check_scale(init_scale)

    def sample(arch, *, key, step=0, phase=None, space=None, **context):
        del phase, context
        tau = base.temperature_at(temperature, step)

        def draw(key, name, alpha):
            noisy = (alpha + base.gumbel(key, alpha)) / tau
            return base.probabilities(noisy, base.allowed(space, name))

        return Mixture(base.by_group(draw, key, arch))

    return base.over_logits(sample, init_scale, init_mean)


def concrete(temperature: base.Temperature = 1.0) -> base.Relaxation:
    """SNAS' relaxation: `gumbel_soft` from its own initial values N(1, 0.01).

    Args:
      temperature: positive, or a function of the step.

    Returns:
      The relaxation.

    Raises:
      JnasError: the temperature is not positive.

    Example:
      >>> import jax, jnas
      >>> arch = concrete().init(jax.random.key(0), jnas.spaces.nasbench201())
      >>> round(float(arch["cell"].mean()), 2)
      1.0

    References:
      Xie, Zheng, Liu, Lin, SNAS, ICLR 2019, https://arxiv.org/abs/1812.09926
    """
    return gumbel_soft(temperature, init_mean=1.0, init_scale=0.01)
