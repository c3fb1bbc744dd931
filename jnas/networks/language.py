"""Exact evaluation of language models: a whole text with the state carried along."""

import functools
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnas.errors import JnasError
from jnas.networks.training import Trainer, TrainState

__all__ = ["evaluate_text"]


def evaluate_text(
    trainer: Trainer, state: TrainState, batches: Iterable[dict[str, Any]]
) -> dict[str, float | int]:
    """Measures a language model on a whole text, each prediction exactly once.

    The state is carried from window to window, as in training; dropout is off.

    Args:
      trainer: the trainer.
      state: its state; its own carried state is not used.
      batches: consecutive windows, as of `jnas.data.text_batches`.

    Returns:
      ``{"bits", "perplexity", "accuracy", "loss", "count"}``: the mean cross-entropy of
      a token in bits, 2 to that power, the fraction of tokens that were predicted, the
      cross-entropy in nats, and the number of predictions.

    Raises:
      JnasError: there is nothing to predict.

    Example:
      >>> import jnas
      >>> net = jnas.networks.recurrent("DARTS_RNN_V2", vocab_size=2, width=4)
      >>> training = jnas.networks.trainer(net, tx=optax.sgd(0.1))
      >>> text = np.array([0, 1, 0, 1, 1], np.int32)
      >>> batches = list(jnas.data.text_batches(text, 2, bptt=2))
      >>> state = training.init(jax.random.key(0), batches[0])
      >>> evaluate_text(training, state, batches)["count"]
      4
    """
    loss, right, count = 0.0, 0.0, 0
    carried = None
    for batch in batches:
        if carried is None:
            columns, width = len(batch["tokens"]), state.model_state["carry"].shape[-1]
            carry = jnp.zeros((columns, width), state.model_state["carry"].dtype)
            carried = {**state.model_state, "carry": carry}
        batch = {"weight": np.ones(batch["tokens"].shape, np.float32), **batch}
        entropy, hits, carried = _score(
            trainer.network.apply, state.weights, carried, batch
        )
        loss, right = loss + float(entropy), right + float(hits)
        count += int(batch["weight"].sum())
    if not count:
        raise JnasError("there is nothing to predict: pass at least one window")
    bits = loss / count / math.log(2)
    return {
        "bits": bits,
        # Inf, not an error, where a model has diverged.
        "perplexity": 2**bits if bits < 1000 else math.inf,
        "accuracy": right / count,
        "loss": loss / count,
        "count": count,
    }


@functools.partial(jax.jit, static_argnums=0)
def _score(apply, weights, model_state, batch):
    """Sums over a window: cross-entropy, correct predictions; and the state after."""
    outputs, model_state = apply(weights, model_state, batch, train=False)
    target, weight = batch["target"], batch["weight"] > 0
    logits = outputs.logits
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, target)
    hits = (jnp.argmax(logits, axis=-1) == target) & weight
    return jnp.sum(jnp.where(weight, entropy, 0)), jnp.sum(hits), model_state
