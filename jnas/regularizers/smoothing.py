"""What the two smoothings of Chen and Hsieh, ICML 2020 (SmoothDARTS) share.

The weights are trained at mixtures near the present one, so that the validation loss
is smooth in the architecture, which itself is learned at the clean mixture and never
overwritten.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.regularizers import checks

__all__ = ["growing_radius", "noise", "onto_rows", "shifted"]


def growing_radius(
    start: float = 0.03, end: float = 0.3, *, epochs: int, steps_per_epoch: int
) -> Callable[[jax.Array], jax.Array]:
    """The radius of the authors' code: linear by epoch, never quite at ``end``.

    Args:
      start: in the first epoch.
      end: what it would be after the last one.
      epochs: how many.
      steps_per_epoch: steps of one.

    Returns:
      ``step -> radius``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> radius = growing_radius(epochs=50, steps_per_epoch=391)
      >>> round(float(radius(0)), 6), round(float(radius(25 * 391)), 6)
      (0.03, 0.165)
    """
    checks.number(start, "start")
    checks.number(end, "end")
    return checks.by_epoch(start, end, epochs=epochs, steps_per_epoch=steps_per_epoch)


def noise(key: jax.Array, weights: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Uniform in (-1, 1), independent in every entry.

    Args:
      key: a key.
      weights: ``{group: [..., E, O]}``.

    Returns:
      Arrays like the weights.

    Example:
      >>> noise(jax.random.key(0), {"cell": jnp.zeros((6, 5))})["cell"].shape
      (6, 5)
    """
    keys = jax.random.split(key, len(weights))
    return {
        name: jax.random.uniform(
            own, jnp.shape(values), jnp.result_type(values), -1.0, 1.0
        )
        for own, (name, values) in zip(keys, sorted(weights.items()), strict=True)
    }


def onto_rows(
    weights: jax.Array, mask: jax.Array, total: jax.Array | float = 1.0
) -> jax.Array:
    """Makes rows mixtures again, as the authors' code does: no Euclidean projection.

    Entries are clamped to [0, 1]; a row that is then 0 gets 1 where it was largest;
    rows are divided by their sums.

    Args:
      weights: ``[..., E, O]``.
      mask: booleans ``[E, O]``, what can be chosen; the rest becomes 0.
      total: what the rows sum to: 1, or ``[..., E, 1]`` for relaxations whose rows sum
        to something else.

    Returns:
      ``[..., E, O]``.

    Example:
      >>> onto_rows(jnp.array([[0.5, -0.1, 0.5], [-0.2, -0.1, -0.3]]),
      ...           jnp.ones((2, 3), bool)).tolist()
      [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]
    """
    clamped = jnp.where(mask, jnp.clip(weights, 0.0, 1.0), 0.0)
    place = jnp.argmax(jnp.where(mask, weights, -jnp.inf), axis=-1)
    peak = jax.nn.one_hot(place, weights.shape[-1], dtype=weights.dtype)
    empty = jnp.sum(clamped, axis=-1, keepdims=True) == 0
    filled = jnp.where(empty, peak, clamped)
    return filled * (total / jnp.sum(filled, axis=-1, keepdims=True))


def shifted(
    clean: dict[str, jax.Array],
    shift: dict[str, jax.Array],
    masks: dict[str, jax.Array],
) -> dict[str, jax.Array]:
    """Mixtures moved by a shift and made mixtures again.

    Args:
      clean: ``{group: [..., E, O]}``.
      shift: likewise.
      masks: ``{group: bool [E, O]}``, what can be chosen.

    Returns:
      Arrays like ``clean``, whose rows keep their sums.

    Raises:
      JnasError: a group has no mask.

    Example:
      >>> one = {"cell": jnp.array([[0.75, 0.25]])}
      >>> shifted(one, {"cell": jnp.array([[0.5, -0.5]])},
      ...         {"cell": jnp.ones((1, 2), bool)})["cell"].tolist()
      [[1.0, 0.0]]
    """
    moved = {}
    for name, values in clean.items():
        if name not in masks:
            raise JnasError(
                f"the mixture has a group {name!r} that the space has not: expected "
                f"{sorted(masks)}"
            )
        total = jnp.sum(values, axis=-1, keepdims=True)
        moved[name] = onto_rows(values + shift[name], masks[name], total)
    return moved
