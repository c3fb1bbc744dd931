"""Training of final networks, and their exact evaluation.

`Trainer` is a triple of pure functions of one state, like `jnas.search.Search`: jit it,
scan it, or hand it to `jnas.run.loop`, which passes the second batch that ``step``
ignores.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnas import numerics, optimizers
from jnas.errors import JnasError
from jnas.networks import mixup as mixups
from jnas.networks import tasks
from jnas.networks.base import Network, logits_of
from jnas.supernet.base import Task

__all__ = ["TrainInfo", "TrainState", "Trainer", "evaluate", "trainer"]


class TrainState(NamedTuple):
    """Everything that a training carries; saving it is saving the training.

    Attributes:
      weights: of the network.
      model_state: its running statistics.
      opt_state: of the optimizer.
      key: typed PRNG key; each step derives its own from it and ``step``.
      step: int32, number of steps done.
    """

    weights: Any
    model_state: Any
    opt_state: Any
    key: jax.Array
    step: jax.Array


class TrainInfo(NamedTuple):
    """Diagnostics of a step; scalars.

    Attributes:
      train_loss: of the task, before the update.
      train_metrics: the task's metrics, likewise.
      grad_norm: Euclidean norm of the gradient, before clipping.
    """

    train_loss: jax.Array
    train_metrics: dict[str, jax.Array]
    grad_norm: jax.Array


class Trainer(NamedTuple):
    """The training of one network, as pure functions.

    Attributes:
      network: what is trained.
      init: ``(key, inputs) -> TrainState``; ``inputs`` is a batch or its shapes.
      step: ``(state, batch, _=None) -> (TrainState, TrainInfo)``.
      predict: ``(state, images) -> logits [B, num_classes]`` with running statistics.
      config: names and hyper-parameters, saved with runs.
    """

    network: Network
    init: Callable[..., TrainState]
    step: Callable[..., tuple[TrainState, TrainInfo]]
    predict: Callable[[TrainState, Any], jax.Array]
    config: dict[str, Any]


def trainer(
    network: Network,
    *,
    tx: optax.GradientTransformation,
    task: Task | None = None,
    drop_path: float | Callable[[jax.Array], Any] = 0.0,
    mixup: float = 0.0,
    config: dict[str, Any] | None = None,
) -> Trainer:
    """Composes the training of a network.

    Args:
      network: the network.
      tx: optimizer of the weights; its ``update`` gets the batch as the extra keyword
        ``batch``.
      task: default `jnas.networks.classification`.
      drop_path: rate of drop path, or a schedule ``(step) -> rate``.
      mixup: parameter of the Beta distribution by which images are blended (see
        `jnas.networks.mixup`); 0 for none.
      config: names and hyper-parameters, saved with runs.

    Returns:
      The trainer.

    Raises:
      JnasError: a rate is out of range.

    Example:
      >>> import jnas
      >>> net = jnas.networks.build("DARTS_V1", channels=4, cells=3)
      >>> training = trainer(net, tx=optax.sgd(0.1), drop_path=0.2)
      >>> image = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
      >>> state = jax.eval_shape(training.init, jax.random.key(0), image)
      >>> state.step.dtype.name
      'int32'
    """
    if not callable(drop_path) and not 0 <= drop_path < 1:
        raise JnasError(f"drop_path must be in [0, 1), got {drop_path!r}")
    if not 0 <= mixup < math.inf:
        raise JnasError(f"mixup must be >= 0 and finite, got {mixup!r}")
    task = task or tasks.classification()
    task = mixups.mixed(task) if mixup else task
    tx = optimizers.accepting(tx, "tx")

    def init(key, inputs):
        weights_key, key = jax.random.split(key)
        weights, model_state = network.init(weights_key, inputs)
        return TrainState(
            weights, model_state, tx.init(weights), key, jnp.zeros([], jnp.int32)
        )

    def step(state, batch, _=None):
        rates = None
        if callable(drop_path):
            rates = {"drop_path": drop_path(state.step)}
        elif drop_path:
            rates = {"drop_path": drop_path}
        key = jax.random.fold_in(state.key, state.step)
        if mixup:
            key, mixup_key = jax.random.split(key)
            batch = mixups.mix(mixup_key, batch, mixup)

        def loss_fn(weights):
            outputs, model_state = network.apply(
                weights,
                state.model_state,
                task.inputs(batch),
                train=True,
                rates=rates,
                key=key,
            )
            loss, metrics = task.loss(outputs, batch)
            penalty = 0.0 if task.penalty is None else task.penalty(outputs, batch)
            return loss + penalty, (loss, metrics, model_state)

        (_, (loss, metrics, model_state)), grads = jax.value_and_grad(
            loss_fn, has_aux=True
        )(state.weights)
        updates, opt_state = tx.update(
            grads, state.opt_state, state.weights, batch=batch
        )
        state = TrainState(
            optax.apply_updates(state.weights, updates),
            model_state,
            opt_state,
            state.key,
            state.step + 1,
        )
        return state, TrainInfo(loss, metrics, numerics.global_norm(grads))

    def predict(state, images):
        outputs, _ = network.apply(
            state.weights, state.model_state, images, train=False
        )
        return logits_of(outputs)

    full = {**(config or {}), "network": network.config}
    return Trainer(network, init, step, predict, full)


def evaluate(
    trainer: Trainer, state: TrainState, batches: Iterable[dict[str, Any]]
) -> dict[str, float | int]:
    """Measures a network on a whole split, each example exactly once.

    Running statistics are used, so the size of the batches does not matter. Compiled
    once for a trainer and shape of the batches.

    Args:
      trainer: the trainer.
      state: its state.
      batches: full host batches ``{"image": [B, H, W, C], "label": int [B], "weight":
        [B]}`` as of `jnas.data.batches`: rows of weight 0 are padding, all others have
        weight 1. Without "weight" all rows count.

    Returns:
      ``{"accuracy", "standard_error", "loss", "count"}``: the fraction of correct
      examples, its standard error (binomial), the mean cross-entropy without auxiliary
      head and smoothing, and the number of examples.

    Raises:
      JnasError: there are no examples, or a weight is neither 0 nor 1.

    Example:
      >>> import jnas
      >>> net = jnas.networks.build("DARTS_V1", channels=2, cells=3)
      >>> training = trainer(net, tx=optax.sgd(0.1))
      >>> images = np.zeros((2, 8, 8, 1), np.float32)
      >>> batch = {"image": images, "label": np.array([0, 1]), "weight": np.ones(2)}
      >>> result = evaluate(training, training.init(jax.random.key(0), images), [batch])
      >>> result["count"]
      2
    """
    # Not an argument of the compiled program, so that no optimizer recompiles it.
    state = state._replace(opt_state=None)
    correct, count, loss = 0, 0, 0.0
    for batch in batches:
        label = np.asarray(batch["label"])
        weight = np.asarray(batch.get("weight", np.ones(label.shape)), bool)
        if "weight" in batch and not np.array_equal(weight, batch["weight"]):
            raise JnasError(
                "the weights of a batch must be 0 (padding) or 1, got others: leave "
                "'weight' out to count every row"
            )
        right, entropy = _score(trainer.predict, state, batch["image"], label, weight)
        correct, count = correct + int(right), count + int(weight.sum())
        loss += float(entropy)
    if not count:
        raise JnasError("there are no examples to evaluate on: pass at least one batch")
    accuracy = correct / count
    return {
        "accuracy": accuracy,
        "standard_error": math.sqrt(accuracy * (1 - accuracy) / count),
        "loss": loss / count,
        "count": count,
    }


@functools.partial(jax.jit, static_argnums=0)
def _score(predict, state, image, label, weight):
    """The number of correct examples and the sum of their cross-entropies."""
    logits = predict(state, image)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    right = (jnp.argmax(logits, axis=-1) == label) & weight
    return jnp.sum(right), jnp.sum(jnp.where(weight, entropy, 0))
