"""Acquisition functions: which candidates an ensemble's predictions make worth trying.

Letters: ``E`` members of the ensemble, ``n`` candidates.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy import stats

from jnas.errors import unknown_name

__all__ = ["ACQUISITIONS", "acquire"]

ACQUISITIONS = ("its", "ucb", "ei", "pi", "ts", "mean")


def acquire(kind: str, predictions: Any, best: Any, key: jax.Array) -> jax.Array:
    """Returns how much each candidate is worth trying.

    With the mean and the standard deviation over the members (divided by ``E``):

    * ``"its"``: one draw from Normal(mean, std) for each candidate, independent
      Thompson sampling.
    * ``"ucb"``: mean + std / 2.
    * ``"ei"``: expected improvement over ``best``, with std / 5.
    * ``"pi"``: probability of improvement.
    * ``"ts"``: the predictions of one member, drawn at random.
    * ``"mean"``: the mean.

    White, Neiswanger & Savani, BANANAS (AAAI 2021), section 4, the factors from their
    code; there losses, here scores, higher is better.

    Args:
      kind: see above.
      predictions: ``[E, n]``.
      best: the best known score, ``[]``, in the unit of the predictions.
      key: for what is drawn.

    Returns:
      ``[n]``; higher is better.

    Raises:
      JnasError: the kind is unknown.

    Example:
      >>> both = jnp.array([[0.0, 2.0], [2.0, 2.0]])
      >>> acquire("ucb", both, 2.0, jax.random.key(0)).tolist()
      [1.5, 2.0]
    """
    if kind not in ACQUISITIONS:
        raise unknown_name("acquisition", kind, ACQUISITIONS)
    predictions = jnp.asarray(predictions)
    mean, std = jnp.mean(predictions, axis=0), jnp.std(predictions, axis=0)
    if kind == "its":
        return mean + std * jax.random.normal(key, mean.shape, mean.dtype)
    if kind == "ucb":
        return mean + 0.5 * std
    if kind == "ts":
        return predictions[jax.random.randint(key, (), 0, len(predictions))]
    if kind == "mean":
        return mean
    # Where the members agree exactly, the limits for a small deviation.
    scale = jnp.maximum(std / 5 if kind == "ei" else std, 1e-12)
    gain = (mean - best) / scale
    if kind == "pi":
        return stats.norm.cdf(gain)
    return scale * (gain * stats.norm.cdf(gain) + stats.norm.pdf(gain))
