"""The published fixes against closed forms, brute force and plain loops."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

import jnas
from jnas import regularizers
from jnas.regularizers.layer_alignment import alignment

OPERATIONS = jnas.spaces.nasbench201().groups[0].operations
SMALL = jnas.Space(
    "small",
    (jnas.spaces.Group("cell", OPERATIONS, ((0, 1), (0, 2), (1, 2)), 1, (2,)),),
)


def of(space, **cells):
    return types.SimpleNamespace(space=space, cells=cells, config={})


def ragged():
    """An edge with two candidates beside one with all three."""
    return tiny.SPACE.restrict(
        {"cell": [["skip_connect", "dense"], list(tiny.OPERATIONS), ["dense"]]}
    )


# --- beta_decay


def test_beta_decay_pulls_by_the_softmax():
    rng = np.random.default_rng(0)
    alpha = rng.normal(size=(3, 3)).astype(np.float32)
    part = regularizers.beta_decay(6.0)
    for space in (tiny.SPACE, ragged()):
        state = part.init(of(space), {"cell": alpha})
        gradient = jax.grad(
            lambda a, state=state: part.penalty(state, arch={"cell": a}, phase="arch")
        )(alpha)
        mask = space.groups[0].allowed
        weights = np.where(mask, np.exp(alpha), 0)
        weights /= weights.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(gradient, 6.0 * weights / 3, rtol=1e-5, atol=1e-7)
    assert part.penalty(state, arch={"cell": alpha}, phase="weights") == 0


def test_beta_decay_reads_logits_of_any_softmax_and_no_other():
    part = regularizers.beta_decay()
    arch = jnas.relax.edge_normalised().init(jax.random.key(0), tiny.SPACE)
    state = part.init(of(tiny.SPACE), arch)
    assert float(part.penalty(state, arch=arch, phase="arch")) > 0
    with pytest.raises(jnas.JnasError, match="beta_decay needs an arch with logits"):
        part.init(of(tiny.SPACE), {"other": 1})


# --- auxiliary_skip


def cells_space(operations):
    group = lambda name: jnas.spaces.Group(  # noqa: E731
        name, operations, ((0, 2), (1, 2)), 2, (2,)
    )
    return jnas.Space("two", (group("normal"), group("reduce")))


def test_auxiliary_skips_are_skips_beside_the_candidates():
    """With the candidates' own weights they add to their skip's probability."""
    space = cells_space(("skip_connect", "max_pool_3x3"))
    size = {"channels": 4, "cells": 3, "num_classes": 3}
    net = jnas.supernet.build(space, auxiliary_skip=True, **size)
    plain = jnas.supernet.build(space, **size)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    weights, state = net.init(jax.random.key(1), images)
    own = {k: v for k, v in weights["cell_1"].items() if k == "auxiliary_skip"}
    assert own and "auxiliary_skip" not in weights.get("cell_0", {})
    assert jax.tree.structure(own["auxiliary_skip"]) == jax.tree.structure(
        weights["cell_1"]["skip_connect"]
    )

    def without(tree):
        return {
            name: {k: v for k, v in part.items() if k != "auxiliary_skip"}
            for name, part in tree.items()
        }

    shared = {
        name: {
            **part,
            **(
                {"auxiliary_skip": part["skip_connect"]}
                if "auxiliary_skip" in part
                else {}
            ),
        }
        for name, part in weights.items()
    }
    p = {"normal": jnp.array([[0.3, 0.7], [0.6, 0.4]]), "reduce": jnp.full((2, 2), 0.5)}
    beside = {"normal": jnp.array([0.5, 0.25]), "reduce": jnp.array([1.0, 0.5])}
    raised = {g: p[g] + beside[g][:, None] * jnp.array([[1.0, 0.0]]) for g in p}

    @jax.jit
    def both(shared):
        first, _ = net.apply(
            shared, state, jnas.Mixture(p, auxiliary=beside), images, train=True
        )
        stats = {"batch_stats": without(state["batch_stats"])}
        second, _ = plain.apply(
            without(shared), stats, jnas.Mixture(raised), images, train=True
        )
        return first, second

    first, second = both(shared)
    np.testing.assert_allclose(first, second, rtol=2e-4, atol=2e-5)
    # Weights of its own: other ones give another result.
    assert float(jnp.max(jnp.abs(both(weights)[0] - first))) > 1e-2


def test_auxiliary_skips_need_a_supernet_that_has_them():
    net = jnas.supernet.build(SMALL, channels=2, cells_per_stage=1)
    with pytest.raises(jnas.JnasError, match="auxiliary_skip=True"):
        regularizers.auxiliary_skip().init(net, None)
    mixture = jnas.mixture.uniform(SMALL)._replace(auxiliary={"cell": jnp.ones(3)})
    variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    with pytest.raises(jnas.JnasError, match="no auxiliary skip"):
        net.apply(*variables, mixture, jnp.zeros((1, 8, 8, 1)), train=True)


def test_auxiliary_skips_are_gone_from_the_deterministic_view():
    search = tiny.tiny_search(regularizer=regularizers.auxiliary_skip(1.0))
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    assert search.mixture(state).auxiliary is None


# --- layer_alignment


@pytest.fixture(scope="module")
def aligned():
    """A convolutional net in float64, its loss, and Lambda of its weights."""
    with jax.enable_x64(True):
        net = jnas.supernet.build(
            SMALL, channels=4, cells_per_stage=1, num_classes=4, dtype=jnp.float64
        )
        images = jax.random.normal(jax.random.key(0), (8, 8, 8, 1))
        weights, state = net.init(jax.random.key(1), images)
        weights = jax.tree.map(lambda w: w.astype(jnp.float64), weights)
        task = jnas.supernet.classification()
        p = jax.nn.softmax(jax.random.normal(jax.random.key(2), (3, 5)))

        def loss_fn(weights, mixture, *, statistics="batch", key=None):
            del key
            logits, _ = net.apply(
                weights, state, mixture, images, train=True, statistics=statistics
            )
            return task.loss(logits, {"label": jnp.arange(8) % 4})[0]

        def agreement(weights):
            def loss(cells):
                return loss_fn(weights, jnas.Mixture({"cell": cells}))

            return alignment(jax.grad(loss)(jnp.broadcast_to(p, (3, 3, 5))))

        yield net, weights, loss_fn, agreement, jnas.Mixture({"cell": p})


def aligning(setup, **options):
    net, weights, loss_fn, _, mixture = setup
    part = regularizers.layer_alignment(0.5, **options)
    state = part.init(net, None)

    def penalty(weights):
        return part.penalty(
            state, phase="weights", weights=weights, mixture=mixture, loss_fn=loss_fn,
            key=None,
        )  # fmt: skip

    return jax.jit(jax.value_and_grad(penalty))(weights)


def relative(a, b):
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]) for t in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def test_alignment_is_the_mean_cosine_of_pairs():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 2, 3))
    flat = rows.reshape(4, -1)
    cosines = [
        flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j])
        for i in range(4)
        for j in range(i)
    ]
    assert float(alignment(jnp.asarray(rows))) == pytest.approx(
        np.mean(cosines), rel=1e-5
    )
    # The published derivative: 2 / (n (n - 1)) / |g| (I - u u^T) sum of u.
    gradient = np.asarray(jax.grad(alignment)(jnp.asarray(flat)))
    units = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    total = units.sum(axis=0)
    for row, unit, found in zip(flat, units, gradient, strict=True):
        expected = (total - unit * (unit @ total)) / np.linalg.norm(row) * 2 / (4 * 3)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.isfinite(jax.grad(alignment)(jnp.zeros((2, 3)))).all()


def test_alignment_gradient_is_that_of_brute_force(aligned):
    with jax.enable_x64(True):
        _, weights, _, agreement, _ = aligned
        brute = jax.tree.map(lambda g: -0.5 * g, jax.jit(jax.grad(agreement))(weights))
        value, gradient = aligning(aligned)
        assert float(value) == pytest.approx(-0.5 * float(agreement(weights)), rel=1e-9)
        assert relative(gradient, brute) < 1e-9
        # A third way: Lambda itself, a little further along a direction.
        rng = np.random.default_rng(0)
        way = jax.tree.map(lambda w: jnp.asarray(rng.normal(size=w.shape)), weights)
        ahead, behind = (
            float(agreement(jax.tree.map(lambda w, d, s=s: w + s * d, weights, way)))
            for s in (1e-6, -1e-6)
        )
        slope = jnas.numerics.dot(gradient, way)
        assert float(slope) == pytest.approx(-0.5 * (ahead - behind) / 2e-6, rel=1e-4)


def test_a_weight_step_follows_the_gradient_of_brute_force():
    """The whole path of a search: SGD with rate 1, with and without the plug-in."""
    with jax.enable_x64(True):
        batch = tiny.batch(0, dtype=jnp.float64)
        ends = []
        for part in (None, regularizers.layer_alignment(0.25)):
            search = jnas.search.differentiable(
                tiny.tiny_supernet(jnp.float64),
                weight_tx=optax.sgd(1.0),
                arch_tx=optax.sgd(1.0),
                regularizer=part,
            )
            state = search.init(jax.random.key(0), batch["image"])
            ends.append(jax.jit(search.weight_step)(state, batch)[0].weights)

        def agreement(weights):
            def loss(cells):
                moved = state._replace(weights=weights)
                return search.evaluate(moved, jnas.Mixture({"cell": cells}), batch)[0]

            p = search.mixture(state).weights["cell"]
            return alignment(jax.grad(loss)(jnp.broadcast_to(p, (2, 3, 3))))

        moved = jax.tree.map(jnp.subtract, ends[1], ends[0])
        brute = jax.tree.map(lambda g: 0.25 * g, jax.grad(agreement)(state.weights))
        assert relative(moved, brute) < 1e-8


def test_published_difference_is_the_derivative_where_no_kink_is_crossed(aligned):
    with jax.enable_x64(True):
        _, exact = aligning(aligned)
        _, near = aligning(aligned, method="finite_difference", epsilon=1e-6)
        assert relative(near, exact) < 1e-6


def test_alignment_in_the_arch_phase_is_nothing(aligned):
    weights = aligned[1]
    part = regularizers.layer_alignment()
    assert part.penalty((), phase="arch", weights=weights, mixture=None, loss_fn=None,
                        key=None) == 0.0  # fmt: skip
    for cells, groups, words in (
        ({"cell": 1}, None, "at least 2, got 1 of 'cell'"),
        ({"cell": 3}, ("sell",), "did you mean 'cell'"),
    ):
        with pytest.raises(jnas.JnasError, match=words):
            regularizers.layer_alignment(groups=groups).init(of(SMALL, **cells), None)
    reduce = jnas.spaces.darts()
    state = part.init(of(reduce, normal=6, reduce=2), None)
    assert set(state) == {"normal"} and state["normal"].shape == (6, 14, 8)


# --- operation_early_stop


def test_early_stop_counts_as_a_plain_loop():
    """Random gradients; cosines over the last axis, means of parameters' means."""
    net = jnas.supernet.build(SMALL, channels=3, cells_per_stage=1, num_classes=2)
    weights, _ = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    part = regularizers.operation_early_stop(threshold=0.02, every=3)
    state = part.init(net, None, weights=weights)
    rng = np.random.default_rng(0)

    def drawn():
        return jax.tree.map(
            lambda w: jnp.asarray(rng.normal(size=w.shape), jnp.float32), weights
        )

    step = jax.jit(
        lambda s, t, v: part.gradients(
            part.observe(s, val_grads=v, supernet=net), t, supernet=net
        )[0]
    )
    values, previous, frozen = [], None, np.zeros((3, 3, 5))
    for _ in range(7):
        train, val = drawn(), drawn()
        if previous is not None:
            values.append(loop_similarity(net, previous, val))
        if len(values) == 3:
            frozen = np.maximum(frozen, (np.mean(values, axis=0) < 0.02) * has_weights)
            values = []
        state, previous = step(state, train, val), train
        np.testing.assert_array_equal(state.frozen["cell"], frozen)
    assert 0 < frozen.sum() < (3 * 3 * has_weights).sum()
    assert not np.asarray(state.count["cell"]).any()
    told = part.record(state, supernet=net)["frozen"]["cell"]
    assert told["nor_conv_3x3"] == pytest.approx(frozen[..., 3].mean())
    assert told["skip_connect"] == 0


has_weights = np.array([0, 0, 1, 1, 0])


def loop_similarity(net, first, second):
    """Cell by cell, edge by edge, parameter by parameter."""
    found = np.zeros((3, 3, 5))
    for cell in range(3):
        # Positions 0, 1, 2 are the cells, with a reduction between two stages.
        for column in (2, 3):
            a = first[f"cell_{cell}"][OPERATIONS[column]]
            b = second[f"cell_{cell}"][OPERATIONS[column]]
            # Parameters are stacked by source: rows 0, 1 leave state 0, row 2 state 1.
            for row, edge in enumerate((0, 1, 2)):
                means = []
                for name in a:
                    x, y = (np.asarray(t[name][row], np.float64) for t in (a, b))
                    x, y = (np.atleast_1d(t).reshape(-1, t.shape[-1]) for t in (x, y))
                    cosine = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
                    means.append(cosine.mean())
                found[cell, edge, column] = np.mean(means)
    return found


def test_frozen_weights_stay_bit_by_bit():
    search = tiny.tiny_search(
        regularizer=regularizers.operation_early_stop(threshold=1.0, every=2),
        weight_tx=jnas.optimizers.coupled_sgd(0.1, weight_decay=0.1),
    )
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    step = jax.jit(search.step)
    for i in range(3):  # the second observation is in the third step
        state, _ = step(state, tiny.batch(2 * i), tiny.batch(2 * i + 1))
    assert float(state.regularizer_state.frozen["cell"][:, :, 2].min()) == 1
    before = jax.tree.map(np.asarray, (state.weights, state.weight_opt_state))
    for i in range(4):
        state, _ = step(state, tiny.batch(2 * i), tiny.batch(2 * i + 1))
    for name in ("dense", "dense1"):
        assert np.array_equal(before[0][name], state.weights[name])
    assert not np.array_equal(before[0]["out"], state.weights["out"])
    moved = [
        np.array_equal(a, b)
        for a, b in zip(
            jax.tree.leaves(before[1]),
            jax.tree.leaves(state.weight_opt_state),
            strict=True,
        )
        if np.shape(a) == (3, 6, 6)
    ]
    assert moved and all(moved)


def test_rows_that_are_not_frozen_go_on_in_the_same_leaf():
    """Parameters of like operations are stacked: some rows are held, some move."""
    net = jnas.supernet.build(SMALL, channels=3, cells_per_stage=1, num_classes=2)
    search = jnas.search.differentiable(
        net,
        weight_tx=jnas.optimizers.coupled_sgd(0.1, weight_decay=0.1),
        arch_tx=jnas.optimizers.coupled_adam(0.01),
        regularizer=regularizers.operation_early_stop(),
    )
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.normal(size=(4, 8, 8, 1)), jnp.float32),
        "label": jnp.asarray([0, 1, 0, 1]),
    }
    state = search.init(jax.random.key(0), batch["image"])
    step = jax.jit(search.weight_step)
    state, _ = step(state, batch)  # so that there is a momentum
    stops = state.regularizer_state
    frozen = {"cell": stops.frozen["cell"].at[1, 0, 3].set(1.0)}  # cell 1, edge 0
    state = state._replace(regularizer_state=stops._replace(frozen=frozen))
    name = ("cell_1", "nor_conv_3x3", "kernel")
    kernel = lambda tree: np.asarray(tree[name[0]][name[1]][name[2]])  # noqa: E731
    momentum = lambda s: [  # noqa: E731
        np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(s.weight_opt_state)
        if all(f"'{part}'" in jax.tree_util.keystr(path) for part in name)
    ]
    after, _ = step(state, batch)
    moved = (kernel(after.weights) != kernel(state.weights)).any(axis=(1, 2, 3, 4))
    assert moved.tolist() == [False, True, True]
    pairs = list(zip(momentum(state), momentum(after), strict=True))
    assert pairs
    for before, now in pairs:
        assert (before != now).any(axis=(1, 2, 3, 4)).tolist() == [False, True, True]


def test_what_is_frozen_does_not_count_in_the_clipped_norm():
    def huge(state, weight_grads, *, supernet, **context):
        grads = {**weight_grads, "dense": weight_grads["dense"] + state * 1e6}
        mask = supernet.op_mask({"cell": jnp.ones((2, 3, 3)).at[0, :, 2].set(0.0)})
        return state, grads, mask

    batch = tiny.batch(0)
    ends = []
    for size in (0.0, 1.0):
        search = tiny.tiny_search(
            regularizer=regularizers.Regularizer(
                init=lambda supernet, arch, size=size: jnp.float32(size),
                gradients=huge,
            ),
            weight_tx=jnas.optimizers.coupled_sgd(0.1, clip=0.01),
        )
        state = search.init(jax.random.key(0), batch["image"])
        first = np.asarray(state.weights["dense"])
        state, _ = jax.jit(search.weight_step)(state, batch)
        np.testing.assert_array_equal(state.weights["dense"], first)
        ends.append(np.asarray(state.weights["dense1"]))
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("half", ["train", "val"])
def test_what_a_sample_leaves_out_is_not_counted(half):
    """Its gradient is 0 in one of the halves, whose cosine says nothing."""
    net = tiny.tiny_supernet()
    weights, _ = net.init(jax.random.key(0), None)
    part = regularizers.operation_early_stop(threshold=0.9, every=2)
    grads = {"train": weights, "val": weights}  # all cosines are 1
    left_out = {**weights, "dense": weights["dense"].at[1].set(0.0)}
    state = part.init(net, None, weights=weights)
    for both in ({**grads, half: left_out}, {**grads, half: left_out}, grads):
        state, _, _ = part.gradients(state, both["train"], supernet=net)
        state = part.observe(state, val_grads=both["val"], supernet=net)
    # Of three values two make a mean, and one is left; it had one only.
    np.testing.assert_array_equal(state.count["cell"][..., 2], np.ones((2, 3)))
    assert not np.asarray(state.frozen["cell"]).any()
    state = part.observe(state, val_grads=weights, supernet=net)
    expected = np.zeros((2, 3))
    np.testing.assert_array_equal(state.count["cell"][..., 2], expected)
    assert not np.asarray(state.frozen["cell"]).any()


def test_tiny_gradients_have_a_direction():
    net = tiny.tiny_supernet()
    weights, _ = net.init(jax.random.key(0), None)
    part = regularizers.operation_early_stop(threshold=0.9, every=5)
    small = jax.tree.map(lambda w: 1e-25 * w, weights)
    state = part.init(net, None, weights=weights)
    state, _, _ = part.gradients(state, small, supernet=net)
    state = part.observe(state, val_grads=small, supernet=net)
    np.testing.assert_allclose(state.sums["cell"][..., 2], 1.0, rtol=1e-5)


def test_a_threshold_never_reached_leaves_every_bit():
    batches = tiny.batch(0), tiny.batch(1)
    ends = []
    for part in (None, regularizers.operation_early_stop(-1.0, every=1)):
        search = tiny.tiny_search(regularizer=part)
        state = search.init(jax.random.key(0), batches[0]["image"])
        for _ in range(4):
            state, _ = jax.jit(search.step)(state, *batches)
        ends.append(state)
    for a, b in zip(*(jax.tree.leaves((s.weights, s.arch)) for s in ends), strict=True):
        np.testing.assert_array_equal(a, b)


# --- entropy, sparsity, cost, weight_decay


def test_entropy_is_relative_to_what_an_edge_can_choose():
    part = regularizers.entropy(2.0)
    space = ragged()
    state = part.init(of(space), None)
    uniform = jnas.mixture.uniform(space)
    # The edge with one candidate is decided.
    assert float(part.penalty(state, mixture=uniform, phase="arch")) == pytest.approx(
        2.0 * (1 + 1 + 0) / 3, rel=1e-5
    )
    p = jnp.array([[0.0, 0.3, 0.7], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    found = part.penalty(state, mixture=jnas.Mixture({"cell": p}), phase="arch")
    rows = [(0.3, 0.7), (0.2, 0.3, 0.5)]
    entropies = [-sum(x * np.log(x) for x in row) / np.log(len(row)) for row in rows]
    assert float(found) == pytest.approx(2.0 * sum(entropies) / 3, rel=1e-5)
    reward = regularizers.entropy(2.0, "uniform")
    other = reward.penalty(state, mixture=jnas.Mixture({"cell": p}), phase="arch")
    assert float(other) == -float(found)


@pytest.mark.parametrize(
    "part", [regularizers.entropy(1.0), regularizers.sparsity(1.0)]
)
def test_penalties_decide_and_stay_finite_at_the_end(part):
    state = part.init(of(tiny.SPACE), None)

    def penalty(alpha):
        mixture = jnas.relax.softmax().probabilities({"cell": alpha})
        return part.penalty(state, mixture=mixture, phase="arch")

    alpha = jnp.array([[0.0, 0.5, 0.2]] * 3)
    ahead = alpha - 0.1 * jax.grad(penalty)(alpha)
    assert (jnp.argmax(ahead, 1) == 1).all()
    assert float(jnp.max(jax.nn.softmax(ahead))) > float(jnp.max(jax.nn.softmax(alpha)))
    for extreme in (100.0, 1e4):
        slope = jax.grad(penalty)(jnp.array([[0.0, extreme, 0.0]] * 3))
        assert np.isfinite(slope).all()


def test_sparsity_of_gates_is_their_sum():
    part = regularizers.sparsity(0.5, power=1.0)
    state = part.init(of(tiny.SPACE), None)
    gates = jnp.array([[0.1, 0.2, 0.3]] * 3)
    found = part.penalty(state, mixture=jnas.Mixture({"cell": gates}), phase="arch")
    assert float(found) == pytest.approx(0.5 * 0.6, rel=1e-5)


def test_cost_is_the_callers_and_moves_the_architecture():
    def dense(mixture):
        return jnp.sum(mixture.weights["cell"][..., 2])

    shares = []
    for strength in (0.0, 50.0):
        search = tiny.tiny_search(regularizer=regularizers.cost(dense, strength))
        state = search.init(jax.random.key(0), tiny.batch(0)["image"])
        for i in range(5):
            state, _ = jax.jit(search.step)(state, tiny.batch(i), tiny.batch(i + 9))
        shares.append(float(dense(search.mixture(state))))
    assert shares[1] < shares[0] - 0.02


def test_weight_decay_follows_its_schedule():
    part = regularizers.weight_decay(regularizers.linear_decay(0.0, 0.4, epochs=4))
    values = [part.epoch_end((), epoch=e)[1].hyperparams for e in (1, 2, 4, 9)]
    np.testing.assert_allclose(
        [v["weight_decay"] for v in values], [0.1, 0.2, 0.4, 0.4]
    )
    bad = regularizers.weight_decay(lambda epoch: float("nan"))
    with pytest.raises(jnas.JnasError, match="finite numbers >= 0, got nan after"):
        bad.epoch_end((), epoch=1)


# --- skip_stop


def epochs_until_stop(part, genotypes, orders=None):
    """The first epoch after which it stops, and what it asks for."""
    space = jnas.spaces.nasbench201()
    state = part.init(of(space), None)
    for epoch, genes in enumerate(genotypes, 1):
        weights = np.full((6, 5), 0.2)
        if orders is not None:
            weights[:, 2:4] = orders[epoch - 1]
        state, action = part.epoch_end(
            state,
            mixture=jnas.Mixture({"cell": weights}),
            genotype=space.decode(genes),
            supernet=of(space),
            epoch=epoch,
        )
        if action.stop:
            return epoch, action
    return None, action


def test_skip_stop_takes_the_architecture_before_the_second_skip():
    cells = [[3] * 6, [1, 3, 3, 3, 3, 3], [1, 1, 3, 3, 3, 3], [1] * 6]
    epoch, action = epochs_until_stop(regularizers.skip_stop(2), cells)
    assert (epoch, action.rollback_epochs) == (3, 1)
    assert epochs_until_stop(regularizers.skip_stop(7), cells)[0] is None
    late = regularizers.skip_stop(2, earliest=4)
    assert epochs_until_stop(late, cells)[0] == 4


def test_skip_stop_when_the_ranking_is_settled():
    cells = [[1] * 6] * 6
    orders = [(0.1, 0.2), (0.2, 0.1), (0.3, 0.1), (0.2, 0.15), (0.1, 0.2), (0.1, 0.2)]
    part = regularizers.skip_stop(None, stable=2)
    epoch, _ = epochs_until_stop(part, cells, orders)
    assert epoch == 4  # the order of epoch 2 has been there for two epochs
    assert epochs_until_stop(regularizers.skip_stop(None, stable=3), cells, orders)[
        0
    ] is None  # fmt: skip


def test_bad_input_is_one_line():
    for call, words in (
        (lambda: regularizers.beta_decay(-1), "strength"),
        (lambda: regularizers.auxiliary_skip("1"), "strength"),
        (lambda: regularizers.falling_weight(-1, epochs=1, steps_per_epoch=1), "start"),
        (lambda: regularizers.layer_alignment(method="exat"), "did you mean 'exact'"),
        (lambda: regularizers.layer_alignment(epsilon=0), "epsilon"),
        (lambda: regularizers.operation_early_stop(2.0), "a cosine"),
        (lambda: regularizers.operation_early_stop(every=0), "every"),
        (lambda: regularizers.skip_stop(0), "limit"),
        (lambda: regularizers.skip_stop(None), "got neither"),
        (lambda: regularizers.entropy(0.1, "up"), "'decided' or 'uniform'"),
        (lambda: regularizers.sparsity(power=2), "power"),
        (lambda: regularizers.cost([[1.0]]), "expected_cost"),
        (lambda: regularizers.weight_decay(0.1), "function of the epoch"),
        (lambda: regularizers.projection(5, 4), "last must be >= first"),
        (lambda: regularizers.projection(0, 4), "first"),
        (lambda: regularizers.greedy_decisions(1, 4, criterion=3), "criterion"),
    ):
        with pytest.raises(jnas.JnasError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
    part = regularizers.cost(lambda m: m.weights["cell"])
    with pytest.raises(jnas.JnasError, match="must be a scalar"):
        mixture = jnas.mixture.uniform(tiny.SPACE)
        part.penalty((), mixture=mixture, phase="arch")
