"""A toy that has all that a search has: momentum, noise, two batches, odd leaves."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

STEPS = 6
TX = optax.sgd(0.05, momentum=0.9)


class State(NamedTuple):
    weights: dict
    average: dict  # the same arrays as the weights at the start
    opt_state: optax.OptState
    key: jax.Array
    step: jax.Array
    half: jax.Array
    empty: jax.Array
    nothing: None


class Accuracy(NamedTuple):
    accuracy: jax.Array


class Info(NamedTuple):
    train_loss: jax.Array
    val_loss: jax.Array
    train_metrics: Accuracy
    extra: dict


class Feed(NamedTuple):
    inputs: np.ndarray
    targets: np.ndarray

    def __call__(self, key, step):
        rows = jax.random.permutation(jax.random.fold_in(key, step), 32)
        train, val = rows[:8], rows[8:16]
        return tuple((self.inputs[r], self.targets[r]) for r in (train, val))


def make_feed():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(32, 3)).astype(np.float32)
    return Feed(jnp.asarray(inputs), jnp.asarray(inputs @ np.ones(3, np.float32)))


def init_fn(key):
    weights_key, state_key = jax.random.split(key)
    weights = {"w": jax.random.normal(weights_key, (3,)), "b": jnp.zeros(())}
    return State(
        weights=weights,
        average=weights,
        opt_state=TX.init(weights),
        key=state_key,
        step=jnp.zeros((), jnp.int32),
        half=jnp.full((2,), -0.0, jnp.bfloat16),
        empty=jnp.zeros((0, 4)),
        nothing=None,
    )


def loss_fn(weights, batch):
    inputs, targets = batch
    return jnp.mean((inputs @ weights["w"] + weights["b"] - targets) ** 2)


def step_fn(state, train_batch, val_batch):
    key, noise_key = jax.random.split(state.key)
    loss, grads = jax.value_and_grad(loss_fn)(state.weights, train_batch)
    grads["w"] += 0.01 * jax.random.normal(noise_key, (3,))
    updates, opt_state = TX.update(grads, state.opt_state, state.weights)
    weights = optax.apply_updates(state.weights, updates)
    average = jax.tree.map(lambda a, w: 0.9 * a + 0.1 * w, state.average, weights)
    info = Info(
        train_loss=loss,
        val_loss=loss_fn(weights, val_batch),
        train_metrics=Accuracy(accuracy=jnp.exp(-loss)),
        extra={"noise": jax.random.uniform(noise_key), "none": None},
    )
    state = state._replace(
        weights=weights,
        average=average,
        opt_state=opt_state,
        key=key,
        step=state.step + 1,
        half=state.half * 2,
    )
    return state, info


def bits(tree):
    """The structure and the bytes of a tree, for exact comparison."""

    def one(leaf):
        dtype = str(leaf.dtype)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return dtype, leaf.shape, np.asarray(leaf).tobytes()

    return jax.tree.structure(tree), [one(leaf) for leaf in jax.tree.leaves(tree)]


def timeless(rows):
    """The rows without the times."""
    times = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in times} for row in rows]
