"""The k most probable candidates of every edge, and only those computed.

Not a published method by itself: the deterministic middle between DARTS (all of them)
and one path, as progressive methods use it. The softmax is over all candidates; the k
largest keep their probability, or are made to sum to 1.
"""

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.relax import base
from jnas.spaces import Space

__all__ = ["top_k"]


def top_k(
    k: int,
    temperature: float = 1.0,
    renormalise: bool = False,
    init_scale: float = 1e-3,
) -> base.Relaxation:
    """Softmax weights of the k most probable candidates.

    Args:
      k: at least 1, at most the number of operations.
      temperature: of the softmax; positive.
      renormalise: whether the k weights are made to sum to 1.
      init_scale: standard deviation of the initial alpha.

    Returns:
      The relaxation; arch is ``{group: float32 [E, O]}``.

    Raises:
      JnasError: an argument is out of range; ``init``: a group has fewer operations.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> relaxation = top_k(2)
      >>> arch = relaxation.init(jax.random.key(0), space)
      >>> mixture = relaxation.sample(arch, space=space)
      >>> mixture.active["cell"].shape
      (6, 2)
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise JnasError(f"k must be a positive integer, got {k!r}")
    base.check_temperature(temperature)
    base.check_scale(init_scale)

    def check(space: Space):
        for group in space.groups:
            if k > group.num_operations:
                raise JnasError(
                    f"k must be at most {group.num_operations}, the operations of "
                    f"group {group.name!r}, got {k}"
                )

    def sample(arch, *, key=None, step=None, phase=None, space=None, **context):
        del key, step, phase, context
        chosen = {}
        for name, p in base.softmax_mixture(arch, space, temperature).weights.items():
            _, active = jax.lax.top_k(p, k)
            kept = p * jnp.max(jax.nn.one_hot(active, p.shape[-1], dtype=p.dtype), -2)
            if renormalise:
                kept = kept / jnp.sum(kept, axis=-1, keepdims=True)
            chosen[name] = (kept, active)
        return base.path_mixture(chosen)

    return base.over_logits(sample, init_scale, temperature=temperature, check=check)
