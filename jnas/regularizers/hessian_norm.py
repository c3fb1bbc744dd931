"""A penalty on the curvature of the validation loss in the architecture.

Searches collapse where this curvature grows (Zela et al., ICLR 2020, section 4): a
sharp minimum of the mixture loses most when the mixture is made discrete. The penalty
is strength times a norm of H, the Hessian of the loss by arch at the deterministic
mixture, added to the architecture's loss:

    "spectral":   |lambda| of largest size    two Ritz vectors of a few Lanczos steps,
                                              then one differentiable v'Hv
    "frobenius":  ||H||_F                     root of Hutchinson's estimate
    "trace":      tr H                        Hutchinson's estimate; may be negative

In a search of another compute dtype this curvature is computed in at least float32.

The gradient of an eigenvalue of H is that of v'Hv with its vector held (Hellmann,
Feynman), exact for a simple eigenvalue and a converged vector.
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jnas.errors import JnasError, unknown_name
from jnas.regularizers import base, checks, curvature

__all__ = ["hessian_norm"]

KINDS = ("spectral", "frobenius", "trace")


def hessian_norm(
    kind: str = "spectral",
    strength: checks.Scheduled = 1.0,
    *,
    products: int = 8,
    samples: int = 1,
    statistics: str = "batch",
) -> base.Regularizer:
    """Penalises the curvature of the validation loss in the architecture.

    Args:
      kind: "spectral", "frobenius" or "trace"; see the module.
      strength: factor of the penalty: a number or a function of the step. The number 0
        gives `identity`.
      products: Lanczos steps of "spectral" in each arch step, each of which costs about
        two gradients of the architecture.
      samples: products of the other two.
      statistics: of the batch norms, "batch" (RobustDARTS) or "running".

    Returns:
      The regularizer; its state is empty.

    Raises:
      JnasError: an argument is out of range; ``penalty``: whoever calls it gives no
        ``probabilities``.

    Example:
      >>> part = hessian_norm("trace", 0.5)
      >>> loss_fn = lambda weights, mixture, statistics, key: jnp.sum(mixture**2)
      >>> context = {"weights": None, "loss_fn": loss_fn, "key": jax.random.key(0),
      ...            "step": 0, "probabilities": lambda arch: arch}
      >>> float(part.penalty((), phase="arch", arch=jnp.ones(3), **context))
      3.0

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656
    """
    if kind not in KINDS:
        raise unknown_name("kind of hessian_norm", kind, KINDS)
    checks.strength(strength)
    checks.count(products, "products")
    checks.count(samples, "samples")
    checks.statistics(statistics, "in the curvature")
    if checks.is_zero(strength):
        return base.identity()

    def penalty(
        state,
        *,
        phase,
        weights,
        arch,
        loss_fn,
        key,
        step,
        probabilities=None,
        precise_loss_fn=None,
        **context,
    ):
        del state, context
        if phase != "arch":
            return 0.0
        if probabilities is None:
            raise JnasError(
                "hessian_norm needs probabilities=, arch -> mixture, in its penalty: "
                "pass functools.partial(relaxation.probabilities, space=space)"
            )
        value = precise_loss_fn or loss_fn
        loss_key, key = jax.random.split(key)

        def loss(arch):
            mixed = probabilities(arch)
            return value(weights, mixed, statistics=statistics, key=loss_key)

        product, size = curvature.flat_product(loss, arch)
        if kind == "trace":
            norm = curvature.trace(product, key, size, samples)
        elif kind == "frobenius":
            square = curvature.squared_frobenius(product, key, size, samples)
            # The root's slope at 0 is not finite.
            positive = square > 0
            norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
        else:
            norm = _spectral(loss, arch, product, size, key)
        return checks.value_at(strength, step) * norm

    def _spectral(loss, arch, product, size, key):
        # The vector is held, so nothing of its way is differentiated.
        still = jax.lax.stop_gradient(arch)
        searching, _ = curvature.flat_product(loss, still)
        dtype = ravel_pytree(arch)[0].dtype
        start = jax.random.normal(key, (size,), dtype)
        found = jax.lax.stop_gradient(curvature.extremes(searching, start, products))
        above = jnp.abs(found.largest) >= jnp.abs(found.smallest)
        vector = jnp.where(above, found.largest_vector, found.smallest_vector)
        return jnp.abs(vector @ product(vector))

    return base.Regularizer(penalty=penalty)
