"""Small networks that predict scores, trained inside a strategy.

Letters: ``N`` rows of which some are chosen, ``F`` features, ``n`` candidates.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

__all__ = ["fit", "mlp", "mlp_init", "standardise"]


def mlp_init(key: jax.Array, sizes: Sequence[int]) -> list[tuple[jax.Array, jax.Array]]:
    """Returns weights of a multi-layer perceptron.

    Args:
      key: random key.
      sizes: numbers of features, inputs first.

    Returns:
      Of each layer the kernel ``[in, out]``, uniform after Glorot & Bengio (2010), and
      the bias, zeros.

    Example:
      >>> [kernel.shape for kernel, _ in mlp_init(jax.random.key(0), (155, 20, 1))]
      [(155, 20), (20, 1)]
    """
    keys = jax.random.split(key, len(sizes) - 1)
    init = jax.nn.initializers.glorot_uniform()
    return [
        (init(k, (a, b), jnp.float32), jnp.zeros(b, jnp.float32))
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def mlp(weights: list[tuple[jax.Array, jax.Array]], inputs: jax.Array) -> jax.Array:
    """Predicts, with ReLU between the layers.

    Args:
      weights: from `mlp_init`, one output.
      inputs: ``[n, F]``.

    Returns:
      Predictions ``[n]``.
    """
    for i, (kernel, bias) in enumerate(weights):
        inputs = inputs @ kernel + bias[None]
        if i < len(weights) - 1:
            inputs = jax.nn.relu(inputs)
    return inputs[:, 0]


def standardise(scores: jax.Array, chosen: jax.Array) -> tuple[jax.Array, ...]:
    """Centres and scales the chosen scores to mean 0 and deviation 1.

    Args:
      scores: ``[N]``.
      chosen: bool ``[N]``, which rows count.

    Returns:
      ``(targets [N], mean [], std [])``; targets of other rows are 0, a deviation of 0
      is taken as 1.

    Example:
      >>> standardise(jnp.array([1.0, 3.0, -jnp.inf]), jnp.array([True, True, False]))
      (Array([-1.,  1.,  0.], dtype=float32), Array(2., dtype=float32), Array(1., dtype=float32))
    """  # noqa: E501
    count = jnp.maximum(jnp.sum(chosen), 1)
    mean = jnp.sum(jnp.where(chosen, scores, 0.0)) / count
    centred = jnp.where(chosen, scores - mean, 0.0)
    std = jnp.sqrt(jnp.sum(centred**2) / count)
    std = jnp.where(std > 0, std, 1.0)
    return centred / std, mean, std


def fit(
    apply: Callable[[Any, jax.Array], jax.Array],
    weights: Any,
    inputs: jax.Array,
    targets: jax.Array,
    chosen: jax.Array,
    *,
    key: jax.Array,
    learning_rate: Any,
    epochs: int,
    batch: int,
    most: Any,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> Any:
    """Trains on the mean absolute error by Adam, epoch by epoch.

    Every epoch goes once through the chosen rows in a new order, in batches of which
    the last may be smaller (its loss is the mean over its own rows), as Keras does.

    Args:
      apply: ``(weights, inputs [n, F]) -> predictions [n]``.
      weights: where training starts, a pytree.
      inputs: ``[N, F]``.
      targets: ``[N]``.
      chosen: bool ``[N]``, the rows that are trained on.
      key: for the orders.
      learning_rate: of Adam, may be traced.
      epochs: number of epochs.
      batch: rows of a batch.
      most: a number >= that of chosen rows, may be traced; unbatched under ``vmap``,
        where it bounds the loops.
      b2: decay of Adam's second moment.
      eps: of Adam.

    Returns:
      The trained weights; the same, where no row is chosen.

    Example:
      >>> x = jnp.array([[0.0], [1.0]])
      >>> weights = mlp_init(jax.random.key(0), (1, 1))
      >>> weights = fit(
      ...     mlp, weights, x, jnp.array([1.0, 3.0]), jnp.array([True, True]),
      ...     key=jax.random.key(1), learning_rate=0.01, epochs=500, batch=2, most=2)
      >>> mlp(weights, x).round().tolist()
      [1.0, 3.0]
    """
    tx = optax.scale_by_adam(b2=b2, eps=eps)
    rows = len(targets)
    count = jnp.sum(chosen)
    per_epoch = -(-most // batch)

    def loss(weights, x, y, weight):
        error = jnp.abs(apply(weights, x) - y)
        return jnp.sum(error * weight) / jnp.maximum(jnp.sum(weight), 1.0)

    def one_epoch(epoch, carry):
        numbers = jax.random.uniform(jax.random.fold_in(key, epoch), (rows,))
        order = jnp.argsort(jnp.where(chosen, numbers, 2.0))

        def one_batch(number, carry):
            places = number * batch + jnp.arange(batch)
            weight = (places < count).astype(targets.dtype)
            taken = order[jnp.minimum(places, rows - 1)]
            gradients = jax.grad(loss)(carry[0], inputs[taken], targets[taken], weight)
            updates, moments = tx.update(gradients, carry[1])
            new = jax.tree.map(lambda w, u: w - learning_rate * u, carry[0], updates)
            # A seed with failed candidates has fewer batches than others.
            return jax.tree.map(
                lambda a, b: jnp.where(weight[0] > 0, a, b), (new, moments), carry
            )

        return jax.lax.fori_loop(0, per_epoch, one_batch, carry)

    return jax.lax.fori_loop(0, epochs, one_epoch, (weights, tx.init(weights)))[0]
