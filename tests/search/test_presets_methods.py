"""Each preset: what only the real method does, and that goes when it is cut out."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import presets, relax
from jnas.mixture import Mixture
from jnas.presets import figures, one_shot, sampled

DARTS = jnas.spaces.darts()
NASBENCH = jnas.spaces.nasbench201()
# NAS-Bench-201's cell with one edge, which compiles in seconds.
SMALL = jnas.Space(
    "small",
    (jnas.spaces.Group("cell", NASBENCH.groups[0].operations, ((0, 1),), 1, (1,)),),
)
SIZES = {
    "channels": 4,
    "cells_per_stage": 1,
    "num_classes": 4,
    "epochs": 10,
    "steps_per_epoch": 2,
}


def small(name, **options):
    return presets.get(name)(SMALL, **{**SIZES, **options})


def composed(name, space=SMALL, **options):
    """What a preset hands to `search.differentiable`."""
    found = {}
    make = jnas.search.differentiable

    def spy(net, **given):
        found.update(given)
        return make(net, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jnas.search, "differentiable", spy)
        sizes = {
            k: v for k, v in SIZES.items() if space is SMALL or k != "cells_per_stage"
        }
        presets.get(name)(space, **{**sizes, **options})
    return found


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.normal(size=(8, 8, 8, 1)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 4, 8)),
    }


def start(search, seed=0):
    return search.init(jax.random.key(seed), batch()["image"])


def weight_count(search):
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    state = jax.eval_shape(search.init, jax.random.key(0), image)
    return sum(leaf.size for leaf in jax.tree.leaves(state.weights))


def kinds_moved(search, before, after):
    """How many kinds of candidates with weights a step changed."""
    moved = jax.tree.map(
        lambda a, b: jnp.asarray(a != b, jnp.float32), before.weights, after.weights
    )
    return int((np.asarray(search.supernet.op_sum(moved)["cell"])[0, 0] > 0).sum())


# --- all


@pytest.mark.parametrize("name", sorted(presets.names()))
def test_presets_say_what_they_compose_and_what_was_published(name):
    doc = inspect.getdoc(presets.get(name))
    for word in ("Headline", "References", "https://arxiv.org"):
        assert word in doc or name == "darts_rnn"
    if name in ("darts_rnn", "gdas_frc"):
        return
    preset = presets.get(name)
    made = preset(NASBENCH)
    assert made.config["method"] == name
    assert made.config["published_batch_size"] >= 64
    with pytest.raises(jnas.JnasError, match="did you mean 'channels'"):
        preset(NASBENCH, chanels=4)
    short = preset(NASBENCH, epochs=2, arch_learning_rate=0.5, learning_rate=0.25)
    assert short.config["arch_learning_rate"] == 0.5
    assert short.config["learning_rate"] == 0.25


# --- continuous


def test_pc_darts_network_and_warm_up_are_the_published_ones():
    search = presets.pc_darts(DARTS)
    assert weight_count(search) == 299_578
    assert weight_count(presets.pc_darts(DARTS, partial_channels=1)) == 1_930_618
    assert search.arch_from == 15 * 98
    relaxation = composed("pc_darts", DARTS, cells=3)["relaxation"]
    arch = relaxation.init(jax.random.key(0), DARTS)
    edges = search.probabilities(arch).edges["normal"]
    for node in DARTS.groups[0].nodes:
        rows = np.array(DARTS.groups[0].incoming(node))
        np.testing.assert_allclose(edges[rows].sum(), 1.0, rtol=1e-5)
    # Without weighted edges there would be none.
    assert relax.softmax().probabilities({"a": jnp.ones((1, 2))}).edges is None


def test_pc_darts_edges_decide_which_stay():
    search = presets.pc_darts(DARTS, channels=4, cells=3)
    relaxation = composed("pc_darts", DARTS, cells=3)["relaxation"]
    mixture = relaxation.probabilities(
        relaxation.init(jax.random.key(0), DARTS), space=DARTS
    )
    weights = {name: jnp.full((14, 8), 0.125) for name in DARTS.names}
    # Two edges of each node are strong, not those with the lowest sources.
    rows = [0, 1, 2, 4, 6, 8, 10, 13]
    strong = jnp.full(14, 0.1).at[jnp.array(rows)].set(0.5)
    edges = dict.fromkeys(DARTS.names, strong)
    weighted = mixture._replace(weights=weights, edges=edges)
    chosen = search.selector.select(None, weighted, space=DARTS)
    found = {(edge.source, edge.target) for edge in chosen["normal"].edges}
    assert found == {DARTS.groups[0].edges[row] for row in rows}
    plain = search.selector.select(None, Mixture(weights), space=DARTS)
    assert plain != chosen


def test_milenas_learns_from_both_losses():
    def loss(weights, arch, batch, key):
        del key
        return arch * weights * batch, None

    def gradient(**options):
        estimate = composed("milenas", **options)["hypergradient"].estimate
        return float(
            estimate((), loss, loss, 2.0, 1.0, 10.0, 1.0, key=jax.random.key(0))[0]
        )

    assert gradient() == 2 * 1 + 2 * 10
    assert gradient(lambda_train=0.5) == 2 * 1 + 10
    assert gradient(lambda_train=0.0) == 2 * 1  # DARTS


def test_fair_darts_gates_are_independent_and_its_cells_sparse():
    search = presets.fair_darts(DARTS, channels=4, cells=3)
    space = search.supernet.space
    assert "none" not in space.groups[0].operations and space.optional
    arch = {name: np.zeros((14, 7)) for name in space.names}
    gates = search.probabilities(arch).weights["normal"]
    np.testing.assert_allclose(gates, 0.5)  # a softmax would give 1 / 7
    for part in arch.values():
        part[0, 3], part[3, 4], part[13, 3], part[9, 2] = 3.0, 2.5, 1.0, 2.0
    kept = search.selector.select(None, search.probabilities(arch), space=space)
    assert [edge.operation for edge in kept["normal"].edges] == [
        space.groups[0].operations[i] for i in (3, 4, 2)
    ]
    low = presets.fair_darts(DARTS, channels=4, cells=3, threshold=0.1)
    dense = low.selector.select(None, low.probabilities(arch), space=space)
    assert len(dense["normal"].edges) == 8


def test_fair_darts_pushes_gates_in_the_arch_step_only():
    states, weights = {}, []
    for strength in (10.0, 0.0):
        search = small("fair_darts", zero_one=strength)
        state = start(search)
        after, _ = jax.jit(search.weight_step)(state, batch())
        weights.append(jax.tree.leaves(after.weights))
        arch = {"cell": jnp.array([[1.0, -1.0, 0.5, 0.0, 2.0]])}
        state = state._replace(arch=arch)
        _, info = jax.jit(search.arch_step)(state, batch(), batch(1))
        states[strength] = float(info.arch_grad_norm)
    # The norm of the penalty's gradient, as the loss's is small beside it.
    s = jax.nn.sigmoid(jnp.array([1.0, -1.0, 0.5, 0.0, 2.0]))
    expected = float(jnp.linalg.norm(10 * 2 * (s - 0.5) * s * (1 - s) / 5))
    assert abs(states[10.0] - expected) < states[0.0] * 1.001
    assert abs(states[10.0] - states[0.0]) > 0.05
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
    published = presets.fair_darts(DARTS).config
    assert published["learning_rate"] == 0.005 and published["epochs"] == 50
    assert published["arch_learning_rate"] == 3e-3
    assert published["published_batch_size"] == 128
    assert published["steps_per_epoch"] == 196


def test_drnas_draws_from_a_distribution():
    relaxation = composed("drnas")["relaxation"]
    arch = relaxation.init(jax.random.key(0), SMALL)

    def draw(seed, from_=relaxation):
        key = jax.random.key(seed)
        return from_.sample(arch, key=key, step=0, space=SMALL).weights["cell"]

    first, second = draw(1), draw(2)
    assert not np.allclose(first, second)
    np.testing.assert_allclose(first.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(draw(1, relax.softmax()), draw(2, relax.softmax()))
    # beta = elu(0) + 1 = 1 is the flat distribution, of variance (O - 1) / O^2 (O + 1).
    flat = jax.vmap(
        lambda key: relaxation.sample(
            {"cell": jnp.zeros((1, 5))}, key=key, step=0, space=SMALL
        ).weights["cell"]
    )(jax.random.split(jax.random.key(3), 4000))
    np.testing.assert_allclose(flat.var(0), 4 / (25 * 6), rtol=0.1)


def test_drnas_anchors():
    kl, l2 = composed("drnas", anchor="kl"), composed("drnas")
    arch = {"cell": jnp.array([[2.0, 0.0, -0.5, 0.0, 0.0]])}
    gradient = jax.tree.map(jnp.zeros_like, arch)
    for parts, decays in ((kl, False), (l2, True)):
        updates, _ = parts["arch_tx"].update(
            gradient, parts["arch_tx"].init(arch), arch
        )
        assert bool(jnp.any(updates["cell"] != 0)) == decays
    assert l2["regularizer"] is None and kl["regularizer"] is not None
    with pytest.raises(jnas.JnasError, match="anchor must be"):
        small("drnas", anchor="l1")


# --- sampled


def test_snas_looks_at_training_batches_only_and_moves_jointly():
    search = small("snas", drop_path=0.0)
    assert search.config["order"] == "joint" and search.config["data"] == "full"
    step = jax.jit(search.step)
    state = start(search)
    (a, _), (b, _) = (step(state, batch(), batch(seed)) for seed in (1, 2))
    for x, y in zip(jax.tree.leaves(a.arch), jax.tree.leaves(b.arch), strict=True):
        np.testing.assert_array_equal(x, y)
    (c, _), (d, _) = (step(state, batch(seed), batch()) for seed in (1, 2))
    assert np.any(np.asarray(c.arch["cell"]) != np.asarray(d.arch["cell"]))
    # Drop path is the preset's own, and can be left out.
    rates = small("snas").regularizer.rates((), step=0)
    assert float(rates["drop_path"]) == pytest.approx(0.3)
    assert not search.regularizer.rates((), step=0)


def test_snas_temperature_falls_and_its_cells_keep_every_edge():
    relaxation = composed("snas")["relaxation"]
    arch = relaxation.init(jax.random.key(0), SMALL)
    # log alpha begins at N(1, 0.01).
    np.testing.assert_allclose(arch["cell"], 1.0, atol=0.1)

    def largest(step):
        keys = jax.random.split(jax.random.key(1), 200)
        return float(
            jax.vmap(
                lambda key: relaxation.sample(
                    arch, key=key, step=step, space=SMALL
                ).weights["cell"]
            )(keys)
            .max(-1)
            .mean()
        )

    assert largest(0) < 0.75 and largest(19) > 0.95
    search = presets.snas(DARTS, channels=4, cells=3)
    weights = {name: np.eye(8)[[4] * 14] for name in DARTS.names}
    chosen = search.selector.select(None, Mixture(weights), space=search.supernet.space)
    assert len(chosen["normal"].edges) == 14
    usual = search.selector.select(None, Mixture(weights), space=DARTS)
    assert len(usual["normal"].edges) == 8


def test_dsnas_rewards_the_drawn_candidate():
    parts = composed("dsnas")
    arch = {"cell": jnp.array([[0.3, -0.2, 0.1, 0.5, 0.0]])}
    slopes = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0])

    def gradient(relaxation):
        def loss(arch):
            mixture = relaxation.sample(
                arch, key=jax.random.key(4), step=0, space=SMALL
            )
            return jnp.sum(mixture.weights["cell"] * slopes[None]), mixture

        (_, mixture), grad = jax.value_and_grad(loss, has_aux=True)(arch)
        return mixture, grad["cell"][0]

    mixture, grad = gradient(parts["relaxation"])
    k = int(mixture.active["cell"][0, 0])
    p = jax.nn.softmax(arch["cell"][0])
    expected = slopes[k] * (jnp.eye(5)[k] - p)
    np.testing.assert_allclose(grad, expected, rtol=1e-5)
    _, other = gradient(relax.gumbel_hard(1.0))
    assert not np.allclose(other, expected, rtol=1e-2)
    assert parts["config"]["hypergradient"] == "single_level"


def test_proxyless_moves_two_logits_and_keeps_their_probability():
    for paths, most in ((2, 2), (None, 5)):
        search = small("proxyless", paths=paths, arch_learning_rate=0.1)
        step = jax.jit(search.arch_step)
        state, counts = start(search), []
        for seed in range(6):
            after, _ = step(state, batch(seed), batch(seed + 10))
            old, new = (
                np.asarray(s.arch["cell"][0], np.float64) for s in (state, after)
            )
            moved = old != new
            counts.append(int(moved.sum()))
            if paths == 2:
                np.testing.assert_allclose(
                    np.exp(old).sum(), np.exp(new).sum(), rtol=1e-5
                )
            state = after._replace(step=after.step + 1)
        assert max(counts) == most and min(counts) in (0, most)


def test_proxyless_schedule_and_rhythm():
    search = small("proxyless")
    assert (search.arch_from, search.arch_every) == (2 * round(10 / 4), 5)
    plan = figures.plan(
        "proxyless", sampled.PROXYLESS, {"epochs": 8, "steps_per_epoch": 3}
    )
    schedule = sampled._warm_up_then_cosine(plan)
    rates = [float(schedule(step)) for step in (0, 3, 6, 15, 24)]
    np.testing.assert_allclose(rates, [0.05, 0.025, 0.025, 0.0125, 0.0], atol=1e-7)


def test_gdas_frc_needs_a_fixed_reduction_cell():
    with pytest.raises(jnas.JnasError, match="use space darts_frc"):
        presets.gdas_frc(DARTS)
    search = presets.gdas_frc(jnas.spaces.darts_frc(), channels=16, cells=8)
    assert search.supernet.cells == {"normal": 6}
    assert search.config["gradient"] == "selected"
    # Fewer to choose, and fewer weights than with searched reduction cells.
    both = presets.gdas(DARTS, channels=16, cells=8)
    assert weight_count(search) < weight_count(both)


# --- one shot


def test_spos_trains_the_drawn_path_alone(monkeypatch):
    def most(search):
        step = jax.jit(search.weights_only)
        state, counts = start(search), []
        for seed in range(6):
            after, _ = step(state, batch(seed), None)
            counts.append(kinds_moved(search, state, after))
            np.testing.assert_array_equal(state.arch["cell"], after.arch["cell"])
            state = after
        return max(counts)

    search = small("spos", learning_rate=0.05)
    assert search.arch_from == 20  # of 20 steps: never
    assert most(search) == 1
    monkeypatch.setattr(relax, "uniform_path", lambda **_: relax.softmax())
    assert most(small("spos", learning_rate=0.05)) == 2


def test_spos_schedule_and_decay():
    plan = figures.plan("spos", one_shot.SPOS, {"epochs": 10, "steps_per_epoch": 2})
    rates = [float(plan.schedule()(step)) for step in (0, 10, 20)]
    np.testing.assert_allclose(rates, [0.5, 0.25, 0.0], atol=1e-7)
    for name, vectors in (("spos", False), ("rsps", True)):
        tx = composed(name)["weight_tx"]
        weights = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
        zeros = jax.tree.map(jnp.zeros_like, weights)
        updates, _ = tx.update(zeros, tx.init(weights), weights)
        assert np.all(np.asarray(updates["kernel"]) < 0)
        assert bool(np.any(np.asarray(updates["bias"]) != 0)) == vectors
    fair = composed("spos", fair=True)["relaxation"]
    arch = fair.init(jax.random.key(0), SMALL)
    drawn = [
        int(
            fair.sample(arch, key=jax.random.key(s), step=s, space=SMALL).active[
                "cell"
            ][0, 0]
        )
        for s in range(5)
    ]
    assert sorted(drawn) == list(range(5))


def test_rsps_draws_no_node_without_input():
    def starved(relaxation):
        arch = relaxation.init(jax.random.key(0), NASBENCH)
        keys = jax.random.split(jax.random.key(1), 2000)
        active = jax.vmap(
            lambda key: relaxation.sample(
                arch, key=key, step=0, phase="weights", space=NASBENCH
            ).active["cell"][:, 0]
        )(keys)
        none = np.asarray(active) == NASBENCH.groups[0].columns["none"]
        rows = [np.array(NASBENCH.groups[0].incoming(node)) for node in (1, 2, 3)]
        return sum(int(none[:, r].all(axis=1).sum()) for r in rows)

    assert starved(composed("rsps")["relaxation"]) == 0
    assert starved(relax.uniform_path()) > 200  # 1/5 of node 1 alone
    search = small("rsps")
    assert search.arch_from == 20 and search.selector.needs_evaluation


def test_setn_trains_on_paths_and_learns_from_mixtures():
    relaxation = composed("setn")["relaxation"]
    arch = relaxation.init(jax.random.key(0), SMALL)
    context = {"key": jax.random.key(1), "step": 0, "space": SMALL}
    path = relaxation.sample(arch, phase="weights", **context)
    joint = relaxation.sample(arch, phase="arch", **context)
    assert path.active["cell"].shape == (1, 1) and joint.active is None
    np.testing.assert_allclose(joint.weights["cell"], 0.2, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "first"), [("setn", 3), ("rsps", None), ("spos", None)]
)
def test_one_shot_presets_take_the_best_on_validation_data(name, first):
    search = small(name, candidates=3)
    arch = {"cell": jnp.array([[0.0, 1.0, 2.0, 3.0, -1.0]])}
    if name != "setn":
        arch = {"cell": jnp.zeros((1, 5))}
    seen = []

    def evaluate(mixture):
        seen.append(int(np.argmax(mixture.weights["cell"][0])))
        return {"loss": float(seen[-1])}

    genotype = search.selector.select(
        arch,
        search.probabilities(arch),
        space=SMALL,
        evaluate=evaluate,
        key=jax.random.key(0),
    )
    assert genotype["cell"].edges[0].operation == SMALL.groups[0].operations[min(seen)]
    if first is not None:  # the most probable ones
        assert sorted(seen) == [1, 2, 3]
