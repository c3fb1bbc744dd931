"""What the parity tests share: layouts, comparisons, and two evaluations of a network.

The numbers of the papers' code are compared with what the package computes by its
stacked operations, and with the plain evaluation per edge and operation that the
supernet's own tests use (tests/supernet/reference.py).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from supernet import reference

from jnas.mixture import Mixture, effective_weights

COMPILE_FAST = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
# Relative to the largest value of each array.
TOLERANCE = {jnp.float64: 1e-9, jnp.float32: 1e-4}
# Arrays that are stored rounded to float32.
ROUNDED = 1e-7


def jit(function, **options):
    return jax.jit(function, compiler_options=COMPILE_FAST, **options)


def images(array, dtype):
    """From [B, C, H, W] to [B, H, W, C]."""
    return jnp.asarray(np.asarray(array).transpose(0, 2, 3, 1), dtype)


def batch(arrays, name, dtype):
    """The batch stored as ``in/x<name>`` and ``in/y<name>``."""
    label = jnp.asarray(arrays[f"in/y{name}"], jnp.int32)
    return {"image": images(arrays[f"in/x{name}"], dtype), "label": label}


def assert_close(got, expected, tolerance, name="", floor=0.0):
    """``floor``: what to measure by where the expected value may be exactly zero."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, (name, got.shape, expected.shape)
    scale = max(np.abs(expected).max(initial=0), floor)
    deviation = np.abs(got - expected).max(initial=0)
    # Written so that a NaN fails.
    assert deviation <= tolerance * scale, f"{name}: {deviation:.2e} of {scale:.2e}"


def assert_dicts_close(got, expected, tolerance, floor=0.0):
    assert set(got) == set(expected), sorted(set(got) ^ set(expected))[:5]
    for name, value in expected.items():
        assert_close(got[name], value, tolerance, name, floor)


def buffers(state):
    """What an optax state remembers, by field: "trace", "mu", "nu", "count"."""
    found = {}
    if isinstance(state, tuple):
        for field in getattr(state, "_fields", ()):
            found[field] = getattr(state, field)
        for child in state:
            found |= buffers(child)
    return found


def plain(net):
    """The same network, evaluated edge by edge and operation by operation."""
    space, (kind, *more) = net.space, net.space.names
    if more:
        size = net.config["cells"]
        kinds, network = reference.darts_kinds(size), reference.darts
    else:
        size = net.config["cells_per_stage"]
        kinds, network = [kind] * 3 * size, reference.nasbench201

    def apply(weights, model_state, mixture, inputs, *, train, statistics=None, **_):
        rows = effective_weights(mixture, space, net.cells)
        values = reference.unstack(space, kinds, weights)
        tree = model_state["batch_stats"]
        batch = (statistics or ("batch" if train else "running")) == "batch"

        def terms(kind, index):
            return reference.mixture_terms(space.group(kind), rows[kind][index])

        logits, new = network(
            space,
            size,
            values,
            reference.unstack_statistics(space, kinds, tree),
            inputs,
            terms,
            batch,
        )
        if batch:
            tree = _restack_statistics(space, kinds, new, tree)
        return logits, {**model_state, "batch_stats": tree}

    return net._replace(apply=apply)


def _restack_statistics(space, kinds, statistics, like):
    """The inverse of `reference.unstack_statistics`."""

    def fill(path, leaf):
        keys = [entry.key for entry in path]
        if keys[0] == "skeleton":
            return statistics[tuple(keys[:-1])][keys[-1] == "var"]
        cell, operation, name = keys
        kind = kinds[int(cell.removeprefix("cell_"))]
        group = space.group(kind)
        if operation in reference.POOLS:
            sources = [source for source, _ in group.edges]
            edges = [sources.index(source) for source in sorted(set(sources))]
        else:
            edges = reference.row_edges(group, operation, kind == "reduce")
        norm, half = name.rsplit("_", 1)
        rows = [statistics[cell, e, operation, norm][half == "var"] for e in edges]
        assert len(rows) == len(leaf), keys
        return jnp.stack(rows)

    return jax.tree_util.tree_map_with_path(fill, like)


def compiled(net):
    """The same network; its forward and its backward pass compile once.

    A search differentiates the network by arch in one half-step and by the weights in
    the other, which would be two large programs. The rest of a step is not compiled.
    """

    @functools.partial(jit, static_argnums=4)
    def forward(weights, rows, model_state, inputs, statistics):
        def run(weights, rows):
            return net.apply(
                weights,
                model_state,
                Mixture(rows),
                inputs,
                train=True,
                statistics=statistics,
            )

        outputs, pull, model_state = jax.vjp(run, weights, rows, has_aux=True)
        return (outputs, model_state), pull

    backward = jit(lambda pull, cotangent: pull(cotangent))

    @functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
    def passes(weights, rows, model_state, inputs, statistics):
        return forward(weights, rows, model_state, inputs, statistics)[0]

    def backwards(statistics, pull, cotangents):
        del statistics
        return *backward(pull, cotangents[0]), None, None

    passes.defvjp(forward, backwards)

    def apply(weights, model_state, mixture, inputs, *, train, statistics=None, **_):
        statistics = statistics or ("batch" if train else "running")
        return passes(weights, mixture.weights, model_state, inputs, statistics)

    return net._replace(apply=apply)
