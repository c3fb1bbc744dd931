"""Softmax relaxation: Liu et al., DARTS, ICLR 2019, equation 2.

Deviations: none. Every candidate takes part in the softmax, "none" too, although it can
never be selected.
"""

from jnas.relax import base

__all__ = ["softmax"]


def softmax(temperature: float = 1.0, init_scale: float = 1e-3) -> base.Relaxation:
    """Every edge is weighted by ``softmax(alpha / temperature)``.

    Args:
      temperature: positive; 1 in the paper.
      init_scale: standard deviation of the initial alpha; 1e-3 in the paper's code.

    Returns:
      The relaxation; arch is ``{group: float32 [E, O]}``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> import jax, jnas
      >>> relaxation = softmax()
      >>> arch = relaxation.init(jax.random.key(0), jnas.spaces.nasbench201())
      >>> relaxation.probabilities(arch).weights["cell"].shape
      (6, 5)

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055
    """
    base.check_temperature(temperature)
    base.check_scale(init_scale)

    def sample(arch, *, key=None, step=None, phase=None, space=None, **context):
        del key, step, phase, context
        return base.softmax_mixture(arch, space, temperature)

    return base.over_logits(sample, init_scale, temperature=temperature)
