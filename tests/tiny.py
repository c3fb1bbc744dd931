"""A registered tiny supernet: 3 edges between 3 states of feature vectors.

Small enough to compile in a fraction of a second, and written by hand against the
contract only, so that the conformance suites do not depend on the shipped networks.
"""

import jax
import jax.numpy as jnp

import jnas
from jnas.mixture import resolve
from jnas.spaces import Group, Space
from jnas.supernet import Supernet, Variables

OPERATIONS = ("none", "skip_connect", "dense")
SPACE = Space("tiny", (Group("cell", OPERATIONS, ((0, 1), (0, 2), (1, 2)), 1, (2,)),))
FEATURES, CLASSES = 6, 4


def tiny_supernet(dtype=jnp.float32) -> Supernet:
    """Two cells, one after the other, each with its own dense layers."""
    names, cells = ("dense", "dense1"), {"cell": 2}

    def init(key, inputs):
        del inputs
        keys = jax.random.split(key, 3)
        weights = {
            name: jax.random.normal(k, (3, FEATURES, FEATURES), dtype) / 3
            for name, k in zip(names, keys, strict=False)
        }
        weights["out"] = jax.random.normal(keys[2], (FEATURES, CLASSES), dtype) / 3
        return Variables(weights, {"batch_stats": jnp.zeros((FEATURES,), dtype)})

    def apply(
        weights,
        model_state,
        mixture,
        inputs,
        *,
        train,
        statistics=None,
        rates=None,
        key=None,
        **context,
    ):
        del rates, key, context
        mixed = resolve(mixture, SPACE, cells, auxiliary=True)
        beside = jnp.zeros(3, inputs.dtype)
        if mixed.auxiliary is not None:
            beside = mixed.auxiliary["cell"].astype(inputs.dtype)
        x = inputs.reshape(inputs.shape[0], -1)[:, :FEATURES]
        for cell, name in enumerate(names):
            x = one_cell(
                x, mixed.weights["cell"][cell].astype(x.dtype), beside, weights[name]
            )
        statistics = statistics or ("batch" if train else "running")
        mean = model_state["batch_stats"]
        if statistics == "batch":
            mean = 0.9 * mean + 0.1 * jnp.mean(x, axis=0)
            model_state = {"batch_stats": jax.lax.stop_gradient(mean)}
        return x @ weights["out"], model_state

    def one_cell(x, w, beside, dense):
        states = [x]
        for target in (1, 2):
            total = jnp.zeros_like(x)
            for e, (source, end) in enumerate(SPACE.groups[0].edges):
                if end == target:
                    x = states[source]
                    total += (w[e, 1] + beside[e]) * x
                    total += w[e, 2] * jnp.tanh(x @ dense[e])
            states.append(total)
        return states[-1]

    def op_sum(tree):
        sums = jnp.stack(
            [jnp.sum(tree[n], axis=tuple(range(1, tree[n].ndim))) for n in names]
        )
        return {"cell": jnp.zeros((2, 3, 3)).at[:, :, 2].set(sums)}

    def op_mask(mask):
        dense = mask["cell"][:, :, 2].reshape(2, 3, 1, 1)
        return {"dense": dense[0], "dense1": dense[1], "out": jnp.ones(())}

    return Supernet(
        SPACE,
        init,
        apply,
        op_sum,
        op_mask,
        cells,
        config={"space": "tiny", "auxiliary_skip": True},
    )


def batch(seed: int, size: int = 8, dtype=jnp.float32) -> dict:
    keys = jax.random.split(jax.random.key(seed))
    return {
        "image": jax.random.normal(keys[0], (size, FEATURES), dtype),
        "label": jax.random.randint(keys[1], (size,), 0, CLASSES),
    }


def tiny_search(**options) -> jnas.search.Search:
    options.setdefault("weight_tx", jnas.optimizers.coupled_sgd(0.1))
    options.setdefault("arch_tx", jnas.optimizers.coupled_adam(0.01))
    return jnas.search.differentiable(tiny_supernet(), **options)
