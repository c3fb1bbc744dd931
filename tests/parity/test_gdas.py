"""GDAS' sampled search network against the authors' code: numbers in tests/golden."""

import functools

import comparing
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import interop
from jnas.mixture import Mixture
from jnas.relax.gumbel_hard import straight_through
from jnas.supernet import Variables

GOLDEN = golden_files.load("nb201_supernet")
TEMPERATURES = [float(t) for t in GOLDEN["cfg/taus"]]
DRAWS = range(len(GOLDEN["in/gdas/exponential"]))


def sample(alpha, draw, temperature, gradient):
    """The mixture of the stored draw, made as `relax.gumbel_hard` makes it."""
    noise = -jnp.log(jnp.asarray(GOLDEN["in/gdas/exponential"][draw], alpha.dtype))
    h, k = straight_through(jax.nn.log_softmax(alpha), noise, temperature)
    others = h * (1 - jax.nn.one_hot(k, 5, dtype=h.dtype))
    offsets = {"cell": others.sum(-1)} if gradient == "all" else None
    return Mixture({"cell": h}, active={"cell": k[:, None]}, offsets=offsets)


@functools.cache
def network():
    """``(value and gradients of the loss, all results by draw and temperature)``."""
    with jax.enable_x64(True):
        net = jnas.supernet.build(
            jnas.spaces.nasbench201(),
            channels=int(GOLDEN["cfg/C"]),
            cells_per_stage=int(GOLDEN["cfg/N"]),
            dtype=jnp.float64,
        )
        arrays = golden_files.collect(GOLDEN, "w/")
        weights, model_state = interop.from_nasbench201(arrays, net)
        batch = comparing.batch(GOLDEN, "", jnp.float64)
        task = jnas.supernet.classification()

        def run(weights, mixture):
            logits, _ = net.apply(
                weights, model_state, mixture, batch["image"], train=True
            )
            return task.loss(logits, batch)[0], logits

        grad = comparing.jit(
            jax.value_and_grad(run, (0, 1), has_aux=True, allow_int=True)
        )
        alpha = jnp.asarray(GOLDEN["in/alphas"])
        results = {}
        for draw in DRAWS:
            for tau in TEMPERATURES:
                mixture, pull = jax.vjp(
                    lambda a, d=draw, t=tau: sample(a, d, t, "all"), alpha
                )
                (loss, logits), (by_weights, by_mixture) = grad(weights, mixture)
                (by_alpha,) = pull(by_mixture)
                results[draw, tau] = jax.device_get(
                    {
                        "loss": loss,
                        "logits": logits,
                        "alpha": by_alpha,
                        "w": interop.to_nasbench201(Variables(by_weights, None), net),
                        "mixture": mixture,
                        "by_mixture": by_mixture,
                    }
                )
        return results


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("tau", TEMPERATURES)
def test_sample_is_the_reference_s(draw, tau, x64):
    alpha = jnp.asarray(GOLDEN["in/alphas"])
    noise = jnp.asarray(GOLDEN[f"out/gdas{draw}/gumbel"])
    logits = (jax.nn.log_softmax(alpha) + noise) / tau
    expected = GOLDEN[f"out/gdas{draw}/tau{tau:g}/probs"]
    np.testing.assert_allclose(jax.nn.softmax(logits), expected, rtol=1e-12)
    h, k = straight_through(jax.nn.log_softmax(alpha), noise, tau)
    assert k.tolist() == GOLDEN[f"out/gdas{draw}/index"].tolist()
    assert h.tolist() == np.eye(5)[GOLDEN[f"out/gdas{draw}/index"]].tolist()


@pytest.mark.parametrize("draw", DRAWS)
def test_logits_loss_and_gradients_by_the_weights(draw):
    for tau in TEMPERATURES:  # which the values don't depend on
        found = network()[draw, tau]
        for key in ("logits", "loss"):
            expected = GOLDEN[f"out/gdas{draw}/{key}"]
            comparing.assert_close(found[key], expected, 1e-9, key)
    expected = golden_files.collect(GOLDEN, f"grad/gdas{draw}/w/")
    for name, value in expected.items():
        floor = 1.0 if "edges" in name and name.endswith("bias") else 0.0
        comparing.assert_close(found["w"][name], value, 1e-9, name, floor)
    untouched = GOLDEN[f"out/gdas{draw}/params_without_grad"]
    assert len(untouched)
    for name in untouched:
        assert not np.any(found["w"][str(name)]), name


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("tau", TEMPERATURES)
def test_gradient_by_arch_is_that_of_the_scalars(draw, tau):
    expected = GOLDEN[f"grad/gdas{draw}/tau{tau:g}/alphas"]
    comparing.assert_close(network()[draw, tau]["alpha"], expected, 1e-9)


def test_without_the_scalars_it_is_that_of_the_selected_alone(x64):
    for draw in DRAWS:
        found, expected = network()[draw, 1.0], GOLDEN[f"grad/gdas{draw}/tau1/alphas"]
        assert found["mixture"].offsets["cell"].tolist() == [0.0] * 6
        alpha = jnp.asarray(GOLDEN["in/alphas"])
        mixture, pull = jax.vjp(lambda a, d=draw: sample(a, d, 1.0, "selected"), alpha)
        assert mixture.offsets is None
        by_mixture = found["by_mixture"]
        (selected,) = pull(by_mixture._replace(offsets=None))
        # d h_k / d alpha is row k of the softmax's Jacobian.
        p = GOLDEN[f"out/gdas{draw}/tau1/probs"]
        k = GOLDEN[f"out/gdas{draw}/index"]
        rows = np.arange(6)
        direct = by_mixture.weights["cell"][rows, k] * p[rows, k]
        closed = direct[:, None] * (np.eye(5)[k] - p)
        np.testing.assert_allclose(selected, closed, rtol=1e-9, atol=1e-12)
        assert np.abs(selected - expected).max() > 0.1 * np.abs(expected).max()
