"""DARTS' second order against the authors' code: exact, and its finite difference.

At the start (no momentum, fresh Adam) and after two clipped weight steps (momentum that
is not zero, Adam's second step), in nets with two reductions. The virtual step is not
clipped, the real ones are. The exact numbers are the reference's double backward.
"""

import comparing
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_darts_supernet as darts

import jnas
from jnas import bilevel, interop

GOLDEN, CONFIG = darts.GOLDEN, darts.CONFIG
ETA = float(CONFIG["eta"])
POINTS = ("so0", "so2")
METHODS = {
    "exact": {},
    "fd": {"method": "finite_difference", "epsilon": 0.01},
    "fd_r1e-7": {"method": "finite_difference", "epsilon": 1e-7},
}


def recorded(hypergradient, record):
    """The same estimator; it appends its gradients to a list."""

    def estimate(*args, **context):
        grad, state, info = hypergradient.estimate(*args, **context)
        record.append(grad)
        return grad, state, info

    return hypergradient._replace(estimate=estimate)


def with_fields(state, **values):
    """An optax state with what it remembers replaced, by field."""
    if not isinstance(state, tuple):
        return state
    children = [with_fields(child, **values) for child in state]
    if not hasattr(state, "_fields"):
        return tuple(children)
    return type(state)(
        *(values.get(f, c) for f, c in zip(state._fields, children, strict=True))
    )


def start_of(point, search, net, dtype):
    """The state that a point's numbers belong to."""
    state = search.init(jax.random.key(0), None)
    if point == "so0":
        return state
    momentum = interop.from_darts(darts.weights("S2/momentum_flat"), net).weights
    weights = interop.from_darts(darts.weights("S2/w_flat"), net).weights
    return state._replace(
        weights=weights,
        arch=darts.arch("S2/", dtype),
        weight_opt_state=with_fields(state.weight_opt_state, trace=momentum),
        arch_opt_state=with_fields(
            state.arch_opt_state,
            mu=darts.arch("S2/adam_m/", dtype),
            nu=darts.arch("S2/adam_v/", dtype),
            count=jnp.ones((), jnp.int32),
        ),
    )


@pytest.fixture(
    scope="module",
    params=[
        ("stacked", jnp.float64),
        darts.slow("stacked", jnp.float32),
        darts.slow("plain", jnp.float64),
    ],
    ids=lambda p: f"{p[0]}-{p[1].__name__}",
)
def found(request):
    """``({point: {method: results}}, tolerance)``."""
    form, dtype = request.param
    with jax.enable_x64(dtype == jnp.float64):
        net = darts.build(dtype)
        evaluated = comparing.plain(net) if form == "plain" else comparing.compiled(net)
        variables = interop.from_darts(golden_files.collect(GOLDEN, "w/"), net)
        inner = jnas.optimizers.coupled_sgd(ETA, clip=None)
        train, val = (comparing.batch(GOLDEN, f"_{b}", dtype) for b in ("train", "val"))
        results = {point: {} for point in POINTS}
        for name, options in METHODS.items():
            if name == "fd_r1e-7" and dtype == jnp.float32:
                continue
            record = []
            hypergradient = bilevel.unrolled(inner_tx=inner, **options)
            search = jnas.search.differentiable(
                evaluated._replace(init=lambda key, inputs: variables),
                relaxation=jnas.relax.softmax()._replace(
                    init=lambda key, space: darts.arch("in/", dtype)
                ),
                hypergradient=recorded(hypergradient, record),
                weight_tx=jnas.optimizers.coupled_sgd(ETA, clip=5.0),
                arch_tx=jnas.optimizers.coupled_adam(),
            )
            for point in POINTS:
                state = start_of(point, search, net, dtype)
                after, info = search.arch_step(state, train, val)
                results[point][name] = {
                    "grad": record[-1],
                    "arch": after.arch,
                    "loss": info.val_loss,
                }
        return jax.device_get(results), comparing.TOLERANCE[dtype]


@pytest.mark.parametrize("point", POINTS)
def test_the_validation_loss_at_the_virtual_weights(found, point):
    results, tolerance = found
    expected = GOLDEN[f"{point}/loss_val_unrolled"]
    comparing.assert_close(results[point]["exact"]["loss"], expected, tolerance)


@pytest.mark.parametrize("point", POINTS)
def test_exact(found, point):
    results, tolerance = found
    if tolerance > 1e-9 and point == "so2":
        # A second derivative jumps where an input of a ReLU changes sign, and float32
        # rounding flips one there: 1.4e-4 was seen.
        tolerance = 1e-3
    for group, got in results[point]["exact"]["grad"].items():
        expected = GOLDEN[f"{point}/grad_exact/alphas_{group}"]
        comparing.assert_close(got, expected, tolerance, group)
        # The response is no small part of it.
        direct = GOLDEN[f"{point}/grad_direct/alphas_{group}"]
        assert np.abs(direct - expected).max() > 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("point", POINTS)
def test_finite_difference(found, point):
    results, tolerance = found
    if tolerance > 1e-9 and point == "so2":
        pytest.skip("float32 flips a kink there, which the difference blows up (7 %)")
    # A difference of nearly equal numbers.
    tolerance = max(tolerance, 1e-6 if tolerance < 1e-6 else 1e-3)
    for group, got in results[point]["fd"]["grad"].items():
        expected = GOLDEN[f"{point}/grad_fd/alphas_{group}"]
        comparing.assert_close(got, expected, tolerance, group)
        expected = GOLDEN[f"{point}/alpha_after_adam_fd/alphas_{group}"]
        arch = results[point]["fd"]["arch"][group]
        comparing.assert_close(arch, expected, tolerance, group)


@pytest.mark.parametrize("point", POINTS)
def test_a_tiny_finite_difference_agrees_with_exact(found, point):
    results, _ = found
    if "fd_r1e-7" not in results[point]:
        pytest.skip("needs float64")
    for group, got in results[point]["fd_r1e-7"]["grad"].items():
        direct = GOLDEN[f"{point}/grad_direct/alphas_{group}"]
        product = GOLDEN[f"{point}/hvp_fd_r1e-7/alphas_{group}"]
        comparing.assert_close(got, direct - ETA * product, 1e-6, group)
        exact = results[point]["exact"]["grad"][group]
        comparing.assert_close(got, exact, 1e-6, group)
        # At the published size it is far off: the net has kinks.
        published = results[point]["fd"]["grad"][group] - exact
        response = exact - direct
        assert np.linalg.norm(published) > np.linalg.norm(response)
