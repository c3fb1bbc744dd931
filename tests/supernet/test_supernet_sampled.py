"""Sampled evaluation against the dense one, ragged cells, and what is dropped.

The dense evaluation is tested against a plain one in test_supernet_reference.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_supernet_reference import (
    assert_close,
    assert_dicts_close,
    jit,
    make_case,
    slow,
    small_darts,
)

import jnas
from jnas.mixture import Mixture, from_genotype
from jnas.supernet import dropping, operations

IMAGE = jax.ShapeDtypeStruct((4, 8, 8, 3), jnp.float32)


def draw(case, slots, seed=5):
    """Active candidates, different ones in the slots of an edge."""
    rng = np.random.default_rng(seed)
    return {
        group.name: jnp.asarray(
            [
                rng.permutation(group.num_operations)[:slots]
                for _ in range(group.num_edges)
            ],
            jnp.int32,
        )
        for group in case.space.groups
    }


def masked(case, weights, active):
    """The weights of what is active, for a dense evaluation."""
    return {
        name: own * np.max(np.eye(own.shape[-1])[np.asarray(active[name])], axis=1)
        for name, own in weights.items()
    }


def passes(case, make):
    """Loss, logits, statistics and gradients by weights and mixture weights."""

    @jit
    def run(weights, rows):
        def loss(weights, rows):
            return case.shipped(weights, make(rows), case.images)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(weights, rows)

    return run


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("name", ["nasbench201", "small_darts"])
def test_equals_dense_of_the_same_sample(x64, name, slots):
    case = make_case(name, jnp.float64)
    rows, active = case.mixture_weights(), draw(case, slots)
    sampled = passes(case, lambda rows: Mixture(rows, active=active))
    dense = passes(case, lambda rows: Mixture(masked(case, rows, active)))
    (loss, (logits, _)), (by_weights, by_rows) = sampled(case.variables.weights, rows)
    (other, (expected, _)), (by_w, by_r) = dense(case.variables.weights, rows)
    assert_close(loss, other, 1e-12)
    assert_close(logits, expected, 1e-10)
    for (path, got), want in zip(
        jax.tree_util.tree_leaves_with_path(by_weights),
        jax.tree.leaves(by_w),
        strict=True,
    ):
        # A bias before a normalisation has no influence.
        floor = 1.0 if path[-1].key == "bias" else 0.0
        assert_close(got, want, 1e-10, path, floor)
    assert_dicts_close(by_rows, by_r, 1e-10)
    assert any(np.any(g) for g in by_rows.values())


@pytest.mark.parametrize("name", ["small_nasbench201", slow("small_darts")])
def test_second_derivatives_equal_dense_of_the_same_sample(x64, name):
    """Forward over reverse and reverse over reverse, by weights and mixture."""
    case = make_case(name, jnp.float64)
    rows, active = case.mixture_weights(), draw(case, 1)
    start = case.variables.weights, rows
    rng = np.random.default_rng(7)
    along = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), start)

    def products(make):
        def gradient(point):
            def loss(point):
                return case.shipped(point[0], make(point[1]), case.images)[0]

            return jax.grad(loss)(point)

        def projected(point):
            pairs = zip(
                jax.tree.leaves(gradient(point)), jax.tree.leaves(along), strict=True
            )
            return sum(jnp.vdot(a, b) for a, b in pairs)

        return jit(
            lambda point: (
                jax.jvp(gradient, (point,), (along,))[1],
                jax.grad(projected)(point),
            )
        )(start)

    forward, reverse = products(lambda rows: Mixture(rows, active=active))
    expected, _ = products(lambda rows: Mixture(masked(case, rows, active)))
    scale = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(expected))
    for found in (forward, reverse):
        for (path, got), want in zip(
            jax.tree_util.tree_leaves_with_path(found),
            jax.tree.leaves(expected),
            strict=True,
        ):
            np.testing.assert_allclose(
                got, want, rtol=1e-8, atol=1e-10 * scale, err_msg=str(path)
            )


def test_a_candidate_named_twice_counts_once(x64):
    case = make_case("nasbench201", jnp.float64)
    rows, once = case.mixture_weights(), draw(case, 1)
    twice = {name: jnp.concatenate([k, k], 1) for name, k in once.items()}
    evaluate = jit(case.shipped)
    weights = case.variables.weights
    _, (a, new_a) = evaluate(weights, Mixture(rows, active=once), case.images)
    _, (b, new_b) = evaluate(weights, Mixture(rows, active=twice), case.images)
    assert_close(a, b, 1e-12)
    for key, (mean, var) in new_a.items():
        assert_close(mean, new_b[key][0], 1e-12, key, 1.0)
        assert_close(var, new_b[key][1], 1e-12, key)


@pytest.mark.parametrize("sampled", [True, False])
def test_offsets_act_like_operations_that_give_ones(x64, sampled):
    """The derivative by an offset against finite differences."""
    case = make_case("small_nasbench201", jnp.float64)
    rows, active = case.mixture_weights(), draw(case, 1)
    active = active if sampled else None

    def loss(offsets):
        mixture = Mixture(
            rows, edges={"cell": jnp.array([0.7])}, active=active, offsets=offsets
        )
        return case.shipped(case.variables.weights, mixture, case.images)[0]

    start, step = {"cell": jnp.zeros(1)}, {"cell": jnp.full(1, 1e-5)}
    grad = jit(jax.grad(loss))(start)["cell"]
    value = jit(loss)
    plus, minus = value(step), value(jax.tree.map(jnp.negative, step))
    np.testing.assert_allclose(grad[0], (plus - minus) / 2e-5, rtol=1e-6)
    assert abs(grad[0]) > 1e-6


def nasbench(**options):
    space = jnas.spaces.nasbench201()
    return jnas.supernet.build(space, channels=2, cells_per_stage=1, **options)


def test_the_compiled_step_has_conditionals():
    net = nasbench()
    variables = jax.eval_shape(net.init, jax.random.key(0), IMAGE)
    mixture = jax.eval_shape(
        lambda: from_genotype(net.space, net.space.decode([3] * 6), active=True)
    )

    def count(mixture):
        def run(weights, state, mixture, images):
            return net.apply(weights, state, mixture, images, train=True)[0]

        lowered = jax.jit(run).lower(*variables, mixture, IMAGE)
        text = lowered.as_text("hlo")
        return text.count(" conditional("), text.count(" convolution(")

    conditionals, convolutions = count(mixture)
    # One in the function that all edges of a stage share.
    assert conditionals == 3
    assert count(mixture._replace(active=None))[0] == 0
    # 9 outside the cells, and a 3x3 and a 1x1 in each function's branches.
    assert convolutions <= 9 + 3 * 2


@pytest.mark.parametrize("inactive", ["freeze", "decay"])
def test_inactive_candidates_are_frozen_bit_by_bit(inactive):
    net = nasbench()
    search = jnas.search.differentiable(
        net,
        relaxation=jnas.relax.gumbel_hard(),
        weight_tx=jnas.optimizers.coupled_sgd(0.1, weight_decay=1e-2),
        arch_tx=optax.sgd(0.0),
        inactive=inactive,
    )
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.normal(size=IMAGE.shape), jnp.float32),
        "label": jnp.arange(4),
    }
    step = jax.jit(search.weight_step)
    before = search.init(jax.random.key(1), batch["image"])
    # After one step momentum is not zero, so that a zero gradient would move weights.
    before, _ = step(before, batch)
    after, _ = step(before, batch)

    def changed(tree, other):
        moved = jax.tree.map(lambda a, b: jnp.asarray(a != b, jnp.float32), tree, other)
        return np.asarray(net.op_sum(moved)["cell"]) > 0

    weights = changed(before.weights, after.weights)
    traces = [
        optax.tree_utils.tree_get(s.weight_opt_state, "trace") for s in (before, after)
    ]
    momentum = changed(*traces)
    counts = weights.sum(axis=-1)
    if inactive == "freeze":
        # One candidate of each edge at most, the same in all cells of the space.
        assert counts.max() == 1 and 0 < counts.sum() < counts.size
        assert (weights == weights[:1]).all() and (momentum == weights).all()
    else:
        assert (counts == 2).all()  # both convolutions of every edge


def test_vmap_over_samples_and_seeds():
    net = nasbench()
    images = jnp.asarray(np.random.default_rng(0).normal(size=IMAGE.shape), jnp.float32)
    weights, state = net.init(jax.random.key(0), images)
    genes = np.array([[3, 1, 2, 0, 4, 3], [1, 2, 3, 3, 0, 4]])

    def run(rows, active):
        mixture = Mixture({"cell": rows}, active={"cell": active})
        return net.apply(weights, state, mixture, images, train=True)[0]

    rows, active = jnp.eye(5)[genes], jnp.asarray(genes)[..., None]
    together = jax.jit(jax.vmap(run))(rows, active)
    one_by_one = [jax.jit(run)(r, a) for r, a in zip(rows, active, strict=True)]
    assert_close(together, jnp.stack(one_by_one), 1e-5)


def test_registered_operations_and_their_statistics(monkeypatch):
    from flax import linen as nn

    class Own(nn.Module):
        features: int

        @nn.compact
        def __call__(self, x, train):
            y = nn.Dense(self.features)(x)
            return nn.BatchNorm(use_running_average=not train)(y)

    monkeypatch.setitem(operations._MODULES, "own", lambda c, stride: Own(c))
    group = jnas.spaces.Group(
        "cell", ("none", "own", "skip_connect"), ((0, 1),), 1, (1,)
    )
    net = jnas.supernet.build(
        jnas.spaces.Space("own", (group,)), channels=2, cells_per_stage=1
    )
    images = jnp.asarray(np.random.default_rng(0).normal(size=IMAGE.shape), jnp.float32)
    weights, state = net.init(jax.random.key(0), images)
    evaluate = jax.jit(functools.partial(net.apply, train=True))
    # In both orders: a slot that computes another candidate undoes nothing.
    for chosen in ([0], [1], [2], [1, 2], [2, 1]):
        column = 1 if 1 in chosen else chosen[0]
        rows = {"cell": jnp.eye(3)[jnp.array(chosen)].sum(0)[None] * 0.7}
        active = {"cell": jnp.array([chosen])}
        dense, new_dense = evaluate(weights, state, Mixture(rows), images)
        got, new = evaluate(weights, state, Mixture(rows, active=active), images)
        assert_close(got, dense, 1e-5)
        cells = [name for name in new["batch_stats"] if name.startswith("cell_")]
        assert len(cells) == 3
        for name in cells:
            expected = (new_dense if column == 1 else state)["batch_stats"][name]
            for a, b in zip(
                jax.tree.leaves(new["batch_stats"][name]),
                jax.tree.leaves(expected),
                strict=True,
            ):
                assert_close(a, b, 1e-5, name, 1e-6)


@pytest.mark.parametrize("sampled", [False, True])
def test_a_ragged_cell_is_the_full_one_without_some_candidates(x64, sampled):
    """Rows of the full network's weights, and weight 0 for what can't be chosen."""
    full = make_case("small_darts", jnp.float64)
    rng = np.random.default_rng(7)
    lists = {}
    for group in full.space.groups:
        names = np.array(group.operations)
        kept = [names[rng.permutation(len(names))[:3]] for _ in range(group.num_edges)]
        lists[group.name] = [
            tuple(n for n in group.operations if n in own) for own in kept
        ]
    space = small_darts()
    ragged = jnas.spaces.Space(
        space.name,
        tuple(
            jnas.spaces.Group(
                g.name, g.operations, g.edges, g.inputs, g.concat, lists[g.name]
            )
            for g in space.groups
        ),
        keep=2,
        never=("none",),
    )
    net = jnas.supernet.build(ragged, channels=2, cells=3, dtype=jnp.float64)
    weights, state = cut(full.variables, full.net, net)
    rows = {g.name: full.mixture_weights()[g.name] * g.allowed for g in ragged.groups}
    active = None
    if sampled:
        active = {
            g.name: jnp.asarray([np.flatnonzero(a)[:2] for a in g.allowed], jnp.int32)
            for g in ragged.groups
        }
        rows = masked(full, rows, active)
    got, _ = jax.jit(functools.partial(net.apply, train=True))(
        weights, state, Mixture(rows, active=active), full.images
    )
    _, (expected, _) = jit(full.shipped)(
        full.variables.weights, Mixture(rows), full.images
    )
    assert_close(got, expected, 1e-10)
    # op_sum counts what is there: nothing where it can't be chosen.
    ones = jax.tree.map(jnp.ones_like, weights)
    sums = net.op_sum(ones)
    for group in ragged.groups:
        there = np.asarray(sums[group.name]).sum(axis=0) > 0
        assert not (there & ~group.allowed).any() and there.any()


def cut(variables, full, net):
    """The variables of a network with fewer candidates, out of a larger one's."""
    from jnas.supernet import stacked

    kinds = {}
    positions = dict.fromkeys(full.space.names, 0)
    for position in range(3):
        kind = "reduce" if position in (1, 2) else "normal"
        kinds[f"cell_{position}"] = kind
        positions[kind] += 1

    def rows(tree):
        def take(path, leaf):
            keys = [entry.key for entry in path]
            if keys[0] == "skeleton":
                return leaf
            kind = kinds[keys[0]]
            reduction = kind == "reduce"
            args = (keys[1], 2, reduction)
            before = stacked.operation_rows(full.space.group(kind), *args).edges
            after = stacked.operation_rows(net.space.group(kind), *args).edges
            if "pool" in keys[1]:
                group, own = full.space.group(kind), net.space.group(kind)
                sources = sorted({s for s, _ in group.edges})
                chosen = stacked.choosing(own, keys[1])
                return leaf[
                    np.array([i for i, s in enumerate(sources) if chosen[s]], int)
                ]
            return leaf[np.array([before.index(e) for e in after], int)]

        return jax.tree_util.tree_map_with_path(take, tree)

    weights, state = rows(variables.weights), rows(variables.model_state["batch_stats"])
    shapes = jax.eval_shape(net.init, jax.random.key(0), IMAGE)

    def only(tree, like):
        if not isinstance(like, dict):
            assert tree.shape == like.shape
            return tree
        return {k: only(tree[k], v) for k, v in like.items()}

    return only(weights, shapes.weights), {
        "batch_stats": only(state, shapes.model_state["batch_stats"])
    }


@pytest.mark.parametrize("name", dropping.RATES)
def test_rates_drop_the_share_and_keep_the_mean(name):
    drop = dropping.dropping({name: 0.25}, jax.random.key(0), True).of_cell(3)
    ones = jnp.ones((64, 4, 4, 1, 2))
    if name == "drop_path":
        factors = jnp.concatenate([drop.path(e, ones) for e in range(30)])
        assert factors.shape == (64 * 30, 1, 1, 1)
    else:
        factors = drop.skip([0, 1], "skip_connect", jnp.ones((64, 4, 4, 2, 2)))
        assert drop.skip([0], "max_pool_3x3", ones) is ones
        assert not np.array_equal(factors[..., 0, :], factors[..., 1, :])
    values = np.unique(factors)
    np.testing.assert_allclose(values, [0.0, 4 / 3], rtol=1e-6)
    share, count = float(np.mean(np.asarray(factors) == 0)), factors.size
    assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / count)


@pytest.mark.parametrize("sampled", [False, True])
def test_rates_in_a_network(sampled):
    net = nasbench()
    images = jnp.asarray(np.random.default_rng(0).normal(size=IMAGE.shape), jnp.float32)
    weights, state = net.init(jax.random.key(0), images)
    skips = from_genotype(net.space, net.space.decode([1] * 6), active=sampled)

    @jax.jit
    def run(path, skip, key):
        rates = {"drop_path": path, "skip_dropout": skip}
        out = net.apply(weights, state, skips, images, train=True, rates=rates, key=key)
        return out[0]

    plain = net.apply(weights, state, skips, images, train=True)[0]
    keys = jax.random.split(jax.random.key(0))
    assert_close(run(0.0, 0.0, keys[0]), plain, 1e-5)
    for rates in ((0.5, 0.0), (0.0, 0.5)):
        first, again = run(*rates, keys[0]), run(*rates, keys[0])
        np.testing.assert_array_equal(first, again)
        assert not np.allclose(first, plain, atol=1e-3)
        assert not np.allclose(first, run(*rates, keys[1]), atol=1e-3)
    # An edge that is dropped for sure leaves nothing, in either way.
    nothing = run(1.0, 0.0, keys[0])
    np.testing.assert_allclose(nothing, run(0.0, 1.0, keys[0]), atol=1e-5)
    evaluated = net.apply(
        weights, state, skips, images, train=False, rates={"drop_path": 0.5}
    )[0]
    assert np.all(np.isfinite(evaluated))


def test_remat_changes_no_value():
    images = jnp.asarray(np.random.default_rng(0).normal(size=IMAGE.shape), jnp.float32)
    results = []
    for remat in (False, True):
        net = nasbench(remat=remat)
        weights, state = net.init(jax.random.key(0), images)
        mixture = from_genotype(
            net.space, net.space.decode([3, 1, 2, 4, 0, 3]), active=True
        )

        def loss(weights, net=net, state=state, mixture=mixture):
            logits, new = net.apply(weights, state, mixture, images, train=True)
            return jnp.sum(jnp.sin(logits)), new

        results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(weights))
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        assert_close(a, b, 1e-4, floor=1.0)


def test_offsets_in_linen_and_recurrent_supernets():
    from flax import linen as nn

    from jnas.supernet import Mixed, from_linen

    act = Mixed("act", {"relu": nn.relu, "zero": jnp.zeros_like})
    net = from_linen(act, jnp.zeros((1, 3)))
    variables = net.init(jax.random.key(0), jnp.zeros((1, 3)))
    x = jnp.array([[-1.0, 0.0, 2.0]])
    mixture = Mixture(
        {"act": jnp.array([[1.0, 0.0]])}, offsets={"act": jnp.array([0.5])}
    )
    y, _ = net.apply(*variables, mixture, x, train=True)
    assert y.tolist() == [[0.5, 0.5, 2.5]]

    net = jnas.supernet.recurrent(jnas.spaces.darts_rnn(), vocab_size=5, width=4)
    tokens = {"tokens": jnp.asarray(np.random.default_rng(0).integers(0, 5, (3, 4)))}
    weights, state = net.init(jax.random.key(0), tokens)
    rows = jnas.mixture.uniform(net.space)

    def loss(offset, edge):
        offsets = {"recurrent": jnp.zeros(36).at[edge].set(offset)}
        mixture = rows._replace(offsets=offsets)
        # By given statistics, or the normalisation would take a constant away.
        outputs, _ = net.apply(
            weights, state, mixture, tokens, train=False, statistics="running"
        )
        return jnp.sum(jax.tree.leaves(outputs)[0] ** 2)

    plain = net.apply(weights, state, rows, tokens, train=False, statistics="running")
    value = float(jnp.sum(jax.tree.leaves(plain[0])[0] ** 2))
    run = jax.jit(loss)
    np.testing.assert_allclose(run(0.0, 3), value, rtol=1e-5)
    assert abs(float(run(0.5, 3)) - value) > 1e-4 * value
    assert float(run(0.5, 3)) != float(run(0.5, 20))
