"""Training as an objective, against trainings written out by hand."""

import functools
import pickle
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnas
from jnas import discrete
from jnas.discrete import training_objective
from jnas.errors import JnasError
from jnas.mixture import from_genotype

SPACE = jnas.spaces.nasbench201()
FEW = SPACE.restrict({"cell": ("none", "skip_connect", "nor_conv_1x1")})
GENES = np.array([[2, 0, 1, 2, 1, 2]], np.int32)  # of both spaces
SMALL = {"channels": 2, "batch_size": 16, "learning_rate": 0.1}
KEY = jax.random.key(7)


@functools.cache
def data():
    whole = jnas.data.load("digits")
    parts = [part.take(slice(n)) for part, n in ((whole.train, 64),
             (whole.validation, 40), (whole.test, 20))]  # fmt: skip
    named = zip(("train", "validation", "test"), parts, strict=True)
    return jnas.data.Dataset(
        name="few", num_classes=10, mean=whole.mean, std=whole.std, **dict(named)
    )


def objective(**options):
    space = FEW if options.get("program") == "supernet" else SPACE
    return discrete.training(space, data(), **{**SMALL, "epochs": 3, **options})


@functools.cache
def by_hand(epochs):
    """Final accuracy in %, of the network's own program."""
    recipe = jnas.networks.recipes.get("quick", epochs=epochs, **SMALL)
    net = jnas.networks.build(SPACE.decode(GENES[0]), channels=2, cells_per_stage=1)
    few = data()
    feed = jnas.data.feed(
        few.train, None, batch_size=16, mean=few.mean, std=few.std, augment=few.augment
    )
    trainer = recipe.trainer(net, steps_per_epoch=4)
    init_key, feed_key = jax.random.split(jax.random.fold_in(KEY, 0))
    state = trainer.init(init_key, jnp.zeros((16, 8, 8, 1)))
    step = jax.jit(lambda state, i: trainer.step(state, feed(feed_key, i)[0]))
    for i in range(4 * epochs):
        state, _ = step(state, i)
    held_out = jnas.data.batches(few.validation, 16, few.mean, few.std)
    result = jnas.networks.evaluate(trainer, state, held_out)
    assert result["count"] == 40
    return 100 * result["accuracy"]


def test_a_query_is_a_training_of_the_network():
    start = time.perf_counter()
    own = objective()
    scores, costs = own.evaluate(GENES, KEY, np.ones(1, np.float32))
    spent = time.perf_counter() - start
    np.testing.assert_allclose(scores, by_hand(3), rtol=1e-6)
    # Compilation takes longer than a dozen steps and is left out.
    assert 0 < costs[0] < spent / 2
    # The fidelity is the share of the epochs, whose schedule is that of a shorter run.
    for share in (0.4, 0.01):
        scores, _ = own.evaluate(GENES, KEY, np.full(1, share, np.float32))
        np.testing.assert_allclose(scores, by_hand(1), rtol=1e-6)
    assert own.config["data"] == "few" and own.config["recipe"]["epochs"] == 3
    assert not own.traceable and own.cost_unit == "s"


def test_the_supernet_s_program_trains_the_same_as_a_dense_supernet():
    own = objective(program="supernet", clip=None)
    spec = own.evaluate.__self__
    run = training_objective._compiled(spec, None, 3)
    state = run.begin(KEY)
    inner = {**state.model_state, "genes": jnp.asarray(GENES[0])}
    state = state._replace(model_state=inner)
    weights = jax.tree.map(jnp.copy, state.weights)
    net = jnas.supernet.build(FEW, channels=2, cells_per_stage=1)
    mixture = from_genotype(FEW, FEW.decode(GENES[0]))
    feed = training_objective._material(spec.data, spec.recipe).feed

    @jax.jit
    def gradient(weights, step):
        batch, _ = feed(KEY, step)

        def loss(weights):
            logits, _ = net.apply(
                weights, inner_state, mixture, batch["image"], train=True
            )
            return optax.softmax_cross_entropy_with_integer_labels(
                logits, batch["label"]
            ).mean()

        return jax.grad(loss)(weights)

    inner_state = {"batch_stats": jax.tree.map(jnp.copy, inner["batch_stats"])}
    velocity = jax.tree.map(jnp.zeros_like, weights)
    for step in range(3):
        state, _ = run.advance(state, feed, KEY, jnp.int32(step))
        rate = 0.1 * (1 + np.cos(np.pi * step / 12)) / 2
        velocity = jax.tree.map(
            lambda v, g, w: 0.9 * v + g + 3e-4 * w,
            velocity,
            gradient(weights, jnp.int32(step)),
            weights,
        )
        weights = jax.tree.map(lambda w, v, r=rate: w - r * v, weights, velocity)
    flat = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)])
            for t in (state.weights, weights)]  # fmt: skip
    np.testing.assert_allclose(*flat, rtol=1e-3, atol=1e-4)


def test_one_program_serves_all_candidates_keys_and_copies(monkeypatch):
    own = objective(program="supernet", epochs=2)
    genes = FEW.random(0, n=3)
    training_objective._compiled.cache_clear()
    scores = own(genes, KEY)
    assert np.isfinite(scores).all() and scores.dtype == np.float32
    np.testing.assert_array_equal(own(genes, KEY), scores)
    own(genes[:1], jax.random.key(8))
    assert training_objective._compiled.cache_info().misses == 1
    seen, run = [], training_objective._compiled(own.evaluate.__self__, None, 2)

    def score(weights, model_state, batch):
        seen.append(model_state["genes"].tolist())
        return run.score(weights, model_state, batch)

    spied = run._replace(score=score)
    monkeypatch.setattr(training_objective, "_compiled", lambda *_: spied)
    np.testing.assert_array_equal(own(genes, KEY), scores)
    assert seen == np.repeat(genes, 3, axis=0).tolist()  # of three batches
    # A description that travels finds the programs again, with data by name.
    named = discrete.training(SPACE, "digits", **SMALL, epochs=2)
    copy = pickle.loads(pickle.dumps(named))
    assert copy.evaluate.__self__ == named.evaluate.__self__
    assert hash(copy.evaluate.__self__) == hash(named.evaluate.__self__)


def test_what_diverges_is_nan():
    own = objective(program="supernet", learning_rate=1e30, clip=None, epochs=1)
    scores, costs = own.evaluate(GENES, KEY, np.ones(1, np.float32))
    assert np.isnan(scores).all() and costs[0] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"program": "both"}, "unknown program"),
        ({"epoch": 3}, "unknown field of a recipe"),
        ({"epochs": 0}, "epochs must be"),
        ({"data": 3}, r"name of a dataset or a jnas\.data\.Dataset"),
        ({"recipe": "fast"}, "unknown recipe"),
        ({"space": "darts_rnn"}, "recipe 'quick' is for images"),
        ({"space": "darts_rnn", "recipe": "darts_rnn"}, "use one of images"),
        ({"program": "supernet", "drop_path": 0.2}, "no drop path"),
        ({"space": "darts", "cells": None}, "how many cells"),
        ({"space": 3}, r"space must be a jnas\.Space"),
    ],
)
def test_wrong_calls_are_one_clear_line(options, message):
    options = {"data": "digits", "space": SPACE, **options}
    space, given = options.pop("space"), options.pop("data")
    with pytest.raises(JnasError, match=message):
        discrete.training(space, given, **options)
