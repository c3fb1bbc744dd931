"""SDARTS-RS: Chen and Hsieh, ICML 2020 (SmoothDARTS), section 3.1."""

import jax

from jnas.regularizers import base, checks, smoothing

__all__ = ["random_smoothing"]


def random_smoothing(radius: checks.Scheduled = 0.3) -> base.Regularizer:
    """Trains the weights at mixtures with uniform noise.

    In the weight phase the mixture's weights p become p + U(-radius, radius), clamped
    and normalised row by row (`smoothing.onto_rows`). Rows keep their sum, which is 1
    but for relaxations like sigmoid. The supernet takes them as they are; no softmax
    follows.

    Args:
      radius: epsilon: a number, or a function of the step (`smoothing.growing_radius`
        has the paper's schedule). The number 0 gives `identity`.

    Returns:
      The regularizer; its state is ``{group: bool [E, O]}``, what edges can choose.

    Raises:
      JnasError: the radius is out of range.

    Example:
      >>> import jnas, types
      >>> space = jnas.spaces.nasbench201()
      >>> part = random_smoothing(0.1)
      >>> state = part.init(types.SimpleNamespace(space=space), None)
      >>> mixture = jnas.mixture.uniform(space)
      >>> moved = part.transform(
      ...     state, mixture, key=jax.random.key(0), step=0, phase="weights")
      >>> bool((moved.weights["cell"] != mixture.weights["cell"]).any())
      True

    References:
      Chen, Hsieh, ICML 2020, https://arxiv.org/abs/2002.05283;
      xiangning-chen/SmoothDARTS, attacker/perturb.py
    """
    checks.strength(radius, "radius")
    if checks.is_zero(radius):
        return base.identity()

    def transform(state, mixture, *, key, step, phase, **context):
        del context
        if phase != "weights":
            return mixture
        size = checks.value_at(radius, step)
        unit = smoothing.noise(key, mixture.weights)
        shift = jax.tree.map(lambda z: z * size.astype(z.dtype), unit)
        moved = smoothing.shifted(mixture.weights, shift, state)
        return mixture._replace(weights=moved)

    return base.Regularizer(init=checks.choosable, transform=transform)
