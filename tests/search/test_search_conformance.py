"""Every plug-in in a whole search: eager = jit = scan = vmap, one compile, export."""

import functools
import types

import chex
import conformance
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax import export

import jnas

BATCHES = [(tiny.batch(2 * i), tiny.batch(2 * i + 1)) for i in range(3)]


@pytest.fixture(params=list(conformance.SEARCHES))
def search(request):
    return conformance.SEARCHES[request.param]


def _run(step, state):
    infos = []
    for train, val in BATCHES:
        state, info = step(state, train, val)
        infos.append(info)
    return state, infos


def _init(search, seed=0):
    return search.init(jax.random.key(seed), BATCHES[0][0]["image"])


def test_jit_compiles_once_and_equals_eager(search):
    chex.clear_trace_counter()
    state = _init(search)
    eager, eager_infos = _run(search.step, state)
    step = jax.jit(chex.assert_max_traces(search.step, n=1))
    jitted, infos = _run(step, state)
    assert step._cache_size() == 1
    conformance.trees_close(eager, jitted)
    conformance.trees_close(eager_infos, infos)
    assert int(jitted.step) == 3
    assert all(np.isfinite(float(x)) for x in jax.tree.leaves(infos))


def test_scan_equals_jit(search):
    state = _init(search)
    expected, infos = _run(jax.jit(search.step), state)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *BATCHES)
    scanned, scanned_infos = jax.jit(
        lambda state, batches: jax.lax.scan(
            lambda s, b: search.step(s, *b), state, batches
        )
    )(state, stacked)
    conformance.trees_close(expected, scanned)
    conformance.trees_close(
        jax.tree.map(lambda *x: jnp.stack(x), *infos), scanned_infos
    )


def test_vmap_over_seeds_equals_single_runs(search):
    singles = [_init(search, seed) for seed in range(3)]
    many = jax.tree.map(lambda *x: jnp.stack(x), *singles)
    many = many._replace(step=singles[0].step)
    axes = jnas.search.seed_axes(many)
    step = jax.jit(
        jax.vmap(search.step, in_axes=(axes, None, None), out_axes=(axes, 0))
    )
    many, infos = _run(step, many)
    assert step._cache_size() == 1
    assert many.step.shape == ()
    for seed, single in enumerate(singles):
        expected, single_infos = _run(jax.jit(search.step), single)
        pick = functools.partial(jax.tree.map, lambda x, i=seed: x[i])
        one = pick(many._replace(step=jnp.stack([many.step] * 3)))
        conformance.trees_close(expected, one, rtol=1e-5)
        conformance.trees_close(single_infos, pick(infos), rtol=1e-5)


def test_eval_shape_agrees_and_accepts_shapes(search):
    image = jax.ShapeDtypeStruct(BATCHES[0][0]["image"].shape, jnp.float32)
    shapes = jax.eval_shape(search.init, jax.random.key(0), image)
    state = _init(search)
    after = jax.eval_shape(search.step, shapes, *BATCHES[0])[0]
    for a, b, c in zip(*map(jax.tree.leaves, (shapes, state, after)), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype) == (c.shape, c.dtype)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_step_lowers_for_accelerators(search, platform):
    exported = export.export(jax.jit(_raw_keys(search)), platforms=[platform])(
        _key_data(_init(search)), *BATCHES[0]
    )
    assert platform in exported.platforms and len(exported.mlir_module()) > 1000


def _key_data(state):
    return state._replace(key=jax.random.key_data(state.key))


def _raw_keys(search):
    """The step on raw key data, which `jax.export` can serialise."""

    def step(state, train, val):
        state = state._replace(key=jax.random.wrap_key_data(state.key))
        state, info = search.step(state, train, val)
        return _key_data(state), info

    return step


def test_same_key_same_run_other_key_other_run(search):
    a, b, c = (_init(search, seed) for seed in (0, 0, 1))
    conformance.trees_close(a, b, rtol=0, atol=0)
    assert not np.array_equal(a.weights["dense"], c.weights["dense"])


def test_derive_gives_a_member_of_the_space(search):
    genotype = search.derive(_init(search))
    assert isinstance(genotype, jnas.Genotype)
    assert tiny.SPACE.valid(tiny.SPACE.encode(genotype))


@pytest.mark.parametrize("room", conformance.ROOMS, ids=lambda m: m.__name__)
def test_registry_is_complete(room: types.ModuleType):
    factories = {n for n in room.__all__ if n[0].islower()}
    assert factories <= set(conformance.ROOMS[room]) | conformance.SCHEDULES


def test_registry_has_every_preset():
    assert set(jnas.presets.names()) == set(conformance.PRESETS)
