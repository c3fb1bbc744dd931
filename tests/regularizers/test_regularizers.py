"""The regularizers against closed forms, and what they leave alone."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy import integrate, special

import jnas
from jnas import regularizers
from jnas.regularizers.dirichlet_anchor import divergence
from jnas.relax.dirichlet import concentration

SPACE = jnas.spaces.nasbench201()
RAGGED = SPACE.restrict(
    {"cell": [("none", "skip_connect")] + [SPACE.groups[0].operations] * 5}
)
NET = types.SimpleNamespace(space=SPACE, cells={"cell": 2})


def penalty(part, supernet=NET, arch=None, **context):
    context.setdefault("phase", "arch")
    return part.penalty(part.init(supernet, arch), arch=arch, **context)


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_zero_one_is_the_formula_and_blind_at_one_half(kind):
    part = regularizers.zero_one(10.0, kind)
    alpha = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)

    def loss(alpha):
        mixture = jnas.relax.sigmoid().probabilities({"cell": alpha}, space=SPACE)
        return penalty(part, mixture=mixture)

    distance = np.asarray(jax.nn.sigmoid(alpha)) - 0.5
    size = distance**2 if kind == "l2" else np.abs(distance)
    assert float(loss(alpha)) == pytest.approx(-10 * size.mean(), rel=1e-5)
    assert not np.asarray(jax.grad(loss)(jnp.zeros((6, 5)))).any()
    # It pushes away from one half.
    grad = np.asarray(jax.grad(loss)(alpha))
    assert (np.sign(grad) == -np.sign(alpha)).all()


def test_zero_one_counts_what_edges_can_choose():
    net = NET
    net = types.SimpleNamespace(space=RAGGED, cells=NET.cells)
    mixture = jnas.Mixture({"cell": jnp.asarray(RAGGED.groups[0].allowed, jnp.float32)})
    value = penalty(regularizers.zero_one(1.0), net, mixture=mixture)
    assert float(value) == pytest.approx(-0.25)


def test_the_divergence_is_the_integral_and_zero_at_the_anchor():
    a, b = 2.5, 0.7  # two candidates: beta distributions

    def log_density(x, a, b):
        return (a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - special.betaln(a, b)

    for anchor in (1.0, 1.8):
        exact, _ = integrate.quad(
            lambda x, c=anchor: (
                np.exp(log_density(x, a, b))
                * (log_density(x, a, b) - log_density(x, c, c))
            ),
            0,
            1,
        )
        found = divergence(jnp.array([[a, b]]), anchor)
        assert float(found[0]) == pytest.approx(exact, rel=1e-4)
        same = divergence(jnp.full((1, 4), anchor), anchor)
        assert float(same[0]) == pytest.approx(0, abs=1e-5)
    masked = divergence(
        jnp.array([[a, 99.0, b]]), 1.0, jnp.array([[True, False, True]])
    )
    np.testing.assert_allclose(masked, divergence(jnp.array([[a, b]]), 1.0), rtol=1e-5)


def test_the_anchor_sums_over_edges_in_the_arch_phase_only():
    part = regularizers.dirichlet_anchor(0.5)
    alpha = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)
    arch = {"cell": alpha}
    expected = 0.5 * divergence(concentration(alpha), 1.0).sum()
    assert float(penalty(part, arch=arch)) == pytest.approx(float(expected), rel=1e-6)
    assert penalty(part, arch=arch, phase="weights") == 0.0
    nested = {"operations": arch, "edges": {"cell": jnp.zeros(6)}}
    assert float(penalty(part, arch=nested)) == pytest.approx(float(expected))
    extreme = {"cell": 1e4 * jnp.sign(alpha)}
    grads = jax.grad(lambda a: penalty(part, arch=a))(extreme)
    assert np.isfinite(grads["cell"]).all()
    with pytest.raises(jnas.errors.JnasError, match="needs an arch"):
        part.init(NET, {"other": alpha})


def test_anchor_on_a_ragged_space_has_no_gradient_elsewhere():
    part = regularizers.dirichlet_anchor()
    net = types.SimpleNamespace(space=RAGGED, cells=NET.cells)
    arch = {"cell": jnp.ones((6, 5))}
    grads = jax.grad(lambda a: penalty(part, net, a))(arch)["cell"]
    allowed = RAGGED.groups[0].allowed
    assert not np.asarray(grads)[~allowed].any() and np.asarray(grads)[allowed].all()


def test_rates_are_constants_or_schedules():
    assert float(regularizers.drop_path(0.25).rates((), step=3)["drop_path"]) == 0.25
    rising = regularizers.linear_rate(0.3, epochs=50, steps_per_epoch=10)
    both = regularizers.chain(
        regularizers.drop_path(rising),
        regularizers.skip_dropout(
            regularizers.decaying_rate(0.4, epochs=25, steps_per_epoch=10)
        ),
    )
    rates = jax.jit(lambda step: both.rates(both.init(None, None), step=step))
    for step, epoch in ((0, 0), (95, 9), (100, 10), (249, 24)):
        found = rates(step)
        assert float(found["drop_path"]) == pytest.approx(0.3 * epoch / 50)
        decaying = (
            0.4 * (25 - epoch - 1) / 25
            if epoch < 10
            else 0.4 * np.exp(-0.2 * (epoch - 10))
        )
        assert float(found["skip_dropout"]) == pytest.approx(decaying, rel=1e-5)


COSTS = np.random.default_rng(1).uniform(1, 9, (2, 6, 5))
WEIGHTS = jnp.asarray(np.random.default_rng(2).uniform(size=(6, 5)), jnp.float32)
EXPECTED = 3.0 + float(np.einsum("ceo,eo->", COSTS, WEIGHTS))


def cost(kind="linear", costs=COSTS, weights=WEIGHTS, phase="arch", **options):
    part = regularizers.expected_cost(
        {"cell": costs}, strength=0.2, kind=kind, fixed=3.0, **options
    )
    return penalty(
        part,
        mixture=jnas.Mixture({"cell": weights}),
        arch={"cell": WEIGHTS},
        phase=phase,
        weights=2.0,
        key=None,
        loss_fn=lambda weights, mixture, key: weights * mixture.weights["cell"].sum(),
    )


def test_expected_cost_has_its_forms():
    assert float(cost()) == pytest.approx(0.2 * EXPECTED, rel=1e-5)
    assert float(cost("log")) == pytest.approx(0.2 * np.log(EXPECTED), rel=1e-5)
    add = float(cost("add_linear", reference=50.0))
    assert add == pytest.approx(0.2 * (EXPECTED - 50) / 50, rel=1e-4)
    loss = 2.0 * float(WEIGHTS.sum())
    product = loss + float(cost("mul_log", reference=50.0, exponent=0.3))
    expected = 0.2 * loss * (np.log(EXPECTED) / np.log(50)) ** 0.3
    assert product == pytest.approx(expected, rel=1e-4)
    assert cost(phase="weights") == 0.0


def test_expected_cost_is_of_all_cells_however_it_is_given():
    whole = COSTS.sum(0)
    assert float(cost(costs=whole)) == pytest.approx(0.2 * EXPECTED, rel=1e-5)
    twice = jnp.stack([WEIGHTS, WEIGHTS])
    for costs in (COSTS, whole):
        found = float(cost(costs=costs, weights=twice))
        assert found == pytest.approx(0.2 * EXPECTED, rel=1e-5)
    table = jnas.cost.operation_costs("nasbench201", channels=16, cells_per_stage=5)
    part = regularizers.expected_cost(
        table.multiply_adds, strength=1.0, fixed=table.base_multiply_adds
    )
    net = types.SimpleNamespace(space=SPACE, cells={"cell": 15})
    mixture = jnas.Mixture({"cell": WEIGHTS})
    exact = table.expected({"cell": np.asarray(WEIGHTS)})[1]
    assert float(penalty(part, net, mixture=mixture)) == pytest.approx(exact, rel=1e-5)


def test_expected_cost_can_count_probabilities_instead_of_the_sample():
    """dE / d alpha = p_i (F_i - sum p F), which one-hot gates do not see."""
    part = regularizers.expected_cost(
        {"cell": COSTS},
        strength=1.0,
        probabilities=jnas.relax.binary_gates().probabilities,
    )
    sampled = jnas.Mixture({"cell": jnp.eye(5)[jnp.zeros(6, int)]})
    grads = jax.grad(lambda a: penalty(part, arch=a, mixture=sampled))(
        {"cell": WEIGHTS}
    )
    p, f = np.asarray(jax.nn.softmax(WEIGHTS)), COSTS.sum(0)
    expected = p * (f - (p * f).sum(-1, keepdims=True))
    np.testing.assert_allclose(grads["cell"], expected, rtol=1e-4, atol=1e-4)


def test_mul_log_multiplies_the_arch_loss_of_a_search():
    """The whole gradient by arch is that of loss x factor."""

    def grads(regularizer):
        search = tiny.tiny_search(
            regularizer=regularizer, arch_tx=jnas.optimizers.coupled_sgd(1.0)
        )
        state = search.init(jax.random.key(0), tiny.batch(0)["image"])
        after, info = search.arch_step(state, tiny.batch(1), tiny.batch(2))
        change = state.arch["cell"] - after.arch["cell"]
        return np.asarray(change), float(info.val_loss), state.arch["cell"]

    costs = np.array([[2.0, 3.0, 4.0]] * 3)
    plain, loss, alpha = grads(regularizers.identity())
    found, _, _ = grads(
        regularizers.expected_cost(
            {"cell": costs}, strength=0.2, kind="mul_log", reference=5.0, exponent=0.3
        )
    )

    def factor(alpha):
        expected = jnp.sum(jax.nn.softmax(alpha) * costs)
        return 0.2 * (jnp.log(expected) / jnp.log(5.0)) ** 0.3

    value, slope = jax.value_and_grad(factor)(alpha)
    np.testing.assert_allclose(found, plain * value + loss * slope, atol=2e-6)


def test_neutral_elements():
    alpha = jnp.ones((6, 5))
    mixture = jnas.Mixture({"cell": alpha})
    parts = {
        "zero_one": regularizers.zero_one(0.0),
        "dirichlet_anchor": regularizers.dirichlet_anchor(0.0),
        "expected_cost": regularizers.expected_cost({"cell": COSTS}, strength=0.0),
    }
    for part in parts.values():
        assert float(penalty(part, arch={"cell": alpha}, mixture=mixture)) == 0
        state = part.init(NET, {"cell": alpha})
        assert part.transform(state, mixture) is mixture
        assert part.rates(state, step=0) == {}
    assert regularizers.drop_path(0.0).penalty(()) == 0.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: regularizers.zero_one(-1.0),
        lambda: regularizers.zero_one(kind="l3"),
        lambda: regularizers.dirichlet_anchor("x"),
        lambda: regularizers.dirichlet_anchor(anchor=0.0),
        lambda: regularizers.drop_path(1.0),
        lambda: regularizers.skip_dropout(-0.1),
        lambda: regularizers.linear_rate(0.1, epochs=0, steps_per_epoch=1),
        lambda: regularizers.decaying_rate(
            0.1, epochs=5, steps_per_epoch=1, arch_from_epoch=6
        ),
        lambda: cost("log2"),
        lambda: cost("linear", reference=2.0),
        lambda: cost("add_linear"),
        lambda: cost("mul_log", reference=0.5),
        lambda: cost(costs=-COSTS),
        lambda: cost(costs=[[1.0], [2.0, 3.0]]),
        lambda: cost(costs=COSTS[:, :3]),
        lambda: regularizers.expected_cost({}, strength=1.0).init(NET, None),
    ],
)
def test_what_is_out_of_range_is_told(make):
    with pytest.raises(jnas.errors.JnasError) as caught:
        make()
    assert "\n" not in str(caught.value)
