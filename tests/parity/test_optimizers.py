"""SGD and Adam against torch's trajectories: five steps on a quadratic.

The loss is ``s * (v' A v / 2 + b' v)`` of two parameters, ``v`` their concatenation.
With scale 1 every SGD step is clipped, with 0.33 the first ones, with 0.1 none.
"""

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from comparing import TOLERANCE, assert_close, buffers

from jnas import optimizers

GOLDEN = golden_files.load("adam_sgd")
SCALES = ("1", "0.33", "0.1")
SGD = dict(zip(map(str, GOLDEN["cfg/sgd_columns"]), GOLDEN["cfg/sgd"], strict=True))
ADAM = dict(zip(map(str, GOLDEN["cfg/adam_columns"]), GOLDEN["cfg/adam"], strict=True))
STEPS = int(GOLDEN["cfg/steps"])


def sgd(weight_decay, nesterov, **changes):
    schedule = optimizers.cosine(
        SGD["lr0"], SGD["eta_min"], epochs=STEPS, steps_per_epoch=1, per="step"
    )
    options = {"momentum": SGD["momentum"], "clip": SGD["clip"]} | changes
    return optimizers.coupled_sgd(
        schedule,
        weight_decay=weight_decay,
        nesterov=nesterov,
        **options,
    )


def adam(learning_rate):
    return optimizers.coupled_adam(
        learning_rate,
        b1=ADAM["beta1"],
        b2=ADAM["beta2"],
        weight_decay=ADAM["weight_decay_coupled"],
    )


OPTIMIZERS = {
    "sgd": lambda: sgd(SGD["weight_decay"], False),
    "sgd_nesterov_wd5e-4": lambda: sgd(5e-4, True),
    "adam": lambda: adam(ADAM["lr"]),
    "adam_lr0.1": lambda: adam(0.1),
}


def trajectory(tx, scale, dtype=jnp.float64):
    """What is stored of a trajectory, by name."""
    matrix, slope = (jnp.asarray(GOLDEN[f"in/{k}"], dtype) for k in "Ab")

    def loss(params):
        v = jnp.concatenate([p.ravel() for p in params.values()])
        return float(scale) * (v @ matrix @ v / 2 + slope @ v)

    params = {k: jnp.asarray(GOLDEN[f"in/{k}"], dtype) for k in ("p0", "p1")}
    state = tx.init(params)
    rows = []
    for _ in range(STEPS):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        rows.append(
            {
                **params,
                "loss": value,
                "grad_norm": optax.tree.norm(gradient),
                "lr": state.hyperparams["learning_rate"],
            }
        )
    result = jax.tree.map(lambda *values: np.stack(values), *rows)
    return result | moments(state)


def moments(state):
    """The buffers inside an optimizer's state, named as they are stored."""
    names = {"trace": "momentum", "mu": "m", "nu": "v"}
    return {
        f"{names[field]}{i}": np.asarray(value)
        for field, tree in buffers(state).items()
        if field in names
        for i, value in enumerate(tree.values())
    }


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("tag", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_trajectories(tag, scale, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        got = trajectory(OPTIMIZERS[tag](), scale, dtype)
    expected = golden_files.collect(GOLDEN, f"out/{tag}/scale{scale}/")
    assert set(got) == set(expected)
    for name, value in expected.items():
        assert_close(got[name], value, TOLERANCE[dtype], name)


def test_the_scales_are_clipped_always_at_first_and_never():
    clipped = [
        (GOLDEN[f"out/sgd/scale{scale}/grad_norm"] > SGD["clip"]).tolist()
        for scale in SCALES
    ]
    assert all(clipped[0]) and not any(clipped[2])
    assert clipped[1][0] and not clipped[1][-1]


@pytest.mark.parametrize(
    "changes", [{"clip": None}, {"momentum": 0.5}, {"clip": 5.0001}]
)
def test_another_clip_or_momentum_shows(x64, changes):
    got = trajectory(sgd(SGD["weight_decay"], False, **changes), "1")
    expected = GOLDEN["out/sgd/scale1/p0"]
    with pytest.raises(AssertionError):
        assert_close(got["p0"], expected, TOLERANCE[jnp.float64])


def test_decoupled_decay_is_another_optimizer(x64):
    """AdamW is optax's; the architecture optimizer of DARTS is not AdamW."""
    adamw = optax.inject_hyperparams(optax.adamw)(
        0.1,
        ADAM["beta1"],
        ADAM["beta2"],
        weight_decay=ADAM["weight_decay_coupled"],
    )
    decoupled, coupled = trajectory(adamw, "1"), trajectory(adam(0.1), "1")
    expected = GOLDEN["out/adamw_for_contrast/scale1/p0"]
    assert_close(decoupled["p0"], expected, 1e-9)
    with pytest.raises(AssertionError):
        assert_close(coupled["p0"], expected, 1e-7)
