"""DARTS' recurrent nets against the authors' code: numbers in tests/golden."""

import ast
import functools

import comparing
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import recurrent_reference

import jnas
from jnas import interop, optimizers
from jnas.interop import recurrent as arrays_of
from jnas.mixture import Mixture
from jnas.spaces import Genotype
from jnas.supernet import Variables

SEARCH = golden_files.load("rnn_search")
EVAL = golden_files.load("rnn_eval")
VARIANTS = ("nodrop", "masked")
DTYPES = [
    pytest.param(jnp.float64, id="float64"),
    pytest.param(jnp.float32, id="float32"),
]
assert_close = comparing.assert_close
TASK = jnas.supernet.language_modelling()


def window(golden, part, dtype):
    """A batch and the state before it; the files have time first."""
    tokens = jnp.asarray(golden[f"in/x_{part}"].T, jnp.int32)
    target = golden[f"in/y_{part}"].reshape(golden[f"in/x_{part}"].shape).T
    batch = {"tokens": tokens, "target": jnp.asarray(target, jnp.int32)}
    return batch, jnp.asarray(golden[f"in/h0_{part}"][0], dtype)


def masks(golden, variant, dtype):
    if variant == "nodrop":
        return None
    return {
        "inputs": jnp.asarray(golden["in/x_mask"], dtype),
        "hidden": jnp.asarray(golden["in/h_mask"], dtype),
    }


def checked(golden, prefix, outputs, after, loss, tolerance):
    """The arrays that the files have of every pass."""
    assert_close(
        np.swapaxes(outputs.hiddens, 0, 1), golden[f"{prefix}/hiddens"], tolerance
    )
    if f"{prefix}/last_hidden" in golden:
        last = golden[f"{prefix}/last_hidden"][0]
        assert_close(after["carry"], last, tolerance, "last_hidden")
    logits = np.asarray(outputs.logits)
    log_prob = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    assert_close(np.swapaxes(log_prob, 0, 1), golden[f"{prefix}/log_prob"], tolerance)
    assert_close(loss, golden[f"{prefix}/loss"], tolerance, "loss")


# --- final cells


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["DARTS_V1", "DARTS_V2"])
def test_final_cell(name, variant, dtype):
    tolerance = comparing.TOLERANCE[dtype]
    recurrent, concat = map(ast.literal_eval, EVAL[f"cfg/genotype/{name}"])
    text = f"Genotype(recurrent={recurrent}, concat={concat})"
    genotype = Genotype.parse(text)
    assert genotype == Genotype.parse(name.replace("DARTS", "DARTS_RNN"))
    with jax.enable_x64(dtype == jnp.float64):
        net = jnas.networks.recurrent(
            genotype, vocab_size=int(EVAL["cfg/ntoken"]), width=8, dtype=dtype
        )
        weights, _ = interop.from_darts(golden_files.collect(EVAL, "w/"), net)
        weights = jax.tree.map(lambda w: w.astype(dtype), weights)
        batch, carry = window(EVAL, "train", dtype)

        def run(weights):
            outputs, after = net.apply(
                weights,
                {"carry": carry},
                TASK.inputs(batch),
                train=True,
                masks=masks(EVAL, variant, dtype),
            )
            return TASK.loss(outputs, batch)[0], (outputs, after)

        passes = comparing.jit(jax.value_and_grad(run, has_aux=True))
        (loss, (outputs, after)), grads = passes(weights)
        checked(EVAL, f"out/{name}/{variant}", outputs, after, loss, tolerance)
        comparing.assert_dicts_close(
            interop.to_darts(Variables(grads, None), net),
            golden_files.collect(EVAL, f"grad/{name}/{variant}/"),
            tolerance,
        )
        if variant == "nodrop":  # without dropout, evaluation is the same
            evaluated = net.apply(weights, {"carry": carry}, batch, train=False)[0]
            assert_close(evaluated.hiddens, outputs.hiddens, 1e-5)


def test_parameters_of_the_penn_treebank_model():
    net = jnas.networks.recurrent("DARTS_RNN_V2", vocab_size=10_000, width=850)
    tokens = jax.ShapeDtypeStruct((64, 35), jnp.int32)
    weights = jax.eval_shape(net.init, jax.random.key(0), {"tokens": tokens}).weights
    count = sum(leaf.size for leaf in jax.tree.leaves(weights))
    assert count == int(EVAL["out/params_ptb_850"])


# --- search cell


def supernet(form, dtype):
    space = jnas.spaces.darts_rnn()
    net = jnas.supernet.recurrent(
        space, vocab_size=int(SEARCH["cfg/ntoken"]), width=8, dtype=dtype
    )
    return recurrent_reference.plain(net) if form == "plain" else net


def test_operations_are_the_reference_s():
    group = jnas.spaces.darts_rnn().group("recurrent")
    assert tuple(SEARCH["cfg/primitives"]) == group.operations
    assert SEARCH["in/alphas"].shape == (group.num_edges, group.num_operations)


# The plain form runs operation by operation: once is enough.
PASSES = [
    *(("stacked", variant, dtype) for variant in VARIANTS for dtype in DTYPES),
    ("plain", "masked", DTYPES[0]),
]
PASSES = [pytest.param(f, v, *d.values, id=f"{f}-{v}-{d.id}") for f, v, d in PASSES]


@functools.cache
def started(form, dtype):
    """The network, its weights, and the softmax of arch."""
    net = supernet(form, dtype)
    weights, _ = interop.from_darts(golden_files.collect(SEARCH, "w/"), net)
    weights = jax.tree.map(lambda w: w.astype(dtype), weights)
    return net, weights, jnp.asarray(SEARCH["in/alphas"], dtype)


def mixture(alphas):
    return Mixture({"recurrent": jax.nn.softmax(alphas, axis=-1)})


@pytest.mark.parametrize(("form", "variant", "dtype"), PASSES)
def test_search_cell(form, variant, dtype):
    tolerance = comparing.TOLERANCE[dtype]
    with jax.enable_x64(dtype == jnp.float64):
        net, weights, alphas = started(form, dtype)
        batch, carry = window(SEARCH, "train", dtype)
        state = interop.from_darts(golden_files.collect(SEARCH, "w/"), net).model_state

        def run(weights, alphas):
            outputs, after = net.apply(
                weights,
                {**state, "carry": carry},
                mixture(alphas),
                TASK.inputs(batch),
                train=True,
                masks=masks(SEARCH, variant, dtype),
            )
            return TASK.loss(outputs, batch)[0], (outputs, after)

        passes = jax.value_and_grad(run, (0, 1), has_aux=True)
        # Written out, XLA would compute each state anew for each of its readers.
        passes = comparing.jit(passes) if form == "stacked" else passes
        (loss, (outputs, after)), (grads, grad_alphas) = passes(weights, alphas)
        got = arrays_of.dump(Variables(grads, after), net)
    checked(SEARCH, f"out/{variant}", outputs, after, loss, tolerance)
    expected = golden_files.collect(SEARCH, f"grad/{variant}/")
    assert_close(grad_alphas, expected.pop("alphas"), tolerance, "alphas")
    statistics = golden_files.collect(SEARCH, f"out/{variant}/bn_after/")
    assert len(statistics) == 2
    comparing.assert_dicts_close(got, expected | statistics, tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["stacked", "plain"])
def test_search_cell_with_running_statistics(form, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        net, weights, alphas = started(form, dtype)
        batch, carry = window(SEARCH, "train", dtype)
        arrays = golden_files.collect(SEARCH, "w/", "buf/")
        state = interop.from_darts(arrays, net).model_state
        outputs, after = net.apply(
            weights,
            {**state, "carry": carry},
            mixture(alphas),
            TASK.inputs(batch),
            train=False,
        )
        loss = TASK.loss(outputs, batch)[0]
    tolerance = comparing.TOLERANCE[dtype]
    checked(SEARCH, "out/evalmode", outputs, after, loss, tolerance)
    for name, value in state["batch_stats"].items():
        np.testing.assert_array_equal(after["batch_stats"][name], value)


def composed(dtype):
    """The authors' search without dropout, at the files' weights and carries."""
    arch_tx = optimizers.coupled_adam(
        float(SEARCH["cfg/arch_lr"]),
        b1=float(SEARCH["cfg/arch_betas"][0]),
        b2=float(SEARCH["cfg/arch_betas"][1]),
        weight_decay=float(SEARCH["cfg/arch_wdecay"]),
    )
    net, weights, alphas = started("stacked", dtype)
    search = jnas.search.differentiable(
        net, task=TASK, weight_tx=optax.sgd(1.0), arch_tx=arch_tx
    )
    batch, carry = window(SEARCH, "train", dtype)
    val_batch, val_carry = window(SEARCH, "val", dtype)
    model_state = interop.from_darts(
        golden_files.collect(SEARCH, "w/"), net
    ).model_state
    arch = {"recurrent": alphas}
    state = search.init(jax.random.key(0), batch)._replace(
        weights=weights,
        model_state={**model_state, "carry": carry},
        streams={"carry": val_carry},
        arch=arch,
        arch_opt_state=arch_tx.init(arch),
    )
    return search, state, batch, val_batch


@pytest.mark.parametrize("dtype", DTYPES)
def test_first_order_arch_step(dtype):
    tolerance = comparing.TOLERANCE[dtype]
    with jax.enable_x64(dtype == jnp.float64):
        search, state, batch, val_batch = composed(dtype)
        after, info = comparing.jit(search.arch_step)(state, batch, val_batch)
        expected = SEARCH["out/arch_first/alphas_after_adam"]
        assert_close(after.arch["recurrent"], expected, tolerance, "alphas")
        # The steps themselves, which are small beside alpha. Adam takes an entry whose
        # gradient is near 0 in either direction, which float32 can't tell.
        moved = after.arch["recurrent"] - state.arch["recurrent"]
        steps = expected - SEARCH["in/alphas"]
        assert_close(moved, steps, 1e-9 if dtype == jnp.float64 else 1e-3, "steps")
        grad = SEARCH["out/arch_first/grad_alphas"]
        norm = np.sqrt(np.sum(np.square(grad)))
        assert_close(info.arch_grad_norm, norm, tolerance, "norm")
        # The training stream's carry stays, the validation stream's moves on.
        carry = state.model_state["carry"]
        np.testing.assert_array_equal(after.model_state["carry"], carry)
        assert not np.allclose(after.streams["carry"], state.streams["carry"])


def test_derived_genotype():
    search, state, _, _ = composed(jnp.float32)
    recurrent, concat = map(ast.literal_eval, SEARCH["out/genotype"])
    text = f"Genotype(recurrent={recurrent}, concat={concat})"
    assert search.derive(state) == Genotype.parse(text)


# --- arrays


def test_arrays_round_trip():
    net = supernet("stacked", jnp.float32)
    arrays = golden_files.collect(SEARCH, "w/", "buf/")
    arrays = {k: v.astype(np.float32) for k, v in arrays.items()}
    again = interop.to_darts(interop.from_darts(arrays, net), net)
    assert set(again) == set(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(again[name], value)
        assert again[name].dtype == np.float32
    tied = {**arrays, "decoder.weight": arrays["encoder.weight"]}
    loaded = interop.from_darts(tied, net)
    np.testing.assert_array_equal(loaded.weights["embedding"], arrays["encoder.weight"])
    only_decoder = {k: v for k, v in tied.items() if k != "encoder.weight"}
    loaded = interop.from_darts(only_decoder, net)
    np.testing.assert_array_equal(loaded.weights["embedding"], arrays["encoder.weight"])


BAD_ARRAYS = {
    "untied": ({"decoder.weight": np.zeros((20, 8))}, "decoder.weight must equal"),
    "missing": ({"rnns.0._Ws.3": None}, "missing: rnns.0._Ws.3"),
    "extra": ({"rnns.0._Ws.8": np.zeros((8, 16))}, "extra: rnns.0._Ws.8"),
    "misshapen": ({"rnns.0._W0": np.zeros((8, 16))}, "misshapen: rnns.0._W0"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_named(case):
    changes, message = BAD_ARRAYS[case]
    arrays = golden_files.collect(SEARCH, "w/") | changes
    arrays = {k: v for k, v in arrays.items() if v is not None}
    with pytest.raises(jnas.JnasError, match=message) as error:
        interop.from_darts(arrays, supernet("stacked", jnp.float32))
    assert "\n" not in str(error.value)


def test_other_language_models_have_no_counterpart():
    net = jnas.networks.vanilla_rnn(vocab_size=20, width=8)
    with pytest.raises(jnas.JnasError, match="no counterpart"):
        interop.from_darts({}, net)
