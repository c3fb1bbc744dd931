"""Hard Gumbel samples, straight through: Dong & Yang, GDAS, CVPR 2019.

On every edge: logits = (log_softmax(alpha) + Gumbel noise) / temperature, p their
softmax, k their maximum, and h = onehot(k) - sg(p) + p. One sample serves all cells of
a group, and each half-step draws anew. Only candidate k is computed.

The authors' code has two gradients of alpha, and so has this:

* "all" (the NAS-Bench-201 cell): the h of unselected candidates, of value 0, are added
  to the edge's output as scalars. Their derivative is then that of an operation which
  gives ones.
* "selected" (the NASNet-space cell): only h_k times its operation is there.

Neither is the full straight-through estimator, which would need every operation.

Deviation: the code draws again when a sample is infinite; the noise here is finite.
"""

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.relax import base

__all__ = ["gumbel_hard", "straight_through"]

GRADIENTS = ("all", "selected")


def straight_through(
    log_probabilities: jax.Array, noise: jax.Array, temperature: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The sample of given Gumbel noise.

    Args:
      log_probabilities: ``[E, O]``.
      noise: ``[E, O]``.
      temperature: positive; it does not change the sample, only its gradient.

    Returns:
      ``(h [E, O], k int32 [E])``: one-hot rows in value, softmax in gradient.

    Example:
      >>> h, k = straight_through(jnp.zeros((1, 2)), jnp.array([[0.0, 1.0]]), 0.1)
      >>> h.tolist(), k.tolist()
      ([[0.0, 1.0]], [1])
    """
    logits = (log_probabilities + noise) / temperature
    p = jax.nn.softmax(logits)
    k = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    # In this order the value is the one-hot exactly, not within rounding.
    h = jax.nn.one_hot(k, p.shape[-1], dtype=p.dtype) + (p - jax.lax.stop_gradient(p))
    return h, k


def gumbel_hard(
    temperature: base.Temperature = 10.0,
    gradient: str = "all",
    init_scale: float = 1e-3,
) -> base.Relaxation:
    """One candidate an edge, sampled by the Gumbel-max trick (GDAS).

    Args:
      temperature: positive, or a function of the step; 10 falling to 0.1 in the paper
        (`linear_temperature`).
      gradient: "all" or "selected", see the module.
      init_scale: standard deviation of the initial alpha.

    Returns:
      The relaxation; arch is ``{group: float32 [E, O]}``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> relaxation = gumbel_hard()
      >>> arch = relaxation.init(jax.random.key(0), space)
      >>> mixture = relaxation.sample(
      ...     arch, key=jax.random.key(1), step=0, phase="arch", space=space)
      >>> mixture.active["cell"].shape, mixture.weights["cell"].sum(-1).tolist()
      ((6, 1), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0])

    References:
      Dong, Yang, Searching for a Robust Neural Architecture in Four GPU Hours, CVPR
      2019, https://arxiv.org/abs/1910.04465
    """
    base.check_temperature(temperature, schedule=True)
    base.check_scale(init_scale)
    if gradient not in GRADIENTS:
        raise JnasError(f"gradient must be 'all' or 'selected', got {gradient!r}")

    def sample(arch, *, key, step=0, phase=None, space=None, **context):
        del phase, context
        tau = base.temperature_at(temperature, step)

        def draw(key, name, alpha):
            log_p = base.log_probabilities(alpha, base.allowed(space, name))
            return straight_through(log_p, base.gumbel(key, alpha), tau)

        drawn = base.by_group(draw, key, arch)
        offsets = None
        if gradient == "all":
            offsets = {
                g: jnp.sum(_others(h, k), axis=-1) for g, (h, k) in drawn.items()
            }
        return base.path_mixture(
            {g: (h, k[:, None]) for g, (h, k) in drawn.items()}, offsets=offsets
        )

    return base.over_logits(sample, init_scale)


def _others(h, k):
    """The unselected entries of h; 0 at the selected."""
    return h * (1 - jax.nn.one_hot(k, h.shape[-1], dtype=h.dtype))
