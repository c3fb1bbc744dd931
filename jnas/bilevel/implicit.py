"""Implicit hypergradients: the response of weights that have converged.

Where the weights minimise the training loss (plus ``damping / 2 |w|^2``),

  d w* / d arch = -(H + damping I)^-1 d^2 L_train / (d w d arch),

so with v = grad_w L_val the hypergradient is

  grad_arch L_val - d/d arch <grad_w L_train, x>,   (H + damping I) x = v.

* "neumann": x = gamma * sum over k = 0..terms of (I - gamma (H + damping I))^k v, the
  method of Zhang et al., iDARTS, ICML 2021. Their released code replaces H by a
  diagonal guess and the mixed product by a finite difference; that is not reproduced.
  They take several weight steps before an arch step: call ``Search.weight_step`` so
  often.
* "cg": conjugate gradients, as in Rajeswaran et al., iMAML, NeurIPS 2019. Only for a
  positive definite system; where the curvature is negative it stops where it is.

H is the Hessian of the loss alone: L2 that the optimizer adds (coupled weight decay) is
``damping``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jnas import numerics
from jnas.bilevel import base, products
from jnas.errors import JnasError

__all__ = ["implicit"]

METHODS = ("neumann", "cg")


def implicit(
    method: str = "neumann",
    *,
    terms: int | None = None,
    step_size: float = 0.025,
    damping: float = 0.0,
    tolerance: float = 0.0,
) -> base.Hypergradient:
    """The gradient through weights that are taken to be optimal for arch.

    Args:
      method: "neumann" or "cg".
      terms: Hessian-vector products: of the Neumann series (default 2, iDARTS' K), or
        the most iterations of conjugate gradients (default 10). 0 terms of the series
        give one plain gradient step's response.
      step_size: of the series, gamma; must be below 2 / (largest eigenvalue of H +
        damping), else it diverges. iDARTS uses the weights' learning rate.
      damping: added to the diagonal of H, e.g. the weight decay.
      tolerance: conjugate gradients stop when the residual is at most this, relative
        to v.

    Returns:
      The estimator. It has no state. Beside the contract's entries, its info has
      "response", a tree like arch: what is added to the direct gradient, and
      "residual": how far x is from a solution, ``|v - (H + damping I) x| / |v|`` (of
      the series without its last term, which costs no further product).

    Raises:
      JnasError: an option is out of range; from ``estimate``, when a loss or a tree is
        not what it must be.

    Example:
      The weight that minimises (w - a)^2 is a, so d/da of w^2 / 2 is a:

      >>> train = lambda w, a, batch, key: ((w - a) ** 2, None)
      >>> val = lambda w, a, batch, key: (w**2 / 2, None)
      >>> grad, _, _ = implicit("cg", terms=1).estimate(
      ...     (), train, val, 3.0, 3.0, None, None, key=jax.random.key(0))
      >>> round(float(grad), 5)
      3.0

    References:
      Zhang et al., iDARTS: Differentiable Architecture Search with Stochastic Implicit
      Gradients, ICML 2021, https://arxiv.org/abs/2106.10784; Lorraine, Vicol, Duvenaud,
      Optimizing Millions of Hyperparameters by Implicit Differentiation, AISTATS 2020,
      https://arxiv.org/abs/1911.02590
    """
    if method not in METHODS:
        raise JnasError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if terms is None:
        terms = {"neumann": 2, "cg": 10}[method]
    least = {"neumann": 0, "cg": 1}[method]
    if isinstance(terms, bool) or not isinstance(terms, int) or terms < least:
        raise JnasError(f"terms must be a whole number >= {least}, got {terms!r}")
    if not step_size > 0:
        raise JnasError(f"step_size must be positive, got {step_size!r}")
    for name, value in (("damping", damping), ("tolerance", tolerance)):
        if not value >= 0:
            raise JnasError(f"{name} must be >= 0, got {value!r}")

    def estimate(
        state, train_loss, val_loss, weights, arch, train_batch, val_batch, *, key, **_
    ):
        base.check_real(weights, "weights")
        base.check_real(arch, "arch")
        (value, aux), (v, direct) = jax.value_and_grad(
            base.scalar(val_loss, "validation"), (0, 1), has_aux=True
        )(weights, arch, val_batch, key)
        train_value = base.scalar(train_loss, "training")

        def loss(w, a):
            return train_value(w, a, train_batch, base.train_key(key))[0]

        def product(x):
            return products.add(
                products.weight_product(loss, weights, arch, x), x, damping
            )

        if method == "neumann":
            x, residual = _neumann(product, v, terms, step_size)
        else:
            x, residual = _conjugate_gradients(product, v, terms, tolerance)
        pulled = products.mixed_product(loss, weights, arch, x)
        response = jax.tree.map(jnp.negative, pulled)
        grad = products.add(direct, response)
        norm = numerics.global_norm(v)
        return (
            grad,
            state,
            {
                "val_loss": value,
                "val_aux": aux,
                "response": response,
                "residual": residual / jnp.where(norm > 0, norm, 1.0),
            },
        )

    return base.Hypergradient(base.stateless, estimate, second_order=True)


def _repeat(body: Callable[[Any], Any], start: Any, times: int) -> Any:
    return jax.lax.scan(
        lambda carry, _: (body(carry), None),
        start,
        length=times,
        unroll=products.unroll(times),
    )[0]


def _neumann(product, v, terms, step_size):
    def body(carry):
        power, total = carry
        power = products.add(power, product(power), -step_size)
        return power, products.add(total, power)

    power, total = _repeat(body, (v, v), terms)
    x = jax.tree.map(lambda leaf: (step_size * leaf).astype(leaf.dtype), total)
    return x, numerics.global_norm(power)


def _conjugate_gradients(product, v, terms, tolerance):
    """Not jax.scipy's, which can't be written out (`products.unroll`)."""
    limit = tolerance**2 * numerics.dot(v, v)

    def body(carry):
        x, residual, direction, square = carry
        image = product(direction)
        curvature = numerics.dot(direction, image)
        going = (square > limit) & (curvature > 0)
        step = jnp.where(going, square / jnp.where(going, curvature, 1.0), 0.0)
        x = products.add(x, direction, step)
        residual = products.add(residual, image, -step)
        new = numerics.dot(residual, residual)
        ratio = jnp.where(going, new / jnp.where(square > 0, square, 1.0), 0.0)
        # Where it stops, the direction stays, so that it stops at each later turn.
        direction = jax.tree.map(
            lambda r, d: jnp.where(going, r + ratio.astype(d.dtype) * d, d),
            residual,
            direction,
        )
        return x, residual, direction, jnp.where(going, new, square)

    start = (jax.tree.map(jnp.zeros_like, v), v, v, numerics.dot(v, v))
    x, residual, _, _ = _repeat(body, start, terms)
    return x, numerics.global_norm(residual)
