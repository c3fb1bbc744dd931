"""A schedule of the weights' decay: RobustDARTS (Zela et al., ICLR 2020, section 5).

More decay late in a search flattens the validation loss where it would sharpen. The
value is a run-time hyper-parameter of the weights' optimizer, set between epochs.
"""

import math
from collections.abc import Callable
from typing import Any

from jnas.errors import JnasError
from jnas.regularizers import base, checks

__all__ = ["linear_decay", "weight_decay"]


def weight_decay(schedule: Callable[[int], Any]) -> base.Regularizer:
    """Sets the weights' L2 decay for each epoch.

    Args:
      schedule: ``(epochs done) -> decay``, a finite number >= 0; asked from 1 on: the
        first epoch has the optimizer's own, which should be ``schedule(0)``.

    Returns:
      The regularizer, without state. The weights' optimizer needs the hyper-parameter
      ``weight_decay`` (`optimizers.coupled_sgd` has it).

    Raises:
      JnasError: the schedule is no function; ``epoch_end``: it gives no such number.

    Example:
      >>> part = weight_decay(linear_decay(3e-4, 81e-4, epochs=50))
      >>> _, action = part.epoch_end((), epoch=25)
      >>> round(action.hyperparams["weight_decay"], 6)
      0.0042

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656
    """
    if not callable(schedule):
        raise JnasError(
            f"schedule must be a function of the epoch, got {schedule!r}: a constant "
            "decay is an option of the optimizer"
        )

    def epoch_end(state, *, epoch, **context):
        del context
        value = float(schedule(epoch))
        if not (math.isfinite(value) and value >= 0):
            raise JnasError(
                f"the schedule of weight_decay must give finite numbers >= 0, got "
                f"{value} after epoch {epoch}"
            )
        return state, base.Action(hyperparams={"weight_decay": value})

    return base.Regularizer(epoch_end=epoch_end)


def linear_decay(start: float, end: float, *, epochs: int) -> Callable[[int], float]:
    """A decay that moves linearly with the epochs done.

    Args:
      start: of the first epoch.
      end: what it would be after the last.
      epochs: how many.

    Returns:
      ``(epochs done) -> decay``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> linear_decay(0.0, 0.5, epochs=4)(2)
      0.25
    """
    checks.number(start, "start")
    checks.number(end, "end")
    checks.count(epochs, "epochs")
    return lambda done: start + (end - start) * min(done, epochs) / epochs
