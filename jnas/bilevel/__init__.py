"""Hypergradients: how arch is differentiated through the weights' response.

Nothing here knows of networks. Whoever has two losses of ``(weights, hyperparameters,
batch, key)`` and an optax optimizer can use an estimator alone, e.g. to tune weight
decay or loss weights by gradient.

Example:
  Tuning the L2 of a ridge regression on a validation set, through 5 weight updates:

  >>> import jax, jax.numpy as jnp, optax
  >>> from jnas import bilevel
  >>> keys = jax.random.split(jax.random.key(0), 3)
  >>> x, noise = jax.random.normal(keys[0], (40, 8)), jax.random.normal(keys[1], (40,))
  >>> y = x[:, 0] + noise
  >>> train_batch, val_batch = (x[:20], y[:20]), (x[20:], y[20:])
  >>> def val_loss(w, log_l2, batch, key):
  ...     return jnp.mean((batch[0] @ w - batch[1]) ** 2), None
  >>> def train_loss(w, log_l2, batch, key):
  ...     decay = jnp.exp(log_l2) * jnp.sum(w**2)
  ...     return val_loss(w, log_l2, batch, key)[0] + decay, None
  >>> tx = optax.sgd(0.1)
  >>> hypergradient = bilevel.unrolled(steps=5)
  >>> w, log_l2 = jnp.zeros(8), jnp.array(-3.0)
  >>> grad, _, info = hypergradient.estimate(
  ...     (), train_loss, val_loss, w, log_l2, train_batch, val_batch,
  ...     weight_tx=tx, weight_opt_state=tx.init(w), key=keys[2])
  >>> grad.shape, sorted(info)
  ((), ['response', 'val_aux', 'val_loss'])
"""

from jnas.bilevel.base import Hypergradient, LossFn
from jnas.bilevel.first_order import first_order
from jnas.bilevel.implicit import implicit
from jnas.bilevel.levels import mixed_level, single_level
from jnas.bilevel.unrolled import unrolled

__all__ = [
    "Hypergradient",
    "LossFn",
    "first_order",
    "implicit",
    "mixed_level",
    "single_level",
    "unrolled",
]
