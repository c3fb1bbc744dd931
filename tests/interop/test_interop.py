"""Loading and exporting checkpoints: exact round trips, and what is refused."""

import functools

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_supernet

import jnas
from jnas import JnasError, interop
from jnas.spaces import Group, Space
from jnas.supernet import Variables


def small_darts(operations=("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3")):
    """A DARTS-like space of two nodes."""
    edges = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    groups = (Group(n, operations, edges, 2, (2, 3)) for n in ("normal", "reduce"))
    return Space("small_darts", tuple(groups), keep=2, never=("none",))


# Three edges into one node, one into another, which is listed first.
CUSTOM = jnas.Genotype(
    "custom",
    tuple(
        (
            name,
            jnas.spaces.Cell(
                tuple(
                    jnas.spaces.Edge(*edge)
                    for edge in (
                        ("conv_7x1_1x7", 0, 3),
                        ("sep_conv_3x3", 0, 2),
                        ("skip_connect", 1, 2),
                        ("dil_conv_5x5", 1, 2),
                        ("none", 2, 3),
                    )
                ),
                (2, 3),
            ),
        )
        for name in ("normal", "reduce")
    ),
)
NETWORKS = {
    "darts_search": lambda: jnas.supernet.build(small_darts(), channels=2, cells=3),
    "darts_final": lambda: jnas.networks.build(
        "PC_DARTS", channels=2, cells=3, auxiliary=True
    ),
    "darts_custom": lambda: jnas.networks.build(CUSTOM, channels=2, cells=4),
    "darts_imagenet": lambda: jnas.networks.build(
        "DARTS_V2", channels=2, cells=3, stem="imagenet", auxiliary=True
    ),
    "nasbench201_search": lambda: jnas.supernet.build(
        jnas.spaces.nasbench201(), channels=2, cells_per_stage=1
    ),
    "nasbench201_final": lambda: jnas.networks.build(
        "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|",
        channels=2,
        cells_per_stage=2,
    ),
}


@functools.cache
def case(name):
    """``(network, random variables, load, dump)``."""
    net = NETWORKS[name]()
    size = 224 if name == "darts_imagenet" else 32
    shape = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), shape)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes
    )
    if name.startswith("nasbench201"):
        return net, variables, interop.from_nasbench201, interop.to_nasbench201
    return net, variables, interop.from_darts, interop.to_darts


def same(one, other):
    equal = jax.tree.map(
        lambda a, b: a.dtype == b.dtype and bool(jnp.array_equal(a, b)), one, other
    )
    assert jax.tree.structure(one) == jax.tree.structure(other)
    return jax.tree.all(equal)


@pytest.mark.parametrize("name", NETWORKS)
def test_round_trips_are_exact(name):
    net, variables, load, dump = case(name)
    arrays = dump(variables, net)
    assert all(type(a) is np.ndarray and a.dtype == "f4" for a in arrays.values())
    leaves = jax.tree.leaves(variables)
    assert all(a.flags.c_contiguous for a in arrays.values())
    loaded = load(arrays, net)
    assert same(loaded, variables)
    again = dump(loaded, net)
    assert list(again) == list(arrays)
    assert all(a.tobytes() == again[k].tobytes() for k, a in arrays.items())
    weights = dump(Variables(variables.weights, None), net)
    kept = [k for k in arrays if not k.endswith(("running_mean", "running_var"))]
    assert list(weights) == kept == list(dump(Variables(variables.weights, {}), net))
    # Every number of ours is exported; the search net's pools repeat theirs.
    sizes = sum(a.size for a in arrays.values()), sum(a.size for a in leaves)
    assert sizes[0] >= sizes[1] if name == "darts_search" else sizes[0] == sizes[1]


@pytest.mark.parametrize("name", ["darts_search", "nasbench201_final"])
def test_without_running_statistics_they_are_the_initial_ones(name):
    net, variables, load, dump = case(name)
    loaded = load(dump(Variables(variables.weights, None), net), net)
    assert same(loaded.weights, variables.weights)
    image = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    initial = jax.jit(net.init)(jax.random.key(0), jnp.zeros(image.shape))
    assert same(loaded.model_state, initial.model_state)


def test_a_data_parallel_checkpoint_of_another_dtype():
    net, variables, load, dump = case("nasbench201_search")
    arrays = {f"module.{k}": a.astype("f8") for k, a in dump(variables, net).items()}
    arrays["module.stem.1.num_batches_tracked"] = np.array(7)
    arrays["module.arch_parameters"] = np.zeros((6, 5), "f4")
    assert same(load(arrays, net), variables)


def test_the_names_are_the_reference_s():
    """Of the networks in tests/golden, without evaluating them."""
    golden = golden_files.load("darts_eval")
    prefixes = ("w/PC_DARTS/", "buf/PC_DARTS/", "w/shared/", "buf/shared/")
    expected = golden_files.collect(golden, *prefixes)
    net = jnas.networks.build("PC_DARTS", channels=8, cells=5, auxiliary=True)
    got = interop.to_darts(interop.from_darts(expected, net), net)
    assert set(got) == set(expected)
    for name, value in expected.items():  # stored exactly representable in float32
        assert (got[name] == value).all() and got[name].dtype == "f4"


def test_custom_genotypes_are_numbered_node_by_node():
    net, variables, _, dump = case("darts_custom")
    arrays = dump(variables, net)
    own = variables.weights["cell_0"]
    first = own["edge1_sep_conv_3x3"]["depthwise0"]
    got = arrays["cells.0._ops.0.op.1.weight"]
    assert (got[:, 0].transpose(1, 2, 0) == first).all()
    last = own["edge0_conv_7x1_1x7"]["kernel0"]
    got = arrays["cells.0._ops.3.1.weight"]
    assert got.shape == (2, 2, 1, 7)
    assert (got.transpose(2, 3, 1, 0) == last).all()


def test_architecture_parameters():
    normal, reduce = np.zeros((14, 8)), np.ones((14, 8))
    arrays = {"alphas_normal": normal, "module.alphas_reduce": reduce, "epoch": 3}
    arch = interop.arch_from_darts(arrays)
    assert (arch["normal"] == 0).all() and (arch["reduce"] == 1).all()
    arch = interop.arch_from_nasbench201({"_arch_parameters": np.ones((6, 5))})
    assert arch["cell"].shape == (6, 5)


# --- what is refused ----------------------------------------------------------------


def refused(function, *args):
    """The text of the error, which is one line."""
    with pytest.raises(JnasError) as caught:
        function(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_extra_and_misshapen_arrays_are_named():
    net, variables, load, dump = case("darts_search")
    arrays = dump(variables, net)
    del arrays["classifier.bias"]
    arrays["classifier.scale"] = np.zeros(3, "f4")
    arrays["stem.0.weight"] = np.zeros((6, 1, 5, 5), "f4")
    message = refused(load, arrays, net)
    assert "missing: classifier.bias;" in message
    assert "extra: classifier.scale;" in message
    assert "misshapen: stem.0.weight (got [6, 1, 5, 5], expected [6, 1, 3, 3])" in (
        message
    )


def test_long_lists_are_cut_and_counted():
    net, variables, load, dump = case("darts_search")
    arrays = dump(variables, net)
    message = refused(load, {k: arrays[k] for k in list(arrays)[:10]}, net)
    assert f"and {len(arrays) - 10 - 8} more" in message
    assert len(message) < 700


def test_half_of_the_running_statistics_is_missing_arrays():
    net, variables, load, dump = case("nasbench201_final")
    arrays = dump(variables, net)
    del arrays["stem.1.running_var"]
    assert "missing: stem.1.running_var." in refused(load, arrays, net)


def test_an_auxiliary_head_too_many_or_too_few():
    net, variables, load, dump = case("darts_final")
    arrays = dump(variables, net)
    headless = jnas.networks.build("PC_DARTS", channels=2, cells=3)
    assert "extra: auxiliary_head.features.2.weight" in refused(load, arrays, headless)
    rest = {k: a for k, a in arrays.items() if not k.startswith("auxiliary")}
    assert "missing: auxiliary_head.features.2.weight" in refused(load, rest, net)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1.0, 2.0], "got list"),
        (None, "got NoneType"),
        (np.array(["a"]), "got <U1"),
        (np.arange(3), "got int64"),
        (np.zeros(3, complex), "got complex128"),
        (np.array([None]), "got object"),
    ],
)
def test_values_that_are_no_arrays_of_real_numbers(value, told):
    net, variables, load, dump = case("nasbench201_search")
    arrays = dump(variables, net) | {"classifier.bias": value}
    message = refused(load, arrays, net)
    assert "'classifier.bias'" in message and told in message


def test_tensors_that_need_a_conversion():
    class Tensor:
        shape, dtype = (3,), "float32"

        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    net, _, load, _ = case("nasbench201_search")
    assert "detach" in refused(load, {"classifier.bias": Tensor()}, net)


def test_what_is_not_a_state_dict():
    net, variables, load, dump = case("nasbench201_search")
    assert "got list" in refused(load, [1], net)
    assert "strings, got 3" in refused(load, {3: np.zeros(1)}, net)
    arrays = dump(variables, net)
    twice = arrays | {"module.classifier.bias": arrays["classifier.bias"]}
    assert "'classifier.bias' is given twice" in refused(load, twice, net)


def test_pools_whose_statistics_differ_have_no_counterpart():
    net, variables, load, dump = case("darts_search")
    arrays = dump(variables, net)
    names = [f"cells.0._ops.{edge}._ops.2.1.running_mean" for edge in (0, 2)]
    assert (arrays[names[0]] == arrays[names[1]]).all()
    arrays[names[1]] = arrays[names[1]] * (1 + 1e-6)  # rounding of parallel sums
    assert same(load(arrays, net), variables)
    for other in (arrays[names[1]] + 0.1, arrays[names[1]] * np.nan):
        message = refused(load, arrays | {names[1]: other}, net)
        assert names[0] in message and names[1] in message


def test_variables_of_another_network():
    net, _, _, dump = case("nasbench201_search")
    _, other, *_ = case("nasbench201_final")
    message = refused(dump, other, net)
    assert "missing: params/cell_0/" in message and "extra: params/cell_" in message
    assert "got dict" in refused(dump, {}, net)
    few = jax.tree.map(lambda a: a[:1], case("nasbench201_search")[1].weights)
    assert "too few rows" in refused(dump, Variables(few, None), net)


def test_networks_without_counterpart():
    stages, _, from_nasbench201, to_nasbench201 = case("nasbench201_search")
    cells, variables, from_darts, to_darts = case("darts_search")
    assert "from_nasbench201" in refused(from_darts, {}, stages)
    assert "from_nasbench201" in refused(to_darts, variables, stages)
    assert "from_darts" in refused(from_nasbench201, {}, cells)
    assert "from_darts" in refused(to_nasbench201, variables, cells)
    assert "no counterpart" in refused(from_darts, {}, tiny_supernet())
    assert "got int" in refused(from_darts, {}, 3)


def test_parts_without_counterpart():
    space = small_darts(("none", "nor_conv_3x3"))
    net = jnas.supernet.build(space, channels=2, cells=3)
    assert "'nor_conv_3x3'" in refused(interop.from_darts, {}, net)
    group = Group("cell", ("none", "sep_conv_3x3"), ((0, 1),), 1, (1,))
    net = jnas.supernet.build(Space("mine", (group,)), channels=2, cells_per_stage=1)
    assert "'sep_conv_3x3'" in refused(interop.from_nasbench201, {}, net)
    edges = ((0, 2), (1, 2), (0, 3), (2, 3))
    groups = tuple(
        Group(n, ("none", "skip_connect"), edges, 2, (2, 3))
        for n in ("normal", "reduce")
    )
    net = jnas.supernet.build(Space("mine", groups), channels=2, cells=3)
    assert "group 'normal'" in refused(interop.from_darts, {}, net)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"alphas_normal": np.zeros((2, 2))}, "'alphas_reduce'"),
        (
            {"alphas_normal": np.zeros(2), "alphas_reduce": np.zeros((2, 2))},
            "got shape [2]",
        ),
    ],
)
def test_architecture_parameters_that_are_none(arrays, told):
    assert told in refused(interop.arch_from_darts, arrays)
    assert "'arch_parameters'" in refused(interop.arch_from_nasbench201, arrays)
