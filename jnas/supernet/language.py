"""The task of predicting the next token.

Activation and slowness penalties: Merity et al., Revisiting Activation Regularization
for Language RNNs, 2017 (their AR and TAR), as in DARTS' recurrent experiments.

Shape letters: `B` columns of text, `T` times, `V` tokens, `n` width.
"""

import math

import jax
import jax.numpy as jnp
import optax

from jnas.errors import JnasError
from jnas.supernet.base import Task
from jnas.supernet.sequence import check_inputs

__all__ = ["language_modelling"]


def language_modelling(activation: float = 0.0, slowness: float = 0.0) -> Task:
    """Mean cross-entropy of the next token, in nats, over a window's valid times.

    Batches are ``{"tokens": int [B, T], "target": int [B, T], "length": scalar,
    "reset": scalar}``: the first ``length`` times count, and ``reset`` begins from a
    zero state. Both may be left out.

    Args:
      activation: weight of the mean square of the hidden states after dropout
        (the authors' alpha).
      slowness: weight of the mean squared change of the hidden state between two
        times (the authors' beta, 1e-3 in DARTS' code).

    Returns:
      The task. Its metrics are ``{"bits", "accuracy"}``, per token; the perplexity of
      several windows is 2 to the power of their mean bits. The two penalties are its
      ``penalty``, seen by the weights only.

    Raises:
      JnasError: a weight is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from jnas.supernet.sequence import SequenceOutputs
      >>> zeros = jnp.zeros((2, 3, 4))
      >>> batch = {"tokens": jnp.zeros((2, 3), int), "target": jnp.zeros((2, 3), int)}
      >>> outputs = SequenceOutputs(zeros, zeros, zeros)
      >>> _, metrics = language_modelling().loss(outputs, batch)
      >>> float(metrics["bits"])
      2.0
    """
    for name, weight in (("activation", activation), ("slowness", slowness)):
        if not weight >= 0:
            raise JnasError(f"{name} must be >= 0, got {weight!r}")

    def inputs(batch):
        return {k: batch[k] for k in ("tokens", "length", "reset") if k in batch}

    def loss(outputs, batch):
        logits = outputs.logits
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        target = batch["target"]
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        value = _mean(entropy, _length(batch))
        correct = (jnp.argmax(logits, axis=-1) == target).astype(logits.dtype)
        accuracy = _mean(correct, _length(batch))
        return value, {"bits": value / math.log(2), "accuracy": accuracy}

    def penalty(outputs, batch):
        length = _length(batch)
        value = jnp.zeros((), jnp.promote_types(outputs.dropped.dtype, jnp.float32))
        if activation:
            square = jnp.mean(jnp.square(outputs.dropped.astype(value.dtype)), axis=-1)
            value = value + activation * _mean(square, length)
        if slowness:
            hiddens = outputs.hiddens.astype(value.dtype)
            change = jnp.mean(jnp.square(hiddens[:, 1:] - hiddens[:, :-1]), axis=-1)
            value = value + slowness * _mean(change, length - 1)
        return value

    return Task(inputs, loss, penalty if activation or slowness else None)


def _length(batch) -> jax.Array:
    return jnp.asarray(check_inputs(batch)[1])


def _mean(values: jax.Array, length: jax.Array) -> jax.Array:
    """The mean of ``[B, T]`` over the first ``length`` times; 0 of none."""
    valid = jnp.arange(values.shape[1]) < length
    count = jnp.maximum(length, 1).astype(values.dtype) * values.shape[0]
    return jnp.sum(jnp.where(valid[None], values, 0)) / count
