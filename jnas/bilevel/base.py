"""The contract: how the validation loss is differentiated by arch.

Nothing here knows about networks: a hypergradient sees two losses of
``(weights, arch, batch, key)``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

__all__ = ["Hypergradient", "LossFn"]

LossFn = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]]
"""``(weights, arch, batch, key) -> (scalar, aux)``."""


class Hypergradient(NamedTuple):
    """An estimator of d val-loss / d arch.

    Attributes:
      init: ``(weights, arch) -> state``.
      estimate: ``(state, train_loss, val_loss, weights, arch, train_batch, val_batch,
        *, weight_tx, weight_opt_state, key, **context) -> (arch_grad, state, info)``.
        ``info`` is a dict with at least "val_loss" and "val_aux", the value and the
        auxiliary output of the validation loss.
    """

    init: Callable[[Any, Any], Any]
    estimate: Callable[..., tuple[Any, Any, dict[str, Any]]]
