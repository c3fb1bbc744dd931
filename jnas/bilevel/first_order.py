"""First-order hypergradient: Liu et al., DARTS, ICLR 2019, section 2.3 with xi = 0.

The response of the weights is ignored: d val-loss / d arch at the current weights.
"""

import jax

from jnas.bilevel import base

__all__ = ["first_order"]


def first_order() -> base.Hypergradient:
    """The gradient of the validation loss by arch, weights held fixed.

    Returns:
      The estimator; it has no state and never calls the training loss.

    Raises:
      JnasError: from ``estimate``, when a loss or a tree is not what it must be.

    Example:
      >>> loss = lambda weights, arch, batch, key: ((weights * arch - batch) ** 2, None)
      >>> hypergradient = first_order()
      >>> grad, _, info = hypergradient.estimate(
      ...     (), loss, loss, 2.0, 3.0, 0.0, 1.0, key=jax.random.key(0))
      >>> float(grad), float(info["val_loss"])
      (20.0, 25.0)

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055
    """

    def estimate(
        state, train_loss, val_loss, weights, arch, train_batch, val_batch, *, key, **_
    ):
        del train_loss, train_batch
        base.check_real(arch, "arch")
        (value, aux), grad = jax.value_and_grad(
            base.scalar(val_loss, "validation"), argnums=1, has_aux=True
        )(weights, arch, val_batch, key)
        return grad, state, {"val_loss": value, "val_aux": aux}

    return base.Hypergradient(base.stateless, estimate)
