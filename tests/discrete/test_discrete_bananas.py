"""BANANAS: who is mutated, what is proposed, what is left out."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import discrete
from jnas.discrete import variation
from jnas.errors import JnasError

NB201 = jnas.spaces.nasbench201()
EDGES = ((0, 1), (0, 2), (1, 2))
GROUP = jnas.spaces.Group("cell", ("none", "skip", "conv"), EDGES, 1, (2,))
TINY = jnas.Space("tiny", (GROUP,))
# One set of arguments and few batch sizes: what takes time here is to compile.
SMALL = {
    "capacity": 22, "initial": 6, "batch": 4, "patience": 1,
    "ensemble": 2, "layers": 1, "width": 4, "epochs": 2, "minibatch": 8,
}  # fmt: skip


@functools.cache
def made(space, **more):
    strategy = discrete.bananas(space, **{**SMALL, **more})
    return strategy, jax.jit(strategy.ask, static_argnums=1), jax.jit(strategy.tell)


def play(own, state, batches, score):
    _, ask, tell = own
    rows = []
    for n in batches:
        proposal, state = ask(state, n)
        rows += np.asarray(proposal.genes).tolist()
        state = tell(state, proposal, score(np.asarray(proposal.genes)))
    return state, rows


def total(genes):
    return genes.sum(-1).astype(np.float32)


def differences(a, b):
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_after_the_start_proposals_are_mutants_of_the_best():
    own = made(NB201)
    state, rows = play(own, own[0].init(jax.random.key(0)), [6], total)
    for _ in range(3):
        best = max(rows, key=sum)
        state, new = play(own, state, [4], total)
        assert [differences(best, g) for g in new] == [1] * 4
        rows += new


def test_further_parents_only_where_mutants_are_too_few():
    """Two mutants are enough, 24 neighbours are less than 100."""
    for wanted, parents in ((2, 1), (100, 3)):
        # Of one size, so that it is compiled once.
        more = {"candidates": wanted, "patience": 3, "capacity": 200, "initial": 80}
        own = made(NB201, **more, ensemble=1)
        state, rows = play(own, own[0].init(jax.random.key(1)), [80], total)
        best = sorted(rows, key=lambda row: -sum(row))
        # More than there are mutants: what is left is random.
        _, new = play(own, state, [80], total)
        near = [
            sum(differences(parent, g) == 1 for g in new[: 2 if parents == 1 else 60])
            for parent in best[:4]
        ]
        if parents == 1:
            assert near[0] == 2
            assert sum(differences(best[0], g) == 1 for g in new) < 6
        else:
            assert min(near[:3]) > 15 and near[3] < 10


def test_nothing_is_proposed_twice_until_the_space_is_exhausted():
    own = made(TINY, initial=3, candidates=8, capacity=40)
    state, rows = play(own, own[0].init(jax.random.key(2)), [4] * 6, total)
    assert len({tuple(r) for r in rows}) == len(rows) == 24  # of 27
    _, more = play(own, state, [4, 4], total)
    assert len(more) == 8 and TINY.valid(np.array(more)).all()


def test_start_and_model_in_one_call():
    own = made(NB201)
    state, rows = play(own, own[0].init(jax.random.key(3)), [4], total)
    best = max(rows, key=sum)
    _, new = play(own, state, [4], total)
    # Two more random ones, then mutants of the best told before.
    assert [differences(best, g) == 1 for g in new[2:]] == [True] * 2
    assert [differences(best, g) == 1 for g in new[:2]] == [False] * 2
    assert len({tuple(r) for r in rows + new}) == 8


def test_failures_are_neither_mutated_nor_trained_on():
    own = made(NB201)

    def fails(genes):
        values = total(genes)
        values[values > np.median(values)] = np.nan
        return values

    state, rows = play(own, own[0].init(jax.random.key(4)), [6], fails)
    told = fails(np.array(rows))
    _, new = play(own, state, [4], total)
    good = max((t, r) for t, r in zip(told, rows, strict=True) if np.isfinite(t))[1]
    assert [differences(good, g) for g in new] == [1] * 4
    # The same, had the failures not been told yet.
    again = state._replace(
        inner=state.inner._replace(
            score=state.inner.score.at[:6].set(jnp.where(told > -99, told, -jnp.inf))
        )
    )
    np.testing.assert_array_equal(own[1](again, 4)[0].genes, new)


def test_scores_may_be_scaled():
    """Targets are standardised: powers of two change nothing at all."""
    own = made(NB201)
    runs = [
        play(own, own[0].init(jax.random.key(5)), [6, 4, 4], score)[1]
        for score in (total, lambda g: total(g) * 1024)
    ]
    assert runs[0] == runs[1]


def test_beyond_the_capacity_proposals_go_on():
    own = made(NB201)
    state, rows = play(own, own[0].init(jax.random.key(6)), [6] + [4] * 5, total)
    assert NB201.valid(np.array(rows)).all() and len(rows) == 26
    np.testing.assert_array_equal(state.inner.genes, rows[:22])
    np.testing.assert_array_equal(state.inner.score, total(np.array(rows[:22])))
    assert float(own[0].best(state)[1]) == total(np.array(rows)).max()


def test_gene_mutations_have_their_rate():
    sizes = (5,) * 6
    keys = jax.random.split(jax.random.key(7), 20_000)
    genes = jnp.array([0, 1, 2, 3, 4, 0])
    rows = jax.vmap(lambda k: variation.redraw(k, genes, sizes, 0.25))(keys)
    rows = np.asarray(rows)
    changed = rows != np.asarray(genes)
    error = np.sqrt(0.25 * 0.75 / len(keys))
    assert np.all(np.abs(changed.mean(0) - 0.25) < 5 * error)
    # Every other value is as likely.
    share = np.bincount(rows[changed[:, 0], 0], minlength=5)[1:] / changed[:, 0].sum()
    assert np.all(np.abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 5000))


def test_config_can_be_written_down():
    assert json.loads(json.dumps(discrete.bananas(NB201).config))["features"] == 155


def test_wrong_arguments_are_one_clear_line():
    for arguments, message in {
        ("ensemble", 0): "ensemble must be an integer >= 1",
        ("learning_rate", 0.0): "learning_rate must be finite and > 0",
        ("mutation", "swap"): "unknown mutation",
        ("encoding", "graph"): "unknown encoding",
        ("acquisition", "itsy"): "unknown acquisition",
        ("truncate", 0): "truncate must be a number",
    }.items():
        with pytest.raises(JnasError, match=message):
            discrete.bananas(NB201, **{arguments[0]: arguments[1]})


def test_predictions_that_are_not_finite_repeat_nothing():
    def nothing(genes):
        return jnp.full(3, jnp.nan)

    strategy = discrete.bananas(
        "nasbench201", initial=5, batch=5, candidates=20, epochs=1, ensemble=2,
        encoding=nothing,
    )  # fmt: skip
    state, ask = strategy.init(jax.random.key(0)), jax.jit(strategy.ask)
    asked = []
    for _ in range(8):
        proposal, state = ask(state)
        asked += [tuple(row) for row in proposal.genes.tolist()]
        state = strategy.tell(state, proposal, proposal.genes.sum(-1) * 1.0)
    assert len(set(asked)) == len(asked) == 40
