"""Mixup and label smoothing against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnas
from jnas import networks
from jnas.networks import mixup
from jnas.networks.base import Outputs

B, K = 8, 10


def batch():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(B, 4, 4, 2)).astype(np.float32)
    return {"image": jnp.asarray(image), "label": jnp.arange(B)}  # labels tell rows


def test_images_are_blended_with_a_permutation_of_the_batch():
    plain = batch()
    for seed in range(5):
        got = mixup.mix(jax.random.key(seed), plain, 1.0)
        order = np.asarray(got["partner"])
        assert sorted(order) == list(range(B))
        share, x = float(got["share"]), np.asarray(plain["image"], np.float64)
        assert 0 <= share <= 1
        expected = share * x + (1 - share) * x[order]
        np.testing.assert_allclose(got["image"], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(got["label"], plain["label"])
    half = {**plain, "image": plain["image"].astype(jnp.bfloat16)}
    assert mixup.mix(jax.random.key(0), half, 1.0)["image"].dtype == jnp.bfloat16


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_of_the_beta_distribution(alpha):
    draw = jax.jit(jax.vmap(lambda key: mixup.mix(key, batch(), alpha)["share"]))
    shares = np.asarray(draw(jax.random.split(jax.random.key(1), 4000)))
    variance = 1 / (4 * (2 * alpha + 1))
    # Four standard errors; that of the variance is below variance / sqrt(n).
    assert abs(shares.mean() - 0.5) < 4 * np.sqrt(variance / 4000)
    assert abs(shares.var() - variance) < 4 * variance / np.sqrt(4000)


def log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_the_loss_is_that_of_blended_smoothed_labels(share):
    rng = np.random.default_rng(1)
    logits, head = rng.normal(size=(2, B, K))
    label, partner = np.arange(B), np.roll(np.arange(B), 1)
    one_hot = share * np.eye(K)[label] + (1 - share) * np.eye(K)[partner]
    # Szegedy et al., CVPR 2016, eq. 7.6: (1 - e) one-hot + e / K over all K classes.
    target = 0.9 * one_hot + 0.1 / K
    expected = -np.mean(np.sum(target * log_softmax(logits), -1))
    expected += -0.4 * np.mean(np.sum(target * log_softmax(head), -1))
    task = mixup.mixed(networks.classification(0.4, 0.1))
    blended = {"label": label, "partner": partner, "share": jnp.float32(share)}
    outputs = Outputs(jnp.asarray(logits, "f4"), jnp.asarray(head, "f4"))
    loss, metrics = task.loss(outputs, blended)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    larger = label if share > 0.5 else partner
    assert float(metrics["accuracy"]) == np.mean(logits.argmax(-1) == larger)


def test_accuracy_is_that_of_the_larger_part():
    task = mixup.mixed(networks.classification())
    logits = jnp.eye(4)[jnp.array([1, 1])] * 9
    for share, expected in ((0.6, 1.0), (0.4, 0.0)):
        mixed = {"label": jnp.array([1, 1]), "partner": jnp.array([0, 0])}
        _, metrics = task.loss(logits, {**mixed, "share": jnp.float32(share)})
        assert float(metrics["accuracy"]) == expected


def seeing_network():
    """A linear model that keeps the keys and images of its passes."""
    seen = []

    def init(key, inputs):
        weights = jax.random.normal(key, (32, K)) / 8
        return jnas.supernet.Variables(weights, {})

    def apply(weights, model_state, inputs, *, train, rates=None, key=None):
        seen.append((jax.random.key_data(key), jax.lax.stop_gradient(inputs)))
        return inputs.reshape(B, -1) @ weights, model_state

    genotype = jnas.Genotype.parse("DARTS_V1")
    return networks.Network(genotype, init, apply, {}), seen


def test_mixup_0_is_training_without_it():
    network, seen = seeing_network()
    training = networks.trainer(network, tx=optax.sgd(0.1), mixup=0.0)
    state = training.init(jax.random.key(3), batch()["image"])
    state = state._replace(step=jnp.int32(5))
    after, info = training.step(state, batch())
    key, images = seen.pop()
    np.testing.assert_array_equal(
        key, jax.random.key_data(jax.random.fold_in(state.key, 5))
    )
    np.testing.assert_array_equal(images, batch()["image"])
    x, w = np.asarray(images, np.float64).reshape(B, -1), np.asarray(state.weights)
    p = np.exp(log_softmax(x @ w))
    grad = x.T @ (p - np.eye(K)[np.arange(B)]) / B
    np.testing.assert_allclose(after.weights, w - 0.1 * grad, rtol=1e-4, atol=1e-6)
    assert float(info.train_loss) > 0


def test_a_step_with_mixup_draws_from_its_own_key():
    network, seen = seeing_network()
    training = networks.trainer(network, tx=optax.sgd(0.1), mixup=1.0)
    state = training.init(jax.random.key(3), batch()["image"])
    same = [training.step(state, batch())[0].weights for _ in range(2)]
    np.testing.assert_array_equal(*same)
    training.step(state._replace(step=jnp.int32(1)), batch())
    (key, first), (_, again), (_, later) = seen
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)
    assert not np.array_equal(first, batch()["image"])
    # The network's key is not the one that the shares were drawn from.
    _, drawn = jax.random.split(jax.random.fold_in(state.key, 0))
    assert not np.array_equal(key, jax.random.key_data(drawn))
    np.testing.assert_array_equal(first, mixup.mix(drawn, batch(), 1.0)["image"])


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_bad_mixup(value):
    with pytest.raises(jnas.JnasError, match="mixup must be >= 0 and finite"):
        networks.trainer(seeing_network()[0], tx=optax.sgd(0.1), mixup=value)


def test_mixup_needs_images():
    with pytest.raises(jnas.JnasError, match="mixup blends images and labels"):
        mixup.mix(jax.random.key(0), {"tokens": jnp.zeros((2, 3), int)}, 0.2)
