"""What every estimator must do, and how it answers bad input."""

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

import jnas
from jnas import bilevel

KEY = jax.random.key(0)


def _loss(w, arch, batch, key):
    noise = jax.random.normal(key, ())
    return jnp.sum((w * arch - batch + 0.1 * noise) ** 2), {"n": jnp.ones(())}


def _estimate(hypergradient, train=_loss, val=_loss, w=None, arch=None, **options):
    w = jnp.array([1.0, 2.0]) if w is None else w
    arch = jnp.array([0.5, -1.0]) if arch is None else arch
    tx = options.pop("weight_tx", optax.sgd(0.1))
    context = {"weight_tx": tx, "weight_opt_state": tx.init(w), "key": KEY, **options}
    batches = context.pop("batches", (1.0, 2.0))
    if options.get("eager"):
        context.pop("eager")
        with jax.disable_jit():
            return hypergradient.estimate(
                hypergradient.init(w, arch), train, val, w, arch, *batches, **context
            )
    return jax.jit(
        lambda w, arch, *batches: hypergradient.estimate(
            hypergradient.init(w, arch), train, val, w, arch, *batches, **context
        )
    )(w, arch, *batches)


@pytest.fixture(params=list(conformance.HYPERGRADIENTS))
def hypergradient(request):
    return conformance.HYPERGRADIENTS[request.param]()


def test_contract(hypergradient):
    grad, state, info = _estimate(hypergradient, unknown_keyword=1)
    assert grad.shape == (2,) and grad.dtype == jnp.float32
    assert jax.tree.structure(state) == jax.tree.structure(hypergradient.init(1.0, 1.0))
    assert {"val_loss", "val_aux"} <= set(info) and float(info["val_aux"]["n"]) == 1
    again, _, _ = jax.jit(lambda: _estimate(hypergradient))()
    np.testing.assert_allclose(grad, again, rtol=1e-5)


def test_keys_differ_between_the_losses_and_stay_the_same_within(hypergradient):
    seen = {"train": set(), "val": set()}

    def watched(name):
        def loss(w, arch, batch, key):
            seen[name].add(tuple(np.asarray(jax.random.key_data(key)).tolist()))
            return _loss(w, arch, batch, key)

        return loss

    with jax.disable_jit():
        _estimate(hypergradient, watched("train"), watched("val"))
    assert seen["val"] == {tuple(np.asarray(jax.random.key_data(KEY)).tolist())}
    assert not seen["val"] & seen["train"]
    # Several virtual steps are several draws; all else is one draw of the train loss.
    steps = 3 if len(seen["train"]) > 1 else len(seen["train"])
    assert len(seen["train"]) == steps


def test_dtypes_of_weights_are_kept():
    w = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2, jnp.float32)}

    def loss(w, arch, batch, key):
        del batch, key
        return jnp.sum((w["a"].astype(jnp.float32) * arch + w["b"]) ** 2), None

    for make in conformance.HYPERGRADIENTS.values():
        grad, _, _ = _estimate(make(), loss, loss, w=w)
        assert grad.dtype == jnp.float32 and bool(jnp.all(jnp.isfinite(grad)))


@pytest.mark.parametrize("name", ["train", "val"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda *a: (jnp.ones(3), None), r"real scalar, got float32\[3\]"),
        (lambda *a: (jnp.ones((), jnp.int32), None), r"real scalar, got int32\[\]"),
        (lambda *a: jnp.ones(()), r"must return \(scalar, aux\)"),
    ],
)
def test_bad_losses(hypergradient, name, bad, message):
    which = {"train": "training", "val": "validation"}[name]
    try:
        _estimate(hypergradient, **{name: bad})
    except jnas.JnasError as error:
        assert which in str(error) and "\n" not in str(error)
        with pytest.raises(jnas.JnasError, match=message):
            raise
    else:  # an estimator that never calls that loss
        assert name == "train"
        _estimate(hypergradient, train=None)


def test_integer_arch_is_named(hypergradient):
    with pytest.raises(
        jnas.JnasError, match=r"arch must be .* got int32 at arch\['x'\]"
    ):
        _estimate(hypergradient, arch={"x": jnp.ones(2, jnp.int32)})


@pytest.mark.parametrize("method", bilevel.unrolled.__globals__["METHODS"])
def test_optimizer_states_that_do_not_match_are_named(method):
    hypergradient = bilevel.unrolled(method=method)
    momentum = optax.sgd(0.1, momentum=0.9)
    w = jnp.ones(2)
    with pytest.raises(
        jnas.JnasError, match=r"structure of weight_tx\.init\(weights\)"
    ):
        _estimate(hypergradient, weight_opt_state=momentum.init(w))
    with pytest.raises(jnas.JnasError, match=r"shape \[3\], expected \[2\]"):
        _estimate(
            hypergradient,
            weight_tx=momentum,
            weight_opt_state=momentum.init(jnp.ones(3)),
        )
    with pytest.raises(jnas.JnasError, match=r"structure of inner_tx\.init\(weights\)"):
        _estimate(bilevel.unrolled(method=method, inner_tx=momentum))
    with pytest.raises(jnas.JnasError, match=r"\[3, \.\.\.\], got \[2, 5\] at batch"):
        _estimate(
            bilevel.unrolled(3, stacked=True), batches=({"x": jnp.ones((2, 5))}, 1.0)
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bilevel.unrolled(0), "steps must be a whole number >= 1, got 0"),
        (lambda: bilevel.unrolled(True), "steps must be"),
        (lambda: bilevel.unrolled(method="fd"), "method must be one of exact, finite"),
        (lambda: bilevel.unrolled(epsilon=0.0), "epsilon must be positive"),
        (lambda: bilevel.unrolled(2, method="finite_difference"), "one step, got"),
        (lambda: bilevel.unrolled(clip=1.0), "clip is a positive number for method"),
        (lambda: bilevel.implicit("newton"), "method must be one of neumann, cg"),
        (lambda: bilevel.implicit(terms=-1), "terms must be a whole number >= 0"),
        (lambda: bilevel.implicit("cg", terms=0), "terms must be a whole number >= 1"),
        (lambda: bilevel.implicit(step_size=0), "step_size must be positive"),
        (lambda: bilevel.implicit(damping=-1), "damping must be >= 0"),
        (lambda: bilevel.implicit(tolerance=-1), "tolerance must be >= 0"),
        (lambda: bilevel.mixed_level(-1), "lambda_train must be a number >= 0"),
        (lambda: bilevel.mixed_level(float("nan")), "lambda_train must be a number"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(jnas.JnasError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def _diverging(kind):
    """An estimator whose gradient is not finite at odd steps only."""
    base = bilevel.first_order()

    def estimate(state, train_loss, val_loss, weights, arch, *args, **context):
        grad, _, info = base.estimate(
            (), train_loss, val_loss, weights, arch, *args, **context
        )
        grad = jax.tree.map(
            lambda g: jnp.where(state % 2 == 1, g.at[0, 0].set(kind), g), grad
        )
        return grad, state + 1, info

    return bilevel.Hypergradient(lambda *_: jnp.ones((), jnp.int32), estimate)


@pytest.mark.parametrize("kind", [jnp.nan, jnp.inf])
def test_a_non_finite_hypergradient_changes_nothing_and_is_reported(kind):
    search = tiny.tiny_search(hypergradient=_diverging(kind))
    train, val = tiny.batch(0), tiny.batch(1)
    state = search.init(KEY, train["image"])
    after, info = jax.jit(search.arch_step)(state, train, val)
    assert float(info.arch_skipped) == 1 and not np.isfinite(info.arch_grad_norm)
    for path, x in jax.tree_util.tree_leaves_with_path(state._replace(key=0)):
        y = dict(jax.tree_util.tree_leaves_with_path(after._replace(key=0)))[path]
        np.testing.assert_array_equal(x, y, err_msg=str(path))
    good = state._replace(hypergradient_state=jnp.zeros((), jnp.int32))
    after, info = jax.jit(search.arch_step)(good, train, val)
    assert float(info.arch_skipped) == 0
    assert not np.array_equal(after.arch["cell"], state.arch["cell"])


def test_running_statistics_are_those_of_the_validation_pass():
    """No evaluation of the training loss inside an estimator touches them."""
    train, val = tiny.batch(0), tiny.batch(1)
    for name, make in conformance.HYPERGRADIENTS.items():
        search = tiny.tiny_search(
            hypergradient=make(), weight_tx=jnas.optimizers.coupled_sgd(0.0)
        )
        state = search.init(KEY, train["image"])
        after, _ = search.arch_step(state, train, val)
        seen = train if name == "single_level" else val
        first = tiny.tiny_search().arch_step(state, train, seen)[0]
        np.testing.assert_allclose(
            after.model_state["batch_stats"],
            first.model_state["batch_stats"],
            rtol=1e-6,
            err_msg=name,
        )


def test_the_tasks_penalty_counts_for_the_weights_only():
    task = jnas.supernet.base.classification()._replace(
        penalty=lambda outputs, batch: 3.0 * jnp.sum(outputs**2)
    )
    plain, penalised = tiny.tiny_search(), tiny.tiny_search(task=task)
    train, val = tiny.batch(0), tiny.batch(1)
    state = plain.init(KEY, train["image"])
    for one, two in (
        (plain.arch_step(state, train, val), penalised.arch_step(state, train, val)),
    ):
        np.testing.assert_array_equal(one[1].arch_grad_norm, two[1].arch_grad_norm)
    _, one = plain.weight_step(state, train)
    _, two = penalised.weight_step(state, train)
    np.testing.assert_array_equal(one.train_loss, two.train_loss)
    assert float(two.weight_grad_norm) > 1.5 * float(one.weight_grad_norm)
