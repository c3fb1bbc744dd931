"""SmoothDARTS' perturbations against the authors' code, given its random numbers."""

import comparing
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import interop
from jnas.regularizers import smoothing
from jnas.regularizers.adversarial_smoothing import attack
from jnas.supernet.base import Variables

GOLDEN = golden_files.load("sdarts")
NETWORK = golden_files.load("darts_hessian")
TOLERANCE = comparing.TOLERANCE[jnp.float64]
RADII = [float(x) for x in GOLDEN["cfg/epsilons"]]
GROUPS = ("normal", "reduce")


def rows(key, dtype=jnp.float64):
    """``[2, 14, 8]`` or two arrays, by group."""
    if key in GOLDEN:
        return {g: jnp.asarray(GOLDEN[key][i], dtype) for i, g in enumerate(GROUPS)}
    return {g: jnp.asarray(GOLDEN[f"{key}/alphas_{g}"], dtype) for g in GROUPS}


def masks():
    return {g: jnp.ones((14, 8), bool) for g in GROUPS}


def clean():
    arch = interop.arch_from_darts(golden_files.collect(NETWORK, "in/"))
    return arch, jnas.relax.softmax().probabilities(arch).weights


@pytest.mark.parametrize("radius", RADII)
def test_random_perturbation(radius):
    with jax.enable_x64(True):
        _, weights = clean()
        for group in GROUPS:
            comparing.assert_close(
                weights[group], GOLDEN[f"out/softmax/alphas_{group}"], TOLERANCE
            )
        shift = jax.tree.map(lambda z: radius * z, rows("in/rs_unit_noise"))
        moved = smoothing.shifted(weights, shift, masks())
        for group in GROUPS:
            expected = GOLDEN[f"out/rs/eps{radius}/perturbed_softmax/alphas_{group}"]
            comparing.assert_close(moved[group], expected, TOLERANCE)


@pytest.fixture(scope="module")
def network():
    """The losses and gradients in train and in eval mode, and the attack, compiled."""
    with jax.enable_x64(True):
        net = jnas.supernet.build(
            jnas.spaces.darts(),
            channels=int(NETWORK["cfg/C"]),
            cells=int(NETWORK["cfg/layers"]),
            num_classes=int(NETWORK["cfg/num_classes"]),
            dtype=jnp.float64,
        )
        arrays = golden_files.collect(NETWORK, "w/")
        arrays |= golden_files.collect(GOLDEN, "buf/")
        weights, model_state = interop.from_darts(arrays, net)
        batch = comparing.batch(GOLDEN, "_train", jnp.float64)
        task = jnas.supernet.classification()

        def loss(weights, mixture, statistics):
            logits, _ = net.apply(
                weights,
                model_state,
                jnas.Mixture(mixture),
                batch["image"],
                train=True,
                statistics=statistics,
            )
            return task.loss(logits, batch)[0]

        def running(mixture):
            return loss(weights, mixture, "running")

        @comparing.jit
        def attacked(start, unit, radius):
            return attack(
                running,
                start,
                unit,
                masks(),
                radius=radius,
                steps=int(GOLDEN["cfg/pgd_steps"]),
            )

        trained = comparing.jit(
            jax.value_and_grad(lambda w, mixture: loss(w, mixture, "batch"))
        )
        return {
            "net": net,
            "weights": weights,
            "model_state": model_state,
            "train": lambda mixture: trained(weights, mixture),
            "slope": comparing.jit(jax.grad(running)),
            "attack": attacked,
        }


@pytest.mark.slow
def test_losses_and_gradients_at_perturbed_mixtures(network):
    with jax.enable_x64(True):
        _, weights = clean()
        value, _ = network["train"](weights)
        comparing.assert_close(value, GOLDEN["out/rs/loss_clean_trainmode"], TOLERANCE)
        for radius in RADII:
            key = f"out/rs/eps{radius}"
            value, slopes = network["train"](rows(f"{key}/perturbed_softmax"))
            expected = GOLDEN[f"{key}/loss_perturbed_trainmode"]
            comparing.assert_close(value, expected, TOLERANCE)
            arrays = interop.to_darts(
                Variables(slopes, network["model_state"]), network["net"]
            )
            norms = [
                np.linalg.norm(arrays[str(name)]) for name in GOLDEN["out/param_names"]
            ]
            comparing.assert_close(norms, GOLDEN[f"{key}/grad_l2"], TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("radius", RADII)
def test_attack(network, radius):
    with jax.enable_x64(True):
        arch, weights = clean()
        before = jax.tree.map(np.array, arch)
        key = f"out/adv/eps{radius}"
        # The stored gradients are of minus the loss, at each iterate.
        for iterate, slope in zip(
            GOLDEN[f"{key}/iterates_before_step"],
            GOLDEN[f"{key}/grad_of_minus_loss"],
            strict=True,
        ):
            at = {g: jnp.asarray(iterate[i]) for i, g in enumerate(GROUPS)}
            found = network["slope"](at)
            got = -np.stack([found[g] for g in GROUPS])
            comparing.assert_close(got, slope, TOLERANCE)
            assert (np.sign(got) == np.sign(slope)).all()
        found = network["attack"](weights, rows("in/adv_unit_noise"), radius)
        for group in GROUPS:
            comparing.assert_close(
                found.weights[group],
                GOLDEN[f"{key}/perturbed_softmax/alphas_{group}"],
                TOLERANCE,
            )
        for name, value in (
            ("loss_before_evalmode", found.loss_before),
            ("loss_after_evalmode", found.loss_after),
        ):
            comparing.assert_close(value, GOLDEN[f"{key}/{name}"], TOLERANCE)
        assert bool(found.reverted) == bool(GOLDEN[f"{key}/reverted"])
        jax.tree.map(np.testing.assert_array_equal, before, arch)
