"""DARTS' network with the fixed reduction cells of GDAS (FRC)."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax import lax

import jnas
from jnas import cost, supernet
from jnas.mixture import Mixture
from jnas.spaces import Cell, Edge, Genotype, Group, Space
from jnas.supernet import fixed_reduction

FRC = jnas.spaces.darts_frc()
COMPILE_FAST = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
LABELS = np.array([3, 1, 0, 7, 1])


def tiny_space():
    """One node: the fixed cells are what is tested."""
    group = Group("normal", ("none", "skip_connect", "sep_conv_3x3"), ((0, 2), (1, 2)),
                  2, (2,))  # fmt: skip
    return Space("tiny_frc", (group,), keep=2, never=("none",), fixed=("reduce",))


TINY = tiny_space()
CELL = Cell((Edge("skip_connect", 0, 2), Edge("sep_conv_3x3", 1, 2)), (2,))
GENOTYPE = Genotype("tiny_frc", (("normal", CELL),))


def shapes_of(net, image=32, colours=3):
    like = jax.ShapeDtypeStruct((2, image, image, colours), jnp.float32)
    return jax.eval_shape(net.init, jax.random.key(0), like)


def random_like(shapes, dtype, seed=2):
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        value = jnp.asarray(rng.normal(0, 0.7, leaf.shape), dtype)
        return abs(value) + 0.5 if path[-1].key.endswith("var") else value

    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.mark.parametrize("channels, groups", [(8, 8), (16, 8), (6, 2), (3, 1)])
def test_joined_kernel_is_both_grouped_convolutions(x64, channels, groups):
    rng = np.random.default_rng(0)
    size = channels // groups
    assert fixed_reduction.groups_of(channels) == groups
    x = jnp.asarray(rng.normal(size=(2, 8, 12, channels)))
    across = jnp.asarray(rng.normal(size=(1, 3, size, channels)))
    down = jnp.asarray(rng.normal(size=(3, 1, size, channels)))
    conv = functools.partial(
        lax.conv_general_dilated,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    y = conv(x, across, (1, 2), [(0, 0), (1, 1)])
    y = conv(y, down, (2, 1), [(1, 1), (0, 0)])
    joined = fixed_reduction.joined_kernel(across, down)
    found = supernet.kernels.conv(x, joined, 2)
    assert found.shape == (2, 4, 6, channels)
    np.testing.assert_allclose(found, y, rtol=1e-12, atol=1e-12)


def added(channels, before, last, affine):
    """The weights of a fixed cell with its preprocessing."""
    convs = 2 * (6 * channels**2 // math.gcd(8, channels) + channels**2)
    norms = 2 * channels * (6 + 2) if affine else 0
    return convs + norms + (before + last) * channels


@pytest.mark.parametrize("channels, cells", [(16, 8), (36, 20), (6, 5)])
def test_counts_of_final_networks(channels, cells):
    genotype = FRC.decode(FRC.random(3))
    net = jnas.networks.build(genotype, channels=channels, cells=cells)
    weights = shapes_of(net).weights
    counted = cost.count(genotype, channels=channels, cells=cells)
    assert cost.num_parameters(weights) == counted.parameters
    for position, c in ((cells // 3, 2 * channels), (2 * cells // 3, 4 * channels)):
        own = {k: v for k, v in weights.items() if k == f"cell_{position}"}
        pre = [f"preprocess{i}_{position}" for i in (0, 1)]
        own |= {k: v for k, v in weights["skeleton"].items() if k in pre}
        before = 4 * c // 2 if position > 1 else 3 * channels
        assert cost.num_parameters(own) == added(c, before, 4 * c // 2, True)
    table = cost.operation_costs(FRC, channels=channels, cells=cells)
    assert list(table.parameters) == ["normal"]
    assert table.parameters["normal"].shape == (cells - 2, 14, 8)
    assert table.expected(FRC.one_hot(genotype)) == counted


def test_multiply_adds_are_those_of_the_published_convolutions():
    empty = Genotype("x", (("normal", Cell((Edge("skip_connect", 0, 2),), (2,))),))
    found = cost.count(empty, channels=8, cells=3, image_shape=(16, 12, 3))
    # stem, preprocessing and fixed cells by hand; widths 8, 16, 32
    total = 16 * 12 * (27 * 24 + 2 * 24 * 8)
    for c, before, last, height, width in ((16, 24, 8, 16, 12), (32, 8, 64, 8, 6)):
        # the older state, where larger, is halved first, at the newer one's size
        total += height * width * (before + last) * c
        grouped, area = 3 * c * c // 8, height * width
        total += 2 * (grouped * area // 2 + (grouped + c * c) * area // 4)
    total += 128 * 10 + 10
    assert found.multiply_adds == total


def test_supernet_counts_and_addresses():
    net = supernet.build(FRC)
    weights = shapes_of(net).weights
    assert net.cells == {"normal": 6}
    expected = cost.supernet_parameters("darts_frc", channels=16, cells=8)
    assert cost.num_parameters(weights) == expected
    searched = cost.supernet_parameters("darts", channels=16, cells=8)
    assert expected < searched
    net = supernet.build(TINY, channels=4, cells=3)
    mask = net.op_mask({"normal": np.zeros((1, 2, 3))})
    assert float(mask["cell_2"]["halving0"]["conv0"]) == 1.0
    assert np.all(mask["cell_0"]["sep_conv_3x3"]["depthwise0"] == 0)
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape), shapes_of(net).weights)
    sums = net.op_sum(ones)
    assert list(sums) == ["normal"] and sums["normal"].shape == (1, 2, 3)
    # sep_conv_3x3 alone has weights: twice 9 C + C^2
    np.testing.assert_array_equal(sums["normal"][0, :, 2], [104, 104])


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_supernet_is_the_plain_network(x64, statistics):
    net = supernet.build(TINY, channels=4, cells=3, dtype=jnp.float64)
    kinds = reference.darts_kinds(3)
    assert kinds == ["normal", "reduce", "reduce"]
    rng = np.random.default_rng(1)
    images = jnp.asarray(rng.normal(size=(len(LABELS), 8, 8, 3)))
    rows = jnp.asarray(rng.uniform(0.1, 1, (2, 3)))
    like = jax.ShapeDtypeStruct(images.shape, jnp.float64)
    shapes = jax.eval_shape(net.init, jax.random.key(0), like)
    variables = random_like(shapes, jnp.float64)

    def own_statistics(state):
        return reference.unstack_statistics(TINY, kinds, state["batch_stats"])

    old = own_statistics(variables.model_state)

    def shipped(weights, rows):
        logits, state = net.apply(
            weights, variables.model_state, Mixture({"normal": rows}), images,
            train=True, statistics=statistics,
        )  # fmt: skip
        return reference.cross_entropy(logits, LABELS), own_statistics(state)

    def plain(weights, rows):
        logits, new = reference.darts(
            TINY, 3, reference.unstack(TINY, kinds, weights), old, images,
            lambda kind, index: reference.mixture_terms(TINY.group(kind), rows),
            statistics == "batch",
        )  # fmt: skip
        return reference.cross_entropy(logits, LABELS), new

    results = [
        jax.jit(
            jax.value_and_grad(f, (0, 1), has_aux=True), compiler_options=COMPILE_FAST
        )(variables.weights, rows)
        for f in (shipped, plain)
    ]
    (loss, new), grads = results[0]
    (plain_loss, plain_new), plain_grads = results[1]
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-10)
    largest = max(float(abs(g).max()) for g in jax.tree.leaves(plain_grads))
    assert largest > 1e-3
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10 * largest),
        grads,
        plain_grads,
    )
    if statistics == "batch":
        for key, pair in new.items():
            np.testing.assert_allclose(pair, plain_new[key], rtol=1e-9, atol=1e-11)
    halves = grads[0]["cell_1"]["halving0"]
    assert all(float(abs(halves[k]).max()) > 0 for k in ("conv0", "conv1", "pointwise"))


def test_sampled_evaluation_is_the_dense_one(x64):
    net = supernet.build(TINY, channels=4, cells=3, dtype=jnp.float64)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 8, 3)))
    shapes = jax.eval_shape(net.init, jax.random.key(0), images)
    weights, state = random_like(shapes, jnp.float64)
    rows = jnp.asarray([[0, 0, 0.7], [0, 0.4, 0]])
    active = {"normal": jnp.asarray([[2], [1]], jnp.int32)}
    run = jax.jit(
        functools.partial(net.apply, train=True), compiler_options=COMPILE_FAST
    )
    dense, _ = run(weights, state, Mixture({"normal": rows}), images)
    sampled, _ = run(weights, state, Mixture({"normal": rows}, active=active), images)
    np.testing.assert_allclose(sampled, dense, rtol=1e-10)


def test_a_sampled_search_step_runs():
    net = supernet.build(TINY, channels=2, cells=3, num_classes=2)
    search = jnas.search.differentiable(
        net,
        relaxation=jnas.relax.gumbel_hard(),
        weight_tx=jnas.optimizers.coupled_sgd(0.1),
        arch_tx=jnas.optimizers.coupled_adam(0.1),
    )
    batch = {"image": jnp.ones((2, 8, 8, 1)), "label": jnp.array([0, 1])}
    state = jax.eval_shape(search.init, jax.random.key(0), batch["image"])
    new, metrics = jax.eval_shape(search.step, state, batch, batch)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert metrics


def test_a_bad_fixed_cell_is_refused():
    group = TINY.groups[0]
    for name, fixed in (("normal", ("other",)), ("cell", ("reduce",))):
        with pytest.raises(jnas.errors.JnasError, match="fixed must be"):
            Space("x", (dataclasses.replace(group, name=name),), fixed=fixed)
    with pytest.raises(jnas.errors.JnasError, match="takes cells="):
        supernet.build(FRC, cells_per_stage=1)


def test_texts_and_json_of_genotypes():
    genotype = FRC.decode(FRC.random(5))
    text = genotype.to_text()
    assert text.startswith("Genotype(normal=[") and "reduce" not in text
    for form in (text, genotype.to_json()):
        assert Genotype.parse(form) == genotype
    assert FRC.decode(FRC.encode(genotype)) == genotype
    assert genotype.is_darts_like and FRC.is_darts_like
    assert not jnas.spaces.nasbench201().is_darts_like
