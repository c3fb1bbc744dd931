"""Final language models: evaluation, training, other cells, bad input."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnas
from jnas import networks
from jnas.data import text_batches, text_feed
from jnas.spaces import Genotype

V, N, B, T = 6, 5, 3, 4
TEXT = np.random.default_rng(0).integers(0, V, 101).astype(np.int32)
BUILDERS = {
    "DARTS_RNN_V1": functools.partial(networks.recurrent, "DARTS_RNN_V1"),
    "ENAS_RNN": functools.partial(networks.recurrent, "ENAS_RNN"),
    "vanilla": networks.vanilla_rnn,
}


@pytest.fixture(params=BUILDERS)
def net(request):
    return BUILDERS[request.param](vocab_size=V, width=N)


def enlarged(trainer, inputs):
    state = trainer.init(jax.random.key(0), inputs)
    return state._replace(weights=jax.tree.map(lambda w: 10 * w, state.weights))


def test_evaluation_is_exact_and_independent_of_the_windows(net):
    trainer = networks.trainer(net, tx=optax.sgd(0.1))
    state = enlarged(trainer, {"tokens": np.zeros((B, T), np.int32)})
    # The whole text in one pass.
    outputs, _ = net.apply(state.weights, {}, {"tokens": TEXT[None, :-1]}, train=False)
    log = np.asarray(jax.nn.log_softmax(outputs.logits[0]), np.float64)
    expected = -np.mean(log[np.arange(100), TEXT[1:]])
    hits = np.mean(np.argmax(log, -1) == TEXT[1:])
    for bptt in (7, 100):
        got = networks.evaluate_text(trainer, state, text_batches(TEXT, 1, bptt))
        np.testing.assert_allclose(got["loss"], expected, rtol=1e-5)
        np.testing.assert_allclose(got["bits"], expected / math.log(2), rtol=1e-5)
        np.testing.assert_allclose(got["perplexity"], math.exp(expected), rtol=1e-5)
        np.testing.assert_allclose(got["accuracy"], hits)
        assert got["count"] == 100
    # Columns read without what came before differ, but count as many.
    parted = networks.evaluate_text(trainer, state, text_batches(TEXT, 8, 5))
    assert parted["count"] == 100 and abs(parted["loss"] - expected) < 0.3
    with pytest.raises(jnas.JnasError, match="nothing to predict"):
        networks.evaluate_text(trainer, state, [])


def test_training_learns_a_periodic_text_and_carries_the_state(net):
    text = np.tile(np.array([0, 1, 2, 2, 3, 3, 3], np.int32), 60)
    feed = text_feed(text, None, batch_size=B, bptt=T)
    trainer = networks.trainer(
        net, tx=optax.adam(0.03), task=jnas.supernet.language_modelling()
    )
    state = trainer.init(jax.random.key(0), feed(jax.random.key(0), 0)[0])

    @jax.jit
    def run(state):
        def step(state, i):
            return trainer.step(state, feed(jax.random.key(0), i)[0])

        return jax.lax.scan(step, state, jnp.arange(300))

    state, info = run(state)
    assert info.train_metrics["bits"][0] > 2 and info.train_metrics["bits"][-1] < 0.3
    measured = networks.evaluate_text(trainer, state, text_batches(text, 2, T))
    assert measured["bits"] < 0.3
    assert np.any(state.model_state["carry"])


def test_recipe_scales_short_windows_and_adds_the_penalty():
    net = BUILDERS["vanilla"](vocab_size=V, width=N)
    options = {"steps_per_epoch": 5, "epochs": 2, "bptt": T, "learning_rate": 1.0}
    tokens = TEXT[: B * T].reshape(B, T)
    full = {"tokens": tokens, "target": tokens, "length": T, "reset": False}
    alone = {"tokens": tokens[:, :2], "target": tokens[:, :2], "length": 2}

    def moved(batch, bptt=T, slowness=0.0):
        sizes = {**options, "bptt": bptt}
        trainer = networks.darts_rnn_recipe(net, slowness=slowness, **sizes)
        state = enlarged(trainer, full)
        after, info = jax.jit(trainer.step)(state, batch)
        change = jax.tree.map(jnp.subtract, after.weights, state.weights)
        return jax.tree.leaves(change), float(info.train_loss)

    # Two of four times: half the step on the gradient of those two.
    short, _ = moved({**full, "length": 2})
    for batch, bptt, factor in ((alone, T, 1), (alone, 2, 0.5)):
        for a, b in zip(short, moved(batch, bptt)[0], strict=True):
            np.testing.assert_allclose(a, factor * b, rtol=1e-4, atol=1e-6)
    # The penalty moves the weights, but is no part of the loss that is shown.
    plain, loss = moved(full)
    slow, same = moved(full, slowness=10.0)
    assert same == pytest.approx(loss, rel=1e-6)
    assert not all(map(np.allclose, plain, slow))


def test_scale_by_window_needs_the_batch():
    tx = jnas.optimizers.scale_by_window(4)
    with pytest.raises(jnas.JnasError, match="needs the batch"):
        tx.update(jnp.ones(2), tx.init(None))
    with pytest.raises(jnas.JnasError, match="bptt must be a positive"):
        jnas.optimizers.scale_by_window(0)


def cell(*edges, concat=(1,)):
    return Genotype("mine", [("recurrent", (edges, concat))])


BAD = {
    "convolutional": ({"genotype": "DARTS_V2"}, "one cell, got .*networks.build"),
    "no genotype": ({"genotype": 3}, "must be a jnas.Genotype or its text, got int"),
    "two edges": (
        {"genotype": cell(("tanh", 0, 1), ("relu", 0, 1))},
        "one edge into each node",
    ),
    "operation": ({"genotype": cell(("gelu", 0, 1))}, "unknown activation 'gelu'"),
    "none": ({"genotype": cell(("none", 0, 1))}, "unknown activation 'none'"),
    "width": ({"width": 0}, "width must be a positive"),
    "dropout": ({"dropouts": networks.Dropouts(output=-1)}, "dropout output must be"),
    "dtype": ({"dtype": jnp.int8}, "dtype must be a floating"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_one_line(case):
    options, message = BAD[case]
    options = {"genotype": "DARTS_RNN_V1", "vocab_size": V, "width": N, **options}
    with pytest.raises(jnas.JnasError, match=message) as error:
        networks.recurrent(options.pop("genotype"), **options)
    assert "\n" not in str(error.value)


def test_networks_take_no_rates(net):
    inputs = {"tokens": np.zeros((B, T), np.int32)}
    weights, state = net.init(jax.random.key(0), inputs)
    with pytest.raises(jnas.JnasError, match="has no rates"):
        net.apply(weights, state, inputs, train=True, rates={"drop_path": 0.1})
    with pytest.raises(jnas.JnasError, match="learning_rate must be positive"):
        networks.darts_rnn_recipe(net, steps_per_epoch=1, learning_rate=0)


def test_a_supernets_weights_are_inherited_whole():
    space = jnas.spaces.darts_rnn()
    inputs = {"tokens": np.zeros((B, T), np.int32)}
    supernet = jnas.supernet.recurrent(space, vocab_size=V, width=N)
    shared = supernet.init(jax.random.key(1), inputs).weights
    net = networks.recurrent("DARTS_RNN_V2", vocab_size=V, width=N)
    start = net.init(jax.random.key(0), inputs)
    got = networks.inherit(start, net, supernet, shared)
    jax.tree.map(np.testing.assert_array_equal, got.weights, shared)
    assert not np.any(got.model_state["carry"])
    wide = networks.recurrent("DARTS_RNN_V2", vocab_size=V, width=N + 1)
    with pytest.raises(jnas.JnasError, match="width must be those of the supernet"):
        networks.inherit(start, wide, supernet, shared)
    enas = networks.recurrent("ENAS_RNN", vocab_size=V, width=N)
    with pytest.raises(jnas.JnasError, match="not in space 'darts_rnn'"):
        networks.inherit(start, enas, supernet, shared)
