"""Studies in this process: what is told and logged, and how they go on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import jnas
from jnas import discrete
from jnas.errors import JnasError

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import remote


def rows(workdir, event):
    text = (workdir / "trials.jsonl").read_text()
    return [r for r in map(json.loads, text.splitlines()) if r["event"] == event]


def equal(one, other):
    for name in ("genes", "scores", "costs", "ids", "fidelity"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    assert one.errors == other.errors
    data = [
        [
            np.asarray(jax.random.key_data(x) if x.dtype == key.dtype else x)
            for x in jax.tree.leaves(t.state)
        ]
        for key in [jax.random.key(0)]
        for t in (one, other)
    ]
    for x, y in zip(*data, strict=True):
        np.testing.assert_array_equal(x, y)


def by_hand(evaluations, batch, seed=5):
    """The same search without a study."""
    own = remote.strategy()
    state = own.init(jax.random.key(seed))
    genes, scores = [], []
    while sum(map(len, genes)) < evaluations:
        n = min(batch, evaluations - sum(map(len, genes)))
        proposal, state = own.ask(state, n)
        values = remote.score(proposal.genes).astype(np.float32)
        state = own.tell(state, proposal, values, np.full(n, 2.0, np.float32))
        genes.append(np.asarray(proposal.genes))
        scores.append(values)
    return np.concatenate(genes), np.concatenate(scores)


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_study_is_a_loop_of_ask_and_tell(tmp_path, chunk):
    seen = []
    trials = discrete.study(
        remote.strategy(),
        remote.Slow().objective(),
        evaluations=11,
        batch=4,
        seed=5,
        chunk=chunk,
        workdir=tmp_path,
        progress=seen.append,
    )
    genes, scores = by_hand(11, 4)
    np.testing.assert_array_equal(trials.genes, genes)
    np.testing.assert_array_equal(trials.scores, scores)
    np.testing.assert_array_equal(trials.costs, np.full(11, 2))
    np.testing.assert_array_equal(trials.ids, np.arange(11))
    assert trials.genes.dtype == np.int32 and trials.scores.dtype == np.float32
    assert float(trials.best.score) == scores.max()
    np.testing.assert_array_equal(trials.best.genes, genes[scores.argmax()])
    assert seen == rows(tmp_path, "tell") and len(seen) == 11
    assert [len(r["ids"]) for r in rows(tmp_path, "ask")] == [4, 4, 3]
    first = seen[0]
    assert first["genotype"] == remote.SPACE.decode(first["genes"]).to_text()
    assert first["worker"].endswith(f":{os.getpid()}") and first["fidelity"] == 1


def test_asynchronous_with_one_worker_is_batches_of_one(tmp_path):
    one = remote.run(None, 0, batch=1)
    other = remote.run(tmp_path, 0, batch=None, asynchronous=True)
    equal(one, other)


def test_noise_depends_on_seed_and_id_only():
    one, other = remote.run(None, 0), remote.run(None, 0)
    equal(one, other)
    noise = one.scores - remote.score(one.genes)
    assert len(np.unique(noise.round(4))) > 6
    assert np.any(remote.run(None, 0, seed=6).scores != one.scores)


def test_what_raises_is_nan_and_the_study_goes_on(tmp_path):
    objective = remote.Slow(raises=2).objective()
    trials = discrete.study(
        discrete.random_search(remote.SPACE),
        objective,
        evaluations=30,
        workdir=tmp_path,
    )
    bad = trials.genes[:, 0] == 2
    assert bad.any() and not bad.all()
    np.testing.assert_array_equal(np.isnan(trials.scores), bad)
    np.testing.assert_array_equal(np.isnan(trials.costs), bad)
    assert set(trials.errors) == set(trials.ids[bad].tolist())
    assert set(trials.errors.values()) == {"RuntimeError: no memory left"}
    failed = [r for r in rows(tmp_path, "tell") if "error" in r]
    assert len(failed) == bad.sum() and failed[0]["score"] is None


def test_several_scores(tmp_path):
    own = jnas.domain.of(remote.SPACE)
    strategy = discrete.build(
        remote.SPACE,
        "two",
        init=lambda key: jax.numpy.zeros(2),
        propose=lambda inner, *, key, **_: (own.sample(key), inner),
        learn=lambda inner, *, score, **_: jax.numpy.maximum(inner, score),
        scores=2,
    )

    def evaluate(genes, key, fidelity):
        if genes[0, 0] < 2:
            raise ValueError("no")
        return np.stack([genes[:, 0], genes[:, 1] / 10], -1), fidelity

    objective = discrete.Objective(remote.SPACE, evaluate, "two")
    options = {"evaluations": 9, "batch": 3, "workdir": tmp_path}
    trials = discrete.study(strategy, objective, **options)
    bad = trials.genes[:, 0] < 2
    assert bad.any() and trials.scores.shape == (9, 2)
    np.testing.assert_array_equal(np.isnan(trials.scores), np.stack([bad, bad], -1))
    wanted = (trials.genes[~bad, :2] / np.array([1, 10])).astype(np.float32)
    np.testing.assert_array_equal(trials.scores[~bad], wanted)
    np.testing.assert_array_equal(trials.state.inner, wanted.max(0))
    cut(tmp_path, 6)
    equal(trials, discrete.study(strategy, objective, **options))
    wrong = objective._replace(evaluate=lambda g, key, f: (np.zeros(len(g)), f))
    with pytest.raises(JnasError, match=r"needs scores \[1, 2\]"):
        discrete.study(strategy, wrong, evaluations=1)


def cut(workdir, lines, tail=""):
    path = workdir / "trials.jsonl"
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:lines]) + tail)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("chunk", [1, 2])
def test_resumes_from_every_line(tmp_path, chunk, asynchronous):
    options = {"chunk": chunk, "asynchronous": asynchronous, "evaluations": 7}
    options["batch"] = None if asynchronous else 4
    whole = remote.run(tmp_path, 0, **options)
    text = (tmp_path / "trials.jsonl").read_text()
    lines = len(text.splitlines())
    for number in range(lines + 1):
        cut(tmp_path, number, '{"event": "tell", "id": 0, "sco')
        equal(whole, remote.run(tmp_path, 0, **options))
        again = (tmp_path / "trials.jsonl").read_text()

        def timeless(text):
            for row in map(json.loads, text.splitlines()):
                yield {k: v for k, v in row.items() if k != "seconds"}

        assert list(timeless(again)) == list(timeless(text))


def test_a_finished_study_evaluates_nothing(tmp_path):
    whole = remote.run(tmp_path, 0)
    before = (tmp_path / "trials.jsonl").read_bytes()
    equal(whole, remote.run(tmp_path, 0, progress=lambda row: 1 / 0))
    assert (tmp_path / "trials.jsonl").read_bytes() == before


def test_infinite_scores_are_kept_exactly(tmp_path):
    def evaluate(genes, key, fidelity):
        return np.array([[np.inf, -np.inf, np.nan, 0.1][genes[0, 0] % 4]]), fidelity

    def go():
        return discrete.study(
            discrete.random_search(remote.SPACE),
            discrete.Objective(remote.SPACE, evaluate, "odd"),
            evaluations=12,
            workdir=tmp_path,
        )

    whole = go()
    kinds = np.unique(whole.scores)
    assert np.isposinf(kinds).any() and np.isnan(kinds).any()
    assert float(whole.best.score) == np.float32(0.1)
    equal(whole, go())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "seed 5 there, 6 now"),
        ({"batch": 2}, "batch 3 there, 2 now"),
        ({"evaluations": 13}, "evaluations 12 there, 13 now"),
        ({"batch": None, "asynchronous": True}, "batch 3 there"),
    ],
)
def test_another_study_is_refused(tmp_path, change, message):
    remote.run(tmp_path, 0)
    with pytest.raises(JnasError, match=message):
        remote.run(tmp_path, 0, **change)


def test_another_strategy_or_objective_is_refused(tmp_path):
    remote.run(tmp_path, 0)
    options = {"evaluations": 12, "batch": 3, "seed": 5, "workdir": tmp_path}
    objective = remote.Slow(noise=0.1).objective()
    with pytest.raises(JnasError, match=r"strategy\.name .*random_search"):
        discrete.study(discrete.random_search(remote.SPACE), objective, **options)
    with pytest.raises(JnasError, match=r"setting \(objective\."):
        discrete.study(remote.strategy(), remote.Slow().objective(), **options)


def test_damage_is_told(tmp_path):
    remote.run(tmp_path, 0)
    path = tmp_path / "trials.jsonl"
    text = path.read_text()
    lines = text.splitlines()
    path.write_text("\n".join([lines[0], "{", *lines[1:]]) + "\n")
    with pytest.raises(JnasError, match="damaged at line 2"):
        remote.run(tmp_path, 0)
    changed = json.loads(lines[0])
    changed["genes"][0][0] = (changed["genes"][0][0] + 1) % 5
    path.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    with pytest.raises(JnasError, match="line 1: the strategy proposes other"):
        remote.run(tmp_path, 0)
    path.write_text("\n".join([*lines[:2], *lines[1:]]) + "\n")
    with pytest.raises(JnasError, match=r"line 3: a trial is told .* twice"):
        remote.run(tmp_path, 0)
    path.write_text(text)
    (tmp_path / "study.json").unlink()
    path.write_text("{}\n")  # the log of something else
    with pytest.raises(JnasError, match=r"no study\.json"):
        remote.run(tmp_path, 0)


def test_a_folder_serves_one_study_at_a_time(tmp_path):
    def again(row):
        with pytest.raises(JnasError, match="in use by another study"):
            remote.run(tmp_path, 0)

    remote.run(tmp_path, 0, evaluations=2, progress=again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluations": 0}, "evaluations must be an integer >= 1"),
        ({"batch": 0}, "batch must be"),
        ({"parallel": 0}, "parallel must be"),
        ({"retries": -1}, "retries must be an integer >= 0"),
        ({"asynchronous": True}, "batch is for synchronous"),
        ({"executor": "threads"}, "executor must be None"),
    ],
)
def test_wrong_calls_are_one_clear_line(options, message):
    with pytest.raises(JnasError, match=message):
        remote.run(None, 0, **options)


def test_what_does_not_fit_is_one_clear_line():
    objective = remote.Slow().objective()
    with pytest.raises(JnasError, match="build both for one space"):
        discrete.study(discrete.random_search("darts"), objective, evaluations=1)
    small = discrete.random_search(remote.SPACE)._replace(capacity=3)
    with pytest.raises(JnasError, match="room for 3 evaluations"):
        discrete.study(small, objective, evaluations=4)
    wrong = objective._replace(evaluate=lambda g, key, f: (np.zeros((1, 2)), f))
    with pytest.raises(JnasError, match=r"needs scores \[1\] .* gave \[1, 2\]"):
        discrete.study(discrete.random_search(remote.SPACE), wrong, evaluations=1)


def wait_for(path, lines, process):
    """Until a log has so many results."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        text = path.read_text() if path.exists() else ""
        if text.count('"tell"') >= lines:
            return
        assert process.poll() is None, "it ended before"
        time.sleep(0.02)
    raise AssertionError("nothing happened")


@pytest.mark.parametrize(
    "signum",
    [
        signal.SIGKILL,
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_killed_study_resumes_to_the_same_trials(tmp_path, signum):
    process = subprocess.Popen(
        [sys.executable, remote.__file__, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(jnas.__file__).parents[1])},
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(tmp_path / "trials.jsonl", 4, process)
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    code = process.returncode
    if signum == signal.SIGTERM:
        assert code == 143 and b"Traceback" not in said
    else:
        assert code == -signum
    told = rows(tmp_path, "tell")
    assert 4 <= len(told) < 12
    settings = json.loads((tmp_path / "study.json").read_text())
    settings["objective"]["config"]["sleep"] = 0  # so that the rest is quick
    (tmp_path / "study.json").write_text(json.dumps(settings))
    resumed = remote.run(tmp_path, 0)
    equal(resumed, remote.run(None, 0))
    assert rows(tmp_path, "tell")[: len(told)] == told
    assert sorted(r["id"] for r in rows(tmp_path, "tell")) == list(range(12))
