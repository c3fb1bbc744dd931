"""Exported language models give the numbers of ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.exporting import difference, load_source, random_values

import jnas
from jnas.networks.export import export_module
from jnas.networks.export_weights import export_variables, write_arrays
from jnas.spaces import Cell, Edge, Genotype

TOKENS = np.random.default_rng(0).integers(0, 7, (3, 5)).astype(np.int32)
NEXT = np.random.default_rng(1).integers(0, 7, (3, 5)).astype(np.int32)
SIZE = {"vocab_size": 7, "width": 6}
# State 3 is read by nobody, state 0 is put out.
ODD = Genotype(
    "mine",
    (
        (
            "recurrent",
            Cell(
                [Edge("identity", 0, 1), Edge("sigmoid", 1, 2), Edge("relu", 1, 3)],
                (0, 2),
            ),
        ),
    ),
)


def theirs(genotype, style, folder, weights, key, **options):
    source = export_module(genotype, style=style, **SIZE, **options)
    module = load_source(source, folder)
    file = folder / f"{style}.npz"
    write_arrays(file, export_variables(genotype, weights, style=style))
    more = {} if key is None else {"key": key}
    with jax.numpy_rank_promotion("allow"):
        if style == "linen":
            network, variables = module.Network(), module.load(file)
            shapes = jax.eval_shape(network.init, jax.random.key(0), TOKENS)
            assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, shapes)
            logits, state = network.apply(variables, TOKENS, **more)
            return logits, network.apply(variables, NEXT, state)[0]
        model = module.Network(rngs=nnx.Rngs(0))
        module.load(model, file)
        logits, state = model(TOKENS, **more)
        return logits, model(NEXT, state)[0]


@pytest.mark.parametrize("style", ["linen", "nnx"])
@pytest.mark.parametrize(
    ("genotype", "rates"),
    [
        ("DARTS_RNN_V1", (0.0,) * 5),
        ("ENAS_RNN", (0.3, 0.25, 0.2, 0.15, 0.1)),
        (ODD, (0.0, 0.0, 0.0, 0.0, 0.5)),
    ],
    ids=["plain", "dropout", "odd"],
)
def test_language_models(genotype, rates, style, x64, tmp_path):
    dropouts = jnas.networks.Dropouts(*rates)
    network = jnas.networks.recurrent(
        genotype, **SIZE, dropouts=dropouts, dtype=np.float64
    )
    shapes = jax.eval_shape(network.init, jax.random.key(0), {"tokens": TOKENS})
    weights = jax.tree.map(jnp.asarray, random_values(shapes.weights, np.float64))
    key = jax.random.key(5) if any(rates) else None
    outputs, state = network.apply(
        weights, {}, {"tokens": TOKENS}, train=key is not None, key=key
    )
    after, _ = network.apply(weights, state, {"tokens": NEXT}, train=False)
    first, second = theirs(genotype, style, tmp_path, weights, key, dropouts=dropouts)
    assert difference(first, outputs.logits) < 1e-12
    assert difference(second, after.logits) < 1e-12


def test_states_that_nobody_reads_are_left_out():
    source = export_module(ODD, **SIZE)
    assert "s2 = " in source
    assert "s3 = " not in source
