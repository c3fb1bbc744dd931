"""Every primitive of DARTS' networks: value, gradients, running statistics.

Each is evaluated by the shipped code: in a mixed cell of one edge, as in the search
network, or, where that has none (pools without a norm), in a cell of a final network.
"""

import functools

import golden_files
import jax
import jax.numpy as jnp
import pytest
from comparing import TOLERANCE, assert_close, images, jit

from jnas.interop import base, convolutional
from jnas.networks.cells import GenotypeCell
from jnas.spaces import Cell, Edge, Group
from jnas.supernet import layers
from jnas.supernet.cells import MixedCell

GOLDEN = golden_files.load("darts_ops")
CASES = tuple(map(str, GOLDEN["cfg/cases"]))
PREPROCESS = {
    "relu_conv_bn": (
        layers.ReluConvNorm,
        [("op.1", ("conv", "kernel"), base.KERNEL)],
        "op.2",
    ),
    "factorized_reduce": (
        layers.FactorizedReduce,
        [("conv_1", ("even",), base.POINTWISE), ("conv_2", ("odd",), base.POINTWISE)],
        "bn",
    ),
}


def mixed_cell(operation, stride, channels):
    """``(call, table of weights, table of norms)`` of one edge of a mixed cell."""
    # Beside "none" there must be another operation, which gets weight 0.
    names = (operation, "avg_pool_3x3") if operation == "none" else (operation,)
    group = Group("cell", names, ((0, 1),), 1, (1,))
    cell = MixedCell(group, channels, stride == 2)

    def call(variables, x):
        mixture = jnp.eye(len(names), dtype=x.dtype)[:1]
        return cell.apply(variables, [x], mixture, "batch", True, mutable="batch_stats")

    weights = [
        (f"{there}.weight", (operation, here), layout)
        for there, here, layout in convolutional.operation_weights(operation, stride)
    ]
    norms = convolutional.operation_norms(operation, stride)
    if operation in ("max_pool_3x3", "avg_pool_3x3"):
        norms = [("1", "norm")]
    halves = [
        (f"{there}.running_{half}", (operation, f"{here}_{half}"))
        for there, here in norms
        for half in ("mean", "var")
    ]
    return call, weights, halves


def final_cell(operation, stride, channels):
    cell = GenotypeCell(Cell((Edge(operation, 0, 1),), (1,)), 1, channels, stride == 2)

    def call(variables, x):
        return cell.apply(variables, [x], "batch", True, None, mutable="batch_stats")

    return call, [], []


def preprocess(kind, channels):
    layer, weights, norm = PREPROCESS[kind]
    module = layer(channels)

    def call(variables, x):
        return module.apply(variables, x, "batch", mutable="batch_stats")

    weights = [(f"{there}.weight", path, layout) for there, path, layout in weights]
    halves = [(f"{norm}.running_{half}", ("norm", half)) for half in ("mean", "var")]
    return call, weights, halves


def parts(case):
    """The call, its tables and the name of its input."""
    operation, *rest = case.split("/")
    channels = GOLDEN[f"in/cotangent/{case}"].shape[1]
    if operation == "preprocess":
        return *preprocess(rest[0], channels), "preprocess"
    stride, size = int(rest[0].removeprefix("s")), rest[1]
    if operation.endswith("_nobn"):
        name = operation.removesuffix("_nobn")
        return *final_cell(name, stride, channels), size
    return *mixed_cell(operation, stride, channels), size


def nested(entries):
    tree = {}
    for path, value in entries:
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return tree


def leaf(tree, path):
    return functools.reduce(lambda node, key: node[key], path, tree)


@pytest.fixture(
    scope="module",
    params=[jnp.float64, pytest.param(jnp.float32, marks=pytest.mark.slow)],
    ids=["float64", "float32"],
)
def computed(request):
    """``({case: {kind: {name: array}}}, tolerance)``; one program for all cases."""
    dtype = request.param
    inputs, calls = {}, {}
    with jax.enable_x64(dtype == jnp.float64):
        for case in CASES:
            call, weights, halves, size = parts(case)
            stored = golden_files.collect(GOLDEN, f"w/{case}/")
            assert set(stored) == {name for name, _, _ in weights}
            # Cells stack the edges: here there is one.
            row = 0 if case.split("/")[0] == "preprocess" else 1
            arrays = {
                name: layout.load(stored[name].astype(dtype))
                for name, _, layout in weights
            }
            params = nested(
                (
                    path,
                    jnp.asarray(arrays[name].reshape((1,) * row + arrays[name].shape)),
                )
                for name, path, _ in weights
            )
            channels = GOLDEN[f"in/cotangent/{case}"].shape[1]
            shape = (1,) * row + (channels,)
            statistics = nested(
                (path, jnp.full(shape, float(path[-1].endswith("var")), dtype))
                for _, path in halves
            )
            x = images(GOLDEN[f"in/x/{size}"], dtype)
            cotangent = images(GOLDEN[f"in/cotangent/{case}"], dtype)
            inputs[case] = (params, statistics, x, cotangent)
            calls[case] = call, weights, halves

        @jit
        def run(inputs):
            results = {}
            for case, (params, statistics, x, cotangent) in inputs.items():

                def evaluate(params, x, case=case, statistics=statistics):
                    variables = {"params": params, "batch_stats": statistics}
                    return calls[case][0](variables, x)

                y, pull, changed = jax.vjp(evaluate, params, x, has_aux=True)
                results[case] = y, pull(cotangent), changed
            return results

        results = jax.device_get(run(inputs))
    found = {}
    for case, (y, (by_params, by_x), changed) in results.items():
        _, weights, halves = calls[case]
        row = case.split("/")[0] != "preprocess"
        own = (lambda a: a[0]) if row else (lambda a: a)
        found[case] = {
            "out/y": y.transpose(0, 3, 1, 2),
            "grad/x": by_x.transpose(0, 3, 1, 2),
            "grad/w": {
                name: layout.dump(own(leaf(by_params, path)))
                for name, path, layout in weights
            },
            "out/bn": {
                name: own(leaf(changed["batch_stats"], path)) for name, path in halves
            },
        }
    return found, TOLERANCE[dtype]


def test_all_cases_are_there():
    assert len(CASES) == 49


@pytest.mark.parametrize("case", CASES)
def test_primitive(computed, case):
    results, tolerance = computed
    found = results[case]
    for kind in ("out/y", "grad/x"):
        assert_close(found[kind], GOLDEN[f"{kind}/{case}"], tolerance, kind)
    for kind in ("grad/w", "out/bn"):
        expected = golden_files.collect(GOLDEN, f"{kind}/{case}/")
        assert set(found[kind]) == set(expected)
        for name, value in expected.items():
            assert_close(found[kind][name], value, tolerance, name)
