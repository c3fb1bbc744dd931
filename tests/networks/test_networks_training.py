"""Training of final networks, the papers' recipes, and exact evaluation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnas
from jnas import networks
from jnas.data.base import Split

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|skip_connect~2|"
SIZE = {"channels": 4, "cells_per_stage": 1, "num_classes": 3}


def separable(count, seed=0):
    """Images whose label is told by a pattern, in noise."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).normal(size=(3, 8, 8, 1))
    label = rng.integers(0, 3, count).astype(np.int32)
    image = patterns[label] + 0.3 * rng.normal(size=(count, 8, 8, 1))
    return {"image": image.astype(np.float32), "label": label}


@pytest.fixture(scope="module")
def net():
    return networks.build(CELL, **SIZE)


@pytest.fixture(scope="module")
def trained(net):
    """A trainer with drop path, its first and last states, and the infos."""
    training = networks.trainer(net, tx=optax.sgd(0.05, 0.9), drop_path=0.1)
    batch = separable(32)
    first = training.init(jax.random.key(0), batch["image"])
    step = jax.jit(training.step)
    state, infos = first, []
    for _ in range(30):
        state, info = step(state, batch)
        infos.append(info)
    return training, first, state, infos


def test_training_lowers_the_loss(trained):
    _, _, state, infos = trained
    assert int(state.step) == 30
    assert float(infos[-1].train_loss) < 0.5 * float(infos[0].train_loss)
    assert float(infos[-1].train_metrics["accuracy"]) > 0.9
    assert float(infos[0].grad_norm) > 0


def test_training_carries_over_to_other_examples(trained):
    training, first, state, _ = trained
    batches = [separable(40, seed=1)]
    before = networks.evaluate(training, first, batches)
    after = networks.evaluate(training, state, batches)
    assert after["accuracy"] > 0.8 and after["loss"] < before["loss"]


def test_every_weight_is_trained(trained):
    _, first, state, _ = trained
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(first.weights),
        jax.tree.leaves(state.weights),
        strict=True,
    )
    for (path, before), after in pairs:
        assert not jnp.array_equal(before, after), jax.tree_util.keystr(path)


def test_a_step_is_a_pure_function_of_its_state(trained):
    training, first, *_ = trained
    batch = separable(32)
    step = jax.jit(training.step)
    once, info = step(first, batch)
    again, other = step(first, batch, None)  # the loop passes a second batch
    jax.tree.map(np.testing.assert_array_equal, once.weights, again.weights)
    assert float(info.train_loss) == float(other.train_loss)
    # Another step draws another mask, though the key stays.
    assert jnp.array_equal(
        jax.random.key_data(once.key), jax.random.key_data(first.key)
    )
    later = first._replace(step=first.step + 1)
    assert float(step(later, batch)[1].train_loss) != float(info.train_loss)


def linear_network():
    """A linear model that counts its passes, and the rates and keys it was given."""
    seen = []

    def init(key, inputs):
        weights = jax.random.normal(key, (math.prod(inputs.shape[1:]), 3)) / 8
        return jnas.supernet.Variables(weights, {"passes": jnp.zeros(())})

    def apply(weights, model_state, inputs, *, train, rates=None, key=None):
        seen.append((rates, key))
        flat = inputs.reshape(len(inputs), -1)
        return flat @ weights, {"passes": model_state["passes"] + 1}

    genotype = jnas.Genotype.parse(CELL)
    return networks.Network(genotype, init, apply, {}), seen


def test_a_step_is_sgd_on_the_loss():
    net, _ = linear_network()
    training = networks.trainer(net, tx=optax.sgd(0.5))
    batch = separable(8)
    state = training.init(jax.random.key(0), batch["image"])
    weights = np.asarray(state.weights, np.float64)
    inputs = batch["image"].reshape(8, -1).astype(np.float64)
    p = np.exp(inputs @ weights)
    p /= p.sum(-1, keepdims=True)
    target = np.eye(3)[batch["label"]]
    grad = inputs.T @ (p - target) / 8
    after, info = training.step(state, batch)
    np.testing.assert_allclose(
        after.weights, weights - 0.5 * grad, rtol=1e-4, atol=1e-6
    )
    loss = -np.mean(np.sum(target * np.log(p), -1))
    np.testing.assert_allclose(info.train_loss, loss, rtol=1e-5)
    np.testing.assert_allclose(info.grad_norm, np.linalg.norm(grad), rtol=1e-5)
    assert float(after.model_state["passes"]) == 1 and int(after.step) == 1


def test_drop_path_schedule_is_given_the_step():
    net, seen = linear_network()
    batch = separable(4)
    for drop_path, expected in ((0.0, None), (0.25, 0.25), (lambda s: 0.1 * s, 0.3)):
        training = networks.trainer(net, tx=optax.sgd(0.1), drop_path=drop_path)
        state = training.init(jax.random.key(0), batch["image"])
        training.step(state._replace(step=jnp.int32(3)), batch)
        rates, key = seen.pop()
        assert key is not None
        if expected is None:
            assert rates is None
        else:
            np.testing.assert_allclose(rates["drop_path"], expected, rtol=1e-6)


def test_a_run_of_the_loop():
    data = separable(20)
    pixels = np.clip(data["image"] * 40 + 128, 0, 255).astype(np.uint8)
    feed = jnas.data.feed(
        Split(pixels, data["label"]),
        None,
        batch_size=8,
        mean=(0.5,),
        std=(0.25,),
        augment=jnas.data.Augment(),
    )
    net, _ = linear_network()
    training = networks.nasbench201_recipe(net, steps_per_epoch=2, epochs=1)
    result = jnas.run.loop(
        training.step,
        lambda key: training.init(key, jax.ShapeDtypeStruct((8, 8, 8, 1), "float32")),
        feed,
        epochs=1,
        steps_per_epoch=2,
        progress=False,
    )
    assert result.step == 2 and math.isfinite(result.history[0]["train_loss"])
    assert set(result.history[0]) >= {"train_accuracy", "grad_norm"}


@pytest.fixture(scope="module")
def evaluated(trained):
    """A trainer whose predictions are counted, and what they should give."""
    training, _, state, _ = trained
    traces = []

    def predict(state, images):
        traces.append(images.shape)
        return training.predict(state, images)

    counted = training._replace(predict=predict)
    data = separable(11, seed=3)
    data["label"][:4] = (data["label"][:4] + 1) % 3  # some errors for certain
    logits = np.asarray(training.predict(state, data["image"]), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    accuracy = np.mean(logits.argmax(-1) == data["label"])
    loss = -np.mean(log_p[np.arange(11), data["label"]])
    return counted, state, data, traces, accuracy, loss


def padded(data, size, junk=False):
    total = len(data["label"])
    for start in range(0, total, size):
        rows = np.arange(start, start + size)
        weight = (rows < total).astype(np.float32)
        image, label = data["image"][rows % total], data["label"][rows % total]
        if junk:
            image = np.where(weight[:, None, None, None] > 0, image, np.nan)
        yield {"image": image, "label": label, "weight": weight}


@pytest.mark.parametrize(("size", "junk"), [(4, False), (11, False), (16, True)])
def test_evaluation_counts_each_example_once(evaluated, size, junk):
    training, state, data, _, accuracy, loss = evaluated
    result = networks.evaluate(training, state, padded(data, size, junk))
    assert result["count"] == 11
    assert 0 < accuracy < 1 and result["accuracy"] == accuracy
    error = math.sqrt(accuracy * (1 - accuracy) / 11)
    assert result["standard_error"] == pytest.approx(error)
    assert result["loss"] == pytest.approx(loss, rel=1e-5)


def test_evaluation_compiles_once(evaluated):
    training, state, data, traces, accuracy, _ = evaluated
    traces.clear()
    other = jax.tree.map(lambda x: x, state)
    for current in (state, other, state._replace(step=state.step + 1)):
        result = networks.evaluate(training, current, padded(data, 6))
        assert result["accuracy"] == accuracy
    assert traces == [(6, 8, 8, 1)]


def test_evaluation_without_weights_counts_every_row(evaluated):
    training, state, data, _, accuracy, _ = evaluated
    result = networks.evaluate(training, state, [data])
    assert result["count"] == 11 and result["accuracy"] == accuracy


def test_evaluation_uses_running_statistics(evaluated):
    training, state, data, *_ = evaluated
    other = jax.tree.map(lambda x: x + 1, state.model_state)
    a = networks.evaluate(training, state, [data])
    b = networks.evaluate(training, state._replace(model_state=other), [data])
    assert a["loss"] != b["loss"]


@pytest.mark.parametrize(
    ("batches", "match"),
    [
        ([], "no examples"),
        ([{**separable(2), "weight": np.zeros(2)}], "no examples"),
        ([{**separable(2), "weight": np.array([0.5, 1])}], "0 .padding. or 1"),
    ],
)
def test_bad_batches(evaluated, batches, match):
    training, state, *_ = evaluated
    with pytest.raises(jnas.JnasError, match=match):
        networks.evaluate(training, state, batches)


def without_gradient(training):
    """Learning rates of 40 steps in which the L2 term alone moves the weights."""
    batch = {"image": jnp.zeros((4, 2, 1, 1)), "label": jnp.zeros(4, jnp.int32)}
    state = training.init(jax.random.key(0), batch["image"])
    state = state._replace(weights=jnp.ones((2, 3)))
    step, rates, first = jax.jit(training.step), [], None
    for _ in range(40):
        state, _ = step(state, batch)
        rates.append(float(state.opt_state.hyperparams["learning_rate"]))
        first = state.weights if first is None else first
    return rates, first, state


def test_darts_recipe():
    net, seen = linear_network()
    training = networks.darts_recipe(net, steps_per_epoch=10, epochs=4)
    rates, first, state = without_gradient(training)
    epochs = np.repeat(np.arange(4), 10)  # constant within an epoch
    expected = 0.025 * (1 + np.cos(epochs * np.pi / 4)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    np.testing.assert_allclose(first, 1 - 0.025 * 3e-4, rtol=1e-7)
    assert training.config["clip"] == 5 and training.config["momentum"] == 0.9
    batch = {"image": jnp.zeros((4, 2, 1, 1)), "label": jnp.zeros(4, jnp.int32)}
    for step, drop in ((0, 0.0), (9, 0.0), (20, 0.1), (39, 0.15)):
        training.step(state._replace(step=jnp.int32(step)), batch)
        assert float(seen[-1][0]["drop_path"]) == pytest.approx(drop, rel=1e-5)


def test_nasbench201_recipe():
    net, seen = linear_network()
    training = networks.nasbench201_recipe(net, steps_per_epoch=10, epochs=4)
    rates, first, _ = without_gradient(training)
    expected = 0.1 * (1 + np.cos(np.arange(40) * np.pi / 40)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-6)
    # Nesterov: the first step is 1.9 times the plain one.
    np.testing.assert_allclose(first, 1 - 1.9 * 0.1 * 5e-4, rtol=1e-6)
    assert seen[-1][0] is None


@pytest.mark.parametrize(
    ("recipe", "factor", "clipped"),
    [
        (networks.darts_recipe, 0.025, True),
        (networks.nasbench201_recipe, 1.9 * 0.1, False),
    ],
)
def test_recipes_clip_as_their_authors(recipe, factor, clipped):
    training = recipe(
        linear_network()[0], steps_per_epoch=10, epochs=4, weight_decay=0.0
    )
    image = jnp.full((1, 2, 1, 1), 1000.0)
    state = training.init(jax.random.key(0), image)
    batch = {"image": image, "label": jnp.argmin(image[0, 0, 0] @ state.weights[:1])}
    batch["label"] = batch["label"][None]
    after, info = training.step(state, batch)
    norm = float(info.grad_norm)
    assert norm > 100
    moved = float(jnp.linalg.norm(after.weights - state.weights))
    assert moved == pytest.approx(factor * (5 if clipped else norm), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda n: networks.trainer(n, tx=optax.sgd(0.1), drop_path=1.0), "drop_path"),
        (lambda n: networks.classification(-0.1), "auxiliary_weight must be >= 0"),
        (lambda n: networks.classification(0.4, 1.0), "label_smoothing must be in"),
        (lambda n: networks.darts_recipe(n, steps_per_epoch=0), "steps_per_epoch must"),
        (
            lambda n: networks.darts_recipe(n, steps_per_epoch=5, epochs=0),
            "epochs must be a positive",
        ),
        (
            lambda n: networks.darts_recipe(n, steps_per_epoch=5, drop_path=-0.1),
            "drop_path must be in",
        ),
        (
            lambda n: networks.darts_recipe(n, steps_per_epoch=5, learning_rate=0),
            "learning_rate must be positive",
        ),
        (
            lambda n: networks.nasbench201_recipe(
                n, steps_per_epoch=5, weight_decay=-1
            ),
            "weight_decay must be >= 0",
        ),
    ],
)
def test_bad_options(call, match):
    with pytest.raises(jnas.JnasError, match=match):
        call(linear_network()[0])
