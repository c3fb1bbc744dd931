"""Drop path in the search: Zela et al., RobustDARTS, ICLR 2020, section 5.1.

Whole outputs of mixed edges are dropped, one draw per image, and the others divided by
the probability of being kept. The supernet does it; this only tells it the rate.
"""

from collections.abc import Callable

import jax

from jnas.regularizers import base, checks

__all__ = ["drop_path", "linear_rate"]


def drop_path(rate: checks.Scheduled = 0.2) -> base.Regularizer:
    """Drops outputs of mixed edges at a rate.

    Args:
      rate: in [0, 1), or a function of the step (`linear_rate`).

    Returns:
      The regularizer, without state.

    Raises:
      JnasError: the rate is out of range.

    Example:
      >>> {k: round(float(v), 3) for k, v in drop_path(0.2).rates((), step=0).items()}
      {'drop_path': 0.2}

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656
    """
    checks.rate(rate)
    if checks.is_zero(rate):
        return base.identity()

    def rates(state, *, step, **context):
        del state, context
        return {"drop_path": checks.value_at(rate, step)}

    return base.Regularizer(rates=rates)


def linear_rate(
    final: float, *, epochs: int, steps_per_epoch: int
) -> Callable[[jax.Array], jax.Array]:
    """A rate that rises from 0 in the first epoch towards ``final``.

    In epoch e it is ``final * e / epochs``, as in DARTS' code. RobustDARTS' reaches
    ``final`` in the last epoch: pass one epoch less for that.

    Args:
      final: what it would be after the last epoch.
      epochs: how many.
      steps_per_epoch: steps of one.

    Returns:
      ``step -> rate``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> float(linear_rate(0.5, epochs=4, steps_per_epoch=10)(25))
      0.25
    """
    checks.rate(final)
    return checks.by_epoch(0.0, final, epochs=epochs, steps_per_epoch=steps_per_epoch)
