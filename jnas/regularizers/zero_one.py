"""Zero-one loss: Chu et al., FairDARTS, ECCV 2020, equations 5 and 6.

Pushes independent gates (`relax.sigmoid`) away from one half, the point of indecision:

    "l2":  -mean((gate - 0.5)^2)        "l1":  -mean(|gate - 0.5|)

times ``strength``, over all candidates of all groups. As in the authors' code it is
added to both losses; in the weights' it moves nothing, for their mixture carries no
gradient.

Quirks kept: the mean is over all entries of both cells, so the pull on one gate shrinks
with the size of the space; and at the initial alpha = 0 both forms have gradient 0, so
the loss acts only on what the task has moved first.
"""

import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.regularizers import base, checks

__all__ = ["zero_one"]

KINDS = ("l2", "l1")


def zero_one(strength: checks.Scheduled = 10.0, kind: str = "l2") -> base.Regularizer:
    """Rewards gates that are nearly 0 or nearly 1.

    Args:
      strength: factor of the loss; 10 in the paper's code. A number or a function of
        the step; the number 0 gives `identity`.
      kind: "l2" (the paper's choice) or "l1".

    Returns:
      The regularizer; its state is ``{group: bool [E, O]}``, what edges can choose.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> import types, jnas
      >>> supernet = types.SimpleNamespace(space=jnas.spaces.nasbench201())
      >>> part = zero_one(strength=10.0)
      >>> mixture = jnas.mixture.Mixture({"cell": jnp.ones((6, 5))})
      >>> float(part.penalty(part.init(supernet, None), mixture=mixture))
      -2.5

    References:
      Chu, Zhou, Zhang, Li, Fair DARTS: Eliminating Unfair Advantages in Differentiable
      Architecture Search, ECCV 2020, https://arxiv.org/abs/1911.12126
    """
    checks.strength(strength)
    if kind not in KINDS:
        raise JnasError(f"kind must be 'l2' or 'l1', got {kind!r}")
    if checks.is_zero(strength):
        return base.identity()

    def penalty(state, *, mixture, step=0, **context):
        del context
        total, count = 0.0, 0
        for name, mask in state.items():
            distance = mixture.weights[name] - 0.5
            # The sign: of PyTorch's absolute value the gradient at 0 is 0, of JAX' 1.
            factor = distance if kind == "l2" else jnp.sign(distance)
            size = distance * factor
            mask = jnp.broadcast_to(mask, size.shape)
            total += jnp.sum(jnp.where(mask, size, 0.0))
            count += jnp.sum(mask)
        return -checks.value_at(strength, step) * total / count

    return base.Regularizer(init=checks.choosable, penalty=penalty)
