"""The contracts: what a supernet is, and what a task makes of its outputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas.errors import JnasError
from jnas.spaces import Space

__all__ = ["Supernet", "Task", "Variables", "classification"]


class Variables(NamedTuple):
    """What a network carries.

    Attributes:
      weights: the trainable parameters, a pytree of arrays.
      model_state: what a forward pass updates (running statistics, carries), a dict of
        collections.
    """

    weights: Any
    model_state: Any


class Supernet(NamedTuple):
    """A weight-sharing network over a space: pure functions and static data.

    Attributes:
      space: what can be chosen.
      init: ``(key, inputs) -> Variables``; ``inputs`` is a batch or its shapes.
      apply: ``(weights, model_state, mixture, inputs, *, train, statistics=None,
        rates=None, key=None, precise=False) -> (outputs, model_state)``. ``statistics``
        is "batch" or "running" (default by ``train``); only "batch" updates the model
        state. ``precise`` computes in at least float32, whatever the compute dtype:
        second derivatives of narrower arithmetic are mostly rounding.
      op_sum: ``(tree like weights) -> {group: [cells, E, O]}``, sums per operation.
      op_mask: ``({group: [cells, E, O]}) -> tree like weights``, each weight gets the
        entry of its operation; weights outside operations get 1.
      cells: number of cells of each group.
      per_stream: names of model-state collections kept apart for the training and
        validation streams (e.g. a recurrent carry).
      config: how it was built, for the record.
    """

    space: Space
    init: Callable[..., Variables]
    apply: Callable[..., tuple[Any, Any]]
    op_sum: Callable[[Any], dict[str, jax.Array]]
    op_mask: Callable[[dict[str, Any]], Any]
    cells: dict[str, int]
    per_stream: tuple[str, ...] = ()
    config: dict[str, Any] | None = None


class Task(NamedTuple):
    """What is learned.

    Attributes:
      inputs: ``(batch) -> inputs`` of the network.
      loss: ``(outputs, batch) -> (scalar, metrics)``, metrics a dict of scalars.
      penalty: ``(outputs, batch) -> scalar`` that training the weights adds to the
        loss (e.g. slowness of a recurrent state); the architecture's loss and
        evaluation never see it. None for nothing.
    """

    inputs: Callable[[Any], Any]
    loss: Callable[[Any, Any], tuple[jax.Array, dict[str, jax.Array]]]
    penalty: Callable[[Any, Any], jax.Array] | None = None


def classification(label_smoothing: float = 0.0) -> Task:
    """Mean cross-entropy on batches ``{"image": [B, ...], "label": int [B]}``.

    Args:
      label_smoothing: mass moved from the label to the uniform distribution.

    Returns:
      The task; its metrics are ``{"accuracy"}``, a fraction.

    Raises:
      JnasError: the smoothing is not in [0, 1).

    Example:
      >>> task = classification()
      >>> batch = {"image": jnp.zeros((2, 1)), "label": jnp.array([0, 1])}
      >>> loss, metrics = task.loss(jnp.array([[9.0, 0.0], [9.0, 0.0]]), batch)
      >>> float(metrics["accuracy"])
      0.5
    """
    if isinstance(label_smoothing, bool) or not 0 <= label_smoothing < 1:
        raise JnasError(f"label_smoothing must be in [0, 1), got {label_smoothing!r}")

    def loss(logits, batch):
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        label = batch["label"]
        target = optax.smooth_labels(
            jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype), label_smoothing
        )
        value = jnp.mean(optax.softmax_cross_entropy(logits, target))
        correct = jnp.argmax(logits, axis=-1) == label
        return value, {"accuracy": jnp.mean(correct.astype(logits.dtype))}

    return Task(inputs=lambda batch: batch["image"], loss=loss)
