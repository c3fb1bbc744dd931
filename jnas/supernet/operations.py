"""The candidate operations, evaluated for all edges that share an input at once.

An operation describes the parameters of *one* edge; a cell stacks them over its edges
(``[E, ...]``, so there are few arrays) and hands the rows of the edges that leave one
state to `Operation.apply`, which computes them together. What has no parameters is
computed once per state and only weighted per edge.

Sources: DARTS operations (Liu et al., DARTS, ICLR 2019, appendix A.1) and NAS-Bench-201
operations (Dong & Yang, ICLR 2020, section 2.1), as in the authors' code.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from jnas.errors import JnasError, unknown_name
from jnas.supernet import kernels, layers

__all__ = [
    "NormFn",
    "Operation",
    "Parameter",
    "call_candidate",
    "call_parameters",
    "drawn",
    "get_operation",
    "noise_rngs",
    "operation_names",
    "register_operation",
]


class Parameter(NamedTuple):
    """One parameter array of one edge.

    Attributes:
      shape: without the edge dimension.
      fan_in: inputs of one output, which sets the initial range.
    """

    shape: tuple[int, ...]
    fan_in: int


class NormFn(Protocol):
    """Batch-normalises ``[B, H, W, E * C]`` and weighs each edge by ``weight [E]``."""

    def __call__(
        self, name: str, y: jax.Array, weight: jax.Array | None = None
    ) -> jax.Array:
        """The normalised, weighted array."""
        ...


class Operation(NamedTuple):
    """A candidate operation of a cell, as pure functions.

    Attributes:
      parameters: ``(channels, stride, affine) -> {name: Parameter}`` of one edge.
      norms: ``(stride) -> names`` of its batch normalisations.
      apply: ``(params, norm, x, stride, weight) -> [B, H', W', E, C]``: ``params`` have
        a leading ``[E]``; ``x`` is ``[B, H, W, C]``, ``weight`` ``[E]`` or None (final
        networks). The result is weighted.
      per_state: no parameters; one normalisation serves all edges of a state.
      droppable: whether drop path applies in final networks at this stride.
      random: it gets ``params["noise"]``, ``[B, H', W', E, C]`` of the normal
        distribution, drawn anew in each forward pass.
    """

    parameters: Callable[[int, int, bool], dict[str, Parameter]]
    norms: Callable[[int], tuple[str, ...]]
    apply: Callable[..., jax.Array]
    per_state: bool = False
    droppable: Callable[[int], bool] = lambda stride: True
    random: bool = False


def _per_edge(y: jax.Array, edges: int) -> jax.Array:
    return y.reshape(*y.shape[:3], edges, -1)


def _shared_conv(x, kernels_, stride=1, dilation=1):
    """One convolution for all edges: ``[E, k, k, C, D]`` -> ``[B, H', W', E * D]``."""
    joined = jnp.moveaxis(kernels_, 0, 3)
    joined = joined.reshape(*joined.shape[:3], -1).astype(x.dtype)
    return kernels.conv(x, joined, stride, dilation)


def _separable(window: int, dilation: int, repeats: int) -> Operation:
    """(ReLU, depthwise, pointwise, norm) x repeats; only the first has the stride."""

    def parameters(channels, stride, affine):
        del stride, affine
        shapes = {}
        for i in range(repeats):
            depthwise = Parameter((window, window, channels), window * window)
            shapes[f"depthwise{i}"] = depthwise
            shapes[f"pointwise{i}"] = Parameter((channels, channels), channels)
        return shapes

    def apply(params, norm, x, stride, weight):
        x = x[..., None, :]  # the first convolution's input is shared by the edges
        for i in range(repeats):
            depthwise = params[f"depthwise{i}"].astype(x.dtype)
            pointwise = params[f"pointwise{i}"].astype(x.dtype)
            y = kernels.separable(
                nn.relu(x), depthwise, pointwise, stride if i == 0 else 1, dilation
            )
            flat = y.reshape(*y.shape[:3], -1)
            flat = norm(f"norm{i}", flat, weight if i == repeats - 1 else None)
            x = flat.reshape(y.shape)
        return x

    names = tuple(f"norm{i}" for i in range(repeats))
    return Operation(parameters, lambda stride: names, apply)


def _no_parameters(channels, stride, affine):
    del channels, stride, affine
    return {}


def _weigh(y, weight):
    """Spreads one result per state over the edges: ``[B, H, W, E, C]``."""
    if weight is None:
        return y[..., None, :]
    return y[..., None, :] * weight.reshape(1, 1, 1, -1, 1).astype(y.dtype)


def _pool(pool: Callable[..., jax.Array], norm_in_search: bool) -> Operation:
    """A pool; in the DARTS search network (and only there) followed by a norm."""

    def apply(params, norm, x, stride, weight):
        del params
        y = pool(x, stride)
        # Final networks (weight None) have no normalisation after pools.
        if norm_in_search and weight is not None:
            # Stored, or each sum of the normalisation would pool again.
            y = norm("norm", kernels.materialise(y))
        return _weigh(y, weight)

    names = ("norm",) if norm_in_search else ()
    return Operation(_no_parameters, lambda stride: names, apply, per_state=True)


def _skip() -> Operation:
    """The identity; with stride 2 a factorized reduction."""

    def parameters(channels, stride, affine):
        del affine
        if stride == 1:
            return {}
        half = channels // 2
        return {
            "even": Parameter((channels, half), channels),
            "odd": Parameter((channels, channels - half), channels),
        }

    def apply(params, norm, x, stride, weight):
        if stride == 1:
            return _weigh(x, weight)
        edges = len(params["even"])
        y = layers.factorized_reduce(nn.relu(x), params["even"], params["odd"], edges)
        return _per_edge(norm("norm", y, weight), edges)

    return Operation(
        parameters,
        lambda stride: ("norm",) if stride == 2 else (),
        apply,
        droppable=lambda stride: stride == 2,
    )


def _relu_conv_norm(window: int) -> Operation:
    """ReLU, convolution (with a bias where the norm has none), norm."""

    def parameters(channels, stride, affine):
        del stride
        fan_in = window * window * channels
        shapes = {"kernel": Parameter((window, window, channels, channels), fan_in)}
        if not affine:
            shapes["bias"] = Parameter((channels,), fan_in)
        return shapes

    def apply(params, norm, x, stride, weight):
        kernel = params["kernel"]
        y = _shared_conv(nn.relu(x), kernel, stride)
        if "bias" in params:
            y = y + kernels.per_channel(params["bias"]).astype(y.dtype)
        return _per_edge(norm("norm", y, weight), len(kernel))

    return Operation(parameters, lambda stride: ("norm",), apply)


def _conv_7x1_1x7() -> Operation:
    """ReLU, full (1, 7) then (7, 1) convolution, norm (AmoebaNet's reduction cell)."""

    def parameters(channels, stride, affine):
        del stride, affine
        fan_in = 7 * channels
        return {
            "kernel0": Parameter((1, 7, channels, channels), fan_in),
            "kernel1": Parameter((7, 1, channels, channels), fan_in),
        }

    def apply(params, norm, x, stride, weight):
        edges = len(params["kernel0"])
        # A stride in one direction only: keep every stride-th column, then row, of the
        # results.
        y = _shared_conv(nn.relu(x), params["kernel0"])[:, :, ::stride]
        parts = []
        for part, kernel in zip(
            jnp.split(y, edges, axis=-1), params["kernel1"], strict=True
        ):
            parts.append(kernels.conv(part, kernel.astype(y.dtype))[:, ::stride])
        return _per_edge(norm("norm", jnp.concatenate(parts, -1), weight), edges)

    return Operation(parameters, lambda stride: ("norm",), apply)


def _noise() -> Operation:
    """Noise in place of the input (RobustDARTS' space S4): nothing passes through."""

    def apply(params, norm, x, stride, weight):
        del norm, x, stride
        y = params["noise"]
        if weight is None:
            return y
        return y * weight.reshape(1, 1, 1, -1, 1).astype(y.dtype)

    return Operation(_no_parameters, lambda stride: (), apply, random=True)


def drawn(module: nn.Module, x: jax.Array, stride: int, edges: int) -> jax.Array:
    """The noise of a random operation, of the module's stream "noise".

    Args:
      module: a bound Linen module.
      x: the input, ``[B, H, W, C]``.
      stride: 1 or 2.
      edges: how many edges.

    Returns:
      ``[B, H', W', edges, C]``, of the normal distribution.
    """
    height, width = (-(-n // stride) for n in x.shape[1:3])
    shape = (x.shape[0], height, width, edges, x.shape[-1])
    return jax.random.normal(module.make_rng("noise"), shape, x.dtype)


def noise_rngs(names: Iterable[str], key: jax.Array | None) -> dict[str, jax.Array]:
    """The random streams that a network of these operations needs.

    Args:
      names: of its operations.
      key: of the forward pass; without one the noise is always the same.

    Returns:
      ``{"noise": key}``, or nothing.

    Example:
      >>> noise_rngs(["skip_connect"], None)
      {}
    """
    found = [_OPERATIONS.get(name) for name in names]
    if not any(operation is not None and operation.random for operation in found):
        return {}
    key = jax.random.key(0) if key is None else key
    return {"noise": jax.random.fold_in(key, _NOISE_STREAM)}


_NOISE_STREAM = 0x6E01  # apart from what else a pass draws with its key
_OPERATIONS: dict[str, Operation | None] = {
    "none": None,
    "noise": _noise(),
    "skip_connect": _skip(),
    "max_pool_3x3": _pool(kernels.max_pool, norm_in_search=True),
    # Pools differ between the two families: see `get_operation`.
    "avg_pool_3x3": _pool(kernels.avg_pool, norm_in_search=True),
    "sep_conv_3x3": _separable(3, 1, 2),
    "sep_conv_5x5": _separable(5, 1, 2),
    "sep_conv_7x7": _separable(7, 1, 2),
    "dil_conv_3x3": _separable(3, 2, 1),
    "dil_conv_5x5": _separable(5, 2, 1),
    "conv_7x1_1x7": _conv_7x1_1x7(),
    "nor_conv_1x1": _relu_conv_norm(1),
    "nor_conv_3x3": _relu_conv_norm(3),
}
_PLAIN_POOLS = {
    "max_pool_3x3": _pool(kernels.max_pool, norm_in_search=False),
    "avg_pool_3x3": _pool(kernels.avg_pool, norm_in_search=False),
}
_MODULES: dict[str, Callable[..., Any]] = {}


def register_operation(name: str, factory: Callable[..., Any]) -> None:
    """Registers your own operation, for cell spaces and for `Mixed`.

    Args:
      name: the name to use in a space.
      factory: ``(channels, stride) -> Linen module or function``, taking
        ``[B, H, W, channels]`` to ``[B, H / stride, W / stride, channels]``. If the
        call has a parameter ``train`` it gets it.

    Raises:
      JnasError: the name is taken.

    Example:
      >>> register_operation("double", lambda channels, stride: lambda x: 2 * x)
      >>> "double" in operation_names()
      True
      >>> del _MODULES["double"]
    """
    if name in _OPERATIONS or name in _MODULES:
        raise JnasError(f"operation {name!r} is already registered: use another name")
    _MODULES[name] = factory


def operation_names() -> tuple[str, ...]:
    """All operations that a cell space may use, built in and registered.

    Returns:
      Their names, sorted.

    Example:
      >>> "sep_conv_3x3" in operation_names()
      True
    """
    return tuple(sorted({*_OPERATIONS, *_MODULES}))


def get_operation(
    name: str, pool_norm: bool = True
) -> Operation | Callable[..., Any] | None:
    """Looks an operation up.

    Args:
      name: its name.
      pool_norm: whether pools are followed by a norm in search (DARTS: yes,
        NAS-Bench-201: no).

    Returns:
      An `Operation`, the factory of a registered one, or None for "none".

    Raises:
      JnasError: unknown name, with close matches.

    Example:
      >>> get_operation("none") is None
      True
    """
    if name in _PLAIN_POOLS and not pool_norm:
        return _PLAIN_POOLS[name]
    if name in _OPERATIONS:
        return _OPERATIONS[name]
    if name in _MODULES:
        return _MODULES[name]
    raise unknown_name("operation", name, operation_names())


def call_candidate(candidate: Callable[..., Any], x: Any, train: bool) -> Any:
    """Calls a user's candidate, with ``train`` if it has that parameter.

    Args:
      candidate: a bound Linen module or a function.
      x: its input.
      train: whether this is a training pass.

    Returns:
      Its output.

    Example:
      >>> call_candidate(lambda x: x + 1, 1, train=True)
      2
    """
    named = "train" in call_parameters(candidate)
    return candidate(x, train=train) if named else candidate(x)


def call_parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a call.

    Args:
      function: a function or a Linen module.

    Returns:
      ``{name: parameter}``; empty for built-in functions without a signature.

    Example:
      >>> list(call_parameters(lambda x, train: x))
      ['x', 'train']
    """
    target = function.__call__ if isinstance(function, nn.Module) else function
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}
