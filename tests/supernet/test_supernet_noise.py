"""The operation that puts noise in place of its input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jnas

# NAS-Bench-201's cell with two edges that leave one state.
EDGES = ((0, 1), (0, 2), (1, 2))
GROUP = jnas.spaces.Group("cell", ("noise", "nor_conv_1x1"), EDGES, 1, (1, 2))
SPACE = jnas.Space("noisy", (GROUP,))
NET = jnas.supernet.build(SPACE, channels=4, cells_per_stage=1, num_classes=3)
X = jax.random.normal(jax.random.key(9), (8, 8, 8, 2))
VARIABLES = NET.init(jax.random.key(0), X)


def mixture(weights, active=None):
    weights = {"cell": jnp.asarray(weights, jnp.float32)}
    return jnas.Mixture(weights, active=active)


NOISE, CONV = mixture([[1.0, 0.0]] * 3), mixture([[0.0, 1.0]] * 3)
ACTIVE = {"cell": jnp.zeros((3, 1), jnp.int32)}


def logits(mixed, x=X, key=0, **options):
    key = None if key is None else jax.random.key(key)
    options = {"train": True, "key": key, **options}
    return NET.apply(*VARIABLES, mixed, x, **options)[0]


@pytest.mark.parametrize("active", [None, ACTIVE], ids=["dense", "sampled"])
def test_the_key_decides_and_the_input_does_not_pass(active):
    noisy = NOISE._replace(active=active)
    np.testing.assert_array_equal(logits(noisy), logits(noisy))
    assert (logits(noisy) != logits(noisy, key=1)).any()
    np.testing.assert_array_equal(logits(noisy, key=None), logits(noisy, key=None))
    # The first cell's outputs hold nothing of the image, so the logits do not.
    other = jax.random.normal(jax.random.key(3), X.shape)
    np.testing.assert_array_equal(logits(noisy, other), logits(noisy))
    slope = jax.grad(lambda x: logits(noisy, x).sum())(X)
    assert not np.asarray(slope).any()
    assert np.asarray(jax.grad(lambda x: logits(CONV, x).sum())(X)).any()
    # In evaluation, too.
    assert (logits(noisy, train=False) != logits(noisy, train=False, key=1)).any()


@pytest.mark.parametrize("stride", [1, 2])
def test_the_noise_is_normal_and_each_edges_own(stride):
    from flax import linen as nn

    from jnas.supernet import operations

    class Draw(nn.Module):
        def __call__(self, x):
            return operations.drawn(self, x, stride, 2)

    x = jnp.zeros((16, 31, 32, 8))
    drawn = Draw().apply({}, x, rngs={"noise": jax.random.key(0)})
    size = (-(-31 // stride), 32 // stride)
    assert drawn.shape == (16, *size, 2, 8)
    count = drawn.size
    assert abs(float(drawn.mean())) < 5 / np.sqrt(count)
    assert abs(float(drawn.var()) - 1) < 5 * np.sqrt(2 / count)
    first, second = drawn[..., 0, :], drawn[..., 1, :]
    assert abs(float((first * second).mean())) < 5 / np.sqrt(first.size)


def test_first_and_second_derivatives_by_the_mixture():
    with jax.enable_x64(True):
        net = jnas.supernet.build(
            SPACE, channels=4, cells_per_stage=1, num_classes=3, dtype=jnp.float64
        )
        x = jax.random.normal(jax.random.key(9), (2, 8, 8, 2), jnp.float64)
        variables = net.init(jax.random.key(0), x)

        def loss(weights):
            mixed = jnas.Mixture({"cell": weights})
            out, _ = net.apply(*variables, mixed, x, train=True, key=jax.random.key(4))
            return jnp.sum(out**2)

        weights = jnp.full((3, 2), 0.5)
        direction = jnp.asarray([[1.0, -1.0], [0.0, 1.0], [1.0, 0.0]])
        slope = jax.jit(jax.value_and_grad(loss))
        product = jax.jit(lambda w, d: jax.jvp(jax.grad(loss), (w,), (d,))[1])
        # So near that no kink of a ReLU lies between.
        step = 1e-7 * direction
        above, below = slope(weights + step), slope(weights - step)
        first = jnp.sum(slope(weights)[1] * direction)
        assert float(first) == pytest.approx(
            float(above[0] - below[0]) / 2e-7, rel=1e-5
        )
        np.testing.assert_allclose(
            product(weights, direction),
            (above[1] - below[1]) / 2e-7,
            rtol=1e-5,
            atol=1e-6,
        )


def test_a_search_with_it_steps_jits_and_lowers():
    search = jnas.presets.sdarts_rs(
        SPACE, channels=4, cells_per_stage=1, num_classes=3, epochs=2, steps_per_epoch=2
    )
    batch = {"image": X, "label": jnp.arange(8) % 3}
    state = search.init(jax.random.key(0), X)
    after, info = jax.jit(search.step)(state, batch, batch)
    assert np.isfinite(float(info.val_loss)) and int(after.step) == 1

    def step(data):
        state_ = state._replace(key=jax.random.wrap_key_data(data))
        return search.step(state_, batch, batch)[1]

    for platform in ("tpu", "cuda"):
        exported = export.export(jax.jit(step), platforms=[platform])
        assert exported(jax.random.key_data(state.key)).platforms == (platform,)


def test_final_networks_draw_it_too():
    space = jnas.spaces.robust_darts("S4")
    genes = np.zeros(len(space.genes), int)
    genotype = space.decode(genes)
    assert "noise" in genotype.to_text()
    net = jnas.networks.build(genotype, channels=4, cells=3, num_classes=3)
    variables = net.init(jax.random.key(0), X)

    def outputs(**options):
        return net.apply(*variables, X, train=False, **options)[0]

    np.testing.assert_array_equal(outputs(), outputs())
    first = outputs(key=jax.random.key(1))
    assert (first != outputs(key=jax.random.key(2))).any()
