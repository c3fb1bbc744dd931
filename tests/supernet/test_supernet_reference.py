"""The shipped search networks against a plain evaluation per edge and operation.

The comparisons compile with few compiler optimizations: what is tested is the
mathematics, and the compilation is most of their time.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jnas import spaces, supernet
from jnas.mixture import Mixture, from_genotype

COMPILE_FAST = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
# Relative to the largest value of each array; float32 rounding reaches 1e-5 here.
TOLERANCE = {jnp.float64: 1e-10, jnp.float32: 1e-4}
LABELS = np.array([3, 1, 0, 7, 1])


def jit(function):
    return jax.jit(function, compiler_options=COMPILE_FAST)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def small_darts():
    """DARTS with two nodes per cell and without the 5x5 windows."""
    operations = spaces.darts().group("normal").operations
    operations = tuple(name for name in operations if not name.endswith("5x5"))
    edges = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    return spaces.Space(
        "small_darts",
        tuple(
            spaces.Group(name, operations, edges, 2, (2, 3))
            for name in ("normal", "reduce")
        ),
        keep=2,
        never=("none",),
    )


def small_nasbench201():
    """NAS-Bench-201 with one edge per cell and one kind of convolution."""
    operations = ("none", "skip_connect", "nor_conv_3x3", "avg_pool_3x3")
    group = spaces.Group("cell", operations, ((0, 1),), 1, (1,))
    return spaces.Space("small_nasbench201", (group,))


SPACES = {
    "nasbench201": (spaces.nasbench201, 4),
    "small_nasbench201": (small_nasbench201, 4),
    "darts": (spaces.darts, 2),
    "small_darts": (small_darts, 2),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A network with random weights, statistics and images, in both forms."""

    space: spaces.Space
    dtype: type
    channels: int

    @functools.cached_property
    def is_darts(self):
        return self.space.names == ("normal", "reduce")

    @functools.cached_property
    def kinds(self):
        return reference.darts_kinds(3) if self.is_darts else ["cell"] * 3

    @functools.cached_property
    def net(self):
        size = {"cells": 3} if self.is_darts else {"cells_per_stage": 1}
        return supernet.build(
            self.space, channels=self.channels, dtype=self.dtype, **size
        )

    @functools.cached_property
    def images(self):
        return self.random(np.random.default_rng(1), (len(LABELS), 8, 8, 3))

    @functools.cached_property
    def variables(self):
        rng = np.random.default_rng(2)
        like = jax.ShapeDtypeStruct(self.images.shape, self.dtype)
        shapes = jax.eval_shape(self.net.init, jax.random.key(0), like)

        def fill(path, leaf):
            assert leaf.dtype == self.dtype
            value = self.random(rng, leaf.shape)
            # Positive running variances; the pools' share one per state.
            is_variance = str(path[-1].key).endswith("var")
            return abs(value) + 0.5 if is_variance else value

        return jax.tree_util.tree_map_with_path(fill, shapes)

    def random(self, rng, shape):
        return jnp.asarray(rng.normal(0, 0.7, shape), self.dtype)

    def mixture_weights(self, cells=None, seed=3):
        rng = np.random.default_rng(seed)
        weights = {}
        for group in self.space.groups:
            shape = (group.num_edges, group.num_operations)
            shape = (cells[group.name], *shape) if cells else shape
            weights[group.name] = jnp.asarray(rng.uniform(0.1, 1, shape), self.dtype)
        return weights

    @functools.cached_property
    def values(self):
        return reference.unstack(self.space, self.kinds, self.variables.weights)

    def statistics(self, model_state):
        tree = model_state["batch_stats"]
        return reference.unstack_statistics(self.space, self.kinds, tree)

    def shipped(self, weights, mixture, images, statistics="batch"):
        state = self.variables.model_state
        logits, state = self.net.apply(
            weights, state, mixture, images, train=True, statistics=statistics
        )
        loss = reference.cross_entropy(logits, LABELS)
        return loss, (logits, self.statistics(state))

    def plain(self, values, rows, images, statistics="batch", genotype=None):
        """``rows``: ``{group: [E, O] or [cells, E, O]}``."""
        old = self.statistics(self.variables.model_state)

        def terms(kind, index):
            group = self.space.group(kind)
            if genotype is not None:
                return reference.genotype_terms(group, genotype[kind])
            own = rows[kind]
            return reference.mixture_terms(group, own[index] if own.ndim == 3 else own)

        network = reference.darts if self.is_darts else reference.nasbench201
        size = 3 if self.is_darts else 1
        logits, new = network(
            self.space, size, values, old, images, terms, statistics == "batch"
        )
        return reference.cross_entropy(logits, LABELS), (logits, new)


@functools.cache
def make_case(name, dtype):
    make, channels = SPACES[name]
    case = Case(make(), dtype, channels)
    assert case.values  # made here, not while a function that uses them is traced
    return case


def assert_close(got, expected, tolerance, name="", floor=0.0):
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, name
    scale = max(np.abs(expected).max(), floor)
    assert np.abs(got - expected).max() <= tolerance * scale, name


def assert_dicts_close(got, expected, tolerance, floor=0.0):
    assert set(got) == set(expected)
    for key, value in expected.items():
        assert_close(got[key], value, tolerance, key, floor)


def split_statistics(statistics):
    return {(*k, i): pair[i] for k, pair in statistics.items() for i in (0, 1)}


def gradients(name, dtype):
    """Everything of one training pass: (shipped, plain) as dicts of numpy arrays."""
    with jax.enable_x64(dtype == jnp.float64):
        case = make_case(name, dtype)

        def collect(out, unstack):
            (_, (logits, statistics)), (weights, rows, images) = out
            return jax.device_get(
                {
                    "logits": logits,
                    "statistics": split_statistics(statistics),
                    "weights": unstack(weights),
                    "mixture": rows,
                    "images": images,
                }
            )

        def shipped(weights, rows, images):
            return case.shipped(weights, Mixture(rows), images)

        rows = case.mixture_weights()
        differentiate = functools.partial(
            jax.value_and_grad, argnums=(0, 1, 2), has_aux=True
        )
        ours = jit(differentiate(shipped))(case.variables.weights, rows, case.images)
        # Op by op where there are hundreds of equal ones, which compile once.
        plain = differentiate(case.plain)
        plain = plain if name == "darts" else jit(plain)
        plain = plain(case.values, rows, case.images)
        flat = functools.partial(reference.unstack, case.space, case.kinds)
        return collect(ours, flat), collect(plain, lambda values: values)


@pytest.fixture(
    scope="module",
    params=[
        ("nasbench201", jnp.float64),
        ("small_darts", jnp.float64),
        slow(("nasbench201", jnp.float32)),
        slow(("small_darts", jnp.float32)),
        slow(("darts", jnp.float64)),
        slow(("darts", jnp.float32)),
    ],
    ids=lambda p: f"{p[0]}-{p[1].__name__}",
)
def passes(request):
    """One training pass of both forms, and the tolerance."""
    tolerance = TOLERANCE[request.param[1]]
    if request.param == ("darts", jnp.float32):
        # Against float64, both forms err by 4e-6 in the median of the weights' arrays
        # and by up to 1e-4 in the worst, small gradients next to large ones.
        tolerance *= 5
    return *gradients(*request.param), tolerance


def test_logits_agree(passes):
    shipped, plain, tolerance = passes
    assert_close(shipped["logits"], plain["logits"], tolerance)


def test_updated_running_statistics_agree(passes):
    shipped, plain, tolerance = passes
    assert_dicts_close(shipped["statistics"], plain["statistics"], tolerance)


def test_gradients_of_all_weights_agree(passes):
    shipped, plain, tolerance = passes

    # Exactly zero, up to rounding: a bias that the batch norm takes away again.
    def is_zero(key):
        return len(key) == 4 and key[0] != "skeleton" and key[3] == "bias"

    for key in filter(is_zero, plain["weights"]):
        assert np.abs(shipped["weights"][key]).max() <= tolerance, key
        assert np.abs(plain["weights"][key]).max() <= tolerance, key
    kept = [
        {k: v for k, v in side["weights"].items() if not is_zero(k)}
        for side in (shipped, plain)
    ]
    assert_dicts_close(*kept, tolerance)


def test_gradients_of_the_mixture_and_of_the_images_agree(passes):
    shipped, plain, tolerance = passes
    assert_dicts_close(shipped["mixture"], plain["mixture"], tolerance)
    assert_close(shipped["images"], plain["images"], tolerance)


@pytest.mark.parametrize(
    "name",
    ["small_nasbench201", slow("nasbench201")],
)
def test_third_derivatives_agree(x64, name):
    """``grad(jvp(grad))``, which regularizers of the Hessian need."""
    case = make_case(name, jnp.float64)
    rows, direction = case.mixture_weights(), case.mixture_weights(seed=4)

    def third(loss):
        def slope(rows):
            _, tangent = jax.jvp(jax.grad(loss), (rows,), (direction,))
            return sum(jnp.sum(jnp.square(t)) for t in tangent.values())

        return jit(jax.value_and_grad(slope))(rows)

    value, got = third(
        lambda r: case.shipped(case.variables.weights, Mixture(r), case.images)[0]
    )
    plain_value, expected = third(lambda r: case.plain(case.values, r, case.images)[0])
    assert abs(plain_value) > 1e-6
    assert_close(value, plain_value, 1e-7)
    assert_dicts_close(got, expected, 1e-7)


def random_parts(case):
    rng = np.random.default_rng(5)
    edges = {
        g.name: jnp.asarray(rng.uniform(0.2, 2, g.num_edges)) for g in case.space.groups
    }
    active = {
        g.name: jnp.asarray(
            [rng.permutation(g.num_operations)[:2] for _ in range(g.num_edges)],
            jnp.int32,
        )
        for g in case.space.groups
    }
    return edges, active


def plain_rows(weights, edges, active, cells):
    """The rule of a mixture in loops: weights x edges, 0 where not active."""
    result = {}
    for name, own in weights.items():
        own = np.asarray(own)
        own = own if own.ndim == 3 else np.stack([own] * cells[name])
        rows = np.zeros_like(own)
        for cell, edge, operation in np.ndindex(*own.shape):
            if active is None or operation in np.asarray(active[name])[edge]:
                factor = 1 if edges is None else float(edges[name][edge])
                rows[cell, edge, operation] = own[cell, edge, operation] * factor
        result[name] = jnp.asarray(rows)
    return result


@pytest.mark.parametrize(
    ("per_cell", "with_edges", "with_active"),
    [
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (True, True, True),
    ],
)
def test_every_form_of_a_mixture(x64, per_cell, with_edges, with_active):
    case = make_case("nasbench201", jnp.float64)
    edges, active = random_parts(case)
    edges, active = edges if with_edges else None, active if with_active else None
    weights = case.mixture_weights(case.net.cells if per_cell else None)
    rows = plain_rows(weights, edges, active, case.net.cells)
    assert_passes_agree(case, Mixture(weights, edges=edges, active=active), rows)


def assert_passes_agree(case, mixture, rows, **options):
    """Forward passes by the batch's statistics."""
    _, (logits, new) = jit(case.shipped)(case.variables.weights, mixture, case.images)
    _, (expected, plain_new) = case.plain(case.values, rows, case.images, **options)
    tolerance = TOLERANCE[case.dtype]
    assert_close(logits, expected, tolerance)
    if rows is not None:
        new, plain_new = split_statistics(new), split_statistics(plain_new)
        if mixture.active is not None:  # what is not computed keeps its statistics
            old = split_statistics(case.statistics(case.variables.model_state))
            idle = [key for key in old if not computed(case, mixture.active, key)]
            assert idle
            plain_new |= {key: old[key] for key in idle}
        assert_dicts_close(new, plain_new, tolerance)


def computed(case, active, key):
    """Whether a running statistic belongs to an active candidate, or to no choice."""
    if key[0] == "skeleton":
        return True
    cell, edge, operation = key[:3]
    kind = case.kinds[int(cell.removeprefix("cell_"))]
    group = case.space.group(kind)
    column = group.operations.index(operation)
    # Edges that leave one state share the statistics of a pool.
    sharing = [edge]
    if operation in reference.POOLS:
        source = group.edges[edge][0]
        sharing = [e for e, pair in enumerate(group.edges) if pair[0] == source]
    return any(column in np.asarray(active[kind])[e] for e in sharing)


def test_float32():
    case = make_case("nasbench201", jnp.float32)
    rows = case.mixture_weights()
    assert_passes_agree(case, Mixture(rows), rows)


@pytest.mark.slow
def test_the_whole_darts_network_with_weights_per_cell(x64):
    case = make_case("darts", jnp.float64)
    edges, active = random_parts(case)
    weights = case.mixture_weights(case.net.cells)
    rows = plain_rows(weights, edges, active, case.net.cells)
    rows = {name: own.astype(jnp.float64) for name, own in rows.items()}
    assert_passes_agree(case, Mixture(weights, edges=edges, active=active), rows)


@pytest.mark.parametrize("name", ["nasbench201", "small_darts"])
def test_running_statistics_mode(x64, name):
    case = make_case(name, jnp.float64)
    rows = case.mixture_weights()
    evaluate = jit(functools.partial(case.shipped, statistics="running"))
    _, (logits, new) = evaluate(case.variables.weights, Mixture(rows), case.images)
    _, (expected, _) = case.plain(case.values, rows, case.images, "running")
    assert_close(logits, expected, 1e-10)
    old = split_statistics(case.statistics(case.variables.model_state))
    for key, value in split_statistics(new).items():
        np.testing.assert_array_equal(value, old[key], err_msg=str(key))


@pytest.mark.parametrize(
    ("name", "genotype"),
    [
        (
            "nasbench201",
            "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+"
            "|avg_pool_3x3~0|none~1|nor_conv_3x3~2|",
        ),
        slow("small_darts", None),
        slow("darts", "DARTS_V2"),
    ],
)
def test_a_genotype_as_a_mixture_is_the_network_of_its_operations(x64, name, genotype):
    case = make_case(name, jnp.float64)
    if genotype is None:
        genotype = case.space.decode(case.space.random(3))
    else:
        genotype = spaces.Genotype.parse(genotype)
    mixture = from_genotype(case.space, genotype)
    assert_passes_agree(case, mixture, None, genotype=genotype)
