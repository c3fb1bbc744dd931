"""Cells of final networks against a plain evaluation, edge by edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

import jnas
from jnas.networks import cells
from jnas.spaces import Cell, Edge
from jnas.supernet import initial, operations

CHANNELS = 4
LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel, stride=1, dilation=1, groups=1, pads=None):
    pads = pads or [(dilation * (k // 2),) * 2 for k in kernel.shape[:2]]
    stride = stride if isinstance(stride, tuple) else (stride, stride)
    return lax.conv_general_dilated(
        x,
        kernel,
        stride,
        pads,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def pool(x, start, combine, stride):
    window, strides = (1, 3, 3, 1), (1, stride, stride, 1)
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    start = np.asarray(start, x.dtype)
    return lax.reduce_window(x, start, combine, window, strides, pads)


class PlainNorms:
    """One edge's batch normalisations, by definition; collects the new statistics."""

    def __init__(self, weights, stats, statistics):
        self.weights, self.stats, self.statistics = weights, stats, statistics
        self.new = {}

    def __call__(self, name, y):
        mean, var = self.stats[name]["mean"], self.stats[name]["var"]
        if self.statistics == "batch":
            count = y.shape[0] * y.shape[1] * y.shape[2]
            new_mean, new_var = jnp.mean(y, (0, 1, 2)), jnp.var(y, (0, 1, 2))
            self.new[name] = {
                "mean": 0.9 * mean + 0.1 * new_mean,
                "var": 0.9 * var + 0.1 * new_var * count / (count - 1),
            }
            mean, var = new_mean, new_var
        scale, bias = self.weights[name]["scale"], self.weights[name]["bias"]
        mean, var, scale, bias = (v[None, None, None] for v in (mean, var, scale, bias))
        return (y - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def operate(operation, weights, norm, x, stride):
    if operation == "none":
        return jnp.zeros_like(x[:, ::stride, ::stride])
    if operation == "max_pool_3x3":
        return pool(x, -np.inf, lax.max, stride)
    if operation == "avg_pool_3x3":
        total, ones = pool(x, 0, lax.add, stride), jnp.ones_like(x)
        return total / pool(ones, 0, lax.add, stride)
    if operation == "skip_connect":
        if stride == 1:
            return x
        x = jax.nn.relu(x)
        even = conv(x, weights["even"][None, None], 2)
        odd = conv(x[:, 1:, 1:], weights["odd"][None, None], 2)
        return norm("norm", jnp.concatenate([even, odd], -1))
    if operation == "conv_7x1_1x7":
        x = jax.nn.relu(x)
        x = conv(x, weights["kernel0"], (1, stride), pads=[(0, 0), (3, 3)])
        x = conv(x, weights["kernel1"], (stride, 1), pads=[(3, 3), (0, 0)])
        return norm("norm", x)
    if operation.startswith("nor_conv"):
        return norm("norm", conv(jax.nn.relu(x), weights["kernel"], stride))
    repeats, dilation = (2, 1) if operation.startswith("sep") else (1, 2)
    for i in range(repeats):
        depthwise = weights[f"depthwise{i}"][:, :, None]
        x = jax.nn.relu(x)
        x = conv(x, depthwise, 1 if i else stride, dilation, groups=CHANNELS)
        x = norm(f"norm{i}", conv(x, weights[f"pointwise{i}"][None, None]))
    return x


def plain(cell, variables, inputs, reduction, statistics, scales):
    """The output and the new statistics."""
    states, new = dict(enumerate(inputs)), {}
    for node in sorted({e.target for e in cell.edges}):
        total = 0
        for index, (operation, source, target) in enumerate(cell.edges):
            if target != node:
                continue
            stride = 2 if reduction and source < len(inputs) else 1
            name = f"edge{index}_{operation}"
            weights = variables["params"].get(name, {})
            stats = variables["batch_stats"].get(name, {})
            norm = PlainNorms(weights, stats, statistics)
            y = operate(operation, weights, norm, states[source], stride)
            if not (operation == "skip_connect" and stride == 1):
                y = y * scales[index][:, None, None, None]
            total = total + y
            if norm.new:
                new[name] = norm.new
        states[node] = total
    return jnp.concatenate([states[s] for s in cell.concat], -1), new


def perturbed(variables):
    """Variables away from their initial constants, so that each of them shows."""
    rng = np.random.default_rng(7)
    return jax.tree.map(
        lambda x: x + rng.uniform(0.1, 0.5, x.shape).astype(x.dtype), variables
    )


def make(cell, inputs, reduction, images=2, size=8):
    module = cells.GenotypeCell(cell, inputs, CHANNELS, reduction)
    keys = jax.random.split(jax.random.key(1), inputs)
    shape = (images, size, size, CHANNELS)
    states = [jax.random.normal(k, shape) for k in keys]

    def init(key):
        return module.init(key, states, "batch", False, None)

    key = jax.random.key(0)
    if "params" not in jax.eval_shape(init, key):
        return module, {}, states
    return module, perturbed(initial.initial_variables(init, key)), states


MIXED = Cell(
    (
        Edge("dil_conv_3x3", 0, 2),
        Edge("skip_connect", 0, 2),
        Edge("dil_conv_5x5", 1, 3),
        Edge("none", 2, 3),
        Edge("none", 0, 4),
        Edge("avg_pool_3x3", 1, 5),  # the same twice, as in NASNet
        Edge("avg_pool_3x3", 1, 5),
        Edge("sep_conv_5x5", 0, 5),
    ),
    (2, 3, 4, 5),
)


@pytest.mark.parametrize(
    ("name", "kind", "statistics"),
    [
        # sep 7x7, conv 7x1 1x7, pools, concat in part
        ("AmoebaNet", "reduce", "batch"),
        ("AmoebaNet", "reduce", "running"),
        ("mixed", "reduce", "batch"),
        ("mixed", "normal", "running"),
        pytest.param("PNASNet5", "reduce", "batch", marks=pytest.mark.slow),
        pytest.param("NASNet", "normal", "batch", marks=pytest.mark.slow),
    ],
)
def test_a_cell_is_the_sum_of_its_edges(name, kind, statistics, x64):
    cell = MIXED if name == "mixed" else jnas.spaces.genotype(name)[kind]
    reduction = kind == "reduce"
    module, variables, states = make(cell, 2, reduction)
    scales = jax.random.uniform(jax.random.key(3), (len(cell.edges), 2))

    @jax.jit
    def run(variables):
        return module.apply(
            variables, states, statistics, True, scales, mutable=["batch_stats"]
        )

    @jax.jit
    def expect(variables):
        return plain(cell, variables, states, reduction, statistics, scales)

    got, changed = run(variables)
    expected, new = expect(variables)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)
    new = variables["batch_stats"] if statistics == "running" else new
    assert jax.tree.structure(changed["batch_stats"]) == jax.tree.structure(new)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
        changed["batch_stats"],
        new,
    )


def test_nasbench201_cell_is_the_sum_of_its_edges(x64):
    text = (
        "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+"
        "|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    )
    cell = jnas.Genotype.parse(text)["cell"]
    module, variables, states = make(cell, 1, False)
    ones = jnp.ones((6, 2))
    got, changed = jax.jit(
        lambda v: module.apply(v, states, "batch", True, ones, mutable=["batch_stats"])
    )(variables)
    expected, new = jax.jit(lambda v: plain(cell, v, states, False, "batch", ones))(
        variables
    )
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)
    assert sorted(new) == sorted(changed["batch_stats"])
    # No bias before a normalisation that has its own.
    assert all("bias" not in edge for edge in variables["params"].values())


STATES = [jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, CHANNELS)))] * 2


def test_a_node_of_nothing_is_zero():
    cell = Cell((Edge("none", 0, 2), Edge("none", 1, 2)), (2,))
    module = cells.GenotypeCell(cell, 2, CHANNELS, True)
    got = module.apply({}, STATES, "running", False, None)
    assert got.shape == (3, 4, 4, CHANNELS) and not got.any()


@pytest.mark.parametrize(
    ("reduction", "alive"),
    [(False, [True, False, True]), (True, [False, False, False])],
)
def test_drop_path_spares_identities_only(reduction, alive):
    # One node per edge; with all paths dropped only the identities are left.
    edges = (
        Edge("skip_connect", 0, 2),
        Edge("max_pool_3x3", 0, 3),
        Edge("skip_connect", 2, 4),
    )
    module, variables, states = make(Cell(edges, (2, 3, 4)), 2, reduction)
    got = jax.jit(module.apply, static_argnums=(2, 3))(
        variables, states, "running", True, jnp.zeros((3, 2))
    )
    assert [bool(part.any()) for part in jnp.split(got, 3, axis=-1)] == alive


def test_drop_path_acts_per_sample():
    cell = Cell((Edge("max_pool_3x3", 0, 2),), (2,))
    module = cells.GenotypeCell(cell, 2, CHANNELS)
    whole = module.apply({}, STATES, "running", True, None)
    scales = jnp.array([[2.0, 0.0, 1.0]])
    got = module.apply({}, STATES, "running", True, scales)
    np.testing.assert_array_equal(got, whole * scales[0][:, None, None, None])


@pytest.fixture
def registered():
    class Scale(nn.Module):
        stride: int

        @nn.compact
        def __call__(self, x, train):
            factor = self.param("factor", nn.initializers.constant(2.0), ())
            return x[:, :: self.stride, :: self.stride] * (factor if train else 0)

    jnas.supernet.register_operation("scale", lambda channels, stride: Scale(stride))
    yield
    del operations._MODULES["scale"]


def test_registered_operations(registered):
    cell = Cell((Edge("scale", 0, 2), Edge("scale", 1, 2), Edge("scale", 2, 3)), (3,))
    module = cells.GenotypeCell(cell, 2, CHANNELS, True)
    variables = module.init(jax.random.key(0), STATES, "batch", False, None)
    assert set(variables["params"]) == {f"edge{i}_scale" for i in range(3)}
    train = module.apply(variables, STATES, "batch", True, None)
    np.testing.assert_allclose(train, 8 * STATES[0][:, ::2, ::2], rtol=1e-6)
    assert not module.apply(variables, STATES, "batch", False, None).any()
    half = module.apply(variables, STATES, "batch", True, jnp.full((3, 3), 0.5))
    np.testing.assert_allclose(half, train / 4, rtol=1e-6)


def test_drop_path_factors_have_mean_one():
    rate, shape = 0.3, (20, 10, 500)
    got = jax.jit(cells.drop_path_scales, static_argnums=(2, 3))(
        jax.random.key(0), rate, shape, jnp.float32
    )
    np.testing.assert_allclose(np.unique(got), [0, 1 / 0.7], rtol=1e-6)
    # 100,000 Bernoulli draws: the fraction of zeros is within 5 standard errors.
    error = 5 * np.sqrt(rate * (1 - rate) / got.size)
    assert abs(np.mean(got == 0) - rate) < error
    assert abs(got.mean() - 1) < error / 0.7
    # Edges and samples are dropped independently of each other.
    for axis in range(3):
        moved = np.roll(got, 1, axis)
        both = np.mean((np.asarray(got) == 0) & (moved == 0))
        assert abs(both - rate**2) < error


def test_drop_path_at_the_ends():
    ones = cells.drop_path_scales(jax.random.key(0), 0.0, (1000,), jnp.float32)
    np.testing.assert_array_equal(ones, np.ones(1000, np.float32))
    # Nothing is kept at rate 1, and nothing is infinite.
    zeros = cells.drop_path_scales(jax.random.key(0), 1.0, (1000,), jnp.float32)
    np.testing.assert_array_equal(zeros, np.zeros(1000, np.float32))
