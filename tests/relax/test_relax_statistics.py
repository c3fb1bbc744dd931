"""The distributions and gradients of the stochastic relaxations, against closed forms.

Keys are fixed. A frequency over n draws is off by at most 5 standard deviations,
sqrt(p (1 - p) / n); a mean by 5 of its standard errors.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas.relax.dirichlet import FLOOR, concentration
from jnas.spaces import Group, Space

# Two edges into one node, four candidates.
SPACE = Space(
    "flat", (Group("cell", ("none", "a", "b", "c"), ((0, 2), (1, 2)), 2, (2,)),)
)
ALPHA = np.array([[0.5, -1.0, 1.0, 0.0], [0.0, 0.0, 2.0, -2.0]], np.float32)
P = np.asarray(jax.nn.softmax(ALPHA))
N = 20_000


def draws(relaxation, phase, n=N, space=SPACE, alpha=ALPHA, seed=0, step=0):
    """``n`` samples at once."""

    def one(key):
        return relaxation.sample(
            {"cell": jnp.asarray(alpha)}, key=key, step=step, phase=phase, space=space
        )

    return jax.device_get(
        jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), n))
    )


def near(frequency, p, n=N):
    bound = 5 * np.sqrt(p * (1 - p) / n) + 1e-9
    assert (np.abs(frequency - p) <= bound).all(), (frequency, p)


@pytest.mark.parametrize(
    ("relaxation", "phase"),
    [
        (jnas.relax.gumbel_hard(10.0), "arch"),
        (jnas.relax.gumbel_hard(0.1, "selected"), "weights"),
        (jnas.relax.dsnas(), "arch"),
        (jnas.relax.reinmax(), "arch"),
        (jnas.relax.reinmax(), "weights"),
        (jnas.relax.binary_gates(), "weights"),
        (jnas.relax.binary_gates(None), "arch"),
    ],
)
def test_one_hots_have_the_frequencies_of_the_softmax(relaxation, phase):
    sampled = draws(relaxation, phase).weights["cell"]
    assert set(np.unique(sampled)) == {0.0, 1.0}
    near(sampled.mean(0), P)
    # Edges are independent.
    both = np.einsum("neo,nfp->eofp", sampled, sampled)[0, :, 1] / N
    near(both, np.outer(P[0], P[1]))


def test_pairs_are_drawn_without_replacement_and_gates_in_proportion():
    found = draws(jnas.relax.binary_gates(skip_none=False), "arch")
    active = np.sort(found.active["cell"], axis=-1)
    assert (active[..., 0] < active[..., 1]).all()
    for edge in range(2):
        p = P[edge]
        for i in range(4):
            for j in range(i + 1, 4):
                expected = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
                hit = (active[:, edge] == [i, j]).all(-1)
                near(hit.mean(), expected)
                if hit.sum() > 500:
                    gate = found.weights["cell"][hit, edge, i].mean()
                    near(gate, p[i] / (p[i] + p[j]), hit.sum())


def test_soft_samples_are_one_hot_in_the_limit_and_uniform_when_hot():
    cold = draws(jnas.relax.gumbel_soft(1e-3), "arch", 4000).weights["cell"]
    assert np.mean(cold.max(-1) > 0.99) > 0.97
    near((cold.argmax(-1)[..., None] == np.arange(4)).mean(0), P, 4000)
    hot = draws(jnas.relax.gumbel_soft(1e4), "arch", 100).weights["cell"]
    np.testing.assert_allclose(hot, 0.25, atol=1e-3)


def test_the_dirichlet_has_its_mean_and_variance():
    found = draws(jnas.relax.dirichlet(), "arch").weights["cell"]
    beta = np.asarray(concentration(jnp.asarray(ALPHA)))
    np.testing.assert_allclose(beta, np.where(ALPHA > 0, ALPHA + 1, np.exp(ALPHA)))
    total = beta.sum(-1, keepdims=True)
    mean = beta / total
    variance = mean * (1 - mean) / (total + 1)
    assert (np.abs(found.mean(0) - mean) < 5 * np.sqrt(variance / N)).all()
    np.testing.assert_allclose(found.var(0), variance, rtol=0.06)


@pytest.mark.parametrize("shift", [0.0, -3.0, -5.0])
def test_the_pathwise_gradient_of_the_dirichlet_is_that_of_the_expectation(shift):
    """Of E[sum c theta^2], against the closed form's derivative; small beta, too."""
    alpha = jnp.asarray(ALPHA + shift)
    c = jnp.array([[1.0, -2.0, 0.5, 3.0]])

    def expectation(alpha):
        beta = concentration(alpha)
        total = beta.sum(-1, keepdims=True)
        return jnp.sum(c * beta * (beta + 1) / (total * (total + 1)))

    def one(alpha, key):
        found = jnas.relax.dirichlet().sample(
            {"cell": alpha}, key=key, step=0, phase="arch", space=SPACE
        )
        return jnp.sum(c * jnp.square(found.weights["cell"]))

    keys = jax.random.split(jax.random.key(3), N)
    grads = np.asarray(jax.jit(jax.vmap(jax.grad(one), (None, 0)))(alpha, keys))
    exact = np.asarray(jax.grad(expectation)(alpha))
    error = grads.std(0) / np.sqrt(N)
    assert (np.abs(grads.mean(0) - exact) < 5 * error + 1e-5).all()
    # The bound is not idle: it tells this gradient from none.
    assert (np.abs(exact) > 5 * error).any()


def test_below_the_floor_the_dirichlet_has_no_gradient():
    assert float(concentration(jnp.float32(-1e4))) == np.float32(FLOOR)
    assert float(jax.grad(concentration)(-20.0)) == 0
    assert float(jax.grad(concentration)(-6.0)) == pytest.approx(np.exp(-6), rel=1e-5)


def pulled(relaxation, key, cotangent, phase="arch"):
    """``(mixture, gradient by alpha)`` for a given dL / d weights."""

    def sampled(alpha):
        mixture = relaxation.sample(
            {"cell": alpha}, key=key, step=0, phase=phase, space=SPACE
        )
        return mixture.weights["cell"], mixture

    _, pull, mixture = jax.vjp(sampled, jnp.asarray(ALPHA), has_aux=True)
    return mixture, np.asarray(pull(jnp.asarray(cotangent))[0])


G = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)


def jacobian(p):
    return np.diag(p) - np.outer(p, p)


@pytest.mark.parametrize("seed", range(6))
def test_the_gate_gradient_is_the_published_formula(seed):
    relaxation = jnas.relax.binary_gates(skip_none=False)
    mixture, grad = pulled(relaxation, jax.random.key(seed), G)
    for edge in range(2):
        pair = np.asarray(mixture.active["cell"][edge])
        q = P[edge, pair] / P[edge, pair].sum()
        expected = np.zeros(4)
        for i in range(2):
            for j in range(2):
                term = G[edge, pair[j]] * q[j] * (float(i == j) - q[i])
                expected[pair[i]] += term
        np.testing.assert_allclose(grad[edge], expected, atol=1e-6)
    every = jnas.relax.binary_gates(None, skip_none=False)
    _, grad = pulled(every, jax.random.key(seed), G)
    expected = [jacobian(p) @ g for p, g in zip(P, G, strict=True)]
    np.testing.assert_allclose(grad, expected, atol=1e-6)


def test_an_open_gate_of_none_learns_nothing_unless_asked_to():
    relaxation = jnas.relax.binary_gates()
    seen = set()
    for seed in range(12):
        mixture, grad = pulled(relaxation, jax.random.key(seed), G)
        for edge in range(2):
            none = float(mixture.weights["cell"][edge, 0]) == 1
            first, second = np.asarray(mixture.active["cell"][edge])
            assert (first == second) == none == (not grad[edge].any())
            seen.add(none)
    assert seen == {True, False}
    all_paths = jnas.relax.binary_gates(None)
    for seed in range(12):
        mixture, grad = pulled(all_paths, jax.random.key(seed), G)
        none = np.asarray(mixture.weights["cell"])[:, 0] == 1
        assert (none == ~grad.any(-1)).all()


def test_after_the_update_only_the_pair_has_moved_and_keeps_its_sum():
    relaxation = jnas.relax.binary_gates()
    old = {"cell": jnp.asarray(ALPHA)}
    new = {"cell": jnp.asarray(ALPHA + G)}
    active = {"cell": jnp.array([[3, 1], [2, 2]])}
    mixture = jnas.Mixture(old, active=active)
    found = np.asarray(relaxation.after_update(old, new, mixture)["cell"])
    np.testing.assert_array_equal(found[1], ALPHA[1])
    np.testing.assert_array_equal(found[0, [0, 2]], ALPHA[0, [0, 2]])
    pair = [1, 3]
    assert np.exp(found[0, pair]).sum() == pytest.approx(np.exp(ALPHA[0, pair]).sum())
    offset = found[0, pair] - (ALPHA + G)[0, pair]
    assert offset[0] == pytest.approx(offset[1], rel=1e-5) and abs(offset[0]) > 1e-3
    whole = jnas.relax.binary_gates(None)
    assert whole.after_update(old, new, jnas.Mixture(old)) is new


@pytest.mark.parametrize("seed", range(4))
def test_reinmax_and_dsnas_have_their_closed_forms(seed):
    temperature = 1.7
    mixture, grad = pulled(jnas.relax.reinmax(temperature), jax.random.key(seed), G)
    d = np.asarray(mixture.weights["cell"])
    soft = np.asarray(jax.nn.softmax(ALPHA / temperature))
    for edge in range(2):
        q = (d[edge] + soft[edge]) / 2
        expected = (2 * jacobian(q) - jacobian(P[edge]) / 2) @ G[edge]
        np.testing.assert_allclose(grad[edge], expected, atol=2e-6)
    mixture, grad = pulled(jnas.relax.dsnas(), jax.random.key(seed), G)
    d = np.asarray(mixture.weights["cell"])
    expected = (G * d).sum(-1, keepdims=True) * (d - P)
    np.testing.assert_allclose(grad, expected, atol=1e-6)


def expected_gradient(relaxation, function):
    """The exact mean of the sampled gradient over all one-hots of an edge, float64.

    Each one-hot's gradient does not depend on the key, so one key for each will do.
    """
    found = {}
    for seed in range(200):
        key = jax.random.key(seed)
        weights = relaxation.sample(
            {"cell": jnp.asarray(ALPHA)}, key=key, step=0, phase="arch", space=SPACE
        ).weights["cell"]
        k = int(jnp.argmax(weights[0]))
        if k not in found:
            cotangent = np.zeros((2, 4), np.float32)
            cotangent[0] = jax.grad(function)(weights[0])
            found[k] = pulled(relaxation, key, cotangent)[1][0]
        if len(found) == 4:
            break
    return sum(P[0, k] * grad for k, grad in found.items())


def test_reinmax_is_exact_for_a_quadratic_and_plain_straight_through_is_not():
    rng = np.random.default_rng(1)
    a = jnp.asarray(rng.normal(size=(4, 4)), jnp.float32)

    def quadratic(d):
        return d @ a @ d

    values = np.diag(a)  # of the four one-hots
    exact = jacobian(P[0]) @ values
    found = expected_gradient(jnas.relax.reinmax(), quadratic)
    np.testing.assert_allclose(found, exact, atol=3e-6)
    plain = expected_gradient(jnas.relax.binary_gates(None, skip_none=False), quadratic)
    assert np.abs(plain - exact).max() > 0.05


def test_hard_gumbel_gradients_sum_over_what_they_should():
    key = jax.random.key(4)
    for gradient in ("all", "selected"):
        relaxation = jnas.relax.gumbel_hard(0.7, gradient)
        mixture = relaxation.sample(
            {"cell": jnp.asarray(ALPHA)}, key=key, step=0, phase="arch", space=SPACE
        )
        assert (mixture.offsets is None) == (gradient == "selected")
        if mixture.offsets is not None:
            assert mixture.offsets["cell"].tolist() == [0.0, 0.0]

    def offsets(alpha):
        found = jnas.relax.gumbel_hard(0.7).sample(
            {"cell": alpha}, key=key, step=0, phase="arch", space=SPACE
        )
        k = found.active["cell"][:, 0]
        chosen = jnp.take_along_axis(found.weights["cell"], k[:, None], 1)[:, 0]
        return found.offsets["cell"], chosen

    rest, chosen = jax.jacobian(offsets)(jnp.asarray(ALPHA))
    # The h of an edge sum to 1, so these are each other's negative.
    np.testing.assert_allclose(rest, -chosen, atol=1e-6)
    assert np.abs(chosen).max() > 0.01


def test_temperatures_are_taken_at_the_step():
    tau = jnas.relax.linear_temperature(10.0, 0.1, epochs=250, steps_per_epoch=4)
    expected = [10 - 9.9 * e / 249 for e in (0, 0, 1, 124, 249, 249)]
    steps = [0, 3, 4, 4 * 124 + 1, 999, 5000]
    np.testing.assert_allclose([float(tau(s)) for s in steps], expected, rtol=1e-5)
    snas = jnas.relax.linear_temperature(
        1.0, 0.03, epochs=150, steps_per_epoch=1, reach_end=False
    )
    expected = [(1 - e / 150) * 0.97 + 0.03 for e in (0, 75, 149)]
    np.testing.assert_allclose([float(snas(e)) for e in (0, 75, 149)], expected, 1e-6)
    fbnet = jnas.relax.exponential_temperature(5.0, 0.045, steps_per_epoch=2)
    assert float(fbnet(21)) == pytest.approx(5 * np.exp(-0.45))
    soft = jnas.relax.gumbel_soft(tau)
    early, late = (
        draws(soft, "arch", 50, step=jnp.int32(s)).weights["cell"].max(-1).mean()
        for s in (0, 999)
    )
    assert early < 0.5 < 0.9 < late


def test_uniform_paths_are_uniform_and_keep_distinct_edges():
    space = jnas.spaces.darts()
    arch = jnas.relax.uniform_path().init(jax.random.key(0), space)
    one = functools.partial(
        jnas.relax.uniform_path().sample, arch, step=0, phase="weights", space=space
    )
    keys = jax.random.split(jax.random.key(0), 4000)
    found = jax.device_get(jax.jit(jax.vmap(lambda k: one(key=k)))(keys))
    for group in space.groups:
        for node in group.nodes:
            rows = list(group.incoming(node))
            kept = found.edges[group.name][:, rows]
            assert (kept.sum(-1) == 2).all()
            near(kept.mean(0), np.full(len(rows), 2 / len(rows)), 4000)
        weights = found.weights[group.name]
        kept = found.edges[group.name]
        frequency = weights.sum(0) / kept.sum(0)[:, None]
        near(frequency, np.full(frequency.shape, 1 / 8), kept.sum(0).min())
        # Dropped edges name "none", which costs nothing.
        assert (found.active[group.name][kept == 0] == group.columns["none"]).all()


def test_fair_paths_take_every_candidate_once_in_each_block():
    space = SPACE.restrict({"cell": [("none", "a", "b", "c"), ("a", "b", "c")]})
    relaxation = jnas.relax.uniform_path(fair=True)
    arch = relaxation.init(jax.random.key(0), space)
    found = jax.jit(
        jax.vmap(
            lambda step: relaxation.sample(
                arch, key=jax.random.key(0), step=step, phase="weights", space=space
            ).active["cell"][:, 0]
        )
    )(jnp.arange(120))
    first, second = np.asarray(found).T
    assert (np.sort(first.reshape(30, 4), axis=1) == np.arange(4)).all()
    assert (np.sort(second.reshape(40, 3), axis=1) == [1, 2, 3]).all()
    assert len({tuple(block) for block in first.reshape(30, 4)}) > 8


def test_nodes_are_drawn_again_until_not_all_edges_are_none():
    space = jnas.spaces.nasbench201()
    relaxation = jnas.relax.uniform_path(resample_none=True)
    arch = relaxation.init(jax.random.key(0), space)
    keys = jax.random.split(jax.random.key(1), N)
    found = jax.jit(
        jax.vmap(
            lambda key: relaxation.sample(arch, key=key, space=space).active["cell"]
        )
    )(keys)
    paths = np.asarray(found)[..., 0]
    assert (paths[:, 0] != 0).all()
    near(np.eye(5)[paths[:, 0]].mean(0)[1:], np.full(4, 1 / 4))
    pairs = paths[:, 1] * 5 + paths[:, 2]
    frequency = np.bincount(pairs, minlength=25) / N
    assert frequency[0] == 0
    near(frequency[1:], np.full(24, 1 / 24))
    triples = paths[:, 3:] @ [25, 5, 1]
    frequency = np.bincount(triples, minlength=125) / N
    assert frequency[0] == 0
    near(frequency[1:], np.full(124, 1 / 124))


def test_of_darts_a_node_is_not_left_with_two_nones():
    space = jnas.spaces.darts()
    relaxation = jnas.relax.uniform_path(resample_none=True)
    arch = relaxation.init(jax.random.key(0), space)
    keys = jax.random.split(jax.random.key(1), 2000)
    found = jax.device_get(
        jax.jit(jax.vmap(lambda k: relaxation.sample(arch, key=k, space=space)))(keys)
    )
    for group in space.groups:
        useful = found.weights[group.name][..., 1:].sum(-1)
        assert group.operations[0] == "none"
        for node in group.nodes:
            assert (useful[:, list(group.incoming(node))].sum(-1) >= 1).all()


def test_top_k_keeps_the_most_probable_and_can_renormalise():
    arch = {"cell": jnp.asarray(ALPHA)}
    plain = jnas.relax.top_k(2).sample(arch, space=SPACE)
    assert np.sort(plain.active["cell"][0]).tolist() == [0, 2]
    np.testing.assert_allclose(plain.weights["cell"][0], P[0] * [1, 0, 1, 0], rtol=1e-6)
    whole = jnas.relax.top_k(2, renormalise=True).sample(arch, space=SPACE)
    np.testing.assert_allclose(whole.weights["cell"].sum(-1), 1, rtol=1e-6)


def test_edge_weights_are_softmaxes_over_incoming_edges_and_multiply():
    space = jnas.spaces.darts()
    relaxation = jnas.relax.edge_normalised()
    arch = relaxation.init(jax.random.key(0), space)
    arch["edges"] = {g: jnp.arange(14.0) ** 0.5 for g in arch["edges"]}
    edges = relaxation.probabilities(arch, space=space).edges["normal"]
    expected = np.exp(np.arange(14.0) ** 0.5)
    for rows in ((0, 1), (2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12, 13)):
        part = expected[list(rows)]
        np.testing.assert_allclose(edges[np.array(rows)], part / part.sum(), rtol=1e-5)
    both = jnas.relax.edge_normalised(jnas.relax.uniform_path())
    found = both.sample(arch, key=jax.random.key(0), phase="weights", space=space)
    kept = found.weights["normal"].sum(-1) > 0
    assert kept.sum() == 8
    np.testing.assert_allclose(found.edges["normal"], jnp.where(kept, edges, 0))


def test_phases_are_told_apart():
    relaxation = jnas.relax.phased(jnas.relax.uniform_path(), jnas.relax.softmax())
    arch = {"cell": jnp.asarray(ALPHA)}
    context = {"key": jax.random.key(0), "step": 0, "space": SPACE}
    soft = relaxation.sample(arch, phase="arch", **context)
    np.testing.assert_allclose(soft.weights["cell"], P, rtol=1e-6)
    path = relaxation.sample(arch, phase="weights", **context)
    assert path.active["cell"].shape == (2, 1)
    broken = jnas.relax.phased(jnas.relax.gumbel_hard(), jnas.relax.edge_normalised())
    with pytest.raises(jnas.errors.JnasError, match="equal structure"):
        broken.init(jax.random.key(0), SPACE)


@pytest.mark.parametrize(
    "make",
    [
        lambda: jnas.relax.softmax(0.0),
        lambda: jnas.relax.softmax(lambda step: 1.0),
        lambda: jnas.relax.softmax(init_scale=-1.0),
        lambda: jnas.relax.sigmoid("0"),
        lambda: jnas.relax.gumbel_hard(gradient="none"),
        lambda: jnas.relax.gumbel_hard(float("nan")),
        lambda: jnas.relax.gumbel_soft(-1.0),
        lambda: jnas.relax.concrete("1"),
        lambda: jnas.relax.binary_gates(3),
        lambda: jnas.relax.reinmax(float("inf")),
        lambda: jnas.relax.top_k(0),
        lambda: jnas.relax.top_k(9).init(jax.random.key(0), SPACE),
        lambda: jnas.relax.uniform_path(fair=True, resample_none=True),
        lambda: jnas.relax.uniform_path().sample({}, key=jax.random.key(0)),
        lambda: jnas.relax.edge_normalised().probabilities(
            {"operations": {}, "edges": {}}
        ),
        lambda: jnas.relax.linear_temperature(1.0, 0.0, epochs=2, steps_per_epoch=1),
        lambda: jnas.relax.linear_temperature(1.0, 0.1, epochs=0, steps_per_epoch=1),
        lambda: jnas.relax.exponential_temperature(1.0, -1.0, steps_per_epoch=1),
    ],
)
def test_what_is_out_of_range_is_told(make):
    with pytest.raises(jnas.errors.JnasError) as caught:
        make()
    assert "\n" not in str(caught.value)
