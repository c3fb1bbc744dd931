"""Products of a loss's second derivatives with vectors, forward over reverse.

Forward over reverse because the networks' kernels have custom reverse rules, and
because differentiating the gradient by arch along a direction of the weights needs no
second derivative by any weight: it is the cheapest exact form.

The inner gradient is always taken by weights and arch together: a part of the network
that arch does not reach would otherwise meet forward mode alone, which custom reverse
rules don't have. The compiler drops what is not used of it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["add", "mixed_product", "products", "unroll", "weight_product"]

# Longer loops would compile for minutes.
_MOST_UNROLLED = 16


def unroll(times: int) -> bool:
    """Whether a loop of networks should be written out.

    XLA:CPU runs the weight gradient of a convolution 40 times slower in a loop.

    Example:
      >>> unroll(1000)
      False
    """
    return jax.default_backend() == "cpu" and times <= _MOST_UNROLLED


def add(a: Any, b: Any, scale: Any = 1.0) -> Any:
    """``a + scale * b``, leaf by leaf, in the dtypes of ``a``.

    Example:
      >>> float(add(jnp.float32(1), jnp.float32(2), -1.0))
      -1.0
    """
    return jax.tree.map(lambda x, y: (x + scale * y).astype(jnp.result_type(x)), a, b)


def mixed_product(
    loss: Callable[[Any, Any], jax.Array], weights: Any, arch: Any, direction: Any
) -> Any:
    """``d/d arch <d loss / d weights, direction>``.

    Args:
      loss: ``(weights, arch) -> scalar``.
      weights: where to differentiate.
      arch: likewise.
      direction: a tree like the weights.

    Returns:
      A tree like arch.

    Example:
      >>> loss = lambda w, a: 3 * w * a**2
      >>> float(mixed_product(loss, 1.0, 2.0, 1.0))
      12.0
    """
    return products(loss, weights, arch, direction)[1]


def weight_product(
    loss: Callable[[Any, Any], jax.Array], weights: Any, arch: Any, direction: Any
) -> Any:
    """The Hessian in the weights times a direction.

    Args:
      loss: ``(weights, arch) -> scalar``.
      weights: where to differentiate.
      arch: likewise.
      direction: a tree like the weights.

    Returns:
      A tree like the weights.

    Example:
      >>> float(weight_product(lambda w, a: a * w**2, 1.0, 3.0, 1.0))
      6.0
    """
    return products(loss, weights, arch, direction)[0]


def products(
    loss: Callable[[Any, Any], jax.Array], weights: Any, arch: Any, direction: Any
) -> tuple[Any, Any]:
    """`weight_product` and `mixed_product` in one pass.

    Example:
      >>> hw, ha = products(lambda w, a: a * w**2, 1.0, 3.0, 1.0)
      >>> float(hw), float(ha)
      (6.0, 2.0)
    """
    # The direction usually comes out of other passes over the network. Without a
    # dependence on it, the compiler may run this pass's primal part early and keep its
    # activations beside theirs; XLA:CPU drops optimization barriers. Adding 0 * x costs
    # nothing, is not simplified away (x may be NaN), and took the memory of a
    # second-order step from 2.5 to 1.4 times the first-order one's.
    weights = jax.tree.map(lambda w, x: w + 0 * x, weights, direction)
    return jax.jvp(lambda w: jax.grad(loss, (0, 1))(w, arch), (weights,), (direction,))[
        1
    ]
