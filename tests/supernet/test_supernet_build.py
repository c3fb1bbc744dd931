"""Sizes, initial weights, per-operation sums and masks, and errors of supernets."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jnas import spaces, supernet
from jnas.errors import JnasError
from jnas.mixture import Mixture, uniform

IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)


def shapes_of(net, images=IMAGES):
    return jax.eval_shape(net.init, jax.random.key(0), images)


@pytest.fixture(scope="module")
def nets():
    """Small networks, their cells' groups and initial variables."""
    built = {
        "nasbench201": (
            supernet.build(spaces.nasbench201(), channels=4, cells_per_stage=1),
            ["cell"] * 3,
        ),
        "darts": (
            supernet.build(spaces.darts(), channels=4, cells=3),
            reference.darts_kinds(3),
        ),
    }
    images = jnp.zeros(IMAGES.shape, IMAGES.dtype)
    return {
        name: (net, kinds, net.init(jax.random.key(7), images))
        for name, (net, kinds) in built.items()
    }


@pytest.mark.parametrize(
    ("space", "options", "weights"),
    [
        (spaces.darts, {"channels": 16, "cells": 8}, 1_930_618),
        (spaces.darts, {"num_classes": 100}, 1_953_748),
        (spaces.nasbench201, {"channels": 16, "cells_per_stage": 5}, 1_692_826),
    ],
)
def test_the_published_networks_have_the_known_number_of_weights(
    space, options, weights
):
    """The first is logged by DARTS' authors (1.930618 MB), on 32x32 images."""
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    tree = shapes_of(supernet.build(space(), **options), images).weights
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) == weights


def test_the_classifier_and_the_stem_follow_classes_and_images():
    net = supernet.build(spaces.nasbench201(), channels=4, cells_per_stage=1)
    gray = jax.ShapeDtypeStruct((2, 12, 8, 1), jnp.float32)
    stem = shapes_of(net, gray).weights["skeleton"]["stem_conv"]["kernel"]
    assert stem.shape == (3, 3, 1, 4)
    net = supernet.build(
        spaces.nasbench201(), channels=4, cells_per_stage=1, num_classes=7
    )
    variables = shapes_of(net)
    logits, _ = jax.eval_shape(
        lambda v, x: net.apply(*v, uniform(net.space), x, train=False),
        variables,
        IMAGES,
    )
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)


def plain_fan_in(key, values):
    """Inputs of one output of the array's convolution."""
    name, shape = key[-1], values[key].shape
    if name == "bias":
        return plain_fan_in((*key[:-1], "kernel"), values)
    if name.startswith("depthwise"):
        return shape[0] * shape[1]
    return math.prod(shape[:-1])


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_initial_weights_are_uniform_by_fan_in(nets, name):
    net, kinds, variables = nets[name]
    values = jax.device_get(reference.unstack(net.space, kinds, variables.weights))
    relative = []
    for key, value in values.items():
        if "norm" in key[-2]:
            np.testing.assert_array_equal(value, 1.0 if key[-1] == "scale" else 0.0)
            continue
        relative.append(value.ravel() * math.sqrt(plain_fan_in(key, values)))
        assert np.abs(relative[-1]).max() <= 1 + 1e-6, key
        # The largest of n uniform values is below 1 - t with probability (1 - t)^n.
        smallest = 1 - 12 / value.size
        assert np.abs(relative[-1]).max() >= smallest, key
    together = np.concatenate(relative)
    assert len(np.unique(together)) > 0.98 * len(together)
    # Standard errors of the mean, variance and fourth moment of n uniform values.
    error = 5 / math.sqrt(len(together))
    assert abs(together.mean()) < error * math.sqrt(1 / 3)
    assert abs((together**2).mean() - 1 / 3) < error * math.sqrt(4 / 45)
    assert abs((together**4).mean() - 1 / 5) < error * math.sqrt(16 / 225)
    statistics = reference.unstack_statistics(
        net.space, kinds, variables.model_state["batch_stats"]
    )
    for mean, variance in jax.device_get(list(statistics.values())):
        np.testing.assert_array_equal(mean, 0)
        np.testing.assert_array_equal(variance, 1)


def test_initial_values_of_the_full_network_are_a_small_program():
    """One draw, cut up: thousands of draws took minutes to compile."""
    net = supernet.build(spaces.darts(), channels=16, cells=8)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    traced = jax.jit(lambda key: net.init(key, images)).trace(jax.random.key(0))
    text, arrays = str(traced.jaxpr), len(traced.jaxpr.out_avals)
    assert arrays == 289
    assert text.count("random_bits[") == 1
    # Slices, products, shapes: a handful of operations for each array.
    assert text.count(" = ") < 6 * arrays


def test_initial_weights_depend_on_the_key_only_and_can_be_batched(nets):
    net, _, first = nets["nasbench201"]
    keys = jax.random.split(jax.random.key(3), 2)
    keys = jnp.stack([jax.random.key(7), keys[0], keys[1]])
    other_images = jnp.ones((5, 16, 8, 3))
    many = jax.vmap(lambda key: net.init(key, other_images))(keys)
    jax.tree.map(
        lambda one, all_: np.testing.assert_array_equal(one, all_[0]), first, many
    )
    kernel = many.weights["cell_0"]["nor_conv_3x3"]["kernel"]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not np.any(np.asarray(kernel[a] == kernel[b]))


def group_index(kinds, cell):
    position = int(cell.removeprefix("cell_"))
    return kinds[position], kinds[:position].count(kinds[position])


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_sums_per_operation_are_those_of_the_unstacked_tree(nets, name):
    net, kinds, variables = nets[name]
    expected = {
        g.name: np.zeros((kinds.count(g.name), g.num_edges, g.num_operations))
        for g in net.space.groups
    }
    values = jax.device_get(reference.unstack(net.space, kinds, variables.weights))
    for key, value in values.items():
        if key[0] != "skeleton":
            cell, edge, operation, _ = key
            kind, index = group_index(kinds, cell)
            column = net.space.group(kind).operations.index(operation)
            expected[kind][index, edge, column] += np.sum(value, dtype=np.float64)
    got = jax.jit(net.op_sum)(variables.weights)
    assert set(got) == set(expected)
    for kind, sums in expected.items():
        np.testing.assert_allclose(got[kind], sums, rtol=1e-5, atol=1e-5)
    ones = net.op_sum(jax.tree.map(jnp.ones_like, variables.weights))
    total = sum(float(jnp.sum(leaf)) for leaf in ones.values())
    assert total == sum(v.size for k, v in values.items() if k[0] != "skeleton")


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_masks_reach_the_weights_of_their_operation(nets, name):
    net, kinds, variables = nets[name]
    rng = np.random.default_rng(0)
    mask = {
        g.name: rng.uniform(
            2, 3, (net.cells[g.name], g.num_edges, g.num_operations)
        ).astype(np.float32)
        for g in net.space.groups
    }
    tree = jax.tree.map(
        lambda m, w: jnp.broadcast_to(m.reshape(m.shape or (1,) * w.ndim), w.shape),
        net.op_mask(mask),
        variables.weights,
    )
    values = jax.device_get(reference.unstack(net.space, kinds, tree))
    for key, value in values.items():
        expected = 1.0
        if key[0] != "skeleton":
            cell, edge, operation, _ = key
            kind, index = group_index(kinds, cell)
            column = net.space.group(kind).operations.index(operation)
            expected = mask[kind][index, edge, column]
        np.testing.assert_array_equal(value, expected, err_msg=str(key))


def many_groups():
    group = spaces.nasbench201().group("cell")
    names = ("a", "b")
    return spaces.Space(
        "many",
        tuple(
            spaces.Group(n, group.operations, group.edges, 1, group.concat)
            for n in names
        ),
    )


def unknown_operation():
    return spaces.Space(
        "odd", (spaces.Group("cell", ("nor_conv_3x4",), ((0, 1),), 1, (1,)),)
    )


def two_inputs():
    edges = ((0, 2), (1, 2))
    return spaces.Space(
        "odd", (spaces.Group("cell", ("skip_connect",), edges, 2, (2,)),)
    )


@pytest.mark.parametrize(
    ("space", "options", "words"),
    [
        (spaces.darts, {"channels": 0}, "channels .*positive integer.* 0"),
        (spaces.darts, {"channels": 2.5}, "channels .*positive integer.* 2.5"),
        (spaces.darts, {"channels": True}, "channels .*positive integer.* True"),
        (spaces.darts, {"num_classes": -1}, "num_classes .*positive integer.* -1"),
        (spaces.darts, {"cells": 2}, "cells must be at least 3.* 2"),
        (spaces.darts, {"cells": "8"}, "cells .*positive integer.* '8'"),
        (spaces.darts, {"cells_per_stage": 5}, "darts.*takes cells=.*cells_per_stage"),
        (spaces.darts, {"dtype": jnp.int32}, "dtype .*floating.* int32"),
        (spaces.nasbench201, {"cells": 8}, "takes cells_per_stage=.*, not cells"),
        (spaces.nasbench201, {"cells_per_stage": 0}, "cells_per_stage .*positive"),
        (many_groups, {}, r"groups \['a', 'b'\].*from_linen"),
        (unknown_operation, {}, "nor_conv_3x4.*nor_conv_3x3"),
        (two_inputs, {}, "2 cell inputs.* 1"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(space, options, words):
    with pytest.raises(JnasError, match=words) as error:
        supernet.build(space(), **options)
    assert "\n" not in str(error.value)


def struct(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def cell_mixture(*shape, **fields):
    return Mixture({"cell": jnp.ones(shape)}, **fields)


GOOD = Mixture({"cell": np.ones((6, 5), np.float32)})


@pytest.mark.parametrize(
    ("mixture", "images", "options", "words"),
    [
        (GOOD, struct(8, 8, 3), {}, r"images .*4 dimensions.*\[8, 8, 3\]"),
        (GOOD, struct(2, 8, 10, 3), {}, "multiples of 4.* 8x10"),
        (GOOD, struct(2, 4, 8, 3), {}, "at least 8.* 4x8"),
        (GOOD, struct(2, 8, 8, 3, dtype=jnp.uint8), {}, "floating point.* uint8"),
        ({"cell": np.ones((6, 5))}, IMAGES, {}, "must be a jnas.Mixture, got dict"),
        (Mixture({"normal": np.ones((6, 5))}), IMAGES, {}, r"\['cell'\].*\['normal'\]"),
        (Mixture({}), IMAGES, {}, r"\['cell'\].*\[\]"),
        (Mixture({"cell": np.ones((5, 6))}), IMAGES, {}, r"\[6, 5\].*got \[5, 6\]"),
        (
            Mixture({"cell": np.ones((2, 6, 5))}),
            IMAGES,
            {},
            r"\[3, 6, 5\].*\[2, 6, 5\]",
        ),
        (GOOD._replace(edges={"cell": np.ones(5)}), IMAGES, {}, r"edges.*\[6\].*\[5\]"),
        (GOOD._replace(edges={}), IMAGES, {}, r"edges.*\['cell'\].*\[\]"),
        (GOOD._replace(auxiliary={"cell": np.ones(6)}), IMAGES, {}, "auxiliary"),
        (GOOD, IMAGES, {"statistics": "none"}, "'batch' or 'running'.* 'none'"),
        (GOOD, IMAGES, {"rates": {"drop_path": 0.1}}, r"\['drop_path'\] need a key"),
        (GOOD, IMAGES, {"rates": {"dropout": 0.1}}, "unknown rate 'dropout'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(nets, mixture, images, options, words):
    net, _, variables = nets["nasbench201"]
    with pytest.raises(JnasError, match=words) as error:
        jax.eval_shape(
            lambda x: net.apply(*variables, mixture, x, train=True, **options), images
        )
    assert "\n" not in str(error.value)
