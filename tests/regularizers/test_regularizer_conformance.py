"""What every regularizer promises; tests/search has jit, scan, vmap and export."""

import functools
import inspect
import json
import types

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jnas
from jnas import regularizers
from jnas.regularizers import Action, Regularizer, chain, identity

BATCHES = [(tiny.batch(2 * i), tiny.batch(2 * i + 1)) for i in range(2)]
HOOKS = ("transform", "rates", "penalty", "gradients", "epoch_end")


@pytest.fixture(params=conformance.REGULARIZERS)
def name(request):
    return request.param


def run(part, **options):
    """Two steps of a search, compiled."""
    search = tiny.tiny_search(regularizer=part, **options)
    state = search.init(jax.random.key(0), BATCHES[0][0]["image"])
    step = jax.jit(search.step)
    for batches in BATCHES:
        state, _ = step(state, *batches)
    return state


@functools.cache
def ran(name):
    """The state after `run` of a registered plug-in; None: without any."""
    return run(None if name is None else conformance.REGULARIZERS[name]())


def same_bits(a, b):
    """Whether two states agree in all but the regularizers' own."""
    for x, y in zip(
        jax.tree.leaves((a.weights, a.arch, a.weight_opt_state, a.arch_opt_state)),
        jax.tree.leaves((b.weights, b.arch, b.weight_opt_state, b.arch_opt_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)


def test_identity_is_neutral_on_both_sides(name):
    part = conformance.REGULARIZERS[name]()
    same_bits(ran(name), run(chain(identity(), part, identity())))
    wrapped = chain(part)
    for field in ("curvature_every", "keeps_archs", "keeps_states"):
        assert getattr(wrapped, field) == getattr(part, field)


def test_state_is_a_pytree_of_arrays_that_is_saved(name, tmp_path):
    from jnas.run.checkpoint import Checkpoints

    state = ran(name)
    for leaf in jax.tree.leaves(state.regularizer_state):
        assert isinstance(leaf, jax.Array)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(2, state, {})
    checkpoints.wait()
    restored = checkpoints.load(2, jax.eval_shape(lambda s: s, state)).state
    same_bits(state, restored)
    conformance.trees_close(
        state.regularizer_state, restored.regularizer_state, rtol=0, atol=0
    )


def test_unknown_keywords_are_ignored(name):
    part = conformance.REGULARIZERS[name]()
    net = tiny.tiny_supernet()
    weights, _ = net.init(jax.random.key(0), None)
    arch = {"cell": jnp.zeros((3, 3))}
    mixture = jnas.relax.softmax().probabilities(arch, space=tiny.SPACE)
    state = part.init(net, arch, weights=weights, a_keyword_of_tomorrow=object())

    def loss_fn(weights, mixture, *, statistics="batch", key=None):
        del weights, statistics, key
        return 1.0 + jnp.sum(mixture.weights["cell"] ** 2)

    context = {
        "weights": weights,
        "arch": arch,
        "mixture": mixture,
        "loss_fn": loss_fn,
        "key": jax.random.key(0),
        "step": 0,
        "phase": "arch",
        "probabilities": lambda arch: jnas.relax.softmax().probabilities(arch),
        "supernet": net,
        "diagnostics": types.SimpleNamespace(lambda_max=0.1),
        "evaluate": lambda mixture: {"loss": float(mixture.weights["cell"].sum())},
        "epoch": 1,
        "val_grads": weights,
        "genotype": jnas.select.argmax().select(None, mixture, space=tiny.SPACE),
        "a_keyword_of_tomorrow": object(),
    }
    for phase in ("arch", "weights"):
        context["phase"] = phase
        without = {k: v for k, v in context.items() if k != "mixture"}
        assert isinstance(part.transform(state, mixture, **without), jnas.Mixture)
        assert jnp.shape(part.penalty(state, **context)) == ()
        assert isinstance(part.rates(state, **context), dict)
        part.gradients(state, weights, **context)
        if part.observe is not None:
            part.observe(state, **context)
    assert isinstance(part.project(state, mixture), jnas.Mixture)
    json.dumps(part.record(state, **context), allow_nan=False)
    assert isinstance(part.epoch_end(state, **context)[1], Action)


# What is 0 turns these off; the others have nothing to scale.
SCALED = {
    "zero_one": regularizers.zero_one,
    "auxiliary_skip": regularizers.auxiliary_skip,
    "beta_decay": regularizers.beta_decay,
    "layer_alignment": regularizers.layer_alignment,
    "layer_alignment-finite_difference": lambda strength: regularizers.layer_alignment(
        strength, method="finite_difference"
    ),
    "entropy": regularizers.entropy,
    "sparsity": regularizers.sparsity,
    "cost": lambda strength: regularizers.cost(
        lambda mixture: jnp.sum(mixture.weights["cell"][..., 2]), strength
    ),
    "dirichlet_anchor": regularizers.dirichlet_anchor,
    "drop_path": regularizers.drop_path,
    "skip_dropout": regularizers.skip_dropout,
    "random_smoothing": regularizers.random_smoothing,
    "adversarial_smoothing": regularizers.adversarial_smoothing,
    "expected_cost": lambda strength: regularizers.expected_cost(
        {"cell": [[0.0, 1.0, 4.0]] * 3}, strength=strength
    ),
    "hessian_norm": lambda strength: regularizers.hessian_norm(strength=strength),
    "hessian_norm-trace": lambda strength: regularizers.hessian_norm("trace", strength),
}
UNSCALED = {
    "identity",
    "chain",
    "eigenvalue_stop",
    "eigenvalue_adaptive",
    "operation_early_stop",
    "skip_stop",
    "weight_decay",
    "projection",
    "greedy_decisions",
}


def test_all_that_have_a_strength_are_tested_at_0():
    plugins = {
        n
        for n in regularizers.__all__
        if n[0].islower() and n not in conformance.SCHEDULES
    }
    assert plugins == {n.partition("-")[0] for n in SCALED} | UNSCALED


@pytest.mark.parametrize("scaled", SCALED)
def test_strength_0_is_the_identity_and_as_a_schedule_nearly(scaled):
    make = SCALED[scaled]
    assert make(0.0) == identity() and make(0) == identity()
    plain = ran(None)
    nearly = run(make(lambda step: 0.0 * step))
    for a, b in zip(
        jax.tree.leaves((plain.weights, plain.arch)),
        jax.tree.leaves((nearly.weights, nearly.arch)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_the_identity_leaves_every_bit():
    same_bits(ran(None), ran("identity"))


def test_a_schedule_is_the_number_of_its_step():
    arch = {"cell": jnp.ones((3, 3))}
    mixture = jnas.Mixture({"cell": jnp.full((3, 3), 0.25)})
    for make, context in (
        (regularizers.zero_one, {"mixture": mixture}),
        (regularizers.beta_decay, {"arch": arch}),
        (regularizers.entropy, {"mixture": mixture}),
        (regularizers.sparsity, {"mixture": mixture}),
        (SCALED["cost"], {"mixture": mixture}),
        (regularizers.dirichlet_anchor, {"arch": arch}),
        (SCALED["expected_cost"], {"mixture": mixture}),
    ):
        values = []
        for strength in (6.0, lambda step: 2.0 * step):
            part = make(strength)
            state = part.init(tiny.tiny_supernet(), arch)
            values.append(float(part.penalty(state, phase="arch", step=3, **context)))
        assert values[0] == pytest.approx(values[1], rel=1e-6) != 0


def test_chain_goes_in_order_and_draws_apart():
    def doubled(state, mixture, **context):
        return mixture._replace(weights={"cell": 2 * mixture.weights["cell"]})

    def raised(state, mixture, **context):
        return mixture._replace(weights={"cell": 1 + mixture.weights["cell"]})

    first, second = Regularizer(transform=doubled), Regularizer(transform=raised)
    mixture = jnas.Mixture({"cell": jnp.ones((3, 3))})
    for parts, expected in (((first, second), 3.0), ((second, first), 4.0)):
        both = chain(*parts)
        moved = both.transform(both.init(None, None), mixture)
        assert float(moved.weights["cell"][0, 0]) == expected

    keys = []

    def look(state, mixture, *, key, **context):
        keys.append(jax.random.key_data(key).tolist())
        return mixture

    part = Regularizer(transform=look)
    both = chain(identity(), part, part, part)
    key = jax.random.key(7)
    both.transform(both.init(None, None), mixture, key=key)
    assert keys[0] == jax.random.key_data(key).tolist()
    assert len({tuple(k) for k in keys}) == 3


def test_chain_ends_and_goes_back_by_its_parts():
    def part(action, **fields):
        return Regularizer(epoch_end=lambda state, **_: (state, action), **fields)

    stop = part(Action(stop=True, rollback_epochs=3), keeps_archs=3, curvature_every=4)
    back = part(
        Action(rollback_epochs=9, hyperparams={"weight_decay": 0.1}),
        keeps_states=9,
        curvature_every=6,
    )
    both = chain(stop, identity(), back)
    _, action = both.epoch_end(both.init(None, None))
    assert action == Action(True, 3, {"weight_decay": 0.1})
    fields = both.curvature_every, both.keeps_archs, both.keeps_states
    assert fields == (2, 3, 9)
    _, action = chain(back, identity()).epoch_end(((), ()))
    assert (action.stop, action.rollback_epochs) == (False, 9)


@pytest.mark.parametrize("kind", ["spectral", "frobenius", "trace"])
def test_hessian_norm_is_the_norm_and_its_gradient_that_of_differences(kind):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        matrix = jnp.asarray(rng.normal(size=(6, 6)))

        def loss_fn(weights, mixture, *, statistics, key):
            del statistics, key
            return jnp.sum(jnp.sin(matrix @ mixture)) + weights * jnp.sum(mixture**4)

        part = regularizers.hessian_norm(kind, 0.5, products=6, samples=400)

        @jax.jit
        def penalty(arch):
            return part.penalty(
                (),
                phase="arch",
                arch=arch,
                weights=0.3,
                loss_fn=loss_fn,
                key=jax.random.key(0),
                step=0,
                probabilities=jnp.tanh,
            )

        arch = jnp.asarray(rng.normal(size=6))
        hessian = jax.hessian(
            lambda a: loss_fn(0.3, jnp.tanh(a), statistics="", key=None)
        )(arch)
        values = jnp.linalg.eigvalsh(hessian)
        assert values[0] < 0 < values[-1]
        expected, rel = {
            "spectral": (jnp.abs(values).max(), 1e-10),
            "frobenius": (jnp.linalg.norm(hessian), 0.1),
            "trace": (jnp.trace(hessian), 0.3),
        }[kind]
        assert float(penalty(arch)) == pytest.approx(0.5 * float(expected), rel=rel)
        gradient = jax.jit(jax.grad(penalty))(arch)
        for i in range(6):
            shift = jnp.zeros(6).at[i].set(1e-5)
            slope = (penalty(arch + shift) - penalty(arch - shift)) / 2e-5
            assert float(gradient[i]) == pytest.approx(float(slope), rel=1e-6, abs=1e-7)


def test_hessian_norm_flattens():
    """Arch steps at fixed weights end less curved, the less the stronger it is."""
    ends = []
    batch = tiny.batch(1, 64)
    for strength in (0.0, 30.0, 300.0):
        search = tiny.tiny_search(
            regularizer=regularizers.hessian_norm(strength=strength, products=6),
            arch_tx=jnas.optimizers.coupled_adam(0.05),
        )
        state = search.init(jax.random.key(0), batch["image"])
        step = jax.jit(search.arch_step)
        for _ in range(40):
            state, _ = step(state, batch, batch)
        hessian = _hessian(search, state, batch)
        ends.append(float(jnp.abs(jnp.linalg.eigvalsh(hessian)).max()))
    assert ends[2] < ends[1] < ends[0], ends


def _hessian(search, state, batch):
    """Of the loss by arch, by JAX' own means."""

    def loss(flat):
        mixture = search.probabilities({"cell": flat.reshape(3, 3)})
        return search.evaluate(state, mixture, batch)[0]

    return jax.hessian(loss)(state.arch["cell"].ravel())


def test_lambda_max_of_a_search_is_that_of_its_hessian():
    search = tiny.tiny_search()
    batch = tiny.batch(0)
    state = search.init(jax.random.key(0), batch["image"])
    state, _ = jax.jit(search.step)(state, batch, tiny.batch(1))
    expected = float(jnp.linalg.eigvalsh(_hessian(search, state, batch)).max())
    assert float(jax.jit(search.lambda_max)(state, batch)) == pytest.approx(
        expected, rel=1e-3
    )
    assert float(search.inspect(state, batch).lambda_max) == pytest.approx(
        expected, rel=1e-3
    )
    assert search.inspect(state, batch, curvature=False).lambda_max is None


def test_regularizers_say_where_they_are_from():
    for plugin in {*SCALED, *UNSCALED} - {"identity", "chain"}:
        function = getattr(regularizers, plugin.partition("-")[0])
        assert "References" in inspect.getdoc(function)


def test_bad_input_is_one_line():
    for call, words in (
        (lambda: regularizers.hessian_norm("spectal"), "did you mean 'spectral'"),
        (lambda: regularizers.hessian_norm(strength=-1), "strength"),
        (lambda: regularizers.hessian_norm(products=0), "products"),
        (lambda: regularizers.hessian_norm(samples=0), "samples"),
        (lambda: regularizers.hessian_norm(statistics="x"), "running"),
    ):
        with pytest.raises(jnas.JnasError, match=words):
            call()
    part = regularizers.hessian_norm()
    with pytest.raises(jnas.JnasError, match="probabilities="):
        part.penalty(
            (), phase="arch", weights=0, arch=jnp.ones(2), loss_fn=None,
            key=jax.random.key(0), step=0,
        )  # fmt: skip
