"""SDARTS-ADV: Chen and Hsieh, ICML 2020 (SmoothDARTS), section 3.2."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.regularizers import base, checks, smoothing

__all__ = ["Attack", "adversarial_smoothing", "attack"]

Weights = dict[str, jax.Array]


class Attack(NamedTuple):
    """What an attack found.

    Attributes:
      weights: the mixture's weights, the clean ones if the attack was of no use.
      loss_before: at the clean ones.
      loss_after: where the attack ended, before any revert.
      reverted: whether the clean ones were taken.
    """

    weights: Weights
    loss_before: jax.Array
    loss_after: jax.Array
    reverted: jax.Array


def attack(
    loss: Callable[[Weights], jax.Array],
    clean: Weights,
    unit: Weights,
    masks: dict[str, jax.Array],
    *,
    radius: Any,
    steps: int = 7,
) -> Attack:
    """Looks for the worst mixture near a clean one, by signed gradient ascent.

    From a random start, ``steps`` times: a step of 2 radius / steps along the sign of
    the gradient, clamped to the cube of the radius, then `smoothing.onto_rows`, which
    may leave that cube as it does in the authors' code. An entry without gradient stays
    where it is, for sign(0) = 0.

    Args:
      loss: ``weights -> scalar``.
      clean: ``{group: [..., E, O]}``.
      unit: noise of the start, like it, in (-1, 1).
      masks: ``{group: bool [E, O]}``, what can be chosen.
      radius: epsilon, a scalar.
      steps: how many.

    Returns:
      The attack; if its loss is below the clean one, the clean weights.

    Raises:
      JnasError: a group has no mask.

    Example:
      >>> clean, masks = {"cell": jnp.array([[0.5, 0.5]])}, {"cell": jnp.ones((1, 2))}
      >>> slope = jnp.array([1.0, -1.0])
      >>> found = attack(lambda w: w["cell"][0] @ slope, clean,
      ...                {"cell": jnp.zeros((1, 2))}, masks, radius=0.1)
      >>> [round(float(x), 3) for x in found.weights["cell"][0]]
      [0.6, 0.4]

    References:
      Chen, Hsieh, ICML 2020, https://arxiv.org/abs/2002.05283;
      xiangning-chen/SmoothDARTS, attacker/linf_sgd.py
    """
    masks = {name: jnp.asarray(mask, bool) for name, mask in masks.items()}
    loss_before = loss(clean)

    def ascend(weights, _):
        slope = jax.grad(loss)(weights)

        def move(start, now, gradient):
            size = jnp.asarray(radius, start.dtype)
            forward = now + 2 * size / steps * jnp.sign(gradient)
            return jnp.clip(forward - start, -size, size)

        shift = jax.tree.map(move, clean, weights, slope)
        return smoothing.shifted(clean, shift, masks), None

    def begin(z):
        return z * jnp.asarray(radius, z.dtype)

    start = smoothing.shifted(clean, jax.tree.map(begin, unit), masks)
    end, _ = jax.lax.scan(ascend, start, None, length=steps)
    loss_after = loss(end)
    reverted = loss_after < loss_before
    chosen = jax.tree.map(lambda a, b: jnp.where(reverted, a, b), clean, end)
    return Attack(chosen, loss_before, loss_after, reverted)


def adversarial_smoothing(
    radius: checks.Scheduled = 0.3,
    *,
    steps: int = 7,
    statistics: str = "running",
) -> base.Regularizer:
    """Trains the weights at the worst mixture near the present one.

    In the weight phase `attack` replaces the mixture's weights, on the training batch
    and at the present weights of the network.

    Args:
      radius: epsilon: a number, or a function of the step (`smoothing.growing_radius`
        has the paper's schedule). The number 0 gives `identity`.
      steps: of the attack; 7 in the authors' code. A weight step then has about
        ``steps + 1`` gradients.
      statistics: of the batch norms during the attack: "running" (the authors' code) or
        "batch", for networks without running statistics.

    Returns:
      The regularizer; its state is ``{group: bool [E, O]}``, what edges can choose.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> adversarial_smoothing(0.0) == base.identity()
      True

    References:
      Chen, Hsieh, ICML 2020, https://arxiv.org/abs/2002.05283
    """
    checks.strength(radius, "radius")
    checks.count(steps, "steps")
    checks.statistics(statistics, "during the attack")
    if checks.is_zero(radius):
        return base.identity()

    def transform(state, mixture, *, weights, loss_fn, key, step, phase, **context):
        del context
        if phase != "weights":
            return mixture
        noise_key, loss_key = jax.random.split(key)
        # Nothing of the attack is differentiated: neither by weights nor by arch.
        still = jax.lax.stop_gradient(mixture)
        fixed = jax.lax.stop_gradient(weights)

        def loss(own):
            changed = still._replace(weights=own)
            return loss_fn(fixed, changed, statistics=statistics, key=loss_key)

        found = attack(
            loss,
            still.weights,
            smoothing.noise(noise_key, still.weights),
            state,
            radius=checks.value_at(radius, step),
            steps=steps,
        )
        moved = jax.tree.map(
            lambda clean, held, worst: clean + (worst - held),
            mixture.weights,
            still.weights,
            found.weights,
        )
        return mixture._replace(weights=moved)

    return base.Regularizer(init=checks.choosable, transform=transform)
