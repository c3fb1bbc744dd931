"""What every relaxation promises, over the registry and three spaces.

Compilation is nearly all that this costs, so each pair has two programs, which the
tests share: one sample at a time, and a scan over steps mapped over archs and keys.
"""

import functools
import math

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.key_reuse import _core as key_reuse

import jnas
from jnas.spaces import Group, Space

RAGGED = Group(
    "cell",
    ("none", "skip_connect", "nor_conv_1x1"),
    ((0, 1), (0, 2), (1, 2)),
    1,
    (2,),
    (
        ("skip_connect", "nor_conv_1x1"),
        ("none", "skip_connect", "nor_conv_1x1"),
        ("nor_conv_1x1",),
    ),
)
SPACES = {
    "nasbench201": jnas.spaces.nasbench201(),
    "darts": jnas.spaces.darts(),
    "ragged": Space("ragged", (RAGGED,)),
}
# Rows that do not sum to 1: gates are independent; top-k keeps its shares.
UNNORMALISED = ("sigmoid", "top_k")
DETERMINISTIC = ("softmax", "sigmoid", "top_k", "edge_normalised")
# A fair path is decided by the step; this one's arch phase is the softmax.
DECIDED = {"uniform_path-fair": ("weights", "arch"), "phased": ("arch",)}
PHASES = ("weights", "arch")
SIZES = (1e-3, 1.0, 30.0, 1e4)
KEYS = jax.random.split(jax.random.key(1), 8)
STEPS = jnp.arange(3) * 7


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


@pytest.fixture(params=conformance.RELAXATIONS)
def name(request):
    return request.param


def views_of(name, space, **context):
    """``{view: (arch, key, step) -> (mixture without active, active)}``."""
    relaxation = conformance.RELAXATIONS[name]()

    def sampled(phase):
        return lambda arch, key, step: relaxation.sample(
            arch, key=key, step=step, phase=phase, space=space, **context
        )

    views = {phase: sampled(phase) for phase in PHASES}
    views["probabilities"] = lambda arch, key, step: relaxation.probabilities(
        arch, space=space, **context
    )

    def split(view):
        def run(*args):
            mixture = views[view](*args)
            return mixture._replace(active=None), mixture.active

        return run

    return {view: split(view) for view in views}


def runner(name, space):
    """``(arch, key, step) -> {view: (mixture, gradient by arch)}``, all views.

    The gradient is that of a fixed linear function of all that it may go through.
    """

    def run(arch, key, step):
        results = {}
        for view, make in views_of(name, space).items():
            mixture, pull, active = jax.vjp(
                lambda arch, make=make: make(arch, key, step), arch, has_aux=True
            )
            seed = jax.tree.map(
                lambda x: np.cos(np.arange(x.size)).reshape(x.shape).astype(x.dtype),
                mixture,
            )
            results[view] = (mixture._replace(active=active), pull(seed)[0])
        return results

    return run


@functools.cache
def initial(name, space):
    return conformance.RELAXATIONS[name]().init(jax.random.key(0), space)


@functools.cache
def results(name, space):
    """Of the mapped scan, leaves ``[sizes, keys, steps, ...]``; and its archs."""
    rng = np.random.default_rng(0)
    archs = jax.tree.map(
        lambda x: jnp.stack(
            [
                jnp.asarray(size * rng.choice([-1.0, 0.0, 1.0], x.shape), x.dtype)
                for size in SIZES
            ]
        ),
        initial(name, space),
    )
    run = runner(name, space)

    def scanned(arch, key):
        return jax.lax.scan(lambda _, step: (None, run(arch, key, step)), None, STEPS)

    over_keys = jax.vmap(scanned, (None, 0))
    mapped = jax.jit(jax.vmap(over_keys, (0, None)))(archs, KEYS)[1]
    return jax.device_get(archs), jax.device_get(mapped)


def test_shapes_dtypes_and_sums(name, space):
    for arch in jax.tree.leaves(initial(name, space)):
        assert arch.dtype == jnp.float32 and np.isfinite(arch).all()
    for view, (mixture, _) in results(name, space)[1].items():
        assert isinstance(mixture, jnas.Mixture)
        assert mixture.auxiliary is None
        for field in ("weights", "edges", "active", "offsets"):
            value = getattr(mixture, field)
            assert value is None or set(value) == set(space.names)
        for group in space.groups:
            check_group(name, view, space, group, mixture)
        if view == "probabilities":
            assert mixture.active is None and mixture.offsets is None


def check_group(name, view, space, group, mixture):
    """One group of a mixture with leaves ``[sizes, keys, steps, ...]``."""
    weights = mixture.weights[group.name]
    assert weights.shape[3:] == (group.num_edges, group.num_operations)
    assert weights.dtype == np.float32
    assert not weights[..., ~group.allowed].any()
    # Where a node keeps some of its edges, a uniform path leaves the others out.
    keeps = space.keep is not None and view != "probabilities"
    keeps &= name.startswith("uniform_path") or (name, view) == ("phased", "weights")
    if keeps:
        kept = mixture.edges[group.name]
        for node in group.nodes:
            rows = list(group.incoming(node))
            assert (kept[..., rows].sum(-1) == space.keep).all()
        assert (weights.sum(-1) == kept).all()
    elif name not in UNNORMALISED or (name, view) == ("top_k", "probabilities"):
        np.testing.assert_allclose(weights.sum(-1), 1, atol=2e-6)
    if mixture.edges is not None and not keeps:
        for node in group.nodes:
            rows = list(group.incoming(node))
            total = mixture.edges[group.name][..., rows].sum(-1)
            np.testing.assert_allclose(total, 1, atol=1e-6)
    if mixture.active is not None:
        active = mixture.active[group.name]
        assert active.dtype == np.int32 and active.shape[3:-1] == (group.num_edges,)
        named = np.zeros(weights.shape, bool)
        np.put_along_axis(named, active, True, axis=-1)
        assert not weights[~named].any()
    if mixture.offsets is not None:
        assert mixture.offsets[group.name].shape[3:] == (group.num_edges,)


def test_values_and_gradients_are_finite_at_extreme_logits(name, space):
    archs, views = results(name, space)
    assert max(np.abs(x).max() for x in jax.tree.leaves(archs)) in (0.0, 1e4)
    for view, (mixture, grads) in views.items():
        for leaf in jax.tree.leaves((mixture, grads)):
            assert np.isfinite(leaf).all(), view
        logits = grads.get("operations", grads)
        for group in space.groups:  # what can't be chosen has no influence
            assert not logits[group.name][..., ~group.allowed].any(), view


def agree(name, space, run, places):
    archs, mapped = results(name, space)
    for size, key, step in places:
        arch = jax.tree.map(lambda x, i=size: x[i], archs)
        found = run(arch, KEYS[key], STEPS[step])
        same = jax.tree.map(lambda x, i=(size, key, step): x[i], mapped)
        conformance.trees_close(found, same, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "space", ["nasbench201", pytest.param("darts", marks=pytest.mark.slow)]
)
def test_jit_scan_and_vmap_agree_and_compile_once(name, space):
    single = jax.jit(runner(name, SPACES[space]))
    agree(name, SPACES[space], single, ((0, 0, 1), (1, 3, 2), (1, 0, 0)))
    assert single._cache_size() == 1


def test_eager_agrees(name):
    agree(name, SPACES["ragged"], runner(name, SPACES["ragged"]), ((1, 3, 2),))


def test_a_key_decides_the_sample(name, space):
    _, views = results(name, space)
    drawn = {phase: views[phase][0] for phase in PHASES}
    for phase, mixture in drawn.items():
        # At the smallest logits, where nothing is decided; over the keys.
        leaves = [np.asarray(x[0, :, 0]) for x in jax.tree.leaves(mixture)]
        varies = any(np.ptp(leaf, axis=0).any() for leaf in leaves)
        decided = name in DETERMINISTIC or phase in DECIDED.get(name, ())
        kept = name == "uniform_path-fair" and space.keep is not None
        assert varies == (not decided or kept), phase
    for leaf in jax.tree.leaves(views["probabilities"][0]):
        assert not np.ptp(leaf, axis=(1, 2)).any()


def test_unknown_keywords_change_nothing_and_the_key_is_consumed_once(name, space):
    arch, key, step = initial(name, space), jax.random.key(3), jnp.int32(4)
    plain, other = views_of(name, space), views_of(name, space, later=1)
    for view in plain:
        same = (str(jax.make_jaxpr(f[view])(arch, key, step)) for f in (plain, other))
        assert len(set(same)) == 1
        key_reuse.check_key_reuse(plain[view], arch, key, step)


def test_initial_arch_is_of_its_key(name, space):
    again, other = (
        conformance.RELAXATIONS[name]().init(jax.random.key(seed), space)
        for seed in range(2)
    )
    conformance.trees_close(initial(name, space), again, 0, 0)
    same = jax.tree.map(np.array_equal, initial(name, space), other)
    assert all(jax.tree.leaves(same)) == (
        name.startswith("uniform_path") or name == "sigmoid"
    )


def test_float64_arch_gives_float64_mixtures(name, x64):
    space = SPACES["nasbench201"]
    key = jax.eval_shape(lambda: jax.random.key(0))
    arch = jax.eval_shape(lambda k: conformance.RELAXATIONS[name]().init(k, space), key)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    for view, found in jax.eval_shape(runner(name, space), arch, key, step).items():
        for leaf in (*jax.tree.leaves(arch), *jax.tree.leaves(found)):
            assert leaf.dtype in (jnp.float64, jnp.int32), view


def test_lowers_for_tpu_and_cuda(name):
    space = SPACES["ragged"]
    run = runner(name, space)

    def raw(arch, key_data, step):
        return run(arch, jax.random.wrap_key_data(key_data), step)

    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    exported = jax.export.export(jax.jit(raw), platforms=("tpu", "cuda"))(
        initial(name, space), key, jax.ShapeDtypeStruct((), jnp.int32)
    )
    assert set(exported.platforms) == {"tpu", "cuda"}
    assert len(exported.mlir_module()) > 1000


def test_restricting_a_space_is_as_if_it_never_had_the_rest():
    """Softmax over the allowed candidates, by hand."""
    arch = {"cell": jnp.asarray([[5.0, 1.0, 2.0]] * 3)}
    found = jnas.relax.softmax().probabilities(arch, space=SPACES["ragged"])
    odds = math.e / (1 + math.e)
    np.testing.assert_allclose(found.weights["cell"][0], [0, 1 - odds, odds], rtol=1e-6)
    np.testing.assert_allclose(found.weights["cell"][2], [0, 0, 1])
    free = jnas.relax.softmax().probabilities(arch)
    np.testing.assert_allclose(free.weights["cell"][2], jax.nn.softmax(arch["cell"][2]))
