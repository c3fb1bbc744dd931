"""Curvature of any loss: Hessian-vector products, the exact matrix, Lanczos, traces.

Everything is by forward over reverse differentiation, which passes through the custom
rules of `jnas.supernet`, and is a pure function to be jitted by the caller. A `product`
is any ``vector [n] -> Hessian times vector [n]``; `flat_product` makes one of a loss of
a pytree, so it serves the architecture parameters and the weights alike.

Curvature of an architecture is taken on the deterministic view of a relaxation
(``probabilities``), never on samples: a sample's Hessian is that of its noise.

References:
  Pearlmutter, Fast Exact Multiplication by the Hessian, Neural Computation 1994;
  Golub, Van Loan, Matrix Computations, chapter 10 (Lanczos, full reorthogonalisation);
  Hutchinson, A Stochastic Estimator of the Trace of the Influence Matrix, 1989.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jnas.errors import JnasError
from jnas.regularizers import checks

__all__ = [
    "Extremes",
    "choosable_arch",
    "exact",
    "extremes",
    "flat_product",
    "hessian_product",
    "lanczos",
    "largest_eigenvalue",
    "squared_frobenius",
    "trace",
]

Product = Callable[[jax.Array], jax.Array]


class Extremes(NamedTuple):
    """The outermost eigenvalues that Lanczos found.

    Attributes:
      largest: the largest, algebraically.
      smallest: likewise.
      largest_vector: ``[n]`` of norm 1.
      smallest_vector: ``[n]`` of norm 1.
    """

    largest: jax.Array
    smallest: jax.Array
    largest_vector: jax.Array
    smallest_vector: jax.Array


def hessian_product(
    loss: Callable[[Any], jax.Array], point: Any, direction: Any
) -> Any:
    """The Hessian of a loss times a direction.

    Args:
      loss: ``point -> scalar``.
      point: any pytree of floating-point arrays.
      direction: a tree like it.

    Returns:
      A tree like it.

    Example:
      >>> hessian_product(lambda x: jnp.sum(x**3), jnp.array([1.0, 2.0]),
      ...                 jnp.array([1.0, 1.0])).tolist()
      [6.0, 12.0]
    """
    return jax.jvp(jax.grad(loss), (point,), (direction,))[1]


def flat_product(
    loss: Callable[[Any], jax.Array], point: Any, mask: Any = None
) -> tuple[Product, int]:
    """The Hessian of a loss of a pytree as a product of vectors.

    Args:
      loss: ``point -> scalar``.
      point: any pytree of floating-point arrays.
      mask: a tree of booleans like the point, known before tracing: the coordinates
        that count; None for all. The others are held and dropped.

    Returns:
      The product and the number n of coordinates that count.

    Raises:
      JnasError: the mask doesn't fit the point.

    Example:
      >>> product, n = flat_product(lambda x: x["a"] ** 3, {"a": jnp.array(2.0)})
      >>> n, product(jnp.ones(n)).tolist()
      (1, [12.0])
    """
    vector, restore = ravel_pytree(point)
    counted = _indices(mask, point)

    def product(direction):
        whole = jnp.zeros_like(vector).at[counted].set(direction)
        found = hessian_product(loss, point, restore(whole))
        return ravel_pytree(found)[0][counted]

    return product, len(counted)


def exact(
    loss: Callable[[Any], jax.Array],
    point: Any,
    mask: Any = None,
    *,
    at_once: int = 1,
) -> jax.Array:
    """The whole Hessian, for small points such as an architecture.

    Args:
      loss: ``point -> scalar``.
      point: any pytree of floating-point arrays.
      mask: as in `flat_product`.
      at_once: how many columns are computed together; more take more memory.

    Returns:
      ``[n, n]``, symmetric, by the coordinates that count in the order of the leaves.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> exact(lambda x: x[0] * x[1] + x[1] ** 2, jnp.zeros(2)).tolist()
      [[0.0, 1.0], [1.0, 2.0]]
    """
    checks.count(at_once, "at_once")
    product, size = flat_product(loss, point, mask)
    identity = jnp.eye(size, dtype=ravel_pytree(point)[0].dtype)
    matrix = jax.lax.map(product, identity, batch_size=min(at_once, size))
    return (matrix + matrix.T) / 2


def lanczos(
    product: Product, start: jax.Array, steps: int, *, unroll: bool = False
) -> tuple[jax.Array, jax.Array]:
    """The matrix seen from a Krylov space, by Lanczos with full reorthogonalisation.

    Where the space is exhausted early (``start`` lies in an invariant subspace) the
    remaining rows of the basis are 0 and their diagonal is the first entry, which lies
    between the extremes and so moves neither.

    Args:
      product: of a symmetric matrix.
      start: ``[n]``, not 0.
      steps: number of products; more than n are of no use and not done.
      unroll: a Python loop instead of a scan: for use outside of jit with a product
        that is jitted, and where a compiler is slow inside of loops.

    Returns:
      ``tridiagonal [k, k]`` and ``basis [k, n]``, with k the number of products.

    Raises:
      JnasError: ``steps`` is not a positive integer.

    Example:
      >>> matrix = jnp.diag(jnp.array([1.0, 5.0]))
      >>> small, basis = lanczos(lambda v: matrix @ v, jnp.array([1.0, 1.0]), 2)
      >>> [round(float(x), 5) for x in jnp.linalg.eigvalsh(small)]
      [1.0, 5.0]
    """
    checks.count(steps, "steps")
    size, dtype = start.shape[0], start.dtype
    steps = min(steps, size)
    tiny = jnp.finfo(dtype).eps * size

    def extend(carry, index):
        basis, vector, scale = carry
        image = product(vector)
        basis = basis.at[index].set(vector)
        diagonal = vector @ image
        rest = image
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            rest = rest - basis.T @ (basis @ rest)
        off = jnp.linalg.norm(rest)
        scale = jnp.maximum(scale, jnp.linalg.norm(image))
        alive = off > tiny * scale
        following = jnp.where(alive, rest / jnp.where(alive, off, 1.0), 0.0)
        seen = jnp.any(vector != 0)
        carry = (basis, following.astype(dtype), scale)
        return carry, (diagonal, jnp.where(alive, off, 0.0), seen)

    carry = (
        jnp.zeros((steps, size), dtype),
        start / jnp.linalg.norm(start),
        jnp.zeros([], dtype),
    )
    if unroll:
        found = []
        for index in range(steps):
            carry, one = extend(carry, index)
            found.append(one)
        diagonal, off, seen = (jnp.stack(x) for x in zip(*found, strict=True))
    else:
        carry, (diagonal, off, seen) = jax.lax.scan(extend, carry, jnp.arange(steps))
    diagonal = jnp.where(seen, diagonal, diagonal[0])
    off = off[:-1]
    return jnp.diag(diagonal) + jnp.diag(off, 1) + jnp.diag(off, -1), carry[0]


def extremes(
    product: Product, start: jax.Array, steps: int, *, unroll: bool = False
) -> Extremes:
    """The largest and the smallest eigenvalue with their vectors, by Lanczos.

    Args:
      product: of a symmetric matrix.
      start: ``[n]``, not 0; a random vector has a part along every eigenvector.
      steps: number of products.
      unroll: as in `lanczos`.

    Returns:
      The extremes; from within the spectrum, closer with every step.

    Raises:
      JnasError: ``steps`` is not a positive integer.

    Example:
      >>> matrix = jnp.diag(jnp.array([-9.0, 1.0, 5.0]))
      >>> found = extremes(lambda v: matrix @ v, jnp.ones(3), 3)
      >>> round(float(found.largest), 4), round(float(found.smallest), 4)
      (5.0, -9.0)
    """
    tridiagonal, basis = lanczos(product, start, steps, unroll=unroll)
    values, vectors = jnp.linalg.eigh(tridiagonal)

    def back(column):
        vector = basis.T @ column
        return vector / jnp.linalg.norm(vector)

    return Extremes(values[-1], values[0], back(vectors[:, -1]), back(vectors[:, 0]))


def largest_eigenvalue(
    loss: Callable[[Any], jax.Array],
    point: Any,
    key: jax.Array,
    *,
    mask: Any = None,
    steps: int = 20,
) -> jax.Array:
    """The largest eigenvalue (algebraically) of a loss' Hessian.

    Of the validation loss by the architecture it is what RobustDARTS and SmoothDARTS
    watch, lambda_max.

    Args:
      loss: ``point -> scalar``.
      point: any pytree of floating-point arrays.
      key: of the vector that Lanczos begins with.
      mask: as in `flat_product`.
      steps: number of products.

    Returns:
      A scalar.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> loss = lambda x: x[0] ** 2 - 5 * x[1] ** 2
      >>> round(float(largest_eigenvalue(loss, jnp.ones(2), jax.random.key(0))), 4)
      2.0

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656
    """
    product, size = flat_product(loss, point, mask)
    dtype = ravel_pytree(point)[0].dtype
    start = jax.random.normal(key, (size,), dtype)
    return extremes(product, start, steps).largest


def trace(product: Product, key: jax.Array, size: int, samples: int = 1) -> jax.Array:
    """Hutchinson's estimate of a trace: the mean of z'Hz over random signs z.

    Args:
      product: of a symmetric matrix.
      key: of the signs.
      size: n.
      samples: how many products.

    Returns:
      A scalar without bias; its variance falls with 1 / samples.

    Raises:
      JnasError: ``samples`` is not a positive integer.

    Example:
      >>> matrix = jnp.diag(jnp.array([1.0, 5.0]))
      >>> float(trace(lambda v: matrix @ v, jax.random.key(0), 2))
      6.0
    """
    return _over_signs(lambda z: z @ product(z), key, size, samples)


def squared_frobenius(
    product: Product, key: jax.Array, size: int, samples: int = 1
) -> jax.Array:
    """An estimate of the squared Frobenius norm: the mean of ||Hz||^2 over signs z.

    Args:
      product: of a symmetric matrix.
      key: of the signs.
      size: n.
      samples: how many products.

    Returns:
      A scalar, the square, without bias.

    Raises:
      JnasError: ``samples`` is not a positive integer.

    Example:
      >>> matrix = jnp.diag(jnp.array([1.0, 2.0]))
      >>> float(squared_frobenius(lambda v: matrix @ v, jax.random.key(0), 2))
      5.0
    """
    return _over_signs(lambda z: jnp.sum(product(z) ** 2), key, size, samples)


def choosable_arch(space: Any, arch: Any) -> Any:
    """Which coordinates of an arch have any effect, for the ``mask`` of the others.

    Args:
      space: the space.
      arch: architecture parameters of any relaxation.

    Returns:
      A tree of NumPy booleans like it: of leaves ``[E, O]`` under a group's name what
      each edge can choose, elsewhere True.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> bool(choosable_arch(space, {"cell": jnp.zeros((6, 5))})["cell"].all())
      True
    """
    lists = {group.name: group.allowed for group in space.groups}

    def of(path, leaf):
        for entry in reversed(path):
            own = lists.get(getattr(entry, "key", None))
            if own is not None and own.shape == leaf.shape:
                return np.asarray(own)
        return np.ones(leaf.shape, bool)

    return jax.tree_util.tree_map_with_path(of, arch)


def _indices(mask: Any, point: Any) -> np.ndarray:
    """The places of the coordinates that count in the raveled point."""
    if mask is None:
        return np.arange(sum(np.size(leaf) for leaf in jax.tree.leaves(point)))
    shapes = [np.shape(x) for x in jax.tree.leaves(mask)]
    if jax.tree.structure(mask) != jax.tree.structure(point) or shapes != [
        np.shape(x) for x in jax.tree.leaves(point)
    ]:
        raise JnasError(
            "mask must be a tree of booleans like the point: "
            f"{jax.tree.map(np.shape, point)}, got {jax.tree.map(np.shape, mask)}"
        )
    flat = [np.ravel(np.asarray(x, bool)) for x in jax.tree.leaves(mask)]
    found = np.flatnonzero(np.concatenate(flat))
    if not found.size:
        raise JnasError("mask must leave at least one coordinate, got none")
    return found


def _over_signs(
    quantity: Callable[[jax.Array], jax.Array], key: jax.Array, size: int, samples: int
) -> jax.Array:
    """The mean of a quantity over random signs."""
    checks.count(samples, "samples")
    # In the type that the product is of.
    dtype = jax.eval_shape(quantity, jnp.zeros(size)).dtype
    signs = jax.random.rademacher(key, (samples, size), dtype)
    if samples == 1:  # without a loop, slow on some backends
        return quantity(signs[0])
    return jnp.mean(jax.lax.map(quantity, signs))
