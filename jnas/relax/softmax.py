"""Softmax relaxation: Liu et al., DARTS, ICLR 2019, equation 2.

Deviations: none. Every candidate takes part in the softmax, "none" too, although it can
never be selected.
"""

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.relax import base
from jnas.spaces import Space

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
      >>> import jnas
      >>> relaxation = softmax()
      >>> arch = relaxation.init(jax.random.key(0), jnas.spaces.nasbench201())
      >>> relaxation.probabilities(arch).weights["cell"].shape
      (6, 5)

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055
    """
    if not temperature > 0:
        raise JnasError(f"temperature must be positive, got {temperature!r}")
    if not init_scale >= 0:
        raise JnasError(f"init_scale must be >= 0, got {init_scale!r}")

    def init(key: jax.Array, space: Space):
        keys = jax.random.split(key, len(space.groups))
        return {
            group.name: init_scale
            * jax.random.normal(k, (group.num_edges, group.num_operations), jnp.float32)
            for k, group in zip(keys, space.groups, strict=True)
        }

    def probabilities(arch):
        return Mixture(
            {g: jax.nn.softmax(alpha / temperature) for g, alpha in arch.items()}
        )

    def sample(arch, *, key=None, step=None, phase=None, **context):
        del key, step, phase, context
        return probabilities(arch)

    return base.Relaxation(init, sample, probabilities)
