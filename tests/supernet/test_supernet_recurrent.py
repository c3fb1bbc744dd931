"""The recurrent supernet: masked windows, resets, dropout, addresses, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas.mixture import Mixture, uniform
from jnas.spaces import Group, Space
from jnas.supernet import Dropouts

OPERATIONS = jnas.spaces.darts_rnn().groups[0].operations
EDGES = tuple((source, node) for node in (1, 2) for source in range(node))
SMALL = Space(
    "small_rnn", (Group("recurrent", OPERATIONS, EDGES, 1, (1, 2)),), 1, ("none",)
)
V, N, B, T = 7, 4, 3, 6
TASK = jnas.supernet.language_modelling(activation=0.1, slowness=0.2)


def build(space=SMALL, **options):
    return jnas.supernet.recurrent(space, vocab_size=V, width=N, **options)


def batch(seed=0, times=T, **more):
    tokens = np.random.default_rng(seed).integers(0, V, (B, times + 1)).astype(np.int32)
    return {"tokens": tokens[:, :-1].copy(), "target": tokens[:, 1:].copy(), **more}


def started(net, seed=0):
    variables = net.init(jax.random.key(seed), batch())
    # Larger weights, so that nothing is hidden by being small.
    weights = jax.tree.map(lambda w: 20 * w, variables.weights)
    carry = jax.random.normal(jax.random.key(9), (B, N))
    return weights, {**variables.model_state, "carry": carry}


def passed(net, weights, state, batch, penalty=True, **options):
    mixed = Mixture(
        {"recurrent": jax.nn.softmax(jnp.arange(3.0 * 5).reshape(3, 5) % 4, axis=-1)}
    )

    def loss(weights, mixed):
        outputs, after = net.apply(
            weights, state, mixed, TASK.inputs(batch), train=True, **options
        )
        value, metrics = TASK.loss(outputs, batch)
        assert TASK.penalty is not None
        extra = TASK.penalty(outputs, batch) if penalty else 0.0
        return value + extra, (outputs, after, value, metrics)

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(weights, mixed)


@pytest.mark.parametrize("length", [1, 4])
def test_a_masked_window_is_a_short_one(length):
    net = build()
    weights, state = started(net)
    padded = batch(length=jnp.int32(length))
    # What comes after the window must not matter.
    padded["tokens"][:, length:] = padded["tokens"][:, length:][:, ::-1]
    padded["target"][:, length:] = 0
    short = {k: v[:, :length] for k, v in batch().items()}
    (loss, (outputs, after, *metrics)), grads = passed(net, weights, state, padded)
    (expected, (least, then, *least_metrics)), least_grads = passed(
        net, weights, state, short
    )
    np.testing.assert_array_equal(after["carry"], then["carry"])
    for a, b in (
        ((loss, metrics, grads), (expected, least_metrics, least_grads)),
        (after["batch_stats"], then["batch_stats"]),
        (outputs.hiddens[:, :length], least.hiddens),
        (outputs.logits[:, :length], least.logits),
    ):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-6, 1e-7), a, b)


def test_penalties_are_the_formulas():
    net = build(dropouts=Dropouts(output=0.5))
    weights, state = started(net)
    (total, (outputs, _, value, _)), _ = passed(
        net, weights, state, batch(length=4), key=jax.random.key(1)
    )
    hiddens, dropped = outputs.hiddens[:, :4], outputs.dropped[:, :4]
    assert not np.allclose(hiddens, dropped)
    slow = np.mean(np.square(hiddens[:, 1:] - hiddens[:, :-1]))
    expected = 0.1 * np.mean(np.square(dropped)) + 0.2 * slow
    np.testing.assert_allclose(total - value, expected, rtol=1e-5)
    assert jnas.supernet.language_modelling().penalty is None


def test_statistics_move_once_per_normalisation_and_time():
    net = build()
    weights, state = started(net)
    frozen = jax.tree.map(jnp.zeros_like, weights)
    # With tanh all states are zero then, so each of the updates is known: mean and
    # variance 0.
    tanh = Mixture({"recurrent": jnp.array([[0.0, 1, 0, 0, 0]] * 3)})
    zero = {**state, "carry": jnp.zeros((B, N))}
    zero["batch_stats"] = {"mean": jnp.ones(N), "var": jnp.ones(N)}
    _, after = net.apply(frozen, zero, tanh, batch(length=4), train=True)
    for leaf in after["batch_stats"].values():
        np.testing.assert_allclose(leaf, 0.9 ** ((1 + 2) * 4), rtol=1e-5)


def test_reset_begins_from_zeros():
    net = build()
    weights, state = started(net)
    zero = {**state, "carry": jnp.zeros((B, N))}

    def run(state, reset):
        inputs = batch(reset=reset)
        return net.apply(weights, state, uniform(SMALL), inputs, train=True)[0].hiddens

    np.testing.assert_array_equal(run(state, True), run(zero, False))
    assert not np.allclose(run(state, True), run(state, False))
    # Without a carried state it is the same.
    missing = {"batch_stats": state["batch_stats"]}
    np.testing.assert_array_equal(run(missing, False), run(zero, False))


def test_two_windows_are_one_long_one():
    net = build()
    weights, state = started(net)
    whole = batch(times=8)
    _, after = net.apply(weights, state, uniform(SMALL), whole, train=True)
    then = state
    for part in (slice(0, 3), slice(3, 8)):
        half = {"tokens": whole["tokens"][:, part]}
        _, then = net.apply(weights, then, uniform(SMALL), half, train=True)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-6), after, then)


def test_running_statistics_are_used_and_kept_and_the_carry_moves():
    net = build()
    weights, state = started(net)
    outputs, after = net.apply(weights, state, uniform(SMALL), batch(), train=False)
    jax.tree.map(
        np.testing.assert_array_equal, after["batch_stats"], state["batch_stats"]
    )
    assert not np.allclose(after["carry"], state["carry"])
    one = {"tokens": batch()["tokens"][:1]}  # a single column is fine then
    single = {**state, "carry": state["carry"][:1]}
    alone, _ = net.apply(weights, single, uniform(SMALL), one, train=False)
    np.testing.assert_allclose(alone.logits, outputs.logits[:1], rtol=1e-5)


@pytest.mark.parametrize("name", Dropouts._fields)
def test_each_dropout(name):
    plain = build()
    dropping = build(dropouts=Dropouts(**{name: 0.5}))
    weights, state = started(plain)

    def run(net, **options):
        return net.apply(weights, state, uniform(SMALL), batch(), **options)[0].logits

    key = jax.random.key(0)
    dropped = run(dropping, train=True, key=key)
    assert not np.allclose(dropped, run(plain, train=True))
    np.testing.assert_array_equal(dropped, run(dropping, train=True, key=key))
    assert not np.allclose(dropped, run(dropping, train=True, key=jax.random.key(1)))
    np.testing.assert_array_equal(run(dropping, train=False), run(plain, train=False))
    # A ready mask stands in for the drawn one; of ones it drops nothing.
    ones = jnp.ones(V if name == "words" else (B, N))
    np.testing.assert_array_equal(
        run(dropping, train=True, masks={name: ones}), run(plain, train=True)
    )
    with pytest.raises(jnas.JnasError, match=f"dropout {name} needs a key"):
        run(dropping, train=True)


def test_drawn_masks_keep_the_mean():
    from jnas.supernet import sequence

    rates = Dropouts(output=0.3, words=0.1)
    shapes = {"output": (400, 300), "words": (10_000,)}
    shapes |= dict.fromkeys(("hidden", "inputs", "embedding"), (1, 1))
    masks = sequence._masks(rates, None, jax.random.key(0), shapes, True, jnp.float32)
    for name, rate in (("output", 0.3), ("words", 0.1)):
        np.testing.assert_allclose(np.mean(masks[name]), 1, atol=0.02)
        values = np.unique(masks[name])
        np.testing.assert_allclose(values, [0, 1 / (1 - rate)], rtol=1e-6)
    assert masks["hidden"] is None


def test_inactive_operations_and_edge_weights_count():
    net = build()
    weights, state = started(net)
    everything = uniform(SMALL).weights["recurrent"]

    def run(mixed):
        return net.apply(weights, state, mixed, batch(), train=True)[0].logits

    active = jnp.array([[1, 2]] * 3)
    masked = everything * jnp.array([[0.0, 1, 1, 0, 0]] * 3)
    np.testing.assert_allclose(
        run(Mixture({"recurrent": everything}, active={"recurrent": active})),
        run(Mixture({"recurrent": masked})),
        rtol=1e-6,
    )


def test_no_weight_belongs_to_an_operation():
    net = build()
    weights, _ = started(net)
    sums = net.op_sum(weights)
    assert sums["recurrent"].shape == (1, 3, 5) and not np.any(sums["recurrent"])
    mask = net.op_mask({"recurrent": np.zeros((1, 3, 5))})
    assert jax.tree.structure(mask) == jax.tree.structure(weights)
    assert all(float(leaf) == 1 and leaf.shape == () for leaf in jax.tree.leaves(mask))


def test_half_precision_keeps_parameters_and_logits_wide():
    net = build(dtype=jnp.bfloat16)
    weights, state = started(net)
    assert {w.dtype.name for w in jax.tree.leaves(weights)} == {"float32"}
    outputs, after = net.apply(weights, state, uniform(SMALL), batch(), train=True)
    assert outputs.hiddens.dtype == jnp.bfloat16
    assert outputs.logits.dtype == after["carry"].dtype == jnp.float32
    wide = build().apply(weights, state, uniform(SMALL), batch(), train=True)[0]
    np.testing.assert_allclose(outputs.logits, wide.logits, atol=0.3)


def test_initial_weights_are_the_authors():
    net = build(jnas.spaces.darts_rnn())
    variables = net.init(jax.random.key(0), batch())
    for leaf in (variables.weights["embedding"], *variables.weights["cell"].values()):
        assert 0.03 < np.abs(leaf).max() <= 0.04 or leaf.size < 30
    assert not np.any(variables.weights["bias"])
    assert variables.weights["cell"]["w"].shape == (8, N, 2 * N)


OUTSIDE = Space("x", (Group("recurrent", ("none", "gelu"), EDGES, 1, (1, 2)),), 1)
BAD_BUILDS = {
    "vocabulary": ({"vocab_size": 0}, "vocab_size must be a positive"),
    "width": ({"width": 1.5}, "width must be a positive"),
    "dtype": ({"dtype": jnp.int32}, "dtype must be a floating"),
    "rate": ({"dropouts": Dropouts(words=1.0)}, r"dropout words must be in \[0, 1\)"),
    "kind": ({"dropouts": Dropouts(words="a")}, "dropout words must be a number"),
    "space": ({"space": jnas.spaces.darts()}, "is no recurrent one"),
    "activation": ({"space": OUTSIDE}, "unknown activation 'gelu'"),
}


@pytest.mark.parametrize("case", BAD_BUILDS)
def test_bad_options_are_one_line(case):
    options, message = BAD_BUILDS[case]
    options = {"space": SMALL, "vocab_size": V, "width": N, **options}
    with pytest.raises(jnas.JnasError, match=message) as error:
        jnas.supernet.recurrent(options.pop("space"), **options)
    assert "\n" not in str(error.value)


BAD_CALLS = {
    "array": ({"inputs": np.zeros((B, T), np.int32)}, "inputs of a language model"),
    "floats": ({"inputs": {"tokens": np.zeros((B, T))}}, "tokens must be integers"),
    "rank": ({"inputs": {"tokens": np.zeros(T, np.int32)}}, "tokens must be integers"),
    "columns": ({"inputs": {"tokens": np.zeros((5, T), np.int32)}}, "carried state is"),
    "one column": ({"inputs": {"tokens": np.zeros((1, T), np.int32)}}, "at least 2"),
    "rates": ({"rates": {"drop_path": 0.1}}, "has no rates"),
    "mask": ({"masks": {"input": np.ones((B, N))}}, "did you mean 'inputs'"),
    "mask shape": ({"masks": {"inputs": np.ones(N)}}, "mask 'inputs' must be"),
    "statistics": ({"statistics": "none"}, "statistics must be"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_are_one_line(case):
    options, message = BAD_CALLS[case]
    net = build()
    weights, state = started(net)
    options = {"inputs": batch(), **options}
    with pytest.raises(jnas.JnasError, match=message) as error:
        net.apply(
            weights, state, uniform(SMALL), options.pop("inputs"), train=True, **options
        )
    assert "\n" not in str(error.value)


def test_tokens_beyond_the_vocabulary_are_not_another_token():
    net = build()
    weights, state = started(net)
    wrong = batch()
    wrong["tokens"][0, 0] = V
    outputs, _ = net.apply(weights, state, uniform(SMALL), wrong, train=True)
    assert np.isnan(outputs.logits[0]).all()
    with pytest.raises(jnas.JnasError, match="slowness must be >= 0"):
        jnas.supernet.language_modelling(slowness=-1)
