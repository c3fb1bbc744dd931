"""Classification with an auxiliary head (Szegedy et al., CVPR 2015; DARTS: 0.4)."""

import jax

from jnas.errors import JnasError
from jnas.networks.base import Outputs, logits_of
from jnas.supernet import base

__all__ = ["classification"]


def classification(
    auxiliary_weight: float = 0.4, label_smoothing: float = 0.0
) -> base.Task:
    """Mean cross-entropy, plus a share of the auxiliary head's where there is one.

    Args:
      auxiliary_weight: of the auxiliary head's cross-entropy.
      label_smoothing: mass moved from the label to the uniform distribution, in both.

    Returns:
      The task, for outputs that are logits or `Outputs`; its metrics are
      ``{"accuracy"}`` of the logits, a fraction.

    Raises:
      JnasError: an option is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> zeros = jnp.zeros((2, 10))
      >>> batch = {"image": zeros, "label": jnp.array([0, 1])}
      >>> loss, _ = classification(0.5).loss(Outputs(zeros, zeros), batch)
      >>> round(float(loss / jnp.log(10)), 6)
      1.5
    """
    if not auxiliary_weight >= 0:
        raise JnasError(f"auxiliary_weight must be >= 0, got {auxiliary_weight!r}")
    if not 0 <= label_smoothing < 1:
        raise JnasError(f"label_smoothing must be in [0, 1), got {label_smoothing!r}")
    plain = base.classification(label_smoothing)

    def loss(outputs, batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        value, metrics = plain.loss(logits_of(outputs), batch)
        if isinstance(outputs, Outputs) and outputs.auxiliary is not None:
            value = value + auxiliary_weight * plain.loss(outputs.auxiliary, batch)[0]
        return value, metrics

    return base.Task(inputs=plain.inputs, loss=loss)
