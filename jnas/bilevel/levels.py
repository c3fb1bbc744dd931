"""Estimators that mix the two levels or do without one, first order in the weights.

* `mixed_level`: He et al., MiLeNAS, CVPR 2020. Deviation: none; the authors'
  code adds ``lambda`` times the training gradient to the validation gradient, as here.
* `single_level`: arch learns from the batch that the weights learn from, as in SNAS.
"""

import jax

from jnas.bilevel import base, products
from jnas.bilevel.first_order import first_order
from jnas.errors import JnasError

__all__ = ["mixed_level", "single_level"]


def mixed_level(lambda_train: float = 1.0) -> base.Hypergradient:
    """The gradient by arch of ``val loss + lambda_train * train loss``.

    Args:
      lambda_train: weight of the training loss; 1 in the authors' code, 0 gives
        `first_order`.

    Returns:
      The estimator; its info has "train_loss", too.

    Raises:
      JnasError: the weight is not a number >= 0; from ``estimate``, when a loss or a
        tree is not what it must be.

    Example:
      >>> loss = lambda weights, arch, batch, key: (arch * weights * batch, None)
      >>> grad, _, info = mixed_level(0.5).estimate(
      ...     (), loss, loss, 2.0, 1.0, 10.0, 1.0, key=jax.random.key(0))
      >>> float(grad)
      12.0

    References:
      He, Ye, Shen, Zhang, MiLeNAS: Efficient Neural Architecture Search via Mixed-Level
      Reformulation, CVPR 2020, https://arxiv.org/abs/2003.12238
    """
    if isinstance(lambda_train, bool) or not lambda_train >= 0:
        raise JnasError(f"lambda_train must be a number >= 0, got {lambda_train!r}")

    def estimate(
        state, train_loss, val_loss, weights, arch, train_batch, val_batch, *, key, **_
    ):
        base.check_real(arch, "arch")
        (value, aux), grad = jax.value_and_grad(
            base.scalar(val_loss, "validation"), argnums=1, has_aux=True
        )(weights, arch, val_batch, key)
        (train_value, _), train_grad = jax.value_and_grad(
            base.scalar(train_loss, "training"), argnums=1, has_aux=True
        )(weights, arch, train_batch, base.train_key(key))
        info = {"val_loss": value, "val_aux": aux, "train_loss": train_value}
        return products.add(grad, train_grad, lambda_train), state, info

    return base.Hypergradient(base.stateless, estimate)


def single_level() -> base.Hypergradient:
    """The first-order gradient on the *training* batch; validation data are not used.

    It is the validation loss's function that is evaluated there. In a search both
    losses are one function but for what regularizers add to arch's, which counts here.

    Returns:
      The estimator. In its info, "val_loss" and "val_aux" are those of this evaluation.

    Raises:
      JnasError: from ``estimate``, when a loss or a tree is not what it must be.

    Example:
      >>> loss = lambda weights, arch, batch, key: (arch * weights * batch, None)
      >>> grad, _, _ = single_level().estimate(
      ...     (), loss, loss, 2.0, 1.0, 10.0, 1.0, key=jax.random.key(0))
      >>> float(grad)
      20.0

    References:
      Xie, Zheng, Liu, Lin, SNAS: Stochastic Neural Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1812.09926
    """

    def estimate(
        state, train_loss, val_loss, weights, arch, train_batch, val_batch, *, key, **_
    ):
        del val_batch
        return direct.estimate(
            state, train_loss, val_loss, weights, arch, None, train_batch, key=key
        )

    direct = first_order()
    return base.Hypergradient(base.stateless, estimate)
