"""Final networks of genotypes that leave edges out: built, counted, exported, drawn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks.exporting import difference, ours, theirs

import jnas
from jnas.errors import JnasError
from jnas.report import cells as report_cells
from jnas.spaces import Cell, Edge, Genotype, Group, Space

# Node 3 of the normal cell and nodes 2 and 5 of the other have no edges.
SPARSE = Genotype(
    "darts",
    (
        (
            "normal",
            Cell(
                [
                    Edge("skip_connect", 0, 2),
                    Edge("avg_pool_3x3", 1, 4),
                    Edge("skip_connect", 2, 4),
                    Edge("skip_connect", 4, 5),
                ],
                (2, 4, 5),
            ),
        ),
        (
            "reduce",
            Cell([Edge("skip_connect", 1, 3), Edge("max_pool_3x3", 0, 4)], (3, 4)),
        ),
    ),
)
SIZE = {"channels": 4, "cells": 4}
IMAGES = (3, 8, 8, 1)


def shapes(network):
    image = jax.ShapeDtypeStruct(IMAGES, jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), image)


def test_the_network_has_as_many_parameters_as_are_counted():
    full = jnas.spaces.genotype("DARTS_V2")
    convolutions = Genotype(
        "darts",
        (
            ("normal", Cell([Edge("sep_conv_3x3", 1, 3)], (3,))),
            ("reduce", Cell([*full["reduce"].edges[:5]], (2, 3, 4))),
        ),
    )
    for genotype in (SPARSE, convolutions):
        for auxiliary in (False, True):
            options = {**SIZE, "auxiliary": auxiliary}
            network = jnas.networks.build(genotype, **options)
            image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
            weights = jax.eval_shape(network.init, jax.random.key(0), image).weights
            cost = jnas.cost.count(genotype, **options)
            assert jnas.cost.num_parameters(weights) == cost.parameters


def test_next_cells_have_fewer_channels():
    weights = shapes(jnas.networks.build(SPARSE, **SIZE)).weights
    flat = {
        "/".join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
    }
    # the classifier reads the three nodes of a normal cell, of 16 channels each
    assert [shape for name, shape in flat.items() if "classifier/kernel" in name] == [
        (48, 10)
    ]


@pytest.mark.parametrize("style", ["linen", "nnx"])
def test_exported_modules_agree(style, tmp_path):
    network = jnas.networks.build(SPARSE, **SIZE)
    images = jax.random.normal(jax.random.key(3), IMAGES)
    variables = network.init(jax.random.key(0), images)
    evaluated, trained, _ = ours(network, variables, images)
    with jax.numpy_rank_promotion("allow"):
        got = theirs(SPARSE, SIZE, style, tmp_path, variables, images)
    assert difference(got[0], evaluated) < 1e-5
    assert difference(got[1], trained) < 1e-5
    # each node of the output is read: all rows of the classifier are trained
    gradients = jax.jit(
        jax.grad(
            lambda w: jnp.sum(
                network.apply(w, variables.model_state, images, train=True)[0] ** 2
            )
        )
    )(variables.weights)
    assert float(jnp.abs(gradients["skeleton"]["classifier"]["kernel"]).min()) > 0


def test_states_without_edges_are_told():
    dead = Cell([Edge("skip_connect", 0, 2), Edge("skip_connect", 3, 4)], (2, 4))
    genotype = Genotype("darts", (("normal", dead), ("reduce", SPARSE["reduce"])))
    with pytest.raises(JnasError, match="reads state 3, into which no edge leads"):
        jnas.networks.build(genotype, **SIZE)
    recurrent = Genotype(
        "darts_rnn", (("recurrent", Cell([Edge("tanh", 0, 2)], (2,))),)
    )
    with pytest.raises(JnasError, match="has one edge into each node 1, 2"):
        jnas.networks.recurrent(recurrent, vocab_size=9, width=4)


def test_weights_are_inherited():
    names = jnas.spaces.nasbench201().groups[0].operations
    group = Group("cell", names, ((0, 1), (0, 2), (1, 2)), 1, (2,))
    space = Space("small", (group,), never=("none",), optional=True)
    edges = [Edge("nor_conv_1x1", 0, 2)]
    genotype = Genotype("small", (("cell", Cell(edges, (2,))),))
    size = {"channels": 2, "cells_per_stage": 1}
    net = jnas.supernet.build(space, **size)
    final = jnas.networks.build(genotype, **size)
    image = jnp.ones((2, 8, 8, 1))
    shared = jax.tree.map(
        lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype),
        jax.eval_shape(net.init, jax.random.key(0), image).weights,
    )
    start = jax.eval_shape(final.init, jax.random.key(0), image)
    start = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), start)
    weights = jnas.networks.inherit(start, final, net, shared).weights
    assert (weights["cell_0"]["edge0_nor_conv_1x1"]["kernel"] == 0.5).all()


def test_pictures_leave_nodes_without_edges_out(tmp_path):
    dot = jnas.report.to_dot(SPARSE, "reduce")
    assert 's3 [label="1"]' in dot and "s2 " not in dot
    assert 's0 [label="c_{k-2}"' in dot and "s3 -> s5" in dot
    axes = report_cells.plot_cells(SPARSE)
    texts = [text.get_text() for text in axes[1].texts]
    assert {"1", "2"} <= set(texts) and "0" not in texts
    # an input that is not read stays an input, a node without edges does not become one
    one = Genotype(
        "darts",
        (("normal", Cell([Edge("skip_connect", 0, 4)], (4,))), SPARSE.cells[1]),
    )
    dot = jnas.report.to_dot(one, "normal")
    assert 's1 [label="c_{k-1}"' in dot and "s2 " not in dot
    assert dot.count("[label=") == 4  # two inputs, the node (the output), the edge
    jnas.report.draw(SPARSE, tmp_path / "cells.svg")
    assert (tmp_path / "cells.svg").stat().st_size > 1000


def test_the_gap_of_discretisation_is_measured():
    import tiny

    space = dataclasses.replace(tiny.SPACE, never=("none",), optional=True)
    search = jnas.search.differentiable(
        tiny.tiny_supernet()._replace(space=space),
        weight_tx=jnas.optimizers.coupled_sgd(0.1),
        arch_tx=jnas.optimizers.coupled_adam(0.01),
        selector=jnas.select.threshold(),
    )
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    assert len(search.derive(state)["cell"].edges) == 1  # nothing is decided yet
    diagnostics = search.inspect(state, tiny.batch(1))
    assert float(diagnostics.loss) != float(diagnostics.derived_loss)
