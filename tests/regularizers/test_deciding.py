"""Decisions while a search goes on: perturbation and greedy, step by step."""

import dataclasses
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jnas
from jnas import diagnostics, regularizers
from jnas.regularizers.greedy_decisions import scores
from jnas.select import decisions

DARTS = jnas.spaces.darts().restrict(
    {
        group.name: [[o for o in group.operations if o != "none"]] * 14
        for group in jnas.spaces.darts().groups
    }
)
NASBENCH = jnas.spaces.nasbench201()


def of(space):
    return types.SimpleNamespace(space=space, config={})


def random_mixture(space, seed=0):
    rng = np.random.default_rng(seed)
    return jnas.Mixture(
        {
            g.name: jax.nn.softmax(
                jnp.asarray(rng.normal(size=(g.num_edges, g.num_operations)))
            )
            for g in space.groups
        }
    )


class Worth:
    """An evaluation in which each entry of the mixture has a worth, and is counted."""

    def __init__(self, space, seed=1):
        rng = np.random.default_rng(seed)
        self.worth = {
            g.name: rng.uniform(1, 2, (g.num_edges, g.num_operations))
            for g in space.groups
        }
        self.calls = 0
        self.order = []

    def __call__(self, mixture):
        self.calls += 1
        value = 0.0
        for name, w in mixture.weights.items():
            w = np.asarray(w)
            value += float((w * self.worth[name]).sum())
            removed = np.flatnonzero((w == 0).sum(axis=1) == 1)
            self.order += [(name, int(e)) for e in removed]
        return {"accuracy": value, "loss": -value}


def drive(part, space, evaluate, epochs, seed=0):
    """The states after each epoch."""
    state, states = part.init(of(space), None), []
    for epoch in range(1, epochs + 1):
        mixture = part.project(state, random_mixture(space))
        state, _ = part.epoch_end(
            state,
            epoch=epoch,
            mixture=mixture,
            evaluate=evaluate,
            supernet=of(space),
            key=jax.random.fold_in(jax.random.key(seed), epoch),
        )
        states.append(state)
    return states


def test_projections_decide_each_edge_once_and_then_thin_the_nodes():
    evaluate = Worth(DARTS)
    part = regularizers.projection(first=2, last=18)
    states = drive(part, DARTS, evaluate, 20)
    # One edge of a group, then one of the other: what was measured for each in turn.
    assert [name for name, _ in evaluate.order[::7]] == ["normal", "reduce"] * 14
    left = [len(s.decisions.undecided("normal")) for s in states]
    assert left[:3] == [14, 13, 12] and left[14:] == [0] * 6
    dropped = [int((~np.asarray(s.decisions.kept["reduce"])).sum()) for s in states]
    assert dropped[14] == 0 and dropped[-1] == 1 + 2 + 3 and dropped[17] == 6
    # All operations of all edges and the mixture itself, then the nodes' edges.
    assert evaluate.calls == 2 * (14 * (7 + 1) + 3 + 4 + 5)
    mixture = random_mixture(DARTS)
    final = states[-1]
    for group in DARTS.groups:
        # What is removed takes its worth times its weight with it.
        loss = np.asarray(mixture.weights[group.name]) * evaluate.worth[group.name]
        np.testing.assert_array_equal(
            final.decisions.chosen[group.name], loss.argmax(axis=1)
        )
        np.testing.assert_allclose(
            final.strength[group.name], loss, rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(
            final.magnitude[group.name], mixture.weights[group.name], rtol=1e-5
        )
        worth = evaluate.worth[group.name][np.arange(14), loss.argmax(axis=1)]
        for node in group.nodes:
            edges = list(group.incoming(node))
            kept = [e for e in edges if final.decisions.kept[group.name][e]]
            assert kept == sorted(sorted(edges, key=lambda e: -worth[e])[:2])
    mixed = part.project(final, mixture)
    genotype = jnas.select.argmax().select(None, mixed, space=DARTS)
    assert all(len(cell.edges) == 8 for _, cell in genotype.cells)


def test_the_order_of_projections_is_drawn_by_the_key():
    def order(seed):
        states = drive(
            regularizers.projection(1, 6), NASBENCH, Worth(NASBENCH), 6, seed
        )
        left = [{*range(6)}, *({*s.decisions.undecided("cell")} for s in states)]
        return [(a - b).pop() for a, b in itertools.pairwise(left)]

    assert sorted(order(0)) == list(range(6)) and order(0) == order(0)
    assert len({tuple(order(seed)) for seed in range(4)}) > 1


def test_few_epochs_take_several_projections_at_once():
    states = drive(regularizers.projection(1, 2), NASBENCH, Worth(NASBENCH), 2)
    assert [len(s.decisions.undecided("cell")) for s in states] == [3, 0]


def test_an_operation_that_is_useless_is_never_kept():
    evaluate = Worth(NASBENCH)
    evaluate.worth["cell"][:, 1] = 0
    state = drive(regularizers.projection(1, 6), NASBENCH, evaluate, 6)[-1]
    assert not (np.asarray(state.decisions.chosen["cell"]) == 1).any()


def test_the_selector_finds_the_same_without_tuning():
    evaluate = Worth(DARTS)
    mixture = random_mixture(DARTS)
    genotype = jnas.select.perturbation().select(
        None, mixture, space=DARTS, evaluate=evaluate, key=jax.random.key(3)
    )
    part = regularizers.projection(first=1, last=17)
    state = drive(part, DARTS, evaluate, 17)[-1]
    again = jnas.select.argmax().select(None, part.project(state, mixture), space=DARTS)
    assert genotype == again


def test_earlier_decisions_are_in_force_when_the_next_is_measured():
    """Two edges, of which the second needs what the first did not become."""
    group = jnas.spaces.Group("cell", ("a", "b"), ((0, 2), (1, 2)), 2, (2,))
    space = jnas.Space("pair", (group,))

    def evaluate(mixture):
        w = np.asarray(mixture.weights["cell"])
        # Each edge is worth something as "a"; as "b" only if the other one is none.
        value = w[0, 0] + w[1, 0] + 3 * (w[0, 1] * w[1, 1])
        return {"accuracy": float(value)}

    mixture = jnas.Mixture({"cell": np.full((2, 2), 0.5)})
    start = decisions.nothing(space)
    both, measured = jnas.select.removing.decide_operation(
        start, mixture, space, "cell", 0, evaluate
    )
    np.testing.assert_allclose(measured.strength, [0.5, 0.75])
    decided = start.choose("cell", 0, 0)
    then, measured = jnas.select.removing.decide_operation(
        decided, mixture, space, "cell", 1, evaluate
    )
    np.testing.assert_allclose(measured.strength, [0.5, 0.0])
    assert (int(both.chosen["cell"][0]), int(then.chosen["cell"][1])) == (1, 0)


def test_sequential_removal_takes_the_first_edge_out_of_the_next_evaluation():
    """Two edges that replace each other: both go at once, or only one."""
    group = jnas.spaces.Group("cell", ("a",), ((0, 3), (1, 3), (2, 3)), 3, (3,))
    space = jnas.Space("pair", (group,), keep=1)

    def evaluate(mixture):
        w = np.asarray(mixture.weights["cell"])[:, 0]
        return {"accuracy": float(max(w[0], w[1]) + 0.5 * w[2])}

    mixture = jnas.Mixture({"cell": np.ones((3, 1))})
    kept = {}
    for sequential in (False, True):
        decided = jnas.select.removing.decide_node(
            decisions.nothing(space), mixture, space, "cell", 3, evaluate,
            sequential=sequential,
        )  # fmt: skip
        kept[sequential] = np.flatnonzero(decided.kept["cell"]).tolist()
    assert kept == {False: [2], True: [0]}


def test_decisions_hold_in_sampled_and_weighted_mixtures():
    decided = decisions.nothing(NASBENCH).choose("cell", 0, 3).drop("cell", [2])
    mixture = jnas.Mixture(
        {"cell": jnp.full((2, 6, 5), 0.2)},
        edges={"cell": jnp.full(6, 0.5)},
        active={"cell": jnp.full((6, 2), 1)},
        offsets={"cell": jnp.ones(6)},
    )
    found = jax.jit(decisions.apply)(decided, mixture)
    np.testing.assert_array_equal(found.weights["cell"][:, 0], [[0, 0, 0, 1, 0]] * 2)
    assert not found.weights["cell"][:, 2].any()
    np.testing.assert_array_equal(found.edges["cell"], [0.5, 0.5, 0, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(found.active["cell"][:2], [[3, 3], [1, 1]])
    np.testing.assert_array_equal(found.offsets["cell"], [0, 1, 0, 1, 1, 1])
    beside = mixture._replace(auxiliary={"cell": jnp.ones(6)})
    np.testing.assert_array_equal(
        decisions.apply(decided, beside).auxiliary["cell"], [1, 1, 0, 1, 1, 1]
    )


def test_what_is_decided_stays_so_under_smoothing():
    """A perturbation after it would spread the weight of a decided edge again."""
    seen = {}

    def penalty(state, *, mixture, phase, **context):
        look = lambda w: seen.update({phase: np.asarray(w)})  # noqa: E731
        jax.debug.callback(look, mixture.weights["cell"])
        return 0.0

    search = tiny.tiny_search(
        regularizer=regularizers.chain(
            regularizers.greedy_decisions(1, 2),
            regularizers.random_smoothing(0.3),
            regularizers.adversarial_smoothing(0.3),
            regularizers.Regularizer(penalty=penalty),
        )
    )
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    greedy, *rest = state.regularizer_state
    greedy = greedy._replace(
        decisions=greedy.decisions.choose("cell", 0, 2).drop("cell", [1])
    )
    state = state._replace(regularizer_state=(greedy, *rest))
    state, _ = jax.jit(search.step)(state, tiny.batch(0), tiny.batch(1))
    jax.block_until_ready(state)
    jax.effects_barrier()
    for weights in seen.values():
        np.testing.assert_array_equal(weights[:2], [[0, 0, 1], [0, 0, 0]])
    assert np.abs(seen["arch"][2] - seen["weights"][2]).max() > 1e-3


def test_a_loss_of_a_plug_in_is_that_of_what_is_decided():
    """Whatever mixture it asks about."""
    seen = {}

    def penalty(state, *, weights, mixture, loss_fn, key, phase, **context):
        other = mixture._replace(weights={"cell": jnp.full((3, 3), 1 / 3)})
        both = [loss_fn(weights, mixed, key=key) for mixed in (mixture, other)]
        jax.debug.callback(lambda *x: seen.update({phase: x}), *both)
        return 0.0

    search = tiny.tiny_search(
        regularizer=regularizers.chain(
            regularizers.greedy_decisions(1, 2),
            regularizers.Regularizer(penalty=penalty),
        )
    )
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    greedy, *rest = state.regularizer_state
    decided = greedy.decisions
    for edge in range(3):
        decided = decided.choose("cell", edge, 2)
    greedy = greedy._replace(decisions=decided)
    after = state._replace(regularizer_state=(greedy, *rest))
    step = jax.jit(search.step)
    step(after, tiny.batch(0), tiny.batch(1))
    jax.effects_barrier()
    for one, other in seen.values():
        np.testing.assert_array_equal(one, other)
    step(state, tiny.batch(0), tiny.batch(1))
    jax.effects_barrier()
    assert all(one != other for one, other in seen.values())


def test_dropped_edges_do_not_count_in_shares_and_entropy():
    space = jnas.spaces.darts()
    decided = decisions.nothing(space)
    skip = space.groups[0].operations.index("skip_connect")
    for name in space.names:
        for edge in range(14):
            decided = (
                decided.choose(name, edge, skip)
                if edge < 8
                else decided.drop(name, [edge])
            )
    mixed = decisions.apply(decided, jnas.mixture.uniform(space))
    assert diagnostics.shares(space, mixed)["normal"]["skip"] == 1.0
    entropy, skips = diagnostics.summary(space, mixed)
    assert float(entropy) == 0 and float(skips) == 1
    half = decisions.nothing(space)
    for name in space.names:
        half = half.drop(name, [*range(7)])
    entropy, _ = diagnostics.summary(
        space, decisions.apply(half, jnas.mixture.uniform(space))
    )
    assert float(entropy) == pytest.approx(1.0, rel=1e-5)


def test_nothing_decided_leaves_every_bit():
    mixture = random_mixture(DARTS)
    found = decisions.apply(decisions.nothing(DARTS), mixture)
    for name in DARTS.names:
        np.testing.assert_array_equal(found.weights[name], mixture.weights[name])


def test_projection_without_finite_evaluations_is_one_line():
    for evaluate, words in (
        (lambda mixture: {"accuracy": float("nan")}, "the search diverged"),
        (lambda mixture: {"los": 0.1}, "metric of evaluate"),
        (None, "needs evaluate="),
    ):
        with pytest.raises(jnas.JnasError, match=words) as error:
            drive(regularizers.projection(1, 6), NASBENCH, evaluate, 1)
        assert "\n" not in str(error.value)
    # A name that no evaluation has is told after the first epoch.
    with pytest.raises(jnas.JnasError, match="did you mean 'accuracy'"):
        late = regularizers.projection(50, 56, metric="acuracy")
        drive(late, NASBENCH, Worth(NASBENCH), 1)
    space = dataclasses.replace(jnas.spaces.darts(), optional=True)
    for part in (regularizers.projection(1, 2), regularizers.greedy_decisions(1, 2)):
        with pytest.raises(jnas.JnasError, match="edges are not optional"):
            part.init(of(space), None)


# --- greedy


def plain_score(now, past, real):
    """The published score, written out."""
    edges = range(len(now))

    def scaled(values):
        low, high = min(values), max(values)
        return [1.0 if high == low else (v - low) / (high - low) for v in values]

    def parts(rows):
        result = []
        for e in edges:
            row = [rows[e][o] if real[e][o] else 0.0 for o in range(len(rows[e]))]
            result.append([x / sum(row) for x in row])
        return result

    importance = [
        sum(x for x, r in zip(now[e], real[e], strict=True) if r) for e in edges
    ]
    certainty = []
    for e, row in zip(edges, parts(now), strict=True):
        entropy = -sum(x * np.log(x) for x in row if x > 0)
        certainty.append(1 - entropy / np.log(sum(real[e])))
    score = [a * b for a, b in zip(scaled(importance), scaled(certainty), strict=True)]
    if past is None:
        return score
    stability = []
    for i in range(len(edges)):
        common = [
            sum(min(a, b) for a, b in zip(parts(now)[i], parts(old)[i], strict=True))
            for old in past
        ]
        stability.append(sum(common) / len(common))
    return [a * b for a, b in zip(score, scaled(stability), strict=True)]


@pytest.mark.parametrize("criterion", [1, 2])
def test_scores_are_the_published_ones(criterion):
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(8), (4, 14))
    real = np.ones((14, 8), bool)
    real[:, 0] = False
    past = rows[1:] if criterion == 2 else None
    found = scores(rows[0], past, real)
    np.testing.assert_allclose(found, plain_score(rows[0], past, real), rtol=1e-9)


def test_scores_are_scaled_by_all_edges_as_they_were_when_decided():
    """Of two edges, each best in one factor, the better one by the whole cell's scale.

    Scaled among themselves both would score 0.
    """
    rows = np.array(
        [
            [0.0, 0.25, 0.25, 0.25, 0.25],  # important, unsure
            [0.2, 0.77, 0.01, 0.01, 0.01],  # sure
            [0.9, 0.025, 0.025, 0.025, 0.025],
            [0.0, 0.0, 1.0, 0.0, 0.0],
            *[[0.5, 0.125, 0.125, 0.125, 0.125]] * 2,
        ]
    )
    part = regularizers.greedy_decisions(1, 6)
    state, when = part.init(of(NASBENCH), None), {}
    for epoch in (1, 2):
        mixture = part.project(state, jnas.Mixture({"cell": rows}))
        state, _ = part.epoch_end(
            state, epoch=epoch, mixture=mixture, supernet=of(NASBENCH)
        )
        for edge in np.flatnonzero(np.asarray(state.decisions.chosen["cell"]) >= 0):
            when.setdefault(int(edge), epoch)
        # Decided edges' own alpha goes elsewhere; it no longer counts.
        rows[3] = 0.2
    assert when == {3: 1, 1: 2}
    np.testing.assert_allclose(state.past["cell"][0, 3], [0, 0, 1, 0, 0])


def test_the_surest_edge_is_decided_where_none_is_no_candidate():
    """In float32 sums of probabilities differ by rounding, which must not count."""
    space = jnas.spaces.robust_darts("S2")
    for seed in range(20):
        mixture = random_mixture(space, seed)
        mixture = jnas.Mixture(
            {k: v.astype(jnp.float32) for k, v in mixture.weights.items()}
        )
        part = regularizers.greedy_decisions(1, 8)
        state, _ = part.epoch_end(
            part.init(of(space), None), epoch=1, mixture=mixture, supernet=of(space)
        )
        for name, weights in mixture.weights.items():
            chosen = np.asarray(state.decisions.chosen[name])
            sure = int(np.asarray(weights).max(axis=1).argmax())
            assert np.flatnonzero(chosen >= 0).tolist() == [sure]


def test_greedy_decisions_are_spread_and_drop_what_a_node_does_not_keep():
    space = jnas.spaces.darts()
    part = regularizers.greedy_decisions(first=10, last=45)
    state, when = part.init(of(space), None), []
    for epoch in range(1, 51):
        before = len(state.decisions.undecided("normal"))
        mixture = part.project(state, random_mixture(space, epoch))
        state, _ = part.epoch_end(
            state, epoch=epoch, mixture=mixture, supernet=of(space)
        )
        if len(state.decisions.undecided("normal")) != before:
            when.append(epoch)
    assert when == [10, 15, 20, 25, 30, 35, 40, 45]
    for group in space.groups:
        chosen = np.asarray(state.decisions.chosen[group.name])
        kept = np.asarray(state.decisions.kept[group.name])
        assert (chosen >= 0).sum() == 8 and not (chosen == 0).any()  # 0 is none
        np.testing.assert_array_equal(kept, chosen >= 0)
        for node in group.nodes:
            assert kept[list(group.incoming(node))].sum() == 2
    final = part.project(state, random_mixture(space))
    genotype = jnas.select.argmax().select(None, final, space=space)
    space.one_hot(genotype)


def test_the_surest_edge_is_decided_first():
    weights = np.full((6, 5), 0.2)
    weights[4] = [0.0, 0.05, 0.05, 0.9, 0.0]
    weights[1] = [0.0, 0.1, 0.4, 0.4, 0.1]
    part = regularizers.greedy_decisions(1, 6)
    state, _ = part.epoch_end(
        part.init(of(NASBENCH), None),
        epoch=1,
        mixture=jnas.Mixture({"cell": weights}),
        supernet=of(NASBENCH),
    )
    np.testing.assert_array_equal(state.decisions.chosen["cell"], [-1] * 4 + [3, -1])


def test_stability_counts_in_the_second_criterion():
    """Two edges alike now, of which one was another before."""
    sure = [0.0, 0.9, 0.05, 0.05, 0.0]
    first = np.full((6, 5), 0.2)
    first[0], first[1] = [0.0, 0.05, 0.05, 0.9, 0.0], sure
    then = np.full((6, 5), 0.2)
    then[0] = then[1] = sure
    then[0, 1] += 1e-6  # so that the first criterion prefers it
    decided = {}
    for criterion in (1, 2):
        part = regularizers.greedy_decisions(2, 7, criterion=criterion)
        state = part.init(of(NASBENCH), None)
        for epoch, weights in enumerate((first, then), 1):
            state, _ = part.epoch_end(
                state,
                epoch=epoch,
                mixture=jnas.Mixture({"cell": weights}),
                supernet=of(NASBENCH),
            )
        chosen = np.asarray(state.decisions.chosen["cell"])
        decided[criterion] = np.flatnonzero(chosen >= 0).tolist()
    assert decided == {1: [0], 2: [1]}


def test_stability_looks_back_at_the_last_epochs_only():
    part = regularizers.greedy_decisions(5, 9, criterion=2, history=2)
    state = part.init(of(NASBENCH), None)
    mixtures = [random_mixture(NASBENCH, seed) for seed in range(3)]
    for epoch, mixture in enumerate(mixtures, 1):
        state, _ = part.epoch_end(
            state, epoch=epoch, mixture=mixture, supernet=of(NASBENCH)
        )
    for place, mixture in enumerate(reversed(mixtures[1:])):
        np.testing.assert_allclose(
            state.past["cell"][place], mixture.weights["cell"], rtol=1e-6
        )
