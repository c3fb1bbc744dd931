"""Beta decay: Ye, Li, Li, Tang, Ouyang, beta-DARTS, CVPR 2022.

    strength * mean over edges of logsumexp_o(alpha_eo)

added to the loss of the architecture. Its gradient by alpha is ``strength / E *
softmax(alpha_e)``: it pulls all logits of an edge down, each by its probability, so the
largest most. It acts on the logits and changes with what a softmax ignores, a constant
added to a row.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy import special

from jnas.regularizers import base, checks

__all__ = ["beta_decay", "linear_strength"]


def beta_decay(strength: checks.Scheduled = 25.0) -> base.Regularizer:
    """Penalises the smooth maximum of each edge's logits.

    Args:
      strength: a number or a function of the step (`linear_strength`); the number 0
        gives `identity`.

    Returns:
      The regularizer; its state is ``{group: bool [E, O]}``, what edges can choose.

    Raises:
      JnasError: the strength is out of range; ``init``: arch has no logits of the
        space's groups.

    Example:
      >>> import types, jnas
      >>> supernet = types.SimpleNamespace(space=jnas.spaces.nasbench201())
      >>> part, arch = beta_decay(1.0), {"cell": jnp.zeros((6, 5))}
      >>> value = part.penalty(part.init(supernet, arch), arch=arch, phase="arch")
      >>> round(float(value), 4)  # log 5
      1.6094

    References:
      Ye, Li, Li, Tang, Ouyang, beta-DARTS: Beta-Decay Regularization for Differentiable
      Architecture Search, CVPR 2022, https://arxiv.org/abs/2203.01665;
      Sunshine-Ye/Beta-DARTS
    """
    checks.strength(strength)
    if checks.is_zero(strength):
        return base.identity()

    def logits(arch, masks):
        return checks.logits(arch, masks, "beta_decay", "softmax")

    def init(supernet, arch, **context):
        del context
        masks = checks.choosable(supernet)
        logits(arch, masks)
        return masks

    def penalty(state, *, arch, phase, step=0, **context):
        del context
        if phase != "arch":
            return 0.0
        peaks = [
            special.logsumexp(alpha, axis=-1, where=state[name])
            for name, alpha in logits(arch, state).items()
        ]
        return checks.value_at(strength, step) * jnp.mean(jnp.concatenate(peaks))

    return base.Regularizer(init=init, penalty=penalty)


def linear_strength(
    final: float, *, epochs: int, steps_per_epoch: int
) -> Callable[[jax.Array], jax.Array]:
    """A strength that rises from 0 in the first epoch towards ``final``.

    In epoch e it is ``final * e / epochs``; beta-DARTS' code has 50 and 100 epochs.

    Args:
      final: what it would be after the last epoch.
      epochs: how many.
      steps_per_epoch: steps of one.

    Returns:
      ``step -> strength``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> float(linear_strength(50.0, epochs=100, steps_per_epoch=10)(995))
      49.5
    """
    checks.number(final, "final")
    return checks.by_epoch(0.0, final, epochs=epochs, steps_per_epoch=steps_per_epoch)
