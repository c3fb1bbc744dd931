"""Auxiliary skip: Chu, Wang, Zhang, Lu, Wei, Yan, DARTS-, ICLR 2021.

Beside the candidates of each edge goes a skip of fixed weight, outside the softmax:

    output = sum_o p_o * o(x) + weight * skip(x)

Skip connections win in DARTS partly because they help a deep supernet to train at all.
The auxiliary skip does that job, so those among the candidates are left with what they
are worth. Its weight falls to 0 by the end; no derived cell has one.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.regularizers import base, checks

__all__ = ["auxiliary_skip", "falling_weight"]


def auxiliary_skip(strength: checks.Scheduled = 1.0) -> base.Regularizer:
    """Adds a weighted skip beside the candidates of every edge while training.

    The deterministic view of a search (selection, curvature, evaluation) has none.

    Args:
      strength: the weight of the skips, beta in the paper; a number or a function of
        the step (`falling_weight`). The number 0 gives `identity`.

    Returns:
      The regularizer; its state is ``{group: ones [E]}``.

    Raises:
      JnasError: the strength is out of range; ``init``: the supernet has no auxiliary
        skips.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> net = jnas.supernet.build(
      ...     space, channels=4, cells_per_stage=1, auxiliary_skip=True)
      >>> part = auxiliary_skip(0.5)
      >>> state = part.init(net, None)
      >>> mixture = part.transform(state, jnas.mixture.uniform(space), step=0)
      >>> float(mixture.auxiliary["cell"][0])
      0.5

    References:
      Chu, Wang, Zhang, Lu, Wei, Yan, DARTS-: Robustly Stepping out of Performance
      Collapse Without Indicators, ICLR 2021, https://arxiv.org/abs/2009.01027;
      Meituan-AutoML/DARTS-
    """
    checks.strength(strength)
    if checks.is_zero(strength):
        return base.identity()

    def init(supernet, arch, **context):
        del arch, context
        if not (supernet.config or {}).get("auxiliary_skip"):
            raise JnasError(
                "auxiliary_skip needs a supernet with auxiliary skips: build it with "
                "jnas.supernet.build(..., auxiliary_skip=True)"
            )
        return {g.name: jnp.ones(g.num_edges) for g in supernet.space.groups}

    def transform(state, mixture, *, step, **context):
        del context
        weight = checks.value_at(strength, step)
        skips = {name: weight * ones for name, ones in state.items()}
        return mixture._replace(auxiliary=skips)

    return base.Regularizer(init=init, transform=transform)


def falling_weight(
    start: float = 1.0, *, epochs: int, steps_per_epoch: int
) -> Callable[[jax.Array], jax.Array]:
    """A weight that falls linearly from epoch to epoch, to 0 after the last one.

    Args:
      start: in the first epoch.
      epochs: how many.
      steps_per_epoch: steps of one.

    Returns:
      ``step -> weight``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> weight = falling_weight(epochs=50, steps_per_epoch=10)
      >>> round(float(weight(495)), 4)  # the last epoch
      0.02
    """
    checks.number(start, "start")
    return checks.by_epoch(start, 0.0, epochs=epochs, steps_per_epoch=steps_per_epoch)
