"""Weight inheritance: the network computes what the supernet computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import mixture
from jnas.spaces import Edge, Group, Space

IMAGES = (4, 8, 8, 1)


def built(space, genotype, classes=10, **size):
    """The supernet, the final network that inherits, and their variables."""
    images = jax.random.normal(jax.random.key(5), IMAGES)
    net = jnas.supernet.build(space, dtype=images.dtype, **size)
    shared, state = net.init(jax.random.key(0), images)
    # Scales and shifts of the supernet away from where the network's begin.
    shared = jax.tree.map(lambda x: x + 0.1, shared)
    final = jnas.networks.build(
        genotype, dtype=images.dtype, num_classes=classes, **size
    )
    start = final.init(jax.random.key(1), images)
    variables = jnas.networks.inherit(start, final, net, shared)
    assert jax.tree.structure(variables) == jax.tree.structure(start)
    return images, net, (shared, state), final, start, variables


def both(space, genotype, **size):
    """The logits of the final network, of the supernet, and the former's variables."""
    images, net, (shared, state), final, _, variables = built(space, genotype, **size)
    mixed = mixture.from_genotype(space, genotype)
    expected, _ = jax.jit(lambda: net.apply(shared, state, mixed, images, train=True))()
    got, _ = jax.jit(
        lambda: final.apply(*variables, images, train=False, statistics="batch")
    )()
    return got, expected, variables


def small_nasbench201():
    """NAS-Bench-201's space with one node less, which compiles quickly."""
    names = jnas.spaces.nasbench201().groups[0].operations
    group = Group("cell", names, ((0, 1), (0, 2), (1, 2)), 1, (2,))
    return Space("small", (group,))


@pytest.mark.parametrize(
    ("space", "genes"),
    [
        pytest.param(small_nasbench201(), [3, 2, 4], id="small"),
        pytest.param(
            jnas.spaces.nasbench201(),
            [3, 2, 0, 4, 1, 3],
            id="nasbench201",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_nasbench201_logits_are_the_supernets(space, genes, x64):
    got, expected, variables = both(
        space, space.decode(genes), channels=4, cells_per_stage=1
    )
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)
    for name, cell in variables.weights.items():
        if name != "skeleton":
            assert all("bias" not in edge for edge in cell.values())


def without_pools(space, seed):
    """A random genotype of the space, every operation but pools in each cell."""
    rng = np.random.default_rng(seed)
    pools = {"none", "max_pool_3x3", "avg_pool_3x3"}
    cells = []
    for name, cell in space.decode(space.random(rng)).cells:
        chosen = [o for o in space.group(name).operations if o not in pools]
        names = (chosen * len(cell.edges))[: len(cell.edges)]
        edges = tuple(
            Edge(str(op), e.source, e.target)
            for op, e in zip(rng.permutation(names), cell.edges, strict=True)
        )
        cells.append((name, cell._replace(edges=edges)))
    return jnas.Genotype(space.name, tuple(cells))


def small_darts():
    """DARTS' space with fewer nodes and operations, which compiles quickly."""
    edges = tuple((source, node) for node in (2, 3) for source in range(node))
    names = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")
    groups = [Group(n, names, edges, 2, (2, 3)) for n in ("normal", "reduce")]
    return Space("small", tuple(groups), keep=2, never=("none",))


@pytest.mark.parametrize(
    "space",
    [
        pytest.param(small_darts(), id="small"),
        pytest.param(jnas.spaces.darts(), id="darts", marks=pytest.mark.slow),
    ],
)
def test_darts_logits_are_the_supernets(space, x64):
    got, expected, _ = both(space, without_pools(space, 0), channels=4, cells=3)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)


def test_what_is_inherited_and_what_not():
    space = jnas.spaces.nasbench201()
    _, _, (shared, _), _, start, variables = built(
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
            "genotype is not in space 'darts'",
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
