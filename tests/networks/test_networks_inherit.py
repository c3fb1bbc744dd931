"""Weight inheritance: the network computes what the supernet computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import mixture
from jnas.spaces import Edge

IMAGES = (4, 8, 8, 1)


def both(space, genotype, classes=10, seed=0, **size):
    """Supernet logits at the genotype, and those of the network that inherits."""
    images = jax.random.normal(jax.random.key(5), IMAGES)
    net = jnas.supernet.build(space, dtype=images.dtype, **size)
    shared, state = net.init(jax.random.key(seed), images)
    # Scales and shifts of the supernet away from where the network's begin.
    shared = jax.tree.map(lambda x: x + 0.1, shared)
    final = jnas.networks.build(
        genotype, dtype=images.dtype, num_classes=classes, **size
    )
    start = final.init(jax.random.key(seed + 1), images)
    variables = jnas.networks.inherit(start, final, net, shared)
    assert jax.tree.structure(variables) == jax.tree.structure(start)
    mixed = mixture.from_genotype(space, genotype)
    expected, _ = jax.jit(lambda: net.apply(shared, state, mixed, images, train=True))()
    got, _ = jax.jit(
        lambda: final.apply(*variables, images, train=False, statistics="batch")
    )()
    return got, expected, variables, start, shared


@pytest.mark.parametrize("genes", [[3, 2, 3, 4, 1, 2], [1, 0, 3, 2, 3, 4]])
def test_nasbench201_logits_are_the_supernets(genes, x64):
    space = jnas.spaces.nasbench201()
    got, expected, variables, *_ = both(
        space, space.decode(genes), channels=4, cells_per_stage=1
    )
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)
    for name, cell in variables.weights.items():
        if name != "skeleton":
            assert all("bias" not in edge for edge in cell.values())


def without_pools(space, seed):
    """A random genotype of the space without pools."""
    rng = np.random.default_rng(seed)
    chosen = [o for o in space.group("normal").operations[3:]]
    genotype = space.decode(space.random(rng))
    cells = []
    for name, cell in genotype.cells:
        names = [*chosen, *rng.choice(chosen, 3)]
        edges = tuple(
            Edge(op, e.source, e.target)
            for op, e in zip(rng.permutation(names), cell.edges, strict=True)
        )
        cells.append((name, cell._replace(edges=edges)))
    return jnas.Genotype(genotype.space, tuple(cells))


def test_darts_logits_are_the_supernets(x64):
    space = jnas.spaces.darts()
    genotype = without_pools(space, 0)
    used = {e.operation for _, cell in genotype.cells for e in cell.edges}
    assert used == set(space.group("normal").operations[3:])
    got, expected, *_ = both(space, genotype, channels=4, cells=3)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)


def test_what_is_inherited_and_what_not():
    space = jnas.spaces.nasbench201()
    _, _, variables, start, shared = both(
        space, space.decode([3] * 6), 7, channels=4, cells_per_stage=1
    )
    weights, own = variables.weights, start.weights
    same = np.testing.assert_array_equal
    stem = "stem_conv"
    same(weights["skeleton"][stem]["kernel"], shared["skeleton"][stem]["kernel"])
    block = ("skeleton", "reduction_1", "conv_a", "norm", "scale")
    for key in block:
        weights, shared, own = weights[key], shared[key], own[key]
    same(weights, shared)
    # Another number of classes: the classifier begins anew.
    skeleton = variables.weights["skeleton"]["classifier"]["kernel"]
    same(skeleton, start.weights["skeleton"]["classifier"]["kernel"])
    edge = variables.weights["cell_0"]["edge2_nor_conv_3x3"]
    same(edge["norm"]["scale"], np.ones(4))
    jax.tree.map(same, variables.model_state, start.model_state)


NB201 = jnas.spaces.nasbench201()
DARTS = jnas.spaces.darts()
ARCH = NB201.decode([3] * 6)


@pytest.mark.parametrize(
    ("space", "size", "genotype", "other", "match"),
    [
        (
            NB201,
            {"channels": 4, "cells_per_stage": 1},
            ARCH,
            {"channels": 8, "cells_per_stage": 1},
            "channels must be those of the supernet to inherit .*got 8 and 4",
        ),
        (
            NB201,
            {"channels": 4, "cells_per_stage": 1},
            ARCH,
            {"channels": 4, "cells_per_stage": 2},
            "cells_per_stage must be those",
        ),
        (
            NB201,
            {"channels": 4, "cells_per_stage": 1},
            "DARTS_V2",
            {"channels": 4, "cells": 3},
            "cells must be those",
        ),
        (
            DARTS,
            {"channels": 4, "cells": 3},
            "NASNet",
            {"channels": 4, "cells": 3},
            "",  # whatever the space says of it
        ),
    ],
)
def test_bad_inheritance(space, size, genotype, other, match):
    supernet = jnas.supernet.build(space, **size)
    network = jnas.networks.build(genotype, **other)
    image = jax.ShapeDtypeStruct(IMAGES, jnp.float32)
    shared = jax.eval_shape(supernet.init, jax.random.key(0), image).weights
    start = jax.eval_shape(network.init, jax.random.key(0), image)
    with pytest.raises(jnas.JnasError, match=match) as error:
        jnas.networks.inherit(start, network, supernet, shared)
    assert "\n" not in str(error.value)


def test_weights_of_another_supernet():
    size = {"channels": 4, "cells_per_stage": 1}
    supernet = jnas.supernet.build(NB201, **size)
    network = jnas.networks.build(ARCH, **size)
    image = jax.ShapeDtypeStruct(IMAGES, jnp.float32)
    start = jax.eval_shape(network.init, jax.random.key(0), image)
    with pytest.raises(jnas.JnasError, match=r"have no cell_0/nor_conv_3x3/kernel"):
        jnas.networks.inherit(start, network, supernet, {"skeleton": {}})
    bare = supernet._replace(config=None)
    with pytest.raises(jnas.JnasError, match=r"made by jnas.supernet.build"):
        jnas.networks.inherit(start, network, bare, {})
