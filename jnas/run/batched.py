"""Several seeds in one program: the step, the first state and the feed, mapped.

Every seed has the key, the order of the data and the numbers of its single run; only
the number of the step is common to all. Over a mesh with the axis "seed" each device
maps its share of the seeds and none waits for another.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas import search as searches
from jnas.run import metrics
from jnas.run.phases import Phases

__all__ = ["Mapped", "feed", "mapped", "mesh", "one", "padded", "placing", "start"]

AXIS = "seed"
_SPREAD, _COMMON = jax.P(AXIS), jax.P()


def mesh(count: int, devices: list[Any]) -> jax.sharding.Mesh:
    """A mesh for some seeds, of no more devices than are needed.

    Args:
      count: how many seeds.
      devices: that may be used.

    Returns:
      The mesh; all but the last device have equally many seeds, and none has more.

    Example:
      >>> dict(mesh(3, jax.devices()[:1]).shape)
      {'seed': 1}
    """
    share = -(-count // len(devices))
    used = devices[: -(-count // share)]
    kinds = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(used),), (AXIS,), axis_types=kinds, devices=used)


def padded(seeds: tuple[int, ...], over: jax.sharding.Mesh | None) -> tuple[int, ...]:
    """The seeds, and the last one again until all devices have equally many.

    Args:
      seeds: the seeds.
      over: the mesh, or None for one device.

    Returns:
      The seeds that are computed.

    Example:
      >>> padded((0, 1, 2), None)
      (0, 1, 2)
    """
    size = 1 if over is None else over.size
    return seeds + seeds[-1:] * (-len(seeds) % size)


class Mapped(NamedTuple):
    """A step of all seeds; of equal parts, it is equal, so that programs are shared.

    Attributes:
      step_fn: ``(state, train_batch, val_batch) -> (state, info)`` of one seed.
      seeds: those that are reported.
      over: the mesh, or None for one device.
    """

    step_fn: Callable[..., Any]
    seeds: tuple[int, ...]
    over: jax.sharding.Mesh | None = None

    def __call__(
        self, state: searches.SearchState, train_batch: Any, val_batch: Any
    ) -> tuple[searches.SearchState, dict[str, jax.Array]]:
        """One step; ``info`` has every metric of each seed, and its mean over them."""
        step = functools.partial(_own, self.step_fn, searches.seed_axes(state))
        if self.over is not None:
            specs = _specs(state)
            step = jax.shard_map(
                step,
                mesh=self.over,
                in_specs=(specs, _SPREAD, _SPREAD),
                out_specs=(specs, _SPREAD),
                check_vma=False,
            )
        state, info = step(state, train_batch, val_batch)
        told = {
            metrics.of_seed(name, seed): values[i]
            for name, values in info.items()
            for i, seed in enumerate(self.seeds)
        }
        number = len(self.seeds)
        return state, told | {n: jnp.mean(x[:number]) for n, x in info.items()}


def _own(step_fn: Any, axes: Any, state: Any, train_batch: Any, val_batch: Any) -> Any:
    """The step of the seeds of one device; leading axis: these seeds."""

    def step(state, train_batch, val_batch):
        state, info = step_fn(state, train_batch, val_batch)
        return state, metrics.flatten(info)

    if state.key.shape == (1,):  # what is not mapped keeps its switches
        bare = jax.tree.map(lambda x: x[0], _stepless(state))
        batches = jax.tree.map(lambda x: x[0], (train_batch, val_batch))
        after, info = step(bare._replace(step=state.step), *batches)
        rest = jax.tree.map(lambda x: x[None], (_stepless(after), info))
        return rest[0]._replace(step=after.step), rest[1]
    return jax.vmap(step, in_axes=(axes, 0, 0), out_axes=(axes, 0))(
        state, train_batch, val_batch
    )


def mapped(step: Any, seeds: tuple[int, ...], over: jax.sharding.Mesh | None) -> Any:
    """The steps of all seeds.

    Args:
      step: a step function of one seed, or `Phases`.
      seeds: those that are reported.
      over: the mesh, or None for one device.

    Returns:
      The like, of all seeds.

    Example:
      >>> mapped(max, (0, 1), None) == Mapped(max, (0, 1))
      True
    """
    if isinstance(step, Phases):
        return step._replace(
            both=Mapped(step.both, seeds, over),
            weights=Mapped(step.weights, seeds, over),
        )
    return Mapped(step, seeds, over)


def start(init: Callable[..., Any], seeds: tuple[int, ...]) -> Callable[..., Any]:
    """Makes the first states of all seeds, one after another, as their runs do.

    Args:
      init: ``(key) -> state`` of one seed.
      seeds: those that are computed.

    Returns:
      ``(key) -> state``; the key is not used. Leaves ``[S, ...]``, but for ``step``.
    """
    make = (
        jax.tree_util.Partial  # its arrays are to be no constants of the program
        if isinstance(init, jax.tree_util.Partial)
        else functools.partial
    )
    return make(_Starts(seeds), init)


class _Starts(NamedTuple):
    seeds: tuple[int, ...]

    def __call__(self, init: Callable[..., Any], key: jax.Array) -> Any:
        del key
        states = jax.lax.map(init, _keys(self.seeds, 0))
        return states._replace(step=states.step[0])


def feed(one: Any, seeds: tuple[int, ...], over: jax.sharding.Mesh | None) -> Any:
    """Feeds every seed the batches of its single run.

    Args:
      one: the feed of one seed, a pytree.
      seeds: those that are computed.
      over: the mesh, or None for one device.

    Returns:
      ``(key, step) -> (train_batch, val_batch)``, leaves ``[S, ...]``; the key is not
      used.
    """
    keys = _keys(seeds, 1)
    if over is not None:
        one = jax.device_put(one, jax.NamedSharding(over, _COMMON))
        keys = jax.device_put(keys, jax.NamedSharding(over, _SPREAD))
    return jax.tree_util.Partial(_Feeds(over), one, keys)


class _Feeds(NamedTuple):
    over: jax.sharding.Mesh | None

    def __call__(self, one: Any, keys: Any, key: Any, step: Any) -> Any:
        del key

        def all_of(one, keys, step):
            return jax.vmap(one, in_axes=(0, None))(keys, step)

        if self.over is not None:
            all_of = jax.shard_map(
                all_of,
                mesh=self.over,
                in_specs=(_COMMON, _SPREAD, _COMMON),
                out_specs=_SPREAD,
                check_vma=False,
            )
        return all_of(one, keys, step)


def _keys(seeds: tuple[int, ...], use: int) -> jax.Array:
    """The seeds' keys of a use, as `jnas.run.loop` derives them."""
    return jnp.stack([jax.random.fold_in(jax.random.key(s), use) for s in seeds])


def placing(over: jax.sharding.Mesh) -> Callable[[Any], Any]:
    """Makes what puts a state of all seeds on its devices.

    Args:
      over: the mesh.

    Returns:
      ``(tree) -> tree``; scalars come to all devices.

    Example:
      >>> put = placing(mesh(1, jax.devices()[:1]))
      >>> put({"x": jnp.ones(1)})["x"].sharding.spec
      P('seed',)
    """
    spread = jax.NamedSharding(over, _SPREAD)
    common = jax.NamedSharding(over, _COMMON)

    def place(tree: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.device_put(x, spread if x.ndim else common), tree
        )

    return place


def _specs(state: searches.SearchState) -> searches.SearchState:
    return jax.tree.map(lambda _: _SPREAD, state)._replace(step=_COMMON)


@jax.jit
def _pick(state: Any, index: jax.Array) -> Any:
    return jax.tree.map(lambda x: x[index], state)


def one(state: searches.SearchState, index: int) -> searches.SearchState:
    """The state of one seed, in buffers of its own on the first device.

    Args:
      state: of all seeds.
      index: of the seed.

    Returns:
      Its state.
    """
    picked = _pick(_stepless(state), jnp.int32(index))
    # a copy, for the state of all is donated by the next step
    picked = picked._replace(step=jnp.array(state.step, copy=True))
    return jax.device_put(picked, jax.local_devices()[0])


def _stepless(state: Any) -> Any:
    """What is of each seed."""
    return state._replace(step=None)
