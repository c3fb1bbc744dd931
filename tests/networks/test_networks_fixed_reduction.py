"""Final networks with the fixed reduction cells of GDAS (FRC).

The exported modules serve as plain reference: they are made of Flax' own grouped
convolutions and pools, and share no code with the networks.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks.exporting import built, difference, differences, numbered, ours, theirs
from networks.exporting import statistics as moved_statistics

import jnas
from jnas import mixture
from jnas.networks.export_weights import export_variables
from jnas.spaces import Cell, Edge, Genotype, Group, Space

CELL = Cell((Edge("sep_conv_3x3", 0, 2), Edge("skip_connect", 1, 2)), (2,))
GENOTYPE = Genotype("tiny_frc", (("normal", CELL),))
pytestmark = pytest.mark.filterwarnings("ignore:.*rank promotion.*")


@pytest.mark.parametrize("style", ["linen", "nnx"])
def test_networks_are_their_exported_modules(x64, tmp_path, style):
    # Two edges, but drop path needs four factors in the fixed cells.
    size, rate, key = {"channels": 8, "cells": 3}, 0.3, jax.random.key(3)
    x = np.random.default_rng(7).normal(size=(3, 8, 8, 3))
    network, variables = built(GENOTYPE, size, np.float64, x)
    options = {"rates": {"drop_path": rate}, "key": key}
    evaluated, trained, state = ours(network, variables, x, **options)
    drop = {"drop_path": rate, "key": key}
    with jax.numpy_rank_promotion("allow"):
        got = theirs(GENOTYPE, size, style, tmp_path, variables, x, drop)
    assert difference(got[0], evaluated) < 1e-12
    assert difference(got[1], trained) < 1e-12
    moved = moved_statistics(GENOTYPE, variables.weights, state, size, style)
    assert differences(numbered(got[2]), moved) < 1e-12
    before = moved_statistics(GENOTYPE, *variables, size, style)
    assert differences(moved, before) > 1e-3


def test_drop_path_drops_each_of_the_four_results():
    cell = jnas.supernet.fixed_reduction.FixedReduction(True)
    inputs = [jax.random.normal(jax.random.key(i), (2, 8, 8, 4)) for i in (0, 1)]
    scales = jnp.array([[0.0, 2], [2, 0], [1, 1], [0, 0]])
    variables = jax.jit(lambda: cell.init(jax.random.key(0), inputs, "running"))()
    variables = jax.tree.map(lambda leaf: leaf, variables)
    apply = jax.jit(lambda scales: cell.apply(variables, inputs, "running", scales))
    plain, dropped = apply(None), apply(scales)
    assert plain.shape == (2, 4, 4, 16)
    factors = jnp.repeat(scales.T, 4, axis=1)[:, None, None, :]
    np.testing.assert_allclose(dropped, plain * factors, rtol=1e-6)


def test_a_network_inherits_the_fixed_cells():
    group = Group("normal", ("sep_conv_3x3", "skip_connect"), ((0, 2), (1, 2)), 2, (2,))
    space = Space("tiny_frc", (group,), keep=2, fixed=("reduce",))
    size, images = {"channels": 4, "cells": 3}, jax.random.normal(
        jax.random.key(5), (4, 8, 8, 1)
    )  # fmt: skip
    net = jnas.supernet.build(space, **size)
    shared, state = net.init(jax.random.key(0), images)
    final = jnas.networks.build(GENOTYPE, **size)
    start = final.init(jax.random.key(1), images)
    variables = jnas.networks.inherit(start, final, net, shared)
    for kind in ("conv0", "conv1", "pointwise"):
        np.testing.assert_array_equal(
            variables.weights["cell_1"]["halving1"][kind],
            shared["cell_1"]["halving1"][kind],
        )
    mixed = mixture.from_genotype(space, GENOTYPE)
    expected, _ = jax.jit(lambda: net.apply(shared, state, mixed, images, train=True))()
    got, _ = jax.jit(lambda: final.apply(*variables, images, train=True))()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_weights_of_another_network_are_refused():
    image = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    other = jnas.networks.build("DARTS_V2", channels=4, cells=3)
    weights, _ = jax.eval_shape(other.init, jax.random.key(0), image)
    with pytest.raises(jnas.errors.JnasError, match="not those of this genotype"):
        export_variables(GENOTYPE, weights)


def test_auxiliary_head_imagenet_stem_and_depth():
    options = {"channels": 4, "cells": 3, "auxiliary": True, "stem": "imagenet"}
    net = jnas.networks.build(GENOTYPE, **options)
    image = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    weights, _ = jax.eval_shape(net.init, jax.random.key(0), image)
    counted = jnas.cost.count(GENOTYPE, **options)
    assert jnas.cost.num_parameters(weights) == counted.parameters
    with pytest.raises(jnas.errors.JnasError, match="takes cells="):
        jnas.networks.build(GENOTYPE, cells_per_stage=1)


def test_arrays_of_the_papers_code_are_refused():
    net = jnas.networks.build(GENOTYPE, channels=4, cells=3)
    with pytest.raises(jnas.errors.JnasError, match="are fixed"):
        jnas.interop.base.family(net)
