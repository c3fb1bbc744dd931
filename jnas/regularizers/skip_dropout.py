"""Dropout behind skip connections: Chen et al., P-DARTS, ICCV 2019, section 3.3.

Skips train fastest and crowd out the rest; dropping parts of what they pass on, less
and less, keeps the gradients away from them. The supernet applies it behind identities
only (skips of stride 1), elementwise, as the authors' code does; this tells the rate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.regularizers import base, checks

__all__ = ["decaying_rate", "skip_dropout"]


def skip_dropout(rate: checks.Scheduled = 0.4) -> base.Regularizer:
    """Dropout behind skip connections at a rate.

    Args:
      rate: in [0, 1), or a function of the step (`decaying_rate`).

    Returns:
      The regularizer, without state.

    Raises:
      JnasError: the rate is out of range.

    Example:
      >>> {k: float(v) for k, v in skip_dropout(0.5).rates((), step=0).items()}
      {'skip_dropout': 0.5}

    References:
      Chen, Xie, Wu, Tian, Progressive Differentiable Architecture Search: Bridging the
      Depth Gap between Search and Evaluation, ICCV 2019,
      https://arxiv.org/abs/1904.12760
    """
    checks.rate(rate)
    if checks.is_zero(rate):
        return base.identity()

    def rates(state, *, step, **context):
        del state, context
        return {"skip_dropout": checks.value_at(rate, step)}

    return base.Regularizer(rates=rates)


def decaying_rate(
    initial: float,
    *,
    epochs: int,
    steps_per_epoch: int,
    arch_from_epoch: int = 10,
    scale: float = 0.2,
) -> Callable[[jax.Array], jax.Array]:
    """P-DARTS' rate within one stage.

    In epoch e of E: ``initial * (E - e - 1) / E`` while only the weights learn, and
    ``initial * exp(-scale * (e - arch_from_epoch))`` from then on: it rises once, where
    the architecture sets in.

    Args:
      initial: of the stage; 0.1, 0.4, 0.7 in the authors' instructions, 0.0, 0.4, 0.7
        in the paper.
      epochs: of the stage; 25 in the paper.
      steps_per_epoch: steps of one.
      arch_from_epoch: the first epoch in which the architecture learns.
      scale: how fast it falls; 0.2 in the authors' code.

    Returns:
      ``step -> rate``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> rate = decaying_rate(0.4, epochs=25, steps_per_epoch=1)
      >>> [round(float(rate(epoch)), 4) for epoch in (0, 9, 10, 24)]
      [0.384, 0.24, 0.4, 0.0243]
    """
    checks.rate(initial)
    checks.count(epochs, "epochs")
    checks.count(steps_per_epoch, "steps_per_epoch")
    checks.number(scale, "scale")
    if not 0 <= arch_from_epoch <= epochs:
        raise JnasError(
            f"arch_from_epoch must be in 0..{epochs}, the epochs, got "
            f"{arch_from_epoch!r}"
        )

    def at(step):
        epoch = jnp.minimum(jnp.asarray(step) // steps_per_epoch, epochs - 1)
        before = (epochs - epoch - 1) / epochs
        # Not exp(-scale * ...) alone: before the first arch epoch that would exceed 1.
        since = jnp.maximum(epoch - arch_from_epoch, 0)
        after = jnp.exp(-scale * since)
        return initial * jnp.where(epoch < arch_from_epoch, before, after)

    return at
