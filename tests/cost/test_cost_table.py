"""Cost tables: supernets, expectations under mixtures, many candidates at once."""

import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import cost, errors, spaces

NETWORKS = {
    "darts": {"channels": 8, "cells": 5},
    "nasbench201": {"channels": 4, "cells_per_stage": 2},
}


@pytest.mark.parametrize(
    ("space", "network", "expected"),
    [
        ("darts", {"channels": 16, "cells": 8}, 1930618),
        ("darts", {"channels": 16, "cells": 8, "num_classes": 100}, 1953748),
        ("nasbench201", {"channels": 16, "cells_per_stage": 5}, 1692826),
    ],
)
def test_supernets_have_the_known_size(space, network, expected):
    assert cost.supernet_parameters(space, **network) == expected
    assert cost.supernet_parameters(spaces.get(space), **network) == expected


@pytest.mark.parametrize("space", NETWORKS)
def test_genotype_genes_and_one_hot_weights_agree(space):
    space_, network = spaces.get(space), NETWORKS[space]
    table = cost.operation_costs(space, **network)
    genes = space_.random(0, 20)
    parameters, multiply_adds = cost.count_genes(space, genes, **network)
    assert parameters.dtype == multiply_adds.dtype == np.int64
    assert len(set(multiply_adds.tolist())) > 5
    for row, one in enumerate(genes):
        genotype = space_.decode(one)
        single = cost.count(genotype, **network)
        assert single == (parameters[row], multiply_adds[row])
        assert single == table.expected(space_.one_hot(genotype))


def test_all_nasbench201_networks():
    folder = os.environ.get("JNAS_DATA")
    if not folder:
        pytest.skip("JNAS_DATA is not set: it names the folder of benchmark data")
    path = pathlib.Path(folder) / "nasbench201.npz"
    if not path.exists():
        pytest.skip("nasbench201.npz is not in the folder that JNAS_DATA names")
    for data_set, classes, side in (
        ("cifar10", 10, 32),
        ("cifar100", 100, 32),
        ("imagenet16", 120, 16),
    ):
        with np.load(path, allow_pickle=False) as data:
            genes = data["ops"].astype(np.int32)
            expected = data[f"{data_set}_params"], data[f"{data_set}_flops"]
            names = tuple(data["op_names"].tolist())
        assert spaces.get("nasbench201").groups[0].operations == names
        counted = cost.count_genes(
            "nasbench201",
            genes,
            channels=16,
            cells_per_stage=5,
            num_classes=classes,
            image_shape=(side, side, 3),
        )
        assert len(genes) == 15625
        np.testing.assert_array_equal(counted[0], expected[0])
        np.testing.assert_array_equal(counted[1], expected[1])


def test_all_of_nasbench201_is_counted_quickly():
    genes = np.stack(np.unravel_index(np.arange(5**6), (5,) * 6), axis=-1)
    started = time.perf_counter()
    cost.count_genes("nasbench201", genes, channels=16, cells_per_stage=5)
    # takes about 5 ms; the bound leaves room for a loaded machine
    assert time.perf_counter() - started < 1.0


def test_expected_cost_is_linear_and_differentiable():
    table = cost.operation_costs("darts", **NETWORKS["darts"])
    space = spaces.get("darts")
    key = jax.random.key(0)
    weights = {
        group.name: jax.nn.softmax(
            jax.random.normal(
                jax.random.fold_in(key, index), (group.num_edges, group.num_operations)
            )
        )
        for index, group in enumerate(space.groups)
    }
    values, gradients = jax.jit(
        lambda w: (table.expected(w), jax.jacobian(table.expected)(w))
    )(weights)
    exact = table.expected({group: np.asarray(w) for group, w in weights.items()})
    # float32 sums of about a hundred terms
    np.testing.assert_allclose(values, exact, rtol=1e-5)
    for gradient, costs in zip(
        gradients, (table.parameters, table.multiply_adds), strict=True
    ):
        for group in weights:
            np.testing.assert_allclose(
                gradient[group], costs[group].sum(axis=0), rtol=1e-6
            )


def test_large_networks_do_not_overflow_without_64_bit_numbers():
    network = {"channels": 512, "cells": 20}
    table = cost.operation_costs("darts", **network)
    ones = {group: np.ones(c.shape[1:], int) for group, c in table.parameters.items()}
    exact = table.expected(ones)
    assert exact[1] > 2**38
    inside = table.expected({group: jnp.asarray(w) for group, w in ones.items()})
    np.testing.assert_allclose(inside, [float(value) for value in exact], rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_weights_may_differ_by_cell(dtype):
    table = cost.operation_costs("nasbench201", channels=4, cells_per_stage=2)
    shape = table.parameters["cell"].shape
    assert shape == (6, 6, 5)
    weights = np.zeros(shape, np.float32)
    weights[4, 1, 3] = 1
    base, one = table.base_parameters, int(table.parameters["cell"][4, 1, 3])
    assert table.expected({"cell": weights})[0] == base + one
    assert table.expected({"cell": jnp.asarray(weights, dtype)})[0] == base + one


def test_table_by_cell():
    # cells 1 and 3 of 5 reduce; width doubles and area falls fourfold at each
    table = cost.operation_costs("darts", **NETWORKS["darts"])
    areas = (1024, 256, 64)
    names = spaces.get("darts").groups[0].operations
    sep, skip = names.index("sep_conv_3x3"), names.index("skip_connect")
    per_cell = [2 * (c * 9 + c * c) for c in (8, 16, 32)]
    np.testing.assert_array_equal(
        table.multiply_adds["normal"][:, 0, sep],
        [weights * area for weights, area in zip(per_cell, areas, strict=True)],
    )
    # the last edge of a reduction leaves an inner node, so it has no stride
    assert table.parameters["reduce"][0, 0, skip] == 16 * 16 + 32
    assert table.parameters["reduce"][0, -1, skip] == 0
    assert table.multiply_adds["reduce"][0, -1, sep] == per_cell[1] * 256


def test_operations_that_cannot_be_selected_have_no_gene():
    edges = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    operations = ("none", "sep_conv_3x3", "skip_connect")
    groups = tuple(
        spaces.Group(name, operations, edges, inputs=2, concat=(2, 3))
        for name in ("normal", "reduce")
    )
    for keep in (None, 1, 2):
        space = spaces.Space("mine", groups, keep=keep, never=("none",))
        genes = space.random(0, 8)
        counted = cost.count_genes(space, genes, channels=4, cells=3)
        for row, one in enumerate(genes):
            single = cost.count(space.decode(one), channels=4, cells=3)
            assert single == (counted[0][row], counted[1][row])


def test_wrong_weights_and_genes_are_told():
    table = cost.operation_costs("nasbench201", channels=4, cells_per_stage=2)
    with pytest.raises(errors.JnasError, match=r"expected \['cell'\]"):
        table.expected({"normal": np.zeros((6, 5))})
    with pytest.raises(errors.JnasError, match=r"\(5, 6\): expected \(6, 5\)"):
        table.expected({"cell": np.zeros((5, 6))})
    network = {"channels": 4, "cells_per_stage": 2}
    for genes, message in (
        ([[0, 0, 0]], r"shape \[N, 6\]"),
        ([[0.5] * 6], "must be integers"),
        ([[0, 0, 5, 0, 0, 0]], r"genes\[0, 2\] is 5: expected 0 to 4"),
        ([[0, 0, -1, 0, 0, 0]], r"genes\[0, 2\] is -1"),
    ):
        with pytest.raises(errors.JnasError, match=message):
            cost.count_genes("nasbench201", genes, **network)
    with pytest.raises(errors.JnasError, match="unknown space"):
        cost.operation_costs("dart", channels=4, cells=2)
    with pytest.raises(TypeError, match="channel"):
        cost.supernet_parameters("darts", channel=4, cells=2)
