"""The recurrent search: carries of two streams, transformations, running it all."""

import json

import chex
import conformance
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

import jnas
from jnas.data import text_feed
from jnas.spaces import Group, Space

OPERATIONS = jnas.spaces.darts_rnn().groups[0].operations
EDGES = tuple((source, node) for node in (1, 2) for source in range(node))
SMALL = Space(
    "small_rnn", (Group("recurrent", OPERATIONS, EDGES, 1, (1, 2)),), 1, ("none",)
)
# Of one node, where only the running of it matters.
ONE = Space(
    "one_rnn", (Group("recurrent", OPERATIONS, EDGES[:1], 1, (1,)),), 1, ("none",)
)
V, N, B, T = 7, 4, 3, 6
TEXT = np.random.default_rng(0).integers(0, V, 400).astype(np.int32)
OTHER = np.random.default_rng(1).integers(0, V, 200).astype(np.int32)
SIZES = {"vocab_size": V, "width": N, "bptt": T, "epochs": 2, "steps_per_epoch": 23}


def preset(space=SMALL, **options):
    return jnas.presets.darts_rnn(space, **{**SIZES, **options})


def start(search, seed=0):
    return search.init(jax.random.key(seed), {"tokens": np.zeros((B, T), np.int32)})


def batches(steps, validation=OTHER):
    feed = text_feed(TEXT, validation, batch_size=B, bptt=T)
    return [feed(jax.random.key(4), i) for i in range(steps)]


def run(step, state, batches):
    for train, val in batches:
        state, info = step(state, train, val)
    return state, info


def test_streams_keep_their_own_carries():
    """Another validation text changes nothing of what the weights see."""
    search = preset()
    frozen = jnas.search.differentiable(
        search.supernet,
        task=search.task,
        weight_tx=optax.sgd(1.0),
        arch_tx=optax.set_to_zero(),
    )
    step = jax.jit(frozen.step)
    one, _ = run(step, start(frozen), batches(3))
    two, _ = run(step, start(frozen), batches(3, validation=OTHER[::-1].copy()))
    jax.tree.map(np.testing.assert_array_equal, one.weights, two.weights)
    carry = one.model_state["carry"]
    np.testing.assert_array_equal(carry, two.model_state["carry"])
    assert np.any(carry) and np.any(one.streams["carry"])
    assert not np.allclose(one.streams["carry"], two.streams["carry"])
    # The training carry is that of a plain walk along the training text.
    first, last = batches(3)[0][0], batches(3)[-1][0]
    assert bool(first["reset"]) and not bool(last["reset"])
    state = start(frozen)
    for train, _ in batches(3):
        state, _ = jax.jit(frozen.weight_step)(state, train)
    np.testing.assert_allclose(carry, state.model_state["carry"], rtol=1e-6)


def test_jit_scan_and_vmap_agree_and_compile_once():
    search = preset()
    state, data = start(search), batches(3)
    step = jax.jit(chex.assert_max_traces(search.step, n=1))
    expected, info = run(step, state, data)
    assert all(np.isfinite(float(x)) for x in jax.tree.leaves(info))
    assert {"bits", "accuracy"} == set(info.val_metrics)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *data)
    scanned, _ = jax.jit(
        lambda state, data: jax.lax.scan(lambda s, b: search.step(s, *b), state, data)
    )(state, stacked)
    conformance.trees_close(expected, scanned, 1e-5, 1e-6)
    singles = [start(search, seed) for seed in range(2)]
    many = jax.tree.map(lambda *x: jnp.stack(x), *singles)
    many = many._replace(step=singles[0].step)
    axes = jnas.search.seed_axes(many)
    step = jax.jit(
        jax.vmap(search.step, in_axes=(axes, None, None), out_axes=(axes, 0))
    )
    many, _ = run(step, many, data)
    first = jax.tree.map(lambda x: x[0], many._replace(step=jnp.stack([many.step])))
    conformance.trees_close(expected, first, 1e-4, 1e-6)


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_published_space_lowers_for_accelerators(order):
    search = preset(jnas.spaces.darts_rnn(), order=order)

    def step(state, train, val):
        state = state._replace(key=jax.random.wrap_key_data(state.key))
        state, info = search.step(state, train, val)
        return state._replace(key=jax.random.key_data(state.key)), info

    tokens = {"tokens": jax.ShapeDtypeStruct((B, T), jnp.int32)}
    state = jax.eval_shape(search.init, jax.random.key(0), tokens)
    state = state._replace(key=jax.ShapeDtypeStruct((2,), jnp.uint32))
    lowered = export.export(jax.jit(step), platforms=["tpu", "cuda"])(
        state, *batches(1)[0]
    )
    text = lowered.mlir_module()
    assert set(lowered.platforms) == {"tpu", "cuda"} and "while" in text


@pytest.mark.parametrize(
    "second_order", ["exact", pytest.param("finite_difference", marks=pytest.mark.slow)]
)
def test_second_order_runs(second_order):
    search = preset(ONE, order=2, second_order=second_order)
    _, info = run(jax.jit(search.step), start(search), batches(2))
    assert np.isfinite(float(info.arch_grad_norm)) and float(info.arch_skipped) == 0
    assert search.config["hypergradient"] == f"unrolled {second_order}"


def test_preset_is_the_authors():
    search = preset(epochs=50, steps_per_epoch=106)
    config = search.config
    assert config["order"] == "arch_first" and config["clip"] == 0.25
    assert config["arch_learning_rate"] == 3e-3 and config["learning_rate"] == 20
    state = start(search)
    sgd, _ = state.weight_opt_state
    np.testing.assert_allclose(sgd.hyperparams["weight_decay"], 5e-7, rtol=1e-6)
    np.testing.assert_allclose(
        state.arch_opt_state.hyperparams["weight_decay"], 1e-3, rtol=1e-6
    )
    assert preset(epochs=5, steps_per_epoch=106).config[
        "arch_learning_rate"
    ] == pytest.approx(0.03)
    assert search.task.penalty is not None  # slowness
    for options, message in (
        ({"order": 3}, "order must be 1 or 2"),
        ({"second_order": "x", "order": 2}, "method"),
        ({"epochs": 0}, "epochs must be a positive"),
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"weight_decay": -1}, "weight_decay must be >= 0"),
        ({"space": jnas.spaces.darts()}, "no recurrent one"),
    ):
        with pytest.raises(jnas.JnasError, match=message):
            preset(**options)


# --- running


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "poem.txt").write_text("to be, or not to be:\nthat is it\n" * 30)
    return jnas.data.load(tmp_path / "poem.txt")


def test_search_and_retrain_on_a_text(corpus, tmp_path):
    sizes = {"batch_size": 4, "progress": False}
    steps = text_feed(corpus.train, None, batch_size=4, bptt=T).steps_per_epoch
    search = jnas.presets.darts_rnn(
        ONE,
        vocab_size=corpus.vocab_size,
        width=N,
        bptt=T,
        epochs=2,
        steps_per_epoch=steps,
    )
    folder = tmp_path / "run"
    found = jnas.run.search(search, corpus, epochs=2, workdir=folder, **sizes)
    row = found.history[-1]
    assert {"train_bits", "val_bits", "val_accuracy", "genotype"} <= set(row)
    assert "images_per_second" not in row
    # The same again shows the same, from the checkpoint.
    again = jnas.run.search(search, corpus, epochs=2, workdir=folder, **sizes)
    assert again.resumed_from == 2 * steps and again.genotype == found.genotype
    conformance.trees_close(again.state, found.state, 0, 0)
    config = json.loads((folder / "config.json").read_text())
    assert corpus.fingerprint() in json.dumps(config)
    result = jnas.run.retrain(
        jnas.Genotype.parse("DARTS_RNN_V1"),
        corpus,
        epochs=1,
        seeds=(0, 1),
        width=N,
        bptt=T,
        learning_rate=2.0,
        **sizes,
    )
    assert result.bits is not None and len(result.bits) == 2
    assert all(0 < bits < 6 for bits in result.bits)
    size = corpus.vocab_size
    assert result.parameters == size * N + size + 20 * N * N
    assert result.multiply_adds == size * N + 20 * N * N


def test_a_regularizer_evaluates_on_windows(corpus):
    measured = []

    def epoch_end(state, *, evaluate, **context):
        measured.append(evaluate(jnas.mixture.uniform(ONE)))
        return state, jnas.regularizers.Action(stop=True)

    steps = text_feed(corpus.train, None, batch_size=2, bptt=T).steps_per_epoch
    search = jnas.presets.darts_rnn(
        ONE,
        vocab_size=corpus.vocab_size,
        width=N,
        bptt=T,
        epochs=2,
        steps_per_epoch=steps,
        regularizer=jnas.regularizers.Regularizer(epoch_end=epoch_end),
    )
    found = jnas.run.search(search, corpus, epochs=2, batch_size=2, progress=False)
    assert found.stopped and 0 < measured[0]["bits"] < 6


def test_data_and_network_must_fit(corpus):
    options = {"epochs": 2, "batch_size": 4, "progress": False}
    for search, data, message in (
        (preset(), corpus, f"7 tokens but 'poem' has {corpus.vocab_size}"),
        (preset(), jnas.data.load("digits"), "for text, but 'digits' holds images"),
        (
            jnas.presets.darts(jnas.spaces.nasbench201(), channels=2),
            corpus,
            "for images, but 'poem' holds text",
        ),
    ):
        with pytest.raises(jnas.JnasError, match=message):
            jnas.run.search(search, data, **options)
    cell = jnas.Genotype.parse("DARTS_RNN_V1")
    with pytest.raises(jnas.JnasError, match="a recurrent cell needs a text"):
        jnas.run.retrain(cell, jnas.data.load("digits"), epochs=1)
    with pytest.raises(jnas.JnasError, match="which needs a recurrent cell"):
        jnas.run.retrain(jnas.Genotype.parse("DARTS_V1"), corpus, epochs=1)
