"""The one compiled program of a run: a chunk of steps with the metrics summed up.

``length`` steps a dispatch: one on the CPU, where the weight gradient of a
convolution inside any control flow is many times slower; a scan elsewhere, where a
dispatch costs more than a small step. The program is kept for the last few step
functions, so another seed or a resumed run in the same process compiles nothing.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas import compiling
from jnas.errors import JnasError
from jnas.run import metrics

__all__ = ["Program", "best_chunk", "build", "initializer"]

_MOST = 50


class Program(NamedTuple):
    """The functions that the loop calls.

    Attributes:
      dispatch: ``(state, sums, feed, data_key, step0) -> (state, sums, infos)``,
        jitted; state and sums are donated; ``infos`` is float32 ``[length, names]``,
        one array so that one transfer brings it to the host.
      names: ``(state, feed, data_key) -> tuple`` of the metrics' names, sorted.
      zeros: ``(names) -> sums``.
    """

    dispatch: Callable[..., Any]
    names: Callable[..., tuple[str, ...]]
    zeros: Callable[..., Any]


def best_chunk(steps_per_epoch: int, chunk: int | None) -> int:
    """Chooses the number of steps a dispatch.

    Args:
      steps_per_epoch: how many steps an epoch has.
      chunk: the user's choice, which must divide it, or None: 1 on the CPU, else the
        largest divisor up to 50.

    Returns:
      The number of steps a dispatch.

    Raises:
      JnasError: if the choice does not divide the steps of an epoch.

    Example:
      >>> best_chunk(391, None), best_chunk(391, 23)
      (1, 23)
    """
    fitting = [n for n in range(1, steps_per_epoch + 1) if steps_per_epoch % n == 0]
    if chunk is None:
        if jax.default_backend() == "cpu":
            return 1
        return max(n for n in fitting if n <= _MOST)
    if chunk not in fitting:
        near = max((n for n in fitting if n <= chunk), default=1)
        raise JnasError(
            f"chunk must divide steps_per_epoch ({steps_per_epoch}), got {chunk}: use "
            f"{near}, or None to choose by the device"
        )
    return chunk


def build(step_fn: Callable[..., Any], length: int) -> Program:
    """Makes the program of a step function, or finds the one made before.

    Args:
      step_fn: ``(state, train_batch, val_batch) -> (state, info)``, pure.
      length: steps a dispatch.

    Returns:
      The program.

    Example:
      >>> program = build(lambda state, train, val: (state + 1, {"x": state}), 3)
      >>> feed = jax.tree_util.Partial(lambda key, step: (None, None))
      >>> start = jnp.zeros(()), program.zeros(("x",)), feed, jax.random.key(0)
      >>> state, sums, infos = program.dispatch(*start, jnp.int32(0))
      >>> float(state), float(sums["x"]), infos.tolist()
      (3.0, 3.0, [[0.0], [1.0], [2.0]])
    """
    try:
        return _build_cached(step_fn, length)
    except TypeError:
        try:
            hash(step_fn)
        except TypeError:  # a callable that can't be a key of the cache
            return _build(step_fn, length)
        raise


def initializer(init_fn: Callable[..., Any]) -> Callable[..., Any]:
    """Makes the jitted ``(key) -> state``, or finds the one made before.

    Args:
      init_fn: ``(key) -> state``, pure. The arrays of a `jax.tree_util.Partial` are
        arguments of the program and no constants in it; `functools.partial`s that
        give one function equal shapes are the same one.

    Returns:
      The function; the state has no weak types, so that it keeps its type in steps.

    Example:
      >>> initializer(lambda key: 1.0)(jax.random.key(0))
      Array(1., dtype=float32)
    """
    if isinstance(init_fn, jax.tree_util.Partial):
        return _init(init_fn)  # not to be kept alive by the cache
    leaves, structure = (), None
    if isinstance(init_fn, functools.partial):
        # Partials are equal only to themselves, and each run makes one.
        given, tree = jax.tree.flatten((init_fn.args, init_fn.keywords))
        if given and all(isinstance(x, jax.ShapeDtypeStruct) for x in given):
            init_fn, leaves, structure = init_fn.func, tuple(given), tree
    try:
        hash(init_fn)
    except TypeError:
        return _init(init_fn, leaves, structure)
    return _init_cached(init_fn, leaves, structure)


def _init(
    init_fn: Callable[..., Any], leaves: tuple[Any, ...] = (), structure: Any = None
) -> Callable[..., Any]:
    if isinstance(init_fn, jax.tree_util.Partial):
        run = jax.jit(lambda function, key: jax.tree.map(_strong, function(key)))
        return functools.partial(run, init_fn)
    if leaves:
        args, keywords = jax.tree.unflatten(structure, leaves)
        init_fn = functools.partial(init_fn, *args, **keywords)
    return jax.jit(lambda key: jax.tree.map(_strong, init_fn(key)))


def _build(step_fn: Callable[..., Any], length: int) -> Program:
    def one(state: Any, feed: Any, data_key: jax.Array, step: jax.Array) -> Any:
        train_batch, val_batch = feed(data_key, step)
        after, info = step_fn(state, train_batch, val_batch)
        after = jax.tree.map(_strong, after)
        _check_kept(state, after)
        flat = metrics.flatten(info)
        return after, {name: _scalar(name, x) for name, x in flat.items()}

    # traced once: for the names of the metrics, and again out of the cache of jit
    step_once = jax.jit(one, inline=True)

    def dispatch(
        state: Any, sums: Any, feed: Any, data_key: jax.Array, step0: jax.Array
    ) -> Any:
        def body(carry: Any, step: jax.Array) -> Any:
            state, sums = carry
            state, info = step_once(state, feed, data_key, step)
            row = jnp.array([info[name] for name in sorted(info)], jnp.float32)
            return (state, jax.tree.map(jnp.add, sums, info)), row

        if length == 1:
            (state, sums), row = body((state, sums), step0)
            return state, sums, jnp.stack([row])
        steps = step0 + jnp.arange(length, dtype=jnp.int32)
        (state, sums), infos = jax.lax.scan(body, (state, sums), steps)
        return state, sums, infos

    def names(state: Any, feed: Any, data_key: jax.Array) -> tuple[str, ...]:
        step = jax.ShapeDtypeStruct((), jnp.int32)
        return tuple(sorted(jax.eval_shape(step_once, state, feed, data_key, step)[1]))

    def zeros(names: tuple[str, ...]) -> dict[str, jax.Array]:
        return {name: jnp.zeros((), jnp.float32) for name in names}

    return Program(
        dispatch=jax.jit(
            dispatch, donate_argnums=(0, 1), compiler_options=compiling.options()
        ),
        names=names,
        zeros=jax.jit(zeros, static_argnums=0),
    )


# few, for each entry keeps its step function, and what that closes over, alive
_build_cached = functools.lru_cache(maxsize=8)(_build)
_init_cached = functools.lru_cache(maxsize=4)(_init)


def _strong(leaf: Any) -> Any:
    """Drops the weak type of a Python number, else the second step would recompile."""
    leaf = jnp.asarray(leaf)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.lax.convert_element_type(leaf, leaf.dtype)


def _scalar(name: str, value: Any) -> jax.Array:
    value = jnp.asarray(value)
    if value.shape:
        raise JnasError(
            f"the info of a step must have scalars, got {name!r} of shape "
            f"{value.shape}: take a mean, or leave it out"
        )
    return value.astype(jnp.float32)


def _check_kept(before: Any, after: Any) -> None:
    """Raises a clear error if a step changes the structure of the state."""
    old = jax.tree_util.tree_flatten_with_path(before)
    new = jax.tree_util.tree_flatten_with_path(after)
    if old[1] != new[1]:
        raise JnasError(
            "step_fn must keep the structure of the state, got another one: compare "
            "what init_fn and step_fn return"
        )
    for (path, x), (_, y) in zip(old[0], new[0], strict=True):
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            raise JnasError(
                f"step_fn must keep the state's shapes and dtypes: "
                f"state{jax.tree_util.keystr(path)} got {y.dtype}{list(y.shape)}, "
                f"expected {x.dtype}{list(x.shape)}"
            )
