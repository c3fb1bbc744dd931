"""Runs of many seeds: against a plain loop, on disk, resumed; results and curves."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import discrete
from jnas.errors import JnasError

SPACE = jnas.spaces.nasbench201()


def evaluate(genes, key, fidelity):
    noise = 0.1 * jax.random.normal(key, (len(genes),))
    scores = jnp.sum(genes, axis=-1) + noise
    # Some candidates fail.
    return jnp.where(genes[:, 0] == 4, jnp.nan, scores), 1.0 + genes[:, 1]


WISH = discrete.Objective(SPACE, evaluate, "wish", "points", "s", traceable=True)
EVOLUTION = discrete.regularized_evolution(SPACE, population=4, sample=2)


@pytest.mark.parametrize("batch", [1, 4])
def test_run_equals_a_plain_loop(batch):
    found = discrete.run(EVOLUTION, WISH, evaluations=10, seeds=[3, 5], batch=batch)
    ask, tell = jax.jit(EVOLUTION.ask, static_argnums=1), jax.jit(EVOLUTION.tell)
    for row, seed in enumerate((3, 5)):
        second = jax.random.split(jax.random.key(seed), 3)[2]
        state = EVOLUTION.init(jax.random.key(seed))
        genes, scores, costs = [], [], []
        for number, n in enumerate(
            [batch] * (10 // batch) + [10 % batch] * bool(10 % batch)
        ):
            proposal, state = ask(state, n)
            key = jax.random.fold_in(second, number)
            score, cost = evaluate(proposal.genes, key, proposal.fidelity)
            state = tell(state, proposal, score, cost)
            genes.append(proposal.genes)
            scores.append(score)
            costs.append(cost)
        np.testing.assert_array_equal(found.genes[row], np.concatenate(genes))
        np.testing.assert_allclose(found.scores[row], np.concatenate(scores), rtol=1e-6)
        np.testing.assert_array_equal(found.costs[row], np.concatenate(costs))
        best, value = EVOLUTION.best(state)
        np.testing.assert_array_equal(found.best()[0][row], best)
        np.testing.assert_allclose(found.best()[1][row], value, rtol=1e-6)


def test_seeds_do_not_depend_on_each_other_nor_on_how_many_run_at_once(tmp_path):
    alone = discrete.run(EVOLUTION, WISH, evaluations=8, seeds=[2])
    many = discrete.run(EVOLUTION, WISH, evaluations=8, seeds=5)
    np.testing.assert_array_equal(alone.genes[0], many.genes[2])
    told = []
    logged = discrete.run(
        EVOLUTION, WISH, evaluations=8, seeds=5, together=2, workdir=tmp_path / "a",
        progress=lambda *numbers: told.append(numbers),
    )  # fmt: skip
    np.testing.assert_array_equal(logged.genes, many.genes)
    np.testing.assert_array_equal(logged.scores, many.scores)
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_log_and_resume_are_exact(tmp_path):
    def go(folder, seeds, **more):
        return discrete.run(
            EVOLUTION, WISH, evaluations=6, seeds=seeds, workdir=folder, **more
        )

    whole = go(tmp_path / "whole", 4, together=2)
    text = (tmp_path / "whole" / "trials.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["seed"] for row in rows] == sorted([0, 1, 2, 3] * 6)
    for row in rows:
        np.testing.assert_array_equal(row["genes"], whole.genes[row["seed"], row["id"]])
        score = whole.scores[row["seed"], row["id"]]
        assert (row["score"] is None) if np.isnan(score) else row["score"] == score
    assert any(row["score"] is None for row in rows)
    # Killed within the third seed, in the middle of a line.
    part = tmp_path / "part"
    go(part, 2)
    lines = text.splitlines(keepends=True)
    (part / "trials.jsonl").write_text("".join(lines[:15]) + lines[15][:10])
    resumed = go(part, 4, together=2)
    np.testing.assert_array_equal(resumed.genes, whole.genes)
    np.testing.assert_array_equal(resumed.scores, whole.scores)
    np.testing.assert_array_equal(resumed.costs, whole.costs)
    assert (part / "trials.jsonl").read_text() == text
    # Nothing is left to do, nor lost, when fewer are asked for.
    fewer = go(part, [1])
    np.testing.assert_array_equal(fewer.genes[0], whole.genes[1])
    assert (part / "trials.jsonl").read_text() == text


def test_a_log_cut_at_any_byte_goes_on(tmp_path):
    def go(folder, seeds):
        return discrete.run(
            EVOLUTION, WISH, evaluations=2, seeds=seeds, together=1, workdir=folder
        )

    whole = go(tmp_path / "whole", 2)
    text = (tmp_path / "whole" / "trials.jsonl").read_text()
    part = tmp_path / "part"
    go(part, 1)
    last = text.splitlines(keepends=True)[-1]
    ends = [0, 1, len(text) - len(last), len(text) - 2, len(text) - 1, len(text)]
    for end in ends:
        (part / "trials.jsonl").write_text(text[:end])
        found = go(part, 2)
        np.testing.assert_array_equal(found.genes, whole.genes)
        np.testing.assert_array_equal(found.scores, whole.scores)
        assert (part / "trials.jsonl").read_text() == text


def test_scores_come_back_as_they_were(tmp_path):
    def odd(genes, key, fidelity):
        bad = jnp.array([jnp.inf, -jnp.inf, jnp.nan, 0.1, 0.2])
        return bad[genes[:, 0]], genes[:, 0]  # the costs are integers

    objective = discrete.Objective(SPACE, odd, "odd", traceable=True)
    options = {"evaluations": 40, "seeds": 1, "workdir": tmp_path}
    first = discrete.run(discrete.random_search(SPACE), objective, **options)
    again = discrete.run(discrete.random_search(SPACE), objective, **options)
    assert np.isposinf(first.scores).any() and np.isneginf(first.scores).any()
    for name in ("genes", "scores", "costs"):
        before, after = getattr(first, name), getattr(again, name)
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype


def test_folders_of_another_space_are_refused(tmp_path):
    def total(genes, key, fidelity):
        return genes.sum(-1) * 1.0, fidelity

    for name in ("nasbench201", "darts"):
        objective = discrete.Objective(
            jnas.spaces.get(name), total, "total", traceable=True
        )
        go = functools.partial(
            discrete.run,
            discrete.random_search(name),
            objective._replace(config={"scale": np.int64(1)}),
            evaluations=2,
            workdir=tmp_path,
        )
        if name == "nasbench201":
            go()
    with pytest.raises(JnasError, match=r"another setting \(space"):
        go()


def test_folders_that_cannot_be_made_and_lone_scores_are_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JnasError, match="can't be made"):
        discrete.run(EVOLUTION, WISH, evaluations=2, workdir=tmp_path / "file")
    alone = WISH._replace(evaluate=lambda genes, key, fidelity: genes.sum(-1) * 1.0)
    with pytest.raises(JnasError, match=r"must return \(scores, costs\)"):
        discrete.run(EVOLUTION, alone, evaluations=2)
    with pytest.raises(JnasError, match="but the objective gave"):
        discrete.study(EVOLUTION, alone, evaluations=2)
    found = discrete.run(EVOLUTION, WISH, evaluations=2)
    with pytest.raises(JnasError, match="evaluations must be an integer"):
        found.best(evaluations=1.5)


def test_folders_of_other_settings_are_refused(tmp_path):
    options = {"evaluations": 6, "seeds": 2, "workdir": tmp_path}
    discrete.run(EVOLUTION, WISH, **options)
    other = discrete.regularized_evolution(SPACE, population=5, sample=2)
    with pytest.raises(JnasError, match=r"another setting.*population"):
        discrete.run(other, WISH, **options)
    with pytest.raises(
        JnasError, match=r"another setting \(evaluations 6 there, 7 now"
    ):
        discrete.run(EVOLUTION, WISH, **{**options, "evaluations": 7})
    path = tmp_path / "trials.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "{}\n", *lines[1:]]))
    with pytest.raises(JnasError, match="line 2 is no trial"):
        discrete.run(EVOLUTION, WISH, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds must be"),
        ({"seeds": [1, 1]}, "distinct"),
        ({"seeds": [-1]}, "seeds must be"),
        ({"seeds": "a"}, "seeds must be"),
        ({"evaluations": 0}, "evaluations must be"),
        ({"batch": 0}, "batch must be"),
        ({"together": 0}, "together must be"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(JnasError, match=message):
        discrete.run(EVOLUTION, WISH, **{"evaluations": 3, **options})


def test_what_does_not_fit_is_refused():
    other = discrete.random_search("darts")
    with pytest.raises(JnasError, match="searches darts, but wish scores nasbench201"):
        discrete.run(other, WISH, evaluations=3)
    small = discrete.local_search(SPACE, capacity=10)
    with pytest.raises(JnasError, match="room for 10 evaluations, 11 are wanted"):
        discrete.run(small, WISH, evaluations=11)
    with pytest.raises(JnasError, match=r"wish can't be traced.*leave together out"):
        slow = WISH._replace(traceable=False)
        discrete.run(EVOLUTION, slow, evaluations=3, together=2)
    with pytest.raises(JnasError, match=r"parallel: for objectives that can't be"):
        discrete.run(EVOLUTION, WISH, evaluations=3, parallel=2)


def test_what_cannot_be_traced_is_studied_seed_by_seed(tmp_path):
    def plain(genes, key, fidelity):
        genes = np.asarray(genes)
        return genes.sum(-1).astype(float), 1.0 + genes[:, 1]

    slow = discrete.Objective(SPACE, plain, "slow")
    quick = discrete.Objective(
        SPACE,
        lambda g, k, f: (jnp.sum(g, -1) * 1.0, 1.0 + g[:, 1]),
        "q",
        traceable=True,
    )
    told = []
    found = discrete.run(
        EVOLUTION, slow, evaluations=8, seeds=[1, 4], workdir=tmp_path,
        progress=lambda *numbers: told.append(numbers),
    )  # fmt: skip
    assert told == [(1, 2), (2, 2)]
    assert (tmp_path / "seed4" / "trials.jsonl").exists()
    # The same seeds are the same searches, traced or not.
    traced = discrete.run(EVOLUTION, quick, evaluations=8, seeds=[1, 4])
    np.testing.assert_array_equal(found.genes, traced.genes)
    np.testing.assert_array_equal(found.scores, traced.scores)
    np.testing.assert_array_equal(found.costs, traced.costs)
    again = discrete.run(EVOLUTION, slow, evaluations=8, seeds=[1, 4], workdir=tmp_path)
    np.testing.assert_array_equal(found.genes, again.genes)


def plain_incumbents(scores):
    best, found = -1, []
    for i, score in enumerate(scores):
        if np.isfinite(score) and (best < 0 or score > scores[best]):
            best = i
        found.append(best)
    return found


def test_result_against_plain_loops():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6, 20)).round(1)
    scores[rng.random(scores.shape) < 0.3] = np.nan
    scores[0, :5], scores[1, 3] = np.nan, np.inf
    costs = rng.random((6, 20)).astype(np.float32)
    genes = rng.integers(0, 3, (6, 20, 6)).astype(np.int32)
    found = discrete.Result(genes, scores, costs, tuple(range(6)), SPACE)
    report = lambda rows: rows.sum(-1) * 10.0  # noqa: E731
    told, curve, timed = (
        found.curve(report),
        found.curve(),
        found.curve_by_cost(points=7),
    )
    for s in range(6):
        expected = plain_incumbents(scores[s])
        assert found.incumbents()[s].tolist() == expected
        for t, which in enumerate(expected):
            value = np.nan if which < 0 else scores[s, which]
            np.testing.assert_equal(curve.values[s, t], value)
            value = np.nan if which < 0 else genes[s, which].sum() * 10.0
            np.testing.assert_equal(told.values[s, t], value)
        spent = np.cumsum(costs[s].astype(float))
        for x, value in zip(timed.x, timed.values[s], strict=True):
            before = np.flatnonzero(spent <= x)
            which = expected[before[-1]] if len(before) else -1
            np.testing.assert_equal(value, scores[s, which] if which >= 0 else np.nan)
        budget = 5.0
        inside = np.flatnonzero(spent <= budget)
        which = expected[inside[-1]] if len(inside) else -1
        best, value = found.best(budget=budget)
        np.testing.assert_equal(value[s], scores[s, which] if which >= 0 else np.nan)
        if which >= 0:
            np.testing.assert_array_equal(best[s], genes[s, which])
    column = curve.values[:, 2]
    column = column[np.isfinite(column)]
    np.testing.assert_allclose(curve.mean[2], column.mean())
    np.testing.assert_allclose(curve.std[2], column.std(ddof=1))
    assert discrete.spread(column)["count"] == len(column)
    np.testing.assert_allclose(
        discrete.spread(column)["standard_error"],
        column.std(ddof=1) / np.sqrt(len(column)),
    )
    with pytest.raises(JnasError, match=r"evaluations must be in 1\.\.20"):
        found.best(evaluations=21)


def test_combined_objectives():
    cost = WISH._replace(
        evaluate=lambda g, k, f: (jnp.sum(g == 1, -1) * 1.0, f), name="ones"
    )
    both = discrete.combined(WISH, minimize=(cost,))
    genes = jnp.asarray(SPACE.random(0, 5))
    key = jax.random.key(1)
    scores, costs = both.evaluate(genes, key, jnp.ones(5))
    np.testing.assert_array_equal(scores[:, 0], evaluate(genes, key, None)[0])
    np.testing.assert_array_equal(scores[:, 1], -np.sum(np.asarray(genes) == 1, -1))
    np.testing.assert_array_equal(costs, evaluate(genes, key, None)[1])
    assert both.name == "wish and -ones" and both.traceable
    with pytest.raises(JnasError, match="combined needs"):
        discrete.combined(WISH)
    darts = discrete.Objective(jnas.spaces.darts(), evaluate, "other")
    with pytest.raises(JnasError, match="over one space"):
        discrete.combined(WISH, darts)


def test_a_trial_of_which_one_score_failed_never_leads():
    def pair(genes, key, fidelity):
        first = genes.sum(-1) + 9.0 * genes[:, 0]
        second = jnp.where(genes[:, 0] > 1, jnp.nan, -first)
        return jnp.stack([first, second], axis=-1), fidelity

    objective = discrete.Objective(SPACE, pair, "pair", traceable=True)
    strategy = discrete.nsga2(SPACE, population=4)
    found = discrete.run(strategy, objective, evaluations=16)
    failed = found.genes[..., 0] > 1
    assert found.scores[failed][:, 0].max() > found.scores[~failed][:, 0].max()
    assert found.best()[1][0] == found.scores[~failed][:, 0].max()
    flat = (found.genes[0], found.scores[0])
    best = discrete.train_top(flat, objective._replace(evaluate=WISH.evaluate), k=1)
    assert best.search_scores[0] == found.best()[1][0]
