"""Convolutions, pools and normalisation in the form that XLA compiles well.

The mathematics is the textbook's; only the way it is written differs, because of what
was measured on the CPU backend (the figures are in ``docs/design.md``):

* grouped and depthwise convolutions are 10-100x slower than a dense one of the same
  result, so a depthwise convolution is a sum of shifted products, the pointwise one
  after it a matrix product, and their weight gradients those of one dense convolution
  with the kernel ``depthwise[..., None] * pointwise``;
* the weight gradient of a convolution inside a loop or a conditional is 30-40x slower
  than outside, unless it is written in the one layout that needs no rewriting;
* the gradient of a max pool is 30x faster as shifted comparisons;
* the backward pass of a weighted batch normalisation needs each of its two sums once,
  also for the gradient of the weight.

The custom rules below contain only ordinary operations (no ``custom_vjp`` inside
another), so forward-over-reverse differentiation (``jvp`` of ``grad``, ``hessian``) and
``grad`` of it work; plain forward mode (``jvp``, ``jacfwd``) does not.

Shapes: ``B`` batch, ``H W C`` image, ``E`` edges that share an input.
"""

import functools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = [
    "avg_pool",
    "channel_sums",
    "conv",
    "materialise",
    "max_pool",
    "moments",
    "normalise",
    "per_channel",
    "separable",
]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def per_channel(values: jax.Array) -> jax.Array:
    """``[C] -> [1, 1, 1, C]``, to combine with images (no implicit rank promotion).

    Args:
      values: ``[C]``.

    Returns:
      The same values, of the rank of images.

    Example:
      >>> per_channel(jnp.ones(3)).shape
      (1, 1, 1, 3)
    """
    return values.reshape(1, 1, 1, -1)


def materialise(x: jax.Array) -> jax.Array:
    """The same values, computed once and stored, and so is the gradient.

    The CPU backend drops optimization barriers before it fuses, and then recomputes a
    cheap value, such as the sum at a node of a cell, in every kernel that reads it. It
    does store the operands and the result of a matrix product, so there ``x`` is
    multiplied by the identity (exact for finite values: all other terms are zeros).

    Args:
      x: ``[..., C]``.

    Returns:
      ``x``.

    Example:
      >>> materialise(jnp.array([[1.0, 2.0]])).tolist()
      [[1.0, 2.0]]
    """
    return lax.platform_dependent(
        x, cpu=_identity_product, default=lax.optimization_barrier
    )


def channel_sums(x: jax.Array) -> jax.Array:
    """Sums over all but the last dimension.

    The CPU backend's own sum over as many values goes through the memory column by
    column (13 to 50 times slower); as products of 32 parts with ones, and then a sum
    over the parts, it is also more accurate. (It would sum up more parts in two
    rounds.)

    Args:
      x: ``[B, H, W, C]``.

    Returns:
      ``[C]``.

    Example:
      >>> channel_sums(jnp.ones((2, 3, 3, 1))).tolist()
      [18.0]
    """
    return lax.platform_dependent(
        x, cpu=_products_with_ones, default=lambda x: jnp.sum(x, (0, 1, 2))
    )


def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of each channel.

    Args:
      x: ``[B, H, W, C]``, at least float32.

    Returns:
      Both, ``[C]``, with their gradients.

    Example:
      >>> [m.tolist() for m in moments(jnp.arange(4.0).reshape(2, 2, 1, 1))]
      [[1.5], [1.25]]
    """
    count = x.size // x.shape[-1]
    mean = channel_sums(x) / count
    return mean, channel_sums(jnp.square(x - per_channel(mean))) / count


def _products_with_ones(x):
    parts = math.gcd(math.prod(x.shape[:-1]), 32)
    rows = x.reshape(parts, -1, x.shape[-1])
    # Two equal rows, since a product with one row is compiled anew for each use.
    ones = jnp.ones((parts, 2, rows.shape[1]), x.dtype)
    by_part = lax.dot_general(ones, rows, (((2,), (1,)), ((0,), (0,))))
    return jnp.sum(by_part[:, 0], axis=0)


def _identity_product(x):
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)
    return (x.reshape(-1, x.shape[-1]) @ identity).reshape(x.shape)


def _add(terms: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, terms)


def _out_size(size: int, stride: int) -> int:
    """Output size under symmetric padding of an odd window (PyTorch's rule)."""
    return (size - 1) // stride + 1


def _conv(x, kernel, stride, dilation):
    pads = [(dilation * (k - 1) // 2,) * 2 for k in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pads,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_LAYOUT,
    )


def _windows(x, window, stride, dilation, fill=0.0):
    """The shifted views ``[B, H', W', ...]`` of ``x``, one per window position."""
    height, width = (_out_size(s, stride) for s in x.shape[1:3])
    pad_h, pad_w = (dilation * (k - 1) // 2 for k in window)
    if pad_h or pad_w:
        pad = ((0, 0), (pad_h, pad_h), (pad_w, pad_w), *[(0, 0)] * (x.ndim - 3))
        x = jnp.pad(x, pad, constant_values=jnp.asarray(fill, x.dtype))
        # Padded once, and not folded into every slice.
        x = lax.optimization_barrier(x)
    for i in range(window[0]):
        for j in range(window[1]):
            top, left = i * dilation, j * dilation
            stop_h = top + stride * (height - 1) + 1
            stop_w = left + stride * (width - 1) + 1
            # Not x[...], whose tracing is several times slower.
            yield lax.slice(
                x,
                (0, top, left, *[0] * (x.ndim - 3)),
                (x.shape[0], stop_h, stop_w, *x.shape[3:]),
                (1, stride, stride, *[1] * (x.ndim - 3)),
            )


def _scatter_window(g, shape, window, position, stride):
    """Adjoint of one view of `_windows`: places ``g`` back into ``shape``, zeros else.

    Written as ``lax.pad`` with negative edges, which XLA fuses into the sum.
    """
    pads = [(0, 0, 0)]
    for size, out, k, offset in zip(
        shape[1:3], g.shape[1:3], window, position, strict=True
    ):
        low = offset - (k - 1) // 2
        pads.append((low, size - low - (stride * (out - 1) + 1), stride - 1))
    return lax.pad(g, jnp.zeros((), g.dtype), [*pads, (0, 0, 0)])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1
) -> jax.Array:
    """2-D convolution with symmetric padding ``dilation * (k - 1) / 2``.

    With stride 2 this padding is PyTorch's, not XLA's "SAME" (which pads the right and
    bottom first).

    Args:
      x: ``[B, H, W, C]``.
      kernel: ``[k, k', C, D]``, odd windows.
      stride: positive int.
      dilation: positive int.

    Returns:
      ``[B, ceil(H / stride), ceil(W / stride), D]``.

    Example:
      >>> conv(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4)), 2).shape
      (1, 4, 4, 4)
    """
    return _conv(x, kernel, stride, dilation)


def _conv_forward(x, kernel, stride, dilation):
    return _conv(x, kernel, stride, dilation), (x, kernel)


def _conv_backward(stride, dilation, residuals, g):
    x, kernel = residuals
    dx = _input_gradient(g, kernel, x.shape[1:3], stride, dilation)
    dkernel = _kernel_gradient(x, g, kernel.shape[:2], stride, dilation)
    return dx, dkernel.astype(kernel.dtype)


def _input_gradient(g, kernel, size, stride, dilation):
    """Of `_conv` by its input of ``size``: the flipped kernel over the spread ``g``.

    Written in the layout that no backend has to change; see `_kernel_gradient`.
    """
    pads = []
    for whole, out, k in zip(size, g.shape[1:3], kernel.shape[:2], strict=True):
        low = dilation * (k - 1) // 2  # the same on both sides, as the window is odd
        pads.append((low, whole - 1 + low - stride * (out - 1)))
    return lax.conv_general_dilated(
        g,
        jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3),
        (1, 1),
        pads,
        lhs_dilation=(stride, stride),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_LAYOUT,
    )


def _kernel_gradient(x, g, window, stride, dilation):
    """Of `_conv` by its kernel: ``[B, H, W, C], [B, H', W', D] -> [k, k', C, D]``.

    It is a convolution of ``x`` with ``g``, channels in place of the batch. The CPU
    backend brings such ones into the layout that its fast routine takes, but only
    outside loops and conditionals (its pass looks at the entry computation alone), so
    there it is written in that layout. A window of one pixel needs a matrix product
    only, which is several times faster there.
    """
    if tuple(window) == (1, 1):
        x = x[:, ::stride, ::stride] if stride > 1 else x
        product = x.reshape(-1, x.shape[-1]).T @ g.reshape(-1, g.shape[-1])
        return product[None, None]
    return lax.platform_dependent(
        x,
        g,
        cpu=partial(
            _plain_kernel_gradient, window=window, stride=stride, dilation=dilation
        ),
        default=partial(
            _usual_kernel_gradient, window=window, stride=stride, dilation=dilation
        ),
    )


def _plain_kernel_gradient(x, g, window, stride, dilation):
    pads = []
    for size, out, k in zip(x.shape[1:3], g.shape[1:3], window, strict=True):
        low = dilation * (k - 1) // 2
        # What is left on the other side for an output of the window's size.
        pads.append((low, dilation * (k - 1) + stride * (out - 1) + 1 - size - low))
    y = lax.conv_general_dilated(
        jnp.transpose(x, (3, 1, 2, 0)),
        jnp.transpose(g, (1, 2, 0, 3)),
        (dilation, dilation),
        pads,
        rhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return jnp.transpose(y, (1, 2, 0, 3))


def _usual_kernel_gradient(x, g, window, stride, dilation):
    zeros = jnp.zeros((*window, x.shape[-1], g.shape[-1]), x.dtype)
    _, kernel_vjp = jax.vjp(lambda k: _conv(x, k, stride, dilation), zeros)
    return kernel_vjp(g)[0]


conv.defvjp(_conv_forward, _conv_backward)


def _block_diagonal(blocks):
    """``[E, C, D]`` -> ``[E * C, E * D]`` with the blocks on the diagonal."""
    edges, rows, columns = blocks.shape
    eye = jnp.eye(edges, dtype=blocks.dtype)[:, None, :, None]
    full = eye * blocks[:, :, None, :]
    return full.reshape(edges * rows, edges * columns)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def separable(
    x: jax.Array,
    depthwise: jax.Array,
    pointwise: jax.Array,
    stride: int = 1,
    dilation: int = 1,
) -> jax.Array:
    """Depthwise and then pointwise convolutions of several edges at once.

    The depthwise part is a sum of shifted products, the pointwise part one matrix
    product with a block-diagonal matrix. The gradients of both factors come from the
    weight gradient of the equal dense convolution.

    Args:
      x: ``[B, H, W, 1, C]``, an input that the edges share, or ``[B, H, W, E, C]``.
      depthwise: ``[E, k, k, C]``, odd windows.
      pointwise: ``[E, C, D]``.
      stride: positive int.
      dilation: positive int.

    Returns:
      ``[B, ceil(H / stride), ceil(W / stride), E, D]``.

    Example:
      >>> x = jnp.ones((1, 8, 8, 1, 3))
      >>> separable(x, jnp.ones((2, 3, 3, 3)), jnp.ones((2, 3, 4)), 2).shape
      (1, 4, 4, 2, 4)
    """
    return _separable(x, depthwise, pointwise, stride, dilation)


def _shifted_products(x, depthwise, stride, dilation):
    views = _windows(x, depthwise.shape[1:3], stride, dilation)
    edges, channels = len(depthwise), depthwise.shape[-1]
    taps = jnp.moveaxis(depthwise.reshape(edges, -1, channels), 1, 0)
    taps = lax.optimization_barrier(taps.reshape(-1, 1, 1, edges, channels))
    # One tap per view, each [1, 1, 1, E, C].
    each = lax.split(taps, (1,) * len(taps), axis=0)
    return _add([view * tap for view, tap in zip(views, each, strict=True)])


def _pointwise(h, blocks):
    """Applies ``[E, C, D]`` to ``[B, H, W, E, C]``."""
    flat = h.reshape(-1, blocks.shape[0] * blocks.shape[1])
    y = flat @ _block_diagonal(blocks)
    return y.reshape(*h.shape[:3], blocks.shape[0], blocks.shape[2])


def _separable(x, depthwise, pointwise, stride, dilation):
    h = _shifted_products(x, depthwise, stride, dilation)
    return _pointwise(h, pointwise)


def _separable_forward(x, depthwise, pointwise, stride, dilation):
    y = _separable(x, depthwise, pointwise, stride, dilation)
    return y, (x, depthwise, pointwise)


def _separable_backward(stride, dilation, residuals, g):
    x, depthwise, pointwise = residuals
    edges, window = len(depthwise), depthwise.shape[1:3]
    inner = _pointwise(g, jnp.swapaxes(pointwise, 1, 2))
    # The adjoint of a strided window: zeros between the pixels, then the flipped
    # window with stride 1.
    pads = [(0, 0, 0)]
    for size, out in zip(x.shape[1:3], inner.shape[1:3], strict=True):
        pads.append((0, size - (stride * (out - 1) + 1), stride - 1))
    spread = lax.pad(inner, jnp.zeros((), inner.dtype), [*pads, (0, 0, 0), (0, 0, 0)])
    dx = _shifted_products(spread, jnp.flip(depthwise, (1, 2)), 1, dilation)
    shared = x.shape[3] == 1
    if shared:
        # The sum over the edges, as a product with stacked identities: the compiler
        # would pull the shifted products into a reduction, and then store every one of
        # the k * k shifted views for it.
        channels = x.shape[-1]
        identities = jnp.tile(jnp.eye(channels, dtype=dx.dtype), (edges, 1))
        dx = (dx.reshape(-1, edges * channels) @ identities).reshape(x.shape)
    parts = [slice(0, edges)] if shared else [slice(e, e + 1) for e in range(edges)]
    dense = []
    for part in parts:
        inputs = x[..., 0 if shared else part.start, :]
        outputs = g[..., part, :].reshape(*g.shape[:3], -1)
        dkernel = _kernel_gradient(inputs, outputs, window, stride, dilation)
        dense.append(dkernel.reshape(*dkernel.shape[:3], -1, pointwise.shape[-1]))
    dkernel = jnp.moveaxis(jnp.concatenate(dense, axis=3), 3, 0)  # [E, k, k, C, D]
    ddepthwise = jnp.sum(dkernel * pointwise[:, None, None], axis=-1)
    dpointwise = jnp.sum(dkernel * depthwise[..., None], axis=(1, 2))
    return dx, ddepthwise, dpointwise


separable.defvjp(_separable_forward, _separable_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, stride: int = 1) -> jax.Array:
    """3x3 max pool, padding 1 with minus infinity; ties go to the first position.

    Args:
      x: ``[B, H, W, C]``.
      stride: positive int.

    Returns:
      ``[B, ceil(H / stride), ceil(W / stride), C]``.

    Example:
      >>> max_pool(jnp.arange(4.0).reshape(1, 2, 2, 1)).ravel().tolist()
      [3.0, 3.0, 3.0, 3.0]
    """
    return _max_pool(x, stride)[0]


def _max_pool(x, stride):
    best, *others = _windows(x, (3, 3), stride, 1, -np.inf)
    index = jnp.zeros(best.shape, jnp.int8)
    for k, view in enumerate(others, start=1):
        better = view > best
        best = jnp.where(better, view, best)
        index = jnp.where(better, jnp.int8(k), index)
    return best, index


def _max_pool_forward(x, stride):
    best, index = _max_pool(x, stride)
    # x is kept only for its shape and dtype; the compiled program drops it.
    return best, (index, x)


def _max_pool_backward(stride, residuals, g):
    index, x = residuals
    dx = jnp.zeros(x.shape, g.dtype)
    for k in range(9):
        chosen = jnp.where(index == k, g, jnp.zeros((), g.dtype))
        dx = dx + _scatter_window(chosen, x.shape, (3, 3), divmod(k, 3), stride)
    return (dx,)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def avg_pool(x: jax.Array, stride: int = 1) -> jax.Array:
    """3x3 average pool, padding 1, divided by the number of valid pixels.

    Args:
      x: ``[B, H, W, C]``.
      stride: positive int.

    Returns:
      ``[B, ceil(H / stride), ceil(W / stride), C]``.

    Example:
      >>> avg_pool(jnp.arange(4.0).reshape(1, 2, 2, 1)).ravel().tolist()
      [1.5, 1.5, 1.5, 1.5]
    """
    return _avg_pool(x, stride)


def _valid_pixels(height: int, width: int, stride: int) -> np.ndarray:
    def valid(size):
        centre = np.arange(_out_size(size, stride)) * stride
        return np.minimum(centre + 1, size - 1) - np.maximum(centre - 1, 0) + 1

    return np.outer(valid(height), valid(width))[None, :, :, None]


def _avg_pool(x, stride):
    count = _valid_pixels(x.shape[1], x.shape[2], stride)
    return _add(list(_windows(x, (3, 3), stride, 1))) / jnp.asarray(count, x.dtype)


def _avg_pool_forward(x, stride):
    return _avg_pool(x, stride), x  # x only for its shape, as in the max pool


def _avg_pool_backward(stride, x, g):
    g = g / jnp.asarray(_valid_pixels(x.shape[1], x.shape[2], stride), g.dtype)
    if stride == 1:  # its own adjoint, one pass instead of nine
        return (_add(list(_windows(g, (3, 3), 1, 1))),)
    dx = jnp.zeros(x.shape, g.dtype)
    for k in range(9):
        dx = dx + _scatter_window(g, x.shape, (3, 3), divmod(k, 3), stride)
    return (dx,)


avg_pool.defvjp(_avg_pool_forward, _avg_pool_backward)


def normalise(
    y: jax.Array, scale: jax.Array | None = None, epsilon: float = 1e-5
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch normalisation by the batch's own statistics, times a scale per channel.

    The scale is a learned gamma or, in a mixed operation, the mixture weight of the
    operation; its gradient reuses the sums that the input gradient needs anyway.

    Args:
      y: ``[B, H, W, C]``.
      scale: ``[C]`` or None (ones).
      epsilon: added to the variance.

    Returns:
      ``(z, mean, variance)``: ``z`` like ``y``; the statistics ``[C]`` in at least
      float32, biased variance, without gradient.

    Example:
      >>> z, mean, variance = normalise(jnp.arange(4.0).reshape(2, 2, 1, 1))
      >>> mean.tolist(), variance.tolist()
      ([1.5], [1.25])
    """
    if scale is None:
        scale = jnp.ones(y.shape[-1:], jnp.promote_types(y.dtype, jnp.float32))
    z, mean, variance = _normalise(y, scale, epsilon)
    return z, lax.stop_gradient(mean), lax.stop_gradient(variance)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _normalise(y, scale, epsilon):
    return _normalise_forward(y, scale, epsilon)[0]


def _normalise_forward(y, scale, epsilon):
    wide = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    mean, variance = moments(wide)
    inverse = lax.rsqrt(variance + epsilon)
    z = ((wide - per_channel(mean)) * per_channel(inverse * scale)).astype(y.dtype)
    return (z, mean, variance), (y, scale, mean, inverse)


def _normalise_backward(epsilon, residuals, cotangents):
    del epsilon
    y, scale, mean, inverse = residuals
    g = cotangents[0].astype(mean.dtype)
    normal = (y.astype(mean.dtype) - per_channel(mean)) * per_channel(inverse)
    count = y.shape[0] * y.shape[1] * y.shape[2]
    sum_g = channel_sums(g)
    sum_gn = channel_sums(g * normal)
    correction = (per_channel(sum_g) + normal * per_channel(sum_gn)) / count
    dy = per_channel(scale * inverse) * (g - correction)
    return dy.astype(y.dtype), sum_gn.astype(scale.dtype)


_normalise.defvjp(_normalise_forward, _normalise_backward)
