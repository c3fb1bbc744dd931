"""DARTS' search network and the steps of its search against the authors' code.

The steps are those of `jnas.search.differentiable`, on weights that `jnas.interop`
loads. Five cells with two reductions, momentum from the second weight step on, and
both weight steps are clipped.
"""

import functools

import comparing
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import interop
from jnas.supernet import Variables

GOLDEN = golden_files.load("darts_supernet")
CONFIG = golden_files.collect(GOLDEN, "cfg/")


def build(dtype):
    return jnas.supernet.build(
        jnas.spaces.darts(),
        channels=int(CONFIG["C"]),
        cells=int(CONFIG["layers"]),
        num_classes=int(CONFIG["num_classes"]),
        dtype=dtype,
    )


def arch(prefix, dtype):
    """The architecture parameters stored under a prefix."""
    alphas = golden_files.collect(GOLDEN, prefix)
    return jax.tree.map(lambda a: a.astype(dtype), interop.arch_from_darts(alphas))


def weights(flat):
    """A concatenation of all weights, as a state dict."""
    names, sizes = GOLDEN["meta/param_names"], GOLDEN["meta/param_sizes"]
    parts = golden_files.split(GOLDEN[flat].astype(np.float64), names, sizes)
    return {name: a.reshape(GOLDEN[f"w/{name}"].shape) for name, a in parts.items()}


def everything(form, dtype):
    """All results by name, on the host. ``form``: see `comparing.plain`."""
    with jax.enable_x64(dtype == jnp.float64):
        net = build(dtype)
        evaluated = comparing.plain(net) if form == "plain" else comparing.compiled(net)
        variables = interop.from_darts(golden_files.collect(GOLDEN, "w/"), net)
        softmax = jnas.relax.softmax()
        search = jnas.search.differentiable(
            evaluated._replace(init=lambda key, inputs: variables),
            relaxation=softmax._replace(init=lambda key, space: arch("in/", dtype)),
            weight_tx=jnas.optimizers.coupled_sgd(
                float(CONFIG["lr"]),
                momentum=float(CONFIG["momentum"]),
                weight_decay=float(CONFIG["wd"]),
                clip=float(CONFIG["clip"]),
            ),
            arch_tx=jnas.optimizers.coupled_adam(
                float(CONFIG["arch_lr"]),
                b1=float(CONFIG["arch_betas"][0]),
                b2=float(CONFIG["arch_betas"][1]),
                weight_decay=float(CONFIG["arch_wd"]),
            ),
        )
        train, val = (comparing.batch(GOLDEN, f"_{b}", dtype) for b in ("train", "val"))

        def forward(batch, state):
            """``(loss, (logits, model state))`` of a state, with its arch."""

            def loss(weights, arch):
                logits, model_state = evaluated.apply(
                    weights,
                    state.model_state,
                    search.probabilities(arch),
                    batch["image"],
                    train=True,
                )
                return search.task.loss(logits, batch)[0], (logits, model_state)

            return loss

        def differentiate(batch, state):
            both = jax.value_and_grad(forward(batch, state), (0, 1), has_aux=True)
            return both(state.weights, state.arch)

        def export(tree, model_state=None):
            return interop.to_darts(Variables(tree, model_state), net)

        start = search.init(jax.random.key(0), train["image"])
        found = {}
        for name, batch in (("train", train), ("val", val)):
            (loss, (logits, after)), (by_weights, by_arch) = differentiate(batch, start)
            found[name] = {
                "loss": loss,
                "logits": logits,
                "w": export(by_weights),
                "alphas": by_arch,
                "statistics": export(start.weights, after),
            }
        state, info = search.arch_step(start, train, val)
        found["arch_step"] = {
            "loss": info.val_loss,
            "arch": state.arch,
            "adam": comparing.buffers(state.arch_opt_state),
        }
        for step in (1, 2):
            before = state.weights
            state, info = search.weight_step(state, train)
            found[f"weight_step{step}"] = {
                "loss": info.train_loss,
                "norm": info.weight_grad_norm,
                "w": export(state.weights),
                "change": export(jax.tree.map(jnp.subtract, state.weights, before)),
                "momentum": export(comparing.buffers(state.weight_opt_state)["trace"]),
            }
        found["arch"] = state.arch
        # The second state as it is stored, rounded to float32.
        rounded = interop.from_darts(weights("S2/w_flat"), net)
        state = start._replace(weights=rounded.weights, arch=arch("S2/", dtype))
        for name, batch in (("train", train), ("val", val)):
            found[f"S2_{name}"] = forward(batch, state)(state.weights, state.arch)[0]
        found = jax.device_get(found)

    def running():
        """The logits by the running statistics of the training pass."""
        with jax.enable_x64(dtype == jnp.float64):
            after = interop.from_darts(found["train"]["statistics"], net)
            apply = functools.partial(evaluated.apply, train=False)
            if form == "stacked":
                apply = comparing.jit(functools.partial(net.apply, train=False))
            mixed = search.probabilities(start.arch)
            return jax.device_get(apply(*after, mixed, val["image"])[0])

    return found | {"running": running}


def slow(*values):
    return pytest.param(values, marks=pytest.mark.slow)


@pytest.fixture(
    scope="module",
    params=[
        ("stacked", jnp.float64),
        slow("stacked", jnp.float32),
        slow("plain", jnp.float64),
    ],
    ids=lambda p: f"{p[0]}-{p[1].__name__}",
)
def found(request):
    form, dtype = request.param
    return everything(form, dtype), comparing.TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["train", "val"])
def test_logits_and_losses(found, name):
    results, tolerance = found
    for key in ("logits", "loss"):
        expected = GOLDEN[f"out/{key}_{name}"]
        comparing.assert_close(results[name][key], expected, tolerance, key)


@pytest.mark.parametrize("name", ["train", "val"])
def test_gradients_by_arch(found, name):
    results, tolerance = found
    for group, got in results[name]["alphas"].items():
        expected = GOLDEN[f"grad/{name}/alphas_{group}"]
        comparing.assert_close(got, expected, tolerance, group)


def test_gradients_by_all_weights(found):
    results, tolerance = found
    expected = golden_files.collect(GOLDEN, "grad/train/w/")
    comparing.assert_dicts_close(results["train"]["w"], expected, tolerance)
    norm = np.sqrt(sum(np.sum(g**2) for g in results["val"]["w"].values()))
    comparing.assert_close(norm, GOLDEN["grad/val/w_norm"], tolerance)


def test_running_statistics(found):
    results, tolerance = found
    expected = golden_files.split(
        GOLDEN["out/bn1_flat"], GOLDEN["meta/bn_names"], GOLDEN["meta/bn_sizes"]
    )
    got = results["train"]["statistics"]
    assert set(expected) == set(got) - set(results["train"]["w"])
    for name, value in expected.items():
        comparing.assert_close(got[name], value, tolerance, name)


@pytest.mark.slow  # one more program to compile
def test_evaluation_by_running_statistics(found):
    results, tolerance = found
    logits = GOLDEN["out/logits_val_evalmode_after_one_train_forward"]
    comparing.assert_close(results["running"](), logits, tolerance)


def test_one_arch_step(found):
    results, tolerance = found
    step = results["arch_step"]
    comparing.assert_close(step["loss"], GOLDEN["out/loss_val"], tolerance)
    assert step["adam"]["count"] == 1
    for group in step["arch"]:
        name = f"alphas_{group}"
        for got, key in (
            (step["arch"], f"step1/{name}"),
            (step["adam"]["mu"], f"step1/adam_m/{name}"),
            (step["adam"]["nu"], f"step1/adam_v/{name}"),
        ):
            comparing.assert_close(got[group], GOLDEN[key], tolerance, key)


def test_two_clipped_weight_steps_with_momentum(found):
    results, tolerance = found
    for number in (1, 2):
        step, prefix = results[f"weight_step{number}"], f"step{number}"
        expected = GOLDEN[f"{prefix}/loss_train_before"]
        comparing.assert_close(step["loss"], expected, tolerance, number)
        expected = GOLDEN[f"{prefix}/grad_norm_before_clip"]
        assert expected > CONFIG["clip"]
        comparing.assert_close(step["norm"], expected, tolerance, number)
    first, second = results["weight_step1"], results["weight_step2"]
    tolerance = max(tolerance, comparing.ROUNDED)
    change = weights("step1/w_minus_w0_flat_f32")
    expected = {name: GOLDEN[f"w/{name}"] + value for name, value in change.items()}
    comparing.assert_dicts_close(first["w"], expected, tolerance)
    if tolerance == comparing.ROUNDED:  # in float32 a difference is mostly rounding
        comparing.assert_dicts_close(first["change"], change, tolerance)
    norm = np.sqrt(sum(np.sum(np.square(w, dtype="d")) for w in first["w"].values()))
    comparing.assert_close(norm, GOLDEN["step1/w_norm"], tolerance)
    comparing.assert_dicts_close(second["w"], weights("S2/w_flat"), tolerance)
    momentum = weights("S2/momentum_flat")
    comparing.assert_dicts_close(second["momentum"], momentum, tolerance)
    for group, alpha in results["arch"].items():
        comparing.assert_close(alpha, GOLDEN[f"S2/alphas_{group}"], tolerance, group)


def test_losses_at_the_stored_second_state(found):
    results, tolerance = found
    for name in ("train", "val"):
        expected = GOLDEN[f"S2/loss_{name}"]
        comparing.assert_close(results[f"S2_{name}"], expected, tolerance, name)
