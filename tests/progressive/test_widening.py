"""What a wider second stage takes over, and DrNAS' two stages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jnas
from jnas import presets
from jnas.mixture import Mixture
from jnas.progressive import widen

DARTS = jnas.spaces.darts()
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
# NAS-Bench-201's cell with three edges; the second can't choose all.
CELL = jnas.spaces.Group("cell", OPERATIONS, ((0, 1), (0, 2), (1, 2)), 1, (2,))
SMALL = jnas.Space("small", (CELL,))
PRUNED = SMALL.restrict(
    {
        "cell": [
            ["none", "nor_conv_3x3"],
            ["none", "skip_connect"],
            ["skip_connect", "nor_conv_3x3"],
        ]
    }
)
IMAGE = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
CHANNELS, KERNEL = 8, ("cell_1", "nor_conv_3x3", "kernel")


def search_of(space, partial_channels, **options):
    options = {"channels": CHANNELS, "cells_per_stage": 1, "epochs": 2, **options}
    return presets.drnas(
        space, partial_channels=partial_channels, steps_per_epoch=2, **options
    )


@functools.cache
def random_state(search_arguments, seed):
    """A state whose weights, momentum and arch are all different numbers."""
    search = search_of(*search_arguments)
    shapes = jax.eval_shape(search.init, jax.random.key(0), IMAGE)
    rng = np.random.default_rng(seed)

    def fill(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(seed)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.full(leaf.shape, 7, leaf.dtype)
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

    return search, jax.tree.map(fill, shapes)


def widened(seed=3):
    before, old = random_state((SMALL, 4), 0)
    after, new = random_state((PRUNED, 2), 1)
    state = widen(before, old, after)(jax.random.key(seed), new)
    return old, new, state


def at(tree, path):
    return np.asarray(functools.reduce(lambda t, name: t[name], path, tree))


def momentum(state):
    """The trees in the optimizer's state that mirror the weights."""
    structure = jax.tree.structure(state.weights)

    def alike(part):
        return jax.tree.structure(part) == structure

    leaves = jax.tree.leaves(state.weight_opt_state, is_leaf=alike)
    (tree,) = [part for part in leaves if alike(part)]
    return tree


def test_shapes_are_those_of_the_wider_search():
    _, new, state = widened()
    assert jax.tree.structure(state) == jax.tree.structure(new)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_first_channels_stay_and_others_are_unscaled_copies():
    old, _, state = widened()
    # Channels 16 in the second cell: 4 of them before, 8 now; edges 0 and 2 are left.
    before, after = at(old.weights, KERNEL), at(state.weights, KERNEL)
    assert before.shape == (3, 3, 3, 4, 4)
    wide, narrow = after.shape[-1], before.shape[-1]
    assert (after.shape[0], wide) == (2, 2 * narrow)
    rows = before[[0, 2]]
    np.testing.assert_array_equal(after[..., :narrow, :narrow], rows)
    outputs = [
        [np.array_equal(after[..., :narrow, c], rows[..., o]) for o in range(narrow)]
        for c in range(wide)
    ]
    inputs = [
        [np.array_equal(after[..., c, :narrow], rows[..., o, :]) for o in range(narrow)]
        for c in range(wide)
    ]
    assert [sum(row) for row in outputs] == [1] * wide  # each is a copy of just one
    # One draw serves inputs and outputs.
    np.testing.assert_array_equal(outputs, inputs)
    drawn = np.argmax(outputs, axis=1)
    np.testing.assert_array_equal(after, rows[..., drawn, :][..., drawn])


def test_draws_depend_on_the_key_and_the_place():
    drawn = set()
    for seed in range(3):
        old, _, state = widened(seed)
        for cell in ("cell_0", "cell_1", "cell_2"):
            path = (cell, *KERNEL[1:])
            before, after = at(old.weights, path)[[0, 2]], at(state.weights, path)
            narrow = before.shape[-1]
            drawn.add(
                (
                    cell,
                    tuple(
                        next(
                            o
                            for o in range(narrow)
                            if np.array_equal(after[..., :narrow, c], before[..., o])
                        )
                        for c in range(narrow, after.shape[-1])
                    ),
                )
            )
    assert len(drawn) > 4


def test_momentum_is_copied_with_the_same_draws():
    old, _, state = widened()
    before, after = at(momentum(old), KERNEL)[[0, 2]], at(momentum(state), KERNEL)
    weights_before = at(old.weights, KERNEL)[[0, 2]]
    weights_after = at(state.weights, KERNEL)
    narrow = before.shape[-1]
    for channel in range(after.shape[-1]):
        sources = [
            next(
                o
                for o in range(narrow)
                if np.array_equal(wide[..., :narrow, channel], part[..., o])
            )
            for wide, part in ((after, before), (weights_after, weights_before))
        ]
        assert sources[0] == sources[1]


def test_what_does_not_grow_goes_on_and_the_rest_begins_anew():
    old, new, state = widened()
    jax.tree.map(
        np.testing.assert_array_equal,
        state.weights["skeleton"],
        old.weights["skeleton"],
    )
    jax.tree.map(np.testing.assert_array_equal, state.model_state, new.model_state)
    jax.tree.map(
        np.testing.assert_array_equal, state.arch_opt_state, new.arch_opt_state
    )
    assert state.step == new.step
    assert "nor_conv_1x1" not in state.weights["cell_0"]


def test_arch_goes_on_with_zeros_where_a_candidate_was_pruned():
    old, _, state = widened()
    names = PRUNED.groups[0].operations
    assert names == ("none", "skip_connect", "nor_conv_3x3")
    columns = [OPERATIONS.index(name) for name in names]
    expected = np.where(
        PRUNED.groups[0].allowed, np.asarray(old.arch["cell"])[:, columns], 0
    )
    np.testing.assert_array_equal(state.arch["cell"], expected)
    assert (expected == 0).sum() == 3
    recent = np.asarray(state.recent_archs["cell"])
    np.testing.assert_array_equal(recent, np.broadcast_to(expected, recent.shape))


def test_equal_widths_and_candidates_change_nothing():
    search, old = random_state((SMALL, 4), 0)
    _, other = random_state((SMALL, 4), 1)
    state = widen(search, old, search)(jax.random.key(0), other)
    jax.tree.map(np.testing.assert_array_equal, state.weights, old.weights)
    jax.tree.map(np.testing.assert_array_equal, momentum(state), momentum(old))
    np.testing.assert_array_equal(state.arch["cell"], old.arch["cell"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: search_of(PRUNED, 2, cells_per_stage=2), "widening keeps the cells"),
        (lambda: search_of(PRUNED, 2, channels=16), "only those of the operations"),
        (lambda: search_of(PRUNED, 8), "channels can only grow"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(make, message):
    before, old = random_state((SMALL, 4), 0)
    after = make()
    with pytest.raises(jnas.JnasError, match=message) as error:
        start = widen(before, old, after)
        new = jax.eval_shape(after.init, jax.random.key(0), IMAGE)
        jax.eval_shape(start, jax.random.key(0), new)
    assert "\n" not in str(error.value)


def test_arch_without_logits_by_group_is_refused():
    search, old = random_state((SMALL, 4), 0)
    with pytest.raises(jnas.JnasError, match="needs logits by group"):
        widen(search, old._replace(arch=jnp.zeros(3)), search)


# --- DrNAS


def test_drnas_has_its_two_published_stages():
    plan = presets.drnas_progressive(DARTS, channels=36, cells=20)
    assert [dict(s.size) for s in plan.stages] == [
        {"channels": 36, "cells": 20, "partial_channels": k} for k in (6, 4)
    ]
    assert [s.keep for s in plan.stages] == [4, None]
    assert [s.epochs for s in plan.stages] == [25, 25]
    assert len(plan.space.groups[0].operations) == 7
    assert "none" not in plan.space.groups[0].operations
    assert plan.config["arch_learning_rate"] == 6e-4
    assert plan.config["learning_rate"] == 0.1
    first = plan.compose(0, plan.space)
    assert first.arch_from == 10 * 391
    bench = presets.drnas_progressive(jnas.spaces.nasbench201())
    assert [s.size["partial_channels"] for s in bench.stages] == [4, 2]
    assert bench.stages[0].keep == 3
    assert len(bench.space.groups[0].operations) == 5


@pytest.mark.slow
def test_drnas_widens_the_published_network():
    plan = presets.drnas_progressive(DARTS, channels=36, cells=20)
    rng = np.random.default_rng(0)
    mixture = Mixture({name: rng.random((14, 7)) for name in DARTS.names})
    pruned = plan.space.restrict(plan.prune(plan.space, mixture, 4))
    first, second = plan.compose(0, plan.space), plan.compose(1, pruned)
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    old, new = (
        jax.eval_shape(search.init, jax.random.key(0), image)
        for search in (first, second)
    )
    state = jax.eval_shape(
        lambda old, key, new: widen(first, old, second)(key, new),
        old,
        jax.random.key(0),
        new,
    )
    assert jax.tree.structure(state) == jax.tree.structure(new)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    shapes = [
        next(
            leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree.weights)
            if "cell_0'" in jax.tree_util.keystr(path)
            and "sep_conv_3x3" in jax.tree_util.keystr(path)
            and leaf.shape[-1] == width
        )
        for tree, width in ((old, 36 // 6), (state, 36 // 4))
    ]
    assert shapes[0][0] == 14 > shapes[1][0]


def test_learning_rate_falls_through_both_stages():
    plan = presets.drnas_progressive(
        jnas.spaces.nasbench201(), channels=4, cells_per_stage=1, steps_per_epoch=2
    )
    rates = []
    for number in range(2):
        tx = _weight_transformation(plan, number)
        weights = {"a": jnp.zeros(2)}
        state = tx.init(weights)
        for _ in range(2 * 25):
            _, state = tx.update(weights, state, weights)
            rates.append(float(state.hyperparams["learning_rate"]))
    per_epoch = rates[::2]
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(50) / 50))
    np.testing.assert_allclose(per_epoch, expected, atol=1e-6)


def _weight_transformation(plan, number):
    """The weights' optimizer that a stage composes."""
    found = {}
    make = jnas.search.differentiable

    def spy(*arguments, **options):
        found.update(options)
        return make(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jnas.search, "differentiable", spy)
        plan.compose(number, plan.space)
    return found["weight_tx"]


# --- as a run


@pytest.mark.slow
def test_a_run_carries_the_network_over_and_goes_on_in_the_same_bits(tmp_path):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(4), 12).astype(np.int32)
    data = jnas.data.from_arrays(rng.integers(0, 255, (48, 8, 8, 1), np.uint8), label)
    # One edge, so that it compiles in seconds; the rate is 0, so that what the second
    # stage begins with is what it ends with.
    group = jnas.spaces.Group("cell", OPERATIONS, ((0, 1),), 1, (1,))
    plan = presets.drnas_progressive(
        jnas.Space("small", (group,)),
        kept=3,
        channels=4,
        cells_per_stage=1,
        num_classes=4,
        epochs=2,
        steps_per_epoch=2,
        learning_rate=1e-30,
    )

    class Killed(Exception):
        pass

    def run(workdir, plan=plan, kill_after=None):
        seen = []

        def on_epoch(info):
            seen.append(info.epoch)
            if len(seen) == kill_after:
                raise Killed

        return jnas.run.progressive(
            plan,
            data,
            batch_size=-(-len(data.train) // 2),
            workdir=workdir,
            progress=False,
            report=False,
            on_epoch=on_epoch,
        )

    whole = run(tmp_path / "whole")
    first, last = (stage.state.weights for stage in whole.stages)
    stem = ("skeleton", "stem_conv", "kernel")
    np.testing.assert_array_equal(at(last, stem), at(first, stem))
    for killed in (2, 3):  # before the second stage begins, and within it
        folder = tmp_path / f"killed{killed}"
        with pytest.raises(Killed):
            run(folder, kill_after=killed)
        again = run(folder)
        for a, b in zip(
            jax.tree.leaves(again.state), jax.tree.leaves(whole.state), strict=True
        ):
            if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
                a, b = jax.random.key_data(a), jax.random.key_data(b)
            np.testing.assert_array_equal(a, b)
    # Ablation: without it the second stage begins with a network of its own ...
    anew = run(tmp_path / "anew", plan._replace(carry=None))
    assert not np.array_equal(at(anew.state.weights, stem), at(first, stem))
    # ... and is another run.
    with pytest.raises(jnas.JnasError, match="carries"):
        run(tmp_path / "whole", plan._replace(carry=None))


def test_a_search_tells_what_it_began_with(tmp_path):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(4), 12).astype(np.int32)
    data = jnas.data.from_arrays(rng.integers(0, 255, (48, 8, 8, 1), np.uint8), label)
    search = tiny.tiny_search(weight_tx=jnas.optimizers.coupled_sgd(1e-30))

    def begin(value, key, state):
        del key
        return state._replace(weights=jax.tree.map(lambda w: w + value, state.weights))

    def run(value, workdir=tmp_path / "run"):
        start = value and jax.tree_util.Partial(begin, jnp.float32(value))
        return jnas.run.search(
            search,
            data,
            epochs=1,
            batch_size=12,
            workdir=workdir,
            progress=False,
            report=False,
            start=start,
        )

    higher, lower = run(100.0), run(50.0, tmp_path / "other")
    for a, b in zip(
        jax.tree.leaves(higher.state.weights),
        jax.tree.leaves(lower.state.weights),
        strict=True,
    ):
        np.testing.assert_allclose(a - b, 50, rtol=1e-4)
    again = run(100.0)
    assert again.resumed_from == higher.state.step
    for other in (50.0, None):
        with pytest.raises(jnas.JnasError, match="start"):
            run(other)
