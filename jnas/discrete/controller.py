"""Controllers: distributions over genes whose parameters are learned from rewards.

Letters: ``L`` genes, ``K`` the most values of a gene, ``U`` units, ``n`` rewards.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Baseline", "Controller", "advantages", "independent", "learned", "lstm"]

# The logit of a value that a gene has not. Not -inf, so that products with its
# probability 0 are 0 and gradients stay finite.
_NEVER = -1e30


class Controller(NamedTuple):
    """A distribution over vectors of genes.

    Attributes:
      init: ``(key) -> params``, float32.
      sample: ``(key, params) -> genes int32 [L]``.
      evaluate: ``(params, genes) -> (log_prob [], entropy [])``: the log-probability
        of the genes, and the sum over the genes of the entropies of what each was
        drawn from, given those before it.
    """

    init: Callable[[jax.Array], Any]
    sample: Callable[[jax.Array, Any], jax.Array]
    evaluate: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]


def independent(cardinalities: tuple[int, ...], scale: float = 1e-3) -> Controller:
    """A softmax for each gene, the "simple policy" of NAS-Bench-201's REINFORCE.

    Its parameters are the logits ``[L, K]``, at first normal numbers times ``scale``.

    Args:
      cardinalities: number of values of each gene.
      scale: standard deviation of the first logits.

    Returns:
      The controller.

    Example:
      >>> controller = independent((2, 3))
      >>> params = controller.init(jax.random.key(0))
      >>> log_prob, entropy = controller.evaluate(params, jnp.array([1, 2]))
      >>> round(float(entropy), 3)  # of 2 and of 3 values, nearly uniform
      1.792
    """
    allowed = _allowed(cardinalities)

    def init(key):
        return scale * jax.random.normal(key, allowed.shape, jnp.float32)

    def sample(key, logits):
        return _draw(_gumbel(key, allowed, logits), _masked(logits, allowed))

    def evaluate(logits, genes):
        return _summary(_masked(logits, allowed), genes)

    return Controller(init, sample, evaluate)


class _Weights(NamedTuple):
    start: jax.Array  # [U], the first input
    embedding: jax.Array  # [L, K, U], of a gene as the next input; the last is not read
    kernels: jax.Array  # [layers, 2 U, 4 U], of input and output; i, f, g, o
    biases: jax.Array  # [layers, 4 U]
    heads: jax.Array  # [L, U, K]
    head_biases: jax.Array  # [L, K]


def lstm(
    cardinalities: tuple[int, ...],
    units: int = 35,
    layers: int = 2,
    scale: float = 0.08,
) -> Controller:
    """A recurrent network that draws one gene after the other.

    The input of a step is the embedding of the gene before it (a learned vector at
    the first); every gene has a softmax and an embedding of its own. All weights are
    drawn from U(-scale, scale), biases included: none of the gates is opened at first.
    Zoph & Le, Neural architecture search with reinforcement learning (ICLR 2017),
    section 3, without anchor points: genes have no connections of their own.

    Args:
      cardinalities: number of values of each gene.
      units: units of a layer, and length of an embedding.
      layers: number of LSTM layers.
      scale: bound of the first weights.

    Returns:
      The controller.

    Example:
      >>> controller = lstm((2, 3))
      >>> params = controller.init(jax.random.key(0))
      >>> controller.sample(jax.random.key(1), params).shape
      (2,)
    """
    allowed = _allowed(cardinalities)
    length, most = allowed.shape
    shapes = {
        "start": (units,),
        "embedding": (length, most, units),
        "kernels": (layers, 2 * units, 4 * units),
        "biases": (layers, 4 * units),
        "heads": (length, units, most),
        "head_biases": (length, most),
    }

    def init(key):
        keys = jax.random.split(key, len(shapes))
        return _Weights(
            **{
                name: jax.random.uniform(own, shapes[name], jnp.float32, -scale, scale)
                for name, own in zip(shapes, keys, strict=True)
            }
        )

    def walk(weights, given, choose):
        """Goes through the genes; ``choose(given of this gene, logits) -> gene``."""

        def step(carry, row):
            states, x = carry
            head, bias, embedding, mask, own = row
            new = []
            for layer, state in enumerate(states):
                state = _cell(weights.kernels[layer], weights.biases[layer], state, x)
                new.append(state)
                x = state[1]
            logits = _masked(x @ head + bias, mask)
            gene = choose(own, logits)
            return (tuple(new), embedding[gene]), (gene, logits)

        zero = jnp.zeros_like(weights.start)
        start = (((zero, zero),) * layers, weights.start)
        rows = (weights.heads, weights.head_biases, weights.embedding, allowed, given)
        return jax.lax.scan(step, start, rows)[1]

    def sample(key, weights):
        return walk(weights, _gumbel(key, allowed, weights.start), _draw)[0]

    def evaluate(weights, genes):
        return _summary(walk(weights, genes, lambda gene, _: gene)[1], genes)

    return Controller(init, sample, evaluate)


class Baseline(NamedTuple):
    """An exponential moving average of rewards: ``total / weight``."""

    total: jax.Array
    weight: jax.Array


def advantages(
    baseline: Baseline, rewards: jax.Array, decay: float
) -> tuple[jax.Array, Baseline]:
    """Rewards minus their moving average, which takes their mean in first.

    The average is corrected for its start, as in the code of NAS-Bench-201: it is
    that of all rewards with weights that sum to 1, so the first call of one reward has
    the advantage 0. As the average holds the mean ``m`` of the new rewards with some
    weight w and the average ``b`` of the earlier ones with 1 - w, the advantage is
    ``(1 - w) (r - b) + w (r - m)``. What a reward has in its own baseline makes the
    expected gradient of ``n`` rewards shorter by the factor 1 - w / n, and leaves its
    direction; w shrinks to 1 - decay.

    Args:
      baseline: of the earlier rewards, at first zeros.
      rewards: ``[n]``, -inf where evaluation failed.
      decay: weight of the earlier average; 0 for the mean of the new rewards alone, 1
        for no baseline at all.

    Returns:
      The advantages ``[n]``, 0 where evaluation failed, and the new baseline, which is
      the old one if nothing succeeded.

    Example:
      >>> zero = jnp.zeros(())
      >>> rewards = jnp.array([1.0, 3.0, -jnp.inf])
      >>> advantages(Baseline(zero, zero), rewards, 0.9)[0].tolist()
      [-1.0, 1.0, 0.0]
    """
    known = rewards > -jnp.inf
    some = jnp.any(known)
    safe = jnp.where(known, rewards, 0.0)
    mean = jnp.sum(safe) / jnp.maximum(jnp.sum(known), 1)
    keep = jnp.where(some, jnp.asarray(decay, rewards.dtype), 1.0)
    total = keep * baseline.total + (1 - keep) * mean
    weight = keep * baseline.weight + (1 - keep)
    average = total / jnp.where(weight > 0, weight, 1.0)
    return jnp.where(known, rewards - average, 0.0), Baseline(total, weight)


def learned(optimizer: Any, loss: Callable[..., jax.Array], params: Any, state: Any):
    """One step of an optax optimizer: new parameters and optimizer state."""
    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return jax.tree.map(jnp.add, params, updates), state


def _allowed(cardinalities: tuple[int, ...]) -> np.ndarray:
    sizes = np.asarray(cardinalities)
    return np.arange(sizes.max())[None] < sizes[:, None]


def _masked(logits: jax.Array, allowed: Any) -> jax.Array:
    return jnp.where(allowed, logits, _NEVER)


def _gumbel(key: jax.Array, allowed: np.ndarray, like: jax.Array) -> jax.Array:
    return jax.random.gumbel(key, allowed.shape, like.dtype)


def _draw(gumbel: jax.Array, logits: jax.Array) -> jax.Array:
    return jnp.argmax(logits + gumbel, axis=-1).astype(jnp.int32)


def _summary(logits: jax.Array, genes: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_probs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probs, genes[:, None], axis=-1)
    return jnp.sum(chosen), -jnp.sum(jnp.exp(log_probs) * log_probs)


def _cell(kernel, bias, state, x):
    c, h = state
    i, f, g, o = jnp.split(jnp.concatenate([x, h]) @ kernel + bias, 4)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o) * jnp.tanh(c)
