"""`Mixed` inside modules of the user's: an MLP and an attention block, searched."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jnas
from jnas.mixture import Mixture
from jnas.supernet import Mixed, choosing, from_linen, register_operation


class MLP(nn.Module):
    """Two choices: an activation shared by two layers, and a layer."""

    @nn.compact
    def __call__(self, x, train=False):
        acts = {"relu": nn.relu, "tanh": jnp.tanh}
        x = Mixed("act", acts)(nn.Dense(8, name="first")(x))
        wide = functools.partial(nn.Sequential, [nn.Dense(16), nn.relu, nn.Dense(8)])
        x = Mixed("layer", {"skip": lambda x: x, "dense": nn.Dense(8), "wide": wide})(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = Mixed("act", acts)(nn.Dense(8, name="second")(x))
        return nn.Dense(3, name="last")(x)


class Attention(nn.Module):
    """A choice between attention and convolution, with dropout in a candidate."""

    @nn.compact
    def __call__(self, x, train=False):
        def attention(x, train):
            return nn.MultiHeadDotProductAttention(num_heads=2, dropout_rate=0.5)(
                x, deterministic=not train
            )

        x = x + Mixed(
            "token",
            {
                "attention": attention,
                "conv": lambda: nn.Conv(4, (3,)),
                "skip": jnp.copy,
            },
        )(x, train=train)
        return nn.Dense(3)(x.mean(axis=1))


def _weights(**rows):
    return Mixture({k: jnp.asarray([v], jnp.float32) for k, v in rows.items()})


@pytest.fixture(scope="module")
def mlp():
    x = jax.random.normal(jax.random.key(0), (5, 4))
    net = from_linen(MLP(), x)
    return net, net.init(jax.random.key(1), x), x


def test_space_is_derived(mlp):
    net, _, _ = mlp
    assert net.space.names == ("act", "layer")
    assert net.space.group("act").operations == ("relu", "tanh")
    assert net.space.group("layer").operations == ("skip", "dense", "wide")
    assert net.cells == {"act": 2, "layer": 1} and net.space.genes == (2, 3)
    genotype = net.space.decode([1, 2])
    assert jnas.Genotype.from_json(genotype.to_json()) == genotype


def test_output_is_the_weighted_sum_written_by_hand(mlp):
    net, (weights, state), x = mlp
    a, b = np.array([0.3, 0.7]), np.array([0.2, 0.5, 0.3])
    logits, _ = net.apply(weights, state, _weights(act=a, layer=b), x, train=False)

    def dense(p, x):
        return x @ np.asarray(p["kernel"], np.float64) + np.asarray(p["bias"])

    def act(x):
        return a[0] * np.maximum(x, 0) + a[1] * np.tanh(x)

    h = act(dense(weights["first"], np.asarray(x, np.float64)))
    layer = weights["Mixed_1"]
    first, last = (v for _, v in sorted(layer["wide"]["module"].items()))
    wide_out = dense(last, np.maximum(dense(first, h), 0))
    h = b[0] * h + b[1] * dense(layer["dense"]["module"], h) + b[2] * wide_out
    h = h / np.sqrt(1 + 1e-5)  # running statistics are 0 and 1
    expected = dense(weights["last"], act(dense(weights["second"], h)))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_statistics_move_in_training_only(mlp):
    net, (weights, state), x = mlp
    mixture = jnas.mixture.uniform(net.space)
    _, after = net.apply(weights, state, mixture, x, train=True)
    _, kept = net.apply(weights, state, mixture, x, train=False)
    assert not np.allclose(jax.tree.leaves(after)[0], jax.tree.leaves(state)[0])
    assert jax.tree.all(jax.tree.map(np.array_equal, kept, state))
    with pytest.raises(jnas.JnasError, match="call takes `statistics`"):
        net.apply(weights, state, mixture, x, train=True, statistics="running")


def test_op_sum_and_mask_find_each_candidates_weights(mlp):
    net, (weights, _), _ = mlp
    ones = jax.tree.map(jnp.ones_like, weights)
    sums = net.op_sum(ones)
    assert sums["act"].shape == (2, 1, 2) and not sums["act"].any()
    np.testing.assert_array_equal(
        sums["layer"][0, 0], [0, 72, 8 * 16 + 16 + 16 * 8 + 8]
    )
    mask = {"act": jnp.ones((2, 1, 2)), "layer": jnp.array([[[1.0, 0.0, 1.0]]])}
    masked = jax.tree.map(lambda w, m: w * m, ones, net.op_mask(mask))
    sums = net.op_sum(masked)
    np.testing.assert_array_equal(sums["layer"][0, 0], [0, 0, 280])


@pytest.mark.parametrize(
    ("module", "shape"), [(MLP(), (16, 4)), (Attention(), (16, 5, 4))]
)
def test_search_learns_and_its_genotype_is_the_one_hot_network(module, shape):
    """The same `Search` as for images: loss falls, derive, keep only the choice."""
    x = jax.random.normal(jax.random.key(0), shape)
    label = jnp.argmax(x.reshape(len(x), -1)[:, :3], axis=-1)
    batch = {"image": x, "label": label}
    net = from_linen(module, x)
    search = jnas.search.differentiable(
        net, weight_tx=optax.adam(1e-2), arch_tx=optax.adam(1e-2)
    )
    state = search.init(jax.random.key(1), x)
    step = jax.jit(search.step)
    losses = []
    for _ in range(60):
        state, info = step(state, batch, batch)
        losses.append(float(info.train_loss))
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    genotype = search.derive(state)
    one_hot = jnas.mixture.from_genotype(net.space, genotype)
    expected, _ = net.apply(state.weights, state.model_state, one_hot, x, train=False)
    with choosing(genotype):
        logits = module.apply({"params": state.weights, **state.model_state}, x)
        fresh = module.init(jax.random.key(0), x)["params"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    count = sum(leaf.size for leaf in jax.tree.leaves(fresh))
    assert count <= sum(leaf.size for leaf in jax.tree.leaves(state.weights))


def test_dropout_in_a_candidate_gets_the_key():
    x = jnp.ones((2, 5, 4))
    net = from_linen(Attention(), x)
    weights, state = net.init(jax.random.key(0), x)
    run = functools.partial(
        net.apply, weights, state, jnas.mixture.uniform(net.space), x, train=True
    )
    a, b, c = (run(key=jax.random.key(seed))[0] for seed in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_choice_under_scan_and_remat():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return Mixed("c", {"dense": lambda: nn.Dense(4), "skip": jnp.copy})(x), None

    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            block = nn.scan(
                nn.remat(Block),
                variable_axes={"params": 0},
                variable_broadcast="mixture",
                split_rngs={"params": True},
                length=3,
            )
            return block()(x, None)[0]

    x = jnp.ones((2, 4))
    net = from_linen(Deep(), x)
    weights, state = net.init(jax.random.key(0), x)
    skip = _weights(c=[0.0, 1.0])
    np.testing.assert_allclose(net.apply(weights, state, skip, x, train=True)[0], x)
    np.testing.assert_array_equal(
        net.op_sum(jax.tree.map(jnp.ones_like, weights))["c"], [[[60, 0]]]
    )


def test_registered_operation_in_a_cell_space():
    """A user's module and a function beside built-in operations, per edge."""
    if "test_mlp" not in jnas.supernet.operation_names():

        class PerPixel(nn.Module):
            channels: int

            @nn.compact
            def __call__(self, x, train):
                assert isinstance(train, bool)
                return nn.Dense(self.channels)(x)

        register_operation("test_mlp", lambda channels, stride: PerPixel(channels))
        register_operation("test_neg", lambda channels, stride: lambda x: -x)
    base = jnas.spaces.nasbench201().group("cell")
    group = jnas.spaces.Group(
        "cell", ("none", "skip_connect", "test_mlp", "test_neg"), base.edges, 1, (3,)
    )
    space = jnas.spaces.Space("mine", (group,))
    net = jnas.supernet.build(space, channels=4, cells_per_stage=1, num_classes=3)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 2))
    weights, state = net.init(jax.random.key(1), x)
    assert weights["cell_0"]["test_mlp_5"]["Dense_0"]["kernel"].shape == (4, 4)
    sums = net.op_sum(jax.tree.map(jnp.ones_like, weights))["cell"]
    np.testing.assert_array_equal(sums[0, :, 2], [20] * 6)
    np.testing.assert_array_equal(sums[2, :, 2], [16 * 16 + 16] * 6)

    def run(row):
        mixture = Mixture({"cell": jnp.tile(jnp.asarray(row), (6, 1))})
        return net.apply(weights, state, mixture, x, train=True)[0]

    # Node 3 = w (x0 + w x0 + w (1 + w) x0): with skip 1 it is 4 x0, with negation
    # x0 -> -x0, (-1 + 1) x0, and so on: -x0 - (-x0) - 0 = 0 times x0.
    none, neg = run([1.0, 0.0, 0.0, 0.0]), run([0.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(neg, none, rtol=1e-5, atol=1e-5)
    assert not np.allclose(run([0.0, 1.0, 0.0, 0.0]), none, atol=1e-3)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ({}, "needs a dict of candidates"),
        (["relu"], "needs a dict of candidates"),
        ({"a": 3}, "must be a function or a Linen module, got int"),
        ({"a": lambda: nn.Dense(2), "b": nn.relu}, "must have equal output shapes"),
    ],
)
def test_bad_candidates_are_one_line(candidates, message):
    with pytest.raises(jnas.JnasError, match=message) as error:
        from_linen(Mixed("c", candidates), jnp.ones((1, 4)))
    assert "\n" not in str(error.value)


def test_more_bad_uses():
    with pytest.raises(jnas.JnasError, match="contains no choice"):
        from_linen(nn.Dense(3), jnp.ones((1, 4)))

    class Clash(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = Mixed("c", {"a": nn.relu, "b": jnp.tanh})(x)
            return Mixed("c", {"a": nn.relu})(x)

    with pytest.raises(jnas.JnasError, match="give the second choice another name"):
        from_linen(Clash(), jnp.ones((1, 4)))
    with pytest.raises(jnas.JnasError, match="already registered"):
        register_operation("none", lambda channels, stride: None)
    act = Mixed("act", {"relu": nn.relu})
    other = jnas.spaces.Space(
        "o", (jnas.spaces.Group("act", ("gelu",), ((0, 1),), 1, (1,)),)
    )
    with choosing(other.decode([0])), pytest.raises(jnas.JnasError, match="no candid"):
        act.apply({}, jnp.ones(2))
